//! Receiving: consumers that share a group's partitions, or read those they are told to.
//!
//! ```text
//!   next -> a batch -> ack it | put it into a transaction | drop it: it is delivered again
//! ```
//!
//! A consumer reads what is committed, from wherever it lies: a slow one reads older records from disk, none is
//! ever skipped for it. Nothing is committed by itself.
//!
//! Invariants
//!   * two members of a group never own a partition at the same time (the state decides, not the handles)
//!   * a position moves forward with `next`, and back to where it was when a batch is neither acked nor kept

use crate::error::Error;
use crate::event::Record;
use crate::log::Handle;
use crate::queue::Work;
use crate::signal::Signal;
use crate::slot::Slot;
use crate::topic::Topic;
use exactlog_core::command::{Command, GroupOffsets, OffsetCommit};
use exactlog_core::ids::{MemberId, Partition, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use futures_core::Stream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Where a consumer begins in a partition for which its group has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first record that can be read. The default: nothing is missed.
    #[default]
    Earliest,
    /// Behind the last record.
    Latest,
}

/// Most records that one `next` returns, if nothing else is said (`max.poll.records`).
const MAX_POLL_RECORDS: usize = 500;

/// About how many bytes one `next` returns at most.
const MAX_POLL_BYTES: usize = 1024 * 1024;

/// How a consumer is made.
#[derive(Debug)]
#[must_use = "say what it reads: subscribe or assign"]
pub struct ConsumerBuilder {
    inner: Handle,
    group: String,
    start: Start,
    max_poll_records: usize,
}

impl ConsumerBuilder {
    pub(crate) fn new(inner: Handle, group: &str) -> Self {
        ConsumerBuilder {
            inner,
            group: group.to_string(),
            start: Start::Earliest,
            max_poll_records: MAX_POLL_RECORDS,
        }
    }

    /// Where to begin without a committed offset (`auto.offset.reset`). Default [`Start::Earliest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Most records that one `next` returns (`max.poll.records`). Default 500, at least 1.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records.max(1);
        self
    }

    /// Joins the group and shares the topics' partitions with its other members.
    ///
    /// # Errors
    /// [`Error::IllegalName`], a topic that was deleted, and whatever ends writing.
    pub fn subscribe<'t>(self, topics: impl IntoIterator<Item = &'t Topic>) -> Result<Consumer, Error> {
        self.inner.check_name("group", &self.group)?;
        let topics: Vec<Topic> = topics.into_iter().cloned().collect();
        let signal = Arc::new(Signal::default());
        self.inner.signals.watch_group(&self.group, &signal);
        topics.iter().for_each(|topic| self.inner.signals.watch_topic(topic.id(), &signal));
        let ids = topics.iter().map(Topic::id).collect();
        let joined = self.inner.command(Command::JoinGroup { group: self.group.clone(), topics: ids })?;
        let Reply::Joined { member, .. } = joined.reply else {
            unreachable!("JoinGroup answers with a member or a refusal")
        };
        Ok(Consumer::new(self, Some(member), topics, signal))
    }

    /// Reads these partitions, without being a member: committed offsets are the group's, sharing is the caller's.
    ///
    /// # Errors
    /// [`Error::IllegalName`], [`Error::NoSuchPartition`].
    pub fn assign<'t>(
        self,
        partitions: impl IntoIterator<Item = (&'t Topic, u32)>,
    ) -> Result<Consumer, Error> {
        self.inner.check_name("group", &self.group)?;
        let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
        let mut assigned = BTreeSet::new();
        for (topic, index) in partitions {
            self.inner.bounds(topic, index)?;
            topics.insert(topic.id(), topic.clone());
            assigned.insert(Partition { topic: topic.id(), index });
        }
        let signal = Arc::new(Signal::default());
        topics.keys().for_each(|topic| self.inner.signals.watch_topic(*topic, &signal));
        let consumer = Consumer::new(self, None, topics.into_values().collect(), signal);
        let mut reading = consumer.reading.lock();
        for partition in assigned {
            let position = consumer.initial_position(partition);
            reading.positions.insert(partition, Position { next: position, reset: false, paused: false });
        }
        drop(reading);
        Ok(consumer)
    }
}

/// A consumer. One task or thread uses it at a time.
#[derive(Debug)]
pub struct Consumer {
    inner: Handle,
    group: Arc<str>,
    member: Option<MemberId>,
    topics: BTreeMap<TopicId, Topic>,
    start: Start,
    max_poll_records: usize,
    signal: Arc<Signal>,
    /// The group's generation that the positions belong to.
    generation: u64,
    reading: Arc<Mutex<Reading>>,
    /// The partition behind the one that was read last: each has its turn.
    turn: Option<Partition>,
}

