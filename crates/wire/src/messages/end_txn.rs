//! Commits or aborts a transaction (KIP-98, KIP-890).

use crate::schema::api;
use crate::value::Str;

api! {
    EndTxn = 26, versions 0..=5, flexible 3;
    request {
        transactional_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        committed: bool,
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 [5.., default -1],
        producer_epoch: i16 [5.., default -1],
    }
}
