//! NodeBye: a process has ended its work on the log.

use crate::dispatch::Call;
use crate::processes::session;
use exactlog_wire::messages::node_bye::{Request, Response};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    call.node.host.leave(session(request.session));
    Response::default()
}