/// Positions, shared with the batches and transactions that may have to give them back.
#[derive(Debug, Default)]
struct Reading {
    positions: BTreeMap<Partition, Position>,
    /// Batches that a transaction holds.
    held: usize,
    /// A commit ended unknown: where to go on is what the log says once it is open again.
    unsure: bool,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    next: u64,
    /// Somebody sought here: the next commit may move the group's offset back.
    reset: bool,
    paused: bool,
}

/// Some records of a partition that were delivered.
#[derive(Clone, Copy, Debug)]
struct Span {
    partition: Partition,
    from: u64,
    to: u64,
    reset: bool,
}

impl Consumer {
    fn new(
        builder: ConsumerBuilder,
        member: Option<MemberId>,
        topics: Vec<Topic>,
        signal: Arc<Signal>,
    ) -> Self {
        Consumer {
            inner: builder.inner,
            group: builder.group.into(),
            member,
            topics: topics.into_iter().map(|topic| (topic.id(), topic)).collect(),
            start: builder.start,
            max_poll_records: builder.max_poll_records,
            signal,
            generation: 0,
            reading: Arc::default(),
            turn: None,
        }
    }

    /// Its group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The next records, waiting until there are some. `None` when the log is closed.
    ///
    /// # Errors
    /// [`Error::ConsumerFenced`] when it is no longer a member; [`Error::RecordsLost`] once when records were trimmed
    /// before they were read; [`Error::Storage`] names a damaged file.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits nothing was taken.
    pub async fn next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        loop {
            let seen = self.signal.rung();
            if self.inner.check_open().is_err() {
                return Ok(None);
            }
            if let Some(taken) = self.take()? {
                return Ok(Some(self.batch(taken)));
            }
            self.signal.wait(seen).await;
        }
    }

    /// As [`next`](Consumer::next), blocking the thread.
    pub fn blocking_next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        self.next_until(None)
    }

    /// As [`blocking_next`](Consumer::blocking_next), for at most this long: an empty batch when it is over.
    pub fn blocking_next_for(&mut self, wait: Duration) -> Result<Option<Batch<'_>>, Error> {
        self.next_until(Instant::now().checked_add(wait))
    }

    /// The records that are there now; `None` if there are none.
    pub fn try_next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        self.inner.check_open()?;
        let taken = self.take()?;
        Ok(taken.map(|taken| self.batch(taken)))
    }

    /// Goes to an offset: the next record read is the one there. The next commit may move the group back to it.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::NotAssigned`].
    pub fn seek(&mut self, topic: &Topic, partition: u32, offset: u64) -> Result<(), Error> {
        let (start, end) = self.inner.bounds(topic, partition)?;
        if !(start..=end).contains(&offset) {
            let topic = topic.name().to_string();
            return Err(Error::OffsetOutOfRange { topic, partition, offset, start, end });
        }
        self.set_position(topic, partition, offset)
    }

    /// Goes to the first record that can be read.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_begin(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        let (start, _) = self.inner.bounds(topic, partition)?;
        self.set_position(topic, partition, start)
    }

    /// Goes behind the last record.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_end(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        let (_, end) = self.inner.bounds(topic, partition)?;
        self.set_position(topic, partition, end)
    }

    /// Goes to the first record whose timestamp is at or after this one (ms since 1970), or behind the last record.
    /// Its offset is returned.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_time(&mut self, topic: &Topic, partition: u32, timestamp_ms: i64) -> Result<u64, Error> {
        let (_, end) = self.inner.bounds(topic, partition)?;
        let at = Partition { topic: topic.id(), index: partition };
        let reader = self.inner.reader.read().clone();
        let offset = reader.first_at_or_after(at, timestamp_ms)?.map_or(end, |(offset, _)| offset);
        self.set_position(topic, partition, offset)?;
        Ok(offset)
    }

    /// Stops delivering from a partition until [`resume`](Consumer::resume); it stays this consumer's.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        self.change(topic, partition, |position| position.paused = true)
    }

    /// Delivers from a partition again.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        self.change(topic, partition, |position| position.paused = false)
    }

    /// The partitions that it reads now (topic name, index) and the next offset of each.
    pub fn positions(&mut self) -> Result<Vec<(Arc<str>, u32, u64)>, Error> {
        self.refresh()?;
        let reading = self.reading.lock();
        let row = |(partition, position): (&Partition, &Position)| {
            let topic = self.topics.get(&partition.topic)?;
            Some((topic.shared_name(), partition.index, position.next))
        };
        Ok(reading.positions.iter().filter_map(row).collect())
    }

    /// The records as a stream that never ends before the log is closed, one by one. Nothing is committed by it.
    pub fn into_stream(self) -> RecordStream {
        RecordStream { consumer: self, ready: Vec::new().into_iter() }
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Batch<'_>>, Error> {
        loop {
            let seen = self.signal.rung();
            if self.inner.check_open().is_err() {
                return Ok(None);
            }
            if let Some(taken) = self.take()? {
                return Ok(Some(self.batch(taken)));
            }
            if !self.signal.blocking_wait(seen, deadline) {
                return Ok(Some(self.batch(Taken::default())));
            }
        }
    }

    fn set_position(&mut self, topic: &Topic, partition: u32, offset: u64) -> Result<(), Error> {
        self.change(topic, partition, |position| {
            position.next = offset;
            position.reset = true;
        })
    }

    fn change(&mut self, topic: &Topic, index: u32, change: impl FnOnce(&mut Position)) -> Result<(), Error> {
        self.refresh()?;
        let mut reading = self.reading.lock();
        let position = reading.positions.get_mut(&Partition { topic: topic.id(), index });
        let position = position
            .ok_or_else(|| Error::NotAssigned { topic: topic.name().to_string(), partition: index })?;
        change(position);
        Ok(())
    }

    fn initial_position(&self, partition: Partition) -> u64 {
        let state = self.inner.state.read();
        let (start, end) = state.partition(partition).map_or((0, 0), |found| (found.start, found.end));
        match (state.committed_offset(&self.group, partition), self.start) {
            (Some(committed), _) => committed.offset,
            (None, Start::Earliest) => start,
            (None, Start::Latest) => end,
        }
    }

    /// After a commit whose outcome is unknown only the committed offsets say what is consumed.
    fn settle(&mut self) {
        if self.inner.failed.load(Ordering::Acquire) || !std::mem::take(&mut self.reading.lock().unsure) {
            return;
        }
        let partitions: Vec<Partition> = self.reading.lock().positions.keys().copied().collect();
        for partition in partitions {
            let next = self.initial_position(partition);
            if let Some(position) = self.reading.lock().positions.get_mut(&partition) {
                position.next = next;
            }
        }
    }

    /// Takes over what the group's generation says, and confirms what is to be given up.
    fn refresh(&mut self) -> Result<(), Error> {
        self.settle();
        let Some(member) = self.member else { return Ok(()) };
        let (generation, owned) = {
            let state = self.inner.state.read();
            let group = state.groups.get(&*self.group).filter(|group| group.members.contains_key(&member));
            let group = group.ok_or_else(|| Error::ConsumerFenced { group: self.group.to_string() })?;
            if group.generation == self.generation {
                return Ok(());
            }
            (group.generation, group.owned_by(member).collect::<BTreeMap<_, _>>())
        };
        let mut reading = self.reading.lock();
        if reading.held > 0 {
            // A transaction holds records of partitions that may be about to go: it commits first.
            return Ok(());
        }
        reading.positions.retain(|partition, _| owned.get(partition) == Some(&false));
        for (partition, _) in owned.iter().filter(|(_, revoking)| !**revoking) {
            if !reading.positions.contains_key(partition) {
                let next = self.initial_position(*partition);
                reading.positions.insert(*partition, Position { next, reset: false, paused: false });
            }
        }
        drop(reading);
        self.generation = generation;
        let partitions: Vec<Partition> =
            owned.iter().filter(|(_, revoking)| **revoking).map(|(partition, _)| *partition).collect();
        if !partitions.is_empty() {
            let group = self.group.to_string();
            // Nobody waits for it: the new owner begins when it is applied.
            self.inner.submit(Command::ReleasePartitions { group, member, partitions }, 0)?;
        }
        Ok(())
    }

    /// Records from the partitions in turn, until there are enough.
    fn take(&mut self) -> Result<Option<Taken>, Error> {
        self.refresh()?;
        let order: Vec<(Partition, Position)> = {
            let reading = self.reading.lock();
            let from = self.turn.unwrap_or(Partition { topic: TopicId(0), index: 0 });
            let (before, behind): (Vec<_>, Vec<_>) =
                reading.positions.iter().map(|(a, b)| (*a, *b)).partition(|(partition, _)| *partition < from);
            behind.into_iter().chain(before).filter(|(_, position)| !position.paused).collect()
        };
        let reader = self.inner.reader.read().clone();
        let mut taken = Taken::default();
        for (partition, position) in order {
            let room = self.max_poll_records - taken.records.len();
            if room == 0 || taken.bytes >= MAX_POLL_BYTES {
                break;
            }
            let Some(topic) = self.topics.get(&partition.topic) else { continue };
            let (start, end) = self.inner.bounds(topic, partition.index).unwrap_or((0, 0));
            if position.next < start {
                self.skip(partition, start);
                let (topic, partition) = (topic.name().to_string(), partition.index);
                return Err(Error::RecordsLost { topic, partition, from: position.next, to: start });
            }
            if position.next >= end {
                continue;
            }
            let batches = reader.read(partition, position.next, MAX_POLL_BYTES - taken.bytes)?;
            let to = taken.add(topic, partition.index, position.next, &batches, room)?;
            if to > position.next {
                let span = Span { partition, from: position.next, to, reset: position.reset };
                taken.spans.push(span);
                self.turn = Some(Partition { topic: partition.topic, index: partition.index + 1 });
            }
        }
        if taken.records.is_empty() {
            return Ok(None);
        }
        let mut reading = self.reading.lock();
        for span in &taken.spans {
            if let Some(position) = reading.positions.get_mut(&span.partition) {
                position.next = span.to;
            }
        }
        Ok(Some(taken))
    }

    fn skip(&self, partition: Partition, to: u64) {
        if let Some(position) = self.reading.lock().positions.get_mut(&partition) {
            position.next = to;
        }
    }

    fn batch(&mut self, taken: Taken) -> Batch<'_> {
        let pending = Pending { reading: self.reading.clone(), spans: taken.spans, held: false };
        Batch { consumer: self, records: taken.records, pending: Some(pending) }
    }

    fn offsets(&self, spans: &[Span]) -> GroupOffsets {
        let offset =
            |span: &Span| OffsetCommit { partition: span.partition, offset: span.to, reset: span.reset };
        let offsets = spans.iter().map(offset).collect();
        GroupOffsets { group: self.group.to_string(), member: self.member, offsets }
    }
}

