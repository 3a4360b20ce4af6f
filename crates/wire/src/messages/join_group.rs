//! Joins a classic group (KIP-345, KIP-394, KIP-559).

use crate::schema::api;
use crate::value::Str;
use bytes::Bytes;

api! {
    JoinGroup = 11, versions 2..=9, flexible 6;
    request {
        group_id: Str,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [.., default -1],
        member_id: Str,
        group_instance_id: Option<Str> [5..],
        protocol_type: Str,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<Str> [8..],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        generation_id: i32 [.., default -1],
        protocol_type: Option<Str> [7..],
        protocol_name: Option<Str> [.., null 7..],
        leader: Str,
        skip_assignment: bool [9..],
        member_id: Str,
        members: Vec<JoinGroupResponseMember>,
    }
    struct JoinGroupRequestProtocol {
        name: Str,
        metadata: Bytes,
    }
    struct JoinGroupResponseMember {
        member_id: Str,
        group_instance_id: Option<Str> [5..],
        metadata: Bytes,
    }
}
