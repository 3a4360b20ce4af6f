//! The third thread: looks for old records now and then, and lets them go as their topics' settings say.
//!
//! ```text
//!   every five minutes, or asked -> plan -> Trim commands, compaction -> rounds of writing behind, until the files are
//!                                                                        gone that nobody needs
//! ```
//!
//! It is a thread of its own since it waits for the writer, who may wait for writing behind.
//!
//! Invariants
//!   * while nothing is old nothing is written: an idle log stays as it is
//!   * what is old goes however little is written, and also behind each open: where it takes checkpoints that nobody
//!     else asks for, they are made
//!   * what a view shows stays as long as it can be read: of each key its last value
//!   * what is old is told by the log's own time, so a clock that was set wrong expires nothing

use crate::error::Error;
use crate::log::Inner;
use crate::queue::{Answer, Queue};
use exactlog_core::command::Command;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::Reply;
use exactlog_storage::cleaning::{Cleaner, Compacted, DueCompaction, Occasion};
use exactlog_storage::error::StorageError;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Checkpoints that are made for nothing but cleaning write as much at most, in bytes a second on the average: of a
/// small log they may come at each look, of one with a large state now and then.
const CHECKPOINT_BYTES_A_SECOND: u64 = 64 * 1024;

/// How it is asked, and how it went.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    requests: Mutex<Requests>,
    wake: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Requests {
    asked: bool,
    /// Time was skipped: whatever it was waited for may have come.
    skipped: bool,
    /// Compacted whether or not it gains much.
    topics: BTreeSet<TopicId>,
    busy: bool,
    closing: bool,
    rounds: u64,
    last: Option<Result<Cleaned, Error>>,
}

/// What one round of retention and compaction has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleaned {
    /// The partitions that begin later now, and where.
    pub trimmed: Vec<(Partition, u64)>,
    /// The partitions that were compacted.
    pub compacted: Vec<Compacted>,
}

impl Cleaning {
    /// Asks for a round and waits until one has ended that began afterwards. These topics are compacted in any case.
    pub(crate) fn round(&self, topics: impl IntoIterator<Item = TopicId>) -> Result<Cleaned, Error> {
        let mut requests = self.requests.lock();
        requests.asked = true;
        requests.topics.extend(topics);
        self.wake.notify_one();
        // A round that runs may have looked already where there is something by now.
        let until = requests.rounds + 1 + u64::from(requests.busy);
        while requests.rounds < until && !requests.closing {
            self.done.wait(&mut requests);
        }
        requests.last.clone().unwrap_or(Err(Error::Closed))
    }

    /// Time was skipped: a round begins.
    pub(crate) fn skip_time(&self) {
        self.requests.lock().skipped = true;
        self.wake.notify_one();
    }

    /// Ends the thread after the round that runs.
    pub(crate) fn close(&self) {
        let mut requests = self.requests.lock();
        requests.closing = true;
        requests.last = Some(Err(Error::Closed));
        self.wake.notify_all();
        self.done.notify_all();
    }
}

/// Runs until it is closed.
pub(crate) fn run(inner: &Inner) {
    // Before that no checkpoints are made for cleaning alone, in ms of the log's monotonic time.
    let mut not_before_ms = i64::MIN;
    loop {
        let (asked, topics) = {
            let mut requests = inner.cleaning.requests.lock();
            let until = Instant::now().checked_add(inner.cleanup_interval);
            let mut timed_out = false;
            while !requests.asked && !requests.skipped && !requests.closing && !timed_out {
                match until {
                    Some(until) => {
                        timed_out = inner.cleaning.wake.wait_until(&mut requests, until).timed_out();
                    }
                    None => inner.cleaning.wake.wait(&mut requests),
                }
            }
            if requests.closing {
                return;
            }
            requests.busy = true;
            requests.skipped = false;
            (std::mem::take(&mut requests.asked), std::mem::take(&mut requests.topics))
        };
        let ended = catch_unwind(AssertUnwindSafe(|| round(inner, asked, &topics, &mut not_before_ms)));
        let panicked = || Error::Storage(StorageError::Poisoned { reason: "cleaning panicked".into() });
        let ended = ended.unwrap_or_else(|_| Err(panicked()));
        if let Err(error) = &ended {
            tracing::warn!(%error, "old records were not cleaned; it is tried again later");
        }
        let mut requests = inner.cleaning.requests.lock();
        requests.rounds += 1;
        requests.busy = false;
        if !requests.closing {
            requests.last = Some(ended);
        }
        inner.cleaning.done.notify_all();
    }
}

