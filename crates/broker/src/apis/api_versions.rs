//! ApiVersions: what is served (KIP-35, KIP-511, KIP-584).

use crate::code;
use crate::dispatch::{Call, SERVED};
use exactlog_wire::messages::OWN_KEYS_FROM;
use exactlog_wire::messages::api_versions::{
    ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey,
};
use exactlog_wire::value::Str;

/// What clients decide by which way they go: name, and the highest level. `transaction.version` 2: transactions whose
/// epoch rises with each (KIP-890). `group.version` 1: groups whose assignment the node makes (KIP-848).
const FEATURES: [(&str, i16); 2] = [("transaction.version", 2), ("group.version", 1)];

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let is_named = |name: &str| !name.is_empty() && name.len() <= 255;
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    if call.version >= 3 && !(is_named(name) && is_named(version)) {
        return Response { error_code: code::INVALID_REQUEST, ..Response::default() };
    }
    let features = FEATURES.iter();
    Response {
        api_keys: served(),
        supported_features: features
            .clone()
            .map(|(name, max_version)| SupportedFeatureKey {
                name: Str::from_static(name),
                min_version: 0,
                max_version: *max_version,
            })
            .collect(),
        finalized_features_epoch: 0,
        finalized_features: features
            .map(|(name, level)| FinalizedFeatureKey {
                name: Str::from_static(name),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..Response::default()
    }
}

/// To who asks in a version that isn't known.
pub(crate) fn unknown_version() -> Response {
    Response { error_code: code::UNSUPPORTED_VERSION, api_keys: served(), ..Response::default() }
}

fn served() -> Vec<ApiVersion> {
    let version = |&(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version };
    // What isn't Kafka's is nothing to its clients: some keep a table by key, and take no number that they don't know.
    SERVED.iter().filter(|(key, ..)| *key < OWN_KEYS_FROM).map(version).collect()
}
