//! SyncGroup: what the leader has assigned, and each member's part of it (KIP-345, KIP-559).

use super::join_group::copied;
use crate::code;
use crate::dispatch::Call;
use crate::groups::Sync;
use exactlog_wire::messages::sync_group::{Request, Response};
use exactlog_wire::value::Str;

/// From which version on a member says which protocol it means (KIP-559).
const SAYS_PROTOCOL: i16 = 5;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= SAYS_PROTOCOL && !says_protocol {
        return Response { error_code: code::INCONSISTENT_GROUP_PROTOCOL, ..Response::default() };
    }
    let assignments =
        request.assignments.into_iter().map(|it| (it.member_id.to_string(), copied(&it.assignment)));
    let sync = Sync {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(Str::to_string),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(Str::to_string),
        protocol_name: request.protocol_name.as_ref().map(Str::to_string),
        assignments: assignments.collect(),
    };
    match call.node.groups.sync(sync).await {
        Some(synced) => Response {
            error_code: synced.error,
            protocol_type: synced.protocol_type.map(Str::from),
            protocol_name: synced.protocol_name.map(Str::from),
            assignment: synced.assignment,
            ..Response::default()
        },
        None => Response { error_code: code::COORDINATOR_NOT_AVAILABLE, ..Response::default() },
    }
}
