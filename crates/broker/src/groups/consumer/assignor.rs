//! Who is to have which partitions: the assignors of the node.
//!
//! ```text
//!   uniform: as many for each as can be, and as few as possible go to another member than before
//!   range:   of each topic a row of partitions for each, the same numbers of all topics as far as they are alike
//! ```
//!
//! Invariants
//!   * each partition goes to one member that subscribes to its topic, if there is one
//!   * the same question gets the same answer

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use super::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// What each member is to have, by its id.
pub(super) type Target = BTreeMap<String, BTreeSet<TopicPartition>>;

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// All of them; the first is the one of groups that don't ask for any.
    pub(super) const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub(super) fn named(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The one that most members ask for. Of equals the first.
    pub(super) fn preferred(asked_for: impl Iterator<Item = Assignor>) -> Assignor {
        let mut votes = [0; Assignor::ALL.len()];
        asked_for.for_each(|assignor| votes[assignor as usize] += 1);
        let first_of_most = Assignor::ALL.into_iter().rev().max_by_key(|assignor| votes[*assignor as usize]);
        first_of_most.unwrap_or(Assignor::Uniform)
    }

    /// Shares out the partitions of some topics.
    pub(super) fn assign(
        self,
        subscribers: &[Subscriber],
        partitions: &BTreeMap<TopicId, i32>,
        before: &Target,
    ) -> Target {
        match self {
            Assignor::Uniform => uniform::assign(subscribers, partitions, before),
            Assignor::Range => range::assign(subscribers, partitions),
        }
    }
}

/// A member, for an assignor.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    /// Those that there are.
    pub(super) topics: BTreeSet<TopicId>,
}
