//! Which ids were seen, and where: the marks, found by id and given up in the order of their expiry.
//!
//! ```text
//!   by key:   256 maps, key -> place          found in one of them (`mark_map`); each is copied on write, alone
//!   by time:  bucket end -> chunks of marks   up to 1,024 marks a chunk, in the order of marking
//! ```
//!
//! Invariants
//!   * a key stands in exactly one map and one chunk
//!   * only whole chunks are given up, so that equal marks lie in equal chunks, also after a restart
//!   * no bucket or chunk is empty

use super::mark_map::MarkMap;
use crate::ids::{DedupId, Partition, TopicId};
use crate::reply::Sighting;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many maps the keys are in.
const MAPS: usize = 256;

/// Where an id was seen: a record's offset and the index of its partition, or the lsn of a command and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Offset, or lsn.
    pub at: u64,
    /// Index of the partition.
    pub index: u32,
}

/// An id in its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkKey {
    /// The scope.
    pub scope: ScopeKey,
    /// The id.
    pub id: DedupId,
}

impl MarkKey {
    /// Where its id was seen.
    pub fn sighting(&self, place: Place) -> Sighting {
        match self.scope {
            ScopeKey::Topic(topic) => {
                Sighting::Record { partition: Partition { topic, index: place.index }, offset: place.at }
            }
            ScopeKey::Named(_) => Sighting::Command { lsn: place.at },
        }
    }
}

/// A scope, as short as it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScopeKey {
    /// The records of a topic.
    Topic(TopicId),
    /// One that has a name, by the number that it has as long as anything is in it.
    Named(u32),
}

/// A number for a mark. Of many marks the sum of them, which wraps, tells whether two files hold the same ones: it
/// doesn't matter in which order, and files that are merged have the sum of both. It guards against mistakes, not
/// against intent.
pub fn mark_digest(key: &MarkKey, place: Place) -> u64 {
    let id = u128::from_le_bytes(key.id.0);
    [id as u64, (id >> 64) as u64, place.at, u64::from(place.index)]
        .iter()
        .fold(mix(number_of(key.scope)), |mixed, part| mix(mixed ^ part))
}

/// A number by which keys are spread over maps, and within each. The scope counts too: each group of a topic marks the
/// same ids.
pub(super) fn spread(key: &MarkKey) -> u64 {
    let id = u128::from_le_bytes(key.id.0);
    mix(id as u64 ^ mix((id >> 64) as u64 ^ number_of(key.scope)))
}

fn number_of(scope: ScopeKey) -> u64 {
    match scope {
        ScopeKey::Topic(topic) => u64::from(topic.0),
        ScopeKey::Named(number) => 1 << 32 | u64::from(number),
    }
}

/// Spreads each bit over all (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Marks that were in memory together, whatever became of them since.
#[derive(Clone, Debug)]
pub struct RolledMarks {
    chunks: Vec<Arc<Vec<(MarkKey, Place)>>>,
}

impl RolledMarks {
    /// All of them, by their keys.
    pub fn sorted(self) -> Vec<(MarkKey, Place)> {
        let mut marks: Vec<(MarkKey, Place)> =
            Vec::with_capacity(self.chunks.iter().map(|it| it.len()).sum());
        self.chunks.iter().for_each(|chunk| marks.extend_from_slice(chunk));
        marks.sort_unstable();
        marks
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    by_key: Maps,
    by_time: BTreeMap<i64, Vec<Chunk>>,
    count: u64,
}

/// All maps: none as long as there is no mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Maps(Vec<Arc<MarkMap>>);

impl Maps {
    fn find(&self, key: &MarkKey) -> Option<Place> {
        self.0.get(map_of(key))?.find(key)
    }

    /// Adds a key; whether it wasn't there.
    fn add(&mut self, key: MarkKey, place: Place) -> bool {
        if self.0.is_empty() {
            self.0 = vec![Arc::default(); MAPS];
        }
        Arc::make_mut(&mut self.0[map_of(&key)]).add(key, place)
    }

