//! ConsumerGroupDescribe: the members of consumer groups, what each has and what it is to have (KIP-848).

use crate::code;
use crate::dispatch::Call;
use crate::groups::consumer::{self, DescribedMember, DescribedPartitions};
use crate::rights;
use exactlog_wire::messages::consumer_group_describe::{
    Assignment, DescribedGroup, Member, Request, Response, TopicPartitions,
};
use exactlog_wire::value::{Str, Uuid};

/// A member that follows the protocol of consumer groups (KIP-1099).
const OF_CONSUMER_GROUP: i8 = 1;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let described = |group_id: Str| {
        let group = described(call, group_id);
        let operations = rights::of_group(request.include_authorized_operations, group.error_code);
        DescribedGroup { authorized_operations: operations, ..group }
    };
    Response { groups: request.group_ids.into_iter().map(described).collect(), ..Response::default() }
}

fn described(call: &Call<'_>, group_id: Str) -> DescribedGroup {
    let refused = |error_code, why: String| DescribedGroup {
        error_code,
        error_message: Some(why.into()),
        group_id: group_id.clone(),
        ..DescribedGroup::default()
    };
    match call.node.groups.describe_consumer(&group_id) {
        Some(description) => of_members(group_id, description),
        None if group_id.is_empty() => {
            refused(code::INVALID_GROUP_ID, "the name of the group is empty".into())
        }
        None => refused(code::GROUP_ID_NOT_FOUND, format!("there is no consumer group {:?}", &*group_id)),
    }
}

fn of_members(group_id: Str, description: consumer::Description) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: description.state.name().into(),
        group_epoch: description.epoch,
        assignment_epoch: description.assignment_epoch,
        assignor_name: description.assignor.name().into(),
        members: description.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn member(member: DescribedMember) -> Member {
    Member {
        member_id: member.member_id.into(),
        instance_id: member.instance_id.map(Str::from),
        rack_id: member.rack_id.map(Str::from),
        member_epoch: member.member_epoch,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member.topic_names.into_iter().map(Str::from).collect(),
        subscribed_topic_regex: member.topic_regex.map(Str::from),
        assignment: assignment(member.assignment),
        target_assignment: assignment(member.target),
        member_type: OF_CONSUMER_GROUP,
    }
}

fn assignment(topics: Vec<DescribedPartitions>) -> Assignment {
    let topic = |it: DescribedPartitions| TopicPartitions {
        topic_id: Uuid(it.topic.0.to_be_bytes()),
        topic_name: it.name.into(),
        partitions: it.indexes,
    };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}
