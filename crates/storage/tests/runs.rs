//! Ids of events in runs: the bytes of a file, damage to each of them, look-ups that fail, followers, and a full disk.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{Command, Dedup, DedupScope, TopicConfig};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::MarkKey;
use exactlog_sim::disk::{Call, EIO, ENOSPC, Effect, Fault, SimDisk};
use exactlog_storage::behind::{self, Owned};
use exactlog_storage::checkpoint::state_hash;
use exactlog_storage::disk::Disk;
use exactlog_storage::error::StorageError;
use exactlog_storage::follower::Follower;
use exactlog_storage::install::Snapshot;
use exactlog_storage::runs::RUNS_DIR;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::ops::Range;
use std::sync::Arc;

const PARTITION: Partition = Partition { topic: TopicId(1), index: 0 };

fn options(in_memory: u64) -> Options {
    Options {
        journal_file_bytes: 256 * 1024,
        journal_ring_bytes: 2 * 1024 * 1024,
        tail_cache_bytes: 20_000,
        dedup_memory_entries: in_memory,
        ..Options::default()
    }
}

fn numbers() -> impl FnMut() -> u64 {
    let mut number = 7_u64;
    move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number
    }
}

fn try_open(disk: &SimDisk, in_memory: u64) -> Result<Shard, StorageError> {
    Shard::open(Arc::new(disk.clone()), options(in_memory), &mut numbers()).map(|(shard, _)| shard)
}

fn run(shard: &mut Shard, time_ms: i64, command: Command) -> Result<Reply, StorageError> {
    let mut applied = shard.execute(&[Submission { time_ms, command }])?;
    Ok(applied.remove(0).reply)
}

/// A log with a topic and a producer.
fn begun(disk: &SimDisk, in_memory: u64) -> Shard {
    let mut shard = try_open(disk, in_memory).unwrap();
    run(&mut shard, 1_000, Command::Open).unwrap();
    let config = TopicConfig::default();
    run(&mut shard, 1_000, Command::CreateTopic { name: "t".into(), partitions: 1, config }).unwrap();
    run(&mut shard, 1_000, Command::InitProducer { name: Some("p".into()) }).unwrap();
    shard
}

fn id(number: u64) -> DedupId {
    DedupId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes())
}

fn send(shard: &mut Shard, time_ms: i64, ids: Range<u64>) -> Result<Reply, StorageError> {
    let mut builder = BatchBuilder::new(64);
    for _ in ids.clone() {
        builder.append(900, None, Some(b"v"), &[]);
    }
    let (batch, ids) = (builder.finish(None), ids.map(id).collect());
    let sender = (ProducerId(1), 0);
    let command = Dedup::Append { sender, partition: PARTITION, config_version: 0, ids, batch };
    run(shard, time_ms, command.into())
}

fn send_all(shard: &mut Shard, ids: Range<u64>) {
    for from in ids.clone().step_by(500) {
        let reply = send(shard, 1_000, from..(from + 500).min(ids.end)).unwrap();
        assert!(matches!(reply, Reply::Appended { duplicate: false, .. }), "{reply:?}");
    }
}

fn roll(shard: &mut Shard) -> u64 {
    let mut rolled = 0;
    while behind::roll(&mut Owned(shard)).unwrap() {
        rolled += 1;
    }
    rolled
}

fn are_known(shard: &mut Shard, ids: Range<u64>) -> Result<bool, StorageError> {
    let count = (ids.end - ids.start) as usize;
    let reply = send(shard, 1_000, ids)?;
    Ok(matches!(reply, Reply::Refused(Refusal::EventsSeen { seen }) if seen.len() == count))
}

fn run_files(disk: &SimDisk) -> Vec<(String, u64)> {
    disk.files().into_iter().filter(|(name, _)| name.starts_with(RUNS_DIR)).collect()
}

