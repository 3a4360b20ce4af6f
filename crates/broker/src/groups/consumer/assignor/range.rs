//! Of each topic a row of partitions for each of its subscribers. Where all subscribe to the same topics, and these
//! have as many partitions, each has the same numbers of all: records of one key come to one member.

use super::{Subscriber, Target};
use crate::groups::consumer::{TopicId, TopicPartition};
use std::collections::BTreeMap;

pub(super) fn assign(subscribers: &[Subscriber], partitions: &BTreeMap<TopicId, i32>) -> Target {
    // Instance ids outlive member ids: their order makes static members get back what they had.
    let mut in_order: Vec<&Subscriber> = subscribers.iter().collect();
    in_order.sort_by_key(|it| (it.instance_id.is_none(), it.instance_id.as_ref(), &it.member_id));
    let mut target: Target =
        subscribers.iter().map(|it| (it.member_id.clone(), Default::default())).collect();
    for (topic, partitions) in partitions {
        let of_topic: Vec<&Subscriber> =
            in_order.iter().copied().filter(|it| it.topics.contains(topic)).collect();
        let count = i32::try_from(of_topic.len()).unwrap_or(i32::MAX).max(1);
        let (each, one_more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (at, subscriber) in of_topic.into_iter().enumerate() {
            let end = next + each + i32::from((at as i32) < one_more);
            let row = (next..end).map(|index| TopicPartition { topic: *topic, index });
            target.entry(subscriber.member_id.clone()).or_default().extend(row);
            next = end;
        }
    }
    target
}
