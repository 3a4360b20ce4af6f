//! A view of everything as of one position of the log (semantics TX-25), and the records in it. What it shows of tables
//! is in `scan.rs`.
//!
//! ```text
//!   Records:  next -> [ready] -> Some(record)
//!                      empty  -> one read of a piece -> [ready] | the next partition | an error, then None for good
//! ```
//!
//! Not here: following the end. That is a consumer's.
//!
//! Invariants
//!   * nothing that was committed behind the view's position is shown, nor anything that wasn't committed there
//!   * `Records` holds at most one piece in memory, and yields at most one error, as its last item

use crate::error::Error;
use crate::event::Record;
use crate::log::{Handle, Inner};
use crate::table::Table;
use crate::topic::Topic;
use crate::unpacking::{record_of, unpack};
use exactlog_core::batch::Batch;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::state::{self, PartitionState, Tables};
use std::collections::BTreeMap;
use std::iter::FusedIterator;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Everything as of one position: each transaction wholly or not at all, over all partitions.
///
/// ```
/// # use exactlog::{Event, Log, TopicOptions};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// # let orders = log.create_topic("orders", TopicOptions::default().partitions(6))?;
/// # log.producer("shop")?.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
/// for record in log.read_view().records(&orders) {
///     let record = record?;
///     println!("{}: {}", record.key_str()?, record.value_str()?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Cheap to clone. It pins no records: what is trimmed meanwhile answers [`Error::RecordsLost`]. After
/// `read.view.max.ms` (60 s, see [`Builder::read_view_max`](crate::Builder::read_view_max)) it ends.
#[derive(Clone, Debug)]
pub struct ReadView {
    inner: Handle,
    csn: u64,
    shown: Arc<Shown>,
}

/// What a view shows, and since when.
#[derive(Debug)]
struct Shown {
    topics: BTreeMap<TopicId, Arc<exactlog_core::state::Topic>>,
    tables: Tables,
    opened: Instant,
}

/// The views that there are: what they show is not compacted away.
#[derive(Debug)]
pub(crate) struct Views {
    shown: Vec<Weak<Shown>>,
    life: Duration,
    /// With how many of them it is time to look which are gone.
    look_at: usize,
}

impl Views {
    /// Each can be read for so long.
    pub(crate) fn new(life: Duration) -> Views {
        Views { shown: Vec::new(), life, look_at: 0 }
    }

    /// Adds one; those that are gone go when there may be twice as many as were needed last.
    fn add(&mut self, shown: &Arc<Shown>) {
        if self.shown.len() >= self.look_at {
            self.shown.retain(|shown| shown.strong_count() > 0);
            self.look_at = 2 * self.shown.len() + 16;
        }
        self.shown.push(Arc::downgrade(shown));
    }

    /// What lies below this offset is decided in each of them that can still be read, so the last value of a key there
    /// is the last one that it shows.
    pub(crate) fn limit(&mut self, partition: Partition) -> u64 {
        self.shown.retain(|shown| shown.strong_count() > 0);
        let readable = self.shown.iter().filter_map(Weak::upgrade);
        let readable = readable.filter(|shown| shown.opened.elapsed() < self.life);
        let of = |shown: Arc<Shown>| {
            let found = shown.topics.get(&partition.topic)?.partitions.get(partition.index as usize)?;
            Some(found.last_stable_offset())
        };
        readable.filter_map(of).min().unwrap_or(u64::MAX)
    }
}

impl ReadView {
    pub(crate) fn new(inner: &Handle) -> ReadView {
        // Registered before the state is released: what is compacted meanwhile has seen it, or is older.
        let mut views = inner.views.lock();
        let state = inner.state.read();
        let (topics, tables) = (state.topics.clone(), state.tables.clone());
        let shown = Arc::new(Shown { topics, tables, opened: Instant::now() });
        views.add(&shown);
        ReadView { inner: inner.clone(), csn: state.lsn, shown }
    }

