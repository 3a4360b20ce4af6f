//! One classic group: its members, its generation, and what the group waits for.
//!
//! ```text
//!   prepare_rebalance -> all have joined, or time is up -> begin_generation -> the leader's SyncGroup -> assign
//! ```
//!
//! Invariants
//!   * there is a leader exactly while there are members, and it is one of them
//!   * there is a protocol that all members support
//!   * `instances` names the members that have an instance id, and only those
//!   * no JoinGroup waits unless the group prepares a rebalance, no SyncGroup unless it completes one

use super::member::Member;
use super::{
    Claim, Description, FENCED_INSTANCE_ID, GROUP_MAX_SIZE_REACHED, GroupState, ILLEGAL_GENERATION,
    INCONSISTENT_GROUP_PROTOCOL, Join, Joined, Leaving, MEMBER_ID_REQUIRED, NONE, REBALANCE_IN_PROGRESS,
    Sync, Synced, Ticket, Turn, UNKNOWN_MEMBER_ID, subscription,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of a reason, in characters.
const REASON_CHARS_MAX: usize = 255;
/// Members get so much time at least to join and to sync, whatever they ask for: with none they would get nowhere.
const REBALANCE_TIMEOUT_MIN_MS: i32 = 1000;

/// What the group does, and until when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Empty,
    Preparing {
        until_ms: i64,
        /// Only if it was empty before.
        initial: Option<Initial>,
    },
    /// The deadline is for the SyncGroup of each member.
    Completing {
        until_ms: i64,
    },
    /// As before, for those that ask later than the leader.
    Stable {
        until_ms: i64,
    },
}

/// The first rebalance of an empty group: it waits a while for more members, whoever is there.
#[derive(Clone, Copy, Debug)]
struct Initial {
    /// Nobody can prolong it beyond this.
    limit_ms: i64,
    /// Whether there is a new member since the delay began.
    has_grown: bool,
}

#[derive(Debug)]
pub(super) struct Group {
    phase: Phase,
    phase_since_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    /// Of this generation.
    protocol_name: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member id of each instance id.
    instances: BTreeMap<String, String>,
    /// Member ids that were told and haven't come back, and until when they may (KIP-394).
    pending: BTreeMap<String, i64>,
    rebalance_reason: Option<String>,
}

impl Group {
    pub(super) fn new(now_ms: i64) -> Self {
        Group {
            phase: Phase::Empty,
            phase_since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            rebalance_reason: None,
        }
    }

    pub(super) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type() == subscription::CONSUMER
    }

    /// Whether there is nothing to remember of it: it never had a generation, and nobody is on the way.
    pub(super) fn is_untouched(&self) -> bool {
        self.generation == 0 && self.is_idle()
    }

    /// Whether it has no members, and nobody is on the way.
    pub(super) fn is_idle(&self) -> bool {
        self.state() == GroupState::Empty && self.pending.is_empty()
    }

    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        let each: Option<Vec<_>> = self.members.values().map(Member::topics).collect();
        each.map(|topics| topics.into_iter().flatten().collect())
    }

    pub(super) fn describe(&self) -> Description {
        let is_stable = self.state() == GroupState::Stable;
        let protocol = self.protocol_name.as_deref().filter(|_| is_stable).unwrap_or_default();
        Description {
            state: self.state(),
            state_since_ms: self.phase_since_ms,
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol_name: protocol.to_owned(),
            members: self.members.values().map(|member| member.describe(protocol)).collect(),
            rebalance_reason: self.rebalance_reason.clone(),
        }
    }
}

