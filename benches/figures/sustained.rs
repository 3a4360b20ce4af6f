//! More than the journal may hold: everything is written twice meanwhile, and the journal keeps its bound.

use crate::burst::{self, PARTITIONS};
use crate::limits::Limits;
use crate::report::{Report, Survives};
use crate::setup::{self, GIB, JOURNAL_FILE_BYTES, Measures, Result, Ring};
use exactlog::{Durability, Log, TopicOptions};
use exactlog_benches::samples::{bytes_text, duration_text};
use exactlog_benches::value::Values;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The journal's bound, the default of the log.
const RING_BYTES: u64 = GIB;

/// A sustained run for each size of value.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section(
        "sustained, one thread, 8 partitions, default settings, everything written behind meanwhile",
    );
    let bytes = measures.pick(5 * GIB, GIB + GIB / 2);
    for value_bytes in [100, 1024] {
        let directory = measures.fresh()?;
        let log = setup::open(directory.path(), Durability::Fsync, Ring::Default, bytes)?;
        let topic = log.create_topic("sustained", TopicOptions::default().partitions(PARTITIONS))?;
        let producer = log.producer("sustained")?;
        let mut values = Values::new(value_bytes);
        let (burst, most) =
            watched(&log, directory.path(), || burst::tickets(&producer, &topic, &mut values, bytes, &[]));
        let (burst, written) = (burst?, Instant::now());
        setup::settle(&log);
        let share = burst.rate() * value_bytes as f64 / limits.drain_rate;
        report.row(
            &format!("{value_bytes} B: tickets, {} of values", bytes_text(bytes)),
            Survives::PowerLoss,
            &format!("{}, max {}", burst.text(), duration_text(burst.latency.max)),
            &format!(
                "{share:.2} of synced writes; written behind {:.1} s later",
                written.elapsed().as_secs_f64()
            ),
        );
        report.row(
            &format!("{value_bytes} B: most space of the journal meanwhile"),
            Survives::PowerLoss,
            &format!(
                "{} in use, {} with spare files",
                bytes_text(most.journal_bytes),
                bytes_text(most.directory_bytes)
            ),
            &most.bound_text(),
        );
    }
    Ok(())
}

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Most {
    journal_bytes: u64,
    directory_bytes: u64,
}

impl Most {
    fn bound_text(&self) -> String {
        let excess = self.journal_bytes.saturating_sub(RING_BYTES) / JOURNAL_FILE_BYTES;
        match self.journal_bytes > RING_BYTES {
            false => format!("within the {} of journal_ring_bytes", bytes_text(RING_BYTES)),
            true => format!("{excess} files above the {} of journal_ring_bytes", bytes_text(RING_BYTES)),
        }
    }
}

/// Runs something and looks at the journal meanwhile.
fn watched<T>(log: &Log, directory: &Path, work: impl FnOnce() -> T) -> (T, Most) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = Most::default();
            while !done.load(Ordering::Acquire) {
                most.journal_bytes = most.journal_bytes.max(log.metrics().journal_bytes);
                most.directory_bytes = most.directory_bytes.max(directory_bytes(&directory.join("journal")));
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let result = work();
        done.store(true, Ordering::Release);
        (result, watcher.join().unwrap_or_default())
    })
}

/// Length of all files of a directory. One that vanishes meanwhile doesn't count.
fn directory_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
