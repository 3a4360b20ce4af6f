//! Which node coordinates a group or a transactional id (KIP-98, KIP-699).

use crate::schema::api;
use crate::value::Str;

api! {
    FindCoordinator = 10, versions 0..=6, flexible 3;
    request {
        key: Str [..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<Str> [4..],
    }
    response {
        throttle_time_ms: i32 [1..],
        error_code: i16 [..=3],
        error_message: Option<Str> [1..=3],
        node_id: i32 [..=3],
        host: Str [..=3],
        port: i32 [..=3],
        coordinators: Vec<Coordinator> [4..],
    }
    struct Coordinator {
        key: Str,
        node_id: i32,
        host: Str,
        port: i32,
        error_code: i16,
        error_message: Option<Str>,
    }
}
