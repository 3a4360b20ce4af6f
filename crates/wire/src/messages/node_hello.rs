//! Begins to work on the log of a node from another process: which version of that is spoken, and the session.

use crate::schema::api;
use crate::value::{Str, Uuid};

/// The newest version of what the APIs from [`OWN_KEYS_FROM`](super::OWN_KEYS_FROM) on mean together.
pub const PROTOCOL_NEWEST: i32 = 1;
/// The oldest one that is still spoken.
pub const PROTOCOL_OLDEST: i32 = 1;

api! {
    NodeHello = 10000, versions 0..=0, flexible 0;
    request {
        protocol: i32,
        grace_ms: i32,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        protocol_oldest: i32,
        protocol_newest: i32,
        session: Uuid,
        group_bytes_max: i32,
        command_bytes_max: i32,
    }
}
