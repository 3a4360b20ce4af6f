//! The sealed segments of one partition that are open for reading, a few at a time.
//!
//! A sealed segment is opened at its first read: its file is mapped, its handle closed, its index loaded or built by
//! a survey. Batches that a reader holds keep their mapping alive after the segment has left the shelf.
//!
//! Invariants
//!   * at most [`OPEN_SEGMENTS_MAX`] segments of a partition are on the shelf, and more only as long as all shelves of
//!     the process together have room for them ([`MORE_SEGMENTS_MAX`]); no file handle stays open
//!   * index files are written by one thread at a time
//!   * a sealed file that was cut is read as far as it goes, one that is gone is damage as a whole; neither costs
//!     another segment anything

use super::checked::Checked;
use super::cursor::Content;
use super::fault::{damaged, io_error};
use super::index::Index;
use super::open::OpenSegment;
use super::{SegmentEnd, index_file, names};
use crate::disk::{Disk, Mode};
use crate::error::StorageError;
use crate::landmarks::Opening;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings per partition: 10,000 partitions stay below the 65,530 that Linux allows a process by default.
pub(super) const OPEN_SEGMENTS_MAX: usize = 4;

/// More mappings, of whichever partitions want them first: 16 GiB of segments that are read here and there. Each may
/// take 400 KiB for its index.
pub(super) const MORE_SEGMENTS_MAX: usize = 128;

/// How many of [`MORE_SEGMENTS_MAX`] are taken. The limit on mappings is the process's.
static MORE_SEGMENTS: AtomicUsize = AtomicUsize::new(0);

/// The open sealed segments of one partition.
#[derive(Debug)]
pub(super) struct Shelf {
    disk: Arc<dyn Disk>,
    dir: String,
    index_interval_bytes: u32,
    /// The one used last comes last.
    open: Mutex<Vec<Arc<OpenSegment>>>,
    /// Held while index files are written, and while a segment is opened, so that no two threads survey the same.
    indexing: Mutex<()>,
}

