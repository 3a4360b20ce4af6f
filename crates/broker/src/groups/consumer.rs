//! The coordinator of consumer groups as KIP-848 has them: who is a member, what each is to have, and what each has.
//!
//! ```text
//!   something changes -> group epoch + 1 -> target assignment of this epoch -> each member is led there:
//!
//!     Unrevoked: gives up what it isn't to have any more -> Unreleased: waits for what others have -> Stable
//! ```
//!
//! It isn't: a server, or a store. Times, topics and what makes a member id unique come in as arguments, and offsets
//! are kept elsewhere.
//!
//! Invariants
//!   * a partition has one owner at most: it is given to a member when the one that had it has said that it gave it up,
//!     has left, or was fenced (semantics GR-4)
//!   * the epochs of a group only rise, and no member has a higher one than its group
//!   * a heartbeat that is refused has changed nothing

mod assignor;
mod group;
mod member;
mod pattern;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use super::deadlines::Deadlines;
use crate::code::*;
pub(crate) use assignor::Assignor;
use group::Group;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The epoch of a member that joins.
pub(crate) const JOINS: i32 = 0;
/// The epoch of a member that leaves.
pub(crate) const LEAVES: i32 = -1;
/// The epoch of a static member that leaves and comes back.
pub(crate) const LEAVES_FOR_NOW: i32 = -2;

