//! Data directories that a shard has made, with everything that is known about them: what `recovery` damages.
//!
//! Invariants:
//!   * made once per process, the same each time
//!   * the state at each lsn is known by its hash, each record by its value

use crate::disk::SimDisk;
use crate::rng::Random;
use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{
    Command, Commit, CommitToken, GroupOffsets, Mark, OffsetCommit, OffsetMetadata, TimerEffects, TopicConfig,
};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};
use exactlog_core::reply::Reply;
use exactlog_core::state::State;
use exactlog_storage::checkpoint::state_hash;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A data directory and its history.
#[derive(Debug)]
pub(super) struct World {
    /// Never changed: take a [`SimDisk::process_kill`].
    pub(super) disk: SimDisk,
    /// Paths of its files when it was made, sorted.
    pub(super) files: Vec<String>,
    /// Hash of the state after each lsn; that of 0 is that of the empty one.
    pub(super) hashes: BTreeMap<u64, u64>,
    /// Value of each record.
    pub(super) values: BTreeMap<(Partition, u64), Bytes>,
}

/// The partitions that have records.
pub(super) const PARTITIONS: [Partition; 2] =
    [Partition { topic: TopicId(1), index: 0 }, Partition { topic: TopicId(1), index: 1 }];

/// How shards are opened here: small files, so that a few commands fill several.
pub(super) fn options() -> Options {
    Options {
        journal_file_bytes: 16 << 10,
        journal_ring_bytes: 64 << 10,
        checkpoint_bytes: 1 << 20,
        tail_cache_bytes: 600,
        ..Options::default()
    }
}

/// All worlds. In order: closed after a few commands; killed, with one checkpoint; closed, with two checkpoints, a
/// recycled journal and segments; killed after several opens, with a spare; closed without any command.
pub(super) fn worlds() -> &'static [World] {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    WORLDS.get_or_init(|| {
        vec![
            make(&[Step::Appends(6), Step::Commit, Step::Close]),
            make(&[Step::Appends(10), Step::Checkpoint, Step::Appends(7)]),
            make(&[
                Step::Appends(20),
                Step::Checkpoint,
                Step::Appends(12),
                Step::Reopen,
                Step::Commit,
                Step::Checkpoint,
                Step::Appends(3),
                Step::Checkpoint,
                Step::Appends(5),
                Step::Close,
            ]),
            make(&[
                Step::Appends(4),
                Step::Reopen,
                Step::Spare,
                Step::Commit,
                Step::Reopen,
                Step::Appends(9),
                Step::Trim,
                Step::Group,
            ]),
            make(&[Step::Close]),
        ]
    })
}

enum Step {
    /// Batches, in groups of two commands.
    Appends(usize),
    Commit,
    Trim,
    Group,
    Spare,
    Checkpoint,
    Reopen,
    Close,
}

struct Making {
    disk: SimDisk,
    shard: Shard,
    random: Random,
    hashes: BTreeMap<u64, u64>,
    values: BTreeMap<(Partition, u64), Bytes>,
    appended: usize,
    commits: u64,
}

fn make(steps: &[Step]) -> World {
    let disk = SimDisk::new();
    let mut random = Random::new(steps.len() as u64);
    let (shard, _) = open(&disk, &mut random);
    let hashes = BTreeMap::from([(0, state_hash(&State::default()))]);
    let mut making = Making { disk, shard, random, hashes, values: BTreeMap::new(), appended: 0, commits: 0 };
    if steps.len() > 1 {
        making.begin();
    }
    steps.iter().for_each(|step| making.step(step));
    let Making { shard, disk, hashes, values, .. } = making;
    // Dropped without being closed, as a killed process leaves it.
    drop(shard);
    let disk = disk.process_kill();
    let files = disk.files().into_iter().map(|(name, _)| name).collect();
    World { disk, files, hashes, values }
}

