//! Leaves a classic group, of several members at once from version 3 on (KIP-345, KIP-800).

use crate::schema::api;
use crate::value::Str;

api! {
    LeaveGroup = 13, versions 0..=5, flexible 4;
    request {
        group_id: Str,
        member_id: Str [..=2],
        members: Vec<MemberIdentity> [3..],
    }
    response {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        members: Vec<MemberResponse> [3..],
    }
    struct MemberIdentity {
        member_id: Str,
        group_instance_id: Option<Str>,
        reason: Option<Str> [5..],
    }
    struct MemberResponse {
        member_id: Str,
        group_instance_id: Option<Str>,
        error_code: i16,
    }
}
