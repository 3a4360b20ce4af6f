//! Commands to bytes and back. Little-endian, lengths before content, every command with a version of its own.
//!
//! A command becomes a *head* and the *bodies* of its batches. The head of every kind begins with its time and the
//! number of its batches and ends with one entry per batch, so that [`verify`] can check the bodies without
//! knowing the kind:
//!
//! ```text
//! time i64 ms | batches u32 | fields of the kind ... | batches x { topic u32 | index u32 | batch header 61 B }
//! ```
//!
//! Bodies follow in the order of the entries. The journal's frame covers the head with its own CRC; each body is
//! covered by the CRC-32C in its batch header.
//!
//! Kinds and versions are persisted: never renumber, never reuse.

use crate::batch::{Batch, HEADER_BYTES};
use crate::command::*;
use crate::ids::{MemberId, Partition, ProducerId, TopicId};
use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

const TIME_AT: usize = 0;
const BATCHES_AT: usize = TIME_AT + 8;
const FIELDS_AT: usize = BATCHES_AT + 4;
const ENTRY_BYTES: usize = 8 + HEADER_BYTES;

const OPEN: u8 = 1;
const CREATE_TOPIC: u8 = 2;
const ALTER_TOPIC: u8 = 3;
const DELETE_TOPIC: u8 = 4;
const INIT_PRODUCER: u8 = 5;
const APPEND: u8 = 6;
const COMMIT: u8 = 7;
const COMMIT_OFFSETS: u8 = 8;
const JOIN_GROUP: u8 = 9;
const LEAVE_GROUP: u8 = 10;
const RELEASE_PARTITIONS: u8 = 11;
const TRIM: u8 = 12;
const TICK: u8 = 13;
const CONFIG: u8 = 14;

/// Every kind is at this version today.
const VERSION: u8 = 1;

/// A command as bytes.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Which command.
    pub kind: u8,
    /// Which layout of it.
    pub version: u8,
    /// Everything but the bodies of the batches.
    pub head: Vec<u8>,
    /// The bodies of the batches, in order.
    pub bodies: SmallVec<[Bytes; 1]>,
}

/// Why bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer release.
    #[error("command kind {kind} version {version} is unknown to this release")]
    Unknown {
        /// The kind found.
        kind: u8,
        /// The version found.
        version: u8,
    },
    /// The bytes contradict themselves.
    #[error("command kind {kind}: {what} at byte {at} of {len}")]
    Malformed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        what: &'static str,
        /// Where in the head.
        at: usize,
        /// Length of the head.
        len: usize,
    },
}

/// Position in the head of the header of batch `index` of `batches`; the head is `head_len` bytes long.
pub fn batch_header_at(head_len: usize, batches: usize, index: usize) -> usize {
    head_len - (batches - index) * ENTRY_BYTES + 8
}

/// Number of batches that a head announces, if its length allows them.
pub fn batch_count(head: &[u8]) -> Option<usize> {
    let bytes = head.get(BATCHES_AT..FIELDS_AT)?;
    let count = u32::from_le_bytes(bytes.try_into().ok()?) as usize;
    (count.checked_mul(ENTRY_BYTES)? <= head.len() - FIELDS_AT).then_some(count)
}

