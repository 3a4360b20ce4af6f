//! A node that is killed again and again while two producers, one of each protocol of transactions, copy records with a
//! group's positions. Each record is copied once, each transaction is there wholly or not at all, nothing stays open,
//! and what was acknowledged is there (semantics TX-7, TX-9, TX-10, TX-14, TX-15, ID-6, EM-1).
//!
//! After a kill a copier either asks again for what had no answer, as if only the connection had broken, or begins
//! anew from the group's position. A kill counts if it met a transaction: with records that were acknowledged, or
//! waiting for the answer to its end. The processes are real, so is the disk. `EXACTLOG_KILLS=100`: so many, instead
//! of 25.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod processes;
mod wire_clients;

use exactlog::wire::{BatchBuilder, TransactionPhase};
use exactlog::{Log, Partition, TopicOptions};
use exactlog_sim::rng::Random;
use exactlog_wire::messages::{
    AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, OffsetFetch, Produce, TxnOffsetCommit, add_offsets_to_txn,
    add_partitions_to_txn, end_txn, offset_fetch, txn_offset_commit,
};
use processes::each_record;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire_clients::{Client, World, batch, produce_of, start};

/// Records that a transaction copies, a half of them to each partition.
const RECORDS: u64 = 4;
/// Records of each copier's partition.
const INPUT: u64 = 60_000;
/// Transactions between two kills.
const COMMITS: u64 = 20;
/// The transactions with such numbers are aborted.
const ABORTED: u64 = 5;
const GROUP: &str = "copiers";
const UNSTABLE_OFFSET_COMMIT: i16 = 88;

/// What a kill has met of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    /// Records of it were acknowledged.
    Open,
    /// Its end was asked for, and had no answer.
    Commit,
}

/// What the copiers know of the node's lives.
struct Lives {
    world: World,
    /// By the address that the node had in that life.
    met: Mutex<BTreeMap<SocketAddr, BTreeSet<Met>>>,
}

/// What a transaction asks for, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AddPartitions,
    Produce(i32),
    AddGroup,
    CommitOffsets,
    End,
}

/// By the first protocol partitions and groups are added before they are used.
const FIRST: &[Step] = &[
    Step::AddPartitions,
    Step::Produce(0),
    Step::Produce(1),
    Step::AddGroup,
    Step::CommitOffsets,
    Step::End,
];
/// By the second one they add themselves (KIP-890).
const SECOND: &[Step] = &[Step::Produce(0), Step::Produce(1), Step::CommitOffsets, Step::End];

struct Copier<'l> {
    lives: &'l Lives,
    name: &'static str,
    steps: &'static [Step],
    /// The one that it copies.
    partition: i32,
    client: Client,
    /// In which life of the node it was connected.
    life: SocketAddr,
    producer: (i64, i16),
    /// Of the next batch, in both partitions.
    sequence: i32,
    /// Of its transactions.
    number: u64,
    position: u64,
    /// The transactions whose end was acknowledged, to be committed and to be aborted.
    ended: [BTreeSet<u64>; 2],
}

