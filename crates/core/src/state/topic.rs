//! Topics and partitions: offsets, and the idempotent producers of each partition (semantics ID-2 to ID-12).
//!
//! Invariants
//!   * `start <= end`; `end` only grows, `start` only grows
//!   * a producer has a window or a tombstone in a partition, never both
//!   * leader epochs and their first offsets only rise, and an epoch that `Trim` has passed is forgotten
//!   * an append that is refused leaves the partition as it was

use super::{Outcome, Settings, State, done};
use crate::batch::{Batch, ProducerStamp};
use crate::command::{TOPIC_PARTITIONS_MAX, TopicConfig, is_legal_name};
use crate::ids::{Partition, ProducerId, TopicId};
use crate::mutants::{Mutant, on};
use crate::reply::{Applied, Placement, Refusal, Reply, topic_differences};
use serde::{Deserialize, Serialize};
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// Rises with each change of the settings.
    pub config_version: u32,
    /// Its partitions, by index.
    pub partitions: Vec<Arc<PartitionState>>,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// First offset that can be read.
    pub start: u64,
    /// Offset that the next record gets (the high watermark on one node).
    pub end: u64,
    /// Where each leader epoch begins: one entry per term that appended here, without those that lie wholly below
    /// the record before `start`.
    pub leader_epochs: Vec<LeaderEpochStart>,
    /// Windows of the producers that append here.
    pub producers: BTreeMap<ProducerId, ProducerWindow>,
    /// What is left of producers that were idle for long.
    pub tombstones: BTreeMap<ProducerId, Tombstone>,
}

/// First offset of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderEpochStart {
    /// The epoch.
    pub leader_epoch: u32,
    /// Its first offset.
    pub start_offset: u64,
}

/// What a partition remembers of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerWindow {
    /// Epoch of the remembered batches.
    pub producer_epoch: i16,
    /// Time of the last append command, ms.
    pub time_ms: i64,
    /// The last batches, oldest first, at least 1 and at most [`WINDOW_BATCHES`].
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
pub(super) const WINDOW_BATCHES: usize = 5;

/// Largest offset, so that it stays a positive i64 on the wire.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Largest leader epoch: the batch header has an i32 for it.
const LEADER_EPOCH_MAX: u32 = i32::MAX as u32;

/// What a batch is to a window.
enum Verdict {
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

