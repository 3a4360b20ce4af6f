//! One file for each crate: opened with its defaults but for what the work needs, which the file says.

mod commitlog;
mod exactlog;
mod fjall;
mod raft_engine;
mod redb;
mod sqlite;
mod wal_db;

use std::error::Error;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What is asked of a log. One partition: most rivals have no more.
pub(crate) trait Rival: Send + Sync {
    /// Appends records of equal length that lie one behind the other. They are in the page cache when it returns, and
    /// on disk if the rival was opened as durable. `first` is the number of the first of them since the beginning.
    fn append(&self, first: u64, records: &[u8], record_bytes: usize) -> Result<()>;

    /// Reads everything in order, with checksums checked where the rival has them, and hands out each record.
    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Reads the record of this number, and hands it out.
    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Everything is where it stays.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
}

/// How long what `append` has answered lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lives {
    /// It survives that the process is killed.
    Kill,
    /// It survives that the power is gone: `fdatasync` before the answer.
    PowerLoss,
}

type Open = fn(&Path, Lives) -> Result<Box<dyn Rival>>;

/// One of the crates.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) open: Open,
    /// It gives each record a number of its own that it can be found by.
    pub(crate) has_get: bool,
    /// It can sync before it answers.
    pub(crate) can_sync: bool,
}

/// All of them; exactlog first.
pub(crate) const ALL: [Entry; 7] = [
    Entry { name: "exactlog", open: exactlog::open, has_get: true, can_sync: true },
    Entry { name: "commitlog", open: commitlog::open, has_get: true, can_sync: false },
    Entry { name: "raft-engine", open: raft_engine::open, has_get: true, can_sync: true },
    Entry { name: "wal-db", open: wal_db::open, has_get: false, can_sync: true },
    Entry { name: "fjall", open: fjall::open, has_get: true, can_sync: true },
    Entry { name: "redb", open: redb::open, has_get: true, can_sync: true },
    Entry { name: "SQLite (rusqlite)", open: sqlite::open, has_get: true, can_sync: true },
];
