//! Runs: the marks of event ids that memory doesn't hold, as sorted files that nothing changes any more.
//!
//! ```text
//!   plan -> dedup/<id>.run.tmp -> sync -> rename -> sync of the directory -> RunReady is ordered -> the state names it
//!        -> looked up, block by block -> merged, expired or given up: unnamed -> two newer checkpoints -> removed
//! ```
//!
//! Which runs there are is state ([`Manifest`]); here are their files. What a run has follows from the state that
//! its `RunReady` meets, so a log that replays one whose file it doesn't have, a follower for one, makes the file.
//!
//! Invariants
//!   * no command is applied before all that it asks of the runs is answered; a look-up that fails ends writing before
//!     it
//!   * a file goes when no checkpoint that is kept leads to a state that names it
//!   * a run that can't be written changes nothing: its marks stay in memory

mod filter;
mod format;
mod merge;
mod plan;
mod run;
mod writer;

pub use format::RUNS_DIR;
pub use plan::RunPlan;

use crate::disk::Disk;
use crate::error::StorageError;
use exactlog_core::command::{Command, Dedup, RunReady};
use exactlog_core::mutants::{Mutant, on};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::{Answers, Found, Manifest, MarkKey, Run as Named, State};
use filter::Hashed;
use parking_lot::Mutex;
use run::{Expected, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The files of a log's runs; shared by all who look ids up.
#[derive(Debug)]
pub struct Runs {
    disk: Arc<dyn Disk>,
    opened: Mutex<Arc<Opened>>,
    /// Made here and named by now, but not among the opened ones yet.
    fresh: Mutex<Vec<Arc<Run>>>,
    files: Mutex<Files>,
    look_ups: AtomicU64,
    reads: AtomicU64,
    needless_reads: AtomicU64,
}

/// The runs of a manifest, in the order in which a key is looked for.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    manifest: Arc<Manifest>,
    runs: Vec<Arc<Run>>,
    /// Whether one of them has a mark that doesn't count any more.
    have_gaps: bool,
}

impl Opened {
    /// Whether what a run has of a key doesn't count any more.
    fn has_forgotten(&self, run: u64, key: &MarkKey) -> bool {
        self.have_gaps && self.manifest.runs().any(|(_, named)| named.id == run && named.has_forgotten(key))
    }
}

/// What becomes of files.
#[derive(Debug, Default)]
struct Files {
    /// Written, or about to be, and nothing was said of them yet.
    pending: BTreeMap<u64, Option<Arc<Run>>>,
    /// That no state names since a lsn.
    unnamed: Vec<(u64, u64)>,
    /// No file has this number or a higher one.
    next: u64,
}

/// Counters and gauges of runs. Counters start at 0 with each open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunStats {
    /// Runs that the state names.
    pub runs: u64,
    /// Marks in them that count.
    pub entries: u64,
    /// What their files take, in bytes.
    pub file_bytes: u64,
    /// What their indexes and filters take in memory, in bytes.
    pub memory_bytes: u64,
    /// Ids that were looked for in runs.
    pub look_ups: u64,
    /// Blocks that were read for that.
    pub reads: u64,
    /// Of those, blocks that didn't have the id: a filter let it pass.
    pub needless_reads: u64,
}

