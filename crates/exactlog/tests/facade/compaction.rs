//! Compacted topics through the whole log: what consumers, views and counts make of what is left.

use crate::common::*;
use exactlog::{CleanupPolicy, Compression, Event, Log, Topic, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::time::Duration;

const VALUE_BYTES: usize = 500;

fn compacted(log: &Log) -> Topic {
    let options = TopicOptions::default().segment_bytes(4096).cleanup_policy(CleanupPolicy::Compact);
    log.create_topic("t", options).unwrap()
}

/// Values of five keys in turn, each in a batch of its own; some are compressed.
fn send_rounds(log: &Log, topic: &Topic, rounds: std::ops::Range<u64>) {
    let producer = log.producer("sender").unwrap();
    for round in rounds {
        let codec = if round % 2 == 0 { Compression::None } else { Compression::Zstd };
        producer.set_compression(codec).unwrap();
        for key in 0..5 {
            let value = format!("{round}:{key}:{}", "v".repeat(VALUE_BYTES));
            producer.blocking_send(topic, Event::new(format!("{key}"), value)).unwrap();
        }
    }
}

/// The last value of each key, as a view shows it.
fn table(log: &Log, topic: &Topic) -> BTreeMap<String, String> {
    let view = log.read_view();
    let records = view.records(topic).map(Result::unwrap);
    records.map(|it| (it.key_str().unwrap().to_owned(), it.value_str().unwrap().to_owned())).collect()
}

#[test]
fn lg_6_of_each_key_the_last_value_is_left_and_consumers_go_over_the_holes() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = compacted(&log);
    send_rounds(&log, &topic, 0..20);
    let before = table(&log, &topic);
    let compacted = log.compact(&topic).unwrap();
    assert_eq!(compacted.len(), 1);
    assert!(compacted[0].bytes_after * 3 < compacted[0].bytes_before, "{compacted:?}");
    assert_eq!(table(&log, &topic), before);
    assert_eq!(log.bounds(&topic, 0).unwrap(), (0, 100), "offsets stay");
    // From the start, record by record; the group's lag is what is left.
    let mut consumer = log.consumer("g").max_poll_records(1).subscribe([&topic]).unwrap();
    let records = log.partitions(&topic).unwrap()[0].records;
    assert!((5..40).contains(&records), "{records}");
    assert_eq!(log.lag("g", &topic), records);
    let (mut offsets, mut last) = (Vec::new(), BTreeMap::new());
    for left in (0..records).rev() {
        let batch = consumer.try_next().unwrap().unwrap();
        let record = batch.records()[0].clone();
        batch.blocking_ack().unwrap();
        assert_eq!(log.lag("g", &topic), left);
        offsets.push(record.offset);
        last.insert(record.key_str().unwrap().to_owned(), record.value_str().unwrap().to_owned());
    }
    assert!(consumer.try_next().unwrap().is_none());
    assert!(offsets.is_sorted() && offsets[0] > 20, "{offsets:?}");
    assert_eq!(last, before);
    assert_eq!(log.group("g").unwrap().positions[0].lag, 0);
    // A seek into a hole goes on behind it, and so does the next process.
    consumer.seek(&topic, 0, 1).unwrap();
    assert_eq!(consumer.try_next().unwrap().unwrap().records()[0].offset, offsets[0]);
    drop(consumer);
    let (image, log) = after_kill(&disk);
    assert_eq!(table(&log, &topic), before);
    assert_each_record(&log, &topic);
    // More comes, and goes.
    send_rounds(&log, &topic, 20..40);
    let before = table(&log, &topic);
    assert!(!log.clean().unwrap().compacted.is_empty(), "more than half of it is new");
    assert_eq!(log.clean().unwrap().compacted, []);
    assert_eq!(table(&log, &topic), before);
    let (_, log) = after_kill(&image);
    assert_eq!(table(&log, &topic), before);
}

#[test]
fn tx_25_what_a_view_shows_of_a_key_is_not_compacted_while_it_can_be_read() {
    let disk = SimDisk::new();
    let life = Duration::from_millis(400);
    let log = builder(disk.clone()).read_view_max(life).open("simulated").unwrap();
    let topic = compacted(&log);
    send_rounds(&log, &topic, 0..20);
    let view = log.read_view();
    send_rounds(&log, &topic, 20..40);
    log.compact(&topic).unwrap();
    let shown: BTreeMap<String, String> = view
        .records(&topic)
        .map(Result::unwrap)
        .map(|it| (it.key_str().unwrap().to_owned(), it.value_str().unwrap().to_owned()))
        .collect();
    for key in 0..5 {
        assert!(shown[&format!("{key}")].starts_with(&format!("19:{key}:")), "{shown:?}");
    }
    drop(view);
    log.compact(&topic).unwrap();
    let left = log.partitions(&topic).unwrap()[0].records;
    assert!(left < 40, "{left}: it holds nothing back any more");
}

#[test]
fn lg_6_a_topic_that_is_not_compacted_keeps_all_and_one_that_is_does_it_by_itself() {
    let disk = SimDisk::new();
    let log = builder(disk.clone()).cleanup_interval(Duration::from_millis(5)).open("simulated").unwrap();
    let kept = log.create_topic("kept", TopicOptions::default().segment_bytes(4096)).unwrap();
    let topic = compacted(&log);
    send_rounds(&log, &kept, 0..20);
    send_rounds(&log, &topic, 0..20);
    until("it is compacted", || log.partitions(&topic).unwrap()[0].records < 50);
    assert_eq!(log.compact(&kept).unwrap(), []);
    assert_eq!(log.partitions(&kept).unwrap()[0].records, 100);
    assert_eq!(values(&log, &kept).len(), 100);
}
