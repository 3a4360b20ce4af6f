//! The coordinator of Kafka's classic consumer groups: who is a member of which group, in which generation, and what
//! its leader has assigned to each.
//!
//! ```text
//!   Empty -> PreparingRebalance -> CompletingRebalance -> Stable
//!     ^        |        ^  ^               |                 |
//!     '--------'        |  '---------------'                 |   somebody joined, left, or was lost
//!   all have left       '------------------------------------'
//! ```
//!
//! It isn't: a server, or a store. Times, tickets and what makes a member id unique come in as arguments; answers that
//! had to wait are taken out. What is assigned is opaque, and offsets are kept elsewhere.
//!
//! Invariants
//!   * a ticket is answered once, and whatever it waits for has a deadline
//!   * the generation of a group only rises, and all of its members are told the same protocol and leader
//!   * a member gets the assignment of the generation that it asks for, or an error
//!   * of the members with the same instance id one is known, the others are fenced

mod group;
mod member;
#[cfg(test)]
mod simulation;
mod subscription;
#[cfg(test)]
mod tests;

use super::deadlines::Deadlines;
use crate::code::*;
use bytes::Bytes;
use group::Group;
use std::collections::{BTreeMap, BTreeSet};

/// The settings of a coordinator, with Kafka's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members, after
    /// each new one. Default 3000.
    pub(crate) initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`. Default 6000.
    pub(crate) session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`. Default 30 minutes.
    pub(crate) session_timeout_max_ms: i32,
    /// `group.max.size`: members of a group. Default no limit.
    pub(crate) group_max_size: usize,
    /// How long a group without members is remembered after it was last asked for anything. Kafka has no such setting:
    /// there it goes with its offsets, which are the log's business here. Default 10 minutes.
    pub(crate) empty_kept_ms: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            initial_rebalance_delay_ms: 3000,
            session_timeout_min_ms: 6000,
            session_timeout_max_ms: 1_800_000,
            group_max_size: i32::MAX as usize,
            empty_kept_ms: 600_000,
        }
    }
}

/// Names a request that is answered now or later. Whoever asks chooses it, and uses it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// JoinGroup.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) group: String,
    /// Empty: it has none yet.
    pub(crate) member_id: String,
    /// `group.instance.id` of a static member.
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    /// Before version 1 of the request: the session timeout.
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    /// Names and metadata, those that the member likes best first.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Whether a dynamic member without an id is told one and has to come back with it (KIP-394, from version 4).
    pub(crate) requires_member_id: bool,
    /// Whether it understands `skip_assignment` (KIP-814, from version 9).
    pub(crate) can_skip_assignment: bool,
    /// Why it joins (KIP-800).
    pub(crate) reason: Option<String>,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) group: String,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    /// Checked if given (KIP-559, from version 5).
    pub(crate) protocol_type: Option<String>,
    /// Checked if given (KIP-559, from version 5).
    pub(crate) protocol_name: Option<String>,
    /// Member ids and what they get: from the leader, others send none.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// Who a request says that it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// -1: of none.
    pub(crate) generation: i32,
    /// Empty: none.
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
}

/// One member of a LeaveGroup.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    /// Empty: whoever has the instance id, as administrators say it.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// Why it leaves (KIP-800).
    pub(crate) reason: Option<String>,
}

/// What a ticket is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To JoinGroup.
    Joined(Joined),
    /// To SyncGroup.
    Synced(Synced),
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) error: i16,
    /// -1 with an error.
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    /// Member id of the leader; empty with an error.
    pub(crate) leader: String,
    /// Whether the leader leaves the assignment as it is (KIP-814).
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// All members: for the leader, others are told none.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) error: i16,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Joined {
    fn refused(error: i16, member_id: impl Into<String>) -> Self {
        Joined {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

impl Synced {
    fn refused(error: i16) -> Self {
        Synced { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// What a group does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// It has no members.
    Empty,
    /// Its members have to join again.
    PreparingRebalance,
    /// All have joined, and wait for the assignment of their leader.
    CompletingRebalance,
    /// All have what is assigned to them, or can ask for it.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// One group in a list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) group: String,
    /// Empty: none yet.
    pub(crate) protocol_type: String,
    pub(crate) state: GroupState,
}

/// What there is to say about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) state: GroupState,
    /// When it came into this state, by the clock that times come in from.
    pub(crate) state_since_ms: i64,
    pub(crate) generation: i32,
    /// Empty: none yet.
    pub(crate) protocol_type: String,
    /// Empty unless the group is stable.
    pub(crate) protocol_name: String,
    pub(crate) members: Vec<DescribedMember>,
    /// Why the last rebalance was begun.
    pub(crate) rebalance_reason: Option<String>,
}

/// What there is to say about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// Empty unless the group is stable.
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

/// What a group needs to know, and where its answers go, while one request is served.
struct Turn<'a> {
    now_ms: i64,
    settings: &'a Settings,
    answers: &'a mut Vec<(Ticket, Answer)>,
}

impl Turn<'_> {
    fn joined(&mut self, ticket: Ticket, joined: Joined) {
        self.answers.push((ticket, Answer::Joined(joined)));
    }

    fn synced(&mut self, ticket: Ticket, synced: Synced) {
        self.answers.push((ticket, Answer::Synced(synced)));
    }

    fn in_ms(&self, delay_ms: i32) -> i64 {
        self.now_ms.saturating_add(i64::from(delay_ms))
    }
}

/// All classic groups.
///
/// Whoever has one calls [`tick`](Coordinator::tick) when [`next_deadline_ms`](Coordinator::next_deadline_ms) has come,
/// and takes the answers out after each call that changes something.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    settings: Settings,
    groups: BTreeMap<String, Group>,
    deadlines: Deadlines,
    answers: Vec<(Ticket, Answer)>,
    is_shut_down: bool,
}

