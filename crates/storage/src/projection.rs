//! Writing behind: what the journal holds becomes segments, so that its files can be given up.
//!
//! ```text
//!   placements (index) -> read back from the journal -> segments -> sync -> the index forgets the placements
//! ```
//!
//! One thread flushes at a time. Readers and the writer go on meanwhile.
//!
//! Invariants
//!   * a batch leaves the index only after it is durable in a segment and can be read there
//!   * a failed write of a segment loses nothing: the batches since its last good sync come from the journal again
//!   * what was trimmed before it was flushed never reaches a segment

use crate::checkpoint::{Image, Kept};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::index::{Index, Reader, Unflushed};
use crate::partitions::{STEP_BYTES, Segments};
use crate::reserve::Reserve;
use crate::runs::Runs;
use crate::segment::{Options, PartitionLog, segments_below};
use exactlog_core::batch::HEADER_BYTES;
use exactlog_core::ids::Partition;
use exactlog_core::state::State;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Flushes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Flusher {
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) index: Arc<Index>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) reader: Reader,
    pub(crate) flushed_lsn: Arc<AtomicU64>,
    pub(crate) one_at_a_time: Arc<Mutex<()>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) reserve: Arc<Reserve>,
}

impl Flusher {
    /// Brings everything applied so far into segments; the lsn up to which that is true now.
    ///
    /// # Errors
    /// A damaged journal file or a segment that can't be written: what was flushed before stays so, the rest is in the
    /// journal still. It may be tried again; a file that failed isn't touched again.
    pub fn flush(&self) -> Result<u64, StorageError> {
        self.flush_through(None)
    }

    /// As [`flush`](Flusher::flush), of what was applied up to this lsn.
    ///
    /// # Errors
    /// As [`flush`](Flusher::flush).
    pub fn flush_through(&self, part: Option<u64>) -> Result<u64, StorageError> {
        let _one = self.one_at_a_time.lock();
        let now_lsn = {
            let state = self.state.read();
            let exists = |topic| state.topics.contains_key(&topic);
            self.segments.look_around(exists)?;
            self.segments.forget_deleted(exists, state.lsn);
            state.lsn
        };
        let target = part.map_or(now_lsn, |part| part.min(now_lsn));
        let mut full = None;
        for partition in self.index.partitions() {
            let flushed = self.flush_partition(partition, target, now_lsn);
            self.index_transactions(partition);
            match flushed {
                // Others may need no space: what was trimmed is only passed over.
                Err(error) if error.is_disk_full() => full = full.or(Some(error)),
                flushed => flushed?,
            }
        }
        if let Some(full) = full {
            return Err(full);
        }
        self.flushed_lsn.fetch_max(target, Ordering::AcqRel);
        Ok(target)
    }

