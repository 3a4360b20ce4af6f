//! NodeHello: a process begins to work on the log.

use crate::code;
use crate::dispatch::Call;
use crate::processes;
use exactlog_wire::messages::node_hello::{PROTOCOL_NEWEST, PROTOCOL_OLDEST, Request, Response};
use exactlog_wire::value::Uuid;
use std::time::Duration;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let spoken = Response {
        protocol_oldest: PROTOCOL_OLDEST,
        protocol_newest: PROTOCOL_NEWEST,
        ..Response::default()
    };
    if !(PROTOCOL_OLDEST..=PROTOCOL_NEWEST).contains(&request.protocol) {
        let reason = format!(
            "version {} of the protocol for processes isn't spoken here: {PROTOCOL_OLDEST} to {PROTOCOL_NEWEST} are",
            request.protocol
        );
        let (error_code, error_message) = (code::UNSUPPORTED_VERSION, Some(reason.as_str().into()));
        return Response { error_code, error_message, ..spoken };
    }
    let grace = Duration::from_millis(u64::try_from(request.grace_ms).unwrap_or(0));
    match call.node.host.greet(grace) {
        Ok(welcome) => {
            tracing::info!(event = "process.came", peer = %call.peer.address, "a process works on the log");
            let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
            Response {
                session: Uuid(welcome.session.0),
                group_bytes_max: bytes(welcome.group_bytes_max),
                command_bytes_max: bytes(welcome.command_bytes_max),
                ..spoken
            }
        }
        Err(error) => {
            let (error_code, error_message) = processes::refused(error);
            Response { error_code, error_message, ..spoken }
        }
    }
}
