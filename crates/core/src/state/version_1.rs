//! The state as checkpoints of version 1 have it, before there were wire transactions.
//!
//! Not a second state: it is read, and becomes a [`State`](super::State). Order and types of the fields are a format
//! (docs/FORMAT.md, "Payload"): nothing here ever changes.

use super::{
    CommittedOffset, LeaderEpochStart, Member, Owner, Producer, RememberedBatch as NewBatch, Settings,
    Tombstone,
};
use crate::command::TopicConfig;
use crate::ids::{MemberId, Partition, ProducerId, TopicId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    lsn: u64,
    time_ms: i64,
    semantics_level: u32,
    open_number: u64,
    producer_idle_ms: u64,
    producer_tombstone_ms: u64,
    topics: BTreeMap<TopicId, Topic>,
    topic_names: BTreeMap<String, TopicId>,
    producers: BTreeMap<ProducerId, Arc<Producer>>,
    producer_names: BTreeMap<String, ProducerId>,
    producer_renamed: BTreeMap<ProducerId, ProducerId>,
    groups: BTreeMap<String, Group>,
    next_topic: u32,
    next_producer: i64,
    next_deadline_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
struct Topic {
    name: String,
    config: TopicConfig,
    config_version: u32,
    partitions: Vec<PartitionState>,
}

/// One partition.
#[derive(Clone, Debug, Deserialize)]
pub struct PartitionState {
    start: u64,
    end: u64,
    leader_epochs: Vec<LeaderEpochStart>,
    producers: BTreeMap<ProducerId, ProducerWindow>,
    tombstones: BTreeMap<ProducerId, Tombstone>,
}

#[derive(Clone, Debug, Deserialize)]
struct ProducerWindow {
    producer_epoch: i16,
    time_ms: i64,
    batches: Vec<RememberedBatch>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct RememberedBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: u64,
    timestamp_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
struct Group {
    generation: u64,
    members: BTreeMap<MemberId, Member>,
    owners: BTreeMap<Partition, Owner>,
    offsets: BTreeMap<Partition, CommittedOffset>,
}

impl From<State> for super::State {
    fn from(old: State) -> super::State {
        super::State {
            lsn: old.lsn,
            time_ms: old.time_ms,
            semantics_level: old.semantics_level,
            open_number: old.open_number,
            settings: Settings {
                producer_idle_ms: old.producer_idle_ms,
                producer_tombstone_ms: old.producer_tombstone_ms,
                ..Settings::default()
            },
            topics: old.topics.into_iter().map(|(id, topic)| (id, Arc::new(topic.into()))).collect(),
            topic_names: old.topic_names,
            producers: old.producers,
            producer_names: old.producer_names,
            producer_renamed: old.producer_renamed,
            groups: old.groups.into_iter().map(|(name, group)| (name, Arc::new(group.into()))).collect(),
            next_topic: old.next_topic,
            next_producer: old.next_producer,
            next_deadline_ms: old.next_deadline_ms,
            ..super::State::default()
        }
    }
}

impl From<Topic> for super::Topic {
    fn from(old: Topic) -> super::Topic {
        let partitions = old.partitions.into_iter().map(|partition| Arc::new(partition.into())).collect();
        super::Topic { name: old.name, config: old.config, config_version: old.config_version, partitions }
    }
}

impl From<PartitionState> for super::PartitionState {
    fn from(old: PartitionState) -> super::PartitionState {
        let producers = old.producers.into_iter().map(|(id, window)| (id, window.into())).collect();
        super::PartitionState {
            start: old.start,
            end: old.end,
            leader_epochs: old.leader_epochs,
            producers,
            tombstones: old.tombstones,
            ..super::PartitionState::default()
        }
    }
}

impl From<ProducerWindow> for super::ProducerWindow {
    fn from(old: ProducerWindow) -> super::ProducerWindow {
        let batch = |old: RememberedBatch| NewBatch {
            first_sequence: old.first_sequence,
            last_sequence: old.last_sequence,
            base_offset: old.base_offset,
            timestamp_ms: old.timestamp_ms,
            txn_seq: 0,
            aborted: false,
        };
        super::ProducerWindow {
            producer_epoch: old.producer_epoch,
            time_ms: old.time_ms,
            coordinator_epoch: None,
            batches: old.batches.into_iter().map(batch).collect(),
        }
    }
}

impl From<Group> for super::Group {
    fn from(old: Group) -> super::Group {
        super::Group {
            generation: old.generation,
            members: old.members,
            owners: old.owners,
            offsets: old.offsets,
            pending: BTreeMap::new(),
        }
    }
}
