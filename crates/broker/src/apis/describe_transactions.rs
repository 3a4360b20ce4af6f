//! DescribeTransactions: where transactional ids stand, and where they write (KIP-664; semantics TX-26).
//!
//! Only an open transaction has a start and partitions: of one that has ended they aren't kept.

use crate::code;
use crate::dispatch::Call;
use crate::transactions::state;
use exactlog::wire::Transaction;
use exactlog_wire::messages::describe_transactions::{Request, Response, TopicData, TransactionState};
use exactlog_wire::value::Str;
use std::collections::BTreeMap;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let states = request.transactional_ids.into_iter().map(|id| described(call, id));
    Response { transaction_states: states.collect(), ..Response::default() }
}

fn described(call: &Call<'_>, transactional_id: Str) -> TransactionState {
    let refused = |error_code, transactional_id| TransactionState {
        error_code,
        transactional_id,
        ..TransactionState::default()
    };
    if transactional_id.is_empty() {
        return refused(code::INVALID_REQUEST, transactional_id);
    }
    let Some(found) = call.node.log.transactional_id(&transactional_id) else {
        return refused(code::TRANSACTIONAL_ID_NOT_FOUND, transactional_id);
    };
    let open = found.transaction();
    TransactionState {
        error_code: code::NONE,
        transactional_id,
        transaction_state: Str::from_static(state(&found.phase)),
        transaction_timeout_ms: found.timeout_ms as i32,
        transaction_start_time_ms: open.map_or(-1, |open| open.started_ms),
        producer_id: found.producer.0,
        producer_epoch: found.producer_epoch,
        topics: open.map(|open| topics(call, open)).unwrap_or_default(),
    }
}

fn topics(call: &Call<'_>, open: &Transaction) -> Vec<TopicData> {
    let mut topics = BTreeMap::new();
    for partition in &open.partitions {
        topics.entry(partition.topic).or_insert_with(Vec::new).push(partition.index as i32);
    }
    // One that was deleted meanwhile isn't part of the transaction any more.
    let named = topics.into_iter().filter_map(|(topic, partitions)| {
        Some(TopicData { topic: call.node.log.topic_by_id(topic)?.name().into(), partitions })
    });
    named.collect()
}
