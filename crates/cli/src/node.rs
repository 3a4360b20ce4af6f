//! The log behind a node, as verbs see a [`Place`]: asked over Kafka's protocol.
//!
//! ```text
//!   node      connection, topics, offsets by place and time
//!   reading   batches by Fetch, and counting what is shown
//!   groups    members, positions, lag
//!   member    one of a consumer group
//!   producer  what produce sends
//!   changes   what Place changes
//! ```
//!
//! Invariants
//!   * what reading and lag count is what consumers of committed records are shown: no marker, nothing of an aborted
//!     transaction, nothing behind an open one

mod changes;
mod groups;
mod member;
mod producer;
mod reading;

pub(crate) use member::{ASSIGNED_WITHIN, Member};
pub(crate) use producer::Remote;

use crate::args::Global;
use crate::failure::Failure;
use crate::place::{
    GroupFacts, PartitionFacts, Piece, Place, ProducerFacts, Reading, TopicFacts, TransactionFacts,
};
use exactlog::TopicConfig;
use exactlog_client::{Cluster, Code, Error, Options, Refused, To};
use exactlog_wire::error::Stranger;
use exactlog_wire::messages::{
    DescribeConfigs, DescribeProducers, DescribeTransactions, ListOffsets, ListTransactions,
    describe_configs, describe_producers, describe_transactions, list_offsets, list_transactions, metadata,
};
use exactlog_wire::schema::Api;
use exactlog_wire::value::Uuid;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How often a node that doesn't answer is tried again, up to `--timeout`.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Bytes that are fetched of a partition to count its records one by one: in a list of all topics, and where the
/// number is what was asked for. Beyond that they count as offsets.
const COUNTED_BYTES: u64 = 1 << 20;
pub(crate) const COUNTED_BYTES_CLOSELY: u64 = 64 << 20;

/// Partitions, or topics, of one question. What a node answers grows with them, and of an answer only so much is taken:
/// in memory it is longer than on the wire, by a factor that a message may not have.
const ASKED_AT_ONCE: usize = 1000;

/// Resources of DescribeConfigs and its kin.
const OF_TOPIC: i8 = 2;
/// Places of ListOffsets that stand for times.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Which records somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    All,
    Committed,
}

impl Seen {
    fn isolation_level(self) -> i8 {
        i8::from(self == Seen::Committed)
    }
}

pub(crate) struct Node {
    runtime: Runtime,
    cluster: RefCell<Cluster>,
}

