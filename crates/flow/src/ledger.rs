//! What became of dead letters: a row for each partition of their topic, in a table of its own.
//!
//! ```text
//!   DEAD -> REDRIVEN | DISCARDED
//! ```
//!
//! A row is written in the commit that puts entries back, gives them up, or has what their handler made of them. That
//! commit expects it to be as it was read: of two at the same time one is refused and looks again.
//!
//! Invariants
//!   * an entry ends at most once, and only with the commit of what follows

use crate::dead_entry::EntryState;
use crate::error::Error;
use crate::owned::Place;
use crate::parked::RowOf;
use exactlog::{Log, Record, Table, TableOptions, Topic, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a partition's entries has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Beginning, end and whether they were discarded, in order; neighbours that ended alike are one.
    ranges: Vec<(u64, u64, bool)>,
}

impl Ended {
    pub(crate) fn state(&self, offset: u64) -> EntryState {
        let behind = self.ranges.partition_point(|(from, _, _)| *from <= offset);
        match behind.checked_sub(1).map(|nth| self.ranges[nth]) {
            Some((_, to, discarded)) if offset < to => match discarded {
                true => EntryState::Discarded,
                false => EntryState::Redriven,
            },
            _ => EntryState::Dead,
        }
    }

    /// An entry has ended that had not before.
    pub(crate) fn add(&mut self, offset: u64, discarded: bool) {
        let at = self.ranges.partition_point(|(from, _, _)| *from <= offset);
        self.ranges.insert(at, (offset, offset + 1, discarded));
        let joins =
            |before: (u64, u64, bool), next: (u64, u64, bool)| before.1 == next.0 && before.2 == next.2;
        if at + 1 < self.ranges.len() && joins(self.ranges[at], self.ranges[at + 1]) {
            self.ranges[at].1 = self.ranges.remove(at + 1).1;
        }
        if at > 0 && joins(self.ranges[at - 1], self.ranges[at]) {
            self.ranges[at - 1].1 = self.ranges.remove(at).1;
        }
    }

    /// What is no longer there needn't be remembered.
    pub(crate) fn forget_below(&mut self, start: u64) {
        self.ranges.retain(|(_, to, _)| *to > start);
    }

    /// The first offset from this one on that hasn't ended.
    pub(crate) fn first_from(&self, start: u64) -> u64 {
        let ends_here = self.ranges.iter().filter(|(_, to, _)| *to > start);
        let joined = ends_here.scan(start, |at, (from, to, _)| {
            (*from <= *at).then(|| {
                *at = *to;
                *to
            })
        });
        joined.last().unwrap_or(start)
    }

    /// How many of those that are kept were put back, and how many given up.
    pub(crate) fn counts_from(&self, start: u64) -> (u64, u64) {
        let (mut redriven, mut discarded) = (0, 0);
        for (from, to, is_discarded) in &self.ranges {
            *if *is_discarded { &mut discarded } else { &mut redriven } +=
                to.saturating_sub(start.max(*from));
        }
        (redriven, discarded)
    }
}

/// The table of a topic's dead letters.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Table);

impl Ledger {
    fn name(topic: &Topic) -> String {
        format!("flow-dlq.{}", topic.name())
    }