    /// The position that it shows: all that was committed up to it, and nothing later.
    pub fn csn(&self) -> u64 {
        self.csn
    }

    /// The offset behind the last record that it shows.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`], also for a topic that is newer than the view.
    pub fn end(&self, topic: &Topic, partition: u32) -> Result<u64, Error> {
        self.partition(topic, partition).map(|found| found.end)
    }

    /// The partition as it was when the view was opened: it knows what wasn't decided then.
    fn partition(&self, topic: &Topic, partition: u32) -> Result<&PartitionState, Error> {
        let found =
            self.shown.topics.get(&topic.id()).and_then(|found| found.partitions.get(partition as usize));
        found.map(|found| &**found).ok_or_else(|| Error::NoSuchPartition {
            topic: topic.name().to_string(),
            partition,
            partitions: self.shown.topics.get(&topic.id()).map_or(0, |found| found.partitions.len() as u32),
        })
    }

    /// All records of a topic: partition by partition in the order of their indexes, in each from the first record that
    /// can be read to the view's end. Records that are trimmed before the turn of their partition are left out.
    ///
    /// It reads pieces of about 1 MiB when they are needed, and has one of them in memory. An error is its last item,
    /// an expired view too: [`read_view_max`](crate::Builder::read_view_max) has to allow for reading all of it.
    ///
    /// # Errors
    /// The items': as [`read`](ReadView::read), and [`Error::NoSuchPartition`] for a topic that was deleted or is newer
    /// than the view.
    pub fn records(&self, topic: &Topic) -> Records<'_> {
        // Those that were added since aren't part of it.
        let shown = self.shown.topics.get(&topic.id()).map(|shown| shown.partitions.len() as u32);
        let partitions = shown.unwrap_or_else(|| topic.partitions());
        Records::new(self, topic, 0..=partitions.saturating_sub(1), None)
    }

    /// The records of one partition from `offset` on, to the view's end. Else as [`records`](ReadView::records).
    ///
    /// # Errors
    /// The items': as [`read`](ReadView::read). An offset below the first that can be read is [`Error::RecordsLost`];
    /// [`Log::bounds`](crate::Log::bounds) tells where to begin.
    pub fn records_from(&self, topic: &Topic, partition: u32, offset: u64) -> Records<'_> {
        Records::new(self, topic, partition..=partition, Some(offset))
    }

    /// Records from `offset` on, at most to the view's end; at least one if there is one, then up to `max_bytes`. Those
    /// of wire transactions are shown if they were committed when the view was opened, also behind one that was open.
    /// Bytes are counted in uncompressed batches.
    ///
    /// # Errors
    /// [`Error::ViewExpired`], [`Error::RecordsLost`], [`Error::OffsetOutOfRange`] behind the view's end,
    /// [`Error::UnreadableBatch`] when the batch at `offset` can't be read: go on at its `to`. [`Error::Closed`].
    pub fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        self.check_life()?;
        let end = self.end(topic, partition)?;
        self.check_end(topic, partition, offset, end)?;
        let (mut offset, mut records) = (offset, Vec::new());
        while records.is_empty() {
            let batches = self.read_batches(topic, partition, offset, max_bytes)?;
            let Some(last) = batches.last() else { break };
            let upper = last.next_offset().min(end);
            let undecided = self.partition(topic, partition)?.undecided_between(offset, upper);
            records =
                unpack(topic, partition, &batches, &undecided, offset..end, usize::MAX, max_bytes)?.records;
            // Where nothing is shown, what is behind it is looked for.
            offset = upper;
        }
        Ok(records)
    }

    /// The record at one offset; `None`: there is none that is shown, since it was compacted away, is a marker or of a
    /// transaction that wasn't committed, or the offset is the view's end.
    ///
    /// It is the fast way to one record out of a large batch: of a closed segment, the batch's checksum is computed
    /// once for as long as the segment stays mapped, and the records in front are passed over.
    ///
    /// # Errors
    /// As [`read`](ReadView::read).
    ///
    /// ```
    /// # use exactlog::{Event, Log, TopicOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = Log::open(directory.path())?;
    /// # let orders = log.create_topic("orders", TopicOptions::default())?;
    /// let sent = log.producer("shop")?.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
    /// let record = log.read_view().record(&orders, sent.partition, sent.offset)?.expect("it was sent");
    /// assert_eq!(record.value_str()?, "two chairs");
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self, topic: &Topic, partition: u32, offset: u64) -> Result<Option<Record>, Error> {
        self.check_life()?;
        let found = self.partition(topic, partition)?;
        if offset >= found.end {
            return self.check_end(topic, partition, offset, found.end).map(|()| None);
        }
        let looked_up = self.inner.look_up(topic, partition, offset);
        // Asked behind the read, as in `read_batches`.
        self.check_start(topic, partition, offset, found.end)?;
        let looked_up = looked_up?;
        let undecided = found.undecided_between(offset, looked_up.batch.next_offset().min(found.end));
        record_of(topic, partition, &looked_up, &undecided, offset)
    }

    /// Whether the view reaches this far.
    pub(crate) fn check_end(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        end: u64,
    ) -> Result<(), Error> {
        let (start, _) = self.inner.bounds(topic, partition)?;
        check_end(topic, partition, offset, start..end)
    }

    /// Whether what was at this offset was trimmed.
    fn check_start(&self, topic: &Topic, partition: u32, offset: u64, end: u64) -> Result<(), Error> {
        let start = self.inner.bounds(topic, partition)?.0.min(end);
        check_start(topic, partition, offset, start)
    }

    /// Whether it can still be read.
    pub(crate) fn check_life(&self) -> Result<(), Error> {
        self.inner.check_open()?;
        let life = self.inner.read_view_max;
        match self.shown.opened.elapsed() >= life {
            true => Err(Error::ViewExpired { max_ms: u64::try_from(life.as_millis()).unwrap_or(u64::MAX) }),
            false => Ok(()),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.inner
    }

    /// The places of a table's keys as of its position.
    pub(crate) fn index_of(&self, table: &Table) -> Result<&Arc<state::Table>, Error> {
        self.shown.tables.get(table.topic().id()).ok_or_else(|| table.is_gone())
    }

    /// Batches from `offset` on, none at the view's end.
    pub(crate) fn read_batches(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, Error> {
        let end = self.end(topic, partition)?;
        let (start, _) = self.inner.bounds(topic, partition)?;
        let read = match offset < end && offset >= start {
            true => self.inner.batches(topic, partition, offset, max_bytes),
            false => Ok(Vec::new()),
        };
        // Asked again behind the read: what is trimmed meanwhile may be gone from the disk.
        self.check_start(topic, partition, offset, end)?;
        Ok(read?)
    }
}

/// Whether an offset is none behind the end.
fn check_end(topic: &Topic, partition: u32, offset: u64, bounds: Range<u64>) -> Result<(), Error> {
    let Range { start, end } = bounds;
    match offset > end {
        true => {
            let topic = topic.name().to_string();
            Err(Error::OffsetOutOfRange { topic, partition, offset, start, end })
        }
        false => Ok(()),
    }
}

/// Whether what was at an offset was trimmed.
fn check_start(topic: &Topic, partition: u32, offset: u64, start: u64) -> Result<(), Error> {
    match offset < start {
        true => {
            let topic = topic.name().to_string();
            Err(Error::RecordsLost { topic, partition, from: offset, to: start })
        }
        false => Ok(()),
    }
}

/// The record at an offset as of now: what a view would show that is opened for it.
pub(crate) fn newest_record(
    inner: &Inner,
    topic: &Topic,
    partition: u32,
    offset: u64,
) -> Result<Option<Record>, Error> {
    inner.check_open()?;
    let (start, end) = inner.bounds(topic, partition)?;
    if offset >= end {
        return check_end(topic, partition, offset, start..end).map(|()| None);
    }
    let looked_up = inner.look_up(topic, partition, offset);
    let upper = looked_up.as_ref().map_or(offset, |found| found.batch.next_offset().min(end));
    // Asked behind the read: what is trimmed meanwhile may be gone from the disk.
    let (start, undecided) = inner.undecided(topic, partition, offset, upper)?;
    check_start(topic, partition, offset, start)?;
    record_of(topic, partition, &looked_up?, &undecided, offset)
}

/// The records of a topic, or of one partition, as a view shows them. Made by [`ReadView::records`] and
/// [`ReadView::records_from`].
#[derive(Debug)]
#[must_use = "it reads nothing before it is asked for records"]
pub struct Records<'v> {
    view: &'v ReadView,
    topic: Topic,
    /// The partition that is being read, and those whose turn comes later.
    partitions: RangeInclusive<u32>,
    /// Where to go on in the partition; `None`: at the first record that can be read.
    offset: Option<u64>,
    /// What was read and not asked for yet.
    ready: std::vec::IntoIter<Record>,
}

