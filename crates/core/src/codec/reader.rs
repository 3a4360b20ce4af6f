//! Reads the fields of commands that [`writer`](super::writer) has written, or refuses what it can't have written.
//!
//! Invariants
//!   * nothing is allocated on the word of a count or a length: it is compared with the bytes left first
//!   * whatever is accepted is written as the same bytes again

use super::*;
use crate::batch::{Compression, TimestampType};
use crate::command::*;
use crate::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};

/// Least bytes of what stands in lists.
const POSITION_BYTES: usize = PARTITION_BYTES + 8 + 1;
const METADATA_BYTES_LEAST: usize = 4;
const POSITIONS_BYTES_LEAST: usize = 4 + (1 + 8) + 4;
const CONDITION_BYTES_LEAST: usize = 1 + PARTITION_BYTES + 8;
const KEPT_BYTES_LEAST: usize = 4 + 4;
const DEDUP_ID_BYTES: usize = 16;
const MARK_BYTES_LEAST: usize = 1 + DEDUP_ID_BYTES + 4 + 4;
const RUN_BYTES: usize = 8;
const TIMER_BYTES: usize = 8;
const DUE_BYTES: usize = 8;
const TABLE_WRITE_BYTES_LEAST: usize = 1 + 4;
const TABLE_WRITES_BYTES_LEAST: usize = 4;

/// The parts of a commit that version 1 doesn't have.
#[derive(Default)]
struct Sections {
    marks: Vec<Mark>,
    /// When its timers are due.
    dues: Vec<i64>,
    /// Timers that it gives up.
    cancel: Vec<TimerId>,
    /// Of each of its batches for tables the writes.
    tables: Vec<Vec<TableWrite>>,
}

