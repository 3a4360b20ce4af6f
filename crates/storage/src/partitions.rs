//! The segments of all partitions of a shard, opened one by one when they are needed, and what becomes of their files.
//!
//! ```text
//!   named by a checkpoint -> trimmed, compacted, or its topic deleted -> two newer ones don't name it -> removed
//! ```
//!
//! Not here: when batches are brought into them (`projection.rs`).
//!
//! Invariants
//!   * a file goes when no checkpoint that is kept names it
//!   * what no checkpoint ever named is made anew, directory and all: its name may never have become durable

use crate::disk::{Disk, Entry};
use crate::error::StorageError;
use crate::landmarks::LandmarkCache;
use crate::segment::{Ends, FileId, Options, PartitionLog, SegmentReader, SegmentSet};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::mutants::{Mutant, on};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Directory of the segments of all topics.
pub const TOPICS_DIR: &str = "topics";

/// How much is brought into segments before the next look at what else there is, in bytes.
pub(crate) const STEP_BYTES: usize = 4 * 1024 * 1024;

/// How much is taken over from another log before a sync, in bytes: full segments hold their files open until then.
const UNSYNCED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The segments of all partitions; opened one by one when they are needed.
#[derive(Debug)]
pub struct Segments {
    disk: Arc<dyn Disk>,
    logs: Mutex<BTreeMap<Partition, Arc<Log>>>,
    /// What no later checkpoint names.
    unnamed: Mutex<BTreeMap<Partition, Unnamed>>,
    /// What earlier opens have left was looked for.
    looked_around: Mutex<bool>,
    /// For single records of large batches.
    pub(crate) landmarks: LandmarkCache,
}

/// Files of a partition that no longer count, and wait for the last checkpoint that names them to go: a picture of a
/// later lsn than the one noted doesn't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unnamed {
    /// An earlier open may have left some that were never named.
    leftovers: bool,
    /// Segments below an offset were dropped, as of an lsn. Both rise.
    dropped: Vec<(u64, u64)>,
    /// Files in whose place compaction has put others, as of an lsn, which rises.
    replaced: Vec<(u64, Vec<FileId>)>,
    /// The whole directory, since its topic was deleted.
    whole_since: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Log {
    /// How far the checkpoint says they go, and when they are full.
    ends: Ends,
    options: Options,
    opened: Mutex<Option<PartitionLog>>,
    reader: RwLock<Option<SegmentReader>>,
    /// Held while segments are rewritten: their new files belong to nothing yet.
    pub(crate) rewriting: Mutex<()>,
}

impl Segments {
    /// Segments on a disk, none known yet.
    pub fn new(disk: Arc<dyn Disk>) -> Segments {
        Segments {
            disk,
            logs: Mutex::default(),
            unnamed: Mutex::default(),
            looked_around: Mutex::default(),
            landmarks: LandmarkCache::default(),
        }
    }

