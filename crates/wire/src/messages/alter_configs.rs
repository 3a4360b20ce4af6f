//! Sets all settings of a topic (KIP-133).

use crate::schema::api;
use crate::value::Str;

api! {
    AlterConfigs = 33, versions 0..=2, flexible 2;
    request {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }
    response {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }
    struct AlterConfigsResource {
        resource_type: i8,
        resource_name: Str,
        configs: Vec<AlterableConfig>,
    }
    struct AlterableConfig {
        name: Str,
        value: Option<Str>,
    }
    struct AlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
    }
}
