//! AlterPartitionReassignments: replicas can be where they are, on the only node (KIP-455).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::node::Node;
use exactlog_wire::messages::alter_partition_reassignments::{
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
    Request, Response,
};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let topic = |ReassignableTopic { name, partitions }: ReassignableTopic| {
        let partition = |wanted: ReassignablePartition| {
            let (error_code, error_message) = match reassign(call.node, &name, &wanted) {
                Ok(()) => (code::NONE, None),
                Err((error_code, message)) => (error_code, Some(message.into())),
            };
            ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code,
                error_message,
            }
        };
        let partitions = partitions.into_iter().map(partition).collect();
        ReassignableTopicResponse { name, partitions }
    };
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: request.topics.into_iter().map(topic).collect(),
        ..Response::default()
    }
}

fn reassign(node: &Node, name: &str, wanted: &ReassignablePartition) -> Result<(), Refused> {
    node.partition(name, wanted.partition_index)?;
    let (index, node_id) = (wanted.partition_index, node.options.node_id);
    match &wanted.replicas {
        Some(replicas) if *replicas == [node_id] => Ok(()),
        Some(replicas) => {
            let what = format!(
                "topic {name:?} partition {index}: replicas {replicas:?}; node {node_id} is the only one"
            );
            Err((code::INVALID_REPLICA_ASSIGNMENT, what))
        }
        // What is under way is to be given up.
        None => {
            let what = format!("topic {name:?} partition {index}: its replicas aren't being moved");
            Err((code::NO_REASSIGNMENT_IN_PROGRESS, what))
        }
    }
}
