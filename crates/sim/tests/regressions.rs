//! Failures that a suite found, each as small as it gets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::Reply;
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk, Survival};
use exactlog_storage::shard::{Options, Shard, Submission};

fn options() -> Options {
    Options { journal_file_bytes: 12 * 1024, journal_ring_bytes: 36 * 1024, ..Options::default() }
}

fn open(disk: &SimDisk) -> Shard {
    let mut nonce = 0;
    let mut random = || {
        nonce += 1;
        nonce
    };
    Shard::open(Arc::new(disk.clone()), options(), &mut random).unwrap().0
}

fn create_topic(shard: &mut Shard, name: &str) {
    let (name, config) = (name.to_owned(), TopicConfig::default());
    shard
        .execute(&[Submission { time_ms: 1, command: Command::CreateTopic { name, partitions: 1, config } }])
        .unwrap();
}

#[test]
fn the_name_of_the_checkpoints_directory_is_durable_before_the_journal_is_given_up() {
    let disk = SimDisk::new();
    let mut shard = open(&disk);
    create_topic(&mut shard, "a");
    // The first checkpoint makes the directory, and fails to make its name durable.
    disk.add_fault(Fault::once(Some(Call::SyncDir), 0, Effect::Errno(EIO)));
    shard.checkpoint().unwrap_err();
    disk.clear_faults();
    for name in ["b", "c", "d", "e", "f", "g", "h", "i"] {
        create_topic(&mut shard, name);
        shard.checkpoint().unwrap();
    }
    assert!(shard.journal().reader().first_lsn() > 1, "the journal's beginning is given up");
    drop(shard);
    let shard = open(&disk.power_loss(&mut Survival::AllLost));
    assert_eq!(shard.state().topics.len(), 9);
}

fn append(shard: &mut Shard, topic: TopicId, value: &[u8]) {
    let mut builder = BatchBuilder::new(1);
    builder.append(1, None, Some(value), &[]);
    let (partition, batch) = (Partition { topic, index: 0 }, builder.finish(None));
    let command = Command::Append { partition, config_version: 0, expected_end: None, batch };
    let applied = shard.execute(&[Submission { time_ms: 1, command }]).unwrap();
    assert!(matches!(applied[0].reply, Reply::Appended { .. }), "{:?}", applied[0].reply);
}

#[test]
fn a_directory_that_an_earlier_process_could_not_make_durable_is_made_anew() {
    let mut failures = 0;
    for skip in 0..6 {
        let disk = SimDisk::new();
        disk.set_failed_sync_dir_loses_names(true);
        let mut shard = open(&disk);
        create_topic(&mut shard, "a");
        let topic = *shard.state().topics.keys().next().unwrap();
        append(&mut shard, topic, b"first");
        disk.add_fault(Fault::once(Some(Call::SyncDir), skip, Effect::Errno(EIO)));
        failures += u64::from(shard.checkpoint().is_err());
        disk.clear_faults();
        drop(shard);
        let mut shard = open(&disk);
        for value in 0..8 {
            append(&mut shard, topic, &[value; 3000]);
            shard.checkpoint().unwrap();
        }
        assert!(shard.journal().reader().first_lsn() > 3, "the journal's beginning is given up");
        drop(shard);
        let shard = open(&disk.power_loss(&mut Survival::AllLost));
        let partition = Partition { topic, index: 0 };
        assert_eq!(shard.reader().read(partition, 0, usize::MAX).unwrap().len(), 9);
    }
    assert!(failures >= 3, "{failures} of the directory syncs of a checkpoint failed");
}
