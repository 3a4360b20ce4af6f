//! Timers (semantics EM-10 and EM-1's part): each fires once, not before it is due, with what it was set with, or
//! somebody is told why it doesn't.

use crate::common::*;
use bytes::Bytes;
use exactlog_core::batch::Batch;
use exactlog_core::codec::{self, DecodeError};
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, ProducerId, TimerId, TopicId};
use exactlog_core::reply::{Cancellation, Refusal, Reply, TimerFailure};

fn set(target: Partition, due_ms: i64, batch: Batch) -> Command {
    TimerCommand::Set { sender: None, timer: NewTimer { target, due_ms, batch } }.into()
}

fn fire(timer: TimerId, batch: &Batch) -> Command {
    TimerCommand::Fire { timer, batch: batch.clone() }.into()
}

fn cancel(timer: TimerId) -> Command {
    TimerCommand::Cancel { timer }.into()
}

fn limits(count_max: u64, delay_max_ms: u64) -> Command {
    Command::Config(ConfigChange::TimerLimits { count_max, delay_max_ms })
}

/// Batches that differ.
fn payload(number: i64) -> Batch {
    built(1, number, None)
}

fn hidden(log: &Log) -> (u64, u64) {
    log.state.partition(Partition::TIMERS).map_or((0, 0), |hidden| (hidden.start, hidden.end))
}

