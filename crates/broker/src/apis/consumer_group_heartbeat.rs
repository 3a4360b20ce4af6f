//! ConsumerGroupHeartbeat: a member joins, stays in or leaves a group whose assignment the node makes (KIP-848).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::groups::consumer::{Beaten, Heartbeat, TopicId, TopicPartition};
use exactlog::wire::is_legal_group_name;
use exactlog_wire::messages::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};
use exactlog_wire::value::{Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// From which version on a member makes up its id itself.
const BRINGS_MEMBER_ID: i16 = 1;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    match beaten(call, request) {
        Ok(beaten) => Response {
            member_id: Some(beaten.member_id.into()),
            member_epoch: beaten.member_epoch,
            heartbeat_interval_ms: beaten.heartbeat_interval_ms,
            assignment: beaten.assignment.map(assignment),
            ..Response::default()
        },
        Err((error_code, why)) => {
            Response { error_code, error_message: Some(why.into()), ..Response::default() }
        }
    }
}

fn beaten(call: &Call<'_>, request: Request) -> Result<Beaten, Refused> {
    let group = &request.group_id;
    // An empty one is told with all else that a request can lack.
    if !group.is_empty() && !is_legal_group_name(group) {
        return Err((code::INVALID_GROUP_ID, format!("{:?} isn't a legal name of a group", &**group)));
    }
    if call.node.log.group_members(group).is_some_and(|members| members > 0) {
        let why = format!("the members of group {:?} are of the process that has the log", &**group);
        return Err((code::GROUP_ID_NOT_FOUND, why));
    }
    call.node.groups.consumer_heartbeat(&call.node.log, heartbeat(call, &request))
}

fn heartbeat(call: &Call<'_>, request: &Request) -> Heartbeat {
    let owned = |topics: &Vec<TopicPartitions>| topics.iter().flat_map(partitions).collect::<BTreeSet<_>>();
    let text = |text: &Option<Str>| text.as_ref().map(Str::to_string);
    Heartbeat {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: text(&request.instance_id),
        rack_id: text(&request.rack_id),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topic_names: request
            .subscribed_topic_names
            .as_ref()
            .map(|it| it.iter().map(Str::to_string).collect()),
        topic_regex: text(&request.subscribed_topic_regex),
        server_assignor: text(&request.server_assignor),
        owned: request.topic_partitions.as_ref().map(owned),
        client_id: call.client_id.map(Str::to_string).unwrap_or_default(),
        client_host: format!("/{}", call.peer.address.ip()),
        brings_member_id: call.version >= BRINGS_MEMBER_ID,
    }
}

fn partitions(topic: &TopicPartitions) -> impl Iterator<Item = TopicPartition> + '_ {
    let id = TopicId(u128::from_be_bytes(topic.topic_id.0));
    topic.partitions.iter().map(move |index| TopicPartition { topic: id, index: *index })
}

fn assignment(assigned: BTreeSet<TopicPartition>) -> Assignment {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    assigned.into_iter().for_each(|it| topics.entry(it.topic).or_default().push(it.index));
    let topic =
        |(id, partitions): (TopicId, _)| TopicPartitions { topic_id: Uuid(id.0.to_be_bytes()), partitions };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}
