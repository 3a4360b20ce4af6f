//! The bytes of a run (docs/FORMAT.md, "Runs of event ids").
//!
//! ```text
//!   header, one block | blocks of 124 marks and a CRC-32C | first key of each block, last key, CRC | filter, CRC
//! ```
//!
//! Invariants
//!   * a block has its place in its checksum: one that lies elsewhere, or in another run, doesn't hold
//!   * the length of the file follows from its header, and is checked before anything is allocated for it

use crate::error::StorageError;
use exactlog_core::ids::{DedupId, TopicId};
use exactlog_core::state::{MarkKey, Place, ScopeKey};

/// Directory of the runs.
pub const RUNS_DIR: &str = "dedup";

/// The format that this build writes and reads.
pub(super) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"EXLOGRUN";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8; // u16
const ID_AT: usize = VERSION_AT + 8; // u64, behind 6 reserved bytes
const END_AT: usize = ID_AT + 8; // i64
const ENTRIES_AT: usize = END_AT + 8; // u64
const DIGEST_AT: usize = ENTRIES_AT + 8; // u64
const FILTER_LINES_AT: usize = DIGEST_AT + 8; // u64
const HEADER_CRC_AT: usize = FILTER_LINES_AT + 8; // u32
const HEADER_BYTES: usize = HEADER_CRC_AT + 4;
const _: () = assert!(HEADER_BYTES == 60);

/// Header and blocks, in bytes.
pub(super) const BLOCK_BYTES: usize = 4096;

/// A key: 0 a topic, 1 a name; its number; the id.
pub(super) const KEY_BYTES: usize = 1 + 4 + 16;
/// A key, offset or lsn, and the index of a partition.
pub(super) const MARK_BYTES: usize = KEY_BYTES + 8 + 4;
/// Marks of a block.
pub(super) const MARKS_PER_BLOCK: usize = 124;
const BLOCK_CRC_AT: usize = MARKS_PER_BLOCK * MARK_BYTES;
const _: () = assert!(BLOCK_CRC_AT + 4 == BLOCK_BYTES);

/// Bytes of a line of the filter.
pub(super) const LINE_BYTES: usize = 64;
pub(super) const CRC_BYTES: usize = 4;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) end_ms: i64,
    pub(super) entries: u64,
    pub(super) digest: u64,
    pub(super) filter_lines: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        bytes[MAGIC_AT..VERSION_AT].copy_from_slice(&MAGIC);
        bytes[VERSION_AT..VERSION_AT + 2].copy_from_slice(&VERSION.to_le_bytes());
        bytes[ID_AT..END_AT].copy_from_slice(&self.id.to_le_bytes());
        bytes[END_AT..ENTRIES_AT].copy_from_slice(&self.end_ms.to_le_bytes());
        bytes[ENTRIES_AT..DIGEST_AT].copy_from_slice(&self.entries.to_le_bytes());
        bytes[DIGEST_AT..FILTER_LINES_AT].copy_from_slice(&self.digest.to_le_bytes());
        bytes[FILTER_LINES_AT..HEADER_CRC_AT].copy_from_slice(&self.filter_lines.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(file: &str, bytes: &[u8; BLOCK_BYTES]) -> Result<Header, StorageError> {
        let damaged = |at: usize, what: &str| Err(StorageError::damaged(file, at as u64, what));
        if bytes[MAGIC_AT..VERSION_AT] != MAGIC {
            return damaged(MAGIC_AT, "no run of event ids begins like this");
        }
        if u32_at(bytes, HEADER_CRC_AT) != crc32c::crc32c(&bytes[..HEADER_CRC_AT]) {
            return damaged(HEADER_CRC_AT, "the header's checksum doesn't hold");
        }
        if let Some(at) = (HEADER_BYTES..BLOCK_BYTES).find(|at| bytes[*at] != 0) {
            return damaged(at, "bytes behind the header");
        }
        let version = u16::from_le_bytes([bytes[VERSION_AT], bytes[VERSION_AT + 1]]);
        if version != VERSION {
            return Err(StorageError::Version { file: file.into(), found: version, supported: VERSION });
        }
        Ok(Header {
            id: u64_at(bytes, ID_AT),
            end_ms: u64_at(bytes, END_AT) as i64,
            entries: u64_at(bytes, ENTRIES_AT),
            digest: u64_at(bytes, DIGEST_AT),
            filter_lines: u64_at(bytes, FILTER_LINES_AT),
        })
    }

    pub(super) fn blocks(&self) -> u64 {
        self.entries.div_ceil(MARKS_PER_BLOCK as u64)
    }

    /// Marks of a block.
    pub(super) fn marks_of(&self, block: u64) -> usize {
        let before = block * MARKS_PER_BLOCK as u64;
        self.entries.saturating_sub(before).min(MARKS_PER_BLOCK as u64) as usize
    }

    pub(super) fn index_at(&self) -> u64 {
        block_at(self.blocks())
    }

    /// The first keys, the last key, and their checksum.
    pub(super) fn index_bytes(&self) -> u64 {
        (self.blocks() + 1) * KEY_BYTES as u64 + CRC_BYTES as u64
    }

    pub(super) fn filter_at(&self) -> u64 {
        self.index_at() + self.index_bytes()
    }

    pub(super) fn filter_bytes(&self) -> u64 {
        self.filter_lines * LINE_BYTES as u64 + CRC_BYTES as u64
    }

    /// What the file must have; none of one that no file can have.
    pub(super) fn len_bytes(&self) -> Option<u64> {
        const MOST: u64 = 1 << 40;
        let possible = (1..MOST).contains(&self.entries) && (1..MOST).contains(&self.filter_lines);
        possible.then(|| self.filter_at() + self.filter_bytes())
    }
}

