//! What `apply` answers: a reply for the sender, and placements for whoever keeps the bytes.

use crate::batch::{Batch, Control};
use crate::command::{CleanupPolicy, CommitToken, DedupScope, TopicConfig};
use crate::error_code::*;
use crate::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

/// The outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer to the sender.
    pub reply: Reply,
    /// One for each batch that became part of the log, in the order of the command's batches.
    pub placements: SmallVec<[Placement; 1]>,
    /// Control batches that the command brought into the log and didn't carry: those of transactions that ended.
    pub markers: Vec<Marker>,
    /// The hidden partition of timers begins here now, if it began earlier before.
    pub timers_start: Option<u64>,
}

impl Applied {
    /// Only an answer: nothing became part of the log.
    pub(crate) fn only(reply: Reply) -> Applied {
        Applied { reply, placements: SmallVec::new(), markers: Vec::new(), timers_start: None }
    }

    /// Partitions in which something became part of the log, in the order of the command.
    pub fn touched(&self) -> impl Iterator<Item = Partition> + '_ {
        let batches = self.placements.iter().map(|placement| placement.partition);
        batches.chain(self.markers.iter().map(|marker| marker.partition))
    }
}

/// A control batch that `apply` has made from a command, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: u64,
    /// The leader epoch that its header shows.
    pub leader_epoch: u32,
    /// What it says.
    pub control: Control,
}

impl Marker {
    /// Its bytes, in its place: the same ones whenever it is asked.
    pub fn batch(&self) -> Batch {
        Batch::control(&self.control).placed(self.offset, self.leader_epoch)
    }
}

/// Where a batch stands in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The partition.
    pub partition: Partition,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset behind its last record.
    pub next_offset: u64,
    /// The leader epoch that its header shows: the term of the shard.
    pub leader_epoch: u32,
    /// Which of the command's batches it is.
    pub index: u32,
    /// The time of the append, ms, if the topic's records have that instead of their own (`LogAppendTime`): the header
    /// then shows it as its maximum timestamp. Record bytes stay as they are.
    pub append_time_ms: Option<i64>,
}

impl Placement {
    /// The batch in its place.
    pub fn placed(&self, batch: &Batch) -> Batch {
        match self.append_time_ms {
            Some(time_ms) => batch.placed_at_append_time(self.base_offset, self.leader_epoch, time_ms),
            None => batch.placed(self.base_offset, self.leader_epoch),
        }
    }

