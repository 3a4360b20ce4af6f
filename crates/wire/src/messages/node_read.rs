//! Reads record batches as they lie in the log, by the id of their topic.

use crate::schema::api;
use crate::value::{Records, Str};

api! {
    NodeRead = 10004, versions 0..=0, flexible 0;
    request {
        topic: i32,
        partition: i32,
        offset: i64,
        max_bytes: i32,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        records: Records,
    }
}