    /// Makes a partition known, with the ends that a checkpoint keeps.
    pub(crate) fn restore(&self, partition: Partition, ends: Ends, options: Options) {
        let log = Log {
            ends,
            options,
            opened: Mutex::new(None),
            reader: RwLock::new(None),
            rewriting: Mutex::default(),
        };
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

    /// Closes the segments, of all partitions, that nobody has read since this was called last.
    pub(crate) fn close_unread(&self) {
        let logs: Vec<Arc<Log>> = self.logs.lock().values().cloned().collect();
        for log in logs {
            if let Some(reader) = &*log.reader.read() {
                reader.current().close_unread();
            }
        }
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

    /// Looks, once, for what earlier opens have left behind. What was made there without ever being named by a
    /// checkpoint goes at once: nobody knows whether its names were ever made durable, and a sync that failed can't be
    /// repeated on the same name. Directories of topics that don't exist go when no checkpoint names them.
    ///
    /// # Errors
    /// When a directory can't be listed or removed; it may be tried again.
    pub(crate) fn look_around(&self, exists: impl Fn(TopicId) -> bool) -> Result<(), StorageError> {
        let mut looked_around = self.looked_around.lock();
        if *looked_around {
            return Ok(());
        }
        let entries = self.list(TOPICS_DIR)?;
        let mut left = entries.len();
        for partition in entries.iter().filter_map(|entry| parse(&entry.name)) {
            if !exists(partition.topic) {
                self.unnamed.lock().entry(partition).or_default().whole_since = Some(0);
            } else if self.ends(partition).end_offset == 0 {
                self.remove(partition)?;
                left -= 1;
            } else {
                // What an earlier open has dropped, it may not have come to remove.
                self.unnamed.lock().entry(partition).or_default().leftovers = true;
            }
        }
        if left == 0 && !entries.is_empty() {
            let removed = self.disk.remove_dir(TOPICS_DIR);
            removed.map_err(|error| StorageError::io("remove directory", TOPICS_DIR, error))?;
        }
        *looked_around = true;
        Ok(())
    }

    /// Forgets the segments of topics that don't exist any more. Their directories go when no checkpoint of this or
    /// an earlier lsn is kept.
    pub(crate) fn forget_deleted(&self, exists: impl Fn(TopicId) -> bool, lsn: u64) {
        self.logs.lock().retain(|partition, _| {
            let exists = exists(partition.topic);
            if !exists {
                self.unnamed.lock().entry(*partition).or_default().whole_since = Some(lsn);
            }
            exists
        });
    }

    /// Notes that the segments of a partition below this offset no longer count as of this lsn.
    pub(crate) fn note_dropped(&self, partition: Partition, lsn: u64, below: u64) {
        self.unnamed.lock().entry(partition).or_default().dropped.push((lsn, below));
    }

    /// Notes that other files have taken the place of these as of this lsn.
    pub(crate) fn note_replaced(&self, partition: Partition, lsn: u64, files: Vec<FileId>) {
        self.unnamed.lock().entry(partition).or_default().replaced.push((lsn, files));
    }

    /// Whether files may wait for checkpoints to be removed.
    pub(crate) fn has_unnamed(&self) -> bool {
        !self.unnamed.lock().is_empty()
    }

    /// Removes the files that no checkpoint names any more: all that are kept show what was done up to `shown_lsn`.
    ///
    /// # Errors
    /// When a file can't be removed; it may be tried again.
    pub(crate) fn sweep(&self, shown_lsn: u64) -> Result<(), StorageError> {
        let noted: Vec<(Partition, Unnamed)> =
            self.unnamed.lock().iter().map(|(partition, unnamed)| (*partition, unnamed.clone())).collect();
        let shown_lsn = if on(Mutant::C4FilesGoWithTheTrim) { u64::MAX } else { shown_lsn };
        for (partition, Unnamed { leftovers, dropped, replaced, whole_since }) in noted {
            if let Some(since_lsn) = whole_since {
                if since_lsn < shown_lsn {
                    self.remove(partition)?;
                    self.unnamed.lock().remove(&partition);
                }
                continue;
            }
            let due = dropped.partition_point(|(lsn, _)| *lsn < shown_lsn);
            let due_files = replaced.partition_point(|(lsn, _)| *lsn < shown_lsn);
            if due == 0 && due_files == 0 && !leftovers {
                continue;
            }
            let below = |count: usize| dropped[..count].last().map_or(0, |(_, below)| *below);
            // What was dropped or replaced later is named still.
            let (kept, kept_files) = (below(due)..below(dropped.len()), &replaced[due_files..]);
            let log = self.log(partition, Options::default);
            let Some(_nothing_is_rewritten) = log.rewriting.try_lock() else { continue };
            let is_kept = |id: FileId| {
                kept.contains(&id.base_offset) || kept_files.iter().any(|(_, files)| files.contains(&id))
            };
            self.with(partition, &log, |opened| opened.remove_unnamed(is_kept).map(|_| ()))?;
            let mut unnamed = self.unnamed.lock();
            if due == dropped.len() && due_files == replaced.len() {
                unnamed.remove(&partition);
            } else if let Some(unnamed) = unnamed.get_mut(&partition) {
                unnamed.leftovers = false;
                unnamed.dropped.drain(..due);
                unnamed.replaced.drain(..due_files);
            }
        }
        Ok(())
    }

    /// Removes a partition's directory with all that is in it. Not durable: what comes back is found by the next open.
    fn remove(&self, partition: Partition) -> Result<(), StorageError> {
        let dir = format!("{TOPICS_DIR}/{partition}");
        for entry in self.list(&dir)? {
            let name = format!("{dir}/{}", entry.name);
            self.disk.unlink(&name).map_err(|error| StorageError::io("unlink", name, error))?;
        }
        match self.disk.remove_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| StorageError::io("remove directory", dir, error)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, StorageError> {
        match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| StorageError::io("list", dir, error)),
        }
    }

    pub(crate) fn log(&self, partition: Partition, options: impl FnOnce() -> Options) -> Arc<Log> {
        let new = || {
            let (opened, reader) = (Mutex::new(None), RwLock::new(None));
            let rewriting = Mutex::default();
            Arc::new(Log { ends: Ends::default(), options: options(), opened, reader, rewriting })
        };
        self.logs.lock().entry(partition).or_insert_with(new).clone()
    }

    pub(crate) fn with<T>(
        &self,
        partition: Partition,
        log: &Log,
        work: impl FnOnce(&mut PartitionLog) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut opened = log.opened.lock();
        if opened.is_none() {
            let dir = format!("{TOPICS_DIR}/{partition}");
            let fresh = PartitionLog::open(self.disk.clone(), dir, log.options, &log.ends)?;
            // A crash may have left files that were never named.
            self.unnamed.lock().entry(partition).or_default().leftovers = true;
            *log.reader.write() = Some(fresh.reader());
            *opened = Some(fresh);
        }
        work(opened.as_mut().expect("it was just opened"))
    }
}

/// The partition whose directory has this name.
pub(crate) fn parse(entry: &str) -> Option<Partition> {
    let (topic, index) = entry.split_once('-')?;
    Some(Partition { topic: TopicId(topic.parse().ok()?), index: index.parse().ok()? })
}
