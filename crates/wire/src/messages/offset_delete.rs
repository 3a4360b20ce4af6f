//! Deletes offsets of a group (KIP-496).

use crate::schema::api;
use crate::value::Str;

api! {
    OffsetDelete = 47, versions 0..=0, flexible i16::MAX;
    request {
        group_id: Str,
        topics: Vec<OffsetDeleteRequestTopic>,
    }
    response {
        error_code: i16,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }
    struct OffsetDeleteRequestTopic {
        name: Str,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }
    struct OffsetDeleteRequestPartition {
        partition_index: i32,
    }
    struct OffsetDeleteResponseTopic {
        name: Str,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }
    struct OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