impl<'v> Records<'v> {
    fn new(
        view: &'v ReadView,
        topic: &Topic,
        partitions: RangeInclusive<u32>,
        offset: Option<u64>,
    ) -> Records<'v> {
        Records { view, topic: topic.clone(), partitions, offset, ready: Vec::new().into_iter() }
    }

    /// Records from where it goes on in this partition; none if that is the view's end.
    fn read_piece(&self, partition: u32) -> Result<Vec<Record>, Error> {
        /// About how many bytes one read returns.
        const PIECE_BYTES: usize = 1024 * 1024;
        let read = |offset| self.view.read(&self.topic, partition, offset, PIECE_BYTES);
        if let Some(offset) = self.offset {
            return read(offset);
        }
        let mut piece = read(0);
        // Nobody was shown anything of the partition yet, so it begins where it does by now.
        while let Err(Error::RecordsLost { to, .. }) = piece {
            piece = read(to);
        }
        piece
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            let partition = self.partitions.clone().next()?;
            match self.read_piece(partition) {
                Ok(records) if records.is_empty() => {
                    self.partitions.next();
                    self.offset = None;
                }
                Ok(records) => {
                    self.offset = records.last().map(|record| record.offset + 1);
                    self.ready = records.into_iter();
                }
                // It is one item: what is behind it comes next.
                Err(Error::UnreadableBatch(batch)) => {
                    self.offset = Some(batch.to);
                    return Some(Err(Error::UnreadableBatch(batch)));
                }
                Err(error) => {
                    self.partitions.by_ref().for_each(drop);
                    return Some(Err(error));
                }
            }
        }
    }
}

