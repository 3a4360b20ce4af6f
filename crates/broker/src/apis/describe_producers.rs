//! DescribeProducers: what partitions remember of their producers, hanging transactions among it (KIP-664).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use exactlog::wire::ActiveProducer;
use exactlog::wire::is_legal_name;
use exactlog_wire::messages::describe_producers::{
    PartitionResponse, ProducerState, Request, Response, TopicRequest, TopicResponse,
};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let topic = |TopicRequest { name, partition_indexes }: TopicRequest| {
        let partitions = partition_indexes.into_iter().map(|index| partition(call, &name, index)).collect();
        TopicResponse { name, partitions }
    };
    Response { topics: request.topics.into_iter().map(topic).collect(), ..Response::default() }
}

fn partition(call: &Call<'_>, topic: &str, partition_index: i32) -> PartitionResponse {
    match producers(call, topic, partition_index) {
        Ok(active_producers) => {
            PartitionResponse { partition_index, active_producers, ..PartitionResponse::default() }
        }
        Err((error_code, message)) => PartitionResponse {
            partition_index,
            error_code,
            error_message: Some(message.into()),
            ..PartitionResponse::default()
        },
    }
}

fn producers(call: &Call<'_>, topic: &str, index: i32) -> Result<Vec<ProducerState>, Refused> {
    if !is_legal_name(topic) {
        return Err((code::INVALID_TOPIC_EXCEPTION, format!("topic name {topic:?} is not legal")));
    }
    let partition = call.node.partition(topic, index)?;
    let active = call.node.log.active_producers(partition);
    let active = active.map_err(|error| (error.kafka_code(), error.to_string()))?;
    Ok(active.iter().map(told).collect())
}

fn told(active: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: active.producer.0,
        producer_epoch: active.producer_epoch.into(),
        last_sequence: active.last_sequence,
        last_timestamp: active.last_timestamp_ms,
        coordinator_epoch: active.coordinator_epoch.unwrap_or(-1),
        current_txn_start_offset: active.transaction_start.map_or(-1, |offset| offset as i64),
    }
}
