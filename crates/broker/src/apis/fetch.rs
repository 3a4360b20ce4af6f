//! Fetch: record batches as they lie in the log, waited for if there are none (semantics TX-16, TX-24).
//!
//! A request names all that it wants, or what has changed since the one before ([`sessions`](crate::sessions)).

use crate::code;
use crate::dispatch::{Answer, Call};
use crate::groups;
use crate::node::{Node, check_leader_epoch};
use crate::room::Share;
use crate::sessions::{self, Asked, Begun, Found, Place, Turn, Wish};
use exactlog::wire::{Arrivals, Batch, Bounds, Fetched, Isolation};
use exactlog::{Error, Partition, Topic, TopicId};
use exactlog_wire::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData, Request,
    Response,
};
use exactlog_wire::value::{Records, Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From which version on topics go by their ids (KIP-516).
const TOPIC_IDS: i16 = 13;

/// What an answer may have when there is little room left.
const SHORT_BYTES: usize = 1024 * 1024;

/// A partition that is to be read, or why it can't be.
struct Wanted {
    place: Place,
    wish: Wish,
    at: Result<Partition, i16>,
}

/// What an answer may still get. As long as it has nothing, a batch that is longer is given all the same, or nobody
/// would ever get it.
struct Left {
    bytes: usize,
    is_untouched: bool,
    given: Vec<Given>,
}

/// Of a topic, what an answer has of it: records, and bytes of their batches.
type Given = (TopicId, u64, u64);

/// How much is read, and how.
#[derive(Clone, Copy)]
struct Terms {
    bytes_min: usize,
    bytes_max: usize,
    isolation: Isolation,
    deadline: Instant,
}

/// What there was.
struct Gathered {
    partitions: Vec<PartitionData>,
    given: Vec<Given>,
    /// The room that it was read into.
    share: Option<Share>,
    /// Whether there was room for less than was asked for.
    is_cut: bool,
}

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Answer {
    let refused = |error_code| Answer::from(Response { error_code, ..Response::default() });
    let node = call.node;
    let terms = Terms::of(node, &request);
    let by_ids = call.version >= TOPIC_IDS;
    let begun = node.sessions.lock().begin(node.uptime.now_ms(), asked(by_ids, request));
    let Begun { turn, wanted } = match begun {
        Ok(begun) => begun,
        Err(error_code) => return refused(error_code),
    };
    let wanted = Arc::new(found(node, by_ids, wanted));
    match waited_for(node, &wanted, terms).await {
        Some(Gathered { partitions, share, given, .. }) => {
            if !given.is_empty() {
                node.log.count_given(given);
            }
            Answer::Held(told(node, turn, &wanted, partitions).into(), share)
        }
        None => refused(code::UNKNOWN_SERVER_ERROR),
    }
}

impl Terms {
    fn of(node: &Node, request: &Request) -> Terms {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(node.options.fetch_bytes_max);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Terms {
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            bytes_max,
            isolation: match request.isolation_level {
                1 => Isolation::Committed,
                _ => Isolation::Uncommitted,
            },
            deadline: Instant::now() + wait,
        }
    }
}

/// What of a request is its session's business.
fn asked(by_ids: bool, request: Request) -> Asked {
    let mut asked =
        Asked { id: request.session_id, epoch: request.session_epoch, by_ids, ..Asked::default() };
    for topic in request.topics {
        let place = |index| Place { name: topic.topic.clone(), id: topic.topic_id, index };
        asked.wanted.extend(topic.partitions.iter().map(|wanted| {
            let wish = Wish {
                offset: wanted.fetch_offset,
                bytes_max: wanted.partition_max_bytes,
                leader_epoch: wanted.current_leader_epoch,
                last_epoch: wanted.last_fetched_epoch,
            };
            (place(wanted.partition), wish)
        }));
    }
    for topic in request.forgotten_topics_data {
        let place = |index: &i32| Place { name: topic.topic.clone(), id: topic.topic_id, index: *index };
        asked.forgotten.extend(topic.partitions.iter().map(place));
    }
    asked
}

fn found(node: &Node, by_ids: bool, wanted: Vec<(Place, Wish)>) -> Vec<Wanted> {
    let unknown = if by_ids { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
    let mut topics: BTreeMap<(Str, Uuid), Result<Topic, i16>> = BTreeMap::new();
    let found = |(place, wish): (Place, Wish)| {
        let topic = topics.entry((place.name.clone(), place.id));
        let topic = topic.or_insert_with(|| node.topic(&place.name, place.id).ok_or(unknown));
        let at = topic.as_ref().map_err(|error_code| *error_code).and_then(|topic| {
            let index = u32::try_from(place.index).ok().filter(|index| *index < topic.partitions());
            let index = index.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
            Ok(Partition { topic: topic.id(), index })
        });
        Wanted { place, wish, at }
    };
    wanted.into_iter().map(found).collect()
}

/// What there is of each, when there is enough or the time is over. Nothing: reading has ended without an answer.
async fn waited_for(node: &Arc<Node>, wanted: &Arc<Vec<Wanted>>, terms: Terms) -> Option<Gathered> {
    let topics = wanted.iter().filter_map(|wanted| Some(wanted.at.ok()?.topic));
    let arrivals = node.log.arrivals(topics.collect::<BTreeSet<TopicId>>());
    loop {
        let mut seen = Seen::now(node, wanted, terms, &arrivals);
        let is_last = node.is_stopped() || Instant::now() >= terms.deadline;
        let gathered = read(node, wanted, terms).await?;
        if is_last || has_enough(&gathered, terms.bytes_min) {
            return Some(gathered);
        }
        let bytes = gathered.partitions.iter().map(bytes_of).sum::<usize>();
        drop(gathered);
        let lacking = terms.bytes_min.saturating_sub(bytes) as u64;
        tokio::select! {
            () = seen.outdated(node, wanted, terms, &arrivals, lacking) => {}
            () = tokio::time::sleep_until(terms.deadline) => {}
            () = node.stopped() => {}
        }
    }
}

/// How things stood before something was read.
struct Seen {
    told: u64,
    bytes: u64,
    hidden: Vec<Option<u64>>,
}

impl Seen {
    fn now(node: &Node, wanted: &[Wanted], terms: Terms, arrivals: &Arrivals) -> Seen {
        let (told, bytes) = (arrivals.so_far(), arrivals.bytes_so_far());
        let hidden = if terms.bytes_min > 1 { hidden(node, wanted, terms) } else { Vec::new() };
        Seen { told, bytes, hidden }
    }

    /// Comes back when reading once more may find enough: so many bytes have come into the topics, or what was hidden
    /// isn't any more. Until then nothing is read. For a single byte whatever is told is enough.
    async fn outdated(
        &mut self,
        node: &Node,
        wanted: &[Wanted],
        terms: Terms,
        arrivals: &Arrivals,
        lacking: u64,
    ) {
        loop {
            arrivals.after(self.told).await;
            self.told = arrivals.so_far();
            let have_come = arrivals.bytes_so_far().saturating_sub(self.bytes);
            if lacking <= 1 || have_come >= lacking || hidden(node, wanted, terms) != self.hidden {
                return;
            }
        }
    }
}

/// Of each partition where its hidden records begin, those of open transactions, and the largest number if there are
/// none. Nothing: it isn't there.
fn hidden(node: &Node, wanted: &[Wanted], terms: Terms) -> Vec<Option<u64>> {
    let of = |wanted: &Wanted| {
        let bounds = node.log.bounds_of(wanted.at.ok()?).ok()?;
        let end = end_of(&bounds, terms);
        Some(if end < bounds.high_watermark { end } else { u64::MAX })
    };
    wanted.iter().map(of).collect()
}

/// Whether an answer is worth giving before the time is over. An error always is, and so is what there is room for.
fn has_enough(gathered: &Gathered, bytes_min: usize) -> bool {
    let Gathered { partitions, is_cut, .. } = gathered;
    let bytes: usize = partitions.iter().map(bytes_of).sum();
    bytes >= bytes_min || (*is_cut && bytes > 0) || partitions.is_empty() || partitions.iter().any(is_urgent)
}

fn bytes_of(partition: &PartitionData) -> usize {
    partition.records.as_ref().map_or(0, Records::len)
}

fn is_urgent(partition: &PartitionData) -> bool {
    partition.error_code != code::NONE || partition.diverging_epoch != EpochEndOffset::default()
}

/// The answer: all that was read, or what of it a session doesn't know yet.
fn told(node: &Node, turn: Turn, wanted: &[Wanted], partitions: Vec<PartitionData>) -> Response {
    let found = |partition: &PartitionData| Found {
        has_records: bytes_of(partition) > 0,
        is_urgent: is_urgent(partition),
        bounds: sessions::Bounds {
            high_watermark: partition.high_watermark,
            last_stable_offset: partition.last_stable_offset,
            log_start_offset: partition.log_start_offset,
        },
    };
    let each = || wanted.iter().zip(&partitions).map(|(wanted, it)| (wanted, found(it)));
    let mut response = Response::default();
    let mut are_told = vec![true; wanted.len()];
    match turn {
        Turn::Alone => {}
        Turn::Opens { by_ids } => {
            let opened = each().map(|(wanted, found)| (wanted.place.clone(), wanted.wish, found));
            let mut sessions = node.sessions.lock();
            response.session_id =
                sessions.open(node.uptime.now_ms(), groups::random() as u32, by_ids, opened);
        }
        Turn::GoesOn { id, next_epoch } => {
            response.session_id = id;
            let found = each().map(|(wanted, found)| (&wanted.place, found));
            match node.sessions.lock().go_on(id, next_epoch, found) {
                Ok(told) => are_told = told,
                Err(error_code) => return Response { error_code, ..response },
            }
        }
    }
    for ((wanted, partition), _) in wanted.iter().zip(partitions).zip(are_told).filter(|(_, told)| *told) {
        let Place { name, id, .. } = &wanted.place;
        match response.responses.last_mut() {
            Some(last) if (&last.topic, &last.topic_id) == (name, id) => last.partitions.push(partition),
            _ => response.responses.push(FetchableTopicResponse {
                topic: name.clone(),
                topic_id: *id,
                partitions: vec![partition],
            }),
        }
    }
    response
}

/// Reads what there is, into room that is taken for it. Where there is something the disk may be asked, and that isn't
/// for a thread that serves others.
async fn read(node: &Arc<Node>, wanted: &Arc<Vec<Wanted>>, terms: Terms) -> Option<Gathered> {
    let has_more = |wanted: &&Wanted| {
        let end = wanted.at.ok().and_then(|at| node.log.bounds_of(at).ok()).map(|it| end_of(&it, terms));
        end.is_some_and(|end| u64::try_from(wanted.wish.offset).is_ok_and(|offset| offset < end))
    };
    let bytes_of = |wanted: &Wanted| usize::try_from(wanted.wish.bytes_max).unwrap_or(0);
    let most = wanted.iter().filter(has_more).map(bytes_of).reduce(usize::saturating_add);
    let Some(most) = most.map(|most| most.min(terms.bytes_max)) else {
        let (partitions, given) = gathered(node, wanted, terms);
        return Some(Gathered { partitions, given, share: None, is_cut: false });
    };
    let share = node.answers.take_up_to(most, SHORT_BYTES).await;
    let is_cut = share.bytes() < most;
    let terms = Terms { bytes_max: terms.bytes_max.min(share.bytes()), ..terms };
    let (for_it, wanted, turn) = (node.clone(), wanted.clone(), node.turns.to_read(most > SHORT_BYTES).await);
    // The thread reads on when its client has gone: until then it has its room.
    let read = move || {
        let read = (gathered(&for_it, &wanted, terms), share);
        drop(turn);
        read
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read =
        read.inspect_err(|error| tracing::error!(event = "fetch.failed", %error, "there is no answer"));
    let ((partitions, given), share) = read.ok()?;
    Some(Gathered { partitions, given, share: Some(share), is_cut })
}

/// Up to where readers get something.
fn end_of(bounds: &Bounds, terms: Terms) -> u64 {
    match terms.isolation {
        Isolation::Uncommitted => bounds.high_watermark,
        Isolation::Committed => bounds.last_stable_offset,
    }
}

fn gathered(node: &Node, wanted: &[Wanted], terms: Terms) -> (Vec<PartitionData>, Vec<Given>) {
    let mut left = Left { bytes: terms.bytes_max, is_untouched: true, given: Vec::new() };
    let partitions: Vec<_> = wanted.iter().map(|it| partition(node, it, terms, &mut left)).collect();
    node.meters.read(partitions.iter().map(bytes_of).sum());
    (partitions, left.given)
}

fn partition(node: &Node, wanted: &Wanted, terms: Terms, left: &mut Left) -> PartitionData {
    let index = wanted.place.index;
    let refused = |error_code| PartitionData {
        partition_index: index,
        error_code,
        high_watermark: -1,
        records: Some(Records::default()),
        ..PartitionData::default()
    };
    let (at, wish) = match wanted.at {
        Ok(at) => (at, &wanted.wish),
        Err(code) => return refused(code),
    };
    match check_epochs(node, at, wish) {
        Ok(None) => {}
        Ok(Some(diverging_epoch)) => {
            return PartitionData { diverging_epoch, ..refused(code::NONE) };
        }
        Err((error_code, current_leader)) => return PartitionData { current_leader, ..refused(error_code) },
    }
    let bytes_max = usize::try_from(wish.bytes_max).unwrap_or(0).min(left.bytes);
    let offset = match u64::try_from(wish.offset) {
        Ok(offset) => offset,
        Err(_) => return refused(code::OFFSET_OUT_OF_RANGE),
    };
    if bytes_max == 0 && !left.is_untouched {
        return without_records(node, index, at, offset);
    }
    let mut fetched = match node.log.fetch(at, offset, bytes_max, terms.isolation) {
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
    if !fetched.batches.is_empty() {
        let of_clients = fetched.batches.iter().filter(|batch| !batch.is_control());
        let records = of_clients.map(|batch| batch.record_count() as u64).sum();
        left.given.push((at.topic, records, fetched.batch_bytes() as u64));
    }
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
fn check_epochs(
    node: &Node,
    at: Partition,
    wish: &Wish,
) -> Result<Option<EpochEndOffset>, (i16, LeaderIdAndEpoch)> {
    let refused = |error: Error| (error.kafka_code(), LeaderIdAndEpoch::default());
    let current = node.log.bounds_of(at).map_err(refused)?.leader_epoch;
    check_leader_epoch(wish.leader_epoch, current).map_err(|error_code| {
        (error_code, LeaderIdAndEpoch { leader_id: node.options.node_id, leader_epoch: current as i32 })
    })?;
    let Ok(last_epoch) = u32::try_from(wish.last_epoch) else { return Ok(None) };
    let end = node.log.leader_epoch_end(at, last_epoch).map_err(refused)?;
    let (epoch, end_offset) = end.map_or((-1, -1), |(epoch, end)| (epoch as i32, end as i64));
    let has_diverged = epoch < wish.last_epoch || end_offset < wish.offset;
    Ok(has_diverged.then_some(EpochEndOffset { epoch, end_offset }))
}
