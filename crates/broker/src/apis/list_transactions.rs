//! ListTransactions: all transactional ids, or those that filters name (KIP-664, KIP-994, KIP-1152).
//!
//! A pattern for ids is taken if it is plain text, which matches the id that it is: any character that means something
//! else in a regular expression is refused, also behind a backslash.

use crate::code;
use crate::dispatch::Call;
use crate::transactions::{STATES, state};
use exactlog::wire::TransactionalProducer;
use exactlog_wire::messages::list_transactions::{Request, Response, TransactionState};
use exactlog_wire::value::Str;
use std::time::{SystemTime, UNIX_EPOCH};

/// What isn't itself in a regular expression.
const METACHARACTERS: &str = r"\^$.|?*+()[]{}";

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    if pattern.is_some_and(|pattern| pattern.contains(|it| METACHARACTERS.contains(it))) {
        return Response { error_code: code::INVALID_REGULAR_EXPRESSION, ..Response::default() };
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut ids = call.node.log.transactional_ids();
    ids.retain(|(id, found)| {
        pattern.is_none_or(|pattern| **pattern == **id) && is_wanted(&request, found, now_ms)
    });
    let told = |(id, found): &(String, std::sync::Arc<TransactionalProducer>)| TransactionState {
        transactional_id: id.as_str().into(),
        producer_id: found.producer.0,
        transaction_state: Str::from_static(state(&found.phase)),
    };
    Response {
        unknown_state_filters: unknown_states(&request),
        transaction_states: ids.iter().map(told).collect(),
        ..Response::default()
    }
}

fn unknown_states(request: &Request) -> Vec<Str> {
    let is_unknown = |name: &&Str| !STATES.contains(&&***name);
    request.state_filters.iter().filter(is_unknown).cloned().collect()
}

/// Each filter that says something has to be met. One for a duration is met by transactions that are open for longer.
fn is_wanted(request: &Request, found: &TransactionalProducer, now_ms: i64) -> bool {
    let (states, producers) = (&request.state_filters, &request.producer_id_filters);
    let is_long = |started_ms: i64| now_ms.saturating_sub(started_ms) > request.duration_filter;
    (states.is_empty() || states.iter().any(|name| **name == *state(&found.phase)))
        && (producers.is_empty() || producers.contains(&found.producer.0))
        && (request.duration_filter < 0 || found.transaction().is_some_and(|open| is_long(open.started_ms)))
}
