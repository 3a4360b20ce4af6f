//! How long opening takes: after a close, and after a kill with much to replay.

use crate::burst::{self, PARTITIONS};
use crate::child;
use crate::limits::{Limits, rate_text};
use crate::report::{Report, Survives};
use crate::setup::{self, GIB, MIB, Measures, Result, Ring};
use exactlog::{Durability, Log, RecoveryReport, TopicOptions};
use exactlog_benches::samples::{Samples, bytes_text, duration_text};
use exactlog_benches::value::Values;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often each is repeated; the median counts.
const TIMES: usize = 5;

/// Clean first, then both durabilities after a kill.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("open, median of 5, warm page cache");
    clean(measures, report)?;
    for name in ["fsync", "os"] {
        killed(measures, limits, report, name)?;
    }
    Ok(())
}

fn clean(measures: &Measures, report: &mut Report) -> Result<()> {
    let bytes = measures.pick(GIB, 256 * MIB);
    let directory = measures.fresh()?;
    let log = setup::open(directory.path(), Durability::Fsync, Ring::Default, bytes)?;
    let topic = log.create_topic("written", TopicOptions::default().partitions(PARTITIONS))?;
    let producer = log.producer("written")?;
    let burst = burst::tickets(&producer, &topic, &mut Values::new(1024), bytes, &[])?;
    drop(producer);
    log.close()?;
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        let (log, elapsed) = timed_open(directory.path(), Durability::Fsync)?;
        samples.push(elapsed);
        check(&log, burst.records)?;
        log.close()?;
    }
    let median = samples.summary().p50;
    let figure = format!("closed log of {}", bytes_text(bytes));
    report.row(&figure, Survives::PowerLoss, &duration_text(median), "");
    Ok(())
}

fn killed(measures: &Measures, limits: &Limits, report: &mut Report, name: &str) -> Result<()> {
    let bytes = measures.pick(256 * MIB, 64 * MIB);
    let written = measures.fresh()?;
    let path = written.path().to_str().ok_or("the directory's name isn't UTF-8")?;
    let ended = child::output(&["written", path, name, &bytes.to_string()])?;
    if ended.status.code().is_some() {
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(format!("the writer was to be killed, it ended with {}: {said}", ended.status).into());
    }
    let mut samples = Samples::default();
    let mut found = RecoveryReport::default();
    for _ in 0..TIMES {
        // Opening writes; each time begins with what the killed process has left.
        let copy = measures.fresh()?;
        copy_tree(written.path(), copy.path())?;
        let (log, elapsed) = timed_open(copy.path(), child::durability(name)?)?;
        samples.push(elapsed);
        check(&log, bytes / 1024)?;
        found = log.recovery().clone();
    }
    if found.clean || found.replayed_commands == 0 {
        return Err(format!("nothing was replayed: {found:?}").into());
    }
    let median = samples.summary().p50;
    let (survives, what) = match child::durability(name)? {
        Durability::Fsync => (Survives::PowerLoss, "durable"),
        Durability::Os | Durability::Interval(_) => {
            (Survives::Kill, "page cache; what wasn't synced is synced first")
        }
    };
    let rate = bytes as f64 / median.as_secs_f64();
    let figure = format!("killed with {} to replay, {what}", bytes_text(bytes));
    let measured = format!("{}, {} commands", duration_text(median), found.replayed_commands);
    let compared = format!("{}, {:.2} of synced writes", rate_text(rate), rate / limits.drain_rate);
    report.row(&figure, survives, &measured, &compared);
    Ok(())
}

fn timed_open(directory: &Path, durability: Durability) -> Result<(Log, Duration)> {
    let began = Instant::now();
    let log = Log::builder().durability(durability).open(directory)?;
    Ok((log, began.elapsed()))
}

fn check(log: &Log, records: u64) -> Result<()> {
    let topic = log.open_topic("written")?;
    let mut found = 0;
    for partition in 0..topic.partitions() {
        let (start, end) = log.bounds(&topic, partition)?;
        found += end - start;
    }
    if found == records { Ok(()) } else { Err(format!("{found} of {records} records are there").into()) }
}

/// Copies and syncs, so that opening doesn't wait for the copy to reach the disk.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(File::open(to)?.sync_all()?)
}
