//! All groups, by state and type (KIP-518, KIP-848).

use crate::schema::api;
use crate::value::Str;

api! {
    ListGroups = 16, versions 0..=5, flexible 3;
    request {
        states_filter: Vec<Str> [4..],
        types_filter: Vec<Str> [5..],
    }
    response {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        groups: Vec<ListedGroup>,
    }
    struct ListedGroup {
        group_id: Str,
        protocol_type: Str,
        group_state: Str [4..],
        group_type: Str [5..],
    }
}
