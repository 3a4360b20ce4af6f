//! commitlog: segments with an index of each record. Segments and messages as large as the work needs; its log wants
//! `&mut`, so callers share a lock. It isn't among those that sync: its `flush` is that of `std::fs::File`, which does
//! nothing.

use super::{Lives, Result, Rival};
use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};
use std::path::Path;
use std::sync::Mutex;

struct Commitlog {
    log: Mutex<CommitLog>,
}

pub(super) fn open(directory: &Path, _lives: Lives) -> Result<Box<dyn Rival>> {
    let mut options = LogOptions::new(directory);
    options.segment_max_bytes(1 << 30).message_max_bytes(64 << 20).index_max_items(10_000_000);
    Ok(Box::new(Commitlog { log: Mutex::new(CommitLog::new(options)?) }))
}

impl Commitlog {
    fn lock(&self) -> std::sync::MutexGuard<'_, CommitLog> {
        self.log.lock().expect("nobody panics with the lock")
    }
}

impl Rival for Commitlog {
    fn append(&self, _first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        let mut messages = MessageBuf::default();
        for record in records.chunks_exact(record_bytes) {
            messages.push(record).map_err(|error| format!("{error:?}"))?;
        }
        self.lock().append(&mut messages)?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let log = self.lock();
        let mut next = 0;
        loop {
            let messages = log.read(next, ReadLimit::max_bytes(1 << 20))?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages.iter() {
                if !message.verify_hash() {
                    return Err("a checksum is wrong".into());
                }
                each(message.payload());
                next += 1;
            }
        }
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let messages = self.lock().read(number, ReadLimit::max_bytes(20 << 10))?;
        each(messages.iter().next().ok_or("no such record")?.payload());
        Ok(())
    }
}
