//! Many callers at a time: a thread for each, or a task for each on one runtime thread.

use crate::setup::{Measures, Result};
use exactlog_benches::probe::SyncProbe;
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

/// One caller on this thread, in turns with the bare sync: a disk that others use changes within a second, and so both
/// meet the same one. `work` goes on for as long as it is told.
pub(crate) fn alone(
    measures: &Measures,
    mut work: impl FnMut(Duration) -> Result<Samples>,
) -> Result<(Calls, Summary)> {
    const TURNS: u32 = 20;
    let mut probe = SyncProbe::new(&measures.directory)?;
    let (mut calls, mut syncs, mut elapsed) = (Samples::default(), Samples::default(), Duration::ZERO);
    for _ in 0..TURNS {
        syncs.extend(probe.samples(measures.pick(100, 10))?);
        let began = Instant::now();
        calls.extend(work(measures.period() / TURNS)?);
        elapsed += began.elapsed();
    }
    Ok((Calls { latency: calls.summary(), elapsed }, syncs.summary()))
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