impl<'l> Copier<'l> {
    fn new(lives: &'l Lives, name: &'static str, steps: &'static [Step], partition: i32) -> Copier<'l> {
        let (life, client) = connected(lives);
        let (producer, sequence, number, position) = ((-1, -1), 0, 0, 0);
        let ended = Default::default();
        Copier { lives, name, steps, partition, client, life, producer, sequence, number, position, ended }
    }

    fn is_first_protocol(&self) -> bool {
        self.steps == FIRST
    }

    /// Copies until it is told to end. Where a transaction broke it goes on, or begins anew.
    fn run(mut self) -> [BTreeSet<u64>; 2] {
        self.begin_anew();
        while !self.lives.world.ends.load(Ordering::Acquire) {
            assert!(self.position + RECORDS <= INPUT, "there is no more to copy");
            self.number += 1;
            if self.transaction() {
                self.lives.world.acks.fetch_add(1, Ordering::AcqRel);
            } else {
                self.begin_anew();
            }
        }
        self.ended
    }

    /// As a process that was started: whatever is open is aborted, and the group's position says where it goes on.
    fn begin_anew(&mut self) {
        loop {
            let begun = self.client.producer(Some(self.name)).and_then(|producer| {
                self.producer = producer;
                self.sequence = 0;
                self.committed()
            });
            match begun {
                Ok(position) => {
                    self.position = position;
                    return;
                }
                Err(_) => (self.life, self.client) = connected(self.lives),
            }
        }
    }

    /// Whether it has ended; else nobody knows how it stands, and its sender has given up.
    fn transaction(&mut self) -> bool {
        let goes_on = self.number.is_multiple_of(2);
        let (mut step, mut is_open) = (0, false);
        while step < self.steps.len() {
            match self.ask(self.steps[step]) {
                Ok(()) => {
                    is_open |= matches!(self.steps[step], Step::Produce(_));
                    step += 1;
                }
                Err(_) => {
                    let met = match self.steps[step] {
                        Step::End => Some(Met::Commit),
                        _ if is_open => Some(Met::Open),
                        _ => None,
                    };
                    let mut all = self.lives.met.lock().unwrap();
                    all.entry(self.life).or_default().extend(met);
                    drop(all);
                    (self.life, self.client) = connected(self.lives);
                    if !goes_on {
                        return false;
                    }
                }
            }
        }
        let is_committed = self.commits();
        self.position += if is_committed { RECORDS } else { 0 };
        self.ended[usize::from(!is_committed)].insert(self.number);
        true
    }

    fn commits(&self) -> bool {
        !self.number.is_multiple_of(ABORTED)
    }

    /// Asks for a step, which may have been done before. Whatever comes as an answer is success.
    fn ask(&mut self, step: Step) -> io::Result<()> {
        let code = match step {
            Step::AddPartitions => self.add_partitions()?,
            Step::Produce(partition) => self.produce(partition)?,
            Step::AddGroup => self.add_group()?,
            Step::CommitOffsets => self.commit_offsets()?,
            Step::End => self.end()?,
        };
        assert_eq!(code, 0, "{} {}: {step:?}", self.name, self.number);
        Ok(())
    }

    fn add_partitions(&mut self) -> io::Result<i16> {
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.name.into(),
            v3_and_below_producer_id: self.producer.0,
            v3_and_below_producer_epoch: self.producer.1,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: "copies".into(),
                partitions: vec![0, 1],
            }],
            ..Default::default()
        };
        let told = self.client.ask::<AddPartitionsToTxn>(3, &request)?;
        let codes = told.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
        Ok(codes.map(|it| it.partition_error_code).max().unwrap())
    }

    fn produce(&mut self, partition: i32) -> io::Result<i16> {
        let numbers = self.position..self.position + RECORDS;
        let values: Vec<String> = numbers
            .filter(|number| number % 2 == partition as u64)
            .map(|number| format!("{} {} {number}", self.name, self.number))
            .collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let batch = batch(&values, self.producer, self.sequence).in_transaction();
        let request = produce_of("copies", partition, Some(self.name), &batch);
        let version = if self.is_first_protocol() { 11 } else { 12 };
        let told = self.client.ask::<Produce>(version, &request)?;
        Ok(told.responses[0].partition_responses[0].error_code)
    }

    fn add_group(&mut self) -> io::Result<i16> {
        let request = add_offsets_to_txn::Request {
            transactional_id: self.name.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            group_id: GROUP.into(),
        };
        Ok(self.client.ask::<AddOffsetsToTxn>(4, &request)?.error_code)
    }

    fn commit_offsets(&mut self) -> io::Result<i16> {
        let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
            partition_index: self.partition,
            committed_offset: (self.position + RECORDS) as i64,
            ..Default::default()
        };
        let topic = txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: "numbers".into(),
            partitions: vec![partition],
        };
        let request = txn_offset_commit::Request {
            transactional_id: self.name.into(),
            group_id: GROUP.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            topics: vec![topic],
            ..Default::default()
        };
        let version = if self.is_first_protocol() { 4 } else { 5 };
        let told = self.client.ask::<TxnOffsetCommit>(version, &request)?;
        Ok(told.topics[0].partitions[0].error_code)
    }

    /// Each end of the second protocol gives the epoch of the next transaction, and sequences begin anew.
    fn end(&mut self) -> io::Result<i16> {
        let request = end_txn::Request {
            transactional_id: self.name.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed: self.commits(),
        };
        if self.is_first_protocol() {
            let told = self.client.ask::<EndTxn>(4, &request)?;
            self.sequence += RECORDS as i32 / 2;
            return Ok(told.error_code);
        }
        let told = self.client.ask::<EndTxn>(5, &request)?;
        self.producer = (told.producer_id, told.producer_epoch);
        self.sequence = 0;
        Ok(told.error_code)
    }

    /// The group's position, once no transaction is about to move it.
    fn committed(&mut self) -> io::Result<u64> {
        let topic = offset_fetch::OffsetFetchRequestTopic {
            name: "numbers".into(),
            partition_indexes: vec![self.partition],
        };
        let request = offset_fetch::Request {
            group_id: GROUP.into(),
            topics: Some(vec![topic]),
            require_stable: true,
            ..Default::default()
        };
        loop {
            let told = self.client.ask::<OffsetFetch>(7, &request)?;
            let partition = &told.topics[0].partitions[0];
            if partition.error_code != UNSTABLE_OFFSET_COMMIT {
                assert_eq!((told.error_code, partition.error_code), (0, 0));
                return Ok(u64::try_from(partition.committed_offset).unwrap_or(0));
            }
        }
    }
}

/// A connection, and the life of the node that it is to.
fn connected(lives: &Lives) -> (SocketAddr, Client) {
    loop {
        let before = *lives.world.address.lock().unwrap();
        let client = Client::connect(&lives.world);
        if *lives.world.address.lock().unwrap() == before {
            return (before, client);
        }
    }
}

