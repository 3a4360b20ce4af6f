//! The third thread, of a log with [`Durability::Interval`]: syncs what was acknowledged, beside the writer.
//!
//! ```text
//!   first group since the last sync -> interval -> sync, without the shard -> more meanwhile? again
//! ```
//!
//! Invariants
//!   * what is acknowledged is on disk after the interval and one sync, or the log has failed and says so
//!   * an idle log doesn't wake up

use crate::log::Inner;
use crate::maintenance;
use exactlog_storage::shard::Durability;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// When the next sync is due.
#[derive(Debug)]
pub(crate) struct Interval {
    /// None: this log needs no such thread.
    length: Option<Duration>,
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    at: Option<Instant>,
    closing: bool,
}

impl Interval {
    pub(crate) fn new(durability: Durability) -> Interval {
        let length = match durability {
            Durability::Interval(length) => Some(length),
            Durability::Fsync | Durability::Os => None,
        };
        Interval { length, due: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether the log has such a thread.
    pub(crate) fn is_wanted(&self) -> bool {
        self.length.is_some()
    }

    /// A group was written.
    pub(crate) fn note_written(&self) {
        let Some(length) = self.length else { return };
        let mut due = self.due.lock();
        if due.at.is_none() {
            due.at = Some(Instant::now() + length);
            self.changed.notify_one();
        }
    }

    /// Ends the thread: closing syncs what is left.
    pub(crate) fn close(&self) {
        self.due.lock().closing = true;
        self.changed.notify_one();
    }

    /// Waits until a sync is due; false when the log is closed.
    fn wait(&self) -> bool {
        let mut due = self.due.lock();
        while !due.closing {
            match due.at {
                None => self.changed.wait(&mut due),
                Some(at) if at > Instant::now() => {
                    self.changed.wait_until(&mut due, at);
                }
                Some(_) => {
                    // What is written from here on counts for the next one.
                    due.at = None;
                    return true;
                }
            }
        }
        false
    }
}

/// Runs until the log is closed.
pub(crate) fn run(inner: &Inner) {
    while inner.interval.wait() {
        let Some(syncing) = inner.shard().lock().begin_sync() else { continue };
        // Also if it failed: then this is what tells the shard.
        let _ = syncing.run();
        let ended = {
            let mut shard = inner.shard().lock();
            // If nothing came meanwhile the journal says that all is durable.
            shard.end_sync(syncing).and_then(|()| shard.idle())
        };
        if ended.is_err() {
            maintenance::note_failure(inner);
        }
    }
}
