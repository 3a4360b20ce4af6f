//! The reserve: space that is kept so that a full log can free its own (semantics LG-13).
//!
//! ```text
//!   reserve            a file without content, allocated: 2 x the largest checkpoint, 2 x one that were made now, or
//!                      the least, whichever is most
//!     released         when a checkpoint finds no room
//!   a journal file     allocated, kept by the journal's spares
//!     used             when a command that frees space needs a new journal file and there is no room
//!   kept again         behind each checkpoint, and before data is taken; grown before data is taken that would make
//!                      a checkpoint larger
//! ```
//!
//! Invariants
//!   * while one of the two is missing no command that adds data is written
//!   * while `reserve` is missing nothing but a checkpoint takes from what is free

use crate::checkpoint::CHECKPOINT_DIR;
use crate::disk::{Disk, Mode};
use crate::error::StorageError;
use crate::journal::Spares;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// Name of the file, in the root.
const RESERVE_NAME: &str = "reserve";

/// The least that is kept for checkpoints, unless journal files are small. In bytes.
const LEAST_BYTES: u64 = 8 * 1024 * 1024;

/// What a segment may hold back before it is written, in bytes, unless journal files are small.
const BUFFERED_BYTES: u64 = 4 * 1024 * 1024;

/// Space that is kept.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    spares: Spares,
    journal_file_bytes: u64,
    space: Mutex<Space>,
}

/// What is kept for checkpoints, in bytes.
#[derive(Debug)]
struct Space {
    /// What is kept at the least.
    least: u64,
    /// What the checkpoints ask for that would be made now.
    due: u64,
    wanted: u64,
    held: u64,
}

impl Space {
    fn missing(&self) -> u64 {
        self.wanted.saturating_sub(self.held)
    }
}

impl Reserve {
    /// A reserve on a disk, not held yet. Small journal files are for small disks: then less is kept.
    pub(crate) fn new(disk: Arc<dyn Disk>, spares: Spares, journal_file_bytes: u64) -> Reserve {
        let least = LEAST_BYTES.min(journal_file_bytes / 8);
        let space = Space { least, due: 0, wanted: least, held: 0 };
        Reserve { disk, spares, journal_file_bytes, space: Mutex::new(space) }
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.spares.has_reserve() && self.space.lock().missing() == 0
    }

    /// Whether this many bytes are within what it wants to hold for checkpoints.
    pub(crate) fn wants(&self, bytes: u64) -> bool {
        self.space.lock().wanted >= bytes
    }

    /// Wants to hold this much for checkpoints from now on, if that isn't less than those on disk ask for. Less is
    /// taken note of by the next [`refill`](Self::refill).
    pub(crate) fn want(&self, bytes: u64) {
        let mut space = self.space.lock();
        space.due = bytes;
        space.wanted = space.wanted.max(bytes);
    }

    /// Makes it whole; `DiskFull` with what that needs.
    pub(crate) fn make_whole(&self) -> Result<(), StorageError> {
        self.refill();
        let journal = if self.spares.has_reserve() { 0 } else { self.journal_file_bytes };
        let needed = journal + self.space.lock().missing();
        match needed {
            0 => Ok(()),
            _ => Err(StorageError::disk_full(&*self.disk, needed)),
        }
    }

    /// Fails if there isn't room for this many bytes, and what is about to be written, beside what is missing for
    /// checkpoints: in time for what was appended so far to be kept.
    pub(crate) fn leave(&self, taken_bytes: u64) -> Result<(), StorageError> {
        let about_to_be_written = BUFFERED_BYTES.min(self.journal_file_bytes / 8);
        let needed = self.space.lock().missing() + taken_bytes + about_to_be_written;
        // A disk that doesn't say what is free is taken at its word when it allocates.
        match self.disk.free() {
            Ok(free) if free < needed => Err(StorageError::disk_full(&*self.disk, needed)),
            _ => Ok(()),
        }
    }

    /// Keeps what is wanted by now for checkpoints, and a journal file, as far as there is room for any.
    pub(crate) fn refill(&self) {
        let entries = self.disk.list(CHECKPOINT_DIR).unwrap_or_default();
        let largest = entries.iter().map(|entry| entry.len).max().unwrap_or(0);
        let mut space = self.space.lock();
        space.wanted = space.least.max(space.due).max(largest.saturating_mul(2));
        if space.held / 2 > space.wanted && self.shrink(space.wanted).is_ok() {
            space.held = space.wanted;
        }
        if space.missing() > 0 {
            match self.allocate(space.wanted) {
                Ok(()) => space.held = space.wanted,
                Err(error) => {
                    tracing::warn!(wanted = space.wanted, %error, "the reserve could not be allocated");
                    if space.held == 0 {
                        // What was allocated of it is as good as any other free space, and counted as such.
                        give_up(&*self.disk);
                    }
                }
            }
        }
        if space.missing() == 0
            && let Err(error) = self.spares.keep_reserve()
        {
            tracing::warn!(%error, "no journal file could be kept in reserve");
        }
    }

    /// Gives up what is kept for checkpoints, and writes one before anybody else can keep it again. None if nothing was
    /// kept.
    pub(crate) fn lend<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        let mut space = self.space.lock();
        space.held = 0;
        give_up(&*self.disk).then(write)
    }

    fn shrink(&self, len_bytes: u64) -> io::Result<()> {
        self.disk.open(RESERVE_NAME, Mode::Write)?.truncate(len_bytes)
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        let file = match self.disk.open(RESERVE_NAME, Mode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(RESERVE_NAME, Mode::Write)?;
                if file.len()? > len_bytes {
                    // Kept by an open with larger journal files.
                    self.disk.unlink(RESERVE_NAME)?;
                    self.disk.open(RESERVE_NAME, Mode::CreateNew)?
                } else {
                    file
                }
            }
            opened => opened?,
        };
        // The name isn't synced: without it the next open keeps the space again.
        file.allocate(len_bytes)
    }
}

/// Gives up what an earlier open keeps for checkpoints; whether there was any.
pub(crate) fn give_up(disk: &dyn Disk) -> bool {
    disk.unlink(RESERVE_NAME).is_ok()
}
