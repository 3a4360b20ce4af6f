//! Groups that are told to forget positions, or are forgotten themselves (semantics GR-9).
//!
//! Invariants
//!   * only a group without members forgets: nobody reads on from a position that is gone
//!   * what an open wire transaction is about to commit is not taken from under it

use super::{Outcome, State, done};
use crate::ids::Partition;
use crate::mutants::{Mutant, on};
use crate::reply::{Refusal, Reply};
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    /// Forgets the positions in these partitions; without any all of them, and the group.
    pub(super) fn delete_offsets(&mut self, name: &str, partitions: Option<&[Partition]>) -> Outcome {
        let group = self.groups.get(name).ok_or_else(|| Refusal::UnknownGroup { group: name.to_string() })?;
        let members = group.members.len();
        if members > 0 && !on(Mutant::G1ForgetsUnderMembers) {
            return Err(Refusal::GroupNotEmpty { group: name.to_string(), members });
        }
        let these: Option<BTreeSet<Partition>> = partitions.map(|these| these.iter().copied().collect());
        let is_named = |partition: &Partition| these.as_ref().is_none_or(|these| these.contains(partition));
        if let Some(partition) = group.pending.keys().find(|partition| is_named(partition)) {
            return Err(Refusal::UnstableOffset { group: name.to_string(), partition: *partition });
        }
        let positions = group.offsets.keys().filter(|partition| is_named(partition)).count() as u64;
        match self.groups.get_mut(name) {
            Some(group) if partitions.is_some() => {
                Arc::make_mut(group).offsets.retain(|partition, _| !is_named(partition));
            }
            _ => drop(self.groups.remove(name)),
        }
        self.note_group(name);
        done(Reply::OffsetsDeleted { positions })
    }
}
