//! What has settings of its own (KIP-1000, KIP-1142).

use crate::schema::api;
use crate::value::Str;

api! {
    ListConfigResources = 74, versions 0..=1, flexible 0;
    request {
        resource_types: Vec<i8> [1..],
    }
    response {
        throttle_time_ms: i32,
        error_code: i16,
        config_resources: Vec<ConfigResource>,
    }
    struct ConfigResource {
        resource_name: Str,
        resource_type: i8 [1.., default 16],
    }
}
