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
//! `writer` and `reader` have one row for each kind, in the order of docs/FORMAT.md, "Kinds".
//!
//! Kinds and versions are persisted: never renumber, never reuse.

mod reader;
mod writer;

use crate::batch::{Batch, HEADER_BYTES};
use crate::command::{Command, Transactional};
use bytes::Bytes;
use reader::Reader;
use smallvec::SmallVec;
use thiserror::Error;
use writer::Writer;

const TIME_AT: usize = 0;
const BATCHES_AT: usize = TIME_AT + 8;
const FIELDS_AT: usize = BATCHES_AT + 4;
/// A partition, in an entry and in fields.
const PARTITION_BYTES: usize = 4 + 4;
const ENTRY_BYTES: usize = PARTITION_BYTES + HEADER_BYTES;

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
const INIT_TRANSACTIONS: u8 = 15;
const ADD_PARTITIONS: u8 = 16;
const ADD_OFFSETS: u8 = 17;
const APPEND_TRANSACTIONAL: u8 = 18;
const COMMIT_OFFSETS_TRANSACTIONAL: u8 = 19;
const END_TRANSACTION: u8 = 20;
const APPEND_IDENTIFIED: u8 = 21;
const RESERVE: u8 = 22;
const FINISH: u8 = 23;
const RELEASE: u8 = 24;
const RUN_READY: u8 = 25;
const SET_TIMER: u8 = 26;
const CANCEL_TIMER: u8 = 27;
const FIRE_TIMER: u8 = 28;
const CARRY_TIMERS: u8 = 29;
const CREATE_PARTITIONS: u8 = 30;
const DELETE_OFFSETS: u8 = 31;
const CREATE_TABLE: u8 = 32;
const FORGET_ID: u8 = 33;

/// The first version of every kind.
const VERSION: u8 = 1;
/// Those of topics' settings that brought a field. What an earlier version can say stays in that.
const CONFIG_VERSION_DURABILITY: u8 = 3;
const CONFIG_VERSION_COMPRESSION: u8 = 4;
const CONFIG_VERSION_KEPT: u8 = 5;
/// A topic without a codec of its own, where a version has a place for one all the same.
const CODEC_OF_PRODUCER: u8 = 255;

/// Positions with metadata, outside of a commit and in one.
const POSITIONS_VERSION_METADATA: u8 = 2;
const COMMIT_VERSION_METADATA: u8 = 3;

fn is_known(kind: u8, version: u8) -> bool {
    match kind {
        CREATE_TOPIC | ALTER_TOPIC | CREATE_TABLE => (VERSION..=CONFIG_VERSION_KEPT).contains(&version),
        COMMIT => (VERSION..=COMMIT_VERSION_METADATA).contains(&version),
        COMMIT_OFFSETS | COMMIT_OFFSETS_TRANSACTIONAL => {
            (VERSION..=POSITIONS_VERSION_METADATA).contains(&version)
        }
        OPEN..=RUN_READY | SET_TIMER..=CARRY_TIMERS => version == VERSION,
        CREATE_PARTITIONS | DELETE_OFFSETS | FORGET_ID => version == VERSION,
        _ => false,
    }
}

fn version_of(command: &Command) -> u8 {
    match command {
        Command::CreateTopic { config, .. }
        | Command::AlterTopic { config, .. }
        | Command::CreateTable { config, .. } => config.version(),
        Command::Commit(commit) if writer::has_metadata_in(commit) => COMMIT_VERSION_METADATA,
        Command::Commit(commit) if writer::has_sections(commit) => COMMIT_VERSION_SECTIONS,
        Command::CommitOffsets { offsets, .. } if writer::has_metadata(offsets) => POSITIONS_VERSION_METADATA,
        Command::Transactional(request) => match &**request {
            Transactional::CommitOffsets { offsets, .. } if writer::has_metadata(offsets) => {
                POSITIONS_VERSION_METADATA
            }
            _ => VERSION,
        },
        _ => VERSION,
    }
}

/// A commit with sections.
const COMMIT_VERSION_SECTIONS: u8 = 2;

/// Tags of the sections of a commit, in the order in which they stand there: its marks, its timers, and its writes to
/// tables.
const MARKS_SECTION: u8 = 1;
const TIMERS_SECTION: u8 = 2;
const TABLES_SECTION: u8 = 3;

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
    head_len - (batches - index) * ENTRY_BYTES + PARTITION_BYTES
}

/// Number of batches that a head announces, if its length allows them.
pub fn batch_count(head: &[u8]) -> Option<usize> {
    let bytes = head.get(BATCHES_AT..FIELDS_AT)?;
    let count = u32::from_le_bytes(bytes.try_into().ok()?) as usize;
    (count.checked_mul(ENTRY_BYTES)? <= head.len() - FIELDS_AT).then_some(count)
}

/// Whether the bodies are whole: lengths as the batch headers say, and each CRC-32C right.
///
/// It says nothing about the fields of the head, which the journal's own CRC covers. Kind and version are what the
/// journal asks with; they make no difference as long as all heads are built alike.
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
    let mut writer = Writer::new(time_ms);
    let kind = writer.command(command);
    let Writer { head, bodies } = writer;
    Encoded { kind, version: version_of(command), head, bodies }
}

/// Turns bytes into a time (ms since 1970) and a command. The bodies must have passed [`verify`].
pub fn decode(kind: u8, version: u8, head: &Bytes, bodies: &Bytes) -> Result<(i64, Command), DecodeError> {
    if !is_known(kind, version) {
        return Err(DecodeError::Unknown { kind, version });
    }
    read(Reader::new(kind, version, head, bodies))
}

/// As [`decode`], of a head alone: its batches are [`bodiless`](Batch::bodiless).
///
/// # Errors
/// As [`decode`].
pub fn decode_head(kind: u8, version: u8, head: &Bytes) -> Result<(i64, Command), DecodeError> {
    if !is_known(kind, version) {
        return Err(DecodeError::Unknown { kind, version });
    }
    read(Reader::bodiless(kind, version, head))
}

fn read(mut reader: Reader<'_>) -> Result<(i64, Command), DecodeError> {
    let (time_ms, batches) = reader.start()?;
    let command = reader.command(batches)?;
    reader.end()?;
    Ok((time_ms, command))
}
