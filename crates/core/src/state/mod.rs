//! The state of a shard and the one function that changes it.
//!
//! ```text
//! (lsn, term, time, command) -> State::apply -> reply + placements
//! ```
//!
//! Live, after a crash and on a replica the same commands are applied in the same order, so all three hold the
//! same state and gave the same replies. Nothing here reads a clock, a file, randomness or a hash order.
//!
//! Invariants
//!   * `apply` is total: any command in any state gets a reply, and a refused one changes only lsn and time
//!   * time never goes back: it is the highest time of any command so far
//!   * ids of topics, producers and members are never given out twice
//!   * sections stand behind [`Arc`], so that a checkpoint takes a copy without stopping the writer for long

mod assignment;
mod commit;
mod dedup;
mod forgetting;
mod group;
mod identified;
mod mark_map;
mod marks;
mod offset_expiry;
mod offset_metadata;
mod pieces;
mod producer;
mod runs;
mod stable;
mod table;
mod timer;
mod topic;
mod transaction;
pub mod version_2;
mod window;

pub use dedup::{Dedup, DedupLimits, DedupPiece};
pub use group::{CommittedOffset, Group, Member, Owner};
pub use marks::{MarkKey, Place, RolledMarks, ScopeKey, mark_digest};
pub use offset_expiry::OffsetExpiry;
pub use offset_metadata::OffsetMetadataPiece;
pub use producer::{EpochEnd, KeptReply, Producer};
pub use runs::{Answers, Found, Manifest, RUNS_OF_A_BUCKET_MAX, Run, RunSource};
pub use stable::{AbortedTransaction, OpenTransaction, Undecided};
pub use table::{Table, TableLimits, TablePiece, TablePlace, Tables};
pub use timer::{Timer, TimerLimits, Timers};
pub use topic::{LeaderEpochStart, PartitionState, Topic};
pub use transaction::{Transaction, TransactionPhase, TransactionalProducer};
pub use window::{ProducerWindow, RememberedBatch, Tombstone};

use crate::command::{Command, ConfigChange, KeptSettings, SEMANTICS_LEVEL, SEMANTICS_LEVEL_FIRST};
use crate::ids::{Partition, ProducerId, TopicId};
use crate::reply::{Applied, Refusal, Reply};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topic::Arrival;

/// Everything that decides what the next command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Position of the last command applied; 0 before the first.
    pub lsn: u64,
    /// Highest time of any command so far, ms since 1970.
    pub time_ms: i64,
    /// What `apply` does for commands from here on; raised by `Config`.
    pub semantics_level: u32,
    /// How often the log was opened for writing.
    pub open_number: u64,
    /// Settings of the whole log.
    pub settings: Settings,
    /// Topics by id.
    pub topics: BTreeMap<TopicId, Arc<Topic>>,
    /// Topic ids by name.
    pub topic_names: BTreeMap<String, TopicId>,
    /// Named producers by id.
    pub producers: BTreeMap<ProducerId, Arc<Producer>>,
    /// Ids of named producers.
    pub producer_names: BTreeMap<String, ProducerId>,
    /// Former ids of named producers whose epochs ran out, and what they are now.
    pub producer_renamed: BTreeMap<ProducerId, ProducerId>,
    /// Groups by name.
    pub groups: BTreeMap<String, Arc<Group>>,
    /// Producers of wire transactions, by transactional id.
    pub transactional: BTreeMap<String, Arc<TransactionalProducer>>,
    /// Transactional ids by their producer ids.
    pub transactional_ids: BTreeMap<ProducerId, String>,
    /// Ids of events. A section of its own in checkpoints, and not a part of these bytes.
    #[serde(skip)]
    pub dedup: Dedup,
    next_topic: u32,
    next_producer: i64,
    next_deadline_ms: i64,
    transaction_deadlines: BTreeSet<(i64, ProducerId)>,
    /// Batches that wait for their time. A section of its own in a checkpoint.
    #[serde(skip)]
    pub timers: Timers,
    /// When offsets are forgotten that nobody uses. A section of its own in a checkpoint.
    #[serde(skip)]
    pub offset_expiry: OffsetExpiry,
    /// Where the keys of tables are. A section of its own in a checkpoint.
    #[serde(skip)]
    pub tables: Tables,
    /// What topics have of the settings that change nothing, if they say nothing else. With those of the topics a
    /// section of its own in a checkpoint.
    #[serde(skip)]
    pub kept: KeptSettings,
}

