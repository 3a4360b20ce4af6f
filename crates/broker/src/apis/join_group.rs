//! JoinGroup: a member of a classic group, waiting for the others (KIP-345, KIP-394, KIP-814).

use crate::code;
use crate::dispatch::Call;
use crate::groups::{Join, Joined, JoinedMember};
use exactlog::wire::is_legal_group_name;
use exactlog_wire::messages::join_group::{JoinGroupResponseMember, Request, Response};
use exactlog_wire::value::Str;

/// From which version on a member is told its id before it joins (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// From which version on the protocol's name can be null.
const NULL_NAME: i16 = 7;
/// From which version on a leader can be told to leave the assignment as it is (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let refused = |error_code| Response {
        error_code,
        protocol_name: (call.version < NULL_NAME).then(Str::default),
        member_id: request.member_id.clone(),
        ..Response::default()
    };
    if !is_legal_group_name(&request.group_id) {
        return refused(code::INVALID_GROUP_ID);
    }
    if call.node.log.group_members(&request.group_id).is_some_and(|members| members > 0) {
        // Its members are consumers of the process that has the log.
        return refused(code::INCONSISTENT_GROUP_PROTOCOL);
    }
    match call.node.groups.join(join_of(call, &request)).await {
        Some(joined) => answer(call.version, joined),
        None => refused(code::COORDINATOR_NOT_AVAILABLE),
    }
}

fn join_of(call: &Call<'_>, request: &Request) -> Join {
    let protocols = request.protocols.iter().map(|it| (it.name.to_string(), it.metadata.clone()));
    Join {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(Str::to_string),
        client_id: call.client_id.map(Str::to_string).unwrap_or_default(),
        client_host: format!("/{}", call.peer.address.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        requires_member_id: call.version >= MEMBER_ID_REQUIRED,
        can_skip_assignment: call.version >= SKIP_ASSIGNMENT,
        reason: request.reason.as_ref().map(Str::to_string),
    }
}

fn answer(version: i16, joined: Joined) -> Response {
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        metadata: member.metadata,
    };
    Response {
        error_code: joined.error,
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Str::from),
        protocol_name: match joined.protocol_name {
            Some(name) => Some(name.into()),
            None => (version < NULL_NAME).then(Str::default),
        },
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members: joined.members.into_iter().map(member).collect(),
        ..Response::default()
    }
}
