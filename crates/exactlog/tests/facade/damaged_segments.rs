//! Closed segments that are cut or missing, through the whole log: what is lost is named, and everything else goes on.

use crate::common::*;
use exactlog::{CleanupPolicy, Error, Event, Log, StorageError, Topic, TopicConfig, TopicOptions};
use exactlog_sim::disk::SimDisk;

const TOPIC: &str = "topics/1-0/";

fn send(log: &Log, topic: &Topic, offsets: std::ops::Range<u64>) {
    let producer = log.producer("p").unwrap();
    for offset in offsets {
        producer
            .blocking_send(topic, Event::new(format!("{}", offset % 5), format!("{offset:0900}")))
            .unwrap();
    }
}

/// A closed log with 40 records of two equal topics in segments of about four, and the closed files of the first.
fn filled(options: &TopicOptions) -> (SimDisk, Vec<(u64, String)>) {
    let disk = SimDisk::new();
    let log = open(&disk);
    for name in ["damaged", "other"] {
        let topic = log.create_topic(name, options.clone().segment_bytes(4096)).unwrap();
        send(&log, &topic, 0..40);
    }
    log.checkpoint().unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    let disk = disk.process_kill();
    let names = disk.files().into_iter().map(|(name, _)| name);
    let logs = names.filter(|name| name.starts_with(TOPIC) && name.ends_with(".log"));
    let base = |name: &String| name[TOPIC.len()..TOPIC.len() + 20].parse().unwrap();
    let mut files: Vec<(u64, String)> = logs.map(|name| (base(&name), name)).collect();
    files.sort_unstable();
    files.pop();
    (disk, files)
}

fn damage(disk: &SimDisk, file: &str, case: &str) {
    match case {
        "missing" => disk.remove(file).unwrap(),
        "empty" => disk.cut(file, 0).unwrap(),
        _ => disk.cut(file, disk.read_file(file).unwrap().len() as u64 - 1).unwrap(),
    }
}

const CASES: [&str; 3] = ["missing", "empty", "short by a byte"];

/// Offsets that can't be read, and whether each of them names the file.
fn unreadable(log: &Log, topic: &Topic, file: &str) -> Vec<u64> {
    let view = log.read_view();
    let (start, end) = log.bounds(topic, 0).unwrap();
    let is_lost = |offset: &u64| match view.read(topic, 0, *offset, 1) {
        Ok(records) => {
            assert_eq!(records[0].value_str().unwrap(), format!("{:0900}", records[0].offset));
            false
        }
        Err(Error::Storage(StorageError::Damaged { file: named, what, .. })) => {
            assert_eq!(named, file);
            assert!(what.contains("lost are the offsets from"), "{what}");
            true
        }
        Err(other) => panic!("offset {offset}: {other}"),
    };
    (start..end).filter(is_lost).collect()
}

#[test]
fn lg_14_what_a_closed_file_has_lost_is_named_and_all_else_is_read_written_and_flushed() {
    let (whole, files) = filled(&TopicOptions::default());
    assert!(files.len() >= 3);
    for (at, (base, file)) in files.iter().enumerate() {
        for case in CASES {
            let disk = whole.process_kill();
            damage(&disk, file, case);
            let log = open(&disk);
            let (topic, other) = (log.open_topic("damaged").unwrap(), log.open_topic("other").unwrap());
            let next = files.get(at + 1).map(|next| next.0);
            let lost = unreadable(&log, &topic, file);
            let from = if case == "short by a byte" { next.map_or(lost[0], |next| next - 1) } else { *base };
            assert_eq!(
                (lost[0], lost.len() as u64),
                (from, lost[lost.len() - 1] - from + 1),
                "{file} {case}"
            );
            assert!(next.is_none_or(|next| lost[lost.len() - 1] == next - 1), "{file} {case}: {lost:?}");
            // Sending, flushing and checkpoints go on, of this partition and of all others.
            for topic in [&topic, &other] {
                send(&log, topic, 40..60);
            }
            log.checkpoint().unwrap();
            log.checkpoint().unwrap();
            assert_eq!(unreadable(&log, &topic, file), lost, "{file} {case}");
            assert_eq!(values(&log, &other).len(), 60);
            log.clean().unwrap();
            log.close().unwrap();
            let log = open(&disk.process_kill());
            assert_eq!(unreadable(&log, &topic, file), lost, "{file} {case}: also when it is opened again");
        }
    }
}

#[test]
fn lg_14_a_damaged_segment_that_is_trimmed_is_gone_with_its_damage() {
    let (whole, files) = filled(&TopicOptions::default());
    for case in CASES {
        let disk = whole.process_kill();
        damage(&disk, &files[0].1, case);
        assert_eq!(builder(disk.clone()).examine("simulated").unwrap().len(), 1);
        let log = open(&disk);
        let topic = log.open_topic("damaged").unwrap();
        let config = TopicConfig { retention_bytes: Some(20_000), ..topic.config().clone() };
        let topic = log.alter_topic(&topic, config).unwrap();
        assert_eq!(log.clean().unwrap().trimmed.len(), 1, "{case}");
        let (start, end) = log.bounds(&topic, 0).unwrap();
        assert!((files[1].0..40).contains(&start), "{case}: {start}");
        assert_eq!(values(&log, &topic).len() as u64, end - start);
        assert!(disk.read_file(&files[0].1).is_err(), "{case}: its file goes, too");
        log.close().unwrap();
        assert_eq!(builder(disk.process_kill()).examine("simulated").unwrap(), [], "{case}");
    }
}

#[test]
fn lg_14_compaction_makes_nothing_of_a_damaged_segment_and_goes_on_with_other_topics() {
    let (whole, files) = filled(&TopicOptions::default().cleanup_policy(CleanupPolicy::Compact));
    for (_, file) in &files {
        for case in CASES {
            let disk = whole.process_kill();
            damage(&disk, file, case);
            let log = open(&disk);
            let (topic, other) = (log.open_topic("damaged").unwrap(), log.open_topic("other").unwrap());
            let lost = unreadable(&log, &topic, file);
            let before: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
            let refused = log.clean().unwrap_err();
            assert!(refused.to_string().contains(file), "{file} {case}: {refused}");
            let left = |name: &&String| name.starts_with(TOPIC) && name.ends_with(".log");
            let after: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
            assert!(before.iter().filter(left).eq(after.iter().filter(left)), "{file} {case}: {after:?}");
            assert_eq!(unreadable(&log, &topic, file), lost, "{file} {case}");
            assert!(
                log.partitions(&other).unwrap()[0].records < 20,
                "{file} {case}: the other one is compacted"
            );
            let refused = log.compact(&topic).unwrap_err();
            assert!(refused.to_string().contains(file), "{file} {case}: {refused}");
        }
    }
}
