//! Deletes topics, by name or by id (KIP-516, KIP-599).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    DeleteTopics = 20, versions 1..=6, flexible 4;
    request {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<Str> [..=5],
        timeout_ms: i32,
    }
    response {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }
    struct DeleteTopicState {
        name: Option<Str>,
        topic_id: Uuid,
    }
    struct DeletableTopicResult {
        name: Option<Str> [.., null 6..],
        topic_id: Uuid [6..],
        error_code: i16,
        error_message: Option<Str> [5..],
    }
}
