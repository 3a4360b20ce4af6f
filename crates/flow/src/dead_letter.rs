//! Where events go that can't be processed, and what is said about them there.
//!
//! Key, value and headers stay as they were, byte for byte. What is said is added as headers: Kafka's names (KIP-1191)
//! and ours, and if asked for those of Spring for Kafka or of Spring Cloud Stream. A set of an earlier death is
//! replaced, so that nothing grows.

use crate::clock::rfc3339;
use crate::failure::Failure;
use bytes::Bytes;
use exactlog::{Record, RecordHeader};
use std::time::Duration;

/// How dead-letter topics are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DlqNaming {
    /// `dlq.<topic>` (KIP-1191). The default.
    #[default]
    Kafka,
    /// `<topic>-dlt`, as Spring for Kafka.
    Spring,
    /// `error.<topic>.<group>`, as Spring Cloud Stream.
    SpringCloudStream,
    /// This one, for all topics (`errors.deadletterqueue.topic.name`).
    Topic(String),
}

/// Which headers are added besides Kafka's and ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DlqHeaders {
    /// None. The default.
    #[default]
    Native,
    /// Those of Spring for Kafka (`kafka_dlt-original-topic`, ..), numbers as big-endian integers.
    Spring,
    /// Those of Spring Cloud Stream (`x-original-topic`, ..).
    SpringCloudStream,
}

/// What becomes of events that can't be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// `dlq.naming`.
    pub naming: DlqNaming,
    /// `dlq.headers.compat`.
    pub headers: DlqHeaders,
    /// `dlq.retention.ms` of topics that are created. Default 30 days.
    pub retention: Duration,
}

impl Default for DeadLetter {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        DeadLetter { naming: DlqNaming::Kafka, headers: DlqHeaders::Native, retention: 30 * DAY }
    }
}

impl DeadLetter {
    /// All dead letters go to this topic.
    pub fn to(topic: impl Into<String>) -> DeadLetter {
        DeadLetter { naming: DlqNaming::Topic(topic.into()), ..DeadLetter::default() }
    }

    /// Sets how their topics are named.
    #[must_use]
    pub fn naming(mut self, naming: DlqNaming) -> DeadLetter {
        self.naming = naming;
        self
    }

    /// Sets which headers are added besides.
    #[must_use]
    pub fn headers(mut self, headers: DlqHeaders) -> DeadLetter {
        self.headers = headers;
        self
    }

    /// Sets how long they are kept, if their topic is created.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> DeadLetter {
        self.retention = retention;
        self
    }

    /// The topic for the dead letters of a topic.
    pub fn topic_for(&self, topic: &str, group: &str) -> String {
        match &self.naming {
            DlqNaming::Kafka => format!("dlq.{topic}"),
            DlqNaming::Spring => format!("{topic}-dlt"),
            DlqNaming::SpringCloudStream => format!("error.{topic}.{group}"),
            DlqNaming::Topic(name) => name.clone(),
        }
    }
}

/// What is known of a death.
#[derive(Clone, Debug)]
pub(crate) struct Death<'d> {
    pub(crate) group: &'d str,
    pub(crate) handler: &'d str,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    pub(crate) failure: &'d Failure,
    pub(crate) failed_ms: i64,
    pub(crate) first_failed_ms: i64,
    pub(crate) topic_id: u32,
}

/// Longest text of an error that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The id of the event's topic.
pub(crate) const TOPIC_ID: &str = "dlq-topic-id";
/// How often it was put back.
pub(crate) const REDRIVE_COUNT: &str = "dlq-redrive-count";
/// From where it was put back last: topic, partition and offset.
pub(crate) const REDRIVEN_FROM: &str = "dlq-redriven-from";

