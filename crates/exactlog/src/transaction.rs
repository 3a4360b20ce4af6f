//! The embedded transaction: outputs, consumed positions and a cursor at one position of the log, or nowhere.
//!
//! Until `commit` everything lies in memory: a transaction that is dropped leaves no byte anywhere.

use crate::admin::SeekTo;
use crate::dedup::{EventId, Reservation};
use crate::delivery::Batch;
use crate::error::Error;
use crate::event::Event;
use crate::log::Inner;
use crate::producer::{Producer, append, check_codec, event_bytes};
use crate::queue::{Answer, Push, Queue};
use crate::reading::Acked;
use crate::room::Claim;
use crate::table_writes::TableEffects;
use crate::timer::{delayed_batch, due_at};
use crate::topic::Topic;
use bytes::Bytes;
use exactlog_core::batch::{BatchBuilder, BatchError, Compression, HEADER_BYTES};
use exactlog_core::command::{
    COMMIT_BYTES_MAX, CURSOR_BYTES_MAX, Command, Commit, CommitToken, Condition, GroupOffsets, Mark,
    NewTimer, OffsetCommit, OffsetMetadata, TimerEffects,
};
use exactlog_core::ids::{DedupId, Partition, TimerId};
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::reply::Refusal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// An open transaction of a producer. Dropping it aborts: what it consumed is delivered again.
#[derive(Debug)]
#[must_use = "a transaction that isn't committed aborts"]
pub struct Transaction<'p> {
    producer: &'p mut Producer,
    batches: BTreeMap<Partition, Vec<BatchBuilder>>,
    sticky: u32,
    /// What it is compressed with, if that isn't what the producer says.
    codec: Option<Compression>,
    pub(crate) bytes: usize,
    pub(crate) conditions: Vec<Condition>,
    cursor: Option<Bytes>,
    acked: Vec<Acked>,
    /// Where groups without members are moved to.
    seeks: BTreeMap<String, BTreeMap<Partition, u64>>,
    delayed: Vec<Delayed>,
    cancelled: Vec<TimerId>,
    /// Ids of events that were sent, and where their records are.
    event_ids: Vec<SentId>,
    /// Ids that were marked by name.
    marks: Vec<Mark>,
    /// Reservations that the commit finishes. Those of a transaction that ends otherwise are released.
    reservations: Vec<Reservation>,
    pub(crate) tables: TableEffects,
}

/// The id of an event of a transaction.
#[derive(Debug)]
struct SentId {
    id: DedupId,
    partition: Partition,
    /// Which of the partition's batches.
    batch: usize,
    record: u32,
}

/// An event that is to be delivered later.
#[derive(Debug)]
struct Delayed {
    target: Partition,
    due_ms: i64,
    builder: BatchBuilder,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Names the commit.
    pub token: CommitToken,
    /// Position of the commit in the log's order: a reader that has seen it sees all of the transaction.
    pub csn: u64,
    /// First offset in each partition (topic id and index); for at most 64 partitions.
    pub base_offsets: Vec<(Partition, u64)>,
    /// The timers of the events that are delivered later, in the order in which they were sent.
    pub timers: Vec<TimerId>,
}

impl<'p> Transaction<'p> {
    pub(crate) fn new(producer: &'p mut Producer) -> Self {
        Transaction {
            sticky: producer.turn(),
            codec: None,
            producer,
            batches: BTreeMap::new(),
            bytes: 0,
            conditions: Vec::new(),
            cursor: None,
            acked: Vec::new(),
            seeks: BTreeMap::new(),
            event_ids: Vec::new(),
            marks: Vec::new(),
            reservations: Vec::new(),
            delayed: Vec::new(),
            cancelled: Vec::new(),
            tables: TableEffects::default(),
        }
    }

    /// Adds an event. Those of a topic that have no key go to one partition, and with the producer's next commit to the
    /// next one. If it has an id that its topic has seen when the transaction commits, the commit is refused
    /// ([`Refusal::EventSeen`]) and nothing of it is applied.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::TransactionTooLarge`], [`Error::EventIdLength`]; the transaction stays as it
    /// was.
    pub fn send(&mut self, topic: &Topic, event: Event) -> Result<(), Error> {
        let index = self.partition_of(topic, event.key.as_ref());
        self.add(topic, index, event)
    }

