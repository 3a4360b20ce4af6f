//! What waits of a partition: failed events until they are tried again, and those that may not overtake them.
//!
//! ```text
//!   a record -> done | dead                                     most of them
//!           \-> Parked (due) -> tried again -> done | dead | Parked
//!           \-> Blocked behind one -> its turn -> done | dead | Parked
//!           \-> Held: not tried yet, when its time comes -> ..
//! ```
//!
//! Each is a row of the group's table, written in the commit that moves the group's position over the record, and taken
//! out in the commit that ends it. So wherever the process is killed, each record is either to be read or in a row, or
//! has ended. What lies in memory is made from the rows.
//!
//! Invariants
//!   * the rows of a queue are tried in the order of their offsets, and only the first one is
//!   * a record whose queue has rows goes behind them

use crate::error::Error;
use crate::failure::Failure;
use crate::retry::RetryMode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use exactlog::{Record, RecordHeader, Topic};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

/// What waits for the same turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Queue {
    /// One record alone.
    Alone(u64),
    /// The records of a key.
    Key(Bytes),
    /// All records of the partition.
    Partition,
}

impl Queue {
    pub(crate) fn of(mode: RetryMode, record: &Record) -> Queue {
        match (mode, &record.key) {
            (RetryMode::Blocking, _) => Queue::Partition,
            (RetryMode::Ordered, Some(key)) => Queue::Key(key.clone()),
            (RetryMode::Ordered, None) | (RetryMode::Unordered, _) => Queue::Alone(record.offset),
        }
    }

    /// With bytes of its own: the key of a record that was read is a part of its batch, which it keeps in memory.
    pub(crate) fn apart(self) -> Queue {
        match self {
            Queue::Key(key) => Queue::Key(Bytes::copy_from_slice(&key)),
            other => other,
        }
    }
}

/// Why a record waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Waiting {
    /// It failed, and is tried again when it is due.
    Parked,
    /// An earlier one of its queue waits.
    Blocked,
    /// It could not be tried: another copy was being processed, or the circuit breaker was open.
    Held,
}

/// Why and until when a record waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) waiting: Waiting,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    /// When it is tried next, if it is the first of its queue.
    pub(crate) due_ms: i64,
    pub(crate) first_failed_ms: Option<i64>,
}

impl Wait {
    pub(crate) fn blocked() -> Wait {
        Wait { waiting: Waiting::Blocked, attempts: 0, due_ms: 0, first_failed_ms: None }
    }
}

/// A row, as the group's table has it: JSON, with base64 where bytes needn't be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    waiting: Waiting,
    attempts: u32,
    due_ms: i64,
    /// When it was written: what a clock that is set back meanwhile makes of the wait can't be longer than it was.
    written_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first_failed_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<String>,
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

/// The row of a record, as bytes.
pub(crate) fn row(record: &Record, wait: &Wait, failure: Option<&Failure>, now_ms: i64) -> Vec<u8> {
    let header = |it: &RecordHeader| (base64(&it.key), it.value.as_ref().map(base64));
    let row = Row {
        waiting: wait.waiting,
        attempts: wait.attempts,
        due_ms: wait.due_ms,
        written_ms: now_ms,
        first_failed_ms: wait.first_failed_ms,
        error: failure.map(Failure::to_string),
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_ref().map(base64),
        value: record.value.as_ref().map(base64),
        headers: record.headers.iter().map(header).collect(),
    };
    serde_json::to_vec(&row).expect("texts and numbers can be written as JSON")
}

/// What a row says.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) record: Record,
    pub(crate) wait: Wait,
    /// Its last failure: kind and text.
    pub(crate) error: Option<String>,
}

