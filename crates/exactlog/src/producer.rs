//! Sending: a named, idempotent producer whose records travel in batches that nobody has to wait for.
//!
//! ```text
//!   send -> encode into the partition's open batch (first record: one token to the writer)
//!   writer, when its sync returns: takes whatever is there, full batches and open ones, in order
//! ```
//!
//! So there is no linger: groups grow by themselves with what arrives during a sync.
//!
//! Invariants
//!   * records of one producer and partition keep their order
//!   * a record is either answered or its slot says why not; nothing is dropped silently

use crate::clients::Sent;
use crate::clock::Clock;
use crate::dedup::Reservation;
use crate::error::Error;
use crate::event::{Event, Receipt};
use crate::log::{Handle, Inner};
use crate::metrics::add;
use crate::queue::{Answer, Push, Queue, Responder, Work};
use crate::repeats::{Gathering, Identified, Repeats};
use crate::room::Reserved;
use crate::slot::Slot;
use crate::topic::Topic;
use crate::transaction::{CommitReceipt, InFlight, Transaction};
use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, BatchError, Compression, ProducerStamp};
use exactlog_core::command::{Command, CommitToken};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TimerId, TopicId};
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::reply::{Committed, Refusal, Reply};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Largest batch that a producer gathers, in bytes; a single larger event still travels, alone.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// What a batch needs besides its records, for the accounting of bytes in flight.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// What a header takes at most besides name and value: two lengths, in bytes.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// A named producer. Cheap to share by reference or [`Arc`]; only [`begin`](Producer::begin) needs it alone.
///
/// Opening a second one of the same name fences this one.
#[derive(Debug)]
pub struct Producer {
    pub(crate) inner: Handle,
    pub(crate) name: Arc<str>,
    pub(crate) id: ProducerId,
    pub(crate) epoch: i16,
    last_number: u64,
    cursor: Option<Bytes>,
    /// A commit whose outcome isn't taken in yet.
    in_flight: Option<InFlight>,
    /// The last commit ended unknown: the log knows its number once it is open again.
    in_doubt: bool,
    accumulator: Arc<Accumulator>,
}

/// Records of one producer on their way to the writer.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pub(crate) name: Arc<str>,
    id: ProducerId,
    epoch: i16,
    /// Codec of what is sealed from now on, by its number.
    compression: AtomicU8,
    sent: Arc<Sent>,
    clock: Clock,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// Few: found by looking through.
    topics: Vec<Lanes>,
    /// Full, oldest first.
    closed: VecDeque<ClosedBatch>,
    /// A token is with the writer.
    queued: bool,
    /// How often the log had been opened again when the sequences were right.
    since: u64,
}

/// The partitions of a topic.
#[derive(Debug)]
struct Lanes {
    topic: TopicId,
    /// Where events without a key go now.
    sticky: u32,
    by_index: Vec<Lane>,
}

/// What is on its way to one partition.
#[derive(Debug, Default)]
struct Lane {
    open: Option<OpenBatch>,
    next_sequence: i32,
    /// Length of the last batch, in bytes: the next one will be about as long.
    last_len: usize,
}

#[derive(Debug)]
struct OpenBatch {
    builder: BatchBuilder,
    responder: Responder<u64>,
    config_version: u32,
    /// When it was opened.
    first_ms: i64,
    /// The ids of its events: all have one, or none.
    ids: Option<Box<Gathering>>,
}

/// A batch that has its place in the order of its partition. Its checksum is left to whoever takes it.
#[derive(Debug)]
struct ClosedBatch {
    partition: Partition,
    base_sequence: i32,
    batch: OpenBatch,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) partition: Partition,
    pub(crate) batch: Batch,
    pub(crate) config_version: u32,
    /// How often the log had been opened again when its sequence was given out.
    pub(crate) since: u64,
    /// Base offset of the batch, for all its tickets.
    pub(crate) responder: Responder<u64>,
    /// The ids of its events, if they have some: it has no sequence then.
    pub(crate) ids: Option<Box<Identified>>,
}

/// Base offset of a batch, for all its tickets.
pub(crate) type BatchAnswer = Slot<Result<u64, Error>>;

/// The promise of a receipt. Await it, or block on it; drop it if you don't care: the event is on its way.
#[derive(Debug)]
#[must_use = "a ticket says whether and where the event was stored"]
pub struct Ticket {
    answer: Arc<BatchAnswer>,
    partition: u32,
    index: u32,
    /// Of a batch whose events have ids.
    repeats: Option<Arc<Repeats>>,
    /// It joined an event of the same id that was on its way.
    joined: bool,
    place: Option<usize>,
}

