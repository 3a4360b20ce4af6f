//! Where each batch can be read: the tail cache, the journal, or segments.
//!
//! The writer adds placements as commands are applied, the flusher takes them out as segments are synced, readers
//! look up and then read without any lock held. Markers of transactions are in no file before they are in segments:
//! what they say stays with their placement, and goes with it into a checkpoint.
//!
//! ```text
//!  offsets  start ......... flushed ................. cached ......... end
//!                segments          journal read-back         tail cache
//! ```
//!
//! Invariants
//!   * per partition, placements are dense and ascending, from the flushed end to the end
//!   * the tail cache holds the newest batches of a partition, never a gap
//!   * what is evicted from the tail cache is the oldest lsn over all partitions, so an idle partition pins nothing

use crate::checkpoint::PartitionImage;
use crate::error::StorageError;
use crate::journal::{JournalReader, Placed};
use crate::landmarks::{BatchPlace, Opening};
use crate::partitions::Segments;
use crate::segment::SegmentEnd;
use exactlog_core::batch::{Batch, BatchError, Control, HEADER_BYTES, Landmarks, Record};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::Marker;
use exactlog_core::state::{AbortedTransaction, LeaderEpochStart, PartitionState, Undecided};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A batch that isn't in segments yet, and the place that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset behind its last record.
    pub next_offset: u64,
    /// The command that brought it.
    pub lsn: u64,
    /// Largest timestamp, ms.
    pub max_timestamp_ms: i64,
    /// The leader epoch that it shows.
    pub leader_epoch: u32,
    /// Where its bytes come from.
    pub source: Source,
    /// Whether its greatest timestamp is that of the append, which its header gets in its place (`LogAppendTime`).
    pub has_append_time: bool,
}

/// Where the bytes of a batch come from that isn't in segments yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The frame of the command that carried it.
    Journal {
        /// Generation of the journal file.
        generation: u64,
        /// Position in that file of the head of the frame that carries it.
        head_at: u64,
        /// Its 61-byte header lies this many bytes behind `head_at`.
        header_in_frame: u32,
        /// Its body lies this many bytes behind `head_at`.
        body_in_frame: u32,
        /// Length of its body in bytes.
        body_len: u32,
    },
    /// No command carried it: it is the marker of a transaction, and these are all its bytes.
    Marker(Control),
}

impl Located {
    /// The marker of a transaction, in its place.
    pub(crate) fn marker(marker: &Marker, lsn: u64) -> Located {
        Located {
            base_offset: marker.offset,
            next_offset: marker.offset + 1,
            lsn,
            max_timestamp_ms: marker.control.time_ms,
            leader_epoch: marker.leader_epoch,
            source: Source::Marker(marker.control),
            has_append_time: false,
        }
    }

    /// Length of its body in bytes.
    pub(crate) fn body_len(&self) -> u64 {
        /// One record with a key of 4 bytes and a value of 6.
        const MARKER_BODY_BYTES: u64 = 17;
        match self.source {
            Source::Journal { body_len, .. } => u64::from(body_len),
            Source::Marker(_) => MARKER_BODY_BYTES,
        }
    }

    /// Length of header and body in bytes.
    fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.body_len() as usize
    }

    /// The batch that its sender has sent, in its place.
    fn place(&self, batch: &Batch) -> Batch {
        match self.has_append_time {
            true => batch.placed_at_append_time(self.base_offset, self.leader_epoch, self.max_timestamp_ms),
            false => batch.placed(self.base_offset, self.leader_epoch),
        }
    }
}

/// A batch that isn't in a segment yet.
#[derive(Debug)]
pub(crate) struct Unflushed {
    /// Where it is in the journal.
    pub(crate) located: Located,
    /// Itself, if it is still in memory.
    pub(crate) cached: Option<Batch>,
}

