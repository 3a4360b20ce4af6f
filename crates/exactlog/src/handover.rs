//! Members that keep others waiting for partitions, and since when.
//!
//! A member that is told to give partitions up does so at its next `next`. If it doesn't come back for as long as its
//! `max.poll.interval.ms` allows, it is fenced by a command, like everything else that changes a group.
//!
//! Not the truth: that is the state. This is the writer's memory of when it saw what, by the monotonic clock.

use crate::log::Inner;
use crate::members::Leaving;
use exactlog_core::ids::MemberId;
use exactlog_core::state::Group;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Who keeps whom waiting.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
    waiting: BTreeMap<MemberId, Handover>,
    /// How often the log had been opened again when everything was looked at.
    reopens: u64,
}

#[derive(Debug)]
struct Handover {
    group: String,
    since_ms: i64,
}

impl Handovers {
    /// A group has changed.
    pub(crate) fn look_at(&mut self, inner: &Inner, name: &str) {
        match inner.state.read().groups.get(name) {
            Some(group) => self.note(name, group, inner.monotonic_ms()),
            None => self.waiting.retain(|_, handover| handover.group != name),
        }
    }

    /// After the log was opened again all groups may have changed.
    pub(crate) fn follow(&mut self, inner: &Inner) {
        let reopens = inner.reopens.load(Ordering::Acquire);
        if std::mem::replace(&mut self.reopens, reopens) != reopens {
            for (name, group) in &inner.state.read().groups {
                self.note(name, group, inner.monotonic_ms());
            }
        }
    }

    /// Notes those who were away for too long as leaving.
    pub(crate) fn fence(&mut self, inner: &Inner) {
        let now_ms = inner.monotonic_ms();
        self.waiting.retain(|member, handover| {
            let Some(polls) = inner.members.polls(*member) else { return false };
            let due = polls.deadline_ms(handover.since_ms) <= now_ms;
            if due {
                tracing::warn!(group = handover.group, %member, "fenced: it didn't come back in time");
                let group = handover.group.clone();
                inner.members.leave(Leaving { group, member: *member, fenced: true });
            }
            !due
        });
    }

    /// When the next one has been away for too long, on the monotonic clock in ms.
    pub(crate) fn deadline_ms(&self, inner: &Inner) -> i64 {
        let deadline = |(member, handover): (&MemberId, &Handover)| {
            inner.members.polls(*member).map(|polls| polls.deadline_ms(handover.since_ms))
        };
        self.waiting.iter().filter_map(deadline).min().unwrap_or(i64::MAX)
    }

    fn note(&mut self, name: &str, group: &Group, now_ms: i64) {
        let revoking = group.owners.values().filter(|owner| owner.revoking);
        let members: BTreeSet<MemberId> = revoking.map(|owner| owner.member).collect();
        self.waiting.retain(|member, handover| handover.group != name || members.contains(member));
        for member in members {
            let handover = || Handover { group: name.to_string(), since_ms: now_ms };
            self.waiting.entry(member).or_insert_with(handover);
        }
    }
}
