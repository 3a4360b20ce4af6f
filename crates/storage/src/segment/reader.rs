//! What readers see of a partition's segments: everything up to one good sync, for as long as they hold it.
//!
//! It isn't a cursor and pins no retention: a segment whose name was removed before its first read is an error.
//!
//! Invariants
//!   * a set never changes; a new one is published after each sync
//!   * a damaged batch never hides others: what was read before it is returned, what lies behind it can be asked for

use super::SegmentEnd;
use super::gather::Gathered;
use super::index::Index;
use super::open::OpenSegment;
use super::shelf::Shelf;
use crate::error::StorageError;
use crate::landmarks::BatchPlace;
use exactlog_core::batch::Batch;
use parking_lot::RwLock;
use std::sync::Arc;

/// The readable segments of one partition, as of one sync.
#[derive(Debug)]
pub struct SegmentSet {
    shelf: Arc<Shelf>,
    /// All with at least one batch, in offset order.
    segments: Vec<SegmentEnd>,
    /// Index of the last segment, if that is the one that grows.
    tail_index: Option<Arc<RwLock<Index>>>,
    end_offset: u64,
}

impl SegmentSet {
    /// `tail_index` is `None` if the last segment is sealed, or there is none.
    pub(super) fn new(
        shelf: Arc<Shelf>,
        segments: Vec<SegmentEnd>,
        tail_index: Option<Arc<RwLock<Index>>>,
        end_offset: u64,
    ) -> SegmentSet {
        SegmentSet { shelf, segments, tail_index, end_offset }
    }

    /// The offset behind the last one that can be read here.
    pub fn end_offset(&self) -> u64 {
        self.end_offset
    }

    /// The first offset that can be read here; [`SegmentSet::end_offset`] if there is none.
    pub fn start_offset(&self) -> u64 {
        self.segments.first().map_or(self.end_offset, |segment| segment.base_offset)
    }

    /// Length of all batches, in bytes. The files may be longer, and indexes come on top (less than 1 %).
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len_bytes).sum()
    }

    /// The segments that have at least one batch, in offset order. The last one may still grow.
    pub fn segments(&self) -> &[SegmentEnd] {
        &self.segments
    }

    /// The batches from the one that holds `offset` on, of at most `max_bytes` together; the first one comes however
    /// large it is. Offsets in a gap or below the start stand for the next one that is there; from the end offset on
    /// there is nothing.
    ///
    /// All batches have passed their CRC-32C. Those of a sealed segment are slices of its mapping.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] with file and position if the first batch is; what is damaged further behind is
    /// left to the read that begins there. Batches behind a damaged one can be read by their offsets.
    pub fn read(&self, offset: u64, max_bytes: usize) -> Result<Vec<Batch>, StorageError> {
        let mut gathered = Gathered::new(max_bytes);
        if offset >= self.end_offset {
            return Ok(Vec::new());
        }
        let behind = self.segments.partition_point(|segment| segment.base_offset <= offset);
        for at in behind.saturating_sub(1)..self.segments.len() {
            match self.gather(at, offset, &mut gathered) {
                Ok(()) if gathered.is_full() => break,
                Ok(()) => {}
                Err(error) if gathered.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(gathered.into_batches())
    }

    /// The batch that holds `offset`, or the first behind it, to read single records from, and its place if that stays
    /// what it is: `None` in the segment that grows.
    ///
    /// A large batch of a sealed segment is checked once, and then known for as long as the segment stays mapped.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], also where [`SegmentSet::read`] finds a way around.
    pub(crate) fn batch_of(&self, offset: u64) -> Result<Option<(Batch, Option<BatchPlace>)>, StorageError> {
        if offset >= self.end_offset {
            return Ok(None);
        }
        let behind = self.segments.partition_point(|segment| segment.base_offset <= offset);
        for at in behind.saturating_sub(1)..self.segments.len() {
            let found = match self.is_tail(at) {
                Some(index) => self.tail(at, index)?.batch_of(offset)?.map(|(batch, _)| (batch, None)),
                None => self.sealed(at)?.batch_of(offset)?.map(|(batch, place)| (batch, Some(place))),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record, in offset order, with `timestamp_ms` (since 1970) or a later time: its offset and timestamp.
    ///
    /// Exact as far as batches state their greatest timestamp truly. Of a batch that can't be taken apart
    /// (a codec that this build lacks) the base offset and greatest timestamp are given: the record itself lies there
    /// or further behind, never before.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if a damaged batch might hold the answer.
    pub fn first_at_or_after(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, StorageError> {
        for (at, segment) in self.segments.iter().enumerate() {
            if segment.max_timestamp_ms < timestamp_ms {
                continue;
            }
            let found = match self.is_tail(at) {
                Some(index) => self.tail(at, index)?.first_at_or_after(timestamp_ms)?,
                None => self.sealed(at)?.first_at_or_after(timestamp_ms)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Lets go of what was mapped for reads and wasn't read since this was called last.
    pub(crate) fn close_unread(&self) {
        self.shelf.close_unread();
    }

    /// How many segments are mapped.
    #[cfg(test)]
    pub(super) fn mapped_count(&self) -> usize {
        self.shelf.open_count()
    }

    /// The greatest timestamp that a batch states, ms; `None` if there is none.
    pub fn greatest_timestamp_ms(&self) -> Option<i64> {
        self.segments.iter().map(|segment| segment.max_timestamp_ms).max()
    }

    fn gather(&self, at: usize, offset: u64, gathered: &mut Gathered) -> Result<(), StorageError> {
        match self.is_tail(at) {
            Some(index) => self.tail(at, index)?.gather(offset, gathered),
            None => self.sealed(at)?.gather(offset, gathered),
        }
    }

    fn is_tail(&self, at: usize) -> Option<&Arc<RwLock<Index>>> {
        self.tail_index.as_ref().filter(|_| at + 1 == self.segments.len())
    }

    fn tail(&self, at: usize, index: &Arc<RwLock<Index>>) -> Result<OpenSegment, StorageError> {
        self.shelf.tail(&self.segments[at], self.end_offset, index)
    }

    fn sealed(&self, at: usize) -> Result<Arc<OpenSegment>, StorageError> {
        let limit_offset = self.segments.get(at + 1).map_or(self.end_offset, |next| next.base_offset);
        self.shelf.sealed(&self.segments[at], limit_offset)
    }
}
