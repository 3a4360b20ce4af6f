//! Events that are delivered later (semantics EM-10, EM-1): once, not before their time, whatever is killed.

use crate::common::*;
use exactlog::{
    Cancellation, Compression, Error, Event, Log, Refusal, TimerFailure, TimerId, TimerLimits, Topic,
    TopicConfig, TopicOptions,
};
use exactlog_core::batch::{Batch, BatchBuilder};
use exactlog_core::command::{Command, NewTimer, TimerCommand};
use exactlog_core::ids::Partition;
use exactlog_core::reply::Reply;
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk};
use exactlog_storage::shard::{Options, Shard, Submission};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);
/// Far enough ahead that the log does something else first, and near enough that nobody waits for long.
const SOON: Duration = Duration::from_millis(30);

fn event(value: &str) -> Event {
    Event::new("k", value.to_owned())
}

/// Works on the shard of a log that is closed: there is no writer that fires.
fn with_shard<T>(disk: &SimDisk, work: impl FnOnce(&mut Shard) -> T) -> T {
    let options = Options {
        journal_file_bytes: MIB,
        journal_ring_bytes: 4 * MIB,
        tail_cache_bytes: 0,
        ..Options::default()
    };
    let mut nonce = 0;
    let mut random = || {
        nonce += 1;
        nonce
    };
    let (mut shard, _) = Shard::open(Arc::new(disk.clone()), options, &mut random).unwrap();
    let result = work(&mut shard);
    shard.close().unwrap();
    result
}

fn run(shard: &mut Shard, command: Command) -> Reply {
    let time_ms = shard.state().time_ms;
    shard.execute(&[Submission { time_ms, command }]).unwrap().remove(0).reply
}

fn payload(value: &str) -> Batch {
    let mut builder = BatchBuilder::new(0);
    builder.append(0, Some(b"k"), Some(value.as_bytes()), &[(b"h", Some(b"v"))]);
    builder.finish(None)
}

/// A topic with timers that are due since long ago, in a log that is closed.
fn due_since_long(disk: &SimDisk, values: &[String]) -> (Topic, Vec<TimerId>) {
    let log = open(disk);
    let topic = topic(&log, "t", 1);
    log.close().unwrap();
    let target = Partition { topic: topic.id(), index: 0 };
    let set = |shard: &mut Shard| {
        let timers = values.iter().enumerate().map(|(nth, value)| {
            let timer = NewTimer { target, due_ms: 1_000 + nth as i64, batch: payload(value) };
            match run(shard, TimerCommand::Set { sender: None, timer }.into()) {
                Reply::TimerSet { timer } => timer,
                other => panic!("{other:?}"),
            }
        });
        timers.collect()
    };
    (topic, with_shard(disk, set))
}

/// Kind and time of the commands of a log.
fn commands(log: &Log, kind: &str) -> Vec<(i64, String)> {
    let all = log.commands(1).unwrap().map(Result::unwrap);
    all.filter(|command| command.kind == kind).map(|command| (command.time_ms, command.text)).collect()
}

#[test]
fn em_10_a_delayed_event_comes_once_and_not_before_its_time() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 3);
    let producer = log.producer("p").unwrap();
    let before = SystemTime::now();
    let timer = producer.blocking_send_after(&topic, event("later"), SOON).unwrap();
    let details = log.timers(9);
    assert_eq!((details[0].timer, details[0].topic.as_deref()), (timer, Some("t")));
    let due_ms = details[0].due_ms;
    let due = SystemTime::UNIX_EPOCH + Duration::from_millis(due_ms as u64);
    assert!(due >= before + SOON, "no millisecond is rounded off");

    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let batch = consumer.blocking_next().unwrap().unwrap();
    let records = batch.blocking_ack().unwrap();
    assert_eq!((records.len(), records[0].value_str().unwrap()), (1, "later"));
    assert_eq!(records[0].timestamp_ms, due_ms, "it happens when it is due");
    let fired = commands(&log, "FireTimer");
    assert!(fired.len() == 1 && fired[0].0 >= due_ms, "{fired:?}, due at {due_ms}");
    let metrics = log.metrics();
    assert_eq!((metrics.timers.waiting, metrics.timers.fired, metrics.records_in), (0, 1, 1));
    assert!(metrics.timers.lateness_ms >= metrics.timers.lateness_max_ms);
    assert_eq!(log.cancel(timer).unwrap(), Cancellation::Fired);

    let (_, log) = after_kill(&disk);
    assert_eq!(values(&log, &log.open_topic("t").unwrap()), ["later"]);
    assert_eq!(log.metrics().timers.fired, 0, "nothing comes again");
}

