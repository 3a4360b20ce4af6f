//! What a dead letter says of itself, whoever wrote it: this crate, Kafka (KIP-1191), Spring for Kafka, Spring Cloud
//! Stream, Kafka Connect or Kafka Streams (KIP-1034).

use crate::dead_letter::{REDRIVE_COUNT, TOPIC_ID};
use exactlog::Record;

/// Where a dead letter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// Name of the event's topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The group that could not process it.
    pub group: Option<String>,
    /// Id of the topic: one that was deleted and made anew is another one.
    pub topic_id: Option<u32>,
    /// The event's timestamp, ms since 1970.
    pub timestamp_ms: Option<i64>,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// Nothing yet.
    Dead,
    /// It was put back.
    Redriven,
    /// It was given up for good.
    Discarded,
}

impl EntryState {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            EntryState::Dead => "dead",
            EntryState::Redriven => "redriven",
            EntryState::Discarded => "discarded",
        }
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadEntry {
    /// As it lies in the dead-letter topic.
    pub record: Record,
    /// What became of it.
    pub state: EntryState,
    /// Where it comes from; `None`: it doesn't say.
    pub origin: Option<Origin>,
    /// Stable name of the error.
    pub error_class: Option<String>,
    /// Text of the error.
    pub error_message: Option<String>,
    /// Attempts that were made.
    pub attempts: Option<u32>,
    /// When it was given up, RFC 3339.
    pub failed_at: Option<String>,
    /// How often it was put back before.
    pub redrives: u32,
}

/// How headers of a family begin that have topic, partition and offset.
const PLACES: [&str; 5] =
    ["__dlq.errors.", "kafka_dlt-original-", "x-original-", "__connect.errors.", "__streams.errors."];
const CLASSES: [&str; 5] = [
    "dlq-error-class",
    "kafka_dlt-exception-fqcn",
    "x-exception-fqcn",
    "__connect.errors.exception.class.name",
    "__streams.errors.exception",
];
const MESSAGES: [&str; 5] = [
    "__dlq.errors.message",
    "kafka_dlt-exception-message",
    "x-exception-message",
    "__connect.errors.exception.message",
    "__streams.errors.message",
];
const GROUPS: [&str; 2] = ["__dlq.errors.group", "kafka_dlt-original-consumer-group"];
const TIMES: [&str; 3] = ["dlq-original-timestamp", "kafka_dlt-original-timestamp", "x-original-timestamp"];

impl DeadEntry {
    pub(crate) fn of(record: Record, state: EntryState) -> DeadEntry {
        let first = |names: &[&str]| names.iter().find_map(|name| text(&record, name));
        DeadEntry {
            state,
            origin: PLACES.iter().find_map(|family| origin(&record, family)),
            error_class: first(&CLASSES),
            error_message: first(&MESSAGES),
            attempts: text(&record, "__dlq.errors.delivery.count").and_then(|count| count.parse().ok()),
            failed_at: text(&record, "dlq-failed-at"),
            redrives: text(&record, REDRIVE_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0),
            record,
        }
    }
}

fn origin(record: &Record, family: &str) -> Option<Origin> {
    let number = |name: &str| number(record.header(&format!("{family}{name}"))?);
    Some(Origin {
        topic: text(record, &format!("{family}topic"))?,
        partition: u32::try_from(number("partition")?).ok()?,
        offset: u64::try_from(number("offset")?).ok()?,
        group: GROUPS.iter().find_map(|name| text(record, name)),
        topic_id: text(record, TOPIC_ID).and_then(|id| id.parse().ok()),
        timestamp_ms: TIMES.iter().find_map(|name| self::number(record.header(name)?)),
    })
}

fn text(record: &Record, name: &str) -> Option<String> {
    record.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// A number as text, or as a big-endian integer of four or eight bytes, as the families have it.
fn number(bytes: &[u8]) -> Option<i64> {
    let as_text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    as_text.or_else(|| match bytes.len() {
        4 => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use exactlog::RecordHeader;

    fn entry(headers: &[(&str, &[u8])]) -> DeadEntry {
        let header = |(name, value): &(&str, &[u8])| RecordHeader {
            key: Bytes::copy_from_slice(name.as_bytes()),
            value: Some(Bytes::copy_from_slice(value)),
        };
        let record = Record {
            topic: "dlq".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        };
        DeadEntry::of(record, EntryState::Dead)
    }

    #[test]
    fn every_family_says_where_it_comes_from() {
        let (partition, offset) = (7_i32.to_be_bytes(), 42_i64.to_be_bytes());
        let spring: [(&str, &[u8]); 4] = [
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", &partition),
            ("kafka_dlt-original-offset", &offset),
            ("kafka_dlt-exception-fqcn", b"java.io.IOException"),
        ];
        let connect: [(&str, &[u8]); 4] = [
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"7"),
            ("__connect.errors.offset", b"42"),
            ("__connect.errors.exception.class.name", b"java.io.IOException"),
        ];
        for headers in [spring, connect] {
            let entry = entry(&headers);
            let origin = entry.origin.unwrap();
            assert_eq!((&*origin.topic, origin.partition, origin.offset), ("orders", 7, 42));
            assert_eq!(entry.error_class.unwrap(), "java.io.IOException");
        }
        assert_eq!(entry(&[("__connect.errors.topic", b"orders")]).origin, None, "it says too little");
    }
}
