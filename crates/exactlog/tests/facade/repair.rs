//! Repair: what loses nothing is done, what would is named and left, and nothing is believed that wasn't tried.

use crate::common::*;
use exactlog::{Error, Event, Finding, Log, Lost, Remedy, StorageError, TopicConfig, TopicOptions};
use exactlog_sim::disk::SimDisk;

const TOPIC: &str = "topics/1-0/";

/// A log with many segments, of which the older of two checkpoints knows those up to offset 100, and the newer one
/// those up to 200; each record is a batch of its own.
fn filled() -> SimDisk {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut options = TopicOptions::default();
    options.config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
    let topic = log.create_topic("t", options).unwrap();
    let producer = log.producer("p").unwrap();
    let send = |range: std::ops::Range<u32>| {
        for number in range {
            let value = format!("{number:0200}");
            producer.blocking_send(&topic, Event::new("k", value)).unwrap();
        }
    };
    send(0..100);
    log.checkpoint().unwrap();
    send(100..200);
    log.checkpoint().unwrap();
    send(200..220);
    drop(producer);
    log.close().unwrap();
    disk.process_kill()
}

fn names(disk: &SimDisk, prefix: &str, ending: &str) -> Vec<String> {
    let names = disk.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.starts_with(prefix) && name.ends_with(ending)).collect()
}

fn examine(disk: &SimDisk) -> Vec<Finding> {
    let before = disk.fingerprint();
    let found = builder(disk.clone()).examine("simulated").unwrap();
    assert_eq!(before, disk.fingerprint(), "it only looks");
    found
}

/// What is left after a repair of all that can be repaired.
fn repair(disk: &SimDisk) -> Vec<Finding> {
    builder(disk.clone()).repair("simulated", |_| true).unwrap().left
}

fn all_is_there(disk: &SimDisk) {
    let log = open(&disk.process_kill());
    let topic = log.open_topic("t").unwrap();
    assert_eq!(values(&log, &topic), (0..220).map(|number| format!("{number:0200}")).collect::<Vec<_>>());
}

#[test]
fn nothing_is_wrong_with_a_log_that_is_whole() {
    let disk = filled();
    assert_eq!(examine(&disk), []);
    assert_eq!(repair(&disk), []);
    all_is_there(&disk);
}