/// Each partition gets as many records as it has offsets.
fn fill(data: &Path) {
    let log = Log::open(data).unwrap();
    let numbers = log.create_topic("numbers", TopicOptions::default().partitions(2)).unwrap();
    log.create_topic("copies", TopicOptions::default().partitions(2)).unwrap();
    for index in [0, 1] {
        for _ in 0..INPUT / 10_000 {
            let mut builder = BatchBuilder::new(10_000);
            (0..10_000).for_each(|_| _ = builder.append(1000, None, Some(b"a number"), &[]));
            let batch = builder.finish(None);
            let bytes = [&batch.header()[..], batch.body()].concat();
            log.append_batch(&numbers, index, bytes.into()).unwrap();
        }
    }
    log.close().unwrap();
}

/// That each number up to the group's position is copied once, in transactions that are whole and in order, and that
/// nothing is open.
fn check(data: &Path, copiers: [(&str, u32, &[BTreeSet<u64>; 2]); 2]) -> (usize, u64) {
    let log = Log::open(data).unwrap();
    let (numbers, copies) = (log.open_topic("numbers").unwrap(), log.open_topic("copies").unwrap());
    let mut left = 0;
    each_record(&log, &numbers, |_| left += 1);
    assert_eq!(left, 2 * INPUT);
    let mut transactions: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
    let mut found: BTreeMap<(String, u32), Vec<u64>> = BTreeMap::new();
    for record in log.read_view().records(&copies) {
        let record = record.unwrap();
        let words: Vec<&str> = record.value_str().unwrap().split(' ').collect();
        let (name, transaction, number) =
            (words[0].to_string(), words[1].parse().unwrap(), words[2].parse().unwrap());
        assert_eq!(number % 2, u64::from(record.partition));
        transactions.entry((name.clone(), transaction)).or_default().push(number);
        found.entry((name, record.partition)).or_default().push(number);
    }
    let mut copied = 0;
    for (name, partition, [committed, aborted]) in copiers {
        let position = log.committed(GROUP, &numbers, partition).unwrap();
        for half in [0, 1] {
            let expected: Vec<u64> = (0..position).filter(|number| number % 2 == half).collect();
            assert_eq!(found[&(name.to_string(), half as u32)], expected, "{name}: each once, and in order");
        }
        let shown = |number: &&u64| transactions.contains_key(&(name.to_string(), **number));
        assert_eq!(committed.iter().find(|number| !shown(number)), None, "{name}: it was acknowledged");
        assert_eq!(aborted.iter().find(shown), None, "{name}: it was aborted");
        copied += position;
    }
    for (transaction, numbers) in &mut transactions {
        numbers.sort_unstable();
        let first = numbers[0];
        assert_eq!(*numbers, (first..first + RECORDS).collect::<Vec<_>>(), "{transaction:?} is whole");
    }
    for (id, producer) in log.transactional_ids() {
        assert!(!matches!(producer.phase, TransactionPhase::Ongoing(_)), "{id} is open");
    }
    for index in [0, 1] {
        let bounds = log.bounds_of(Partition { topic: copies.id(), index }).unwrap();
        assert_eq!(bounds.last_stable_offset, bounds.high_watermark);
    }
    (transactions.len(), copied)
}

#[test]
fn what_copiers_have_read_and_written_over_kills_of_the_node_is_there_once() {
    let kills = std::env::var("EXACTLOG_KILLS").map_or(25, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data);
    let (node, address) = start(&data);
    let lives = Lives { world: World::new(address), met: Mutex::default() };
    let mut random = Random::new(2026);
    let (first, second, node, all) = std::thread::scope(|scope| {
        let (mut node, mut all) = (node, 0);
        let first = scope.spawn(|| Copier::new(&lives, "first", FIRST, 0).run());
        let second = scope.spawn(|| Copier::new(&lives, "second", SECOND, 1).run());
        let counted = || lives.met.lock().unwrap().values().filter(|met| !met.is_empty()).count();
        while counted() < kills {
            let until = lives.world.acks.load(Ordering::Acquire) + COMMITS;
            while lives.world.acks.load(Ordering::Acquire) < until {
                std::thread::sleep(Duration::from_millis(1));
                assert!(!first.is_finished() && !second.is_finished(), "a copier has ended");
            }
            node.kill(&mut random, Duration::from_millis(3));
            let address;
            (node, address) = start(&data);
            all += 1;
            *lives.world.address.lock().unwrap() = address;
        }
        lives.world.ends.store(true, Ordering::Release);
        (first.join().unwrap(), second.join().unwrap(), node, all)
    });
    // What is committed is there without the end of the node, too.
    node.kill(&mut random, Duration::ZERO);
    let (transactions, copied) = check(&data, [("first", 0, &first), ("second", 1, &second)]);
    let met = lives.met.lock().unwrap();
    let of = |wanted| met.values().filter(|met| met.contains(&wanted)).count();
    println!(
        "{all} kills, {} of them met an open transaction, {} a commit on its way: {copied} records copied once, in \
         {transactions} transactions",
        of(Met::Open),
        of(Met::Commit),
    );
}