    /// Where the key says, or the transaction's turn.
    pub(crate) fn partition_of(&self, topic: &Topic, key: Option<&Bytes>) -> u32 {
        match key {
            Some(key) => partition_for_key(key, topic.partitions()),
            None => self.sticky % topic.partitions(),
        }
    }

    /// Adds an event to this partition, whatever its key says.
    ///
    /// # Errors
    /// As [`send`](Transaction::send), and [`Error::NoSuchPartition`].
    pub fn send_to(&mut self, topic: &Topic, partition: u32, event: Event) -> Result<(), Error> {
        self.check_partition(topic, partition)?;
        self.add(topic, partition, event)
    }

    pub(crate) fn check_partition(&self, topic: &Topic, partition: u32) -> Result<(), Error> {
        self.producer.inner.bounds(topic, partition).map(|_| ())
    }

    fn add(&mut self, topic: &Topic, index: u32, event: Event) -> Result<(), Error> {
        let id = event.id.as_ref().map(|id| self.producer.inner.dedup_id(id)).transpose()?;
        let timestamp_ms = event.timestamp_ms.unwrap_or_else(|| self.producer.inner.clock.wall_ms());
        let (partition, batch, record) =
            self.place(topic, index, event_bytes(&event), |batch| append(batch, &event, timestamp_ms))?;
        self.event_ids.extend(id.map(|id| SentId { id, partition, batch, record }));
        Ok(())
    }

    /// Has a record of at most so many bytes written into the partition's last batch, or a new one. Where it is:
    /// partition, which of its batches, which record of that.
    pub(crate) fn place(
        &mut self,
        topic: &Topic,
        index: u32,
        bytes: usize,
        append: impl FnOnce(&mut BatchBuilder) -> u32,
    ) -> Result<(Partition, usize, u32), Error> {
        self.producer.inner.check_codec(topic.id())?;
        topic.check_bytes(bytes)?;
        let max = topic.batch_bytes_max();
        let total = self.total_with(bytes)?;
        let partition = Partition { topic: topic.id(), index };
        let batches = self.batches.entry(partition).or_default();
        if batches.last().is_none_or(|batch| batch.len_bytes() + bytes > max) {
            batches.push(BatchBuilder::new(bytes.max(256)));
        }
        let batch = batches.last_mut().expect("one was just made");
        let record = append(batch);
        let batch = batches.len() - 1;
        self.bytes = total;
        Ok((partition, batch, record))
    }

    /// Compresses what this transaction commits, instead of with what the producer compresses.
    ///
    /// # Errors
    /// As [`Producer::set_compression`]; what was set stays.
    pub fn set_compression(&mut self, codec: Compression) -> Result<(), Error> {
        check_codec(codec)?;
        self.codec = Some(codec);
        Ok(())
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.producer.inner
    }

    /// Bytes of the transaction with so many more. Half of what a command may be: the rest is for batch headers,
    /// positions and conditions.
    pub(crate) fn total_with(&self, bytes: usize) -> Result<usize, Error> {
        let total = self.bytes + bytes;
        let most = (COMMIT_BYTES_MAX / 2).min(self.producer.inner.command_bytes_max / 2);
        match total > most {
            true => Err(Error::TransactionTooLarge { bytes: total, max: most }),
            false => Ok(total),
        }
    }

    /// Marks an id as done, within a scope that goes by a name (a group, a job): the mark is there exactly if the
    /// transaction is. If the id is marked or reserved when it commits, the commit is refused
    /// ([`Refusal::EventSeen`] with the first one's position, [`Refusal::EventReserved`]) and nothing of it is applied.
    ///
    /// # Errors
    /// [`Error::IllegalName`], [`Error::EventIdLength`], [`Error::TransactionTooLarge`]; the transaction stays as it
    /// was.
    pub fn mark(&mut self, scope: &str, id: impl Into<EventId>) -> Result<(), Error> {
        // Marks that follow each other share the name.
        let name = match self.marks.last() {
            Some(Mark::Named { scope: last, .. }) if **last == *scope => last.clone(),
            _ => {
                self.producer.inner.check_name("scope", scope)?;
                scope.into()
            }
        };
        let id = self.producer.inner.dedup_id(&id.into())?;
        self.bytes = self.total_with(MARK_BYTES + scope.len())?;
        self.marks.push(Mark::Named { scope: name, id, reservation: None });
        Ok(())
    }