const NATIVE: [&str; 12] = [
    "__dlq.errors.topic",
    "__dlq.errors.partition",
    "__dlq.errors.offset",
    "__dlq.errors.group",
    "__dlq.errors.delivery.count",
    "__dlq.errors.message",
    "dlq-error-class",
    "dlq-failed-at",
    "dlq-first-failed-at",
    "dlq-handler",
    "dlq-original-timestamp",
    TOPIC_ID,
];
const SPRING: [&str; 8] = [
    "kafka_dlt-original-topic",
    "kafka_dlt-original-partition",
    "kafka_dlt-original-offset",
    "kafka_dlt-original-timestamp",
    "kafka_dlt-original-timestamp-type",
    "kafka_dlt-original-consumer-group",
    "kafka_dlt-exception-fqcn",
    "kafka_dlt-exception-message",
];
const STREAM: [&str; 6] = [
    "x-original-topic",
    "x-original-partition",
    "x-original-offset",
    "x-original-timestamp",
    "x-exception-fqcn",
    "x-exception-message",
];
/// What others add and we don't.
const FOREIGN: [&str; 4] = [
    "dlq-backtrace",
    "kafka_dlt-exception-cause-fqcn",
    "kafka_dlt-exception-stacktrace",
    "x-exception-stacktrace",
];

/// How headers begin that Kafka Connect and Kafka Streams add.
const FOREIGN_FAMILIES: [&str; 2] = ["__connect.errors.", "__streams.errors."];

/// Whether a header says something of a death.
pub(crate) fn is_of_death(name: &[u8]) -> bool {
    let named = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
    let begins = FOREIGN_FAMILIES.iter().any(|family| name.starts_with(family.as_bytes()));
    named(&NATIVE) || named(&SPRING) || named(&STREAM) || named(&FOREIGN) || begins
}

/// The record of a dead letter: the event as it was, and what is known of its death. `with_message` false leaves the
/// error's text out.
pub(crate) fn dead_letter(
    record: &Record,
    death: &Death<'_>,
    headers: DlqHeaders,
    with_message: bool,
) -> Record {
    let message = if with_message { shortened(death.failure.message(), MESSAGE_BYTES_MAX) } else { "" };
    let mut dead = Record { timestamp_ms: death.failed_ms, ..record.clone() };
    dead.headers.retain(|header| !is_of_death(&header.key));
    let mut add = |name: &'static str, value: Bytes| {
        dead.headers.push(RecordHeader { key: Bytes::from_static(name.as_bytes()), value: Some(value) });
    };
    let kind = death.failure.kind();
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let native = [
        text(&record.topic),
        text(&record.partition.to_string()),
        text(&record.offset.to_string()),
        text(death.group),
        text(&death.attempts.to_string()),
        text(message),
        text(kind),
        text(&rfc3339(death.failed_ms)),
        text(&rfc3339(death.first_failed_ms)),
        text(death.handler),
        text(&record.timestamp_ms.to_string()),
        text(&death.topic_id.to_string()),
    ];
    NATIVE.into_iter().zip(native).for_each(|(name, value)| add(name, value));
    match headers {
        DlqHeaders::Native => {}
        DlqHeaders::Spring => {
            let number = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
            let spring = [
                text(&record.topic),
                number(&record.partition.to_be_bytes()),
                number(&record.offset.to_be_bytes()),
                number(&record.timestamp_ms.to_be_bytes()),
                text("CreateTime"),
                text(death.group),
                text(kind),
                text(message),
            ];
            SPRING.into_iter().zip(spring).for_each(|(name, value)| add(name, value));
        }
        DlqHeaders::SpringCloudStream => {
            let stream = [
                text(&record.topic),
                text(&record.partition.to_string()),
                text(&record.offset.to_string()),
                text(&record.timestamp_ms.to_string()),
                text(kind),
                text(message),
            ];
            STREAM.into_iter().zip(stream).for_each(|(name, value)| add(name, value));
        }
    }
    dead
}