/// What is known of one partition's bytes.
#[derive(Debug, Default)]
struct PartitionIndex {
    start_offset: u64,
    end_offset: u64,
    flushed_offset: u64,
    /// Where each leader epoch begins, ascending.
    leader_epochs: Vec<LeaderEpochStart>,
    placed: VecDeque<Located>,
    tail: VecDeque<Batch>,
}

/// The index over all partitions of a shard. Shared by the writer, the flusher and all readers.
#[derive(Debug)]
pub struct Index {
    partitions: RwLock<BTreeMap<Partition, Arc<Mutex<PartitionIndex>>>>,
    /// Tail entries over all partitions in the order of their lsn: (partition, bytes).
    cached: Mutex<VecDeque<(Partition, u32)>>,
    cached_bytes: AtomicU64,
    cache_limit_bytes: u64,
    /// Placements over all partitions.
    placed: AtomicU64,
    /// Tells what is in it from what other opens of the log had there.
    opening: Opening,
}

/// Book-keeping of one cached batch besides its body, in bytes.
const CACHED_OVERHEAD_BYTES: usize = HEADER_BYTES + 64;

/// What a reader found.
#[derive(Debug)]
enum Found {
    Batches(Vec<Batch>),
    InJournal(Vec<Located>),
    Flushed,
    Nothing,
}

impl Index {
    /// An empty index whose tail cache holds at most about this many bytes.
    pub fn new(cache_limit_bytes: u64) -> Index {
        Index {
            partitions: RwLock::default(),
            cached: Mutex::default(),
            cached_bytes: AtomicU64::new(0),
            cache_limit_bytes,
            placed: AtomicU64::new(0),
            opening: Opening::new(),
        }
    }

    fn partition(&self, partition: Partition) -> Option<Arc<Mutex<PartitionIndex>>> {
        self.partitions.read().get(&partition).cloned()
    }

    fn partition_or_new(&self, partition: Partition) -> Arc<Mutex<PartitionIndex>> {
        if let Some(found) = self.partition(partition) {
            return found;
        }
        self.partitions.write().entry(partition).or_default().clone()
    }

