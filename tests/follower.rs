//! Logs that the facade has written, followed from their journals: the same state and the same segments elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod built;

use built::example;
use exactlog::{Event, Log, TopicOptions};
use exactlog_storage::checkpoint::{self, Image, state_hash};
use exactlog_storage::disk::{Disk, RealDisk};
use exactlog_storage::follower::Follower;
use exactlog_storage::install::Snapshot;
use exactlog_storage::shard::{Options, Shard};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const PULL_BYTES: usize = 100_000;

fn options() -> Options {
    Options { journal_file_bytes: 4 * 1024 * 1024, ..Options::default() }
}

fn disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(directory).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a copy of a log, and follows it from its first command on and from a snapshot; the commands that it holds.
fn follow(data: &Path) -> u64 {
    let scratch = tempfile::tempdir().unwrap();
    let theirs = scratch.path().join("leader");
    copy(data, &theirs);
    let (mut leader, report) = Shard::open(disk(&theirs), Options::default(), &mut || 1).unwrap();
    assert!(report.clean, "the log was closed");
    let hash = state_hash(&leader.state());
    let reader = leader.journal().reader();
    assert_eq!(reader.first_lsn(), 1, "nothing was recycled");

    let pulled = scratch.path().join("pulled");
    let (mut follower, _) = Follower::open(disk(&pulled), options(), &mut || 2).unwrap();
    while follower.pull(&reader, PULL_BYTES).unwrap().frames > 0 {}
    assert_eq!((follower.last_lsn(), follower.state_hash()), (report.last_lsn, hash));
    follower.checkpoint().unwrap();

    let taken = scratch.path().join("taken");
    let (mut other, _) = Follower::open(disk(&taken), options(), &mut || 3).unwrap();
    assert!(other.catch_up(&Snapshot::take(&mut leader).unwrap(), &mut || 4).unwrap());
    assert_eq!((other.last_lsn(), other.state_hash()), (report.last_lsn, hash));
    other.checkpoint().unwrap();

    leader.checkpoint().unwrap();
    for own in [pulled, taken] {
        assert_same_segments(&theirs, &own);
    }
    report.last_lsn
}

/// All batches are in segments on both sides: the same files, and the same bytes in them as far as they count.
fn assert_same_segments(theirs: &Path, own: &Path) {
    let image = |directory| -> Image { checkpoint::find(&*disk(directory)).unwrap().newest.unwrap() };
    let (leader, follower) = (image(theirs), image(own));
    assert_eq!(leader.partitions, follower.partitions);
    let mut compared = 0;
    for image in &leader.partitions {
        for segment in image.ends.segments.iter().filter(|segment| segment.len_bytes > 0) {
            let name = format!("topics/{}/{:020}.log", image.partition, segment.base_offset);
            let len = segment.len_bytes as usize;
            let read = |directory: &Path| std::fs::read(directory.join(&name)).unwrap()[..len].to_vec();
            assert!(read(theirs) == read(own), "{name} differs");
            compared += len;
        }
    }
    assert!(compared > 1_000, "only {compared} B were compared");
}

/// Orders become invoices, exactly once, in one process.
#[test]
fn a_pipeline_is_the_same_in_a_log_that_follows_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let log = Log::open(directory.path()).unwrap();
        let orders = log.create_topic("orders", TopicOptions::default().partitions(3)).unwrap();
        let invoices = log.create_topic("invoices", TopicOptions::default().partitions(2)).unwrap();
        let mut producer = log.producer("billing").unwrap();
        for n in 0..40 {
            let event = Event::new(format!("customer-{}", n % 7), format!("order {round}/{n}"));
            producer.blocking_send(&orders, event).unwrap();
        }
        let mut consumer = log.consumer("billing").subscribe([&orders]).unwrap();
        while let Some(batch) = consumer.try_next().unwrap() {
            let mut transaction = producer.begin();
            for order in &batch {
                let invoice = Event::new(order.key.clone().unwrap(), order.value().to_vec());
                transaction.send(&invoices, invoice).unwrap();
            }
            transaction.ack(batch);
            transaction.blocking_commit().unwrap();
        }
        assert_eq!(log.lag("billing", &orders), 0);
        log.trim(&invoices, 0, round).unwrap();
        drop(consumer);
        log.close().unwrap();
    }
    assert!(follow(directory.path()) > 120);
}

#[test]
fn the_week_of_earthquakes_is_the_same_in_a_log_that_follows_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(example("earthquakes"));
    let done = command.arg("--quiet").current_dir(directory.path()).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let commands = follow(&directory.path().join("exactlog-data/earthquakes"));
    println!("{commands} commands, 0 differences");
    assert!(commands > 10);
}
