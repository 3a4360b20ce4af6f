//! Raises the number of partitions (KIP-195).

use crate::schema::api;
use crate::value::Str;

api! {
    CreatePartitions = 37, versions 0..=3, flexible 2;
    request {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }
    response {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }
    struct CreatePartitionsTopic {
        name: Str,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }
    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }
    struct CreatePartitionsTopicResult {
        name: Str,
        error_code: i16,
        error_message: Option<Str>,
    }
}