/// Leaves the group without waiting for anything: the others go on at once.
impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(member) = self.member {
            let group = self.group.to_string();
            let command = Command::LeaveGroup { group, member, fenced: false };
            let _ =
                self.inner.queue.push(Work::Command { command, answer: Arc::new(Slot::default()), bytes: 0 });
        }
    }
}

#[derive(Debug, Default)]
struct Taken {
    records: Vec<Record>,
    spans: Vec<Span>,
    bytes: usize,
}

impl Taken {
    /// Adds at most `room` records from `from` on; the offset behind the last one.
    fn add(
        &mut self,
        topic: &Topic,
        partition: u32,
        from: u64,
        batches: &[exactlog_core::batch::Batch],
        room: usize,
    ) -> Result<u64, Error> {
        let most = self.records.len() + room;
        let mut to = from;
        for batch in batches {
            for record in batch.records() {
                let record = record?;
                if record.offset < from {
                    continue;
                }
                if self.records.len() >= most {
                    return Ok(to);
                }
                to = record.offset + 1;
                self.records.push(Record::of(topic, partition, record));
            }
            self.bytes += batch.len_bytes();
        }
        Ok(to)
    }
}

/// Records that were delivered and not acked yet. Dropped as it is, they are delivered again.
#[derive(Debug)]
#[must_use = "a batch that is neither acked nor put into a transaction is delivered again"]
pub struct Batch<'c> {
    consumer: &'c mut Consumer,
    records: Vec<Record>,
    pending: Option<Pending>,
}

