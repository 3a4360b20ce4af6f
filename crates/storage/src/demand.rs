//! What a checkpoint would take if it were made now, without making it: for the space that is kept for it.
//!
//! ```text
//!   state, measured now and then + what commands may have added since + parts of segments + 68 B per unflushed batch
//! ```
//!
//! Nothing here asks the disk. The state is measured again only when the estimate outgrows what is kept, which then
//! grows by a quarter at least: seldom, however long the log lives.
//!
//! Invariants
//!   * the estimate is never less than the file, but for what commands add that free space

use exactlog_core::command::{Command, Dedup, Mark, OffsetCommit, Transactional};
use exactlog_core::state::State;

/// An unflushed batch in a checkpoint, in bytes.
const PLACED_BYTES: u64 = 68;

/// A partition in a checkpoint, without its batches and segments, in bytes; in the state, and beside it.
const PARTITION_BYTES: u64 = 96;

/// A segment in a checkpoint, in bytes.
const SEGMENT_BYTES: u64 = 32;

/// Headers of the file and of its sections, in bytes; partitions in themselves have more.
const AROUND_BYTES: u64 = 4096;

/// What a batch may add to the state: a window of its producer, and a leader epoch. In bytes.
const WINDOW_BYTES: u64 = 192;

/// What other commands may add, besides what they name, in bytes.
const COMMAND_BYTES: u64 = 1024;

/// Metadata beside an offset besides its own bytes. So much, and the group's name, the first text of a group takes
/// besides: in a section of its own.
pub(crate) const METADATA_BYTES: u64 = 64;

/// An id that is marked or reserved, in bytes: in a section of 1,024 ids, or in one of its own.
pub(crate) const MARK_BYTES: u64 = 64;

/// A key of a table besides its own bytes: in a section of 1,024 keys, or in one of its own.
pub(crate) const KEY_BYTES: u64 = 80;

/// One of the keys of a full section besides its own bytes, with its share of what the section takes.
pub(crate) const RESTING_KEY_BYTES: u64 = 32;

/// What commands may add to a checkpoint, in bytes: an upper bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    state: u64,
    parts: u64,
    batches: u64,
}

impl Growth {
    /// Of all these commands.
    pub(crate) fn of<'a>(commands: impl Iterator<Item = &'a Command>) -> Growth {
        let mut sum = Growth::default();
        for command in commands {
            sum.add(command);
        }
        sum
    }

    fn add(&mut self, command: &Command) {
        let batches = match command {
            Command::Append { .. } => 1,
            Command::Commit(commit) => {
                (commit.batches.len() + commit.timers.set.len() + commit.table_writes.len()) as u64
            }
            // With the marker that comes behind it.
            Command::Transactional(request) if matches!(**request, Transactional::Append { .. }) => 2,
            Command::Dedup(request) if matches!(**request, Dedup::Append { .. }) => 1,
            Command::Timer(command) => command.batches().count() as u64,
            _ => 0,
        };
        self.batches += batches;
        // In time each of them may begin a segment of its own.
        self.parts += batches * SEGMENT_BYTES;
        self.state += batches * WINDOW_BYTES;
        self.state += match command {
            Command::Append { .. } => 0,
            Command::Commit(commit) => {
                let offsets = commit.offsets.iter().map(|it| {
                    let metadata = metadata_bytes(&it.group, of_offsets(&it.offsets));
                    it.group.len() as u64 + 64 * it.offsets.len() as u64 + metadata
                });
                let mut scope_before = None;
                let marks = commit.marks.iter().map(|mark| match mark {
                    Mark::Named { scope, .. } if scope_before.replace(scope) != Some(scope) => {
                        // The scope may be new.
                        2 * MARK_BYTES + scope.len() as u64
                    }
                    _ => MARK_BYTES,
                });
                let writes = commit.table_writes.iter().flat_map(|it| &it.writes);
                let keys = writes.map(|write| KEY_BYTES + write.key.len() as u64);
                COMMAND_BYTES + offsets.sum::<u64>() + marks.sum::<u64>() + keys.sum::<u64>()
            }
            Command::CommitOffsets { group, offsets, .. } => {
                COMMAND_BYTES + 64 * offsets.len() as u64 + metadata_bytes(group, of_offsets(offsets))
            }
            Command::CreateTopic { partitions, .. } | Command::CreateTable { partitions, .. } => {
                let partitions = u64::from(*partitions) * PARTITION_BYTES;
                self.parts += partitions;
                COMMAND_BYTES + partitions
            }
            Command::Transactional(request) => {
                let named = match &**request {
                    Transactional::AddPartitions { partitions, .. } => 64 * partitions.len() as u64,
                    Transactional::CommitOffsets { group, offsets, .. } => {
                        64 * offsets.len() as u64 + metadata_bytes(group, of_offsets(offsets))
                    }
                    _ => 0,
                };
                COMMAND_BYTES + named
            }
            Command::Dedup(request) => match &**request {
                Dedup::Append { ids, .. } => COMMAND_BYTES + MARK_BYTES * ids.len() as u64,
                _ => COMMAND_BYTES,
            },
            Command::JoinGroup { topics, .. } => COMMAND_BYTES + 64 * topics.len() as u64,
            _ => COMMAND_BYTES,
        };
    }
}