/// What is left of a command's bytes.
pub(super) struct Reader<'a> {
    kind: u8,
    version: u8,
    head: &'a Bytes,
    at: usize,
    bodies: Bytes,
    /// Whether the bodies lie elsewhere.
    is_bodiless: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(kind: u8, version: u8, head: &'a Bytes, bodies: &Bytes) -> Reader<'a> {
        Reader { kind, version, head, at: TIME_AT, bodies: bodies.clone(), is_bodiless: false }
    }

    pub(super) fn bodiless(kind: u8, version: u8, head: &'a Bytes) -> Reader<'a> {
        Reader { kind, version, head, at: TIME_AT, bodies: Bytes::new(), is_bodiless: true }
    }

    /// What every head begins with: the time in ms, and the number of batches.
    pub(super) fn start(&mut self) -> Result<(i64, usize), DecodeError> {
        let time_ms = self.i64()?;
        let batches = batch_count(self.head).ok_or_else(|| self.malformed("more batches than bytes"))?;
        self.at = FIELDS_AT;
        match self.kind {
            APPEND | APPEND_TRANSACTIONAL | APPEND_IDENTIFIED if batches != 1 => {
                Err(self.malformed("an append without exactly one batch"))
            }
            SET_TIMER | FIRE_TIMER if batches != 1 => {
                Err(self.malformed("a timer without exactly one batch"))
            }
            APPEND | APPEND_TRANSACTIONAL | APPEND_IDENTIFIED | COMMIT => Ok((time_ms, batches)),
            SET_TIMER | FIRE_TIMER | CARRY_TIMERS => Ok((time_ms, batches)),
            _ if batches != 0 => Err(self.malformed("batches in a command that has none")),
            _ => Ok((time_ms, batches)),
        }
    }

    /// All fields and batches of a command.
    pub(super) fn command(&mut self, batches: usize) -> Result<Command, DecodeError> {
        Ok(match self.kind {
            OPEN => Command::Open,
            CREATE_TOPIC => Command::CreateTopic {
                name: self.text()?,
                partitions: self.u32()?,
                config: self.topic_config()?,
            },
            ALTER_TOPIC => Command::AlterTopic { topic: self.topic()?, config: self.topic_config()? },
            DELETE_TOPIC => Command::DeleteTopic { topic: self.topic()? },
            INIT_PRODUCER => Command::InitProducer { name: self.flagged(Reader::text)? },
            APPEND => {
                let config_version = self.u32()?;
                let expected_end = self.optional()?;
                let (partition, batch) = self.batch()?;
                Command::Append { partition, config_version, expected_end, batch }
            }
            COMMIT => Command::Commit(Box::new(self.commit(batches)?)),
            COMMIT_OFFSETS => {
                let positions = self.positions()?;
                self.check_metadata(std::slice::from_ref(&positions))?;
                let GroupOffsets { group, member, offsets } = positions;
                Command::CommitOffsets { group, member, offsets }
            }
            JOIN_GROUP => Command::JoinGroup { group: self.text()?, topics: self.list(4, Reader::topic)? },
            LEAVE_GROUP => Command::LeaveGroup {
                group: self.text()?,
                member: MemberId(self.u64()?),
                fenced: self.flag()?,
            },
            RELEASE_PARTITIONS => Command::ReleasePartitions {
                group: self.text()?,
                member: MemberId(self.u64()?),
                partitions: self.list(PARTITION_BYTES, Reader::partition)?,
            },
            TRIM => Command::Trim { partition: self.partition()?, start: self.u64()? },
            TICK => Command::Tick,
            CONFIG => Command::Config(self.config_change()?),
            APPEND_IDENTIFIED..=RUN_READY | FORGET_ID => Command::from(self.dedup()?),
            SET_TIMER | CANCEL_TIMER | FIRE_TIMER | CARRY_TIMERS => {
                Command::from(self.timer_command(batches)?)
            }
            CREATE_PARTITIONS => Command::CreatePartitions { topic: self.topic()?, partitions: self.u32()? },
            DELETE_OFFSETS => {
                let (group, some) = (self.text()?, self.flag()?);
                let partitions = match some {
                    true => Some(self.list(PARTITION_BYTES, Reader::partition)?),
                    false => None,
                };
                Command::DeleteOffsets { group, partitions }
            }
            CREATE_TABLE => Command::CreateTable {
                name: self.text()?,
                partitions: self.u32()?,
                config: self.topic_config()?,
            },
            _ => Command::from(self.transactional()?),
        })
    }

    fn dedup(&mut self) -> Result<Dedup, DecodeError> {
        if self.kind == APPEND_IDENTIFIED {
            let (sender, config_version) = (self.producer()?, self.u32()?);
            let ids = self.list(DEDUP_ID_BYTES, Reader::dedup_id)?;
            let (partition, batch) = self.batch()?;
            return Ok(Dedup::Append { sender, partition, config_version, ids, batch });
        }
        if self.kind == RUN_READY {
            return Ok(Dedup::RunReady(RunReady {
                end_ms: self.i64()?,
                run: self.u64()?,
                entries: self.u64()?,
                up_to: self.u64()?,
                digest: self.u64()?,
                replaces: self.list(RUN_BYTES, Reader::u64)?,
            }));
        }
        if self.kind == FORGET_ID {
            let scope = match self.u8()? {
                0 => DedupScope::Topic(self.topic()?),
                1 => DedupScope::Named(self.text()?),
                _ => return Err(self.malformed("an unknown scope")),
            };
            return Ok(Dedup::Forget { scope, id: self.dedup_id()? });
        }
        let (scope, id, value) = (self.text()?, self.dedup_id()?, self.u64()?);
        Ok(match self.kind {
            RESERVE => Dedup::Reserve { scope, id, lease_ms: value },
            FINISH => Dedup::Finish { scope, id, reservation: value },
            _ => Dedup::Release { scope, id, reservation: value },
        })
    }

    fn dedup_id(&mut self) -> Result<DedupId, DecodeError> {
        self.array().map(DedupId)
    }

    fn mark(&mut self) -> Result<Mark, DecodeError> {
        match self.u8()? {
            0 => Ok(Mark::Event { id: self.dedup_id()?, batch: self.u32()?, record: self.u32()? }),
            1 => {
                let (scope, id) = (self.text()?, self.dedup_id()?);
                Ok(Mark::Named { scope: scope.into(), id, reservation: self.optional()? })
            }
            _ => Err(self.malformed("an unknown mark")),
        }
    }

    fn timer_command(&mut self, batches: usize) -> Result<TimerCommand, DecodeError> {
        Ok(match self.kind {
            SET_TIMER => {
                let sender = self.flagged(Reader::producer)?;
                let due_ms = self.i64()?;
                let (target, batch) = self.batch()?;
                TimerCommand::Set { sender, timer: NewTimer { target, due_ms, batch } }
            }
            CANCEL_TIMER => TimerCommand::Cancel { timer: self.timer()? },
            FIRE_TIMER => TimerCommand::Fire { timer: self.timer()?, batch: self.payload()? },
            _ => {
                let timers = self.list(TIMER_BYTES, Reader::timer)?;
                if timers.len() != batches {
                    return Err(self.malformed("not one batch for each timer"));
                }
                let payloads = timers.into_iter().map(|timer| Ok((timer, self.payload()?)));
                TimerCommand::Carry { payloads: payloads.collect::<Result<_, _>>()? }
            }
        })
    }

    fn timer(&mut self) -> Result<TimerId, DecodeError> {
        self.u64().map(TimerId)
    }

    /// The next entry, which is a batch of the hidden partition.
    fn payload(&mut self) -> Result<Batch, DecodeError> {
        match self.batch()? {
            (Partition::TIMERS, batch) => Ok(batch),
            _ => Err(self.malformed("a payload of another partition than that of the timers")),
        }
    }

    fn transactional(&mut self) -> Result<Transactional, DecodeError> {
        Ok(match self.kind {
            INIT_TRANSACTIONS => Transactional::Init {
                transactional_id: self.text()?,
                timeout_ms: self.u32()?,
                newer_codes: self.flag()?,
                current: self.flagged(Reader::producer)?,
            },
            ADD_PARTITIONS => Transactional::AddPartitions {
                sender: self.sender()?,
                partitions: self.list(PARTITION_BYTES, Reader::partition)?,
            },
            ADD_OFFSETS => Transactional::AddOffsets { sender: self.sender()?, group: self.text()? },
            APPEND_TRANSACTIONAL => {
                let (transactional_id, protocol) = (self.text()?, self.protocol()?);
                let (newer_codes, config_version) = (self.flag()?, self.u32()?);
                let (partition, batch) = self.batch()?;
                Transactional::Append {
                    transactional_id,
                    protocol,
                    newer_codes,
                    partition,
                    config_version,
                    batch,
                }
            }
            COMMIT_OFFSETS_TRANSACTIONAL => {
                let sender = self.sender()?;
                let positions = self.positions()?;
                self.check_metadata(std::slice::from_ref(&positions))?;
                let GroupOffsets { group, member, offsets } = positions;
                let generation = self.u64()?;
                if member.is_none() && generation != 0 {
                    return Err(self.malformed("a value where none is announced"));
                }
                let member = member.map(|member| (member, generation));
                Transactional::CommitOffsets { sender, group, member, offsets }
            }
            _ => Transactional::End { sender: self.sender()?, commit: self.flag()? },
        })
    }

    fn sender(&mut self) -> Result<TransactionSender, DecodeError> {
        let transactional_id = self.text()?;
        let (producer, producer_epoch) = self.producer()?;
        Ok(TransactionSender {
            transactional_id,
            producer,
            producer_epoch,
            protocol: self.protocol()?,
            newer_codes: self.flag()?,
            connection: self.u64()?,
        })
    }

    fn producer(&mut self) -> Result<(ProducerId, i16), DecodeError> {
        let producer = ProducerId(self.i64()?);
        let epoch = u16::try_from(self.u32()?).map_err(|_| self.malformed("an epoch over 16 bits"))?;
        Ok((producer, epoch as i16))
    }

    fn protocol(&mut self) -> Result<Protocol, DecodeError> {
        match self.u8()? {
            1 => Ok(Protocol::V1),
            2 => Ok(Protocol::V2),
            _ => Err(self.malformed("an unknown transaction protocol")),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.at != self.head.len() {
            return Err(self.malformed("bytes behind the last field"));
        }
        if !self.bodies.is_empty() {
            return Err(self.malformed("bytes behind the last body"));
        }
        Ok(())
    }

    fn commit(&mut self, batches: usize) -> Result<Commit, DecodeError> {
        let (producer, producer_epoch) = self.producer()?;
        let token = CommitToken { producer, producer_epoch, number: self.u64()? };
        let cursor = self.flagged(Reader::bytes)?;
        let offsets = self.list(POSITIONS_BYTES_LEAST, Reader::positions)?;
        self.check_metadata(&offsets)?;
        let conditions = self.list(CONDITION_BYTES_LEAST, Reader::condition)?;
        let Sections { marks, dues, cancel, tables } = self.sections()?;
        // Both are bounded by the bytes of the head.
        let plain = batches.checked_sub(dues.len() + tables.len());
        let plain = plain.ok_or_else(|| self.malformed("fewer batches than timers and writes to tables"))?;
        let batches = (0..plain).map(|_| self.batch()).collect::<Result<_, _>>()?;
        let set = dues.into_iter().map(|due_ms| {
            let (target, batch) = self.batch()?;
            Ok(NewTimer { target, due_ms, batch })
        });
        let timers = TimerEffects { set: set.collect::<Result<_, _>>()?, cancel };
        let table_writes = tables.into_iter().map(|writes| {
            let (partition, batch) = self.batch()?;
            Ok(TableWrites { partition, writes, batch })
        });
        let table_writes = table_writes.collect::<Result<_, _>>()?;
        Ok(Commit { token, cursor, offsets, conditions, batches, timers, marks, table_writes })
    }

    fn table_write(&mut self) -> Result<TableWrite, DecodeError> {
        let deletes = self.flag()?;
        Ok(TableWrite { key: self.bytes()?, deletes })
    }

    /// The parts of a commit that version 1 doesn't have: one at least, or metadata of positions; their tags
    /// ascend.
    fn sections(&mut self) -> Result<Sections, DecodeError> {
        let mut found = Sections::default();
        if self.version < COMMIT_VERSION_SECTIONS {
            return Ok(found);
        }
        let (count, mut last_tag) = (self.u8()?, 0);
        if count == 0 && self.version == COMMIT_VERSION_SECTIONS {
            return Err(self.malformed("no section where some are announced"));
        }
        for _ in 0..count {
            let (tag, len) = (self.u8()?, self.count(1)?);
            let end = self.at + len;
            if tag <= std::mem::replace(&mut last_tag, tag) {
                return Err(self.malformed("a section that is repeated or out of order"));
            }
            match tag {
                MARKS_SECTION => found.marks = self.list(MARK_BYTES_LEAST, Reader::mark)?,
                TIMERS_SECTION => {
                    found.dues = self.list(DUE_BYTES, Reader::i64)?;
                    found.cancel = self.list(TIMER_BYTES, Reader::timer)?;
                }
                TABLES_SECTION => {
                    found.tables = self.list(TABLE_WRITES_BYTES_LEAST, |reader| {
                        reader.list(TABLE_WRITE_BYTES_LEAST, Reader::table_write)
                    })?;
                }
                _ => return Err(self.malformed("an unknown section")),
            }
            if self.at != end {
                return Err(self.malformed("a section of another length than it says"));
            }
            let Sections { marks, dues, cancel, tables } = &found;
            let is_empty = match tag {
                MARKS_SECTION => marks.is_empty(),
                TABLES_SECTION => tables.is_empty(),
                _ => dues.is_empty() && cancel.is_empty(),
            };
            if is_empty {
                return Err(self.malformed("a section without content"));
            }
        }
        Ok(found)
    }

    fn condition(&mut self) -> Result<Condition, DecodeError> {
        match self.u8()? {
            0 => Ok(Condition::EndOffset { partition: self.partition()?, offset: self.u64()? }),
            1 => Ok(Condition::GroupOffset {
                group: self.text()?,
                partition: self.partition()?,
                offset: self.optional()?,
            }),
            2 => Ok(Condition::KeyVersion {
                table: self.topic()?,
                key: self.bytes()?,
                version: self.optional()?,
            }),
            _ => Err(self.malformed("an unknown condition")),
        }
    }

    fn config_change(&mut self) -> Result<ConfigChange, DecodeError> {
        match self.u8()? {
            0 => Ok(ConfigChange::AcceptTime { time_ms: self.i64()? }),
            1 => Ok(ConfigChange::SemanticsLevel { level: self.u32()? }),
            2 => Ok(ConfigChange::ProducerExpiration { idle_ms: self.u64()?, tombstone_ms: self.u64()? }),
            3 => Ok(ConfigChange::TransactionLimits {
                timeout_max_ms: self.u32()?,
                id_expiration_ms: self.u64()?,
            }),
            21 => Ok(ConfigChange::DedupKey { key: self.array()? }),
            22 => Ok(ConfigChange::DedupLimits {
                ttl_ms: self.u64()?,
                entries_max: self.u64()?,
                at_cap: if self.flag()? { AtCap::Shorten } else { AtCap::Refuse },
            }),
            26 => Ok(ConfigChange::TimerLimits { count_max: self.u64()?, delay_max_ms: self.u64()? }),
            27 => Ok(ConfigChange::OffsetRetention { retention_ms: self.u64()? }),
            32 => Ok(ConfigChange::TableLimits { keys_max: self.u64()?, key_bytes_max: self.u64()? }),
            34 => Ok(ConfigChange::KeptSettings(self.kept_settings()?)),
            _ => Err(self.malformed("an unknown setting")),
        }
    }

    /// The next entry, with its body.
    fn batch(&mut self) -> Result<(Partition, Batch), DecodeError> {
        let partition = self.partition()?;
        let header: [u8; HEADER_BYTES] = self.array()?;
        if self.is_bodiless {
            let batch =
                Batch::bodiless(header).map_err(|_| self.malformed("a batch that contradicts itself"))?;
            return Ok((partition, batch));
        }
        let len = Batch::announced_len(&header)
            .map_err(|_| self.malformed("a batch header with a wrong length"))?;
        let body_len = len - HEADER_BYTES;
        if body_len > self.bodies.len() {
            return Err(self.malformed("a batch longer than the bodies"));
        }
        let body = self.bodies.split_to(body_len);
        let batch = Batch::from_verified_parts(header, body)
            .map_err(|_| self.malformed("a batch that contradicts itself"))?;
        Ok((partition, batch))
    }

    fn positions(&mut self) -> Result<GroupOffsets, DecodeError> {
        let has_metadata = self.has_metadata();
        let bytes_least = POSITION_BYTES + if has_metadata { METADATA_BYTES_LEAST } else { 0 };
        Ok(GroupOffsets {
            group: self.text()?,
            member: self.optional()?.map(MemberId),
            offsets: self.list(bytes_least, |reader| {
                let (partition, offset, reset) = (reader.partition()?, reader.u64()?, reader.flag()?);
                let metadata = match has_metadata {
                    true => reader.str()?.into(),
                    false => OffsetMetadata::default(),
                };
                Ok(OffsetCommit { partition, offset, reset, metadata })
            })?,
        })
    }

    /// Whether positions have metadata in this kind and version.
    fn has_metadata(&self) -> bool {
        match self.kind {
            COMMIT => self.version >= COMMIT_VERSION_METADATA,
            _ => self.version >= POSITIONS_VERSION_METADATA,
        }
    }

    /// One has some, where there is a place for it.
    fn check_metadata(&self, offsets: &[GroupOffsets]) -> Result<(), DecodeError> {
        let is_some = |it: &OffsetCommit| !it.metadata.is_empty();
        match self.has_metadata() && !offsets.iter().flat_map(|it| &it.offsets).any(is_some) {
            true => Err(self.malformed("positions that an earlier version has a form for")),
            false => Ok(()),
        }
    }

    fn kept_settings(&mut self) -> Result<KeptSettings, DecodeError> {
        let settings = self.list(KEPT_BYTES_LEAST, |reader| Ok((reader.text()?, reader.text()?)))?;
        match settings.is_sorted_by(|(one, _), (next, _)| one < next) {
            true => Ok(settings.into_iter().collect()),
            false => Err(self.malformed("kept settings that aren't in the order of their names")),
        }
    }

    fn topic_config(&mut self) -> Result<TopicConfig, DecodeError> {
        let config = TopicConfig {
            max_message_bytes: self.u32()?,
            segment_bytes: self.u32()?,
            segment_ms: self.u64()?,
            ..TopicConfig::default()
        };
        if self.version == VERSION {
            return Ok(config);
        }
        let cleanup_policy = match self.u8()? {
            0 => CleanupPolicy::Delete,
            1 => CleanupPolicy::Compact,
            2 => CleanupPolicy::CompactAndDelete,
            _ => return Err(self.malformed("an unknown cleanup policy")),
        };
        let config = TopicConfig {
            cleanup_policy,
            retention_ms: self.optional()?,
            retention_bytes: self.optional()?,
            delete_retention_ms: self.u64()?,
            min_compaction_lag_ms: self.u64()?,
            max_compaction_lag_ms: self.optional()?,
            min_cleanable_dirty_permille: self.u32()?,
            timestamp_type: match self.flag()? {
                false => TimestampType::CreateTime,
                true => TimestampType::LogAppendTime,
            },
            timestamp_before_max_ms: self.optional()?,
            timestamp_after_max_ms: self.optional()?,
            ..config
        };
        let durability = match self.version < CONFIG_VERSION_DURABILITY {
            true => TopicDurability::Log,
            false => match self.u8()? {
                0 if self.version >= CONFIG_VERSION_COMPRESSION => TopicDurability::Log,
                1 => TopicDurability::Os,
                _ => return Err(self.malformed("an unknown durability of a topic")),
            },
        };
        let compression = match self.version < CONFIG_VERSION_COMPRESSION {
            true => TopicCompression::Producer,
            false => match self.u8()? {
                CODEC_OF_PRODUCER if self.version >= CONFIG_VERSION_KEPT => TopicCompression::Producer,
                id => match Compression::from_id(id) {
                    Some(codec) => TopicCompression::Codec(codec),
                    None => return Err(self.malformed("an unknown codec of a topic")),
                },
            },
        };
        let kept = match self.version < CONFIG_VERSION_KEPT {
            true => KeptSettings::default(),
            false => self.kept_settings()?,
        };
        let config = TopicConfig { durability, compression, kept, ..config };
        match config.version() == self.version {
            false => Err(self.malformed("settings that an earlier version has a form for")),
            true => Ok(config),
        }
    }

    fn topic(&mut self) -> Result<TopicId, DecodeError> {
        self.u32().map(TopicId)
    }

    fn partition(&mut self) -> Result<Partition, DecodeError> {
        Ok(Partition { topic: self.topic()?, index: self.u32()? })
    }

    /// A list of things that take at least `bytes_least` each.
    fn list<T>(
        &mut self,
        bytes_least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(bytes_least)?;
        // Exactly: what grows by itself begins with room for several, and there may be many short lists.
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn optional(&mut self) -> Result<Option<u64>, DecodeError> {
        let (is_some, value) = (self.flag()?, self.u64()?);
        if !is_some && value != 0 {
            return Err(self.malformed("a value where none is announced"));
        }
        Ok(is_some.then_some(value))
    }

    /// A flag, and if it is set a value.
    fn flagged<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        self.str().map(str::to_string)
    }

    fn str(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.count(1)?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("text that isn't UTF-8"))
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count(1)?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    /// A count of things of at least `bytes_least` each: never more than the bytes left allow.
    fn count(&mut self, bytes_least: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > (self.head.len() - self.at) / bytes_least {
            return Err(self.malformed("a count beyond the bytes left"));
        }
        Ok(count)
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag that is neither 0 nor 1")),
        }
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.head.len());
        let end = end.ok_or_else(|| self.malformed("the head ends inside a field"))?;
        let from = std::mem::replace(&mut self.at, end);
        let head: &'a Bytes = self.head;
        Ok(&head[from..end])
    }

    fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { kind: self.kind, what, at: self.at, len: self.head.len() }
    }
}
