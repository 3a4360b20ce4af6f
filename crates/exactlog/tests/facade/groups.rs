//! Groups: partitions change hands without overlapping, whoever joins, leaves, sleeps or fails.

use crate::common::*;
use exactlog::{Consumer, Error, Event, Log, Refusal, SeekTo, Topic};
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk};
use exactlog_sim::gate::GatedDisk;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn owned(consumer: &mut Consumer) -> BTreeSet<u32> {
    consumer.positions().unwrap().into_iter().map(|(_, partition, _)| partition).collect()
}

#[test]
fn gr_10_a_member_that_doesnt_come_back_while_others_wait_is_fenced() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 4);
    send_all(&log, &topic, (0..10).map(|n| n.to_string()));
    let builder = || log.consumer("g").max_poll_interval(Duration::from_millis(30));
    let mut asleep = builder().subscribe([&topic]).unwrap();
    let batch = asleep.blocking_next().unwrap().unwrap();
    assert_eq!(batch.len(), 10);
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    let next = second.blocking_next_for(PATIENCE).unwrap().unwrap();
    assert_eq!(next.len(), 10, "what the first one had comes to the second");
    next.blocking_ack().unwrap();
    assert!(matches!(batch.blocking_ack(), Err(Error::ConsumerFenced { group }) if group == "g"));
    assert!(matches!(asleep.try_next(), Err(Error::ConsumerFenced { .. })));
    assert_eq!(owned(&mut second).len(), 4);
    assert_eq!(log.lag("g", &topic), 0);
    drop(asleep);
    assert_eq!(owned(&mut second).len(), 4);
}

#[test]
fn gr_2_a_transaction_with_input_of_a_member_that_left_is_refused() {
    let log = open(&SimDisk::new());
    let (input, output) = (topic(&log, "in", 1), topic(&log, "out", 1));
    send_all(&log, &input, ["v".into()]);
    let mut first = log.consumer("g").subscribe([&input]).unwrap();
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "zombie")).unwrap();
    transaction.ack(first.blocking_next().unwrap().unwrap());
    let mut second = log.consumer("g").subscribe([&input]).unwrap();
    assert!(second.try_next().unwrap().is_none(), "the only partition is the first one's");
    drop(first);
    let batch = second.blocking_next_for(PATIENCE).unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    let error = transaction.blocking_commit().unwrap_err();
    assert!(matches!(error, Error::ConsumerFenced { .. }), "{error}");
    batch.blocking_ack().unwrap();
    assert!(values(&log, &output).is_empty());
}

#[test]
fn gr_10_a_member_may_sleep_while_nobody_waits() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let builder = || log.consumer("g").max_poll_interval(Duration::ZERO);
    let mut first = builder().subscribe([&topic]).unwrap();
    let mut idle = builder().subscribe([&topic]).unwrap();
    send_all(&log, &topic, ["v".into()]);
    assert_eq!(owned(&mut idle).len(), 0);
    first.blocking_next().unwrap().unwrap().blocking_ack().unwrap();
}

#[test]
fn a_member_without_partitions_is_woken_when_it_gets_some() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let first = log.consumer("g").subscribe([&topic]).unwrap();
    let mut idle = log.consumer("g").subscribe([&topic]).unwrap();
    let (send, received) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let batch = idle.blocking_next().unwrap().unwrap();
        send.send(batch.blocking_ack().unwrap().len()).unwrap();
    });
    send_all(&log, &topic, ["v".into()]);
    assert!(received.try_recv().is_err(), "the partition is the first one's");
    drop(first);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), 1);
    thread.join().unwrap();
}

#[test]
fn dropping_a_consumer_waits_for_nothing_while_the_queue_is_full_and_the_disk_hangs() {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).queue_bytes(500).open("gated").unwrap();
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    disk.shut();
    let ticket = producer.blocking_submit(&topic, Event::new("k", vec![0; 500])).unwrap();
    disk.wait_until_reached();
    assert!(matches!(producer.try_submit(&topic, Event::new("k", "v")), Err(Error::Full { .. })));
    within_patience("drop", move || drop(consumer));
    disk.open_gate();
    ticket.wait().unwrap();
    assert_eq!(second.blocking_next_for(PATIENCE).unwrap().unwrap().len(), 1);
}

