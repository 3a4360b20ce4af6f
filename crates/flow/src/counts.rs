//! How many records of a partition a group has read, and how they ended.
//!
//! A row of the group's table for each partition, written in every commit that changes it. So it counts exactly, over
//! restarts too, and it is what a commit is fenced by: whoever had the partition before has another version of it.
//!
//! Invariants
//!   * after every commit: done + duplicate + dead + those that wait = read

use crate::error::Error;
use crate::parked::RowOf;
use exactlog::{Entry, Table, Topic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Records of a partition, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Records that were read and taken over by a commit.
    pub read: u64,
    /// Those whose handler succeeded, by outcome (`ok`, if it says nothing else).
    pub done: BTreeMap<String, u64>,
    /// Copies that were left out.
    pub duplicate: u64,
    /// Those that were dead-lettered.
    pub dead: u64,
    /// Attempts that were followed by another one.
    pub retried: u64,
}

impl Counts {
    /// What the row of a partition has, and its version.
    pub(crate) fn of(table: &Table, key: &str, found: Option<Entry>) -> Result<(Counts, Option<u64>), Error> {
        let Some(entry) = found else { return Ok((Counts::default(), None)) };
        Ok((RowOf { table: table.name(), key }.json(entry.value())?, Some(entry.version)))
    }

    /// Those that were done, whatever their outcome.
    pub fn done_total(&self) -> u64 {
        self.done.values().sum()
    }

    /// Those that have ended.
    pub fn ended(&self) -> u64 {
        self.done_total() + self.duplicate + self.dead
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.retried += other.retried;
        for (outcome, count) in &other.done {
            *self.done.entry(outcome.clone()).or_default() += count;
        }
    }

    pub(crate) fn done(&mut self, outcome: &str) {
        match self.done.get_mut(outcome) {
            Some(count) => *count += 1,
            None => _ = self.done.insert(outcome.to_string(), 1),
        }
    }
}

/// The key of the row of a partition.
pub(crate) fn counts_key(topic: &Topic, partition: u32) -> String {
    format!("count/{}.{}/{partition}", topic.name(), topic.id().0)
}

/// Topic, its id and partition of such a key.
pub(crate) fn parse_counts_key(key: &str) -> Option<(&str, u32, u32)> {
    let (topic, partition) = key.strip_prefix("count/")?.split_once('/')?;
    let (name, id) = topic.rsplit_once('.')?;
    Some((name, id.parse().ok()?, partition.parse().ok()?))
}
