//! What is wrong with a closed log's directory, and what can be done about it without a guess.
//!
//! ```text
//!   checkpoints ── one that can't be read, and the rest of the directory makes the same state: set aside
//!   journal ────── damage: what lies behind it is lost
//!   segments ───── damage above the older checkpoint's ends: the newer checkpoint is set aside, and the journal
//!        │         writes it again; else its offsets are lost
//!        └──────── index files that are missing or wrong: made again from the segment
//!   *.tmp ──────── of checkpoints and segments, never finished: removed
//! ```
//!
//! Nothing is believed: a way out counts when the log was opened with it in memory, and holds as many commands as
//! anything on disk states.
//!
//! Invariants
//!   * [`examine`] writes nothing
//!   * [`repair`] does what loses nothing, and nothing else; a checkpoint that it sets aside keeps its bytes under
//!     another name

use crate::checkpoint::{self, CHECKPOINT_DIR, Image};
use crate::disk::{Disk, Entry, Overlay};
use crate::error::StorageError;
use crate::journal::{self, FileJournal, Start};
use crate::partitions::{self, TOPICS_DIR};
use crate::projection::segment_options;
use crate::segment::{self, Fault};
use crate::shard::{Options, Shard, decode};
use exactlog_core::codec;
use exactlog_core::ids::Partition;
use exactlog_core::state::{At, State};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Something that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file, relative to the directory of the log.
    pub file: String,
    /// Where in it.
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// Whether bytes are wrong or missing that should be there; else something is merely left over, or can be had again
    /// at any time.
    pub is_damage: bool,
    /// What can be done.
    pub remedy: Remedy,
}

/// What can be done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The index files of a segment are made again, from its batches.
    Index(Partition),
    /// This checkpoint is set aside: an older one, or none, and the journal make the same.
    SetAside(String),
    /// The file is removed.
    Remove,
    /// Nothing brings back what is lost.
    Lost(Vec<Lost>),
}

/// Records that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset that is lost.
    pub from: u64,
    /// The offset behind the last one; `None`: all that there were from the first one on.
    pub to: Option<u64>,
}

impl Remedy {
    /// Whether nothing is lost by it.
    pub fn is_without_loss(&self) -> bool {
        !matches!(self, Remedy::Lost(_))
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Index(_) => f.write_str("the index is made again from its segment"),
            Remedy::SetAside(file) => write!(f, "{file} is set aside: the rest makes the same"),
            Remedy::Remove => f.write_str("it is removed"),
            Remedy::Lost(lost) if lost.is_empty() => f.write_str("nothing brings it back"),
            Remedy::Lost(_) => f.write_str("nothing brings these records back"),
        }
    }
}

/// Looks through the directory of a log that nobody has open. Reads everything.
///
/// # Errors
/// When something can't be read at all, or was written by a newer release: then nothing is said about anything.
pub fn examine(disk: &Arc<dyn Disk>, options: &Options) -> Result<Vec<Finding>, StorageError> {
    let mut examination = Examination { disk, options, findings: Vec::new() };
    let (images, damaged) = checkpoints(&**disk)?;
    examination.checkpoints(&damaged);
    examination.journal(&images, &damaged)?;
    examination.segments(&images)?;
    examination.unfinished()?;
    Ok(examination.findings)
}

/// Does what loses nothing, until nothing more can be done: what it did, and what is left. The caller holds the lock of
/// the directory.
///
/// # Errors
/// As [`examine`], and when something can't be written; what was done until then is done.
pub fn repair(
    disk: &Arc<dyn Disk>,
    options: &Options,
    wanted: impl Fn(&Finding) -> bool,
) -> Result<(Vec<Finding>, Vec<Finding>), StorageError> {
    let mut done = Vec::new();
    loop {
        let found = examine(disk, options)?;
        let is_new = |finding: &&Finding| {
            finding.remedy.is_without_loss() && wanted(finding) && !done.contains(*finding)
        };
        let due: Vec<Finding> = found.iter().filter(is_new).cloned().collect();
        if due.is_empty() {
            return Ok((done, found));
        }
        for finding in due {
            apply(disk, &finding)?;
            done.push(finding);
        }
    }
}

