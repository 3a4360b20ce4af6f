//! What a handler gets: one event, and where its outputs go.
//!
//! Invariants
//!   * outputs are kept in memory until the commit of their event: an attempt that fails leaves none
//!   * what was read from a table through it is still so when it commits, or the attempt is made anew

use crate::dedup;
use crate::error::Error;
use crate::failure::Failure;
use crate::outbox::{Outbox, Overlay};
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
    record: Record,
    group: Arc<str>,
    number: u32,
    max: u32,
    overlay: Arc<Overlay>,
    outbox: Mutex<Option<Outbox>>,
}

impl Context {
    pub(crate) fn new(
        record: Record,
        group: Arc<str>,
        (number, max): (u32, u32),
        overlay: Arc<Overlay>,
    ) -> Context {
        let outbox = Mutex::new(Some(Outbox::default()));
        Context { attempt: Arc::new(Attempt { record, group, number, max, overlay, outbox }) }
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
        match dedup::named_id(self.record()) {
            Some(id) => String::from_utf8_lossy(id).into_owned(),
            None => dedup::position_id(self.record()),
        }
    }

    /// Its type: the header `ce_type` or `type`.
    pub fn event_type(&self) -> Option<&str> {
        dedup::event_type(self.record())
    }

    /// The group that processes it.
    pub fn group(&self) -> &str {
        &self.attempt.group
    }

    /// Which attempt this is; the first one is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// How many attempts are made at most.
    pub fn max_attempts(&self) -> u32 {
        self.attempt.max
    }

    /// Whether a failure of this attempt would be the last.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt.number >= self.attempt.max
    }

    /// Sends an event when this one commits. Where it goes is as with a producer: by its key. If it has an id
    /// ([`Event::id`]) that its topic has seen, it is left out: the first one won.
    ///
    /// # Errors
    /// [`exactlog::Error::EventTooLarge`] and [`exactlog::Error::EventIdLength`], which no retry makes better.
    pub fn send(&self, topic: &Topic, event: Event) -> Result<(), Failure> {
        topic.check(&event)?;
        self.outbox(|outbox| outbox.send(topic, None, event))
    }

    /// As [`send`](Context::send), to this partition.
    ///
    /// # Errors
    /// As [`send`](Context::send), and [`exactlog::Error::NoSuchPartition`].
    pub fn send_to(&self, topic: &Topic, partition: u32, event: Event) -> Result<(), Failure> {
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
        topic.check(&event)?;
        if event.id.is_some() {
            return Err(exactlog::Error::EventIdDelayed.into());
        }
        self.outbox(|outbox| outbox.send_after(topic, event, delay))
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
        self.outbox(|outbox| outbox.outcome = outcome)
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
