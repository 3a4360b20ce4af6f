//! What the tests share: a log that is only a state, batches, and a restart. It is not a second implementation.
//!
//! Invariants
//!   * every refusal that a test provokes through [`Log`] is checked to change nothing but lsn and time (OA-2)

pub(crate) mod commands;

use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, HEADER_BYTES, ProducerStamp};
use exactlog_core::command::*;
use exactlog_core::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};
use exactlog_core::reply::{Applied, Committed, Refusal, Reply, Seen};
use exactlog_core::state::{Answers, At, Found, MarkKey, Place, Run, RunSource, State};
use std::collections::BTreeMap;

/// A state with the position, term and time that the journal would add.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) state: State,
    pub(crate) term: u32,
    pub(crate) time_ms: i64,
    /// What the runs have that the state has taken.
    pub(crate) runs: BTreeMap<(u64, u64), BTreeMap<MarkKey, Place>>,
}

impl Log {
    pub(crate) fn apply(&mut self, command: &Command) -> Applied {
        let mut before = self.state.clone();
        let at = At { lsn: self.state.lsn + 1, term: self.term, time_ms: self.time_ms };
        let answers = self.before(command);
        let applied = self.state.apply_with(at, command, &answers);
        if matches!(applied.reply, Reply::Refused(_)) {
            (before.lsn, before.time_ms) = (self.state.lsn, self.state.time_ms);
            assert_eq!(before, self.state, "{command:?} was refused, and yet it changed the state");
            assert!(applied.placements.is_empty(), "{command:?} was refused, and yet it placed a batch");
            assert!(applied.markers.is_empty(), "{command:?} was refused, and yet it made a marker");
        }
        applied
    }

    /// Keeps what a run takes, and looks up what a command asks.
    fn before(&mut self, command: &Command) -> Answers {
        if let Command::Dedup(request) = command
            && let Dedup::RunReady(ready) = &**request
            && let Ok(source) = self.state.run_source(ready)
        {
            let marks = match source {
                RunSource::Memory(marks) => marks.sorted().into_iter().collect(),
                RunSource::Runs(parts) => {
                    let counted = |part: &Run| {
                        let all = self.runs[&(part.id, part.digest)].clone().into_iter();
                        all.filter(|(key, _)| !part.has_forgotten(key)).collect::<Vec<_>>()
                    };
                    parts.iter().flat_map(counted).collect()
                }
            };
            self.runs.insert((ready.run, ready.digest), marks);
        }
        self.answers(&self.state.questions(command))
    }

    fn answers(&self, keys: &[MarkKey]) -> Answers {
        let find = |key: &MarkKey| {
            let mut runs = self.state.dedup.runs().runs().filter(|(_, run)| !run.has_forgotten(key));
            runs.find_map(|(_, run)| {
                let place = *self.runs[&(run.id, run.digest)].get(key)?;
                Some(Found { run: run.id, place })
            })
        };
        Answers::new(keys.iter().map(|key| (*key, find(key))).collect())
    }

    /// What is known of an id.
    pub(crate) fn seen(&self, scope: &DedupScope, id: DedupId) -> Seen {
        let keys: Vec<_> = self.state.question(scope, id).into_iter().collect();
        self.state.seen(scope, id, &self.answers(&keys))
    }

    pub(crate) fn reply(&mut self, command: &Command) -> Reply {
        self.apply(command).reply
    }

    pub(crate) fn refused(&mut self, command: &Command) -> Refusal {
        match self.reply(command) {
            Reply::Refused(refusal) => refusal,
            other => panic!("{command:?} was not refused but answered with {other:?}"),
        }
    }

    /// A checkpoint is written and read: what is not in its bytes is gone.
    pub(crate) fn restart(&mut self) {
        self.state = round_trip(&self.state);
    }

