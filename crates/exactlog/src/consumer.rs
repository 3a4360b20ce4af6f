//! Receiving: consumers that share a group's partitions, or read those they are told to.
//!
//! ```text
//!   next -> a batch -> ack it | put it into a transaction | drop it: it is delivered again
//! ```
//!
//! A consumer reads what is committed, from wherever it lies: a slow one reads older records from disk, none is
//! ever skipped for it. Nothing is committed by itself, unless it is told to.
//!
//! Invariants
//!   * two members of a group never own a partition at the same time (the state decides, not the handles)
//!   * a position moves forward with `next`, and back to where it was when a batch is neither acked nor kept

use crate::clients::{Consumed, Traffic};
use crate::delivery::{Batch, RecordStream};
use crate::error::Error;
use crate::event::Record;
use crate::log::{Handle, Inner};
use crate::members::{Leaving, Polls};
use crate::metrics::add;
use crate::queue::{Answer, Push, Queue};
use crate::reading::{Pending, Position, Reading, Span, offsets_of};
use crate::signal::Signal;
use crate::topic::Topic;
use crate::unpacking::{Unpacked, unpack};
use exactlog_core::command::{Command, GroupOffsets};
use exactlog_core::ids::{MemberId, Partition, TopicId};
use exactlog_core::reply::Reply;
use exactlog_core::state::PartitionState;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
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

/// How long a member may stay away while another waits for its partitions (`max.poll.interval.ms`).
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

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
    max_poll_interval: Duration,
    auto_commit: bool,
}

