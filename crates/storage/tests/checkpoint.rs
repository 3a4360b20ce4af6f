//! The bytes of a checkpoint, put together by hand from docs/FORMAT.md, and what open makes of bytes that are wrong.
//!
//! If the first test fails, checkpoints of earlier builds can no longer be read: that needs a new format version.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use exactlog_core::command::{
    AtCap, CleanupPolicy, Command, Commit, CommitToken, ConfigChange, Dedup, DedupScope, KeptSettings,
    NewTimer, OffsetCommit, OffsetMetadata, Protocol, TableWrite, TableWrites, TimerCommand, TimerEffects,
    TopicCompression, TopicConfig, TopicDurability, TransactionSender, Transactional,
};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TimerId, TopicId};
use exactlog_core::reply::{Seen, Sighting};
use exactlog_core::state::{Answers, OffsetExpiry};
use exactlog_sim::disk::SimDisk;
use exactlog_storage::checkpoint::{file_name, state_hash};
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::{Options, RecoveryReport, Shard, Submission};
use std::sync::Arc;

const PARTITION: Partition = Partition { topic: TopicId(1), index: 0 };

fn open(disk: &SimDisk) -> Result<(Shard, RecoveryReport), StorageError> {
    let options =
        Options { journal_file_bytes: 64 * 1024, journal_ring_bytes: 1 << 20, ..Options::default() };
    let mut nonce = 40;
    let mut random = || {
        nonce += 1;
        nonce
    };
    Shard::open(Arc::new(disk.clone()), options, &mut random)
}

fn run(shard: &mut Shard, command: Command) {
    shard.execute(&[Submission { time_ms: 1_000, command }]).unwrap();
}

fn batch(sequence: i32) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.append(900, None, Some(b"value"), &[]);
    builder.finish(Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: sequence }))
}

fn append(sequence: i32) -> Command {
    Command::Append { partition: PARTITION, config_version: 0, expected_end: None, batch: batch(sequence) }
}

/// A log with a topic, a named producer, one record, and one checkpoint of that.
fn with_one_checkpoint() -> (SimDisk, Shard) {
    let disk = SimDisk::new();
    let (mut shard, _) = open(&disk).unwrap();
    run(&mut shard, Command::Open);
    let config =
        TopicConfig { max_message_bytes: 2048, segment_bytes: 8192, segment_ms: 77, ..Default::default() };
    run(&mut shard, Command::CreateTopic { name: "t".into(), partitions: 1, config });
    run(&mut shard, Command::InitProducer { name: Some("p".into()) });
    run(&mut shard, append(0));
    let image = shard.checkpoint_image().unwrap();
    let kept = image.write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();
    (disk, shard)
}

/// Values one behind the other, as bincode's `legacy` configuration lays them out.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(mut self, value: u8) -> Bytes {
        self.0.push(value);
        self
    }

    fn i16(mut self, value: i16) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn i64(self, value: i64) -> Bytes {
        self.u64(value as u64)
    }

    fn text(self, value: &str) -> Bytes {
        let mut next = self.u64(value.len() as u64);
        next.0.extend(value.bytes());
        next
    }
}

fn section(payload: Bytes) -> Vec<u8> {
    let Bytes(payload) = payload;
    let header = Bytes::default().u64(payload.len() as u64).u32(crc32fast::hash(&payload)).u32(0);
    [header.0, payload].concat()
}

fn file(version: u8, sections: &[Vec<u8>], applied_lsn: u64, flushed_lsn: u64) -> Vec<u8> {
    let body = sections.concat();
    let Bytes(mut header) = Bytes(b"EXLOGCKP".to_vec())
        .u8(version)
        .u8(0)
        .i16(0)
        .u32(sections.len() as u32)
        .u64(applied_lsn)
        .u64(flushed_lsn)
        .u64(48 + body.len() as u64);
    let crc = crc32fast::hash(&header);
    header.extend(crc.to_le_bytes());
    header.extend([0; 4]);
    [header, body].concat()
}

/// The state's section. `generation` and `at`: directly behind the frame of lsn 4.
fn state_section(version: u8, generation: u64, at: u64, expiry_ms: i64) -> Bytes {
    let start = Bytes::default().u32(0).u8(1).u64(generation).u64(at);
    let head = start.u64(4).i64(1_000).u32(1).u64(1);
    let names = topics_and_producers(version, head);
    // No groups, no transactional ids; no deadlines of transactions.
    names.u64(0).u64(0).u64(0).u32(2).i64(2).i64(expiry_ms).u64(0)
}

/// From the settings to the renamed producers.
fn topics_and_producers(version: u8, head: Bytes) -> Bytes {
    let settings = head.u64(86_400_000).u64(30 * 86_400_000).u32(900_000).u64(7 * 86_400_000);
    let config = settings.u64(1).u32(1).text("t").u32(2048).u32(8192).u64(77);
    let config = match version {
        2 => config,
        // Delete, without limits; what compaction would go by; the sender's times, without limits.
        _ => config.u32(0).u8(0).u8(0).u64(86_400_000).u64(0).u8(0).u32(500).u32(0).u8(0).u8(0),
    };
    let names = config.u32(0).u64(0).u64(1).text("t").u32(1);
    let producer = names.u64(1).i64(1).text("p").i16(0).u64(0).u64(0).u64(0).u8(0);
    producer.u64(1).text("p").i64(1).u64(0)
}

/// Offsets are kept for 7 days; the log was opened at 1,000 ms; no members came or went, and nothing will be due.
fn offset_expiry() -> Vec<u8> {
    section(Bytes::default().u32(6).u64(7 * 86_400_000).i64(1_000).u64(0).i64(i64::MAX))
}

