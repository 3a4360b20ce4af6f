//! Lines of docs/SEMANTICS.md that need a disk that fails: what a shard promises when calls fail, syncs lie and the
//! power goes. Each test is named after its line.
//!
//! Not here: every crash of long random runs, which `crates/sim` has.

#![allow(clippy::unwrap_used)]

mod watched;

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::Reply;
use exactlog_sim::disk::{Call, EIO, ENOSPC, Effect, Fault, SimDisk, Survival};
use exactlog_sim::layer::Layer;
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::{Durability, Options, Shard, Submission};
use std::sync::Arc;

use watched::Watch;

const PARTITION: Partition = Partition { topic: TopicId(1), index: 0 };

/// Small files and a small cache, so that a few dozen appends roll, recycle and read back.
fn options(durability: Durability) -> Options {
    Options {
        durability,
        journal_file_bytes: 64 * 1024,
        journal_ring_bytes: 512 * 1024,
        tail_cache_bytes: 2_000,
        ..Options::default()
    }
}

/// Opens what is there, or a new log with one topic.
fn open(disk: &SimDisk, durability: Durability) -> Result<Shard, StorageError> {
    let mut nonces = disk.fingerprint();
    let mut random = || {
        nonces = nonces.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        nonces
    };
    let (mut shard, _) = Shard::open(Arc::new(disk.clone()), options(durability), &mut random)?;
    execute(&mut shard, vec![Command::Open])?;
    if shard.state().topics.is_empty() {
        let config = TopicConfig { segment_bytes: 8192, ..TopicConfig::default() };
        execute(&mut shard, vec![Command::InitProducer { name: None }])?;
        execute(&mut shard, vec![Command::CreateTopic { name: "t".into(), partitions: 1, config }])?;
    }
    Ok(shard)
}

fn execute(shard: &mut Shard, commands: Vec<Command>) -> Result<Vec<Reply>, StorageError> {
    let submission = |command| Submission { time_ms: 1_000, command };
    let submissions: Vec<Submission> = commands.into_iter().map(submission).collect();
    let applied = shard.execute(&submissions)?;
    Ok(applied.into_iter().map(|applied| applied.reply).collect())
}

fn batch(n: i32) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.append(1_000, Some(b"key"), Some(format!("value {n}").as_bytes()), &[]);
    builder.finish(Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: n }))
}

fn append(n: i32) -> Command {
    Command::Append { partition: PARTITION, config_version: 0, expected_end: None, batch: batch(n) }
}

/// Appends record `n`; its offset, and whether it was there before.
fn send(shard: &mut Shard, n: i32) -> Result<(u64, bool), StorageError> {
    match execute(shard, vec![append(n)])?.remove(0) {
        Reply::Appended { base_offset, duplicate, .. } => Ok((base_offset, duplicate)),
        reply => panic!("{n}: {reply:?}"),
    }
}

/// How many records there are. Each is the right one, at the right offset, once.
fn stored(shard: &Shard) -> u64 {
    let reader = shard.reader();
    let mut next = 0;
    loop {
        let batches = reader.read(PARTITION, next, 10_000).unwrap();
        if batches.is_empty() {
            assert_eq!(reader.bounds(PARTITION).1, next);
            assert_eq!(shard.state().partition(PARTITION).map_or(0, |state| state.end), next);
            return next;
        }
        for record in batches.iter().flat_map(|batch| batch.records()) {
            let record = record.unwrap();
            assert_eq!(record.offset, next);
            assert_eq!(record.value.unwrap(), format!("value {next}"));
            next += 1;
        }
    }
}

/// The journal's operations of one kind fail, once.
fn fail_journal(disk: &SimDisk, call: Call) {
    disk.add_fault(Fault::once(Some(call), 0, Effect::Errno(EIO)).on("journal/"));
}

fn reopen(shard: &mut Shard, disk: &SimDisk) {
    let mut nonce = disk.fingerprint();
    let mut random = || {
        nonce = nonce.wrapping_mul(6364136223846793005).wrapping_add(99);
        nonce
    };
    shard.reopen(&mut random).unwrap();
}

