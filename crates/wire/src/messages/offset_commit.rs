//! Keeps offsets of a group (KIP-848, KIP-516).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    OffsetCommit = 8, versions 2..=10, flexible 8;
    request {
        group_id: Str,
        generation_id_or_member_epoch: i32 [.., default -1],
        member_id: Str,
        group_instance_id: Option<Str> [7..],
        retention_time_ms: i64 [..=4, default -1],
        topics: Vec<OffsetCommitRequestTopic>,
    }
    response {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic>,
    }
    struct OffsetCommitRequestTopic {
        name: Str [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition>,
    }
    struct OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6.., default -1],
        committed_metadata: Option<Str>,
    }
    struct OffsetCommitResponseTopic {
        name: Str [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition>,
    }
    struct OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