    /// The leader epoch that the record at `offset` shows; 0 before the first record and where it is forgotten
    /// since the record was trimmed.
    pub fn leader_epoch_at(&self, offset: u64) -> u32 {
        let below = self.leader_epochs.partition_point(|epoch| epoch.start_offset <= offset);
        below.checked_sub(1).map_or(0, |index| self.leader_epochs[index].leader_epoch)
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
        self.producers.retain(|producer, window| {
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
    fn judge(&self, partition: Partition, stamp: &ProducerStamp, batch: &Batch) -> Result<Verdict, Refusal> {
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
            return Ok(Verdict::Duplicate(*hit));
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

    fn remember(&mut self, stamp: &ProducerStamp, batch: RememberedBatch, time_ms: i64) {
        self.tombstones.remove(&stamp.id);
        let window = self.producers.entry(stamp.id).or_insert_with(|| ProducerWindow {
            producer_epoch: stamp.epoch,
            time_ms,
            batches: Vec::with_capacity(1),
        });
        if window.producer_epoch != stamp.epoch {
            window.producer_epoch = stamp.epoch;
            window.batches.clear();
        }
        window.time_ms = time_ms;
        let most = if on(Mutant::M5WindowOfOne) { 1 } else { WINDOW_BATCHES };
        while window.batches.len() >= most {
            window.batches.remove(0);
        }
        window.batches.push(batch);
    }

    /// Gives the batch its place. The caller has checked everything.
    ///
    /// A term below that of an earlier append counts as that one: headers and `leader_epochs` then still agree, and
    /// no epoch begins twice.
    fn place(&mut self, partition: Partition, index: u32, term: u32, batch: &Batch) -> Placement {
        let base_offset = self.end;
        self.end += batch.record_count() as u64;
        let leader_epoch = self.leader_epochs.last().map_or(term, |last| last.leader_epoch.max(term));
        if self.leader_epochs.last().is_none_or(|last| last.leader_epoch < leader_epoch) {
            self.leader_epochs.push(LeaderEpochStart { leader_epoch, start_offset: base_offset });
        }
        Placement { partition, base_offset, next_offset: self.end, leader_epoch, index }
    }

    /// Raises the start, and forgets leader epochs that nobody asks for any more. The record before the start still
    /// counts: a group that has consumed up to the start commits with its epoch.
    fn trim(&mut self, start: u64) {
        self.start = self.start.max(start);
        let start = self.start;
        let needed_from = self.leader_epochs.partition_point(|epoch| epoch.start_offset < start);
        self.leader_epochs.drain(..needed_from.saturating_sub(1));
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

impl State {
    pub(super) fn create_topic(&mut self, name: &str, partitions: u32, config: &TopicConfig) -> Outcome {
        if !is_legal_name(name) {
            return Err(Refusal::IllegalName { name: name.to_string() });
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            return Err(Refusal::PartitionCount { partitions, max: TOPIC_PARTITIONS_MAX });
        }
        check_config(config)?;
        if let Some((topic, existing)) = self.topic_named(name) {
            let have = (existing.partitions.len() as u32, &existing.config);
            let differences = topic_differences(have, (partitions, config));
            return if differences.is_empty() {
                done(Reply::Topic { topic, existed: true })
            } else {
                Err(Refusal::TopicExists { name: name.to_string(), topic, differences })
            };
        }
        let topic = TopicId(self.next_topic);
        self.next_topic = self.next_topic.checked_add(1).ok_or(Refusal::TopicsExhausted)?;
        let empty = Arc::new(PartitionState::default());
        let partitions = vec![empty; partitions as usize];
        let created = Topic { name: name.to_string(), config: config.clone(), config_version: 0, partitions };
        self.topics.insert(topic, Arc::new(created));
        self.topic_names.insert(name.to_string(), topic);
        done(Reply::Topic { topic, existed: false })
    }

    pub(super) fn alter_topic(&mut self, topic: TopicId, config: &TopicConfig) -> Outcome {
        check_config(config)?;
        let found = self.topics.get_mut(&topic).ok_or(Refusal::UnknownTopic { topic })?;
        if found.config != *config {
            let found = Arc::make_mut(found);
            found.config = config.clone();
            // Only compared for equality, so that coming round after 2^32 changes does no harm.
            found.config_version = found.config_version.wrapping_add(1);
        }
        done(Reply::TopicAltered { config_version: found.config_version })
    }

    pub(super) fn delete_topic(&mut self, topic: TopicId) -> Outcome {
        let removed = self.topics.remove(&topic).ok_or(Refusal::UnknownTopic { topic })?;
        self.topic_names.remove(&removed.name);
        self.forget_topic_in_groups(topic);
        done(Reply::TopicDeleted)
    }

    pub(super) fn trim(&mut self, partition: Partition, start: u64) -> Outcome {
        let end = self.find(partition)?.end;
        if start > end {
            return Err(Refusal::TrimOutOfRange { partition, sent: start, end });
        }
        let state = self.partition_mut(partition);
        state.trim(start);
        done(Reply::Trimmed { start_offset: state.start })
    }

    pub(super) fn append(
        &mut self,
        term: u32,
        partition: Partition,
        config_version: u32,
        expected_end: Option<u64>,
        batch: &Batch,
    ) -> Outcome {
        let topic =
            self.topics.get(&partition.topic).ok_or(Refusal::UnknownTopic { topic: partition.topic })?;
        if topic.config_version != config_version {
            return Err(Refusal::ConfigChanged { sent: config_version, current: topic.config_version });
        }
        let state = self.find(partition)?;
        check_shape(batch)?;
        if let Some(stamp) = batch.producer() {
            self.check_producer_epoch(&stamp)?;
            if let Verdict::Duplicate(original) = state.judge(partition, &stamp, batch)? {
                return done(Reply::Appended {
                    base_offset: original.base_offset,
                    timestamp_ms: original.timestamp_ms,
                    start_offset: state.start,
                    duplicate: true,
                });
            }
        }
        if let Some(expected) = expected_end.filter(|expected| *expected != state.end) {
            return Err(Refusal::EndOffset { partition, expected, actual: state.end });
        }
        self.check_room(term, partition, batch)?;
        let start_offset = state.start;
        let placement = self.place_batch(term, partition, 0, batch);
        let reply = Reply::Appended {
            base_offset: placement.base_offset,
            timestamp_ms: batch.max_timestamp_ms(),
            start_offset,
            duplicate: false,
        };
        Ok(Applied { reply, placements: smallvec![placement] })
    }

    /// What every batch must fulfil, whichever command carries it.
    pub(super) fn check_batch(&self, term: u32, partition: Partition, batch: &Batch) -> Result<(), Refusal> {
        self.find(partition)?;
        check_shape(batch)?;
        self.check_room(term, partition, batch)
    }

    /// Whether the topic, the partition and the format have room for a batch of the right shape.
    fn check_room(&self, term: u32, partition: Partition, batch: &Batch) -> Result<(), Refusal> {
        let state = self.find(partition)?;
        let max = self.topics[&partition.topic].config.max_message_bytes;
        let bytes = batch.len_bytes() as u64;
        if bytes > max as u64 {
            return Err(Refusal::BatchTooLarge { bytes, max });
        }
        if term > LEADER_EPOCH_MAX {
            return Err(Refusal::LeaderEpochsExhausted { term, max: LEADER_EPOCH_MAX });
        }
        let records = batch.record_count() as u64;
        if records > OFFSET_MAX - state.end {
            return Err(Refusal::OffsetsExhausted { partition, end: state.end, records });
        }
        Ok(())
    }

    /// Places a batch that passed every check, and remembers it if it has a producer.
    pub(super) fn place_batch(
        &mut self,
        term: u32,
        partition: Partition,
        index: u32,
        batch: &Batch,
    ) -> Placement {
        let time_ms = self.time_ms;
        let state = self.partition_mut(partition);
        let placement = state.place(partition, index, term, batch);
        if let Some(stamp) = batch.producer() {
            let remembered = RememberedBatch {
                first_sequence: stamp.base_sequence,
                last_sequence: batch.last_sequence(),
                base_offset: placement.base_offset,
                timestamp_ms: batch.max_timestamp_ms(),
            };
            state.remember(&stamp, remembered, time_ms);
            let deadline = time_ms.saturating_add(self.settings.producer_idle_ms as i64);
            self.next_expiry_ms = self.next_expiry_ms.min(deadline);
        }
        placement
    }

    pub(super) fn find(&self, partition: Partition) -> Result<&PartitionState, Refusal> {
        let topic = partition.topic;
        let found = self.topics.get(&topic).ok_or(Refusal::UnknownTopic { topic })?;
        let partitions = found.partitions.len() as u32;
        let state = found.partitions.get(partition.index as usize);
        state.map(|state| &**state).ok_or(Refusal::UnknownPartition { partition, partitions })
    }

    /// A partition that [`State::find`] has found.
    fn partition_mut(&mut self, partition: Partition) -> &mut PartitionState {
        let topic = self.topics.get_mut(&partition.topic).expect("the topic was found before");
        Arc::make_mut(&mut Arc::make_mut(topic).partitions[partition.index as usize])
    }
}

/// What depends on the batch alone. It comes before the producer's window, which counts in sequences.
fn check_shape(batch: &Batch) -> Result<(), Refusal> {
    let what = match batch.producer() {
        _ if batch.record_count() == 0 || batch.record_count() - 1 != batch.last_offset_delta() => {
            "has no records, or not as many as its last offset delta says"
        }
        _ if batch.is_control() || batch.is_transactional() => "is marked as control or transactional",
        Some(stamp) if stamp.epoch < 0 || stamp.base_sequence < 0 => {
            "has a producer id with a negative epoch or sequence"
        }
        _ => return Ok(()),
    };
    Err(Refusal::Batch { what })
}

fn check_config(config: &TopicConfig) -> Result<(), Refusal> {
    const YEAR_MS: u64 = 366 * 24 * 3600 * 1000;
    let rows = [
        ("max.message.bytes", config.max_message_bytes as u64, 1024, 16 * 1024 * 1024),
        ("segment.bytes", config.segment_bytes as u64, 4096, i32::MAX as u64),
        ("segment.ms", config.segment_ms, 1, 100 * YEAR_MS),
    ];
    for (setting, value, min, max) in rows {
        if !(min..=max).contains(&value) {
            return Err(Refusal::SettingOutOfBounds { setting, value, min, max });
        }
    }
    Ok(())
}