impl Runs {
    /// Runs on a disk, none known yet.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Runs {
        Runs {
            disk,
            opened: Mutex::default(),
            fresh: Mutex::default(),
            files: Mutex::default(),
            look_ups: AtomicU64::default(),
            reads: AtomicU64::default(),
            needless_reads: AtomicU64::default(),
        }
    }

    /// Looks keys up in the runs of a manifest. The answers are for a state that has this manifest.
    ///
    /// # Errors
    /// A run that is missing or damaged, with file and position, or can't be read: then nothing is known of any key.
    pub fn look_up(&self, manifest: &Arc<Manifest>, keys: &[MarkKey]) -> Result<Answers, StorageError> {
        let found = self.find_all(manifest, keys)?;
        Ok(Answers::new(keys.iter().copied().zip(found).collect()))
    }

    /// As [`look_up`](Runs::look_up), in the order of the keys.
    ///
    /// # Errors
    /// As [`look_up`](Runs::look_up).
    pub fn find_all(
        &self,
        manifest: &Arc<Manifest>,
        keys: &[MarkKey],
    ) -> Result<Vec<Option<Found>>, StorageError> {
        let opened = self.opened(manifest)?;
        keys.iter().map(|key| self.find(&opened, key)).collect()
    }

    fn find(&self, opened: &Opened, key: &MarkKey) -> Result<Option<Found>, StorageError> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        let hashed = Hashed::of(key);
        for run in opened.runs.iter().filter(|run| run.may_have(key, hashed)) {
            if opened.has_forgotten(run.id(), key) {
                continue;
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            match run.find(key) {
                Ok(Some(place)) => return Ok(Some(Found { run: run.id(), place })),
                Ok(None) => {
                    self.needless_reads.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) if on(Mutant::D9FailedLookUpIsAbsent) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The runs of a manifest, opened.
    fn opened(&self, manifest: &Arc<Manifest>) -> Result<Arc<Opened>, StorageError> {
        let mut opened = self.opened.lock();
        let is_old = !Arc::ptr_eq(&opened.manifest, manifest);
        let keeps_old = on(Mutant::D6RunsOfAnOlderManifest) && !opened.runs.is_empty();
        if is_old && !keeps_old {
            let fresh = std::mem::take(&mut *self.fresh.lock());
            let known = |id: u64| opened.runs.iter().chain(&fresh).find(|run| run.id() == id).cloned();
            let runs = manifest.runs().map(|(end_ms, named)| match known(named.id) {
                Some(run) => Ok(run),
                None => self.open(end_ms, named),
            });
            let runs = runs.collect::<Result<_, _>>()?;
            let have_gaps = manifest.runs().any(|(_, named)| named.has_gaps());
            *opened = Arc::new(Opened { manifest: manifest.clone(), runs, have_gaps });
        }
        Ok(opened.clone())
    }

    fn open(&self, end_ms: i64, named: &Named) -> Result<Arc<Run>, StorageError> {
        let Named { id, entries, digest, .. } = *named;
        let found = Run::open(&*self.disk, &Expected { id, end_ms, entries, digest })?;
        found.map(Arc::new).ok_or_else(|| StorageError::Missing {
            file: format::file_name(id),
            named_by: "the state of the ids that were seen".into(),
        })
    }

    /// Takes a state's manifest instead of the one before: notes the runs that it doesn't name any more as of a lsn.
    fn follow(&self, before: &Manifest, now: &Manifest, lsn: u64) {
        let ids = |manifest: &Manifest| manifest.runs().map(|(_, run)| run.id).collect::<BTreeSet<u64>>();
        let (before, now) = (ids(before), ids(now));
        let mut files = self.files.lock();
        files.unnamed.extend(before.difference(&now).map(|id| (lsn, *id)));
        files.unnamed.retain(|(_, id)| !now.contains(id));
        let taken = files.pending.extract_if(.., |id, _| now.contains(id)).filter_map(|(_, run)| run);
        self.fresh.lock().extend(taken);
        files.next = files.next.max(now.last().map_or(0, |id| id + 1));
    }

    /// Opens all runs of a manifest, so that damage to what belongs in memory is found now, and takes stock of what
    /// else is there: it goes when no checkpoint of `lsn` or before is kept.
    ///
    /// # Errors
    /// A run that is missing or damaged, or a directory that can't be read.
    pub(crate) fn take_stock(&self, manifest: &Arc<Manifest>, lsn: u64) -> Result<(), StorageError> {
        self.opened(manifest)?;
        let named: BTreeSet<u64> = manifest.runs().map(|(_, run)| run.id).collect();
        let entries = match self.disk.list(RUNS_DIR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|error| StorageError::io("list", RUNS_DIR, error))?,
        };
        let mut files = self.files.lock();
        for entry in &entries {
            if entry.name.ends_with(format::UNFINISHED) {
                let name = format!("{RUNS_DIR}/{}", entry.name);
                self.disk.unlink(&name).map_err(|error| StorageError::io("remove", name, error))?;
            }
            let Some(id) = format::id_of(&entry.name) else { continue };
            files.next = files.next.max(id.saturating_add(1));
            if !named.contains(&id) && files.unnamed.iter().all(|(_, unnamed)| *unnamed != id) {
                files.unnamed.push((lsn, id));
            }
        }
        Ok(())
    }

    /// Whether files wait for checkpoints to be removed.
    pub(crate) fn has_unnamed(&self) -> bool {
        !self.files.lock().unnamed.is_empty()
    }

    /// Removes the files that nothing names any more: all checkpoints that are kept show what was done up to
    /// `shown_lsn`. Not durable: what comes back is found by the next open.
    ///
    /// # Errors
    /// When a file can't be removed; it may be tried again.
    pub(crate) fn sweep(&self, shown_lsn: u64) -> Result<(), StorageError> {
        let due: Vec<u64> = {
            let files = self.files.lock();
            let is_due = |lsn: u64| lsn < shown_lsn || on(Mutant::D7RunRemovedEarly);
            files.unnamed.iter().filter(|(lsn, _)| is_due(*lsn)).map(|(_, id)| *id).collect()
        };
        for id in due {
            self.remove(id)?;
            self.files.lock().unnamed.retain(|(_, unnamed)| *unnamed != id);
        }
        Ok(())
    }

    /// Removes the file of a run that was written and isn't taken.
    pub(crate) fn discard(&self, id: u64) {
        let was_pending = self.files.lock().pending.remove(&id).is_some();
        // What can't be removed is found by the next open.
        if was_pending && let Err(error) = self.remove(id) {
            tracing::warn!(%error, "a run of event ids that wasn't taken is left behind");
        }
    }

    fn remove(&self, id: u64) -> Result<(), StorageError> {
        let name = format::file_name(id);
        match self.disk.unlink(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| StorageError::io("remove", name, error)),
        }
    }

    /// A number that no run has, for one that is about to be written.
    fn number(&self, least: u64) -> u64 {
        let mut files = self.files.lock();
        let id = files.next.max(least);
        files.next = id + 1;
        id
    }

    /// The run that a command announces, if it is there.
    ///
    /// # Errors
    /// If it is damaged.
    fn announced(&self, ready: &RunReady) -> Result<Option<Run>, StorageError> {
        let RunReady { run: id, end_ms, entries, digest, .. } = *ready;
        Run::open(&*self.disk, &Expected { id, end_ms, entries, digest })
    }

    /// What a command asks of the runs, of those that this state names.
    ///
    /// # Errors
    /// A run that has to be made and can't be.
    pub(crate) fn questions(
        self: &Arc<Runs>,
        state: &State,
        command: &Command,
    ) -> Result<Vec<MarkKey>, StorageError> {
        if let Command::Dedup(request) = command
            && let Dedup::RunReady(ready) = &**request
            && !self.files.lock().pending.contains_key(&ready.run)
        {
            plan::make(state, ready, self)?;
        }
        Ok(state.questions(command))
    }

    /// Takes in what a command that was applied has made of the runs. `known` is the manifest before.
    pub(crate) fn applied(&self, known: &mut Arc<Manifest>, state: &State, reply: &Reply) {
        let now = state.dedup.runs();
        if !Arc::ptr_eq(known, now) {
            self.follow(known, now, state.lsn);
            *known = now.clone();
        }
        if let Reply::Refused(Refusal::RunUnfit { run, .. }) = reply {
            self.discard(*run);
        }
    }

    /// Takes the runs of another log that this one is about to name.
    pub(crate) fn copy(&self, from: &Opened) -> Result<(), StorageError> {
        for ((end_ms, named), run) in from.manifest.runs().zip(&from.runs) {
            let Named { id, entries, digest, .. } = *named;
            let replaces = Vec::new();
            let ready = RunReady { end_ms, run: id, entries, up_to: 0, digest, replaces };
            if self.announced(&ready)?.is_none() {
                writer::write(&*self.disk, &ready, run.marks())?;
            }
        }
        Ok(())
    }

    /// The runs of a manifest, for another log to take.
    pub(crate) fn shown(&self, manifest: &Arc<Manifest>) -> Result<Arc<Opened>, StorageError> {
        self.opened(manifest)
    }

    /// What there is of a manifest's runs, and what was done with them. Of runs that can't be opened the bytes are 0.
    pub fn stats(&self, manifest: &Arc<Manifest>) -> RunStats {
        let opened = self.opened(manifest).unwrap_or_default();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RunStats {
            runs: manifest.runs().count() as u64,
            entries: manifest.entries(),
            file_bytes: opened.runs.iter().map(|run| run.len_bytes()).sum(),
            memory_bytes: opened.runs.iter().map(|run| run.memory_bytes()).sum(),
            look_ups: read(&self.look_ups),
            reads: read(&self.reads),
            needless_reads: read(&self.needless_reads),
        }
    }
}
