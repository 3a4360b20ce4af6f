//! DeleteRecords: moves the start of partitions (KIP-107; semantics LG-4).

use crate::code;
use crate::dispatch::Call;
use crate::node::Node;
use exactlog::wire::{Command, Reply};
use exactlog_wire::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsTopic, DeleteRecordsTopicResult, Request, Response,
};

/// Stands for the high watermark: all records go.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for DeleteRecordsTopic { name, partitions } in request.topics {
        let mut results = Vec::with_capacity(partitions.len());
        for wanted in partitions {
            let partition_index = wanted.partition_index;
            let (error_code, low_watermark) =
                match delete(call.node, &name, partition_index, wanted.offset).await {
                    Ok(start) => (code::NONE, start),
                    Err(error_code) => (error_code, -1),
                };
            results.push(DeleteRecordsPartitionResult { partition_index, low_watermark, error_code });
        }
        topics.push(DeleteRecordsTopicResult { name, partitions: results });
    }
    Response { topics, ..Response::default() }
}

/// Where the partition begins then.
async fn delete(node: &Node, name: &str, index: i32, offset: i64) -> Result<i64, i16> {
    let partition = node.partition(name, index).map_err(|(error_code, _)| error_code)?;
    // The log looks at this, too, but behind the offset, which Kafka doesn't look at then.
    let topic = node.log.topic_by_id(partition.topic).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !topic.config().cleanup_policy.deletes() {
        return Err(code::POLICY_VIOLATION);
    }
    let start = match offset {
        HIGH_WATERMARK => {
            let bounds = node.log.bounds_of(partition).map_err(|error| error.kafka_code())?;
            bounds.high_watermark
        }
        offset => u64::try_from(offset).map_err(|_| code::OFFSET_OUT_OF_RANGE)?,
    };
    match node.log.ask(Command::Trim { partition, start }).await {
        Ok(Reply::Trimmed { start_offset }) => Ok(start_offset as i64),
        Ok(_) => unreachable!("Trim answers with a start or a refusal"),
        Err(error) => Err(error.kafka_code()),
    }
}
