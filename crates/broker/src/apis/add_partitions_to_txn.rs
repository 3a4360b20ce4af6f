//! AddPartitionsToTxn: a transaction goes on in these partitions (KIP-98; semantics TX-7).
//!
//! Clients send it in versions 0 to 3. From version 4 on it is for other nodes, in batches (KIP-890): they add, or ask
//! whether a partition was added.

use crate::code;
use crate::dispatch::Call;
use crate::transactions::{Claim, ask};
use exactlog::wire::{Protocol, TransactionSender, Transactional};
use exactlog::{Partition, ProducerId};
use exactlog_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction, Request, Response,
};
use exactlog_wire::value::Str;
use std::collections::{BTreeMap, BTreeSet};

/// From which version on it is for other nodes.
const OF_NODES: i16 = 4;
/// From which version on a fenced producer is told PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.
const NEWER_CODES: i16 = 2;

/// The partitions of a request, by topic and index; none: there is no such partition.
type Wanted = BTreeMap<Str, BTreeMap<i32, Option<Partition>>>;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    if call.version < OF_NODES {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results = answer(call, transaction).await.topic_results;
        return Response { results_by_topic_v3_and_below: results, ..Response::default() };
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results.push(answer(call, transaction).await);
    }
    Response { results_by_transaction: results, ..Response::default() }
}

async fn answer(call: &Call<'_>, asked: AddPartitionsToTxnTransaction) -> AddPartitionsToTxnResult {
    let AddPartitionsToTxnTransaction { transactional_id, producer_id, producer_epoch, verify_only, topics } =
        asked;
    let wanted = wanted(call, topics);
    let all: Option<Vec<Partition>> = wanted.values().flat_map(BTreeMap::values).copied().collect();
    let claim = Claim { transactional_id: &transactional_id, producer_id, producer_epoch };
    let topic_results = match all {
        // Where one is missing nothing is added, and that is told of the others.
        None => results(&wanted, |found| match found {
            Some(_) => code::OPERATION_NOT_ATTEMPTED,
            None => code::UNKNOWN_TOPIC_OR_PARTITION,
        }),
        Some(_) if verify_only => {
            let added = added(call, claim);
            results(&wanted, |found| match (&added, found) {
                (Ok(added), Some(partition)) if added.contains(&partition) => code::NONE,
                (Ok(_), _) => code::TRANSACTION_ABORTABLE,
                (Err(code), _) => *code,
            })
        }
        Some(partitions) => {
            let error_code = add(call, claim, partitions).await.err().unwrap_or(code::NONE);
            results(&wanted, |_| error_code)
        }
    };
    AddPartitionsToTxnResult { transactional_id, topic_results }
}

/// What is named twice counts once.
fn wanted(call: &Call<'_>, topics: Vec<AddPartitionsToTxnTopic>) -> Wanted {
    let mut wanted = Wanted::new();
    for AddPartitionsToTxnTopic { name, partitions } in topics {
        let of_topic = wanted.entry(name.clone()).or_default();
        of_topic.extend(partitions.into_iter().map(|index| (index, call.node.partition(&name, index).ok())));
    }
    wanted
}

async fn add(call: &Call<'_>, claim: Claim<'_>, partitions: Vec<Partition>) -> Result<(), i16> {
    let sender = claim.sender(call, Protocol::V1, call.version >= NEWER_CODES)?;
    // The connection of another node isn't its client's.
    let connection = if call.version < OF_NODES { sender.connection } else { 0 };
    let sender = TransactionSender { connection, ..sender };
    ask(call, Transactional::AddPartitions { sender, partitions }).await.map(|_| ())
}

/// The partitions of the open transaction, if the claim is right.
fn added(call: &Call<'_>, claim: Claim<'_>) -> Result<BTreeSet<Partition>, i16> {
    if claim.transactional_id.is_empty() {
        return Err(code::INVALID_REQUEST);
    }
    let found = call.node.log.transactional_id(claim.transactional_id);
    let found = found.filter(|found| found.producer == ProducerId(claim.producer_id));
    let found = found.ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
    match found.producer_epoch == claim.producer_epoch {
        true => Ok(found.transaction().map(|open| open.partitions.clone()).unwrap_or_default()),
        false => Err(code::PRODUCER_FENCED),
    }
}

fn results(
    wanted: &Wanted,
    code_of: impl Fn(Option<Partition>) -> i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let partition = |(index, found): (&i32, &Option<Partition>)| AddPartitionsToTxnPartitionResult {
        partition_index: *index,
        partition_error_code: code_of(*found),
    };
    let topic =
        |(name, partitions): (&Str, &BTreeMap<i32, Option<Partition>>)| AddPartitionsToTxnTopicResult {
            name: name.clone(),
            results_by_partition: partitions.iter().map(partition).collect(),
        };
    wanted.iter().map(topic).collect()
}