/// All sections of [`with_one_checkpoint`], as a version has them.
fn sections(version: u8, term: u32) -> Vec<Vec<u8>> {
    let body_len = batch(0).body().len() as u32;
    let (head_at, head_len) = (4 * 4096 + 48, 12 + 13 + 69);
    let frame_end = head_at + u64::from(head_len + body_len);
    let state = state_section(version, 1, frame_end, 1_000 + 86_400_000);
    let window = Bytes::default().u32(1).u32(1).u32(0).u64(1).u64(0).u64(1).u64(1).u32(1).u64(0);
    let window = window.u64(1).i64(1).i16(0).i64(1_000).u8(0);
    let window = window.u64(1).u32(0).u32(0).u64(0).i64(900).u64(0).u8(0);
    let window = window.u64(0);
    // Nothing open, nothing aborted, no marker.
    let window = window.u64(0).u64(0).u8(0);
    let located = Bytes::default().u32(2).u64(1).u32(1).u32(0).u64(0).u64(0);
    let located = located.u64(1).u64(0).u64(1).u64(4).i64(900).u32(term).u32(0);
    let located = located.u64(1).u64(head_at).u32(head_len - 61).u32(head_len).u32(body_len);
    match version {
        2 => vec![section(state), section(window), section(located)],
        _ => vec![section(state), section(window), offset_expiry(), section(located.u8(0))],
    }
}

#[test]
fn a_checkpoint_has_the_bytes_that_the_format_says() {
    let (disk, shard) = with_one_checkpoint();
    let expected = file(3, &sections(3, shard.term()), 4, 0);
    assert_eq!(disk.read_file(&file_name(4)).unwrap(), expected);
}

/// Behind the commands of [`with_one_checkpoint`]: a timer that waits, one that is stuck, one that was cancelled, and
/// one of a commit.
#[test]
fn timers_have_the_bytes_that_the_format_says() {
    let (disk, mut shard) = with_one_checkpoint();
    let mut builder = BatchBuilder::new(64);
    builder.append(900, None, Some(b"value"), &[]);
    let payload = builder.finish(None);
    let timer = |target, due_ms| NewTimer { target, due_ms, batch: payload.clone() };
    let set = |timer| Command::from(TimerCommand::Set { sender: None, timer });
    let other = Partition { topic: TopicId(2), index: 0 };
    let config = TopicConfig::default();
    run(&mut shard, Command::CreateTopic { name: "u".into(), partitions: 1, config });
    run(&mut shard, set(timer(PARTITION, 7_000)));
    run(&mut shard, set(timer(other, 500)));
    run(&mut shard, set(timer(PARTITION, 8_000)));
    run(&mut shard, Command::DeleteTopic { topic: TopicId(2) });
    run(&mut shard, TimerCommand::Fire { timer: TimerId(2), batch: payload.clone() }.into());
    run(&mut shard, TimerCommand::Cancel { timer: TimerId(3) }.into());
    let token = CommitToken { producer: ProducerId(1), producer_epoch: 0, number: 1 };
    let timers = TimerEffects { set: vec![timer(PARTITION, 9_000)], cancel: Vec::new() };
    let (cursor, batches, offsets, conditions, marks) = (None, vec![], vec![], vec![], vec![]);
    let commit =
        Commit { token, cursor, batches, offsets, conditions, timers, marks, table_writes: Vec::new() };
    run(&mut shard, Command::Commit(Box::new(commit)));
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();

    let (len, crc) = (payload.len_bytes() as u32, payload.crc());
    let before = |nth: u64| nth * u64::from(len);
    let start = Bytes::default().u32(3).u64(1_000_000).u64(31_536_000_000).u64(5).u64(before(4));
    // The one that was cancelled; none is forgotten; the first timer of the commit at lsn 12.
    let start = start.u64(1).u64(3).u8(0).u64(1).u64(12).u64(4);
    let timer = |bytes: Bytes, id, due_ms, topic, offset: u64| {
        let target = bytes.u64(id).i64(due_ms).u32(topic).u32(0);
        target.u64(offset).u32(len).u32(crc).u64(before(offset))
    };
    let first = timer(start.u64(3), 1, 7_000, 1, 0).u8(0);
    let stuck = timer(first, 2, 500, 2, 1).u8(1).u32(0);
    let expected = section(timer(stuck, 4, 9_000, 1, 3).u8(0));
    let found = disk.read_file(&file_name(kept.applied_lsn)).unwrap();
    assert!(found.windows(expected.len()).any(|window| window == expected), "the section isn't there");

    let live = state_hash(&shard.state());
    drop(shard);
    let (shard, report) = open(&disk).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (12, live));
    let waiting: Vec<_> = shard.state().timers.waiting().map(|(timer, _)| timer.0).collect();
    assert_eq!((waiting, shard.state().timers.stuck_count()), (vec![1, 4], 1));
    assert_eq!(shard.reader().read(Partition::TIMERS, 3, 1).unwrap(), [payload.placed(3, shard.term() - 1)]);
}

#[test]
fn the_durability_of_topics_has_the_bytes_that_the_format_says_and_is_read_back() {
    let (disk, mut shard) = with_one_checkpoint();
    let config = TopicConfig { durability: TopicDurability::Os, ..Default::default() };
    run(&mut shard, Command::CreateTopic { name: "weak".into(), partitions: 1, config });
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();
    let id = shard.state().topic_names["weak"];
    let found = disk.read_file(&file_name(kept.applied_lsn)).unwrap();
    let expected = section(Bytes::default().u32(7).u64(1).u32(id.0));
    assert!(found.windows(expected.len()).any(|window| window == expected), "the section isn't there");

    let live = state_hash(&shard.state());
    drop(shard);
    let (shard, report) = open(&disk).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (kept.applied_lsn, live));
    let durability = |id| shard.state().topics[&id].config.durability;
    assert_eq!((durability(id), durability(TopicId(1))), (TopicDurability::Os, TopicDurability::Log));
}

