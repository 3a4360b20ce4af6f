//! The writing half of a partition's segments. One thread has it, the flusher.
//!
//! ```text
//!             append                    sync                 (good)
//!   synced ----------> synced + buffer ------> files, names ---------> synced, published
//!      ^                     |                      |
//!      +---------------------+----------------------+  (failed: back to what was synced, in a new file)
//! ```
//!
//! It doesn't repeat anything by itself: what a failed call has dropped is fed again by its owner, who has it in
//! the journal.
//!
//! Invariants
//!   * [`PartitionLog::ends`] and what readers see are always those of the last good sync
//!   * a file is written only behind what the last good sync covers, or what the checkpoint names
//!   * once a write or sync has failed, every file touched since the last good sync is closed for writing for good:
//!     one that has a good prefix is sealed there, one that has none is unlinked when its name is needed again, or at
//!     once if it was the disk that is full

use super::directory::Directory;
use super::fault::{damaged, io_error};
use super::present::Present;
use super::reader::SegmentSet;
use super::rewriter::{Rewriter, Rewritten};
use super::shelf::Shelf;
use super::tail::Tail;
use super::{Ends, FileId, Options, SegmentEnd, names, transaction_index};
use crate::disk::Disk;
use crate::error::StorageError;
use exactlog_core::batch::Batch;
use exactlog_core::state::AbortedTransaction;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// The writing half of one partition's segments.
#[derive(Debug)]
pub struct PartitionLog {
    dir: String,
    options: Options,
    directory: Directory,
    shelf: Arc<Shelf>,
    published: Arc<RwLock<Arc<SegmentSet>>>,
    synced: Ends,
    next_offset: u64,
    /// Full since the last sync.
    rolled: Vec<Tail>,
    /// `None` until the next batch begins a segment.
    tail: Option<Tail>,
    /// What follows the written bytes of the tail. Memory is held between an append and the next sync only.
    buffer: Vec<u8>,
    /// Segments whose transaction index was found whole or written by this log.
    transactions_indexed: BTreeSet<FileId>,
    /// The highest number that a file of the partition was given.
    last_file: u32,
}

/// Gives other threads what the last sync has published.
#[derive(Clone, Debug)]
pub struct SegmentReader(Arc<RwLock<Arc<SegmentSet>>>);

impl SegmentReader {
    /// The segments as of the last good sync. Takes a lock for as long as it takes to copy a pointer.
    pub fn current(&self) -> Arc<SegmentSet> {
        Arc::clone(&self.0.read())
    }
}

