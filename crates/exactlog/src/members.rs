//! The members of groups that live in this process, and when each of them came back last (semantics GR-10).
//!
//! Who owns what is decided by the state. Here is only what a command must not depend on: handles and clocks.
//!
//! Invariants
//!   * a member that was joined here is live until its handle is dropped or its leaving was applied
//!   * leaving waits for nobody: it is noted, and repeated by the writer until it was applied

use exactlog_core::ids::MemberId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// All members of this process.
#[derive(Debug, Default)]
pub(crate) struct Members {
    live: Mutex<BTreeMap<MemberId, Arc<Polls>>>,
    leaving: Mutex<Vec<Leaving>>,
}

/// When a member came back last. Times are those of the log's monotonic clock, in ms.
#[derive(Debug)]
pub(crate) struct Polls {
    last_ms: AtomicI64,
    interval_ms: AtomicI64,
}

/// A member that is to leave.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub(crate) group: String,
    pub(crate) member: MemberId,
    /// Whether it was away for too long.
    pub(crate) fenced: bool,
}

impl Polls {
    /// It came back now.
    pub(crate) fn note(&self, now_ms: i64) {
        self.last_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// How long it may stay away while somebody waits for its partitions.
    pub(crate) fn set_interval(&self, interval: Duration) {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        self.interval_ms.store(interval_ms, Ordering::Relaxed);
    }

    /// When it has been away for too long, if somebody waits since `since_ms`.
    pub(crate) fn deadline_ms(&self, since_ms: i64) -> i64 {
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        last_ms.max(since_ms).saturating_add(self.interval_ms.load(Ordering::Relaxed))
    }
}

impl Members {
    /// A member was joined: called by the writer, before anybody hears of it.
    pub(crate) fn joined(&self, member: MemberId, now_ms: i64) {
        let polls = Polls { last_ms: AtomicI64::new(now_ms), interval_ms: AtomicI64::new(i64::MAX) };
        self.live.lock().insert(member, Arc::new(polls));
    }

    /// The clock of a member, as long as it is live.
    pub(crate) fn polls(&self, member: MemberId) -> Option<Arc<Polls>> {
        self.live.lock().get(&member).cloned()
    }

    /// Notes that a member is to leave.
    pub(crate) fn leave(&self, leaving: Leaving) {
        if !leaving.fenced {
            self.live.lock().remove(&leaving.member);
        }
        self.leaving.lock().push(leaving);
    }

    /// Takes what was noted.
    pub(crate) fn take_leaving(&self) -> Vec<Leaving> {
        std::mem::take(&mut *self.leaving.lock())
    }

    /// A member's leaving was applied.
    pub(crate) fn left(&self, member: MemberId) {
        self.live.lock().remove(&member);
    }
}
