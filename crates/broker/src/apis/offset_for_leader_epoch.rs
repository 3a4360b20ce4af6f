//! OffsetForLeaderEpoch: where a leader epoch has ended, so that a client notices what was cut (KIP-101, KIP-320;
//! semantics GR-7).

use crate::code;
use crate::dispatch::Call;
use crate::node::{Node, check_leader_epoch};
use exactlog_wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic, OffsetForLeaderTopicResult, Request,
    Response,
};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let topic = |OffsetForLeaderTopic { topic, partitions }: OffsetForLeaderTopic| {
        let answer = |wanted: OffsetForLeaderPartition| {
            let (error_code, leader_epoch, end_offset) = match end(call.node, &topic, &wanted) {
                Ok((epoch, end)) => (code::NONE, epoch, end),
                Err(error_code) => (error_code, -1, -1),
            };
            EpochEndOffset { error_code, partition: wanted.partition, leader_epoch, end_offset }
        };
        let partitions = partitions.into_iter().map(answer).collect();
        OffsetForLeaderTopicResult { topic, partitions }
    };
    Response { topics: request.topics.into_iter().map(topic).collect(), ..Response::default() }
}

/// The largest epoch up to the one asked for, and where it ends; -1 and -1: there was none.
fn end(node: &Node, topic: &str, wanted: &OffsetForLeaderPartition) -> Result<(i32, i64), i16> {
    let partition = node.partition(topic, wanted.partition).map_err(|(error_code, _)| error_code)?;
    let bounds = node.log.bounds_of(partition).map_err(|error| error.kafka_code())?;
    check_leader_epoch(wanted.current_leader_epoch, bounds.leader_epoch)?;
    let Ok(epoch) = u32::try_from(wanted.leader_epoch) else { return Ok((-1, -1)) };
    let found = node.log.leader_epoch_end(partition, epoch).map_err(|error| error.kafka_code())?;
    Ok(found.map_or((-1, -1), |(epoch, end)| (epoch as i32, end as i64)))
}
