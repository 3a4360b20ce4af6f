//! NodeChanges: what has happened behind a position.

use crate::dispatch::Call;
use crate::processes::{self, mark_answer, session};
use exactlog::far::{Changes, Fed, HostError};
use exactlog_wire::messages::node_changes::{Applied, Request, Response};
use exactlog_wire::value::{Str, Uuid};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest answer, in bytes; a longer command comes alone.
const BYTES_MAX: usize = 1024 * 1024;
/// How long it waits at most.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    match changes(call, &request).await {
        Ok(Changes { commands, now_ms }) => Response {
            now_ms,
            begins_anew: commands.is_none(),
            commands: commands.into_iter().flatten().map(applied).collect(),
            ..Response::default()
        },
        Err(error) => {
            let (error_code, error_message): (i16, Option<Str>) = processes::refused(error);
            Response { error_code, error_message, ..Response::default() }
        }
    }
}

async fn changes(call: &Call<'_>, request: &Request) -> Result<Changes, HostError> {
    let Request { session: Uuid(_), term, lsn, max_bytes, max_wait_ms } = *request;
    let session = session(request.session);
    let host = &call.node.host;
    let at = (term as u32, u64::try_from(lsn).unwrap_or(u64::MAX));
    let most = usize::try_from(max_bytes).unwrap_or(0).min(BYTES_MAX);
    let wait = Duration::from_millis(u64::try_from(max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    loop {
        let so_far = host.so_far();
        let changes = host.changes(session, at, most)?;
        let has_some = changes.commands.as_ref().is_none_or(|commands| !commands.is_empty());
        if has_some || Instant::now() >= deadline || call.node.is_stopped() {
            return Ok(changes);
        }
        tokio::select! {
            biased;
            () = call.node.stopped() => {}
            _ = timeout_at(deadline, host.after(so_far)) => {}
        }
    }
}

fn applied(fed: Fed) -> Applied {
    Applied {
        lsn: fed.lsn as i64,
        term: fed.term as i32,
        kind: fed.kind as i8,
        version: fed.version as i8,
        head: fed.head,
        answers: fed.answers.iter().map(|(key, found)| mark_answer(key, found)).collect(),
    }
}
