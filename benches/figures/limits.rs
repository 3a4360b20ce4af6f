//! The probes of the machine.

use crate::report::{Report, Survives, latency_text};
use crate::setup::{GIB, MIB, Measures, Result};
use exactlog_benches::probe::{self, SyncProbe};
use exactlog_benches::samples::Summary;
use std::time::Duration;

/// What the machine could do just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// 4 KiB into a zeroed file, and `fdatasync`.
    pub(crate) sync: Summary,
    /// `write(2)`, in bytes per second.
    pub(crate) write_rate: f64,
    /// Large writes with a sync after each 4 MiB, in bytes per second.
    pub(crate) drain_rate: f64,
    /// From memory to memory, in bytes per second.
    pub(crate) copy_rate: f64,
    /// Waking a parked thread.
    pub(crate) wake_up: Summary,
}

impl Limits {
    /// Measures and reports them.
    pub(crate) fn measure(measures: &Measures, report: &mut Report) -> Result<Limits> {
        let directory = &measures.directory;
        let limits = Limits {
            sync: SyncProbe::new(directory)?.samples(measures.pick(3000, 300))?.summary(),
            write_rate: probe::write_rate(directory, measures.pick(GIB, 256 * MIB))?,
            drain_rate: probe::drain_rate(directory, measures.pick(GIB, 256 * MIB))?,
            copy_rate: probe::copy_rate(),
            wake_up: probe::wake_up(measures.pick(3000, 300)),
        };
        report.section("probes of the machine");
        let mut row = |name, text: String| report.row(name, Survives::NotSaid, &text, "");
        row("overwrite 4 KiB of a zeroed file, fdatasync", latency_text(&limits.sync));
        row("write(2) in 64 KiB pieces, not synced", rate_text(limits.write_rate));
        row("overwrite in 1 MiB pieces, fdatasync after each 4 MiB", rate_text(limits.drain_rate));
        row("copy 256 MiB in memory", rate_text(limits.copy_rate));
        row("wake a parked thread", latency_text(&limits.wake_up));
        Ok(limits)
    }

    /// How much longer than a bare wake-up something takes, at the median.
    pub(crate) fn beside_wake_up(&self, duration: Duration) -> String {
        format!("{:.2} × wake-up", duration.as_secs_f64() / self.wake_up.p50.as_secs_f64())
    }
}

/// Runs something long between two halves of a probe of the bare sync.
pub(crate) fn beside_sync<T>(measures: &Measures, work: impl FnOnce() -> Result<T>) -> Result<(T, Summary)> {
    let half = measures.pick(1000, 100);
    let mut probe = SyncProbe::new(&measures.directory)?;
    let mut samples = probe.samples(half)?;
    let result = work()?;
    samples.extend(probe.samples(half)?);
    Ok((result, samples.summary()))
}

/// How much longer than the bare syncs around it something takes, at the median.
pub(crate) fn to_sync(duration: Duration, sync: &Summary) -> String {
    let ratio = duration.as_secs_f64() / sync.p50.as_secs_f64();
    format!("{ratio:.2} × fdatasync ({} at the time)", latency_text(sync))
}

/// `1.87 GB/s`.
pub(crate) fn rate_text(bytes_per_second: f64) -> String {
    format!("{:.2} GB/s", bytes_per_second / 1e9)
}
