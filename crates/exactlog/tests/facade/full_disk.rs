//! A full disk: a clear error with numbers, nothing acknowledged is lost, and the log frees its own space (LG-13).

use crate::common::*;
use exactlog::{CleanupPolicy, Error, Event, Log, Producer, StorageError, Topic, TopicOptions};
use exactlog_sim::disk::{Call, ENOSPC, Effect, Fault, SimDisk};
use exactlog_storage::disk::Disk;

const CAPACITY_BYTES: u64 = 16 * MIB;

fn small_disk() -> (SimDisk, Log) {
    let disk = SimDisk::new();
    disk.set_capacity(Some(CAPACITY_BYTES));
    let log = open(&disk);
    (disk, log)
}

/// Sends until the disk is full; the error. Numbers are the values, so that none can be lost unseen.
fn fill(producer: &Producer, topic: &Topic, next: &mut u64) -> Error {
    loop {
        let value = format!("{next}/{}", "x".repeat(60_000));
        match producer.blocking_send(topic, Event::new("k", value)) {
            Ok(_) => *next += 1,
            Err(error) => return error,
        }
    }
}

fn numbers(log: &Log, topic: &Topic) -> Vec<u64> {
    values(log, topic).iter().map(|value| value.split_once('/').unwrap().0.parse().unwrap()).collect()
}

fn assert_full(error: &Error) {
    let Error::Storage(StorageError::DiskFull { path, needed, free }) = error else { panic!("{error}") };
    // What is free is asked a moment after there was too little: meanwhile the log may have freed some.
    assert!(*needed > 0, "{needed} B needed, {free} B free");
    assert_eq!(path, "simulated disk");
    let text = error.to_string();
    assert!(text.contains(&needed.to_string()) && text.contains(&free.to_string()), "{text}");
    assert!(error.is_retriable());
}

/// Sends until one is taken: the log frees its space in the background.
fn send_when_possible(producer: &Producer, topic: &Topic, next: &mut u64) {
    until("there is room again", || {
        let value = format!("{next}/after");
        match producer.blocking_send(topic, Event::new("k", value)) {
            Ok(_) => true,
            Err(error) => {
                assert_full(&error);
                false
            }
        }
    });
    *next += 1;
}

fn topic_of_small_segments(log: &Log, name: &str) -> Topic {
    log.create_topic(name, TopicOptions::default().segment_bytes(500_000)).unwrap()
}

#[test]
fn lg_13_fill_trim_go_on_without_a_byte_freed_from_outside() {
    let (disk, log) = small_disk();
    let topic = topic_of_small_segments(&log, "t");
    let producer = log.producer("p").unwrap();
    let mut next = 0;
    for round in 0..3 {
        let error = fill(&producer, &topic, &mut next);
        assert_full(&error);
        assert!(!log.metrics().failed, "nothing failed in the middle of a write");
        let start = log.bounds(&topic, 0).unwrap().0;
        assert_eq!(numbers(&log, &topic), (start..next).collect::<Vec<_>>(), "reads go on");
        // Unless the log has found some more room by itself meanwhile.
        let created = log.create_topic("other", TopicOptions::default()).map(|_| ());
        let joined = log.consumer("g").subscribe([&topic]).map(|_| ());
        [created, joined].iter().filter_map(|it| it.as_ref().err()).for_each(assert_full);
        // All of it, half of what is left, all but the last one.
        let keep = [0, (next - start) / 2, 1][round];
        assert_eq!(log.trim(&topic, 0, next - keep).unwrap(), next - keep);
        send_when_possible(&producer, &topic, &mut next);
        if keep == 0 {
            let goal = next + 100;
            until("what was trimmed is used again", || {
                assert_full(&fill(&producer, &topic, &mut next));
                next >= goal
            });
        }
    }
    let (start, end) = log.bounds(&topic, 0).unwrap();
    assert_eq!(end, next);
    let expected: Vec<u64> = (start..end).collect();
    assert_eq!(numbers(&log, &topic), expected);
    let (_, log) = after_kill(&disk);
    assert_eq!(numbers(&log, &log.open_topic("t").unwrap()), expected);
}

#[test]
fn lg_13_deleting_a_topic_frees_its_space() {
    let (disk, log) = small_disk();
    let (first, second) = (topic_of_small_segments(&log, "first"), topic(&log, "second", 1));
    let producer = log.producer("p").unwrap();
    let mut next = 0;
    assert_full(&fill(&producer, &first, &mut next));
    log.delete_topic(&first).unwrap();
    let mut other = 0;
    until("the space is used again", || {
        assert_full(&fill(&producer, &second, &mut other));
        other >= next / 2
    });
    assert_eq!(numbers(&log, &second), (0..other).collect::<Vec<_>>());
    assert!(disk.list(&format!("topics/{}-0", first.id())).is_err(), "its directory is gone");
}

#[test]
fn lg_13_a_consumer_leaves_and_hands_over_on_a_full_disk() {
    let (_disk, log) = small_disk();
    let topic = topic(&log, "t", 2);
    let mut first = log.consumer("g").subscribe([&topic]).unwrap();
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(first.positions().unwrap().len(), 1);
    let producer = log.producer("p").unwrap();
    assert_full(&fill(&producer, &topic, &mut 0));
    drop(first);
    until("the other one has it all", || second.positions().unwrap().len() == 2);
    let batch = second.blocking_next_for(PATIENCE).unwrap().unwrap();
    assert!(!batch.is_empty());
    if let Err(error) = batch.blocking_ack() {
        assert_full(&error);
    }
}

