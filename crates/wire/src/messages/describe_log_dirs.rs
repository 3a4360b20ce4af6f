//! What partitions take on disk (KIP-113, KIP-827).

use crate::schema::api;
use crate::value::Str;

api! {
    DescribeLogDirs = 35, versions 1..=5, flexible 2;
    request {
        topics: Option<Vec<DescribableLogDirTopic>>,
    }
    response {
        throttle_time_ms: i32,
        error_code: i16 [3..],
        results: Vec<DescribeLogDirsResult>,
    }
    struct DescribableLogDirTopic {
        topic: Str,
        partitions: Vec<i32>,
    }
    struct DescribeLogDirsResult {
        error_code: i16,
        log_dir: Str,
        topics: Vec<DescribeLogDirsTopic>,
        total_bytes: i64 [4.., default -1],
        usable_bytes: i64 [4.., default -1],
        is_cordoned: bool [5..],
    }
    struct DescribeLogDirsTopic {
        name: Str,
        partitions: Vec<DescribeLogDirsPartition>,
    }
    struct DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }
}
