//! Offsets that a group has kept, of several groups at once from version 8 on (KIP-709, KIP-848).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    OffsetFetch = 9, versions 1..=10, flexible 6;
    request {
        group_id: Str [..=7],
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, null 2..=7],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }
    response {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: i16 [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }
    struct OffsetFetchRequestTopic {
        name: Str,
        partition_indexes: Vec<i32>,
    }
    struct OffsetFetchRequestGroup {
        group_id: Str,
        member_id: Option<Str> [9..],
        member_epoch: i32 [9.., default -1],
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    }
    struct OffsetFetchRequestTopics {
        name: Str [..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32>,
    }
    struct OffsetFetchResponseTopic {
        name: Str,
        partitions: Vec<OffsetFetchResponsePartition>,
    }
    struct OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [5.., default -1],
        metadata: Option<Str>,
        error_code: i16,
    }
    struct OffsetFetchResponseGroup {
        group_id: Str,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: i16,
    }
    struct OffsetFetchResponseTopics {
        name: Str [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartitions>,
    }
    struct OffsetFetchResponsePartitions {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [.., default -1],
        metadata: Option<Str>,
        error_code: i16,
    }
}