#[tokio::test]
async fn em_10_timers_are_set_and_awaited_in_tasks_too() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    producer.set_compression(Compression::Zstd).unwrap();
    let text = "squeezed ".repeat(50);
    producer.send_at(&topic, event(&text), SystemTime::UNIX_EPOCH).await.unwrap();
    producer.send_after(&topic, event("second"), SOON).await.unwrap();
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let mut found = Vec::new();
    while found.len() < 2 {
        let batch = consumer.next().await.unwrap().unwrap();
        found.extend(batch.ack().await.unwrap().into_iter().map(|it| it.value_str().unwrap().to_owned()));
    }
    assert_eq!(found, [text.as_str(), "second"]);
}

#[test]
fn em_10_what_is_due_fires_exactly_once_wherever_the_process_is_killed() {
    let mut disk = SimDisk::new();
    let mut expected = Vec::new();
    for round in 0..12 {
        let log = open(&disk);
        let topic = topic(&log, "t", 2);
        let producer = log.producer("p").unwrap();
        for nth in 0..20 {
            let value = format!("{round}/{nth}");
            let delay = Duration::from_millis(nth % 4);
            producer.blocking_send_after(&topic, event(&value), delay).unwrap();
            expected.push(value);
        }
        if round % 3 == 0 {
            log.checkpoint().unwrap();
        }
        // Some of this round's have fired by now, and some haven't.
        disk = disk.process_kill();
    }
    let log = open(&disk);
    until("all have fired", || log.metrics().timers.waiting == 0);
    let mut found = values(&log, &log.open_topic("t").unwrap());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn em_10_what_was_due_while_the_log_was_closed_comes_in_order_and_lets_others_pass() {
    let disk = SimDisk::new();
    let late: Vec<String> = (0..1_500).map(|number| format!("late {number}")).collect();
    let (topic, _) = due_since_long(&disk, &late);
    let log = open(&disk);
    let other = log.create_topic("other", TopicOptions::default()).unwrap();
    send_all(&log, &other, (0..20).map(|number| format!("now {number}")));
    until("all have fired", || log.metrics().timers.waiting == 0);
    assert_eq!(values(&log, &topic), late);
    assert_eq!(log.metrics().timers.fired, 1_500);
    assert!(log.metrics().timers.lateness_max_ms > 1_000_000, "they are late by years");
}

#[test]
fn em_1_delayed_events_and_cancels_of_a_transaction_are_all_there_or_none() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let old = producer.blocking_send_after(&topic, event("old"), HOUR).unwrap();

    let mut dropped = producer.begin();
    dropped.send_after(&topic, event("never"), Duration::ZERO).unwrap();
    dropped.cancel(old);
    drop(dropped);
    assert_eq!(log.timers(9).len(), 1);

    let mut refused = producer.begin();
    refused.send_after(&topic, event("never"), Duration::ZERO).unwrap();
    refused.send(&topic, event("never")).unwrap();
    refused.cancel(old);
    refused.expect_end(&topic, 0, 7);
    assert!(matches!(refused.blocking_commit(), Err(Error::Refused(Refusal::EndOffset { .. }))));
    assert_eq!(log.timers(9).iter().map(|it| it.timer).collect::<Vec<_>>(), [old]);

    let mut commit = producer.begin();
    commit.send(&topic, event("at once")).unwrap();
    commit.send_after(&topic, event("in an hour"), HOUR).unwrap();
    commit.send_at(&topic, event("since long"), SystemTime::UNIX_EPOCH).unwrap();
    commit.cancel(old);
    let receipt = commit.blocking_commit().unwrap();
    assert_eq!(receipt.timers, [TimerId(old.0 + 1), TimerId(old.0 + 2)], "in the order of the sends");
    until("the second one has fired", || log.metrics().timers.fired == 1);
    assert_eq!(values(&log, &topic), ["at once", "since long"]);

    // What doesn't wait any more refuses the transaction that wants to give it up.
    let mut late = producer.begin();
    late.send(&topic, event("never")).unwrap();
    late.cancel(receipt.timers[1]);
    let Err(Error::Refused(Refusal::TimerEnded { timer, was })) = late.blocking_commit() else { panic!() };
    assert_eq!((timer, was), (receipt.timers[1], Cancellation::Fired));

    let (_, log) = after_kill(&disk);
    assert_eq!(log.cancel(old).unwrap(), Cancellation::CancelledBefore);
    assert_eq!(log.cancel(receipt.timers[0]).unwrap(), Cancellation::Cancelled);
    assert_eq!(log.cancel(TimerId(99)).unwrap(), Cancellation::NeverSet);
    assert_eq!(values(&log, &log.open_topic("t").unwrap()), ["at once", "since long"]);
}

