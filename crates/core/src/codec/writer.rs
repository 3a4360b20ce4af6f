//! Writes the fields of commands. What is written here, [`reader`](super::reader) reads.

use super::*;
use crate::batch::{Compression, TimestampType};
use crate::command::*;
use crate::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};

/// A command in the making.
pub(super) struct Writer {
    pub(super) head: Vec<u8>,
    pub(super) bodies: SmallVec<[Bytes; 1]>,
}

impl Writer {
    /// Begins a head, which has no batches yet.
    pub(super) fn new(time_ms: i64) -> Writer {
        let mut writer = Writer { head: Vec::with_capacity(128), bodies: SmallVec::new() };
        writer.i64(time_ms);
        writer.u32(0);
        writer
    }

    /// All fields and batches of a command; its kind.
    pub(super) fn command(&mut self, command: &Command) -> u8 {
        match command {
            Command::Open => OPEN,
            Command::CreateTopic { name, partitions, config } => {
                self.text(name);
                self.u32(*partitions);
                self.topic_config(config);
                CREATE_TOPIC
            }
            Command::AlterTopic { topic, config } => {
                self.topic(topic);
                self.topic_config(config);
                ALTER_TOPIC
            }
            Command::DeleteTopic { topic } => {
                self.topic(topic);
                DELETE_TOPIC
            }
            Command::InitProducer { name } => {
                self.flagged(name.as_ref().map(String::as_bytes));
                INIT_PRODUCER
            }
            Command::Append { partition, config_version, expected_end, batch } => {
                self.u32(*config_version);
                self.optional(*expected_end);
                self.batches(std::iter::once((partition, batch)));
                APPEND
            }
            Command::Commit(commit) => {
                self.commit(commit);
                COMMIT
            }
            Command::CommitOffsets { group, member, offsets } => {
                self.positions(group, *member, offsets, has_metadata(offsets));
                COMMIT_OFFSETS
            }
            Command::JoinGroup { group, topics } => {
                self.text(group);
                self.list(topics, Writer::topic);
                JOIN_GROUP
            }
            Command::LeaveGroup { group, member, fenced } => {
                self.text(group);
                self.u64(member.0);
                self.flag(*fenced);
                LEAVE_GROUP
            }
            Command::ReleasePartitions { group, member, partitions } => {
                self.text(group);
                self.u64(member.0);
                self.list(partitions, Writer::partition);
                RELEASE_PARTITIONS
            }
            Command::Trim { partition, start } => {
                self.partition(partition);
                self.u64(*start);
                TRIM
            }
            Command::Tick => TICK,
            Command::Config(change) => {
                self.config_change(change);
                CONFIG
            }
            Command::Transactional(request) => self.transactional(request),
            Command::Dedup(request) => self.dedup(request),
            Command::CreatePartitions { topic, partitions } => {
                self.topic(topic);
                self.u32(*partitions);
                CREATE_PARTITIONS
            }
            Command::Timer(command) => self.timer_command(command),
            Command::DeleteOffsets { group, partitions } => {
                self.text(group);
                self.flag(partitions.is_some());
                if let Some(partitions) = partitions {
                    self.list(partitions, Writer::partition);
                }
                DELETE_OFFSETS
            }
            Command::CreateTable { name, partitions, config } => {
                self.text(name);
                self.u32(*partitions);
                self.topic_config(config);
                CREATE_TABLE
            }
        }
    }

    fn timer_command(&mut self, command: &TimerCommand) -> u8 {
        match command {
            TimerCommand::Set { sender, timer } => {
                self.flag(sender.is_some());
                if let Some((producer, producer_epoch)) = sender {
                    self.producer(*producer, *producer_epoch);
                }
                self.i64(timer.due_ms);
                self.batches(std::iter::once((&timer.target, &timer.batch)));
                SET_TIMER
            }
            TimerCommand::Cancel { timer } => {
                self.timer(timer);
                CANCEL_TIMER
            }
            TimerCommand::Fire { timer, batch } => {
                self.timer(timer);
                self.batches(std::iter::once((&Partition::TIMERS, batch)));
                FIRE_TIMER
            }
            TimerCommand::Carry { payloads } => {
                self.list(payloads, |writer, (timer, _)| writer.timer(timer));
                self.batches(payloads.iter().map(|(_, batch)| (&Partition::TIMERS, batch)));
                CARRY_TIMERS
            }
        }
    }

