//! Looking at a log: nothing is written, nobody is kept out, and what is shown is what the next open would find.

use crate::common::*;
use exactlog::{Error, Event, Log, StorageError, TopicOptions};
use exactlog_sim::disk::SimDisk;
use exactlog_sim::layer::{Layer, Observer};
use exactlog_storage::disk::{Disk, File};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
fn who_looks_while_somebody_writes_sees_all_that_was_acknowledged_before() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (log, topic, acknowledged, done) = (&log, &topic, &acknowledged, &done);
            scope.spawn(move || {
                let producer = log.producer(&format!("p{writer}")).unwrap();
                while !done.load(Ordering::Acquire) {
                    producer.blocking_send(topic, Event::unkeyed(vec![0; 1_000])).unwrap();
                    acknowledged.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let ended = catch_unwind(|| {
            for _ in 0..50 {
                let before = acknowledged.load(Ordering::Acquire);
                let (_, end) = look(directory.path()).bounds(&topic, 0).unwrap();
                assert!(end >= before, "{end} of {before}");
            }
        });
        done.store(true, Ordering::Release);
        ended.unwrap();
    });
}

/// Part of a journal file that somebody writes between the scan of the file and the look at what lies behind its end.
#[derive(Debug)]
struct Meanwhile {
    disk: SimDisk,
    file: String,
    from: u64,
    bytes: Vec<u8>,
    reads: AtomicU64,
}

impl Observer for Meanwhile {
    fn before_read(&self, _file: &dyn File, buffer_bytes: usize) {
        // The header, and then pieces.
        if buffer_bytes > 4096 && self.reads.fetch_add(1, Ordering::AcqRel) == 1 {
            self.disk.overwrite(&self.file, self.from, &self.bytes).unwrap();
        }
    }
}

#[test]
fn what_is_written_while_the_journal_is_read_is_no_damage() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, (0..40).map(|n| n.to_string()));
    let image = disk.process_kill();
    let newest = image.list("journal").unwrap().into_iter().rfind(|entry| entry.name.ends_with(".journal"));
    let file = format!("journal/{}", newest.unwrap().name);
    let mut bytes = image.read_file(&file).unwrap();
    let end = bytes.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap() + 1;
    // (Nothing states the last group durable.)
    for written in 10..end - 1 {
        let image = image.process_kill();
        let from = written as u64 * 4096;
        image.overwrite(&file, from, &vec![0; (end - written) * 4096]).unwrap();
        let bytes = bytes[written * 4096..end * 4096].to_vec();
        let (disk, file, reads) = (image.clone(), file.clone(), AtomicU64::new(0));
        let meanwhile = Arc::new(Meanwhile { disk, file, from, bytes, reads });
        let log = builder(Layer::over(&image, meanwhile.clone())).open("simulated").unwrap();
        assert!(meanwhile.reads.load(Ordering::Acquire) > 1);
        let end = log.bounds(&topic, 0).unwrap().1;
        assert_eq!(end, 40, "{written}");
    }
    // What is still not there when it is read once more is damage.
    bytes[10 * 4096..11 * 4096].fill(0);
    image.put(&file, &bytes).unwrap();
    let error = builder(image).open("simulated").unwrap_err();
    assert!(matches!(error, Error::Storage(StorageError::Damaged { position: 40_960, .. })), "{error}");
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