#[test]
fn em_10_the_hidden_topic_is_nobody_s() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    log.producer("p").unwrap().blocking_send_after(&topic, event("later"), HOUR).unwrap();
    assert_eq!(log.topics().iter().map(|topic| topic.name().to_owned()).collect::<Vec<_>>(), ["t"]);
    assert!(matches!(log.open_topic("__timers-0"), Err(Error::NoSuchTopic { .. })));
    let created = log.create_topic("__timers-0", TopicOptions::default());
    assert!(matches!(created, Err(Error::ReservedName { .. })), "{created:?}");
}

#[test]
fn em_10_limits_are_settings_that_last() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    assert_eq!(log.timer_limits(), TimerLimits { count_max: 1_000_000, delay_max_ms: 31_536_000_000 });
    let two_years = 2 * 365 * 24 * HOUR;
    let long = producer.blocking_send_after(&topic, event("e"), two_years).unwrap_err();
    assert!(matches!(long, Error::Refused(Refusal::DelayTooLong { max_ms: 31_536_000_000, .. })), "{long}");
    let most = producer.blocking_send_after(&topic, event("e"), Duration::MAX).unwrap_err();
    assert!(matches!(most, Error::Refused(Refusal::DelayTooLong { .. })), "{most}");
    let refused = log.set_timer_limits(TimerLimits { count_max: 5_000_000, delay_max_ms: 1 });
    assert!(matches!(refused, Err(Error::Refused(Refusal::SettingOutOfBounds { max: 4_000_000, .. }))));
    log.set_timer_limits(TimerLimits { count_max: 1, delay_max_ms: 7_200_000 }).unwrap();

    let (_, log) = after_kill(&disk);
    let producer = log.producer("p").unwrap();
    producer.blocking_send_after(&topic, event("e"), HOUR).unwrap();
    let full = producer.blocking_send_after(&topic, event("e"), HOUR).unwrap_err();
    let limit = Refusal::TooManyTimers { waiting: 1, sent: 1, max: 1 };
    assert!(matches!(&full, Error::Refused(refusal) if *refusal == limit), "{full}");
    assert!(full.to_string().contains("delivery.timers.max = 1"), "{full}");
    let large = Event::new("k", vec![0; 2_000_000]);
    let large = producer.blocking_send_after(&topic, large, HOUR).unwrap_err();
    assert!(matches!(large, Error::EventTooLarge { .. }), "{large}");
}

#[test]
fn em_10_an_older_handle_of_a_name_sets_no_timer() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let old = log.producer("p").unwrap();
    let _new = log.producer("p").unwrap();
    let fenced = old.blocking_send_after(&topic, event("e"), HOUR).unwrap_err();
    assert!(matches!(fenced, Error::Fenced { .. }), "{fenced}");
    assert!(log.timers(9).is_empty());
}

#[test]
fn em_10_an_event_that_can_not_go_where_it_was_to_go_is_kept_and_shown() {
    let disk = SimDisk::new();
    let (topic, timers) = due_since_long(&disk, &["small".to_owned(), "x".repeat(3_000)]);
    let config = TopicConfig { max_message_bytes: 2_000, ..TopicConfig::default() };
    with_shard(&disk, |shard| run(shard, Command::AlterTopic { topic: topic.id(), config }));
    let log = open(&disk);
    until("it is stuck", || log.metrics().timers.stuck == 1);
    until("the other has fired", || log.metrics().timers.fired == 1);
    let shown = log.timers(0);
    assert_eq!((shown[0].timer, shown[0].stuck), (timers[1], Some(TimerFailure::TooLarge)));
    log.close().unwrap();

    // Settings that let it pass: it is tried again by itself.
    let config = TopicConfig::default();
    with_shard(&disk, |shard| run(shard, Command::AlterTopic { topic: topic.id(), config }));
    let log = open(&disk);
    until("it has fired", || log.metrics().timers.fired == 1);
    assert_eq!(values(&log, &topic).len(), 2);
    assert!(log.timers(9).is_empty());
}

#[test]
fn em_10_the_event_of_a_topic_that_is_gone_can_be_had_and_given_up() {
    let disk = SimDisk::new();
    let (topic, timers) = due_since_long(&disk, &["lost?".to_owned()]);
    with_shard(&disk, |shard| run(shard, Command::DeleteTopic { topic: topic.id() }));
    let log = open(&disk);
    until("it is stuck", || log.metrics().timers.stuck == 1);
    let (details, event) = log.timer(timers[0]).unwrap().unwrap();
    assert_eq!(
        (details.stuck, details.topic, details.topic_id),
        (Some(TimerFailure::NoTarget), None, topic.id())
    );
    assert_eq!((event.key.unwrap(), event.value.unwrap()), ("k".into(), "lost?".into()));
    assert_eq!(event.headers, [("h".to_owned(), Some("v".into()))]);
    assert_eq!(log.cancel(timers[0]).unwrap(), Cancellation::Cancelled);
    assert!(log.timer(timers[0]).unwrap().is_none());
    assert_eq!(log.metrics().timers.stuck, 0);
}

