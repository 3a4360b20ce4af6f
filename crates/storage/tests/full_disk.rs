//! A disk that is full: what a flush gives back, and what is kept for the checkpoint that frees space (LG-13).

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{Command, OFFSET_METADATA_BYTES_MAX, OffsetCommit, TopicConfig};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::Reply;
use exactlog_sim::disk::SimDisk;
use exactlog_storage::behind::{self, Extent, Owned};
use exactlog_storage::disk::Disk;
use exactlog_storage::error::StorageError;
use exactlog_storage::segment::{self, Ends, PartitionLog};
use exactlog_storage::shard::{Options, Shard, Submission};
use std::sync::Arc;

const MIB: u64 = 1024 * 1024;

/// Leaves this much room on the disk.
fn leave(disk: &SimDisk, free_bytes: u64) {
    let much = 1 << 40;
    disk.set_capacity(Some(much));
    let used = much - disk.free().unwrap();
    disk.set_capacity(Some(used + free_bytes));
}

fn large_batch(offset: u64) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.append(1_000, None, Some(&vec![offset as u8; 100_000]), &[]);
    builder.finish(None).placed(offset, 0)
}

#[test]
fn lg_13_segments_that_find_no_room_give_back_what_they_took() {
    for segment_bytes in [400_000, 100 * MIB] {
        let disk = SimDisk::new();
        let options = segment::Options { segment_bytes, ..segment::Options::default() };
        let dir = "topics/1-0".to_owned();
        let mut log = PartitionLog::open(Arc::new(disk.clone()), dir, options, &Ends::default()).unwrap();
        for offset in 0..5 {
            log.append(&large_batch(offset)).unwrap();
        }
        log.sync().unwrap();
        leave(&disk, 3 * MIB);
        let free = disk.free().unwrap();
        let error = (5..100).find_map(|offset| log.append(&large_batch(offset)).err()).unwrap();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(disk.free().unwrap(), free, "segments of {segment_bytes} B");
        leave(&disk, 30 * MIB);
        assert_eq!(log.next_offset(), 5);
        for offset in 5..20 {
            log.append(&large_batch(offset)).unwrap();
        }
        log.sync().unwrap();
        for offset in 0..20 {
            assert_eq!(log.readable().read(offset, 1).unwrap()[0], large_batch(offset));
        }
    }
}

fn execute(shard: &mut Shard, commands: Vec<Command>) -> Result<Vec<Reply>, StorageError> {
    let submission = |command| Submission { time_ms: 1_000, command };
    let submissions: Vec<Submission> = commands.into_iter().map(submission).collect();
    Ok(shard.execute(&submissions)?.into_iter().map(|applied| applied.reply).collect())
}

fn create_topic(shard: &mut Shard, name: &str) -> TopicId {
    let config = TopicConfig { segment_bytes: 100_000, ..TopicConfig::default() };
    let create = Command::CreateTopic { name: name.into(), partitions: 1, config };
    match execute(shard, vec![create]).unwrap()[..] {
        [Reply::Topic { topic, .. }] => topic,
        ref replies => panic!("{replies:?}"),
    }
}

fn append(topic: TopicId, n: i32, value_bytes: usize) -> Command {
    let mut builder = BatchBuilder::new(64);
    builder.append(1_000, None, Some(&vec![0; value_bytes]), &[]);
    let batch = builder.finish(Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: n }));
    let partition = Partition { topic, index: 0 };
    Command::Append { partition, config_version: 0, expected_end: None, batch }
}

