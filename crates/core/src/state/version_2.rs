//! The state as checkpoints of version 2 have it, before topics had settings for retention and compaction.
//!
//! Not a second state: it is read, and becomes a [`State`](super::State). Order and types of the fields are a format
//! (docs/FORMAT.md, "Payload"): nothing here ever changes.

use super::{Group, PartitionState, Producer, Settings, TransactionalProducer};
use crate::command::TopicConfig as NewTopicConfig;
use crate::ids::{ProducerId, TopicId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    lsn: u64,
    time_ms: i64,
    semantics_level: u32,
    open_number: u64,
    settings: Settings,
    topics: BTreeMap<TopicId, Topic>,
    topic_names: BTreeMap<String, TopicId>,
    producers: BTreeMap<ProducerId, Arc<Producer>>,
    producer_names: BTreeMap<String, ProducerId>,
    producer_renamed: BTreeMap<ProducerId, ProducerId>,
    groups: BTreeMap<String, Arc<Group>>,
    transactional: BTreeMap<String, Arc<TransactionalProducer>>,
    transactional_ids: BTreeMap<ProducerId, String>,
    next_topic: u32,
    next_producer: i64,
    next_deadline_ms: i64,
    transaction_deadlines: BTreeSet<(i64, ProducerId)>,
}

/// A topic. Its list of partitions is empty here: they have sections of their own.
#[derive(Clone, Debug, Deserialize)]
struct Topic {
    name: String,
    config: TopicConfig,
    config_version: u32,
    partitions: Vec<Arc<PartitionState>>,
}

#[derive(Clone, Debug, Deserialize)]
struct TopicConfig {
    max_message_bytes: u32,
    segment_bytes: u32,
    segment_ms: u64,
}

impl State {
    /// The state of today, if this one is as it has to be.
    pub fn upgrade(self) -> Result<super::State, String> {
        if let Some((id, _)) = self.topics.iter().find(|(_, topic)| !topic.partitions.is_empty()) {
            return Err(format!("partitions of topic {id} where they don't belong"));
        }
        Ok(super::State {
            lsn: self.lsn,
            time_ms: self.time_ms,
            semantics_level: self.semantics_level,
            open_number: self.open_number,
            settings: self.settings,
            topics: self.topics.into_iter().map(|(id, topic)| (id, Arc::new(topic.into()))).collect(),
            topic_names: self.topic_names,
            producers: self.producers,
            producer_names: self.producer_names,
            producer_renamed: self.producer_renamed,
            groups: self.groups,
            transactional: self.transactional,
            transactional_ids: self.transactional_ids,
            next_topic: self.next_topic,
            next_producer: self.next_producer,
            next_deadline_ms: self.next_deadline_ms,
            transaction_deadlines: self.transaction_deadlines,
            ..super::State::default()
        })
    }
}

impl From<Topic> for super::Topic {
    fn from(old: Topic) -> super::Topic {
        let TopicConfig { max_message_bytes, segment_bytes, segment_ms } = old.config;
        let config =
            NewTopicConfig { max_message_bytes, segment_bytes, segment_ms, ..NewTopicConfig::default() };
        super::Topic { name: old.name, config, config_version: old.config_version, partitions: Vec::new() }
    }
}
