//! A leader under a mixed load that is drawn from a seed, and how another log is compared with it.
//!
//! Not here: the follower, and what happens to it.

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{
    Command, Commit, CommitToken, GroupOffsets, OffsetCommit, OffsetMetadata, TimerEffects, TopicConfig,
};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::{Applied, Reply};
use exactlog_storage::checkpoint::{self, Image, state_hash};
use exactlog_storage::disk::{Disk, Mode};
use exactlog_storage::follower::Follower;
use exactlog_storage::partitions::TOPICS_DIR;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Small files, so that everything happens often.
pub(crate) fn options() -> Options {
    Options {
        journal_file_bytes: 64 * 1024,
        journal_ring_bytes: 1024 * 1024,
        tail_cache_bytes: 20_000,
        ..Options::default()
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A log that is written, and the hash of its state wherever it was taken.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) shard: Shard,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) hashes: BTreeMap<u64, u64>,
    pub(crate) accepted_commits: u64,
    numbers: Numbers,
    topics: Vec<TopicId>,
    producer: ProducerId,
    committer: (ProducerId, i16),
    next_sequence: BTreeMap<Partition, i32>,
    last_append: Option<Command>,
    next_commit: u64,
    time_ms: i64,
}

pub(crate) const PARTITIONS: u32 = 3;

impl Leader {
    pub(crate) fn new(disk: Arc<dyn Disk>, seed: u64) -> Leader {
        let mut numbers = Numbers(seed);
        let (shard, _) = Shard::open(disk.clone(), options(), &mut || numbers.next()).unwrap();
        let mut leader = Leader {
            shard,
            disk,
            hashes: BTreeMap::from([(0, state_hash(&Default::default()))]),
            accepted_commits: 0,
            numbers,
            topics: Vec::new(),
            producer: ProducerId(0),
            committer: (ProducerId(0), 0),
            next_sequence: BTreeMap::new(),
            last_append: None,
            next_commit: 1,
            time_ms: 1_000,
        };
        leader.run(vec![Command::Open]);
        leader.create_topic();
        leader.init_producers();
        leader
    }

    /// One group of commands.
    pub(crate) fn step(&mut self) {
        let count = if self.numbers.chance(4) { 1 + self.numbers.below(8) } else { 1 };
        let commands = (0..count).map(|_| self.command()).collect();
        self.run(commands);
        if self.numbers.chance(30) {
            // It takes most of a journal file, and is larger than a group of the follower.
            let large = self.append(40_000);
            self.run(vec![large]);
        }
        match self.numbers.below(120) {
            0 => self.create_topic(),
            1 => self.delete_topic(),
            2 => self.init_producers(),
            3..10 => drop(self.shard.flusher().flush().unwrap()),
            _ => {}
        }
    }

    /// A checkpoint, which may be a command of its own.
    pub(crate) fn checkpoint(&mut self) {
        self.shard.checkpoint().unwrap();
        self.note();
    }

    pub(crate) fn last_lsn(&self) -> u64 {
        self.shard.journal().last_lsn()
    }

    /// Closes the log, or not, and opens it again: the term rises if it wasn't closed.
    pub(crate) fn reopen(&mut self, close: bool) {
        if close {
            self.shard.close().unwrap();
        }
        let numbers = &mut self.numbers;
        self.shard = Shard::open(self.disk.clone(), options(), &mut || numbers.next()).unwrap().0;
        self.run(vec![Command::Open]);
    }

    fn run(&mut self, commands: Vec<Command>) -> Vec<Applied> {
        self.time_ms += self.numbers.below(5) as i64;
        let time_ms = self.time_ms;
        let submissions: Vec<Submission> =
            commands.into_iter().map(|command| Submission { time_ms, command }).collect();
        let applied = self.shard.execute(&submissions).unwrap();
        let committed = applied.iter().filter(|applied| matches!(applied.reply, Reply::Committed(_)));
        self.accepted_commits += committed.count() as u64;
        if self.numbers.chance(3) {
            self.shard.idle().unwrap();
        }
        self.note();
        applied
    }

