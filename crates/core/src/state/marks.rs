//! Which ids were seen, and where: the marks, found by id and given up in the order of their expiry.
//!
//! ```text
//!   by key:   256 maps, key -> place          found in one of them; each is copied on write, alone
//!   by time:  bucket end -> chunks of keys    1,024 keys a chunk, in the order of marking
//! ```
//!
//! Invariants
//!   * a key stands in exactly one map and one chunk
//!   * only whole chunks are given up, so that equal marks lie in equal chunks, also after a restart
//!   * no map, bucket or chunk is empty

use super::dedup::MarkKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an id was seen: a record's offset and the index of its partition, or the lsn of a command and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) index: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    by_key: BTreeMap<u8, Arc<BTreeMap<MarkKey, Place>>>,
    by_time: BTreeMap<i64, Vec<Chunk>>,
    count: u64,
}

/// Keys of one bucket that were marked one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    keys: Arc<Vec<MarkKey>>,
    /// When the last of them was marked.
    newest_ms: i64,
}

/// A chunk with what its keys lead to, as a checkpoint has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunkPiece {
    end_ms: i64,
    newest_ms: i64,
    marks: Vec<(MarkKey, Place)>,
}

impl ChunkPiece {
    pub(super) fn keys(&self) -> impl Iterator<Item = &MarkKey> {
        self.marks.iter().map(|(key, _)| key)
    }
}

/// A chunk that was given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) keys: Arc<Vec<MarkKey>>,
    pub(super) newest_ms: i64,
}

const CHUNK_KEYS: usize = 1024;

impl Marks {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn find(&self, key: &MarkKey) -> Option<Place> {
        self.by_key.get(&map_of(key))?.get(key).copied()
    }

    /// Marks a key that isn't marked, at a time, until the end of a bucket.
    pub(super) fn add(&mut self, key: MarkKey, place: Place, now_ms: i64, end_ms: i64) {
        let map = Arc::make_mut(self.by_key.entry(map_of(&key)).or_default());
        let before = map.insert(key, place);
        debug_assert!(before.is_none(), "{key:?} was marked already");
        let chunks = self.by_time.entry(end_ms).or_default();
        match chunks.last_mut().filter(|chunk| chunk.keys.len() < CHUNK_KEYS) {
            Some(chunk) => {
                Arc::make_mut(&mut chunk.keys).push(key);
                chunk.newest_ms = now_ms;
            }
            None => chunks.push(Chunk { keys: Arc::new(vec![key]), newest_ms: now_ms }),
        }
        self.count += 1;
    }

    /// End of the bucket that expires first.
    pub(super) fn first_end_ms(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|(end_ms, _)| *end_ms)
    }

    /// Gives up the chunk that expires first.
    pub(super) fn give_up_first(&mut self) -> Option<GivenUp> {
        let mut bucket = self.by_time.first_entry()?;
        let Chunk { keys, newest_ms } = bucket.get_mut().remove(0);
        if bucket.get().is_empty() {
            bucket.remove();
        }
        for key in keys.iter() {
            let number = map_of(key);
            let map = self.by_key.get_mut(&number).map(Arc::make_mut);
            let is_empty = map.is_some_and(|map| {
                map.remove(key);
                map.is_empty()
            });
            if is_empty {
                self.by_key.remove(&number);
            }
        }
        self.count -= keys.len() as u64;
        Some(GivenUp { keys, newest_ms })
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = ChunkPiece> + '_ {
        let chunks = self.by_time.iter().flat_map(|(end_ms, chunks)| chunks.iter().map(|it| (*end_ms, it)));
        chunks.map(|(end_ms, chunk)| {
            let place = |key| self.find(key).expect("a key of a chunk is in its map");
            let marks = chunk.keys.iter().map(|key| (*key, place(key))).collect();
            ChunkPiece { end_ms, newest_ms: chunk.newest_ms, marks }
        })
    }

    /// Takes a chunk back in, behind those before it.
    pub(super) fn restore(&mut self, piece: ChunkPiece) -> Result<(), String> {
        let ChunkPiece { end_ms, newest_ms, marks } = piece;
        let is_last = self.by_time.last_key_value().is_none_or(|(last_ms, chunks)| {
            *last_ms < end_ms || (*last_ms == end_ms && chunks.iter().all(|it| it.keys.len() == CHUNK_KEYS))
        });
        if !is_last || marks.is_empty() || marks.len() > CHUNK_KEYS {
            return Err(format!("{} marks until {end_ms} don't follow those before them", marks.len()));
        }
        let mut keys = Vec::with_capacity(marks.len());
        for (key, place) in marks {
            let map = Arc::make_mut(self.by_key.entry(map_of(&key)).or_default());
            if map.insert(key, place).is_some() {
                return Err(format!("the id {} is marked twice", key.id));
            }
            keys.push(key);
        }
        self.count += keys.len() as u64;
        self.by_time.entry(end_ms).or_default().push(Chunk { keys: Arc::new(keys), newest_ms });
        Ok(())
    }
}

/// Whatever an id is made of, some of its bytes differ from those of its neighbours.
fn map_of(key: &MarkKey) -> u8 {
    key.id.0.iter().fold(0, |folded, byte| folded ^ byte)
}
