//! The shard from end to end on a real directory: checkpoints, segments, recycling, reading back from everywhere.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::Reply;
use exactlog_storage::StorageError;
use exactlog_storage::behind::{self, Extent, Owned};
use exactlog_storage::checkpoint::state_hash;
use exactlog_storage::disk::{Disk, RealDisk};
use exactlog_storage::shard::{Options, RecoveryReport, Shard, Submission};
use std::path::Path;
use std::sync::Arc;

fn options() -> Options {
    Options {
        journal_file_bytes: 64 * 1024,
        journal_ring_bytes: 1024 * 1024,
        tail_cache_bytes: 20_000,
        ..Options::default()
    }
}

fn open(directory: &Path) -> (Shard, RecoveryReport) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory).unwrap());
    let mut count = directory.to_string_lossy().len() as u64;
    let mut random = || {
        count = count.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        count
    };
    let (mut shard, report) = Shard::open(disk, options(), &mut random).unwrap();
    run(&mut shard, Command::Open);
    (shard, report)
}

fn run(shard: &mut Shard, command: Command) -> Reply {
    let applied = shard.execute(&[Submission { time_ms: 1_000, command }]).unwrap();
    shard.idle().unwrap();
    applied.into_iter().next().unwrap().reply
}

fn create_topic(shard: &mut Shard, partitions: u32) -> TopicId {
    let config = TopicConfig { segment_bytes: 8192, ..TopicConfig::default() };
    run(shard, Command::InitProducer { name: None });
    match run(shard, Command::CreateTopic { name: "t".into(), partitions, config }) {
        Reply::Topic { topic, .. } => topic,
        reply => panic!("{reply:?}"),
    }
}

/// A log with one topic of one partition.
fn open_with_partition(directory: &Path) -> (Shard, Partition) {
    let (mut shard, _) = open(directory);
    let topic = create_topic(&mut shard, 1);
    (shard, Partition { topic, index: 0 })
}

fn batch(sequence: i32, text: &str) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.append(1_000 + sequence as i64, Some(b"key"), Some(text.as_bytes()), &[]);
    builder.finish(Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: sequence }))
}

fn append(shard: &mut Shard, topic: TopicId, n: u32, partitions: u32) {
    let partition = Partition { topic, index: n % partitions };
    let text = format!("value {n} {}", "x".repeat((n % 700) as usize));
    let batch = batch((n / partitions) as i32, &text);
    let reply = run(shard, Command::Append { partition, config_version: 0, expected_end: None, batch });
    assert!(matches!(reply, Reply::Appended { duplicate: false, .. }), "{reply:?}");
}

fn check(shard: &Shard, topic: TopicId, count: u32, partitions: u32) {
    let reader = shard.reader();
    for index in 0..partitions {
        let mut offset = 0;
        loop {
            let batches = reader.read(Partition { topic, index }, offset, 10_000).unwrap();
            let Some(last) = batches.last() else { break };
            for record in batches.iter().flat_map(|batch| batch.records()) {
                let record = record.unwrap();
                let n = record.offset as u32 * partitions + index;
                let expected = format!("value {n} {}", "x".repeat((n % 700) as usize));
                assert_eq!(record.value.unwrap(), Bytes::from(expected));
                assert_eq!(record.offset, offset);
                offset += 1;
            }
            assert_eq!(last.next_offset(), offset);
        }
        assert_eq!(offset, (count - index).div_ceil(partitions) as u64);
    }
}

#[test]
fn oa_1_state_is_the_same_live_and_from_checkpoint_and_replay_while_the_journal_is_recycled() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, _) = open(directory.path());
    let topic = create_topic(&mut shard, 3);
    let mut n = 0;
    for round in 0..12 {
        for _ in 0..150 {
            append(&mut shard, topic, n, 3);
            n += 1;
        }
        if round % 2 == 0 {
            shard.checkpoint().unwrap();
        } else {
            shard.flusher().flush().unwrap();
        }
        check(&shard, topic, n, 3);
        if round % 3 == 2 {
            if round % 2 == 0 {
                shard.close().unwrap();
            }
            let live = state_hash(&shard.state());
            drop(shard);
            let (mut reopened, report) = open(directory.path());
            assert!(report.checkpoint_lsn > 0);
            run(&mut reopened, Command::Tick);
            assert_ne!(state_hash(&reopened.state()), live, "opening is a command");
            shard = reopened;
            check(&shard, topic, n, 3);
        }
    }
    shard.checkpoint().unwrap();
    append(&mut shard, topic, n, 3);
    shard.checkpoint().unwrap();
    append(&mut shard, topic, n + 1, 3);
    check(&shard, topic, n + 2, 3);
    let used = shard.journal().used_bytes();
    assert!(used <= 2 * 64 * 1024, "the journal takes {used} bytes");
    let segments = std::fs::read_dir(directory.path().join("topics")).unwrap().count();
    assert_eq!(segments, 3);
}