    pub(crate) fn topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let config = TopicConfig::default();
        match self.reply(&Command::CreateTopic { name: name.to_string(), partitions, config }) {
            Reply::Topic { topic, .. } => topic,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn table(&mut self, name: &str, partitions: u32) -> TopicId {
        let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
        match self.reply(&Command::CreateTable { name: name.to_string(), partitions, config }) {
            Reply::Topic { topic, .. } => topic,
            other => panic!("{other:?}"),
        }
    }

    /// A topic with one partition.
    pub(crate) fn partition(&mut self, name: &str) -> Partition {
        part(self.topic(name, 1), 0)
    }

    pub(crate) fn producer(&mut self, name: Option<&str>) -> (ProducerId, i16) {
        match self.reply(&Command::InitProducer { name: name.map(str::to_string) }) {
            Reply::Producer { producer, producer_epoch, .. } => (producer, producer_epoch),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn join(&mut self, group: &str, topics: &[TopicId]) -> MemberId {
        match self.reply(&join(group, topics)) {
            Reply::Joined { member, .. } => member,
            other => panic!("{other:?}"),
        }
    }

    /// The producer of a transactional id, as a new incarnation of it gets it.
    pub(crate) fn init(&mut self, transactional_id: &str) -> (ProducerId, i16) {
        self.identity(init(transactional_id, None))
    }

    /// The identity that a command answers with.
    pub(crate) fn identity(&mut self, request: Transactional) -> (ProducerId, i16) {
        match self.reply(&request.into()) {
            Reply::Transactional { producer, producer_epoch } => (producer, producer_epoch),
            other => panic!("{other:?}"),
        }
    }

    /// Sets a timer without a sender.
    pub(crate) fn set_timer(&mut self, target: Partition, due_ms: i64, batch: Batch) -> TimerId {
        let timer = NewTimer { target, due_ms, batch };
        match self.reply(&TimerCommand::Set { sender: None, timer }.into()) {
            Reply::TimerSet { timer } => timer,
            other => panic!("{other:?}"),
        }
    }

    /// Appends, and answers with the base offset.
    pub(crate) fn append(&mut self, partition: Partition, batch: Batch) -> u64 {
        match self.reply(&append(partition, batch)) {
            Reply::Appended { base_offset, .. } => base_offset,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> Committed {
        match self.reply(&Command::Commit(Box::new(commit.clone()))) {
            Reply::Committed(committed) => committed,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn commit_refused(&mut self, commit: &Commit) -> Refusal {
        self.refused(&Command::Commit(Box::new(commit.clone())))
    }

    pub(crate) fn end(&self, partition: Partition) -> u64 {
        self.state.partition(partition).expect("the test has made the partition").end
    }
}

/// The state, through the bytes of a checkpoint.
pub(crate) fn round_trip(state: &State) -> State {
    let mut read: State = through_bytes(state);
    read.timers = through_bytes(&state.timers);
    read.offset_expiry = through_bytes(&state.offset_expiry);
    for piece in state.dedup.pieces() {
        read.dedup.restore(through_bytes(&piece)).expect("a part follows those before it");
    }
    for piece in state.tables.pieces() {
        read.tables.restore(through_bytes(&piece)).expect("a part follows those before it");
    }
    for piece in state.offset_metadata_pieces() {
        read.restore_offset_metadata(through_bytes(&piece)).expect("its offsets are there");
    }
    read.kept = through_bytes(&state.kept);
    for (id, topic) in &mut read.topics {
        let config = &mut std::sync::Arc::make_mut(topic).config;
        let TopicConfig { durability, compression, kept, .. } = &state.topics[id].config;
        (config.durability, config.compression) = (*durability, *compression);
        config.kept = through_bytes(kept);
    }
    read
}

fn through_bytes<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(value, config).expect("a state has a byte form");
    let (read, len) = bincode::serde::decode_from_slice(&bytes, config).expect("its bytes are a state");
    assert_eq!(len, bytes.len());
    read
}

pub(crate) fn part(topic: TopicId, index: u32) -> Partition {
    Partition { topic, index }
}

pub(crate) fn append(partition: Partition, batch: Batch) -> Command {
    Command::Append { partition, config_version: 0, expected_end: None, batch }
}

/// How long transactions of the tests may stay open, in ms.
pub(crate) const TIMEOUT_MS: u32 = 60_000;

pub(crate) fn init(transactional_id: &str, current: Option<(ProducerId, i16)>) -> Transactional {
    let transactional_id = transactional_id.to_string();
    Transactional::Init { transactional_id, timeout_ms: TIMEOUT_MS, current, newer_codes: true }
}

pub(crate) fn sender(
    transactional_id: &str,
    producer: (ProducerId, i16),
    protocol: Protocol,
) -> TransactionSender {
    TransactionSender {
        transactional_id: transactional_id.to_string(),
        producer: producer.0,
        producer_epoch: producer.1,
        protocol,
        newer_codes: true,
        connection: 0,
    }
}

pub(crate) fn append_transactional(
    transactional_id: &str,
    protocol: Protocol,
    partition: Partition,
    batch: Batch,
) -> Transactional {
    let transactional_id = transactional_id.to_string();
    Transactional::Append {
        transactional_id,
        protocol,
        newer_codes: true,
        partition,
        config_version: 0,
        batch,
    }
}

pub(crate) fn join(group: &str, topics: &[TopicId]) -> Command {
    Command::JoinGroup { group: group.to_string(), topics: topics.to_vec() }
}

pub(crate) fn offset(partition: Partition, offset: u64) -> OffsetCommit {
    OffsetCommit { partition, offset, reset: false, metadata: OffsetMetadata::default() }
}

pub(crate) fn commit_offsets(group: &str, member: Option<MemberId>, offsets: &[OffsetCommit]) -> Command {
    Command::CommitOffsets { group: group.to_string(), member, offsets: offsets.to_vec() }
}

pub(crate) fn token(producer: (ProducerId, i16), number: u64) -> CommitToken {
    CommitToken { producer: producer.0, producer_epoch: producer.1, number }
}

/// A commit that holds only batches.
pub(crate) fn commit_of(token: CommitToken, batches: &[(Partition, u32)]) -> Commit {
    let batches = batches.iter().map(|(partition, count)| (*partition, records(*count))).collect();
    let (offsets, conditions, marks) = (Vec::new(), Vec::new(), Vec::new());
    Commit {
        token,
        cursor: None,
        batches,
        offsets,
        conditions,
        marks,
        timers: TimerEffects::default(),
        table_writes: Vec::new(),
    }
}

/// What `Tick` answers where there are no wire transactions.
pub(crate) fn ticked(producers: u64, tombstones: u64) -> Reply {
    Reply::Ticked { producers, tombstones, transactions: 0, transactional_ids: 0, offsets: 0 }
}

/// A batch without a producer.
pub(crate) fn records(count: u32) -> Batch {
    built(count, 0, None)
}

/// A batch of an idempotent producer.
pub(crate) fn produced(producer: (ProducerId, i16), base_sequence: i32, count: u32) -> Batch {
    produced_at(producer, base_sequence, count, 0)
}

/// As [`produced`]; all records have the given time.
pub(crate) fn produced_at(
    producer: (ProducerId, i16),
    base_sequence: i32,
    count: u32,
    time_ms: i64,
) -> Batch {
    built(count, time_ms, Some(ProducerStamp { id: producer.0, epoch: producer.1, base_sequence }))
}

pub(crate) fn built(count: u32, time_ms: i64, stamp: Option<ProducerStamp>) -> Batch {
    let mut builder = BatchBuilder::new(64);
    for _ in 0..count {
        builder.append(time_ms, None, Some(b"v"), &[]);
    }
    builder.finish(stamp)
}

/// A batch of a transaction.
pub(crate) fn transactional(producer: (ProducerId, i16), base_sequence: i32, count: u32) -> Batch {
    changed(&produced(producer, base_sequence, count), |header| {
        header[ATTRIBUTES_AT..][..2].copy_from_slice(&TRANSACTIONAL.to_be_bytes());
    })
}

/// A batch that says it is compressed, so that it may state any number of records in a few bytes.
pub(crate) fn compressed(count: u32, stamp: Option<ProducerStamp>) -> Batch {
    let one = built(1, 0, stamp);
    let last_offset_delta = count.saturating_sub(1);
    changed(&one, |header| {
        header[ATTRIBUTES_AT..][..2].copy_from_slice(&GZIP.to_be_bytes());
        header[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&last_offset_delta.to_be_bytes());
        header[RECORD_COUNT_AT..][..4].copy_from_slice(&count.to_be_bytes());
    })
}

/// The batch with another header, and the CRC-32C that belongs to it.
pub(crate) fn changed(batch: &Batch, change: impl FnOnce(&mut [u8; HEADER_BYTES])) -> Batch {
    let mut header = *batch.header();
    change(&mut header);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), batch.body());
    header[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
    let bytes = [&header[..], batch.body()].concat();
    Batch::parse(Bytes::from(bytes)).expect("the test changed the header to a legal one")
}

// The layout of record batch v2, as KIP-98 has it: written down a second time, so that a test can see a slip.
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(crate) const RECORD_COUNT_AT: usize = 57;
pub(crate) const GZIP: u16 = 1;
pub(crate) const TRANSACTIONAL: u16 = 1 << 4;
pub(crate) const CONTROL: u16 = 1 << 5;
