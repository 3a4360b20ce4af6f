//! Producers that a partition knows (KIP-664).

use crate::schema::api;
use crate::value::Str;

api! {
    DescribeProducers = 61, versions 0..=0, flexible 0;
    request {
        topics: Vec<TopicRequest>,
    }
    response {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse>,
    }
    struct TopicRequest {
        name: Str,
        partition_indexes: Vec<i32>,
    }
    struct TopicResponse {
        name: Str,
        partitions: Vec<PartitionResponse>,
    }
    struct PartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<Str>,
        active_producers: Vec<ProducerState>,
    }
    struct ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 [.., default -1],
        last_timestamp: i64 [.., default -1],
        coordinator_epoch: i32,
        current_txn_start_offset: i64 [.., default -1],
    }
}
