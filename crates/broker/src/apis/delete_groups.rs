//! DeleteGroups: groups without members, with their offsets (KIP-229).

use crate::code;
use crate::dispatch::Call;
use exactlog::wire::Command;
use exactlog::{Error, Refusal};
use exactlog_wire::messages::delete_groups::{DeletableGroupResult, Request, Response};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let error_code = deleted(call, &group_id).await.err().unwrap_or(code::NONE);
        results.push(DeletableGroupResult { group_id, error_code });
    }
    Response { results, ..Response::default() }
}

async fn deleted(call: &Call<'_>, group: &str) -> Result<(), i16> {
    if group.is_empty() {
        return Err(code::INVALID_GROUP_ID);
    }
    let was_here = match call.node.groups.delete(group) {
        code::NONE => true,
        code::GROUP_ID_NOT_FOUND => false,
        error_code => return Err(error_code),
    };
    if call.node.log.group_members(group).is_none() {
        // It had members once, and has no offsets.
        return if was_here { Ok(()) } else { Err(code::GROUP_ID_NOT_FOUND) };
    }
    let command = Command::DeleteOffsets { group: group.to_string(), partitions: None };
    call.node.log.ask(command).await.map(|_| ()).map_err(|error| match error {
        Error::Refused(Refusal::GroupNotEmpty { .. }) => code::NON_EMPTY_GROUP,
        error => error.kafka_code(),
    })
}