#[test]
fn oa_1_a_reopened_shard_has_the_hash_of_the_live_one() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, _) = open(directory.path());
    let topic = create_topic(&mut shard, 2);
    for n in 0..300 {
        append(&mut shard, topic, n, 2);
        if n % 70 == 0 {
            shard.checkpoint().unwrap();
        }
    }
    let live = state_hash(&shard.state());
    drop(shard);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).unwrap());
    let (shard, report) = Shard::open(disk, options(), &mut || 99).unwrap();
    assert_eq!(state_hash(&shard.state()), live);
    assert_eq!(report.checkpoint_lsn + report.replayed_commands, report.last_lsn);
    assert!(report.replayed_commands < 100);
}

#[test]
fn lg_2_a_look_up_by_time_gives_the_first_record_at_or_after_it_wherever_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, partition) = open_with_partition(directory.path());
    for n in 0..400 {
        append(&mut shard, partition.topic, n, 1);
        if n == 200 {
            shard.checkpoint().unwrap();
        }
    }
    let reader = shard.reader();
    for n in 0..400u64 {
        let time = 1_000 + n as i64;
        assert_eq!(reader.first_at_or_after(partition, time).unwrap(), Some((n, time)));
    }
    assert_eq!(reader.first_at_or_after(partition, 0).unwrap(), Some((0, 1_000)));
    assert_eq!(reader.first_at_or_after(partition, 10_000).unwrap(), None);
    run(&mut shard, Command::Trim { partition, start: 100 });
    assert_eq!(reader.first_at_or_after(partition, 0).unwrap(), Some((100, 1_100)));
}

fn files_of(directory: &Path, partition: Partition) -> Vec<String> {
    let path = directory.join(format!("topics/{partition}"));
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
    names.sort();
    names
}

#[test]
fn lg_13_segments_below_the_start_go_when_two_later_checkpoints_dont_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, partition) = open_with_partition(directory.path());
    for n in 0..300 {
        append(&mut shard, partition.topic, n, 1);
    }
    shard.checkpoint().unwrap();
    let before = files_of(directory.path(), partition);
    assert!(before.len() > 5);
    run(&mut shard, Command::Trim { partition, start: 200 });
    for _ in 0..2 {
        shard.checkpoint().unwrap();
        assert_eq!(files_of(directory.path(), partition), before, "an older checkpoint may name them");
    }
    shard.checkpoint().unwrap();
    let after = files_of(directory.path(), partition);
    assert!(after.len() < before.len() && after[1].as_str() > "00000000000000000200", "{after:?}");
    assert!(before.ends_with(&after), "the oldest go");
    let reader = shard.reader();
    assert_eq!(reader.read(partition, 200, 1).unwrap()[0].base_offset(), 200);
    for n in 300..320 {
        append(&mut shard, partition.topic, n, 1);
    }
    drop(shard);
    let (mut shard, _) = open(directory.path());
    assert_eq!(shard.reader().read(partition, 200, 1).unwrap()[0].base_offset(), 200);
    assert_eq!(shard.reader().read(partition, 319, 1).unwrap()[0].next_offset(), 320);
    // All of it: also the segment that is written.
    run(&mut shard, Command::Trim { partition, start: 320 });
    (0..3).for_each(|_| shard.checkpoint().unwrap());
    assert_eq!(files_of(directory.path(), partition), Vec::<String>::new());
    append(&mut shard, partition.topic, 320, 1);
    shard.checkpoint().unwrap();
    drop(shard);
    let (shard, _) = open(directory.path());
    assert_eq!(shard.reader().read(partition, 320, 1).unwrap()[0].base_offset(), 320);
}

#[test]
fn a_deleted_topic_leaves_no_directory_also_if_an_earlier_open_didnt_come_to_it() {
    for reopened in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (mut shard, _) = open(directory.path());
        let topic = create_topic(&mut shard, 2);
        (0..100).for_each(|n| append(&mut shard, topic, n, 2));
        shard.checkpoint().unwrap();
        run(&mut shard, Command::DeleteTopic { topic });
        if reopened {
            shard.checkpoint().unwrap();
            drop(shard);
            shard = open(directory.path()).0;
        }
        (0..6).for_each(|_| shard.checkpoint().unwrap());
        assert_eq!(std::fs::read_dir(directory.path().join("topics")).unwrap().count(), 0, "{reopened}");
    }
}

