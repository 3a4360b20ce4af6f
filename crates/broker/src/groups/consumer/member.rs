//! A member of a consumer group, and how far it is on its way to what it is to have.
//!
//! ```text
//!                  .-- has given it up ---.    .-- it is there -------.
//!   Stable -> Unrevoked ------------------+-> Unreleased -------------+-> Stable
//!      '-- nothing to give up ------------'
//! ```
//!
//! Invariants
//!   * `assigned` is what it was told to have; what it gives up is in `revoking` until it has said that it did
//!   * its epoch rises when all that it is to give up is given up

use super::assignor::Assignor;
use super::{Beaten, Heartbeat, LEAVES_FOR_NOW, TopicPartition, Turn};
use std::collections::{BTreeMap, BTreeSet};

/// Where a member stands (semantics 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has to give up what is in `revoking`.
    Unrevoked,
    /// It waits for partitions that others have.
    Unreleased,
    /// It has what it is to have at its epoch.
    Stable,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) epoch: i32,
    /// The epoch before: its heartbeats may still have it, if the answer was lost.
    previous_epoch: i32,
    pub(super) standing: Standing,
    /// Each with the epoch that it was assigned at.
    pub(super) assigned: BTreeMap<TopicPartition, i32>,
    pub(super) revoking: BTreeMap<TopicPartition, i32>,
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) topic_names: BTreeSet<String>,
    /// Not empty.
    pub(super) topic_regex: Option<String>,
    pub(super) assignor: Option<Assignor>,
    rebalance_timeout_ms: i32,
    session_until_ms: i64,
    revoking_until_ms: Option<i64>,
}

impl Member {
    /// One that hasn't been told anything yet.
    pub(super) fn new() -> Self {
        Member {
            epoch: 0,
            previous_epoch: 0,
            standing: Standing::Stable,
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topic_names: BTreeSet::new(),
            topic_regex: None,
            assignor: None,
            rebalance_timeout_ms: 0,
            session_until_ms: 0,
            revoking_until_ms: None,
        }
    }

    /// Whether its epoch is one that a heartbeat of it can have: the current one; the one before, if the member says
    /// that it has nothing but what is assigned to it; or it joins once more.
    pub(super) fn can_beat(&self, heartbeat: &Heartbeat) -> bool {
        let is_part = |owned: &BTreeSet<_>| owned.iter().all(|it| self.assigned.contains_key(it));
        let is_behind = heartbeat.member_epoch == self.previous_epoch;
        heartbeat.member_epoch == super::JOINS
            || heartbeat.member_epoch == self.epoch
            || (is_behind
                && self.previous_epoch < self.epoch
                && heartbeat.owned.as_ref().is_some_and(is_part))
    }

    /// Takes over what it says of itself; whether it subscribes to something else now.
    pub(super) fn update(&mut self, turn: Turn<'_>, heartbeat: &Heartbeat) -> bool {
        let take = |ours: &mut Option<String>, said: &Option<String>| {
            if said.is_some() {
                ours.clone_from(said);
            }
        };
        take(&mut self.instance_id, &heartbeat.instance_id);
        take(&mut self.rack_id, &heartbeat.rack_id);
        self.client_id.clone_from(&heartbeat.client_id);
        self.client_host.clone_from(&heartbeat.client_host);
        if heartbeat.rebalance_timeout_ms != -1 {
            self.rebalance_timeout_ms = heartbeat.rebalance_timeout_ms;
        }
        if let Some(name) = &heartbeat.server_assignor {
            self.assignor = Assignor::named(name);
        }
        self.session_until_ms = turn.in_ms(turn.settings.session_timeout_ms);
        self.subscribe(heartbeat)
    }

    fn subscribe(&mut self, heartbeat: &Heartbeat) -> bool {
        let mut has_changed = false;
        if let Some(names) = heartbeat.topic_names.as_ref().filter(|names| **names != self.topic_names) {
            self.topic_names.clone_from(names);
            has_changed = true;
        }
        if let Some(regex) = &heartbeat.topic_regex {
            let regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
            has_changed |= regex != self.topic_regex;
            self.topic_regex = regex;
        }
        has_changed
    }

    /// Goes on towards what it is to have at an epoch, as far as it can. `owned`: what it says that it has.
    pub(super) fn reconcile(
        &mut self,
        turn: Turn<'_>,
        epoch: i32,
        target: &BTreeSet<TopicPartition>,
        is_free: impl Fn(&TopicPartition) -> bool,
        owned: Option<&BTreeSet<TopicPartition>>,
    ) {
        let has_any_of = |given_up: &BTreeMap<TopicPartition, i32>| match owned {
            Some(owned) => owned.iter().any(|it| given_up.contains_key(it)),
            None => true,
        };
        match self.standing {
            Standing::Stable if self.epoch == epoch => return,
            Standing::Unrevoked if has_any_of(&self.revoking) => return,
            _ => {}
        }
        let assigned = std::mem::take(&mut self.assigned).into_iter();
        let (kept, given_up): (BTreeMap<_, _>, BTreeMap<_, _>) =
            assigned.partition(|(it, _)| target.contains(it));
        self.assigned = kept;
        if !given_up.is_empty() && has_any_of(&given_up) {
            self.standing = Standing::Unrevoked;
            self.revoking = given_up;
            self.revoking_until_ms = Some(turn.in_ms(self.rebalance_timeout_ms));
            return;
        }
        let missing = target.iter().filter(|it| !self.assigned.contains_key(it)).copied();
        let (free, unreleased): (Vec<_>, Vec<_>) = missing.partition(is_free);
        self.assigned.extend(free.into_iter().map(|it| (it, epoch)));
        self.revoking.clear();
        self.revoking_until_ms = None;
        self.standing = if unreleased.is_empty() { Standing::Stable } else { Standing::Unreleased };
        if self.epoch != epoch {
            self.previous_epoch = std::mem::replace(&mut self.epoch, epoch);
        }
    }

    /// A static member has left and comes back: its place is kept, and it has given up what it was to give up.
    pub(super) fn leave_for_now(&mut self) {
        self.epoch = LEAVES_FOR_NOW;
        self.revoking.clear();
        self.revoking_until_ms = None;
    }

    /// It has come back, under another id, and has nothing so far.
    pub(super) fn come_back(&mut self) {
        self.epoch = 0;
        self.previous_epoch = 0;
    }

    pub(super) fn is_reconciled(&self, epoch: i32) -> bool {
        self.standing == Standing::Stable && self.epoch == epoch
    }

    /// All that others can't have.
    pub(super) fn held(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.assigned.keys().chain(self.revoking.keys()).copied()
    }

    /// The epoch at which it was assigned a partition that it has.
    pub(super) fn assigned_at(&self, partition: &TopicPartition) -> Option<i32> {
        self.assigned.get(partition).or_else(|| self.revoking.get(partition)).copied()
    }

    /// When it is fenced unless something is heard of it.
    pub(super) fn deadline_ms(&self) -> i64 {
        self.session_until_ms.min(self.revoking_until_ms.unwrap_or(i64::MAX))
    }

    pub(super) fn beaten(&self, turn: Turn<'_>, member_id: String, is_told: bool) -> Beaten {
        Beaten {
            member_id,
            member_epoch: self.epoch,
            heartbeat_interval_ms: turn.settings.heartbeat_interval_ms,
            assignment: is_told.then(|| self.assigned.keys().copied().collect()),
        }
    }
}