impl Node {
    /// Connects; waits for somebody who answers as long as `--timeout` says, and so long for each answer.
    pub(crate) fn connect(global: &Global, address: &str) -> Result<Node, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("OTHER", format!("no runtime: {error}")))?;
        let mut options = Options::default();
        if let Some(patience) = global.patience() {
            (options.connect_timeout, options.request_timeout) = (patience, patience);
        }
        let deadline = options.request_timeout;
        let since = Instant::now();
        loop {
            match runtime.block_on(Cluster::connect(address, options.clone())) {
                Ok(cluster) => {
                    let cluster = RefCell::new(cluster.deadline(deadline));
                    return Ok(Node { runtime, cluster });
                }
                // Somebody else than a node is none a moment later, either.
                Err(error @ Error::Stranger { .. }) => return Err(error.into()),
                Err(error) if error.is_unreachable() && since.elapsed() < global.timeout => {
                    thread::sleep(TRY_AGAIN.min(global.timeout));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks, and makes something of the answer.
    pub(crate) fn ask<A: Api, T>(
        &self,
        to: To<'_>,
        request: &A::Request,
        check: impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        Ok(self.runtime.block_on(self.cluster.borrow_mut().ask::<A, T>(to, request, check))?)
    }

    /// The same in no version above one; `is_repeatable`: doing it twice is doing it once.
    pub(crate) fn ask_up_to<A: Api, T>(
        &self,
        version: i16,
        to: To<'_>,
        request: &A::Request,
        is_repeatable: bool,
        check: impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        let mut cluster = self.cluster.borrow_mut();
        let asks = cluster.ask_up_to::<A, T>(version, to, request, is_repeatable, check);
        Ok(self.runtime.block_on(asks)?)
    }

    pub(crate) fn metadata(&self, topics: Option<&[&str]>) -> Result<metadata::Response, Failure> {
        Ok(self.runtime.block_on(self.cluster.borrow_mut().metadata(topics))?)
    }

    fn node_ids(&self) -> Result<Vec<i32>, Failure> {
        Ok(self.runtime.block_on(self.cluster.borrow_mut().node_ids())?)
    }

    /// Which node leads a partition.
    pub(crate) fn leader(&self, topic: &str, partition: u32) -> Result<i32, Failure> {
        Ok(self.runtime.block_on(self.cluster.borrow_mut().leader(topic, partition as i32))?)
    }

    /// Partitions of a topic by the nodes that lead them, as many as are asked about at once.
    fn by_leader(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(i32, Vec<u32>)>, Failure> {
        let mut by_leader: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for partition in partitions {
            by_leader.entry(self.leader(topic, partition)?).or_default().push(partition);
        }
        let in_pieces = |(node, partitions): (i32, Vec<u32>)| {
            let pieces = partitions.chunks(ASKED_AT_ONCE).map(<[u32]>::to_vec);
            pieces.map(move |piece| (node, piece)).collect::<Vec<_>>()
        };
        Ok(by_leader.into_iter().flat_map(in_pieces).collect())
    }

    /// Offset and leader epoch of each of these partitions at a time, or at what stands for one.
    fn offsets(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = u32>,
        timestamp: i64,
        seen: Seen,
    ) -> Result<BTreeMap<u32, (i64, i32)>, Failure> {
        let wanted = |partition: u32| list_offsets::ListOffsetsPartition {
            partition_index: partition as i32,
            timestamp,
            ..Default::default()
        };
        let mut found = BTreeMap::new();
        for (node, partitions) in self.by_leader(topic, partitions)? {
            let partitions = partitions.into_iter().map(wanted).collect();
            let request = list_offsets::Request {
                replica_id: -1,
                isolation_level: seen.isolation_level(),
                topics: vec![list_offsets::ListOffsetsTopic { name: topic.into(), partitions }],
                ..Default::default()
            };
            found.extend(self.ask::<ListOffsets, _>(To::Node(node), &request, |response| {
                let all = response.topics.iter().flat_map(|topic| &topic.partitions);
                let one = |it: &list_offsets::ListOffsetsPartitionResponse| {
                    Refused::check(it.error_code, None)?;
                    Ok((it.partition_index as u32, (it.offset, it.leader_epoch)))
                };
                all.map(one).collect::<Result<Vec<_>, _>>()
            })?);
        }
        Ok(found)
    }

    /// One of them.
    fn offset(
        &self,
        topic: &str,
        partition: u32,
        timestamp: i64,
        seen: Seen,
    ) -> Result<Option<u64>, Failure> {
        let found = self.offsets(topic, [partition], timestamp, seen)?;
        Ok(found.get(&partition).and_then(|(offset, _)| u64::try_from(*offset).ok()))
    }

    fn producers_of(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, Vec<ProducerFacts>>, Failure> {
        let mut all = BTreeMap::new();
        for (node, partitions) in self.by_leader(topic, partitions)? {
            let partition_indexes = partitions.into_iter().map(|it| it as i32).collect();
            let of_topic = describe_producers::TopicRequest { name: topic.into(), partition_indexes };
            let request = describe_producers::Request { topics: vec![of_topic] };
            all.extend(self.ask::<DescribeProducers, _>(To::Node(node), &request, |response| {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let one = |it: &describe_producers::PartitionResponse| {
                    Refused::check(it.error_code, it.error_message.as_ref())?;
                    Ok((it.partition_index as u32, it.active_producers.iter().map(producer_facts).collect()))
                };
                partitions.map(one).collect::<Result<Vec<_>, _>>()
            })?);
        }
        Ok(all)
    }
}

/// The offset of a partition among those that [`Node::offsets`] has found.
fn offset_of(found: &BTreeMap<u32, (i64, i32)>, partition: u32) -> u64 {
    found.get(&partition).and_then(|(offset, _)| u64::try_from(*offset).ok()).unwrap_or_default()
}

fn producer_facts(told: &describe_producers::ProducerState) -> ProducerFacts {
    ProducerFacts {
        producer_id: told.producer_id,
        producer_epoch: told.producer_epoch,
        last_sequence: told.last_sequence,
        last_timestamp_ms: told.last_timestamp,
        coordinator_epoch: Some(told.coordinator_epoch).filter(|epoch| *epoch >= 0),
        transaction_start: u64::try_from(told.current_txn_start_offset).ok(),
    }
}

/// An id of a topic: the number that exactlog gives, or what it is.
fn id_of(id: Uuid) -> Value {
    exactlog_broker::topic_id(id).map_or_else(|| json!(id.to_string()), |topic| json!(topic.0))
}

fn topic_facts(topic: &metadata::MetadataResponseTopic) -> TopicFacts {
    TopicFacts {
        name: topic.name.as_deref().unwrap_or_default().into(),
        id: id_of(topic.topic_id),
        partitions: topic.partitions.len() as u32,
    }
}

impl Place for Node {
    fn topics(&self) -> Result<Vec<TopicFacts>, Failure> {
        let mut topics: Vec<TopicFacts> = self.metadata(None)?.topics.iter().map(topic_facts).collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    fn find(&self, name: &str) -> Result<Option<TopicFacts>, Failure> {
        let response = self.metadata(Some(&[name]))?;
        let found = response.topics.first();
        Ok(found.filter(|topic| topic.error_code == 0).map(topic_facts))
    }

    fn configs(&self, topics: &[TopicFacts]) -> Result<Vec<TopicConfig>, Failure> {
        let mut all = Vec::new();
        for piece in topics.chunks(ASKED_AT_ONCE) {
            all.extend(self.configs_of(piece)?);
        }
        Ok(all)
    }

    fn partitions(&self, topic: &TopicFacts, closely: bool) -> Result<Vec<PartitionFacts>, Failure> {
        let name = &topic.name;
        let starts = self.offsets(name, 0..topic.partitions, EARLIEST, Seen::All)?;
        let ends = self.offsets(name, 0..topic.partitions, LATEST, Seen::All)?;
        let shown_ends = self.offsets(name, 0..topic.partitions, LATEST, Seen::Committed)?;
        let mut producers = self.producers_of(name, 0..topic.partitions)?;
        let most = if closely { COUNTED_BYTES_CLOSELY } else { COUNTED_BYTES };
        let mut partitions = Vec::new();
        for partition in 0..topic.partitions {
            let start = offset_of(&starts, partition);
            let shown = start..offset_of(&shown_ends, partition).max(start);
            let (end, leader_epoch) = ends.get(&partition).copied().unwrap_or_default();
            let counted = self.count(name, partition, shown, most)?;
            partitions.push(PartitionFacts {
                partition,
                start,
                end: end as u64,
                records: counted.records,
                is_exact: counted.is_exact,
                leader_epoch: leader_epoch.into(),
                producers: producers.remove(&partition).map_or(0, |them| them.len() as u64),
            });
        }
        Ok(partitions)
    }

    fn bounds(&self, topic: &TopicFacts, partition: u32) -> Result<(u64, u64), Failure> {
        let start = self.offset(&topic.name, partition, EARLIEST, Seen::All)?.unwrap_or_default();
        let end = self.offset(&topic.name, partition, LATEST, Seen::All)?.unwrap_or_default();
        Ok((start, end))
    }

    fn first_at_or_after(
        &self,
        topic: &TopicFacts,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Option<u64>, Failure> {
        self.offset(&topic.name, partition, timestamp_ms.max(0), Seen::All)
    }

    fn read(&self, topic: &TopicFacts, partition: u32, offset: u64, how: Reading) -> Result<Piece, Failure> {
        self.read_piece(&topic.name, partition, offset, how)
    }

    fn group_names(&self) -> Result<Vec<String>, Failure> {
        self.listed_groups()
    }

    fn group(&self, name: &str) -> Result<Option<GroupFacts>, Failure> {
        self.group_facts(name)
    }

    fn transactions(&self, ids: Option<&[String]>) -> Result<Vec<TransactionFacts>, Failure> {
        let ids = match ids {
            Some(ids) => ids.to_vec(),
            None => self.transactional_ids()?,
        };
        let mut all = Vec::new();
        for id in ids {
            let request = describe_transactions::Request { transactional_ids: vec![id.as_str().into()] };
            let found =
                self.ask::<DescribeTransactions, _>(To::Transaction(&id), &request, |mut response| {
                    let told = response.transaction_states.pop().unwrap_or_default();
                    match Code(told.error_code) {
                        Code::TRANSACTIONAL_ID_NOT_FOUND => Ok(None),
                        code => Refused::check(code.0, None).map(|()| Some(transaction_facts(&told))),
                    }
                })?;
            all.extend(found);
        }
        Ok(all)
    }

    fn producers(&self, topic: &TopicFacts, partition: u32) -> Result<Vec<ProducerFacts>, Failure> {
        Ok(self.producers_of(&topic.name, [partition])?.remove(&partition).unwrap_or_default())
    }

    fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        said: &[&str],
    ) -> Result<(), Failure> {
        self.create(name, partitions, config, said)
    }

    fn alter_topic(
        &self,
        topic: &TopicFacts,
        _config: &TopicConfig,
        changed: &[(&str, String)],
    ) -> Result<(), Failure> {
        self.alter(&topic.name, changed)
    }

    fn add_partitions(&self, topic: &TopicFacts, to: u32) -> Result<(), Failure> {
        match to == topic.partitions {
            true => Ok(()),
            false => self.grow(&topic.name, to),
        }
    }

    fn delete_topic(&self, topic: &TopicFacts) -> Result<(), Failure> {
        self.delete(&topic.name)
    }

    fn trim(&self, topic: &TopicFacts, partition: u32, start: u64) -> Result<u64, Failure> {
        self.delete_records(&topic.name, partition, start)
    }

    fn seek_group(&self, name: &str, positions: &[(TopicFacts, u32, u64)]) -> Result<(), Failure> {
        self.commit_offsets(name, positions)
    }

    fn delete_offsets(&self, name: &str, partitions: &[(TopicFacts, u32)]) -> Result<(), Failure> {
        self.forget_offsets(name, partitions)
    }

    fn delete_group(&self, name: &str) -> Result<(), Failure> {
        self.forget_group(name)
    }

    fn fence(&self, transaction: &TransactionFacts) -> Result<(i64, i16), Failure> {
        self.init_producer(Some(&transaction.transactional_id), transaction.timeout_ms)
    }
}

impl Node {
    /// The settings of as many topics as are asked about at once.
    fn configs_of(&self, topics: &[TopicFacts]) -> Result<Vec<TopicConfig>, Failure> {
        let resource = |topic: &TopicFacts| describe_configs::DescribeConfigsResource {
            resource_type: OF_TOPIC,
            resource_name: (&*topic.name).into(),
            configuration_keys: None,
        };
        let request = describe_configs::Request {
            resources: topics.iter().map(resource).collect(),
            ..Default::default()
        };
        self.ask::<DescribeConfigs, _>(To::Any, &request, |response| {
            let config = |result: &describe_configs::DescribeConfigsResult| {
                Refused::check(result.error_code, result.error_message.as_ref())?;
                let mut config = TopicConfig::default();
                for setting in &result.configs {
                    // A cluster that isn't exactlog has settings that aren't known here, and values.
                    _ = config.set(&setting.name, setting.value.as_deref().unwrap_or_default());
                }
                Ok(config)
            };
            response.results.iter().map(config).collect()
        })
    }

    fn transactional_ids(&self) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for node in self.node_ids()? {
            let request = list_transactions::Request::default();
            ids.extend(self.ask::<ListTransactions, _>(To::Node(node), &request, |response| {
                Refused::check(response.error_code, None)?;
                Ok(response.transaction_states.into_iter().map(|it| it.transactional_id.to_string()))
            })?);
        }
        ids.sort();
        Ok(ids)
    }
}

fn transaction_facts(told: &describe_transactions::TransactionState) -> TransactionFacts {
    let of_topic = |topic: &describe_transactions::TopicData| {
        let name = topic.topic.to_string();
        topic.partitions.iter().map(move |index| (name.clone(), *index as u32)).collect::<Vec<_>>()
    };
    let mut partitions: Vec<_> = told.topics.iter().flat_map(of_topic).collect();
    partitions.sort();
    TransactionFacts {
        transactional_id: told.transactional_id.to_string(),
        state: told.transaction_state.to_string(),
        producer_id: told.producer_id,
        producer_epoch: told.producer_epoch,
        timeout_ms: told.transaction_timeout_ms.into(),
        started_ms: Some(told.transaction_start_time_ms).filter(|ms| *ms >= 0),
        partitions,
    }
}

/// The name under which `exactlog explain` knows a code of Kafka's.
fn code_of(code: Code) -> &'static str {
    match code.name() {
        "UNKNOWN_TOPIC_OR_PARTITION" | "UNKNOWN_TOPIC_ID" => "NO_SUCH_TOPIC",
        "GROUP_ID_NOT_FOUND" => "NO_SUCH_GROUP",
        "NON_EMPTY_GROUP" | "UNKNOWN_MEMBER_ID" | "GROUP_SUBSCRIBED_TO_TOPIC" => "GROUP_ACTIVE",
        "INVALID_TOPIC_EXCEPTION" | "INVALID_GROUP_ID" => "ILLEGAL_NAME",
        "MESSAGE_TOO_LARGE" | "RECORD_LIST_TOO_LARGE" => "TOO_LARGE",
        "OFFSET_OUT_OF_RANGE" => "OFFSET_OUT_OF_RANGE",
        "PRODUCER_FENCED" | "INVALID_PRODUCER_EPOCH" | "FENCED_MEMBER_EPOCH" => "FENCED",
        "UNKNOWN_SERVER_ERROR" | "UNKNOWN_CODE" => "OTHER",
        _ => "REFUSED",
    }
}

/// Who it is that answers instead of a node, where only a text says so.
pub(crate) fn stranger_of(reason: &str) -> Option<Stranger> {
    Stranger::ALL.into_iter().find(|stranger| reason == stranger.to_string())
}

/// The way out where somebody takes connections and doesn't answer.
const SILENT: &str = "somebody listens there and says nothing; --timeout 2m waits longer for an answer";

/// The way out where only a text says why there is no node.
pub(crate) fn hint_about_reason(reason: &str) -> &'static str {
    match stranger_of(reason) {
        Some(stranger) => hint_about(stranger),
        None if reason.starts_with("hasn't answered") => SILENT,
        None => "exactlog serve starts a node of the kind that is asked here; --timeout 30s waits for one",
    }
}

/// How a node is found where somebody else answers.
fn hint_about(stranger: Stranger) -> &'static str {
    match stranger {
        Stranger::Http => {
            "the port of a node is that of its --listen, 9092 if nothing else is said; --http has its metrics"
        }
        Stranger::Tls => "connections aren't encrypted here: name a port that takes them so (PLAINTEXT)",
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let (message, is_unreachable) = (error.to_string(), error.is_unreachable());
        match error {
            Error::Address { .. } => Failure::usage(message).hint("--bootstrap 127.0.0.1:9092, say"),
            Error::Connect { .. } => Failure { exit: 3, ..Failure::new("NO_NODE", message) }
                .hint("exactlog serve starts a node; --timeout 30s waits for one"),
            Error::Timeout { .. } if is_unreachable => {
                Failure { exit: 3, ..Failure::new("NO_NODE", message) }.hint(SILENT)
            }
            Error::Timeout { .. } => Failure::new("NETWORK", message)
                .hint("it may have been done all the same; --timeout 2m waits longer for an answer"),
            Error::Stranger { stranger, .. } => {
                Failure { exit: 3, ..Failure::new("NO_NODE", message) }.hint(hint_about(stranger))
            }
            Error::Refused { code, .. } => Failure::new(code_of(code), message),
            Error::Version { .. } => {
                Failure::new("REFUSED", message).hint("the node is older than what this verb asks for")
            }
            _ => Failure::new("NETWORK", message),
        }
    }
}
