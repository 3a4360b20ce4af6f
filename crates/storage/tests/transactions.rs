//! Wire transactions below the state: transaction indexes, and what a full disk lets pass.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{Command, Protocol, TopicConfig, TransactionSender, Transactional};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::Reply;
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::Disk;
use exactlog_storage::shard::{Options, Shard, Submission, adds_data};
use std::collections::BTreeMap;
use std::sync::Arc;

const PARTITION: Partition = Partition { topic: TopicId(1), index: 0 };
const DIR: &str = "topics/1-0";

fn open(disk: &SimDisk) -> Shard {
    let options =
        Options { journal_file_bytes: 64 * 1024, journal_ring_bytes: 1 << 20, ..Options::default() };
    let mut nonce = 40;
    let mut random = || {
        nonce += 1;
        nonce
    };
    Shard::open(Arc::new(disk.clone()), options, &mut random).unwrap().0
}

fn run(shard: &mut Shard, command: impl Into<Command>) -> Reply {
    let submission = Submission { time_ms: 1_000, command: command.into() };
    shard.execute(&[submission]).unwrap().remove(0).reply
}

/// A producer that begins a new epoch with each transaction.
struct Writer {
    id: &'static str,
    producer: ProducerId,
    producer_epoch: i16,
    sequence: i32,
}

impl Writer {
    fn new(shard: &mut Shard, id: &'static str) -> Writer {
        let (transactional_id, current) = (id.to_owned(), None);
        let init = Transactional::Init { transactional_id, timeout_ms: 60_000, current, newer_codes: true };
        let Reply::Transactional { producer, producer_epoch } = run(shard, init) else {
            panic!("no producer")
        };
        Writer { id, producer, producer_epoch, sequence: 0 }
    }

    fn append(&mut self, shard: &mut Shard) {
        let mut builder = BatchBuilder::new(600);
        builder.append(900, None, Some(&[7; 500]), &[]);
        let (id, epoch) = (self.producer, self.producer_epoch);
        let batch = builder.finish(Some(ProducerStamp { id, epoch, base_sequence: self.sequence }));
        let append = Transactional::Append {
            transactional_id: self.id.to_owned(),
            protocol: Protocol::V2,
            newer_codes: true,
            partition: PARTITION,
            config_version: 0,
            batch: batch.in_transaction(),
        };
        assert!(matches!(run(shard, append), Reply::Appended { duplicate: false, .. }));
        self.sequence += 1;
    }

    fn end_of(&self, commit: bool) -> Transactional {
        let sender = TransactionSender {
            transactional_id: self.id.to_owned(),
            producer: self.producer,
            producer_epoch: self.producer_epoch,
            protocol: Protocol::V2,
            newer_codes: true,
            connection: 0,
        };
        Transactional::End { sender, commit }
    }

    fn end(&mut self, shard: &mut Shard, commit: bool) {
        let end = self.end_of(commit);
        assert!(matches!(run(shard, end), Reply::Transactional { .. }));
        (self.producer_epoch, self.sequence) = (self.producer_epoch + 1, 0);
    }
}

/// Two producers, one of whose transactions spans several segments; aborted and committed in turn.
fn with_transactions(disk: &SimDisk) -> Shard {
    let mut shard = open(disk);
    run(&mut shard, Command::Open);
    let config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
    run(&mut shard, Command::CreateTopic { name: "t".into(), partitions: 1, config });
    let (mut long, mut short) = (Writer::new(&mut shard, "long"), Writer::new(&mut shard, "short"));
    for round in 0..3 {
        long.append(&mut shard);
        for number in 0..9 {
            short.append(&mut shard);
            short.end(&mut shard, number % 3 == 0);
        }
        long.append(&mut shard);
        long.end(&mut shard, round == 1);
    }
    shard
}

fn indexes(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list(DIR).unwrap().into_iter().map(|entry| entry.name);
    let names = names.filter(|name| name.ends_with(".txnindex"));
    names.map(|name| (name.clone(), disk.read_file(&format!("{DIR}/{name}")).unwrap())).collect()
}