#[test]
fn lg_13_a_full_log_of_many_small_batches_has_room_for_the_checkpoint_that_names_them() {
    let disk = SimDisk::new();
    leave(&disk, 16 * MIB);
    let options = Options {
        journal_file_bytes: 256 * 1024,
        journal_ring_bytes: 64 * MIB,
        tail_cache_bytes: 0,
        ..Options::default()
    };
    let mut nonce = 7;
    let mut random = || {
        nonce += 1;
        nonce
    };
    let mut shard = Shard::open(Arc::new(disk.clone()), options, &mut random).unwrap().0;
    execute(&mut shard, vec![Command::Open, Command::InitProducer { name: None }]).unwrap();
    let (large, small) = (create_topic(&mut shard, "large"), create_topic(&mut shard, "small"));
    for n in 0..40 {
        execute(&mut shard, vec![append(large, n, 100_000)]).unwrap();
    }
    (0..3).for_each(|_| shard.checkpoint().unwrap());
    let mut stored = 0;
    let full = loop {
        let group = (stored..stored + 500).map(|n| append(small, n, 1)).collect();
        match execute(&mut shard, group) {
            Ok(replies) => {
                assert!(replies.iter().all(|reply| matches!(reply, Reply::Appended { .. })));
                stored += 500;
            }
            Err(error) => break error,
        }
    };
    assert!(full.is_disk_full(), "{full}");
    let unflushed = shard.unflushed_batches();
    assert!(unflushed == stored as usize && unflushed > 20_000, "{unflushed}");
    // Their segments find no room, so each checkpoint has to name them until what is deleted here is free.
    execute(&mut shard, vec![Command::DeleteTopic { topic: large }]).unwrap();
    for _ in 0..3 {
        if let Err(error) = behind::rounds(&mut Owned(&mut shard), Extent::Due) {
            assert!(error.is_disk_full(), "{error}");
        }
    }
    assert_eq!(shard.unflushed_batches(), 0, "all is in segments");
    execute(&mut shard, vec![append(small, stored, 1)]).unwrap();
}

/// Commits an offset of a group with as much metadata as there may be.
fn commit_offset(topic: TopicId, group: usize) -> Command {
    let metadata = "m".repeat(OFFSET_METADATA_BYTES_MAX).as_str().into();
    let partition = Partition { topic, index: 0 };
    let offsets = vec![OffsetCommit { partition, offset: 0, reset: true, metadata }];
    Command::CommitOffsets { group: format!("group-{group}"), member: None, offsets }
}

#[test]
fn lg_13_a_full_log_has_room_for_the_checkpoint_with_all_metadata_of_offsets() {
    let disk = SimDisk::new();
    leave(&disk, 24 * MIB);
    let options =
        Options { journal_file_bytes: 256 * 1024, journal_ring_bytes: 64 * MIB, ..Options::default() };
    let mut nonce = 7;
    let mut random = || {
        nonce += 1;
        nonce
    };
    let mut shard = Shard::open(Arc::new(disk.clone()), options.clone(), &mut random).unwrap().0;
    execute(&mut shard, vec![Command::Open]).unwrap();
    let topic = create_topic(&mut shard, "t");
    let mut groups = 0;
    let full = loop {
        match execute(&mut shard, (groups..groups + 20).map(|group| commit_offset(topic, group)).collect()) {
            Ok(_) => groups += 20,
            Err(error) => break error,
        }
        assert!(groups < 10_000, "the disk was never full");
    };
    assert!(full.is_disk_full() && groups > 1_000, "{groups}: {full}");
    // What was kept for it suffices, with all texts and when most of them are gone.
    shard.checkpoint().unwrap();
    let forgotten = groups * 9 / 10;
    for group in 0..forgotten {
        let forget = Command::DeleteOffsets { group: format!("group-{group}"), partitions: None };
        execute(&mut shard, vec![forget]).unwrap();
    }
    (0..3).for_each(|_| shard.checkpoint().unwrap());
    execute(&mut shard, vec![commit_offset(topic, groups)]).unwrap();
    drop(shard);
    let (shard, report) = Shard::open(Arc::new(disk), options, &mut random).unwrap();
    assert!(report.checkpoint_lsn > 0 && report.ignored.is_empty(), "{report:?}");
    let state = shard.state();
    let partition = Partition { topic, index: 0 };
    assert_eq!(state.groups.len(), groups - forgotten + 1);
    for group in forgotten..=groups {
        let committed = state.committed_offset(&format!("group-{group}"), partition).unwrap();
        assert_eq!(committed.metadata.as_str().len(), OFFSET_METADATA_BYTES_MAX, "group {group}");
    }
}
