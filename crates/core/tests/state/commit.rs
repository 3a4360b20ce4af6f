//! The embedded transaction: the lines EM-1 to EM-6 and EM-11 of the semantics, at the level of the state.

use crate::common::*;
use bytes::Bytes;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::{Committed, KEPT_PARTITIONS_MAX, Refusal, Reply};
use proptest::prelude::*;
use proptest::sample::select;

/// A log with a topic of three partitions and the named producer `p`.
fn three() -> (Log, [Partition; 3], (ProducerId, i16)) {
    let mut log = Log::default();
    let topic = log.topic("t", 3);
    let producer = log.producer(Some("p"));
    (log, [part(topic, 0), part(topic, 1), part(topic, 2)], producer)
}

fn first_reply(lsn: u64, base_offsets: &[(Partition, u64)]) -> Committed {
    Committed { lsn, base_offsets: base_offsets.to_vec(), first_timer: None, duplicate: false }
}

fn again(first: &Committed) -> Reply {
    Reply::Committed(Committed { duplicate: true, ..first.clone() })
}

fn submit(commit: &Commit) -> Command {
    Command::Commit(Box::new(commit.clone()))
}

fn positions(group: &str, offsets: &[OffsetCommit]) -> GroupOffsets {
    GroupOffsets { group: group.to_string(), member: None, offsets: offsets.to_vec() }
}

#[test]
fn em_1_all_parts_appear_at_one_lsn() {
    let (mut log, [a, b, c], producer) = three();
    log.append(a, records(7));
    let mut commit = commit_of(token(producer, 1), &[(b, 2), (c, 3)]);
    commit.offsets = vec![positions("g", &[offset(a, 5)]), positions("h", &[offset(a, 6)])];
    commit.cursor = Some(Bytes::from_static(b"line 7"));
    let applied = log.apply(&submit(&commit));
    let lsn = log.state.lsn;
    assert_eq!(applied.reply, Reply::Committed(first_reply(lsn, &[(b, 0), (c, 0)])));
    let placed: Vec<_> =
        applied.placements.iter().map(|it| (it.partition, it.base_offset, it.index)).collect();
    assert_eq!(placed, [(b, 0, 0), (c, 0, 1)]);
    assert_eq!((log.end(a), log.end(b), log.end(c)), (7, 2, 3));
    for (group, at) in [("g", 5), ("h", 6)] {
        let committed = log.state.committed_offset(group, a).unwrap();
        assert_eq!((committed.offset, committed.lsn), (at, lsn));
    }
    let reply = log.reply(&Command::InitProducer { name: Some("p".into()) });
    let cursor = Some(Bytes::from_static(b"line 7"));
    assert_eq!(reply, Reply::Producer { producer: producer.0, producer_epoch: 1, last_number: 1, cursor });
}

#[test]
fn em_1_several_batches_of_a_commit_for_one_partition_follow_each_other_without_a_gap() {
    let (mut log, [a, b, _], producer) = three();
    let commit = commit_of(token(producer, 1), &[(a, 2), (b, 1), (a, 1)]);
    let applied = log.apply(&submit(&commit));
    let lsn = log.state.lsn;
    assert_eq!(applied.reply, Reply::Committed(first_reply(lsn, &[(a, 0), (b, 0)])));
    let placed: Vec<_> =
        applied.placements.iter().map(|it| (it.partition, it.base_offset, it.index)).collect();
    assert_eq!(placed, [(a, 0, 0), (b, 0, 1), (a, 2, 2)]);
    assert_eq!((log.end(a), log.end(b)), (3, 1));
}