    fn dedup(&mut self, request: &Dedup) -> u8 {
        match request {
            Dedup::Append { sender, partition, config_version, ids, batch } => {
                self.producer(sender.0, sender.1);
                self.u32(*config_version);
                self.list(ids, Writer::dedup_id);
                self.batches(std::iter::once((partition, batch)));
                APPEND_IDENTIFIED
            }
            Dedup::Reserve { scope, id, lease_ms } => {
                self.in_scope(scope, id, *lease_ms);
                RESERVE
            }
            Dedup::Finish { scope, id, reservation } => {
                self.in_scope(scope, id, *reservation);
                FINISH
            }
            Dedup::Release { scope, id, reservation } => {
                self.in_scope(scope, id, *reservation);
                RELEASE
            }
            Dedup::RunReady(ready) => {
                self.i64(ready.end_ms);
                self.u64(ready.run);
                self.u64(ready.entries);
                self.u64(ready.up_to);
                self.u64(ready.digest);
                self.list(&ready.replaces, |writer, run| writer.u64(*run));
                RUN_READY
            }
            Dedup::Forget { scope, id } => {
                match scope {
                    DedupScope::Topic(topic) => {
                        self.u8(0);
                        self.u32(topic.0);
                    }
                    DedupScope::Named(name) => {
                        self.u8(1);
                        self.text(name);
                    }
                }
                self.dedup_id(id);
                FORGET_ID
            }
        }
    }

    fn in_scope(&mut self, scope: &str, id: &DedupId, value: u64) {
        self.text(scope);
        self.dedup_id(id);
        self.u64(value);
    }

    fn dedup_id(&mut self, id: &DedupId) {
        self.head.extend_from_slice(&id.0);
    }

    fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Event { id, batch, record } => {
                self.u8(0);
                self.dedup_id(id);
                self.u32(*batch);
                self.u32(*record);
            }
            Mark::Named { scope, id, reservation } => {
                self.u8(1);
                self.text(scope);
                self.dedup_id(id);
                self.optional(*reservation);
            }
        }
    }

    fn transactional(&mut self, request: &Transactional) -> u8 {
        match request {
            Transactional::Init { transactional_id, timeout_ms, current, newer_codes } => {
                self.text(transactional_id);
                self.u32(*timeout_ms);
                self.flag(*newer_codes);
                self.flag(current.is_some());
                if let Some((producer, producer_epoch)) = current {
                    self.producer(*producer, *producer_epoch);
                }
                INIT_TRANSACTIONS
            }
            Transactional::AddPartitions { sender, partitions } => {
                self.sender(sender);
                self.list(partitions, Writer::partition);
                ADD_PARTITIONS
            }
            Transactional::AddOffsets { sender, group } => {
                self.sender(sender);
                self.text(group);
                ADD_OFFSETS
            }
            Transactional::Append {
                transactional_id,
                protocol,
                newer_codes,
                partition,
                config_version,
                batch,
            } => {
                self.text(transactional_id);
                self.protocol(*protocol);
                self.flag(*newer_codes);
                self.u32(*config_version);
                self.batches(std::iter::once((partition, batch)));
                APPEND_TRANSACTIONAL
            }
            Transactional::CommitOffsets { sender, group, member, offsets } => {
                self.sender(sender);
                self.positions(group, member.map(|(member, _)| member), offsets, has_metadata(offsets));
                self.u64(member.map_or(0, |(_, generation)| generation));
                COMMIT_OFFSETS_TRANSACTIONAL
            }
            Transactional::End { sender, commit } => {
                self.sender(sender);
                self.flag(*commit);
                END_TRANSACTION
            }
        }
    }

    fn sender(&mut self, sender: &TransactionSender) {
        self.text(&sender.transactional_id);
        self.producer(sender.producer, sender.producer_epoch);
        self.protocol(sender.protocol);
        self.flag(sender.newer_codes);
        self.u64(sender.connection);
    }

    fn producer(&mut self, producer: ProducerId, producer_epoch: i16) {
        self.i64(producer.0);
        self.u32(producer_epoch as u16 as u32);
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.u8(match protocol {
            Protocol::V1 => 1,
            Protocol::V2 => 2,
        });
    }

    fn commit(&mut self, commit: &Commit) {
        self.producer(commit.token.producer, commit.token.producer_epoch);
        self.u64(commit.token.number);
        self.flagged(commit.cursor.as_deref());
        let metadata = has_metadata_in(commit);
        self.list(&commit.offsets, |writer, it| {
            writer.positions(&it.group, it.member, &it.offsets, metadata);
        });
        self.list(&commit.conditions, Writer::condition);
        if metadata || has_sections(commit) {
            let (has_marks, has_timers) = (!commit.marks.is_empty(), !commit.timers.is_empty());
            let has_tables = !commit.table_writes.is_empty();
            self.u8(u8::from(has_marks) + u8::from(has_timers) + u8::from(has_tables));
            if has_marks {
                self.section(MARKS_SECTION, |writer| writer.list(&commit.marks, Writer::mark));
            }
            if has_timers {
                self.section(TIMERS_SECTION, |writer| {
                    writer.list(&commit.timers.set, |writer, timer| writer.i64(timer.due_ms));
                    writer.list(&commit.timers.cancel, Writer::timer);
                });
            }
            if has_tables {
                self.section(TABLES_SECTION, |writer| {
                    writer.list(&commit.table_writes, |writer, it| {
                        writer.list(&it.writes, Writer::table_write)
                    });
                });
            }
        }
        let of_timers = commit.timers.set.iter().map(|timer| (&timer.target, &timer.batch));
        let of_tables = commit.table_writes.iter().map(|writes| (&writes.partition, &writes.batch));
        let plain = commit.batches.iter().map(|(partition, batch)| (partition, batch));
        self.batches(plain.chain(of_timers).chain(of_tables));
    }

    fn table_write(&mut self, write: &TableWrite) {
        self.flag(write.deletes);
        self.bytes(&write.key);
    }

    /// A part of a commit that not every one has: tag, length, content.
    fn section(&mut self, tag: u8, write: impl FnOnce(&mut Writer)) {
        self.u8(tag);
        let length_at = self.head.len();
        self.u32(0);
        let from = self.head.len();
        write(self);
        let length = (self.head.len() - from) as u32;
        self.head[length_at..from].copy_from_slice(&length.to_le_bytes());
    }

    fn timer(&mut self, timer: &TimerId) {
        self.u64(timer.0);
    }

    fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::EndOffset { partition, offset } => {
                self.u8(0);
                self.partition(partition);
                self.u64(*offset);
            }
            Condition::GroupOffset { group, partition, offset } => {
                self.u8(1);
                self.text(group);
                self.partition(partition);
                self.optional(*offset);
            }
            Condition::KeyVersion { table, key, version } => {
                self.u8(2);
                self.topic(table);
                self.bytes(key);
                self.optional(*version);
            }
        }
    }

    fn config_change(&mut self, change: &ConfigChange) {
        match change {
            ConfigChange::AcceptTime { time_ms } => {
                self.u8(0);
                self.i64(*time_ms);
            }
            ConfigChange::SemanticsLevel { level } => {
                self.u8(1);
                self.u32(*level);
            }
            ConfigChange::ProducerExpiration { idle_ms, tombstone_ms } => {
                self.u8(2);
                self.u64(*idle_ms);
                self.u64(*tombstone_ms);
            }
            ConfigChange::TransactionLimits { timeout_max_ms, id_expiration_ms } => {
                self.u8(3);
                self.u32(*timeout_max_ms);
                self.u64(*id_expiration_ms);
            }
            ConfigChange::DedupKey { key } => {
                self.u8(21);
                self.head.extend_from_slice(key);
            }
            ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap } => {
                self.u8(22);
                self.u64(*ttl_ms);
                self.u64(*entries_max);
                self.flag(*at_cap == AtCap::Shorten);
            }
            ConfigChange::TimerLimits { count_max, delay_max_ms } => {
                self.u8(26);
                self.u64(*count_max);
                self.u64(*delay_max_ms);
            }
            ConfigChange::OffsetRetention { retention_ms } => {
                self.u8(27);
                self.u64(*retention_ms);
            }
            ConfigChange::TableLimits { keys_max, key_bytes_max } => {
                self.u8(32);
                self.u64(*keys_max);
                self.u64(*key_bytes_max);
            }
            ConfigChange::KeptSettings(kept) => {
                self.u8(34);
                self.kept_settings(kept);
            }
        }
    }

    /// The entries, which end the head: call it last.
    fn batches<'a>(&mut self, batches: impl Iterator<Item = (&'a Partition, &'a Batch)>) {
        for (partition, batch) in batches {
            self.partition(partition);
            self.head.extend_from_slice(batch.header());
            self.bodies.push(batch.body().clone());
        }
        let count = self.bodies.len() as u32;
        self.head[BATCHES_AT..FIELDS_AT].copy_from_slice(&count.to_le_bytes());
    }

    fn positions(&mut self, group: &str, member: Option<MemberId>, offsets: &[OffsetCommit], metadata: bool) {
        self.text(group);
        self.optional(member.map(|member| member.0));
        self.list(offsets, |writer, it| {
            writer.partition(&it.partition);
            writer.u64(it.offset);
            writer.flag(it.reset);
            if metadata {
                writer.text(it.metadata.as_str());
            }
        });
    }

    fn topic_config(&mut self, config: &TopicConfig) {
        self.u32(config.max_message_bytes);
        self.u32(config.segment_bytes);
        self.u64(config.segment_ms);
        let version = config.version();
        if version == VERSION {
            return;
        }
        self.u8(match config.cleanup_policy {
            CleanupPolicy::Delete => 0,
            CleanupPolicy::Compact => 1,
            CleanupPolicy::CompactAndDelete => 2,
        });
        self.optional(config.retention_ms);
        self.optional(config.retention_bytes);
        self.u64(config.delete_retention_ms);
        self.u64(config.min_compaction_lag_ms);
        self.optional(config.max_compaction_lag_ms);
        self.u32(config.min_cleanable_dirty_permille);
        self.flag(config.timestamp_type == TimestampType::LogAppendTime);
        self.optional(config.timestamp_before_max_ms);
        self.optional(config.timestamp_after_max_ms);
        if version >= CONFIG_VERSION_DURABILITY {
            self.u8(match config.durability {
                TopicDurability::Log => 0,
                TopicDurability::Os => 1,
            });
        }
        if version >= CONFIG_VERSION_COMPRESSION {
            self.u8(config.compression.codec().map_or(CODEC_OF_PRODUCER, Compression::id));
        }
        if version >= CONFIG_VERSION_KEPT {
            self.kept_settings(&config.kept);
        }
    }

    fn kept_settings(&mut self, kept: &KeptSettings) {
        self.u32(kept.iter().len() as u32);
        for (name, value) in kept.iter() {
            self.text(name);
            self.text(value);
        }
    }

    fn topic(&mut self, topic: &TopicId) {
        self.u32(topic.0);
    }

    fn partition(&mut self, partition: &Partition) {
        self.topic(&partition.topic);
        self.u32(partition.index);
    }

    fn list<T>(&mut self, elements: &[T], write: impl Fn(&mut Writer, &T)) {
        self.u32(elements.len() as u32);
        elements.iter().for_each(|element| write(self, element));
    }

    fn optional(&mut self, value: Option<u64>) {
        self.flag(value.is_some());
        self.u64(value.unwrap_or(0));
    }

    /// A flag, and if it is set bytes.
    fn flagged(&mut self, value: Option<&[u8]>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.bytes(value);
        }
    }

    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.head.extend_from_slice(value);
    }

    fn flag(&mut self, value: bool) {
        self.u8(value as u8);
    }

    fn u8(&mut self, value: u8) {
        self.head.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.head.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.head.extend_from_slice(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.head.extend_from_slice(&value.to_le_bytes());
    }
}

/// Whether a commit has parts that version 1 of its layout has no place for.
pub(super) fn has_sections(commit: &Commit) -> bool {
    !commit.timers.is_empty() || !commit.marks.is_empty() || !commit.table_writes.is_empty()
}

/// Whether positions have a part that version 1 of their layout has no place for.
pub(super) fn has_metadata(offsets: &[OffsetCommit]) -> bool {
    offsets.iter().any(|offset| !offset.metadata.is_empty())
}

/// The same of any of a commit's.
pub(super) fn has_metadata_in(commit: &Commit) -> bool {
    commit.offsets.iter().any(|it| has_metadata(&it.offsets))
}
