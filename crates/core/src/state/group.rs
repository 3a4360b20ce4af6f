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
use crate::command::{
    OFFSET_METADATA_BYTES_MAX, OffsetCommit, OffsetMetadata, SEMANTICS_LEVEL_GROUP_NAMES,
    SEMANTICS_LEVEL_OFFSETS_AHEAD, is_legal_group_name, is_legal_name,
};
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
    /// Offsets that open wire transactions are about to commit, by the transactions' `txn_seq`.
    pub pending: BTreeMap<Partition, BTreeMap<u64, CommittedOffset>>,
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

/// A committed offset. Order and types of the fields are a format (docs/FORMAT.md, "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The first offset that isn't consumed.
    pub offset: u64,
    /// Leader epoch of the record before it; 0: none (KIP-320).
    pub leader_epoch: u32,
    /// The command that set it.
    pub lsn: u64,
    /// When, ms since 1970.
    pub time_ms: i64,
    /// What its sender keeps beside it. A section of its own in checkpoints, and not a part of these bytes.
    #[serde(skip)]
    pub metadata: OffsetMetadata,
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
    pub fn committed_offset(&self, group: &str, partition: Partition) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(&partition)
    }

    /// Free text, where the log has risen to that; else as a topic's, with the answer of that time (ADR 40).
    pub(super) fn check_group_name(&self, name: &str) -> Result<(), Refusal> {
        match self.semantics_level >= SEMANTICS_LEVEL_GROUP_NAMES {
            true if !is_legal_group_name(name) => Err(Refusal::IllegalGroupName { name: name.to_string() }),
            false if !is_legal_name(name) => Err(Refusal::IllegalName { name: name.to_string() }),
            _ => Ok(()),
        }
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
        self.check_group_name(name)?;
        for topic in topics {
            self.find_topic(*topic)?;
        }
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        let member = MemberId(self.lsn);
        let joined = Member { open_number: self.open_number, topics };
        let group = self.groups.entry(name.to_string()).or_default();
        Arc::make_mut(group).members.insert(member, joined);
        self.note_members(name);
        let generation = self.rebalance(name, Change::Members);
        done(Reply::Joined { member, generation })
    }

    pub(super) fn leave_group(&mut self, name: &str, member: MemberId) -> Outcome {
        self.find_member(name, member)?;
        let group = self.group_mut(name);
        group.members.remove(&member);
        group.owners.retain(|_, owner| owner.member != member);
        self.note_members(name);
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
        self.check_offsets(group, member, offsets, &mut BTreeSet::new(), self.takes_offsets_ahead())?;
        self.store_offsets(group, offsets);
        done(Reply::OffsetsCommitted)
    }

    /// Everything that can refuse positions; after it [`State::store_offsets`] can't fail.
    ///
    /// `seen` holds the positions that the same command names before these. Two for one partition are refused:
    /// which is meant is unknown, and the second could move the first one back. `ahead`: whether a position may lie
    /// behind the end.
    pub(super) fn check_offsets<'a>(
        &self,
        name: &'a str,
        member: Option<MemberId>,
        offsets: &[OffsetCommit],
        seen: &mut BTreeSet<(&'a str, Partition)>,
        ahead: bool,
    ) -> Result<(), Refusal> {
        self.check_group_name(name)?;
        match member {
            Some(member) => self.check_owner(name, member, offsets)?,
            None => {
                let members = self.groups.get(name).map_or(0, |group| group.members.len());
                if members > 0 {
                    return Err(Refusal::GroupNotEmpty { group: name.to_string(), members });
                }
            }
        }
        let committed = |partition| self.committed_offset(name, partition).map_or(0, |it| it.offset);
        self.check_positions(name, offsets, seen, ahead, committed)
    }

    /// Whether positions that clients commit may lie behind the end.
    fn takes_offsets_ahead(&self) -> bool {
        self.semantics_level >= SEMANTICS_LEVEL_OFFSETS_AHEAD
    }

    fn check_owner(&self, name: &str, member: MemberId, offsets: &[OffsetCommit]) -> Result<(), Refusal> {
        let group = self.find_member(name, member)?;
        let foreign =
            |it: &&OffsetCommit| group.owners.get(&it.partition).map(|it| it.member) != Some(member);
        match offsets.iter().find(foreign) {
            Some(OffsetCommit { partition, .. }) => {
                Err(Refusal::NotOwned { group: name.to_string(), partition: *partition, member })
            }
            None => Ok(()),
        }
    }

    /// What of positions doesn't depend on who commits them. `committed` is what they may not lie behind.
    fn check_positions<'a>(
        &self,
        name: &'a str,
        offsets: &[OffsetCommit],
        seen: &mut BTreeSet<(&'a str, Partition)>,
        ahead: bool,
        committed: impl Fn(Partition) -> u64,
    ) -> Result<(), Refusal> {
        for commit in offsets {
            let (partition, sent) = (commit.partition, commit.offset);
            if !seen.insert((name, partition)) {
                return Err(Refusal::PartitionTwice { partition });
            }
            let bytes = commit.metadata.as_str().len();
            if bytes > OFFSET_METADATA_BYTES_MAX {
                let max = OFFSET_METADATA_BYTES_MAX;
                return Err(Refusal::OffsetMetadataTooLarge { partition, bytes, max });
            }
            let (start, end) = self.find(partition).map(|state| (state.start, state.end))?;
            // Below the start is fine: whoever consumed a record may say so when it is trimmed already.
            if sent > end && !ahead {
                return Err(Refusal::OffsetOutOfRange {
                    group: name.to_string(),
                    partition,
                    sent,
                    start,
                    end,
                });
            }
            let committed = committed(partition);
            if sent < committed && !commit.reset {
                return Err(Refusal::OffsetRegress { group: name.to_string(), partition, sent, committed });
            }
        }
        Ok(())
    }

    pub(super) fn store_offsets(&mut self, name: &str, offsets: &[OffsetCommit]) {
        for commit in offsets {
            let stored = self.committed_by(commit);
            let group = self.groups.entry(name.to_string()).or_default();
            Arc::make_mut(group).offsets.insert(commit.partition, stored);
        }
        self.note_offsets();
    }

    /// What a position becomes when it is committed by this command.
    fn committed_by(&self, commit: &OffsetCommit) -> CommittedOffset {
        let partition = self.partition(commit.partition).expect("the partition was found before");
        let leader_epoch = commit.offset.checked_sub(1).map_or(0, |before| partition.leader_epoch_at(before));
        CommittedOffset {
            offset: commit.offset,
            leader_epoch,
            lsn: self.lsn,
            time_ms: self.time_ms,
            metadata: commit.metadata.clone(),
        }
    }

    /// A group's committed offset in a partition, unless an open transaction is about to commit another
    /// (OffsetFetch with `require_stable`, KIP-447).
    ///
    /// # Errors
    /// [`Refusal::UnstableOffset`].
    pub fn stable_offset(
        &self,
        group: &str,
        partition: Partition,
    ) -> Result<Option<&CommittedOffset>, Refusal> {
        match self.groups.get(group).is_some_and(|found| found.pending.contains_key(&partition)) {
            true => Err(Refusal::UnstableOffset { group: group.to_string(), partition }),
            false => Ok(self.committed_offset(group, partition)),
        }
    }

    /// Everything that can refuse positions of a transaction (KIP-447). Without a member they are taken as they come,
    /// as in Kafka: who has the transactional id is checked elsewhere.
    pub(super) fn check_pending_offsets(
        &self,
        name: &str,
        member: Option<(MemberId, u64)>,
        offsets: &[OffsetCommit],
    ) -> Result<(), Refusal> {
        self.check_group_name(name)?;
        if let Some((member, sent)) = member {
            let current = self.find_member(name, member)?.generation;
            if sent != current {
                return Err(Refusal::StaleGeneration { group: name.to_string(), sent, current });
            }
            self.check_owner(name, member, offsets)?;
        }
        // Whichever transaction ends first, the offset doesn't move back.
        let committed = |partition| {
            let group = self.groups.get(name);
            let pending = group.and_then(|group| group.pending.get(&partition));
            let pending = pending.into_iter().flat_map(BTreeMap::values).map(|it| it.offset).max();
            let committed = self.committed_offset(name, partition).map(|it| it.offset);
            committed.max(pending).unwrap_or(0)
        };
        self.check_positions(name, offsets, &mut BTreeSet::new(), self.takes_offsets_ahead(), committed)
    }

    pub(super) fn store_pending_offsets(&mut self, name: &str, txn_seq: u64, offsets: &[OffsetCommit]) {
        for commit in offsets {
            let pending = self.committed_by(commit);
            let group = Arc::make_mut(self.groups.entry(name.to_string()).or_default());
            group.pending.entry(commit.partition).or_default().insert(txn_seq, pending);
        }
    }

    /// The transaction has ended: its offsets become the group's, but for those that were committed later, or are
    /// dropped.
    pub(super) fn settle_pending_offsets(&mut self, name: &str, txn_seq: u64, commit: bool) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let group = Arc::make_mut(group);
        let Group { offsets, pending, .. } = group;
        pending.retain(|partition, of_partition| {
            if let Some(ended) = of_partition.remove(&txn_seq)
                && commit
                && offsets.get(partition).is_none_or(|committed| committed.lsn < ended.lsn)
            {
                offsets.insert(*partition, ended);
            }
            !of_partition.is_empty()
        });
        // One that only this transaction has made leaves nothing behind.
        if *group == Group::default() {
            self.groups.remove(name);
        }
        self.note_group(name);
    }

    pub(super) fn forget_topic_in_groups(&mut self, topic: TopicId) {
        let concerned: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                group.members.values().any(|member| member.topics.contains(&topic))
                    || group.offsets.keys().any(|partition| partition.topic == topic)
                    || group.pending.keys().any(|partition| partition.topic == topic)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in concerned {
            let group = self.group_mut(&name);
            group.offsets.retain(|partition, _| partition.topic != topic);
            group.pending.retain(|partition, _| partition.topic != topic);
            let mut subscribed = false;
            for member in group.members.values_mut() {
                subscribed |= member.topics.contains(&topic);
                member.topics.retain(|it| *it != topic);
            }
            if subscribed {
                self.rebalance(&name, Change::Members);
            }
            self.note_group(&name);
        }
    }

    /// A topic has new partitions: the groups that read it share them.
    pub(super) fn share_new_partitions(&mut self, topic: TopicId) {
        let subscribed = |group: &Group| group.members.values().any(|member| member.topics.contains(&topic));
        let concerned = self.groups.iter().filter(|(_, group)| subscribed(group));
        for name in concerned.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.rebalance(&name, Change::Members);
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
