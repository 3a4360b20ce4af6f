//! The segment that is being written: when it is full, and how its batches get into its file.
//!
//! It decides nothing about failures: after an error its owner drops it.
//!
//! Invariants
//!   * whether a batch still belongs to the segment follows from the batches in it and the options, nothing else
//!   * a piece that is written because the buffer is full ends at a whole block
//!   * bytes are copied once, into the buffer; those of a batch larger than the buffer never

use super::directory::Directory;
use super::fault::io_error;
use super::index::{INDEX_ENTRIES_MAX, Index};
use super::{Options, SegmentEnd};
use crate::disk::File;
use crate::error::StorageError;
use exactlog_core::batch::Batch;
use parking_lot::RwLock;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Most bytes that wait to be written.
pub(super) const BUFFER_BYTES: usize = 2 << 20;

/// What file systems write in one piece at the best.
const BLOCK_BYTES: u64 = 4096;

/// Positions in an index have 32 bits, and those of Kafka's 31.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Tail {
    /// With what is still in the buffer.
    end: SegmentEnd,
    /// Length up to which the last good sync has made it durable; 0 means that it has no file that counts.
    synced_bytes: u64,
    /// Length up to which it has been handed to the disk.
    written_bytes: u64,
    /// Open from the first write after a sync to the next sync.
    file: Option<Arc<dyn File>>,
    /// How long the file was when it was opened. What lies behind that was never published, so nobody maps it.
    opened_bytes: u64,
    /// Its last sync failed: the file isn't touched any more.
    is_suspect: bool,
    index: Arc<RwLock<Index>>,
}

impl Tail {
    /// A segment whose first batch comes next and has this greatest timestamp.
    pub(super) fn begin(base_offset: u64, first_timestamp_ms: i64, options: &Options) -> Tail {
        let end = SegmentEnd {
            max_timestamp_ms: first_timestamp_ms,
            first_timestamp_ms,
            ..SegmentEnd::planned(base_offset)
        };
        Tail::resume(end, options)
    }

    /// As [`Tail::begin`], in the file of this number, for what compaction makes.
    pub(super) fn begin_rewritten(batch: &Batch, file: u32, options: &Options) -> Tail {
        let timestamp_ms = batch.max_timestamp_ms();
        let begun = Tail::begin(batch.base_offset(), timestamp_ms, options);
        Tail { end: SegmentEnd { file, ..begun.end }, ..begun }
    }

    /// A segment that is written on behind `end`.
    pub(super) fn resume(end: SegmentEnd, options: &Options) -> Tail {
        let index = Index::new(end.base_offset, options.index_interval_bytes);
        Tail {
            end,
            synced_bytes: end.len_bytes,
            written_bytes: end.len_bytes,
            file: None,
            opened_bytes: 0,
            is_suspect: false,
            index: Arc::new(RwLock::new(index)),
        }
    }

    /// Its logical end, with what is still in the buffer.
    pub(super) fn end(&self) -> SegmentEnd {
        self.end
    }

    /// Its index: complete, unless the segment was written on after a reopen and not read since.
    pub(super) fn index(&self) -> &Arc<RwLock<Index>> {
        &self.index
    }

    /// Whether its file was opened for writing since the last sync.
    pub(super) fn is_touched(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it has a file by now.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some() || self.written_bytes > 0
    }

    /// Cuts off what was written since the file was opened: it never counted. Not after a sync that failed.
    pub(super) fn cut(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if !self.is_suspect => file.truncate(self.opened_bytes.max(self.synced_bytes)),
            _ => Ok(()),
        }
    }

    /// Whether this batch belongs to the next segment.
    pub(super) fn is_full_for(&self, batch: &Batch, options: &Options) -> bool {
        let end = &self.end;
        let len_bytes = end.len_bytes + batch.len_bytes() as u64;
        let index_entries = end.len_bytes / u64::from(options.index_interval_bytes);
        // Negative times mean that there is none (Kafka's -1): such batches never end a segment.
        let age_ms = match end.first_timestamp_ms >= 0 {
            true => batch.max_timestamp_ms().saturating_sub(end.first_timestamp_ms),
            false => 0,
        };
        len_bytes > options.segment_bytes.min(SEGMENT_BYTES_MAX)
            || age_ms > options.segment_ms
            || batch.last_offset() - end.base_offset > i32::MAX as u64
            || index_entries >= INDEX_ENTRIES_MAX as u64
    }

    /// Adds a batch, by way of the buffer.
    pub(super) fn append(
        &mut self,
        batch: &Batch,
        buffer: &mut Vec<u8>,
        directory: &mut Directory,
    ) -> Result<(), StorageError> {
        self.index_batch(batch);
        self.end.len_bytes += batch.len_bytes() as u64;
        self.end.max_timestamp_ms = self.end.max_timestamp_ms.max(batch.max_timestamp_ms());
        self.end.sparse |= batch.is_sparse();
        if buffer.len() + batch.len_bytes() > BUFFER_BYTES {
            self.write_blocks(buffer, directory)?;
        }
        if buffer.len() + batch.len_bytes() > BUFFER_BYTES {
            let parts: [&[u8]; 3] = [buffer, batch.header(), batch.body()];
            self.write(&parts, directory)?;
            buffer.clear();
            return Ok(());
        }
        buffer.extend_from_slice(batch.header());
        buffer.extend_from_slice(batch.body());
        Ok(())
    }

    /// Hands all of the buffer to the disk.
    pub(super) fn write_out(
        &mut self,
        buffer: &mut Vec<u8>,
        directory: &mut Directory,
    ) -> Result<(), StorageError> {
        if !buffer.is_empty() {
            self.write(&[buffer], directory)?;
            buffer.clear();
        }
        debug_assert_eq!(self.written_bytes, self.end.len_bytes);
        Ok(())
    }

    /// Makes durable what was written, and closes the file.
    pub(super) fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        if let Some(file) = &self.file {
            if let Err(error) = file.sync() {
                self.is_suspect = true;
                return Err(io_error("sync", name)(error));
            }
            self.synced_bytes = self.written_bytes;
            self.file = None;
        }
        Ok(())
    }

    /// Hands as much of the buffer to the disk as ends at a whole block.
    fn write_blocks(&mut self, buffer: &mut Vec<u8>, directory: &mut Directory) -> Result<(), StorageError> {
        let behind_block = (self.written_bytes + buffer.len() as u64) % BLOCK_BYTES;
        let Some(len_bytes) = buffer.len().checked_sub(behind_block as usize) else { return Ok(()) };
        if len_bytes > 0 {
            self.write(&[&buffer[..len_bytes]], directory)?;
            buffer.drain(..len_bytes);
        }
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]], directory: &mut Directory) -> Result<(), StorageError> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let id = self.end.id();
                let file = match self.synced_bytes {
                    0 => directory.create(id)?,
                    _ => directory.open(id)?,
                };
                self.opened_bytes = file.len().map_err(io_error("look at", &directory.log_name(id)))?;
                self.file.insert(file)
            }
        };
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let write = file.write_around(&slices, self.written_bytes);
        write.map_err(io_error("write", &directory.log_name(self.end.id())))?;
        self.written_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    /// The index is built by the way, unless a reader has it in its hands or has begun it and not come so far: then
    /// the next reader goes on with it, from the file.
    fn index_batch(&self, batch: &Batch) {
        if let Some(mut index) = self.index.try_write()
            && index.covered().position == self.end.len_bytes
        {
            index.push(batch);
        }
    }
}
