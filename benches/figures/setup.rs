//! Amounts, directories and logs that the sections use.

use exactlog::{Durability, Log};
use exactlog::{Event, Producer, Topic};
use exactlog_benches::value::Values;
pub(crate) use exactlog_benches::warm::{JOURNAL_FILE_BYTES, settle};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The error is printed and ends the program: half a table is worse than none.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// How much is measured, and where.
#[derive(Clone, Debug)]
pub(crate) struct Measures {
    pub(crate) directory: PathBuf,
    pub(crate) quick: bool,
}

impl Measures {
    /// One amount or the other.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Bytes of values in a burst.
    pub(crate) fn burst_bytes(&self) -> u64 {
        self.pick(GIB, 128 * MIB)
    }

    /// How long something is repeated whose rate is wanted.
    pub(crate) fn period(&self) -> Duration {
        self.pick(Duration::from_secs(5), Duration::from_secs(1))
    }

    /// A new directory, which is removed when it is dropped.
    pub(crate) fn fresh(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.directory)?)
    }
}

/// How a log is set up for a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// As `Log::open` does it: 1 GiB of journal, written behind from 128 MiB on.
    Default,
    /// Large enough for the burst to go to the journal alone; it is written behind afterwards.
    HoldsTheBurst,
}

/// Opens a log for bursts of this many bytes.
pub(crate) fn open(directory: &Path, durability: Durability, ring: Ring, burst_bytes: u64) -> Result<Log> {
    let builder = Log::builder().durability(durability);
    let builder = match ring {
        Ring::Default => builder,
        Ring::HoldsTheBurst => {
            builder.journal_ring_bytes(ring_bytes(burst_bytes)).checkpoint_bytes(2 * ring_bytes(burst_bytes))
        }
    };
    Ok(builder.open(directory)?)
}

/// From half of the ring on the log writes behind: one half holds the burst, its overhead and what is left of before.
pub(crate) fn ring_bytes(burst_bytes: u64) -> u64 {
    (3 * burst_bytes).max(12 * JOURNAL_FILE_BYTES)
}

/// Writes until the journal's files have been used, and has them given up: the next burst finds them zeroed and warm,
/// and the journal nearly empty.
pub(crate) fn warm_up(log: &Log, topic: &Topic, producer: &Producer, ring_bytes: u64) -> Result<()> {
    let mut values = Values::new(1024);
    let before = log.metrics().bytes_in;
    while log.metrics().journal_bytes <= ring_bytes / 2 && log.metrics().bytes_in < before + ring_bytes {
        let mut last = None;
        for _ in 0..JOURNAL_FILE_BYTES / 1024 {
            last = Some(producer.blocking_submit(topic, Event::unkeyed(values.take()))?);
        }
        last.map(|ticket| ticket.wait()).transpose()?;
    }
    // Files go with the second checkpoint behind them.
    log.checkpoint()?;
    log.checkpoint()?;
    Ok(())
}
