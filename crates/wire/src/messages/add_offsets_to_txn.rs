//! Names the group whose offsets a transaction is going to commit (KIP-98).

use crate::schema::api;
use crate::value::Str;

api! {
    AddOffsetsToTxn = 25, versions 0..=4, flexible 3;
    request {
        transactional_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        group_id: Str,
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
    }
}
