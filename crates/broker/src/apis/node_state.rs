//! NodeState: a part of a picture of the state.

use crate::code;
use crate::dispatch::Call;
use crate::processes::{self, session};
use exactlog::far::{HostError, Pictured};
use exactlog_wire::messages::node_state::{Request, Response};

/// Longest part, in bytes.
const PART_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let session = session(request.session);
    let refused = |error| {
        let (error_code, error_message) = processes::refused(error);
        Response { error_code, error_message, ..Response::default() }
    };
    let (picture, pictured) = match request.picture {
        0 => {
            let host = call.node.host.clone();
            // It may be large, and that isn't for a thread that serves others.
            match tokio::task::spawn_blocking(move || host.state(session)).await {
                Ok(Ok(pictured)) => (call.node.pictures.keep(session, pictured.clone()), pictured),
                Ok(Err(error)) => return refused(error),
                Err(error) => return refused(HostError::Refused(error.to_string())),
            }
        }
        picture => match call.node.pictures.find(session, picture) {
            Some(pictured) => (picture, pictured),
            None => return refused(HostError::NoSession),
        },
    };
    let Pictured { term, image } = pictured;
    let offset = usize::try_from(request.offset).ok().filter(|offset| *offset <= image.len());
    let Some(offset) = offset else {
        let reason = format!("offset {} of a picture of {} bytes", request.offset, image.len());
        let (error_code, error_message) = (code::INVALID_REQUEST, Some(reason.as_str().into()));
        return Response { error_code, error_message, ..Response::default() };
    };
    let most = usize::try_from(request.max_bytes).unwrap_or(0).clamp(1, PART_BYTES_MAX);
    let end = image.len().min(offset + most);
    if end == image.len() {
        call.node.pictures.forget(session);
    }
    Response {
        picture,
        term: term as i32,
        total_bytes: image.len() as i64,
        part: image.slice(offset..end),
        ..Response::default()
    }
}
