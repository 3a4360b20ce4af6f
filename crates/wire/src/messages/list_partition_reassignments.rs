//! Replicas that are being moved (KIP-455).

use crate::schema::api;
use crate::value::Str;

api! {
    ListPartitionReassignments = 46, versions 0..=0, flexible 0;
    request {
        timeout_ms: i32 [.., default 60000],
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<Str>,
        topics: Vec<OngoingTopicReassignment>,
    }
    struct ListPartitionReassignmentsTopics {
        name: Str,
        partition_indexes: Vec<i32>,
    }
    struct OngoingTopicReassignment {
        name: Str,
        partitions: Vec<OngoingPartitionReassignment>,
    }
    struct OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