#[test]
fn the_codecs_of_topics_have_the_bytes_that_the_format_says_and_are_read_back() {
    let (disk, mut shard) = with_one_checkpoint();
    let own = |codec| TopicConfig { compression: TopicCompression::Codec(codec), ..Default::default() };
    for (name, codec) in [("packed", Compression::Zstd), ("plain", Compression::None)] {
        run(&mut shard, Command::CreateTopic { name: name.into(), partitions: 1, config: own(codec) });
    }
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();
    let id = |name: &str| shard.state().topic_names[name];
    let (packed, plain) = (id("packed"), id("plain"));
    let name = file_name(kept.applied_lsn);
    let found = disk.read_file(&name).unwrap();
    let topics = |topics: &[(u32, u8)]| {
        let head = Bytes::default().u32(8).u64(topics.len() as u64);
        section(topics.iter().fold(head, |bytes, (id, codec)| bytes.u32(*id).u8(*codec)))
    };
    let expected = topics(&[(packed.0, 4), (plain.0, 0)]);
    let at = found.windows(expected.len()).position(|window| window == expected);
    let at = at.expect("the section isn't there");

    let live = state_hash(&shard.state());
    drop(shard);
    let compression = |shard: &Shard, id| shard.state().topics[&id].config.compression;
    {
        let (shard, report) = open(&disk.process_kill()).unwrap();
        assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (kept.applied_lsn, live));
        assert_eq!(compression(&shard, packed), TopicCompression::Codec(Compression::Zstd));
        assert_eq!(compression(&shard, plain), TopicCompression::Codec(Compression::None));
        assert_eq!(compression(&shard, TopicId(1)), TopicCompression::Producer);
    }
    // A codec that there isn't, or of a topic that there isn't: that checkpoint doesn't count, and the report says why.
    for (wrong, why) in [
        ([(packed.0, 5), (plain.0, 0)], format!("codec 5 of topic {packed}")),
        ([(packed.0, 4), (99, 0)], "the codec of no topic 99".to_string()),
    ] {
        let disk = disk.process_kill();
        let mut bytes = found.to_vec();
        bytes[at..at + expected.len()].copy_from_slice(&topics(&wrong));
        disk.remove(&name).unwrap();
        disk.put(&name, &bytes).unwrap();
        let (_, report) = open(&disk).unwrap();
        assert!(report.checkpoint_lsn < kept.applied_lsn, "{why}");
        let ignored = report.ignored.join(", ");
        assert!(ignored.contains(&why), "{ignored}");
    }
}

#[test]
fn a_checkpoint_of_version_2_is_read_and_goes_on() {
    let (disk, shard) = with_one_checkpoint();
    let (mut live, term) = (shard.state().clone(), shard.term());
    // When it was opened isn't in it: that counts from the next open.
    live.offset_expiry = OffsetExpiry::default();
    drop(shard);
    disk.remove(&file_name(4)).unwrap();
    disk.put(&file_name(4), &file(2, &sections(2, term), 4, 0)).unwrap();
    let (mut shard, report) = open(&disk).unwrap();
    assert_eq!((report.checkpoint_lsn, report.ignored), (4, Vec::<String>::new()));
    assert_eq!(state_hash(&shard.state()), state_hash(&live));
    assert_eq!(shard.reader().read(PARTITION, 0, 4096).unwrap(), [batch(0).placed(0, term)]);
    run(&mut shard, append(1));
    shard.checkpoint().unwrap();
    assert_eq!(disk.read_file(&file_name(5)).unwrap()[8], 3, "what is written is of version 3");
}

#[test]
fn ids_of_events_have_the_bytes_that_the_format_says_and_are_read_back() {
    let (disk, mut shard) = with_one_checkpoint();
    let (id, scope) = (DedupId([7; 16]), || "s".to_string());
    run(&mut shard, Command::Config(ConfigChange::DedupKey { key: [5; 16] }));
    let (ttl_ms, entries_max, at_cap) = (1_000, 9, AtCap::Shorten);
    run(&mut shard, Command::Config(ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap }));
    run(&mut shard, Dedup::Reserve { scope: scope(), id, lease_ms: 60 }.into());
    run(&mut shard, Dedup::Finish { scope: scope(), id, reservation: 7 }.into());
    run(&mut shard, Dedup::Reserve { scope: scope(), id: DedupId([8; 16]), lease_ms: 60 }.into());
    let batch = {
        let mut builder = BatchBuilder::new(64);
        builder.append(900, None, Some(b"value"), &[]);
        builder.finish(None)
    };
    let (sender, ids) = ((ProducerId(1), 0), vec![id]);
    run(&mut shard, Dedup::Append { sender, partition: PARTITION, config_version: 0, ids, batch }.into());
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();

    let bytes = |bytes: Bytes, value: u8| (0..16).fold(bytes, |bytes, _| bytes.u8(value));
    let named = |before: Bytes, value: u8| bytes(before.u32(1).u32(0), value);
    let head = bytes(Bytes::default().u32(4).u32(0).u8(1), 5);
    let head = head.u64(1_000).u64(9).u32(1).i64(i64::MIN);
    let head = head.u64(1).u32(0).text("s").u64(2); // one scope with two ids
    let head = named(head.u64(1), 8).u64(9).i64(1_060); // one reservation
    // Both marks end in the bucket of 5 ms behind 2,000.
    let marks = Bytes::default().u32(4).u32(1).i64(2_000).i64(1_000).u64(2);
    let marks = named(marks, 7).u64(7).u32(0);
    let marks = bytes(marks.u32(0).u32(1), 7).u64(1).u32(0);
    let written = disk.read_file(&file_name(10)).unwrap();
    let expected = [section(head), section(marks)].concat();
    assert!(written.windows(expected.len()).any(|window| window == expected), "{written:?}");

    let hash = state_hash(&shard.state());
    shard.close().unwrap();
    let (shard, report) = open(&disk).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (10, hash));
    let seen = shard.state().seen(&DedupScope::Topic(PARTITION.topic), id, &Answers::none());
    assert_eq!(seen, Seen::Done(Sighting::Record { partition: PARTITION, offset: 1 }));
}