    /// Finishes a reservation with the transaction. If its lease is over when that commits, the commit is refused
    /// ([`Refusal::ReservationLapsed`]); if the transaction is aborted or refused, the reservation is released.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`]: the reservation is released.
    pub fn finish(&mut self, reservation: Reservation) -> Result<(), Error> {
        let (scope, id, number) = reservation.mark();
        self.bytes = self.total_with(MARK_BYTES + scope.len())?;
        self.marks.push(Mark::Named { scope: scope.into(), id, reservation: Some(number) });
        self.reservations.push(reservation);
        Ok(())
    }

    /// Adds an event that is to be delivered at a time: as [`Producer::send_at`], if the transaction commits.
    /// [`CommitReceipt::timers`] has its timer then.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::TransactionTooLarge`]; the transaction stays as it was.
    pub fn send_at(&mut self, topic: &Topic, event: Event, when: SystemTime) -> Result<(), Error> {
        self.delay(topic, &event, due_at(when))
    }

    /// As [`send_at`](Transaction::send_at), so long after now.
    ///
    /// # Errors
    /// As [`send_at`](Transaction::send_at).
    pub fn send_after(&mut self, topic: &Topic, event: Event, delay: Duration) -> Result<(), Error> {
        let inner = &self.producer.inner;
        let due_ms = inner.timing.due_after(inner, delay);
        self.delay(topic, &event, due_ms)
    }

    fn delay(&mut self, topic: &Topic, event: &Event, due_ms: i64) -> Result<(), Error> {
        self.producer.inner.check_codec(topic.id())?;
        let builder = delayed_batch(topic, event, due_ms)?;
        let total = self.total_with(event_bytes(event) + HEADER_BYTES)?;
        let index = self.partition_of(topic, event.key.as_ref());
        self.bytes = total;
        self.delayed.push(Delayed { target: Partition { topic: topic.id(), index }, due_ms, builder });
        Ok(())
    }

    /// Gives a timer up, if the transaction commits. If it doesn't wait any more then, nothing of the transaction is
    /// applied: [`Refusal::TimerEnded`] says what became of it.
    pub fn cancel(&mut self, timer: TimerId) {
        self.cancelled.push(timer);
    }

    /// Takes over consumed records: their positions are committed with the outputs. After an abort they are
    /// delivered again.
    pub fn ack(&mut self, batch: Batch<'_>) {
        self.acked.push(batch.into_acked());
    }

    /// Moves a group that has no members, ahead or back, if the transaction commits; a group that doesn't exist is
    /// made. As [`Log::seek_group`](crate::Log::seek_group): no position may lie behind the end that its partition has
    /// before the transaction, and if the group has members by then the commit is refused
    /// ([`Refusal::GroupNotEmpty`]). Of one partition the last call counts.
    ///
    /// So a program that reads by itself, and not as a group, keeps its positions with what it makes of the records.
    ///
    /// # Errors
    /// [`Refusal::IllegalGroupName`], [`Error::NoSuchPartition`], [`Error::TransactionTooLarge`]; the transaction stays
    /// as it was.
    pub fn seek_group(&mut self, group: &str, positions: &[SeekTo]) -> Result<(), Error> {
        let inner = &self.producer.inner;
        inner.check_group_name(group)?;
        for to in positions {
            inner.bounds(&to.topic, to.partition)?;
        }
        let at = |to: &SeekTo| Partition { topic: to.topic.id(), index: to.partition };
        let known = self.seeks.get(group);
        let is_new = |to: &&SeekTo| known.is_none_or(|known| !known.contains_key(&at(to)));
        let name_bytes = if known.is_none() { group.len() } else { 0 };
        let added = positions.iter().filter(is_new).count() * POSITION_BYTES + name_bytes;
        self.bytes = self.total_with(added)?;
        let seeks = self.seeks.entry(group.to_string()).or_default();
        seeks.extend(positions.iter().map(|to| (at(to), to.offset)));
        Ok(())
    }

