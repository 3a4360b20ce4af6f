//! Deletes groups (KIP-229).

use crate::schema::api;
use crate::value::Str;

api! {
    DeleteGroups = 42, versions 0..=2, flexible 2;
    request {
        groups_names: Vec<Str>,
    }
    response {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }
    struct DeletableGroupResult {
        group_id: Str,
        error_code: i16,
    }
}
