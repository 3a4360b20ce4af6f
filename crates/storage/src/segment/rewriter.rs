//! Writes what compaction leaves of closed segments into new files.
//!
//! ```text
//!   batch, hole, batch ... end of the clean part, batch ... -> files of one number -> synced, names too -> replaced
//! ```
//!
//! It touches no file that was there before, and nobody knows of its files until they take the place of others: a crash
//! leaves them as files that no checkpoint names.
//!
//! Invariants
//!   * what is written covers the offsets without a gap: what is left out becomes a batch without records
//!   * it is durable, names and all, before it is handed out
//!   * what fails, or isn't wanted, leaves no file behind, as far as the disk lets it

use super::directory::Directory;
use super::index::Index;
use super::tail::Tail;
use super::{FileId, Options, SegmentEnd};
use crate::error::StorageError;
use exactlog_core::batch::{Batch, HOLE_OFFSETS_MAX};
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;

/// New files in the making.
#[derive(Debug)]
pub(crate) struct Rewriter {
    directory: Directory,
    options: Options,
    /// The number of all its files.
    file: u32,
    tail: Option<Tail>,
    buffer: Vec<u8>,
    done: Vec<Tail>,
    /// What was left out since the last batch: from where to where, and its leader epoch.
    hole: Option<(u64, u64, u32)>,
    /// Of each of `done`, and of the tail, if it is of the clean part: how many records are shown.
    records: Vec<Option<u64>>,
    /// Whether what comes is of the clean part.
    is_clean: bool,
    /// Behind the last batch that came.
    next_offset: Option<u64>,
}

/// A segment that was rewritten.
#[derive(Debug)]
pub(crate) struct Rewritten {
    end: SegmentEnd,
    index: Arc<RwLock<Index>>,
}

impl Rewritten {
    /// As a checkpoint names it.
    pub(crate) fn end(&self) -> SegmentEnd {
        self.end
    }

    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }
}

impl Rewriter {
    /// Into files of this number, which no file in the directory has.
    pub(super) fn new(directory: Directory, options: Options, file: u32) -> Rewriter {
        // What is left of old segments is brought together, whatever times it has.
        let options = Options { segment_ms: i64::MAX, ..options };
        Rewriter {
            directory,
            options,
            file,
            tail: None,
            buffer: Vec::new(),
            done: Vec::new(),
            hole: None,
            records: Vec::new(),
            is_clean: true,
            next_offset: None,
        }
    }

    /// The next batch stays, or what became of it.
    pub(crate) fn keep(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.come_to(batch)?;
        self.fill()?;
        self.write(batch)
    }

    /// The next batch goes.
    pub(crate) fn leave_out(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.come_to(batch)?;
        let leader_epoch = u32::try_from(batch.leader_epoch()).unwrap_or(0);
        let (from, _, leader_epoch) = self.hole.unwrap_or((batch.base_offset(), 0, leader_epoch));
        self.hole = Some((from, batch.next_offset(), leader_epoch));
        Ok(())
    }

    /// What comes isn't clean: it is in segments of its own.
    pub(crate) fn end_clean(&mut self) -> Result<(), StorageError> {
        self.fill()?;
        self.roll()?;
        self.is_clean = false;
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn finish(&mut self) -> Result<Vec<Rewritten>, StorageError> {
        self.fill()?;
        self.roll()?;
        for tail in &mut self.done {
            let name = self.directory.log_name(tail.end().id());
            tail.sync(&name)?;
        }
        self.directory.sync_names()?;
        let rewritten = |(tail, records): (&Tail, &Option<u64>)| Rewritten {
            end: SegmentEnd { clean_records: *records, ..tail.end() },
            index: Arc::clone(tail.index()),
        };
        Ok(self.done.iter().zip(&self.records).map(rewritten).collect())
    }

    /// Removes what was written. What stays is found by a sweep.
    pub(crate) fn remove(&mut self) {
        let ids: Vec<FileId> =
            self.done.iter().chain(&self.tail).filter(|it| it.has_file()).map(|it| it.end().id()).collect();
        (self.tail, self.hole) = (None, None);
        self.done.clear();
        for id in ids {
            if let Err(error) = self.directory.unlink(id) {
                tracing::debug!(?id, %error, "a rewritten segment that isn't needed stays for now");
            }
        }
    }

    /// What was trimmed before it was flushed is in no segment: the old segments end there, and so do the new ones.
    fn come_to(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let follows =
            self.next_offset.replace(batch.next_offset()).is_none_or(|next| next == batch.base_offset());
        if !follows {
            self.fill()?;
            self.roll()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), StorageError> {
        let Some((mut from, to, leader_epoch)) = self.hole.take() else { return Ok(()) };
        while from < to {
            let next = to.min(from.saturating_add(HOLE_OFFSETS_MAX));
            self.write(&Batch::hole(from, next, leader_epoch))?;
            from = next;
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.tail.as_ref().is_some_and(|tail| tail.is_full_for(batch, &self.options)) {
            self.roll()?;
        }
        if self.tail.is_none() {
            self.tail = Some(Tail::begin_rewritten(batch, self.file, &self.options));
            self.records.push(self.is_clean.then_some(0));
        }
        if let Some(Some(records)) = self.records.last_mut().filter(|_| !batch.is_control()) {
            *records += u64::from(batch.record_count());
        }
        match &mut self.tail {
            Some(tail) => tail.append(batch, &mut self.buffer, &mut self.directory),
            None => Ok(()),
        }
    }

    fn roll(&mut self) -> Result<(), StorageError> {
        let Some(mut tail) = self.tail.take() else { return Ok(()) };
        let written = tail.write_out(&mut self.buffer, &mut self.directory);
        // Kept also if that failed, so that its file is removed.
        self.done.push(tail);
        written
    }
}
