//! Fetch: record batches as they lie in the log, waited for if there are none (semantics TX-16, TX-24).
//!
//! There are no sessions (KIP-227): each request names all that it wants, as it does of a node that has no room for
//! another session.

use crate::code;
use crate::dispatch::Call;
use crate::node::{Node, check_leader_epoch};
use exactlog::wire::{Batch, Bounds, Fetched, Isolation};
use exactlog::{Error, Partition, TopicId};
use exactlog_wire::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData, Request, Response,
};
use exactlog_wire::value::{Records, Str, Uuid};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From which version on topics go by their ids (KIP-516).
const TOPIC_IDS: i16 = 13;

/// A partition that is to be read, or why it can't be.
#[derive(Clone)]
struct Wanted {
    index: i32,
    at: Result<Read, i16>,
}

#[derive(Clone)]
struct Read {
    partition: Partition,
    offset: i64,
    bytes_max: usize,
    leader_epoch: i32,
    last_epoch: i32,
}

struct WantedTopic {
    name: Str,
    id: Uuid,
    partitions: Vec<Wanted>,
}

/// What an answer may still get. As long as it has nothing, a batch that is longer is given all the same, or nobody
/// would ever get it.
struct Left {
    bytes: usize,
    is_untouched: bool,
}

/// How much is read, and how.
#[derive(Clone, Copy)]
struct Terms {
    bytes_max: usize,
    isolation: Isolation,
}

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    if request.session_id != 0 {
        return Response { error_code: code::FETCH_SESSION_ID_NOT_FOUND, ..Response::default() };
    }
    let node = call.node;
    let terms = Terms {
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).min(node.options.fetch_bytes_max),
        isolation: if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted },
    };
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(terms.bytes_max);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let wanted = Arc::new(wanted(call, request));
    let topics: Vec<TopicId> = wanted
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|wanted| Some(wanted.at.as_ref().ok()?.partition.topic))
        .collect();
    let arrivals = node.log.arrivals(topics);
    loop {
        let so_far = arrivals.so_far();
        let is_last = node.is_stopped() || Instant::now() >= deadline;
        let response = read(node, &wanted, terms).await;
        if is_last || has_enough(&response, bytes_min) {
            return response;
        }
        tokio::select! {
            () = arrivals.after(so_far) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = node.stopped() => {}
        }
    }
}

fn wanted(call: &Call<'_>, request: Request) -> Vec<WantedTopic> {
    let topic = |topic: exactlog_wire::messages::fetch::FetchTopic| {
        let found = match call.version >= TOPIC_IDS {
            true => call.node.topic("", topic.topic_id).ok_or(code::UNKNOWN_TOPIC_ID),
            false => call.node.topic(&topic.topic, Uuid::default()).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let partition = |wanted: FetchPartition| Wanted {
            index: wanted.partition,
            at: found.as_ref().map_err(|code| *code).and_then(|topic| {
                let index = u32::try_from(wanted.partition).ok().filter(|it| *it < topic.partitions());
                Ok(Read {
                    partition: Partition {
                        topic: topic.id(),
                        index: index.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?,
                    },
                    offset: wanted.fetch_offset,
                    bytes_max: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
                    leader_epoch: wanted.current_leader_epoch,
                    last_epoch: wanted.last_fetched_epoch,
                })
            }),
        };
        let partitions = topic.partitions.into_iter().map(partition).collect();
        WantedTopic { name: topic.topic, id: topic.topic_id, partitions }
    };
    request.topics.into_iter().map(topic).collect()
}

/// Whether an answer is worth giving before the time is over. An error always is.
fn has_enough(response: &Response, bytes_min: usize) -> bool {
    let mut bytes = 0;
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != code::NONE || partition.diverging_epoch != EpochEndOffset::default() {
            return true;
        }
        bytes += partition.records.as_ref().map_or(0, Records::len);
    }
    bytes >= bytes_min || response.responses.is_empty()
}

/// Reads what there is. Where there is something the disk may be asked, and that isn't for a thread that serves others.
async fn read(node: &Arc<Node>, wanted: &Arc<Vec<WantedTopic>>, terms: Terms) -> Response {
    let has_more = |read: &Read| {
        let end = node.log.bounds_of(read.partition).map(|bounds| match terms.isolation {
            Isolation::Uncommitted => bounds.high_watermark,
            Isolation::Committed => bounds.last_stable_offset,
        });
        end.is_ok_and(|end| u64::try_from(read.offset).is_ok_and(|offset| offset < end))
    };
    let reads = wanted.iter().flat_map(|topic| &topic.partitions).filter_map(|it| it.at.as_ref().ok());
    if !reads.into_iter().any(has_more) {
        return gathered(node, wanted, terms);
    }
    let (for_it, wanted) = (node.clone(), wanted.clone());
    let read = tokio::task::spawn_blocking(move || gathered(&for_it, &wanted, terms)).await;
    read.unwrap_or_else(|error| {
        tracing::error!(event = "fetch.failed", %error, "reading has ended without an answer");
        Response { error_code: code::UNKNOWN_SERVER_ERROR, ..Response::default() }
    })
}

