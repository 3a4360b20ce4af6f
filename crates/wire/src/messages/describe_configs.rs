//! Settings of topics and nodes (KIP-133, KIP-569).

use crate::schema::api;
use crate::value::Str;

api! {
    DescribeConfigs = 32, versions 1..=4, flexible 4;
    request {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }
    response {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }
    struct DescribeConfigsResource {
        resource_type: i8,
        resource_name: Str,
        configuration_keys: Option<Vec<Str>>,
    }
    struct DescribeConfigsResult {
        error_code: i16,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
        configs: Vec<DescribeConfigsResourceResult>,
    }
    struct DescribeConfigsResourceResult {
        name: Str,
        value: Option<Str>,
        read_only: bool,
        config_source: i8 [.., default -1],
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        config_type: i8 [3..],
        documentation: Option<Str> [3..],
    }
    struct DescribeConfigsSynonym {
        name: Str,
        value: Option<Str>,
        source: i8,
    }
}