/// Behind the commands of [`with_one_checkpoint`]: two runs of an id each, of one of which one more was forgotten.
#[test]
fn what_is_forgotten_of_ids_has_the_bytes_that_the_format_says_and_is_of_version_4() {
    let (disk, mut shard) = with_one_checkpoint();
    let (id, other) = (DedupId([7; 16]), DedupId([8; 16]));
    let batch = {
        let mut builder = BatchBuilder::new(64);
        for _ in 0..2 {
            builder.append(900, None, Some(b"value"), &[]);
        }
        builder.finish(None)
    };
    let (sender, ids) = ((ProducerId(1), 0), vec![id, other]);
    run(&mut shard, Dedup::Append { sender, partition: PARTITION, config_version: 0, ids, batch }.into());
    let before = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(before).unwrap();
    assert_eq!(disk.read_file(&file_name(before.applied_lsn)).unwrap()[8], 3, "nothing is forgotten");
    let ready = shard.state().due_run(0).unwrap();
    let digest = ready.digest;
    run(&mut shard, Dedup::RunReady(ready).into());
    let scope = || DedupScope::Topic(PARTITION.topic);
    run(&mut shard, Dedup::Forget { scope: scope(), id }.into());
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();

    // One bucket with one run: its number, marks and digest, when the last was set, no names.
    let end_ms = (1_000 + 7 * 86_400_000_u64).div_ceil(3_600_000) * 3_600_000;
    let runs = Bytes::default().u32(4).u32(2).u64(2).u64(1).u64(end_ms).u64(1);
    let runs = runs.u64(1).u64(2).u64(digest).i64(1_000).u64(0);
    // One mark of run 1: the topic, the id, where it was seen.
    let forgotten = Bytes::default().u32(4).u32(3).u64(1).u64(1).u32(0).u32(1);
    let forgotten = (0..16).fold(forgotten, |bytes, _| bytes.u8(7)).u64(1).u32(0);
    let name = file_name(kept.applied_lsn);
    let written = disk.read_file(&name).unwrap();
    let expected = [section(runs), section(forgotten)].concat();
    assert!(written.windows(expected.len()).any(|window| window == expected), "{written:?}");
    assert_eq!(written[8], 4);

    let hash = state_hash(&shard.state());
    shard.close().unwrap();
    let (shard, report) = open(&disk.process_kill()).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (kept.applied_lsn, hash));
    drop(shard);
    // In a file of version 3 it is damage, whatever its checksums say.
    let mut older = written.to_vec();
    older[8] = 3;
    let crc = crc32fast::hash(&older[..40]);
    older[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.remove(&name).unwrap();
    disk.put(&name, &older).unwrap();
    let (_, report) = open(&disk).unwrap();
    assert!(report.ignored.join(", ").contains("ids that were forgotten, in version 3"), "{report:?}");
}

#[test]
fn tables_have_the_bytes_that_the_format_says_and_are_read_back() {
    let (disk, mut shard) = with_one_checkpoint();
    run(&mut shard, Command::Config(ConfigChange::TableLimits { keys_max: 9, key_bytes_max: 8 }));
    let table = TopicId(2);
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    run(&mut shard, Command::CreateTable { name: "keys".into(), partitions: 1, config });
    let mut builder = BatchBuilder::new(64);
    let keys = [&b"b"[..], b"a", b"b"];
    for key in keys {
        builder.append(900, Some(key), Some(b"value"), &[]);
    }
    let write = |key: &&'static [u8]| TableWrite { key: bytes::Bytes::from_static(key), deletes: false };
    let partition = Partition { topic: table, index: 0 };
    let writes =
        TableWrites { partition, writes: keys.iter().map(write).collect(), batch: builder.finish(None) };
    let token = CommitToken { producer: ProducerId(1), producer_epoch: 0, number: 1 };
    let timers = TimerEffects::default();
    let (cursor, batches, offsets, conditions, marks) = (None, vec![], vec![], vec![], vec![]);
    let table_writes = vec![writes];
    let commit = Commit { token, cursor, batches, offsets, conditions, timers, marks, table_writes };
    run(&mut shard, Command::Commit(Box::new(commit)));
    let lsn = shard.state().lsn;
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();

    let head = Bytes::default().u32(5).u32(0).u64(9).u64(8).u64(1).u32(2); // limits, and one table
    let keys = Bytes::default().u32(5).u32(1).u32(2).u64(2); // two keys of it
    let keys = keys.u64(1).u8(b'a').u64(1).u64(lsn);
    let keys = keys.u64(1).u8(b'b').u64(2).u64(lsn); // the second write counts
    let written = disk.read_file(&file_name(lsn)).unwrap();
    let expected = [section(head), section(keys)].concat();
    assert!(written.windows(expected.len()).any(|window| window == expected), "{written:?}");

    let hash = state_hash(&shard.state());
    shard.close().unwrap();
    let (shard, report) = open(&disk).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (lsn, hash));
    let (at, place) = shard.state().table_place(table, b"b").unwrap();
    assert_eq!((at, place.offset, place.version), (partition, 2, lsn));
}

/// With metadata beside one of two committed offsets, and beside one that a transaction is about to commit.
fn with_metadata() -> (SimDisk, Shard) {
    let (disk, mut shard) = with_transactions();
    let position = |offset, text: &str| {
        vec![OffsetCommit { partition: PARTITION, offset, reset: true, metadata: text.into() }]
    };
    let commit = |group: &str, offsets| Command::CommitOffsets { group: group.into(), member: None, offsets };
    run(&mut shard, commit("a", position(1, "")));
    run(&mut shard, commit("g", position(1, "at 5")));
    let sender = TransactionSender { protocol: Protocol::V2, ..sender() };
    let (group, offsets) = ("g".into(), position(2, "ü"));
    run(&mut shard, Transactional::CommitOffsets { sender, group, member: None, offsets }.into());
    (disk, shard)
}

