//! What assignors promise, for any members and topics.

use super::*;
use proptest::prelude::*;

fn subscriber(index: usize, topics: impl IntoIterator<Item = u128>) -> Subscriber {
    Subscriber {
        member_id: format!("m{index:02}"),
        instance_id: None,
        topics: topics.into_iter().map(TopicId).collect(),
    }
}

fn counts(counts: impl IntoIterator<Item = (u128, i32)>) -> BTreeMap<TopicId, i32> {
    counts.into_iter().map(|(topic, count)| (TopicId(topic), count)).collect()
}

fn numbers(target: &Target, member_id: &str, topic: u128) -> Vec<i32> {
    target[member_id].iter().filter(|it| it.topic == TopicId(topic)).map(|it| it.index).collect()
}

/// That each partition of a topic that somebody subscribes to has one of those, and who has how many.
fn check(subscribers: &[Subscriber], partitions: &BTreeMap<TopicId, i32>, target: &Target) -> Vec<usize> {
    let mut given = BTreeSet::new();
    for subscriber in subscribers {
        for partition in &target[&subscriber.member_id] {
            assert!(subscriber.topics.contains(&partition.topic), "{partition:?}");
            assert!(given.insert(*partition), "{partition:?} twice");
        }
    }
    let is_wanted = |topic: &TopicId| subscribers.iter().any(|it| it.topics.contains(topic));
    let wanted = partitions.iter().filter(|(topic, _)| is_wanted(topic));
    let wanted =
        wanted.flat_map(|(topic, count)| (0..*count).map(|index| TopicPartition { topic: *topic, index }));
    assert_eq!(given, wanted.collect());
    assert_eq!(target.len(), subscribers.len());
    subscribers.iter().map(|it| target[&it.member_id].len()).collect()
}

fn moved(before: &Target, after: &Target) -> usize {
    let lost = before.iter().map(|(member_id, had)| {
        let none = BTreeSet::new();
        had.difference(after.get(member_id).unwrap_or(&none)).count()
    });
    lost.sum()
}

#[test]
fn range_gives_the_same_numbers_of_all_topics_and_more_to_the_first() {
    let subscribers: Vec<Subscriber> = (0..2).map(|index| subscriber(index, [1, 2])).collect();
    let partitions = counts([(1, 3), (2, 3)]);
    let target = Assignor::Range.assign(&subscribers, &partitions, &Target::new());
    check(&subscribers, &partitions, &target);
    for topic in [1, 2] {
        assert_eq!(numbers(&target, "m00", topic), [0, 1]);
        assert_eq!(numbers(&target, "m01", topic), [2]);
    }
}

#[test]
fn range_goes_by_instance_ids_so_that_static_members_get_back_what_they_had() {
    let partitions = counts([(1, 2)]);
    let of = |ids: [&str; 2]| {
        let fixed = |index: usize| Subscriber {
            member_id: ids[index].to_owned(),
            instance_id: Some(format!("i{index}")),
            ..subscriber(index, [1])
        };
        let target = Assignor::Range.assign(&[fixed(0), fixed(1)], &partitions, &Target::new());
        ids.map(|it| numbers(&target, it, 1))
    };
    assert_eq!(of(["a", "b"]), of(["z", "c"]));
}

#[test]
fn uniform_moves_one_partition_from_each_when_a_third_member_comes() {
    let (two, three) = ((0..2).map(|it| subscriber(it, [1])), (0..3).map(|it| subscriber(it, [1])));
    let partitions = counts([(1, 6)]);
    let before = Assignor::Uniform.assign(&two.collect::<Vec<_>>(), &partitions, &Target::new());
    let subscribers: Vec<Subscriber> = three.collect();
    let after = Assignor::Uniform.assign(&subscribers, &partitions, &before);
    assert_eq!((check(&subscribers, &partitions, &after), moved(&before, &after)), (vec![2, 2, 2], 2));
}

#[test]
fn uniform_mixes_topics() {
    let subscribers: Vec<Subscriber> = (0..2).map(|index| subscriber(index, [1, 2])).collect();
    let target = Assignor::Uniform.assign(&subscribers, &counts([(1, 2), (2, 2)]), &Target::new());
    for (member, topic) in [("m00", 1), ("m00", 2), ("m01", 1), ("m01", 2)] {
        assert_eq!(numbers(&target, member, topic).len(), 1);
    }
}

