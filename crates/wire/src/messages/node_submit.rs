//! Has a group of commands ordered, whole or not at all: as they lie in the journal, under a number that counts it
//! once.

use crate::schema::api;
use crate::value::{Records, Str, Uuid};
use bytes::Bytes;

/// What became of a group.
pub mod outcome {
    /// All of it was ordered, from `first_lsn` on.
    pub const ORDERED: i8 = 0;
    /// Nothing of it was written, for want of space.
    pub const FULL: i8 = 1;
    /// Nothing of it was written, and the same may be taken later.
    pub const NOT_NOW: i8 = 2;
    /// Nothing of it was written: it isn't what a node takes.
    pub const NEVER: i8 = 3;
    /// The log has failed while it was written.
    pub const UNKNOWN: i8 = 4;
}

api! {
    NodeSubmit = 10003, versions 0..=0, flexible 0;
    request {
        session: Uuid,
        number: i64,
        commands: Vec<Command>,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        outcome: i8,
        first_lsn: i64,
        reason: Option<Str>,
        needed_bytes: i64,
        free_bytes: i64,
    }
    struct Command {
        kind: i8,
        version: i8,
        head: Bytes,
        bodies: Records,
    }
}
