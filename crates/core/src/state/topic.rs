//! Topics and partitions: settings, offsets, leader epochs, and the way of a batch to its place (semantics LG-1, OA-7).
//!
//! Invariants
//!   * `start <= end`; `end` only grows, `start` only grows
//!   * leader epochs and their first offsets only rise, and an epoch that `Trim` has passed is forgotten
//!   * an append that is refused leaves the partition as it was

use super::stable::{AbortedTransaction, OpenTransaction};
use super::table::check_table_config;
use super::window::{ProducerWindow, RememberedBatch, Tombstone, Verdict};
use super::{Outcome, SETTING_MS_MAX, State, check_bounds, done};
use crate::batch::{Batch, ProducerStamp, TimestampType};
use crate::command::{
    KEPT_BYTES_MAX, KEPT_MAX, KeptSettings, TOPIC_PARTITIONS_MAX, TopicConfig, is_legal_name,
};
use crate::ids::{Partition, ProducerId, TopicId};
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
    /// Wire transactions with data here that are open.
    pub open: BTreeMap<ProducerId, OpenTransaction>,
    /// Wire transactions with data here that were aborted, in the order of their ends.
    pub aborted: Vec<AbortedTransaction>,
    /// Offset of the last marker; none: there was none. Behind it, and below the last stable offset, all is shown.
    pub last_marker: Option<u64>,
}

/// First offset of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderEpochStart {
    /// The epoch.
    pub leader_epoch: u32,
    /// Its first offset.
    pub start_offset: u64,
}

/// A batch on its way into the log.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    /// Where it is to go.
    pub(super) partition: Partition,
    pub(super) batch: &'a Batch,
    /// Which of the command's batches it is.
    pub(super) index: u32,
    /// Term of the shard.
    pub(super) term: u32,
    /// The wire transaction that it is part of; 0: none.
    pub(super) txn_seq: u64,
}

/// Largest offset, so that it stays a positive i64 on the wire.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Largest leader epoch: the batch header has an i32 for it.
const LEADER_EPOCH_MAX: u32 = i32::MAX as u32;

impl PartitionState {
    /// The leader epoch that the record at `offset` shows; 0 before the first record and where it is forgotten
    /// since the record was trimmed.
    pub fn leader_epoch_at(&self, offset: u64) -> u32 {
        let below = self.leader_epochs.partition_point(|epoch| epoch.start_offset <= offset);
        below.checked_sub(1).map_or(0, |index| self.leader_epochs[index].leader_epoch)
    }

    /// Gives the batch its place. The caller has checked everything.
    fn place(&mut self, arrival: &Arrival<'_>, append_time_ms: Option<i64>) -> Placement {
        let Arrival { partition, batch, index, term, .. } = *arrival;
        let (base_offset, leader_epoch) = self.take_offsets(term, batch.record_count() as u64);
        Placement { partition, base_offset, next_offset: self.end, leader_epoch, index, append_time_ms }
    }

    /// Takes the next offsets: the first of them, and the leader epoch that they show.
    ///
    /// A term below that of an earlier append counts as that one: headers and `leader_epochs` then still agree, and
    /// no epoch begins twice. One that a header can't show counts as the highest that it can.
    pub(super) fn take_offsets(&mut self, term: u32, count: u64) -> (u64, u32) {
        let base_offset = self.end;
        self.end += count;
        let term = term.min(LEADER_EPOCH_MAX);
        let leader_epoch = self.leader_epochs.last().map_or(term, |last| last.leader_epoch.max(term));
        if self.leader_epochs.last().is_none_or(|last| last.leader_epoch < leader_epoch) {
            self.leader_epochs.push(LeaderEpochStart { leader_epoch, start_offset: base_offset });
        }
        (base_offset, leader_epoch)
    }

    /// Raises the start, and forgets leader epochs that nobody asks for any more. The record before the start still
    /// counts: a group that has consumed up to the start commits with its epoch.
    pub(super) fn trim(&mut self, start: u64) {
        self.start = self.start.max(start);
        let start = self.start;
        let needed_from = self.leader_epochs.partition_point(|epoch| epoch.start_offset < start);
        self.leader_epochs.drain(..needed_from.saturating_sub(1));
        self.trim_aborted();
    }
}

