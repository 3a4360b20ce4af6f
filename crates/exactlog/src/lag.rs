//! How far groups are behind: in records, and in time (semantics LG-12).
//!
//! Invariants
//!   * what counts is what would be shown: no marker, nothing of an aborted transaction, nothing behind an open one
//!   * it is 0 exactly when nothing is unread

use crate::log::{Inner, Log};
use crate::source::Reader;
use crate::topic::Topic;
use exactlog_core::ids::Partition;
use exactlog_core::state::{State, Undecided};
use exactlog_storage::error::StorageError;

/// What of a partition a group has not consumed, as far as it is decided.
pub(crate) struct Unread {
    partition: Partition,
    from: u64,
    to: u64,
    /// Whether it may have markers.
    is_mixed: bool,
    undecided: Undecided,
}

impl Unread {
    /// As of a state. None: there is no such partition.
    pub(crate) fn of(state: &State, group: &str, partition: Partition) -> Option<Unread> {
        let committed = state.committed_offset(group, partition).map_or(0, |committed| committed.offset);
        Unread::behind(state, partition, committed)
    }

    /// What lies behind an offset, as of a state. None: there is no such partition.
    pub(crate) fn behind(state: &State, partition: Partition, offset: u64) -> Option<Unread> {
        let found = state.partition(partition)?;
        let to = found.last_stable_offset().max(found.start);
        let from = offset.clamp(found.start, to);
        // Behind the last marker every record is shown.
        let is_mixed = found.last_marker.is_some_and(|marker| marker >= from);
        Some(Unread { partition, from, to, is_mixed, undecided: found.undecided_between(from, to) })
    }

    /// How many records. Where some aren't shown, or are no longer there, all of it is read, and counts as it is if it
    /// can't be read.
    pub(crate) fn records(&self, inner: &Inner) -> u64 {
        let Unread { partition, from, to, is_mixed, undecided } = self;
        let counted = inner.read(|reader| match *is_mixed || reader.is_sparse(*partition, *from) {
            true => reader.count_shown(*partition, *from, *to, undecided),
            false => Ok(to - from),
        });
        counted.unwrap_or(to - from)
    }

    /// How long ago the first of them happened, in ms; 0 if there is none, or it can't be read, or lies in the future.
    pub(crate) fn age_ms(&self, inner: &Inner) -> u64 {
        let first_ms = inner.read(|reader| self.first_ms(reader)).ok().flatten();
        first_ms
            .map_or(0, |first_ms| u64::try_from(inner.clock.wall_ms().saturating_sub(first_ms)).unwrap_or(0))
    }

    /// The timestamp of the first one that is shown.
    fn first_ms(&self, reader: &Reader) -> Result<Option<i64>, StorageError> {
        let mut offset = self.from;
        while offset < self.to {
            let batches = reader.read(self.partition, offset, 1)?;
            let Some(last) = batches.last() else { break };
            for batch in &batches {
                if !self.undecided.shows(batch) {
                    continue;
                }
                let mut records = batch.records();
                let first = records.find(|it| it.as_ref().map_or(true, |it| it.offset >= self.from));
                match first {
                    Some(Ok(record)) => return Ok(Some(record.timestamp_ms)),
                    // One that can't be taken apart stands for its records.
                    Some(Err(_)) => return Ok(Some(batch.max_timestamp_ms())),
                    None => {}
                }
            }
            offset = last.next_offset();
        }
        Ok(None)
    }
}

impl Log {
    /// Records of a topic that a group has not consumed: exact, and 0 when nothing is unread. Markers and records of
    /// aborted wire transactions don't count, nor what lies behind an open one. Where a group has such before it, all
    /// of it is read to be counted, and counts as it is if it can't be read.
    pub fn lag(&self, group: &str, topic: &Topic) -> u64 {
        let unread: Vec<Unread> = {
            let state = self.inner.state.read();
            let at = |index| Partition { topic: topic.id(), index };
            (0..topic.partitions()).filter_map(|index| Unread::of(&state, group, at(index))).collect()
        };
        unread.iter().map(|unread| unread.records(&self.inner)).sum()
    }
}
