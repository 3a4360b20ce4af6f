//! Changes single settings (KIP-339).

use crate::schema::api;
use crate::value::Str;

api! {
    IncrementalAlterConfigs = 44, versions 0..=1, flexible 1;
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
        config_operation: i8,
        value: Option<Str>,
    }
    struct AlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
    }
}
