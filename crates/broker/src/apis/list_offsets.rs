//! ListOffsets: where a partition begins and ends, and where a time is (KIP-79, KIP-734, KIP-1005).

use crate::code;
use crate::dispatch::Call;
use crate::node::{Node, check_leader_epoch};
use exactlog::{Error, Partition, Topic};
use exactlog_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse, Request,
    Response,
};
use exactlog_wire::value::Uuid;
use std::sync::Arc;

/// What stands for places instead of times.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// As [`EARLIEST`] of a node that has all of its records itself.
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in other storage: there is none.
const LATEST_TIERED: i64 = -5;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let is_committed = request.isolation_level == 1;
    let mut topics = Vec::with_capacity(request.topics.len());
    for ListOffsetsTopic { name, partitions } in request.topics {
        let topic = call.node.topic(&name, Uuid::default());
        let mut found = Vec::with_capacity(partitions.len());
        for wanted in partitions {
            found.push(answer(call.node, topic.as_ref(), wanted, is_committed).await);
        }
        topics.push(ListOffsetsTopicResponse { name, partitions: found });
    }
    Response { topics, ..Response::default() }
}

async fn answer(
    node: &Arc<Node>,
    topic: Option<&Topic>,
    wanted: ListOffsetsPartition,
    is_committed: bool,
) -> ListOffsetsPartitionResponse {
    let index = wanted.partition_index;
    let found = match topic {
        Some(topic) => find(node, topic, wanted, is_committed).await,
        None => Err(code::UNKNOWN_TOPIC_OR_PARTITION),
    };
    match found {
        Ok(found) => ListOffsetsPartitionResponse { partition_index: index, ..found },
        Err(error_code) => {
            ListOffsetsPartitionResponse { partition_index: index, error_code, ..Default::default() }
        }
    }
}

async fn find(
    node: &Arc<Node>,
    topic: &Topic,
    wanted: ListOffsetsPartition,
    is_committed: bool,
) -> Result<ListOffsetsPartitionResponse, i16> {
    let index = u32::try_from(wanted.partition_index).map_err(|_| code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = Partition { topic: topic.id(), index };
    let bounds = node.log.bounds_of(partition).map_err(|error| error.kafka_code())?;
    check_leader_epoch(wanted.current_leader_epoch, bounds.leader_epoch)?;
    let end = if is_committed { bounds.last_stable_offset } else { bounds.high_watermark };
    let place = |offset: u64, timestamp: i64| ListOffsetsPartitionResponse {
        timestamp,
        offset: offset as i64,
        leader_epoch: node.log.leader_epoch_at(partition, offset).map_or(-1, |epoch| epoch as i32),
        ..Default::default()
    };
    match wanted.timestamp {
        LATEST => Ok(place(end, -1)),
        EARLIEST | EARLIEST_LOCAL => Ok(place(bounds.start_offset, -1)),
        LATEST_TIERED => Ok(ListOffsetsPartitionResponse::default()),
        MAX_TIMESTAMP | 0.. => {
            let (for_it, topic) = (node.clone(), topic.clone());
            let timestamp = wanted.timestamp;
            let search = move || match timestamp {
                MAX_TIMESTAMP => for_it.log.newest(&topic, index),
                _ => for_it.log.first_at_or_after(&topic, index, timestamp),
            };
            let found = tokio::task::spawn_blocking(search).await;
            let found = found.map_err(|_| code::UNKNOWN_SERVER_ERROR)?;
            let found = found.map_err(|error: Error| error.kafka_code())?;
            let seen = found.filter(|(offset, _)| *offset < end);
            Ok(seen.map_or_else(Default::default, |(offset, timestamp)| place(offset, timestamp)))
        }
        _ => Err(code::INVALID_REQUEST),
    }
}