    /// Sets the producer's cursor: the position in an outside source (a file, a socket) up to which this transaction
    /// has taken everything. [`Producer::cursor`] gives it back after a restart.
    ///
    /// # Errors
    /// When it is longer than 256 bytes.
    pub fn set_cursor(&mut self, cursor: impl Into<Bytes>) -> Result<(), Error> {
        let cursor = cursor.into();
        if cursor.len() > CURSOR_BYTES_MAX {
            return Err(Error::Refused(Refusal::CursorTooLarge {
                bytes: cursor.len(),
                max: CURSOR_BYTES_MAX,
            }));
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    /// Commits only if the partition ends at this offset then.
    pub fn expect_end(&mut self, topic: &Topic, partition: u32, offset: u64) {
        let partition = Partition { topic: topic.id(), index: partition };
        self.conditions.push(Condition::EndOffset { partition, offset });
    }

    /// Commits only if the group's committed offset is this one then; `None`: it has none.
    pub fn expect_offset(&mut self, group: &str, topic: &Topic, partition: u32, offset: Option<u64>) {
        let partition = Partition { topic: topic.id(), index: partition };
        self.conditions.push(Condition::GroupOffset { group: group.to_string(), partition, offset });
    }

    /// Commits: afterwards all of it is in the log, as durable as the log promises, and readers see it.
    ///
    /// # Errors
    /// [`Error::Refused`] names the condition that failed: nothing was applied and the consumed records come again.
    /// [`Error::Unknown`]: the log stopped while writing; after [`Log::reopen`](crate::Log::reopen) or the next open
    /// [`Log::outcome`](crate::Log::outcome) tells, by the token.
    ///
    /// # Cancel safety
    /// A commit that is on its way isn't called back when the future is dropped. The producer's next commit waits
    /// for its outcome first, and fails with its error if it was refused, so no input is skipped.
    pub async fn commit(mut self) -> Result<CommitReceipt, Error> {
        let answer = self.hand_in().await?;
        answer.value().await;
        self.producer.conclude().map(|receipt| receipt.expect("it was just submitted"))
    }

    /// As [`commit`](Transaction::commit), blocking the thread.
    pub fn blocking_commit(mut self) -> Result<CommitReceipt, Error> {
        let answer = self.blocking_hand_in(Queue::push_quietly)?;
        self.producer.inner.wait_for(&answer);
        self.producer.conclude().map(|receipt| receipt.expect("it was just submitted"))
    }

    /// Hands the commit in, and doesn't wait for its outcome: [`Producer::outcome`] has it. Meanwhile the consumers of
    /// what it has taken over deliver what comes behind that.
    ///
    /// The producer's next commit waits for the outcome first, and fails with its error if this one was refused: then
    /// the input of both comes again. While it is unknown what becomes of its input, a consumer gives no partition up.
    ///
    /// # Errors
    /// As [`commit`](Transaction::commit); nothing of this transaction is on its way then.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits, for the outcome of the commit before it or for room, the transaction is aborted.
    pub async fn submit(mut self) -> Result<(), Error> {
        self.hand_in().await.map(|_| ())
    }

    /// As [`submit`](Transaction::submit), blocking the thread while it waits.
    pub fn blocking_submit(mut self) -> Result<(), Error> {
        self.blocking_hand_in(Queue::push).map(|_| ())
    }

    async fn hand_in(&mut self) -> Result<Arc<Answer>, Error> {
        self.producer.outcome().await?;
        self.check()?;
        let claim = self.producer.inner.queue.room().take(self.room_bytes()).await?.claim();
        self.queue(claim, Queue::push)
    }

    /// Whoever waits for the answer needn't have the writer told.
    fn blocking_hand_in(&mut self, push: Push) -> Result<Arc<Answer>, Error> {
        self.producer.blocking_outcome()?;
        self.check()?;
        let claim = self.producer.inner.queue.room().blocking_take(self.room_bytes())?.claim();
        self.queue(claim, push)
    }

    /// The token of this transaction's commit, to ask for its outcome later.
    pub fn token(&self) -> CommitToken {
        self.producer.next_token()
    }

    /// Gives the transaction up, as dropping it does.
    pub fn abort(self) {}

    fn check(&self) -> Result<(), Error> {
        let has_positions = !self.acked.is_empty() || self.seeks.values().any(|seeks| !seeks.is_empty());
        let has_parts = !self.batches.is_empty() || has_positions || !self.marks.is_empty();
        let has_parts = has_parts || !self.tables.is_empty();
        let has_timers = !self.delayed.is_empty() || !self.cancelled.is_empty();
        if !has_parts && !has_timers && self.cursor.is_none() {
            return Err(Error::EmptyTransaction);
        }
        Ok(())
    }

    fn room_bytes(&self) -> usize {
        /// What a commit takes besides its events, about.
        const COMMIT_BYTES: usize = 256;
        self.bytes + COMMIT_BYTES
    }

    /// From here on the producer keeps what has to be decided by the answer.
    fn queue(&mut self, claim: Claim, push: Push) -> Result<Arc<Answer>, Error> {
        let batches = std::mem::take(&mut self.batches);
        let marks = self.take_marks(&batches);
        let (inner, codec) = (self.producer.inner.clone(), self.codec.unwrap_or(self.producer.compression()));
        let finish = |at: Partition, builder| inner.finish(at.topic, builder, None, codec);
        let finished = batches.into_iter().flat_map(|(partition, builders)| {
            builders.into_iter().map(move |builder| Ok((partition, finish(partition, builder)?)))
        });
        let batches = finished.collect::<Result<Vec<_>, BatchError>>()?;
        let records = batches.iter().map(|(_, batch)| u64::from(batch.record_count())).sum();
        let set = std::mem::take(&mut self.delayed).into_iter().map(|Delayed { target, due_ms, builder }| {
            Ok(NewTimer { target, due_ms, batch: finish(target, builder)? })
        });
        let set = set.collect::<Result<Vec<_>, BatchError>>()?;
        let timers = TimerEffects { set, cancel: std::mem::take(&mut self.cancelled) };
        let timer_count = timers.set.len() as u64;
        let table_writes = self.tables.take_writes(&inner, codec)?;
        let mut conditions = std::mem::take(&mut self.conditions);
        conditions.extend(self.tables.take_conditions());
        let mut offsets: Vec<GroupOffsets> = Vec::new();
        for acked in &self.acked {
            acked.add_to(&mut offsets);
        }
        offsets.extend(std::mem::take(&mut self.seeks).into_iter().map(|(group, seeks)| {
            let to = |(partition, offset)| OffsetCommit {
                partition,
                offset,
                reset: true,
                metadata: OffsetMetadata::default(),
            };
            GroupOffsets { group, member: None, offsets: seeks.into_iter().map(to).collect() }
        }));
        // First this, then the number: if the log is opened again in between, the commit is refused, not mistaken for
        // one that was in flight then.
        let since = self.producer.reopens();
        let token = self.producer.next_token();
        let commit = Commit {
            token,
            cursor: self.cursor.clone(),
            batches,
            offsets,
            conditions,
            marks,
            timers,
            table_writes,
        };
        let command = Command::Commit(Box::new(commit));
        let answer = self.producer.inner.submit(command, Some(since), Some(claim), push)?;
        let (acked, cursor) = (std::mem::take(&mut self.acked), self.cursor.take());
        let reservations = std::mem::take(&mut self.reservations);
        self.producer.set_in_flight(InFlight {
            token,
            answer: answer.clone(),
            acked,
            cursor,
            reservations,
            timers: timer_count,
            since: Instant::now(),
            records,
            bytes: self.bytes as u64,
        });
        Ok(answer)
    }

    /// All marks, those of events with the places that their batches have in the command.
    fn take_marks(&mut self, batches: &BTreeMap<Partition, Vec<BatchBuilder>>) -> Vec<Mark> {
        let mut marks = std::mem::take(&mut self.marks);
        let mut first = BTreeMap::new();
        let mut next = 0;
        for (partition, builders) in batches {
            first.insert(*partition, next);
            next += builders.len();
        }
        marks.extend(self.event_ids.drain(..).map(|sent| {
            let batch = (first[&sent.partition] + sent.batch) as u32;
            Mark::Event { id: sent.id, batch, record: sent.record }
        }));
        marks
    }
}

/// What a position takes, in bytes.
const POSITION_BYTES: usize = 17;

/// What a mark takes besides the name of its scope, in bytes.
const MARK_BYTES: usize = 32;

/// A commit that was submitted.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) token: CommitToken,
    pub(crate) answer: Arc<Answer>,
    pub(crate) acked: Vec<Acked>,
    pub(crate) cursor: Option<Bytes>,
    pub(crate) reservations: Vec<Reservation>,
    /// How many timers it sets.
    pub(crate) timers: u64,
    /// When it was submitted, with how many records, and their bytes.
    pub(crate) since: Instant,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}
