//! As many partitions for each member as can be, and as few as possible go to another member than before.
//!
//! ```text
//!   what each had and may keep -> what nobody has goes to who has least -> who has most gives to who has least
//! ```
//!
//! Where all subscribe to the same topics no two members differ by more than one partition, and no assignment that
//! fulfils this moves fewer. Where they don't, no single partition can be moved that would make two members more equal.
//!
//! Invariants
//!   * each step of evening out makes the sum of the squares of the loads smaller: it ends

use super::{Subscriber, Target};
use crate::groups::consumer::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn assign(
    subscribers: &[Subscriber],
    partitions: &BTreeMap<TopicId, i32>,
    before: &Target,
) -> Target {
    let mut table = Table::new(subscribers, partitions);
    let left = table.keep(before);
    match subscribers.windows(2).all(|pair| pair[0].topics == pair[1].topics) {
        true => table.share_among_equals(left),
        false => {
            table.share(left);
            table.even_out();
        }
    }
    let of_member =
        |(subscriber, has): (&Subscriber, BTreeSet<TopicPartition>)| (subscriber.member_id.clone(), has);
    subscribers.iter().zip(table.has).map(of_member).collect()
}

/// What each subscriber has so far, by its place among them.
struct Table<'a> {
    subscribers: &'a [Subscriber],
    partitions: &'a BTreeMap<TopicId, i32>,
    has: Vec<BTreeSet<TopicPartition>>,
    /// Who subscribes to a topic.
    of_topic: BTreeMap<TopicId, Vec<usize>>,
}

impl<'a> Table<'a> {
    fn new(subscribers: &'a [Subscriber], partitions: &'a BTreeMap<TopicId, i32>) -> Self {
        let mut of_topic: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (at, subscriber) in subscribers.iter().enumerate() {
            subscriber.topics.iter().for_each(|topic| of_topic.entry(*topic).or_default().push(at));
        }
        Table { subscribers, partitions, has: vec![BTreeSet::new(); subscribers.len()], of_topic }
    }

    /// Leaves to everybody what it had and may keep; the partitions that nobody has then.
    fn keep(&mut self, before: &Target) -> Vec<TopicPartition> {
        let partitions = self.partitions;
        let is_there = |it: &TopicPartition| partitions.get(&it.topic).is_some_and(|count| it.index < *count);
        let mut kept = BTreeSet::new();
        for (subscriber, has) in self.subscribers.iter().zip(&mut self.has) {
            let had = before.get(&subscriber.member_id).into_iter().flatten().copied();
            let may_keep = |it: &TopicPartition| subscriber.topics.contains(&it.topic) && is_there(it);
            has.extend(had.filter(|it| may_keep(it) && kept.insert(*it)));
        }
        let subscribed = partitions.iter().filter(|(topic, _)| self.of_topic.contains_key(*topic));
        let all = subscribed
            .flat_map(|(topic, count)| (0..*count).map(|index| TopicPartition { topic: *topic, index }));
        all.filter(|it| !kept.contains(it)).collect()
    }

    /// All subscribe to the same: each gets the same number, or one more. Those that have most keep the one more.
    fn share_among_equals(&mut self, mut left: Vec<TopicPartition>) {
        let total = left.len() + self.has.iter().map(BTreeSet::len).sum::<usize>();
        let (each, one_more) = (total / self.has.len().max(1), total % self.has.len().max(1));
        let mut by_load: Vec<usize> = (0..self.has.len()).collect();
        by_load.sort_by_key(|at| std::cmp::Reverse(self.has[*at].len()));
        let mut room = BTreeSet::new();
        for (rank, at) in by_load.into_iter().enumerate() {
            let quota = each + usize::from(rank < one_more);
            let has = &mut self.has[at];
            while has.len() > quota {
                left.extend(has.pop_last());
            }
            room.extend((has.len()..quota).map(|nth| (nth, at)));
        }
        // The places that are free, those of who has least first: one topic isn't one member's.
        left.sort_unstable();
        left.into_iter().zip(room).for_each(|(partition, (_, at))| _ = self.has[at].insert(partition));
    }

    /// What nobody has goes to the subscriber that has least; topics of few subscribers first.
    fn share(&mut self, mut left: Vec<TopicPartition>) {
        left.sort_by_key(|it| (self.of_topic[&it.topic].len(), *it));
        for partition in left {
            if let Some(at) = self.least_loaded(partition.topic) {
                self.has[at].insert(partition);
            }
        }
    }

    fn least_loaded(&self, topic: TopicId) -> Option<usize> {
        self.of_topic.get(&topic)?.iter().copied().min_by_key(|at| self.has[*at].len())
    }

    fn even_out(&mut self) {
        while (0..self.has.len()).any(|from| self.give(from)) {
            // Whoever has got some may give some.
        }
    }

    /// Gives partitions of a member to those that have at least two fewer, who has least first; whether it gave any.
    fn give(&mut self, from: usize) -> bool {
        let mut has_given = false;
        while let Some((given, to)) = self.to_give(from) {
            self.has[from].remove(&given);
            self.has[to].insert(given);
            has_given = true;
        }
        has_given
    }

    fn to_give(&self, from: usize) -> Option<(TopicPartition, usize)> {
        let topics: BTreeSet<TopicId> = self.has[from].iter().map(|it| it.topic).collect();
        let takers = topics.into_iter().filter_map(|topic| Some((topic, self.least_loaded(topic)?)));
        let (topic, to) = takers.min_by_key(|(_, to)| self.has[*to].len())?;
        let of_topic = TopicPartition { topic, index: 0 }..=TopicPartition { topic, index: i32::MAX };
        let given = self.has[from].range(of_topic).next_back().copied()?;
        (self.has[to].len() + 1 < self.has[from].len()).then_some((given, to))
    }
}