    fn note(&mut self) {
        self.hashes.insert(self.last_lsn(), state_hash(&self.shard.state()));
    }

    fn create_topic(&mut self) {
        let config = TopicConfig { segment_bytes: 6_000, ..TopicConfig::default() };
        let name = format!("topic-{}", self.numbers.below(1_000_000));
        let applied = self.run(vec![Command::CreateTopic { name, partitions: PARTITIONS, config }]);
        if let Reply::Topic { topic, .. } = applied[0].reply {
            self.topics.push(topic);
        }
    }

    fn delete_topic(&mut self) {
        if self.topics.len() > 2 {
            let at = self.numbers.below(self.topics.len() as u64) as usize;
            let topic = self.topics.remove(at);
            self.run(vec![Command::DeleteTopic { topic }]);
        }
    }

    fn init_producers(&mut self) {
        let applied = self.run(vec![
            Command::InitProducer { name: None },
            Command::InitProducer { name: Some("committer".into()) },
        ]);
        if let Reply::Producer { producer, .. } = applied[0].reply {
            self.producer = producer;
            self.next_sequence.clear();
        }
        if let Reply::Producer { producer, producer_epoch, .. } = applied[1].reply {
            self.committer = (producer, producer_epoch);
        }
    }

    fn command(&mut self) -> Command {
        match self.numbers.below(20) {
            0 => Command::Tick,
            1 => self.trim(),
            2 => Command::JoinGroup { group: "members".into(), topics: self.topics.clone() },
            3 => self.commit_offsets(),
            4..7 => self.commit(),
            7 => self.last_append.clone().unwrap_or(Command::Tick),
            _ => {
                let len_bytes = self.numbers.below(400) as usize;
                let append = self.append(len_bytes);
                self.last_append = Some(append.clone());
                append
            }
        }
    }

    fn partition(&mut self) -> Partition {
        let topic = self.topics[self.numbers.below(self.topics.len() as u64) as usize];
        Partition { topic, index: self.numbers.below(u64::from(PARTITIONS)) as u32 }
    }

    fn batch(&mut self, stamp: Option<ProducerStamp>, len_bytes: usize) -> Batch {
        let mut builder = BatchBuilder::new(64);
        let value = vec![self.numbers.next() as u8; len_bytes];
        builder.append(self.time_ms, Some(b"key"), Some(&value), &[]);
        builder.finish(stamp)
    }

    fn append(&mut self, len_bytes: usize) -> Command {
        let partition = self.partition();
        let next = self.next_sequence.entry(partition).or_insert(0);
        let stamp = ProducerStamp { id: self.producer, epoch: 0, base_sequence: *next };
        *next += 1;
        let batch = self.batch(Some(stamp), len_bytes);
        Command::Append { partition, config_version: 0, expected_end: None, batch }
    }

    fn commit(&mut self) -> Command {
        let batches =
            (0..1 + self.numbers.below(3)).map(|_| (self.partition(), self.batch(None, 100))).collect();
        let (producer, producer_epoch) = self.committer;
        let token = CommitToken { producer, producer_epoch, number: self.next_commit };
        self.next_commit += 1;
        let offset = OffsetCommit {
            partition: self.partition(),
            offset: 0,
            reset: true,
            metadata: OffsetMetadata::default(),
        };
        let offsets = vec![GroupOffsets { group: "workers".into(), member: None, offsets: vec![offset] }];
        let (cursor, conditions, marks) = (None, Vec::new(), Vec::new());
        let timers = TimerEffects::default();
        Command::Commit(Box::new(Commit {
            token,
            cursor,
            batches,
            offsets,
            conditions,
            marks,
            timers,
            table_writes: Vec::new(),
        }))
    }

    fn commit_offsets(&mut self) -> Command {
        let partition = self.partition();
        let offset = self.shard.state().partition(partition).map_or(0, |found| found.end);
        let offsets =
            vec![OffsetCommit { partition, offset, reset: true, metadata: OffsetMetadata::default() }];
        Command::CommitOffsets { group: "readers".into(), member: None, offsets }
    }

