//! Failures that a suite found, each as small as it gets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exactlog_core::command::{Command, TopicConfig};
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