#[test]
fn oa_9_a_run_has_the_bytes_that_the_format_says() {
    let disk = SimDisk::new();
    let mut shard = begun(&disk, 0);
    send_all(&mut shard, 1..131);
    assert_eq!(roll(&mut shard), 1);
    let files = run_files(&disk);
    assert_eq!(files.len(), 1);
    let (name, len) = &files[0];
    assert_eq!(name, "dedup/00000000000000000001.run");
    let bytes = disk.read_file(name).unwrap();
    let crc = |bytes: &[u8]| crc32c::crc32c(bytes).to_le_bytes();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    // 130 marks: two blocks, and seven lines of the filter.
    let lines = (130 * 24_u64).div_ceil(512);
    assert_eq!(*len, 4096 + 2 * 4096 + (3 * 21 + 4) + lines * 64 + 4);
    assert_eq!((&bytes[..8], &bytes[8..16]), (&b"EXLOGRUN"[..], &[1, 0, 0, 0, 0, 0, 0, 0][..]));
    let end_ms = (1_000 + 7 * 86_400_000_i64 as u64).div_ceil(3_600_000) * 3_600_000;
    assert_eq!((number(16), number(24), number(32), number(48)), (1, end_ms, 130, lines));
    assert_eq!(bytes[56..60], crc(&bytes[..56]));
    let mut ids: Vec<(DedupId, u64)> = (1..131).map(|number| (id(number), number - 1)).collect();
    ids.sort_unstable();
    for (block, ids) in ids.chunks(124).enumerate() {
        let from = 4096 * (1 + block);
        let mut wanted: Vec<u8> = Vec::new();
        for (id, offset) in ids {
            // A topic, its number; the id; the offset, and the index of the partition.
            wanted.extend([0, 1, 0, 0, 0]);
            wanted.extend(id.0);
            wanted.extend(offset.to_le_bytes());
            wanted.extend([0; 4]);
        }
        wanted.resize(4092, 0);
        assert_eq!(&bytes[from..from + 4092], wanted, "block {block}");
        let mut place = [&1_u64.to_le_bytes()[..], &(block as u64).to_le_bytes()].concat();
        place.extend(&wanted);
        assert_eq!(bytes[from + 4092..from + 4096], crc(&place));
    }
    let index: Vec<u8> =
        [0, 124, 129].iter().flat_map(|at: &usize| [&[0, 1, 0, 0, 0], &ids[*at].0.0[..]].concat()).collect();
    let index_at = 3 * 4096;
    assert_eq!(bytes[index_at..index_at + 63], index);
    assert_eq!(bytes[index_at + 63..index_at + 67], crc(&index));
    let filter = &bytes[index_at + 67..bytes.len() - 4];
    assert_eq!(bytes[bytes.len() - 4..], crc(filter));
    let ones: u32 = filter.iter().map(|byte| byte.count_ones()).sum();
    assert!((700..=11 * 130).contains(&ones), "{ones} bits are set");
}

/// All that was sent is known, or somebody says which file is damaged, and where.
fn is_sound(damaged: &SimDisk, ids: Range<u64>) -> Result<bool, String> {
    let names = |error: &StorageError| match error {
        StorageError::Damaged { file, .. } | StorageError::Version { file, .. } => file.starts_with(RUNS_DIR),
        StorageError::Missing { file, .. } => file.starts_with(RUNS_DIR),
        _ => false,
    };
    let refused = |error: StorageError| match names(&error) {
        true => Ok(false),
        false => Err(error.to_string()),
    };
    let mut shard = match try_open(damaged, 0) {
        Ok(shard) => shard,
        Err(error) => return refused(error),
    };
    let (manifest, keys): (_, Vec<MarkKey>) = {
        let state = shard.state();
        let topic = DedupScope::Topic(PARTITION.topic);
        (
            state.dedup.runs().clone(),
            ids.clone().filter_map(|number| state.question(&topic, id(number))).collect(),
        )
    };
    match shard.runs().look_up(&manifest, &keys) {
        Err(error) => return refused(error),
        Ok(answers) if keys.iter().any(|key| answers.of(key).is_none()) => {
            return Err("an id is absent".into());
        }
        Ok(_) => {}
    }
    match are_known(&mut shard, ids) {
        Ok(true) => Ok(true),
        Ok(false) => Err("an id was stored twice".into()),
        Err(error) => refused(error),
    }
}