/// Each commit has a good first part and one bad part behind it; [`Log::refused`] compares the whole state.
#[test]
fn em_2_a_refused_commit_leaves_nothing_whatever_part_of_it_was_refused() {
    let (mut log, [a, b, _], producer) = three();
    log.append(a, records(7));
    let good = commit_of(token(producer, 1), &[(a, 1), (b, 1)]);
    let nowhere = part(a.topic, 9);
    let ends_at = |offset| Condition::EndOffset { partition: a, offset };
    let has_offset = |offset| Condition::GroupOffset { group: "g".into(), partition: a, offset };
    let (t, p) = (TopicId(99), a);
    let unknown = Partition { topic: t, index: 0 };
    let bad: Vec<(Commit, Refusal)> = vec![
        (
            Commit { conditions: vec![ends_at(7), ends_at(6)], ..good.clone() },
            Refusal::EndOffset { partition: a, expected: 6, actual: 7 },
        ),
        (
            Commit { conditions: vec![has_offset(Some(1))], ..good.clone() },
            Refusal::GroupOffset { group: "g".into(), partition: a, expected: Some(1), actual: None },
        ),
        (
            Commit { cursor: Some(Bytes::from(vec![0; 257])), ..good.clone() },
            Refusal::CursorTooLarge { bytes: 257, max: 256 },
        ),
        (
            Commit { batches: vec![(a, records(1)), (nowhere, records(1))], ..good.clone() },
            Refusal::UnknownPartition { partition: nowhere, partitions: 3 },
        ),
        (
            Commit { batches: vec![(a, records(1)), (unknown, records(1))], ..good.clone() },
            Refusal::UnknownTopic { topic: t },
        ),
        (
            Commit { batches: vec![(a, records(1)), (b, produced(producer, 0, 1))], ..good.clone() },
            Refusal::Batch { what: "carries a producer id inside a commit, whose token replaces it" },
        ),
        (
            Commit {
                offsets: vec![positions("g", &[offset(a, 1)]), positions("h", &[offset(a, 8)])],
                ..good.clone()
            },
            Refusal::OffsetOutOfRange { group: "h".into(), partition: p, sent: 8, start: 0, end: 7 },
        ),
        (
            Commit { offsets: vec![positions("..", &[])], ..good.clone() },
            Refusal::IllegalName { name: "..".into() },
        ),
    ];
    for (commit, refusal) in bad {
        assert_eq!(log.commit_refused(&commit), refusal);
    }
    assert_eq!(log.commit(&good).base_offsets, [(a, 7), (b, 0)], "no offset and no number was used up");
}

#[test]
fn em_3_a_retry_gets_the_first_reply_also_when_it_says_something_else() {
    let (mut log, [a, b, _], producer) = three();
    let mut commit = commit_of(token(producer, 1), &[(a, 2), (b, 1)]);
    commit.conditions = vec![Condition::EndOffset { partition: a, offset: 0 }];
    let first = log.commit(&commit);
    // Its condition doesn't hold any more.
    assert_eq!(log.reply(&submit(&commit)), again(&first));
    // The token alone decides.
    let mut other = commit_of(token(producer, 1), &[(part(a.topic, 9), 1)]);
    other.cursor = Some(Bytes::from(vec![0; 1000]));
    assert_eq!(log.reply(&submit(&other)), again(&first));
    assert_eq!((log.end(a), log.end(b)), (2, 1));
}

#[test]
fn em_3_a_retry_is_answered_after_a_restart_and_over_epochs_and_a_deleted_topic() {
    let (mut log, [a, ..], old) = three();
    let first = log.commit(&commit_of(token(old, 1), &[(a, 2)]));
    log.restart();
    assert_eq!(log.reply(&submit(&commit_of(token(old, 1), &[(a, 2)]))), again(&first));
    let new = log.producer(Some("p"));
    assert_eq!(log.reply(&submit(&commit_of(token(old, 1), &[(a, 2)]))), again(&first), "before the epoch");
    log.commit(&commit_of(token(new, 2), &[(a, 1)]));
    log.reply(&Command::DeleteTopic { topic: a.topic });
    assert_eq!(log.reply(&submit(&commit_of(token(old, 1), &[(a, 2)]))), again(&first));
}

#[test]
fn em_3_a_refusal_takes_no_number_and_the_same_token_is_judged_anew() {
    let (mut log, [a, ..], producer) = three();
    let mut commit = commit_of(token(producer, 1), &[(a, 1)]);
    commit.conditions = vec![Condition::EndOffset { partition: a, offset: 3 }];
    for _ in 0..2 {
        let refusal = log.commit_refused(&commit);
        assert_eq!(refusal, Refusal::EndOffset { partition: a, expected: 3, actual: 0 });
    }
    log.append(a, records(3));
    assert_eq!(log.commit(&commit).base_offsets, [(a, 3)]);
}