    /// Records a batch that was applied. `batch` is the placed one, if it is to be cached: then its body must not keep
    /// a larger buffer alive, or the cache's limit means nothing.
    pub fn add(&self, partition: Partition, located: Located, batch: Option<Batch>) {
        let found = self.partition_or_new(partition);
        let mut entry = found.lock();
        debug_assert!(entry.placed.back().is_none_or(|last| last.next_offset == located.base_offset));
        entry.placed.push_back(located);
        self.placed.fetch_add(1, Ordering::Relaxed);
        entry.end_offset = located.next_offset;
        let (leader_epoch, start_offset) = (located.leader_epoch, located.base_offset);
        if entry.leader_epochs.last().is_none_or(|last| last.leader_epoch < leader_epoch) {
            entry.leader_epochs.push(LeaderEpochStart { leader_epoch, start_offset });
        }
        match batch.filter(|_| self.cache_limit_bytes > 0) {
            Some(batch) => {
                let bytes = (batch.body().len() + CACHED_OVERHEAD_BYTES) as u32;
                entry.tail.push_back(batch);
                drop(entry);
                self.cached.lock().push_back((partition, bytes));
                self.cached_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            None => {
                debug_assert!(entry.tail.is_empty(), "the tail has no gap");
            }
        }
    }

    /// Evicts the oldest cached batches until the cache is within its limit. Called by the writer, once per group.
    pub fn evict(&self) {
        if self.cached_bytes.load(Ordering::Relaxed) <= self.cache_limit_bytes {
            return;
        }
        let mut cached = self.cached.lock();
        while self.cached_bytes.load(Ordering::Relaxed) > self.cache_limit_bytes {
            let Some((partition, bytes)) = cached.pop_front() else { return };
            if let Some(found) = self.partition(partition) {
                let evicted = found.lock().tail.pop_front();
                drop(evicted);
            }
            self.cached_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Forgets the cached batches of a partition below an offset: from now on they are read from segments, which are
    /// about to hold less of them.
    pub(crate) fn forget_cached(&self, partition: Partition, below: u64) {
        let Some(found) = self.partition(partition) else { return };
        let mut cached = self.cached.lock();
        let mut entry = found.lock();
        let gone = first_behind(&entry.tail, |batch| batch.next_offset() <= below);
        entry.tail.drain(..gone);
        drop(entry);
        let mut left = gone;
        // They are the oldest of the partition in here, too.
        cached.retain(|(of, bytes)| {
            let goes = left > 0 && *of == partition;
            if goes {
                left -= 1;
                self.cached_bytes.fetch_sub(u64::from(*bytes), Ordering::Relaxed);
            }
            !goes
        });
    }

    /// Enters a partition as a checkpoint has it: what is flushed, and what isn't.
    pub(crate) fn restore(&self, partition: Partition, state: &PartitionState, image: &PartitionImage) {
        let found = self.partition_or_new(partition);
        let mut entry = found.lock();
        entry.start_offset = state.start;
        entry.end_offset = state.end;
        entry.leader_epochs.clone_from(&state.leader_epochs);
        entry.flushed_offset = image.ends.end_offset;
        entry.placed = image.placed.iter().copied().collect();
        self.placed.fetch_add(image.placed.len() as u64, Ordering::Relaxed);
    }

    /// All partitions that ever got a batch, ascending.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        self.partitions.read().keys().copied().collect()
    }

    /// First offset that can be read.
    pub(crate) fn start_offset(&self, partition: Partition) -> u64 {
        self.partition(partition).map_or(0, |found| found.lock().start_offset)
    }

    /// Batches from `offset` on of commands up to `lsn`, at most about `bytes_max` bytes, that aren't flushed.
    pub(crate) fn unflushed(
        &self,
        partition: Partition,
        offset: u64,
        lsn: u64,
        bytes_max: usize,
    ) -> Vec<Unflushed> {
        let Some(found) = self.partition(partition) else { return Vec::new() };
        let entry = found.lock();
        let from = entry.placed.partition_point(|located| located.base_offset < offset);
        let due = entry.placed.range(from..).take_while(|located| located.lsn <= lsn);
        let due = take_up_to(due, bytes_max, Located::len_bytes);
        // Both end with the newest batch.
        let only_in_journal = entry.placed.len().saturating_sub(entry.tail.len());
        let more_in_tail = entry.tail.len().saturating_sub(entry.placed.len());
        let cached = |nth: usize| entry.tail.get((nth + more_in_tail).checked_sub(only_in_journal)?).cloned();
        due.zip(from..).map(|(located, nth)| Unflushed { located: *located, cached: cached(nth) }).collect()
    }

    /// What a checkpoint keeps of the journal's part of a partition.
    pub(crate) fn placed(&self, partition: Partition, from_offset: u64) -> Vec<Located> {
        let Some(found) = self.partition(partition) else { return Vec::new() };
        let entry = found.lock();
        let from = entry.placed.partition_point(|located| located.base_offset < from_offset);
        entry.placed.range(from..).copied().collect()
    }

    /// Everything below `offset` is in segments now, and readable there.
    pub(crate) fn flushed(&self, partition: Partition, offset: u64) {
        let Some(found) = self.partition(partition) else { return };
        let mut entry = found.lock();
        entry.flushed_offset = entry.flushed_offset.max(offset);
        let below = entry.placed.partition_point(|located| located.next_offset <= offset);
        entry.placed.drain(..below);
        self.placed.fetch_sub(below as u64, Ordering::Relaxed);
        if entry.placed.capacity() > 1024 && entry.placed.len() * 4 < entry.placed.capacity() {
            entry.placed.shrink_to_fit();
        }
    }

    /// Bytes of a partition that are only in the journal.
    pub(crate) fn unflushed_bytes(&self, partition: Partition) -> u64 {
        let placed = |found: Arc<Mutex<PartitionIndex>>| {
            found.lock().placed.iter().map(|located| located.len_bytes() as u64).sum()
        };
        self.partition(partition).map_or(0, placed)
    }

    /// The time of what has been longest in the journal alone, ms: that of the last record of its batch.
    pub(crate) fn oldest_unflushed_ms(&self, partition: Partition) -> Option<i64> {
        let found = self.partition(partition)?;
        let entry = found.lock();
        entry.placed.front().map(|located| located.max_timestamp_ms)
    }

    /// Number of batches that are only in the journal.
    pub fn unflushed_batches(&self) -> usize {
        self.placed.load(Ordering::Relaxed) as usize
    }

    /// Raises the first offset that can be read.
    pub fn trim(&self, partition: Partition, start_offset: u64) {
        let found = self.partition_or_new(partition);
        let mut entry = found.lock();
        entry.start_offset = entry.start_offset.max(start_offset);
    }

    /// Bytes that the tail cache holds now.
    pub fn cached_bytes(&self) -> u64 {
        self.cached_bytes.load(Ordering::Relaxed)
    }

    fn find(&self, partition: Partition, offset: u64, max_bytes: usize) -> Found {
        let Some(found) = self.partition(partition) else { return Found::Nothing };
        let entry = found.lock();
        if offset >= entry.end_offset {
            return Found::Nothing;
        }
        if entry.tail.front().is_some_and(|first| first.base_offset() <= offset) {
            let from = first_behind(&entry.tail, |batch| batch.next_offset() <= offset);
            let batches = take_up_to(entry.tail.range(from..), max_bytes, Batch::len_bytes);
            return Found::Batches(batches.cloned().collect());
        }
        if entry.placed.front().is_some_and(|first| first.base_offset <= offset) {
            let from = first_behind(&entry.placed, |located| located.next_offset <= offset);
            let located = take_up_to(entry.placed.range(from..), max_bytes, Located::len_bytes);
            return Found::InJournal(located.copied().collect());
        }
        Found::Flushed
    }

    /// A batch from a segment, under the leader epoch that the state knows for its offset: in the segment those four
    /// bytes lie outside the batch's checksum.
    fn under_its_epoch(&self, partition: Partition, batch: Batch) -> Batch {
        let Some(found) = self.partition(partition) else { return batch };
        let (entry, offset) = (found.lock(), batch.base_offset());
        let begun = entry.leader_epochs.partition_point(|epoch| epoch.start_offset <= offset);
        match begun.checked_sub(1).map(|last| entry.leader_epochs[last].leader_epoch) {
            Some(epoch) if batch.leader_epoch() != epoch as i32 => batch.placed(offset, epoch),
            _ => batch,
        }
    }

    /// Forgets the partitions of a deleted topic.
    pub fn remove_topic(&self, topic: TopicId) {
        self.partitions.write().retain(|partition, found| {
            if partition.topic == topic {
                // Taken out: a flush that has it in its hands counts nothing a second time.
                let gone = std::mem::take(&mut found.lock().placed);
                self.placed.fetch_sub(gone.len() as u64, Ordering::Relaxed);
            }
            partition.topic != topic
        });
    }

    /// Recovery has written the newest frames into another journal file: their batches lie there now.
    pub(crate) fn relocate(&self, moved: &BTreeMap<u64, Placed>) {
        let Some(first) = moved.keys().next() else { return };
        for found in self.partitions.read().values() {
            for located in found.lock().placed.iter_mut().rev().take_while(|located| located.lsn >= *first) {
                if let (Some(placed), Source::Journal { generation, head_at, .. }) =
                    (moved.get(&located.lsn), &mut located.source)
                {
                    (*generation, *head_at) = (placed.generation, placed.head_at);
                }
            }
        }
    }
}

/// As [`VecDeque::partition_point`], for what is mostly asked about the end: it looks there first. Halving a long queue
/// touches memory all over it.
fn first_behind<T>(items: &VecDeque<T>, is_before: impl Fn(&T) -> bool) -> usize {
    const NEAR_THE_END: usize = 4;
    let near = items.iter().rev().take(NEAR_THE_END).take_while(|item| !is_before(item)).count();
    match near < NEAR_THE_END {
        true => items.len() - near,
        false => items.partition_point(is_before),
    }
}

/// The first items that fit into `max_bytes`, and at least one.
fn take_up_to<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    max_bytes: usize,
    len: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &'a T> {
    let mut total = 0usize;
    items.take_while(move |item| {
        let first = total == 0;
        total = total.saturating_add(len(item));
        first || total <= max_bytes
    })
}

/// Reads batches from wherever they are. Cheap to clone; used from any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    index: Arc<Index>,
    journal: JournalReader,
    segments: Arc<Segments>,
}