/// JoinGroup.
impl Group {
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, join: Join, fresh_suffix: u128, ticket: Ticket) {
        if !self.has_room(turn, &join) {
            turn.joined(ticket, Joined::refused(GROUP_MAX_SIZE_REACHED, ""));
            self.remove(turn, &join.member_id);
            self.complete_if_all_joined(turn);
        } else if !self.can_support(&join) {
            turn.joined(ticket, Joined::refused(INCONSISTENT_GROUP_PROTOCOL, join.member_id));
        } else if join.member_id.is_empty() {
            self.join_new(turn, join, fresh_suffix, ticket);
        } else if join.instance_id.is_none() && self.pending.contains_key(&join.member_id) {
            let member_id = join.member_id.clone();
            self.add(turn, member_id, join, ticket);
        } else {
            self.join_again(turn, join, ticket);
        }
    }

    /// Whether it may be a member, or stay one, as far as their number goes. While a rebalance is prepared those count
    /// that have joined: those that come last have to go if the limit was lowered.
    fn has_room(&self, turn: &Turn<'_>, join: &Join) -> bool {
        let by_instance = join.instance_id.as_ref().and_then(|it| self.instances.get(it));
        let known = self.members.get(&join.member_id).or_else(|| self.members.get(by_instance?));
        let max = turn.settings.group_max_size;
        match self.phase {
            Phase::Empty => true,
            Phase::Preparing { .. } => known.is_some_and(Member::is_joining) || self.joining() < max,
            Phase::Completing { .. } | Phase::Stable { .. } => known.is_some() || self.members.len() < max,
        }
    }

    fn joining(&self) -> usize {
        self.members.values().filter(|member| member.is_joining()).count()
    }

    /// Whether a protocol remains that all members support, if this one becomes a member.
    fn can_support(&self, join: &Join) -> bool {
        let is_common = |name: &str| self.members.values().all(|member| member.supports(name));
        let is_typed = match self.members.is_empty() {
            true => !join.protocol_type.is_empty(),
            false => join.protocol_type == self.protocol_type(),
        };
        is_typed && join.protocols.iter().any(|(name, _)| is_common(name))
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, join: Join, fresh_suffix: u128, ticket: Ticket) {
        let member_id = fresh_member_id(&join, fresh_suffix);
        match join.instance_id.as_ref().and_then(|it| self.instances.get(it)).cloned() {
            Some(former_id) => self.replace_static(turn, &former_id, member_id, join, ticket),
            None if join.instance_id.is_none() && join.requires_member_id => {
                self.pending.insert(member_id.clone(), turn.in_ms(join.session_timeout_ms));
                turn.joined(ticket, Joined::refused(MEMBER_ID_REQUIRED, member_id));
            }
            None => self.add(turn, member_id, join, ticket),
        }
    }

    fn add(&mut self, turn: &mut Turn<'_>, member_id: String, join: Join, ticket: Ticket) {
        let why = reason(&format!("new member {member_id}"), join.reason.as_deref());
        if let Phase::Preparing { initial: Some(initial), .. } = &mut self.phase {
            initial.has_grown = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.pending.remove(&member_id);
        self.leader.get_or_insert_with(|| member_id.clone());
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), member_id.clone());
        }
        let member = Member::new(turn, member_id.clone(), join, ticket);
        let former = self.members.insert(member_id, member);
        debug_assert!(former.is_none(), "member ids are unique");
        self.rebalance(turn, why);
    }

    /// A static member has started again, without the id that it had (KIP-345): it takes over its place. Unless the
    /// subscription is another now, nobody else needs to know.
    fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        former_id: &str,
        member_id: String,
        join: Join,
        ticket: Ticket,
    ) {
        let Some(mut member) = self.members.remove(former_id) else {
            return self.add(turn, member_id, join, ticket);
        };
        let why =
            reason(&format!("static member {member_id} instead of {former_id}"), join.reason.as_deref());
        let can_skip_assignment = join.can_skip_assignment;
        let former_leader = self.leader.clone().unwrap_or_default();
        let former_topics = member.topics();
        member.replace(turn, FENCED_INSTANCE_ID, member_id.clone(), join, ticket);
        let is_subscription_equal = !self.is_of_consumers() || former_topics == member.topics();
        if former_leader == former_id {
            self.leader = Some(member_id.clone());
        }
        member.instance_id.clone().map(|it| self.instances.insert(it, member_id.clone()));
        self.members.insert(member_id.clone(), member);
        match self.phase {
            Phase::Stable { .. } if is_subscription_equal && self.protocol_name == self.select_protocol() => {
                let joined = self.joined_as_before(&member_id, former_leader, can_skip_assignment);
                self.answer_join(turn, &member_id, joined);
            }
            _ => self.rebalance(turn, why),
        }
    }

    /// What a static member is told that takes over its place. It mustn't assign anything, even if it leads. If it
    /// can't be told so (KIP-814), the id of its predecessor makes it believe that it doesn't lead.
    fn joined_as_before(&self, member_id: &str, former_leader: String, can_skip_assignment: bool) -> Joined {
        let joined = self.joined(member_id);
        match can_skip_assignment {
            true => Joined { skip_assignment: joined.leader == member_id, ..joined },
            false => Joined { leader: former_leader, members: Vec::new(), ..joined },
        }
    }

    /// A member joins that is known, or says so.
    fn join_again(&mut self, turn: &mut Turn<'_>, join: Join, ticket: Ticket) {
        let is_leader = self.leader.as_deref() == Some(&join.member_id);
        let checked = self.check_member(&join.member_id, join.instance_id.as_deref());
        let member = match (checked, self.members.get_mut(&join.member_id)) {
            (Ok(()), Some(member)) => member,
            (checked, _) => {
                let error = checked.err().unwrap_or(UNKNOWN_MEMBER_ID);
                return turn.joined(ticket, Joined::refused(error, join.member_id));
            }
        };
        let is_told_again = match self.phase {
            Phase::Completing { .. } => member.protocols == join.protocols,
            // The leader joins when it wants to assign anew: topics may have changed, which no metadata shows.
            Phase::Stable { .. } => member.protocols == join.protocols && !is_leader,
            Phase::Empty | Phase::Preparing { .. } => false,
        };
        if is_told_again {
            // It probably didn't get the answer.
            member.is_heard(turn);
            turn.joined(ticket, self.joined(&join.member_id));
        } else {
            let why = reason(&format!("member {} joined again", join.member_id), join.reason.as_deref());
            member.join_again(turn, join, ticket);
            self.rebalance(turn, why);
        }
    }

    /// What a member is told of this generation.
    fn joined(&self, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().filter(|_| leader == member_id);
        Joined {
            error: NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: members.map(|member| member.joined(protocol)).collect(),
            leader,
        }
    }

    fn answer_join(&mut self, turn: &mut Turn<'_>, member_id: &str, joined: Joined) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.answer_join(turn, |_| joined);
        }
    }
}

