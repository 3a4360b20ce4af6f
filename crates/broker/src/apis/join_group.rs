//! JoinGroup: a member of a classic group, waiting for the others (KIP-345, KIP-394, KIP-814).

use crate::code;
use crate::dispatch::Call;
use crate::groups::{Join, Joined, JoinedMember};
use bytes::Bytes;
use exactlog::wire::is_legal_group_name;
use exactlog_wire::messages::join_group::{JoinGroupResponseMember, Request, Response};
use exactlog_wire::value::Str;

/// Protocols that a member can offer: clients have up to five.
const PROTOCOLS_MAX: usize = 100;
/// What it can say with them, in bytes: it is kept as long as the member is there.
const METADATA_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest name of a client, and id of an instance, in bytes.
const NAME_BYTES_MAX: usize = 249;
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
    let metadata_bytes: usize = request.protocols.iter().map(|it| it.name.len() + it.metadata.len()).sum();
    let instance_bytes = request.group_instance_id.as_ref().map_or(0, |id| id.len());
    let is_bounded = metadata_bytes <= METADATA_BYTES_MAX && instance_bytes <= NAME_BYTES_MAX;
    if request.protocols.len() > PROTOCOLS_MAX || !is_bounded {
        return refused(code::INVALID_REQUEST);
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
    let protocols = request.protocols.iter().map(|it| (it.name.to_string(), copied(&it.metadata)));
    Join {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(Str::to_string),
        client_id: call.client_id.map(|id| cut(id).to_string()).unwrap_or_default(),
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

/// What is kept of a client's name: ids of members are made of it, and older versions can't say longer ones.
fn cut(name: &str) -> &str {
    let fits = |at: &usize| *at <= NAME_BYTES_MAX;
    match name.len() <= NAME_BYTES_MAX {
        true => name,
        false => &name[..name.char_indices().map(|(at, _)| at).take_while(fits).last().unwrap_or(0)],
    }
}

/// As bytes of its own: a part of a request would keep all of it in memory.
pub(super) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
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