impl ConsumerBuilder {
    pub(crate) fn new(inner: Handle, group: &str) -> Self {
        ConsumerBuilder {
            inner,
            group: group.to_string(),
            start: Start::Earliest,
            max_poll_records: MAX_POLL_RECORDS,
            max_poll_interval: MAX_POLL_INTERVAL,
            auto_commit: false,
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

    /// How long it may stay away from `next` while another member waits for its partitions (`max.poll.interval.ms`).
    /// Default 300 s. After that it is fenced, and its later acks answer [`Error::ConsumerFenced`]. While nobody waits
    /// it may stay away for as long as it likes.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// Whether each `next` commits what the one before it delivered (`enable.auto.commit`). Default false, unlike
    /// Kafka. A batch that is dropped then counts as consumed; one that is acked or put into a transaction is committed
    /// by that. What was delivered last when the consumer is dropped comes again: at least once.
    pub fn auto_commit(mut self, auto_commit: bool) -> Self {
        self.auto_commit = auto_commit;
        self
    }

    /// Joins the group and shares the topics' partitions with its other members.
    ///
    /// # Errors
    /// [`Error::IllegalName`], a topic that was deleted, and whatever ends writing.
    pub fn subscribe<'t>(self, topics: impl IntoIterator<Item = &'t Topic>) -> Result<Consumer, Error> {
        self.inner.check_name("group", &self.group)?;
        let topics: Vec<Topic> = topics.into_iter().cloned().collect();
        let signal = self.signal();
        self.inner.signals.watch_group(&self.group, &signal);
        topics.iter().for_each(|topic| self.inner.signals.watch_topic(topic.id(), &signal));
        let ids = topics.iter().map(Topic::id).collect();
        let joined = self.inner.command(Command::JoinGroup { group: self.group.clone(), topics: ids })?;
        let Reply::Joined { member, .. } = joined.reply else {
            unreachable!("JoinGroup answers with a member or a refusal")
        };
        let polls = self.inner.members.polls(member);
        polls.iter().for_each(|polls| polls.set_interval(self.max_poll_interval));
        // Whoever waits for its partitions by now is waited for with the right interval.
        self.inner.queue.nudge();
        let mut consumer = Consumer::new(self, topics, signal);
        consumer.member = Some(member);
        consumer.polls = polls;
        Ok(consumer)
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
        let signal = self.signal();
        topics.keys().for_each(|topic| self.inner.signals.watch_topic(*topic, &signal));
        let consumer = Consumer::new(self, topics.into_values().collect(), signal);
        for partition in assigned {
            let next = consumer.initial_position(partition);
            consumer.reading.lock().set(partition, next, false);
        }
        Ok(consumer)
    }

    fn signal(&self) -> Arc<Signal> {
        let signal = Arc::new(Signal::default());
        self.inner.signals.watch(&signal);
        signal
    }
}

/// A consumer. One task or thread uses it at a time.
///
/// How its calls say that there is nothing to hand out:
///
/// | Call | nothing there now | waited in vain | the log is closed |
/// |---|---|---|---|
/// | [`next`](Consumer::next), [`blocking_next`](Consumer::blocking_next) | waits | | `Ok(None)` |
/// | [`blocking_next_for`](Consumer::blocking_next_for) | waits | `Ok(Some(batch))`, the batch is empty | `Ok(None)` |
/// | [`try_next`](Consumer::try_next) | `Ok(None)` | | `Err(Error::Closed)` |
/// | [`into_stream`](Consumer::into_stream) | waits | | the stream ends |
///
/// So `while let Some(batch) = consumer.next().await?` runs until the log is closed, and
/// `while let Some(batch) = consumer.try_next()?` until everything that is there was read.
#[derive(Debug)]
pub struct Consumer {
    inner: Handle,
    group: Arc<str>,
    member: Option<MemberId>,
    topics: BTreeMap<TopicId, Topic>,
    start: Start,
    max_poll_records: usize,
    auto_commit: bool,
    /// Of a member: when it was here last.
    polls: Option<Arc<Polls>>,
    signal: Arc<Signal>,
    /// The group's generation that the positions belong to.
    generation: u64,
    /// Partitions that were given up in it.
    release: Option<Arc<Answer>>,
    reading: Arc<Mutex<Reading>>,
    /// What was delivered and is being committed.
    committing: Option<(Arc<Answer>, Vec<Span>)>,
    /// The partition behind the one that was read last: each has its turn.
    turn: Option<Partition>,
    consumed: Arc<Consumed>,
    /// Where partitions end for it, if not at their own end.
    ends: BTreeMap<Partition, u64>,
}

impl Consumer {
    fn new(builder: ConsumerBuilder, topics: Vec<Topic>, signal: Arc<Signal>) -> Self {
        Consumer {
            consumed: builder.inner.clients.group(&builder.group),
            ends: BTreeMap::new(),
            inner: builder.inner,
            group: builder.group.into(),
            member: None,
            topics: topics.into_iter().map(|topic| (topic.id(), topic)).collect(),
            start: builder.start,
            max_poll_records: builder.max_poll_records,
            auto_commit: builder.auto_commit,
            polls: None,
            signal,
            generation: 0,
            release: None,
            reading: Arc::default(),
            committing: None,
            turn: None,
        }
    }

    /// Its group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Sets how many records one `next` returns at most (`max.poll.records`), at least 1: from the next call on.
    pub fn set_max_poll_records(&mut self, records: usize) {
        self.max_poll_records = records.max(1);
    }

    /// The next records, waiting until there are some. `None`: the log is closed, and nothing more will come.
    ///
    /// A [`Batch`] that is dropped without being acked or put into a transaction is delivered again by the next calls.
    ///
    /// # Errors
    /// [`Error::ConsumerFenced`] when it is no longer a member; [`Error::RecordsLost`] once when records were trimmed
    /// before they were read; [`Error::UnreadableBatch`] once for a batch that can't be decompressed or taken apart,
    /// the next call goes on behind it; [`Error::Storage`] names a damaged file.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits nothing was taken.
    pub async fn next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        let found = self.found().await;
        self.hand_out(found)
    }