/// The record of a row and why it waits, by the time of now.
pub(crate) fn parse_row(
    row_of: &RowOf<'_>,
    (topic, partition, offset): (&Arc<str>, u32, u64),
    bytes: &[u8],
    now_ms: i64,
) -> Result<Parsed, Error> {
    let row: Row = row_of.json(bytes)?;
    let header = |(key, value): &(String, Option<String>)| {
        Ok(RecordHeader { key: row_of.bytes(key)?, value: row_of.maybe_bytes(value)? })
    };
    let record = Record {
        topic: topic.clone(),
        partition,
        offset,
        timestamp_ms: row.timestamp_ms,
        key: row_of.maybe_bytes(&row.key)?,
        value: row_of.maybe_bytes(&row.value)?,
        headers: row.headers.iter().map(header).collect::<Result<_, Error>>()?,
    };
    let longest = row.due_ms.saturating_sub(row.written_ms).max(0);
    let wait = Wait {
        waiting: row.waiting,
        attempts: row.attempts,
        due_ms: row.due_ms.min(now_ms.saturating_add(longest)),
        first_failed_ms: row.first_failed_ms,
    };
    Ok(Parsed { record, wait, error: row.error })
}

/// Which row, for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowOf<'r> {
    pub(crate) table: &'r str,
    pub(crate) key: &'r str,
}

impl RowOf<'_> {
    pub(crate) fn wrong(&self, reason: impl Display) -> Error {
        let (table, key) = (self.table.to_string(), self.key.to_string());
        Error::Row { table, key, reason: reason.to_string() }
    }

    /// What a row says, as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.wrong(error))
    }

    /// What [`base64`] has made text of.
    pub(crate) fn bytes(&self, text: &String) -> Result<Bytes, Error> {
        STANDARD.decode(text).map(Bytes::from).map_err(|error| self.wrong(error))
    }

    pub(crate) fn maybe_bytes(&self, text: &Option<String>) -> Result<Option<Bytes>, Error> {
        text.as_ref().map(|text| self.bytes(text)).transpose()
    }
}

/// Bytes as text, where they needn't be text in a row of JSON.
pub(crate) fn base64(bytes: &Bytes) -> String {
    STANDARD.encode(bytes)
}

/// What the rows of a partition's records begin with. A topic that was deleted and made anew is another one: its id
/// tells.
pub(crate) fn row_prefix(topic: &Topic, partition: u32) -> String {
    row_prefix_of(topic.name(), topic.id().0, partition)
}

/// The same, of a topic that is known by name and id.
pub(crate) fn row_prefix_of(topic: &str, topic_id: u32, partition: u32) -> String {
    format!("wait/{topic}.{topic_id}/{partition}/")
}

/// The key of a record's row: in the order of offsets.
pub(crate) fn row_key(prefix: &str, offset: u64) -> String {
    format!("{prefix}{offset:020}")
}

/// The offset in a row's key.
pub(crate) fn row_offset(prefix: &str, key: &str) -> Option<u64> {
    key.strip_prefix(prefix)?.parse().ok()
}

/// Topic, its id, partition and offset of a row's key.
pub(crate) fn parse_row_key(key: &str) -> Option<(&str, u32, u32, u64)> {
    let (topic, place) = key.strip_prefix("wait/")?.split_once('/')?;
    let (name, id) = topic.rsplit_once('.')?;
    let (partition, offset) = place.split_once('/')?;
    Some((name, id.parse().ok()?, partition.parse().ok()?, offset.parse().ok()?))
}

/// The records of a partition that wait.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    rows: BTreeMap<u64, (Queue, Wait)>,
    queues: BTreeMap<Queue, BTreeSet<u64>>,
    /// The first one of each queue, by when it is due.
    due: BTreeSet<(i64, u64)>,
    /// How many wait, by the reason.
    counts: [usize; 3],
    /// Those that failed, by when they did first.
    failed: BTreeSet<(i64, u64)>,
    /// How many queues there are of each length.
    lengths: BTreeMap<usize, usize>,
}

impl Lane {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many of them wait for this reason.
    pub(crate) fn count(&self, waiting: Waiting) -> usize {
        self.counts[waiting as usize]
    }

