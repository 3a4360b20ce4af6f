//! What makes some wait while others do all the work: a group with more members than partitions, and a key that most
//! records of a partition have. `topic describe` and `doctor` say so.
//!
//! Not here: whether that is bad. A topic with one key may be meant so.
//!
//! Invariants
//!   * what is looked at is bounded, whatever the log has: in records and in bytes, of a partition and of all
//!   * what can't be read is passed over: whoever asks for this wants to see the rest

use crate::table::text;
use crate::texts::count;
use exactlog::{Bytes, Log, ReadView, Topic};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Newest records of a partition that are looked at, and most bytes of their keys and values.
const RECORDS_MAX: u64 = 10_000;
const BYTES_MAX: u64 = 64 << 20;
/// Of all partitions together.
const RECORDS_IN_ALL_MAX: u64 = 1_000_000;
const BYTES_IN_ALL_MAX: u64 = 1 << 30;
/// Fewer records than this say nothing of a key.
const RECORDS_MIN: u64 = 100;
/// Letters of a key that a sentence has.
const LETTERS_MAX: usize = 80;
/// Hot keys that have a sentence.
const SENTENCES_MAX: usize = 20;

/// What can be done about a crowd.
pub(crate) const FEWER_MEMBERS: &str =
    "start fewer, or add partitions (exactlog topic add-partitions: keys move)";
/// What can be done about a hot key.
pub(crate) const FINER_KEYS: &str = "a finer key spreads them, if their order isn't needed";

/// A group of which some members can't have a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    group: String,
    /// What these members read.
    topics: Vec<String>,
    members: u64,
    partitions: u64,
}

impl Crowd {
    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.topics.iter().any(|it| it == topic)
    }

    pub(crate) fn sentence(&self) -> String {
        let Crowd { group, topics, members, partitions } = self;
        let (has, topics, surplus) =
            (count(*members, "member"), topics.join(", "), members.saturating_sub(*partitions));
        let waits = if surplus == 1 { "waits" } else { "wait" };
        format!(
            "group {group:?} has {has} for {} of {topics}: {surplus} {waits} idle",
            count(*partitions, "partition")
        )
    }

    pub(crate) fn value(&self) -> Value {
        let Crowd { group, topics, members, partitions } = self;
        let idle = members.saturating_sub(*partitions);
        json!({"group": group, "topics": topics, "members": members, "partitions": partitions, "idle": idle})
    }
}

/// Groups with more members than there are partitions of what these read. Members are known while somebody has the
/// log open.
pub(crate) fn crowds(log: &Log) -> Vec<Crowd> {
    let topics = log.topics();
    let partitions: BTreeMap<&str, u64> =
        topics.iter().map(|topic| (topic.name(), topic.partitions().into())).collect();
    let mut found: Vec<Crowd> = Vec::new();
    for group in log.groups() {
        let subscribed: BTreeSet<&str> =
            group.members.iter().flat_map(|member| &member.topics).map(String::as_str).collect();
        for topic in subscribed {
            let members: Vec<_> =
                group.members.iter().filter(|member| member.topics.iter().any(|it| it == topic)).collect();
            // Whatever else they read they share as well, so with more of them than that some have nothing.
            let read: BTreeSet<&str> =
                members.iter().flat_map(|member| &member.topics).map(String::as_str).collect();
            let crowd = Crowd {
                group: group.name.clone(),
                members: members.len() as u64,
                partitions: read.iter().filter_map(|name| partitions.get(name)).sum(),
                topics: read.into_iter().map(str::to_owned).collect(),
            };
            if crowd.members > crowd.partitions && !found.contains(&crowd) {
                found.push(crowd);
            }
        }
    }
    found
}

/// A key that more than half of the records have that were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HotKey {
    topic: String,
    partition: u32,
    key: Bytes,
    records: u64,
    looked_at: u64,
}

