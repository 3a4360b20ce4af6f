//! Elects leaders anew (KIP-183, KIP-460).

use crate::schema::api;
use crate::value::Str;

api! {
    ElectLeaders = 43, versions 0..=2, flexible 2;
    request {
        election_type: i8 [1..],
        topic_partitions: Option<Vec<TopicPartitions>>,
        timeout_ms: i32 [.., default 60000],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16 [1..],
        replica_election_results: Vec<ReplicaElectionResult>,
    }
    struct TopicPartitions {
        topic: Str,
        partitions: Vec<i32>,
    }
    struct ReplicaElectionResult {
        topic: Str,
        partition_result: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition_id: i32,
        error_code: i16,
        error_message: Option<Str>,
    }
}
