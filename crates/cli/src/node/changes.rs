//! What a node is asked to change.

use super::{Node, OF_TOPIC};
use crate::failure::Failure;
use crate::place::{Place, TopicFacts};
use exactlog::TopicConfig;
use exactlog::wire::topic_differences;
use exactlog_client::{Code, Refused, To};
use exactlog_wire::messages::{
    CreatePartitions, CreateTopics, DeleteGroups, DeleteRecords, DeleteTopics, IncrementalAlterConfigs,
    InitProducerId, OffsetCommit, OffsetDelete, create_partitions, create_topics, delete_groups,
    delete_records, delete_topics, incremental_alter_configs, init_producer_id, offset_commit, offset_delete,
};
use exactlog_wire::value::Str;
use std::collections::BTreeMap;

/// How long a node may take for a change, in ms.
const CHANGE_MS: i32 = 30_000;
/// As many copies as the cluster makes by itself.
const BY_DEFAULT: i16 = -1;
/// Up to these versions topics go by their names.
const DELETED_BY_NAME: i16 = 5;
const COMMITTED_BY_NAME: i16 = 9;
/// What somebody is told who isn't the member that he says he is.
const OF_MEMBERS: [Code; 4] =
    [Code::ILLEGAL_GENERATION, Code::UNKNOWN_MEMBER_ID, Code::FENCED_MEMBER_EPOCH, Code::STALE_MEMBER_EPOCH];
/// IncrementalAlterConfigs: gives a setting a value.
const SET: i8 = 0;