impl Batch<'_> {
    /// The records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether waiting ended without records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Commits the positions behind these records, and hands the records out.
    ///
    /// Before the work: at most once. After the work: at least once. For exactly once put the batch into the
    /// transaction of the outputs instead.
    ///
    /// # Errors
    /// [`Error::ConsumerFenced`] when the partitions went to somebody else: nothing was committed.
    ///
    /// # Cancel safety
    /// Not safe: dropped after its first poll the commit is on its way.
    pub async fn ack(mut self) -> Result<Vec<Record>, Error> {
        if let Some(answer) = self.submit_ack()? {
            let mut place = None;
            std::future::poll_fn(|context| answer.poll(&mut place, context).map(|_| ())).await;
            self.conclude(answer.peek())?;
        }
        Ok(std::mem::take(&mut self.records))
    }

    /// As [`ack`](Batch::ack), blocking the thread.
    pub fn blocking_ack(mut self) -> Result<Vec<Record>, Error> {
        if let Some(answer) = self.submit_ack()? {
            answer.wait();
            self.conclude(answer.peek())?;
        }
        Ok(std::mem::take(&mut self.records))
    }

    fn submit_ack(&mut self) -> Result<Option<Arc<crate::queue::Answer>>, Error> {
        let Some(pending) = self.pending.as_ref().filter(|pending| !pending.spans.is_empty()) else {
            return Ok(None);
        };
        let GroupOffsets { group, member, offsets } = self.consumer.offsets(&pending.spans);
        self.consumer.inner.submit(Command::CommitOffsets { group, member, offsets }, 0).map(Some)
    }

    fn conclude(
        &mut self,
        answer: Option<&Result<exactlog_core::reply::Applied, Error>>,
    ) -> Result<(), Error> {
        match answer.expect("the answer is there") {
            Ok(_) => {
                if let Some(pending) = self.pending.take() {
                    pending.keep();
                }
                Ok(())
            }
            Err(Error::Refused(Refusal::UnknownMember { group, .. } | Refusal::NotOwned { group, .. })) => {
                Err(Error::ConsumerFenced { group: group.clone() })
            }
            Err(error) => {
                if let (Error::Unknown(_), Some(pending)) = (error, self.pending.take()) {
                    pending.doubt();
                }
                Err(error.clone())
            }
        }
    }

    pub(crate) fn into_acked(mut self) -> Acked {
        let mut pending = self.pending.take().expect("a batch has its positions until it is acked");
        pending.hold();
        Acked { offsets: self.consumer.offsets(&pending.spans), pending }
    }
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = &'b Record;
    type IntoIter = std::slice::Iter<'b, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}

