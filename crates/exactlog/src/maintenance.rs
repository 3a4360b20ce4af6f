//! The second thread: prepares journal files, moves ids of events to disk, writes segments behind the journal, makes
//! checkpoints.
//!
//! It is lazy: nothing is written twice before the journal has grown by a good part, so a burst costs one write.
//!
//! ```text
//!   kicked -> a spare journal file, zeroed -> many ids in memory? into runs
//!          -> much since the last checkpoint? flush -> picture -> write it -> recycle
//! ```

use crate::log::Inner;
use exactlog_storage::behind::{self, Extent, Owned};
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::Shard;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long nothing is tried again on a full disk, though everybody who writes asks for it.
const PAUSE_OF_A_FULL_DISK: Duration = Duration::from_millis(20);

/// How it is asked, and how it went.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    requests: Mutex<Requests>,
    wake: Condvar,
    /// A round ended.
    done: Condvar,
    /// Held during a round. Taken before the lock of the shard.
    running: Mutex<()>,
}

#[derive(Debug, Default)]
struct Requests {
    kicked: bool,
    /// The next round makes a checkpoint, also if none is due.
    forced: bool,
    /// The next round makes checkpoints until what isn't needed any more is removed.
    freeing: bool,
    /// A round runs.
    busy: bool,
    closing: bool,
    rounds: u64,
    failure: Option<StorageError>,
}

impl Maintenance {
    /// Asks for a round.
    pub(crate) fn kick(&self) {
        self.requests.lock().kicked = true;
        self.wake.notify_one();
    }

    /// Waits for the round that runs, and keeps the next one from beginning while the guard lives.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.running.lock()
    }

    /// Ends the thread after the round that runs.
    pub(crate) fn close(&self) {
        self.requests.lock().closing = true;
        self.wake.notify_one();
        self.done.notify_all();
    }

    /// Asks for a round and waits until one has ended: the reason if it failed.
    pub(crate) fn round(&self) -> Result<(), StorageError> {
        self.round_with(false)
    }

    /// Asks for a round and waits until one has ended, be it the one that runs: whether it ended well.
    pub(crate) fn any_round(&self) -> bool {
        let requests = self.behind(false, |_| 1);
        requests.failure.is_none() && !requests.closing
    }

    /// As [`round`](Maintenance::round), with a checkpoint in any case.
    pub(crate) fn checkpoint(&self) -> Result<(), StorageError> {
        self.round_with(true)
    }

    /// As [`round`](Maintenance::round), with as many checkpoints as it takes to remove files that aren't needed.
    pub(crate) fn free(&self) -> Result<(), StorageError> {
        self.requests.lock().freeing = true;
        self.round_with(true)
    }

    /// Asks for a round and waits until so many have ended, or none will any more.
    fn behind(&self, forced: bool, rounds: impl FnOnce(&Requests) -> u64) -> MutexGuard<'_, Requests> {
        let mut requests = self.requests.lock();
        requests.kicked = true;
        requests.forced |= forced;
        self.wake.notify_one();
        let until = requests.rounds + rounds(&requests);
        while requests.rounds < until && !requests.closing {
            self.done.wait_for(&mut requests, Duration::from_millis(100));
        }
        requests
    }

    fn round_with(&self, forced: bool) -> Result<(), StorageError> {
        // A round that runs began before what made this one necessary: how it ends says nothing.
        let requests = self.behind(forced, |requests| 1 + u64::from(requests.busy));
        requests.failure.clone().map_or(Ok(()), Err)
    }
}

/// Runs until it is closed.
pub(crate) fn run(inner: &Inner) {
    loop {
        let (forced, freeing) = {
            let mut requests = inner.maintenance.requests.lock();
            while !requests.kicked && !requests.closing {
                inner.maintenance.wake.wait(&mut requests);
            }
            if requests.closing {
                return;
            }
            requests.kicked = false;
            requests.busy = true;
            (std::mem::take(&mut requests.forced), std::mem::take(&mut requests.freeing))
        };
        if freeing {
            inner.shard().lock().note_freeable();
        }
        let failure = {
            let _running = inner.maintenance.running.lock();
            // A panic is a bug of ours. The thread stays, since the writer may come to wait for it.
            let ended = catch_unwind(AssertUnwindSafe(|| round(inner, forced)));
            let panicked = || StorageError::Poisoned { reason: "writing behind panicked".into() };
            ended.unwrap_or_else(|_| Err(panicked())).err()
        };
        if let Some(error) = &failure {
            tracing::warn!(%error, "writing behind failed; nothing is lost, the journal keeps it");
            note_failure(inner);
        }
        let is_full = inner.shard().lock().is_short();
        let mut requests = inner.maintenance.requests.lock();
        requests.rounds += 1;
        requests.busy = false;
        requests.failure = failure;
        inner.maintenance.done.notify_all();
        let until = Instant::now() + PAUSE_OF_A_FULL_DISK;
        while is_full
            && !requests.closing
            && !inner.maintenance.wake.wait_until(&mut requests, until).timed_out()
        {}
    }
}

/// What fails here may have been the journal: then everybody has to know.
pub(crate) fn note_failure(inner: &Inner) {
    let failed = {
        let shard = inner.shard().lock();
        let failed = shard.failure().is_some();
        inner.failed.fetch_or(failed, Ordering::AcqRel);
        failed
    };
    if failed {
        inner.signals.ring_all();
    }
}

fn round(inner: &Inner, forced: bool) -> Result<(), StorageError> {
    let (spares, wanted, due) = {
        let shard = inner.shard().lock();
        if shard.failure().is_some() {
            return Ok(());
        }
        (shard.journal().spares(), shard.wants_spare(), shard.wants_checkpoint())
    };
    spares.remove_unfinished()?;
    if wanted {
        // Without a spare the next file is allocated when it is needed: slower, not wrong. Who writes is told that the
        // disk is full.
        if let Err(error) = spares.prepare() {
            tracing::warn!(%error, "no journal file could be prepared");
        }
    }
    roll(inner);
    match (forced, due) {
        (true, _) => behind::rounds(&mut inner.shard(), Extent::Whole),
        (false, true) => behind::rounds(&mut inner.shard(), Extent::Due),
        (false, false) => Ok(()),
    }
}

/// Moves ids of events from memory into runs, and merges runs. What can't be written stays in memory, and is tried
/// again when there are more: nobody has to wait for that, or hear of it.
fn roll(inner: &Inner) {
    /// So many in a round: then there may be something that others wait for.
    const RUNS_MAX: usize = 16;
    for _ in 0..RUNS_MAX {
        match behind::roll(&mut inner.shard()) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "ids of events stay in memory: no run could be written");
                return note_failure(inner);
            }
        }
    }
    inner.maintenance.kick();
}

/// The checkpoint at close: then the next open has nothing to replay.
pub(crate) fn at_close(shard: &mut Shard) -> Result<(), StorageError> {
    /// Below this many bytes replaying is faster than anything else.
    const REPLAY_BYTES: u64 = 1024 * 1024;
    /// More batches than this go to segments first, instead of into the checkpoint.
    const PLACED_MAX: usize = 100_000;
    if shard.wants_checkpoint() {
        behind::rounds(&mut Owned(shard), Extent::Whole)?;
    }
    if shard.bytes_since_checkpoint() < REPLAY_BYTES {
        return Ok(());
    }
    if shard.unflushed_batches() > PLACED_MAX {
        return shard.checkpoint();
    }
    let image = shard.checkpoint_image()?;
    let kept = shard.flusher().write(&image)?;
    shard.keep_checkpoint(kept)
}