/// What so long texts beside offsets of a group take at most, in bytes.
pub(crate) fn metadata_bytes(group: &str, texts: impl Iterator<Item = usize>) -> u64 {
    let (count, bytes) = texts.fold((0, 0), |(count, bytes), text| (count + 1, bytes + text as u64));
    if count == 0 { 0 } else { (count + 1) * METADATA_BYTES + group.len() as u64 + bytes }
}

fn of_offsets(offsets: &[OffsetCommit]) -> impl Iterator<Item = usize> {
    offsets.iter().map(|offset| offset.metadata.as_str().len()).filter(|bytes| *bytes > 0)
}

/// The parts of the estimate, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    state: u64,
    parts: u64,
}

impl Demand {
    /// Takes the state as it was measured.
    pub(crate) fn measured(&mut self, state_bytes: u64) {
        self.state = state_bytes;
    }

    /// Takes the parts as they are now: partitions of all topics, and segments of all of them.
    pub(crate) fn has_parts(&mut self, state: &State, segments: impl Iterator<Item = usize>) {
        let partitions: usize = state.topics.values().map(|topic| topic.partitions.len()).sum();
        let segments: usize = segments.sum();
        self.parts = partitions as u64 * PARTITION_BYTES + segments as u64 * SEGMENT_BYTES;
    }

    /// Adds what was written.
    pub(crate) fn grow(&mut self, growth: Growth) {
        self.state += growth.state;
        self.parts += growth.parts;
    }

    /// What is to be kept, in bytes, with so many unflushed batches and behind this growth: two checkpoints, since
    /// space is freed by the second one.
    pub(crate) fn to_keep(self, unflushed: u64, growth: Growth) -> u64 {
        let placed = (unflushed + growth.batches) * PLACED_BYTES;
        2 * (AROUND_BYTES + self.state + growth.state + self.parts + growth.parts + placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_core::command::{Commit, CommitToken, TimerEffects};
    use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};

    fn of_marks(scopes: &[&str]) -> u64 {
        let mark = |(nth, scope): (usize, &&str)| Mark::Named {
            scope: (*scope).into(),
            id: DedupId([nth as u8; 16]),
            reservation: None,
        };
        let commit = Commit {
            token: CommitToken { producer: ProducerId(1), producer_epoch: 0, number: 1 },
            cursor: None,
            batches: Vec::new(),
            offsets: Vec::new(),
            conditions: Vec::new(),
            marks: scopes.iter().enumerate().map(mark).collect(),
            timers: TimerEffects::default(),
            table_writes: Vec::new(),
        };
        Growth::of([Command::Commit(Box::new(commit))].iter()).state - COMMAND_BYTES
    }

    /// Each mark was reckoned with the name of its scope, three times what it takes, so the state was measured three
    /// times as often.
    #[test]
    fn a_scope_counts_once_for_all_marks_that_follow_each_other() {
        let (name, other) = ("billing", "a-longer-name");
        let scope = |name: &str| MARK_BYTES + name.len() as u64;
        assert_eq!(of_marks(&[name; 200]), 200 * MARK_BYTES + scope(name));
        assert_eq!(of_marks(&[name, other, other]), 3 * MARK_BYTES + scope(name) + scope(other));
        assert_eq!(
            of_marks(&[name, other, name]),
            3 * MARK_BYTES + 2 * scope(name) + scope(other),
            "never less"
        );
    }

    #[test]
    fn metadata_counts_with_its_bytes_and_its_group_s_name_once() {
        let partition = |index| Partition { topic: TopicId(1), index };
        let position = |(index, text): (u32, &&str)| OffsetCommit {
            partition: partition(index),
            offset: 1,
            reset: false,
            metadata: (*text).into(),
        };
        let of = |texts: &[&str]| {
            let offsets = (0..).zip(texts).map(position).collect();
            let command = Command::CommitOffsets { group: "readers".into(), member: None, offsets };
            Growth::of([command].iter()).state - COMMAND_BYTES
        };
        assert_eq!(of(&["", ""]), 2 * 64);
        assert_eq!(of(&["", "at 5"]), 2 * 64 + METADATA_BYTES + 4 + METADATA_BYTES + 7);
        assert_eq!(of(&["ü", "at 5"]), 2 * 64 + 2 * METADATA_BYTES + 6 + METADATA_BYTES + 7);
    }
}
