//! Writes a run: whole under a temporary name, synced, renamed, directory synced. Only then may a command name it.
//!
//! Invariants
//!   * what is written is what was announced, in number and digest, in ascending order: else the file gets no name
//!   * a run that failed is never gone on with; the next one has another number

use super::filter::{Filter, Hashed};
use super::format::*;
use crate::disk::{Disk, File, Mode};
use crate::error::StorageError;
use exactlog_core::command::RunReady;
use exactlog_core::mutants::{Mutant, on};
use exactlog_core::state::{MarkKey, Place, mark_digest};
use std::io::IoSlice;
use std::sync::Arc;

/// How much is gathered before it is written, in bytes.
const BUFFER_BYTES: usize = 64 * BLOCK_BYTES;

/// What a run of so many marks takes on disk, in bytes.
pub(super) fn len_bytes(entries: u64) -> u64 {
    let filter_lines = Filter::lines_for(entries);
    let header = Header { id: 0, end_ms: 0, entries, digest: 0, filter_lines };
    header.len_bytes().unwrap_or(u64::MAX)
}

/// Writes the run that a command is about to name, from marks in ascending order.
pub(super) fn write(
    disk: &dyn Disk,
    ready: &RunReady,
    marks: impl Iterator<Item = Result<(MarkKey, Place), StorageError>>,
) -> Result<(), StorageError> {
    let name = file_name(ready.run);
    let temporary = format!("{name}.tmp");
    let io = |what| move |error| StorageError::io(what, RUNS_DIR, error);
    make_directory(disk)?;
    let _ = disk.unlink(&temporary);
    let file = disk.open(&temporary, Mode::CreateNew).map_err(io("create a file in"))?;
    let written = Writer::new(file, &temporary, ready).and_then(|writer| writer.all(marks));
    if let Err(error) = written {
        // On a full disk it has taken the space that the next one needs.
        let _ = disk.unlink(&temporary);
        return Err(error);
    }
    if let Err(error) = disk.rename(&temporary, &name) {
        let _ = disk.unlink(&temporary);
        return Err(io("rename a file in")(error));
    }
    disk.sync_dir(RUNS_DIR).map_err(io("sync"))
}

/// As for checkpoints: that it is there doesn't say that its name is durable.
fn make_directory(disk: &dyn Disk) -> Result<(), StorageError> {
    let io = |what| move |error| StorageError::io(what, RUNS_DIR, error);
    disk.create_dir(RUNS_DIR).map_err(io("create"))?;
    disk.sync_dir("").map_err(|error| {
        // As long as it is empty. With runs in it an earlier sync of its name has succeeded.
        let _ = disk.remove_dir(RUNS_DIR);
        io("sync the directory of")(error)
    })
}

struct Writer<'a> {
    file: Arc<dyn File>,
    name: &'a str,
    header: Header,
    filter: Filter,
    /// The first key of each block, then the last key.
    index: Vec<u8>,
    /// Whole blocks, and one in the making.
    buffer: Vec<u8>,
    /// Blocks that are on their way to disk.
    written: u64,
    marks: u64,
    digest: u64,
    last: Option<MarkKey>,
}

impl<'a> Writer<'a> {
    fn new(file: Arc<dyn File>, name: &'a str, ready: &RunReady) -> Result<Writer<'a>, StorageError> {
        let RunReady { run: id, end_ms, entries, digest, .. } = *ready;
        let filter_lines = Filter::lines_for(entries);
        let header = Header { id, end_ms, entries, digest, filter_lines };
        let filter = Filter::new(filter_lines);
        let (index, buffer) = (Vec::new(), Vec::with_capacity(BUFFER_BYTES));
        Ok(Writer { file, name, header, filter, index, buffer, written: 0, marks: 0, digest: 0, last: None })
    }

    fn all(
        mut self,
        marks: impl Iterator<Item = Result<(MarkKey, Place), StorageError>>,
    ) -> Result<(), StorageError> {
        for mark in marks {
            let (key, place) = mark?;
            if on(Mutant::D8RunWithoutAMark) && self.marks + 1 == self.header.entries && self.marks > 0 {
                // The last one is left out: the one before it stands there twice.
                let again = self.buffer[self.buffer.len().saturating_sub(MARK_BYTES)..].to_vec();
                self.buffer.extend_from_slice(&again);
                self.digest = self.header.digest;
                self.marks += 1;
                continue;
            }
            self.add(&key, place)?;
        }
        let made = (self.marks, self.digest);
        if made != (self.header.entries, self.header.digest) {
            return Err(self.unfit("the marks aren't those that were announced"));
        }
        self.end_block();
        if let Some(last) = &self.last {
            put_key(last, &mut self.index);
        }
        self.flush()?;
        let crc = crc32c::crc32c(&self.index);
        let filter = self.filter.encode();
        let filter_crc = crc32c::crc32c(&filter);
        let parts = [&self.index[..], &crc.to_le_bytes(), &filter, &filter_crc.to_le_bytes()];
        let parts = parts.map(IoSlice::new);
        let io = |what| move |error| StorageError::io(what, RUNS_DIR, error);
        self.file.write_at(&parts, self.header.index_at()).map_err(io("write a file in"))?;
        let header = self.header.encode();
        self.file.write_at(&[IoSlice::new(&header)], 0).map_err(io("write a file in"))?;
        if on(Mutant::D5RunNotSynced) {
            return Ok(());
        }
        self.file.sync().map_err(io("sync a file in"))
    }

    fn add(&mut self, key: &MarkKey, place: Place) -> Result<(), StorageError> {
        if self.last.is_some_and(|last| last >= *key) {
            return Err(self.unfit("the marks don't ascend"));
        }
        if self.marks.is_multiple_of(MARKS_PER_BLOCK as u64) {
            self.end_block();
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
            put_key(key, &mut self.index);
        }
        put_mark(key, place, &mut self.buffer);
        self.filter.add(Hashed::of(key));
        self.marks += 1;
        self.digest = self.digest.wrapping_add(mark_digest(key, place));
        self.last = Some(*key);
        Ok(())
    }

    /// Fills the block in the making up, and seals it.
    fn end_block(&mut self) {
        let begun = self.buffer.len() % BLOCK_BYTES;
        if begun == 0 {
            return;
        }
        let from = self.buffer.len() - begun;
        self.buffer.resize(from + BLOCK_BYTES, 0);
        let block = self.written + (from / BLOCK_BYTES) as u64;
        seal_block(&mut self.buffer[from..], self.header.id, block);
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let written = self.file.write_around(&[IoSlice::new(&self.buffer)], block_at(self.written));
        written.map_err(|error| StorageError::io("write a file in", RUNS_DIR, error))?;
        self.written += (self.buffer.len() / BLOCK_BYTES) as u64;
        self.buffer.clear();
        Ok(())
    }

    fn unfit(&self, what: &str) -> StorageError {
        StorageError::damaged(self.name, block_at(self.written), what)
    }
}
