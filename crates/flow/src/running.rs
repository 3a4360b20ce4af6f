//! A processor that runs: what it is told, and what it tells.

use crate::counts::Counts;
use crate::error::Error;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// What a processor is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    Pause,
    Stop,
}

/// Counters and gauges of a processor, as of one moment. Counters start at 0 with each start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Records by how they ended, and attempts (`exactlog_processed_total`, `exactlog_retry_total`).
    pub counts: Counts,
    /// Records that wait until they are tried again (`exactlog_retry_parked`).
    pub parked: u64,
    /// Records that wait behind such (`exactlog_retry_blocked`).
    pub blocked: u64,
    /// Records that could not be tried yet.
    pub held: u64,
    /// How long the oldest one that failed has waited, in ms (`exactlog_retry_oldest_seconds`).
    pub oldest_waiting_ms: u64,
    /// Commits.
    pub commits: u64,
    /// Commits that were refused, and made anew.
    pub refused: u64,
    /// How often the group had gone on without this processor.
    pub fenced: u64,
    /// Records that were trimmed before they were read.
    pub lost: u64,
    /// Time from the first handler of a round to the end of the last one, together, in microseconds.
    pub handled_us: u64,
}

/// What the loop and its handle share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    metrics: Mutex<Metrics>,
    changed: Notify,
}

impl Shared {
    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.lock().clone()
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut Metrics)) {
        update(&mut self.metrics.lock());
        self.changed.notify_waiters();
    }
}

/// A processor that runs. Dropping it stops the processor behind the round that it is in.
#[derive(Debug)]
#[must_use = "dropped, the processor stops"]
pub struct Running {
    orders: watch::Sender<Order>,
    shared: Arc<Shared>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) fn new(
        orders: watch::Sender<Order>,
        shared: Arc<Shared>,
        task: JoinHandle<Result<(), Error>>,
    ) -> Running {
        Running { orders, shared, task }
    }

    /// Reads and tries nothing more until [`resume`](Running::resume). It keeps its partitions.
    pub fn pause(&self) {
        self.tell(Order::Pause);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.tell(Order::Run);
    }

    /// Its counters.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Waits until this is true of its counters. It is asked whenever they change, and no clock is: good for tests.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the processor ends before; [`ended`](Running::ended) says why.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn until(&self, mut is_so: impl FnMut(&Metrics) -> bool) -> Result<Metrics, Error> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let metrics = self.metrics();
            if is_so(&metrics) {
                return Ok(metrics);
            }
            if self.task.is_finished() {
                return Err(Error::Aborted);
            }
            changed.await;
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Finishes the events that are being processed, commits them, and leaves the group. What waits is in the log, and
    /// goes on with the next start.
    ///
    /// # Errors
    /// Why it had ended before.
    ///
    /// # Cancel safety
    /// Dropped while it waits the processor stops all the same.
    pub async fn stop(self) -> Result<(), Error> {
        self.tell(Order::Stop);
        self.ended().await
    }

    /// Waits until it ends by itself: the log was closed, or there was an error.
    ///
    /// # Errors
    /// Why it ended.
    ///
    /// # Cancel safety
    /// Dropped while it waits the processor stops.
    pub async fn ended(mut self) -> Result<(), Error> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => Err(Error::Aborted),
        }
    }

    /// One that is told to stop isn't told anything else.
    fn tell(&self, order: Order) {
        self.orders.send_if_modified(|current| {
            let is_new = *current != Order::Stop && *current != order;
            if is_new {
                *current = order;
            }
            is_new
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell(Order::Stop);
    }
}
