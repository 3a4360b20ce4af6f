//! IncrementalAlterConfigs: some settings of a topic; what isn't named stays (KIP-339).

use crate::alteration::{self, Change, Wanted};
use crate::code::{self, Refused};
use crate::dispatch::Call;
use exactlog_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request, Response,
};
use exactlog_wire::value::Str;
use std::collections::BTreeSet;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let wanted = |AlterConfigsResource { resource_type, resource_name, configs }: AlterConfigsResource| {
        Wanted { resource_type, name: resource_name, replaces: false, changes: changes(configs) }
    };
    let wanted = request.resources.into_iter().map(wanted).collect();
    let altered = alteration::alter(call.node, wanted, request.validate_only).await;
    let responses = altered.into_iter().map(|it| AlterConfigsResourceResponse {
        error_code: it.error_code,
        error_message: it.message,
        resource_type: it.resource_type,
        resource_name: it.name,
    });
    Response { responses: responses.collect(), ..Response::default() }
}

fn changes(configs: Vec<AlterableConfig>) -> Result<Vec<(Str, Change)>, Refused> {
    let mut names = BTreeSet::new();
    if let Some(twice) = configs.iter().find(|it| !names.insert(it.name.clone())) {
        return Err((code::INVALID_REQUEST, format!("setting {:?} is named twice", &*twice.name)));
    }
    configs.into_iter().map(change).collect()
}

/// The numbers are those of Kafka's operations.
fn change(
    AlterableConfig { name, config_operation, value }: AlterableConfig,
) -> Result<(Str, Change), Refused> {
    let change = match (config_operation, value) {
        (1, _) => Change::Reset,
        (0, Some(value)) => Change::Set(value),
        (2, Some(value)) => Change::Append(value),
        (3, Some(value)) => Change::Subtract(value),
        (0 | 2 | 3, None) => {
            return Err((code::INVALID_REQUEST, format!("setting {:?} has no value", &*name)));
        }
        (other, _) => {
            let what = format!("setting {:?}: there is no operation {other}, only 0 to 3", &*name);
            return Err((code::INVALID_REQUEST, what));
        }
    };
    Ok((name, change))
}
