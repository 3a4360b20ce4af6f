//! Appends record batches (KIP-98, KIP-516, KIP-890).

use crate::schema::api;
use crate::value::{Records, Str, Uuid};

api! {
    Produce = 0, versions 3..=13, flexible 9;
    request {
        transactional_id: Option<Str>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }
    response {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32,
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0],
    }
    struct TopicProduceData {
        name: Str [..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData>,
    }
    struct PartitionProduceData {
        index: i32,
        records: Option<Records>,
    }
    struct TopicProduceResponse {
        name: Str [..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse>,
    }
    struct PartitionProduceResponse {
        index: i32,
        error_code: i16,
        base_offset: i64,
        log_append_time_ms: i64 [.., default -1],
        log_start_offset: i64 [5.., default -1],
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<Str> [8..],
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }
    struct BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<Str>,
    }
    struct LeaderIdAndEpoch {
        leader_id: i32 [.., default -1],
        leader_epoch: i32 [.., default -1],
    }
    struct NodeEndpoint {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str>,
    }
}
