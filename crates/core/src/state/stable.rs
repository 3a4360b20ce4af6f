//! What a partition knows of wire transactions: the open ones, which bound the last stable offset, and the aborted ones
//! (semantics TX-15 to TX-17).
//!
//! ```text
//!   start ........ data of aborted ranges is skipped ........ last stable offset ..... end
//!                                                             first open batch
//! ```
//!
//! Invariants
//!   * the last stable offset never moves back
//!   * aborted ranges are in the order of their ends, and are kept until the whole range is trimmed
//!   * there is an offset left for the marker of every open transaction

use super::topic::PartitionState;
use crate::batch::{Batch, Control};
use crate::ids::{Partition, ProducerId};
use crate::reply::Marker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A wire transaction with data in a partition that isn't decided yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its identity.
    pub txn_seq: u64,
    /// Offset of its first record in the partition.
    pub first_offset: u64,
}

/// A wire transaction with data in a partition that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// Its identity.
    pub txn_seq: u64,
    /// Its producer: all its transactional batches of the range belong to the transaction.
    pub producer: ProducerId,
    /// Offset of its first record in the partition.
    pub first_offset: u64,
    /// Offset of its marker.
    pub last_offset: u64,
    /// The last stable offset directly behind its end: no transaction that ends later begins before it.
    pub last_stable_offset: u64,
}

/// Which batches of a partition readers of committed records get, as of one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undecided {
    /// First offset from which the batches of a producer are open.
    open: BTreeMap<ProducerId, u64>,
    /// Ordered by first offset.
    aborted: Vec<AbortedTransaction>,
}

impl PartitionState {
    /// First offset of the oldest open transaction, else the end: readers of committed records stop here.
    pub fn last_stable_offset(&self) -> u64 {
        let first = self.open.values().map(|open| open.first_offset).min();
        first.unwrap_or(self.end)
    }

    /// The aborted transactions that overlap the offsets from `from` up to and without `to`, in the order of their
    /// first offsets.
    pub fn aborted_between(&self, from: u64, to: u64) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        let behind = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        for aborted in &self.aborted[behind..] {
            if aborted.first_offset < to {
                found.push(*aborted);
            }
            if aborted.last_stable_offset >= to {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| aborted.first_offset);
        found
    }

    /// What of the offsets from `from` up to and without `to` isn't committed.
    pub fn undecided_between(&self, from: u64, to: u64) -> Undecided {
        let open = self.open.iter().filter(|(_, open)| open.first_offset < to);
        let open = open.map(|(producer, open)| (*producer, open.first_offset)).collect();
        Undecided { open, aborted: self.aborted_between(from, to) }
    }

    /// A batch of a transaction was placed.
    pub(super) fn open_at(&mut self, producer: ProducerId, txn_seq: u64, first_offset: u64) {
        self.open.entry(producer).or_insert(OpenTransaction { txn_seq, first_offset });
    }

    /// Ends the open transaction of a producer; its marker. Without data here there is nothing to end.
    pub(super) fn close(&mut self, partition: Partition, term: u32, control: Control) -> Option<Marker> {
        let producer = control.producer;
        let OpenTransaction { txn_seq, first_offset } = self.open.remove(&producer)?;
        let (last_offset, leader_epoch) = self.take_offsets(term, 1);
        self.last_marker = Some(last_offset);
        if let Some(window) = self.producers.get_mut(&producer) {
            window.coordinator_epoch = Some(control.coordinator_epoch);
            let ended = window.batches.iter_mut().filter(|batch| batch.txn_seq == txn_seq);
            ended.for_each(|batch| batch.aborted = !control.commit);
        }
        if !control.commit {
            let last_stable_offset = self.last_stable_offset();
            self.aborted.push(AbortedTransaction {
                txn_seq,
                producer,
                first_offset,
                last_offset,
                last_stable_offset,
            });
        }
        Some(Marker { partition, offset: last_offset, leader_epoch, control })
    }

    /// Forgets the aborted ranges that lie wholly below the start.
    pub(super) fn trim_aborted(&mut self) {
        let start = self.start;
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < start);
        self.aborted.drain(..gone);
    }
}

impl Undecided {
    /// Whether a batch is shown: one that is neither a marker nor of a transaction that is open or aborted.
    pub fn shows(&self, batch: &Batch) -> bool {
        if batch.is_control() {
            return false;
        }
        let producer = match batch.producer().filter(|_| batch.is_transactional()) {
            Some(stamp) => stamp.id,
            None => return true,
        };
        let offset = batch.base_offset();
        let open = self.open.get(&producer).is_some_and(|first| *first <= offset);
        let begun = self.aborted.partition_point(|aborted| aborted.first_offset <= offset);
        let aborted = self.aborted[..begun]
            .iter()
            .any(|aborted| aborted.producer == producer && offset <= aborted.last_offset);
        !open && !aborted
    }
}
