//! Looking at a log: nothing is written, nobody is kept out, and what is shown is what the next open would find.

use crate::common::until;
use exactlog::{Error, Event, Log, StorageError, TopicOptions};
use std::collections::BTreeMap;
use std::path::Path;

/// Every file below a directory, with its bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    all
}

fn look(directory: &Path) -> Log {
    Log::builder().open_read_only(directory).unwrap()
}

fn values(log: &Log, topic: &str) -> Vec<String> {
    let topic = log.open_topic(topic).unwrap();
    let view = log.read_view();
    view.records(&topic).map(|record| record.unwrap().value_str().unwrap().to_string()).collect()
}

/// A log with records in segments, in the journal, and a group; and its directory.
fn filled() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::builder()
        .journal_file_bytes(1 << 20)
        .journal_ring_bytes(8 << 20)
        .checkpoint_bytes(1 << 20)
        .open(directory.path())
        .unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let producer = log.producer("p").unwrap();
    for number in 0..200 {
        producer.blocking_send(&topic, Event::new("k", format!("{number:0>20000}"))).unwrap();
    }
    (directory, log)
}

#[test]
fn a_look_changes_no_byte_of_the_directory() {
    let (directory, log) = filled();
    log.close().unwrap();
    let before = files(directory.path());
    let log = look(directory.path());
    assert_eq!(values(&log, "t").len(), 200);
    let topic = log.open_topic("t").unwrap();
    let refused = |refused: Result<(), Error>| assert!(matches!(refused, Err(Error::ReadOnly { .. })));
    refused(log.create_topic("u", TopicOptions::default()).map(|_| ()));
    refused(log.producer("p").map(|_| ()));
    refused(log.trim(&topic, 0, 1).map(|_| ()));
    refused(log.delete_topic(&topic));
    refused(log.consumer("g").subscribe([&topic]).map(|_| ()));
    refused(log.seek_group("g", &[]));
    refused(log.accept_time());
    log.close().unwrap();
    assert!(before == files(directory.path()));
}

#[test]
fn a_look_after_a_kill_shows_what_the_next_open_finds() {
    let (directory, log) = filled();
    // A copy of the files of a log that runs is what a kill leaves.
    let killed = tempfile::tempdir().unwrap();
    copy(directory.path(), killed.path());
    log.close().unwrap();
    let looked = look(killed.path());
    assert!(!looked.recovery().clean);
    let seen = values(&looked, "t");
    assert_eq!(seen.len(), 200);
    drop(looked);
    let opened = Log::open(killed.path()).unwrap();
    assert_eq!(seen, values(&opened, "t"));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => {
                std::fs::create_dir(&target).unwrap();
                copy(&path, &target);
            }
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

#[test]
fn a_log_that_somebody_writes_to_is_shown_as_it_is_at_that_moment_with_its_members() {
    let (directory, log) = filled();
    let topic = log.open_topic("t").unwrap();
    let consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let producer = log.producer("p").unwrap();
    for number in 200..260 {
        producer.blocking_send(&topic, Event::new("k", format!("{number:0>20000}"))).unwrap();
        // It rolls files, makes checkpoints and recycles the journal meanwhile.
        let looked = look(directory.path());
        let seen = looked.bounds(&topic, 0).unwrap();
        assert_eq!(seen, (0, number + 1));
        assert_eq!(looked.group("g").unwrap().members.len(), 1);
    }
    drop((consumer, producer));
    log.close().unwrap();
    let looked = look(directory.path());
    assert_eq!(looked.group("g").unwrap().members.len(), 0);
}

/// The bytes of a file that was recycled may look right: another batch of the same length, count and time.
#[test]
fn records_of_a_journal_file_that_was_recycled_are_not_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::builder()
        .journal_file_bytes(1 << 20)
        .journal_ring_bytes(4 << 20)
        .checkpoint_bytes(1 << 20)
        .open(directory.path())
        .unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let producer = log.producer("p").unwrap();
    let send = |number: u64| {
        producer.blocking_send(&topic, Event::unkeyed(format!("{number:0>20000}")).at(7)).unwrap();
    };
    let mut looks: Vec<(u64, Log)> = Vec::new();
    for number in 0..1_000 {
        send(number);
        if number % 20 == 0 {
            looks.push((number, look(directory.path())));
        }
    }
    // The right records, or none.
    let is_whole = |number: u64, looked: &Log| {
        [0, number].into_iter().all(|offset| match looked.read_view().read(&topic, 0, offset, 1) {
            Ok(records) => {
                assert_eq!(records[0].value_str().unwrap().parse::<u64>().unwrap(), offset);
                true
            }
            Err(Error::Storage(StorageError::Reopened { .. })) => false,
            Err(error) => panic!("{error}"),
        })
    };
    let whole = looks.iter().filter(|(number, looked)| is_whole(*number, looked)).count();
    assert!(whole < looks.len(), "files were recycled under the eyes of those who looked");
    until("nobody recycles any more", || is_whole(999, &look(directory.path())));
}

#[test]
fn members_of_a_process_that_was_killed_are_not_shown() {
    let (directory, log) = filled();
    let topic = log.open_topic("t").unwrap();
    let consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy(directory.path(), killed.path());
    drop(consumer);
    log.close().unwrap();
    assert_eq!(look(killed.path()).group("g").unwrap().members.len(), 0);
}

#[test]
fn who_looks_keeps_nobody_out() {
    let (directory, log) = filled();
    log.close().unwrap();
    let looked = look(directory.path());
    let opened = Log::open(directory.path()).unwrap();
    let topic = opened.open_topic("t").unwrap();
    opened.producer("p").unwrap().blocking_send(&topic, Event::unkeyed("new")).unwrap();
    opened.close().unwrap();
    // It shows its moment all the same.
    assert_eq!(looked.bounds(&topic, 0).unwrap(), (0, 200));
}

#[test]
fn where_no_log_is_none_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for place in [directory.path(), &directory.path().join("missing"), &file] {
        let refused = Log::builder().open_read_only(place);
        assert!(matches!(refused, Err(Error::NoLog { .. })), "{refused:?}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn damage_is_refused_and_left_as_it_is() {
    let (directory, log) = filled();
    log.close().unwrap();
    for entry in std::fs::read_dir(directory.path().join("checkpoint")).unwrap() {
        std::fs::write(entry.unwrap().path(), "no checkpoint").unwrap();
    }
    let before = files(directory.path());
    let refused = Log::builder().open_read_only(directory.path()).unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(before == files(directory.path()));
}
