//! Nodes, topics, and who leads which partition (KIP-516).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    Metadata = 3, versions 0..=13, flexible 9;
    request {
        topics: Option<Vec<MetadataRequestTopic>> [.., null 1..],
        allow_auto_topic_creation: bool [4.., default true],
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }
    response {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<Str> [2..],
        controller_id: i32 [1.., default -1],
        topics: Vec<MetadataResponseTopic>,
        cluster_authorized_operations: i32 [8..=10, default -2147483648],
        error_code: i16 [13..],
    }
    struct MetadataRequestTopic {
        topic_id: Uuid [10..],
        name: Option<Str> [.., null 10..],
    }
    struct MetadataResponseBroker {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str> [1..],
    }
    struct MetadataResponseTopic {
        error_code: i16,
        name: Option<Str> [.., null 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [8.., default -2147483648],
    }
    struct MetadataResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7.., default -1],
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }
}
