//! Reads durable commands in order, while the journal is written.
//!
//! Not here: waiting for more (the owner knows when something has become durable).
//!
//! Invariants:
//!   * nothing above the durable lsn is read: below it bytes don't change
//!   * no file is held between two calls, so a cursor that nobody reads doesn't keep the journal from recycling
//!   * every command is yielded once, in lsn order; a bad frame is an error, never the end

use super::files::{Files, JournalReader, Readable};
use super::walk::{Step, Walk};
use super::{Position, ReadFrame};
use crate::error::StorageError;
use std::sync::Arc;

/// How much is read at once, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// A place in the sequence of durable commands.
#[derive(Debug)]
pub struct Cursor {
    files: Arc<Files>,
    generation: u64,
    walk: Walk,
    next_lsn: u64,
}

impl Cursor {
    pub(super) fn from_lsn(files: &Arc<Files>, lsn: u64) -> Result<Cursor, StorageError> {
        let by_generation = files.by_generation.read();
        let Some(file) = by_generation.values().rev().find(|file| file.first_lsn <= lsn.max(1)) else {
            drop(by_generation);
            return Err(files.recycled());
        };
        let walk = Walk::from_start(file, files.verify, PIECE_BYTES);
        Ok(Cursor { files: Arc::clone(files), generation: file.generation, walk, next_lsn: lsn.max(1) })
    }

    pub(super) fn behind(files: &Arc<Files>, behind: Position, lsn: u64) -> Result<Cursor, StorageError> {
        let file = files.find(behind.generation);
        let Some(file) = file.filter(|file| file.first_lsn < lsn && behind.at <= file.end()) else {
            return Cursor::from_lsn(files, lsn);
        };
        let walk = Walk::from_frame(behind.at, lsn - 1, files.verify, PIECE_BYTES);
        Ok(Cursor { files: Arc::clone(files), generation: file.generation, walk, next_lsn: lsn })
    }

    /// The next durable command; `None` if there is none yet. `Recycled` if its file was given up meanwhile,
    /// `Damaged` with file and position if it isn't whole.
    #[expect(clippy::should_implement_trait, reason = "it may yield again after `None`, and it can fail")]
    pub fn next(&mut self) -> Result<Option<ReadFrame>, StorageError> {
        loop {
            let file = self.files.find(self.generation).ok_or_else(|| self.files.recycled())?;
            match self.step(&file)? {
                Step::Command { frame, .. } if frame.lsn >= self.next_lsn => {
                    self.next_lsn = frame.lsn + 1;
                    return Ok(Some(frame));
                }
                Step::Command { .. } | Step::Seal { .. } => {}
                Step::End if !self.move_on(&file)? => return Ok(None),
                Step::End => {}
                Step::Bad(fault) => {
                    let (name, at) = (file.name.as_str(), self.walk.at());
                    return Err(StorageError::damaged(name, at, fault.to_string()));
                }
            }
        }
    }

    /// The lsn that is yielded next.
    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// Whether it reads the journal that this handle is of. A journal that was opened again is another one.
    pub fn reads(&self, reader: &JournalReader) -> bool {
        Arc::ptr_eq(&self.files, reader.files())
    }

    fn step(&mut self, file: &Readable) -> Result<Step, StorageError> {
        let end = file.end();
        // A cursor that was made behind a frame of a group that isn't durable yet.
        if self.walk.at() > end { Ok(Step::End) } else { self.walk.step(file, end) }
    }

    /// Goes to the next file if there is one and the current one is read to its final end.
    fn move_on(&mut self, file: &Readable) -> Result<bool, StorageError> {
        let next = {
            let files = self.files.by_generation.read();
            files.range(self.generation + 1..).next().map(|(_, file)| Arc::clone(file))
        };
        let Some(next) = next else { return Ok(false) };
        // The end is final once there is a next file; it may have grown just before.
        if self.walk.at() < file.end() {
            return Ok(true);
        }
        if self.walk.last_lsn() + 1 != next.first_lsn {
            let what = format!(
                "ends with lsn {}, but {} begins at {}",
                self.walk.last_lsn(),
                next.name,
                next.first_lsn
            );
            return Err(StorageError::damaged(file.name.as_str(), self.walk.at(), what));
        }
        self.walk = Walk::from_start(&next, self.files.verify, PIECE_BYTES);
        self.generation = next.generation;
        Ok(true)
    }
}
