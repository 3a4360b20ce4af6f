//! Views: everything as of one moment, each transaction wholly or not at all.

use crate::common::{self, *};
use exactlog::{Error, Event, Log, Topic, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PARTITIONS: u32 = 5;

#[test]
fn tx_25_a_view_shows_each_transaction_wholly_or_not_at_all_under_concurrent_commits() {
    let log = builder(SimDisk::new()).durability(exactlog::Durability::Os).open("simulated").unwrap();
    let (left, right) = (topic(&log, "left", PARTITIONS), topic(&log, "right", PARTITIONS));
    let done = Arc::new(AtomicBool::new(false));
    let committing: Vec<_> = (0..2)
        .map(|writer| {
            let (log, left, right, done) = (log.clone(), left.clone(), right.clone(), done.clone());
            std::thread::spawn(move || {
                let mut producer = log.producer(&format!("w{writer}")).unwrap();
                let mut number = 0;
                while !done.load(Ordering::Acquire) && number < 2_000 {
                    let mut transaction = producer.begin();
                    for part in 0..6 {
                        let to = if part % 2 == 0 { &left } else { &right };
                        let key = format!("{writer}/{number}/{part}");
                        transaction.send(to, Event::new(key, format!("{writer}/{number}"))).unwrap();
                    }
                    transaction.blocking_commit().unwrap();
                    number += 1;
                }
            })
        })
        .collect();
    for round in 0..60u64 {
        until("something was committed", || log.metrics().commits > round);
        let view = log.read_view();
        let mut parts: BTreeMap<String, u32> = BTreeMap::new();
        let mut total = 0;
        for topic in [&left, &right] {
            for record in view.records(topic) {
                let record = record.unwrap();
                assert!(record.offset < view.end(topic, record.partition).unwrap());
                *parts.entry(record.value_str().unwrap().to_owned()).or_default() += 1;
            }
            total += (0..PARTITIONS).map(|partition| view.end(topic, partition).unwrap()).sum::<u64>();
        }
        assert_eq!(total, parts.values().map(|count| *count as u64).sum::<u64>());
        for (transaction, count) in parts {
            assert_eq!(count, 6, "transaction {transaction} in part");
        }
    }
    done.store(true, Ordering::Release);
    committing.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn tx_25_a_view_ends_where_it_was_opened_and_pins_no_records() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, (0..4).map(|n| n.to_string()));
    let view = log.read_view();
    send_all(&log, &topic, (4..8).map(|n| n.to_string()));
    assert_eq!(view.end(&topic, 0).unwrap(), 4);
    assert_eq!(view.read(&topic, 0, 0, 100_000).unwrap().len(), 4);
    assert!(log.read_view().csn() > view.csn());
    let newer = common::topic(&log, "newer", 1);
    assert!(matches!(view.end(&newer, 0), Err(Error::NoSuchPartition { partitions: 0, .. })));
    assert!(matches!(view.read(&topic, 0, 5, 1), Err(Error::OffsetOutOfRange { offset: 5, end: 4, .. })));
    log.trim(&topic, 0, 2).unwrap();
    assert!(matches!(view.read(&topic, 0, 1, 1), Err(Error::RecordsLost { from: 1, to: 2, .. })));
    assert_eq!(view.read(&topic, 0, 2, 100_000).unwrap().len(), 2);
    log.trim(&topic, 0, 8).unwrap();
    assert!(matches!(view.read(&topic, 0, 2, 1), Err(Error::RecordsLost { from: 2, to: 4, .. })));
    assert!(view.read(&topic, 0, 4, 1).unwrap().is_empty());
}

#[test]
fn tx_25_a_view_expires() {
    let log = builder(SimDisk::new()).read_view_max(Duration::ZERO).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    let error = log.read_view().read(&topic, 0, 0, 1).unwrap_err();
    assert!(matches!(error, Error::ViewExpired { max_ms: 0 }), "{error}");
    assert!(error.is_fatal());
    let view = log.read_view();
    let mut records = view.records(&topic);
    assert!(matches!(records.next(), Some(Err(Error::ViewExpired { .. }))));
    assert!(records.next().is_none());
}

/// A topic of three partitions, of which the first two have more than a piece to read, and what it holds: partition,
/// offset and value of each record, in order.
fn filled(log: &Log) -> (Topic, Vec<(u32, u64, String)>) {
    let topic = topic(log, "filled", 3);
    let producer = log.producer("p").unwrap();
    let mut stored = Vec::new();
    for key in keys_of_two_partitions(log, &topic) {
        for n in 0..300 {
            let value = format!("{key}/{n}/{}", "x".repeat(5_000));
            let receipt = producer.blocking_send(&topic, Event::new(key.clone(), value.clone())).unwrap();
            stored.push((receipt.partition, receipt.offset, value));
        }
    }
    stored.sort();
    (topic, stored)
}

/// A key for partition 0 and one for partition 1.
fn keys_of_two_partitions(log: &Log, topic: &Topic) -> [String; 2] {
    let probes = common::topic(log, "probes", topic.partitions());
    let producer = log.producer("probing").unwrap();
    [0, 1].map(|wanted| {
        let mut keys = (0..).map(|n| format!("key-{n}"));
        let leads = |key: &String| {
            producer.blocking_send(&probes, Event::new(key.clone(), "")).unwrap().partition == wanted
        };
        keys.find(leads).unwrap()
    })
}

