//! What the log counts: plain numbers, read at any time.

use exactlog_storage::runs::RunStats;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Counters and gauges of an open log, as of one moment. Counters start at 0 with each open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Records that became part of the log.
    pub records_in: u64,
    /// Bytes of the batches that carried them.
    pub bytes_in: u64,
    /// Commands applied, refused ones included.
    pub commands: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Appends that were answered with the place of an earlier one.
    pub duplicates: u64,
    /// Embedded transactions that were committed.
    pub commits: u64,
    /// Events and commands that met an id which was seen before (`dedup_hits_total`).
    pub dedup_hits: u64,
    /// Reservations that were released before they were finished (`dedup_released_total`).
    pub dedup_released: u64,
    /// Ids that are remembered as seen (`dedup_entries`).
    pub dedup_entries: u64,
    /// Ids that are reserved.
    pub dedup_reserved: u64,
    /// How long back every id is known, in ms: `dedup.ttl.ms`, or less if marks were given up at the cap.
    pub dedup_window_ms: u64,
    /// Committed offsets that nobody used and that were forgotten (`offsets_expired_total`).
    pub offsets_expired: u64,
    /// Groups written to the journal: commands per group is what a sync is shared by.
    pub groups: u64,
    /// Time spent in writing and syncing groups and applying them, in microseconds.
    pub group_us: u64,
    /// Position of the last command.
    pub lsn: u64,
    /// Position up to which everything is on disk.
    pub durable_lsn: u64,
    /// Bytes waiting to be written.
    pub queue_bytes: u64,
    /// Bytes of recent batches in memory.
    pub tail_cache_bytes: u64,
    /// Bytes that journal files take.
    pub journal_bytes: u64,
    /// Batches that are only in the journal so far.
    pub unflushed_batches: u64,
    /// Wire transactions that are open. Embedded ones never are.
    pub open_transactions: u64,
    /// When the oldest of them began, in ms since 1970: it holds back the readers of its partitions.
    pub oldest_transaction_ms: Option<i64>,
    /// Whether writing ended by a failure.
    pub failed: bool,
    /// Whether a step of the wall clock waits for `accept_time`.
    pub clock_held: bool,
    /// Events that wait for their time.
    pub timers: TimerMetrics,
    /// Tables.
    pub tables: u64,
    /// Keys of all tables together.
    pub table_keys: u64,
    /// Where ids that were seen are kept.
    pub dedup: DedupMetrics,
}

/// Counters and gauges of ids of events that were seen. Counters start at 0 with each open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DedupMetrics {
    /// Ids in memory (`exactlog_dedup_memory_entries`); the others are in runs.
    pub in_memory: u64,
    /// Sorted files that have the others (`exactlog_dedup_runs`).
    pub runs: u64,
    /// What these take on disk, in bytes (`exactlog_dedup_run_bytes`).
    pub run_bytes: u64,
    /// What their filters and indexes take in memory, in bytes.
    pub run_memory_bytes: u64,
    /// Ids that were looked for in runs (`exactlog_dedup_lookups_total`).
    pub look_ups: u64,
    /// Blocks that were read for that.
    pub reads: u64,
    /// Of these, blocks that a filter has named for nothing (`exactlog_dedup_false_positives_total`).
    pub false_positives: u64,
    /// Every id that was seen behind this time is known until its own time is over, ms since 1970
    /// (`exactlog_dedup_complete_since`); none: no id was ever given up early.
    pub complete_since_ms: Option<i64>,
}

impl DedupMetrics {
    pub(crate) fn of(runs: &RunStats) -> DedupMetrics {
        DedupMetrics {
            runs: runs.runs,
            run_bytes: runs.file_bytes,
            run_memory_bytes: runs.memory_bytes,
            look_ups: runs.look_ups,
            reads: runs.reads,
            false_positives: runs.needless_reads,
            ..DedupMetrics::default()
        }
    }
}

/// Counters and gauges of timers. Counters start at 0 with each open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerMetrics {
    /// Timers that wait for their time (`exactlog_timers`).
    pub waiting: u64,
    /// Timers whose event can't go where it was to go.
    pub stuck: u64,
    /// Timers whose event couldn't be read when it was due, and that are tried again.
    pub unreadable: u64,
    /// Timers that have fired.
    pub fired: u64,
    /// How much later than they were due these have fired, together, in ms (`exactlog_timer_lateness_seconds`).
    pub lateness_ms: u64,
    /// The most of one of them.
    pub lateness_max_ms: u64,
}

/// The counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) dedup_hits: AtomicU64,
    pub(crate) dedup_released: AtomicU64,
    pub(crate) offsets_expired: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) group_us: AtomicU64,
    pub(crate) clock_held: AtomicBool,
    /// Since when all ids are known, as it was said last, ms since 1970; 0: it never was.
    pub(crate) dedup_since_said: AtomicI64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Metrics {
        Metrics {
            records_in: read(&self.records_in),
            bytes_in: read(&self.bytes_in),
            commands: read(&self.commands),
            refused: read(&self.refused),
            duplicates: read(&self.duplicates),
            commits: read(&self.commits),
            dedup_hits: read(&self.dedup_hits),
            dedup_released: read(&self.dedup_released),
            offsets_expired: read(&self.offsets_expired),
            groups: read(&self.groups),
            group_us: read(&self.group_us),
            clock_held: self.clock_held.load(Ordering::Relaxed),
            ..Metrics::default()
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

/// What a counter says.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