    /// The greatest timestamp that the batch shows in its place, ms.
    pub fn max_timestamp_ms(&self, batch: &Batch) -> i64 {
        self.append_time_ms.unwrap_or_else(|| batch.max_timestamp_ms())
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `Open`: the number of this open, from 1.
    Opened {
        /// The number.
        number: u64,
    },
    /// `CreateTopic`: it exists now.
    Topic {
        /// Its id.
        topic: TopicId,
        /// Whether it existed before.
        existed: bool,
    },
    /// `AlterTopic`.
    TopicAltered {
        /// Its config version now.
        config_version: u32,
    },
    /// `DeleteTopic`.
    TopicDeleted,
    /// `InitProducer`.
    Producer {
        /// The id.
        producer: ProducerId,
        /// The epoch; all lower ones are fenced.
        producer_epoch: i16,
        /// The number of its last commit, 0 if there was none.
        last_number: u64,
        /// Its cursor, if a commit set one.
        cursor: Option<Bytes>,
    },
    /// `Append`: the records are in the log, now or since before.
    Appended {
        /// Offset of the first record: of the original, if this is a duplicate.
        base_offset: u64,
        /// Largest timestamp of the batch, ms: of the original, if this is a duplicate.
        timestamp_ms: i64,
        /// First offset that can be read.
        start_offset: u64,
        /// Whether nothing was appended since these records are remembered.
        duplicate: bool,
    },
    /// `Commit`: everything in it is in effect, now or since before.
    Committed(Committed),
    /// `Commit` of a token that was committed so long ago that its answer is no longer kept.
    CommittedBefore,
    /// `CommitOffsets`.
    OffsetsCommitted,
    /// `JoinGroup`.
    Joined {
        /// The new member.
        member: MemberId,
        /// The generation that it starts.
        generation: u64,
    },
    /// `LeaveGroup`, `ReleasePartitions`: the generation now.
    Group {
        /// The generation.
        generation: u64,
    },
    /// `Trim`.
    Trimmed {
        /// First offset that can be read now.
        start_offset: u64,
    },
    /// [`Transactional::Init`](crate::command::Transactional::Init),
    /// [`Transactional::End`](crate::command::Transactional::End): who the sender is from now on.
    Transactional {
        /// The producer.
        producer: ProducerId,
        /// Its epoch.
        producer_epoch: i16,
    },
    /// [`Transactional::AddPartitions`](crate::command::Transactional::AddPartitions),
    /// [`Transactional::AddOffsets`](crate::command::Transactional::AddOffsets),
    /// [`Transactional::CommitOffsets`](crate::command::Transactional::CommitOffsets): part of this transaction.
    InTransaction {
        /// The lsn of the command that began it.
        txn_seq: u64,
    },
    /// `Tick`: what expired.
    Ticked {
        /// Producers of partitions whose window is gone.
        producers: u64,
        /// Tombstones that are gone.
        tombstones: u64,
        /// Wire transactions that were open for too long and are aborted.
        transactions: u64,
        /// Transactional ids that nobody used and that are gone.
        transactional_ids: u64,
        /// Committed offsets that nobody used and that are gone.
        offsets: u64,
    },
    /// `Config`.
    Configured,
    /// [`Dedup::Reserve`](crate::command::Dedup::Reserve): the id is the sender's.
    Reserved {
        /// The lsn of the command, which proves it.
        reservation: u64,
        /// When the lease ends, ms since 1970.
        until_ms: i64,
    },
    /// [`Dedup::Finish`](crate::command::Dedup::Finish): the id is seen, now or since before.
    Finished,
    /// [`Dedup::Release`](crate::command::Dedup::Release): the id is free.
    Released,
    /// [`TimerCommand::Set`](crate::command::TimerCommand::Set): it waits.
    TimerSet {
        /// Its id.
        timer: TimerId,
    },
    /// [`TimerCommand::Cancel`](crate::command::TimerCommand::Cancel).
    TimerCancelled(Cancellation),
    /// [`TimerCommand::Fire`](crate::command::TimerCommand::Fire): the batch is part of the log.
    TimerFired {
        /// Where it is.
        partition: Partition,
        /// Offset of its first record.
        base_offset: u64,
        /// When it was due, ms since 1970.
        due_ms: i64,
    },
    /// [`TimerCommand::Fire`](crate::command::TimerCommand::Fire): its time came, and the batch can't go where it was
    /// to go. The timer stays, with its payload.
    TimerFailed(TimerFailure),
    /// [`TimerCommand::Carry`](crate::command::TimerCommand::Carry).
    TimersCarried,
    /// Nothing was applied.
    Refused(Refusal),
    /// `CreatePartitions`.
    Partitions {
        /// How many the topic has now.
        partitions: u32,
        /// How many of them are new.
        added: u32,
    },
    /// `DeleteOffsets`.
    OffsetsDeleted {
        /// How many positions there were.
        positions: u64,
    },
    /// [`Dedup::RunReady`](crate::command::Dedup::RunReady): the run is where its marks are looked for.
    RunTaken {
        /// How many marks it has.
        entries: u64,
    },
    /// [`Dedup::Forget`](crate::command::Dedup::Forget): the id is absent.
    Forgotten {
        /// Where it was seen; none: it was absent before.
        sighting: Option<Sighting>,
    },
}

/// What is known of an event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it was never seen, or its time is over.
    Absent,
    /// Somebody works on it.
    Reserved {
        /// The lsn of the command that reserved it.
        reservation: u64,
        /// When the lease ends, ms since 1970.
        until_ms: i64,
    },
    /// It had its effects.
    Done(Sighting),
}

/// Where an id was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A record.
    Record {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: u64,
    },
    /// A command: the commit that marked the id, or the reservation that was finished.
    Command {
        /// Its position.
        lsn: u64,
    },
}

