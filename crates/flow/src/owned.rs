//! The partitions that a processor has, and what its group keeps about them: rows of what waits, and counts.
//!
//! Invariants
//!   * what lies here is what the table had at one moment, and every commit that changes it expects that still to be so

use crate::counts::{Counts, counts_key};
use crate::error::Error;
use crate::parked::{Lane, Parsed, Queue, RowOf, Wait, Waiting, parse_row, row_key, row_offset, row_prefix};
use crate::retry::RetryMode;
use exactlog::{KeyRange, Log, Record, Table, Topic};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A partition of a topic.
pub(crate) type Place = (Arc<str>, u32);

/// What is known of a partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: Topic,
    pub(crate) index: u32,
    pub(crate) lane: Lane,
    pub(crate) counts: Counts,
    /// Of the row that has the counts; `None`: there is none yet.
    pub(crate) version: Option<u64>,
    prefix: String,
    pub(crate) counts_key: String,
}

impl Partition {
    /// As the table has it now.
    pub(crate) fn load(
        log: &Log,
        table: &Table,
        topic: &Topic,
        index: u32,
        mode: RetryMode,
        now_ms: i64,
    ) -> Result<Partition, Error> {
        let (prefix, counts_key) = (row_prefix(topic, index), counts_key(topic, index));
        // Both as of one moment: the version of the counts proves the rows.
        let view = log.read_view();
        let (counts, version) = Counts::of(table, &counts_key, view.get(table, &counts_key)?)?;
        let mut lane = Lane::default();
        let name: Arc<str> = topic.name().into();
        for entry in view.scan(table, KeyRange::prefix(prefix.clone())) {
            let entry = entry?;
            let key = String::from_utf8_lossy(entry.key());
            let row_of = RowOf { table: table.name(), key: &key };
            let offset = row_offset(&prefix, &key).ok_or_else(|| row_of.wrong("its key has no offset"))?;
            let Parsed { record, wait, .. } =
                parse_row(&row_of, (&name, index, offset), entry.value(), now_ms)?;
            lane.set(offset, Queue::of(mode, &record).apart(), wait);
        }
        let topic = topic.clone();
        Ok(Partition { topic, index, lane, counts, version, prefix, counts_key })
    }

    pub(crate) fn row_key(&self, offset: u64) -> String {
        row_key(&self.prefix, offset)
    }

    /// The record of a row; nothing if somebody else has ended it, who has the partition by now.
    pub(crate) fn waiting(&self, table: &Table, offset: u64, now_ms: i64) -> Result<Option<Record>, Error> {
        let key = self.row_key(offset);
        let row_of = RowOf { table: table.name(), key: &key };
        let Some(entry) = table.get(&key)? else {
            return match table.version(&self.counts_key)? == self.version {
                true => Err(row_of.wrong("it is gone")),
                false => Ok(None),
            };
        };
        let name: Arc<str> = self.topic.name().into();
        Ok(Some(parse_row(&row_of, (&name, self.index, offset), entry.value(), now_ms)?.record))
    }
}

/// A row whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) queue: Queue,
    pub(crate) wait: Wait,
}

/// All partitions that a processor has.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(crate) partitions: BTreeMap<Place, Partition>,
}

impl Owned {
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.partitions.values().filter_map(|it| it.lane.next_due_ms()).min()
    }

    /// How many records wait for this reason.
    pub(crate) fn count(&self, waiting: Waiting) -> u64 {
        self.partitions.values().map(|it| it.lane.count(waiting) as u64).sum()
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> usize {
        self.partitions.values().map(|it| it.lane.len()).sum()
    }

    /// Since when the oldest one that failed waits.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.partitions.values().filter_map(|it| it.lane.oldest_ms()).min()
    }

    /// Rows whose turn it is, at most about so many: the first one of each queue that is due, and those behind it that
    /// wait for nothing else.
    pub(crate) fn due(&self, now_ms: i64, most: usize) -> Vec<Due> {
        let mut heads: Vec<(&Place, &Partition, u64, Queue, Wait)> = Vec::new();
        for (place, partition) in &self.partitions {
            let due = partition.lane.due(now_ms, most).into_iter();
            heads.extend(due.map(|(offset, queue, wait)| (place, partition, offset, queue, wait)));
        }
        // Those that have waited longest, whichever partition is theirs.
        heads.sort_by_key(|(.., wait)| wait.due_ms);
        let mut due: Vec<Due> = Vec::new();
        for (place, partition, offset, queue, wait) in heads {
            if due.len() >= most {
                break;
            }
            let behind = partition.lane.behind(&queue, offset, most.saturating_sub(due.len() + 1));
            let row = |(offset, wait)| Due { place: place.clone(), offset, queue: queue.clone(), wait };
            due.push(row((offset, wait)));
            due.extend(behind.into_iter().map(row));
        }
        due
    }
}
