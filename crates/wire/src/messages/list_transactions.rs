//! All transactions, by state and age (KIP-664, KIP-994).

use crate::schema::api;
use crate::value::Str;

api! {
    ListTransactions = 66, versions 0..=2, flexible 0;
    request {
        state_filters: Vec<Str>,
        producer_id_filters: Vec<i64>,
        duration_filter: i64 [1.., default -1],
        transactional_id_pattern: Option<Str> [2..],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        unknown_state_filters: Vec<Str>,
        transaction_states: Vec<TransactionState>,
    }
    struct TransactionState {
        transactional_id: Str,
        producer_id: i64,
        transaction_state: Str,
    }
}
