//! Writing behind: what the journal holds becomes segments, so that its files can be given up.
//!
//! ```text
//!   placements (index) -> read back from the journal -> segments -> sync -> the index forgets the placements
//! ```
//!
//! One thread flushes at a time. Readers and the writer go on meanwhile.
//!
//! Invariants
//!   * a batch leaves the index only after it is durable in a segment and can be read there
//!   * a failed write of a segment loses nothing: the batches since its last good sync come from the journal again
//!   * what was trimmed before it was flushed never reaches a segment

use crate::disk::Disk;
use crate::error::StorageError;
use crate::index::{Index, Reader};
use crate::segment::{Ends, Options, PartitionLog, SegmentReader, SegmentSet};
use exactlog_core::ids::Partition;
use exactlog_core::state::State;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Directory of the segments of all topics.
pub const TOPICS_DIR: &str = "topics";

/// How much is read back and appended before the next look at the index, in bytes.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// How much is taken over from another log before a sync, in bytes: full segments hold their files open until then.
const UNSYNCED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The segments of all partitions; opened one by one when they are needed.
#[derive(Debug)]
pub struct Segments {
    disk: Arc<dyn Disk>,
    logs: Mutex<BTreeMap<Partition, Arc<Log>>>,
}

#[derive(Debug)]
struct Log {
    /// How far the checkpoint says they go, and when they are full.
    ends: Ends,
    options: Options,
    opened: Mutex<Option<PartitionLog>>,
    reader: RwLock<Option<SegmentReader>>,
}

impl Segments {
    /// Segments on a disk, none known yet.
    pub fn new(disk: Arc<dyn Disk>) -> Segments {
        Segments { disk, logs: Mutex::default() }
    }

    /// Makes a partition known, with the ends that a checkpoint keeps.
    pub(crate) fn restore(&self, partition: Partition, ends: Ends, options: Options) {
        let log = Log { ends, options, opened: Mutex::new(None), reader: RwLock::new(None) };
        self.logs.lock().insert(partition, Arc::new(log));
    }

    /// What can be read of a partition's segments.
    pub(crate) fn set(&self, partition: Partition) -> Result<Arc<SegmentSet>, StorageError> {
        let log = self.log(partition, Options::default);
        if let Some(reader) = &*log.reader.read() {
            return Ok(reader.current());
        }
        self.with(partition, &log, |opened| Ok(opened.readable()))
    }

    /// How far a partition's segments are durable.
    pub(crate) fn ends(&self, partition: Partition) -> Ends {
        let log = self.logs.lock().get(&partition).cloned();
        log.map_or_else(Ends::default, |log| match &*log.opened.lock() {
            Some(opened) => opened.ends(),
            None => log.ends.clone(),
        })
    }

    /// Brings a partition's segments up to the end of another log's, batch by batch, each checked; how far they are
    /// durable then. What the last checkpoint names isn't touched: what is missing is written behind it.
    ///
    /// # Errors
    /// A batch that is damaged there, or a failed write here: the segments may be ahead of their index then, so
    /// the log has to be opened again.
    pub(crate) fn take_over(
        &self,
        partition: Partition,
        options: Options,
        from: &SegmentSet,
    ) -> Result<Ends, StorageError> {
        let log = self.log(partition, || options);
        self.with(partition, &log, |opened| {
            let mut unsynced_bytes = 0;
            while opened.next_offset() < from.end_offset() {
                let batches = from.read(opened.next_offset(), STEP_BYTES)?;
                for batch in &batches {
                    opened.skip_to(batch.base_offset())?;
                    opened.append(batch)?;
                    unsynced_bytes += batch.len_bytes();
                }
                if batches.is_empty() {
                    opened.skip_to(from.end_offset())?;
                }
                if unsynced_bytes >= UNSYNCED_BYTES_MAX {
                    opened.sync()?;
                    unsynced_bytes = 0;
                }
            }
            opened.sync()?;
            Ok(opened.ends())
        })
    }

    fn log(&self, partition: Partition, options: impl FnOnce() -> Options) -> Arc<Log> {
        let new = || {
            let (opened, reader) = (Mutex::new(None), RwLock::new(None));
            Arc::new(Log { ends: Ends::default(), options: options(), opened, reader })
        };
        self.logs.lock().entry(partition).or_insert_with(new).clone()
    }

    fn with<T>(
        &self,
        partition: Partition,
        log: &Log,
        work: impl FnOnce(&mut PartitionLog) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut opened = log.opened.lock();
        if opened.is_none() {
            let dir = format!("{TOPICS_DIR}/{partition}");
            let fresh = PartitionLog::open(self.disk.clone(), dir, log.options, &log.ends)?;
            *log.reader.write() = Some(fresh.reader());
            *opened = Some(fresh);
        }
        work(opened.as_mut().expect("it was just opened"))
    }
}

/// Flushes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Flusher {
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) index: Arc<Index>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) reader: Reader,
    pub(crate) flushed_lsn: Arc<AtomicU64>,
    pub(crate) one_at_a_time: Arc<Mutex<()>>,
}

impl Flusher {
    /// Brings everything applied so far into segments; the lsn up to which that is true now.
    ///
    /// # Errors
    /// A damaged journal file or a segment that can't be written: what was flushed before stays so, the rest is in the
    /// journal still. It may be tried again; a file that failed isn't touched again.
    pub fn flush(&self) -> Result<u64, StorageError> {
        let _one = self.one_at_a_time.lock();
        let target = self.state.read().lsn;
        for partition in self.index.partitions() {
            self.flush_partition(partition, target)?;
        }
        self.flushed_lsn.fetch_max(target, Ordering::AcqRel);
        Ok(target)
    }

    /// Everything up to this lsn is in segments.
    pub fn flushed_lsn(&self) -> u64 {
        self.flushed_lsn.load(Ordering::Acquire)
    }

    fn flush_partition(&self, partition: Partition, target: u64) -> Result<(), StorageError> {
        let flushed = self.segments.ends(partition).end_offset;
        if self.index.unflushed(partition, flushed, target, 1).is_empty() {
            return Ok(());
        }
        let Some(options) = self.options(partition) else { return Ok(()) };
        let log = self.segments.log(partition, || options);
        let end = self.segments.with(partition, &log, |opened| {
            loop {
                let due = self.index.unflushed(partition, opened.next_offset(), target, STEP_BYTES);
                if due.is_empty() {
                    break;
                }
                for located in due {
                    if located.next_offset <= self.index.start_offset(partition) {
                        opened.skip_to(located.next_offset)?;
                    } else {
                        opened.append(&self.reader.read_back(&located)?)?;
                    }
                }
            }
            opened.sync()?;
            Ok(opened.ends().end_offset)
        })?;
        self.index.flushed(partition, end);
        Ok(())
    }

    fn options(&self, partition: Partition) -> Option<Options> {
        let state = self.state.read();
        state.topics.get(&partition.topic).map(|topic| segment_options(topic))
    }
}

/// The settings of a topic's segments.
pub(crate) fn segment_options(topic: &exactlog_core::state::Topic) -> Options {
    Options {
        segment_bytes: topic.config.segment_bytes as u64,
        segment_ms: topic.config.segment_ms as i64,
        ..Options::default()
    }
}
