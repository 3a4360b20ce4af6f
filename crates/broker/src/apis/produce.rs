//! Produce: batches into the log, answered when they are safe (semantics ID-3 to ID-10, ID-17, TX-8).

use crate::code;
use crate::dispatch::{Answer, Call};
use crate::internal;
use crate::node::Node;
use exactlog::wire::{Appended, Appending, Batch, Protocol, Within};
use exactlog::{Compression, Error, Partition, TimestampType, Topic};
use exactlog_wire::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, Request, Response,
    TopicProduceData, TopicProduceResponse,
};
use exactlog_wire::value::{Str, Uuid};
use std::sync::Arc;

/// From which version on a batch can be compressed with zstd (KIP-110).
const ZSTD: i16 = 7;
/// From which version on clients know TRANSACTION_ABORTABLE (KIP-890).
const ABORTABLE: i16 = 11;
/// From which version on a batch brings its partition into the transaction (KIP-890).
const ADDS_PARTITIONS: i16 = 12;

/// A batch up to this length is rewritten where it is: that takes less than a millisecond.
const REWRITTEN_AT_ONCE_BYTES: usize = 32 * 1024;

/// A partition of a request, on its way.
struct Underway {
    index: i32,
    has_append_time: bool,
    appending: Result<Appending, Refused>,
}

/// Why nothing of a partition's records was taken.
struct Refused {
    error_code: i16,
    message: Option<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { error_code: error.kafka_code(), message: Some(error.to_string()) }
    }
}

impl From<i16> for Refused {
    fn from(error_code: i16) -> Refused {
        Refused { error_code, message: None }
    }
}

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Answer {
    let acks = request.acks;
    let is_known = matches!(acks, -1..=1);
    let within = request.transactional_id.as_ref().filter(|id| !id.is_empty()).map(|id| Within {
        transactional_id: id.to_string(),
        protocol: if call.version >= ADDS_PARTITIONS { Protocol::V2 } else { Protocol::V1 },
        newer_codes: call.version >= ABORTABLE,
    });
    let mut underway = Vec::with_capacity(request.topic_data.len());
    for TopicProduceData { name, topic_id, partition_data } in request.topic_data {
        let topic = match is_known {
            true => find(call.node, &name, topic_id),
            false => Err(code::INVALID_REQUIRED_ACKS.into()),
        };
        let mut partitions = Vec::with_capacity(partition_data.len());
        for data in partition_data {
            partitions.push(hand_in(call, &topic, data, within.clone()).await);
        }
        underway.push((name, topic_id, partitions));
    }
    match acks {
        0 => {
            Answer::Silent(Box::pin(async move {
                response(underway).await.responses.iter().all(|it| {
                    it.partition_responses.iter().all(|partition| partition.error_code == code::NONE)
                })
            }))
        }
        _ => Answer::Later(Box::pin(async move { response(underway).await.into() })),
    }
}

fn find(node: &Node, name: &Str, id: Uuid) -> Result<Topic, Refused> {
    match node.topic(name, id) {
        Some(topic) if internal::is_internal(topic.name()) => Err(Refused {
            error_code: code::INVALID_TOPIC_EXCEPTION,
            message: Some(format!("topic {:?} is the node's own: nobody else writes to it", topic.name())),
        }),
        Some(topic) => Ok(topic),
        None if id != Uuid::default() => Err(code::UNKNOWN_TOPIC_ID.into()),
        None => Err(code::UNKNOWN_TOPIC_OR_PARTITION.into()),
    }
}

async fn hand_in(
    call: &Call<'_>,
    topic: &Result<Topic, Refused>,
    data: PartitionProduceData,
    within: Option<Within>,
) -> Underway {
    let index = data.index;
    let topic = match topic {
        Ok(topic) => topic,
        Err(Refused { error_code, message }) => {
            let refused = Refused { error_code: *error_code, message: message.clone() };
            return Underway { index, has_append_time: false, appending: Err(refused) };
        }
    };
    let has_append_time = topic.config().timestamp_type == TimestampType::LogAppendTime;
    let appending = submit(call, topic, data, within).await;
    Underway { index, has_append_time, appending }
}

async fn submit(
    call: &Call<'_>,
    topic: &Topic,
    data: PartitionProduceData,
    within: Option<Within>,
) -> Result<Appending, Refused> {
    let index = u32::try_from(data.index).map_err(|_| code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if index >= topic.partitions() {
        return Err(code::UNKNOWN_TOPIC_OR_PARTITION.into());
    }
    // What is read comes in one piece.
    let bytes = data.records.and_then(|records| records.0.into_iter().next()).unwrap_or_default();
    let batch = Batch::parse(bytes).map_err(Error::Batch)?;
    if batch.compression() == Compression::Zstd && call.version < ZSTD {
        return Err(code::UNSUPPORTED_COMPRESSION_TYPE.into());
    }
    if batch.is_transactional() && within.is_none() {
        return Err(Refused {
            error_code: code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            message: Some("the batch is of a transaction, and the request names no transactional id".into()),
        });
    }
    let partition = Partition { topic: topic.id(), index };
    let within = within.filter(|_| batch.is_transactional());
    let batch = in_its_codec(call.node, topic, partition, batch).await?;
    Ok(call.node.log.submit_batch(partition, batch, within).await?)
}

/// A long batch that comes in another codec than its topic's isn't rewritten by a thread that serves others. The next
/// one of its connection waits for it, so they keep their order.
async fn in_its_codec(
    node: &Arc<Node>,
    topic: &Topic,
    partition: Partition,
    batch: Batch,
) -> Result<Batch, Refused> {
    let codec = topic.config().compression.codec().filter(|codec| *codec != batch.compression());
    if codec.is_none() || batch.len_bytes() <= REWRITTEN_AT_ONCE_BYTES {
        return Ok(batch);
    }
    let log = node.log.clone();
    let stored = tokio::task::spawn_blocking(move || log.batch_to_store(partition, &batch)).await;
    let failed = |error: tokio::task::JoinError| Refused {
        error_code: code::UNKNOWN_SERVER_ERROR,
        message: Some(error.to_string()),
    };
    Ok(stored.map_err(failed)??)
}

async fn response(underway: Vec<(Str, Uuid, Vec<Underway>)>) -> Response {
    let mut responses = Vec::with_capacity(underway.len());
    for (name, topic_id, partitions) in underway {
        let mut partition_responses = Vec::with_capacity(partitions.len());
        for Underway { index, has_append_time, appending } in partitions {
            let outcome = match appending {
                Ok(appending) => appending.outcome().await.map_err(Refused::from),
                Err(refused) => Err(refused),
            };
            partition_responses.push(match outcome {
                Ok(appended) => placed(index, has_append_time, &appended),
                Err(refused) => not_placed(index, refused),
            });
        }
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    Response { responses, ..Response::default() }
}

fn placed(index: i32, has_append_time: bool, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset as i64,
        log_append_time_ms: if has_append_time { appended.timestamp_ms } else { -1 },
        log_start_offset: appended.start_offset as i64,
        ..PartitionProduceResponse::default()
    }
}

fn not_placed(index: i32, Refused { error_code, message }: Refused) -> PartitionProduceResponse {
    let message = message.map(Str::from);
    let about_records = error_code == code::INVALID_RECORD;
    let record_errors = about_records
        .then(|| BatchIndexAndErrorMessage { batch_index: 0, batch_index_error_message: message.clone() });
    PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        record_errors: record_errors.into_iter().collect(),
        error_message: message,
        ..PartitionProduceResponse::default()
    }
}