/// A record of a batch whose id was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenEvent {
    /// Which of the batch's records.
    pub index: u32,
    /// Where its id was seen.
    pub sighting: Sighting,
}

impl std::fmt::Display for Sighting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sighting::Record { partition, offset } => write!(f, "partition {partition} offset {offset}"),
            Sighting::Command { lsn } => write!(f, "lsn {lsn}"),
        }
    }
}

/// What a commit did. The same for every retry of its token, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The csn: a reader that has seen this lsn sees all of the commit.
    pub lsn: u64,
    /// The first offset in each partition, in the order of the command, at most [`KEPT_PARTITIONS_MAX`] of them.
    pub base_offsets: Vec<(Partition, u64)>,
    /// The first timer that it has set; the ids of the others follow it.
    pub first_timer: Option<TimerId>,
    /// Whether this answers a retry.
    pub duplicate: bool,
}

/// What became of a wish to give a timer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It was waiting, and never fires now.
    Cancelled,
    /// It had been cancelled before.
    CancelledBefore,
    /// It has fired.
    Fired,
    /// It has fired or been cancelled: which of both is no longer kept.
    Ended,
    /// There was never such a timer.
    NeverSet,
}

impl Cancellation {
    /// In words, for messages.
    pub fn text(self) -> &'static str {
        match self {
            Cancellation::Cancelled => "it is cancelled",
            Cancellation::CancelledBefore => "it was cancelled before",
            Cancellation::Fired => "it has fired",
            Cancellation::Ended => "it has ended long ago",
            Cancellation::NeverSet => "there was never such a timer",
        }
    }
}

/// Why the batch of a timer can't go where it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerFailure {
    /// The topic was deleted. Its id is never given out again.
    NoTarget,
    /// The batch is over the topic's `max.message.bytes`, which was lowered. Once that is altered it is tried again.
    TooLarge,
    /// The partition has no offsets left.
    NoRoom,
}

impl TimerFailure {
    /// In words, for messages.
    pub fn text(self) -> &'static str {
        match self {
            TimerFailure::NoTarget => "its topic was deleted",
            TimerFailure::TooLarge => "it is over the topic's max.message.bytes by now",
            TimerFailure::NoRoom => "the partition has no offsets left",
        }
    }
}

/// Base offsets that a remembered commit keeps.
pub const KEPT_PARTITIONS_MAX: usize = 64;