    fn trim(&mut self) -> Command {
        let partition = self.partition();
        let (start, end) =
            self.shard.state().partition(partition).map_or((0, 0), |found| (found.start, found.end));
        Command::Trim { partition, start: start + self.numbers.below(end - start + 1) / 2 }
    }
}

/// Compares the states if the leader's hash at the follower's lsn is known; whether it is.
pub(crate) fn assert_same_state(leader: &Leader, follower: &Follower) -> bool {
    let lsn = follower.last_lsn();
    assert_eq!(follower.state().lsn, lsn);
    let Some(hash) = leader.hashes.get(&lsn) else { return false };
    assert_eq!(follower.state_hash(), *hash, "the states differ at lsn {lsn}");
    true
}

/// Compares what the segments of two logs hold, as far as the newest checkpoint of each names it; the bytes that
/// both have. Files of one name are equal as far as both go, and so is every batch that both have.
pub(crate) fn assert_same_segments(leader: &dyn Disk, follower: &dyn Disk) -> u64 {
    let image = |disk| checkpoint::find(disk).unwrap().newest;
    let (Some(leaders), Some(followers)) = (image(leader), image(follower)) else { return 0 };
    let mut compared = 0;
    for ours in &followers.partitions {
        let partition = ours.partition;
        let Some(theirs) = leaders.partitions.iter().find(|theirs| theirs.partition == partition) else {
            continue;
        };
        let mine = files(follower, &followers, partition);
        for (base, bytes) in files(leader, &leaders, partition) {
            let both = mine.get(&base).map_or(0, |mine| mine.len().min(bytes.len()));
            if both > 0 {
                assert!(mine[&base][..both] == bytes[..both], "{partition}: segment {base} differs");
            }
        }
        let mine = batches(&mine);
        let end = ours.ends.end_offset.min(theirs.ends.end_offset);
        let start = |image: &Image| image.state.partition(partition).map_or(u64::MAX, |found| found.start);
        let start = start(&followers).max(start(&leaders));
        for (offset, batch) in batches(&files(leader, &leaders, partition)) {
            match mine.get(&offset) {
                Some(mine) => assert_eq!(*mine, batch, "{partition}: the batch at offset {offset} differs"),
                None => assert!(offset < start || offset >= end, "{partition}: offset {offset} is missing"),
            }
            compared += if mine.contains_key(&offset) { batch.len() as u64 } else { 0 };
        }
    }
    compared
}

/// The segments of a partition as far as they count, by base offset.
fn files(disk: &dyn Disk, image: &Image, partition: Partition) -> BTreeMap<u64, Vec<u8>> {
    let found = image.partitions.iter().find(|found| found.partition == partition);
    let segments = found.map_or(&[][..], |found| &found.ends.segments[..]);
    let named = segments.iter().filter(|segment| segment.len_bytes > 0);
    named
        .map(|segment| {
            let name = format!("{TOPICS_DIR}/{partition}/{:020}.log", segment.base_offset);
            let mut bytes = vec![0; segment.len_bytes as usize];
            let read = disk.open(&name, Mode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
            assert_eq!(read, bytes.len(), "{name} is too short");
            (segment.base_offset, bytes)
        })
        .collect()
}

/// The batches of segments, by base offset.
fn batches(files: &BTreeMap<u64, Vec<u8>>) -> BTreeMap<u64, Vec<u8>> {
    const LENGTH_AT: usize = 8;
    const LENGTH_END: usize = LENGTH_AT + 4;
    let mut batches = BTreeMap::new();
    for bytes in files.values() {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let offset = u64::from_be_bytes(rest[..LENGTH_AT].try_into().unwrap());
            let len = u32::from_be_bytes(rest[LENGTH_AT..LENGTH_END].try_into().unwrap());
            let (batch, behind) = rest.split_at(LENGTH_END + len as usize);
            batches.insert(offset, batch.to_vec());
            rest = behind;
        }
    }
    batches
}