impl Coordinator {
    /// One without groups.
    pub(crate) fn new(settings: Settings) -> Self {
        Coordinator { settings, ..Coordinator::default() }
    }

    /// Takes out what has been answered since the last time, in the order of the answers.
    pub(crate) fn take_answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// JoinGroup. Where the member needs a new id, the suffix makes it unique: it must not repeat, nor be guessed.
    pub(crate) fn join(&mut self, now_ms: i64, join: Join, fresh_suffix: u128, ticket: Ticket) {
        let name = join.group.clone();
        let member_id = join.member_id.clone();
        let checked = self.check_join(&join);
        if checked.is_ok() && member_id.is_empty() {
            self.groups.entry(name.clone()).or_insert_with(|| Group::new(now_ms));
        }
        let joins = |group: &mut Group, turn: &mut Turn<'_>| group.join(turn, join, fresh_suffix, ticket);
        let served = checked.and_then(|()| self.with_group(now_ms, &name, joins).ok_or(UNKNOWN_MEMBER_ID));
        if let Err(error) = served {
            self.answers.push((ticket, Answer::Joined(Joined::refused(error, member_id))));
        }
    }

    /// Refuses a JoinGroup for a reason that isn't this coordinator's.
    pub(crate) fn refuse_join(&mut self, join: Join, error: i16, ticket: Ticket) {
        self.answers.push((ticket, Answer::Joined(Joined::refused(error, join.member_id))));
    }

    fn check_join(&self, join: &Join) -> Result<(), i16> {
        self.check_group_id(&join.group)?;
        let bounds = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        bounds.contains(&join.session_timeout_ms).then_some(()).ok_or(INVALID_SESSION_TIMEOUT)
    }

    fn check_group_id(&self, name: &str) -> Result<(), i16> {
        match (self.is_shut_down, name) {
            (true, _) => Err(COORDINATOR_NOT_AVAILABLE),
            (false, "") => Err(INVALID_GROUP_ID),
            (false, _) => Ok(()),
        }
    }

    /// SyncGroup.
    pub(crate) fn sync(&mut self, now_ms: i64, sync: Sync, ticket: Ticket) {
        let name = sync.group.clone();
        let syncs = |group: &mut Group, turn: &mut Turn<'_>| group.sync(turn, sync, ticket);
        let served = self
            .check_group_id(&name)
            .and_then(|()| self.with_group(now_ms, &name, syncs).ok_or(UNKNOWN_MEMBER_ID));
        if let Err(error) = served {
            self.answers.push((ticket, Answer::Synced(Synced::refused(error))));
        }
    }

    /// Heartbeat: its error code.
    pub(crate) fn heartbeat(&mut self, now_ms: i64, name: &str, claim: Claim<'_>) -> i16 {
        let beats = |group: &mut Group, turn: &mut Turn<'_>| group.heartbeat(turn, claim);
        self.check_group_id(name)
            .and_then(|()| self.with_group(now_ms, name, beats).unwrap_or(Err(UNKNOWN_MEMBER_ID)))
            .err()
            .unwrap_or(NONE)
    }

    /// LeaveGroup: an error code for each of those who leave.
    pub(crate) fn leave(&mut self, now_ms: i64, name: &str, members: &[Leaving]) -> Vec<i16> {
        let leaves = |group: &mut Group, turn: &mut Turn<'_>| group.leave(turn, members);
        self.check_group_id(name)
            .and_then(|()| self.with_group(now_ms, name, leaves).ok_or(UNKNOWN_MEMBER_ID))
            .unwrap_or_else(|error| vec![error; members.len()])
    }

