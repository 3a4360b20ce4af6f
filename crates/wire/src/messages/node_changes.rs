//! Follows the log: the heads of the commands behind a position, as they lie in the journal, waiting for some.

use crate::schema::api;
use crate::value::{Str, Uuid};
use bytes::Bytes;

api! {
    NodeChanges = 10002, versions 0..=0, flexible 0;
    request {
        session: Uuid,
        term: i32,
        lsn: i64,
        max_bytes: i32,
        max_wait_ms: i32,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        now_ms: i64,
        begins_anew: bool,
        commands: Vec<Applied>,
    }
    struct Applied {
        lsn: i64,
        term: i32,
        kind: i8,
        version: i8,
        head: Bytes,
        answers: Vec<MarkAnswer>,
    }
    struct MarkAnswer {
        is_named: bool,
        scope: i32,
        id: Uuid,
        run: i64 [.., default -1],
        seen_at: i64,
        partition_index: i32,
    }
}