fn cancelled(log: &mut Log, timer: TimerId) -> Cancellation {
    match log.reply(&cancel(timer)) {
        Reply::TimerCancelled(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn em_10_a_timer_fires_once_and_not_before_it_is_due() {
    let mut log = Log { time_ms: 100, ..Log::default() };
    let target = log.partition("t");
    let timer = log.set_timer(target, 500, payload(1));
    assert_eq!(log.state.timers.next_due_ms(), 500);
    assert_eq!(log.state.next_deadline_ms(), 500);
    assert_eq!((log.end(target), hidden(&log)), (0, (0, 1)), "so far it is only in the hidden partition");

    log.time_ms = 499;
    let early = Refusal::TimerNotDue { timer, due_ms: 500, now_ms: 499 };
    assert_eq!(log.refused(&fire(timer, &payload(1))), early);
    log.restart();

    log.time_ms = 500;
    let applied = log.apply(&fire(timer, &payload(1)));
    assert_eq!(applied.reply, Reply::TimerFired { partition: target, base_offset: 0, due_ms: 500 });
    assert_eq!((applied.placements[0].partition, applied.placements[0].base_offset), (target, 0));
    assert_eq!(applied.timers_start, Some(1), "its payload may go");
    assert_eq!((log.end(target), hidden(&log), log.state.next_deadline_ms()), (1, (1, 1), i64::MAX));

    for _ in 0..2 {
        let ended = Refusal::TimerEnded { timer, was: Cancellation::Fired };
        assert_eq!(
            log.refused(&fire(timer, &payload(1))),
            ended,
            "also by a second shell, or behind a restart"
        );
        log.restart();
    }
    assert_eq!(log.end(target), 1);
}

#[test]
fn em_10_a_step_back_of_the_clock_fires_nothing_early_and_nothing_again() {
    let mut log = Log { time_ms: 1_000, ..Log::default() };
    let target = log.partition("t");
    let timer = log.set_timer(target, 2_000, payload(1));
    log.time_ms = 1_999;
    log.reply(&Command::Tick);
    log.time_ms = 3;
    assert_eq!(
        log.refused(&fire(timer, &payload(1))),
        Refusal::TimerNotDue { timer, due_ms: 2_000, now_ms: 1_999 }
    );
    log.time_ms = 2_000;
    assert!(matches!(log.reply(&fire(timer, &payload(1))), Reply::TimerFired { .. }));
}

#[test]
fn em_10_only_what_a_timer_was_set_with_comes_into_the_log() {
    let mut log = Log::default();
    let target = log.partition("t");
    let (one, other) = (log.set_timer(target, 0, payload(1)), log.set_timer(target, 0, payload(2)));
    for (timer, wrong) in [(one, payload(2)), (other, payload(1)), (one, records(2))] {
        assert_eq!(log.refused(&fire(timer, &wrong)), Refusal::TimerPayload { timer });
    }
    // Base offset and leader epoch are those of the hidden partition, and aren't looked at.
    assert!(matches!(log.reply(&fire(other, &payload(2).placed(1, 9))), Reply::TimerFired { .. }));
}

#[test]
fn em_10_timers_fire_in_the_order_of_due_time_and_then_of_acceptance() {
    let mut log = Log::default();
    let target = log.partition("t");
    let dues = [30, 10, 30, 20, 10, i64::MIN];
    let timers: Vec<TimerId> = dues.iter().map(|due_ms| log.set_timer(target, *due_ms, records(1))).collect();
    log.restart();
    let order: Vec<TimerId> = log.state.timers.waiting().map(|(timer, _)| timer).collect();
    assert_eq!(order, [timers[5], timers[1], timers[4], timers[3], timers[0], timers[2]]);
    assert_eq!(timers, (1..=6).map(TimerId).collect::<Vec<_>>(), "ids count");
}

#[test]
fn em_10_a_cancelled_timer_never_fires_and_cancelling_tells_what_became_of_it() {
    let mut log = Log::default();
    let target = log.partition("t");
    let (kept, given_up) = (log.set_timer(target, 10, payload(1)), log.set_timer(target, 10, payload(2)));
    assert_eq!(cancelled(&mut log, given_up), Cancellation::Cancelled);
    log.restart();
    log.time_ms = 10;
    let ended = Refusal::TimerEnded { timer: given_up, was: Cancellation::CancelledBefore };
    assert_eq!(log.refused(&fire(given_up, &payload(2))), ended);
    assert!(matches!(log.reply(&fire(kept, &payload(1))), Reply::TimerFired { .. }));
    log.restart();
    assert_eq!(cancelled(&mut log, given_up), Cancellation::CancelledBefore);
    assert_eq!(cancelled(&mut log, kept), Cancellation::Fired);
    for never in [TimerId(0), TimerId(3), TimerId(u64::MAX)] {
        assert_eq!(cancelled(&mut log, never), Cancellation::NeverSet);
    }
    assert_eq!(log.end(target), 1);
}

#[test]
fn em_10_of_timers_cancelled_long_ago_it_is_said_that_they_have_ended() {
    const KEPT: u64 = 10_000;
    let mut log = Log::default();
    let target = log.partition("t");
    let fired = log.set_timer(target, 0, payload(0));
    log.reply(&fire(fired, &payload(0)));
    let first = log.set_timer(target, 0, payload(1));
    log.reply(&cancel(first));
    for _ in 0..KEPT - 1 {
        let timer = log.set_timer(target, 0, payload(1));
        log.reply(&cancel(timer));
    }
    assert_eq!(cancelled(&mut log, first), Cancellation::CancelledBefore);
    assert_eq!(cancelled(&mut log, fired), Cancellation::Fired);
    let last = log.set_timer(target, 0, payload(1));
    log.reply(&cancel(last));
    log.restart();
    assert_eq!(cancelled(&mut log, first), Cancellation::Ended);
    assert_eq!(cancelled(&mut log, fired), Cancellation::Ended, "below it nobody knows");
    assert_eq!(cancelled(&mut log, last), Cancellation::CancelledBefore);
}

#[test]
fn em_10_a_batch_that_is_too_large_by_then_waits_for_other_settings() {
    let mut log = Log::default();
    let target = log.partition("t");
    let mut builder = exactlog_core::batch::BatchBuilder::new(0);
    builder.append(0, None, Some(&[7; 2_000]), &[]);
    let large = builder.finish(None);
    let timer = log.set_timer(target, 10, large.clone());
    let config = |max_message_bytes| TopicConfig { max_message_bytes, ..TopicConfig::default() };
    let alter = |max| Command::AlterTopic { topic: target.topic, config: config(max) };
    log.reply(&alter(1_024));
    assert!(matches!(log.refused(&set(target, 10, large.clone())), Refusal::BatchTooLarge { .. }));

    log.time_ms = 10;
    assert_eq!(log.reply(&fire(timer, &large)), Reply::TimerFailed(TimerFailure::TooLarge));
    log.restart();
    assert_eq!((log.end(target), hidden(&log)), (0, (0, 1)), "nothing of it is lost");
    assert_eq!(log.state.timers.next_due_ms(), i64::MAX, "nobody tries it in vain");
    let stuck: Vec<_> = log.state.timers.stuck().map(|(timer, it)| (timer, it.failure)).collect();
    assert_eq!(stuck, [(timer, Some(TimerFailure::TooLarge))]);
    let refusal = Refusal::TimerStuck { timer, failure: TimerFailure::TooLarge };
    assert_eq!(log.refused(&fire(timer, &large)), refusal);

    log.reply(&alter(1_025));
    assert_eq!(log.state.timers.next_due_ms(), 10, "other settings: it is tried again");
    assert_eq!(log.reply(&fire(timer, &large)), Reply::TimerFailed(TimerFailure::TooLarge));
    log.reply(&alter(10_000));
    assert!(matches!(log.reply(&fire(timer, &large)), Reply::TimerFired { .. }));
    assert_eq!((log.end(target), hidden(&log)), (1, (1, 1)));
}

#[test]
fn em_10_a_timer_whose_topic_is_gone_is_kept_until_somebody_gives_it_up() {
    let mut log = Log::default();
    let target = log.partition("t");
    let timer = log.set_timer(target, 10, payload(1));
    log.reply(&Command::DeleteTopic { topic: target.topic });
    log.time_ms = 10;
    assert_eq!(log.reply(&fire(timer, &payload(1))), Reply::TimerFailed(TimerFailure::NoTarget));
    log.restart();
    // Another topic of the name is another topic.
    log.partition("t");
    assert_eq!((log.state.timers.len(), log.state.timers.stuck_count(), hidden(&log)), (1, 1, (0, 1)));
    assert_eq!(cancelled(&mut log, timer), Cancellation::Cancelled);
    assert_eq!((log.state.timers.len(), log.state.timers.stuck_count(), hidden(&log)), (0, 0, (1, 1)));
}

#[test]
fn em_10_more_timers_and_longer_delays_than_the_settings_allow_are_refused() {
    let mut log = Log { time_ms: 1_000, ..Log::default() };
    let target = log.partition("t");
    let year_ms = 31_536_000_000;
    assert!(matches!(log.reply(&set(target, 1_000 + year_ms, records(1))), Reply::TimerSet { .. }));
    assert_eq!(
        log.refused(&set(target, 1_001 + year_ms, records(1))),
        Refusal::DelayTooLong {
            due_ms: 1_001 + year_ms,
            delay_ms: year_ms as u64 + 1,
            max_ms: year_ms as u64
        }
    );
    assert!(matches!(log.refused(&set(target, i64::MAX, records(1))), Refusal::DelayTooLong { .. }));

    log.reply(&limits(2, 500));
    log.restart();
    let second = log.set_timer(target, 1_500, records(1));
    let full = Refusal::TooManyTimers { waiting: 2, sent: 1, max: 2 };
    assert_eq!(log.refused(&set(target, 1_500, records(1))), full);
    assert!(matches!(log.refused(&set(target, 1_501, records(1))), Refusal::TooManyTimers { .. }));
    log.reply(&cancel(second));
    assert!(matches!(log.refused(&set(target, 1_501, records(1))), Refusal::DelayTooLong { .. }));
    log.set_timer(target, 1_500, records(1));

    for (count_max, delay_max_ms) in [(4_000_001, 1), (1, 0), (1, u64::MAX)] {
        let refusal = log.refused(&limits(count_max, delay_max_ms));
        assert!(matches!(refusal, Refusal::SettingOutOfBounds { .. }), "{refusal:?}");
    }
}

#[test]
fn em_10_what_can_not_become_part_of_the_log_is_not_taken_by_a_timer_either() {
    let mut log = Log::default();
    let target = log.partition("t");
    let producer = log.producer(Some("p"));
    assert!(matches!(log.refused(&set(target, 0, produced(producer, 0, 1))), Refusal::Batch { .. }));
    let control = changed(&records(1), |header| {
        header[ATTRIBUTES_AT..][..2].copy_from_slice(&CONTROL.to_be_bytes());
    });
    assert!(matches!(log.refused(&set(target, 0, control)), Refusal::Batch { .. }));
    assert!(matches!(log.refused(&set(part(TopicId(9), 0), 0, records(1))), Refusal::UnknownTopic { .. }));
    assert!(matches!(
        log.refused(&set(part(target.topic, 1), 0, records(1))),
        Refusal::UnknownPartition { .. }
    ));
}

#[test]
fn em_10_a_producer_that_is_fenced_sets_no_timer() {
    let mut log = Log::default();
    let target = log.partition("t");
    let old = log.producer(Some("p"));
    let new = log.producer(Some("p"));
    let by = |sender| {
        let timer = NewTimer { target, due_ms: 0, batch: records(1) };
        Command::from(TimerCommand::Set { sender: Some(sender), timer })
    };
    assert!(matches!(log.refused(&by(old)), Refusal::ProducerFenced { sent: 0, current: 1, .. }));
    assert!(matches!(log.refused(&by((ProducerId(99), 0))), Refusal::UnknownProducer { .. }));
    assert!(matches!(log.reply(&by(new)), Reply::TimerSet { .. }));
}

#[test]
fn em_10_nobody_else_names_the_hidden_partition() {
    let mut log = Log::default();
    let target = log.partition("t");
    let producer = log.producer(Some("p"));
    log.set_timer(target, 10, records(1));
    let transactional = log.init("x");
    let topic = TopicId::TIMERS;
    let hidden = Partition::TIMERS;
    let config = TopicConfig::default();
    let join = join("g", &[topic]);
    let in_commit = Command::Commit(Box::new(commit_of(token(producer, 1), &[(hidden, 1)])));
    let stamped = super::common::transactional(transactional, 0, 1);
    let sender = sender("x", transactional, Protocol::V2);
    for command in [
        append(hidden, records(1)),
        set(hidden, 0, records(1)),
        Command::Trim { partition: hidden, start: 1 },
        Command::DeleteTopic { topic },
        Command::AlterTopic { topic, config },
        commit_offsets("g", None, &[offset(hidden, 0)]),
        join,
        in_commit,
        append_transactional("x", Protocol::V2, hidden, stamped).into(),
        Transactional::AddPartitions { sender, partitions: vec![hidden] }.into(),
    ] {
        assert_eq!(log.refused(&command), Refusal::UnknownTopic { topic }, "{command:?}");
    }
    assert!(log.state.topic_named("__timers-0").is_none(), "nor is it found by its name");
    assert_eq!(log.state.topics[&topic].name, "__timers-0");
}

/// A commit that sets and cancels timers.
fn with_timers(commit: Commit, set: &[(Partition, i64)], cancel: &[TimerId]) -> Commit {
    let set = set.iter().map(|(target, due_ms)| NewTimer {
        target: *target,
        due_ms: *due_ms,
        batch: payload(*due_ms),
    });
    Commit { timers: TimerEffects { set: set.collect(), cancel: cancel.to_vec() }, ..commit }
}

#[test]
fn em_1_timers_of_a_commit_are_set_and_cancelled_with_the_rest_or_not_at_all() {
    let mut log = Log::default();
    let target = log.partition("t");
    let producer = log.producer(Some("p"));
    let old = log.set_timer(target, 50, records(1));
    let number = |number| commit_of(token(producer, number), &[(target, 2)]);
    let commit = with_timers(number(1), &[(target, 20), (target, 10)], &[old]);
    let applied = log.apply(&Command::Commit(Box::new(commit.clone())));
    let Reply::Committed(committed) = &applied.reply else { panic!("{:?}", applied.reply) };
    assert_eq!(
        (committed.first_timer, committed.base_offsets.clone()),
        (Some(TimerId(2)), vec![(target, 0)])
    );
    let placed: Vec<_> = applied.placements.iter().map(|it| (it.partition, it.index)).collect();
    assert_eq!(placed, [(target, 0), (Partition::TIMERS, 1), (Partition::TIMERS, 2)]);
    assert_eq!(applied.timers_start, Some(1), "the one that was given up lay first");
    let waiting: Vec<_> = log.state.timers.waiting().map(|(timer, it)| (timer.0, it.due_ms)).collect();
    assert_eq!(waiting, [(3, 10), (2, 20)]);

    // A retry gets the first answer and sets nothing again, also behind a restart.
    log.restart();
    let again = log.commit(&commit);
    assert_eq!((again.first_timer, again.duplicate, again.lsn), (Some(TimerId(2)), true, committed.lsn));
    assert_eq!(log.state.timers.len(), 2);

    // Whatever is refused of it, nothing is set, cancelled or appended: the helper compares the whole state.
    let gone = with_timers(number(2), &[(target, 10)], &[old]);
    let ended = Refusal::TimerEnded { timer: old, was: Cancellation::CancelledBefore };
    assert_eq!(log.commit_refused(&gone), ended);
    let twice = with_timers(number(2), &[], &[TimerId(2), TimerId(2)]);
    assert!(matches!(log.commit_refused(&twice), Refusal::TimerEnded { timer: TimerId(2), .. }));
    let nowhere = with_timers(number(2), &[(target, 10), (part(TopicId(9), 0), 10)], &[TimerId(2)]);
    assert!(matches!(log.commit_refused(&nowhere), Refusal::UnknownTopic { .. }));
    let mut condition = with_timers(number(2), &[(target, 10)], &[TimerId(2)]);
    condition.conditions.push(Condition::EndOffset { partition: target, offset: 7 });
    assert!(matches!(log.commit_refused(&condition), Refusal::EndOffset { .. }));

    // What ends by the same command makes room for what it sets.
    log.reply(&limits(2, 1_000));
    assert!(matches!(
        log.commit_refused(&with_timers(number(2), &[(target, 1)], &[])),
        Refusal::TooManyTimers { waiting: 2, sent: 1, max: 2 }
    ));
    let next = log.commit(&with_timers(number(2), &[(target, 1)], &[TimerId(2)]));
    assert_eq!(next.first_timer, Some(TimerId(4)));
}

#[test]
fn em_1_the_first_timer_is_kept_as_long_as_the_rest_of_the_reply() {
    let mut log = Log::default();
    let target = log.partition("t");
    let producer = log.producer(Some("p"));
    let commit = |number| with_timers(commit_of(token(producer, number), &[]), &[(target, 10)], &[]);
    for number in 1..=6 {
        log.commit(&commit(number));
    }
    for number in 2..=6 {
        assert_eq!(log.commit(&commit(number)).first_timer, Some(TimerId(number)), "one of the last five");
    }
    assert_eq!(log.reply(&Command::Commit(Box::new(commit(1)))), Reply::CommittedBefore);
}

#[test]
fn em_10_payloads_are_carried_forward_so_that_one_old_timer_holds_back_little() {
    let mut log = Log::default();
    let target = log.partition("t");
    let old = log.set_timer(target, 1_000_000, payload(0));
    let bytes = payload(0).len_bytes() as u64;
    for number in 1..=20 {
        let timer = log.set_timer(target, 0, payload(number));
        log.reply(&fire(timer, &payload(number)));
    }
    assert_eq!(hidden(&log), (0, 21), "nothing goes as long as the first is needed");
    let timers = &log.state.timers;
    assert_eq!((timers.held_bytes(), timers.live_bytes()), (21 * bytes, bytes));
    assert!(timers.to_carry(21 * bytes, u64::MAX).is_empty(), "that much may be held back");
    let due: Vec<TimerId> = timers.to_carry(20 * bytes, u64::MAX).iter().map(|(timer, _)| *timer).collect();
    assert_eq!(due, [old]);

    let carry = |payloads| Command::from(TimerCommand::Carry { payloads });
    assert_eq!(
        log.refused(&carry(vec![(old, payload(1))])),
        Refusal::TimerPayload { timer: old },
        "not with another's payload"
    );
    let fired = Refusal::TimerEnded { timer: TimerId(2), was: Cancellation::Fired };
    assert_eq!(log.refused(&carry(vec![(old, payload(0)), (TimerId(2), payload(1))])), fired);
    assert!(matches!(
        log.refused(&carry(vec![(old, payload(0)), (old, payload(0))])),
        Refusal::TimerPayload { .. }
    ));
    let applied = log.apply(&carry(vec![(old, payload(0))]));
    assert_eq!((applied.reply, applied.timers_start), (Reply::TimersCarried, Some(21)));
    assert_eq!((hidden(&log), log.state.timers.held_bytes()), ((21, 22), bytes));
    log.restart();
    assert_eq!(log.state.timers.get(old).map(|timer| timer.payload_offset), Some(21));
    log.time_ms = 1_000_000;
    assert!(matches!(log.reply(&fire(old, &payload(0))), Reply::TimerFired { .. }));
    assert_eq!(hidden(&log), (22, 22));
}

#[test]
fn em_10_a_round_of_carrying_takes_the_oldest_payloads_up_to_a_limit() {
    let mut log = Log::default();
    let target = log.partition("t");
    let bytes = payload(0).len_bytes() as u64;
    let timers: Vec<TimerId> = (0..80).map(|number| log.set_timer(target, 9, payload(number))).collect();
    for timer in &timers[3..78] {
        log.reply(&cancel(*timer));
    }
    let due = |limit| -> Vec<u64> {
        log.state.timers.to_carry(0, limit).iter().map(|(timer, _)| timer.0).collect()
    };
    assert_eq!(due(u64::MAX), [1, 2, 3, 79, 80]);
    assert_eq!(due(2 * bytes), [1, 2]);
    assert_eq!(due(1), [1], "at least one");
}

#[test]
fn sections_of_a_commit_that_contradict_themselves_are_malformed() {
    let mut log = Log::default();
    let target = log.partition("t");
    let commit = with_timers(commit_of(token((ProducerId(1), 0), 1), &[]), &[(target, 7)], &[TimerId(3)]);
    let encoded = codec::encode(1, &Command::Commit(Box::new(commit)));
    let bodies = Bytes::from(encoded.bodies.concat());
    // Behind time and batches, the token, no cursor, no positions and no conditions.
    let count_at = 12 + 8 + 4 + 8 + 1 + 4 + 4;
    let (tag_at, len_at, dues_at) = (count_at + 1, count_at + 2, count_at + 6);
    assert_eq!((encoded.version, encoded.head[count_at], encoded.head[tag_at]), (2, 1, 2));
    let decoded = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut head = encoded.head.clone();
        change(&mut head);
        codec::decode(encoded.kind, 2, &Bytes::from(head), &bodies)
    };
    assert!(decoded(&|_| {}).is_ok());
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let changes: [Change<'_>; 9] = [
        &|head| head[count_at] = 0,
        &|head| head[count_at] = 2,
        &|head| head[tag_at] = 0,
        &|head| head[tag_at] = 9,
        &|head| head[len_at] -= 1,
        &|head| head[len_at] += 1,
        &|head| head[dues_at] = 2,
        &|head| head[8] = 0,
        // Twice the same section: the second one is cut out of the first.
        &|head| {
            let section = head[tag_at..tag_at + 5 + 24].to_vec();
            head.splice(tag_at..tag_at, section);
            head[count_at] = 2;
        },
    ];
    for (nth, change) in changes.iter().enumerate() {
        let decoded = decoded(change);
        assert!(matches!(decoded, Err(DecodeError::Malformed { .. })), "{nth}: {decoded:?}");
    }
    let unknown = codec::decode(encoded.kind, 4, &Bytes::from(encoded.head.clone()), &bodies);
    assert!(matches!(unknown, Err(DecodeError::Unknown { kind: 7, version: 4 })));
}
