//! The obvious model of a shard: vectors and maps, written from the rules that users read, not from the engine.
//!
//! It shares words with the engine (commands, replies, batches as values) and no logic. It isn't fast, it holds every
//! record for ever, and it knows nothing of files.
//!
//! Not modelled: groups of more than one member (who owns which partition then is the engine's own rule), ids of
//! producers whose epochs ran out, the texts of refusals.
//!
//! Invariants:
//!   * what was stored at an lsn stays in [`Model::stored`] under that lsn, also if a later command hides it: the
//!     prefix of any length can be read off one model

mod commit;
mod dedup;
mod offset_expiry;
mod table;
mod timer;
mod transaction;

pub use dedup::{Ids, Marked, Reserved};
pub use table::{Keys, Written};
pub use timer::{Standing, TimerMade};
pub use transaction::{Phase, TransactionMade, Transactor};

use std::collections::BTreeMap;

use exactlog_core::batch::TimestampType;
use exactlog_core::batch::{Batch, ProducerStamp};
use exactlog_core::command::{CleanupPolicy, Command, CommitToken, ConfigChange, TopicConfig};
use exactlog_core::ids::{MemberId, Partition, ProducerId, TimerId, TopicId};
use exactlog_core::reply::{Refusal, Reply};

/// What a command must be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this.
    Reply(Reply),
    /// A refusal of this kind, whatever its text.
    Refused(&'static str),
}

impl Expected {
    /// Whether the engine's answer is the expected one.
    #[must_use]
    pub fn is_met_by(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Expected::Refused(kind), Reply::Refused(refusal)) => refusal_kind(refusal) == *kind,
            (Expected::Refused(_), _) => false,
            (Expected::Reply(expected), reply) => expected == reply,
        }
    }
}

/// The name of a refusal's variant.
fn refusal_kind(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// A batch as readers must get it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The command that carried it.
    pub lsn: u64,
    /// With base offset and leader epoch.
    pub batch: Batch,
    /// The wire transaction that it is part of, if it is data of one.
    pub txn_seq: Option<u64>,
}

/// The model of one shard after some commands.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Number of commands applied.
    pub lsn: u64,
    /// How often the log was opened for writing.
    pub open_number: u64,
    /// Topics by id; deleted ones are gone.
    pub topics: BTreeMap<TopicId, Topic>,
    /// Named producers by id.
    pub producers: BTreeMap<ProducerId, Producer>,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Producers of wire transactions by transactional id.
    pub transactors: BTreeMap<String, Transactor>,
    /// Every wire transaction ever begun, by its first lsn.
    pub transactions: BTreeMap<u64, TransactionMade>,
    /// Every batch ever stored, by partition, in offset order; also those of deleted topics.
    pub stored: BTreeMap<Partition, Vec<Stored>>,
    /// What is known of ids of events.
    pub ids: Ids,
    /// Every timer ever set; the one at index n has id n + 1.
    pub timers: Vec<TimerMade>,
    /// The hidden partition with what they were set with, once there is one.
    pub hidden: Option<PartitionModel>,
    timer_limits: Option<(u64, u64)>,
    /// The keys of each table.
    pub tables: BTreeMap<TopicId, Keys>,
    table_limits: Option<(u64, u64)>,
    time_ms: i64,
    /// When each command was applied; the one at index n has lsn n.
    times: Vec<i64>,
    opened_ms: i64,
    offset_retention: Option<u64>,
    topics_made: u32,
    producers_made: i64,
    expiration: Option<(u64, u64)>,
}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// How often they changed.
    pub config_version: u32,
    /// Its partitions.
    pub partitions: Vec<PartitionModel>,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub struct PartitionModel {
    /// First readable offset.
    pub start: u64,
    /// Offset of the next record.
    pub end: u64,
    /// What is remembered of each producer.
    pub producers: BTreeMap<ProducerId, Remembered>,
}

/// What a partition remembers of a producer.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its epoch here.
    pub producer_epoch: i16,
    /// All its batches of that epoch. Only the last five count.
    pub batches: Vec<Sequenced>,
    /// When it appended last.
    pub time_ms: i64,
    /// Whether only epoch and last sequence still count.
    pub tombstone: bool,
}