#[test]
fn a_reader_from_before_a_reopen_is_told_so_and_never_given_what_lies_there_now() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, partition) = open_with_partition(directory.path());
    (0..300).for_each(|n| append(&mut shard, partition.topic, n, 1));
    let before = shard.reader();
    let cached = before.read(partition, 299, 1).unwrap();
    assert!(!before.read(partition, 0, 1).unwrap().is_empty());
    shard.poison("for a test");
    assert!(!before.read(partition, 0, 1).unwrap().is_empty(), "reading goes on after a failure");
    shard.reopen(&mut || 7).unwrap();
    assert!(matches!(before.read(partition, 0, 1), Err(StorageError::Reopened { .. })));
    let now = shard.reader();
    assert!(before.is_of_same_open(&before.clone()) && !before.is_of_same_open(&now));
    assert_eq!(now.read(partition, 0, 1).unwrap()[0].base_offset(), 0);
    assert_eq!(now.read(partition, 299, 1).unwrap()[0].base_offset(), cached[0].base_offset());
}

#[test]
fn lg_13_what_is_trimmed_all_the_time_goes_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, partition) = open_with_partition(directory.path());
    let mut most = 0;
    for round in 1..20 {
        (0..50).for_each(|n| append(&mut shard, partition.topic, (round - 1) * 50 + n, 1));
        run(&mut shard, Command::Trim { partition, start: u64::from(round) * 50 - 10 });
        shard.checkpoint().unwrap();
        most = most.max(files_of(directory.path(), partition).len());
        let start = u64::from(round) * 50 - 10;
        assert_eq!(shard.reader().read(partition, start, 1).unwrap()[0].base_offset(), start);
    }
    // Each round makes three or four; those of three rounds are named at most.
    assert!(most < 20, "{most} files");
    drop(shard);
    let (shard, _) = open(directory.path());
    assert_eq!(shard.reader().read(partition, 940, 1).unwrap()[0].base_offset(), 940);
}

#[test]
fn lg_13_what_an_earlier_open_has_dropped_is_removed_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, partition) = open_with_partition(directory.path());
    (0..300).for_each(|n| append(&mut shard, partition.topic, n, 1));
    shard.checkpoint().unwrap();
    let before = files_of(directory.path(), partition).len();
    run(&mut shard, Command::Trim { partition, start: 250 });
    shard.checkpoint().unwrap();
    shard.close().unwrap();
    drop(shard);
    // Nothing is written to the partition any more.
    let (mut shard, _) = open(directory.path());
    (0..3).for_each(|_| shard.checkpoint().unwrap());
    let after = files_of(directory.path(), partition).len();
    assert!(after < before / 2, "{before} files, then {after}");
    assert_eq!(shard.reader().read(partition, 250, 1).unwrap()[0].base_offset(), 250);
}

/// A round of hundreds of megabytes made whoever waited for room wait for all of it.
#[test]
fn a_journal_that_is_full_is_given_back_part_by_part_without_waiting_for_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, _) = open(directory.path());
    let topic = create_topic(&mut shard, 3);
    let mut n = 0;
    while !shard.is_full() {
        append(&mut shard, topic, n, 3);
        n += 1;
    }
    let flushed = |shard: &Shard| shard.flusher().flushed_lsn();
    let mut before = 0;
    while shard.journal().used_bytes() > options().journal_ring_bytes / 2 {
        assert!(shard.wants_checkpoint());
        let (used, unflushed) = (shard.journal().used_bytes(), shard.unflushed_batches());
        behind::checkpoint(&mut Owned(&mut shard), Extent::Due).unwrap();
        let (now, left) = (shard.journal().used_bytes(), shard.unflushed_batches());
        assert!(flushed(&shard) > before && left < unflushed, "each round brings a part into segments");
        assert!(used - now <= 2 * options().journal_file_bytes, "and a small one: {used} -> {now}");
        before = flushed(&shard);
        check(&shard, topic, n, 3);
    }
    assert!(shard.unflushed_batches() > 0, "what is left may wait");
    let live = state_hash(&shard.state());
    drop(shard);
    let (shard, report) = open(directory.path());
    assert!(report.checkpoint_lsn > before, "a checkpoint knows more than is in segments");
    assert_ne!(state_hash(&shard.state()), live, "opening is a command");
    check(&shard, topic, n, 3);
}
