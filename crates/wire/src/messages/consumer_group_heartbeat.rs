//! Joins, stays in and leaves a group whose assignment the node makes (KIP-848).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    ConsumerGroupHeartbeat = 68, versions 0..=1, flexible 0;
    request {
        group_id: Str,
        member_id: Str,
        member_epoch: i32,
        instance_id: Option<Str>,
        rack_id: Option<Str>,
        rebalance_timeout_ms: i32 [.., default -1],
        subscribed_topic_names: Option<Vec<Str>>,
        subscribed_topic_regex: Option<Str> [1..],
        server_assignor: Option<Str>,
        topic_partitions: Option<Vec<TopicPartitions>>,
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<Str>,
        member_id: Option<Str>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        assignment: Option<Assignment>,
    }
    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
    struct Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }
}
