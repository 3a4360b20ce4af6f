//! raft-engine: one region, an entry for each record, without compression.

use super::{Lives, Result, Rival};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Each thread writes to a region of its own: entries of a region follow each other.
static REGIONS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static REGION: u64 = REGIONS.fetch_add(1, Ordering::Relaxed);
    static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(1) };
}

/// The index of an entry is in front of its value.
#[derive(Clone)]
struct Indexed;

const INDEX_BYTES: usize = 8;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let (index, _) = entry.value.split_first_chunk::<INDEX_BYTES>().expect("it was put there");
        u64::from_le_bytes(*index)
    }
}

struct RaftEngine {
    engine: Engine,
    lives: Lives,
    /// The region that the thread which has opened it writes to, and its first index.
    region: u64,
    first: u64,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    let dir = directory.to_str().ok_or("a directory with another name than text")?.into();
    let config = Config { dir, batch_compression_threshold: ReadableSize::kb(0), ..Config::default() };
    let engine = Engine::open(config)?;
    Ok(Box::new(RaftEngine { engine, lives, region: REGION.with(|it| *it), first: NEXT.get() }))
}

impl Rival for RaftEngine {
    fn append(&self, _first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        let entry = |record: &[u8]| {
            let index = NEXT.replace(NEXT.get() + 1);
            let mut entry = BytesValue::new();
            entry.value = [index.to_le_bytes().as_slice(), record].concat();
            entry
        };
        let entries: Vec<_> = records.chunks_exact(record_bytes).map(entry).collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(REGION.with(|it| *it), &entries)?;
        self.engine.write(&mut batch, self.lives == Lives::PowerLoss)?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let last = self.engine.last_index(self.region).ok_or("nothing was written")?;
        let (mut next, mut entries) = (self.first, Vec::new());
        while next <= last {
            let end = (next + 1024).min(last + 1);
            entries.clear();
            self.engine.fetch_entries_to::<Indexed>(self.region, next, end, None, &mut entries)?;
            entries.iter().for_each(|entry| each(&entry.value[INDEX_BYTES..]));
            next = end;
        }
        Ok(())
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let entry = self.engine.get_entry::<Indexed>(self.region, self.first + number)?;
        each(&entry.ok_or("no such record")?.value[INDEX_BYTES..]);
        Ok(())
    }
}
