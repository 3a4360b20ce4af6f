//! The journal files that count, as readers and the writer share them.
//!
//! A reader holds an `Arc<Readable>` only while it reads, never between calls: that is how the writer knows whether
//! a file may be given up. Position and end are byte positions.
//!
//! Invariants:
//!   * `end` of a file only grows while the file is written, and never again once a later file is in the map; only
//!     taking commands back (`cut.rs`) moves it down
//!   * below `end` bytes never change while the file is in the map

use super::cursor::Cursor;
use super::format::{FileHeader, Seed};
use super::{Position, Verify};
use crate::disk::{File, read_buffer};
use crate::error::StorageError;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One journal file.
#[derive(Debug)]
pub(super) struct Readable {
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    pub(super) generation: u64,
    pub(super) nonce: u64,
    pub(super) seed: Seed,
    pub(super) first_lsn: u64,
    pub(super) len: u64,
    end: AtomicU64,
    /// Another open of the journal has it, and may write it again.
    is_handed_over: AtomicBool,
}

impl Readable {
    pub(super) fn new(
        name: String,
        file: Arc<dyn File>,
        header: &FileHeader,
        len: u64,
        end: u64,
    ) -> Readable {
        Readable {
            name,
            file,
            generation: header.generation,
            nonce: header.nonce,
            seed: Seed::new(header.nonce, header.generation),
            first_lsn: header.first_lsn,
            len,
            end: AtomicU64::new(end),
            is_handed_over: AtomicBool::new(false),
        }
    }

    /// Up to where groups are durable.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Exactly `len` bytes from `at`. `old` is a piece that is no longer needed: its memory is used again if
    /// nobody else holds it.
    ///
    /// [`StorageError::Reopened`] if the file was handed over, also while it was being read.
    pub(super) fn read(&self, at: u64, len: u64, old: Bytes) -> Result<Bytes, StorageError> {
        let len = usize::try_from(len).map_err(|_| StorageError::TooLarge {
            what: "a read",
            found: len,
            limit: usize::MAX as u64,
        })?;
        let mut piece = match old.try_into_mut() {
            Ok(piece) if piece.len() == len => piece,
            _ => read_buffer(len),
        };
        let read = self
            .file
            .read_at(&mut piece, at)
            .map_err(|error| StorageError::io("read", self.name.as_str(), error))?;
        self.is_own()?;
        if read < len {
            let what = format!("{len} B are needed from here, the file ends after {read}");
            return Err(StorageError::damaged(self.name.as_str(), at, what));
        }
        Ok(piece.freeze())
    }

    fn is_own(&self) -> Result<(), StorageError> {
        match self.is_handed_over.load(Ordering::SeqCst) {
            true => Err(StorageError::Reopened { file: self.name.clone() }),
            false => Ok(()),
        }
    }
}

/// The files by generation.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) by_generation: RwLock<BTreeMap<u64, Arc<Readable>>>,
    pub(super) durable_lsn: AtomicU64,
    pub(super) verify: Verify,
}

impl Files {
    pub(super) fn find(&self, generation: u64) -> Option<Arc<Readable>> {
        self.by_generation.read().get(&generation).cloned()
    }

    pub(super) fn add(&self, file: Readable) -> Arc<Readable> {
        let file = Arc::new(file);
        self.by_generation.write().insert(file.generation, Arc::clone(&file));
        file
    }

    /// Takes a file out unless somebody is reading it.
    pub(super) fn give_up(&self, generation: u64) -> bool {
        let mut files = self.by_generation.write();
        // New references are only made under the lock, so one reference means that nobody reads.
        if files.get(&generation).is_some_and(|file| Arc::strong_count(file) > 1) {
            return false;
        }
        files.remove(&generation);
        true
    }

    /// Takes a file out, also from under a reader; whether nobody was reading it.
    pub(super) fn take_out(&self, generation: u64) -> bool {
        let taken = self.by_generation.write().remove(&generation);
        taken.is_none_or(|file| Arc::strong_count(&file) == 1)
    }

    /// Ends reading: another open has the files, and may write them again from now on.
    pub(super) fn hand_over(&self) {
        for file in self.by_generation.read().values() {
            file.is_handed_over.store(true, Ordering::SeqCst);
        }
    }

    /// The error for what lay in a file that is gone.
    pub(super) fn recycled(&self) -> StorageError {
        let files = self.by_generation.read();
        let first_lsn = files.values().next().map_or(0, |file| file.first_lsn);
        StorageError::Recycled { first_lsn }
    }
}

/// Reads the journal from any thread, also while it is written and after it has failed.
///
/// It belongs to one open journal. When the log is opened again in place, take a new one: this one answers
/// [`StorageError::Reopened`], since files that it knows may then be written again.
#[derive(Clone, Debug)]
pub struct JournalReader {
    files: Arc<Files>,
}

impl JournalReader {
    pub(super) fn new(files: &Arc<Files>) -> JournalReader {
        JournalReader { files: Arc::clone(files) }
    }

    pub(super) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Exactly `len` bytes from a position that a [`super::Placed`] named. They are as written, not verified.
    ///
    /// [`StorageError::Recycled`] if the file is gone; `Damaged` if the file ends before.
    pub fn read_at(&self, generation: u64, at: u64, len: u64) -> Result<Bytes, StorageError> {
        let file = self.files.find(generation).ok_or_else(|| self.files.recycled())?;
        // Checked before memory is taken: the length may come from a checkpoint.
        if at.checked_add(len).is_none_or(|end| end > file.len) {
            let what = format!("{len} B are needed from here, the file has {} B", file.len);
            return Err(StorageError::damaged(file.name.as_str(), at, what));
        }
        file.read(at, len, Bytes::new())
    }

    /// The error for bytes of a journal file that aren't what they must be.
    pub fn damaged(&self, generation: u64, position: u64, what: String) -> StorageError {
        StorageError::damaged(super::file_name(generation), position, what)
    }

    /// The durable commands from `lsn` on, in order. [`StorageError::Recycled`] if it is gone.
    pub fn cursor(&self, lsn: u64) -> Result<Cursor, StorageError> {
        Cursor::from_lsn(&self.files, lsn)
    }

    /// The durable commands from `lsn` on; `behind` is directly behind the frame before it
    /// ([`super::Placed::end`]), which saves the way there.
    pub fn cursor_behind(&self, behind: Position, lsn: u64) -> Result<Cursor, StorageError> {
        Cursor::behind(&self.files, behind, lsn)
    }

    /// The last lsn that a cursor yields for now.
    pub fn durable_lsn(&self) -> u64 {
        self.files.durable_lsn.load(Ordering::Acquire)
    }

    /// The first lsn that is still there.
    pub fn first_lsn(&self) -> u64 {
        self.files.by_generation.read().values().next().map_or(1, |file| file.first_lsn)
    }
}