/// `asked`: somebody wants it done now, also if that takes checkpoints that the log wouldn't make yet.
fn round(
    inner: &Inner,
    asked: bool,
    topics: &BTreeSet<TopicId>,
    not_before_ms: &mut i64,
) -> Result<Cleaned, Error> {
    if asked || (inner.monotonic_ms() >= *not_before_ms && gains_by_checkpoints(inner)) {
        // Closed segments that two checkpoints have: without them there is nothing to look at.
        inner.maintenance.checkpoint().map_err(Error::Storage)?;
        inner.maintenance.checkpoint().map_err(Error::Storage)?;
        let bytes = 2 * inner.shard().lock().checkpoint_bytes();
        let pause_ms = (1000 * bytes / CHECKPOINT_BYTES_A_SECOND) as i64;
        *not_before_ms = inner.monotonic_ms().saturating_add(pause_ms);
    }
    inner.reader.read().close_unread();
    let cleaner = inner.shard().lock().cleaner();
    let Some(cleaner) = cleaner else { return Ok(Cleaned::default()) };
    let now_ms = inner.log_ms();
    let trimmed = trim(inner, cleaner.due_trims(now_ms))?;
    let (compacted, failed) = compact(inner, &cleaner, now_ms, topics);
    if !trimmed.is_empty() || !compacted.is_empty() || cleaner.has_trimmed_segments() {
        inner.maintenance.free().map_err(Error::Storage)?;
    }
    failed.map_or(Ok(Cleaned { trimmed, compacted }), |error| Err(Error::Storage(error)))
}

/// Whether there is something old that isn't seen yet: it lies in the journal alone, or no two checkpoints of this open
/// have it.
fn gains_by_checkpoints(inner: &Inner) -> bool {
    let (cleaner, prospect) = {
        let shard = inner.shard().lock();
        (shard.cleaner(), shard.prospect())
    };
    let now_ms = inner.log_ms();
    let limit = |partition| inner.views.lock().limit(partition);
    let occasion = Occasion { limit: &limit, ..Occasion::at(now_ms) };
    let due = |cleaner: &Cleaner| (cleaner.due_trims(now_ms), cleaner.due_compactions(&occasion));
    let seen = cleaner.map_or_else(Default::default, |cleaner| due(&cleaner));
    prospect.has_old_in_journal(now_ms) || due(&prospect) != seen
}

/// What can't be compacted keeps no other partition from it, nor files from being removed: the first error is told at
/// the end.
fn compact(
    inner: &Inner,
    cleaner: &Cleaner,
    now_ms: i64,
    topics: &BTreeSet<TopicId>,
) -> (Vec<Compacted>, Option<StorageError>) {
    let limit = |partition| inner.views.lock().limit(partition);
    let goes_on = || !inner.closed.load(Ordering::Acquire);
    let plain = Occasion { limit: &limit, goes_on: &goes_on, ..Occasion::at(now_ms) };
    let asked = Occasion { asked: true, ..plain };
    let mut due = cleaner.due_compactions(&plain);
    if !topics.is_empty() {
        let of_topics = cleaner.due_compactions(&asked).into_iter();
        due.extend(of_topics.filter(|due| topics.contains(&due.partition.topic)));
    }
    due.sort_unstable_by_key(|due| due.partition);
    due.dedup_by_key(|due| due.partition);
    let (mut compacted, mut failed) = (Vec::new(), None);
    for DueCompaction { partition, .. } in due {
        let occasion = if topics.contains(&partition.topic) { &asked } else { &plain };
        match cleaner.compact(partition, occasion) {
            Ok(done) => compacted.extend(done),
            Err(error) => {
                tracing::warn!(%partition, %error, "not compacted; what was there stays");
                failed = failed.or(Some(error));
            }
        }
    }
    (compacted, failed)
}

/// Submits them all before it waits for the first, so that they share a sync.
fn trim(inner: &Inner, due: Vec<(Partition, u64)>) -> Result<Vec<(Partition, u64)>, Error> {
    let submit = |(partition, start)| {
        let command = Command::Trim { partition, start };
        inner.submit(command, None, None, Queue::push)
    };
    let submitted: Vec<(Partition, Arc<Answer>)> = due
        .into_iter()
        .map(|(partition, start)| Ok((partition, submit((partition, start))?)))
        .collect::<Result<_, Error>>()?;
    let mut trimmed = Vec::new();
    for (partition, answer) in submitted {
        match answer.wait() {
            Ok(applied) => {
                if let Reply::Trimmed { start_offset } = applied.reply {
                    tracing::info!(%partition, start_offset, "retention raised the start");
                    trimmed.push((partition, start_offset));
                }
            }
            // The topic was deleted, or its settings changed, in between.
            Err(Error::Refused(refusal)) => tracing::debug!(%partition, %refusal, "not trimmed"),
            Err(error) => return Err(error.clone()),
        }
    }
    Ok(trimmed)
}

impl Inner {
    /// The stamp that a command would get now, ms since 1970.
    pub(crate) fn log_ms(&self) -> i64 {
        let mut ahead = *self.stamper.lock();
        ahead.stamp(self.monotonic_ms(), self.clock.wall_ms())
    }
}
