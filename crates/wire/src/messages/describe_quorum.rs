//! Who decides in a cluster (KIP-595, KIP-836, KIP-853).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    DescribeQuorum = 55, versions 0..=2, flexible 0;
    request {
        topics: Vec<TopicDataRequest>,
    }
    response {
        error_code: i16,
        error_message: Option<Str> [2..],
        topics: Vec<TopicDataResponse>,
        nodes: Vec<Node> [2..],
    }
    struct TopicDataRequest {
        topic_name: Str,
        partitions: Vec<PartitionDataRequest>,
    }
    struct PartitionDataRequest {
        partition_index: i32,
    }
    struct TopicDataResponse {
        topic_name: Str,
        partitions: Vec<PartitionDataResponse>,
    }
    struct PartitionDataResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<Str> [2..],
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<ReplicaState>,
        observers: Vec<ReplicaState>,
    }
    struct ReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        log_end_offset: i64,
        last_fetch_timestamp: i64 [1.., default -1],
        last_caught_up_timestamp: i64 [1.., default -1],
    }
    struct Node {
        node_id: i32,
        listeners: Vec<Listener>,
    }
    struct Listener {
        name: Str,
        host: Str,
        port: u16,
    }
}