/// What a reader of committed records gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Batches below the last stable offset: also markers, and those of aborted transactions.
    pub batches: Vec<Batch>,
    /// The aborted transactions that overlap them, in the order of their first offsets.
    pub aborted: Vec<AbortedTransaction>,
    /// Nothing from here on is decided.
    pub last_stable_offset: u64,
}

impl Committed {
    /// What `read` has of a partition in this state, from `offset` on. It isn't asked for what isn't decided.
    ///
    /// # Errors
    /// What `read` answers.
    pub fn of(
        state: &PartitionState,
        offset: u64,
        read: impl FnOnce() -> Result<Vec<Batch>, StorageError>,
    ) -> Result<Committed, StorageError> {
        let last_stable_offset = state.last_stable_offset();
        let mut batches = if offset < last_stable_offset { read()? } else { Vec::new() };
        // It is the first offset of a batch, or the end.
        batches.retain(|batch| batch.base_offset() < last_stable_offset);
        let upper = batches.last().map_or(offset, Batch::next_offset);
        let aborted = state.aborted_between(offset, upper);
        Ok(Committed { batches, aborted, last_stable_offset })
    }
}

/// A batch, and what leads to single records of it.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The batch.
    pub batch: Batch,
    /// Of these very bytes. None: it isn't worth while, or it can't be taken apart, which reading a record will tell.
    landmarks: Option<Arc<Landmarks>>,
}