impl Node {
    pub(super) fn create(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        said: &[&str],
    ) -> Result<(), Failure> {
        let named = config.rows().into_iter().filter(|(key, _)| said.contains(key));
        let setting = |(name, value): (&str, String)| create_topics::CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: name.into(),
                num_partitions: partitions as i32,
                replication_factor: BY_DEFAULT,
                configs: named.map(setting).collect(),
                ..Default::default()
            }],
            timeout_ms: CHANGE_MS,
            validate_only: false,
        };
        let created = self.ask::<CreateTopics, _>(To::Any, &request, |response| {
            let result = response.topics.first().cloned().unwrap_or_default();
            match Code(result.error_code) {
                Code::TOPIC_ALREADY_EXISTS => Ok(false),
                code => Refused::check(code.0, result.error_message.as_ref()).map(|()| true),
            }
        })?;
        if created {
            return Ok(());
        }
        // One that is as it was asked for will do.
        let topic = self.find(name)?.ok_or_else(|| {
            Failure::new(
                "REFUSED",
                format!("topic {name:?} existed, and is gone by now: somebody deleted it"),
            )
        })?;
        let there = self.configs(std::slice::from_ref(&topic))?.pop().unwrap_or_default();
        // What wasn't said may be as it is.
        let mut asked = there.clone();
        for (key, value) in config.rows().into_iter().filter(|(key, _)| said.contains(key)) {
            asked.set(key, &value).map_err(|error| Failure::new("SETTING", error.to_string()))?;
        }
        if (partitions, &asked) == (topic.partitions, &there) {
            return Ok(());
        }
        let different = topic_differences((topic.partitions, &there), (partitions, &asked));
        Err(Failure::new("REFUSED", format!("topic {name:?} exists with other settings: {different}")))
    }

    pub(super) fn alter(&self, topic: &str, changed: &[(&str, String)]) -> Result<(), Failure> {
        let setting = |(name, value): &(&str, String)| incremental_alter_configs::AlterableConfig {
            name: (*name).into(),
            config_operation: SET,
            value: Some(value.as_str().into()),
        };
        let request = incremental_alter_configs::Request {
            resources: vec![incremental_alter_configs::AlterConfigsResource {
                resource_type: OF_TOPIC,
                resource_name: topic.into(),
                configs: changed.iter().map(setting).collect(),
            }],
            validate_only: false,
        };
        self.ask_up_to::<IncrementalAlterConfigs, _>(i16::MAX, To::Any, &request, true, |response| {
            let result = response.responses.first().cloned().unwrap_or_default();
            Refused::check(result.error_code, result.error_message.as_ref())
        })
    }

    pub(super) fn grow(&self, topic: &str, to: u32) -> Result<(), Failure> {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: topic.into(),
                count: to as i32,
                assignments: None,
            }],
            timeout_ms: CHANGE_MS,
            validate_only: false,
        };
        self.ask::<CreatePartitions, _>(To::Any, &request, |response| {
            let result = response.results.first().cloned().unwrap_or_default();
            Refused::check(result.error_code, result.error_message.as_ref())
        })
    }

    pub(super) fn delete(&self, topic: &str) -> Result<(), Failure> {
        let request = delete_topics::Request {
            topic_names: vec![topic.into()],
            timeout_ms: CHANGE_MS,
            ..Default::default()
        };
        self.ask_up_to::<DeleteTopics, _>(DELETED_BY_NAME, To::Any, &request, false, |response| {
            let result = response.responses.first().cloned().unwrap_or_default();
            Refused::check(result.error_code, result.error_message.as_ref())
        })
    }

    pub(super) fn delete_records(&self, topic: &str, partition: u32, start: u64) -> Result<u64, Failure> {
        let request = delete_records::Request {
            topics: vec![delete_records::DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![delete_records::DeleteRecordsPartition {
                    partition_index: partition as i32,
                    offset: start as i64,
                }],
            }],
            timeout_ms: CHANGE_MS,
        };
        let to = To::Leader(topic, partition as i32);
        self.ask_up_to::<DeleteRecords, _>(i16::MAX, to, &request, true, |response| {
            let result = response.topics.first().and_then(|topic| topic.partitions.first());
            let result = result.cloned().unwrap_or_default();
            Refused::check(result.error_code, None)?;
            Ok(result.low_watermark as u64)
        })
    }

    /// Commits for a group without members.
    pub(super) fn commit_offsets(
        &self,
        group: &str,
        positions: &[(TopicFacts, u32, u64)],
    ) -> Result<(), Failure> {
        let at = |(topic, partition, offset): &(TopicFacts, u32, u64)| {
            (topic.name.to_string(), *partition, *offset)
        };
        let positions: Vec<_> = positions.iter().map(at).collect();
        match self.commit_as(group, (-1, ""), &positions)? {
            None => Ok(()),
            Some(_) => {
                Err(Failure::new("GROUP_ACTIVE", format!("group {group:?} has members; stop them first")))
            }
        }
    }

    /// Commits as a member, in its epoch; a code: the node doesn't take it for one.
    pub(crate) fn commit_as(
        &self,
        group: &str,
        (epoch, member_id): (i32, &str),
        positions: &[(String, u32, u64)],
    ) -> Result<Option<Code>, Failure> {
        let mut topics: BTreeMap<&str, Vec<offset_commit::OffsetCommitRequestPartition>> = BTreeMap::new();
        for (topic, partition, offset) in positions {
            topics.entry(topic).or_default().push(offset_commit::OffsetCommitRequestPartition {
                partition_index: *partition as i32,
                committed_offset: *offset as i64,
                ..Default::default()
            });
        }
        let topic = |(name, partitions): (&str, Vec<_>)| offset_commit::OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: group.into(),
            generation_id_or_member_epoch: epoch,
            member_id: member_id.into(),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        self.ask_up_to::<OffsetCommit, _>(COMMITTED_BY_NAME, To::Group(group), &request, true, |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = partitions.map(|partition| Code(partition.error_code));
            match codes.find(|code| *code != Code::NONE) {
                None => Ok(None),
                Some(code) if OF_MEMBERS.contains(&code) => Ok(Some(code)),
                Some(code) => Refused::check(code.0, None).map(|()| None),
            }
        })
    }

    pub(super) fn forget_offsets(
        &self,
        group: &str,
        partitions: &[(TopicFacts, u32)],
    ) -> Result<(), Failure> {
        let mut topics: BTreeMap<&str, Vec<offset_delete::OffsetDeleteRequestPartition>> = BTreeMap::new();
        for (topic, partition) in partitions {
            let partition =
                offset_delete::OffsetDeleteRequestPartition { partition_index: *partition as i32 };
            topics.entry(&topic.name).or_default().push(partition);
        }
        let topic = |(name, partitions): (&str, Vec<_>)| offset_delete::OffsetDeleteRequestTopic {
            name: name.into(),
            partitions,
        };
        let request = offset_delete::Request {
            group_id: group.into(),
            topics: topics.into_iter().map(topic).collect(),
        };
        self.ask_up_to::<OffsetDelete, _>(i16::MAX, To::Group(group), &request, true, |response| {
            Refused::check(response.error_code, None)?;
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.try_for_each(|partition| Refused::check(partition.error_code, None))
        })
    }

    pub(super) fn forget_group(&self, group: &str) -> Result<(), Failure> {
        let request = delete_groups::Request { groups_names: vec![group.into()] };
        self.ask::<DeleteGroups, _>(To::Group(group), &request, |response| {
            Refused::check(response.results.first().map_or(0, |result| result.error_code), None)
        })
    }

    /// A producer id and its epoch: of a transactional id, whose older producers are fenced, or a new one.
    pub(crate) fn init_producer(
        &self,
        transactional_id: Option<&str>,
        timeout_ms: i64,
    ) -> Result<(i64, i16), Failure> {
        let request = init_producer_id::Request {
            transactional_id: transactional_id.map(Str::from),
            transaction_timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            producer_id: -1,
            producer_epoch: -1,
        };
        let to = transactional_id.map_or(To::Any, To::Transaction);
        self.ask::<InitProducerId, _>(to, &request, |response| {
            Refused::check(response.error_code, None)?;
            Ok((response.producer_id, response.producer_epoch))
        })
    }
}