#[test]
fn leaving_while_the_log_is_failed_is_made_up_for_after_the_reopen() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 2);
    let first = log.consumer("g").subscribe([&topic]).unwrap();
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    let producer = log.producer("p").unwrap();
    spare_is_ready(&disk);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
    assert!(producer.blocking_send(&topic, Event::new("k", "v")).is_err());
    drop(first);
    let joining = log.consumer("g").subscribe([&topic]);
    assert!(joining.is_err());
    log.reopen().unwrap();
    until("the second member has it all", || owned(&mut second).len() == 2);
}

#[test]
fn a_join_whose_outcome_was_unknown_leaves_no_ghost_behind() {
    let disk = SimDisk::new();
    disk.set_failed_sync(exactlog_sim::disk::Survival::AllKept);
    let log = open(&disk);
    let topic = topic(&log, "t", 2);
    let mut member = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(owned(&mut member).len(), 2);
    spare_is_ready(&disk);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
    let unknown = log.consumer("g").subscribe([&topic]);
    assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    log.reopen().unwrap();
    until("the ghost is gone", || owned(&mut member).len() == 2);
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    until("both have one", || owned(&mut member).len() == 1 && owned(&mut second).len() == 1);
}

#[test]
fn auto_commit_commits_what_the_next_before_delivered_and_nothing_else() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, (0..5).map(|n| n.to_string()));
    let mut consumer = log.consumer("g").auto_commit(true).max_poll_records(2).subscribe([&topic]).unwrap();
    drop(consumer.blocking_next().unwrap().unwrap());
    assert_eq!(log.committed("g", &topic, 0), None);
    drop(consumer.try_next().unwrap().unwrap());
    assert_eq!(log.committed("g", &topic, 0), Some(2));
    assert_eq!(consumer.blocking_next().unwrap().unwrap().len(), 1);
    assert_eq!(log.committed("g", &topic, 0), Some(4));
    drop(consumer);
    let mut again = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(again.blocking_next().unwrap().unwrap().records()[0].value(), b"4");
}