impl LookedUp {
    /// A batch that was had from elsewhere.
    pub fn of(batch: Batch) -> LookedUp {
        LookedUp { batch, landmarks: None }
    }

    /// The record at an offset, if there is one.
    ///
    /// # Errors
    /// As [`Batch::record_at`].
    pub fn record(&self, offset: u64) -> Result<Option<Record>, BatchError> {
        self.batch.record_at(offset, self.landmarks.as_deref())
    }
}

/// How many of a batch's records lie within these offsets.
pub fn records_within(batch: &Batch, offsets: Range<u64>) -> u64 {
    let (from, to) = (batch.base_offset().max(offsets.start), batch.next_offset().min(offsets.end));
    let is_whole = (from, to) == (batch.base_offset(), batch.next_offset());
    match batch.is_sparse() {
        true if is_whole => u64::from(batch.record_count()),
        true => {
            let within = |record: &Record| (from..to).contains(&record.offset);
            batch.records().map_while(Result::ok).filter(within).count() as u64
        }
        false => to.saturating_sub(from),
    }
}

/// How often a look-up is repeated when what it found moved before it was read.
const MOVES_MAX: usize = 16;

impl Reader {
    /// A reader over an index and what it points into.
    pub fn new(index: Arc<Index>, journal: JournalReader, segments: Arc<Segments>) -> Reader {
        Reader { index, journal, segments }
    }

    /// Lets go of segments that were mapped for reads, and that nobody has read since this was called last: what is
    /// mapped counts as memory of the process, though the system takes it back when it needs some. The next read maps
    /// them again.
    pub fn close_unread(&self) {
        self.segments.close_unread();
    }

    /// Start and end offset of a partition: what can be read, and what the next record will get.
    pub fn bounds(&self, partition: Partition) -> (u64, u64) {
        self.index.partition(partition).map_or((0, 0), |found| {
            let entry = found.lock();
            (entry.start_offset, entry.end_offset)
        })
    }

