//! Moves replicas (KIP-455, KIP-860).

use crate::schema::api;
use crate::value::Str;

api! {
    AlterPartitionReassignments = 45, versions 0..=1, flexible 0;
    request {
        timeout_ms: i32 [.., default 60000],
        allow_replication_factor_change: bool [1.., default true],
        topics: Vec<ReassignableTopic>,
    }
    response {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1.., default true],
        error_code: i16,
        error_message: Option<Str>,
        responses: Vec<ReassignableTopicResponse>,
    }
    struct ReassignableTopic {
        name: Str,
        partitions: Vec<ReassignablePartition>,
    }
    struct ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }
    struct ReassignableTopicResponse {
        name: Str,
        partitions: Vec<ReassignablePartitionResponse>,
    }
    struct ReassignablePartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<Str>,
    }
}