    /// None: nothing ever became of any.
    pub(crate) fn find(log: &Log, topic: &Topic) -> Result<Option<Ledger>, Error> {
        match log.table(&Ledger::name(topic)) {
            Ok(table) => Ok(Some(Ledger(table))),
            Err(exactlog::Error::NoSuchTable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn create(log: &Log, topic: &Topic) -> Result<Ledger, Error> {
        let options = TableOptions::default().max_message_bytes(16 << 20);
        Ok(Ledger(log.create_table(&Ledger::name(topic), options)?))
    }

    /// What has ended of a partition, and the version of the row that says so.
    pub(crate) fn ended(&self, partition: u32) -> Result<(Ended, Option<u64>), Error> {
        let key = partition.to_string();
        let Some(entry) = self.0.get(&key)? else { return Ok((Ended::default(), None)) };
        let row_of = RowOf { table: self.0.name(), key: &key };
        Ok((row_of.json(entry.value())?, Some(entry.version)))
    }

    /// Writes it, if it is of that version still.
    pub(crate) fn write(
        &self,
        transaction: &mut Transaction<'_>,
        partition: u32,
        ended: &Ended,
        version: Option<u64>,
    ) -> Result<(), Error> {
        transaction.expect_version(&self.0, partition.to_string(), version);
        Ok(transaction.put_json(&self.0, partition.to_string(), ended)?)
    }
}

/// The dead letters that a round reads, as of its beginning, and what ends in it.
#[derive(Debug, Default)]
pub(crate) struct LettersRead {
    partitions: BTreeMap<Place, Reading>,
}

#[derive(Debug)]
struct Reading {
    ledger: Ledger,
    topic: Topic,
    ended: Ended,
    version: Option<u64>,
    has_changed: bool,
}

impl LettersRead {
    /// Reads what has ended of a partition, if these are dead letters.
    pub(crate) fn load(
        &mut self,
        ledgers: &BTreeMap<Arc<str>, (Topic, Ledger)>,
        place: &Place,
    ) -> Result<(), Error> {
        let Some((topic, ledger)) = ledgers.get(&place.0) else { return Ok(()) };
        if !self.partitions.contains_key(place) {
            let (ended, version) = ledger.ended(place.1)?;
            let (ledger, topic) = (ledger.clone(), topic.clone());
            self.partitions
                .insert(place.clone(), Reading { ledger, topic, ended, version, has_changed: false });
        }
        Ok(())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Whether it is a dead letter that something became of: there is nothing to do any more.
    pub(crate) fn has_ended(&self, record: &Record) -> bool {
        if self.partitions.is_empty() {
            return false;
        }
        let reading = self.partitions.get(&(record.topic.clone(), record.partition));
        reading.is_some_and(|it| it.ended.state(record.offset) != EntryState::Dead)
    }

    /// An event is done: if it is a dead letter, it is none any more.
    pub(crate) fn end(&mut self, record: &Record) {
        if !self.partitions.is_empty()
            && let Some(reading) = self.partitions.get_mut(&(record.topic.clone(), record.partition))
            && reading.ended.state(record.offset) == EntryState::Dead
        {
            reading.ended.add(record.offset, false);
            reading.has_changed = true;
        }
    }

    /// Writes down what has ended.
    pub(crate) fn fill(mut self, log: &Log, transaction: &mut Transaction<'_>) -> Result<(), Error> {
        for ((_, partition), reading) in &mut self.partitions {
            if reading.has_changed {
                reading.ended.forget_below(log.bounds(&reading.topic, *partition)?.0);
                reading.ledger.write(transaction, *partition, &reading.ended, reading.version)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_what_was_added(ends in prop::collection::vec((0..40_u64, any::<bool>()), 0..60)) {
            let (mut ended, mut model) = (Ended::default(), BTreeMap::new());
            for (offset, discarded) in ends {
                if ended.state(offset) == EntryState::Dead {
                    prop_assert!(model.insert(offset, discarded).is_none());
                    ended.add(offset, discarded);
                }
            }
            for offset in 0..41 {
                let expected = match model.get(&offset) {
                    None => EntryState::Dead,
                    Some(true) => EntryState::Discarded,
                    Some(false) => EntryState::Redriven,
                };
                prop_assert_eq!(ended.state(offset), expected);
            }
            for start in [0, 20] {
                let count = |of| model.range(start..).filter(|(_, discarded)| **discarded == of).count() as u64;
                prop_assert_eq!(ended.counts_from(start), (count(false), count(true)));
            }
            prop_assert!(ended.ranges.windows(2).all(|two| two[0].1 < two[1].0 || two[0].2 != two[1].2));
        }
    }
}