#[test]
fn em_3_the_last_five_replies_are_kept_and_the_fact_of_all_others() {
    let (mut log, [a, ..], producer) = three();
    let commits: Vec<_> = (1..=8).map(|number| commit_of(token(producer, number), &[(a, 1)])).collect();
    let first: Vec<_> = commits.iter().map(|commit| log.commit(commit)).collect();
    for index in 0..8 {
        let expected = if index < 3 { Reply::CommittedBefore } else { again(&first[index]) };
        assert_eq!(log.reply(&submit(&commits[index])), expected, "number {}", index + 1);
    }
    assert_eq!(log.end(a), 8);
}

#[test]
fn em_3_a_number_that_is_not_the_next_one_is_refused() {
    let (mut log, [a, ..], producer) = three();
    for number in [0, 2, u64::MAX] {
        let token = token(producer, number);
        let refusal = log.commit_refused(&commit_of(token, &[(a, 1)]));
        assert_eq!(refusal, Refusal::CommitNumber { token, expected: 1 });
        assert_eq!(refusal.kafka_code(), 48);
    }
    log.commit(&commit_of(token(producer, 1), &[]));
    let zero = token(producer, 0);
    assert_eq!(log.commit_refused(&commit_of(zero, &[])), Refusal::CommitNumber { token: zero, expected: 2 });
}

#[test]
fn em_3_an_older_epoch_is_fenced_unless_the_number_is_known_to_be_committed() {
    let (mut log, [a, ..], old) = three();
    for number in 1..=7 {
        log.commit(&commit_of(token(old, number), &[(a, 1)]));
    }
    // One more was on its way when the name was taken over.
    let in_flight = commit_of(token(old, 8), &[(a, 1)]);
    let new = log.producer(Some("p"));
    let refusal = log.commit_refused(&in_flight);
    assert_eq!(refusal, Refusal::CommitFenced { token: in_flight.token, current: 1 });
    assert_eq!(refusal.kafka_code(), 90);
    log.commit(&commit_of(token(new, 8), &[(a, 1)]));
    assert_eq!(log.commit_refused(&in_flight), Refusal::CommitFenced { token: in_flight.token, current: 1 });
    assert_eq!(log.reply(&submit(&commit_of(token(old, 1), &[]))), Reply::CommittedBefore);
    assert_eq!(log.end(a), 8);
}

#[test]
fn em_3_epochs_before_the_last_five_are_fenced_and_their_outcome_is_not_known_any_more() {
    let (mut log, [a, ..], first) = three();
    log.commit(&commit_of(token(first, 1), &[(a, 1)]));
    for _ in 0..5 {
        log.producer(Some("p"));
    }
    let now = (first.0, 5);
    for number in 2..=6 {
        log.commit(&commit_of(token(now, number), &[(a, 1)]));
    }
    assert_eq!(log.reply(&submit(&commit_of(token(first, 1), &[]))), Reply::CommittedBefore, "five kept");
    log.producer(Some("p"));
    let forgotten = token(first, 1);
    let refusal = log.commit_refused(&commit_of(forgotten, &[]));
    assert_eq!(refusal, Refusal::CommitForgotten { token: forgotten });
    assert_eq!(refusal.kafka_code(), 48);
}

#[test]
fn em_3_an_epoch_that_was_never_given_out_is_not_taken_for_an_old_one() {
    let (mut log, _, producer) = three();
    for sent in [1, i16::MAX, -1, i16::MIN] {
        let refusal = log.commit_refused(&commit_of(token((producer.0, sent), 1), &[]));
        assert_eq!(refusal, Refusal::ProducerEpochUnknown { producer: producer.0, sent, current: 0 });
    }
    let (unnamed, _) = log.producer(None);
    for producer in [unnamed, ProducerId(0), ProducerId(77), ProducerId(-1)] {
        let refusal = log.commit_refused(&commit_of(token((producer, 0), 1), &[]));
        assert_eq!(refusal, Refusal::UnknownProducer { producer }, "only names commit");
    }
}