/// The settings of a coordinator, with Kafka's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `group.consumer.heartbeat.interval.ms`: how often members are told to send heartbeats. Default 5000.
    pub(crate) heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`: how long after its last heartbeat a member is fenced. Default 45,000.
    pub(crate) session_timeout_ms: i32,
    /// `group.consumer.max.size`: members of a group. Default no limit.
    pub(crate) group_max_size: usize,
    /// How long a group without members is remembered after it was last asked for anything. Kafka has no such setting:
    /// there it goes with its offsets, which are the log's business here. Default 10 minutes.
    pub(crate) empty_kept_ms: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            heartbeat_interval_ms: 5000,
            session_timeout_ms: 45_000,
            group_max_size: i32::MAX as usize,
            empty_kept_ms: 600_000,
        }
    }
}

/// The id of a topic, as it is told on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) u128);

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicPartition {
    pub(crate) topic: TopicId,
    pub(crate) index: i32,
}

/// What there is to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
}

/// All topics as of one moment, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
}

impl FromIterator<(String, Topic)> for Topics {
    fn from_iter<I: IntoIterator<Item = (String, Topic)>>(topics: I) -> Self {
        let by_name: BTreeMap<String, Topic> = topics.into_iter().collect();
        let names = by_name.iter().map(|(name, topic)| (topic.id, name.clone())).collect();
        Topics { by_name, names }
    }
}

/// ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) group: String,
    /// Empty: it has none yet.
    pub(crate) member_id: String,
    /// The one that it was told last; 0: it joins, -1: it leaves, -2: it leaves and comes back.
    pub(crate) member_epoch: i32,
    /// `group.instance.id` of a static member.
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    /// -1: as before.
    pub(crate) rebalance_timeout_ms: i32,
    /// `None`: as before.
    pub(crate) topic_names: Option<BTreeSet<String>>,
    /// `None`: as before; empty: none.
    pub(crate) topic_regex: Option<String>,
    /// `None`: as before, or whichever.
    pub(crate) server_assignor: Option<String>,
    /// The partitions that it has. `None`: as before.
    pub(crate) owned: Option<BTreeSet<TopicPartition>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// Whether it has made up its id itself (from version 1); else it is told one when it joins.
    pub(crate) brings_member_id: bool,
}

impl Heartbeat {
    /// Whether it says everything that a member can say: then it may not know what it was told last.
    fn is_full(&self) -> bool {
        let is_subscribed = self.topic_names.is_some() || self.topic_regex.is_some();
        self.rebalance_timeout_ms != -1 && is_subscribed && self.owned.is_some()
    }

    /// What is wrong with it whatever the group is.
    fn check(&self) -> Result<(), Refused> {
        let invalid = |what: String| Err((INVALID_REQUEST, what));
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        let needs_id = self.brings_member_id || self.member_epoch != JOINS;
        match self.member_epoch {
            _ if needs_id && self.member_id.is_empty() => invalid("MemberId is empty".into()),
            _ if self.group.is_empty() => invalid("GroupId is empty".into()),
            _ if is_empty(&self.instance_id) => invalid("InstanceId is empty".into()),
            _ if is_empty(&self.rack_id) => invalid("RackId is empty".into()),
            JOINS => self.check_join(),
            LEAVES_FOR_NOW if self.instance_id.is_none() => {
                invalid("InstanceId is missing: with MemberEpoch -2 a static member leaves".into())
            }
            epoch if epoch < LEAVES_FOR_NOW => invalid(format!("MemberEpoch is {epoch}: it is -2 at least")),
            _ => Ok(()),
        }
    }

    fn check_join(&self) -> Result<(), Refused> {
        let invalid = |what: &str| Err((INVALID_REQUEST, format!("{what} with MemberEpoch 0")));
        let is_subscribed = self.topic_names.is_some() || self.topic_regex.is_some();
        match &self.owned {
            _ if self.rebalance_timeout_ms == -1 => invalid("RebalanceTimeoutMs is missing"),
            Some(owned) if owned.is_empty() && is_subscribed => Ok(()),
            Some(owned) if owned.is_empty() => {
                invalid("both SubscribedTopicNames and SubscribedTopicRegex are missing")
            }
            Some(_) => invalid("TopicPartitions isn't empty"),
            None => invalid("TopicPartitions is missing"),
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beaten {
    pub(crate) member_id: String,
    pub(crate) member_epoch: i32,
    /// 0 for who leaves.
    pub(crate) heartbeat_interval_ms: i32,
    /// All that the member is to have now. `None`: as it was told before.
    pub(crate) assignment: Option<BTreeSet<TopicPartition>>,
}

/// Who wants to commit or to see offsets, and of which partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    /// -1: of none.
    pub(crate) member_epoch: i32,
    pub(crate) partitions: &'a [TopicPartition],
    /// Whether it is TxnOffsetCommit.
    pub(crate) is_transactional: bool,
    /// Whether the request is of a version that knows of member epochs (OffsetCommit from 9 on).
    pub(crate) knows_member_epochs: bool,
}

/// What a group does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// It has no members.
    Empty,
    /// Something has changed: the next heartbeat makes a new target assignment.
    Assigning,
    /// Not all members have what they are to have.
    Reconciling,
    /// All have.
    Stable,
}

impl GroupState {
    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

/// What there is to say about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) state: GroupState,
    pub(crate) epoch: i32,
    pub(crate) assignment_epoch: i32,
    pub(crate) assignor: Assignor,
    pub(crate) members: Vec<DescribedMember>,
}

/// What there is to say about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) member_epoch: i32,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topic_names: Vec<String>,
    pub(crate) topic_regex: Option<String>,
    /// What it has, without what it gives up.
    pub(crate) assignment: Vec<DescribedPartitions>,
    /// What it is to have.
    pub(crate) target: Vec<DescribedPartitions>,
}

/// Partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedPartitions {
    pub(crate) topic: TopicId,
    pub(crate) name: String,
    pub(crate) indexes: Vec<i32>,
}

/// What a group needs to know while one request is served.
#[derive(Clone, Copy)]
struct Turn<'a> {
    now_ms: i64,
    settings: &'a Settings,
    topics: &'a Arc<Topics>,
}

impl Turn<'_> {
    fn in_ms(&self, delay_ms: i32) -> i64 {
        self.now_ms.saturating_add(i64::from(delay_ms))
    }
}

/// All consumer groups.
///
/// Whoever has one calls [`tick`](Coordinator::tick) when [`next_deadline_ms`](Coordinator::next_deadline_ms) has come.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    settings: Settings,
    groups: BTreeMap<String, Group>,
    deadlines: Deadlines,
    is_shut_down: bool,
}

impl Coordinator {
    /// One without groups.
    pub(crate) fn new(settings: Settings) -> Self {
        Coordinator { settings, ..Coordinator::default() }
    }

    /// ConsumerGroupHeartbeat. Where the member needs an id, the number makes it unique: it must not repeat, nor be
    /// guessed.
    ///
    /// # Errors
    /// The code that it is refused with, and why. A member of a group that isn't there is told UNKNOWN_MEMBER_ID:
    /// it was lost with the node that knew it, and joins anew.
    pub(crate) fn heartbeat(
        &mut self,
        now_ms: i64,
        mut heartbeat: Heartbeat,
        fresh_id: u128,
        topics: &Arc<Topics>,
    ) -> Result<Beaten, Refused> {
        self.check(&heartbeat)?;
        if heartbeat.member_id.is_empty() {
            heartbeat.member_id = fresh_member_id(fresh_id);
        }
        let name = heartbeat.group.clone();
        let is_known = self.groups.contains_key(&name);
        match heartbeat.member_epoch {
            JOINS if !is_known => _ = self.groups.insert(name.clone(), Group::default()),
            _ => {}
        }
        let unknown = self.unknown_group(&heartbeat);
        let beaten = self
            .with_group(now_ms, &name, topics, |group, turn| group.heartbeat(turn, heartbeat))
            .unwrap_or(Err(unknown));
        if !is_known && beaten.is_err() {
            self.forget(&name);
        }
        beaten
    }

    fn check(&self, heartbeat: &Heartbeat) -> Result<(), Refused> {
        if self.is_shut_down {
            return Err((COORDINATOR_NOT_AVAILABLE, "the node ends".into()));
        }
        heartbeat.check()?;
        match &heartbeat.server_assignor {
            Some(name) if Assignor::named(name).is_none() => {
                let known = Assignor::ALL.map(Assignor::name).join(", ");
                let why = format!("there is no assignor {name:?} in the node: there are {known}");
                Err((UNSUPPORTED_ASSIGNOR, why))
            }
            _ => Ok(()),
        }
    }

    fn unknown_group(&self, heartbeat: &Heartbeat) -> Refused {
        let Heartbeat { group, member_id, member_epoch, .. } = heartbeat;
        match *member_epoch {
            LEAVES | LEAVES_FOR_NOW => (GROUP_ID_NOT_FOUND, format!("there is no group {group:?}")),
            _ => (UNKNOWN_MEMBER_ID, format!("there is no group {group:?} with a member {member_id:?}")),
        }
    }

    /// Whether offsets may be committed, or seen, by whoever says that he is a member. Nothing: there is no such group.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID; STALE_MEMBER_EPOCH, ILLEGAL_GENERATION if it is TxnOffsetCommit; UNSUPPORTED_VERSION.
    pub(crate) fn check_commit(&self, name: &str, commit: Commit<'_>) -> Option<Result<(), i16>> {
        match self.is_shut_down {
            true => Some(Err(COORDINATOR_NOT_AVAILABLE)),
            false => Some(self.groups.get(name)?.check_commit(commit)),
        }
    }

    /// As [`check_commit`](Coordinator::check_commit), for OffsetFetch; `None` for all partitions.
    pub(crate) fn check_fetch(
        &self,
        name: &str,
        member_id: &str,
        member_epoch: i32,
        partitions: Option<&[TopicPartition]>,
    ) -> Option<Result<(), i16>> {
        Some(self.groups.get(name)?.check_fetch(member_id, member_epoch, partitions))
    }

    /// Does what is due: fences members that haven't been heard of, or don't give up what they are to give up; forgets
    /// groups that nobody has asked for since their last member left.
    pub(crate) fn tick(&mut self, now_ms: i64, topics: &Arc<Topics>) {
        for name in self.deadlines.due(now_ms) {
            match self.groups.get(&name).is_some_and(Group::is_idle) {
                true => self.forget(&name),
                false => _ = self.with_group(now_ms, &name, topics, |group, turn| group.expire(turn)),
            }
        }
    }

    /// When something is due next, if nothing happens before.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.next_ms()
    }

    /// From now on all that is asked is answered with COORDINATOR_NOT_AVAILABLE.
    pub(crate) fn shut_down(&mut self) {
        self.is_shut_down = true;
        self.deadlines.clear();
    }

    /// What a group does; nothing: there is no such group.
    pub(crate) fn state(&self, name: &str) -> Option<GroupState> {
        self.groups.get(name).map(Group::state)
    }

    /// All groups and what they do, by name.
    pub(crate) fn list(&self) -> Vec<(String, GroupState)> {
        self.groups.iter().map(|(name, group)| (name.clone(), group.state())).collect()
    }

    /// A group and its members.
    pub(crate) fn describe(&self, name: &str) -> Option<Description> {
        self.groups.get(name).map(Group::describe)
    }

    /// Forgets a group without members: its error code. GROUP_ID_NOT_FOUND doesn't say that it has no offsets.
    pub(crate) fn delete(&mut self, name: &str) -> i16 {
        match self.state(name) {
            None => GROUP_ID_NOT_FOUND,
            Some(GroupState::Empty) => {
                self.forget(name);
                NONE
            }
            Some(_) => NON_EMPTY_GROUP,
        }
    }

    /// The topics that the members of a group read; nothing: there is no such group.
    pub(crate) fn subscribed(&self, name: &str) -> Option<BTreeSet<String>> {
        self.groups.get(name).map(Group::subscribed_topics)
    }

    /// Lets a group that is there do something, and keeps its deadline.
    fn with_group<T>(
        &mut self,
        now_ms: i64,
        name: &str,
        topics: &Arc<Topics>,
        act: impl FnOnce(&mut Group, Turn<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(name)?;
        let done = act(group, Turn { now_ms, settings: &self.settings, topics });
        let kept_ms = || now_ms.saturating_add(i64::from(self.settings.empty_kept_ms));
        let deadline_ms = group.deadline_ms().or_else(|| group.is_idle().then(kept_ms));
        self.deadlines.set(name, deadline_ms);
        Some(done)
    }

    fn forget(&mut self, name: &str) {
        self.groups.remove(name);
        self.deadlines.set(name, None);
    }
}

/// Written as a UUID.
fn fresh_member_id(number: u128) -> String {
    let hex = format!("{number:032x}");
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}