/// Positions that go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    reading: Arc<Mutex<Reading>>,
    spans: Vec<Span>,
    held: bool,
}

impl Pending {
    fn hold(&mut self) {
        self.held = true;
        self.reading.lock().held += 1;
    }

    /// The positions stay where they are; what they reset is done.
    fn keep(mut self) {
        let mut reading = self.reading.lock();
        for span in std::mem::take(&mut self.spans) {
            if let Some(position) = reading.positions.get_mut(&span.partition).filter(|_| span.reset) {
                position.reset = false;
            }
        }
    }
}

impl Pending {
    /// Nobody knows whether they were committed.
    fn doubt(self) {
        self.reading.lock().unsure = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut reading = self.reading.lock();
        for span in &self.spans {
            if let Some(position) = reading.positions.get_mut(&span.partition) {
                position.next = position.next.min(span.from);
            }
        }
        if self.held {
            reading.held -= 1;
        }
    }
}

/// Consumed records in a transaction.
#[derive(Debug)]
pub(crate) struct Acked {
    offsets: GroupOffsets,
    pending: Pending,
}

impl Acked {
    /// Merges the positions into those of the transaction: of one partition only the last counts.
    pub(crate) fn add_to(&self, all: &mut Vec<GroupOffsets>) {
        let same =
            |it: &&mut GroupOffsets| it.group == self.offsets.group && it.member == self.offsets.member;
        let Some(existing) = all.iter_mut().find(same) else {
            all.push(self.offsets.clone());
            return;
        };
        for offset in &self.offsets.offsets {
            match existing.offsets.iter_mut().find(|it| it.partition == offset.partition) {
                Some(earlier) => {
                    earlier.offset = offset.offset;
                    earlier.reset |= offset.reset;
                }
                None => existing.offsets.push(*offset),
            }
        }
    }

    pub(crate) fn keep(self) {
        self.pending.keep();
    }

    pub(crate) fn doubt(self) {
        self.pending.doubt();
    }
}

/// The records of a consumer, one by one. See [`Consumer::into_stream`].
#[derive(Debug)]
pub struct RecordStream {
    consumer: Consumer,
    ready: std::vec::IntoIter<Record>,
}

impl RecordStream {
    /// The consumer, to go on with otherwise.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }
}

impl Stream for RecordStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(record) = this.ready.next() {
            return Poll::Ready(Some(Ok(record)));
        }
        let consumer = &mut this.consumer;
        consumer.signal.register(context.waker());
        if consumer.inner.check_open().is_err() {
            return Poll::Ready(None);
        }
        match consumer.take() {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(None) => Poll::Pending,
            Ok(Some(taken)) => {
                this.ready = taken.records.into_iter();
                Poll::Ready(this.ready.next().map(Ok))
            }
        }
    }
}