/// Why a command was refused. Nothing of it was applied, and no offset or number was used up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum Refusal {
    #[error("name {name:?} is not legal: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', and not '.' or '..'")]
    IllegalName { name: String },
    #[error(
        "group name {name:?} is not legal: 1 to 249 bytes of UTF-8 without control characters, not only spaces"
    )]
    IllegalGroupName { name: String },
    #[error("topic {name:?} exists with other settings: {differences}")]
    TopicExists { name: String, topic: TopicId, differences: String },
    #[error("{partitions} partitions: a topic has 1 to {max}")]
    PartitionCount { partitions: u32, max: u32 },
    #[error("topic {topic} doesn't exist")]
    UnknownTopic { topic: TopicId },
    #[error("partition {partition} doesn't exist: its topic has {partitions}")]
    UnknownPartition { partition: Partition, partitions: u32 },
    #[error("setting {setting} = {value} is out of bounds: {min} to {max}")]
    SettingOutOfBounds { setting: &'static str, value: u64, min: u64, max: u64 },
    #[error("the settings of the topic changed: version {current} instead of {sent}")]
    ConfigChanged { sent: u32, current: u32 },
    #[error("a batch of {bytes} bytes is over the topic's max.message.bytes = {max}")]
    BatchTooLarge { bytes: u64, max: u32 },
    #[error("partition {partition} ends at offset {actual}, not at {expected}")]
    EndOffset { partition: Partition, expected: u64, actual: u64 },
    #[error("partition {partition} is full: offset {end} can't be followed by {records} more")]
    OffsetsExhausted { partition: Partition, end: u64, records: u64 },
    #[error("term {term} is over {max}: a batch header can't show it as leader epoch")]
    LeaderEpochsExhausted { term: u32, max: u32 },
    #[error("producer {producer} epoch {sent} is fenced by epoch {current}")]
    ProducerFenced { producer: ProducerId, sent: i16, current: i16 },
    #[error("producer {producer} epoch {sent} was never given out; the current one is {current}")]
    ProducerEpochUnknown { producer: ProducerId, sent: i16, current: i16 },
    #[error("producer {producer} on {partition}: sequence {sent} instead of {expected}")]
    OutOfOrderSequence { producer: ProducerId, partition: Partition, sent: i32, expected: i32 },
    #[error(
        "producer {producer} on {partition}: sequence {sent} was appended before, its offset is no longer kept"
    )]
    DuplicateSequence { producer: ProducerId, partition: Partition, sent: i32 },
    #[error("producer {producer} doesn't exist")]
    UnknownProducer { producer: ProducerId },
    #[error("no producer id is left")]
    ProducersExhausted,
    #[error("no topic id is left")]
    TopicsExhausted,
    #[error("commit {token}: the next number is {expected}")]
    CommitNumber { token: CommitToken, expected: u64 },
    #[error("commit {token}: its epoch is fenced by epoch {current}; it was not applied")]
    CommitFenced { token: CommitToken, current: i16 },
    #[error("commit {token}: its epoch is too old to say whether it was applied")]
    CommitForgotten { token: CommitToken },
    #[error("partition {partition} is named twice among the positions of one group")]
    PartitionTwice { partition: Partition },
    #[error("a cursor of {bytes} bytes is over the limit of {max}")]
    CursorTooLarge { bytes: usize, max: usize },
    #[error("a commit of {batches} batches is over the limit of {max}")]
    TooManyBatches { batches: usize, max: usize },
    #[error("group {group:?} has no member {member}: it left or was fenced")]
    UnknownMember { group: String, member: MemberId },
    #[error("group {group:?}: partition {partition} isn't owned by member {member}")]
    NotOwned { group: String, partition: Partition, member: MemberId },
    #[error("group {group:?} has {members} members: only they commit its offsets")]
    GroupNotEmpty { group: String, members: usize },
    #[error("group {group:?} at {partition}: offset {sent} is outside {start} to {end}")]
    OffsetOutOfRange { group: String, partition: Partition, sent: u64, start: u64, end: u64 },
    #[error("group {group:?} at {partition}: offset {sent} is behind the committed {committed}")]
    OffsetRegress { group: String, partition: Partition, sent: u64, committed: u64 },
    #[error("group {group:?} at {partition}: committed is {actual:?}, not {expected:?}")]
    GroupOffset { group: String, partition: Partition, expected: Option<u64>, actual: Option<u64> },
    #[error("partition {partition}: start {sent} is behind its end {end}")]
    TrimOutOfRange { partition: Partition, sent: u64, end: u64 },
    #[error("semantics level {sent}: it is {current} and this release knows up to {max}")]
    SemanticsLevel { sent: u32, current: u32, max: u32 },
    #[error("a batch from a client {what}")]
    Batch { what: &'static str },
    #[error("a transactional id of {bytes} bytes: it has 1 to {max}")]
    TransactionalIdLength { bytes: usize, max: usize },
    #[error(
        "a transaction timeout of {timeout_ms} ms: transaction.max.timeout.ms is {max_ms}, and 0 is none"
    )]
    TransactionTimeout { timeout_ms: u32, max_ms: u32 },
    #[error("transactional id {transactional_id:?} isn't that of producer {producer}")]
    TransactionalIdMapping { transactional_id: String, producer: ProducerId },
    #[error("transactional id {transactional_id:?}: epoch {sent} is fenced, the current one is {current}")]
    TransactionFenced { transactional_id: String, sent: i16, current: i16, newer_codes: bool },
    #[error("transactional id {transactional_id:?}: {what}")]
    TransactionState { transactional_id: String, what: &'static str },
    #[error(
        "transactional id {transactional_id:?}: connection {sent} is older than {current}, which added last"
    )]
    OlderConnection { transactional_id: String, sent: u64, current: u64 },
    #[error("transactional id {transactional_id:?}: partition {partition} isn't part of an open transaction")]
    PartitionNotInTransaction { transactional_id: String, partition: Partition, newer_codes: bool },
    #[error("transactional id {transactional_id:?}: group {group:?} isn't part of an open transaction")]
    GroupNotInTransaction { transactional_id: String, group: String, newer_codes: bool },
    #[error("producer {producer} has an open transaction: a batch outside of it has to wait")]
    OpenTransaction { producer: ProducerId },
    #[error(
        "producer {producer} on {partition}: sequence {sent} was appended by a transaction that is aborted"
    )]
    AbortedSequence { producer: ProducerId, partition: Partition, sent: i32 },
    #[error("group {group:?}: generation {sent} is not the current {current}")]
    StaleGeneration { group: String, sent: u64, current: u64 },
    #[error("group {group:?} at {partition}: an open transaction is about to commit another offset")]
    UnstableOffset { group: String, partition: Partition },
    #[error(
        "metadata of {bytes} bytes beside the offset at {partition} is over offset.metadata.max.bytes = {max}"
    )]
    OffsetMetadataTooLarge { partition: Partition, bytes: usize, max: usize },
    #[error("{} of the events were seen before", seen.len())]
    EventsSeen { seen: Vec<SeenEvent> },
    #[error("id {id} of {scope} was seen before, at {sighting}")]
    EventSeen { scope: DedupScope, id: DedupId, sighting: Sighting },
    #[error("id {id} of {scope} is in progress until {until_ms} ms, reserved by lsn {reservation}")]
    EventReserved { scope: DedupScope, id: DedupId, reservation: u64, until_ms: i64 },
    #[error("id {id} of {scope} isn't reserved by lsn {reservation} any more")]
    ReservationLapsed { scope: DedupScope, id: DedupId, reservation: u64 },
    #[error("id {id} of {scope} is marked twice by one commit")]
    EventTwice { scope: DedupScope, id: DedupId },
    #[error("a mark is for record {record} of batch {batch}, which the commit doesn't have")]
    MarkWithoutRecord { batch: u32, record: u32 },
    #[error("{entries} ids are remembered, and {more} more would be over dedup.entries.max = {max}")]
    DedupFull { entries: u64, more: u64, max: u64 },
    #[error("{waiting} timers wait: {sent} more are over delivery.timers.max = {max}")]
    TooManyTimers { waiting: u64, sent: u64, max: u64 },
    #[error("a timer due at {due_ms} is {delay_ms} ms ahead: delivery.delay.max.ms is {max_ms}")]
    DelayTooLong { due_ms: i64, delay_ms: u64, max_ms: u64 },
    #[error("timer {timer} doesn't wait: {}", .was.text())]
    TimerEnded { timer: TimerId, was: Cancellation },
    #[error("timer {timer} is due at {due_ms}, and it is {now_ms}")]
    TimerNotDue { timer: TimerId, due_ms: i64, now_ms: i64 },
    #[error("timer {timer} waits for something else than time: {}", .failure.text())]
    TimerStuck { timer: TimerId, failure: TimerFailure },
    #[error("timer {timer}: these bytes aren't those that it was set with")]
    TimerPayload { timer: TimerId },
    #[error("topic {topic} has {current} partitions, and can't have {sent}: none can be taken away")]
    FewerPartitions { topic: TopicId, sent: u32, current: u32 },
    #[error(
        "timestamp {timestamp_ms} is outside {least} to {greatest}: \
         the topic's message.timestamp.before.max.ms and .after.max.ms around the time of the log"
    )]
    Timestamp { timestamp_ms: i64, least: i64, greatest: i64 },
    #[error("topic {topic} is compacted: its records go when their keys have later values, not by trimming")]
    TrimCompacted { topic: TopicId },
    #[error("group {group:?} doesn't exist")]
    UnknownGroup { group: String },
    #[error("topic {topic} is a table: only the table writes of a transaction write to it")]
    TableAsTopic { topic: TopicId },
    #[error("topic {topic} is no table")]
    NoTable { topic: TopicId },
    #[error(
        "a table's cleanup.policy is compact, and can't be {policy}: of each key the last value has to stay"
    )]
    TablePolicy { policy: CleanupPolicy },
    #[error("table {table} has {current} partitions, and can't get {sent}: its keys would move")]
    TablePartitions { table: TopicId, sent: u32, current: u32 },
    #[error("a key of {bytes} bytes is over table.key.max.bytes = {max}")]
    TableKeyLength { bytes: u64, max: u64 },
    #[error("key {} belongs to partition {right} of table {table}, not to {sent}", show_key(.key))]
    TableKeyPartition { table: TopicId, key: Bytes, sent: u32, right: u32 },
    #[error("tables have {keys} keys, and {more} more would be over table.keys.max = {max}")]
    TablesFull { keys: u64, more: u64, max: u64 },
    #[error(
        "key {} of table {table} has {}, not {}",
        show_key(.key), show_version(*.actual), show_version(*.expected)
    )]
    KeyVersion { table: TopicId, key: Bytes, expected: Option<u64>, actual: Option<u64> },
    #[error("run {run} of marks isn't taken: {what}")]
    RunUnfit { run: u64, what: &'static str },
}

