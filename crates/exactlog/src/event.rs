//! What is sent, and what is received.

use crate::dedup::EventId;
use crate::topic::Topic;
use bytes::Bytes;
use exactlog_core::batch::RecordHeader;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::sync::Arc;
use thiserror::Error;

/// An event to be sent: key, value, headers. Payloads are [`Bytes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Events of one key keep their order; without a key the partition is the producer's choice.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// When it happened, ms since 1970; `None`: when it is sent. An event that joins others which are on their way
    /// already gets the time of the system's last tick (on Linux 1 to 10 ms ago), but none before theirs.
    pub timestamp_ms: Option<i64>,
    /// Its id: of the events with one id that are sent to a topic only the first is stored, within the window that
    /// [`set_dedup_limits`](crate::Log::set_dedup_limits) sets. It isn't stored with the event: whoever reads it and
    /// wants to know the id needs a header.
    pub id: Option<EventId>,
}

impl Event {
    /// An event with a key.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Event {
        Event { key: Some(key.into()), value: Some(value.into()), ..Event::default() }
    }

    /// An event without a key.
    pub fn unkeyed(value: impl Into<Bytes>) -> Event {
        Event { value: Some(value.into()), ..Event::default() }
    }

    /// An event whose payload is a value as JSON.
    ///
    /// # Errors
    /// When the value can't be written as JSON (a map whose keys aren't text, say).
    pub fn json(key: impl Into<Bytes>, value: &impl Serialize) -> Result<Event, serde_json::Error> {
        Ok(Event::new(key, serde_json::to_vec(value)?))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Event {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Sets its id: see [`Event::id`](field@Event::id).
    #[must_use]
    pub fn id(mut self, id: impl Into<EventId>) -> Event {
        self.id = Some(id.into());
        self
    }

    /// Sets when it happened, ms since 1970.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Event {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// A received event, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: u32,
    /// Its position in the partition.
    pub offset: u64,
    /// When it happened or was sent, ms since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<RecordHeader>,
}

impl Record {
    pub(crate) fn of(topic: &Topic, partition: u32, record: exactlog_core::batch::Record) -> Record {
        Record {
            topic: topic.shared_name(),
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    /// The key; empty if there is none. The field tells the two apart.
    pub fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// The key as text; empty if there is none.
    ///
    /// # Errors
    /// When it isn't UTF-8: as [`json`](Record::json).
    pub fn key_str(&self) -> Result<&str, Undecodable> {
        std::str::from_utf8(self.key()).map_err(|error| self.undecodable("key", &self.key, &error))
    }

    /// The payload; empty for a tombstone. The field tells the two apart.
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The payload as text; empty for a tombstone.
    ///
    /// # Errors
    /// When it isn't UTF-8: as [`json`](Record::json).
    pub fn value_str(&self) -> Result<&str, Undecodable> {
        std::str::from_utf8(self.value()).map_err(|error| self.undecodable("value", &self.value, &error))
    }

    /// The payload as JSON.
    ///
    /// # Errors
    /// When it isn't: the error holds place and raw bytes, and the stream goes on behind it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        serde_json::from_slice(self.value()).map_err(|error| self.undecodable("value", &self.value, &error))
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let header = self.headers.iter().find(|header| header.key == name.as_bytes())?;
        header.value.as_deref()
    }

    fn undecodable(&self, part: &'static str, raw: &Option<Bytes>, reason: &dyn Display) -> Undecodable {
        Undecodable {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            part,
            raw: raw.clone().unwrap_or_default(),
            reason: reason.to_string(),
        }
    }
}

/// A key or payload that can't be decoded: an item of the stream like any other, never its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "topic {topic:?} partition {partition} offset {offset}: the {part} of {} bytes can't be decoded: {reason}",
    raw.len()
)]
pub struct Undecodable {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// What of the record: `key` or `value`.
    pub part: &'static str,
    /// Its bytes as they are.
    pub raw: Bytes,
    /// What the decoder says.
    pub reason: String,
}

/// Where a sent event stands, and that it is as durable as the log promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Whether the topic has seen the event's id before: nothing was stored, and this is where the first one stands.
    pub duplicate: bool,
}
