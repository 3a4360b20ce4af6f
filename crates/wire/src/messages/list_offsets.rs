//! Finds offsets by time, and the first and the last one (KIP-79, KIP-734, KIP-1005).

use crate::schema::api;
use crate::value::Str;

api! {
    ListOffsets = 2, versions 1..=11, flexible 6;
    request {
        replica_id: i32,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10..],
    }
    response {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse>,
    }
    struct ListOffsetsTopic {
        name: Str,
        partitions: Vec<ListOffsetsPartition>,
    }
    struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4.., default -1],
        timestamp: i64,
    }
    struct ListOffsetsTopicResponse {
        name: Str,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }
    struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: i16,
        timestamp: i64 [.., default -1],
        offset: i64 [.., default -1],
        leader_epoch: i32 [4.., default -1],
    }
}
