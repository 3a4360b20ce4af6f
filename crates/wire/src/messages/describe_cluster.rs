//! Nodes and the name of the cluster (KIP-700, KIP-919).

use crate::schema::api;
use crate::value::Str;

api! {
    DescribeCluster = 60, versions 0..=2, flexible 0;
    request {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [1.., default 1],
        include_fenced_brokers: bool [2..],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<Str>,
        endpoint_type: i8 [1.., default 1],
        cluster_id: Str,
        controller_id: i32 [.., default -1],
        brokers: Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32 [.., default -2147483648],
    }
    struct DescribeClusterBroker {
        broker_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str>,
        is_fenced: bool [2..],
    }
}