    /// Whether offsets may be committed by whoever claims to be a member. OffsetCommit counts as a heartbeat,
    /// TxnOffsetCommit doesn't. Generation -1 without a member is for groups without members.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND for a plain commit to a group that isn't there: OffsetCommit before version 9 says
    /// ILLEGAL_GENERATION instead.
    pub(crate) fn check_commit(
        &mut self,
        now_ms: i64,
        name: &str,
        claim: Claim<'_>,
        is_transactional: bool,
    ) -> Result<(), i16> {
        if self.is_shut_down {
            return Err(COORDINATOR_NOT_AVAILABLE);
        }
        let checks = |group: &mut Group, turn: &mut Turn<'_>| group.commit(turn, claim, is_transactional);
        let unknown = || match (claim.generation < 0, is_transactional) {
            (true, _) => Ok(()),
            (false, true) => Err(ILLEGAL_GENERATION),
            (false, false) => Err(GROUP_ID_NOT_FOUND),
        };
        self.with_group(now_ms, name, checks).unwrap_or_else(unknown)
    }

    /// Does what is due: delays and rebalances that have taken long enough, sessions and member ids that have expired,
    /// groups that nobody has asked for since their last member left.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        for name in self.deadlines.due(now_ms) {
            match self.groups.get(&name).is_some_and(Group::is_idle) {
                true => self.forget(&name),
                false => _ = self.with_group(now_ms, &name, Group::expire),
            }
        }
    }

    /// When something is due next, if nothing happens before.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.next_ms()
    }

    /// Answers everything that waits, and from now on everything that is asked, with COORDINATOR_NOT_AVAILABLE.
    pub(crate) fn shut_down(&mut self, now_ms: i64) {
        self.is_shut_down = true;
        self.deadlines.clear();
        let mut turn = Turn { now_ms, settings: &self.settings, answers: &mut self.answers };
        self.groups.values_mut().for_each(|group| group.turn_away(&mut turn, COORDINATOR_NOT_AVAILABLE));
    }

    /// All groups, by name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = |(name, group): (&String, &Group)| Listed {
            group: name.clone(),
            protocol_type: group.protocol_type().to_owned(),
            state: group.state(),
        };
        self.groups.iter().map(listed).collect()
    }

    /// What a group does.
    pub(crate) fn state(&self, name: &str) -> GroupState {
        self.groups.get(name).map_or(GroupState::Dead, Group::state)
    }

    /// A group and its members. One that isn't there is dead.
    pub(crate) fn describe(&self, name: &str) -> Description {
        self.groups.get(name).map(Group::describe).unwrap_or_else(|| Description {
            state: GroupState::Dead,
            state_since_ms: 0,
            generation: 0,
            protocol_type: String::new(),
            protocol_name: String::new(),
            members: Vec::new(),
            rebalance_reason: None,
        })
    }

    #[cfg(test)]
    /// Whether a group has no members, or isn't there.
    pub(crate) fn is_empty(&self, name: &str) -> bool {
        self.groups.get(name).is_none_or(|group| group.state() == GroupState::Empty)
    }

    /// Forgets a group without members: its error code. GROUP_ID_NOT_FOUND doesn't say that it has no offsets.
    pub(crate) fn delete(&mut self, name: &str) -> i16 {
        match self.groups.get(name).map(Group::state) {
            None => GROUP_ID_NOT_FOUND,
            Some(GroupState::Empty) => {
                self.forget(name);
                NONE
            }
            Some(_) => NON_EMPTY_GROUP,
        }
    }

    /// The topics that the members of a group read. `None`: nobody can say, as what one of them says of itself can't be
    /// read.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP: it isn't a group of consumers. GROUP_ID_NOT_FOUND doesn't say that it has no offsets.
    pub(crate) fn subscribed(&self, name: &str) -> Result<Option<BTreeSet<String>>, i16> {
        let group = self.groups.get(name).ok_or(GROUP_ID_NOT_FOUND)?;
        match group.state() == GroupState::Empty {
            true => Ok(Some(BTreeSet::new())),
            false if !group.is_of_consumers() => Err(NON_EMPTY_GROUP),
            false => Ok(group.subscribed_topics()),
        }
    }

    /// Lets a group that is there do something, and keeps its deadline.
    fn with_group<T>(
        &mut self,
        now_ms: i64,
        name: &str,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(name)?;
        let done = act(group, &mut Turn { now_ms, settings: &self.settings, answers: &mut self.answers });
        let kept_ms = || now_ms.saturating_add(i64::from(self.settings.empty_kept_ms));
        let deadline_ms = group.deadline_ms().or_else(|| group.is_idle().then(kept_ms));
        self.deadlines.set(name, deadline_ms);
        if group.is_untouched() {
            self.forget(name);
        }
        Some(done)
    }

    fn forget(&mut self, name: &str) {
        self.groups.remove(name);
        self.deadlines.set(name, None);
    }
}