/// The section of [`with_metadata`]: which offset, of which transaction, and the text.
fn metadata_section(group: &str, texts: &[(u32, Option<u64>, &str)]) -> Vec<u8> {
    let head = Bytes::default().u32(9).text(group).u64(texts.len() as u64);
    section(texts.iter().fold(head, |bytes, (index, txn_seq, text)| {
        let bytes = bytes.u32(1).u32(*index);
        let bytes = match txn_seq {
            None => bytes.u8(0),
            Some(txn_seq) => bytes.u8(1).u64(*txn_seq),
        };
        bytes.text(text)
    }))
}

#[test]
fn metadata_of_offsets_has_the_bytes_that_the_format_says_and_is_read_back() {
    let (disk, mut shard) = with_metadata();
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();
    let name = file_name(kept.applied_lsn);
    let written = disk.read_file(&name).unwrap();
    assert_eq!(written[8], 5);
    let expected = metadata_section("g", &[(0, None, "at 5"), (0, Some(8), "ü")]);
    let at = written.windows(expected.len()).position(|window| window == expected);
    let at = at.expect("the section isn't there");

    let live = state_hash(&shard.state());
    drop(shard);
    {
        let (mut shard, report) = open(&disk.process_kill()).unwrap();
        assert_eq!((report.checkpoint_lsn, report.ignored), (kept.applied_lsn, Vec::<String>::new()));
        assert_eq!(state_hash(&shard.state()), live);
        let text = |shard: &Shard, group| {
            shard.state().committed_offset(group, PARTITION).unwrap().metadata.as_str().to_string()
        };
        assert_eq!((text(&shard, "a"), text(&shard, "g")), (String::new(), "at 5".into()));
        let sender = TransactionSender { protocol: Protocol::V2, ..sender() };
        run(&mut shard, Transactional::End { sender, commit: true }.into());
        assert_eq!(text(&shard, "g"), "ü");
        // With the last text the version goes back.
        let offsets = shard.state().groups["a"].offsets.clone();
        let plain = OffsetCommit {
            partition: PARTITION,
            offset: offsets[&PARTITION].offset,
            reset: true,
            metadata: OffsetMetadata::default(),
        };
        run(&mut shard, Command::CommitOffsets { group: "g".into(), member: None, offsets: vec![plain] });
        let image = shard.checkpoint_image().unwrap();
        let other = SimDisk::new();
        let kept = image.write(&other).unwrap();
        assert_eq!(other.read_file(&file_name(kept.applied_lsn)).unwrap()[8], 3);
    }
    // What can't be stands in the report with the reason, and the older checkpoint serves.
    let long = "m".repeat(4_097);
    for (group, texts, why) in [
        ("x", vec![(0, None, "at 5")], "metadata of no group \"x\""),
        ("g", vec![(1, None, "at 5")], "at 1-1, beside no offset"),
        ("g", vec![(0, Some(7), "at 5")], "at 1-0, beside no offset"),
        ("g", vec![(0, None, "at 5"), (0, None, "at 6")], "at 1-0, beside no offset"),
        ("g", vec![(0, None, "")], "at 1-0, of 0 bytes"),
        ("g", vec![(0, None, &*long)], "at 1-0, of 4097 bytes"),
    ] {
        let disk = disk.process_kill();
        let wrong = metadata_section(group, &texts);
        put_anew(&disk, &name, [&written[..at], &wrong, &written[at + expected.len()..]].concat(), 5);
        let (shard, report) = open(&disk).unwrap();
        assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (4, live), "{why}");
        assert!(report.ignored.join(", ").contains(why), "{why}: {:?}", report.ignored);
    }
    // In an older version there is no place for it.
    for version in [3, 4] {
        put_anew(&disk, &name, written.to_vec(), version);
        let (_, report) = open(&disk.process_kill()).unwrap();
        let why = format!("metadata of offsets, in version {version}");
        assert!(report.ignored.join(", ").contains(&why), "{:?}", report.ignored);
    }
}

/// Section 10: of all topics, then of those that say something else; a value each, or none.
fn kept_section(of_all: &str, topics: &[(u32, &str)]) -> Vec<u8> {
    let kept = |bytes: Bytes, value: &str| match value {
        "" => bytes.u64(0),
        value => bytes.u64(1).text("min.insync.replicas").text(value),
    };
    let head = kept(Bytes::default().u32(10), of_all).u64(topics.len() as u64);
    section(topics.iter().fold(head, |bytes, (topic, value)| kept(bytes.u32(*topic), value)))
}