    /// How many wait in a queue.
    pub(crate) fn len_of(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, BTreeSet::len)
    }

    /// The longest queue.
    pub(crate) fn longest(&self) -> usize {
        self.lengths.last_key_value().map_or(0, |(length, _)| *length)
    }

    /// Since when the oldest one that failed waits, ms since 1970.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.failed.first().map(|(failed_ms, _)| *failed_ms)
    }

    /// When the next one is to be tried.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The first ones of queues that are due, at most so many: offset, queue, and why it waits.
    pub(crate) fn due(&self, now_ms: i64, most: usize) -> Vec<(u64, Queue, Wait)> {
        let due = self.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).take(most);
        let row = |(_, offset): &(i64, u64)| {
            let (queue, wait) = self.rows.get(offset)?;
            Some((*offset, queue.clone(), wait.clone()))
        };
        due.filter_map(row).collect()
    }

    /// Those of a queue behind an offset, in order, at most so many.
    pub(crate) fn behind(&self, queue: &Queue, offset: u64, most: usize) -> Vec<(u64, Wait)> {
        let Some(offsets) = self.queues.get(queue) else { return Vec::new() };
        let wait = |offset: &u64| Some((*offset, self.rows.get(offset)?.1.clone()));
        offsets.range(offset + 1..).take(most).filter_map(wait).collect()
    }

    /// A record waits from now on, or otherwise than before.
    pub(crate) fn set(&mut self, offset: u64, queue: Queue, wait: Wait) {
        self.remove(offset);
        self.unlist(&queue);
        self.counts[wait.waiting as usize] += 1;
        self.failed.extend(wait.first_failed_ms.map(|failed_ms| (failed_ms, offset)));
        self.queues.entry(queue.clone()).or_default().insert(offset);
        self.rows.insert(offset, (queue.clone(), wait));
        self.list(&queue);
    }

    /// A record doesn't wait any more.
    pub(crate) fn remove(&mut self, offset: u64) {
        let Some(queue) = self.rows.get(&offset).map(|(queue, _)| queue.clone()) else { return };
        self.unlist(&queue);
        if let Some((_, wait)) = self.rows.remove(&offset) {
            self.counts[wait.waiting as usize] -= 1;
            wait.first_failed_ms
                .into_iter()
                .for_each(|failed_ms| _ = self.failed.remove(&(failed_ms, offset)));
        }
        if let Some(offsets) = self.queues.get_mut(&queue) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.queues.remove(&queue);
            }
        }
        self.list(&queue);
    }

    fn first(&self, queue: &Queue) -> Option<(i64, u64)> {
        let offset = *self.queues.get(queue)?.first()?;
        let (_, wait) = self.rows.get(&offset)?;
        Some((wait.due_ms, offset))
    }

    /// Takes what is known of a queue out of the indexes, until it is [listed](Lane::list) again.
    fn unlist(&mut self, queue: &Queue) {
        if let Some(first) = self.first(queue) {
            self.due.remove(&first);
        }
        let length = self.len_of(queue);
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    fn list(&mut self, queue: &Queue) {
        self.due.extend(self.first(queue));
        let length = self.len_of(queue);
        if length > 0 {
            *self.lengths.entry(length).or_default() += 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Queue {
        Queue::Key(Bytes::copy_from_slice(name.as_bytes()))
    }

    fn parked(due_ms: i64) -> Wait {
        Wait { waiting: Waiting::Parked, attempts: 1, due_ms, first_failed_ms: Some(5) }
    }

    fn offsets(lane: &Lane, now_ms: i64) -> Vec<u64> {
        lane.due(now_ms, 10).into_iter().map(|(offset, _, _)| offset).collect()
    }

    #[test]
    fn only_the_first_of_a_queue_is_due() {
        let mut lane = Lane::default();
        lane.set(3, key("a"), parked(1000));
        lane.set(4, key("a"), Wait::blocked());
        lane.set(5, key("b"), parked(500));
        assert_eq!((lane.next_due_ms(), lane.len(), lane.longest()), (Some(500), 3, 2));
        assert_eq!(offsets(&lane, 499), [0; 0]);
        assert_eq!(offsets(&lane, 999), [5]);
        assert_eq!(offsets(&lane, 1000), [5, 3]);
        lane.set(3, key("a"), parked(4000));
        assert_eq!(offsets(&lane, 1000), [5]);
        lane.remove(3);
        assert_eq!(offsets(&lane, 0), [4], "what was blocked needn't wait any longer");
        lane.remove(4);
        lane.remove(5);
        lane.remove(5);
        assert_eq!((lane.next_due_ms(), lane.len(), lane.len_of(&key("a"))), (None, 0, 0));
    }

    #[test]
    fn a_row_says_what_it_was_made_of() {
        let record = Record {
            topic: "orders".into(),
            partition: 2,
            offset: 17,
            timestamp_ms: 99,
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: None,
            headers: vec![
                RecordHeader { key: Bytes::from_static(b"\xfe"), value: None },
                RecordHeader { key: "trace".into(), value: Some("1".into()) },
            ],
        };
        let failure = Failure::transient("Timeout", "late");
        let bytes = row(&record, &parked(1500), Some(&failure), 500);
        let at = (&record.topic, 2, 17);
        let row_of = RowOf { table: "flow.billing", key: "wait/orders.1/2/00000000000000000017" };
        let parsed = parse_row(&row_of, at, &bytes, 700).unwrap();
        assert_eq!((parsed.record, parsed.wait), (record.clone(), parked(1500)));
        assert_eq!(parsed.error.as_deref(), Some("Timeout: late"));
        // A clock that was set back by a day: it doesn't wait for a day.
        let wait = parse_row(&row_of, at, &bytes, 500 - 86_400_000).unwrap().wait;
        assert_eq!(wait.due_ms, 1500 - 86_400_000);
        let error = parse_row(&row_of, at, b"{", 0).unwrap_err().to_string();
        assert!(error.contains(row_of.key) && error.contains("flow.billing"), "{error}");
    }

    #[test]
    fn keys_of_rows_are_in_the_order_of_offsets() {
        let prefix = "wait/orders.4/1/";
        assert!(row_key(prefix, 9) < row_key(prefix, 10));
        assert_eq!(row_offset(prefix, &row_key(prefix, 10)), Some(10));
        assert_eq!(row_offset(prefix, &row_key("wait/orders.4/11/", 10)), None);
        assert_eq!(parse_row_key(&row_key("wait/or.ders.4/11/", 10)), Some(("or.ders", 4, 11, 10)));
    }

    /// Offset, whether it is taken out (3), why it waits, when it is due.
    fn steps() -> impl Strategy<Value = Vec<(u64, u8, u8, i64)>> {
        prop::collection::vec((0..12_u64, 0..4_u8, 0..3_u8, 0..50_i64), 1..80)
    }

    proptest! {
        #[test]
        fn a_lane_is_what_its_rows_are(steps in steps()) {
            let (mut lane, mut model) = (Lane::default(), BTreeMap::new());
            for (offset, name, what, due_ms) in steps {
                let waiting = match what {
                    0 => Waiting::Parked,
                    1 => Waiting::Blocked,
                    _ => Waiting::Held,
                };
                if name == 3 {
                    lane.remove(offset);
                    model.remove(&offset);
                } else {
                    // A record stays in its queue.
                    let queue = if offset % 4 == 3 { Queue::Alone(offset) } else { key(&(offset % 4).to_string()) };
                    let first_failed_ms = (waiting == Waiting::Parked).then_some(due_ms / 2);
                    let wait = Wait { waiting, attempts: 1, due_ms, first_failed_ms };
                    lane.set(offset, queue.clone(), wait.clone());
                    model.insert(offset, (queue, wait));
                }
                let mut firsts: BTreeMap<Queue, (i64, u64, usize)> = BTreeMap::new();
                for (offset, (queue, wait)) in &model {
                    firsts.entry(queue.clone()).or_insert((wait.due_ms, *offset, 0)).2 += 1;
                }
                let mut due: Vec<(i64, u64)> = firsts.values().map(|(due_ms, offset, _)| (*due_ms, *offset)).collect();
                due.sort_unstable();
                prop_assert_eq!(lane.next_due_ms(), due.first().map(|(due_ms, _)| *due_ms));
                let expected: Vec<u64> = due.iter().map(|(_, offset)| *offset).collect();
                let found: Vec<u64> = lane.due(100, 100).into_iter().map(|(offset, _, _)| offset).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(lane.longest(), firsts.values().map(|it| it.2).max().unwrap_or(0));
                prop_assert_eq!(lane.oldest_ms(), model.values().filter_map(|(_, wait)| wait.first_failed_ms).min());
                let count = |waiting| model.values().filter(|(_, wait)| wait.waiting == waiting).count();
                for waiting in [Waiting::Parked, Waiting::Blocked, Waiting::Held] {
                    prop_assert_eq!(lane.count(waiting), count(waiting));
                }
                prop_assert_eq!(lane.len(), model.len());
            }
        }
    }
}
