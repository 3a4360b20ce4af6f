//! Looks for marks of event ids in the files that have those which aren't in the state.

use super::node_changes::MarkAnswer;
use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    NodeMarks = 10006, versions 0..=0, flexible 0;
    request {
        keys: Vec<MarkKey>,
    }
    response {
        error_code: i16,
        error_message: Option<Str>,
        answers: Vec<MarkAnswer>,
    }
    struct MarkKey {
        is_named: bool,
        scope: i32,
        id: Uuid,
    }
}