#[test]
fn lg_13_the_log_goes_on_when_the_disk_has_grown_without_a_reopen() {
    let (disk, log) = small_disk();
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let mut next = 0;
    assert_full(&fill(&producer, &topic, &mut next));
    match producer.transaction(|it| it.send(&topic, Event::new("k", format!("{next}/tx")))) {
        Err(error) => assert_full(&error),
        // The log has found some room by itself meanwhile.
        Ok(()) => next += 1,
    }
    disk.set_capacity(Some(4 * CAPACITY_BYTES));
    producer.transaction(|it| it.send(&topic, Event::new("k", format!("{next}/tx")))).unwrap();
    next += 1;
    send_when_possible(&producer, &topic, &mut next);
    assert_eq!(numbers(&log, &topic), (0..next).collect::<Vec<_>>());
    drop(producer);
    log.close().unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    assert_eq!(numbers(&log, &topic), (0..next).collect::<Vec<_>>());
}

#[test]
fn lg_13_space_that_runs_out_in_the_middle_of_a_write_fails_the_log_and_a_reopen_helps() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let mut next = 0;
    send_when_possible(&producer, &topic, &mut next);
    // As on a disk that copies on write: what was allocated isn't there.
    let effect = Effect::Short { bytes: 5_000, errno: ENOSPC };
    disk.add_fault(Fault::persistent(Some(Call::Write), 0, effect).on("journal/"));
    let value = format!("{next}/{}", "x".repeat(60_000));
    let error = producer.blocking_send(&topic, Event::new("k", value)).unwrap_err();
    // Or the note that all is durable, which is written when nothing else is.
    let poisoned = matches!(&error, Error::Storage(StorageError::Poisoned { .. }));
    assert!(poisoned || matches!(&error, Error::Unknown(StorageError::Io { .. })), "{error}");
    assert_eq!(numbers(&log, &topic), [0]);
    disk.clear_faults();
    log.reopen().unwrap();
    send_when_possible(&producer, &topic, &mut next);
    assert_eq!(numbers(&log, &topic), [0, 1]);
}

#[test]
fn lg_13_a_disk_that_is_too_small_from_the_start_says_so() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(MIB / 2));
    let error = builder(disk.clone()).open("simulated").unwrap_err();
    assert_full(&error);
    disk.set_capacity(Some(CAPACITY_BYTES));
    topic(&open(&disk), "t", 1);
}

#[test]
fn lg_13_a_full_log_can_be_opened_again_and_again_and_frees_its_space_then() {
    let (disk, log) = small_disk();
    let topic = topic_of_small_segments(&log, "t");
    let mut next = 0;
    assert_full(&fill(&log.producer("p").unwrap(), &topic, &mut next));
    drop(log);
    for _ in 0..3 {
        let log = open(&disk);
        assert_eq!(numbers(&log, &topic), (0..next).collect::<Vec<_>>());
        drop(log);
    }
    let log = open(&disk);
    assert_eq!(log.trim(&topic, 0, next).unwrap(), next);
    let mut producer = None;
    until("a producer is let in", || {
        producer = log.producer("p").ok();
        producer.is_some()
    });
    send_when_possible(&producer.unwrap(), &topic, &mut next);
    assert_eq!(numbers(&log, &topic), [next - 1]);
}

#[test]
fn lg_13_compaction_that_finds_no_room_changes_nothing_and_works_when_there_is_some() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(CAPACITY_BYTES));
    let log = open(&disk);
    let options = TopicOptions::default().segment_bytes(256 * 1024).cleanup_policy(CleanupPolicy::Compact);
    let topic = log.create_topic("t", options).unwrap();
    let producer = log.producer("p").unwrap();
    let mut last = 0;
    // Until it is full.
    for at in 0_u64.. {
        let value = format!("{at:0>8000}");
        match producer.blocking_send(&topic, Event::new(format!("{}", at % 5), value)) {
            Ok(_) => last = at,
            Err(error) => {
                assert!(matches!(error, Error::Storage(StorageError::DiskFull { .. })), "{error}");
                break;
            }
        }
    }
    let table = |log: &Log| -> std::collections::BTreeMap<String, String> {
        let view = log.read_view();
        let records = view.records(&topic).map(Result::unwrap);
        records.map(|it| (it.key_str().unwrap().into(), it.value_str().unwrap().into())).collect()
    };
    let before = table(&log);
    assert_eq!(before[&format!("{}", last % 5)], format!("{last:0>8000}"));
    // Beside what is there is no room for what would be left of it, or it just fits: nothing is lost in either case.
    let _ = log.compact(&topic);
    assert_eq!(table(&log), before);
    disk.set_capacity(Some(4 * CAPACITY_BYTES));
    log.compact(&topic).unwrap();
    assert_eq!(table(&log), before);
    assert!(log.partitions(&topic).unwrap()[0].records < 200);
    let (_, log) = after_kill(&disk);
    assert_eq!(table(&log), before);
}