impl Shelf {
    /// An empty shelf for the segments in `dir`.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: String, index_interval_bytes: u32) -> Shelf {
        Shelf { disk, dir, index_interval_bytes, open: Mutex::default(), indexing: Mutex::default() }
    }

    /// The sealed segment `end`, in which no offset reaches `limit_offset`.
    pub(super) fn sealed(
        &self,
        end: &SegmentEnd,
        limit_offset: u64,
    ) -> Result<Arc<OpenSegment>, StorageError> {
        if let Some(segment) = self.on_shelf(end) {
            return Ok(segment);
        }
        let guard = self.indexing.lock();
        if let Some(segment) = self.on_shelf(end) {
            return Ok(segment); // opened by another thread meanwhile
        }
        let segment = Arc::new(self.open_sealed(end, limit_offset, &guard)?);
        let mut open = self.open.lock();
        if open.len() >= OPEN_SEGMENTS_MAX && !take_more() {
            open.remove(0);
        }
        open.push(Arc::clone(&segment));
        Ok(segment)
    }

    /// The segment that still grows, up to `end`. Its file is open as long as the answer lives.
    pub(super) fn tail(
        &self,
        end: &SegmentEnd,
        limit_offset: u64,
        index: &Arc<RwLock<Index>>,
    ) -> Result<OpenSegment, StorageError> {
        let name = names::log(&self.dir, end.id());
        let file = self.disk.open(&name, Mode::Read).map_err(io_error("open", &name))?;
        let segment = self.segment(name, end, limit_offset, Content::InFile(file), Arc::clone(index));
        segment.cover()?;
        Ok(segment)
    }

    /// Writes the index files of a sealed segment if its index is complete and knows of no damage. That they can't
    /// be written is no error: the next reader builds the index again.
    pub(super) fn save_index(&self, end: &SegmentEnd, index: &Index) {
        let guard = self.indexing.lock();
        self.save_index_locked(end, index, &guard);
    }

    /// Closes segments that begin below this offset: what they map isn't needed any more.
    pub(super) fn close_below(&self, base_offset: u64) {
        let mut open = self.open.lock();
        let had = more_than_its_own(open.len());
        open.retain(|segment| segment.base_offset >= base_offset);
        MORE_SEGMENTS.fetch_sub(had - more_than_its_own(open.len()), Ordering::Relaxed);
    }

    /// Closes segments that nobody has read since this was called last: what they map counts as the process's memory.
    pub(super) fn close_unread(&self) {
        let mut open = self.open.lock();
        let had = more_than_its_own(open.len());
        open.retain(|segment| segment.is_read.swap(false, Ordering::Relaxed));
        MORE_SEGMENTS.fetch_sub(had - more_than_its_own(open.len()), Ordering::Relaxed);
    }

    /// How many segments are open.
    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    /// Keeps readers from writing index files while the guard lives.
    pub(super) fn without_indexing(&self) -> MutexGuard<'_, ()> {
        self.indexing.lock()
    }

    fn on_shelf(&self, end: &SegmentEnd) -> Option<Arc<OpenSegment>> {
        let mut open = self.open.lock();
        let same = |segment: &Arc<OpenSegment>| segment.id == end.id() && segment.len_bytes == end.len_bytes;
        let at = open.iter().position(same)?;
        let segment = open.remove(at);
        segment.is_read.store(true, Ordering::Relaxed);
        open.push(Arc::clone(&segment));
        Some(segment)
    }

    fn open_sealed(
        &self,
        end: &SegmentEnd,
        limit_offset: u64,
        guard: &MutexGuard<'_, ()>,
    ) -> Result<OpenSegment, StorageError> {
        let name = names::log(&self.dir, end.id());
        let content = map(&*self.disk, &name, end, limit_offset)?;
        let is_whole = content.len() as u64 == end.len_bytes;
        // An index of the whole segment leads behind a cut.
        let load = || index_file::load(&*self.disk, &self.dir, end.id(), end.len_bytes);
        let loaded = is_whole.then(load).flatten();
        let is_loaded = loaded.is_some();
        let index = loaded.unwrap_or_else(|| Index::new(end.base_offset, self.index_interval_bytes));
        let index = Arc::new(RwLock::new(index));
        let segment = self.segment(name, end, limit_offset, Content::Mapped(content), index);
        if !is_loaded {
            segment.cover()?;
            self.save_index_locked(end, &segment.index.read(), guard);
        }
        Ok(segment)
    }

    fn segment(
        &self,
        name: String,
        end: &SegmentEnd,
        limit_offset: u64,
        content: Content,
        index: Arc<RwLock<Index>>,
    ) -> OpenSegment {
        let checked = match &content {
            Content::Mapped(bytes) => Checked::new(bytes.len() as u64),
            Content::InFile(_) => Checked::default(),
        };
        OpenSegment {
            name,
            id: end.id(),
            base_offset: end.base_offset,
            len_bytes: end.len_bytes,
            limit_offset: limit_of(end, limit_offset),
            content,
            index,
            index_interval_bytes: self.index_interval_bytes,
            opening: Opening::new(),
            checked,
            is_read: AtomicBool::new(true),
        }
    }

    fn save_index_locked(&self, end: &SegmentEnd, index: &Index, _guard: &MutexGuard<'_, ()>) {
        if index.covered().position != end.len_bytes || !index.regions().is_empty() {
            return;
        }
        if let Err(error) = index_file::save(&*self.disk, &self.dir, end.id(), index) {
            tracing::debug!(dir = self.dir, base_offset = end.base_offset, %error, "index not written");
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        MORE_SEGMENTS.fetch_sub(more_than_its_own(self.open.get_mut().len()), Ordering::Relaxed);
    }
}

/// What is there of a sealed segment, in which no offset reaches `limit_offset`.
///
/// # Errors
/// [`StorageError::Damaged`] if the file isn't there.
pub(super) fn map(
    disk: &dyn Disk,
    name: &str,
    end: &SegmentEnd,
    limit_offset: u64,
) -> Result<Bytes, StorageError> {
    let file = match disk.open(name, Mode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (from, to) = (end.base_offset, limit_of(end, limit_offset));
            let what = format!("the file is missing; lost are the offsets from {from} to below {to}");
            return Err(damaged(name, 0, what));
        }
        opened => opened.map_err(io_error("open", name))?,
    };
    let content = file.map_sealed().map_err(io_error("map", name))?;
    let len_bytes = usize::try_from(end.len_bytes).unwrap_or(usize::MAX);
    Ok(content.slice(..len_bytes.min(content.len())))
}

/// No offset of the segment reaches this, if the next one begins at `next_offset`: a gap may follow it, and its own
/// offsets fit 31 bits.
pub(super) fn limit_of(end: &SegmentEnd, next_offset: u64) -> u64 {
    next_offset.min(end.base_offset.saturating_add(1 << 31))
}

/// How many of a shelf's segments are taken from [`MORE_SEGMENTS`].
fn more_than_its_own(open: usize) -> usize {
    open.saturating_sub(OPEN_SEGMENTS_MAX)
}

/// Takes one of [`MORE_SEGMENTS`], if there is one left.
fn take_more() -> bool {
    let more = |taken| (taken < MORE_SEGMENTS_MAX).then_some(taken + 1);
    MORE_SEGMENTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}