fn open(disk: &SimDisk, random: &mut Random) -> (Shard, exactlog_storage::shard::RecoveryReport) {
    Shard::open(Arc::new(disk.clone()), options(), &mut || random.number()).expect("the disk has no faults")
}

impl Making {
    fn begin(&mut self) {
        self.execute(Command::Open);
        let config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
        self.execute(Command::CreateTopic { name: "t".into(), partitions: 2, config });
        self.execute(Command::InitProducer { name: Some("p".into()) });
        self.execute(Command::InitProducer { name: None });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Appends(count) => (0..*count).for_each(|_| self.append()),
            Step::Commit => self.commit(),
            Step::Trim => drop(self.execute(Command::Trim { partition: PARTITIONS[0], start: 2 })),
            Step::Group => {
                drop(self.execute(Command::JoinGroup { group: "g".into(), topics: vec![TopicId(1)] }))
            }
            Step::Spare => self.shard.journal().spares().prepare().expect("the disk has room"),
            Step::Checkpoint => self.shard.checkpoint().expect("the disk has no faults"),
            Step::Reopen => {
                self.shard = open(&self.disk, &mut self.random).0;
                self.execute(Command::Open);
            }
            Step::Close => self.shard.close().expect("the disk has no faults"),
        }
    }

    fn execute(&mut self, command: Command) -> Reply {
        let time_ms = 1_000 + self.hashes.len() as i64;
        let applied = self.shard.execute(&[Submission { time_ms, command }]).expect("the disk has no faults");
        let state = self.shard.state();
        self.hashes.insert(state.lsn, state_hash(&state));
        drop(state);
        if self.hashes.len().is_multiple_of(5) {
            self.shard.idle().expect("the disk has no faults");
        }
        assert!(!matches!(applied[0].reply, Reply::Refused(_)), "{applied:?}");
        applied[0].reply.clone()
    }

    fn append(&mut self) {
        let partition = PARTITIONS[self.appended % 2];
        let sequence = (self.appended / 2) as i32;
        let stamp = ProducerStamp { id: ProducerId(2), epoch: 0, base_sequence: sequence };
        let value = Bytes::from(format!("value {} {}", self.appended, "x".repeat(self.appended * 67 % 400)));
        self.appended += 1;
        let batch = batch(&value, Some(stamp));
        let append = Command::Append { partition, config_version: 0, expected_end: None, batch };
        let Reply::Appended { base_offset, .. } = self.execute(append) else {
            panic!("an append is answered")
        };
        self.values.insert((partition, base_offset), value);
    }

    fn commit(&mut self) {
        self.commits += 1;
        let value = Bytes::from(format!("commit {}", self.commits));
        let token = CommitToken { producer: ProducerId(1), producer_epoch: 0, number: self.commits };
        let offsets = vec![OffsetCommit {
            partition: PARTITIONS[1],
            offset: 1,
            reset: false,
            metadata: OffsetMetadata::default(),
        }];
        let commit = Commit {
            token,
            cursor: Some(Bytes::from_static(b"cursor")),
            batches: PARTITIONS.iter().map(|partition| (*partition, batch(&value, None))).collect(),
            offsets: vec![GroupOffsets { group: "readers".into(), member: None, offsets }],
            conditions: Vec::new(),
            marks: vec![Mark::Named { scope: "s".into(), id: DedupId([7; 16]), reservation: None }],
            timers: TimerEffects::default(),
            table_writes: Vec::new(),
        };
        let reply = self.execute(Command::Commit(Box::new(commit)));
        let Reply::Committed(committed) = reply else { panic!("a commit is answered") };
        self.values.extend(committed.base_offsets.into_iter().map(|place| (place, value.clone())));
    }
}

/// A batch of one record.
pub(super) fn batch(value: &Bytes, stamp: Option<ProducerStamp>) -> Batch {
    let mut builder = BatchBuilder::new(0);
    builder.append(1_000, Some(b"key"), Some(value), &[(b"h", None)]);
    builder.finish(stamp)
}
