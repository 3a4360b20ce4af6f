//! Reads batches out of one segment, wherever its bytes are: mapped, or in a file that is read in large pieces.
//!
//! It doesn't repair and doesn't search: it is told where a batch must begin and which offset it must have.
//!
//! Invariants
//!   * every batch that comes out has passed its CRC-32C, or is known to have, and begins at the offset that was asked
//!     for
//!   * nothing at or behind the logical end is looked at
//!   * no length from the file is used before it was compared with what is left up to that end
//!   * a mapped file that ends before that is damaged where its first batch begins that isn't whole

use super::fault::{damaged, io_error};
use crate::disk::{File, read_buffer};
use crate::error::StorageError;
use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchError, HEADER_BYTES};
use std::sync::Arc;

/// Where the bytes of a segment are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// All of them in memory; fewer than the segment has if its file was cut.
    Mapped(Bytes),
    /// In a file that may still grow.
    InFile(Arc<dyn File>),
}

/// A reading position with the bytes around it.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    name: &'a str,
    content: &'a Content,
    end: u64,
    read_ahead_bytes: usize,
    /// What was read last, and where in the segment it begins.
    window: Bytes,
    window_at: u64,
}

impl<'a> Cursor<'a> {
    /// Reads the segment `name` up to its logical `end`. A file is read in pieces of `read_ahead_bytes`, or of one
    /// batch if that is larger.
    pub(super) fn new(name: &'a str, content: &'a Content, end: u64, read_ahead_bytes: usize) -> Cursor<'a> {
        let window = match content {
            Content::Mapped(bytes) => bytes.clone(),
            Content::InFile(_) => Bytes::new(),
        };
        Cursor { name, content, end, read_ahead_bytes, window, window_at: 0 }
    }

    /// Name of the file, for messages.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The logical end of the segment.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether the file is known to end before the segment does.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.content, Content::Mapped(bytes) if (bytes.len() as u64) < self.end)
    }

    /// The batch at `position`, which must begin at `offset`.
    pub(super) fn batch_at(&mut self, position: u64, offset: u64) -> Result<Batch, StorageError> {
        self.parsed_at(position, offset, Batch::parse)
    }

    /// As [`Cursor::batch_at`], for one that has passed its CRC-32C before.
    pub(super) fn known_batch_at(&mut self, position: u64, offset: u64) -> Result<Batch, StorageError> {
        self.parsed_at(position, offset, Batch::parse_verified)
    }

    fn parsed_at(
        &mut self,
        position: u64,
        offset: u64,
        parse: impl FnOnce(Bytes) -> Result<Batch, BatchError>,
    ) -> Result<Batch, StorageError> {
        let len_bytes = self.batch_len_at(position)?;
        let bytes = self.bytes_at(position, len_bytes)?;
        let batch = parse(bytes).map_err(|error| damaged(self.name, position, error))?;
        if batch.base_offset() != offset {
            let found = batch.base_offset();
            let what = format!("batch begins at offset {found}, expected {offset}");
            return Err(damaged(self.name, position, what));
        }
        Ok(batch)
    }

    /// Length that the batch at `position` announces; the segment is that long.
    pub(super) fn batch_len_at(&mut self, position: u64) -> Result<usize, StorageError> {
        let left_bytes = self.end.saturating_sub(position);
        if left_bytes < HEADER_BYTES as u64 {
            let what = format!("{left_bytes} bytes are left, a batch has {HEADER_BYTES} at least");
            return Err(damaged(self.name, position, what));
        }
        let header = self.header_at(position)?;
        let len_bytes = Batch::announced_len(header).map_err(|error| damaged(self.name, position, error))?;
        if len_bytes as u64 > left_bytes {
            let what = format!("batch announces {len_bytes} bytes, {left_bytes} are left");
            return Err(damaged(self.name, position, what));
        }
        Ok(len_bytes)
    }

    /// The [`HEADER_BYTES`] bytes at `position`, which must lie below the end.
    pub(super) fn header_at(&mut self, position: u64) -> Result<&[u8], StorageError> {
        let from = self.fill(position, HEADER_BYTES)?;
        Ok(&self.window[from..from + HEADER_BYTES])
    }

    fn bytes_at(&mut self, position: u64, len_bytes: usize) -> Result<Bytes, StorageError> {
        let from = self.fill(position, len_bytes)?;
        Ok(self.window.slice(from..from + len_bytes))
    }

    /// Makes the window hold these bytes, which the caller has checked to lie below the end; where in it they begin.
    /// `position` is where a batch begins.
    fn fill(&mut self, position: u64, len_bytes: usize) -> Result<usize, StorageError> {
        if let Some(from) = self.within_window(position, len_bytes) {
            return Ok(from);
        }
        let Content::InFile(file) = self.content else {
            let (there, end) = (self.window.len(), self.end);
            let what = format!("the file ends at byte {there}, the segment has {end} bytes");
            return Err(damaged(self.name, position, what));
        };
        let left_bytes = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut window = read_buffer(self.read_ahead_bytes.max(len_bytes).min(left_bytes));
        let read_bytes = file.read_at(&mut window, position).map_err(io_error("read", self.name))?;
        window.truncate(read_bytes);
        self.window = window.freeze();
        self.window_at = position;
        self.within_window(position, len_bytes).ok_or_else(|| {
            damaged(self.name, position + read_bytes as u64, "the file ends before the segment does")
        })
    }

    fn within_window(&self, position: u64, len_bytes: usize) -> Option<usize> {
        let from = usize::try_from(position.checked_sub(self.window_at)?).ok()?;
        (from.checked_add(len_bytes)? <= self.window.len()).then_some(from)
    }
}