#[test]
fn index_files_are_made_again_byte_for_byte() {
    let whole = filled();
    for ending in [".index", ".timeindex"] {
        let file = names(&whole, TOPIC, ending).remove(0);
        let content = whole.read_file(&file).unwrap();
        for (case, is_damage) in [("flipped", true), ("cut", true), ("missing", false)] {
            let disk = whole.process_kill();
            match case {
                "flipped" => disk.flip_bit(&file, 20, 1).unwrap(),
                "cut" => disk.cut(&file, content.len() as u64 / 2).unwrap(),
                _ => disk.remove(&file).unwrap(),
            }
            let found = examine(&disk);
            assert_eq!(found.len(), 1, "{case}: {found:?}");
            assert_eq!((&found[0].file, found[0].is_damage), (&file, is_damage), "{case}");
            assert!(matches!(found[0].remedy, Remedy::Index(_)), "{case}");
            assert_eq!(repair(&disk), [], "{case}");
            assert_eq!(disk.read_file(&file).unwrap(), content, "{case}");
            all_is_there(&disk);
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_set_aside_if_the_rest_makes_the_same() {
    let whole = filled();
    let checkpoints = names(&whole, "checkpoint/", ".checkpoint");
    assert_eq!(checkpoints.len(), 2);
    for damaged in [&checkpoints[1..], &checkpoints[..1], &checkpoints[..]] {
        let disk = whole.process_kill();
        damaged.iter().for_each(|file| disk.flip_bit(file, 60, 1).unwrap());
        let found = examine(&disk);
        let files: Vec<&String> = found.iter().rev().map(|finding| &finding.file).collect();
        assert_eq!(files, damaged.iter().collect::<Vec<_>>());
        // This journal still begins at lsn 1, so it can do without any.
        assert!(found.iter().all(|it| it.position.is_some() && matches!(it.remedy, Remedy::SetAside(_))));
        assert_eq!(repair(&disk), []);
        assert_eq!(names(&disk, "checkpoint/", ".checkpoint.damaged").len(), damaged.len());
        all_is_there(&disk);
    }
}

#[test]
fn without_checkpoints_and_without_the_whole_journal_nothing_is_guessed() {
    let disk = filled();
    // A log whose journal was recycled.
    let log = open(&disk);
    let topic = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    for _ in 0..5 {
        for _ in 0..20 {
            producer.blocking_send(&topic, Event::new("k", vec![7; 100_000])).unwrap();
        }
        log.checkpoint().unwrap();
    }
    drop(producer);
    log.close().unwrap();
    let disk = disk.process_kill();
    let checkpoints = names(&disk, "checkpoint/", ".checkpoint");
    // The newest alone is no loss.
    let one = disk.process_kill();
    one.flip_bit(checkpoints.last().unwrap(), 60, 1).unwrap();
    assert_eq!(repair(&one), []);
    checkpoints.iter().for_each(|file| disk.flip_bit(file, 60, 1).unwrap());
    let left = repair(&disk);
    assert!(left.len() > checkpoints.len(), "and the journal doesn't begin where it should: {left:?}");
    assert!(left.iter().all(|finding| !finding.remedy.is_without_loss() && finding.is_damage));
    assert_eq!(names(&disk, "checkpoint/", ".checkpoint"), checkpoints, "nothing was set aside");
}

/// The files of batches with their base offsets.
fn segments(disk: &SimDisk) -> Vec<(u64, String)> {
    let base = |name: &String| name[TOPIC.len()..TOPIC.len() + 20].parse().unwrap();
    names(disk, TOPIC, ".log").into_iter().map(|name| (base(&name), name)).collect()
}

#[test]
fn what_the_journal_still_holds_is_written_again_and_what_it_does_not_is_named() {
    let whole = filled();
    for (base_offset, file) in segments(&whole) {
        let first_len =
            u64::from(u32::from_be_bytes(whole.read_file(&file).unwrap()[8..12].try_into().unwrap())) + 12;
        for (case, from, to) in [
            ("first batch flipped", base_offset, Some(base_offset + 1)),
            ("second batch flipped", base_offset + 1, Some(base_offset + 2)),
            ("cut in its second batch", base_offset + 1, None),
            ("missing", base_offset, None),
        ] {
            let disk = whole.process_kill();
            match case {
                "first batch flipped" => disk.flip_bit(&file, 100, 1).unwrap(),
                "second batch flipped" => disk.flip_bit(&file, first_len + 100, 1).unwrap(),
                "missing" => disk.remove(&file).unwrap(),
                _ => disk.cut(&file, first_len + 100).unwrap(),
            }
            let found = examine(&disk);
            let [Finding { file: named, position: Some(_), remedy, is_damage: true, .. }] = &found[..] else {
                panic!("{file} {case}: {found:?}");
            };
            assert_eq!(named, &file, "{case}");
            match remedy {
                // Only from where the older checkpoint's segments end.
                Remedy::SetAside(_) => {
                    assert!(from >= 100, "{file} {case}: {found:?}");
                    assert_eq!(repair(&disk), [], "{file} {case}");
                    all_is_there(&disk);
                }
                Remedy::Lost(lost) => {
                    assert!(from < 100, "{file} {case}: {found:?}");
                    let [Lost { topic, partition: 0, from: lost_from, to: Some(lost_to), .. }] = &lost[..]
                    else {
                        panic!("{file} {case}: {found:?}");
                    };
                    assert_eq!((topic.as_str(), *lost_from), ("t", from), "{case}");
                    let next = segments(&whole).into_iter().map(|it| it.0).find(|base| *base > base_offset);
                    assert_eq!(*lost_to, to.or(next).unwrap(), "{file} {case}");
                    assert_eq!(repair(&disk), found, "{case}: nothing is given up");
                    let log = open(&disk);
                    let topic = log.open_topic("t").unwrap();
                    let view = log.read_view();
                    let read = |offset| view.read(&topic, 0, offset, 1).map(|records| records[0].offset);
                    assert!(read(from).is_err(), "{case}");
                    for offset in (0..from).chain(*lost_to..220) {
                        assert_eq!(read(offset).ok(), Some(offset), "{file} {case}: it is around the damage");
                    }
                }
                other => panic!("{file} {case}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_damaged_journal_names_what_is_behind_the_damage() {
    let disk = filled();
    let newest = names(&disk, "journal/", ".journal").pop().unwrap();
    // One that is killed: its only file has all that the log has had since.
    let log = open(&disk);
    let topic = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    for number in 220..230 {
        producer.blocking_send(&topic, Event::new("k", format!("{number:0200}"))).unwrap();
    }
    drop(producer);
    log.close().unwrap();
    let disk = disk.process_kill();
    let file = names(&disk, "journal/", ".journal").pop().unwrap();
    assert_ne!(newest, file);
    let content = disk.read_file(&file).unwrap();
    let at = content.windows(200).position(|window| window == format!("{:0200}", 225).as_bytes()).unwrap();
    disk.flip_bit(&file, at as u64, 1).unwrap();
    let found = examine(&disk);
    let [
        Finding {
            file: named,
            position: Some(position),
            what,
            remedy: Remedy::Lost(lost),
            is_damage: true,
            ..
        },
    ] = &found[..]
    else {
        panic!("{found:?}");
    };
    assert_eq!(named, &file);
    assert!(*position <= at as u64 && what.contains("whole are the commands up to lsn"), "{found:?}");
    let [Lost { topic, partition: 0, from: 225, to: None, .. }] = &lost[..] else { panic!("{found:?}") };
    assert_eq!(topic, "t");
    assert_eq!(repair(&disk), found);
    assert!(names(&disk, "journal/", ".journal").contains(&file));
    assert!(matches!(builder(disk).open("simulated"), Err(Error::Storage(StorageError::Damaged { .. }))));
}

#[test]
fn files_that_were_never_finished_are_removed_and_others_are_left_alone() {
    let disk = filled();
    let unfinished =
        ["checkpoint/00000000000000000009.checkpoint.tmp", "topics/1-0/00000000000000000009.log.tmp"];
    let foreign = ["journal/notes.txt", "checkpoint/notes.tmp", "topics/1-0/notes.tmp"];
    unfinished.iter().chain(&foreign).for_each(|file| disk.put(file, b"x").unwrap());
    let found = examine(&disk);
    assert!(found.iter().all(|it| !it.is_damage && it.remedy == Remedy::Remove), "{found:?}");
    let mut files: Vec<&str> = found.iter().map(|finding| finding.file.as_str()).collect();
    files.sort_unstable();
    let mut wanted = unfinished;
    wanted.sort_unstable();
    assert_eq!(files, wanted);
    assert_eq!(repair(&disk), []);
    let there = |file: &str| disk.read_file(file).is_ok();
    assert!(!unfinished.iter().any(|file| there(file)) && foreign.iter().all(|file| there(file)));
    all_is_there(&disk);
}

#[test]
fn a_log_that_is_open_is_not_repaired_and_one_that_is_not_there_is_none() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let refused = builder(disk.clone()).repair("simulated", |_| true);
    assert!(matches!(refused, Err(Error::Storage(StorageError::InUse { .. }))), "{refused:?}");
    drop(log);
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(matches!(Log::builder().examine(&missing), Err(Error::NoLog { .. })));
    assert!(matches!(Log::builder().repair(&missing, |_| true), Err(Error::NoLog { .. })));
    assert!(!missing.exists());
}