impl State {
    pub(super) fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        as_table: bool,
    ) -> Outcome {
        if !is_legal_name(name) {
            return Err(Refusal::IllegalName { name: name.to_string() });
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            return Err(Refusal::PartitionCount { partitions, max: TOPIC_PARTITIONS_MAX });
        }
        config.check()?;
        if let Some((topic, existing)) = self.topic_named(name) {
            let have = (existing.partitions.len() as u32, &existing.config);
            let differences = match (self.tables.get(topic).is_some(), as_table) {
                (true, false) => "it is a table, not a plain topic".to_string(),
                (false, true) => "it is a plain topic, not a table".to_string(),
                _ => topic_differences(have, (partitions, config)),
            };
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
        if as_table {
            self.tables.create(topic);
        }
        done(Reply::Topic { topic, existed: false })
    }

    pub(super) fn alter_topic(&mut self, topic: TopicId, config: &TopicConfig) -> Outcome {
        config.check()?;
        let found = self.topics.get_mut(&topic).filter(|_| !topic.is_hidden());
        let found = found.ok_or(Refusal::UnknownTopic { topic })?;
        if self.tables.get(topic).is_some() {
            check_table_config(config)?;
        }
        let changed = found.config != *config;
        if changed {
            let found = Arc::make_mut(found);
            found.config = config.clone();
            // Only compared for equality, so that coming round after 2^32 changes does no harm.
            found.config_version = found.config_version.wrapping_add(1);
        }
        let config_version = found.config_version;
        if changed {
            self.free_stuck_timers(topic);
        }
        done(Reply::TopicAltered { config_version })
    }

    pub(super) fn create_partitions(&mut self, topic: TopicId, sent: u32) -> Outcome {
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&sent) {
            return Err(Refusal::PartitionCount { partitions: sent, max: TOPIC_PARTITIONS_MAX });
        }
        let found = self.topics.get_mut(&topic).ok_or(Refusal::UnknownTopic { topic })?;
        let current = found.partitions.len() as u32;
        if sent < current {
            return Err(Refusal::FewerPartitions { topic, sent, current });
        }
        if sent > current && self.tables.get(topic).is_some() {
            return Err(Refusal::TablePartitions { table: topic, sent, current });
        }
        if sent > current {
            Arc::make_mut(found).partitions.resize_with(sent as usize, Arc::default);
            self.share_new_partitions(topic);
        }
        done(Reply::Partitions { partitions: sent, added: sent - current })
    }

    pub(super) fn delete_topic(&mut self, topic: TopicId) -> Outcome {
        self.find_topic(topic)?;
        let removed = self.topics.remove(&topic).ok_or(Refusal::UnknownTopic { topic })?;
        self.topic_names.remove(&removed.name);
        self.forget_topic_in_groups(topic);
        self.forget_topic_in_transactions(topic);
        self.tables.forget(topic);
        done(Reply::TopicDeleted)
    }

    pub(super) fn trim(&mut self, partition: Partition, start: u64) -> Outcome {
        let end = self.find(partition)?.end;
        if start > end {
            return Err(Refusal::TrimOutOfRange { partition, sent: start, end });
        }
        if !self.topics[&partition.topic].config.cleanup_policy.deletes() {
            return Err(Refusal::TrimCompacted { topic: partition.topic });
        }
        let state = self.partition_mut(partition);
        state.trim(start);
        done(Reply::Trimmed { start_offset: state.start })
    }

    pub(super) fn append(
        &mut self,
        arrival: &Arrival<'_>,
        config_version: u32,
        expected_end: Option<u64>,
    ) -> Outcome {
        let Arrival { partition, batch, .. } = *arrival;
        let state = self.find_at_version(partition, config_version)?;
        check_shape(batch)?;
        if let Some(stamp) = batch.producer() {
            self.check_producer_epoch(&stamp)?;
            if let Verdict::Duplicate(original) = state.judge(partition, &stamp, batch)? {
                return done(original.repeated(state.start));
            }
            self.check_no_transaction(stamp.id)?;
        }
        if let Some(expected) = expected_end.filter(|expected| *expected != state.end) {
            return Err(Refusal::EndOffset { partition, expected, actual: state.end });
        }
        self.check_room(arrival, batch.record_count() as u64)?;
        let start_offset = state.start;
        let placement = self.place_batch(arrival);
        Ok(appended(placement, batch, start_offset))
    }

    /// What every batch must fulfil, whichever command carries it. `records` is what the whole command may add.
    pub(super) fn check_batch(&self, arrival: &Arrival<'_>, records: u64) -> Result<(), Refusal> {
        self.find(arrival.partition)?;
        check_shape(arrival.batch)?;
        self.check_room(arrival, records)
    }

    /// As [`check_place`](State::check_place), for what isn't a write to a table.
    pub(super) fn check_room(&self, arrival: &Arrival<'_>, records: u64) -> Result<(), Refusal> {
        let topic = arrival.partition.topic;
        match self.tables.get(topic) {
            Some(_) => Err(Refusal::TableAsTopic { topic }),
            None => self.check_place(arrival, records),
        }
    }

    /// Whether the topic, the partition and the format have room for a batch of the right shape.
    pub(super) fn check_place(&self, arrival: &Arrival<'_>, records: u64) -> Result<(), Refusal> {
        let Arrival { partition, batch, term, .. } = *arrival;
        let state = self.find(partition)?;
        let config = &self.topics[&partition.topic].config;
        let max = config.max_message_bytes;
        let bytes = batch.len_bytes() as u64;
        if bytes > max as u64 {
            return Err(Refusal::BatchTooLarge { bytes, max });
        }
        check_timestamps(config, batch, self.time_ms)?;
        if term > LEADER_EPOCH_MAX {
            return Err(Refusal::LeaderEpochsExhausted { term, max: LEADER_EPOCH_MAX });
        }
        // Each open transaction will end with a marker.
        if records > (OFFSET_MAX - state.end).saturating_sub(state.open.len() as u64) {
            return Err(Refusal::OffsetsExhausted { partition, end: state.end, records });
        }
        Ok(())
    }

    /// Places a batch that passed every check, and remembers it if it has a producer.
    pub(super) fn place_batch(&mut self, arrival: &Arrival<'_>) -> Placement {
        let Arrival { partition, batch, txn_seq, .. } = *arrival;
        let time_ms = self.time_ms;
        let timestamp_type = self.topics.get(&partition.topic).map(|topic| topic.config.timestamp_type);
        let append_time_ms = (timestamp_type == Some(TimestampType::LogAppendTime)).then_some(time_ms);
        let state = self.partition_mut(partition);
        let placement = state.place(arrival, append_time_ms);
        if let Some(stamp) = batch.producer() {
            let remembered = RememberedBatch {
                first_sequence: stamp.base_sequence,
                last_sequence: batch.last_sequence(),
                base_offset: placement.base_offset,
                timestamp_ms: placement.max_timestamp_ms(batch),
                txn_seq,
                aborted: false,
            };
            state.remember(&stamp, remembered, time_ms);
            let deadline = time_ms.saturating_add(self.settings.producer_idle_ms as i64);
            self.next_deadline_ms = self.next_deadline_ms.min(deadline);
        }
        placement
    }

    /// A topic that commands may name.
    pub(super) fn find_topic(&self, topic: TopicId) -> Result<&Topic, Refusal> {
        let found = self.topics.get(&topic).filter(|_| !topic.is_hidden());
        found.map(|found| &**found).ok_or(Refusal::UnknownTopic { topic })
    }

    pub(super) fn find(&self, partition: Partition) -> Result<&PartitionState, Refusal> {
        let found = self.find_topic(partition.topic)?;
        let partitions = found.partitions.len() as u32;
        let state = found.partitions.get(partition.index as usize);
        state.map(|state| &**state).ok_or(Refusal::UnknownPartition { partition, partitions })
    }

    /// A partition of a topic whose settings are those that the sender has checked against.
    pub(super) fn find_at_version(
        &self,
        partition: Partition,
        config_version: u32,
    ) -> Result<&PartitionState, Refusal> {
        let current = self.find_topic(partition.topic)?.config_version;
        if current != config_version {
            return Err(Refusal::ConfigChanged { sent: config_version, current });
        }
        self.find(partition)
    }

    /// A partition that [`State::find`] has found.
    pub(super) fn partition_mut(&mut self, partition: Partition) -> &mut PartitionState {
        let topic = self.topics.get_mut(&partition.topic).expect("the topic was found before");
        Arc::make_mut(&mut Arc::make_mut(topic).partitions[partition.index as usize])
    }
}

