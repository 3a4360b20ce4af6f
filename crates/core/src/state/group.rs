//! Groups: members, who owns which partition, and committed offsets (semantics GR-4, GR-9, GR-10).
//!
//! Not here: who is to own which partition, which is decided in [`assignment`](super::assignment).
//!
//! ```text
//!   partition:  Free -> Owned(member) -> Revoking(member) -> Free
//!                                    \____ fenced, left ____/
//! ```
//!
//! Invariants
//!   * a partition has at most one owner; it gets the next one only after the last one released it or is gone
//!   * only the owner commits a partition's offset, also while it is told to give it up
//!   * a committed offset moves back only by an explicit reset
//!   * each change of members or owners is a new generation

use super::assignment::Change;
use super::{Outcome, State, done};
use crate::command::{OffsetCommit, is_legal_name};
use crate::ids::{MemberId, Partition, TopicId};
use crate::reply::{Refusal, Reply};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A group of consumers that share partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Rises with each change of members or owners.
    pub generation: u64,
    /// The members.
    pub members: BTreeMap<MemberId, Member>,
    /// Who owns which partition; free ones are missing.
    pub owners: BTreeMap<Partition, Owner>,
    /// Committed offsets.
    pub offsets: BTreeMap<Partition, CommittedOffset>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The open of the log that it belongs to.
    pub open_number: u64,
    /// What it subscribes to, ascending.
    pub topics: Vec<TopicId>,
}

/// The owner of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The member.
    pub member: MemberId,
    /// Whether it is told to give the partition up.
    pub revoking: bool,
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The first offset that isn't consumed.
    pub offset: u64,
    /// Leader epoch of the record before it; 0: none (KIP-320).
    pub leader_epoch: u32,
    /// The command that set it.
    pub lsn: u64,
    /// When, ms since 1970.
    pub time_ms: i64,
}

impl Group {
    /// The partitions that a member owns, and whether it is told to give each up.
    pub fn owned_by(&self, member: MemberId) -> impl Iterator<Item = (Partition, bool)> + '_ {
        let owned = self.owners.iter().filter(move |(_, owner)| owner.member == member);
        owned.map(|(partition, owner)| (*partition, owner.revoking))
    }
}

impl State {
    /// A group's committed offset in a partition.
    pub fn committed_offset(&self, group: &str, partition: Partition) -> Option<CommittedOffset> {
        self.groups.get(group)?.offsets.get(&partition).copied()
    }

    /// `Open` proves that no member of an earlier open lives: the lock of the directory was free.
    pub(super) fn fence_earlier_members(&mut self) {
        for group in self.groups.values_mut().filter(|group| !group.members.is_empty()) {
            let group = Arc::make_mut(group);
            group.members.clear();
            group.owners.clear();
            group.generation += 1;
        }
    }

    pub(super) fn join_group(&mut self, name: &str, topics: &[TopicId]) -> Outcome {
        if !is_legal_name(name) {
            return Err(Refusal::IllegalName { name: name.to_string() });
        }
        for topic in topics {
            if !self.topics.contains_key(topic) {
                return Err(Refusal::UnknownTopic { topic: *topic });
            }
        }
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        let member = MemberId(self.lsn);
        let joined = Member { open_number: self.open_number, topics };
        let group = self.groups.entry(name.to_string()).or_default();
        Arc::make_mut(group).members.insert(member, joined);
        let generation = self.rebalance(name, Change::Members);
        done(Reply::Joined { member, generation })
    }

    pub(super) fn leave_group(&mut self, name: &str, member: MemberId) -> Outcome {
        self.find_member(name, member)?;
        let group = self.group_mut(name);
        group.members.remove(&member);
        group.owners.retain(|_, owner| owner.member != member);
        let generation = self.rebalance(name, Change::Members);
        done(Reply::Group { generation })
    }

    pub(super) fn release_partitions(
        &mut self,
        name: &str,
        member: MemberId,
        partitions: &[Partition],
    ) -> Outcome {
        self.find_member(name, member)?;
        let group = self.group_mut(name);
        let mut released = false;
        for partition in partitions {
            let owned =
                group.owners.get(partition).is_some_and(|owner| owner.member == member && owner.revoking);
            if owned {
                group.owners.remove(partition);
                released = true;
            }
        }
        // A repeated release finds nothing to do, and leaves the generation to the members that live by it.
        let generation = match released {
            true => self.rebalance(name, Change::Released),
            false => self.groups[name].generation,
        };
        done(Reply::Group { generation })
    }