#[test]
fn lg_3_every_damaged_byte_of_a_run_is_refused_with_its_file_or_never_read() {
    let disk = SimDisk::new();
    let mut shard = begun(&disk, 0);
    send_all(&mut shard, 0..130);
    roll(&mut shard);
    shard.checkpoint().unwrap();
    shard.close().unwrap();
    let (name, len) = run_files(&disk).remove(0);
    assert_eq!(is_sound(&disk.process_kill(), 0..130), Ok(true));
    let mut refused = 0;
    for at in 0..len {
        let damaged = disk.process_kill();
        damaged.flip_bit(&name, at, 0xFF).unwrap();
        match is_sound(&damaged, 0..130) {
            Ok(sound) => refused += u64::from(!sound),
            Err(what) => panic!("{name} byte {at}: {what}"),
        }
    }
    assert_eq!(refused, len, "no byte of it is without a checksum");
    let bytes = disk.read_file(&name).unwrap();
    for len in (0..bytes.len()).step_by(61) {
        let damaged = disk.process_kill();
        damaged.put(&name, &bytes[..len]).unwrap();
        assert_eq!(is_sound(&damaged, 0..130), Ok(false), "cut to {len} B");
    }
    let missing = disk.process_kill();
    missing.remove(&name).unwrap();
    assert_eq!(is_sound(&missing, 0..130), Ok(false));
}

#[test]
fn lg_10_a_look_up_that_fails_ends_writing_before_its_command_and_reading_goes_on() {
    let disk = SimDisk::new();
    let mut shard = begun(&disk, 0);
    send_all(&mut shard, 0..500);
    roll(&mut shard);
    let hash = state_hash(&shard.state());
    disk.add_fault(Fault::once(Some(Call::Read), 0, Effect::Errno(EIO)));
    let error = send(&mut shard, 1_000, 7..8).unwrap_err();
    assert!(
        matches!(&error, StorageError::Io { what: "read", file, .. } if file.starts_with(RUNS_DIR)),
        "{error}"
    );
    assert_eq!(state_hash(&shard.state()), hash, "nothing is applied of it");
    assert!(run(&mut shard, 1_000, Command::Tick).is_err(), "writing has ended");
    assert_eq!(shard.reader().read(PARTITION, 3, 1).unwrap()[0].base_offset(), 0);
    shard.reopen(&mut numbers()).unwrap();
    assert!(are_known(&mut shard, 0..500).unwrap(), "the command was judged when it could be");
}

