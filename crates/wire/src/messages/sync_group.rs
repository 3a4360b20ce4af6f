//! Hands the assignment of a classic group out (KIP-345, KIP-559).

use crate::schema::api;
use crate::value::Str;
use bytes::Bytes;

api! {
    SyncGroup = 14, versions 0..=5, flexible 4;
    request {
        group_id: Str,
        generation_id: i32,
        member_id: Str,
        group_instance_id: Option<Str> [3..],
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        assignments: Vec<SyncGroupRequestAssignment>,
    }
    response {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        assignment: Bytes,
    }
    struct SyncGroupRequestAssignment {
        member_id: Str,
        assignment: Bytes,
    }
}
