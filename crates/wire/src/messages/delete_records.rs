//! Moves the start of partitions (KIP-107).

use crate::schema::api;
use crate::value::Str;

api! {
    DeleteRecords = 21, versions 0..=2, flexible 2;
    request {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }
    response {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }
    struct DeleteRecordsTopic {
        name: Str,
        partitions: Vec<DeleteRecordsPartition>,
    }
    struct DeleteRecordsPartition {
        partition_index: i32,
        offset: i64,
    }
    struct DeleteRecordsTopicResult {
        name: Str,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }
    struct DeleteRecordsPartitionResult {
        partition_index: i32,
        low_watermark: i64,
        error_code: i16,
    }
}
