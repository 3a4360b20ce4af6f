//! OffsetDelete: offsets of topics that a group doesn't read any more (KIP-496).

use crate::code;
use crate::dispatch::Call;
use exactlog::Partition;
use exactlog::wire::Command;
use exactlog_wire::messages::offset_delete::{
    OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Request, Response,
};
use exactlog_wire::value::Uuid;
use std::collections::BTreeSet;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let group = &*request.group_id;
    let is_known = call.node.log.group_members(group).is_some();
    let read = match call.node.groups.subscribed(group) {
        Ok(read) => read,
        Err(code::GROUP_ID_NOT_FOUND) if is_known => Some(BTreeSet::new()),
        Err(error_code) => return Response { error_code, ..Response::default() },
    };
    let (mut partitions, mut topics) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let is_read = read.as_ref().is_none_or(|read| read.contains(&*topic.name));
        topics.push(checked(call, is_read, topic, &mut partitions));
    }
    if is_known && !partitions.is_empty() {
        let command = Command::DeleteOffsets { group: group.to_string(), partitions: Some(partitions) };
        if let Err(error) = call.node.log.ask(command).await {
            return Response { error_code: error.kafka_code(), ..Response::default() };
        }
    }
    Response { topics, ..Response::default() }
}

/// What becomes of the partitions of a topic; those that can be forgotten are added to the others.
fn checked(
    call: &Call<'_>,
    is_read: bool,
    wanted: OffsetDeleteRequestTopic,
    partitions: &mut Vec<Partition>,
) -> OffsetDeleteResponseTopic {
    let topic = call.node.topic(&wanted.name, Uuid::default());
    let partition = |index: i32| {
        let number = u32::try_from(index).ok();
        let at = topic.as_ref().zip(number).filter(|(topic, number)| *number < topic.partitions());
        let error_code = match at {
            _ if is_read => code::GROUP_SUBSCRIBED_TO_TOPIC,
            None => code::UNKNOWN_TOPIC_OR_PARTITION,
            Some((topic, index)) => {
                partitions.push(Partition { topic: topic.id(), index });
                code::NONE
            }
        };
        OffsetDeleteResponsePartition { partition_index: index, error_code }
    };
    let answers = wanted.partitions.iter().map(|it| it.partition_index).map(partition).collect();
    OffsetDeleteResponseTopic { name: wanted.name, partitions: answers }
}
