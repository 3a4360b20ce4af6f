//! An event as a row of the outbox.
//!
//! ```text
//!   headers: count u32, then for each: name length u32, name, value length u32 + 1 (0: none), value; little-endian
//! ```
//!
//! Invariants
//!   * what is read is the event that was written, but for its time: an event without one has that of its row
//!   * bytes that aren't such headers are an error that names the row's column, never a panic

use crate::error::Error;
use crate::inbox::now_ms;
use crate::numbers::row;
use crate::tables::OUTBOX;
use bytes::Bytes;
use exactlog::Event;

/// Largest event that any topic takes, in bytes (`max.message.bytes` is at most this).
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest name of a topic, in bytes.
const NAME_BYTES_MAX: usize = 249;

/// An event that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) topic: String,
    pub(crate) event: Event,
}

/// What a row's columns have besides key and value.
pub(crate) struct Columns {
    pub(crate) headers: Vec<u8>,
    pub(crate) timestamp_ms: i64,
}

impl Row {
    pub(crate) fn new(
        id: i64,
        topic: String,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: &[u8],
        timestamp_ms: i64,
    ) -> Result<Row, Error> {
        let headers = decode(headers).ok_or_else(|| {
            row(OUTBOX, "headers", format!("{} bytes in row {id}", headers.len()), "not what enqueue writes")
        })?;
        let (key, value, timestamp_ms) = (key.map(Bytes::from), value.map(Bytes::from), Some(timestamp_ms));
        Ok(Row { id, topic, event: Event { key, value, headers, timestamp_ms, id: None } })
    }

    /// About how many bytes it takes. PostgreSQL counts them itself.
    #[cfg(feature = "sqlite")]
    pub(crate) fn bytes(&self) -> usize {
        bytes(&self.event)
    }
}

/// Checks what can be checked without the log, and makes the columns.
pub(crate) fn columns(topic: &str, event: &Event) -> Result<Columns, Error> {
    if event.id.is_some() {
        return Err(Error::EventWithId);
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = (1..=NAME_BYTES_MAX).contains(&topic.len()) && topic != "." && topic != "..";
    if !is_name || !topic.chars().all(is_legal) {
        return Err(exactlog::Error::IllegalName { what: "topic", name: topic.to_string() }.into());
    }
    let (topic, bytes, max) = (topic.to_string(), bytes(event), EVENT_BYTES_MAX);
    if bytes > max {
        return Err(exactlog::Error::EventTooLarge { topic, bytes, max }.into());
    }
    let timestamp_ms = event.timestamp_ms.unwrap_or_else(now_ms);
    Ok(Columns { headers: encode(&event.headers), timestamp_ms })
}

fn bytes(event: &Event) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = event.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
    len(&event.key) + len(&event.value) + headers
}

fn encode(headers: &[(String, Option<Bytes>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Their lengths were checked to be far below 32 bits.
    bytes.extend((headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(value.as_ref().map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
        bytes.extend(value.as_deref().unwrap_or_default());
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<(String, Option<Bytes>)>> {
    let count = number(&mut bytes)?;
    // Each takes at least two lengths: what says more than that is not believed.
    let mut headers = Vec::with_capacity((count as usize).min(bytes.len() / 8));
    for _ in 0..count {
        let len = number(&mut bytes)? as usize;
        let name = String::from_utf8(bytes.split_off(..len)?.to_vec()).ok()?;
        let value = match number(&mut bytes)? {
            0 => None,
            len => Some(Bytes::copy_from_slice(bytes.split_off(..len as usize - 1)?)),
        };
        headers.push((name, value));
    }
    bytes.is_empty().then_some(headers)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let number = bytes.split_off(..4)?;
    Some(u32::from_le_bytes(number.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_and_anything_else_is_refused() {
        let headers = vec![
            ("a".to_string(), None),
            (String::new(), Some(Bytes::new())),
            ("b".into(), Some("x".into())),
        ];
        let bytes = encode(&headers);
        assert_eq!(decode(&bytes), Some(headers));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut at {len}");
        }
        assert_eq!(decode(&[bytes.clone(), vec![0]].concat()), None);
        assert_eq!(decode(&[0xff; 64]), None);
    }

    #[test]
    fn what_no_log_would_take_does_not_get_into_the_outbox() {
        let event = Event::new("key", "value");
        assert!(columns("orders", &event).is_ok());
        assert!(matches!(columns("orders", &event.clone().id("order-1")), Err(Error::EventWithId)));
        for name in ["", "..", "a/b", &"x".repeat(250)] {
            assert!(matches!(columns(name, &event), Err(Error::Log(exactlog::Error::IllegalName { .. }))));
        }
        let large = Event::new("key", vec![0; EVENT_BYTES_MAX]);
        assert!(matches!(columns("orders", &large), Err(Error::Log(exactlog::Error::EventTooLarge { .. }))));
    }
}