#[tokio::test]
async fn a_stream_with_auto_commit_commits_what_was_handed_out() {
    use futures_core::Stream;
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, (0..5).map(|n| n.to_string()));
    let consumer = log.consumer("g").auto_commit(true).max_poll_records(2).subscribe([&topic]).unwrap();
    let mut stream = consumer.into_stream();
    for n in 0..5 {
        let record = std::future::poll_fn(|context| std::pin::Pin::new(&mut stream).poll_next(context)).await;
        assert_eq!(record.unwrap().unwrap().value(), n.to_string().as_bytes());
        let expected = [None, None, Some(2), Some(2), Some(4)][n];
        assert_eq!(log.committed("g", &topic, 0), expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(usize),
    Poll(usize),
    Commit(usize),
    Abort(usize),
    Send(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        1 => (0..8usize).prop_map(Step::Leave),
        6 => (0..8usize).prop_map(Step::Poll),
        6 => (0..8usize).prop_map(Step::Commit),
        1 => (0..8usize).prop_map(Step::Abort),
        3 => (1..6u8).prop_map(Step::Send),
    ]
}

/// No two consumers read one partition at a time, as each of them sees it.
fn check_owners(consumers: &mut [Consumer]) {
    let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
    // Twice: at the second look nobody relies on what it gave up at the first.
    consumers.iter_mut().for_each(|consumer| drop(owned(consumer)));
    for (index, consumer) in consumers.iter_mut().enumerate() {
        for partition in owned(consumer) {
            assert_eq!(owners.insert(partition, index), None, "partition {partition} has two owners");
        }
    }
}

fn process(log: &Log, consumer: &mut Consumer, output: &Topic, commit: bool) {
    let mut producer = log.producer("worker").unwrap();
    let Some(batch) = consumer.try_next().unwrap() else { return };
    let mut transaction = producer.begin();
    for record in &batch {
        transaction.send(output, Event::new("k", record.value.clone().unwrap())).unwrap();
    }
    transaction.ack(batch);
    if commit {
        transaction.blocking_commit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gr_4_owners_never_overlap_and_every_record_is_processed_once(steps in prop::collection::vec(step(), 1..60)) {
        let log = builder(SimDisk::new()).durability(exactlog::Durability::Os).open("simulated").unwrap();
        let (input, output) = (topic(&log, "in", 5), topic(&log, "out", 1));
        let sender = log.producer("sender").unwrap();
        let mut consumers: Vec<Consumer> = Vec::new();
        let mut sent = 0u32;
        let join = || log.consumer("g").max_poll_records(3).subscribe([&input]).unwrap();
        for step in steps {
            let count = consumers.len();
            match step {
                Step::Join if count < 5 => consumers.push(join()),
                Step::Leave(at) if at < count => drop(consumers.swap_remove(at)),
                Step::Poll(at) if at < count => drop(consumers[at].try_next().unwrap()),
                Step::Commit(at) if at < count => process(&log, &mut consumers[at], &output, true),
                Step::Abort(at) if at < count => process(&log, &mut consumers[at], &output, false),
                Step::Send(count) => {
                    for _ in 0..count {
                        sender.blocking_send(&input, Event::new(sent.to_string(), sent.to_string())).unwrap();
                        sent += 1;
                    }
                }
                _ => {}
            }
            check_owners(&mut consumers);
        }
        let mut last = join();
        drop(consumers);
        until("all is processed", || {
            process(&log, &mut last, &output, true);
            log.lag("g", &input) == 0
        });
        let mut processed: Vec<u32> =
            values(&log, &output).iter().map(|value| value.parse().unwrap()).collect();
        processed.sort_unstable();
        prop_assert_eq!(processed, (0..sent).collect::<Vec<_>>());
    }
}

#[test]
fn gr_6_offsets_that_nobody_uses_are_forgotten_by_themselves() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, (0..3).map(|n| n.to_string()));
    let mut gone = log.consumer("gone").subscribe([&topic]).unwrap();
    gone.blocking_next().unwrap().unwrap().blocking_ack().unwrap();
    let mut stays = log.consumer("stays").subscribe([&topic]).unwrap();
    stays.blocking_next().unwrap().unwrap().blocking_ack().unwrap();
    drop(gone);
    assert_eq!(log.offsets_retention(), Duration::from_secs(7 * 24 * 3600));
    let refused = log.set_offsets_retention(Duration::ZERO).unwrap_err();
    assert!(refused.to_string().contains("offsets.retention.ms"), "{refused}");
    log.set_offsets_retention(Duration::from_millis(20)).unwrap();
    until("expiry", || log.group("gone").is_none());
    assert_eq!(log.committed("gone", &topic, 0), None);
    assert_eq!(log.committed("stays", &topic, 0), Some(3), "a member reads it");
    assert_eq!(log.metrics().offsets_expired, 1);
    let (_, log) = after_kill(&disk);
    assert_eq!(log.offsets_retention(), Duration::from_millis(20));
    until("expiry", || log.group("stays").is_none());
}

fn at(topic: &Topic, partition: u32, offset: u64) -> SeekTo {
    SeekTo { topic: topic.clone(), partition, offset }
}

