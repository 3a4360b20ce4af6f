//! Members and assignment of classic groups (KIP-430, KIP-1043).

use crate::schema::api;
use crate::value::Str;
use bytes::Bytes;

api! {
    DescribeGroups = 15, versions 0..=6, flexible 5;
    request {
        groups: Vec<Str>,
        include_authorized_operations: bool [3..],
    }
    response {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup>,
    }
    struct DescribedGroup {
        error_code: i16,
        error_message: Option<Str> [6..],
        group_id: Str,
        group_state: Str,
        protocol_type: Str,
        protocol_data: Str,
        members: Vec<DescribedGroupMember>,
        authorized_operations: i32 [3.., default -2147483648],
    }
    struct DescribedGroupMember {
        member_id: Str,
        group_instance_id: Option<Str> [4..],
        client_id: Str,
        client_host: Str,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