#[test]
fn lg_13_a_run_that_does_not_fit_changes_nothing_and_is_made_when_it_does() {
    let disk = SimDisk::new();
    let mut shard = begun(&disk, 0);
    send_all(&mut shard, 0..2_000);
    for call in [Call::CreateDir, Call::Open, Call::Write, Call::Sync, Call::Rename, Call::SyncDir] {
        let in_memory = shard.state().dedup.in_memory();
        disk.add_fault(Fault::once(Some(call), 0, Effect::Errno(ENOSPC)));
        let error = behind::roll(&mut Owned(&mut shard)).unwrap_err();
        assert!(error.is_disk_full(), "{call:?}: {error}");
        disk.clear_faults();
        assert!(shard.failure().is_none(), "{call:?}");
        assert_eq!(shard.state().dedup.in_memory(), in_memory);
        assert!(!behind::roll(&mut Owned(&mut shard)).unwrap(), "it isn't tried again at once");
        let from = in_memory;
        send_all(&mut shard, from..from + 16_500);
    }
    assert!(roll(&mut shard) > 0);
    let sent = shard.state().dedup.marked();
    for from in (0..sent).step_by(500) {
        assert!(are_known(&mut shard, from..from + 500).unwrap());
    }
    let left: Vec<_> =
        disk.list(RUNS_DIR).unwrap().into_iter().filter(|it| it.name.ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn oa_9_a_run_s_file_goes_when_no_checkpoint_leads_to_a_state_that_names_it() {
    let disk = SimDisk::new();
    let mut shard = begun(&disk, 1_024);
    for from in (0..20).map(|number| number * 1_024) {
        send_all(&mut shard, from..from + 1_024);
        send_all(&mut shard, 1_000_000 + from..1_000_000 + from + 10);
        roll(&mut shard);
    }
    let named = shard.state().dedup.runs().runs().count();
    assert!(run_files(&disk).len() > named, "those that were merged are still there");
    shard.checkpoint().unwrap();
    assert!(run_files(&disk).len() > named, "one checkpoint isn't enough: it may be the one that is damaged");
    shard.checkpoint().unwrap();
    shard.checkpoint().unwrap();
    assert_eq!(run_files(&disk).len(), named);
    // The bucket ends, and all of it goes.
    let end_ms = shard.state().next_tick_ms();
    run(&mut shard, end_ms, Command::Tick).unwrap();
    assert_eq!(shard.state().dedup.marked(), 0);
    for _ in 0..3 {
        shard.checkpoint().unwrap();
    }
    assert_eq!(run_files(&disk), []);
}

#[test]
fn an_id_that_is_forgotten_stays_so_in_merged_runs_after_kills_and_on_a_follower() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let mut shard = begun(&disk, 0);
    let mut follower = Follower::open(Arc::new(other.clone()), options(0), &mut numbers()).unwrap().0;
    let scope = DedupScope::Topic(PARTITION.topic);
    let forget = |shard: &mut Shard, number| {
        let command = Dedup::Forget { scope: scope.clone(), id: id(number) };
        let reply = run(shard, 1_000, command.into()).unwrap();
        assert!(matches!(reply, Reply::Forgotten { sighting: Some(_) }), "{reply:?}");
    };
    send_all(&mut shard, 0..1_000);
    roll(&mut shard);
    forget(&mut shard, 7);
    forget(&mut shard, 8);
    shard.checkpoint().unwrap();
    drop(shard);
    let disk = disk.process_kill();
    let mut shard = try_open(&disk, 0).unwrap();
    send_all(&mut shard, 7..8);
    send_all(&mut shard, 1_000..1_100);
    roll(&mut shard);
    forget(&mut shard, 1_050);
    let end_ms = shard.state().next_tick_ms();
    // The next hour: the runs of this one become one.
    run(&mut shard, 2 * 3_600_000, Command::Tick).unwrap();
    assert_eq!(roll(&mut shard), 1);
    let counted = shard.state().dedup.runs().runs().map(|(_, run)| run.entries).collect::<Vec<_>>();
    assert_eq!(counted, [1_098]);
    forget(&mut shard, 9);
    shard.idle().unwrap();
    follower.pull(&shard.journal().reader(), 1 << 30).unwrap();
    assert_eq!(state_hash(&shard.state()), follower.state_hash());
    drop(follower);
    shard.close().unwrap();
    for disk in [disk, other.process_kill()] {
        let mut shard = try_open(&disk, 0).unwrap();
        assert!(are_known(&mut shard, 0..8).unwrap() && are_known(&mut shard, 10..1_050).unwrap());
        for absent in [8, 9, 1_050] {
            let reply = send(&mut shard, 1_000, absent..absent + 1).unwrap();
            assert!(matches!(reply, Reply::Appended { duplicate: false, .. }), "{absent}: {reply:?}");
        }
        run(&mut shard, end_ms, Command::Tick).unwrap();
        assert!(!shard.state().dedup.has_gaps(), "what was forgotten went with its run");
    }
}

#[test]
fn a_follower_makes_the_runs_itself_and_takes_those_of_a_state_that_it_takes_over() {
    let (leader_disk, disk) = (SimDisk::new(), SimDisk::new());
    let mut leader = begun(&leader_disk, 1_024);
    let follow =
        |disk: &SimDisk| Follower::open(Arc::new(disk.clone()), options(1_024), &mut numbers()).unwrap().0;
    let mut follower = follow(&disk);
    for from in (0..10).map(|number| number * 1_500) {
        send_all(&mut leader, from..from + 1_500);
        roll(&mut leader);
        leader.idle().unwrap();
        follower.pull(&leader.journal().reader(), 1 << 30).unwrap();
        assert_eq!(state_hash(&leader.state()), follower.state_hash());
    }
    assert!(leader.state().dedup.runs().runs().count() > 2);
    drop(follower);
    let followed = disk.process_kill();
    let lead = |disk: &SimDisk| {
        let mut shard = try_open(disk, 1_024).unwrap();
        for from in (0..15_000).step_by(500) {
            assert!(are_known(&mut shard, from..from + 500).unwrap(), "{from}");
        }
    };
    lead(&followed);
    for (name, _) in run_files(&followed) {
        assert_eq!(followed.read_file(&name).unwrap(), leader_disk.read_file(&name).unwrap(), "{name}");
    }
    // Another one begins with the state, and gets the files with it.
    let taking = SimDisk::new();
    let mut follower = follow(&taking);
    let snapshot = Snapshot::take(&mut leader).unwrap();
    assert!(follower.catch_up(&snapshot, &mut numbers()).unwrap());
    assert_eq!(state_hash(&leader.state()), follower.state_hash());
    drop(follower);
    lead(&taking.process_kill());
}