#[test]
fn settings_that_change_nothing_have_the_bytes_that_the_format_says_and_are_read_back() {
    let (disk, mut shard) = with_one_checkpoint();
    let kept = |value: &str| -> KeptSettings {
        [("min.insync.replicas".to_string(), value.to_string())].into_iter().collect()
    };
    let set = |shard: &mut Shard, of_all| run(shard, Command::Config(ConfigChange::KeptSettings(of_all)));
    let alter = |shard: &mut Shard, kept| {
        let config = TopicConfig { kept, ..shard.state().topics[&TopicId(1)].config.clone() };
        run(shard, Command::AlterTopic { topic: TopicId(1), config })
    };
    set(&mut shard, kept("2"));
    alter(&mut shard, kept("4"));
    let written = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(written).unwrap();
    let name = file_name(written.applied_lsn);
    let content = disk.read_file(&name).unwrap();
    assert_eq!(content[8], 6);
    let expected = kept_section("2", &[(1, "4")]);
    let at = content.windows(expected.len()).position(|window| window == expected);
    let at = at.expect("the section isn't there");

    let live = state_hash(&shard.state());
    drop(shard);
    let (mut shard, report) = open(&disk.process_kill()).unwrap();
    assert_eq!((report.checkpoint_lsn, state_hash(&shard.state())), (written.applied_lsn, live));
    assert_eq!(shard.state().kept, kept("2"));
    assert_eq!(shard.state().topics[&TopicId(1)].config.kept, kept("4"));
    // As long as one of both says something, then the version goes back.
    let version = |shard: &mut Shard| {
        let other = SimDisk::new();
        let written = shard.checkpoint_image().unwrap().write(&other).unwrap();
        other.read_file(&file_name(written.applied_lsn)).unwrap()[8]
    };
    set(&mut shard, KeptSettings::default());
    assert_eq!(version(&mut shard), 6);
    alter(&mut shard, KeptSettings::default());
    assert_eq!(version(&mut shard), 3);
    drop(shard);

    for (of_all, topics, why) in [
        ("2", &[(7, "4")][..], "settings of no topic 7"),
        ("2", &[(1, "4"), (1, "4")], "settings of topic 1 twice"),
        ("2", &[(1, "")], "settings of topic 1 twice, or its defaults"),
        ("", &[], "settings that are the defaults"),
    ] {
        let disk = disk.process_kill();
        let wrong = kept_section(of_all, topics);
        put_anew(&disk, &name, [&content[..at], &wrong, &content[at + expected.len()..]].concat(), 6);
        let (shard, report) = open(&disk).unwrap();
        assert_eq!(state_hash(&shard.state()), live, "{why}");
        assert!(report.ignored.join(", ").contains(why), "{why}: {:?}", report.ignored);
    }
    for version in 3..=5 {
        put_anew(&disk, &name, content.to_vec(), version);
        let (_, report) = open(&disk.process_kill()).unwrap();
        let why = format!("settings that change nothing, in version {version}");
        assert!(report.ignored.join(", ").contains(&why), "{:?}", report.ignored);
    }
}

/// Another content of a checkpoint, with a header that holds.
fn put_anew(disk: &SimDisk, name: &str, mut content: Vec<u8>, version: u8) {
    content[8] = version;
    let len = content.len() as u64;
    content[32..40].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&content[..40]);
    content[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.remove(name).unwrap();
    disk.put(name, &content).unwrap();
}

/// A group of more than a thousand texts has several sections, around the limits of the decoder.
#[test]
fn metadata_of_many_offsets_is_read_back() {
    for (partitions, text) in
        [(1_024, "x"), (1_025, "x"), (3_000, "a longer one"), (1_030, &*"m".repeat(4_096))]
    {
        let disk = SimDisk::new();
        let (mut shard, _) = open(&disk).unwrap();
        let config = TopicConfig::default();
        run(&mut shard, Command::CreateTopic { name: "t".into(), partitions, config });
        for from in (0..partitions).step_by(10) {
            let position = |index| OffsetCommit {
                partition: Partition { topic: TopicId(1), index },
                offset: 0,
                reset: true,
                metadata: text.into(),
            };
            let offsets = (from..partitions.min(from + 10)).map(position).collect();
            run(&mut shard, Command::CommitOffsets { group: "g".into(), member: None, offsets });
        }
        let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
        shard.keep_checkpoint(kept).unwrap();
        let sections = disk.read_file(&file_name(kept.applied_lsn)).unwrap()[12];
        // State, partitions, when offsets expire, and those of metadata.
        assert_eq!(u32::from(sections), 3 + partitions.div_ceil(1_024));
        let live = shard.state().clone();
        drop(shard);
        let (shard, report) = open(&disk).unwrap();
        assert_eq!((report.checkpoint_lsn, report.ignored), (kept.applied_lsn, Vec::<String>::new()));
        assert_eq!(*shard.state(), live);
    }
}

/// Keys of a table that the checkpoint doesn't have, behind a checksum that holds.
#[test]
fn keys_of_no_table_are_damage_with_file_and_place() {
    let (disk, shard) = with_one_checkpoint();
    let mut all = sections(3, shard.term()).to_vec();
    let keys = Bytes::default().u32(5).u32(1).u32(7).u64(0);
    let at = 48 + all[..all.len() - 1].iter().map(Vec::len).sum::<usize>();
    all.insert(all.len() - 1, section(keys));
    drop(shard);
    let name = file_name(4);
    disk.put(&name, &file(3, &all, 4, 0)).unwrap();
    let error = exactlog_storage::checkpoint::find(&disk).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StorageError::Damaged { .. }), "{text}");
    assert!(text.contains(&name) && text.contains("keys of no table 7"), "{text}");
    assert!(text.contains(&at.to_string()), "{text} at {at}");
}

const TIMEOUT_MS: u32 = 60_000;

fn transactional(sequence: i32) -> Command {
    let mut builder = BatchBuilder::new(64);
    builder.append(900, None, Some(b"value"), &[]);
    let stamp = ProducerStamp { id: ProducerId(2), epoch: 0, base_sequence: sequence };
    let batch = builder.finish(Some(stamp)).in_transaction();
    Transactional::Append {
        transactional_id: "x".into(),
        protocol: Protocol::V2,
        newer_codes: true,
        partition: PARTITION,
        config_version: 0,
        batch,
    }
    .into()
}

fn sender() -> TransactionSender {
    TransactionSender {
        transactional_id: "x".into(),
        producer: ProducerId(2),
        producer_epoch: 0,
        protocol: Protocol::V1,
        newer_codes: true,
        connection: 0,
    }
}