/// Whether the bodies are whole: lengths as the batch headers say, and each CRC-32C right.
///
/// It says nothing about the fields of the head, which the journal's own CRC covers.
pub fn verify(_kind: u8, _version: u8, head: &[u8], bodies: &[u8]) -> bool {
    let Some(count) = batch_count(head) else { return false };
    let mut rest = bodies;
    for index in 0..count {
        let at = batch_header_at(head.len(), count, index);
        let Some(header) = head.get(at..at + HEADER_BYTES) else { return false };
        let Ok(len) = Batch::announced_len(header) else { return false };
        let body_len = len - HEADER_BYTES;
        if body_len > rest.len() {
            return false;
        }
        let (body, behind) = rest.split_at(body_len);
        if !Batch::crc_holds(header, body) {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// Turns a command and its time (ms since 1970) into bytes.
pub fn encode(time_ms: i64, command: &Command) -> Encoded {
    let mut w = Writer { head: Vec::with_capacity(128), bodies: SmallVec::new() };
    w.i64(time_ms);
    w.u32(0);
    let kind = match command {
        Command::Open => OPEN,
        Command::CreateTopic { name, partitions, config } => {
            w.text(name);
            w.u32(*partitions);
            w.topic_config(config);
            CREATE_TOPIC
        }
        Command::AlterTopic { topic, config } => {
            w.u32(topic.0);
            w.topic_config(config);
            ALTER_TOPIC
        }
        Command::DeleteTopic { topic } => {
            w.u32(topic.0);
            DELETE_TOPIC
        }
        Command::InitProducer { name } => {
            w.u8(name.is_some() as u8);
            if let Some(name) = name {
                w.text(name);
            }
            INIT_PRODUCER
        }
        Command::Append { partition, config_version, expected_end, batch } => {
            w.u32(*config_version);
            w.optional_u64(*expected_end);
            w.batches(std::iter::once((partition, batch)));
            APPEND
        }
        Command::Commit(commit) => {
            w.commit(commit);
            COMMIT
        }
        Command::CommitOffsets { group, member, offsets } => {
            w.group_offsets(group, *member, offsets);
            COMMIT_OFFSETS
        }
        Command::JoinGroup { group, topics } => {
            w.text(group);
            w.u32(topics.len() as u32);
            topics.iter().for_each(|topic| w.u32(topic.0));
            JOIN_GROUP
        }
        Command::LeaveGroup { group, member, fenced } => {
            w.text(group);
            w.u64(member.0);
            w.u8(*fenced as u8);
            LEAVE_GROUP
        }
        Command::ReleasePartitions { group, member, partitions } => {
            w.text(group);
            w.u64(member.0);
            w.u32(partitions.len() as u32);
            partitions.iter().for_each(|partition| w.partition(partition));
            RELEASE_PARTITIONS
        }
        Command::Trim { partition, start } => {
            w.partition(partition);
            w.u64(*start);
            TRIM
        }
        Command::Tick => TICK,
        Command::Config(change) => {
            w.config_change(change);
            CONFIG
        }
    };
    Encoded { kind, version: VERSION, head: w.head, bodies: w.bodies }
}

/// Turns bytes into a time (ms since 1970) and a command. The bodies must have passed [`verify`].
pub fn decode(kind: u8, version: u8, head: &Bytes, bodies: &Bytes) -> Result<(i64, Command), DecodeError> {
    if version != VERSION || !(OPEN..=CONFIG).contains(&kind) {
        return Err(DecodeError::Unknown { kind, version });
    }
    let mut r = Reader { kind, head, at: 0, bodies: bodies.clone() };
    let time_ms = r.u64()? as i64;
    let count = batch_count(head).ok_or_else(|| r.malformed("more batches than bytes"))?;
    r.at = FIELDS_AT;
    let carries = matches!(kind, APPEND | COMMIT);
    if !carries && count != 0 {
        return Err(r.malformed("batches in a command that has none"));
    }
    let command = r.command(count)?;
    if r.at != head.len() {
        return Err(r.malformed("bytes behind the last field"));
    }
    if !r.bodies.is_empty() {
        return Err(r.malformed("bytes behind the last body"));
    }
    Ok((time_ms, command))
}

struct Writer {
    head: Vec<u8>,
    bodies: SmallVec<[Bytes; 1]>,
}

impl Writer {
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
        self.u64(value as u64);
    }
    fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.head.extend_from_slice(value);
    }
    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    fn partition(&mut self, partition: &Partition) {
        self.u32(partition.topic.0);
        self.u32(partition.index);
    }
    fn optional_u64(&mut self, value: Option<u64>) {
        self.u8(value.is_some() as u8);
        self.u64(value.unwrap_or(0));
    }
    fn topic_config(&mut self, config: &TopicConfig) {
        self.u32(config.max_message_bytes);
        self.u32(config.segment_bytes);
        self.u64(config.segment_ms);
    }
    fn group_offsets(&mut self, group: &str, member: Option<MemberId>, offsets: &[OffsetCommit]) {
        self.text(group);
        self.optional_u64(member.map(|member| member.0));
        self.u32(offsets.len() as u32);
        for offset in offsets {
            self.partition(&offset.partition);
            self.u64(offset.offset);
            self.u8(offset.reset as u8);
        }
    }
    fn commit(&mut self, commit: &Commit) {
        self.u64(commit.token.producer.0 as u64);
        self.u32(commit.token.producer_epoch as u16 as u32);
        self.u64(commit.token.number);
        self.u8(commit.cursor.is_some() as u8);
        if let Some(cursor) = &commit.cursor {
            self.bytes(cursor);
        }
        self.u32(commit.offsets.len() as u32);
        for offsets in &commit.offsets {
            self.group_offsets(&offsets.group, offsets.member, &offsets.offsets);
        }
        self.u32(commit.conditions.len() as u32);
        for condition in &commit.conditions {
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
                    self.optional_u64(*offset);
                }
            }
        }
        self.batches(commit.batches.iter().map(|(partition, batch)| (partition, batch)));
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
        }
    }
    fn batches<'a>(&mut self, batches: impl Iterator<Item = (&'a Partition, &'a Batch)>) {
        let mut count = 0u32;
        for (partition, batch) in batches {
            self.partition(partition);
            self.head.extend_from_slice(batch.header());
            self.bodies.push(batch.body().clone());
            count += 1;
        }
        self.head[BATCHES_AT..FIELDS_AT].copy_from_slice(&count.to_le_bytes());
    }
}