/// SyncGroup, Heartbeat, LeaveGroup, OffsetCommit.
impl Group {
    pub(super) fn sync(&mut self, turn: &mut Turn<'_>, sync: Sync, ticket: Ticket) {
        let checked = self.check_sync(&sync);
        let member = match (checked, self.members.get_mut(&sync.member_id)) {
            (Ok(()), Some(member)) => member,
            (checked, _) => {
                let error = checked.err().unwrap_or(UNKNOWN_MEMBER_ID);
                return turn.synced(ticket, Synced::refused(error));
            }
        };
        member.sync(turn, ticket);
        match self.phase {
            Phase::Completing { .. } if self.leader.as_ref() == Some(&sync.member_id) => {
                self.assign(turn, sync.assignments);
            }
            Phase::Stable { .. } => self.answer_syncs(turn),
            _ => {}
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), i16> {
        let Sync { generation, member_id, instance_id, .. } = sync;
        self.check(Claim { generation: *generation, member_id, instance_id: instance_id.as_deref() })?;
        let is_other = |given: &Option<String>, ours: &Option<String>| given.is_some() && given != ours;
        match self.phase {
            _ if is_other(&sync.protocol_type, &self.protocol_type) => Err(INCONSISTENT_GROUP_PROTOCOL),
            _ if is_other(&sync.protocol_name, &self.protocol_name) => Err(INCONSISTENT_GROUP_PROTOCOL),
            Phase::Preparing { .. } => Err(REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// The leader has assigned: all that wait for it are told. Who was forgotten gets nothing.
    fn assign(&mut self, turn: &mut Turn<'_>, assignments: Vec<(String, Bytes)>) {
        let Phase::Completing { until_ms } = self.phase else { return };
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (member_id, member) in &mut self.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        self.enter(turn, Phase::Stable { until_ms });
        self.answer_syncs(turn);
    }

    fn answer_syncs(&mut self, turn: &mut Turn<'_>) {
        let Group { protocol_type, protocol_name, members, .. } = self;
        for member in members.values_mut() {
            member.answer_sync(turn, |member| Synced {
                error: NONE,
                protocol_type: protocol_type.clone(),
                protocol_name: protocol_name.clone(),
                assignment: member.assignment.clone(),
            });
        }
    }

    pub(super) fn heartbeat(&mut self, turn: &mut Turn<'_>, claim: Claim<'_>) -> Result<(), i16> {
        self.check(claim)?;
        self.hear(turn, claim.member_id);
        match self.phase {
            Phase::Preparing { .. } => Err(REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    pub(super) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        claim: Claim<'_>,
        is_transactional: bool,
    ) -> Result<(), i16> {
        let Claim { generation, member_id, instance_id } = claim;
        let is_empty = matches!(self.phase, Phase::Empty);
        if generation < 0 && is_empty {
            return Ok(());
        }
        let is_anonymous = generation < 0 && member_id.is_empty() && instance_id.is_none();
        match (is_anonymous, is_transactional) {
            (false, _) => self.check(claim)?,
            // Before version 3 TxnOffsetCommit doesn't say who commits.
            (true, true) => {}
            (true, false) => return Err(UNKNOWN_MEMBER_ID),
        }
        match self.phase {
            _ if is_transactional => Ok(()),
            Phase::Completing { .. } => Err(REBALANCE_IN_PROGRESS),
            _ => {
                self.hear(turn, member_id);
                Ok(())
            }
        }
    }

    fn hear(&mut self, turn: &Turn<'_>, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.is_heard(turn);
        }
    }

    fn check(&self, claim: Claim<'_>) -> Result<(), i16> {
        self.check_member(claim.member_id, claim.instance_id)?;
        (claim.generation == self.generation).then_some(()).ok_or(ILLEGAL_GENERATION)
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), i16> {
        match instance_id.map(|it| self.instances.get(it)) {
            Some(Some(known)) if known != member_id => Err(FENCED_INSTANCE_ID),
            Some(None) => Err(UNKNOWN_MEMBER_ID),
            _ => self.members.contains_key(member_id).then_some(()).ok_or(UNKNOWN_MEMBER_ID),
        }
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, leaving: &[Leaving]) -> Vec<i16> {
        let members_before = self.members.len();
        let codes = leaving.iter().map(|it| self.leave_one(turn, it).err().unwrap_or(NONE)).collect();
        if self.members.len() < members_before {
            let said = leaving.iter().find_map(|it| it.reason.as_deref());
            self.rebalance(turn, reason(&format!("{} left", members_before - self.members.len()), said));
        } else {
            self.complete_if_all_joined(turn);
        }
        codes
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &Leaving) -> Result<(), i16> {
        let Leaving { member_id, instance_id, .. } = leaving;
        let member_id = match (member_id.as_str(), instance_id) {
            ("", Some(instance_id)) => self.instances.get(instance_id).cloned().ok_or(UNKNOWN_MEMBER_ID)?,
            _ => member_id.clone(),
        };
        if !self.pending.contains_key(&member_id) {
            self.check_member(&member_id, instance_id.as_deref())?;
        }
        self.remove(turn, &member_id);
        Ok(())
    }

    /// Forgets a member, or the id of one that hasn't come back. What it waits for is turned away: if it is there, it
    /// joins anew.
    fn remove(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        self.pending.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else { return };
        member.answer_join(turn, |_| Joined::refused(UNKNOWN_MEMBER_ID, ""));
        member.turn_away(turn, UNKNOWN_MEMBER_ID);
        member.instance_id.map(|it| self.instances.remove(&it));
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Answers all that waits with an error.
    pub(super) fn turn_away(&mut self, turn: &mut Turn<'_>, error: i16) {
        self.members.values_mut().for_each(|member| member.turn_away(turn, error));
    }
}

/// Rebalances.
impl Group {
    fn enter(&mut self, turn: &Turn<'_>, phase: Phase) {
        self.phase = phase;
        self.phase_since_ms = turn.now_ms;
    }

    /// Something has changed: a rebalance begins, or the one that is prepared may be complete now.
    fn rebalance(&mut self, turn: &mut Turn<'_>, why: String) {
        match self.phase {
            Phase::Preparing { .. } => self.complete_if_all_joined(turn),
            _ => self.prepare_rebalance(turn, why),
        }
    }

    fn prepare_rebalance(&mut self, turn: &mut Turn<'_>, why: String) {
        self.rebalance_reason = Some(why);
        for member in self.members.values_mut() {
            member.answer_sync(turn, |_| Synced::refused(REBALANCE_IN_PROGRESS));
        }
        let delay_ms = turn.settings.initial_rebalance_delay_ms;
        let until_ms = turn.in_ms(self.rebalance_timeout_ms());
        if let Phase::Empty = self.phase {
            let initial = Some(Initial { limit_ms: until_ms, has_grown: false });
            self.enter(turn, Phase::Preparing { until_ms: turn.in_ms(delay_ms), initial });
        } else {
            self.enter(turn, Phase::Preparing { until_ms, initial: None });
            self.complete_if_all_joined(turn);
        }
    }

    /// The slowest member says how long all wait for it.
    fn rebalance_timeout_ms(&self) -> i32 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        longest.unwrap_or(0).max(REBALANCE_TIMEOUT_MIN_MS)
    }

    fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let is_preparing = matches!(self.phase, Phase::Preparing { initial: None, .. });
        if is_preparing && self.pending.is_empty() && self.members.values().all(Member::is_joining) {
            self.begin_generation(turn);
        }
    }

    /// Whoever has joined makes up the next generation. A static member belongs to it even if it hasn't joined: it may
    /// be about to start again, and is lost with its session or for want of a SyncGroup.
    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.remove_where(turn, |member| !member.is_joining() && member.instance_id.is_none());
        if !self.elect_leader() {
            let until_ms = turn.in_ms(self.rebalance_timeout_ms());
            return self.enter(turn, Phase::Preparing { until_ms, initial: None });
        }
        self.generation += 1;
        self.protocol_name = self.select_protocol();
        if self.members.is_empty() {
            return self.enter(turn, Phase::Empty);
        }
        self.enter(turn, Phase::Completing { until_ms: turn.in_ms(self.rebalance_timeout_ms()) });
        let told: Vec<Joined> = self.members.keys().map(|member_id| self.joined(member_id)).collect();
        self.members
            .values_mut()
            .zip(told)
            .for_each(|(member, joined)| member.begin_generation(turn, joined));
    }

    /// Sees to it that the leader is one that has joined, if there are members at all; `false` if none has.
    fn elect_leader(&mut self) -> bool {
        let is_there = |member: &&Member| member.is_joining();
        let leader = self.leader.as_ref().and_then(|it| self.members.get(it)).filter(is_there);
        let elected = leader.or_else(|| self.members.values().find(is_there));
        let elected = elected.map(|member| member.member_id.clone());
        let is_elected = elected.is_some();
        self.leader = elected.or(self.leader.take());
        is_elected || self.members.is_empty()
    }

    /// Each member votes for the one that it likes best among those that all support. Of equals the first by name.
    fn select_protocol(&self) -> Option<String> {
        let names = self.members.values().next()?.protocols.iter().map(|(name, _)| name.as_str());
        let is_common = |name: &&str| self.members.values().all(|member| member.supports(name));
        let candidates: BTreeSet<&str> = names.filter(is_common).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        votes.into_iter().rev().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    fn remove_where(&mut self, turn: &mut Turn<'_>, is_lost: impl Fn(&Member) -> bool) -> usize {
        let lost = self.members.values().filter(|member| is_lost(member));
        let lost: Vec<String> = lost.map(|member| member.member_id.clone()).collect();
        lost.iter().for_each(|member_id| self.remove(turn, member_id));
        lost.len()
    }
}

/// Time.
impl Group {
    /// When something is due, if nothing happens before.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        let is_sync_missing = || self.members.values().any(|member| member.is_sync_missing);
        let phase = match self.phase {
            Phase::Preparing { until_ms, .. } => Some(until_ms),
            Phase::Completing { until_ms } | Phase::Stable { until_ms } if is_sync_missing() => {
                Some(until_ms)
            }
            _ => None,
        };
        let sessions = self.members.values().filter_map(Member::deadline_ms);
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        self.expire_phase(turn);
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        self.pending.retain(|_, deadline_ms| *deadline_ms > turn.now_ms);
        self.complete_if_all_joined(turn);
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms;
        let is_lost = |member: &Member| member.deadline_ms().is_some_and(|it| it <= now_ms);
        let lost = self.remove_where(turn, is_lost);
        if lost > 0 {
            self.rebalance(turn, format!("{lost} lost: session timeout"));
        }
    }

    fn expire_phase(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Preparing { until_ms, initial } if until_ms <= turn.now_ms => {
                self.expire_preparing(turn, initial);
            }
            Phase::Completing { until_ms } | Phase::Stable { until_ms } if until_ms <= turn.now_ms => {
                let lost = self.remove_where(turn, |member| member.is_sync_missing);
                if lost > 0 {
                    self.prepare_rebalance(turn, format!("{lost} lost: no SyncGroup in time"));
                }
            }
            _ => {}
        }
    }

    fn expire_preparing(&mut self, turn: &mut Turn<'_>, initial: Option<Initial>) {
        let delayed_ms = turn.in_ms(turn.settings.initial_rebalance_delay_ms);
        match initial {
            Some(Initial { limit_ms, has_grown: true }) if turn.now_ms < delayed_ms.min(limit_ms) => {
                let until_ms = delayed_ms.min(limit_ms);
                let initial = Some(Initial { limit_ms, has_grown: false });
                self.phase = Phase::Preparing { until_ms, initial };
            }
            _ => self.begin_generation(turn),
        }
    }
}

/// `client-suffix`, or `instance-suffix`; the suffix is written as a UUID.
fn fresh_member_id(join: &Join, suffix: u128) -> String {
    let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
    let hex = format!("{suffix:032x}");
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{prefix}-{a}-{b}-{c}-{d}-{e}")
}

/// What happened, and what the client says about it (KIP-800).
fn reason(what: &str, said: Option<&str>) -> String {
    let said: String = said.unwrap_or("not provided").chars().take(REASON_CHARS_MAX).collect();
    format!("{what}; client reason: {said}")
}