fn apply(disk: &Arc<dyn Disk>, finding: &Finding) -> Result<(), StorageError> {
    match &finding.remedy {
        Remedy::Index(partition) => rebuild_indexes(disk, *partition),
        Remedy::SetAside(file) => {
            let aside = format!("{file}.damaged");
            match disk.rename(file, &aside) {
                // Another finding has led there, too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed.map_err(|error| StorageError::io("rename", file, error))?,
            }
            disk.sync_dir(CHECKPOINT_DIR).map_err(|error| StorageError::io("sync", CHECKPOINT_DIR, error))
        }
        Remedy::Remove => disk
            .unlink(&finding.file)
            .map_err(|error| StorageError::io("remove", finding.file.as_str(), error)),
        Remedy::Lost(_) => Ok(()),
    }
}

/// Makes all index files of a partition again that aren't as they should be.
fn rebuild_indexes(disk: &Arc<dyn Disk>, partition: Partition) -> Result<(), StorageError> {
    let (images, _) = checkpoints(&**disk)?;
    let Some(image) = images.first() else { return Ok(()) };
    let found = image.partitions.iter().find(|image| image.partition == partition);
    let (Some(found), Some(topic)) = (found, image.state.topics.get(&partition.topic)) else { return Ok(()) };
    let aborted = image.state.partition(partition).map(|it| it.aborted.clone()).unwrap_or_default();
    let dir = format!("{TOPICS_DIR}/{partition}");
    segment::rebuild_indexes(
        &**disk,
        &dir,
        &found.ends,
        &aborted,
        segment_options(topic).index_interval_bytes,
    )
}

/// Checkpoints that don't verify: lsn, and why.
type Damaged = Vec<(u64, StorageError)>;

/// All checkpoints that verify, the newest first, and those that don't.
fn checkpoints(disk: &dyn Disk) -> Result<(Vec<Image>, Damaged), StorageError> {
    let (mut images, mut damaged) = (Vec::new(), Vec::new());
    for lsn in checkpoint::lsns(disk)?.into_iter().rev() {
        match checkpoint::read(disk, lsn) {
            Ok(image) => images.push(image),
            Err(error @ StorageError::Damaged { .. }) => damaged.push((lsn, error)),
            Err(error) => return Err(error),
        }
    }
    Ok((images, damaged))
}