#[test]
fn oa_5_a_failed_write_or_sync_applies_nothing_and_ends_writing_until_reopened() {
    for (call, evicted) in [(Call::Write, false), (Call::Sync, false), (Call::Sync, true)] {
        let disk = SimDisk::new();
        let mut shard = open(&disk, Durability::Fsync).unwrap();
        for n in 0..5 {
            send(&mut shard, n).unwrap();
        }
        let before = shard.state().clone();
        fail_journal(&disk, call);
        let error = execute(&mut shard, vec![append(5), append(6)]).unwrap_err();
        assert!(matches!(error, StorageError::Io { .. }), "{error}");
        assert_eq!(*shard.state(), before);
        assert_eq!(stored(&shard), 5, "reads go on, and show nothing of it");
        assert!(execute(&mut shard, vec![append(5)]).is_err());
        assert_eq!(*shard.state(), before);

        // The kernel called the pages clean; whether they are still in its cache is up to it.
        if evicted {
            disk.evict(&mut Survival::AllLost);
        }
        reopen(&mut shard, &disk);
        let decided = stored(&shard);
        let expected = if call == Call::Sync && !evicted { 7 } else { 5 };
        assert_eq!(decided, expected, "{call:?}");
        for n in 5..7 {
            assert_eq!(send(&mut shard, n).unwrap(), (n as u64, decided == 7));
        }
        let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Fsync).unwrap();
        assert_eq!(stored(&after), 7);
    }
}

#[test]
fn oa_6_nothing_is_applied_or_readable_before_its_sync_has_returned() {
    let watch = Arc::new(Watch::default());
    let watched = Layer::over(&SimDisk::new(), watch.clone());
    let mut nonce = 7;
    let mut random = || {
        nonce += 1;
        nonce
    };
    let opened = Shard::open(Arc::new(watched), options(Durability::Fsync), &mut random);
    let mut shard = opened.unwrap().0;
    execute(&mut shard, vec![Command::InitProducer { name: None }]).unwrap();
    let config = TopicConfig::default();
    execute(&mut shard, vec![Command::CreateTopic { name: "t".into(), partitions: 1, config }]).unwrap();

    let (reader, state) = (shard.reader(), shard.shared_state());
    let look = move || (reader.bounds(PARTITION).1, state.read().lsn);
    watch.look_at_each_sync(look);
    let first_lsn = shard.state().lsn;
    for n in 0..40 {
        send(&mut shard, n).unwrap();
    }
    let seen = watch.seen();
    assert!(seen.len() >= 40, "{}", seen.len());
    let mut sends: Vec<u64> = seen.iter().map(|(end, _)| *end).collect();
    sends.dedup();
    assert_eq!(
        sends,
        (0..40).collect::<Vec<_>>(),
        "a sync sees everything before its group and nothing of it"
    );
    assert!(seen.iter().all(|(end, lsn)| *lsn == first_lsn + end));
}

#[test]
fn oa_6_under_os_what_gives_out_an_identity_is_synced_with_everything_before_it() {
    let disk = SimDisk::new();
    let mut shard = open(&disk, Durability::Os).unwrap();
    let lsn = shard.state().lsn;
    for n in 0..30 {
        send(&mut shard, n).unwrap();
    }
    assert!(shard.journal().durable_lsn() < shard.state().lsn, "an append alone isn't synced");
    assert!(shard.journal().durable_lsn() >= lsn, "a file that is left is");
    execute(&mut shard, vec![Command::InitProducer { name: Some("p".into()) }]).unwrap();
    assert_eq!(shard.journal().durable_lsn(), shard.state().lsn);
    let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Os).unwrap();
    assert_eq!(stored(&after), 30);
    assert!(after.state().producer_names.contains_key("p"));
}

#[test]
fn id_7_a_duplicate_is_answered_only_when_its_original_is_durable() {
    let disk = SimDisk::new();
    let mut shard = open(&disk, Durability::Fsync).unwrap();
    for n in 0..60 {
        match n % 4 {
            // The original's sync fails, with its bytes in the cache or not; the retry comes behind a reopen.
            0 | 1 => {
                fail_journal(&disk, Call::Sync);
                send(&mut shard, n).unwrap_err();
                if n % 4 == 1 {
                    disk.evict(&mut Survival::AllLost);
                }
                reopen(&mut shard, &disk);
                let (offset, duplicate) = send(&mut shard, n).unwrap();
                assert_eq!((offset, duplicate), (n as u64, n % 4 == 0));
            }
            // Original and retry in one group.
            2 => {
                let replies = execute(&mut shard, vec![append(n), append(n)]).unwrap();
                let duplicates = replies.iter().filter(|reply| {
                    matches!(reply, Reply::Appended { duplicate: true, base_offset, .. } if *base_offset == n as u64)
                });
                assert_eq!(duplicates.count(), 1);
            }
            _ => {
                send(&mut shard, n).unwrap();
                assert_eq!(send(&mut shard, n).unwrap(), (n as u64, true));
            }
        }
        let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Fsync).unwrap();
        assert_eq!(stored(&after), n as u64 + 1);
    }
    assert!(shard.journal().generation() > 30, "journal files changed on the way");
}

