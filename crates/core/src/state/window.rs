//! Windows: what a partition remembers of its idempotent producers (semantics 6.1, ID-2 to ID-12).
//!
//! It is not a store: what is remembered lies in [`PartitionState`], and whether a batch is well-formed was checked
//! before it comes here.
//!
//! Invariants
//!   * a window has 1 to 5 batches, all of its epoch, in the order of their offsets
//!   * a producer has a window or a tombstone in a partition, never both

use super::topic::PartitionState;
use super::{Settings, push_bounded};
use crate::batch::{Batch, ProducerStamp};
use crate::ids::{Partition, ProducerId};
use crate::mutants::{Mutant, on};
use crate::reply::{Refusal, Reply};
use serde::{Deserialize, Serialize};

/// What a partition remembers of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerWindow {
    /// Epoch of the remembered batches.
    pub producer_epoch: i16,
    /// Time of the last append command, ms.
    pub time_ms: i64,
    /// Coordinator epoch of the last marker; none: there was none.
    pub coordinator_epoch: Option<i32>,
    /// The last batches, oldest first, at least one and at most five.
    pub batches: Vec<RememberedBatch>,
}

/// One remembered batch. Sequences count modulo 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBatch {
    /// Sequence of the first record.
    pub first_sequence: i32,
    /// Sequence of the last record.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub base_offset: u64,
    /// Largest timestamp, ms.
    pub timestamp_ms: i64,
    /// The wire transaction that it is part of; 0: none.
    pub txn_seq: u64,
    /// Whether that was aborted.
    pub aborted: bool,
}

impl RememberedBatch {
    /// The answer to a batch that is sent again.
    pub(super) fn repeated(&self, start_offset: u64) -> Reply {
        let RememberedBatch { base_offset, timestamp_ms, .. } = *self;
        Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: true }
    }
}

/// What is left of a window after a long idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The last epoch.
    pub producer_epoch: i16,
    /// The last sequence.
    pub last_sequence: i32,
    /// Time of the last append command, ms.
    pub time_ms: i64,
}

/// Batches remembered per producer and partition: Kafka's clients have at most five in flight.
const WINDOW_BATCHES: usize = 5;

/// What a batch is to a window.
pub(super) enum Verdict {
    Accept,
    Duplicate(RememberedBatch),
}

pub(super) struct Expired {
    pub(super) producers: u64,
    pub(super) tombstones: u64,
    pub(super) next_ms: i64,
}

impl PartitionState {
    pub(super) fn has_producers(&self) -> bool {
        !self.producers.is_empty() || !self.tombstones.is_empty()
    }

    /// Sequence that the producer's next batch must begin with, if anything is known of it.
    pub fn next_sequence(&self, producer: ProducerId, producer_epoch: i16) -> Option<i32> {
        let (epoch, last) = match (self.producers.get(&producer), self.tombstones.get(&producer)) {
            (Some(window), _) => (window.producer_epoch, window.last_sequence()),
            (None, Some(tombstone)) => (tombstone.producer_epoch, tombstone.last_sequence),
            (None, None) => return None,
        };
        (epoch == producer_epoch).then(|| following(last))
    }

    pub(super) fn expire(&mut self, time_ms: i64, settings: &Settings) -> Expired {
        let mut expired = Expired { producers: 0, tombstones: 0, next_ms: i64::MAX };
        // `ProducerExpiration` bounds both, so neither the casts nor the sum lose anything.
        let idle_ms = settings.producer_idle_ms as i64;
        let gone_ms = idle_ms.saturating_add(settings.producer_tombstone_ms as i64);
        // Ages, not deadlines, are compared: at the end of time a deadline would be cut short.
        let open = &self.open;
        self.producers.retain(|producer, window| {
            if open.contains_key(producer) {
                // Its deadline counts again when the transaction ends.
                return true;
            }
            if time_ms.saturating_sub(window.time_ms) < idle_ms {
                expired.next_ms = expired.next_ms.min(window.time_ms.saturating_add(idle_ms));
                return true;
            }
            let last_sequence = window.last_sequence();
            let tombstone =
                Tombstone { producer_epoch: window.producer_epoch, last_sequence, time_ms: window.time_ms };
            self.tombstones.insert(*producer, tombstone);
            expired.producers += 1;
            false
        });
        self.tombstones.retain(|_, tombstone| {
            if time_ms.saturating_sub(tombstone.time_ms) < gone_ms {
                expired.next_ms = expired.next_ms.min(tombstone.time_ms.saturating_add(gone_ms));
                return true;
            }
            expired.tombstones += 1;
            false
        });
        expired
    }