    /// As [`next`](Consumer::next), blocking the thread.
    pub fn blocking_next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        let found = self.blocking_found(None);
        self.hand_out(found)
    }

    /// As [`blocking_next`](Consumer::blocking_next), for at most this long. Nothing came in time: a batch that
    /// [is empty](Batch::is_empty). `None` still says that the log is closed.
    pub fn blocking_next_for(&mut self, wait: Duration) -> Result<Option<Batch<'_>>, Error> {
        let found = self.blocking_found(Instant::now().checked_add(wait));
        self.hand_out(found)
    }

    /// The records that are there now. `None`: there are none yet; a log that is closed is [`Error::Closed`]. It waits
    /// for nothing but the commit of an [`auto_commit`](ConsumerBuilder::auto_commit).
    ///
    /// # Errors
    /// As [`next`](Consumer::next), and [`Error::Closed`].
    pub fn try_next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        self.inner.check_open()?;
        self.commit_delivered()?;
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

    /// Goes behind the last record that is decided.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_end(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        let (_, end) = self.inner.stable_bounds(topic, partition)?;
        self.set_position(topic, partition, end)
    }

    /// Goes to the first record whose timestamp is at or after this one (ms since 1970), or behind the last record.
    /// Its offset is returned.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_time(&mut self, topic: &Topic, partition: u32, timestamp_ms: i64) -> Result<u64, Error> {
        self.inner.check_open()?;
        let (_, end) = self.inner.stable_bounds(topic, partition)?;
        let at = Partition { topic: topic.id(), index: partition };
        let found = self.inner.read(|reader| reader.first_at_or_after(at, timestamp_ms))?;
        let offset = found.map_or(end, |(offset, _)| offset);
        self.set_position(topic, partition, offset)?;
        Ok(offset)
    }

    /// Stops delivering from a partition until [`resume`](Consumer::resume); it stays this consumer's.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        self.set_paused(topic, partition, true)
    }

    /// Delivers from a partition again.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&mut self, topic: &Topic, partition: u32) -> Result<(), Error> {
        self.set_paused(topic, partition, false)
    }

    /// Reads a partition only up to this offset, whatever comes behind it; `None`: all of it. It holds as long as the
    /// consumer lives, also when the partition is another member's meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`].
    pub fn set_end(&mut self, topic: &Topic, partition: u32, end: Option<u64>) -> Result<(), Error> {
        self.inner.bounds(topic, partition)?;
        let at = Partition { topic: topic.id(), index: partition };
        match end {
            Some(end) => _ = self.ends.insert(at, end),
            None => _ = self.ends.remove(&at),
        }
        Ok(())
    }

    /// The partitions that it reads now (topic name, index) and the next offset of each.
    ///
    /// # Errors
    /// [`Error::ConsumerFenced`], [`Error::Closed`].
    pub fn positions(&mut self) -> Result<Vec<(Arc<str>, u32, u64)>, Error> {
        self.refresh()?;
        let reading = self.reading.lock();
        let row = |(partition, position): (&Partition, &Position)| {
            let topic = self.topics.get(&partition.topic)?;
            Some((topic.shared_name(), partition.index, position.next))
        };
        Ok(reading.positions.iter().filter_map(row).collect())
    }

    /// The records as a stream that never ends before the log is closed, one by one. Nothing is committed by it,
    /// unless by [`auto_commit`](ConsumerBuilder::auto_commit).
    pub fn into_stream(self) -> RecordStream {
        RecordStream::new(self)
    }

    /// Waits for records, as a task does.
    async fn found(&mut self) -> Result<Taken, Error> {
        std::future::poll_fn(|context| self.poll_delivered(context)).await?;
        loop {
            match self.look()? {
                Look::Found(taken) => return Ok(taken),
                Look::Nothing { rung } => self.signal.wait(rung).await,
            }
        }
    }

    /// Waits for records, as a thread does; nothing if there are none before the deadline.
    fn blocking_found(&mut self, deadline: Option<Instant>) -> Result<Taken, Error> {
        self.commit_delivered()?;
        loop {
            match self.look()? {
                Look::Found(taken) => return Ok(taken),
                Look::Nothing { rung } if self.signal.blocking_wait(rung, deadline) => {}
                Look::Nothing { .. } => return Ok(Taken::default()),
            }
        }
    }

    /// Looks once for records. The bell is read first, so that no ring of what comes meanwhile is missed.
    fn look(&mut self) -> Result<Look, Error> {
        let rung = self.signal.rung();
        Ok(self.take()?.map_or(Look::Nothing { rung }, Look::Found))
    }

    /// What was waited for; `None` if the log was closed before or meanwhile.
    fn hand_out(&mut self, found: Result<Taken, Error>) -> Result<Option<Batch<'_>>, Error> {
        match found {
            Err(Error::Closed) => Ok(None),
            found => found.map(|taken| Some(self.batch(taken))),
        }
    }

    fn set_position(&mut self, topic: &Topic, partition: u32, offset: u64) -> Result<(), Error> {
        self.change(topic, partition, |reading, partition| reading.set(partition, offset, true))
    }

    fn set_paused(&mut self, topic: &Topic, partition: u32, paused: bool) -> Result<(), Error> {
        self.change(topic, partition, |reading, partition| {
            if let Some(position) = reading.positions.get_mut(&partition) {
                position.paused = paused;
            }
        })
    }

    fn change(
        &mut self,
        topic: &Topic,
        index: u32,
        change: impl FnOnce(&mut Reading, Partition),
    ) -> Result<(), Error> {
        self.refresh()?;
        let partition = Partition { topic: topic.id(), index };
        let mut reading = self.reading.lock();
        if !reading.positions.contains_key(&partition) {
            return Err(Error::NotAssigned { topic: topic.name().to_string(), partition: index });
        }
        change(&mut reading, partition);
        Ok(())
    }

    fn initial_position(&self, partition: Partition) -> u64 {
        let state = self.inner.state.read();
        let bounds = |found: &PartitionState| (found.start, found.last_stable_offset());
        let (start, end) = state.partition(partition).map_or((0, 0), bounds);
        match (state.committed_offset(&self.group, partition), self.start) {
            (Some(committed), _) => committed.offset,
            (None, Start::Earliest) => start,
            (None, Start::Latest) => end,
        }
    }

    /// Decides what became of commits on their way, as far as that is known by now.
    fn settle(&self) {
        // In this order: when the log is open again its state is there before the mark goes.
        let mut reading = self.reading.lock();
        let failed = self.inner.failed.load(Ordering::Acquire);
        let state = (reading.is_unsure() && !failed).then(|| self.inner.state.read());
        reading.settle(&self.group, state.as_deref(), &self.signal);
    }

    /// Takes over what the group's generation says, and confirms what is to be given up.
    fn refresh(&mut self) -> Result<(), Error> {
        self.inner.check_open()?;
        self.settle();
        let Some(member) = self.member else { return Ok(()) };
        if let Some(Err(_)) = self.release.as_ref().and_then(|answer| answer.peek()) {
            // It wasn't applied, so others still wait for what was given up.
            self.generation = 0;
        }
        let (generation, owned) = {
            let state = self.inner.state.read();
            let group = state.groups.get(&*self.group).filter(|group| group.members.contains_key(&member));
            let group = group.ok_or_else(|| Error::ConsumerFenced { group: self.group.to_string() })?;
            if group.generation == self.generation {
                return Ok(());
            }
            (group.generation, group.owned_by(member).collect::<BTreeMap<_, _>>())
        };
        {
            let mut reading = self.reading.lock();
            if reading.is_busy() || self.committing.is_some() {
                // Records of partitions that may be about to go are still at work: they are committed first.
                return Ok(());
            }
            reading.positions.retain(|partition, _| owned.get(partition) == Some(&false));
            for (partition, _) in owned.iter().filter(|(_, revoking)| !**revoking) {
                if !reading.positions.contains_key(partition) {
                    let next = self.initial_position(*partition);
                    reading.set(*partition, next, false);
                }
            }
        }
        self.generation = generation;
        self.release = None;
        let partitions: Vec<Partition> =
            owned.iter().filter(|(_, revoking)| **revoking).map(|(partition, _)| *partition).collect();
        if !partitions.is_empty() {
            let group = self.group.to_string();
            // Nobody waits for it: the new owner begins when it is applied.
            let command = Command::ReleasePartitions { group, member, partitions };
            self.release = Some(self.inner.submit(command, None, None, Queue::push)?);
        }
        Ok(())
    }

    /// Records from the partitions in turn, until there are enough.
    pub(crate) fn take(&mut self) -> Result<Option<Taken>, Error> {
        let taken = self.take_next();
        match &taken {
            Ok(Some(taken)) => {
                add(&self.consumed.records, taken.records.len() as u64);
                add(&self.consumed.bytes, taken.bytes as u64);
                self.inner.clients.add(taken.traffic.iter().copied());
                let last_ms = taken.records.last().map_or(0, |record| record.timestamp_ms);
                let age_ms = u64::try_from(self.inner.clock.wall_ms().saturating_sub(last_ms)).unwrap_or(0);
                self.consumed.age.observe(Duration::from_millis(age_ms));
            }
            Ok(None) => {}
            Err(_) => add(&self.consumed.errors, 1),
        }
        taken
    }

    fn take_next(&mut self) -> Result<Option<Taken>, Error> {
        if let Some(polls) = &self.polls {
            polls.note(self.inner.monotonic_ms());
        }
        self.refresh()?;
        let order: Vec<(Partition, Position)> = {
            let reading = self.reading.lock();
            let from = self.turn.unwrap_or(Partition { topic: TopicId(0), index: 0 });
            let (before, behind): (Vec<_>, Vec<_>) =
                reading.readable().partition(|(partition, _)| *partition < from);
            behind.into_iter().chain(before).collect()
        };
        let mut taken = Taken::default();
        for (partition, position) in order {
            if taken.records.len() >= self.max_poll_records || taken.bytes >= MAX_POLL_BYTES {
                break;
            }
            match self.take_from(partition, position.next, &mut taken) {
                Ok(()) => {}
                // What is there already goes out first; the turn stays, so the error comes next.
                Err(_) if !taken.records.is_empty() => break,
                Err(error) => {
                    // The others have their turn, whatever is wrong with this one.
                    self.turn = Some(behind(partition));
                    return Err(error);
                }
            }
        }
        Ok((!taken.records.is_empty()).then_some(taken))
    }

    /// Records that are committed, as far as that is decided. What nobody is shown is passed over.
    fn take_from(&mut self, partition: Partition, next: u64, taken: &mut Taken) -> Result<(), Error> {
        let Some(topic) = self.topics.get(&partition.topic) else { return Ok(()) };
        // A topic that was deleted has nothing to read.
        let Ok((start, end)) = self.inner.stable_bounds(topic, partition.index) else { return Ok(()) };
        let end = self.ends.get(&partition).map_or(end, |bound| end.min(*bound));
        if next >= end && next >= start {
            return Ok(());
        }
        let (room, had) = (self.max_poll_records - taken.records.len(), taken.records.len());
        let mut next = next;
        loop {
            let bytes_max = MAX_POLL_BYTES.saturating_sub(taken.bytes);
            let read = match next >= start && next < end {
                true => self.inner.read(|reader| reader.read(partition, next, bytes_max)),
                false => Ok(Vec::new()),
            };
            let upper = read.as_ref().map_or(next, |batches| {
                batches.last().map_or(next, exactlog_core::batch::Batch::next_offset).min(end)
            });
            // Asked behind the read: what is trimmed meanwhile may be gone from the disk.
            let asked = self.inner.undecided(topic, partition.index, next, upper);
            let Ok((start, undecided)) = asked else { return Ok(()) };
            if next < start {
                if taken.records.is_empty() {
                    self.reading.lock().set(partition, start, false);
                }
                let (topic, partition) = (topic.name().to_string(), partition.index);
                return Err(Error::RecordsLost { topic, partition, from: next, to: start });
            }
            let mut batches = read?;
            batches.retain(|batch| batch.base_offset() < end);
            let unpacked = unpack(topic, partition.index, &batches, &undecided, next..end, room, bytes_max);
            if let (Err(Error::UnreadableBatch(batch)), true) = (&unpacked, taken.records.is_empty()) {
                // It is said once, and not the end. What is in front of it may still come back, and then it does, too.
                self.reading.lock().advance(partition, batch.to);
            }
            let Unpacked { records, to, bytes } = unpacked?;
            if to == next {
                return Ok(());
            }
            let (records_out, bytes_out) = (records.len() as u64, bytes as u64);
            taken.traffic.push((partition.topic, Traffic { records_out, bytes_out, ..Traffic::default() }));
            taken.records.extend(records);
            taken.bytes += bytes;
            taken.advance(self.reading.lock().advance(partition, to));
            self.turn = Some(behind(partition));
            if taken.records.len() > had || to >= end {
                return Ok(());
            }
            next = to;
        }
    }

    fn batch(&mut self, taken: Taken) -> Batch<'_> {
        let pending = Pending::new(self.reading.clone(), taken.spans, self.auto_commit);
        Batch::new(self, taken.records, pending)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Wakes this task when there may be something.
    pub(crate) fn register(&self, waker: &Waker) {
        self.signal.register(waker);
    }

    /// Records were handed out for good: without `auto_commit` that says nothing.
    pub(crate) fn deliver(&self, spans: Vec<Span>) {
        if self.auto_commit {
            self.reading.lock().deliver(spans);
        }
    }

    /// Commits what was delivered, if that is this consumer's task.
    pub(crate) fn poll_delivered(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(answer) = self.submit_delivered(Queue::push)? else { return Poll::Ready(Ok(())) };
        ready!(answer.poll(&mut None, context).map(|_| ()));
        Poll::Ready(self.conclude_delivered())
    }

    fn commit_delivered(&mut self) -> Result<(), Error> {
        let Some(answer) = self.submit_delivered(Queue::push_quietly)? else { return Ok(()) };
        self.inner.wait_for(&answer);
        self.conclude_delivered()
    }

    fn submit_delivered(&mut self, push: Push) -> Result<Option<Arc<Answer>>, Error> {
        if self.committing.is_none() {
            let spans = self.reading.lock().take_delivered();
            if spans.is_empty() {
                return Ok(None);
            }
            let GroupOffsets { group, member, offsets } = self.offsets(&spans);
            let command = Command::CommitOffsets { group, member, offsets };
            self.committing = Some((self.inner.submit(command, None, None, push)?, spans));
        }
        Ok(self.committing.as_ref().map(|(answer, _)| answer.clone()))
    }

    fn conclude_delivered(&mut self) -> Result<(), Error> {
        let Some((answer, spans)) = self.committing.take() else { return Ok(()) };
        match answer.peek().expect("the answer was awaited") {
            // The next call tries again.
            Err(error @ Error::Storage(_)) => {
                self.reading.lock().deliver(spans);
                Err(error.clone())
            }
            concluded => {
                self.reading.lock().settle_by(spans, &answer, None);
                concluded.as_ref().map(|_| ()).map_err(|error| error.clone().of_consumer())
            }
        }
    }

    pub(crate) fn offsets(&self, spans: &[Span]) -> GroupOffsets {
        GroupOffsets { group: self.group.to_string(), member: self.member, offsets: offsets_of(spans) }
    }
}

/// Leaves the group without waiting for anything: the others go on at once.
impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(member) = self.member {
            let group = self.group.to_string();
            self.inner.members.leave(Leaving { group, member, fenced: false });
            self.inner.queue.nudge();
        }
    }
}

/// The place behind a partition, in the order of turns.
fn behind(partition: Partition) -> Partition {
    Partition { topic: partition.topic, index: partition.index + 1 }
}

/// What one look for records has found.
enum Look {
    Found(Taken),
    /// Nothing when the bell had been rung so often.
    Nothing {
        rung: u64,
    },
}

/// Records that were taken at once, and where they come from.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) records: Vec<Record>,
    pub(crate) spans: Vec<Span>,
    bytes: usize,
    traffic: Vec<(TopicId, Traffic)>,
}

impl Taken {
    /// The position has moved: what follows on earlier ones of the partition is one with them.
    fn advance(&mut self, span: Option<Span>) {
        let Some(span) = span else { return };
        match self.spans.last_mut() {
            Some(last) if last.partition == span.partition => last.to = span.to,
            _ => self.spans.push(span),
        }
    }
}
