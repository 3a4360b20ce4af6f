//! One segment that is open for reading: its bytes, its index, and what to do when they disagree.
//!
//! It isn't a cache (the shelf is) and it knows no other segment.
//!
//! Invariants
//!   * a damaged batch is an error that names file and position; the batches around it are read all the same
//!   * a wrong index costs a survey, never a wrong answer
//!   * no batch is handed out that reaches the limit of the segment's offsets: it can't be one of this segment

use super::FileId;
use super::checked::Checked;
use super::cursor::{Content, Cursor};
use super::fault::damaged;
use super::gather::Gathered;
use super::index::{Index, Place, Region};
use super::survey::{SURVEY_READ_BYTES, checked_batch, survey};
use crate::error::StorageError;
use crate::landmarks::{BatchPlace, Opening};
use exactlog_core::batch::Batch;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A segment of a file is read in pieces of at least and at most so many bytes, or one batch if that is larger.
const READ_AHEAD_BYTES_MIN: usize = 64 << 10;
const READ_AHEAD_BYTES_MAX: usize = 4 << 20;

/// A segment, as of one published end.
#[derive(Debug)]
pub(super) struct OpenSegment {
    /// Name of its file.
    pub(super) name: String,
    /// Of its files.
    pub(super) id: FileId,
    /// Its name in offsets.
    pub(super) base_offset: u64,
    /// Its logical length.
    pub(super) len_bytes: u64,
    /// No offset in it reaches this.
    pub(super) limit_offset: u64,
    /// Its bytes.
    pub(super) content: Content,
    /// Its index; that of the tail may go further than this end, or not yet as far.
    pub(super) index: Arc<RwLock<Index>>,
    /// For a new index.
    pub(super) index_interval_bytes: u32,
    /// Tells it from the same segment opened again.
    pub(super) opening: Opening,
    /// Which of its batches single records can be read from; of a file that grows none.
    pub(super) checked: Checked,
    /// Whether somebody has asked for it since it was looked at last.
    pub(super) is_read: AtomicBool,
}

impl OpenSegment {
    /// Makes the index go up to the end. For the tail after a reopen; elsewhere it does.
    pub(super) fn cover(&self) -> Result<(), StorageError> {
        if self.index.read().covered().position >= self.len_bytes {
            return Ok(());
        }
        survey(&mut self.cursor(SURVEY_READ_BYTES), &mut self.index.write(), self.limit_offset)
    }

    /// Adds the batches from the one that holds `offset` on, or from the first behind it.
    pub(super) fn gather(&self, offset: u64, gathered: &mut Gathered) -> Result<(), StorageError> {
        match self.gather_once(offset, gathered) {
            Err(error) if gathered.is_empty() && self.is_news(&error) => {
                self.survey_anew()?;
                self.gather_once(offset, gathered)
            }
            result => result,
        }
    }

    /// The batch that holds `offset`, or the first behind it, and where it begins. Its checksum is computed unless it
    /// was since this segment was opened.
    pub(super) fn batch_of(&self, offset: u64) -> Result<Option<(Batch, BatchPlace)>, StorageError> {
        let Place { mut position, offset: mut next_offset } = self.place_of(offset)?;
        let mut cursor = self.cursor(READ_AHEAD_BYTES_MIN);
        while position < self.len_bytes {
            let len_bytes = cursor.batch_len_at(position)?;
            let batch = if self.checked.holds(position, len_bytes) {
                cursor.known_batch_at(position, next_offset)?
            } else {
                let place = Place { position, offset: next_offset };
                let batch = checked_batch(&mut cursor, place, self.limit_offset)?;
                self.checked.note(position, len_bytes);
                batch
            };
            if batch.next_offset() > offset {
                return Ok(Some((batch, BatchPlace::Segment { opening: self.opening, position })));
            }
            position += len_bytes as u64;
            next_offset = batch.next_offset();
        }
        Ok(None)
    }

    /// The first record with `timestamp_ms` or a later time: its offset and timestamp.
    pub(super) fn first_at_or_after(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, StorageError> {
        match self.first_at_or_after_once(timestamp_ms) {
            Err(error) if self.is_news(&error) => {
                self.survey_anew()?;
                self.first_at_or_after_once(timestamp_ms)
            }
            result => result,
        }
    }

    fn gather_once(&self, offset: u64, gathered: &mut Gathered) -> Result<(), StorageError> {
        let Place { mut position, offset: mut next_offset } = self.place_of(offset)?;
        let read_ahead_bytes = gathered.left_bytes().saturating_add(self.index_interval_bytes as usize);
        let mut cursor = self.cursor(read_ahead_bytes.clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES_MAX));
        while position < self.len_bytes {
            let len_bytes = cursor.batch_len_at(position)?;
            if !gathered.admits(len_bytes) {
                return Ok(());
            }
            let batch =
                checked_batch(&mut cursor, Place { position, offset: next_offset }, self.limit_offset)?;
            position += len_bytes as u64;
            next_offset = batch.next_offset();
            if next_offset > offset {
                gathered.push(batch);
                if gathered.is_full() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn first_at_or_after_once(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, StorageError> {
        let Place { mut position, mut offset } = self.index.read().place_of_time(timestamp_ms);
        let mut cursor = self.cursor(READ_AHEAD_BYTES_MIN);
        while position < self.len_bytes {
            let batch = checked_batch(&mut cursor, Place { position, offset }, self.limit_offset)?;
            if batch.max_timestamp_ms() >= timestamp_ms
                && let Some(found) = first_record_at_or_after(&batch, timestamp_ms)
            {
                return Ok(Some(found));
            }
            position += batch.len_bytes() as u64;
            offset = batch.next_offset();
        }
        Ok(None)
    }

    fn place_of(&self, offset: u64) -> Result<Place, StorageError> {
        let index = self.index.read();
        match index.region_of(offset) {
            Some(Region { from, what, .. }) => Err(damaged(&self.name, from.position, what)),
            None => Ok(index.place_of(offset)),
        }
    }

    /// Whether the index doesn't know yet of the damage that was met: either may be wrong.
    fn is_news(&self, error: &StorageError) -> bool {
        match error {
            StorageError::Damaged { position, .. } => !self.index.read().is_damaged_at(*position),
            _ => false,
        }
    }

    fn survey_anew(&self) -> Result<(), StorageError> {
        let mut index = Index::new(self.base_offset, self.index_interval_bytes);
        survey(&mut self.cursor(SURVEY_READ_BYTES), &mut index, self.limit_offset)?;
        *self.index.write() = index;
        Ok(())
    }

    fn cursor(&self, read_ahead_bytes: usize) -> Cursor<'_> {
        Cursor::new(&self.name, &self.content, self.len_bytes, read_ahead_bytes)
    }
}

/// The first such record of one batch that states to have one. Where the records can't be had (a codec that
/// this build lacks), the batch stands for them: none that qualifies lies before its base offset.
fn first_record_at_or_after(batch: &Batch, timestamp_ms: i64) -> Option<(u64, i64)> {
    for record in batch.records() {
        match record {
            Ok(record) if record.timestamp_ms >= timestamp_ms => {
                return Some((record.offset, record.timestamp_ms));
            }
            Ok(_) => {}
            Err(_) => return Some((batch.base_offset(), batch.max_timestamp_ms())),
        }
    }
    None
}
