//! DescribeCluster: this node, which is all of the cluster (KIP-700, KIP-919).

use crate::code;
use crate::dispatch::Call;
use crate::rights;
use exactlog_wire::messages::describe_cluster::{DescribeClusterBroker, Request, Response};

/// Whom clients want to know of.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let refused = |error_code, what: String| Response {
        error_code,
        error_message: Some(what.into()),
        endpoint_type: request.endpoint_type,
        ..Response::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let what = "endpoint type 2: there are no controllers to connect to, only brokers (1)";
            return refused(code::MISMATCHED_ENDPOINT_TYPE, what.into());
        }
        other => {
            let what = format!("endpoint type {other}: it is 1, brokers, or 2, controllers");
            return refused(code::UNSUPPORTED_ENDPOINT_TYPE, what);
        }
    }
    let node_id = call.node.options.node_id;
    let (host, port) = call.advertised();
    Response {
        cluster_id: call.node.cluster_id.as_str().into(),
        controller_id: node_id,
        brokers: vec![DescribeClusterBroker { broker_id: node_id, host, port, rack: None, is_fenced: false }],
        cluster_authorized_operations: rights::if_asked(
            request.include_cluster_authorized_operations,
            rights::OF_CLUSTER,
        ),
        ..Response::default()
    }
}