impl HotKey {
    fn sentence(&self) -> String {
        let HotKey { topic, partition, records, looked_at, .. } = self;
        let key = text(&self.key);
        let mut short: String = key.chars().take(LETTERS_MAX).collect();
        if short.len() < key.len() {
            short.push_str("..");
        }
        let percent = 100 * records / looked_at;
        let of = format!("{looked_at} records of {topic}-{partition} that were looked at ({percent} %)");
        format!("key {short:?} has {records} of {of}")
    }

    pub(crate) fn value(&self) -> Value {
        let HotKey { topic, partition, records, looked_at, .. } = self;
        let share = (1000.0 * *records as f64 / *looked_at as f64).round() / 1000.0;
        json!({"topic": topic, "partition": partition, "key": text(&self.key), "records": records,
               "looked_at": looked_at, "share": share})
    }
}

/// What was seen of the keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) hot: Vec<HotKey>,
    /// Records that were looked at.
    pub(crate) looked_at: u64,
    /// Partitions that were left out, since enough was looked at before.
    pub(crate) left_out: u64,
}

impl Keys {
    /// What people are told: a sentence for each hot key, as long as these are few.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self.hot.iter().take(SENTENCES_MAX).map(HotKey::sentence).collect();
        if let Some(more) = self.hot.len().checked_sub(SENTENCES_MAX).filter(|more| *more > 0) {
            sentences.push(format!("{more} more of such keys: --format json has them all"));
        }
        sentences
    }
}

/// Looks at the newest records of topics. A table's keys are rows, of which one may be written again and again.
pub(crate) fn keys(log: &Log, topics: &[Topic]) -> Keys {
    let tables: BTreeSet<_> = log.tables().iter().map(|table| table.topic().id()).collect();
    let topics: Vec<&Topic> = topics.iter().filter(|topic| !tables.contains(&topic.id())).collect();
    let partitions: u64 = topics.iter().map(|topic| u64::from(topic.partitions())).sum();
    // Each has its share, so that the last one isn't left out for the first.
    let records_max = (RECORDS_IN_ALL_MAX / partitions.max(1)).clamp(RECORDS_MIN, RECORDS_MAX);
    let (view, mut keys, mut bytes_left) = (log.read_view(), Keys::default(), BYTES_IN_ALL_MAX);
    for topic in topics {
        for partition in 0..topic.partitions() {
            if keys.looked_at >= RECORDS_IN_ALL_MAX || bytes_left == 0 {
                keys.left_out += 1;
                continue;
            }
            let seen = Seen::of(log, &view, (topic, partition), (records_max, BYTES_MAX.min(bytes_left)));
            keys.looked_at += seen.records;
            bytes_left = bytes_left.saturating_sub(seen.bytes);
            keys.hot.extend(seen.hot(topic, partition));
        }
    }
    keys
}

/// The newest records of a partition, by key.
#[derive(Debug, Default)]
struct Seen {
    records: u64,
    bytes: u64,
    by_key: HashMap<Bytes, u64>,
}

impl Seen {
    fn of(
        log: &Log,
        view: &ReadView,
        (topic, partition): (&Topic, u32),
        (records_max, bytes_max): (u64, u64),
    ) -> Seen {
        let mut seen = Seen::default();
        let Ok((start, end)) = log.bounds(topic, partition) else { return seen };
        // Where there are holes these are fewer records.
        let from = end.saturating_sub(records_max).max(start);
        for record in view.records_from(topic, partition, from).flatten() {
            let len = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len) as u64;
            seen.records += 1;
            seen.bytes += len(&record.key) + len(&record.value);
            if let Some(key) = record.key {
                *seen.by_key.entry(key).or_default() += 1;
            }
            if seen.records >= records_max || seen.bytes >= bytes_max {
                break;
            }
        }
        seen
    }

    fn hot(self, topic: &Topic, partition: u32) -> Option<HotKey> {
        if self.records < RECORDS_MIN {
            return None;
        }
        let (key, records) = self.by_key.into_iter().max_by_key(|(_, records)| *records)?;
        let (topic, looked_at) = (topic.name().to_string(), self.records);
        (2 * records > looked_at).then_some(HotKey { topic, partition, key, records, looked_at })
    }
}