fn shown(records: exactlog::Records<'_>) -> Vec<(u32, u64, String)> {
    let show =
        |record: exactlog::Record| (record.partition, record.offset, record.value_str().unwrap().to_owned());
    records.map(|record| show(record.unwrap())).collect()
}

#[test]
fn tx_25_the_records_of_a_view_are_those_of_all_partitions_in_order_and_end_with_it() {
    let log = open(&SimDisk::new());
    let (topic, stored) = filled(&log);
    let view = log.read_view();
    let [key, _] = keys_of_two_partitions(&log, &topic);
    log.producer("later").unwrap().blocking_send(&topic, Event::new(key, "later")).unwrap();
    assert!(shown(view.records(&topic)) == stored);
    assert_eq!(shown(log.read_view().records(&topic)).len(), stored.len() + 1);

    let of = |wanted: u32, from: u64| {
        let of = |row: &&(u32, u64, String)| row.0 == wanted && row.1 >= from;
        stored.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(1, 0).len(), 300);
    assert!(shown(view.records_from(&topic, 1, 0)) == of(1, 0));
    assert!(shown(view.records_from(&topic, 0, 250)) == of(0, 250));
    assert!(shown(view.records_from(&topic, 0, 300)).is_empty());
    assert!(shown(view.records_from(&topic, 2, 0)).is_empty());
    let mut pieces = Vec::new();
    while let Some(last) = view.read(&topic, 1, pieces.len() as u64, 20_000).unwrap().last() {
        pieces.resize(last.offset as usize + 1, ());
    }
    assert_eq!(pieces.len(), 300);
}

#[test]
fn a_record_is_read_by_its_offset_wherever_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Log::builder().tail_cache_bytes(0).open(directory.path()).unwrap();
    let log = open();
    let topic = log.create_topic("t", TopicOptions::default().partitions(2).segment_bytes(200_000)).unwrap();
    let producer = log.producer("p").unwrap();
    let (mut sent, value) = (0, |n: usize| format!("{n:04}").repeat(50 + n % 100));
    let mut send = |count: usize| {
        let events = (sent..sent + count).map(|n| Event::new(format!("{n}"), value(n)));
        let tickets: Vec<_> = events.map(|event| producer.blocking_submit(&topic, event).unwrap()).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
        sent += count;
    };
    send(2_000);
    assert_each_record(&log, &topic);
    log.checkpoint().unwrap();
    send(100);
    let view = log.read_view();
    assert_one_by_one(&view, &topic);
    for far in [view.record(&topic, 0, 10_000), log.record(&topic, 0, 10_000)] {
        assert!(matches!(far, Err(Error::OffsetOutOfRange { offset: 10_000, .. })));
    }
    for missing in [view.record(&topic, 2, 0), log.record(&topic, 2, 0)] {
        assert!(matches!(missing, Err(Error::NoSuchPartition { partitions: 2, .. })));
    }
    log.checkpoint().unwrap();
    drop(producer);
    log.close().unwrap();
    let log = open();
    let topic = log.open_topic("t").unwrap();
    let view = log.read_view();
    assert_one_by_one(&view, &topic);
    log.trim(&topic, 0, 500).unwrap();
    for trimmed in [view.record(&topic, 0, 499), log.record(&topic, 0, 499)] {
        assert!(matches!(trimmed, Err(Error::RecordsLost { from: 499, to: 500, .. })));
    }
    for kept in [view.record(&topic, 0, 500), log.record(&topic, 0, 500)] {
        assert_eq!(kept.unwrap().unwrap().offset, 500);
    }
    log.close().unwrap();
    assert!(matches!(view.record(&topic, 0, 500), Err(Error::Closed)));
}

#[test]
fn tx_25_records_that_are_trimmed_before_the_turn_of_their_partition_are_left_out() {
    let log = open(&SimDisk::new());
    let (topic, stored) = filled(&log);
    log.trim(&topic, 0, 10).unwrap();
    let view = log.read_view();
    let mut records = view.records(&topic);
    let first = records.next().unwrap().unwrap();
    assert_eq!((first.partition, first.offset), (0, 10));
    log.trim(&topic, 1, 299).unwrap();
    let rest = shown(records);
    assert_eq!(rest.len(), 289 + 1);
    assert_eq!(rest.last(), stored.last());
    assert!(matches!(
        view.records_from(&topic, 0, 9).next(),
        Some(Err(Error::RecordsLost { from: 9, to: 10, .. }))
    ));
}

#[test]
fn tx_25_an_error_is_the_last_item_of_the_records() {
    let log = open(&SimDisk::new());
    let (topic, _) = filled(&log);
    let view = log.read_view();
    let mut records = view.records(&topic);
    assert!(records.next().unwrap().is_ok());
    log.trim(&topic, 0, 300).unwrap();
    // What was read already is shown; behind it, in the middle of the partition, something is missing.
    let error = records.find_map(Result::err).unwrap();
    let Error::RecordsLost { partition: 0, from, to: 300, .. } = error else { panic!("{error}") };
    assert!((2..299).contains(&from), "{from}");
    assert!(records.next().is_none() && records.next().is_none(), "not the next partition either");

    let newer = common::topic(&log, "newer", 2);
    let mut records = view.records(&newer);
    assert!(matches!(records.next(), Some(Err(Error::NoSuchPartition { partitions: 0, .. }))));
    assert!(records.next().is_none());
    assert!(log.read_view().records(&newer).next().is_none(), "it is empty");
}
