//! Takes over the state of another log, for a follower that needs commands which the other's journal no longer has.
//!
//! ```text
//!   Snapshot::take (there)
//!   take_over (here): missing batches -> own segments, sync         what the own checkpoints name isn't touched
//!                     state -> checkpoint/<lsn>.<term>.install      from here on it is rolled forward, before: nothing
//!   resume (here):    new journal from lsn + 1 on -> checkpoint/<lsn>.checkpoint -> the .install goes
//! ```
//!
//! Not here: when that is due, and what is pulled afterwards (`follower.rs`).
//!
//! Invariants
//!   * until the `.install` file has its name the log opens as it was; afterwards every open finishes the work first
//!   * each step of `resume` may be repeated; no command is written before the `.install` file is durably gone
//!   * every batch is checked on its way: what is damaged there isn't taken over

use crate::checkpoint::{self, CHECKPOINT_DIR, Image, PartitionImage};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::journal::{Config, FileJournal};
use crate::partitions::Segments;
use crate::projection::segment_options;
use crate::runs::{Opened, Runs};
use crate::shard::{SegmentSets, Shard};
use exactlog_core::state::State;
use std::io;
use std::sync::Arc;

/// The state of a log at one lsn, and its segments, which hold every batch up to there.
#[derive(Debug)]
pub struct Snapshot {
    image: Image,
    segments: SegmentSets,
    runs: Arc<Opened>,
    term: u32,
}

impl Snapshot {
    /// Takes a picture of a log, which goes on meanwhile. Flushes first; what it costs besides is a copy of pointers.
    ///
    /// Segments that the log removes later can't be taken over any more: then take another one.
    ///
    /// # Errors
    /// As [`Shard::checkpoint`].
    pub fn take(leader: &mut Shard) -> Result<Snapshot, StorageError> {
        let (image, segments) = leader.flushed_picture()?;
        let runs = leader.runs().shown(image.state.dedup.runs())?;
        Ok(Snapshot { image, segments, runs, term: leader.term() })
    }

    /// The last command that it holds.
    pub fn lsn(&self) -> u64 {
        self.image.applied_lsn
    }

    /// Brings the own segments up to it, and writes down that the log goes on from it: done when the log is opened.
    ///
    /// # Errors
    /// A segment that can't be read there or written here, or a failed write of the file: the log has to be opened
    /// again, and is as it was, or takes the snapshot's state after all if the failure came that late.
    pub(crate) fn take_over(
        &self,
        own: &State,
        segments: &Segments,
        runs: &Runs,
        disk: &dyn Disk,
    ) -> Result<(), StorageError> {
        let mut partitions = Vec::with_capacity(self.segments.len());
        // Of a topic that is new here nothing was ever named, whatever a failed attempt has left.
        let topics = &self.image.state.topics;
        segments.look_around(|topic| own.topics.contains_key(&topic) || topics.contains_key(&topic))?;
        for (partition, set) in &self.segments {
            // A topic may be deleted while its partitions' entries are still there: nobody can read them.
            let Some(topic) = self.image.state.topics.get(&partition.topic) else { continue };
            let ends = segments.take_over(*partition, segment_options(topic), set)?;
            partitions.push(PartitionImage { partition: *partition, ends, placed: Vec::new() });
        }
        runs.copy(&self.runs)?;
        let applied_lsn = self.image.applied_lsn;
        let state = self.image.state.clone();
        let image = Image { applied_lsn, flushed_lsn: applied_lsn, applied_at: None, state, partitions };
        image.write_as(disk, &file_name(applied_lsn, self.term)).map(drop)
    }
}

/// Finishes what [`Snapshot::take_over`] has written down, if there is anything.
///
/// # Errors
/// A damaged `.install` file is refused; else whatever the disk answers, and then it may be tried again.
pub(crate) fn resume(
    disk: &Arc<dyn Disk>,
    config: Config,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), StorageError> {
    let failed = |what| move |error| StorageError::io(what, CHECKPOINT_DIR, error);
    let entries = match disk.list(CHECKPOINT_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(failed("list"))?,
    };
    for entry in entries.iter().filter(|entry| entry.name.ends_with(UNFINISHED)) {
        disk.unlink(&format!("{CHECKPOINT_DIR}/{}", entry.name)).map_err(failed("remove a file in"))?;
    }
    let Some((lsn, term)) = entries.iter().filter_map(|entry| parse(&entry.name)).max() else {
        return Ok(());
    };
    let name = file_name(lsn, term);
    // After a crash it may be there without being durable: nothing may be given up for it before it is.
    disk.sync_dir(CHECKPOINT_DIR).map_err(failed("sync"))?;
    let image = checkpoint::read_as(&**disk, lsn, &name)?;
    FileJournal::begin_at(disk.clone(), config, lsn + 1, term, random)?;
    image.write(&**disk)?;
    disk.unlink(&name).map_err(|error| StorageError::io("remove", name.as_str(), error))?;
    disk.sync_dir(CHECKPOINT_DIR).map_err(failed("sync"))?;
    tracing::info!(lsn, term, "the state of another log was taken over");
    Ok(())
}

const SUFFIX: &str = ".install";
/// What a crash leaves of one that has no name yet.
const UNFINISHED: &str = ".install.tmp";
const LSN_DIGITS: usize = 20;
const TERM_DIGITS: usize = 10;

fn file_name(lsn: u64, term: u32) -> String {
    format!("{CHECKPOINT_DIR}/{lsn:020}.{term:010}{SUFFIX}")
}

fn parse(entry: &str) -> Option<(u64, u32)> {
    let (lsn, term) = entry.strip_suffix(SUFFIX)?.split_once('.')?;
    if lsn.len() != LSN_DIGITS || term.len() != TERM_DIGITS {
        return None;
    }
    Some((lsn.parse().ok()?, term.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        let name = file_name(7, 3);
        assert_eq!(name, "checkpoint/00000000000000000007.0000000003.install");
        let entry = name.strip_prefix("checkpoint/").unwrap();
        assert_eq!(parse(entry), Some((7, 3)));
        for other in [format!("{entry}.tmp"), "7.3.install".into(), "00000000000000000007.checkpoint".into()]
        {
            assert_eq!(parse(&other), None, "{other}");
        }
        assert!(format!("{entry}.tmp").ends_with(UNFINISHED));
    }
}
