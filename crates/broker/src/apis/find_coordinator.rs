//! FindCoordinator: it is always this node (KIP-98, KIP-699; semantics TX-1), also of what can't be: as in Kafka, a key
//! is judged by the requests that follow.

use crate::code;
use crate::dispatch::Call;
use crate::internal;
use exactlog_wire::messages::find_coordinator::{Coordinator, Request, Response};
use exactlog_wire::value::Str;

/// From which version on one request asks for several (KIP-699).
const SEVERAL: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Of the state of share groups (KIP-932).
const SHARE: i8 = 2;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let Request { key, key_type, coordinator_keys } = request;
    if key_type == GROUP {
        internal::create_when_missing(call.node).await;
    }
    if call.version >= SEVERAL {
        let coordinators = coordinator_keys.into_iter().map(|key| coordinator(call, key_type, key)).collect();
        return Response { coordinators, ..Response::default() };
    }
    let Coordinator { error_code, error_message, node_id, host, port, .. } = coordinator(call, key_type, key);
    Response { error_code, error_message, node_id, host, port, ..Response::default() }
}

fn coordinator(call: &Call<'_>, key_type: i8, key: Str) -> Coordinator {
    match check(key_type) {
        Ok(()) => {
            let (host, port) = call.advertised();
            Coordinator { key, node_id: call.node.options.node_id, host, port, ..Coordinator::default() }
        }
        Err((error_code, message)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(message.into()),
            ..Coordinator::default()
        },
    }
}

fn check(key_type: i8) -> Result<(), (i16, String)> {
    match key_type {
        GROUP | TRANSACTION => Ok(()),
        SHARE => Err((code::INVALID_REQUEST, format!("key type {SHARE}: there are no share groups"))),
        _ => {
            let what = format!("key type {key_type}: {GROUP} is a group, {TRANSACTION} a transactional id");
            Err((code::INVALID_REQUEST, what))
        }
    }
}
