//! Where a leader epoch has ended (KIP-101, KIP-320).

use crate::schema::api;
use crate::value::Str;

api! {
    OffsetForLeaderEpoch = 23, versions 2..=4, flexible 4;
    request {
        replica_id: i32 [3.., default -2],
        topics: Vec<OffsetForLeaderTopic>,
    }
    response {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult>,
    }
    struct OffsetForLeaderTopic {
        topic: Str,
        partitions: Vec<OffsetForLeaderPartition>,
    }
    struct OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 [.., default -1],
        leader_epoch: i32,
    }
    struct OffsetForLeaderTopicResult {
        topic: Str,
        partitions: Vec<EpochEndOffset>,
    }
    struct EpochEndOffset {
        error_code: i16,
        partition: i32,
        leader_epoch: i32 [.., default -1],
        end_offset: i64 [.., default -1],
    }
}
