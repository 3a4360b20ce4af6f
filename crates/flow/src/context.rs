//! What a handler gets: one event, and where its outputs go.
//!
//! Invariants
//!   * outputs are kept in memory until the commit of their event: an attempt that fails leaves none
//!   * what was read from a table through it is still so when it commits, or the attempt is made anew

use crate::clock::Clock;
use crate::dead_entry::{DeadEntry, EntryState};
use crate::dedup;
use crate::error::Error;
use crate::failure::Failure;
use crate::outbox::{End, Outbox, Overlay};
use crate::round::RecordOfRound;
use crate::settings::Settings;
use crate::trace::Trace;
use bytes::Bytes;
use exactlog::{Event, Record, Table, TimerId, Topic, Undecodable};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// One attempt at an event. Cheap to clone; a handler owns it.
///
/// What is handed in here ([`send`](Context::send), [`put`](Context::put), ..) becomes true with the event's commit, or
/// not at all: if the handler fails it is dropped.
#[derive(Clone, Debug)]
pub struct Context {
    attempt: Arc<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    record: RecordOfRound,
    settings: Arc<Settings>,
    number: u32,
    clock: Clock,
    trace: Option<Trace>,
    overlay: Arc<Overlay>,
    outbox: Mutex<Option<Outbox>>,
}

impl Context {
    pub(crate) fn new(
        record: RecordOfRound,
        settings: Arc<Settings>,
        number: u32,
        clock: Clock,
        overlay: Arc<Overlay>,
    ) -> Context {
        let trace = Trace::of(&record);
        let outbox = Mutex::new(Some(Outbox::stamping(stamp_of(&settings, &record))));
        Context { attempt: Arc::new(Attempt { record, settings, number, clock, trace, overlay, outbox }) }
    }

    /// The same attempt, with nothing handed in yet.
    pub(crate) fn afresh(&self) -> Context {
        let Attempt { record, settings, number, clock, trace, overlay, .. } = &*self.attempt;
        let outbox = Mutex::new(Some(Outbox::stamping(stamp_of(settings, record))));
        let (record, settings, trace) = (record.clone(), settings.clone(), trace.clone());
        let (number, clock, overlay) = (*number, *clock, overlay.clone());
        Context { attempt: Arc::new(Attempt { record, settings, number, clock, trace, overlay, outbox }) }
    }

    /// What it sends is of this trace, if there is one. For a context that nobody has yet.
    pub(crate) fn in_trace(mut self, trace: Option<Trace>) -> Context {
        if let (Some(trace), Some(attempt)) = (trace, Arc::get_mut(&mut self.attempt)) {
            attempt.trace = Some(trace);
        }
        self
    }