/// Settings of the whole log, changed by `Config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Idle time after which a producer's window in a partition shrinks to a tombstone.
    pub producer_idle_ms: u64,
    /// Life of the tombstone after that.
    pub producer_tombstone_ms: u64,
    /// Longest time that a wire transaction may ask to stay open.
    pub transaction_timeout_max_ms: u32,
    /// Time after which a transactional id that nobody uses is forgotten.
    pub transactional_id_expiration_ms: u64,
}

impl Settings {
    /// Bounded by `TransactionLimits`, so the cast loses nothing.
    fn transactional_id_idle_ms(&self) -> i64 {
        self.transactional_id_expiration_ms as i64
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            producer_idle_ms: DAY_MS,
            producer_tombstone_ms: 30 * DAY_MS,
            transaction_timeout_max_ms: 900_000,
            transactional_id_expiration_ms: 7 * DAY_MS,
        }
    }
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Longest time of any setting, in ms: about a hundred years.
const SETTING_MS_MAX: u64 = 100 * 366 * DAY_MS;

impl Default for State {
    fn default() -> Self {
        State {
            lsn: 0,
            time_ms: 0,
            semantics_level: SEMANTICS_LEVEL_FIRST,
            open_number: 0,
            settings: Settings::default(),
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            producers: BTreeMap::new(),
            producer_names: BTreeMap::new(),
            producer_renamed: BTreeMap::new(),
            groups: BTreeMap::new(),
            transactional: BTreeMap::new(),
            transactional_ids: BTreeMap::new(),
            dedup: Dedup::default(),
            next_topic: 1,
            next_producer: 1,
            next_deadline_ms: i64::MAX,
            transaction_deadlines: BTreeSet::new(),
            timers: Timers::default(),
            offset_expiry: OffsetExpiry::default(),
            tables: Tables::default(),
            kept: KeptSettings::default(),
        }
    }
}

/// Position, term and time of a command: what the journal adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Position in the journal, dense from 1.
    pub lsn: u64,
    /// Term of the shard; records appended show it as their leader epoch.
    pub term: u32,
    /// When the writer took the command, ms since 1970.
    pub time_ms: i64,
}

/// What a step of `apply` ends in: done with a reply, or refused.
type Outcome = Result<Applied, Refusal>;

fn done(reply: Reply) -> Outcome {
    Ok(Applied::only(reply))
}

/// Appends the newest, and lets go of the oldest so that at most `most` are left.
fn push_bounded<T>(kept: &mut Vec<T>, newest: T, most: usize) {
    kept.drain(..(kept.len() + 1).saturating_sub(most));
    kept.push(newest);
}

fn check_bounds(setting: &'static str, value: u64, min: u64, max: u64) -> Result<(), Refusal> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Refusal::SettingOutOfBounds { setting, value, min, max }),
    }
}

impl State {
    /// Applies the next command, of a log whose marks are all in memory.
    ///
    /// # Panics
    /// As [`apply_with`](State::apply_with).
    pub fn apply(&mut self, at: At, command: &Command) -> Applied {
        self.apply_with(at, command, &Answers::none())
    }

    /// Applies the next command, with what the runs say of its [`questions`](State::questions).
    ///
    /// # Panics
    /// If `at.lsn` isn't the next position: the caller has lost or doubled a frame. If a question has no answer.
    pub fn apply_with(&mut self, at: At, command: &Command, answers: &Answers) -> Applied {
        assert_eq!(at.lsn, self.lsn + 1, "commands are applied in the order of the journal");
        self.lsn = at.lsn;
        self.time_ms = self.time_ms.max(at.time_ms);
        // From here on the state's lsn and time are those of this command.
        let outcome = self.dispatch(at.term, command, answers);
        outcome.unwrap_or_else(|refusal| Applied::only(Reply::Refused(refusal)))
    }