fn gathered(node: &Node, wanted: &[WantedTopic], terms: Terms) -> Response {
    let mut left = Left { bytes: terms.bytes_max, is_untouched: true };
    let mut topic = |wanted: &WantedTopic| FetchableTopicResponse {
        topic: wanted.name.clone(),
        topic_id: wanted.id,
        partitions: wanted.partitions.iter().map(|it| partition(node, it, terms, &mut left)).collect(),
    };
    Response { responses: wanted.iter().map(&mut topic).collect(), ..Response::default() }
}

fn partition(node: &Node, wanted: &Wanted, terms: Terms, left: &mut Left) -> PartitionData {
    let index = wanted.index;
    let refused = |error_code| PartitionData {
        partition_index: index,
        error_code,
        high_watermark: -1,
        records: Some(Records::default()),
        ..PartitionData::default()
    };
    let read = match &wanted.at {
        Ok(read) => read,
        Err(code) => return refused(*code),
    };
    match check_epochs(node, read) {
        Ok(None) => {}
        Ok(Some(diverging_epoch)) => {
            return PartitionData { diverging_epoch, ..refused(code::NONE) };
        }
        Err((error_code, current_leader)) => return PartitionData { current_leader, ..refused(error_code) },
    }
    let bytes_max = read.bytes_max.min(left.bytes);
    let offset = match u64::try_from(read.offset) {
        Ok(offset) => offset,
        Err(_) => return refused(code::OFFSET_OUT_OF_RANGE),
    };
    if bytes_max == 0 && !left.is_untouched {
        return without_records(node, index, read.partition, offset);
    }
    let mut fetched = match node.log.fetch(read.partition, offset, bytes_max, terms.isolation) {
        Ok(fetched) => fetched,
        Err(Error::OffsetOutOfRange { start, end, .. }) => {
            return PartitionData {
                high_watermark: end as i64,
                log_start_offset: start as i64,
                ..refused(code::OFFSET_OUT_OF_RANGE)
            };
        }
        Err(error) => return refused(error.kafka_code()),
    };
    if fetched.batch_bytes() > bytes_max && !left.is_untouched {
        (fetched.batches, fetched.aborted) = (Vec::new(), Vec::new());
    }
    left.bytes = left.bytes.saturating_sub(fetched.batch_bytes());
    left.is_untouched &= fetched.batches.is_empty();
    data(index, fetched, terms.isolation)
}

/// What there is to say of a partition for which there is no room any more.
fn without_records(node: &Node, index: i32, partition: Partition, offset: u64) -> PartitionData {
    let bounds = node.log.bounds_of(partition);
    let is_inside = |it: &Bounds| (it.start_offset..=it.high_watermark).contains(&offset);
    let (error_code, bounds) = match bounds {
        Ok(bounds) if is_inside(&bounds) => (code::NONE, Some(bounds)),
        Ok(bounds) => (code::OFFSET_OUT_OF_RANGE, Some(bounds)),
        Err(error) => (error.kafka_code(), None),
    };
    let of = |bound: fn(&Bounds) -> u64| bounds.as_ref().map_or(-1, |bounds| bound(bounds) as i64);
    PartitionData {
        partition_index: index,
        error_code,
        high_watermark: of(|it| it.high_watermark),
        last_stable_offset: of(|it| it.last_stable_offset),
        log_start_offset: of(|it| it.start_offset),
        records: Some(Records::default()),
        ..PartitionData::default()
    }
}

fn data(index: i32, fetched: Fetched, isolation: Isolation) -> PartitionData {
    let aborted = fetched
        .aborted
        .iter()
        .map(|(producer, first)| AbortedTransaction { producer_id: producer.0, first_offset: *first as i64 });
    PartitionData {
        partition_index: index,
        high_watermark: fetched.high_watermark as i64,
        last_stable_offset: fetched.last_stable_offset as i64,
        log_start_offset: fetched.start_offset as i64,
        aborted_transactions: (isolation == Isolation::Committed).then(|| aborted.collect()),
        records: Some(Records(fetched.batches.iter().flat_map(pieces).collect())),
        ..PartitionData::default()
    }
}

/// A batch as it lies in the log: its header is made when it is placed.
fn pieces(batch: &Batch) -> [bytes::Bytes; 2] {
    [bytes::Bytes::copy_from_slice(batch.header()), batch.body().clone()]
}

/// Whether the client knows who leads the partition (KIP-320), and has read what is there (KIP-595): otherwise it is
/// told where its last epoch ends.
fn check_epochs(node: &Node, read: &Read) -> Result<Option<EpochEndOffset>, (i16, LeaderIdAndEpoch)> {
    let refused = |error: Error| (error.kafka_code(), LeaderIdAndEpoch::default());
    let current = node.log.bounds_of(read.partition).map_err(refused)?.leader_epoch;
    check_leader_epoch(read.leader_epoch, current).map_err(|error_code| {
        (error_code, LeaderIdAndEpoch { leader_id: node.options.node_id, leader_epoch: current as i32 })
    })?;
    let Ok(last_epoch) = u32::try_from(read.last_epoch) else { return Ok(None) };
    let end = node.log.leader_epoch_end(read.partition, last_epoch).map_err(refused)?;
    let (epoch, end_offset) = end.map_or((-1, -1), |(epoch, end)| (epoch as i32, end as i64));
    let has_diverged = epoch < read.last_epoch || end_offset < read.offset;
    Ok(has_diverged.then_some(EpochEndOffset { epoch, end_offset }))
}