/// The beginning of a text that takes at most so many bytes, and no part of a character.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            topic: "orders".into(),
            partition: 3,
            offset: 42,
            timestamp_ms: 1_790_000_000_000,
            key: Some("order-7".into()),
            value: None,
            headers: vec![
                RecordHeader { key: Bytes::from_static(b"\xff name"), value: None },
                RecordHeader { key: "x-original-host".into(), value: Some("shop".into()) },
            ],
        }
    }

    fn death(failure: &Failure) -> Death<'_> {
        let (failed_ms, first_failed_ms) = (1_790_000_003_000, 1_790_000_000_500);
        let (group, handler, topic_id) = ("billing", "charge", 9);
        Death { group, handler, attempts: 3, failure, failed_ms, first_failed_ms, topic_id }
    }

    fn header(record: &Record, name: &str) -> Vec<u8> {
        let found: Vec<&RecordHeader> =
            record.headers.iter().filter(|header| header.key == name.as_bytes()).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0].value.as_deref().unwrap_or_default().to_vec()
    }

    #[test]
    fn the_event_stays_as_it_was_and_its_death_is_told() {
        let failure = Failure::transient("Timeout", "the bank didn't answer");
        let dead = dead_letter(&record(), &death(&failure), DlqHeaders::Native, true);
        assert_eq!((&dead.key, &dead.value), (&record().key, &None));
        assert_eq!(dead.headers[..2], record().headers[..]);
        assert_eq!(dead.timestamp_ms, 1_790_000_003_000);
        for (name, value) in [
            ("__dlq.errors.topic", "orders"),
            ("__dlq.errors.partition", "3"),
            ("__dlq.errors.offset", "42"),
            ("__dlq.errors.group", "billing"),
            ("__dlq.errors.delivery.count", "3"),
            ("__dlq.errors.message", "the bank didn't answer"),
            ("dlq-error-class", "Timeout"),
            ("dlq-failed-at", "2026-09-21T14:13:23.000Z"),
            ("dlq-first-failed-at", "2026-09-21T14:13:20.500Z"),
            ("dlq-handler", "charge"),
            ("dlq-original-timestamp", "1790000000000"),
            ("dlq-topic-id", "9"),
        ] {
            assert_eq!(header(&dead, name), value.as_bytes(), "{name}");
        }
    }

    #[test]
    fn numbers_of_spring_are_big_endian() {
        let failure = Failure::transient("Timeout", "late");
        let dead = dead_letter(&record(), &death(&failure), DlqHeaders::Spring, true);
        assert_eq!(header(&dead, "kafka_dlt-original-partition"), 3_i32.to_be_bytes());
        assert_eq!(header(&dead, "kafka_dlt-original-offset"), 42_i64.to_be_bytes());
        assert_eq!(header(&dead, "kafka_dlt-exception-fqcn"), b"Timeout");
    }

    #[test]
    fn a_second_death_replaces_what_the_first_one_said() {
        let failure = Failure::transient("Timeout", "late");
        for headers in [DlqHeaders::Native, DlqHeaders::Spring, DlqHeaders::SpringCloudStream] {
            let once = dead_letter(&record(), &death(&failure), headers, true);
            let twice = dead_letter(&once, &death(&failure), headers, true);
            assert_eq!(once.headers.len(), twice.headers.len(), "{headers:?}");
        }
        assert!(!is_of_death(b"x-original-host"), "this one is the user's");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failure = Failure::transient("Timeout", "é".repeat(4096));
        let dead = dead_letter(&record(), &death(&failure), DlqHeaders::Native, true);
        assert_eq!(header(&dead, "__dlq.errors.message"), "é".repeat(2048).as_bytes());
        let odd = Failure::transient("Timeout", format!("x{}", "é".repeat(4096)));
        let dead = dead_letter(&record(), &death(&odd), DlqHeaders::Native, true);
        assert_eq!(header(&dead, "__dlq.errors.message").len(), 4095);
    }
}
