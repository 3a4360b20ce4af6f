//! When committed offsets are forgotten that nobody uses any more (semantics GR-6).
//!
//! ```text
//!   kept since = the latest of: its commit, the last change of the group's members, the last open of the log
//!   kept since + offsets.retention.ms <= now, and the group has no members, or none that reads the topic -> forgotten
//!   an open transaction is about to commit another -> kept
//! ```
//!
//! The time in which the log was closed doesn't count: who comes back after two weeks of holidays goes on where he was.
//!
//! Invariants
//!   * an offset that a living member's topic has is never forgotten
//!   * no `Tick` before `next_ms` forgets anything
//!   * a group without members and offsets goes with the last of them, after the same time

use super::group::{CommittedOffset, Group};
use super::{DAY_MS, SETTING_MS_MAX, State, check_bounds};
use crate::ids::Partition;
use crate::reply::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What decides when committed offsets are forgotten. Order and types of the fields are a format (docs/FORMAT.md,
/// "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetExpiry {
    retention_ms: u64,
    /// When the log was opened last, ms since 1970.
    opened_ms: i64,
    /// When members of a group came or went last.
    changed: BTreeMap<String, i64>,
    next_ms: i64,
}

impl Default for OffsetExpiry {
    fn default() -> Self {
        OffsetExpiry { retention_ms: 7 * DAY_MS, opened_ms: 0, changed: BTreeMap::new(), next_ms: i64::MAX }
    }
}

impl OffsetExpiry {
    /// How long committed offsets are kept that nobody uses, in ms.
    pub fn retention_ms(&self) -> u64 {
        self.retention_ms
    }

    /// Whether it is as in a log that nobody has opened yet.
    pub fn is_untouched(&self) -> bool {
        *self == OffsetExpiry::default()
    }

    pub(super) fn next_deadline_ms(&self) -> i64 {
        self.next_ms
    }

    /// Something may be due when the whole time has passed since then.
    fn note_since(&mut self, since_ms: i64) {
        self.next_ms = self.next_ms.min(self.end_ms(since_ms));
    }

    /// Bounded by [`State::limit_offset_retention`], so the cast loses nothing.
    fn end_ms(&self, since_ms: i64) -> i64 {
        since_ms.saturating_add(self.retention_ms as i64)
    }

    /// When the members of a group changed, or the log was opened, whichever is later.
    fn of_group_ms(&self, name: &str) -> i64 {
        self.changed.get(name).copied().unwrap_or(i64::MIN).max(self.opened_ms)
    }
}

impl State {
    pub(super) fn limit_offset_retention(&mut self, retention_ms: u64) -> Result<(), Refusal> {
        check_bounds("offsets.retention.ms", retention_ms, 1, SETTING_MS_MAX)?;
        self.offset_expiry.retention_ms = retention_ms;
        // Ends moved: the next tick finds the true ones.
        self.offset_expiry.next_ms = if self.groups.is_empty() { i64::MAX } else { self.time_ms };
        Ok(())
    }

    /// The log was opened.
    pub(super) fn count_offsets_from_now(&mut self) {
        self.offset_expiry.opened_ms = self.time_ms;
        if !self.groups.is_empty() {
            self.offset_expiry.note_since(self.time_ms);
        }
    }

    /// Members of a group came or went.
    pub(super) fn note_members(&mut self, name: &str) {
        match self.offset_expiry.changed.get_mut(name) {
            Some(changed_ms) => *changed_ms = self.time_ms,
            None => {
                self.offset_expiry.changed.insert(name.to_string(), self.time_ms);
            }
        }
        self.offset_expiry.note_since(self.time_ms);
    }

    /// Offsets were committed just now.
    pub(super) fn note_offsets(&mut self) {
        self.offset_expiry.note_since(self.time_ms);
    }

    /// Of what a group has, something came, or went, that is older than the command: offsets of a transaction that has
    /// ended, or those of a topic that was deleted.
    pub(super) fn note_group(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else {
            self.offset_expiry.changed.remove(name);
            return;
        };
        let of_group_ms = self.offset_expiry.of_group_ms(name);
        let oldest_ms = group.offsets.values().map(|it| it.time_ms).min().unwrap_or(i64::MIN);
        self.offset_expiry.note_since(oldest_ms.max(of_group_ms));
    }

    /// Forgets what is due; how many offsets those were.
    pub(super) fn expire_offsets(&mut self) -> u64 {
        let now_ms = self.time_ms;
        if self.offset_expiry.next_ms > now_ms {
            return 0;
        }
        let State { groups, offset_expiry, .. } = self;
        let (mut expired, mut next_ms) = (0, i64::MAX);
        groups.retain(|name, group| {
            let of_group_ms = offset_expiry.of_group_ms(name);
            let mut end_ms = |since_ms: i64| {
                let end_ms = offset_expiry.end_ms(since_ms.max(of_group_ms));
                next_ms = next_ms.min(if end_ms > now_ms { end_ms } else { i64::MAX });
                end_ms
            };
            let is_due = |(partition, committed): (&Partition, &CommittedOffset)| {
                (is_unused(group, *partition) && end_ms(committed.time_ms) <= now_ms).then_some(*partition)
            };
            let due: Vec<Partition> = group.offsets.iter().filter_map(is_due).collect();
            expired += due.len() as u64;
            if !due.is_empty() {
                let offsets = &mut Arc::make_mut(group).offsets;
                offsets.retain(|partition, _| !due.contains(partition));
            }
            let is_empty = group.offsets.is_empty() && group.pending.is_empty() && group.members.is_empty();
            !(is_empty && end_ms(i64::MIN) <= now_ms)
        });
        offset_expiry.changed.retain(|name, _| groups.contains_key(name));
        offset_expiry.next_ms = next_ms;
        expired
    }
}

/// Whether nobody is there who would go on at this offset.
fn is_unused(group: &Group, partition: Partition) -> bool {
    let is_read = group.members.values().any(|member| member.topics.contains(&partition.topic));
    !is_read && !group.pending.contains_key(&partition)
}