struct Reader<'a> {
    kind: u8,
    head: &'a Bytes,
    at: usize,
    bodies: Bytes,
}

impl Reader<'_> {
    fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { kind: self.kind, what, at: self.at, len: self.head.len() }
    }
    fn take(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.head.len());
        let end = end.ok_or_else(|| self.malformed("the head ends inside a field"))?;
        let from = self.at;
        self.at = end;
        Ok(&self.head[from..end])
    }
    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }
    fn u32(&mut self) -> Result<u32, DecodeError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }
    fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }
    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag that is neither 0 nor 1")),
        }
    }
    /// A count of things of at least `each` bytes: never more than the bytes left allow.
    fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > (self.head.len() - self.at) / each {
            return Err(self.malformed("a count beyond the bytes left"));
        }
        Ok(count)
    }
    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count(1)?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }
    fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.malformed("text that isn't UTF-8"))
    }
    fn partition(&mut self) -> Result<Partition, DecodeError> {
        Ok(Partition { topic: TopicId(self.u32()?), index: self.u32()? })
    }
    fn optional_u64(&mut self) -> Result<Option<u64>, DecodeError> {
        let is_some = self.flag()?;
        let value = self.u64()?;
        if !is_some && value != 0 {
            return Err(self.malformed("a value where none is announced"));
        }
        Ok(is_some.then_some(value))
    }
    fn topic_config(&mut self) -> Result<TopicConfig, DecodeError> {
        Ok(TopicConfig {
            max_message_bytes: self.u32()?,
            segment_bytes: self.u32()?,
            segment_ms: self.u64()?,
        })
    }
    fn offsets(&mut self) -> Result<Vec<OffsetCommit>, DecodeError> {
        let count = self.count(17)?;
        (0..count)
            .map(|_| {
                Ok(OffsetCommit { partition: self.partition()?, offset: self.u64()?, reset: self.flag()? })
            })
            .collect()
    }
    fn group_offsets(&mut self) -> Result<GroupOffsets, DecodeError> {
        let group = self.text()?;
        let member = self.optional_u64()?.map(MemberId);
        Ok(GroupOffsets { group, member, offsets: self.offsets()? })
    }
    fn batch(&mut self) -> Result<(Partition, Batch), DecodeError> {
        let partition = self.partition()?;
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(self.take(HEADER_BYTES)?);
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
    fn condition(&mut self) -> Result<Condition, DecodeError> {
        match self.u8()? {
            0 => Ok(Condition::EndOffset { partition: self.partition()?, offset: self.u64()? }),
            1 => Ok(Condition::GroupOffset {
                group: self.text()?,
                partition: self.partition()?,
                offset: self.optional_u64()?,
            }),
            _ => Err(self.malformed("an unknown condition")),
        }
    }
    fn commit(&mut self, batches: usize) -> Result<Commit, DecodeError> {
        let producer = ProducerId(self.u64()? as i64);
        let epoch = self.u32()?;
        let producer_epoch =
            u16::try_from(epoch).map_err(|_| self.malformed("an epoch over 16 bits"))? as i16;
        let token = CommitToken { producer, producer_epoch, number: self.u64()? };
        let cursor = if self.flag()? { Some(self.bytes()?) } else { None };
        let count = self.count(17)?;
        let offsets = (0..count).map(|_| self.group_offsets()).collect::<Result<_, _>>()?;
        let count = self.count(13)?;
        let conditions = (0..count).map(|_| self.condition()).collect::<Result<_, _>>()?;
        let batches = (0..batches).map(|_| self.batch()).collect::<Result<_, _>>()?;
        Ok(Commit { token, cursor, batches, offsets, conditions })
    }
    fn config_change(&mut self) -> Result<ConfigChange, DecodeError> {
        match self.u8()? {
            0 => Ok(ConfigChange::AcceptTime { time_ms: self.u64()? as i64 }),
            1 => Ok(ConfigChange::SemanticsLevel { level: self.u32()? }),
            2 => Ok(ConfigChange::ProducerExpiration { idle_ms: self.u64()?, tombstone_ms: self.u64()? }),
            _ => Err(self.malformed("an unknown setting")),
        }
    }
    fn command(&mut self, batches: usize) -> Result<Command, DecodeError> {
        Ok(match self.kind {
            OPEN => Command::Open,
            CREATE_TOPIC => Command::CreateTopic {
                name: self.text()?,
                partitions: self.u32()?,
                config: self.topic_config()?,
            },
            ALTER_TOPIC => Command::AlterTopic { topic: TopicId(self.u32()?), config: self.topic_config()? },
            DELETE_TOPIC => Command::DeleteTopic { topic: TopicId(self.u32()?) },
            INIT_PRODUCER => {
                let named = self.flag()?;
                Command::InitProducer { name: if named { Some(self.text()?) } else { None } }
            }
            APPEND => {
                let config_version = self.u32()?;
                let expected_end = self.optional_u64()?;
                if batches != 1 {
                    return Err(self.malformed("an append without exactly one batch"));
                }
                let (partition, batch) = self.batch()?;
                Command::Append { partition, config_version, expected_end, batch }
            }
            COMMIT => Command::Commit(Box::new(self.commit(batches)?)),
            COMMIT_OFFSETS => {
                let GroupOffsets { group, member, offsets } = self.group_offsets()?;
                Command::CommitOffsets { group, member, offsets }
            }
            JOIN_GROUP => {
                let group = self.text()?;
                let count = self.count(4)?;
                let topics = (0..count).map(|_| self.u32().map(TopicId)).collect::<Result<_, _>>()?;
                Command::JoinGroup { group, topics }
            }
            LEAVE_GROUP => Command::LeaveGroup {
                group: self.text()?,
                member: MemberId(self.u64()?),
                fenced: self.flag()?,
            },
            RELEASE_PARTITIONS => {
                let group = self.text()?;
                let member = MemberId(self.u64()?);
                let count = self.count(8)?;
                let partitions = (0..count).map(|_| self.partition()).collect::<Result<_, _>>()?;
                Command::ReleasePartitions { group, member, partitions }
            }
            TRIM => Command::Trim { partition: self.partition()?, start: self.u64()? },
            TICK => Command::Tick,
            _ => Command::Config(self.config_change()?),
        })
    }
}
