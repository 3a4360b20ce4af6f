//! Keeps offsets of a group with a transaction (KIP-98, KIP-447).

use crate::schema::api;
use crate::value::Str;

api! {
    TxnOffsetCommit = 28, versions 0..=5, flexible 3;
    request {
        transactional_id: Str,
        group_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        generation_id: i32 [3.., default -1],
        member_id: Str [3..],
        group_instance_id: Option<Str> [3..],
        topics: Vec<TxnOffsetCommitRequestTopic>,
    }
    response {
        throttle_time_ms: i32,
        topics: Vec<TxnOffsetCommitResponseTopic>,
    }
    struct TxnOffsetCommitRequestTopic {
        name: Str,
        partitions: Vec<TxnOffsetCommitRequestPartition>,
    }
    struct TxnOffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [2.., default -1],
        committed_metadata: Option<Str>,
    }
    struct TxnOffsetCommitResponseTopic {
        name: Str,
        partitions: Vec<TxnOffsetCommitResponsePartition>,
    }
    struct TxnOffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
