//! A sync that runs while the journal is written on: for durability within an interval.
//!
//! ```text
//!   begin_sync (journal held) -> run (not held, groups are written meanwhile) -> end_sync (journal held)
//! ```
//!
//! Invariants:
//!   * two syncs never run at a time, and one that failed is noted before the next begins: the kernel tells only once
//!     that it couldn't write, so the next one would call durable what this one lost
//!   * what is durable afterwards is what was written before it began

use super::FileJournal;
use super::files::Readable;
use super::spares::Pool;
use crate::error::StorageError;
use exactlog_core::mutants::{Mutant, on};
use parking_lot::Mutex;
use std::sync::Arc;

/// A sync of everything that was written before it began.
#[derive(Debug)]
#[must_use = "it does nothing until it is run, and tells nobody until it is ended"]
pub struct Syncing {
    file: Arc<Readable>,
    /// Where the groups ended.
    at: u64,
    last_lsn: u64,
    one_at_a_time: Arc<Mutex<()>>,
    pool: Arc<Pool>,
}

impl Syncing {
    /// Syncs (`fdatasync`).
    ///
    /// # Errors
    /// Whatever the disk answers; it is final for the journal, which says so in [`FileJournal::end_sync`] and to all
    /// who use it.
    pub fn run(&self) -> Result<(), StorageError> {
        let _alone = self.one_at_a_time.lock();
        let synced = self.file.file.sync();
        let synced = synced.map_err(|error| StorageError::io("sync", self.file.name.as_str(), error));
        synced.inspect_err(|error| self.pool.fail(error.clone()))
    }
}

impl FileJournal {
    /// What to sync, if a command was written since the last sync. To be run without holding the journal.
    pub fn begin_sync(&self) -> Option<Syncing> {
        (self.last_lsn > self.durable_lsn).then(|| Syncing {
            file: Arc::clone(&self.current),
            at: self.at,
            last_lsn: self.last_lsn,
            one_at_a_time: Arc::clone(&self.one_at_a_time),
            pool: Arc::clone(&self.pool),
        })
    }

    /// Takes in a sync that was run.
    ///
    /// # Errors
    /// If it failed, as everything that is asked of the journal from then on.
    pub fn end_sync(&mut self, syncing: Syncing) -> Result<(), StorageError> {
        self.usable()?;
        // A file that has a successor was synced before it got that; one of another open says nothing of this one.
        if Arc::ptr_eq(&self.current, &syncing.file) && syncing.last_lsn > self.durable_lsn {
            self.dirty = self.at != syncing.at;
            let too_much = on(Mutant::M12SyncStatesWhatCameMeanwhile);
            self.durable_lsn = if too_much { self.last_lsn } else { syncing.last_lsn };
            self.publish(syncing.at);
        }
        Ok(())
    }
}