    /// Writes an image; if there is no room for it, in the space that was kept for it.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write(&self, image: &Image) -> Result<Kept, StorageError> {
        match image.write(&*self.disk) {
            Err(full) if full.is_disk_full() => {
                self.reserve.lend(|| image.write(&*self.disk)).unwrap_or(Err(full))
            }
            written => written,
        }
    }

    /// Removes files that no checkpoint names any more: all that are kept show what was done up to `shown_lsn`.
    ///
    /// # Errors
    /// When a file can't be removed; it may be tried again.
    pub fn sweep(&self, shown_lsn: u64) -> Result<(), StorageError> {
        let _one = self.one_at_a_time.lock();
        self.segments.sweep(shown_lsn)?;
        self.runs.sweep(shown_lsn)
    }

    /// Everything up to this lsn is in segments.
    pub fn flushed_lsn(&self) -> u64 {
        self.flushed_lsn.load(Ordering::Acquire)
    }

    fn flush_partition(&self, partition: Partition, target: u64, now_lsn: u64) -> Result<(), StorageError> {
        let start_offset = self.index.start_offset(partition);
        let ends = self.segments.ends(partition);
        let trimmed = segments_below(&ends, start_offset) > 0;
        if !trimmed && self.index.unflushed(partition, ends.end_offset, target, 1).is_empty() {
            return Ok(());
        }
        let Some(options) = self.options(partition) else { return Ok(()) };
        let log = self.segments.log(partition, || options);
        let (end, appended) = self.segments.with(partition, &log, |opened| {
            // First what frees space, then what takes some.
            self.drop_below(partition, opened, start_offset, now_lsn);
            let appended = self.append_due(partition, opened, target);
            // Without room for all of it a part is synced: it is less that has to find some next time.
            if appended.as_ref().err().is_none_or(|error| matches!(error, StorageError::DiskFull { .. })) {
                opened.sync()?;
                self.drop_below(partition, opened, start_offset, now_lsn);
            }
            Ok((opened.ends().end_offset, appended))
        })?;
        self.index.flushed(partition, end);
        appended
    }

    /// Writes what is missing of the transaction indexes of full segments. That they can't be written is no error: they
    /// are written by the next open.
    fn index_transactions(&self, partition: Partition) {
        let aborted = {
            let state = self.state.read();
            let found = state.partition(partition).filter(|found| !found.aborted.is_empty());
            found.map(|found| found.aborted.clone())
        };
        let (Some(aborted), Some(options)) = (aborted, self.options(partition)) else { return };
        let log = self.segments.log(partition, || options);
        let written = self.segments.with(partition, &log, |opened| {
            opened.index_transactions(&aborted);
            Ok(())
        });
        if let Err(error) = written {
            tracing::debug!(%partition, %error, "transaction indexes not written");
        }
    }

    /// Appends what isn't in segments yet, as long as there is room beside the reserve.
    fn append_due(
        &self,
        partition: Partition,
        opened: &mut PartitionLog,
        target: u64,
    ) -> Result<(), StorageError> {
        loop {
            let due = self.index.unflushed(partition, opened.next_offset(), target, STEP_BYTES);
            if due.is_empty() {
                return Ok(());
            }
            let mut room = None;
            for (nth, Unflushed { located, cached }) in due.iter().enumerate() {
                if located.next_offset <= self.index.start_offset(partition) {
                    opened.skip_to(located.next_offset)?;
                    continue;
                }
                // The disk is asked once for all of a step, and only if that is too much for each batch.
                let whole = *room.get_or_insert_with(|| self.reserve.leave(len_of(&due[nth..])).is_ok());
                if !whole {
                    self.reserve.leave(len_of(&due[nth..=nth]))?;
                }
                match cached {
                    Some(batch) => opened.append(batch)?,
                    None => opened.append(&self.reader.read_back(located)?)?,
                }
            }
        }
    }

    /// Forgets what was trimmed. Its files go when no checkpoint that is kept names them.
    fn drop_below(&self, partition: Partition, opened: &mut PartitionLog, start_offset: u64, lsn: u64) {
        if let Some(below) = opened.drop_below(start_offset) {
            self.segments.note_dropped(partition, lsn, below);
        }
    }

    /// Whether files wait for checkpoints to be removed: then these free something although a flush found no room.
    pub(crate) fn has_unnamed(&self) -> bool {
        self.segments.has_unnamed() || self.runs.has_unnamed()
    }

    /// Keeps space for the next checkpoint, as far as there is any.
    pub fn refill(&self) {
        self.reserve.refill();
    }

    fn options(&self, partition: Partition) -> Option<Options> {
        let state = self.state.read();
        state.topics.get(&partition.topic).map(|topic| segment_options(topic))
    }
}

/// What batches take in segments, in bytes.
fn len_of(batches: &[Unflushed]) -> u64 {
    batches.iter().map(|batch| HEADER_BYTES as u64 + batch.located.body_len()).sum()
}

/// The settings of a topic's segments.
pub(crate) fn segment_options(topic: &exactlog_core::state::Topic) -> Options {
    Options {
        segment_bytes: topic.config.segment_bytes as u64,
        segment_ms: topic.config.segment_ms as i64,
        ..Options::default()
    }
}