    fn dispatch(&mut self, term: u32, command: &Command, answers: &Answers) -> Outcome {
        match command {
            Command::Open => self.open(),
            Command::CreateTopic { name, partitions, config } => {
                self.create_topic(name, *partitions, config, false)
            }
            Command::AlterTopic { topic, config } => self.alter_topic(*topic, config),
            Command::DeleteTopic { topic } => self.delete_topic(*topic),
            Command::InitProducer { name } => self.init_producer(name.as_deref()),
            Command::Append { partition, config_version, expected_end, batch } => {
                let arrival = Arrival { partition: *partition, batch, index: 0, term, txn_seq: 0 };
                self.append(&arrival, *config_version, *expected_end)
            }
            Command::Commit(commit) => self.commit(term, commit, answers),
            Command::CommitOffsets { group, member, offsets } => self.commit_offsets(group, *member, offsets),
            Command::JoinGroup { group, topics } => self.join_group(group, topics),
            Command::LeaveGroup { group, member, .. } => self.leave_group(group, *member),
            Command::ReleasePartitions { group, member, partitions } => {
                self.release_partitions(group, *member, partitions)
            }
            Command::Trim { partition, start } => self.trim(*partition, *start),
            Command::Tick => self.tick(term),
            Command::Config(change) => self.configure(change),
            Command::Transactional(request) => self.transactional(term, request),
            Command::Dedup(request) => self.dedup(term, request, answers),
            Command::Timer(command) => self.timer_command(term, command),
            Command::CreatePartitions { topic, partitions } => self.create_partitions(*topic, *partitions),
            Command::DeleteOffsets { group, partitions } => self.delete_offsets(group, partitions.as_deref()),
            Command::CreateTable { name, partitions, config } => self.create_table(name, *partitions, config),
        }
    }

    /// When the log has something to do by itself, ms since 1970, a `Tick` or a timer that fires; `i64::MAX`: nothing,
    /// as things stand.
    pub fn next_deadline_ms(&self) -> i64 {
        self.next_tick_ms().min(self.timers.next_due_ms())
    }

    /// No `Tick` before this time changes anything, ms since 1970; `i64::MAX`: none at all, as things stand.
    ///
    /// It may be too early, since a producer that appends again moves its own deadline and not this one: one tick
    /// then finds nothing, and the next deadline is exact; so may a group that commits. Those of wire transactions and
    /// of ids always are exact.
    pub fn next_tick_ms(&self) -> i64 {
        let of_transactions = self.transaction_deadlines.first().map_or(i64::MAX, |(deadline, _)| *deadline);
        let of_offsets = self.offset_expiry.next_deadline_ms();
        self.next_deadline_ms.min(of_transactions).min(self.dedup.next_deadline_ms()).min(of_offsets)
    }

    /// A partition, if it exists.
    pub fn partition(&self, partition: Partition) -> Option<&PartitionState> {
        let topic = self.topics.get(&partition.topic)?;
        topic.partitions.get(partition.index as usize).map(|partition| &**partition)
    }

    /// A topic by name.
    pub fn topic_named(&self, name: &str) -> Option<(TopicId, &Topic)> {
        let id = *self.topic_names.get(name)?;
        self.topics.get(&id).map(|topic| (id, &**topic))
    }

    fn open(&mut self) -> Outcome {
        self.open_number += 1;
        self.fence_earlier_members();
        self.count_offsets_from_now();
        done(Reply::Opened { number: self.open_number })
    }

