//! Says that a member of a classic group is alive (KIP-345).

use crate::schema::api;
use crate::value::Str;

api! {
    Heartbeat = 12, versions 0..=4, flexible 4;
    request {
        group_id: Str,
        generation_id: i32,
        member_id: Str,
        group_instance_id: Option<Str> [3..],
    }
    response {
        throttle_time_ms: i32 [1..],
        error_code: i16,
    }
}
