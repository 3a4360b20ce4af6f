//! NodeMarks: marks of event ids that aren't in the state.

use crate::code;
use crate::dispatch::Call;
use crate::processes::{self, mark_answer, mark_key};
use exactlog::far::MarkKey;
use exactlog_wire::messages::node_marks::{Request, Response};

/// Most keys of a request.
const KEYS_MAX: usize = 100_000;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let keys: Option<Vec<MarkKey>> =
        request.keys.iter().map(|key| mark_key(key.is_named, key.scope, key.id)).collect();
    let Some(keys) = keys.filter(|keys| keys.len() <= KEYS_MAX) else {
        let reason = format!("{} keys: at most {KEYS_MAX}, each of a scope that can be", request.keys.len());
        let (error_code, error_message) = (code::INVALID_REQUEST, Some(reason.as_str().into()));
        return Response { error_code, error_message, ..Response::default() };
    };
    match processes::looked_up(call.node, move |host| host.marks(&keys)).await {
        Ok(answers) => {
            let answers = answers.iter().map(|(key, found)| mark_answer(key, found)).collect();
            Response { answers, ..Response::default() }
        }
        Err((error_code, error_message)) => Response { error_code, error_message, ..Response::default() },
    }
}
