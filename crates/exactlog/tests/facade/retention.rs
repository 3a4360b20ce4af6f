//! Retention and partitions that are added, through the whole log: what goes, what stays, and when files go.

use crate::common::*;
use exactlog::{Error, Event, Log, Refusal, Topic, TopicConfig, TopicOptions};
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::Disk;
use std::time::Duration;

const VALUE_BYTES: usize = 1000;
const HOUR_MS: i64 = 3_600_000;

/// Small segments: about four records each.
fn options() -> TopicOptions {
    TopicOptions::default().segment_bytes(4096)
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Records of a time, each in a batch of its own.
fn send_at(log: &Log, topic: &Topic, count: usize, timestamp_ms: i64) {
    let producer = log.producer("sender").unwrap();
    for _ in 0..count {
        let event = Event::new("k", vec![b'v'; VALUE_BYTES]).at(timestamp_ms);
        producer.blocking_send(topic, event).unwrap();
    }
}

fn segments(disk: &SimDisk, topic: &Topic) -> Vec<String> {
    let files = disk.list(&format!("topics/{}-0", topic.id())).unwrap();
    files.into_iter().map(|file| file.name).filter(|name| name.ends_with(".log")).collect()
}

#[test]
fn lg_4_what_is_older_than_the_retention_goes_with_its_files_and_what_grows_stays() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = log.create_topic("t", options().retention(Duration::from_secs(3600))).unwrap();
    send_at(&log, &topic, 20, now_ms() - 3 * HOUR_MS);
    send_at(&log, &topic, 20, now_ms());
    let cleaned = log.clean().unwrap();
    let (start, end) = log.bounds(&topic, 0).unwrap();
    assert_eq!(end, 40);
    // The segment in which both meet stays, as its last record is new.
    assert!((17..=20).contains(&start), "{start}");
    assert_eq!(cleaned.trimmed.iter().map(|it| it.1).collect::<Vec<_>>(), [start]);
    let left = segments(&disk, &topic);
    assert_eq!(left.first().map(String::as_str), Some(&*format!("{start:020}.log")), "{left:?}");
    assert_eq!(values(&log, &topic).len() as u64, end - start);
    // Nothing is old any more: nothing is written, however often it looks.
    let lsn = log.details().lsn;
    assert_eq!(log.clean().unwrap().trimmed, []);
    assert!(log.details().lsn <= lsn + 2, "only the ticks between checkpoints");
    let (_, log) = after_kill(&disk);
    assert_eq!(log.bounds(&topic, 0).unwrap(), (start, 40));
}

#[test]
fn lg_4_by_size_at_least_the_retention_stays_and_the_journal_counts() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = log.create_topic("t", options().retention_bytes(10_000)).unwrap();
    send_at(&log, &topic, 40, 0);
    log.clean().unwrap();
    let (start, end) = log.bounds(&topic, 0).unwrap();
    let record_bytes = 1000 + 100;
    assert!((end - start) * record_bytes >= 10_000, "{start} to {end}");
    assert!((end - start) * 1000 < 10_000 + 2 * 4096, "{start} to {end}");
    // What is in the journal counts as it is, without being flushed first: the log looks by itself.
    drop(log);
    let log = builder(disk.clone()).cleanup_interval(Duration::from_millis(5)).open("simulated").unwrap();
    log.checkpoint().unwrap();
    log.checkpoint().unwrap();
    send_at(&log, &topic, 8, 0);
    until("retention looks by itself", || log.bounds(&topic, 0).unwrap().0 > start);
    assert_eq!(log.bounds(&topic, 0).unwrap().1, 48);
}

/// What is written in an hour fits into the journal of most logs, and a log is opened again before it has made two
/// checkpoints: neither keeps records that are too old, or too many.
#[test]
fn lg_4_what_is_old_goes_however_little_is_written_and_behind_each_open() {
    let disk = SimDisk::new();
    let every = |interval| builder(disk.clone()).cleanup_interval(interval).open("simulated").unwrap();
    let seldom = Duration::from_secs(3600);
    let log = every(seldom);
    let old = log.create_topic("old", options().retention(Duration::from_secs(3600))).unwrap();
    let many = log.create_topic("many", options().retention_bytes(10_000)).unwrap();
    send_at(&log, &old, 20, now_ms() - 3 * HOUR_MS);
    send_at(&log, &many, 40, now_ms());
    // In the journal alone.
    drop(log);
    let log = every(Duration::from_millis(5));
    until("they go", || [&old, &many].iter().all(|topic| log.bounds(topic, 0).unwrap().0 > 10));
    // Once nothing is old nothing is written.
    until("the files go, too", || segments(&disk, &old).len() == 1);
    std::thread::sleep(Duration::from_millis(50));
    let ops = disk.ops();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(disk.ops(), ops, "an idle log writes nothing");
    log.close().unwrap();

    // In segments, of which no checkpoint of this open tells.
    let log = every(seldom);
    let before = log.bounds(&old, 0).unwrap().0;
    send_at(&log, &old, 20, now_ms() - 2 * HOUR_MS);
    log.checkpoint().unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    let log = every(Duration::from_millis(5));
    until("they go", || log.bounds(&old, 0).unwrap().0 > before + 15);
}

