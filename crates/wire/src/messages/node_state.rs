//! Takes a part of a picture of the log's state, in the form of a checkpoint: picture 0 asks for a new one.

use crate::schema::api;
use crate::value::{Str, Uuid};
use bytes::Bytes;

api! {
    NodeState = 10001, versions 0..=0, flexible 0;
    request {
        session: Uuid,
        picture: i64,
        offset: i64,
        max_bytes: i32,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        picture: i64,
        term: i32,
        total_bytes: i64,
        part: Bytes,
    }
}
