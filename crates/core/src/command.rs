//! Commands: everything that changes the log, and nothing else does.
//!
//! A command is ordered by the journal and then applied by [`State::apply`](crate::state::State::apply). Its bytes
//! are made and read in [`codec`](crate::codec).
//!
//! Invariants
//!   * a command holds all that its effect depends on besides the state: also its time, which travels beside it
//!   * what a command names need not exist: `apply` is total and answers with a refusal

mod dedup;
mod kept;
mod offset_metadata;
mod table;
mod timer;
mod topic_config;
mod transactional;

pub use dedup::{AtCap, Dedup, DedupScope, LEASE_MS_MAX, Mark, RunReady, ScopeRef};
pub use kept::{KEEPABLE, KEPT_BYTES_MAX, KEPT_MAX, Keepable, KeptSettings, keepable_named};
pub use offset_metadata::{OFFSET_METADATA_BYTES_MAX, OffsetMetadata};
pub use table::{TABLE_KEY_BYTES_MAX, TABLE_KEYS_MAX, TableWrite, TableWrites};
pub use timer::{DELAY_MAX_MS, NewTimer, TIMERS_MAX, TimerCommand, TimerEffects};
pub use topic_config::{CleanupPolicy, SettingError, TopicCompression, TopicConfig, TopicDurability};
pub use transactional::{Protocol, TRANSACTIONAL_ID_BYTES_MAX, TransactionSender, Transactional};

use crate::batch::Batch;
use crate::ids::{MemberId, Partition, ProducerId, TopicId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use std::fmt;

/// One change of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The log was opened for writing: the open number rises and the members of earlier opens are fenced.
    Open,
    /// Creates a topic, or answers with the one of this name if its shape and settings are equal.
    CreateTopic {
        /// Name by Kafka's rule: 1 to 249 of `a-zA-Z0-9._-`, not `.` or `..`.
        name: String,
        /// Number of partitions, at least 1.
        partitions: u32,
        /// Settings.
        config: TopicConfig,
    },
    /// Replaces the settings of a topic; its config version rises by one.
    AlterTopic {
        /// The topic.
        topic: TopicId,
        /// The new settings.
        config: TopicConfig,
    },
    /// Deletes a topic with its records and the groups' offsets in it. Its id is never given out again.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Gives out a producer id, or for a name that is known its id with the next epoch (KIP-98).
    InitProducer {
        /// Name of the producer; without one each call gives out a new id.
        name: Option<String>,
    },
    /// Appends one batch.
    Append {
        /// Where to.
        partition: Partition,
        /// The version of the topic's settings that the sender has checked against.
        config_version: u32,
        /// If set: refuse unless the partition ends exactly here.
        expected_end: Option<u64>,
        /// The records. Base offset and leader epoch in its header are not believed.
        batch: Batch,
    },
    /// The embedded transaction: all of it or nothing.
    Commit(Box<Commit>),
    /// Stores a group's positions.
    CommitOffsets {
        /// The group.
        group: String,
        /// The member that commits; none only while the group has no members.
        member: Option<MemberId>,
        /// The positions.
        offsets: Vec<OffsetCommit>,
    },
    /// A new member joins a group.
    JoinGroup {
        /// The group; it is made if it doesn't exist. Its name: [`is_legal_group_name`].
        group: String,
        /// What the member subscribes to.
        topics: Vec<TopicId>,
    },
    /// A member leaves, or is fenced because it doesn't come back.
    LeaveGroup {
        /// The group.
        group: String,
        /// The member.
        member: MemberId,
        /// Whether somebody else says so.
        fenced: bool,
    },
    /// A member confirms that it has stopped working on partitions that it was told to give up.
    ReleasePartitions {
        /// The group.
        group: String,
        /// The member.
        member: MemberId,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// Raises the first offset that can be read. Nothing happens if it is higher already.
    Trim {
        /// The partition.
        partition: Partition,
        /// The new first offset, at most the end.
        start: u64,
    },
    /// Lets time pass: what is due expires.
    Tick,
    /// Changes a setting of the whole log.
    Config(ConfigChange),
    /// A request of a transactional producer, as Kafka's clients make them.
    Transactional(Box<Transactional>),
    /// A request about ids of events.
    Dedup(Box<Dedup>),
    /// Adds partitions to a topic. Nothing happens if it has so many already.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// How many it is to have, with those that it has.
        partitions: u32,
    },
    /// A change of the timers.
    Timer(Box<TimerCommand>),
    /// Forgets positions of a group that has no members.
    DeleteOffsets {
        /// The group.
        group: String,
        /// In which partitions; none: all, and the group itself.
        partitions: Option<Vec<Partition>>,
    },
    /// Creates a table: a compacted topic that only the table writes of commits write to. As `CreateTopic`.
    CreateTable {
        /// Its name, as that of a topic.
        name: String,
        /// Number of partitions, at least 1. It stays, since the keys would move.
        partitions: u32,
        /// Settings; the policy is [`CleanupPolicy::Compact`].
        config: TopicConfig,
    },
}

