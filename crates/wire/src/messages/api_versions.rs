//! Which APIs are served in which versions (KIP-35, KIP-511, KIP-584).

use crate::schema::api;
use crate::value::Str;

api! {
    ApiVersions = 18, versions 0..=4, flexible 3;
    request {
        client_software_name: Str [3..],
        client_software_version: Str [3..],
    }
    response {
        error_code: i16,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0],
        finalized_features_epoch: i64 [3.., tag 1, default -1],
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2],
        zk_migration_ready: bool [3.., tag 3],
    }
    struct ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }
    struct SupportedFeatureKey {
        name: Str,
        min_version: i16,
        max_version: i16,
    }
    struct FinalizedFeatureKey {
        name: Str,
        max_version_level: i16,
        min_version_level: i16,
    }
}