#[test]
fn re_8_no_loss_of_power_takes_what_was_acknowledged_under_fsync() {
    let disk = SimDisk::new();
    let mut shard = open(&disk, Durability::Fsync).unwrap();
    for n in 0..80 {
        send(&mut shard, n).unwrap();
        if n % 3 == 0 {
            shard.idle().unwrap();
        }
        if n % 25 == 24 {
            shard.checkpoint().unwrap();
        }
        for survival in [Survival::AllLost, Survival::AllKept, Survival::random(n as u64)] {
            let after = open(&disk.power_loss(&mut survival.clone()), Durability::Fsync).unwrap();
            assert_eq!(stored(&after), n as u64 + 1, "{survival:?}");
        }
    }
}

#[test]
fn re_8_under_os_a_loss_of_power_leaves_a_prefix_and_lost_offsets_come_back_under_a_higher_leader_epoch() {
    let mut lost = 0;
    for seed in 0..60 {
        let disk = SimDisk::new();
        let mut shard = open(&disk, Durability::Os).unwrap();
        let count = 1 + (seed * 7 % 40) as i32;
        for n in 0..count {
            send(&mut shard, n).unwrap();
            if n == count / 2 && seed % 3 == 0 {
                shard.checkpoint().unwrap();
            }
        }
        let durable = shard.journal().durable_lsn();
        let epoch = shard.state().partition(PARTITION).unwrap().leader_epoch_at(count as u64 - 1);
        let mut after = open(&disk.power_loss(&mut Survival::random(seed)), Durability::Os).unwrap();
        // `stored` compares every record, so that what is left has no hole.
        let left = stored(&after);
        assert!(left <= count as u64);
        assert!(after.state().lsn >= durable);
        lost += count as u64 - left;
        let (offset, duplicate) = send(&mut after, left as i32).unwrap();
        assert_eq!((offset, duplicate), (left, false));
        assert!(after.state().partition(PARTITION).unwrap().leader_epoch_at(offset) > epoch);
    }
    assert!(lost > 0, "a disk that loses nothing proves nothing");
}

#[test]
fn lg_10_after_a_failed_sync_no_operation_reaches_the_disk_and_the_file_is_never_written_again() {
    let disk = SimDisk::new();
    let mut shard = open(&disk, Durability::Fsync).unwrap();
    for n in 0..5 {
        send(&mut shard, n).unwrap();
    }
    let file = format!("journal/{:020}.journal", shard.journal().generation());
    fail_journal(&disk, Call::Sync);
    send(&mut shard, 5).unwrap_err();
    let (operations, bytes) = (disk.ops(), disk.read_file(&file).unwrap());
    assert!(send(&mut shard, 5).is_err());
    assert!(shard.idle().is_ok(), "there is nothing to do");
    assert!(shard.checkpoint_image().is_err());
    assert!(shard.close().is_err());
    assert_eq!(disk.ops(), operations);
    assert_eq!(stored(&shard), 5);

    reopen(&mut shard, &disk);
    for n in 5..30 {
        send(&mut shard, n).unwrap();
    }
    assert_eq!(disk.read_file(&file).unwrap(), bytes);
    assert_eq!(stored(&shard), 30);
}

#[test]
fn lg_10_of_all_files_only_the_journal_ends_writing() {
    let calls = [Call::Write, Call::Sync, Call::SyncDir, Call::CreateDir, Call::Rename, Call::Open];
    let mut failed = 0;
    for directory in ["topics", "checkpoint"] {
        for call in calls {
            let disk = SimDisk::new();
            let mut shard = open(&disk, Durability::Fsync).unwrap();
            for n in 0..20 {
                send(&mut shard, n).unwrap();
            }
            disk.add_fault(Fault::once(Some(call), 0, Effect::Errno(EIO)).on(directory));
            failed += u64::from(shard.checkpoint().is_err());
            disk.clear_faults();
            assert!(shard.failure().is_none(), "{call:?} on {directory}");
            send(&mut shard, 20).unwrap();
            shard.checkpoint().unwrap();
            assert_eq!(stored(&shard), 21);
            let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Fsync).unwrap();
            assert_eq!(stored(&after), 21);
        }
    }
    assert!(failed >= 8, "{failed}");
}

