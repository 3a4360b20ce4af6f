//! OffsetFetch: how far groups have come (KIP-447, KIP-709, KIP-848).

use crate::code;
use crate::dispatch::Call;
use crate::groups::topic_partition;
use crate::node::uuid;
use exactlog::{Partition, TopicId};
use exactlog_wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, Request, Response,
};
use exactlog_wire::value::{Str, Uuid};
use std::collections::BTreeMap;

/// From which version on several groups can be asked for.
const SEVERAL: i16 = 8;
/// From which version on topics go by their ids.
const TOPIC_IDS: i16 = 10;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let is_stable = request.require_stable;
    if call.version >= SEVERAL {
        let groups = request.groups.into_iter().map(|group| fetched(call, group, is_stable)).collect();
        return Response { groups, ..Response::default() };
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: exactlog_wire::messages::offset_fetch::OffsetFetchRequestTopic| {
            let (name, partition_indexes) = (topic.name, topic.partition_indexes);
            OffsetFetchRequestTopics { name, partition_indexes, ..Default::default() }
        };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let OffsetFetchResponseGroup { topics, error_code, .. } = fetched(call, group, is_stable);
    Response { topics: topics.into_iter().map(older).collect(), error_code, ..Response::default() }
}

fn fetched(call: &Call<'_>, wanted: OffsetFetchRequestGroup, is_stable: bool) -> OffsetFetchResponseGroup {
    if let Err(error_code) = check_member(call, &wanted) {
        let group_id = wanted.group_id;
        return OffsetFetchResponseGroup { group_id, error_code, ..OffsetFetchResponseGroup::default() };
    }
    let group_id = wanted.group_id;
    let topics = match wanted.topics {
        Some(topics) => topics.into_iter().map(|topic| of_topic(call, &group_id, topic, is_stable)).collect(),
        None => all(call, &group_id, is_stable),
    };
    OffsetFetchResponseGroup { group_id, topics, error_code: code::NONE }
}

/// That who says that he is a member of a consumer group is one, and may see these offsets. Whoever says nothing may.
fn check_member(call: &Call<'_>, wanted: &OffsetFetchRequestGroup) -> Result<(), i16> {
    if wanted.member_id.is_none() && wanted.member_epoch < 0 {
        return Ok(());
    }
    let of_topic = |topic: &OffsetFetchRequestTopics| {
        let id = call.node.topic(&topic.name, topic.topic_id).map(|topic| topic.id());
        let numbers = topic.partition_indexes.iter().filter_map(|index| u32::try_from(*index).ok());
        let found = numbers.filter_map(|index| Some(topic_partition(Partition { topic: id?, index })));
        found.collect::<Vec<_>>()
    };
    let partitions =
        wanted.topics.as_ref().map(|topics| topics.iter().flat_map(of_topic).collect::<Vec<_>>());
    let member_id = wanted.member_id.as_deref().unwrap_or_default();
    call.node.groups.check_fetch(&wanted.group_id, member_id, wanted.member_epoch, partitions.as_deref())
}

fn of_topic(
    call: &Call<'_>,
    group: &str,
    wanted: OffsetFetchRequestTopics,
    is_stable: bool,
) -> OffsetFetchResponseTopics {
    let topic = call.node.topic(&wanted.name, wanted.topic_id);
    let partition = |index: i32| {
        let at = topic.as_ref().zip(u32::try_from(index).ok());
        match at {
            Some((topic, number)) => {
                of_partition(call, group, Partition { topic: topic.id(), index: number }, is_stable)
            }
            None if topic.is_none() && call.version >= TOPIC_IDS => none(index, code::UNKNOWN_TOPIC_ID),
            // Nothing was committed there.
            None => none(index, code::NONE),
        }
    };
    let partitions = wanted.partition_indexes.into_iter().map(partition).collect();
    OffsetFetchResponseTopics { name: wanted.name, topic_id: wanted.topic_id, partitions }
}

/// All that a group has committed.
fn all(call: &Call<'_>, group: &str, is_stable: bool) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<TopicId, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for partition in call.node.log.committed_partitions(group).unwrap_or_default() {
        topics.entry(partition.topic).or_default().push(of_partition(call, group, partition, is_stable));
    }
    let named = |(id, partitions): (TopicId, Vec<_>)| {
        let name: Str = call.node.log.topic_by_id(id)?.name().into();
        let topic_id = if call.version >= TOPIC_IDS { uuid(id) } else { Uuid::default() };
        Some(OffsetFetchResponseTopics { name, topic_id, partitions })
    };
    topics.into_iter().filter_map(named).collect()
}

fn of_partition(
    call: &Call<'_>,
    group: &str,
    partition: Partition,
    is_stable: bool,
) -> OffsetFetchResponsePartitions {
    let index = partition.index as i32;
    match call.node.log.committed_offset(group, partition, is_stable) {
        Ok(None) => none(index, code::NONE),
        Ok(Some(committed)) => OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: committed.offset as i64,
            committed_leader_epoch: match committed.leader_epoch {
                0 => -1,
                epoch => epoch as i32,
            },
            metadata: Some(committed.metadata.as_str().into()),
            error_code: code::NONE,
        },
        Err(error) => none(index, error.kafka_code()),
    }
}

fn none(partition_index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code,
    }
}

fn older(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |it: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: it.partition_index,
        committed_offset: it.committed_offset,
        committed_leader_epoch: it.committed_leader_epoch,
        metadata: it.metadata,
        error_code: it.error_code,
    };
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}