#[test]
fn em_10_an_unreadable_payload_delays_its_timer_and_no_other() {
    let disk = SimDisk::new();
    let events: Vec<String> = (0..5).map(|number| format!("event {number}")).collect();
    let (topic, timers) = due_since_long(&disk, &events);
    with_shard(&disk, |shard| {
        // Everything is in a segment then, and the journal's copy isn't asked any more.
        shard.checkpoint().unwrap();
        shard.checkpoint().unwrap();
    });
    let segment = "topics/0-0/00000000000000000000.log";
    let bytes = disk.read_file(segment).unwrap();
    let at = bytes.windows(7).position(|window| window == b"event 2").unwrap() as u64;
    disk.flip_bit(segment, at, 1).unwrap();

    let log = open(&disk);
    until("the others have fired", || log.metrics().timers.fired == 4);
    until("it was tried", || log.metrics().timers.unreadable == 1);
    let waiting = log.timers(9);
    assert_eq!(waiting.iter().map(|it| it.timer).collect::<Vec<_>>(), [timers[2]]);
    let reason = waiting[0].unreadable.as_deref().unwrap();
    assert!(reason.contains(segment), "{reason}");
    assert!(log.timer(timers[2]).is_err());
    assert_eq!(values(&log, &topic), ["event 0", "event 1", "event 3", "event 4"]);

    // Mended, it comes when the log is opened again: what was found damaged isn't read again before that.
    drop(log);
    disk.flip_bit(segment, at, 1).unwrap();
    let log = open(&disk);
    until("it has fired", || log.metrics().timers.fired == 1);
    assert_eq!((log.metrics().timers.unreadable, log.metrics().timers.waiting), (0, 0));
    assert_eq!(values(&log, &topic)[4], "event 2");
}

#[test]
fn em_10_a_payload_that_could_not_be_read_once_is_tried_again() {
    let disk = SimDisk::new();
    let (topic, _) = due_since_long(&disk, &["late".to_owned()]);
    with_shard(&disk, |shard| {
        shard.checkpoint().unwrap();
        shard.checkpoint().unwrap();
    });
    for call in [Call::Read, Call::Map] {
        disk.add_fault(Fault::persistent(Some(call), 0, Effect::Errno(EIO)).on("topics/0-0/"));
    }
    let log = open(&disk);
    until("it was tried", || log.metrics().timers.unreadable == 1);
    let reason = log.timers(1)[0].unreadable.clone().unwrap();
    assert!(reason.contains("topics/0-0"), "{reason}");
    disk.clear_faults();
    until("it has fired", || log.metrics().timers.fired == 1);
    assert_eq!(values(&log, &topic), ["late"]);
    assert_eq!(log.metrics().timers.unreadable, 0);
}

#[test]
fn em_10_one_old_timer_does_not_hold_back_all_that_came_after_it() {
    let disk = SimDisk::new();
    let log = builder(disk.clone()).timers_held_bytes(20_000).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let old = producer.blocking_send_after(&topic, event("old"), HOUR).unwrap();
    for number in 0..60 {
        let text = format!("{number} {}", "x".repeat(1_000));
        producer.blocking_send_at(&topic, event(&text), SystemTime::UNIX_EPOCH).unwrap();
    }
    until("all others have fired", || log.metrics().timers.fired == 60);
    until("it was carried forward", || !commands(&log, "CarryTimers").is_empty());
    let (_, held) = log.timer(old).unwrap().unwrap();
    assert_eq!(held.value.unwrap(), "old");
    log.close().unwrap();
    with_shard(&disk, |shard| {
        let start = shard.state().partition(Partition::TIMERS).unwrap().start;
        assert!(start > 0, "what lies before it may go");
        assert!(shard.state().timers.held_bytes() < 60 * 1_000);
    });
    let log = open(&disk);
    assert_eq!(log.cancel(old).unwrap(), Cancellation::Cancelled);
}

#[test]
fn em_10_a_log_with_timers_that_wait_writes_nothing_by_itself() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    log.producer("p").unwrap().blocking_send_after(&topic, event("later"), HOUR).unwrap();
    let lsn = log.metrics().lsn;
    // Each of these makes the writer look around.
    for _ in 0..50 {
        let join = log.consumer("g").subscribe([&topic]).map(drop);
        join.unwrap();
    }
    until("the members have left", || log.group("g").unwrap().members.is_empty());
    let written = commands(&log, "JoinGroup").len() + commands(&log, "LeaveGroup").len();
    assert_eq!(log.metrics().lsn, lsn + written as u64, "nothing but what was asked for");
}