#[test]
fn uniform_evens_out_what_members_with_other_subscriptions_can_take() {
    let subscribers = [subscriber(0, [1]), subscriber(1, [1, 2]), subscriber(2, [2])];
    let partitions = counts([(1, 3), (2, 3)]);
    let before = Target::from([("m01".to_owned(), check_all(&partitions))]);
    let target = Assignor::Uniform.assign(&subscribers, &partitions, &before);
    assert_eq!(check(&subscribers, &partitions, &target), [2, 2, 2]);
    assert_eq!(moved(&before, &target), 4);
}

fn check_all(partitions: &BTreeMap<TopicId, i32>) -> BTreeSet<TopicPartition> {
    let of_topic = |(topic, count): (&TopicId, &i32)| {
        let topic = *topic;
        (0..*count).map(move |index| TopicPartition { topic, index })
    };
    partitions.iter().flat_map(of_topic).collect()
}

fn subscriptions() -> impl Strategy<Value = Vec<BTreeSet<u128>>> {
    prop::collection::vec(prop::collection::btree_set(0..4u128, 0..4), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn uniform_among_equals_differs_by_one_at_most_and_moves_as_few_as_possible(
        (first, second) in (1..9usize, 1..9usize),
        (small, large) in (prop::collection::vec(0..7i32, 1..4), prop::collection::vec(0..7i32, 1..4)),
    ) {
        let subscribers = |from: usize, count: usize| -> Vec<Subscriber> {
            (from..from + count).map(|index| subscriber(index, 0..4)).collect()
        };
        let topics = |all: Vec<i32>| counts((0..4u128).zip(all));
        let (small, large) = (topics(small), topics(large));
        let before = Assignor::Uniform.assign(&subscribers(0, first), &small, &Target::new());
        check(&subscribers(0, first), &small, &before);
        let after = Assignor::Uniform.assign(&subscribers(2, second), &large, &before);
        let loads = check(&subscribers(2, second), &large, &after);
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        // What the next one has to give up at least: what its quota has no room for, those that have most first.
        let total: usize = loads.iter().sum();
        let is_there = |it: &&TopicPartition| large.get(&it.topic).is_some_and(|count| it.index < *count);
        let mut kept: Vec<usize> = subscribers(2, second).iter().map(|it| {
            before.get(&it.member_id).map_or(0, |had| had.iter().filter(is_there).count())
        }).collect();
        kept.sort_by_key(|it| std::cmp::Reverse(*it));
        let quota = |rank: usize| total / second + usize::from(rank < total % second);
        let least: usize = kept.iter().enumerate().map(|(rank, it)| it.saturating_sub(quota(rank))).sum();
        let has_kept: usize = subscribers(2, second).iter().map(|it| {
            before.get(&it.member_id).map_or(0, |had| had.intersection(&after[&it.member_id]).count())
        }).sum();
        assert_eq!(has_kept, kept.iter().sum::<usize>() - least);
    }

    #[test]
    fn no_single_move_makes_any_two_members_more_equal_and_nothing_moves_if_nothing_changed(
        topics in subscriptions(), sizes in prop::collection::vec(0..7i32, 4), earlier in subscriptions(),
    ) {
        let named = |topics: &[BTreeSet<u128>]| -> Vec<Subscriber> {
            topics.iter().enumerate().map(|(index, it)| subscriber(index, it.iter().copied())).collect()
        };
        let partitions = counts((0..4u128).zip(sizes));
        let before = Assignor::Uniform.assign(&named(&earlier), &partitions, &Target::new());
        let subscribers = named(&topics);
        let target = Assignor::Uniform.assign(&subscribers, &partitions, &before);
        let loads = check(&subscribers, &partitions, &target);
        for (giver, from) in subscribers.iter().zip(&loads) {
            for partition in &target[&giver.member_id] {
                let takers = subscribers.iter().zip(&loads).filter(|(it, _)| it.topics.contains(&partition.topic));
                takers.for_each(|(_, to)| assert!(to + 1 >= *from, "{loads:?}"));
            }
        }
        assert_eq!(Assignor::Uniform.assign(&subscribers, &partitions, &target), target);
        let range = Assignor::Range.assign(&subscribers, &partitions, &target);
        check(&subscribers, &partitions, &range);
    }
}