impl FusedIterator for Records<'_> {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::{Event, Log, TopicOptions};

    #[test]
    fn views_that_are_gone_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path()).unwrap();
        let kept: Vec<_> = (0..100).map(|_| log.read_view()).collect();
        (0..10_000).for_each(|_| drop(log.read_view()));
        let known = kept[0].handle().views.lock().shown.len();
        assert!((100..=2 * 100 + 16).contains(&known), "{known}");
    }

    #[test]
    fn of_a_partition_larger_than_a_piece_only_a_piece_is_in_memory() {
        const VALUE_BYTES: usize = 100_000;
        const EVENTS: usize = 40;
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path()).unwrap();
        let topic = log.create_topic("t", TopicOptions::default()).unwrap();
        let producer = log.producer("p").unwrap();
        for _ in 0..EVENTS {
            producer.blocking_send(&topic, Event::unkeyed(vec![0; VALUE_BYTES])).unwrap();
        }
        let view = log.read_view();
        let mut records = view.records(&topic);
        let (mut most, mut count) = (0, 0);
        while records.next().transpose().unwrap().is_some() {
            (most, count) = (most.max(records.ready.len() * VALUE_BYTES), count + 1);
        }
        assert_eq!(count, EVENTS);
        assert!((100_000..=1024 * 1024).contains(&most), "{most}");
    }
}