    /// What a partition's segments take on disk, in bytes, without their indexes. What is only in the journal isn't
    /// among it.
    pub fn segment_bytes(&self, partition: Partition) -> u64 {
        self.segments.ends(partition).segments.iter().map(|segment| segment.len_bytes).sum()
    }

    /// Batches from the one that holds `offset` on, up to `max_bytes` but at least one; none if `offset` is at or
    /// behind the end. Base offset and leader epoch are set. Doesn't look at the start offset: that is the caller's.
    pub fn read(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, StorageError> {
        let mut moved = None;
        for _ in 0..MOVES_MAX {
            let read = match self.index.find(partition, offset, max_bytes) {
                Found::Batches(batches) => return Ok(batches),
                Found::Nothing => return Ok(Vec::new()),
                Found::Flushed => {
                    let set = self.segments.set(partition)?;
                    let batches = match set.read(offset, max_bytes) {
                        // Compaction has put others in the place of these, and their files may be gone.
                        Err(_) if !Arc::ptr_eq(&set, &self.segments.set(partition)?) => continue,
                        read => read?,
                    };
                    let known = |batch| self.index.under_its_epoch(partition, batch);
                    return Ok(batches.into_iter().map(known).collect());
                }
                Found::InJournal(located) => located.iter().map(|located| self.read_back(located)).collect(),
            };
            match read {
                // The flusher was faster: by now it is in a segment.
                Err(error @ StorageError::Recycled { .. }) => moved = Some(error),
                read => return read,
            }
        }
        match moved {
            Some(moved) => Err(moved),
            // Segments were replaced as often as that: what is there now is read, whatever it says.
            None => self.segments.set(partition)?.read(offset, max_bytes),
        }
    }

    /// The batch that holds `offset`, or the first behind it, to read single records from; none at or behind the end.
    /// Doesn't look at the start offset: that is the caller's.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn look_up(&self, partition: Partition, offset: u64) -> Result<Option<LookedUp>, StorageError> {
        let landmarks = |place, batch: &Batch| self.segments.landmarks.of(place, batch).ok().flatten();
        match self.index.find(partition, offset, 1) {
            Found::Batches(batches) => {
                let batch = batches.into_iter().next();
                return Ok(batch.map(|batch| {
                    let (opening, base_offset) = (self.index.opening, batch.base_offset());
                    let place = BatchPlace::Appended { opening, partition, base_offset };
                    LookedUp { landmarks: landmarks(place, &batch), batch }
                }));
            }
            Found::Flushed => {
                if let Ok(Some((batch, place))) = self.segments.set(partition)?.batch_of(offset) {
                    let landmarks = place.and_then(|place| landmarks(place, &batch));
                    return Ok(Some(LookedUp {
                        batch: self.index.under_its_epoch(partition, batch),
                        landmarks,
                    }));
                }
            }
            Found::InJournal(_) | Found::Nothing => {}
        }
        // In the journal, or moved meanwhile; or damaged: that is said there.
        let batch = self.read(partition, offset, 1)?.into_iter().next();
        Ok(batch.map(|batch| LookedUp { batch, landmarks: None }))
    }

    /// As [`Reader::read`], for readers of committed records (`read_committed`, KIP-98): batches below the last stable
    /// offset only, and which of them belong to aborted transactions. `state` is the partition as of the moment that is
    /// read.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_committed(
        &self,
        partition: Partition,
        state: &PartitionState,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Committed, StorageError> {
        Committed::of(state, offset, || self.read(partition, offset, max_bytes))
    }