/// TX-4 in small: the name gets a new id when its epochs run out, and nothing of what it committed is lost.
#[test]
fn em_3_tokens_are_found_when_the_epochs_of_an_id_ran_out() {
    let (mut log, [a, ..], first) = three();
    for epoch in 1..i16::MAX {
        assert_eq!(log.producer(Some("p")), (first.0, epoch));
    }
    let last = (first.0, 32766);
    for number in 1..=7 {
        log.commit(&commit_of(token(last, number), &[(a, 1)]));
    }
    let kept = |log: &mut Log, number| log.reply(&submit(&commit_of(token(last, number), &[(a, 1)])));
    let sixth = kept(&mut log, 6);
    assert!(matches!(sixth, Reply::Committed(_)));

    let reply = log.reply(&Command::InitProducer { name: Some("p".into()) });
    let Reply::Producer { producer: next, producer_epoch: 0, last_number: 7, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_ne!(next, first.0);
    log.restart();
    assert_eq!(kept(&mut log, 6), sixth, "a reply under the old id");
    assert_eq!(kept(&mut log, 1), Reply::CommittedBefore);
    assert!(matches!(log.commit_refused(&commit_of(token(last, 8), &[])), Refusal::CommitFenced { .. }));
    let beyond = commit_of(token((first.0, i16::MAX), 8), &[]);
    assert!(matches!(log.commit_refused(&beyond), Refusal::ProducerEpochUnknown { current: 32766, .. }));
    let old_append = log.refused(&append(a, produced(last, 0, 1)));
    assert_eq!(old_append.kafka_code(), 47, "{old_append}");

    assert_eq!(log.commit(&commit_of(token((next, 0), 8), &[(a, 1)])).base_offsets, [(a, 7)]);
    assert_eq!(kept(&mut log, 6), sixth);

    // And a second time: both former ids lead to the newest.
    for epoch in 1..i16::MAX {
        assert_eq!(log.producer(Some("p")), (next, epoch));
    }
    let (third, epoch) = log.producer(Some("p"));
    assert!(third > next && epoch == 0);
    for id in [first.0, next] {
        let old = token((id, 0), 99);
        assert_eq!(log.commit_refused(&commit_of(old, &[])), Refusal::CommitForgotten { token: old });
        assert_eq!(log.refused(&append(a, produced((id, 32766), 0, 1))).kafka_code(), 47);
    }
    assert_eq!(kept(&mut log, 6), sixth, "the reply is among the last five still");
    log.commit(&commit_of(token((third, 0), 9), &[]));
}

#[test]
fn em_3_the_first_reply_and_its_repeats_name_the_same_64_partitions() {
    let mut log = Log::default();
    let topic = log.topic("t", 100);
    let producer = log.producer(Some("p"));
    let batches: Vec<_> = (0..100).rev().map(|index| (part(topic, index), 1)).collect();
    let commit = commit_of(token(producer, 1), &batches);
    let applied = log.apply(&submit(&commit));
    assert_eq!(applied.placements.len(), 100, "all of it is in the log");
    let Reply::Committed(first) = applied.reply else { panic!("{:?}", applied.reply) };
    let named: Vec<_> = first.base_offsets.iter().map(|it| it.0).collect();
    let expected: Vec<_> = batches.iter().take(KEPT_PARTITIONS_MAX).map(|it| it.0).collect();
    assert_eq!(named, expected, "the first of the command's batches");
    log.restart();
    assert_eq!(log.reply(&submit(&commit)), again(&first));
}

#[test]
fn em_3_a_commit_without_a_cursor_keeps_the_one_before() {
    let (mut log, _, producer) = three();
    let mut commit = commit_of(token(producer, 1), &[]);
    commit.cursor = Some(Bytes::from(vec![9; CURSOR_BYTES_MAX]));
    log.commit(&commit);
    log.commit(&commit_of(token(producer, 2), &[]));
    let cursor = |log: &mut Log| match log.reply(&Command::InitProducer { name: Some("p".into()) }) {
        Reply::Producer { cursor, last_number, .. } => (cursor, last_number),
        other => panic!("{other:?}"),
    };
    assert_eq!(cursor(&mut log), (commit.cursor.clone(), 2));
    log.restart();
    assert_eq!(cursor(&mut log), (commit.cursor, 2));
}

proptest! {
    /// A producer that commits in order, loses replies, retries, restarts and takes its own name over again.
    #[test]
    fn em_3_every_number_is_applied_once_whatever_is_lost_and_retried(
        events in prop::collection::vec((0..5u8, 1..4u32), 1..60),
    ) {
        let (mut log, [a, ..], mut producer) = three();
        let mut sent: Vec<(Commit, Option<Committed>)> = Vec::new();
        let mut records_applied = 0;
        for (event, count) in events {
            match event {
                // A new commit; its reply may be lost, so it may be retried at any later time.
                0 | 1 => {
                    let number = sent.iter().filter(|it| it.1.is_some()).count() as u64 + 1;
                    let commit = commit_of(token(producer, number), &[(a, count)]);
                    let committed = log.commit(&commit);
                    prop_assert_eq!(committed.base_offsets[0].1, records_applied);
                    records_applied += u64::from(count);
                    sent.push((commit, Some(committed)));
                }
                2 => {
                    let newest = sent.iter().rev().take(5 + 3).cloned().collect::<Vec<_>>();
                    for (age, (commit, first)) in newest.iter().enumerate() {
                        match (log.reply(&submit(commit)), first) {
                            (Reply::Committed(repeat), Some(first)) => {
                                prop_assert_eq!(Reply::Committed(repeat), again(first));
                            }
                            (Reply::CommittedBefore | Reply::Refused(Refusal::CommitForgotten { .. }), _) => {
                                prop_assert!(age >= 5, "the last five replies are kept");
                            }
                            (other, _) => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
                3 => log.restart(),
                _ => producer = log.producer(Some("p")),
            }
            prop_assert_eq!(log.end(a), records_applied);
        }
    }

    #[test]
    fn em_6_of_several_commits_with_one_expectation_exactly_one_succeeds(
        competitors in 2..8usize,
        kind in select(vec!["end", "offset", "append"]),
        order in any::<prop::sample::Index>(),
    ) {
        let (mut log, [a, ..], _) = three();
        log.append(a, records(4));
        let mut commands: Vec<_> = (0..competitors)
            .map(|index| {
                let producer = log.producer(Some(&format!("p{index}")));
                let mut commit = commit_of(token(producer, 1), &[(a, 1)]);
                match kind {
                    "end" => commit.conditions.push(Condition::EndOffset { partition: a, offset: 4 }),
                    "offset" => {
                        let group = "g".to_string();
                        commit.conditions.push(Condition::GroupOffset { group, partition: a, offset: None });
                        commit.offsets.push(positions("g", &[offset(a, 1)]));
                    }
                    _ => {
                        let expected_end = Some(4);
                        return Command::Append { partition: a, config_version: 0, expected_end, batch: records(1) };
                    }
                }
                submit(&commit)
            })
            .collect();
        commands.rotate_left(order.index(competitors));
        let replies: Vec<_> = commands.iter().map(|command| log.reply(command)).collect();
        let succeeded = replies.iter().filter(|reply| !matches!(reply, Reply::Refused(_))).count();
        prop_assert_eq!(succeeded, 1);
        prop_assert!(!matches!(replies[0], Reply::Refused(_)), "the first in order");
        prop_assert_eq!(log.end(a), 5);
    }
}

/// EM-4 at this level: order is the lsn, and what a commit was told is what the next one finds.
#[test]
fn em_4_a_commit_after_another_s_reply_comes_after_it_and_finds_its_effects() {
    let (mut log, [a, b, _], producer) = three();
    let other = log.producer(Some("q"));
    let first = log.commit(&commit_of(token(producer, 1), &[(a, 3)]));
    let mut commit = commit_of(token(other, 1), &[(b, 1)]);
    commit.conditions = vec![Condition::EndOffset { partition: a, offset: first.base_offsets[0].1 + 3 }];
    assert!(log.commit(&commit).lsn > first.lsn);
}

#[test]
fn em_5_what_a_commit_was_told_can_be_read_at_once() {
    let (mut log, [a, b, _], producer) = three();
    log.append(a, records(5));
    let mut commit = commit_of(token(producer, 1), &[(b, 3)]);
    commit.offsets = vec![positions("g", &[offset(a, 5)])];
    let committed = log.commit(&commit);
    assert_eq!(log.end(b), committed.base_offsets[0].1 + 3);
    assert_eq!(log.state.committed_offset("g", a).unwrap().offset, 5);
}

#[test]
fn em_6_a_condition_names_the_current_value_and_holds_for_a_missing_offset_too() {
    let (mut log, [a, ..], producer) = three();
    log.append(a, records(4));
    let with = |offset, number| {
        let mut commit = commit_of(token(producer, number), &[]);
        commit.conditions = vec![Condition::GroupOffset { group: "g".into(), partition: a, offset }];
        commit
    };
    log.commit(&with(None, 1));
    log.reply(&commit_offsets("g", None, &[offset(a, 3)]));
    let refusal = log.commit_refused(&with(None, 2));
    let expected = Refusal::GroupOffset { group: "g".into(), partition: a, expected: None, actual: Some(3) };
    assert_eq!(refusal, expected);
    log.commit(&with(Some(3), 2));
}

#[test]
fn em_6_a_condition_on_a_partition_that_does_not_exist_is_refused() {
    let (mut log, [a, ..], producer) = three();
    let nowhere = part(a.topic, 3);
    let conditions = [
        Condition::EndOffset { partition: nowhere, offset: 0 },
        Condition::GroupOffset { group: "g".into(), partition: nowhere, offset: None },
    ];
    for condition in conditions {
        let mut commit = commit_of(token(producer, 1), &[]);
        commit.conditions = vec![condition];
        let refusal = log.commit_refused(&commit);
        assert_eq!(refusal, Refusal::UnknownPartition { partition: nowhere, partitions: 3 });
        assert_eq!(refusal.kafka_code(), 3);
    }
}

#[test]
fn em_11_limits_are_refused_and_what_is_at_the_limit_is_not() {
    let mut log = Log::default();
    let most = COMMIT_BATCHES_MAX as u32;
    let topic = log.topic("t", most + 1);
    let producer = log.producer(Some("p"));
    let batches: Vec<_> = (0..=most).map(|index| (part(topic, index), 1)).collect();
    let refusal = log.commit_refused(&commit_of(token(producer, 1), &batches));
    assert_eq!(refusal, Refusal::TooManyBatches { batches: batches.len(), max: COMMIT_BATCHES_MAX });
    log.commit(&commit_of(token(producer, 1), &batches[1..]));

    let config = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    log.reply(&Command::AlterTopic { topic, config });
    let large = commit_of(token(producer, 2), &[(part(topic, 0), 200)]);
    let bytes = large.batches[0].1.len_bytes() as u64;
    let refusal = log.commit_refused(&large);
    assert_eq!(refusal, Refusal::BatchTooLarge { bytes, max: 1024 });
    assert_eq!(refusal.kafka_code(), 10);

    let config = TopicConfig::default();
    for partitions in [0, TOPIC_PARTITIONS_MAX + 1] {
        let create = Command::CreateTopic { name: "u".into(), partitions, config: config.clone() };
        assert_eq!(log.refused(&create), Refusal::PartitionCount { partitions, max: TOPIC_PARTITIONS_MAX });
    }
    for name in ["", ".", "..", "a/b", "ü", &"x".repeat(NAME_BYTES_MAX + 1)] {
        let name = name.to_string();
        let create = Command::CreateTopic { name: name.clone(), partitions: 1, config: config.clone() };
        assert_eq!(log.refused(&create), Refusal::IllegalName { name: name.clone() });
        assert_eq!(
            log.refused(&Command::InitProducer { name: Some(name.clone()) }),
            Refusal::IllegalName { name }
        );
    }
    log.topic(&"x".repeat(NAME_BYTES_MAX), 1);
}