impl From<Dedup> for Command {
    fn from(request: Dedup) -> Command {
        Command::Dedup(Box::new(request))
    }
}

impl From<TimerCommand> for Command {
    fn from(command: TimerCommand) -> Command {
        Command::Timer(Box::new(command))
    }
}

impl From<Transactional> for Command {
    fn from(request: Transactional) -> Command {
        Command::Transactional(Box::new(request))
    }
}

impl Command {
    /// The command's name, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Command::Open => "Open",
            Command::CreateTopic { .. } => "CreateTopic",
            Command::AlterTopic { .. } => "AlterTopic",
            Command::DeleteTopic { .. } => "DeleteTopic",
            Command::InitProducer { .. } => "InitProducer",
            Command::Append { .. } => "Append",
            Command::Commit(_) => "Commit",
            Command::CommitOffsets { .. } => "CommitOffsets",
            Command::JoinGroup { .. } => "JoinGroup",
            Command::LeaveGroup { .. } => "LeaveGroup",
            Command::ReleasePartitions { .. } => "ReleasePartitions",
            Command::Trim { .. } => "Trim",
            Command::Tick => "Tick",
            Command::Config(_) => "Config",
            Command::Transactional(request) => request.kind_name(),
            Command::Dedup(request) => request.kind_name(),
            Command::CreatePartitions { .. } => "CreatePartitions",
            Command::Timer(command) => command.kind_name(),
            Command::DeleteOffsets { .. } => "DeleteOffsets",
            Command::CreateTable { .. } => "CreateTable",
        }
    }
}

impl Command {
    /// Its batches, in the order of their bodies: what the index of a placement counts.
    pub fn batches(&self) -> SmallVec<[&Batch; 1]> {
        match self {
            Command::Append { batch, .. } => smallvec![batch],
            Command::Commit(commit) => {
                let of_timers = commit.timers.set.iter().map(|timer| &timer.batch);
                let of_tables = commit.table_writes.iter().map(|writes| &writes.batch);
                commit.batches.iter().map(|(_, batch)| batch).chain(of_timers).chain(of_tables).collect()
            }
            Command::Transactional(request) => match &**request {
                Transactional::Append { batch, .. } => smallvec![batch],
                _ => SmallVec::new(),
            },
            Command::Timer(command) => command.batches().collect(),
            Command::Dedup(request) => match &**request {
                Dedup::Append { batch, .. } => smallvec![batch],
                _ => SmallVec::new(),
            },
            _ => SmallVec::new(),
        }
    }
}

/// The parts of an embedded transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Names this commit, so that it applies at most once however often it is submitted.
    pub token: CommitToken,
    /// If set: the producer's position in an outside source, at most [`CURSOR_BYTES_MAX`] bytes.
    pub cursor: Option<Bytes>,
    /// Batches for any partitions; several for one partition follow each other without a gap.
    pub batches: Vec<(Partition, Batch)>,
    /// Positions of groups.
    pub offsets: Vec<GroupOffsets>,
    /// What must hold, or nothing is applied.
    pub conditions: Vec<Condition>,
    /// Ids that are marked as done with the effects; one that is marked already refuses all of the commit.
    pub marks: Vec<Mark>,
    /// Timers that are set and given up.
    pub timers: TimerEffects,
    /// Writes to tables, in order: of several writes of a key the last one counts.
    pub table_writes: Vec<TableWrites>,
}

/// Positions that one member of one group commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    /// The group.
    pub group: String,
    /// The member; none only while the group has no members.
    pub member: Option<MemberId>,
    /// The positions.
    pub offsets: Vec<OffsetCommit>,
}

/// One position: the next offset to be consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: Partition,
    /// The offset of the first record that isn't consumed.
    pub offset: u64,
    /// Whether it may move back: an explicit reset.
    pub reset: bool,
    /// What is kept beside it, at most [`OFFSET_METADATA_BYTES_MAX`] bytes. The next position of the partition takes
    /// its place, also with none.
    pub metadata: OffsetMetadata,
}

/// Names one commit of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommitToken {
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Counts from 1, over all epochs of the producer.
    pub number: u64,
}

impl fmt::Display for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.producer, self.producer_epoch, self.number)
    }
}