/// Behind the commands of [`with_one_checkpoint`]: an aborted transaction, and one that is open with an offset.
fn with_transactions() -> (SimDisk, Shard) {
    let (disk, mut shard) = with_one_checkpoint();
    let transactional_id = "x".to_owned();
    let (current, newer_codes) = (None, true);
    let init = Transactional::Init { transactional_id, timeout_ms: TIMEOUT_MS, current, newer_codes };
    run(&mut shard, init.into());
    run(&mut shard, transactional(0));
    run(&mut shard, Transactional::End { sender: sender(), commit: false }.into());
    run(&mut shard, transactional(1));
    let offsets = vec![OffsetCommit {
        partition: PARTITION,
        offset: 1,
        reset: false,
        metadata: OffsetMetadata::default(),
    }];
    let sender = TransactionSender { protocol: Protocol::V2, ..sender() };
    run(&mut shard, Transactional::CommitOffsets { sender, group: "g".into(), member: None, offsets }.into());
    (disk, shard)
}

#[test]
fn transactions_and_markers_that_are_not_flushed_have_the_bytes_that_the_format_says() {
    let (disk, mut shard) = with_transactions();
    shard.checkpoint_image().unwrap().write(&disk).unwrap();
    let term = shard.term();
    // Behind the seal of the first checkpoint every frame lies a block further.
    let head_at = |lsn: u64| (lsn + u64::from(lsn > 4)) * 4096 + 48;
    let frame_end = head_at(9) + 82;
    let head = Bytes::default().u32(0).u8(1).u64(1).u64(frame_end).u64(9).i64(1_000).u32(1).u64(1);
    let state = topics_and_producers(3, head);
    let state = state.u64(1).text("g").u64(0).u64(0).u64(0).u64(0); // a group without anything but
    let state = state.u64(1).u32(1).u32(0).u64(1).u64(8).u64(1).u32(term).u64(9).i64(1_000); // a pending offset
    let state = state.u64(1).text("x").i64(2).i16(0).u8(0).u32(TIMEOUT_MS).i64(1_000);
    let state = state.u32(1).u64(8).i64(1_000).u64(0).u64(1).u32(1).u32(0).u64(1).text("g"); // ongoing
    let state = state.u64(1).i64(2).text("x");
    let state = state.u32(2).i64(3).i64(1_000 + 86_400_000);
    let state = state.u64(1).i64(1_000 + i64::from(TIMEOUT_MS)).i64(2);

    let window = Bytes::default().u32(1).u32(1).u32(0).u64(1).u64(0).u64(4).u64(1).u32(term).u64(0);
    let window = window.u64(2).i64(1).i16(0).i64(1_000).u8(0);
    let window = window.u64(1).u32(0).u32(0).u64(0).i64(900).u64(0).u8(0);
    let window = window.i64(2).i16(0).i64(1_000).u8(1).u32(term).u64(2);
    let window = window.u32(0).u32(0).u64(1).i64(900).u64(6).u8(1); // aborted
    let window = window.u32(1).u32(1).u64(3).i64(900).u64(8).u8(0);
    let window = window.u64(0);
    let window = window.u64(1).i64(2).u64(8).u64(3); // open
    let window = window.u64(1).u64(6).i64(2).u64(1).u64(2).u64(3); // aborted
    let window = window.u8(1).u64(2); // the last marker

    let body_len = batch(0).body().len() as u32;
    let journal = |bytes: Bytes, offset: u64, lsn: u64, head_len: u32| {
        let placed = bytes.u64(offset).u64(offset + 1).u64(lsn).i64(900).u32(term);
        let source = placed.u32(0).u64(1).u64(head_at(lsn));
        source.u32(head_len - 61).u32(head_len).u32(body_len).u8(0)
    };
    let bytes = Bytes::default().u32(2).u64(1).u32(1).u32(0).u64(0).u64(0).u64(4);
    let bytes = journal(journal(bytes, 0, 4, 94), 1, 6, 92);
    let marker = bytes.u64(2).u64(3).u64(7).i64(1_000).u32(term);
    let marker = marker.u32(1).i64(2).i16(0).u32(term).u8(0).i64(1_000).u8(0);
    let bytes = journal(marker, 3, 8, 92);
    let expected = file(3, &[section(state), section(window), offset_expiry(), section(bytes)], 9, 0);
    assert_eq!(disk.read_file(&file_name(9)).unwrap(), expected);
}

#[test]
fn tx_11_a_marker_comes_out_of_memory_a_checkpoint_a_segment_and_a_replay_with_the_same_bytes() {
    let (disk, mut shard) = with_transactions();
    let all = |shard: &Shard| shard.reader().read(PARTITION, 0, 1 << 20).unwrap();
    let live = all(&shard);
    assert_eq!(live.iter().map(Batch::is_control).collect::<Vec<_>>(), [false, false, true, false]);
    let hash = state_hash(&shard.state());
    let replayed = |disk: &SimDisk| {
        let (shard, _) = open(disk).unwrap();
        assert_eq!(state_hash(&shard.state()), hash);
        all(&shard)
    };
    assert_eq!(replayed(&disk.process_kill()), live, "from the journal");
    // A checkpoint whose F lies before the marker, with nothing to replay.
    let kept = shard.checkpoint_image().unwrap().write(&disk).unwrap();
    shard.keep_checkpoint(kept).unwrap();
    assert_eq!(replayed(&disk.process_kill()), live, "from the checkpoint");
    shard.flusher().flush().unwrap();
    assert_eq!(shard.unflushed_batches(), 0);
    // The marker's time is that of the log, far behind the records': it begins a segment.
    let segment = |base: u64| disk.read_file(&format!("topics/1-0/{base:020}.log")).unwrap();
    let bytes: Vec<u8> = live.iter().flat_map(|it| [&it.header()[..], it.body()].concat()).collect();
    assert_eq!([segment(0), segment(2)].concat(), bytes);
    // The tail cache is empty in a new open: now it is the segment that is read.
    shard.checkpoint().unwrap();
    drop(shard);
    let (shard, _) = open(&disk).unwrap();
    assert_eq!(all(&shard), live, "from the segments");
}