impl Ticket {
    /// Blocks until the event is as durable as the log promises.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<Receipt, Error> {
        self.receipt(self.answer.wait())
    }

    /// The receipt, if it is there.
    pub fn peek(&self) -> Option<Result<Receipt, Error>> {
        self.answer.peek().map(|answer| self.receipt(answer))
    }

    fn receipt(&self, answer: &Result<u64, Error>) -> Result<Receipt, Error> {
        let base_offset = *answer.as_ref().map_err(Clone::clone)?;
        let Some(repeats) = &self.repeats else {
            let offset = base_offset + u64::from(self.index);
            return Ok(Receipt { partition: self.partition, offset, duplicate: false });
        };
        let (partition, offset, is_repeat) = repeats.place_of(self.index, self.partition, base_offset);
        Ok(Receipt { partition, offset, duplicate: is_repeat || self.joined })
    }
}

/// # Cancel safety
/// Dropping the future changes nothing: the event was submitted and will be stored.
impl Future for Ticket {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut place = this.place;
        let polled = this.answer.poll(&mut place, context).map(|answer| this.receipt(answer));
        this.place = place;
        polled
    }
}

impl Producer {
    pub(crate) fn open(inner: &Handle, name: &str) -> Result<Producer, Error> {
        inner.check_name("producer", name)?;
        let applied = inner.command(Command::InitProducer { name: Some(name.to_string()) })?;
        let Reply::Producer { producer, producer_epoch, last_number, cursor } = applied.reply else {
            unreachable!("InitProducer answers with a producer or a refusal")
        };
        let name: Arc<str> = name.into();
        let since = inner.reopens.load(std::sync::atomic::Ordering::Acquire);
        let gathered = Mutex::new(Gathered { since, ..Gathered::default() });
        let accumulator = Arc::new(Accumulator {
            name: name.clone(),
            id: producer,
            epoch: producer_epoch,
            compression: AtomicU8::new(Compression::None.id()),
            sent: inner.clients.producer(&name),
            clock: inner.clock.clone(),
            gathered,
        });
        inner.register(&accumulator);
        Ok(Producer {
            inner: inner.clone(),
            name,
            id: producer,
            epoch: producer_epoch,
            last_number,
            cursor,
            in_flight: None,
            in_doubt: false,
            accumulator,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compresses what is sent and committed from now on; at first nothing is compressed. Batches whose turn to be
    /// written has not come yet are compressed, too. A batch that a codec would not make shorter is left as it is, so
    /// that the limits hold which it was admitted by; they count its uncompressed bytes. A topic with a
    /// [codec of its own](crate::TopicOptions::compression) has that one, whatever is set here.
    ///
    /// Sent batches are compressed by the thread that writes for all, transactions by the thread that commits:
    /// the benchmark `compression` measures what each codec takes.
    ///
    /// # Errors
    /// [`Error::Batch`] with [`BatchError::CodecMissing`] when this build lacks the codec's cargo feature: the setting
    /// stays as it was.
    ///
    /// # Kafka equivalent
    /// `compression.type` of a producer.
    pub fn set_compression(&self, codec: Compression) -> Result<(), Error> {
        check_codec(codec)?;
        self.accumulator.compression.store(codec.id(), Ordering::Relaxed);
        Ok(())
    }

    /// What [`set_compression`](Producer::set_compression) has set.
    pub fn compression(&self) -> Compression {
        self.accumulator.compression()
    }

    /// The position in an outside source that the last commit with a cursor has set: where to go on after a kill.
    pub fn cursor(&self) -> Option<&Bytes> {
        self.cursor.as_ref()
    }

    /// Sends one event and waits until it is as durable as the log promises.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::Fenced`], [`Error::Unknown`] when the log stopped while writing.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room nothing was sent; later the event is on its way all the same.
    ///
    /// # Kafka equivalent
    /// `producer.send(record).get()` with `acks=all` and `enable.idempotence=true`.
    pub async fn send(&self, topic: &Topic, event: Event) -> Result<Receipt, Error> {
        self.submit(topic, event).await?.await
    }

    /// As [`send`](Producer::send), blocking the thread.
    pub fn blocking_send(&self, topic: &Topic, event: Event) -> Result<Receipt, Error> {
        let bytes = self.check(topic, &event)?;
        let claim = self.inner.queue.room().blocking_take(bytes)?;
        let ticket = self.gather(topic, event, bytes, claim, Queue::push_quietly)?;
        self.inner.wait_for(&ticket.answer);
        ticket.wait()
    }

    /// Waits for room and submits an event; the ticket says when and where it was stored. Keep many of them.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::Closed`]. What happens later is the ticket's to tell.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits for room, nothing was submitted.
    pub async fn submit(&self, topic: &Topic, event: Event) -> Result<Ticket, Error> {
        let bytes = self.check(topic, &event)?;
        let claim = self.inner.queue.room().take(bytes).await?;
        self.gather(topic, event, bytes, claim, Queue::push)
    }

    /// As [`submit`](Producer::submit), blocking the thread while there is no room.
    pub fn blocking_submit(&self, topic: &Topic, event: Event) -> Result<Ticket, Error> {
        let bytes = self.check(topic, &event)?;
        let claim = self.inner.queue.room().blocking_take(bytes)?;
        self.gather(topic, event, bytes, claim, Queue::push)
    }

    /// As [`submit`](Producer::submit), but instead of waiting answers [`Error::Full`].
    pub fn try_submit(&self, topic: &Topic, event: Event) -> Result<Ticket, Error> {
        let bytes = self.check(topic, &event)?;
        self.inner.check_open()?;
        let claim = self.inner.queue.room().try_take(bytes)?;
        self.gather(topic, event, bytes, claim, Queue::push)
    }

    /// Begins a transaction: what is sent and acked in it takes effect at one position of the log, or not at all.
    ///
    /// A producer has one transaction at a time; the compiler sees to it. Dropping it aborts.
    pub fn begin(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// Runs `body` in a transaction and commits it; an error from it aborts.
    ///
    /// # Errors
    /// What `body` answers, or what [`Transaction::blocking_commit`] does.
    pub fn transaction<T, E: From<Error>>(
        &mut self,
        body: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut transaction = self.begin();
        let value = body(&mut transaction)?;
        transaction.blocking_commit()?;
        Ok(value)
    }

    /// What became of the commit that was [handed in](Transaction::submit) last. `None`: it is known already, or there
    /// was none.
    ///
    /// # Errors
    /// As [`Transaction::commit`]: then what the commit had taken over is delivered again.
    ///
    /// # Cancel safety
    /// Safe: the next call tells it.
    pub async fn outcome(&mut self) -> Result<Option<CommitReceipt>, Error> {
        if let Some(answer) = self.in_flight() {
            answer.value().await;
        }
        self.conclude()
    }

    /// As [`outcome`](Producer::outcome), blocking the thread.
    pub fn blocking_outcome(&mut self) -> Result<Option<CommitReceipt>, Error> {
        if let Some(answer) = self.in_flight() {
            self.inner.wait_for(&answer);
        }
        self.conclude()
    }

    /// The token of the next commit.
    pub(crate) fn next_token(&self) -> CommitToken {
        let state = self.in_doubt.then(|| self.inner.state.read());
        let known = state.as_ref().and_then(|state| state.producers.get(&self.id));
        let last_number = known.map_or(self.last_number, |known| known.last_number);
        CommitToken { producer: self.id, producer_epoch: self.epoch, number: last_number + 1 }
    }

    /// Which partition's turn it is for events without a key, modulo their number: it moves on with each commit, and
    /// not all producers begin with the same.
    pub(crate) fn turn(&self) -> u32 {
        (self.id.0 as u32).wrapping_add(self.last_number as u32)
    }

    pub(crate) fn in_flight(&self) -> Option<Arc<Answer>> {
        self.in_flight.as_ref().map(|in_flight| in_flight.answer.clone())
    }

    /// How often the log was opened again, before its state is looked at for a commit.
    pub(crate) fn reopens(&self) -> u64 {
        self.inner.reopens.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn set_in_flight(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// Takes in the outcome of the commit in flight, whose answer is there. Refused: its input goes back.
    pub(crate) fn conclude(&mut self) -> Result<Option<CommitReceipt>, Error> {
        let Some(mut in_flight) = self.in_flight.take() else { return Ok(None) };
        let answer = in_flight.answer.peek().expect("the answer was awaited").clone();
        let InFlight { since, records, bytes, .. } = in_flight;
        self.accumulator.sent.answered(&answer, records, bytes, since.elapsed());
        // Only a commit that went well settles the numbers: one that was refused says nothing of the one before.
        self.in_doubt = answer.is_err() && (self.in_doubt || matches!(answer, Err(Error::Unknown(_))));
        // What has finished them may be in the log; after a refusal they are released, as they are dropped.
        if !matches!(answer, Err(Error::Refused(_))) {
            in_flight.reservations.iter_mut().for_each(Reservation::settle);
        }
        // If it is a refusal they are delivered again.
        in_flight.acked.into_iter().for_each(|acked| acked.settle_by(&in_flight.answer, in_flight.token));
        let applied = answer.map_err(|error| self.explain(error))?;
        let Reply::Committed(committed) = applied.reply else {
            unreachable!("a new token is answered with a commit or a refusal")
        };
        self.last_number = in_flight.token.number;
        if let Some(cursor) = in_flight.cursor {
            self.cursor = Some(cursor);
        }
        let Committed { lsn, base_offsets, first_timer, .. } = committed;
        let timers = first_timer.map_or(0..0, |first| first.0..first.0 + in_flight.timers);
        let timers = timers.map(TimerId).collect();
        Ok(Some(CommitReceipt { token: in_flight.token, csn: lsn, base_offsets, timers }))
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Refused(Refusal::CommitFenced { .. } | Refusal::CommitForgotten { .. }) => {
                Error::Fenced { name: self.name.to_string() }
            }
            error => error.of_consumer(),
        }
    }

    fn check(&self, topic: &Topic, event: &Event) -> Result<usize, Error> {
        self.inner.check_codec(topic.id())?;
        let bytes = event_bytes(event);
        topic.check_bytes(bytes)?;
        Ok(bytes)
    }

    fn gather(
        &self,
        topic: &Topic,
        event: Event,
        bytes: usize,
        reserved: Reserved<'_>,
        push: Push,
    ) -> Result<Ticket, Error> {
        let id = event.id.as_ref().map(|id| self.inner.dedup_id(id)).transpose()?;
        let (ticket, first) = self.accumulator.add(topic, &event, id, bytes, reserved);
        if ticket.joined {
            add(&self.inner.counters.dedup_hits, 1);
        }
        if first && !push(&self.inner.queue, Work::Records(self.accumulator.clone())) {
            let gathered = self.accumulator.restart(0, |_, _, _| None);
            gathered.into_iter().for_each(|responder| responder.answer(Err(Error::Closed)));
            return Err(Error::Closed);
        }
        Ok(ticket)
    }
}

/// The commit in flight goes on without its producer: its input waits for the outcome.
impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(InFlight { answer, acked, token, mut reservations, .. }) = self.in_flight.take() {
            // Nobody knows yet what becomes of them: their leases end by themselves.
            reservations.iter_mut().for_each(Reservation::settle);
            acked.into_iter().for_each(|acked| acked.settle_by(&answer, token));
        }
    }
}

/// Whether this build has the codec.
pub(crate) fn check_codec(codec: Compression) -> Result<(), Error> {
    match codec.is_available() {
        true => Ok(()),
        false => Err(Error::Batch(BatchError::CodecMissing { compression: codec })),
    }
}

/// Upper bound of what an event takes in a batch, in bytes.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let headers = event.headers.iter().map(|(name, value)| name.len() + len(value));
    record_bytes(&event.key, &event.value, headers)
}

/// The same of a record, with the lengths of name and value of each header.
pub(crate) fn record_bytes(
    key: &Option<Bytes>,
    value: &Option<Bytes>,
    headers: impl Iterator<Item = usize>,
) -> usize {
    let headers: usize = headers.map(|bytes| bytes + HEADER_OVERHEAD_BYTES).sum();
    len(key) + len(value) + headers + RECORD_OVERHEAD_BYTES
}

pub(crate) fn len(bytes: &Option<Bytes>) -> usize {
    bytes.as_ref().map_or(0, Bytes::len)
}

/// Appends an event to a batch that is being built.
pub(crate) fn append(builder: &mut BatchBuilder, event: &Event, timestamp_ms: i64) -> u32 {
    let key = event.key.as_deref();
    let value = event.value.as_deref();
    if event.headers.is_empty() {
        return builder.append(timestamp_ms, key, value, &[]);
    }
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        event.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
    builder.append(timestamp_ms, key, value, &headers)
}

impl Accumulator {
    /// Adds a record; whether the writer must be told.
    fn add(
        &self,
        topic: &Topic,
        event: &Event,
        id: Option<DedupId>,
        bytes: usize,
        reserved: Reserved<'_>,
    ) -> (Ticket, bool) {
        let batch_max = BATCH_BYTES_MAX.min(topic.batch_bytes_max());
        let key_index = event.key.as_ref().map(|key| partition_for_key(key, topic.partitions()));
        let mut gathered = self.gathered.lock();
        let Gathered { topics, closed, queued, .. } = &mut *gathered;
        let lanes = lanes_of(topics, topic);
        let index = key_index.unwrap_or(lanes.sticky);
        let lane = &mut lanes.by_index[index as usize];
        if let (Some(open), Some(id)) = (&lane.open, id)
            && let Some(ticket) = open.join(id, index)
        {
            return (ticket, false);
        }
        let is_of_other_kind = lane.open.as_ref().is_some_and(|open| open.ids.is_some() != id.is_some());
        if lane.open.as_ref().is_some_and(|open| open.builder.len_bytes() + bytes > batch_max) {
            closed.extend(lane.close(Partition { topic: topic.id(), index }));
            lanes.sticky = (lanes.sticky + 1) % topic.partitions();
        } else if is_of_other_kind {
            closed.extend(lane.close(Partition { topic: topic.id(), index }));
        }
        let Lane { open, last_len, .. } = lane;
        let open = open.get_or_insert_with(|| OpenBatch {
            builder: BatchBuilder::new(bytes.max(*last_len)),
            responder: Responder::counting(Arc::default(), &self.sent),
            config_version: topic.config_version(),
            first_ms: self.clock.wall_ms(),
            ids: id.map(|_| Box::default()),
        });
        // A full reading of the clock costs as much as all the rest: who joins others is a tick off at most.
        let timestamp_ms =
            event.timestamp_ms.unwrap_or_else(|| self.clock.ticked_wall_ms().max(open.first_ms));
        let index_in_batch = append(&mut open.builder, event, timestamp_ms);
        open.responder.add(reserved);
        if let (Some(ids), Some(id)) = (&mut open.ids, id) {
            ids.add(id);
        }
        let ticket = open.ticket(index, index_in_batch, false);
        (ticket, !std::mem::replace(queued, true))
    }

    /// Takes batches in order until `bytes_max` is reached, and at least one; whether there is more. Each batch counts
    /// `overhead_bytes` more than it has.
    pub(crate) fn take(
        &self,
        inner: &Inner,
        bytes_max: usize,
        overhead_bytes: usize,
        into: &mut VecDeque<Sealed>,
    ) -> bool {
        let (mut taken, mut total) = (Vec::new(), 0);
        let mut gathered = self.gathered.lock();
        let since = gathered.since;
        let more = !gathered.close_while(
            |builder| {
                let is_first = total == 0;
                total += builder.len_bytes() + overhead_bytes;
                is_first || total <= bytes_max
            },
            &mut taken,
        );
        gathered.queued = more;
        drop(gathered);
        into.extend(taken.into_iter().map(|closed| self.seal(inner, closed, since)));
        more
    }

    /// Gives up what is gathered, and goes on behind what the log holds: `next` says which sequence that is. Those who
    /// wait for what was given up are to be answered.
    pub(crate) fn restart(
        &self,
        reopens: u64,
        next: impl Fn(Partition, ProducerId, i16) -> Option<i32>,
    ) -> Vec<Responder<u64>> {
        let mut gathered = self.gathered.lock();
        let gathered = &mut *gathered;
        gathered.since = reopens;
        gathered.queued = false;
        let mut given_up: Vec<_> = gathered.closed.drain(..).map(|closed| closed.batch.responder).collect();
        for lanes in &mut gathered.topics {
            for (index, lane) in lanes.by_index.iter_mut().enumerate() {
                let partition = Partition { topic: lanes.topic, index: index as u32 };
                lane.next_sequence = next(partition, self.id, self.epoch).unwrap_or(0);
                given_up.extend(lane.open.take().map(|open| open.responder));
            }
        }
        given_up
    }

    /// Gives what is gathered the sequences behind what the log holds, as [`restart`](Accumulator::restart) does, but
    /// gives nothing up. Only if its sequences belong to this open.
    pub(crate) fn renumber(&self, reopens: u64, next: impl Fn(Partition, ProducerId, i16) -> Option<i32>) {
        let mut gathered = self.gathered.lock();
        let Gathered { topics, closed, since, .. } = &mut *gathered;
        if *since != reopens {
            return;
        }
        for lanes in topics {
            for (lane, index) in lanes.by_index.iter_mut().zip(0..) {
                let partition = Partition { topic: lanes.topic, index };
                lane.next_sequence = next(partition, self.id, self.epoch).unwrap_or(0);
                for closed in closed.iter_mut().filter(|closed| closed.partition == partition) {
                    closed.base_sequence = lane.next_sequence;
                    lane.next_sequence = closed.sequence_behind();
                }
            }
        }
    }

    /// Which open its sequences belong to.
    pub(crate) fn since(&self) -> u64 {
        self.gathered.lock().since
    }

    fn seal(&self, inner: &Inner, closed: ClosedBatch, since: u64) -> Sealed {
        let ClosedBatch { partition, base_sequence, batch } = closed;
        let stamp = ProducerStamp { id: self.id, epoch: self.epoch, base_sequence };
        let OpenBatch { builder, responder, config_version, ids, .. } = batch;
        // Ids take the place of sequences.
        let stamp = ids.is_none().then_some(stamp);
        let batch = inner.finish(partition.topic, builder, stamp, self.compression());
        let batch =
            batch.expect("the codec is in this build, and max.message.bytes is far below what it takes");
        let ids = ids.map(|ids| Box::new(ids.seal()));
        Sealed { partition, batch, config_version, since, responder, ids }
    }

    /// Who sends what has ids.
    pub(crate) fn sender(&self) -> (ProducerId, i16) {
        (self.id, self.epoch)
    }

    pub(crate) fn compression(&self) -> Compression {
        Compression::from_id(self.compression.load(Ordering::Relaxed)).expect("it was made of a codec")
    }
}

impl Gathered {
    /// Takes batches in order as long as they are admitted; whether all were.
    fn close_while(
        &mut self,
        mut admits: impl FnMut(&BatchBuilder) -> bool,
        into: &mut Vec<ClosedBatch>,
    ) -> bool {
        while let Some(closed) = self.closed.pop_front() {
            if !admits(&closed.batch.builder) {
                self.closed.push_front(closed);
                return false;
            }
            into.push(closed);
        }
        for Lanes { topic, sticky, by_index } in &mut self.topics {
            let partitions = by_index.len() as u32;
            for (lane, index) in by_index.iter_mut().zip(0..) {
                match &lane.open {
                    None => continue,
                    Some(open) if !admits(&open.builder) => return false,
                    Some(_) => into.extend(lane.close(Partition { topic: *topic, index })),
                }
                *sticky = (*sticky + 1) % partitions;
            }
        }
        true
    }
}

impl ClosedBatch {
    fn sequence_behind(&self) -> i32 {
        self.batch.sequence_behind(self.base_sequence)
    }
}

impl OpenBatch {
    /// The sequence behind its records, if the first has this one; events with ids take none.
    fn sequence_behind(&self, base_sequence: i32) -> i32 {
        let records = if self.ids.is_some() { 0 } else { self.builder.record_count() };
        exactlog_core::batch::sequence_after(base_sequence, records)
    }

    fn ticket(&self, partition: u32, index: u32, joined: bool) -> Ticket {
        let repeats = self.ids.as_ref().map(|ids| ids.told().clone());
        Ticket { answer: self.responder.slot().clone(), partition, index, repeats, joined, place: None }
    }

    /// The ticket of an event whose id is in the batch already.
    fn join(&self, id: DedupId, partition: u32) -> Option<Ticket> {
        let index = self.ids.as_ref()?.index_of(id)?;
        Some(self.ticket(partition, index, true))
    }
}

impl Lane {
    /// Ends the open batch, if there is one: it takes the next sequences of the partition.
    fn close(&mut self, partition: Partition) -> Option<ClosedBatch> {
        let batch = self.open.take()?;
        let base_sequence = self.next_sequence;
        self.next_sequence = batch.sequence_behind(base_sequence);
        self.last_len = batch.builder.len_bytes();
        Some(ClosedBatch { partition, base_sequence, batch })
    }
}

fn lanes_of<'a>(topics: &'a mut Vec<Lanes>, topic: &Topic) -> &'a mut Lanes {
    let at = topics.iter().position(|lanes| lanes.topic == topic.id()).unwrap_or_else(|| {
        topics.push(Lanes { topic: topic.id(), sticky: 0, by_index: Vec::new() });
        topics.len() - 1
    });
    let lanes = &mut topics[at];
    let partitions = topic.partitions() as usize;
    if lanes.by_index.len() < partitions {
        lanes.by_index.resize_with(partitions, Lane::default);
    }
    lanes
}