/// A batch of a producer, as far as its sequences go.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced {
    /// Sequence of its first record.
    pub first: i32,
    /// Sequence of its last record.
    pub last: i32,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Its largest timestamp.
    pub timestamp_ms: i64,
    /// The wire transaction that it is part of.
    pub txn_seq: Option<u64>,
}

/// A named producer.
#[derive(Clone, Debug)]
pub struct Producer {
    /// Its name.
    pub name: String,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Its cursor.
    pub cursor: Option<Vec<u8>>,
    /// All its commits.
    pub commits: Vec<CommitMade>,
    /// The number of its last commit when each epoch ended; the index is the epoch.
    pub epoch_ends: Vec<u64>,
}

impl PartitionModel {
    /// The sequence with which a producer goes on here in an epoch.
    #[must_use]
    pub fn next_sequence(&self, producer: ProducerId, producer_epoch: i16) -> i32 {
        let known = self.producers.get(&producer).filter(|known| known.producer_epoch == producer_epoch);
        known.and_then(|known| known.batches.last()).map_or(0, |newest| newest.last + 1)
    }
}

/// A commit that was applied.
#[derive(Clone, Debug)]
pub struct CommitMade {
    /// Its token.
    pub token: CommitToken,
    /// Its lsn.
    pub lsn: u64,
    /// The first offset in each of its partitions, in the order of the command.
    pub base_offsets: Vec<(Partition, u64)>,
    /// The first timer that it has set.
    pub first_timer: Option<TimerId>,
}

impl Producer {
    /// Number of the last commit.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.commits.len() as u64
    }
}

/// A group of at most one member.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Its generation.
    pub generation: u64,
    /// Its member, and what that subscribes to.
    pub member: Option<(MemberId, Vec<TopicId>)>,
    /// Its committed offsets, each with the lsn of the command that said it, and with what stands beside it.
    pub offsets: BTreeMap<Partition, (u64, u64, String)>,
    /// When its member came or went last.
    pub changed_ms: i64,
}

const REMEMBERED_BATCHES: usize = 5;

const DAY_MS: u64 = 86_400_000;

type Outcome = Result<Reply, &'static str>;

impl Model {
    /// Applies the next command, which was ordered under `term` at `time_ms`.
    pub fn apply(&mut self, term: u32, time_ms: i64, command: &Command) -> Expected {
        self.lsn += 1;
        self.time_ms = self.time_ms.max(time_ms);
        self.times.resize(self.lsn as usize + 1, self.time_ms);
        match self.outcome(term, command) {
            Ok(reply) => Expected::Reply(reply),
            Err(kind) => Expected::Refused(kind),
        }
    }

    /// A partition, if it exists.
    #[must_use]
    pub fn partition(&self, partition: Partition) -> Option<&PartitionModel> {
        self.find(partition).ok()
    }

