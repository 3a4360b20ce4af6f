//! Views: everything as of one moment, each transaction wholly or not at all.

use crate::common::{self, *};
use exactlog::{Error, Event};
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
        for (topic, partition) in
            [&left, &right].into_iter().flat_map(|it| (0..PARTITIONS).map(move |p| (it, p)))
        {
            let (mut offset, end) = (0, view.end(topic, partition).unwrap());
            while offset < end {
                let records = view.read(topic, partition, offset, 4_000).unwrap();
                assert!(records.iter().all(|record| record.offset < end));
                for record in &records {
                    *parts.entry(String::from_utf8(record.value().to_vec()).unwrap()).or_default() += 1;
                }
                offset = records.last().expect("before the end there is something").offset + 1;
            }
            assert!(view.read(topic, partition, end, 4_000).unwrap().is_empty());
            total += end;
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
}
