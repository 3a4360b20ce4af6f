//! Finds the first record at or after a time, or the greatest timestamp of a partition.

use crate::schema::api;
use crate::value::Str;

api! {
    NodeFind = 10005, versions 0..=0, flexible 0;
    request {
        topic: i32,
        partition: i32,
        timestamp_ms: i64,
        wants_greatest: bool,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        is_found: bool,
        offset: i64,
        timestamp_ms: i64,
    }
}