    /// All partitions that exist.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        let all = self.topics.iter().flat_map(|(topic, entry)| {
            (0..entry.partitions.len() as u32).map(|index| Partition { topic: *topic, index })
        });
        all.collect()
    }

    /// Producers without a name.
    #[must_use]
    pub fn unnamed_producers(&self) -> Vec<ProducerId> {
        let all = (1..=self.producers_made).map(ProducerId);
        all.filter(|id| !self.producers.contains_key(id)).collect()
    }

    fn outcome(&mut self, term: u32, command: &Command) -> Outcome {
        match command {
            Command::Open => Ok(self.open()),
            Command::CreateTopic { name, partitions, config } => {
                let known = self.topics.iter().find(|(_, topic)| topic.name == *name);
                if known.is_some_and(|(id, _)| self.tables.contains_key(id)) {
                    return Err("TopicExists");
                }
                self.create_topic(name, *partitions, config)
            }
            Command::CreateTable { name, partitions, config } => self.create_table(name, *partitions, config),
            Command::AlterTopic { topic, config } => {
                let found = self.topics.get_mut(topic).ok_or("UnknownTopic")?;
                let is_table = self.tables.contains_key(topic);
                if is_table && config.cleanup_policy != CleanupPolicy::Compact {
                    return Err("TablePolicy");
                }
                let changed = found.config != *config;
                if changed {
                    found.config = config.clone();
                    found.config_version += 1;
                }
                let config_version = found.config_version;
                if changed {
                    self.free_stuck(*topic);
                }
                Ok(Reply::TopicAltered { config_version })
            }
            Command::DeleteTopic { topic } => self.delete_topic(*topic),
            Command::InitProducer { name } => Ok(self.init_producer(name.as_deref())),
            Command::Append { partition, config_version, expected_end, batch } => {
                self.append(term, *partition, *config_version, *expected_end, batch)
            }
            Command::Commit(commit) => self.commit(term, commit),
            Command::CommitOffsets { group, member, offsets } => {
                self.check_offsets(group, *member, offsets)?;
                self.store_offsets(group, offsets);
                Ok(Reply::OffsetsCommitted)
            }
            Command::JoinGroup { group, topics } => self.join(group, topics),
            Command::LeaveGroup { group, member, .. } => {
                let time_ms = self.time_ms;
                let group = self.groups.get_mut(group).ok_or("UnknownMember")?;
                if group.member.as_ref().map(|(id, _)| id) != Some(member) {
                    return Err("UnknownMember");
                }
                group.member = None;
                group.changed_ms = time_ms;
                group.generation += 1;
                Ok(Reply::Group { generation: group.generation })
            }
            // A single member is never told to give anything up.
            Command::ReleasePartitions { .. } => Err("UnknownMember"),
            Command::Trim { partition, start } => {
                let topic = self.topics.get(&partition.topic);
                let compacted = topic.is_some_and(|it| it.config.cleanup_policy == CleanupPolicy::Compact);
                let partition = self.partition_mut(*partition)?;
                if *start > partition.end {
                    return Err("TrimOutOfRange");
                }
                if compacted {
                    return Err("TrimCompacted");
                }
                partition.start = partition.start.max(*start);
                Ok(Reply::Trimmed { start_offset: partition.start })
            }
            Command::Tick => Ok(self.tick(term)),
            Command::Transactional(request) => self.transactional(term, request),
            Command::Timer(command) => self.timer_command(term, command),
            Command::Config(change) => {
                if let ConfigChange::ProducerExpiration { idle_ms, tombstone_ms } = change {
                    self.expiration = Some((*idle_ms, *tombstone_ms));
                }
                match change {
                    ConfigChange::TimerLimits { count_max, delay_max_ms } => {
                        self.timer_limits = Some((*count_max, *delay_max_ms));
                    }
                    ConfigChange::OffsetRetention { retention_ms } => {
                        self.offset_retention = Some(*retention_ms);
                    }
                    ConfigChange::DedupKey { key } => self.ids.set_key(*key),
                    ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap } => {
                        self.ids.set_limits(*ttl_ms, *entries_max, *at_cap);
                    }
                    ConfigChange::TableLimits { keys_max, key_bytes_max } => {
                        self.table_limits = Some((*keys_max, *key_bytes_max));
                    }
                    _ => {}
                }
                Ok(Reply::Configured)
            }
            Command::CreatePartitions { topic, partitions } => self.create_partitions(*topic, *partitions),
            Command::Dedup(request) => self.dedup(term, request),
            Command::DeleteOffsets { group, partitions } => self.delete_offsets(group, partitions.as_deref()),
        }
    }

    fn create_partitions(&mut self, id: TopicId, partitions: u32) -> Outcome {
        if !(1..=100_000).contains(&partitions) {
            return Err("PartitionCount");
        }
        let topic = self.topics.get_mut(&id).ok_or("UnknownTopic")?;
        let current = topic.partitions.len() as u32;
        if partitions < current {
            return Err("FewerPartitions");
        }
        if partitions > current && self.tables.contains_key(&id) {
            return Err("TablePartitions");
        }
        topic.partitions.resize(partitions as usize, PartitionModel::default());
        if partitions > current {
            for group in self.groups.values_mut() {
                let subscribed = group.member.as_ref().is_some_and(|(_, topics)| topics.contains(&id));
                group.generation += u64::from(subscribed);
            }
        }
        Ok(Reply::Partitions { partitions, added: partitions - current })
    }

    fn open(&mut self) -> Reply {
        self.open_number += 1;
        self.opened_ms = self.time_ms;
        for group in self.groups.values_mut() {
            if group.member.take().is_some() {
                group.generation += 1;
            }
        }
        Reply::Opened { number: self.open_number }
    }

    fn create_topic(&mut self, name: &str, partitions: u32, config: &TopicConfig) -> Outcome {
        if partitions == 0 {
            return Err("PartitionCount");
        }
        if let Some((id, topic)) = self.topics.iter().find(|(_, topic)| topic.name == name) {
            let equal = topic.partitions.len() == partitions as usize && topic.config == *config;
            return if equal { Ok(Reply::Topic { topic: *id, existed: true }) } else { Err("TopicExists") };
        }
        self.topics_made += 1;
        let id = TopicId(self.topics_made);
        let partitions = vec![PartitionModel::default(); partitions as usize];
        let topic = Topic { name: name.to_owned(), config: config.clone(), config_version: 0, partitions };
        self.topics.insert(id, topic);
        Ok(Reply::Topic { topic: id, existed: false })
    }

    fn delete_topic(&mut self, topic: TopicId) -> Outcome {
        self.topics.remove(&topic).ok_or("UnknownTopic")?;
        self.tables.remove(&topic);
        for transaction in self.transactions.values_mut() {
            transaction.partitions.retain(|partition| partition.topic != topic);
            transaction.offsets.retain(|it| it.partition.topic != topic);
        }
        for group in self.groups.values_mut() {
            let subscribed = group.member.as_ref().is_some_and(|(_, topics)| topics.contains(&topic));
            group.offsets.retain(|partition, _| partition.topic != topic);
            if let Some((_, topics)) = &mut group.member {
                topics.retain(|other| *other != topic);
            }
            group.generation += u64::from(subscribed);
        }
        Ok(Reply::TopicDeleted)
    }

    fn init_producer(&mut self, name: Option<&str>) -> Reply {
        let known = self.producers.iter().find(|(_, producer)| Some(producer.name.as_str()) == name);
        if let (Some(name), None) = (name, known) {
            self.producers_made += 1;
            let producer = Producer {
                name: name.to_owned(),
                producer_epoch: 0,
                cursor: None,
                commits: Vec::new(),
                epoch_ends: Vec::new(),
            };
            self.producers.insert(ProducerId(self.producers_made), producer);
            return self.fresh_producer();
        }
        let Some(id) = known.map(|(id, _)| *id) else {
            self.producers_made += 1;
            return self.fresh_producer();
        };
        let producer = self.producers.get_mut(&id).expect("found above");
        producer.epoch_ends.push(producer.last_number());
        producer.producer_epoch += 1;
        Reply::Producer {
            producer: id,
            producer_epoch: producer.producer_epoch,
            last_number: producer.last_number(),
            cursor: producer.cursor.clone().map(Into::into),
        }
    }

    fn fresh_producer(&self) -> Reply {
        let producer = ProducerId(self.producers_made);
        Reply::Producer { producer, producer_epoch: 0, last_number: 0, cursor: None }
    }

    fn append(
        &mut self,
        term: u32,
        at: Partition,
        config_version: u32,
        expected_end: Option<u64>,
        batch: &Batch,
    ) -> Outcome {
        let topic = self.topics.get(&at.topic).ok_or("UnknownTopic")?;
        if topic.config_version != config_version {
            return Err("ConfigChanged");
        }
        let partition = self.find(at)?;
        let start_offset = partition.start;
        if let Some(stamp) = batch.producer() {
            self.check_producer(stamp.id, stamp.epoch)?;
            self.check_transactor(&stamp)?;
            if let Some((base_offset, timestamp_ms)) = self.judge(partition, &stamp, batch)? {
                return Ok(Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: true });
            }
        }
        if batch.producer().is_some_and(|stamp| self.open_of(stamp.id).is_some()) {
            return Err("OpenTransaction");
        }
        if expected_end.is_some_and(|expected| expected != partition.end) {
            return Err("EndOffset");
        }
        self.check_batch(at, batch)?;
        let base_offset = self.store(term, at, batch, None);
        let timestamp_ms = self.shown_ms(at, batch);
        Ok(Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: false })
    }

    fn check_producer(&self, id: ProducerId, producer_epoch: i16) -> Result<(), &'static str> {
        if id.0 > self.producers_made {
            return Err("UnknownProducer");
        }
        if let Some(named) = self.producers.get(&id)
            && named.producer_epoch != producer_epoch
        {
            let fenced = producer_epoch < named.producer_epoch;
            return Err(if fenced { "ProducerFenced" } else { "ProducerEpochUnknown" });
        }
        Ok(())
    }

    /// Whether a producer may say something without a batch of its own.
    fn check_named_sender(&self, id: ProducerId, producer_epoch: i16) -> Result<(), &'static str> {
        self.check_producer(id, producer_epoch)?;
        self.check_transactor(&ProducerStamp { id, epoch: producer_epoch, base_sequence: 0 })
    }

    /// Of a batch that isn't one of a table.
    fn check_batch(&self, at: Partition, batch: &Batch) -> Result<(), &'static str> {
        self.find(at)?;
        match self.tables.contains_key(&at.topic) {
            true => Err("TableAsTopic"),
            false => self.check_fits(at, batch),
        }
    }

    fn check_fits(&self, at: Partition, batch: &Batch) -> Result<(), &'static str> {
        if batch.len_bytes() > self.topics[&at.topic].config.max_message_bytes as usize {
            return Err("BatchTooLarge");
        }
        let config = &self.topics[&at.topic].config;
        let is_late = |limit| batch.max_timestamp_ms() > self.time_ms + limit as i64;
        if config.timestamp_type == TimestampType::CreateTime
            && config.timestamp_after_max_ms.is_some_and(is_late)
        {
            return Err("Timestamp");
        }
        Ok(())
    }

    /// The greatest timestamp of a batch that is stored now.
    fn shown_ms(&self, at: Partition, batch: &Batch) -> i64 {
        match self.topics[&at.topic].config.timestamp_type {
            TimestampType::CreateTime => batch.max_timestamp_ms(),
            TimestampType::LogAppendTime => self.time_ms,
        }
    }

    fn store(&mut self, term: u32, at: Partition, batch: &Batch, txn_seq: Option<u64>) -> u64 {
        let (lsn, time_ms, timestamp_ms) = (self.lsn, self.time_ms, self.shown_ms(at, batch));
        let timestamp_type = self.topics[&at.topic].config.timestamp_type;
        let partition = self.partition_mut(at).expect("the caller has found it");
        let base_offset = partition.end;
        partition.end += u64::from(batch.record_count());
        if let Some(stamp) = batch.producer() {
            let producer_epoch = stamp.epoch;
            let fresh = Remembered { producer_epoch, batches: Vec::new(), time_ms, tombstone: false };
            let known = partition.producers.entry(stamp.id).or_insert_with(|| fresh.clone());
            if known.producer_epoch != producer_epoch || known.tombstone {
                *known = fresh;
            }
            known.time_ms = time_ms;
            let (first, last) = (stamp.base_sequence, last_sequence(&stamp, batch));
            known.batches.push(Sequenced { first, last, base_offset, timestamp_ms, txn_seq });
        }
        let batch = match timestamp_type {
            TimestampType::CreateTime => batch.placed(base_offset, term),
            TimestampType::LogAppendTime => batch.placed_at_append_time(base_offset, term, time_ms),
        };
        self.stored.entry(at).or_default().push(Stored { lsn, batch, txn_seq });
        base_offset
    }

    fn join(&mut self, name: &str, topics: &[TopicId]) -> Outcome {
        if topics.iter().any(|topic| !self.topics.contains_key(topic)) {
            return Err("UnknownTopic");
        }
        let member = MemberId(self.lsn);
        let group = self.groups.entry(name.to_owned()).or_default();
        assert!(group.member.is_none(), "the model knows groups of one member only");
        group.member = Some((member, topics.to_vec()));
        group.changed_ms = self.time_ms;
        group.generation += 1;
        Ok(Reply::Joined { member, generation: group.generation })
    }

    fn tick(&mut self, term: u32) -> Reply {
        let (transactions, transactional_ids) = self.expire_transactions(term);
        self.ids.tick(self.time_ms);
        let (idle_ms, tombstone_ms) = self.expiration.unwrap_or((DAY_MS, 30 * DAY_MS));
        let now = self.time_ms;
        let open = self.open_data();
        let (mut producers, mut tombstones) = (0, 0);
        let partitions = self.topics.iter_mut().flat_map(|(topic, entry)| {
            let at = move |index| Partition { topic: *topic, index };
            (0..).map(at).zip(&mut entry.partitions)
        });
        for (at, partition) in partitions {
            partition.producers.retain(|id, known| {
                if open.contains(&(at, *id)) {
                    return true;
                }
                if !known.tombstone && known.time_ms + idle_ms as i64 <= now {
                    known.tombstone = true;
                    producers += 1;
                }
                let gone = known.tombstone && known.time_ms + (idle_ms + tombstone_ms) as i64 <= now;
                tombstones += u64::from(gone);
                !gone
            });
        }
        let offsets = self.expire_offsets();
        Reply::Ticked { producers, tombstones, transactions, transactional_ids, offsets }
    }

    fn find(&self, partition: Partition) -> Result<&PartitionModel, &'static str> {
        let topic = self.topics.get(&partition.topic).ok_or("UnknownTopic")?;
        topic.partitions.get(partition.index as usize).ok_or("UnknownPartition")
    }

    fn partition_mut(&mut self, partition: Partition) -> Result<&mut PartitionModel, &'static str> {
        let topic = self.topics.get_mut(&partition.topic).ok_or("UnknownTopic")?;
        topic.partitions.get_mut(partition.index as usize).ok_or("UnknownPartition")
    }
}