    fn remove(&mut self, key: &MarkKey) {
        if let Some(map) = self.0.get_mut(map_of(key)) {
            Arc::make_mut(map).remove(key);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Which of the maps: by bits that a map doesn't use (it takes the lowest and the seven highest).
fn map_of(key: &MarkKey) -> usize {
    (spread(key) >> 40) as usize % MAPS
}

/// Marks of one bucket that were set one after the other. Where each leads to stands here, too: so what is to become a
/// run is at hand without a copy of the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    marks: Arc<Vec<(MarkKey, Place)>>,
    /// When the last of them was marked.
    newest_ms: i64,
    /// Sum of [`mark_digest`].
    digest: u64,
}

/// A chunk, as a checkpoint has it.
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

/// Keys of a whole chunk.
pub(super) const WHOLE_CHUNK: usize = 1024;

/// What was taken out: when the last was set, and the marks.
pub(super) type Taken = (i64, Arc<Vec<(MarkKey, Place)>>);

impl Marks {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn find(&self, key: &MarkKey) -> Option<Place> {
        self.by_key.find(key)
    }

    /// Marks a key that isn't marked, at a time, until the end of a bucket.
    pub(super) fn add(&mut self, key: MarkKey, place: Place, now_ms: i64, end_ms: i64) {
        let is_new = self.by_key.add(key, place);
        debug_assert!(is_new, "{key:?} was marked already");
        let chunks = self.by_time.entry(end_ms).or_default();
        let digest = mark_digest(&key, place);
        match chunks.last_mut().filter(|chunk| chunk.marks.len() < WHOLE_CHUNK) {
            Some(chunk) => {
                Arc::make_mut(&mut chunk.marks).push((key, place));
                chunk.newest_ms = now_ms;
                chunk.digest = chunk.digest.wrapping_add(digest);
            }
            None => chunks.push(Chunk { marks: Arc::new(vec![(key, place)]), newest_ms: now_ms, digest }),
        }
        self.count += 1;
    }

    /// End of the bucket that expires first.
    pub(super) fn first_end_ms(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|(end_ms, _)| *end_ms)
    }

    /// The buckets, by their ends, and how many marks each has.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let count = |chunks: &Vec<Chunk>| chunks.iter().map(|chunk| chunk.marks.len() as u64).sum();
        self.by_time.iter().map(move |(end_ms, chunks)| (*end_ms, count(chunks)))
    }

    /// The first chunks of a bucket that have no more than `most` marks together: how many, and their digest. The last
    /// one may still grow unless it is full, and counts only if `partial`.
    pub(super) fn first_of(&self, end_ms: i64, most: u64, partial: bool) -> (u64, u64) {
        let (mut entries, mut digest) = (0, 0_u64);
        let chunks = self.by_time.get(&end_ms).map_or(&[][..], Vec::as_slice);
        for (nth, chunk) in chunks.iter().enumerate() {
            let more = chunk.marks.len() as u64;
            let may_grow = nth + 1 == chunks.len() && chunk.marks.len() < WHOLE_CHUNK;
            if entries + more > most || (!partial && may_grow) {
                break;
            }
            (entries, digest) = (entries + more, digest.wrapping_add(chunk.digest));
        }
        (entries, digest)
    }

    /// The first marks of a bucket, as [`first_of`](Marks::first_of) has counted them.
    pub(super) fn rolled(&self, end_ms: i64, entries: u64) -> RolledMarks {
        let mut left = entries;
        let mut chunks = Vec::new();
        for chunk in self.by_time.get(&end_ms).into_iter().flatten() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(chunk.marks.len() as u64);
            chunks.push(chunk.marks.clone());
        }
        RolledMarks { chunks }
    }

    /// Takes the first marks of a bucket out, as [`first_of`](Marks::first_of) has counted them.
    pub(super) fn take(&mut self, end_ms: i64, entries: u64) -> Vec<Taken> {
        let (mut left, mut taken) = (entries, Vec::new());
        while left > 0
            && let Some((newest_ms, marks)) = self.take_chunk(end_ms)
        {
            left = left.saturating_sub(marks.len() as u64);
            taken.push((newest_ms, marks));
        }
        taken
    }

    /// Gives up the chunk that expires first.
    pub(super) fn give_up_first(&mut self) -> Option<Taken> {
        self.take_chunk(self.first_end_ms()?)
    }