/// What must hold for a commit to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The partition ends at this offset.
    EndOffset {
        /// The partition.
        partition: Partition,
        /// The offset that the next record would get.
        offset: u64,
    },
    /// The group's committed position in a partition is this one; `None`: it has none.
    GroupOffset {
        /// The group.
        group: String,
        /// The partition.
        partition: Partition,
        /// The position.
        offset: Option<u64>,
    },
    /// The key's last write in a table is this one; `None`: the key isn't there.
    KeyVersion {
        /// The table.
        table: TopicId,
        /// The key.
        key: Bytes,
        /// The lsn of the commit that wrote it last.
        version: Option<u64>,
    },
}

/// Longest cursor in bytes.
pub const CURSOR_BYTES_MAX: usize = 256;
/// Most batches in one commit, those of its timers and tables included.
pub const COMMIT_BATCHES_MAX: usize = 10_000;
/// Largest commit in bytes: it has to fit into one journal file.
pub const COMMIT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 100_000;
/// Longest name of a topic, group or producer, in bytes.
pub const NAME_BYTES_MAX: usize = 249;

/// A change of a setting of the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Confirms a step of the clock: stamps may follow the wall clock to this time again.
    AcceptTime {
        /// Milliseconds since 1970.
        time_ms: i64,
    },
    /// Raises the semantics level: what `apply` does for commands from here on.
    SemanticsLevel {
        /// The new level, at most [`SEMANTICS_LEVEL`].
        level: u32,
    },
    /// How long a producer may be idle before its window shrinks to a tombstone, and how long that is kept.
    ProducerExpiration {
        /// `producer.id.expiration.ms`, default 86,400,000.
        idle_ms: u64,
        /// Life of the tombstone after that, default 30 days.
        tombstone_ms: u64,
    },
    /// How long wire transactions may stay open, and how long an unused transactional id is kept.
    TransactionLimits {
        /// `transaction.max.timeout.ms`, default 900,000.
        timeout_max_ms: u32,
        /// `transactional.id.expiration.ms`, default 7 days.
        id_expiration_ms: u64,
    },
    /// The key with which ids of events are hashed. The first one stays for the life of the log.
    DedupKey {
        /// Random.
        key: [u8; 16],
    },
    /// How long and how many ids of events are remembered. It counts for ids that are marked from here on.
    DedupLimits {
        /// `dedup.ttl.ms`, default 7 days.
        ttl_ms: u64,
        /// `dedup.entries.max`, default 100,000,000: ids that are remembered or reserved at once.
        entries_max: u64,
        /// What a new id meets when so many are there.
        at_cap: AtCap,
    },
    /// How many timers may wait, and for how long. Those that wait already stay.
    TimerLimits {
        /// `delivery.timers.max`, default [`TIMERS_MAX`].
        count_max: u64,
        /// `delivery.delay.max.ms`, default [`DELAY_MAX_MS`].
        delay_max_ms: u64,
    },
    /// How long committed offsets are kept that nobody uses.
    OffsetRetention {
        /// `offsets.retention.ms`, default 7 days.
        retention_ms: u64,
    },
    /// How many keys tables may have, and how long these may be. Those that are there already stay.
    TableLimits {
        /// `table.keys.max`, default [`TABLE_KEYS_MAX`]: keys of all tables together.
        keys_max: u64,
        /// `table.key.max.bytes`, default [`TABLE_KEY_BYTES_MAX`].
        key_bytes_max: u64,
    },
    /// What topics have of the settings that change nothing, if they say nothing else.
    KeptSettings(KeptSettings),
}

/// The semantics level at which every journal begins, also one that a newer release writes: the same commands
/// replayed from the start then meet the same rules. The shell raises the level of a new log by a `Config`.
pub const SEMANTICS_LEVEL_FIRST: u32 = 1;

/// From this level on names of groups are free text, [`is_legal_group_name`] (ADR 40).
pub const SEMANTICS_LEVEL_GROUP_NAMES: u32 = 2;

/// From this level on a position may lie behind the end of its partition, as in Kafka, unless a commit of the embedded
/// kind stores it (ADR 45).
pub const SEMANTICS_LEVEL_OFFSETS_AHEAD: u32 = 3;

/// The newest semantics level that this build knows.
pub const SEMANTICS_LEVEL: u32 = SEMANTICS_LEVEL_OFFSETS_AHEAD;

/// Checks a name of a group: 1 to [`NAME_BYTES_MAX`] bytes without control characters, and not only spaces. Whatever
/// is legal by [`is_legal_name`] is so here.
pub fn is_legal_group_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !name.trim().is_empty() && !name.contains(char::is_control)
}

/// Checks a name of a topic or producer by Kafka's rule. Below [`SEMANTICS_LEVEL_GROUP_NAMES`] also that of a group.
pub fn is_legal_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