struct Examination<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    fn found(&mut self, error: &StorageError, remedy: Remedy) {
        let (file, position, what) = match error {
            StorageError::Damaged { file, position, what } => (file.clone(), Some(*position), what.clone()),
            StorageError::Missing { file, named_by } => {
                (file.clone(), None, format!("it is missing; {named_by} names it"))
            }
            other => (String::new(), None, other.to_string()),
        };
        self.findings.push(Finding { file, position, what, is_damage: true, remedy });
    }

    /// Opens the log in memory without these checkpoints.
    fn open_without(&self, lsns: &[u64]) -> Result<u64, StorageError> {
        let overlay = Overlay::new(self.disk.clone());
        for lsn in lsns {
            let file = checkpoint::file_name(*lsn);
            overlay.unlink(&file).map_err(|error| StorageError::io("remove", file, error))?;
        }
        let mut number = 0;
        let mut nonces = || {
            number += 1;
            number
        };
        Shard::open(Arc::new(overlay), self.options.clone(), &mut nonces).map(|(_, report)| report.last_lsn)
    }

    /// Whether without these the log is the same.
    fn is_same_without(&self, lsns: &[u64]) -> bool {
        let highest = lsns.iter().max().copied().unwrap_or(0);
        self.open_without(lsns).is_ok_and(|last_lsn| last_lsn >= highest)
    }

    fn checkpoints(&mut self, damaged: &[(u64, StorageError)]) {
        let lsns: Vec<u64> = damaged.iter().map(|(lsn, _)| *lsn).collect();
        let is_same = !lsns.is_empty() && self.is_same_without(&lsns);
        for (lsn, error) in damaged {
            let remedy = match is_same {
                true => Remedy::SetAside(checkpoint::file_name(*lsn)),
                false => Remedy::Lost(Vec::new()),
            };
            self.found(error, remedy);
        }
    }

    /// What opening refuses, but for checkpoints.
    fn journal(&mut self, images: &[Image], damaged: &[(u64, StorageError)]) -> Result<(), StorageError> {
        let lsns: Vec<u64> = damaged.iter().map(|(lsn, _)| *lsn).collect();
        let Err(error) = self.open_without(&lsns) else { return Ok(()) };
        if !error.is_refusal() || matches!(error, StorageError::Version { .. }) {
            return Err(error);
        }
        let newest = images.first();
        let start = newest.map_or_else(Start::default, |image| Start {
            applied_lsn: image.applied_lsn,
            applied_at: image.applied_at,
            needed_lsn: image.flushed_lsn,
            checkpoints_found: images.len(),
        });
        let mut state = newest.map_or_else(State::default, |image| image.state.clone());
        let config = journal::Config::new(0, codec::verify);
        FileJournal::read_whole_part(&**self.disk, &config, &start, &mut |frame| {
            let (time_ms, command) = decode(&frame)?;
            state.apply(At { lsn: frame.lsn, term: frame.term, time_ms }, &command);
            Ok(())
        })?;
        self.found(&error, Remedy::Lost(behind(&state)));
        let last = self.findings.last_mut().expect("it was just found");
        last.what.push_str(&format!("; whole are the commands up to lsn {}", state.lsn));
        Ok(())
    }

    /// The segments that the newest checkpoint names.
    fn segments(&mut self, images: &[Image]) -> Result<(), StorageError> {
        let Some(image) = images.first() else { return Ok(()) };
        for found in &image.partitions {
            let partition = found.partition;
            let Some(topic) = image.state.topics.get(&partition.topic) else { continue };
            let Some(state) = image.state.partition(partition) else { continue };
            let dir = format!("{TOPICS_DIR}/{partition}");
            let interval_bytes = segment_options(topic).index_interval_bytes;
            let faults = segment::inspect(&**self.disk, &dir, &found.ends, &state.aborted, interval_bytes)?;
            for fault in faults {
                match fault {
                    Fault::Index { file, is_missing } => {
                        let what =
                            if is_missing { "it is missing" } else { "it isn't what its segment says" };
                        let (what, is_damage) = (what.to_string(), !is_missing);
                        let remedy = Remedy::Index(partition);
                        self.findings.push(Finding { file, position: None, what, is_damage, remedy });
                    }
                    Fault::Batches { error, from, to } => {
                        let lost = Lost {
                            topic: topic.name.clone(),
                            partition: partition.index,
                            from: from.max(state.start),
                            to: Some(to),
                        };
                        // What was trimmed is nobody's loss.
                        let lost = if to <= state.start { Vec::new() } else { vec![lost] };
                        let remedy = match self.is_written_again(images, partition, from) {
                            true => Remedy::SetAside(checkpoint::file_name(image.applied_lsn)),
                            false => Remedy::Lost(lost),
                        };
                        self.found(&error, remedy);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the journal still holds what is damaged: the older checkpoint's segments end below it.
    fn is_written_again(&self, images: &[Image], partition: Partition, from: u64) -> bool {
        let [newest, older, ..] = images else { return false };
        let ends = older.partitions.iter().find(|image| image.partition == partition);
        let end_offset = ends.map_or(0, |image| image.ends.end_offset);
        end_offset <= from && self.is_same_without(&[newest.applied_lsn])
    }

    /// Those of the journal's directory aren't looked for: one is the reserve, and every open removes them.
    fn unfinished(&mut self) -> Result<(), StorageError> {
        let mut files = Vec::new();
        let is_of_checkpoint =
            |name: &str| name.ends_with(".checkpoint.tmp") || name.ends_with(".install.tmp");
        files.extend(self.named(CHECKPOINT_DIR, is_of_checkpoint)?);
        for entry in self.list(TOPICS_DIR)?.iter().filter(|it| partitions::parse(&it.name).is_some()) {
            files.extend(self.named(&format!("{TOPICS_DIR}/{}", entry.name), segment::is_temporary)?);
        }
        self.findings.extend(files.into_iter().map(|file| {
            let what = "it was never finished".to_string();
            Finding { file, position: None, what, is_damage: false, remedy: Remedy::Remove }
        }));
        Ok(())
    }

    fn named(&self, dir: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, StorageError> {
        let entries = self.list(dir)?.into_iter().filter(|entry| !entry.is_dir && is_wanted(&entry.name));
        Ok(entries.map(|entry| format!("{dir}/{}", entry.name)).collect())
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, StorageError> {
        match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| StorageError::io("list", dir, error)),
        }
    }
}

/// Everything behind a state: what may have been written then, nobody can tell any more.
fn behind(state: &State) -> Vec<Lost> {
    let of_topic = |topic: &exactlog_core::state::Topic| {
        let name = topic.name.clone();
        let of = move |(partition, index): (&Arc<exactlog_core::state::PartitionState>, u32)| Lost {
            topic: name.clone(),
            partition: index,
            from: partition.end,
            to: None,
        };
        topic.partitions.iter().zip(0..).map(of).collect::<Vec<_>>()
    };
    state.topics.values().flat_map(|topic| of_topic(topic)).collect()
}