    fn tick(&mut self, term: u32) -> Outcome {
        // First the transactions: a producer's window doesn't expire while it has one.
        let (markers, transactions, transactional_ids) = self.expire_transactions(term);
        let (producers, tombstones) = self.expire_windows();
        self.dedup.tick(self.time_ms);
        let offsets = self.expire_offsets();
        let reply = Reply::Ticked { producers, tombstones, transactions, transactional_ids, offsets };
        Ok(Applied { markers, ..Applied::only(reply) })
    }

    fn expire_windows(&mut self) -> (u64, u64) {
        if self.next_deadline_ms > self.time_ms {
            return (0, 0);
        }
        let (mut producers, mut tombstones, mut next) = (0, 0, i64::MAX);
        for topic in self.topics.values_mut() {
            if topic.partitions.iter().all(|partition| !partition.has_producers()) {
                continue;
            }
            for partition in &mut Arc::make_mut(topic).partitions {
                if !partition.has_producers() {
                    continue;
                }
                let expired = Arc::make_mut(partition).expire(self.time_ms, &self.settings);
                producers += expired.producers;
                tombstones += expired.tombstones;
                next = next.min(expired.next_ms);
            }
        }
        self.next_deadline_ms = next;
        (producers, tombstones)
    }

    fn configure(&mut self, change: &ConfigChange) -> Outcome {
        match change {
            // The stamps are the writer's; the command is what makes the step an event of the log.
            ConfigChange::AcceptTime { .. } => {}
            ConfigChange::SemanticsLevel { level } => {
                let current = self.semantics_level;
                if *level < current || *level > SEMANTICS_LEVEL {
                    return Err(Refusal::SemanticsLevel { sent: *level, current, max: SEMANTICS_LEVEL });
                }
                self.semantics_level = *level;
            }
            ConfigChange::ProducerExpiration { idle_ms, tombstone_ms } => {
                check_bounds("producer.id.expiration.ms", *idle_ms, 1, SETTING_MS_MAX)?;
                check_bounds("producer.tombstone.ms", *tombstone_ms, 1, SETTING_MS_MAX)?;
                (self.settings.producer_idle_ms, self.settings.producer_tombstone_ms) =
                    (*idle_ms, *tombstone_ms);
                // Deadlines moved: the next tick finds the true ones.
                let mut partitions = self.topics.values().flat_map(|topic| &topic.partitions);
                let any = partitions.any(|partition| partition.has_producers());
                self.next_deadline_ms = if any { self.time_ms } else { i64::MAX };
            }
            ConfigChange::TransactionLimits { timeout_max_ms, id_expiration_ms } => {
                check_bounds(
                    "transaction.max.timeout.ms",
                    u64::from(*timeout_max_ms),
                    1,
                    u64::from(u32::MAX),
                )?;
                check_bounds("transactional.id.expiration.ms", *id_expiration_ms, 1, SETTING_MS_MAX)?;
                self.settings.transaction_timeout_max_ms = *timeout_max_ms;
                self.settings.transactional_id_expiration_ms = *id_expiration_ms;
                self.renew_transaction_deadlines();
            }
            ConfigChange::DedupKey { key } => self.dedup.set_key(*key),
            ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap } => {
                let (ttl_ms, entries_max, at_cap) = (*ttl_ms, *entries_max, *at_cap);
                self.dedup.set_limits(DedupLimits { ttl_ms, entries_max, at_cap })?;
            }
            ConfigChange::TimerLimits { count_max, delay_max_ms } => {
                self.limit_timers(*count_max, *delay_max_ms)?;
            }
            ConfigChange::OffsetRetention { retention_ms } => self.limit_offset_retention(*retention_ms)?,
            ConfigChange::TableLimits { keys_max, key_bytes_max } => {
                let (keys_max, key_bytes_max) = (*keys_max, *key_bytes_max);
                self.tables.set_limits(TableLimits { keys_max, key_bytes_max })?;
            }
            ConfigChange::KeptSettings(kept) => {
                topic::check_kept(kept)?;
                self.kept = kept.clone();
            }
        }
        done(Reply::Configured)
    }
}
