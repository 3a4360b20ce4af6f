//! AlterConfigs: all settings of a topic at once; what isn't named has its default afterwards (KIP-133).

use crate::alteration::{self, Change, Wanted};
use crate::code;
use crate::dispatch::Call;
use exactlog_wire::messages::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request, Response,
};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let wanted = |AlterConfigsResource { resource_type, resource_name, configs }: AlterConfigsResource| {
        let changes = configs.into_iter().map(|AlterableConfig { name, value }| match value {
            Some(value) => Ok((name, Change::Set(value))),
            None => Err((code::INVALID_REQUEST, format!("setting {:?} has no value", &*name))),
        });
        Wanted { resource_type, name: resource_name, replaces: true, changes: changes.collect() }
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
