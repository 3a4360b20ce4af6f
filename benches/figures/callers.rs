//! Many callers at a time: a thread for each, or a task for each on one runtime thread.

use crate::setup::Result;
use exactlog_benches::samples::{Samples, Summary};
use std::time::{Duration, Instant};

/// What all callers together did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    /// Of all calls.
    pub(crate) latency: Summary,
    /// From the first call to the end of the last.
    pub(crate) elapsed: Duration,
}

impl Calls {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latency.count as f64 / self.elapsed.as_secs_f64()
    }

    fn of(all: Vec<Result<Samples>>, began: Instant) -> Result<Calls> {
        let elapsed = began.elapsed();
        let mut samples = Samples::default();
        for part in all {
            samples.extend(part?);
        }
        Ok(Calls { latency: samples.summary(), elapsed })
    }
}

/// Runs each on a thread of its own.
pub(crate) fn threads<W>(work: impl IntoIterator<Item = W>) -> Result<Calls>
where
    W: FnOnce() -> Result<Samples> + Send,
{
    let began = Instant::now();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = work.into_iter().map(|work| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    Calls::of(all, began)
}

/// Runs all as tasks of one runtime thread.
pub(crate) fn tasks<W>(work: impl IntoIterator<Item = W>) -> Result<Calls>
where
    W: Future<Output = Result<Samples>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let began = Instant::now();
    let tasks: Vec<_> = work.into_iter().map(|work| runtime.spawn(work)).collect();
    let all = runtime.block_on(async {
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap_or_else(|error| Err(error.into())));
        }
        all
    });
    Calls::of(all, began)
}
