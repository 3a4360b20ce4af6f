//! What the APIs for processes that work on the log share: pictures of the state that are being fetched, and how what
//! the log says is said in messages (ADR 42).
//!
//! Invariants
//!   * a session has one picture at most, and none when it was fetched or isn't any more

use crate::code;
use crate::node::Node;
use exactlog::far::{Found, Host, HostError, MarkKey, Pictured, Place, ScopeKey, SessionId};
use exactlog::{DedupId, TopicId};
use exactlog_wire::messages::node_changes::MarkAnswer;
use exactlog_wire::value::{Str, Uuid};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked for sessions that nothing is heard of: while there are some, and while there are none.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_IDLE: Duration = Duration::from_secs(1);

/// Pictures that are being fetched.
#[derive(Debug, Default)]
pub(crate) struct Pictures(Mutex<Album>);

#[derive(Debug, Default)]
struct Album {
    last: i64,
    by_session: BTreeMap<SessionId, (i64, Pictured)>,
}

impl Pictures {
    /// Keeps one for a session, in the place of the one before; its number.
    pub(crate) fn keep(&self, session: SessionId, pictured: Pictured) -> i64 {
        let mut album = self.0.lock();
        album.last += 1;
        let number = album.last;
        album.by_session.insert(session, (number, pictured));
        number
    }

    /// One that is kept.
    pub(crate) fn find(&self, session: SessionId, number: i64) -> Option<Pictured> {
        let album = self.0.lock();
        album.by_session.get(&session).filter(|(kept, _)| *kept == number).map(|(_, it)| it.clone())
    }

    /// It was fetched.
    pub(crate) fn forget(&self, session: SessionId) {
        self.0.lock().by_session.remove(&session);
    }

    fn retain(&self, is_there: impl Fn(SessionId) -> bool) {
        self.0.lock().by_session.retain(|session, _| is_there(*session));
    }
}

/// Ends sessions that nothing is heard of, until the node ends.
pub(crate) async fn keep_time(node: Arc<Node>) {
    loop {
        let pause = if node.host.sessions() > 0 { LOOK } else { LOOK_IDLE };
        tokio::select! {
            biased;
            () = node.stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
        node.host.look();
        node.pictures.retain(|session| node.host.has(session));
    }
}

/// The session that a request names.
pub(crate) fn session(uuid: Uuid) -> SessionId {
    SessionId(uuid.0)
}

/// Code and message of what isn't served.
pub(crate) fn refused(error: HostError) -> (i16, Option<Str>) {
    match error {
        HostError::NoSession => (code::FETCH_SESSION_ID_NOT_FOUND, None),
        HostError::Refused(reason) => (code::INVALID_REQUEST, Some(reason.as_str().into())),
    }
}

/// Has something looked up on a thread of its own: the disk may be asked, and that isn't for one that serves others.
///
/// # Errors
/// Code and message of what the log couldn't do.
pub(crate) async fn looked_up<T: Send + 'static>(
    node: &Node,
    look: impl FnOnce(&Host) -> Result<T, exactlog::Error> + Send + 'static,
) -> Result<T, (i16, Option<Str>)> {
    let host = node.host.clone();
    let looked = tokio::task::spawn_blocking(move || look(&host)).await;
    let (code, reason) = match looked {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(error)) => code::refused(error),
        Err(error) => (code::UNKNOWN_SERVER_ERROR, error.to_string()),
    };
    Err((code, Some(reason.as_str().into())))
}

/// The key of a mark; nothing for a number that none has.
pub(crate) fn mark_key(is_named: bool, scope: i32, id: Uuid) -> Option<MarkKey> {
    let scope = u32::try_from(scope).ok()?;
    let scope = if is_named { ScopeKey::Named(scope) } else { ScopeKey::Topic(TopicId(scope)) };
    Some(MarkKey { scope, id: DedupId(id.0) })
}

/// What was found for a mark.
pub(crate) fn mark_answer(key: &MarkKey, found: Option<Found>) -> MarkAnswer {
    let (is_named, scope) = match key.scope {
        ScopeKey::Named(number) => (true, number),
        ScopeKey::Topic(topic) => (false, topic.0),
    };
    let (run, Place { at, index }) =
        found.map_or((-1, Place { at: 0, index: 0 }), |found| (found.run as i64, found.place));
    MarkAnswer {
        is_named,
        scope: scope as i32,
        id: Uuid(key.id.0),
        run,
        seen_at: at as i64,
        partition_index: index as i32,
    }
}