impl PartitionLog {
    /// Opens the segments in directory `dir` as far as `ends` says they go. Whatever lies behind that, in these files
    /// or in others, doesn't count; it is written over or stays, see `remove_unnamed`.
    ///
    /// Lists the directory and reads no data. No file is held open by it, nor by the log while nothing is appended.
    /// Closed files that aren't there or are too short are logged, and damage to whoever reads them: nothing else
    /// depends on them.
    ///
    /// # Errors
    /// [`StorageError::Missing`] or [`StorageError::Damaged`] if the file that is written on isn't there or is too
    /// short, or if `ends` contradicts itself.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: String,
        options: Options,
        ends: &Ends,
    ) -> Result<PartitionLog, StorageError> {
        let options = Options { index_interval_bytes: options.index_interval_bytes.max(1), ..options };
        check_ends(&dir, ends)?;
        let present = Present::in_directory(&*disk, &dir, ends)?;
        present.expect_tail(&dir, ends)?;
        for lost in ends.segments.iter().filter_map(|segment| present.expect(&dir, segment).err()) {
            tracing::error!(%lost, "a closed segment can't be read as a whole; all others can");
        }
        let shelf = Arc::new(Shelf::new(Arc::clone(&disk), dir.clone(), options.index_interval_bytes));
        let tail = tail_of(ends, &options);
        let set = set_of(&shelf, ends, tail.as_ref());
        Ok(PartitionLog {
            directory: Directory::new(disk, dir.clone(), present.has_directory()),
            dir,
            options,
            shelf,
            published: Arc::new(RwLock::new(Arc::new(set))),
            synced: ends.clone(),
            next_offset: ends.end_offset,
            rolled: Vec::new(),
            tail,
            buffer: Vec::new(),
            transactions_indexed: BTreeSet::new(),
            last_file: ends.segments.iter().map(|segment| segment.file).max().unwrap_or(0),
        })
    }

    /// The offset that the next batch must begin at.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Adds a batch, which must begin at [`PartitionLog::next_offset`]. Nobody sees it before the next sync.
    ///
    /// # Errors
    /// A batch at another offset is refused ([`io::ErrorKind::InvalidInput`]) and changes nothing. After any other
    /// error everything since the last good sync is dropped, and the log goes on in a new file: append again what
    /// follows [`PartitionLog::ends`] (after a [`PartitionLog::skip_to`], that too).
    pub fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if batch.base_offset() != self.next_offset {
            let (found, expected) = (batch.base_offset(), self.next_offset);
            let what = format!("batch begins at offset {found}, the log goes on at {expected}");
            return Err(self.refused("append to", what));
        }
        let appended = self.append_inner(batch);
        self.or_abandon(appended)
    }

    /// Leaves out the offsets up to `offset`, where the next batch begins: they were trimmed before they got here.
    /// Begins a new segment, since a segment has no gaps. Counts as appended: durable with the next sync.
    ///
    /// # Errors
    /// As [`PartitionLog::append`]; an offset below the next one is refused.
    pub fn skip_to(&mut self, offset: u64) -> Result<(), StorageError> {
        if offset < self.next_offset {
            let what = format!("the log can't go back from offset {} to {offset}", self.next_offset);
            return Err(self.refused("skip in", what));
        }
        if offset > self.next_offset {
            let rolled = self.roll();
            self.or_abandon(rolled)?;
            self.next_offset = offset;
        }
        Ok(())
    }

    /// Makes everything appended durable, and then readable: files first, then new names. Index files of segments
    /// that became full are written behind that and not synced.
    ///
    /// # Errors
    /// As [`PartitionLog::append`].
    pub fn sync(&mut self) -> Result<(), StorageError> {
        let synced = self.sync_inner();
        self.or_abandon(synced)
    }

    /// How far everything is durable: what a checkpoint keeps.
    pub fn ends(&self) -> Ends {
        self.synced.clone()
    }

    /// What can be read, as of the last good sync.
    pub fn readable(&self) -> Arc<SegmentSet> {
        Arc::clone(&self.published.read())
    }

    /// For other threads: what can be read, as of the last good sync at the time they ask.
    pub fn reader(&self) -> SegmentReader {
        SegmentReader(Arc::clone(&self.published))
    }

    /// Forgets the segments that lie wholly below `start_offset`, where reading begins now; where the first one that is
    /// left begins, if there were any. Their files stay for the checkpoints that name them, until
    /// `remove_unnamed`.
    ///
    /// Only what was synced is looked at: to be called behind a [`PartitionLog::sync`].
    pub fn drop_below(&mut self, start_offset: u64) -> Option<u64> {
        let below = segments_below(&self.synced, start_offset);
        let at_rest = self.rolled.is_empty() && self.next_offset == self.synced.end_offset;
        if below == 0 || !at_rest {
            return None;
        }
        for gone in self.synced.segments.drain(..below) {
            self.transactions_indexed.remove(&gone.id());
        }
        if self.synced.segments.last().is_none_or(|last| last.len_bytes == 0) {
            self.tail = None;
        }
        let first = self.synced.segments.first().map_or(self.synced.end_offset, |first| first.base_offset);
        self.shelf.close_below(first);
        self.publish();
        Some(first)
    }

    /// Makes the transaction indexes of segments that are full: each once, if it isn't there as it has to be. `aborted`
    /// are all aborted transactions that aren't trimmed, in the order of their ends.
    pub(crate) fn index_transactions(&mut self, aborted: &[AbortedTransaction]) {
        let full = self.synced.segments.windows(2).map(|pair| (pair[0].id(), pair[1].base_offset));
        for (id, limit_offset) in full {
            let from = aborted.partition_point(|it| it.last_offset < id.base_offset);
            let to = aborted.partition_point(|it| it.last_offset < limit_offset);
            if from == to || self.transactions_indexed.contains(&id) {
                continue;
            }
            match transaction_index::ensure(self.directory.disk(), &self.dir, id, &aborted[from..to]) {
                Ok(()) => drop(self.transactions_indexed.insert(id)),
                Err(error) => {
                    tracing::debug!(dir = self.dir, ?id, %error, "transaction index not written");
                }
            }
        }
    }

    /// Refuses segments whose files aren't there or are too short, before anything is made of them.
    pub(crate) fn expect_files(&self, segments: &[SegmentEnd]) -> Result<(), StorageError> {
        let present = Present::in_directory(self.directory.disk(), &self.dir, &self.synced)?;
        segments.iter().try_for_each(|segment| present.expect(&self.dir, segment))
    }

    /// What writes other files in place of closed segments: under a number that no file of the partition had before.
    pub(crate) fn rewriter(&mut self) -> Rewriter {
        self.last_file += 1;
        let disk = self.directory.shared_disk();
        // A checkpoint names files in it, else there would be nothing to rewrite.
        Rewriter::new(Directory::new(disk, self.dir.clone(), true), self.options, self.last_file)
    }

    /// Lets rewritten segments, which are durable, take the place of the closed ones from `from` on: the files that no
    /// longer count. None, and nothing changed, if these aren't there any more as they were, since a part of them was
    /// trimmed.
    pub(crate) fn replace(&mut self, from: &[SegmentEnd], rewritten: &[Rewritten]) -> Option<Vec<FileId>> {
        let at = self.synced.segments.iter().position(|segment| Some(segment) == from.first())?;
        let to = at + from.len();
        // The last one is written on.
        if to >= self.synced.segments.len() || self.synced.segments[at..to] != *from {
            return None;
        }
        let new = rewritten.iter().map(Rewritten::end);
        let old: Vec<SegmentEnd> = self.synced.segments.splice(at..to, new).collect();
        self.publish();
        for rewritten in rewritten {
            self.shelf.save_index(&rewritten.end(), &rewritten.index());
        }
        Some(old.iter().map(SegmentEnd::id).collect())
    }

    /// Unlinks the files in the directory that look like a segment's and belong to none of this log: left by a
    /// crash, by a failed write or by segments that were removed. Foreign names stay, and so do segments that `is_kept`
    /// knows. The number of files.
    ///
    /// Not done by [`PartitionLog::open`]: the owner first decides which checkpoint counts, and that no other
    /// one that it keeps names such a file.
    pub(crate) fn remove_unnamed(&mut self, is_kept: impl Fn(FileId) -> bool) -> Result<usize, StorageError> {
        let synced = self.synced.segments.iter().map(SegmentEnd::id);
        let current = self.rolled.iter().chain(&self.tail).map(|tail| tail.end().id());
        let named: BTreeSet<FileId> = synced.chain(current).collect();
        let _no_index_is_being_written = self.shelf.without_indexing();
        self.directory.remove_unnamed(|id| named.contains(&id) || is_kept(id))
    }

    fn append_inner(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.tail.as_ref().is_some_and(|tail| tail.is_full_for(batch, &self.options)) {
            self.roll()?;
        }
        let tail = self
            .tail
            .get_or_insert_with(|| Tail::begin(batch.base_offset(), batch.max_timestamp_ms(), &self.options));
        tail.append(batch, &mut self.buffer, &mut self.directory)?;
        self.next_offset = batch.next_offset();
        Ok(())
    }

    /// Ends the tail where it is. Its sync is left to the next one.
    fn roll(&mut self) -> Result<(), StorageError> {
        if let Some(mut tail) = self.tail.take() {
            // Put back first, so that a failed write is seen to have touched it.
            let written = tail.write_out(&mut self.buffer, &mut self.directory);
            self.rolled.push(tail);
            written?;
        }
        Ok(())
    }

    fn sync_inner(&mut self) -> Result<(), StorageError> {
        if let Some(tail) = &mut self.tail {
            tail.write_out(&mut self.buffer, &mut self.directory)?;
        }
        for tail in self.rolled.iter_mut().chain(&mut self.tail) {
            tail.sync(&names::log(&self.dir, tail.end().id()))?;
        }
        self.directory.sync_names()?;
        self.synced = self.ends_now();
        self.publish();
        for tail in self.rolled.drain(..) {
            self.shelf.save_index(&tail.end(), &tail.index().read());
        }
        self.buffer = Vec::new();
        Ok(())
    }

    /// The ends if everything that was appended is durable.
    fn ends_now(&self) -> Ends {
        let mut segments = self.synced.segments.clone();
        // The last one is written on, or was only planned, or ended by a roll: each time it comes again below.
        if let Some(last) = segments.last()
            && (last.len_bytes == 0 || self.is_current(last.base_offset))
        {
            segments.pop();
        }
        segments.extend(self.rolled.iter().chain(&self.tail).map(Tail::end));
        if self.tail.is_none() && !segments.is_empty() {
            segments.push(SegmentEnd::planned(self.next_offset));
        }
        Ends { end_offset: self.next_offset, segments }
    }

    fn is_current(&self, base_offset: u64) -> bool {
        self.rolled.iter().chain(&self.tail).any(|tail| tail.end().base_offset == base_offset)
    }

    fn publish(&self) {
        *self.published.write() = Arc::new(set_of(&self.shelf, &self.synced, self.tail.as_ref()));
    }

    fn or_abandon(&mut self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if let Err(error) = &result {
            if error.is_disk_full() {
                self.give_back();
            }
            self.abandon();
        }
        result
    }

    /// Frees what was written since the last good sync: on a full disk the next attempt needs it. Files that were begun
    /// go; of one that has a good prefix goes what was written behind it. An attempt: what stays is found by a sweep.
    fn give_back(&self) {
        for tail in self.rolled.iter().chain(&self.tail) {
            let (id, base_offset) = (tail.end().id(), tail.end().base_offset);
            let is_named = |segment: &SegmentEnd| segment.base_offset == base_offset && segment.len_bytes > 0;
            let given_back = match self.synced.segments.iter().any(is_named) {
                true => tail.cut(),
                false if tail.has_file() => self.directory.unlink(id),
                false => Ok(()),
            };
            if let Err(error) = given_back {
                tracing::debug!(dir = self.dir, base_offset, %error, "a failed write keeps its space for now");
            }
        }
    }

    /// Back to the last good sync, without the files that were touched since.
    fn abandon(&mut self) {
        self.buffer = Vec::new();
        let last = self.synced.segments.last().copied().filter(|last| last.len_bytes > 0);
        let is_touched = |last: SegmentEnd| {
            let mut current = self.rolled.iter().chain(&self.tail);
            current.any(|tail| tail.end().base_offset == last.base_offset && tail.is_touched())
        };
        if last.is_some_and(is_touched) {
            self.synced.segments.push(SegmentEnd::planned(self.synced.end_offset));
        }
        self.rolled.clear();
        self.tail = tail_of(&self.synced, &self.options);
        self.next_offset = self.synced.end_offset;
        self.publish();
    }

    fn refused(&self, what: &'static str, why: String) -> StorageError {
        io_error(what, &self.dir)(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

/// How many segments lie wholly below an offset.
pub(crate) fn segments_below(ends: &Ends, offset: u64) -> usize {
    let behind = ends.segments.iter().skip(1).map(|next| next.base_offset).chain([ends.end_offset]);
    let below = ends.segments.iter().zip(behind);
    below.take_while(|(segment, behind)| segment.len_bytes > 0 && *behind <= offset).count()
}

/// The segment that is written on, if the last one has a file.
fn tail_of(ends: &Ends, options: &Options) -> Option<Tail> {
    let last = ends.segments.last().filter(|last| last.len_bytes > 0)?;
    Some(Tail::resume(*last, options))
}

fn set_of(shelf: &Arc<Shelf>, ends: &Ends, tail: Option<&Tail>) -> SegmentSet {
    let segments = ends.segments.iter().filter(|segment| segment.len_bytes > 0).copied().collect();
    let tail_index = tail.map(|tail| Arc::clone(tail.index()));
    SegmentSet::new(Arc::clone(shelf), segments, tail_index, ends.end_offset)
}

/// Segments rise, lie below the end, and only the last one may be without a file.
fn check_ends(dir: &str, ends: &Ends) -> Result<(), StorageError> {
    let rise = ends.segments.windows(2).all(|pair| pair[0].base_offset < pair[1].base_offset);
    let have_files = ends.segments.iter().rev().skip(1).all(|segment| segment.len_bytes > 0);
    let end = ends.segments.last().is_none_or(|last| match last.len_bytes {
        0 => last.base_offset == ends.end_offset,
        _ => last.base_offset < ends.end_offset,
    });
    match rise && have_files && end {
        true => Ok(()),
        false => Err(damaged(dir, 0, format!("the checkpoint's ends contradict each other: {ends:?}"))),
    }
}