/// The answer to a batch that was accepted, whichever command carried it.
pub(super) fn appended(placement: Placement, batch: &Batch, start_offset: u64) -> Applied {
    let reply = Reply::Appended {
        base_offset: placement.base_offset,
        timestamp_ms: placement.max_timestamp_ms(batch),
        start_offset,
        duplicate: false,
    };
    Applied { placements: smallvec![placement], ..Applied::only(reply) }
}

/// What depends on the batch alone. It comes before the producer's window, which counts in sequences.
pub(super) fn check_shape(batch: &Batch) -> Result<(), Refusal> {
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

/// As [`check_shape`], for a batch of a transaction: who wrote it.
pub(super) fn check_transactional_shape(batch: &Batch) -> Result<ProducerStamp, Refusal> {
    let stamp = batch.producer().filter(|stamp| stamp.epoch >= 0 && stamp.base_sequence >= 0);
    let what = match stamp {
        _ if batch.record_count() == 0 || batch.record_count() - 1 != batch.last_offset_delta() => {
            "has no records, or not as many as its last offset delta says"
        }
        _ if batch.is_control() => "is marked as control",
        _ if !batch.is_transactional() => "isn't marked as transactional",
        Some(stamp) => return Ok(stamp),
        None => "is transactional without a producer id, or with a negative epoch or sequence",
    };
    Err(Refusal::Batch { what })
}

/// Whether a batch's times are within what its topic takes (semantics LG-5). Of the records between its first one and
/// its latest the header says nothing, and nothing else is looked at here; -1 says that there is no time.
fn check_timestamps(config: &TopicConfig, batch: &Batch, time_ms: i64) -> Result<(), Refusal> {
    let (before, after) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
    if config.timestamp_type == TimestampType::LogAppendTime || (before, after) == (None, None) {
        return Ok(());
    }
    // Settings are bounded, so the casts lose nothing.
    let least = before.map_or(i64::MIN, |before| time_ms.saturating_sub(before as i64));
    let greatest = after.map_or(i64::MAX, |after| time_ms.saturating_add(after as i64));
    let times = [batch.base_timestamp_ms(), batch.max_timestamp_ms()];
    let outside = |time: &i64| *time != NO_TIMESTAMP && !(least..=greatest).contains(time);
    match times.into_iter().find(outside) {
        Some(timestamp_ms) => Err(Refusal::Timestamp { timestamp_ms, least, greatest }),
        None => Ok(()),
    }
}

/// What a record shows that has no time.
const NO_TIMESTAMP: i64 = -1;

impl TopicConfig {
    /// Whether each setting is within its bounds, and no two contradict each other: what creating or altering a topic
    /// looks at first.
    ///
    /// # Errors
    /// [`Refusal::SettingOutOfBounds`].
    pub fn check(&self) -> Result<(), Refusal> {
        let limit = |setting, limit: Option<u64>, max| check_bounds(setting, limit.unwrap_or(0), 0, max);
        let lags = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        check_bounds("max.message.bytes", self.max_message_bytes as u64, 1024, 16 * 1024 * 1024)?;
        check_bounds("segment.bytes", self.segment_bytes as u64, 4096, i32::MAX as u64)?;
        check_bounds("segment.ms", self.segment_ms, 1, SETTING_MS_MAX)?;
        limit("retention.ms", self.retention_ms, SETTING_MS_MAX)?;
        limit("retention.bytes", self.retention_bytes, i64::MAX as u64)?;
        check_bounds("delete.retention.ms", self.delete_retention_ms, 0, SETTING_MS_MAX)?;
        check_bounds("min.compaction.lag.ms", lags.0, 0, SETTING_MS_MAX)?;
        check_bounds(
            "max.compaction.lag.ms",
            lags.1.unwrap_or(SETTING_MS_MAX),
            lags.0.max(1),
            SETTING_MS_MAX,
        )?;
        check_bounds(
            "min.cleanable.dirty.ratio (thousandths)",
            self.min_cleanable_dirty_permille.into(),
            0,
            1000,
        )?;
        limit("message.timestamp.before.max.ms", self.timestamp_before_max_ms, SETTING_MS_MAX)?;
        limit("message.timestamp.after.max.ms", self.timestamp_after_max_ms, SETTING_MS_MAX)?;
        check_kept(&self.kept)
    }
}

pub(super) fn check_kept(kept: &KeptSettings) -> Result<(), Refusal> {
    check_bounds("kept settings", kept.iter().len() as u64, 0, KEPT_MAX as u64)?;
    let longest = kept.iter().map(|(name, value)| name.len().max(value.len())).max().unwrap_or(0);
    check_bounds("bytes of a kept setting", longest as u64, 0, KEPT_BYTES_MAX as u64)
}