    /// Number of records from `from` up to and without `to` that readers of committed records get: without markers, and
    /// without what `undecided` hides. Reads all of it.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn count_shown(
        &self,
        partition: Partition,
        from: u64,
        to: u64,
        undecided: &Undecided,
    ) -> Result<u64, StorageError> {
        let (mut count, mut offset) = (0, from);
        let clean = self.clean_segments(partition);
        while offset < to {
            // Of a segment that was compacted it is known.
            if let Some((next, records)) = clean.get(&offset).filter(|(next, _)| *next <= to) {
                (count, offset) = (count + records, *next);
                continue;
            }
            let batches = self.read(partition, offset, 1024 * 1024)?;
            let Some(last) = batches.last() else { break };
            offset = last.next_offset();
            let shown = batches.iter().filter(|batch| undecided.shows(batch));
            count += shown.map(|batch| records_within(batch, from..to)).sum::<u64>();
        }
        Ok(count)
    }

    /// Whether there are fewer records than offsets from here on, since some were compacted.
    pub fn is_sparse(&self, partition: Partition, from: u64) -> bool {
        let ends = self.segments.ends(partition);
        let behind = ends.segments.iter().skip(1).map(|next| next.base_offset).chain([ends.end_offset]);
        ends.segments.iter().zip(behind).any(|(segment, behind)| segment.sparse && behind > from)
    }

    /// The segments that were compacted, by their first offsets: the offset behind them, and how many records they
    /// show.
    fn clean_segments(&self, partition: Partition) -> BTreeMap<u64, (u64, u64)> {
        let ends = self.segments.ends(partition);
        let clean =
            |pair: &[SegmentEnd]| Some((pair[0].base_offset, (pair[1].base_offset, pair[0].clean_records?)));
        ends.segments.windows(2).filter_map(clean).collect()
    }

    /// Whether both read the same open of the log.
    pub fn is_of_same_open(&self, other: &Reader) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
    }

    /// Offset and timestamp of the first record whose timestamp is at or after `timestamp_ms`.
    pub fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, StorageError> {
        let Some(found) = self.index.partition(partition) else { return Ok(None) };
        let (start, flushed, candidate) = {
            let entry = found.lock();
            let start = entry.start_offset;
            let holds =
                |located: &&Located| located.max_timestamp_ms >= timestamp_ms && located.next_offset > start;
            let candidate = entry.placed.iter().find(holds).map(|located| located.base_offset);
            (start, entry.flushed_offset, candidate)
        };
        if flushed > start {
            let first = self.segments.set(partition)?.first_at_or_after(timestamp_ms)?;
            match first {
                Some((offset, _)) if offset >= start => return Ok(first),
                // What was trimmed doesn't count: look on from the start.
                Some(_) => return self.scan_for(partition, start, start, timestamp_ms),
                None => {}
            }
        }
        let Some(base_offset) = candidate else { return Ok(None) };
        self.scan_for(partition, base_offset, start, timestamp_ms)
    }

    /// The greatest timestamp that a record of a partition may have, ms; `None` if there is none.
    pub fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, StorageError> {
        let Some(found) = self.index.partition(partition) else { return Ok(None) };
        let (start, flushed, placed) = {
            let entry = found.lock();
            let placed = entry.placed.iter().map(|located| located.max_timestamp_ms).max();
            (entry.start_offset, entry.flushed_offset, placed)
        };
        let in_segments = match flushed > start {
            true => self.segments.set(partition)?.greatest_timestamp_ms(),
            false => None,
        };
        Ok(placed.max(in_segments))
    }

    fn scan_for(
        &self,
        partition: Partition,
        mut offset: u64,
        start: u64,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, StorageError> {
        loop {
            let batches = self.read(partition, offset, 1024 * 1024)?;
            let Some(last) = batches.last() else { return Ok(None) };
            let next = last.next_offset();
            for batch in batches.iter().filter(|batch| batch.max_timestamp_ms() >= timestamp_ms) {
                for record in batch.records() {
                    match record {
                        Ok(record) if record.timestamp_ms >= timestamp_ms && record.offset >= start => {
                            return Ok(Some((record.offset, record.timestamp_ms)));
                        }
                        Ok(_) => {}
                        // A batch that can't be taken apart stands for its records, as in segments.
                        Err(_) => {
                            return Ok(Some((batch.base_offset().max(start), batch.max_timestamp_ms())));
                        }
                    }
                }
            }
            offset = next;
        }
    }

    /// Body and header from the journal, or a marker as it is; place from the index; the CRC-32C is checked.
    pub(crate) fn read_back(&self, located: &Located) -> Result<Batch, StorageError> {
        let (generation, head_at, header_in_frame, body_in_frame) = match located.source {
            Source::Journal { generation, head_at, header_in_frame, body_in_frame, .. } => {
                (generation, head_at, header_in_frame, body_in_frame)
            }
            Source::Marker(control) => {
                return Ok(Batch::control(&control).placed(located.base_offset, located.leader_epoch));
            }
        };
        let body_len = located.body_len() as usize;
        let header_at = head_at + u64::from(header_in_frame);
        let body_at = head_at + u64::from(body_in_frame);
        let (header, body) = if header_at + HEADER_BYTES as u64 == body_at {
            let len = (HEADER_BYTES + body_len) as u64;
            let mut both = self.journal.read_at(generation, header_at, len)?;
            let header = both.split_to(HEADER_BYTES);
            (header, both)
        } else {
            let header = self.journal.read_at(generation, header_at, HEADER_BYTES as u64)?;
            (header, self.journal.read_at(generation, body_at, body_len as u64)?)
        };
        let mut fixed = [0; HEADER_BYTES];
        fixed.copy_from_slice(&header);
        let batch = Batch::from_parts(fixed, body)
            .map_err(|error| self.journal.damaged(generation, header_at, error.to_string()))?;
        let placed = located.place(&batch);
        if placed.next_offset() != located.next_offset
            || placed.max_timestamp_ms() != located.max_timestamp_ms
        {
            let what = format!(
                "a batch up to offset {} and time {}, not up to {} and {}",
                placed.next_offset(),
                placed.max_timestamp_ms(),
                located.next_offset,
                located.max_timestamp_ms
            );
            return Err(self.journal.damaged(generation, header_at, what));
        }
        Ok(placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_core::batch::BatchBuilder;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_in_memory_is_handed_out_with_the_place_that_it_has_in_the_journal(
            cache_limit_bytes in 0_u64..2_000,
            batches in 1_u64..30,
            flushed in 0_u64..30,
            from in 0_u64..30,
        ) {
            let (index, partition) = (Index::new(cache_limit_bytes), Partition { topic: TopicId(1), index: 0 });
            for offset in 0..batches {
                let mut builder = BatchBuilder::new(0);
                builder.append(offset as i64, None, Some(b"value"), &[]);
                let batch = builder.finish(None).placed(offset, 1);
                let located = Located {
                    base_offset: offset,
                    next_offset: offset + 1,
                    lsn: offset + 1,
                    max_timestamp_ms: offset as i64,
                    leader_epoch: 1,
                    source: Source::Journal {
                        generation: 1,
                        head_at: 0,
                        header_in_frame: 0,
                        body_in_frame: 0,
                        body_len: batch.body().len() as u32,
                    },
                    has_append_time: false,
                };
                index.add(partition, located, Some(batch));
                index.evict();
            }
            index.flushed(partition, flushed.min(batches));
            let due = index.unflushed(partition, from, u64::MAX, usize::MAX);
            prop_assert_eq!(due.len() as u64, batches.saturating_sub(from.max(flushed)));
            let in_tail = index.partition(partition).unwrap().lock().tail.len();
            let cached = due.iter().filter(|it| it.cached.is_some()).count();
            prop_assert_eq!(cached, due.len().min(in_tail));
            for Unflushed { located, cached } in due {
                prop_assert!(cached.is_none_or(|batch| batch.base_offset() == located.base_offset));
            }
        }

        #[test]
        fn looking_near_the_end_first_finds_what_halving_finds(len in 0_u64..20, offset in 0_u64..25) {
            let items: VecDeque<u64> = (0..len).collect();
            let is_before = |item: &u64| *item < offset;
            prop_assert_eq!(first_behind(&items, is_before), items.partition_point(is_before));
        }
    }
}
