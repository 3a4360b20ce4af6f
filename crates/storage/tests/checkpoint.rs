//! The bytes of a checkpoint, put together by hand from docs/FORMAT.md, and what open makes of bytes that are wrong.
//!
//! If the first test fails, checkpoints of earlier builds can no longer be read: that needs a new format version.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
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
    let config = TopicConfig { max_message_bytes: 2048, segment_bytes: 8192, segment_ms: 77 };
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

fn file(sections: &[Vec<u8>], applied_lsn: u64, flushed_lsn: u64) -> Vec<u8> {
    let body = sections.concat();
    let Bytes(mut header) = Bytes(b"EXLOGCKP".to_vec())
        .u8(1)
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
fn state_section(generation: u64, at: u64, expiry_ms: i64) -> Bytes {
    let start = Bytes::default().u32(0).u8(1).u64(generation).u64(at);
    let settings = start.u64(4).i64(1_000).u32(1).u64(1).u64(86_400_000).u64(30 * 86_400_000);
    let topics = settings.u64(1).u32(1).text("t").u32(2048).u32(8192).u64(77).u32(0).u64(0);
    let names = topics.u64(1).text("t").u32(1);
    let producer = names.u64(1).i64(1).text("p").i16(0).u64(0).u64(0).u64(0).u8(0);
    let producers = producer.u64(1).text("p").i64(1).u64(0);
    producers.u64(0).u32(2).i64(2).i64(expiry_ms)
}

#[test]
fn a_checkpoint_has_the_bytes_that_the_format_says() {
    let (disk, shard) = with_one_checkpoint();
    let frame_end = 3 * 4096 + 4096 + 48 + 12 + 13 + 69 + batch(0).body().len() as u64;
    let state = state_section(1, frame_end, 1_000 + 86_400_000);
    let window = Bytes::default().u32(1).u32(1).u32(0).u64(1).u64(0).u64(1).u64(1).u32(1).u64(0);
    let window = window.u64(1).i64(1).i16(0).i64(1_000).u64(1).u32(0).u32(0).u64(0).i64(900).u64(0);
    let located = Bytes::default().u32(2).u64(1).u32(1).u32(0).u64(0).u64(0);
    let head_at = 4 * 4096 + 48;
    let head_len = 12 + 13 + 69;
    let located = located.u64(1).u64(0).u64(1).u64(4).i64(900).u64(1).u64(head_at);
    let body_len = batch(0).body().len() as u32;
    let located = located.u32(head_len - 61).u32(head_len).u32(body_len).u32(shard.term());
    let expected = file(&[section(state), section(window), section(located)], 4, 0);
    assert_eq!(disk.read_file(&file_name(4)).unwrap(), expected);
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
fn a_checkpoint_of_an_unknown_version_is_refused_by_name_even_if_there_is_an_older_one() {
    let (disk, shard) = with_one_checkpoint();
    drop(shard);
    let mut bytes = disk.read_file(&file_name(4)).unwrap();
    bytes[8] = 2;
    bytes[16] = 9;
    let crc = crc32fast::hash(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.put(&file_name(9), &bytes).unwrap();
    let refusal = open(&disk).unwrap_err();
    assert!(matches!(refusal, StorageError::Version { found: 2, supported: 1, .. }), "{refusal}");
}

#[test]
fn a_payload_whose_checksum_holds_but_that_makes_no_sense_is_damage_and_allocates_nothing() {
    let state = || section(state_section(1, 20_000, 9));
    let partitions = |topic, from| {
        let start = Bytes::default().u32(1).u32(topic).u32(from).u64(1);
        section(start.u64(0).u64(0).u64(0).u64(0).u64(0))
    };
    let behind = {
        let payload = state_section(1, 20_000, 9).u8(0);
        section(payload)
    };
    let huge = section(Bytes::default().u32(2).u64(u64::MAX));
    let huge_text = section(
        Bytes::default().u32(0).u8(0).u64(4).i64(0).u32(1).u64(1).u64(1).u64(1).u64(1).u32(1).u64(1 << 60),
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
        disk.put(&file_name(applied_lsn), &file(&sections, applied_lsn, flushed_lsn)).unwrap();
        let refusal = open(&disk).map(|(_, report)| report).unwrap_err();
        assert!(matches!(refusal, StorageError::Damaged { .. }), "{what}: {refusal}");
    }
}