/// A key in a message: as text where it is, and not all of a long one.
fn show_key(key: &[u8]) -> String {
    const SHOWN_BYTES: usize = 64;
    match key.get(..SHOWN_BYTES) {
        Some(begin) => format!("\"{}...\" of {} bytes", begin.escape_ascii(), key.len()),
        None => format!("\"{}\"", key.escape_ascii()),
    }
}

fn show_version(version: Option<u64>) -> String {
    version.map_or_else(|| "no value".to_string(), |version| format!("version {version}"))
}

impl Refusal {
    /// Kafka's error code for it.
    pub fn kafka_code(&self) -> i16 {
        match self {
            Refusal::IllegalName { .. } => INVALID_TOPIC_EXCEPTION,
            Refusal::IllegalGroupName { .. } => INVALID_GROUP_ID,
            Refusal::TopicExists { .. } => TOPIC_ALREADY_EXISTS,
            Refusal::PartitionCount { .. } => INVALID_PARTITIONS,
            Refusal::UnknownTopic { .. } | Refusal::UnknownPartition { .. } => UNKNOWN_TOPIC_OR_PARTITION,
            Refusal::SettingOutOfBounds { .. } => INVALID_CONFIG,
            // Whoever checked the batch against the old settings does it again.
            Refusal::ConfigChanged { .. } => REQUEST_TIMED_OUT,
            Refusal::BatchTooLarge { .. } => MESSAGE_TOO_LARGE,
            Refusal::ProducerFenced { .. } | Refusal::ProducerEpochUnknown { .. } => INVALID_PRODUCER_EPOCH,
            Refusal::OutOfOrderSequence { .. } => OUT_OF_ORDER_SEQUENCE_NUMBER,
            Refusal::DuplicateSequence { .. } => DUPLICATE_SEQUENCE_NUMBER,
            Refusal::UnknownProducer { .. } => INVALID_PRODUCER_ID_MAPPING,
            Refusal::CommitNumber { .. } | Refusal::CommitForgotten { .. } => INVALID_TXN_STATE,
            Refusal::CommitFenced { .. } => PRODUCER_FENCED,
            Refusal::UnknownMember { .. } | Refusal::GroupNotEmpty { .. } => UNKNOWN_MEMBER_ID,
            Refusal::NotOwned { .. } => ILLEGAL_GENERATION,
            Refusal::OffsetOutOfRange { .. } | Refusal::TrimOutOfRange { .. } => OFFSET_OUT_OF_RANGE,
            Refusal::Batch { .. } => INVALID_RECORD,
            Refusal::TransactionTimeout { .. } => INVALID_TRANSACTION_TIMEOUT,
            Refusal::TransactionalIdMapping { .. } => INVALID_PRODUCER_ID_MAPPING,
            Refusal::TransactionFenced { newer_codes: true, .. } => PRODUCER_FENCED,
            Refusal::TransactionFenced { .. } | Refusal::OlderConnection { .. } => INVALID_PRODUCER_EPOCH,
            Refusal::PartitionNotInTransaction { newer_codes: true, .. }
            | Refusal::GroupNotInTransaction { newer_codes: true, .. } => TRANSACTION_ABORTABLE,
            Refusal::PartitionNotInTransaction { .. }
            | Refusal::GroupNotInTransaction { .. }
            | Refusal::TransactionState { .. }
            | Refusal::OpenTransaction { .. } => INVALID_TXN_STATE,
            Refusal::AbortedSequence { .. } => OUT_OF_ORDER_SEQUENCE_NUMBER,
            Refusal::StaleGeneration { .. } => ILLEGAL_GENERATION,
            Refusal::UnstableOffset { .. } => UNSTABLE_OFFSET_COMMIT,
            Refusal::OffsetMetadataTooLarge { .. } => OFFSET_METADATA_TOO_LARGE,
            // Clients take it for success, as of a sequence that was seen before.
            Refusal::EventsSeen { .. } | Refusal::EventSeen { .. } => DUPLICATE_SEQUENCE_NUMBER,
            // Later the id is seen, or free again.
            Refusal::EventReserved { .. } => REQUEST_TIMED_OUT,
            Refusal::ReservationLapsed { .. } => PRODUCER_FENCED,
            Refusal::EventTwice { .. } | Refusal::MarkWithoutRecord { .. } => INVALID_RECORD,
            Refusal::DedupFull { .. } => POLICY_VIOLATION,
            Refusal::FewerPartitions { .. } => INVALID_PARTITIONS,
            Refusal::Timestamp { .. } => INVALID_TIMESTAMP,
            Refusal::TrimCompacted { .. } => POLICY_VIOLATION,
            Refusal::UnknownGroup { .. } => GROUP_ID_NOT_FOUND,
            Refusal::TableAsTopic { .. } | Refusal::TablesFull { .. } => POLICY_VIOLATION,
            Refusal::TablePolicy { .. } => INVALID_CONFIG,
            Refusal::TablePartitions { .. } => INVALID_PARTITIONS,
            Refusal::TableKeyLength { .. } => INVALID_RECORD,
            Refusal::TransactionalIdLength { .. }
            | Refusal::EndOffset { .. }
            | Refusal::OffsetsExhausted { .. }
            | Refusal::LeaderEpochsExhausted { .. }
            | Refusal::ProducersExhausted
            | Refusal::TopicsExhausted
            | Refusal::PartitionTwice { .. }
            | Refusal::CursorTooLarge { .. }
            | Refusal::TooManyBatches { .. }
            | Refusal::OffsetRegress { .. }
            | Refusal::GroupOffset { .. }
            | Refusal::SemanticsLevel { .. }
            | Refusal::TooManyTimers { .. }
            | Refusal::DelayTooLong { .. }
            | Refusal::TimerEnded { .. }
            | Refusal::TimerNotDue { .. }
            | Refusal::TimerStuck { .. }
            | Refusal::TimerPayload { .. }
            | Refusal::NoTable { .. }
            | Refusal::TableKeyPartition { .. }
            | Refusal::KeyVersion { .. }
            | Refusal::RunUnfit { .. } => INVALID_REQUEST,
        }
    }
}

/// Names the settings in which two topics differ, with both values; empty if they are equal.
pub fn topic_differences(have: (u32, &TopicConfig), want: (u32, &TopicConfig)) -> String {
    let partitions = |count: u32| ("partitions", count.to_string());
    let rows = |(count, config): (u32, &TopicConfig)| {
        std::iter::once(partitions(count)).chain(config.rows()).collect::<Vec<_>>()
    };
    let (have, want) = (rows(have), rows(want));
    let different = have.iter().zip(&want).filter(|(have, want)| have != want);
    let said = different.map(|((name, have), (_, want))| format!("{name} is {have}, not {want}"));
    said.collect::<Vec<_>>().join(", ")
}
