//! ListConfigResources: what has settings (KIP-1000, KIP-1142).

use crate::code;
use crate::dispatch::Call;
use crate::settings::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use exactlog_wire::messages::list_config_resources::{ConfigResource, Request, Response};
use exactlog_wire::value::Str;
use std::collections::BTreeSet;

/// All that Kafka knows. Of loggers, clients' metrics and groups none have settings here.
const TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    // Version 0 asks for clients' metrics, whatever it is called.
    let wanted: BTreeSet<i8> = match request.resource_types {
        _ if call.version == 0 => BTreeSet::from([CLIENT_METRICS]),
        types if types.is_empty() => TYPES.into(),
        types => types.into_iter().collect(),
    };
    if !wanted.iter().all(|it| TYPES.contains(it)) {
        return Response { error_code: code::UNSUPPORTED_VERSION, ..Response::default() };
    }
    let resource = |resource_type, resource_name: Str| ConfigResource { resource_name, resource_type };
    let mut config_resources = Vec::new();
    if wanted.contains(&TOPIC) {
        config_resources.extend(call.node.log.topics().iter().map(|it| resource(TOPIC, it.name().into())));
    }
    if wanted.contains(&BROKER) {
        config_resources.push(resource(BROKER, call.node.options.node_id.to_string().into()));
    }
    Response { config_resources, ..Response::default() }
}