#[test]
fn em_1_groups_are_moved_with_a_transaction_or_not_at_all() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (input, output) = (topic(&log, "in", 2), topic(&log, "out", 1));
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    (0..18).for_each(|n| transaction.send_to(&input, n % 2, Event::unkeyed("in")).unwrap());
    transaction.blocking_commit().unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "v")).unwrap();
    transaction.seek_group("g", &[at(&input, 0, 1), at(&input, 1, 1)]).unwrap();
    transaction.seek_group("g", &[at(&input, 0, 2)]).unwrap();
    transaction.seek_group("h", &[at(&input, 1, 0)]).unwrap();
    transaction.blocking_commit().unwrap();
    let found = |log: &Log| {
        let committed = |group, partition| log.committed(group, &input, partition);
        [committed("g", 0), committed("g", 1), committed("h", 0), committed("h", 1)]
    };
    assert_eq!(found(&log), [Some(2), Some(1), None, Some(0)]);
    // Back as well; and nothing of it where one position is behind its end, or the group has a member.
    let mut transaction = producer.begin();
    transaction.seek_group("g", &[at(&input, 0, 0)]).unwrap();
    transaction.blocking_commit().unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "never")).unwrap();
    transaction.seek_group("g", &[at(&input, 1, 0)]).unwrap();
    transaction.seek_group("h", &[at(&input, 1, 10)]).unwrap();
    let error = transaction.blocking_commit().unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::OffsetOutOfRange { .. })), "{error}");
    let member = log.consumer("h").subscribe([&input]).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "never")).unwrap();
    transaction.seek_group("h", &[at(&input, 1, 0)]).unwrap();
    let error = transaction.blocking_commit().unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::GroupNotEmpty { .. })), "{error}");
    drop(member);
    assert_eq!(found(&log), [Some(0), Some(1), None, Some(0)]);
    assert_eq!(values(&log, &output), ["v"]);
    // What it can't mean is said at once, and the transaction goes on.
    let mut transaction = producer.begin();
    let nameless = transaction.seek_group("a\nb", &[]);
    assert!(matches!(nameless, Err(Error::Refused(Refusal::IllegalGroupName { .. }))));
    let error = transaction.seek_group("g", &[at(&input, 2, 0)]);
    assert!(matches!(error, Err(Error::NoSuchPartition { .. })));
    transaction.seek_group("g", &[]).unwrap();
    assert!(matches!(transaction.blocking_commit(), Err(Error::EmptyTransaction)));
    // A program's own positions and its cursor, after a kill.
    let mut transaction = producer.begin();
    transaction.seek_group("g", &[at(&input, 1, 4)]).unwrap();
    transaction.set_cursor("here").unwrap();
    transaction.blocking_commit().unwrap();
    let log = open(&disk.process_kill());
    assert_eq!(found(&log), [Some(0), Some(4), None, Some(0)]);
    let cursor = log.producers().into_iter().find(|producer| producer.name == "p").unwrap().cursor;
    assert_eq!(cursor.as_deref(), Some(&b"here"[..]));
}

#[test]
fn gr_9_a_group_that_nobody_is_in_is_forgotten_in_part_or_as_a_whole() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 2);
    log.seek_group("g", &[at(&topic, 0, 0), at(&topic, 1, 0)]).unwrap();
    let member = log.consumer("g").subscribe([&topic]).unwrap();
    for refused in [log.delete_group("g"), log.delete_offsets("g", &[(topic.clone(), 0)])] {
        assert!(
            matches!(refused, Err(Error::GroupActive { group, members }) if group == "g" && members.len() == 1)
        );
    }
    drop(member);
    let mut deleted = log.delete_offsets("g", &[(topic.clone(), 0), (topic.clone(), 7)]);
    // Leaving takes its turn.
    while matches!(deleted, Err(Error::GroupActive { .. })) {
        deleted = log.delete_offsets("g", &[(topic.clone(), 0), (topic.clone(), 7)]);
    }
    assert_eq!(deleted.unwrap(), 1);
    assert_eq!((log.committed("g", &topic, 0), log.committed("g", &topic, 1)), (None, Some(0)));
    let log = open(&disk.process_kill());
    assert_eq!(log.delete_group("g").unwrap(), 1);
    assert!(log.group("g").is_none());
    let again = log.delete_group("g");
    assert!(matches!(again, Err(Error::Refused(Refusal::UnknownGroup { .. }))));
}