/// What a reader that has only the batches makes of them: entries by the segment that holds the marker.
fn indexes_from_batches(disk: &SimDisk, batches: &[Batch]) -> BTreeMap<String, Vec<u8>> {
    let mut segments: Vec<u64> = disk
        .list(DIR)
        .unwrap()
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(".log")?.parse().ok())
        .collect();
    segments.sort_unstable();
    let mut open: BTreeMap<ProducerId, u64> = BTreeMap::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| batch.is_transactional()) {
        let producer = batch.producer().unwrap().id;
        let Some(control) = batch.as_control() else {
            open.entry(producer).or_insert(batch.base_offset());
            continue;
        };
        let first = open.remove(&producer).unwrap();
        if control.commit {
            continue;
        }
        let last = batch.base_offset();
        let stable = open.values().copied().min().unwrap_or(last + 1);
        let at = segments.partition_point(|base| *base <= last) - 1;
        // The last segment isn't full yet.
        if at + 1 < segments.len() {
            let file = files.entry(format!("{:020}.txnindex", segments[at])).or_default();
            file.extend(0i16.to_be_bytes());
            [producer.0 as u64, first, last, stable].iter().for_each(|it| file.extend(it.to_be_bytes()));
        }
    }
    files
}

#[test]
fn tx_17_a_full_segment_s_transaction_index_is_kafka_s_and_made_again_with_equal_bytes() {
    let disk = SimDisk::new();
    let mut shard = with_transactions(&disk);
    shard.checkpoint().unwrap();
    let batches = shard.reader().read(PARTITION, 0, 1 << 20).unwrap();
    let made = indexes(&disk);
    assert!(made.len() >= 4, "{:?}", made.keys());
    assert!(made.values().all(|file| file.len() % 34 == 0 && !file.is_empty()));
    assert_eq!(made, indexes_from_batches(&disk, &batches));
    drop(shard);
    // One is missing, one is damaged, one has lost its end.
    let names: Vec<String> = made.keys().map(|name| format!("{DIR}/{name}")).collect();
    disk.remove(&names[0]).unwrap();
    disk.flip_bit(&names[1], 5, 1).unwrap();
    disk.cut(&names[2], 33).unwrap();
    let shard = open(&disk);
    shard.flusher().flush().unwrap();
    assert_eq!(indexes(&disk), made);
}

#[test]
fn tx_17_what_is_trimmed_takes_its_transaction_indexes_with_it() {
    let disk = SimDisk::new();
    let mut shard = with_transactions(&disk);
    shard.checkpoint().unwrap();
    let before = indexes(&disk);
    let start = shard.state().partition(PARTITION).unwrap().end - 1;
    run(&mut shard, Command::Trim { partition: PARTITION, start });
    for _ in 0..3 {
        shard.checkpoint().unwrap();
    }
    let after = indexes(&disk);
    assert!(after.len() < before.len() && after.iter().all(|(name, file)| before.get(name) == Some(file)));
}

#[test]
fn tx_16_every_fetch_of_any_size_is_told_what_is_aborted_in_it() {
    let disk = SimDisk::new();
    let shard = with_transactions(&disk);
    shard.flusher().flush().unwrap();
    let state = shard.state().partition(PARTITION).unwrap().clone();
    let reader = shard.reader();
    let all = reader.read_committed(PARTITION, &state, 0, 1 << 20).unwrap();
    assert_eq!(all.last_stable_offset, state.end);
    for offset in 0..state.end {
        for max_bytes in [1, 2_000, 10_000] {
            let some = reader.read_committed(PARTITION, &state, offset, max_bytes).unwrap();
            let upper = some.batches.last().unwrap().next_offset();
            let overlap = all.aborted.iter().filter(|it| it.first_offset < upper && it.last_offset >= offset);
            assert_eq!(some.aborted, overlap.copied().collect::<Vec<_>>(), "from {offset} up to {upper}");
        }
    }
}

#[test]
fn lg_13_the_abort_of_a_transaction_needs_no_room_but_its_commit_does() {
    let writer = Writer { id: "x", producer: ProducerId(1), producer_epoch: 0, sequence: 0 };
    assert!(!adds_data(&writer.end_of(false).into()));
    assert!(adds_data(&writer.end_of(true).into()));
}