#[test]
fn tx_16_readers_of_committed_records_stop_at_the_open_transaction_and_are_told_what_is_aborted() {
    let (_, shard) = with_transactions();
    let state = shard.state().partition(PARTITION).unwrap().clone();
    let reader = shard.reader();
    let read = |offset| reader.read_committed(PARTITION, &state, offset, 1 << 20).unwrap();
    let all = read(0);
    assert_eq!(all.last_stable_offset, 3);
    assert_eq!(all.batches.iter().map(Batch::base_offset).collect::<Vec<_>>(), [0, 1, 2]);
    let aborted: Vec<_> =
        all.aborted.iter().map(|it| (it.producer, it.first_offset, it.last_offset)).collect();
    assert_eq!(aborted, [(ProducerId(2), 1, 2)]);
    assert_eq!((read(3).batches.len(), read(3).aborted.len()), (0, 0));
    assert_eq!((read(9).batches.len(), read(9).aborted.len()), (0, 0));
    let undecided = state.undecided_between(0, 3);
    assert_eq!(reader.count_shown(PARTITION, 0, 3, &undecided).unwrap(), 1);
}

#[test]
fn a_checkpoint_with_any_byte_changed_is_set_aside_and_the_journal_replays_from_the_older_one() {
    let (disk, mut shard) = with_one_checkpoint();
    run(&mut shard, append(1));
    shard.checkpoint().unwrap();
    run(&mut shard, append(2));
    let live = state_hash(&shard.state());
    drop(shard);
    let (newest, older) = (file_name(5), file_name(4));
    let len = disk.read_file(&newest).unwrap().len() as u64;
    for at in 0..len {
        let disk = disk.process_kill();
        disk.flip_bit(&newest, at, 1 << (at % 8)).unwrap();
        let (shard, report) = open(&disk).unwrap();
        assert_eq!(state_hash(&shard.state()), live, "byte {at}");
        assert_eq!(report.checkpoint_lsn, 4, "byte {at}");
        assert!(report.ignored.iter().any(|file| file.contains(&newest)), "byte {at}: {:?}", report.ignored);
    }
    for name in [&newest, &older] {
        disk.cut(name, len / 3).unwrap();
    }
    let before = disk.fingerprint();
    let refusal = open(&disk).unwrap_err();
    assert!(matches!(&refusal, StorageError::Damaged { file, .. } if *file == older), "{refusal}");
    assert_eq!(disk.fingerprint(), before);
}

#[test]
fn a_checkpoint_of_version_1_is_refused_by_name() {
    let (disk, shard) = with_one_checkpoint();
    let term = shard.term();
    drop(shard);
    disk.remove(&file_name(4)).unwrap();
    disk.put(&file_name(4), &file(1, &sections(2, term), 4, 0)).unwrap();
    let refusal = open(&disk).unwrap_err();
    assert!(matches!(refusal, StorageError::Version { found: 1, supported: 6, .. }), "{refusal}");
}

#[test]
fn a_checkpoint_of_an_unknown_version_is_refused_by_name_even_if_there_is_an_older_one() {
    let (disk, shard) = with_one_checkpoint();
    drop(shard);
    let mut bytes = disk.read_file(&file_name(4)).unwrap();
    bytes[8] = 7;
    bytes[16] = 9;
    let crc = crc32fast::hash(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.put(&file_name(9), &bytes).unwrap();
    let refusal = open(&disk).unwrap_err();
    assert!(matches!(refusal, StorageError::Version { found: 7, supported: 6, .. }), "{refusal}");
}

#[test]
fn a_payload_whose_checksum_holds_but_that_makes_no_sense_is_damage_and_allocates_nothing() {
    let state = || section(state_section(3, 1, 20_000, 9));
    let partitions = |topic, from| {
        let start = Bytes::default().u32(1).u32(topic).u32(from).u64(1);
        section(start.u64(0).u64(0).u64(0).u64(0).u64(0).u64(0).u64(0).u8(0))
    };
    let behind = {
        let payload = state_section(3, 1, 20_000, 9).u8(0);
        section(payload)
    };
    let huge = section(Bytes::default().u32(2).u64(u64::MAX));
    let huge_text = section(
        Bytes::default()
            .u32(0)
            .u8(0)
            .u64(4)
            .i64(0)
            .u32(1)
            .u64(1)
            .u64(1)
            .u64(1)
            .u32(1)
            .u64(1)
            .u64(1)
            .u32(1)
            .u64(1 << 60),
    );
    let kind = section(Bytes::default().u32(3));
    let flag = section(Bytes::default().u32(0).u8(2));
    let bad: [(&str, Vec<Vec<u8>>, u64, u64); 9] = [
        ("bytes behind the payload", vec![behind], 4, 0),
        ("a list longer than anything", vec![huge], 4, 0),
        ("a text longer than anything", vec![huge_text], 4, 0),
        ("an unknown section", vec![kind], 4, 0),
        ("a flag that is none", vec![flag], 4, 0),
        ("partitions of no topic", vec![state(), partitions(9, 0)], 4, 0),
        ("partitions with a gap", vec![state(), partitions(1, 1)], 4, 0),
        ("another lsn than the state's", vec![state()], 5, 0),
        ("flushed beyond applied", vec![state()], 4, 5),
    ];
    for (what, sections, applied_lsn, flushed_lsn) in bad {
        let disk = with_one_checkpoint().0.process_kill();
        disk.remove(&file_name(4)).unwrap();
        disk.put(&file_name(applied_lsn), &file(3, &sections, applied_lsn, flushed_lsn)).unwrap();
        let refusal = open(&disk).map(|(_, report)| report).unwrap_err();
        assert!(matches!(refusal, StorageError::Damaged { .. }), "{what}: {refusal}");
    }
}