impl Model {
    /// The offset and timestamp of the batch that this one repeats; `None`: it is new; or why it can't be either.
    fn judge(
        &self,
        partition: &PartitionModel,
        stamp: &ProducerStamp,
        batch: &Batch,
    ) -> Result<Option<(u64, i64)>, &'static str> {
        let Some(known) = partition.producers.get(&stamp.id) else { return Ok(None) };
        if stamp.epoch < known.producer_epoch {
            return Err("ProducerFenced");
        }
        if stamp.epoch > known.producer_epoch {
            return if stamp.base_sequence == 0 { Ok(None) } else { Err("OutOfOrderSequence") };
        }
        let last = last_sequence(stamp, batch);
        let known_last = known.batches.last().map_or(-1, |newest| newest.last);
        let window = if known.tombstone { 0 } else { REMEMBERED_BATCHES };
        let mut remembered = known.batches.iter().rev().take(window);
        if let Some(hit) = remembered.find(|it| (it.first, it.last) == (stamp.base_sequence, last)) {
            if hit
                .txn_seq
                .is_some_and(|txn_seq| self.transactions[&txn_seq].ended.is_some_and(|it| !it.commit))
            {
                return Err("AbortedSequence");
            }
            return Ok(Some((hit.base_offset, hit.timestamp_ms)));
        }
        // The workloads stay far from 2^31, so that sequences compare as numbers.
        if stamp.base_sequence == known_last + 1 {
            return Ok(None);
        }
        Err(if last <= known_last { "DuplicateSequence" } else { "OutOfOrderSequence" })
    }
}

fn last_sequence(stamp: &ProducerStamp, batch: &Batch) -> i32 {
    stamp.base_sequence + batch.record_count() as i32 - 1
}
