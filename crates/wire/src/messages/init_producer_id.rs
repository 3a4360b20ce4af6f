//! Gives out a producer id, or the next epoch of one (KIP-98, KIP-360, KIP-890).

use crate::schema::api;
use crate::value::Str;

api! {
    InitProducerId = 22, versions 0..=5, flexible 2;
    request {
        transactional_id: Option<Str>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3.., default -1],
        producer_epoch: i16 [3.., default -1],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 [.., default -1],
        producer_epoch: i16,
    }
}