/// Sends, flushes, makes checkpoints and prepares files; how many records were acknowledged, and how many sent.
fn busy(disk: &SimDisk) -> (u64, u64) {
    let Ok(mut shard) = open(disk, Durability::Fsync) else { return (0, 0) };
    for n in 0..50 {
        let sent = send(&mut shard, n).and_then(|sent| shard.idle().map(|()| sent));
        match sent {
            Ok((offset, _)) => assert_eq!(offset, n as u64),
            Err(error) => {
                assert!(!error.is_refusal(), "{error}");
                let acknowledged = stored_without_faults(disk, &shard);
                return (acknowledged, n as u64 + 1);
            }
        }
        let behind = match n % 12 {
            5 => shard.journal().spares().prepare(),
            10 => shard.checkpoint(),
            _ => Ok(()),
        };
        assert!(behind.is_ok() || disk.faults_hit() > 0);
    }
    let closed = shard.close();
    assert!(closed.is_ok() || disk.faults_hit() > 0);
    (50, 50)
}

fn stored_without_faults(disk: &SimDisk, shard: &Shard) -> u64 {
    disk.clear_faults();
    stored(shard)
}

/// A busy life with one fault, and what is left of it after a kill and after a loss of power; whether it was hit.
fn fails_once(fault: Fault) -> bool {
    let disk = SimDisk::new();
    disk.add_fault(fault.clone());
    let (acknowledged, sent) = busy(&disk);
    let hit = disk.faults_hit() > 0;
    disk.clear_faults();
    for after in [disk.process_kill(), disk.power_loss(&mut Survival::AllLost)] {
        let mut shard = open(&after, Durability::Fsync).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        let found = stored(&shard);
        assert!((acknowledged..=sent).contains(&found), "{fault:?}: {found}");
        send(&mut shard, found as i32).unwrap();
        shard.checkpoint().unwrap();
    }
    hit
}

#[test]
fn lg_13_after_any_one_failed_call_the_log_opens_again_with_all_that_was_acknowledged() {
    use Call::{Allocate, CreateDir, List, Open, Read, Rename, Sync, SyncDir, Unlink, Write};
    let mut hits = 0;
    for call in [Open, Read, Write, Sync, Allocate, List, CreateDir, Rename, Unlink, SyncDir] {
        for errno in [EIO, ENOSPC] {
            let mut skip = 0;
            while fails_once(Fault::once(Some(call), skip, Effect::Errno(errno))) {
                hits += 1;
                skip += 1 + skip / 16;
            }
        }
    }
    assert!(hits > 200, "{hits}");
}

#[test]
fn lg_13_a_full_disk_writes_nothing_of_a_command_and_the_log_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let mut shard = open(&disk, Durability::Fsync).unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| len.next_multiple_of(4096)).sum();
    disk.set_capacity(Some(used + 32 * 1024));
    let mut n = 0;
    let error = loop {
        match send(&mut shard, n) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 100, "the disk was never full");
    };
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert!(shard.failure().is_none());
    let before = shard.state().clone();
    send(&mut shard, n).unwrap_err();
    assert_eq!(*shard.state(), before);
    assert_eq!(stored(&shard), n as u64);

    disk.set_capacity(None);
    assert_eq!(send(&mut shard, n).unwrap(), (n as u64, false));
    let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Fsync).unwrap();
    assert_eq!(stored(&after), n as u64 + 1);
}

#[test]
fn lg_13_the_directory_of_checkpoints_is_durable_before_the_journal_is_recycled_for_one() {
    for loses_names in [false, true] {
        let disk = SimDisk::new();
        disk.set_failed_sync_dir_loses_names(loses_names);
        let mut shard = open(&disk, Durability::Fsync).unwrap();
        send(&mut shard, 0).unwrap();
        shard.flusher().flush().unwrap();
        // Nothing but the first checkpoint syncs a directory now, and first of all the root.
        disk.add_fault(Fault::once(Some(Call::SyncDir), 0, Effect::Errno(EIO)));
        shard.checkpoint().unwrap_err();
        disk.clear_faults();
        for n in 1..60 {
            send(&mut shard, n).unwrap();
            if n % 20 == 0 {
                shard.checkpoint().unwrap();
            }
        }
        assert!(shard.journal().files()[0].first_lsn > 1, "the journal was recycled");
        let after = open(&disk.power_loss(&mut Survival::AllLost), Durability::Fsync).unwrap();
        assert_eq!(stored(&after), 60);
    }
}