/// Where a block begins.
pub(super) fn block_at(block: u64) -> u64 {
    (1 + block) * BLOCK_BYTES as u64
}

/// Writes the checksum of a block.
pub(super) fn seal_block(bytes: &mut [u8], run: u64, block: u64) {
    let crc = block_crc(bytes, run, block);
    bytes[BLOCK_CRC_AT..BLOCK_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a block is the one that belongs here.
pub(super) fn block_holds(bytes: &[u8], run: u64, block: u64) -> bool {
    u32_at(bytes, BLOCK_CRC_AT) == block_crc(bytes, run, block)
}

fn block_crc(bytes: &[u8], run: u64, block: u64) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&run.to_le_bytes());
    place[8..].copy_from_slice(&block.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[..BLOCK_CRC_AT])
}

pub(super) fn put_key(key: &MarkKey, into: &mut Vec<u8>) {
    let (kind, number) = match key.scope {
        ScopeKey::Topic(topic) => (0, topic.0),
        ScopeKey::Named(number) => (1, number),
    };
    into.push(kind);
    into.extend_from_slice(&number.to_le_bytes());
    into.extend_from_slice(&key.id.0);
}

pub(super) fn put_mark(key: &MarkKey, place: Place, into: &mut Vec<u8>) {
    put_key(key, into);
    into.extend_from_slice(&place.at.to_le_bytes());
    into.extend_from_slice(&place.index.to_le_bytes());
}

/// The key that these bytes begin with; whoever calls has looked at their checksum.
pub(super) fn key_of(bytes: &[u8]) -> Option<MarkKey> {
    let number = u32_at(bytes, 1);
    let scope = match bytes[0] {
        0 => ScopeKey::Topic(TopicId(number)),
        1 => ScopeKey::Named(number),
        _ => return None,
    };
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[5..KEY_BYTES]);
    Some(MarkKey { scope, id: DedupId(id) })
}

/// The mark that these bytes begin with.
pub(super) fn mark_of(bytes: &[u8]) -> Option<(MarkKey, Place)> {
    let place = Place { at: u64_at(bytes, KEY_BYTES), index: u32_at(bytes, KEY_BYTES + 8) };
    Some((key_of(bytes)?, place))
}

/// The name of a run's file, relative to the root of the disk.
pub(super) fn file_name(id: u64) -> String {
    format!("{RUNS_DIR}/{id:020}{SUFFIX}")
}

const SUFFIX: &str = ".run";
/// What a crash leaves of one that has no name yet.
pub(super) const UNFINISHED: &str = ".run.tmp";

/// The id of the run whose file has this name in its directory.
pub(super) fn id_of(entry: &str) -> Option<u64> {
    let digits = entry.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