    fn take_chunk(&mut self, end_ms: i64) -> Option<Taken> {
        let chunks = self.by_time.get_mut(&end_ms)?;
        let Chunk { marks, newest_ms, .. } = chunks.remove(0);
        if chunks.is_empty() {
            self.by_time.remove(&end_ms);
        }
        marks.iter().for_each(|(key, _)| self.by_key.remove(key));
        self.count -= marks.len() as u64;
        if self.count == 0 {
            self.by_key.clear();
        }
        Some((newest_ms, marks))
    }

    /// Takes a single mark out. It is looked for through all chunks: that is for what somebody does by hand.
    pub(super) fn forget(&mut self, key: &MarkKey) {
        let Some(place) = self.find(key) else { return };
        let at = |marks: &[(MarkKey, Place)]| marks.iter().position(|(known, _)| known == key);
        let in_bucket = |chunks: &[Chunk]| {
            chunks.iter().enumerate().find_map(|(nth, chunk)| Some((nth, at(&chunk.marks)?)))
        };
        let found = self.by_time.iter_mut().find_map(|(end_ms, chunks)| {
            let (nth, at) = in_bucket(chunks)?;
            Some((*end_ms, chunks, nth, at))
        });
        let (end_ms, chunks, nth, at) = found.expect("a key of a map is in a chunk");
        let chunk = &mut chunks[nth];
        Arc::make_mut(&mut chunk.marks).remove(at);
        chunk.digest = chunk.digest.wrapping_sub(mark_digest(key, place));
        if chunk.marks.is_empty() {
            chunks.remove(nth);
            if chunks.is_empty() {
                self.by_time.remove(&end_ms);
            }
        }
        self.by_key.remove(key);
        self.count -= 1;
        if self.count == 0 {
            self.by_key.clear();
        }
    }

    /// Whether a chunk that can't grow any more isn't full: something of it was forgotten.
    pub(super) fn has_gaps(&self) -> bool {
        let is_short = |chunk: &Chunk| chunk.marks.len() < WHOLE_CHUNK;
        self.by_time.values().any(|chunks| chunks.iter().rev().skip(1).any(is_short))
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = ChunkPiece> + '_ {
        let chunks = self.by_time.iter().flat_map(|(end_ms, chunks)| chunks.iter().map(|it| (*end_ms, it)));
        chunks.map(|(end_ms, chunk)| {
            let Chunk { marks, newest_ms, .. } = chunk;
            ChunkPiece { end_ms, newest_ms: *newest_ms, marks: marks.to_vec() }
        })
    }

    /// Takes a chunk back in, behind those before it.
    pub(super) fn restore(&mut self, piece: ChunkPiece) -> Result<(), String> {
        let ChunkPiece { end_ms, newest_ms, marks } = piece;
        let is_last = self.by_time.last_key_value().is_none_or(|(last_ms, _)| *last_ms <= end_ms);
        if !is_last || marks.is_empty() || marks.len() > WHOLE_CHUNK {
            return Err(format!("{} marks until {end_ms} don't follow those before them", marks.len()));
        }
        let mut digest = 0_u64;
        for (key, place) in &marks {
            digest = digest.wrapping_add(mark_digest(key, *place));
            if !self.by_key.add(*key, *place) {
                return Err(format!("the id {} is marked twice", key.id));
            }
        }
        self.count += marks.len() as u64;
        self.by_time.entry(end_ms).or_default().push(Chunk { marks: Arc::new(marks), newest_ms, digest });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Each group that processes a topic marks the same ids. When these stood one behind the other, a mark that another
    /// group had too cost as many steps as there were groups.
    #[test]
    fn ids_that_many_scopes_have_stand_apart() {
        let key = |number: u8, scope| MarkKey { scope: ScopeKey::Named(scope), id: DedupId([number; 16]) };
        let keys = || (0..100).flat_map(|scope| (0..100).map(move |number| key(number, scope)));
        let lowest: BTreeSet<u64> = keys().map(|key| spread(&key) % (1 << 20)).collect();
        assert!(lowest.len() > 9_900, "{} of 10,000 are apart by their lowest bits", lowest.len());
        let highest: BTreeSet<u64> = keys().map(|key| spread(&key) >> 57).collect();
        assert_eq!(highest.len(), 128, "by which a map tells apart what stands together");
        let maps: BTreeSet<usize> = keys().map(|key| map_of(&key)).collect();
        assert_eq!(maps.len(), MAPS);
    }
}
