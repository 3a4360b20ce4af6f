//! Creates topics (KIP-195, KIP-516, KIP-525).

use crate::schema::api;
use crate::value::{Str, Uuid};

api! {
    CreateTopics = 19, versions 2..=7, flexible 5;
    request {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 [.., default 60000],
        validate_only: bool,
    }
    response {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }
    struct CreatableTopic {
        name: Str,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }
    struct CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }
    struct CreatableTopicConfig {
        name: Str,
        value: Option<Str>,
    }
    struct CreatableTopicResult {
        name: Str,
        topic_id: Uuid [7..],
        error_code: i16,
        error_message: Option<Str>,
        topic_config_error_code: i16 [5.., tag 0],
        num_partitions: i32 [5.., default -1],
        replication_factor: i16 [5.., default -1],
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }
    struct CreatableTopicConfigs {
        name: Str,
        value: Option<Str>,
        read_only: bool,
        config_source: i8 [.., default -1],
        is_sensitive: bool,
    }
}
