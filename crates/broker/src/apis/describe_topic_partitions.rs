//! DescribeTopicPartitions: partitions of topics, page by page (KIP-966).

use crate::code;
use crate::dispatch::Call;
use crate::internal;
use crate::node::uuid;
use crate::rights;
use exactlog::wire::is_legal_name;
use exactlog::{Partition, Topic};
use exactlog_wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, Request, Response,
};
use exactlog_wire::value::Str;
use std::collections::BTreeSet;

/// Most partitions of an answer (`max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2000;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let named = request.topics.into_iter().map(|topic| topic.name);
    let cursor = request.cursor.unwrap_or_default();
    if cursor.partition_index < 0 {
        let topics = named.map(|name| unknown(name, code::INVALID_REQUEST)).collect();
        return Response { topics, ..Response::default() };
    }
    let named: BTreeSet<Str> = named.collect();
    let wants_all = named.is_empty();
    let names = match wants_all {
        true => call.node.log.topics().iter().map(|topic| topic.name().into()).collect(),
        false => named,
    };
    let mut left = request.response_partition_limit.clamp(1, PARTITIONS_MAX) as u32;
    let mut response = Response::default();
    for name in names.range(&cursor.topic_name..) {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index: 0 });
            break;
        }
        let Ok(topic) = call.node.log.open_topic(name) else {
            let is_legal = is_legal_name(name);
            let error_code =
                if is_legal { code::UNKNOWN_TOPIC_OR_PARTITION } else { code::INVALID_TOPIC_EXCEPTION };
            // If all are wanted, it was deleted just now.
            response.topics.extend((!wants_all).then(|| unknown(name.clone(), error_code)));
            continue;
        };
        let from = if *name == cursor.topic_name { cursor.partition_index as u32 } else { 0 };
        let to = topic.partitions().min(from.saturating_add(left));
        response.topics.push(described(call, &topic, from..to));
        if to < topic.partitions() {
            response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index: to as i32 });
            break;
        }
        left -= to.saturating_sub(from);
    }
    response
}

fn unknown(name: Str, error_code: i16) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn described(
    call: &Call<'_>,
    topic: &Topic,
    indexes: std::ops::Range<u32>,
) -> DescribeTopicPartitionsResponseTopic {
    let node_id = call.node.options.node_id;
    let partition = |index| {
        let at = Partition { topic: topic.id(), index };
        DescribeTopicPartitionsResponsePartition {
            partition_index: index as i32,
            leader_id: node_id,
            leader_epoch: call.node.log.bounds_of(at).map_or(-1, |bounds| bounds.leader_epoch as i32),
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..DescribeTopicPartitionsResponsePartition::default()
        }
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name().into()),
        topic_id: uuid(topic.id()),
        is_internal: internal::is_internal(topic.name()),
        partitions: indexes.map(partition).collect(),
        topic_authorized_operations: rights::OF_TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
