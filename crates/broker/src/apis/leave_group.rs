//! LeaveGroup: members that won't come back, one or several of them (KIP-345, KIP-800).

use crate::dispatch::Call;
use crate::groups::Leaving;
use exactlog_wire::messages::leave_group::{MemberIdentity, MemberResponse, Request, Response};
use exactlog_wire::value::Str;

/// From which version on several can leave by one request.
const SEVERAL: i16 = 3;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let members = match call.version >= SEVERAL {
        true => request.members,
        false => vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }],
    };
    let leaving = |member: &MemberIdentity| Leaving {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(Str::to_string),
        reason: member.reason.as_ref().map(Str::to_string),
    };
    let leaving: Vec<Leaving> = members.iter().map(leaving).collect();
    let codes = call.node.groups.leave(&request.group_id, &leaving);
    if call.version < SEVERAL {
        return Response { error_code: codes.first().copied().unwrap_or_default(), ..Response::default() };
    }
    let answer = |(member, error_code): (MemberIdentity, i16)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code,
    };
    Response { members: members.into_iter().zip(codes).map(answer).collect(), ..Response::default() }
}
