//! NodeSubmit: a group of commands, once.

use crate::dispatch::Call;
use crate::processes::{self, session};
use exactlog::far::{Sent, Submitted};
use exactlog_wire::messages::node_submit::{Command, Request, Response, outcome};
use exactlog_wire::value::Str;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let Request { session: id, number, commands } = request;
    let number = u64::try_from(number).unwrap_or(0);
    let group = commands.into_iter().map(sent).collect();
    // Whoever goes away doesn't call it back: it goes on for him, and he asks again.
    let host = call.node.host.clone();
    let submitted = tokio::spawn(async move { host.submit(session(id), number, group).await }).await;
    let reason = |reason: String| Some(Str::from(reason.as_str()));
    match submitted {
        Ok(Ok(submitted)) => told(submitted),
        Ok(Err(error)) => {
            let (error_code, error_message) = processes::refused(error);
            Response { error_code, error_message, ..Response::default() }
        }
        Err(error) => {
            Response { outcome: outcome::UNKNOWN, reason: reason(error.to_string()), ..Response::default() }
        }
    }
}

fn told(submitted: Submitted) -> Response {
    let with =
        |outcome, reason: &str| Response { outcome, reason: Some(reason.into()), ..Response::default() };
    match submitted {
        Submitted::At(lsns) => {
            // A group is ordered whole, with nothing in between.
            let first_lsn = lsns.first().map_or(0, |lsn| *lsn as i64);
            Response { outcome: outcome::ORDERED, first_lsn, ..Response::default() }
        }
        Submitted::Full { path, needed, free } => Response {
            needed_bytes: i64::try_from(needed).unwrap_or(i64::MAX),
            free_bytes: i64::try_from(free).unwrap_or(i64::MAX),
            ..with(outcome::FULL, &path)
        },
        Submitted::NotNow(reason) => with(outcome::NOT_NOW, &reason),
        Submitted::Never(reason) => with(outcome::NEVER, &reason),
        Submitted::Unknown(reason) => with(outcome::UNKNOWN, &reason),
    }
}

fn sent(command: Command) -> Sent {
    let Command { kind, version, head, bodies } = command;
    Sent { kind: kind as u8, version: version as u8, head, bodies: bodies.0 }
}