#[test]
fn lg_4_a_topic_without_limits_and_an_idle_log_are_left_alone() {
    let disk = SimDisk::new();
    let log = builder(disk.clone()).cleanup_interval(Duration::from_millis(1)).open("simulated").unwrap();
    let kept = log.create_topic("kept", options()).unwrap();
    send_at(&log, &kept, 20, 1);
    log.clean().unwrap();
    let lsn = log.details().lsn;
    let ops = disk.ops();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(log.details().lsn, lsn);
    assert_eq!(disk.ops(), ops, "an idle log writes nothing");
    assert_eq!(log.bounds(&kept, 0).unwrap(), (0, 20));
}

#[test]
fn lg_4_retention_follows_the_settings_as_they_are_altered() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = log.create_topic("t", options()).unwrap();
    send_at(&log, &topic, 20, now_ms() - HOUR_MS);
    log.clean().unwrap();
    assert_eq!(log.bounds(&topic, 0).unwrap().0, 0);
    let config = TopicConfig { retention_ms: Some(1000), ..topic.config().clone() };
    let topic = log.alter_topic(&topic, config).unwrap();
    assert_eq!(topic.config().retention_ms, Some(1000));
    log.clean().unwrap();
    assert!(log.bounds(&topic, 0).unwrap().0 >= 15);
    let beyond = TopicConfig { segment_ms: 0, ..topic.config().clone() };
    let refused = log.alter_topic(&topic, beyond).unwrap_err();
    assert!(refused.to_string().contains("segment.ms = 0 is out of bounds: 1 to"), "{refused}");
}

#[test]
fn lg_4_a_compacted_topic_is_not_trimmed() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let config = options().cleanup_policy(exactlog::CleanupPolicy::Compact).retention_bytes(1);
    let topic = log.create_topic("t", config).unwrap();
    send_at(&log, &topic, 20, 0);
    log.clean().unwrap();
    assert_eq!(log.bounds(&topic, 0).unwrap(), (0, 20));
    let refused = log.trim(&topic, 0, 5).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::TrimCompacted { .. })), "{refused}");
    assert_eq!(refused.kafka_code(), 44);
}

#[test]
fn lg_5_the_time_of_the_append_is_the_same_out_of_memory_the_journal_and_a_segment() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let config =
        TopicConfig { timestamp_type: exactlog::TimestampType::LogAppendTime, ..TopicConfig::default() };
    let mut options = options();
    options.config = TopicConfig { segment_bytes: 4096, ..config };
    let topic = log.create_topic("t", options).unwrap();
    let sent_ms = now_ms();
    send_at(&log, &topic, 9, 1_000);
    let read = |log: &Log| -> Vec<_> { log.read_view().records(&topic).map(Result::unwrap).collect() };
    let live = read(&log);
    assert!(live.iter().all(|record| (sent_ms - 60_000..sent_ms + 60_000).contains(&record.timestamp_ms)));
    let (_, replayed) = after_kill(&disk);
    assert_eq!(read(&replayed), live, "from the journal");
    log.checkpoint().unwrap();
    let (_, replayed) = after_kill(&disk);
    assert_eq!(read(&replayed), live, "from segments");
    assert_eq!(replayed.first_at_or_after(&topic, 0, sent_ms - 60_000).unwrap().map(|it| it.0), Some(0));
}

#[test]
fn lg_5_events_from_the_future_are_refused_where_the_topic_says_so() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut options = TopicOptions::default();
    options.config.timestamp_after_max_ms = Some(60_000);
    let topic = log.create_topic("t", options).unwrap();
    let producer = log.producer("p").unwrap();
    producer.blocking_send(&topic, Event::new("k", "now")).unwrap();
    let refused =
        producer.blocking_send(&topic, Event::new("k", "later").at(now_ms() + HOUR_MS)).unwrap_err();
    assert_eq!(refused.kafka_code(), 32, "{refused}");
    producer.blocking_send(&topic, Event::new("k", "now")).unwrap();
    assert_eq!(values(&log, &topic), ["now", "now"]);
}

#[test]
fn added_partitions_are_seen_by_producers_and_shared_by_groups() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    producer.blocking_send(&topic, Event::new("a", "before")).unwrap();
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(consumer.try_next().unwrap().unwrap().len(), 1);
    let view = log.read_view();
    assert_eq!(log.add_partitions(&topic, 8).unwrap(), 8);
    assert_eq!(view.records(&topic).map(Result::unwrap).count(), 1, "a view shows what there was");
    assert_eq!(topic.partitions(), 8, "handles of before show them");
    for key in 0..100 {
        producer.blocking_send(&topic, Event::new(format!("{key}"), "behind")).unwrap();
    }
    let of_partition = |index| log.bounds(&topic, index).unwrap().1;
    assert!((0..8).all(|index| of_partition(index) > 0), "keys go to all of them");
    let mut got = 0;
    while got < 100 {
        let batch = consumer.blocking_next_for(PATIENCE).unwrap().unwrap();
        got += batch.records().iter().filter(|record| record.value_str() == Ok("behind")).count();
        batch.blocking_ack().unwrap();
    }
    assert_eq!(log.lag("g", &topic), 0);
    assert_eq!(log.add_partitions(&topic, 8).unwrap(), 8, "a repeat changes nothing");
    let refused = log.add_partitions(&topic, 3).unwrap_err();
    assert!(refused.to_string().contains("has 8 partitions, and can't have 3"), "{refused}");
    assert_eq!(refused.kafka_code(), 37);
    let (_, log) = after_kill(&disk);
    assert_eq!(log.open_topic("t").unwrap().partitions(), 8);
}
