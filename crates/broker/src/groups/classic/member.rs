//! A member of a classic group, and the requests of it that wait.
//!
//! ```text
//!   joining: its JoinGroup waits for the others      -> answered when the generation begins
//!   syncing: its SyncGroup waits for the leader's    -> answered when the assignment is there
//! ```
//!
//! Invariants
//!   * at most one request of each kind waits; a newer one turns the older away
//!   * whenever a request is answered the session starts anew

use super::subscription;
use super::{DescribedMember, Join, Joined, JoinedMember, REBALANCE_IN_PROGRESS, Synced, Ticket, Turn};
use bytes::Bytes;
use std::collections::BTreeSet;

/// How long a new member waits for its first generation before it has to ask again. It can't send heartbeats meanwhile,
/// and those that gave up would pile up.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// Whether its SyncGroup of this generation hasn't come yet.
    pub(super) is_sync_missing: bool,
    client_id: String,
    client_host: String,
    session_timeout_ms: i32,
    /// Whether it hasn't been told of a generation yet.
    is_new: bool,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    deadline_ms: i64,
}

impl Member {
    /// One that has just joined, and waits.
    pub(super) fn new(turn: &mut Turn<'_>, member_id: String, join: Join, ticket: Ticket) -> Self {
        let mut member = Member {
            member_id,
            instance_id: join.instance_id.clone(),
            rebalance_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            is_sync_missing: false,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout_ms: 0,
            is_new: true,
            joining: None,
            syncing: None,
            deadline_ms: 0,
        };
        member.join_again(turn, join, ticket);
        member
    }

    /// Takes over what it says of itself now, and lets it wait.
    pub(super) fn join_again(&mut self, turn: &mut Turn<'_>, join: Join, ticket: Ticket) {
        self.answer_join(turn, |member| Joined::refused(REBALANCE_IN_PROGRESS, &member.member_id));
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols = join.protocols;
        self.joining = Some(ticket);
        self.is_heard(turn);
    }

    /// Gives the place of a static member to its next incarnation, which waits; the one before is turned away.
    pub(super) fn replace(
        &mut self,
        turn: &mut Turn<'_>,
        error: i16,
        member_id: String,
        join: Join,
        ticket: Ticket,
    ) {
        self.turn_away(turn, error);
        self.member_id = member_id;
        self.is_new = false;
        self.join_again(turn, join, ticket);
    }

    /// Lets it wait for its assignment.
    pub(super) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket) {
        self.answer_sync(turn, |_| Synced::refused(REBALANCE_IN_PROGRESS));
        self.is_sync_missing = false;
        self.syncing = Some(ticket);
    }

    /// Answers its JoinGroup if one waits.
    pub(super) fn answer_join(&mut self, turn: &mut Turn<'_>, joined: impl FnOnce(&Member) -> Joined) {
        if let Some(ticket) = self.joining.take() {
            turn.joined(ticket, joined(self));
            self.is_heard(turn);
        }
    }

    /// Answers its SyncGroup if one waits.
    pub(super) fn answer_sync(&mut self, turn: &mut Turn<'_>, synced: impl FnOnce(&Member) -> Synced) {
        if let Some(ticket) = self.syncing.take() {
            turn.synced(ticket, synced(self));
            self.is_heard(turn);
        }
    }

    /// Answers all that waits with an error.
    pub(super) fn turn_away(&mut self, turn: &mut Turn<'_>, error: i16) {
        self.answer_join(turn, |member| Joined::refused(error, &member.member_id));
        self.answer_sync(turn, |_| Synced::refused(error));
    }

    /// A generation begins that it belongs to, whether it has joined or not.
    pub(super) fn begin_generation(&mut self, turn: &mut Turn<'_>, joined: Joined) {
        self.is_new = false;
        self.is_sync_missing = true;
        self.answer_join(turn, |_| joined);
        self.is_heard(turn);
    }

    /// Starts its session anew.
    pub(super) fn is_heard(&mut self, turn: &Turn<'_>) {
        let is_unborn = self.is_new && self.is_joining();
        let timeout_ms = if is_unborn { NEW_MEMBER_JOIN_TIMEOUT_MS } else { self.session_timeout_ms };
        self.deadline_ms = turn.in_ms(timeout_ms);
    }

    /// When it is lost unless something is heard of it. Never while it waits for an answer, the first one apart.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        let is_waiting = self.is_joining() || self.syncing.is_some();
        (self.is_new || !is_waiting).then_some(self.deadline_ms)
    }

    pub(super) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// The protocol that it likes best among some.
    pub(super) fn vote<'a>(&'a self, candidates: &BTreeSet<&str>) -> Option<&'a str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).find(|name| candidates.contains(name))
    }

    /// Topics that it subscribes to in any of its protocols, if it is a consumer and this can be read.
    pub(super) fn topics(&self) -> Option<BTreeSet<String>> {
        let each: Option<Vec<_>> =
            self.protocols.iter().map(|(_, metadata)| subscription::topics(metadata)).collect();
        Some(each?.into_iter().flatten().collect())
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// As its leader is told of it.
    pub(super) fn joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub(super) fn describe(&self, protocol: &str) -> DescribedMember {
        DescribedMember {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}
