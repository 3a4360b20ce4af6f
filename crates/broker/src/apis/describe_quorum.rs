//! DescribeQuorum: who decides (KIP-595, KIP-836, KIP-853). This node alone; its log is what Kafka calls the log of
//! metadata.

use crate::code;
use crate::dispatch::Call;
use exactlog_wire::messages::describe_quorum::{
    Listener, Node, PartitionDataResponse, ReplicaState, Request, Response, TopicDataRequest,
    TopicDataResponse,
};
use exactlog_wire::value::Uuid;
use std::time::SystemTime;

/// The one partition that can be asked for.
const METADATA: &str = "__cluster_metadata";

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let is_metadata = match &request.topics[..] {
        [topic] => {
            &*topic.topic_name == METADATA
                && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    if !is_metadata {
        return Response { topics: request.topics.into_iter().map(unknown).collect(), ..Response::default() };
    }
    let log = call.node.log.clone();
    // It waits for whoever is writing.
    let Ok(details) = tokio::task::spawn_blocking(move || log.details()).await else {
        return Response { error_code: code::UNKNOWN_SERVER_ERROR, ..Response::default() };
    };
    let (node_id, end) = (call.node.options.node_id, details.lsn as i64 + 1);
    let now_ms =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let partition = PartitionDataResponse {
        leader_id: node_id,
        leader_epoch: i32::try_from(details.term).unwrap_or(i32::MAX),
        high_watermark: end,
        current_voters: vec![ReplicaState {
            replica_id: node_id,
            replica_directory_id: Uuid(call.node.log.identity()),
            log_end_offset: end,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
        }],
        ..PartitionDataResponse::default()
    };
    let (host, port) = call.advertised();
    let port = u16::try_from(port).unwrap_or_default();
    let listeners = vec![Listener { name: "PLAINTEXT".into(), host, port }];
    Response {
        topics: vec![TopicDataResponse { topic_name: METADATA.into(), partitions: vec![partition] }],
        nodes: vec![Node { node_id, listeners }],
        ..Response::default()
    }
}

fn unknown(topic: TopicDataRequest) -> TopicDataResponse {
    let what =
        format!("topic {:?}: only {METADATA}, partition 0, is decided about by a quorum", &*topic.topic_name);
    let partition = |partition_index| PartitionDataResponse {
        partition_index,
        error_code: code::UNKNOWN_TOPIC_OR_PARTITION,
        error_message: Some(what.as_str().into()),
        ..PartitionDataResponse::default()
    };
    let partitions = topic.partitions.iter().map(|it| partition(it.partition_index)).collect();
    TopicDataResponse { topic_name: topic.topic_name, partitions }
}
