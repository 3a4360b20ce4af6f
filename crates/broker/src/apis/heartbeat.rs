//! Heartbeat: a member lives, and learns whether its group goes on (KIP-345).

use crate::dispatch::Call;
use crate::groups::Claim;
use exactlog_wire::messages::heartbeat::{Request, Response};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let claim = Claim {
        generation: request.generation_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    };
    Response { error_code: call.node.groups.heartbeat(&request.group_id, claim), ..Response::default() }
}