    /// The trace of the event.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.attempt.trace.as_ref()
    }

    /// The header `traceparent` for what this attempt asks of others (W3C Trace Context), if the event has one. Events
    /// that it [sends](Context::send) get it by themselves.
    pub fn traceparent(&self) -> Option<String> {
        self.trace().map(Trace::traceparent)
    }

    fn traced(&self, event: Event) -> Event {
        match self.trace() {
            Some(trace) => trace.put_in(event, self.record()),
            None => event,
        }
    }

    /// The time, ms since 1970, as the processor has it.
    pub(crate) fn now_ms(&self) -> i64 {
        self.attempt.clock.now_ms()
    }

    /// The event.
    pub fn record(&self) -> &Record {
        &self.attempt.record
    }

    /// Its key; empty if there is none.
    pub fn key(&self) -> &[u8] {
        self.record().key()
    }

    /// Its key as text. What isn't text is [`Class::Poison`](crate::Class::Poison).
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&str, Undecodable> {
        self.record().key_str()
    }

    /// Its payload; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.record().value()
    }

    /// Its payload as text. What isn't text is [`Class::Poison`](crate::Class::Poison).
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&str, Undecodable> {
        self.record().value_str()
    }

    /// Its payload as JSON. What isn't is [`Class::Poison`](crate::Class::Poison).
    ///
    /// # Errors
    /// When it isn't such a value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        self.record().json()
    }

    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.record().header(name)
    }

    /// Its id: the header `ce_id` or `message-id`, or `topic/partition/offset`. A good idempotency key for effects
    /// outside of the log.
    pub fn event_id(&self) -> String {
        dedup::event_id(self.record())
    }

    /// Its type: the header `ce_type` or `type`.
    pub fn event_type(&self) -> Option<&str> {
        dedup::event_type(self.record())
    }

    /// What a dead letter says of its death, for processors of [dead letters](crate::Processor::dead_letters).
    pub fn dead_entry(&self) -> DeadEntry {
        DeadEntry::of(self.record().clone(), EntryState::Dead)
    }

    /// The group that processes it.
    pub fn group(&self) -> &str {
        &self.attempt.settings.group
    }

    /// Which attempt this is; the first one is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// How many attempts are made at most.
    pub fn max_attempts(&self) -> u32 {
        self.attempt.settings.retry.max_attempts
    }

    /// Whether a failure of this attempt would be the last.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt.number >= self.max_attempts()
    }

    /// Sends an event when this one commits. Where it goes is as with a producer: by its key. If it has an id
    /// ([`Event::id`]) that its topic has seen, it is left out: the first one won.
    ///
    /// # Errors
    /// [`exactlog::Error::EventTooLarge`] and [`exactlog::Error::EventIdLength`], which no retry makes better.
    pub fn send(&self, topic: &Topic, event: Event) -> Result<(), Failure> {
        let event = self.traced(event);
        topic.check(&event)?;
        self.outbox(|outbox| outbox.send(topic, None, event))
    }

    /// As [`send`](Context::send), to this partition.
    ///
    /// # Errors
    /// As [`send`](Context::send), and [`exactlog::Error::NoSuchPartition`].
    pub fn send_to(&self, topic: &Topic, partition: u32, event: Event) -> Result<(), Failure> {
        let event = self.traced(event);
        if partition >= topic.partitions() {
            let (topic, partitions) = (topic.name().to_string(), topic.partitions());
            return Err(exactlog::Error::NoSuchPartition { topic, partition, partitions }.into());
        }
        topic.check(&event)?;
        self.outbox(|outbox| outbox.send(topic, Some(partition), event))
    }

    /// Sends an event so long after this one commits: a timer in the log, which survives whatever happens meanwhile.
    ///
    /// # Errors
    /// As [`send`](Context::send), and [`exactlog::Error::EventIdDelayed`].
    pub fn send_after(&self, topic: &Topic, event: Event, delay: Duration) -> Result<(), Failure> {
        let event = self.traced(event);
        topic.check(&event)?;
        if event.id.is_some() {
            return Err(exactlog::Error::EventIdDelayed.into());
        }
        self.outbox(|outbox| outbox.send_after(topic, event, delay))
    }

    /// Sends the event itself on when it commits: key, value, headers and timestamp byte for byte. Where it goes is as
    /// with a producer: by its key.
    ///
    /// # Errors
    /// [`exactlog::Error::EventTooLarge`], which no retry makes better.
    pub fn forward(&self, topic: &Topic) -> Result<(), Failure> {
        topic.check_record(self.record())?;
        self.outbox(|outbox| outbox.forward(topic, self.record().clone()))
    }

    /// Whether the event is processed once more, by a [`Replay`](crate::Replay): what was done outside of the log was
    /// done before.
    pub fn is_replay(&self) -> bool {
        self.attempt.settings.replay.is_some()
    }

    /// Gives a timer up when this event commits. One that has ended by then is left alone.
    ///
    /// # Errors
    /// [`Error::AttemptOver`].
    pub fn cancel(&self, timer: TimerId) -> Result<(), Failure> {
        self.outbox(|outbox| outbox.cancel(timer))
    }

    /// What a key of a table has: what was written by this attempt, or by an event of the same commit before it, or
    /// what the table has. If somebody else changes it until the commit, the attempt is made anew.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn get(&self, table: &Table, key: impl Into<Bytes>) -> Result<Option<Bytes>, Failure> {
        let key = key.into();
        self.outbox(|outbox| outbox.get(table, key, &self.attempt.overlay))?
    }

    /// As [`get`](Context::get), a value as JSON.
    ///
    /// # Errors
    /// What reading can answer, and a value that isn't what was asked for ([`Class::Permanent`](crate::Class)).
    pub fn get_json<T: DeserializeOwned>(
        &self,
        table: &Table,
        key: impl Into<Bytes>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(table, key)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&value);
        parsed.map(Some).map_err(|error| Failure::permanent(format!("table {}", table.name()), error))
    }

    /// Writes a key of a table when this event commits.
    ///
    /// # Errors
    /// [`exactlog::Error::EventTooLarge`].
    pub fn put(&self, table: &Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), Failure> {
        self.write(table, key.into(), Some(value.into()))
    }

    /// As [`put`](Context::put), a value as JSON.
    ///
    /// # Errors
    /// As [`put`](Context::put), and a value that JSON doesn't have.
    pub fn put_json(
        &self,
        table: &Table,
        key: impl Into<Bytes>,
        value: &impl Serialize,
    ) -> Result<(), Failure> {
        let value = serde_json::to_vec(value).map_err(|error| Failure::permanent("JSON", error))?;
        self.write(table, key.into(), Some(value.into()))
    }

    /// Takes a key out of a table when this event commits.
    ///
    /// # Errors
    /// [`Error::AttemptOver`].
    pub fn delete(&self, table: &Table, key: impl Into<Bytes>) -> Result<(), Failure> {
        self.write(table, key.into(), None)
    }

    /// Says how it ended, for whoever counts: the event is done all the same. Default `ok`.
    ///
    /// # Errors
    /// [`Error::AttemptOver`].
    pub fn set_outcome(&self, outcome: &'static str) -> Result<(), Failure> {
        self.end(End::Done(outcome))
    }

    /// What was handed in is committed, but the event isn't done: its handler is called for it again, after `after` or
    /// a little later, and all attempts are its again. Until then it waits as failed events do, with others of its key
    /// behind it. So a handler can work in stages, each one a commit; a table tells it where it is.
    ///
    /// # Errors
    /// [`Error::AttemptOver`].
    pub fn call_again(&self, after: Duration) -> Result<(), Failure> {
        self.end(End::Again { after, failure: None })
    }

    /// What was handed in is committed, and the event is dead-lettered for this failure, whatever its class. (A handler
    /// that answers with an error hands in nothing.)
    ///
    /// # Errors
    /// [`Error::AttemptOver`].
    pub fn give_up(&self, failure: Failure) -> Result<(), Failure> {
        self.end(End::Dead(failure))
    }

    /// Where it goes if it is dead-lettered.
    pub(crate) fn dead_letter_topic(&self) -> String {
        let settings = &self.attempt.settings;
        settings.dead_letter.topic_for(&self.record().topic, &settings.group)
    }

    pub(crate) fn end(&self, end: End) -> Result<(), Failure> {
        self.outbox(|outbox| outbox.set_end(end))
    }

    /// Gives each event that is sent from now on these headers, too.
    pub(crate) fn stamp(&self, headers: Vec<(&'static str, Bytes)>) -> Result<(), Failure> {
        self.outbox(|outbox| outbox.stamp(headers))
    }

    fn write(&self, table: &Table, key: Bytes, value: Option<Bytes>) -> Result<(), Failure> {
        let event = Event { key: Some(key), value, ..Event::default() };
        table.topic().check(&event)?;
        let (Some(key), value) = (event.key, event.value) else { unreachable!("it was just given one") };
        self.outbox(|outbox| outbox.write(table, key, value))
    }

    /// The outputs, when the handler is done. Whoever still has the context afterwards is refused.
    pub(crate) fn finish(&self) -> Outbox {
        self.attempt.outbox.lock().take().unwrap_or_default()
    }

    fn outbox<T>(&self, with: impl FnOnce(&mut Outbox) -> T) -> Result<T, Failure> {
        match self.attempt.outbox.lock().as_mut() {
            Some(outbox) => Ok(with(outbox)),
            None => {
                let Record { topic, partition, offset, .. } = self.record();
                let (topic, partition, offset) = (topic.clone(), *partition, *offset);
                Err(Error::AttemptOver { topic, partition, offset }.into())
            }
        }
    }
}

/// Headers of everything that comes of a record.
fn stamp_of(settings: &Settings, record: &Record) -> Vec<(&'static str, Bytes)> {
    settings.replay.as_ref().map_or_else(Vec::new, |replay| replay.headers(record))
}