    /// The table of semantics 6.1, for a batch whose shape was checked.
    pub(super) fn judge(
        &self,
        partition: Partition,
        stamp: &ProducerStamp,
        batch: &Batch,
    ) -> Result<Verdict, Refusal> {
        let (producer, last_sequence) = (stamp.id, batch.last_sequence());
        let (epoch, known_last, window) =
            match (self.producers.get(&producer), self.tombstones.get(&producer)) {
                (Some(window), _) => {
                    (window.producer_epoch, window.last_sequence(), window.batches.as_slice())
                }
                (None, Some(tombstone)) => (tombstone.producer_epoch, tombstone.last_sequence, &[][..]),
                (None, None) => return Ok(Verdict::Accept),
            };
        let sent = stamp.base_sequence;
        if stamp.epoch < epoch && !on(Mutant::M4ProducerEpochIgnored) {
            return Err(Refusal::ProducerFenced { producer, sent: stamp.epoch, current: epoch });
        }
        if stamp.epoch > epoch {
            return match sent {
                0 => Ok(Verdict::Accept),
                _ => Err(Refusal::OutOfOrderSequence { producer, partition, sent, expected: 0 }),
            };
        }
        if let Some(hit) =
            window.iter().find(|it| it.first_sequence == sent && it.last_sequence == last_sequence)
        {
            // The records are in the log and nobody will ever see them: to call that a success would lose them.
            return match hit.aborted {
                true => Err(Refusal::AbortedSequence { producer, partition, sent }),
                false => Ok(Verdict::Duplicate(*hit)),
            };
        }
        let expected = following(known_last);
        if sent == expected {
            return Ok(Verdict::Accept);
        }
        // Wholly at or below what was appended: the records are in the log, and the client must not send them again.
        // Both ends say nothing by themselves: a batch of almost 2^31 records comes round to below the last sequence.
        let behind = distance(sent, known_last);
        if behind < SEQUENCE_DISTANCE_OLDER && batch.last_offset_delta() <= behind {
            return Err(Refusal::DuplicateSequence { producer, partition, sent });
        }
        Err(Refusal::OutOfOrderSequence { producer, partition, sent, expected })
    }

    pub(super) fn remember(&mut self, stamp: &ProducerStamp, batch: RememberedBatch, time_ms: i64) {
        self.tombstones.remove(&stamp.id);
        let window = self.producers.entry(stamp.id).or_insert_with(|| ProducerWindow {
            producer_epoch: stamp.epoch,
            time_ms,
            coordinator_epoch: None,
            batches: Vec::with_capacity(1),
        });
        if window.producer_epoch != stamp.epoch {
            window.producer_epoch = stamp.epoch;
            window.batches.clear();
        }
        window.time_ms = time_ms;
        let most = if on(Mutant::M5WindowOfOne) { 1 } else { WINDOW_BATCHES };
        push_bounded(&mut window.batches, batch, most);
    }
}

impl ProducerWindow {
    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }
}

/// The sequence behind this one: 2^31-1 is followed by 0 (and -1, "none yet", by 0).
fn following(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

/// How many records lie from `sequence` up to `reference`, modulo 2^31.
fn distance(sequence: i32, reference: i32) -> u32 {
    reference.wrapping_sub(sequence) as u32 & i32::MAX as u32
}

/// Sequences less than this far behind another are older than it, the other half of the circle is newer.
const SEQUENCE_DISTANCE_OLDER: u32 = 1 << 30;
