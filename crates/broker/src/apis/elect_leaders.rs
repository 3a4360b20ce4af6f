//! ElectLeaders: there is one node, which leads all partitions already (KIP-183, KIP-460).

use crate::code;
use crate::dispatch::Call;
use crate::node::Node;
use exactlog_wire::messages::elect_leaders::{
    PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions,
};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    // 0: the preferred replica, 1: any.
    if !matches!(request.election_type, 0 | 1) {
        return Response { error_code: code::INVALID_REQUEST, ..Response::default() };
    }
    let topic = |TopicPartitions { topic, partitions }: TopicPartitions| {
        let partition_result = partitions.into_iter().map(|index| result(call.node, &topic, index)).collect();
        ReplicaElectionResult { topic, partition_result }
    };
    // If all are wanted, those that need no election aren't named.
    let wanted = request.topic_partitions.unwrap_or_default();
    Response { replica_election_results: wanted.into_iter().map(topic).collect(), ..Response::default() }
}

fn result(node: &Node, topic: &str, index: i32) -> PartitionResult {
    let (error_code, message) = match node.partition(topic, index) {
        Ok(_) => {
            let node_id = node.options.node_id;
            let what =
                format!("topic {topic:?} partition {index}: node {node_id} leads it, the only replica");
            (code::ELECTION_NOT_NEEDED, what)
        }
        Err(refused) => refused,
    };
    PartitionResult { partition_id: index, error_code, error_message: Some(message.into()) }
}
