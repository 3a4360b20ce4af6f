//! Assignment: which member of a group is to own which partition, and who has to give one up for that (semantics GR-4).
//!
//! It takes nothing from anybody: an owner is *told* to give a partition up, and the next one gets it once it is free.
//!
//! Invariants
//!   * a member keeps what it has, unless it no longer subscribes or another has at least two fewer
//!   * the outcome depends on the group and the topics alone, in the order of their ids

use super::group::{Group, Owner};
use crate::ids::{MemberId, Partition, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// Why owners may have to change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Members or what they subscribe to.
    Members,
    /// Partitions were released. Only these are given out and nothing more is taken from anybody, so each change of
    /// members comes to rest after as many releases as it asked for.
    Released,
}

impl Group {
    /// Gives free partitions to members, and for [`Change::Members`] tells members with too many to give some up.
    ///
    /// What a member has it keeps, unless another that could take it has at least two fewer. Once everything that is
    /// being given up is released, loads of members with equal subscriptions are within one of each other; with
    /// unequal ones they are about even, since a release moves nothing back.
    pub(super) fn reassign(&mut self, change: Change, partitions_of: impl Fn(TopicId) -> u32) {
        self.generation += 1;
        let exists = |partition: &Partition| partition.index < partitions_of(partition.topic);
        self.owners.retain(|partition, _| exists(partition));
        for (partition, owner) in &mut self.owners {
            let member = self.members.get(&owner.member);
            owner.revoking |= member.is_none_or(|it| it.topics.binary_search(&partition.topic).is_err());
        }
        let subscribers = self.subscribers();
        let mut plan = self.plan(&subscribers, partitions_of);
        if change == Change::Members {
            plan.even_out();
        }
        for planned in plan.partitions {
            let owner = Owner { member: planned.next, revoking: false };
            let owner = self.owners.entry(planned.partition).or_insert(owner);
            owner.revoking |= owner.member != planned.next;
        }
    }

    fn subscribers(&self) -> BTreeMap<TopicId, Vec<MemberId>> {
        let mut subscribers: BTreeMap<TopicId, Vec<MemberId>> = BTreeMap::new();
        for (member, state) in &self.members {
            for topic in &state.topics {
                subscribers.entry(*topic).or_default().push(*member);
            }
        }
        subscribers
    }

    /// Every partition with whoever is to have it: its owner, or the least loaded if it has none that keeps it.
    fn plan<'a>(
        &self,
        subscribers: &'a BTreeMap<TopicId, Vec<MemberId>>,
        partitions_of: impl Fn(TopicId) -> u32,
    ) -> Plan<'a> {
        let mut loads: BTreeMap<MemberId, usize> = self.members.keys().map(|member| (*member, 0)).collect();
        for owner in self.owners.values().filter(|owner| !owner.revoking) {
            *loads.entry(owner.member).or_default() += 1;
        }
        let (mut moving, mut settled) = (Vec::new(), Vec::new());
        for (topic, candidates) in subscribers {
            for index in 0..partitions_of(*topic) {
                let partition = Partition { topic: *topic, index };
                match self.owners.get(&partition) {
                    Some(owner) if !owner.revoking => {
                        settled.push(Planned { partition, candidates, next: owner.member });
                    }
                    // Also one that is still being given up counts for whoever gets it, or more would be taken.
                    _ => {
                        let next = least_loaded(candidates, &loads);
                        *loads.entry(next).or_default() += 1;
                        moving.push(Planned { partition, candidates, next });
                    }
                }
            }
        }
        // What has no owner that keeps it moves anyway, so it is asked first.
        moving.append(&mut settled);
        Plan { loads, partitions: moving }
    }
}

/// Who is to have which partition.
struct Plan<'a> {
    loads: BTreeMap<MemberId, usize>,
    partitions: Vec<Planned<'a>>,
}

struct Planned<'a> {
    partition: Partition,
    /// Who subscribes to it.
    candidates: &'a [MemberId],
    next: MemberId,
}

impl Plan<'_> {
    /// Moves partitions from members to others that have at least two fewer, until there are none. Each move lowers
    /// the sum of the squares of the loads, so it ends.
    fn even_out(&mut self) {
        while self.relieve_the_heaviest() {}
    }

    /// One pass, which asks each partition at most once; whether anything moved. The heaviest member gives first:
    /// where all subscribe to the same, then nobody gives what it would get back, and the fewest partitions move.
    fn relieve_the_heaviest(&mut self) -> bool {
        let mut unasked: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for (index, planned) in self.partitions.iter().enumerate().rev() {
            unasked.entry(planned.next).or_default().push(index);
        }
        let mut by_load: BTreeSet<(usize, MemberId)> =
            self.loads.iter().map(|(member, load)| (*load, *member)).collect();
        let mut moved = false;
        while let Some((load, member)) = by_load.pop_last() {
            while let Some(index) = unasked.get_mut(&member).and_then(Vec::pop) {
                let planned = &mut self.partitions[index];
                let least = least_loaded(planned.candidates, &self.loads);
                let least_load = self.loads[&least];
                if load <= least_load + 1 {
                    continue;
                }
                planned.next = least;
                self.loads.insert(member, load - 1);
                self.loads.insert(least, least_load + 1);
                by_load.insert((load - 1, member));
                if by_load.remove(&(least_load, least)) {
                    by_load.insert((least_load + 1, least));
                }
                moved = true;
                break;
            }
        }
        moved
    }
}

fn least_loaded(candidates: &[MemberId], loads: &BTreeMap<MemberId, usize>) -> MemberId {
    let least = candidates.iter().min_by_key(|member| (loads[*member], **member));
    *least.expect("a subscribed topic has a subscriber")
}