    pub(super) fn commit_offsets(
        &mut self,
        group: &str,
        member: Option<MemberId>,
        offsets: &[OffsetCommit],
    ) -> Outcome {
        self.check_offsets(group, member, offsets, &mut BTreeSet::new())?;
        self.store_offsets(group, offsets);
        done(Reply::OffsetsCommitted)
    }

    /// Everything that can refuse positions; after it [`State::store_offsets`] can't fail.
    ///
    /// `seen` holds the positions that the same command names before these. Two for one partition are refused:
    /// which is meant is unknown, and the second could move the first one back.
    pub(super) fn check_offsets<'a>(
        &self,
        name: &'a str,
        member: Option<MemberId>,
        offsets: &[OffsetCommit],
        seen: &mut BTreeSet<(&'a str, Partition)>,
    ) -> Result<(), Refusal> {
        if !is_legal_name(name) {
            return Err(Refusal::IllegalName { name: name.to_string() });
        }
        let group = self.groups.get(name);
        match member {
            Some(member) => {
                let group = self.find_member(name, member)?;
                let foreign =
                    |it: &&OffsetCommit| group.owners.get(&it.partition).map(|it| it.member) != Some(member);
                if let Some(offset) = offsets.iter().find(foreign) {
                    return Err(Refusal::NotOwned {
                        group: name.to_string(),
                        partition: offset.partition,
                        member,
                    });
                }
            }
            None => {
                let members = group.map_or(0, |group| group.members.len());
                if members > 0 {
                    return Err(Refusal::GroupNotEmpty { group: name.to_string(), members });
                }
            }
        }
        for commit in offsets {
            let (partition, sent) = (commit.partition, commit.offset);
            if !seen.insert((name, partition)) {
                return Err(Refusal::PartitionTwice { partition });
            }
            let (start, end) = self.find(partition).map(|state| (state.start, state.end))?;
            // Below the start is fine: whoever consumed a record may say so when it is trimmed already.
            if sent > end {
                return Err(Refusal::OffsetOutOfRange {
                    group: name.to_string(),
                    partition,
                    sent,
                    start,
                    end,
                });
            }
            let committed = group.and_then(|group| group.offsets.get(&partition)).map_or(0, |it| it.offset);
            if sent < committed && !commit.reset {
                return Err(Refusal::OffsetRegress { group: name.to_string(), partition, sent, committed });
            }
        }
        Ok(())
    }

    pub(super) fn store_offsets(&mut self, name: &str, offsets: &[OffsetCommit]) {
        for commit in offsets {
            let partition = self.partition(commit.partition).expect("the partition was found before");
            let leader_epoch =
                commit.offset.checked_sub(1).map_or(0, |before| partition.leader_epoch_at(before));
            let (lsn, time_ms) = (self.lsn, self.time_ms);
            let stored = CommittedOffset { offset: commit.offset, leader_epoch, lsn, time_ms };
            let group = self.groups.entry(name.to_string()).or_default();
            Arc::make_mut(group).offsets.insert(commit.partition, stored);
        }
    }

    pub(super) fn forget_topic_in_groups(&mut self, topic: TopicId) {
        let concerned: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                group.members.values().any(|member| member.topics.contains(&topic))
                    || group.offsets.keys().any(|partition| partition.topic == topic)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in concerned {
            let group = self.group_mut(&name);
            group.offsets.retain(|partition, _| partition.topic != topic);
            let mut subscribed = false;
            for member in group.members.values_mut() {
                subscribed |= member.topics.contains(&topic);
                member.topics.retain(|it| *it != topic);
            }
            if subscribed {
                self.rebalance(&name, Change::Members);
            }
        }
    }

    fn find_member(&self, name: &str, member: MemberId) -> Result<&Group, Refusal> {
        let group = self.groups.get(name).filter(|group| group.members.contains_key(&member));
        group.map(|group| &**group).ok_or_else(|| Refusal::UnknownMember { group: name.to_string(), member })
    }

    fn group_mut(&mut self, name: &str) -> &mut Group {
        Arc::make_mut(self.groups.get_mut(name).expect("the group was found before"))
    }

    fn rebalance(&mut self, name: &str, change: Change) -> u64 {
        let State { groups, topics, .. } = self;
        let group = Arc::make_mut(groups.get_mut(name).expect("the group was found before"));
        group.reassign(change, |topic| topics.get(&topic).map_or(0, |topic| topic.partitions.len() as u32));
        group.generation
    }
}
