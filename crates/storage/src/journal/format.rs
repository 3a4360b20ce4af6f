//! The bytes of a journal file: its header, and the header of a frame (docs/FORMAT.md).
//!
//! Not here: files, chains, groups of frames. Everything here is a pure function of bytes.
//!
//! Invariants:
//!   * all integers are little-endian
//!   * a frame's checksum depends on nonce and generation of its file through a crc32 over both, never through
//!     their xor or sum: two files could then share a seed
//!   * the checksum of a frame covers its length and everything from its kind to the end of its head; the bodies
//!     are covered by checksums of their own, whose values lie in the head

use super::Level;
use crate::error::StorageError;
use std::fmt;

/// Groups begin at multiples of this, and so does all that is written.
pub const BLOCK_BYTES: u64 = 4096;
/// The version of journal files that this build writes and reads.
pub const FORMAT_VERSION: u16 = 1;
/// Size of the header of a journal file.
pub const FILE_HEADER_BYTES: u64 = BLOCK_BYTES;
/// Size of the header of a frame.
pub const FRAME_HEADER_BYTES: u64 = FRAME_HEADER as u64;

const MAGIC: [u8; 8] = *b"EXLOGJNL";

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const SHARD_AT: usize = VERSION_AT + 2 + 2; // two reserved bytes
const GENERATION_AT: usize = SHARD_AT + 4;
const NONCE_AT: usize = GENERATION_AT + 8;
const FIRST_LSN_AT: usize = NONCE_AT + 8;
const TERM_AT: usize = FIRST_LSN_AT + 8;
const LEN_BLOCKS_AT: usize = TERM_AT + 4;
const PREDECESSOR_GENERATION_AT: usize = LEN_BLOCKS_AT + 4;
const PREDECESSOR_END_AT: usize = PREDECESSOR_GENERATION_AT + 8;
const PREDECESSOR_LAST_AT: usize = PREDECESSOR_END_AT + 8;
const HEADER_CRC_AT: usize = PREDECESSOR_LAST_AT + 8;
const HEADER_END: usize = HEADER_CRC_AT + 4;

const LEN_AT: usize = 0;
const CRC_AT: usize = LEN_AT + 4;
const KIND_AT: usize = CRC_AT + 4;
const FRAME_VERSION_AT: usize = KIND_AT + 1;
const FLAGS_AT: usize = FRAME_VERSION_AT + 1;
const FRAME_TERM_AT: usize = FLAGS_AT + 2;
const LSN_AT: usize = FRAME_TERM_AT + 4;
const HEAD_LEN_AT: usize = LSN_AT + 8;
const LEFT_AT: usize = HEAD_LEN_AT + 4;
/// Where in a group's first block the nonce lies: what rule R8 compares.
pub(super) const TIE_AT: usize = LEFT_AT + 4;
const DURABLE_AT: usize = TIE_AT + 8;
pub(super) const FRAME_HEADER: usize = DURABLE_AT + 8;

const _: () = assert!(HEADER_END == 76 && FRAME_HEADER == 48 && TIE_AT == 32);

/// The kind of a seal. Must stay 0; kinds from 1 on are commands.
pub const SEAL_KIND: u8 = 0;

const GROUP_HEAD: u16 = 1;
const LEVEL_SHIFT: u16 = 1;
const LEVEL_MASK: u16 = 0b11 << LEVEL_SHIFT;
const CLEAN: u16 = 1 << 3;

/// What a journal file says about itself and about its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) shard: u32,
    pub(super) generation: u64,
    pub(super) nonce: u64,
    pub(super) first_lsn: u64,
    pub(super) term: u32,
    /// Length of the file in blocks. It is durable before the file gets its name: a shorter file was cut.
    pub(super) len_blocks: u32,
    /// `None`: the journal begins here.
    pub(super) predecessor: Option<Predecessor>,
}

/// Where the journal goes on from: what lies behind `end` in that file doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub(super) generation: u64,
    pub(super) end: u64,
    pub(super) last_lsn: u64,
}

/// Why a file header doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Short(u64),
    Magic([u8; 8]),
    Version(u16),
    Checksum {
        found: u32,
        computed: u32,
    },
    Rest(usize),
    Contradiction,
    /// The header of a file of this generation, which isn't that of the name.
    Generation(u64),
}

impl FileHeader {
    /// What `len_blocks` says of a file of this length, which is a multiple of the block size.
    pub(super) fn blocks(len: u64) -> Result<u32, StorageError> {
        let limit = u64::from(u32::MAX) * BLOCK_BYTES;
        let blocks = u32::try_from(len / BLOCK_BYTES);
        blocks.map_err(|_| StorageError::TooLarge { what: "a journal file", found: len, limit })
    }

    /// The first block of the file.
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES as usize] {
        let mut block = [0; BLOCK_BYTES as usize];
        // Without one the journal begins here, behind a state that was taken over if not at lsn 1.
        let last_lsn = self.first_lsn.saturating_sub(1);
        let predecessor = self.predecessor.unwrap_or(Predecessor { generation: 0, end: 0, last_lsn });
        put(&mut block, MAGIC_AT, MAGIC);
        put(&mut block, VERSION_AT, FORMAT_VERSION.to_le_bytes());
        put(&mut block, SHARD_AT, self.shard.to_le_bytes());
        put(&mut block, GENERATION_AT, self.generation.to_le_bytes());
        put(&mut block, NONCE_AT, self.nonce.to_le_bytes());
        put(&mut block, FIRST_LSN_AT, self.first_lsn.to_le_bytes());
        put(&mut block, TERM_AT, self.term.to_le_bytes());
        put(&mut block, LEN_BLOCKS_AT, self.len_blocks.to_le_bytes());
        put(&mut block, PREDECESSOR_GENERATION_AT, predecessor.generation.to_le_bytes());
        put(&mut block, PREDECESSOR_END_AT, predecessor.end.to_le_bytes());
        put(&mut block, PREDECESSOR_LAST_AT, predecessor.last_lsn.to_le_bytes());
        let crc = crc32fast::hash(&block[..HEADER_CRC_AT]);
        put(&mut block, HEADER_CRC_AT, crc.to_le_bytes());
        block
    }

    /// Reads the first block of a file. The version is judged before the checksum: a later version may have the
    /// checksum elsewhere.
    pub(super) fn decode(block: &[u8]) -> Result<FileHeader, HeaderFault> {
        if block.len() < BLOCK_BYTES as usize {
            return Err(HeaderFault::Short(block.len() as u64));
        }
        let magic = take(block, MAGIC_AT);
        if magic != MAGIC {
            return Err(HeaderFault::Magic(magic));
        }
        let version = u16::from_le_bytes(take(block, VERSION_AT));
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let found = u32::from_le_bytes(take(block, HEADER_CRC_AT));
        let computed = crc32fast::hash(&block[..HEADER_CRC_AT]);
        if found != computed {
            return Err(HeaderFault::Checksum { found, computed });
        }
        let rest = &block[HEADER_END..BLOCK_BYTES as usize];
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            return Err(HeaderFault::Rest(HEADER_END + at));
        }
        Self::decode_fields(block)
    }

    fn decode_fields(block: &[u8]) -> Result<FileHeader, HeaderFault> {
        let generation = u64::from_le_bytes(take(block, GENERATION_AT));
        let first_lsn = u64::from_le_bytes(take(block, FIRST_LSN_AT));
        let predecessor = Predecessor {
            generation: u64::from_le_bytes(take(block, PREDECESSOR_GENERATION_AT)),
            end: u64::from_le_bytes(take(block, PREDECESSOR_END_AT)),
            last_lsn: u64::from_le_bytes(take(block, PREDECESSOR_LAST_AT)),
        };
        // A journal goes on with the next lsn, in a later generation, behind a header.
        let fits = predecessor.last_lsn.checked_add(1) == Some(first_lsn)
            && predecessor.generation < generation
            && first_lsn < super::names::NUMBER_LIMIT
            && (predecessor.generation == 0 || predecessor.end >= FILE_HEADER_BYTES);
        if !fits {
            return Err(HeaderFault::Contradiction);
        }
        Ok(FileHeader {
            shard: u32::from_le_bytes(take(block, SHARD_AT)),
            generation,
            nonce: u64::from_le_bytes(take(block, NONCE_AT)),
            first_lsn,
            term: u32::from_le_bytes(take(block, TERM_AT)),
            len_blocks: u32::from_le_bytes(take(block, LEN_BLOCKS_AT)),
            predecessor: (predecessor.generation != 0).then_some(predecessor),
        })
    }
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::Short(found) => write!(f, "file of {found} B, a header has {FILE_HEADER_BYTES} B"),
            HeaderFault::Magic(found) => write!(f, "magic {found:02x?}, expected {MAGIC:02x?}"),
            HeaderFault::Version(found) => write!(f, "version {found}, expected {FORMAT_VERSION}"),
            HeaderFault::Checksum { found, computed } => {
                write!(f, "header checksum {found:#010x}, computed {computed:#010x}")
            }
            HeaderFault::Rest(at) => write!(f, "header byte {at} isn't zero"),
            HeaderFault::Generation(found) => {
                write!(f, "the file of generation {found} under another one's name")
            }
            HeaderFault::Contradiction => {
                write!(f, "header doesn't follow from what it says of its predecessor")
            }
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the whole frame: this header, the head, the bodies.
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) kind: u8,
    pub(super) version: u8,
    pub(super) flags: u16,
    pub(super) term: u32,
    pub(super) lsn: u64,
    pub(super) head_len: u32,
    /// How many frames of the same group follow.
    pub(super) left: u32,
    /// In a group's first frame the file's nonce, in a later one the lsn of the first.
    pub(super) tie: u64,
    /// In a group's first frame the durable lsn, in a later one 0.
    pub(super) durable: u64,
}

impl FrameHeader {
    /// Reads a header; says nothing about whether it is right.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER]) -> FrameHeader {
        FrameHeader {
            len: u32::from_le_bytes(take(bytes, LEN_AT)),
            crc: u32::from_le_bytes(take(bytes, CRC_AT)),
            kind: bytes[KIND_AT],
            version: bytes[FRAME_VERSION_AT],
            flags: u16::from_le_bytes(take(bytes, FLAGS_AT)),
            term: u32::from_le_bytes(take(bytes, FRAME_TERM_AT)),
            lsn: u64::from_le_bytes(take(bytes, LSN_AT)),
            head_len: u32::from_le_bytes(take(bytes, HEAD_LEN_AT)),
            left: u32::from_le_bytes(take(bytes, LEFT_AT)),
            tie: u64::from_le_bytes(take(bytes, TIE_AT)),
            durable: u64::from_le_bytes(take(bytes, DURABLE_AT)),
        }
    }

    /// Writes the header. `crc` of `self` is not used: it follows from the rest, the head and the seed.
    pub(super) fn encode(&self, head: &[u8], seed: Seed) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        put(&mut bytes, LEN_AT, self.len.to_le_bytes());
        bytes[KIND_AT] = self.kind;
        bytes[FRAME_VERSION_AT] = self.version;
        put(&mut bytes, FLAGS_AT, self.flags.to_le_bytes());
        put(&mut bytes, FRAME_TERM_AT, self.term.to_le_bytes());
        put(&mut bytes, LSN_AT, self.lsn.to_le_bytes());
        put(&mut bytes, HEAD_LEN_AT, self.head_len.to_le_bytes());
        put(&mut bytes, LEFT_AT, self.left.to_le_bytes());
        put(&mut bytes, TIE_AT, self.tie.to_le_bytes());
        put(&mut bytes, DURABLE_AT, self.durable.to_le_bytes());
        let crc = seed.checksum(&bytes, head);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        bytes
    }

    pub(super) fn is_group_head(&self) -> bool {
        self.flags & GROUP_HEAD != 0
    }

    pub(super) fn is_seal(&self) -> bool {
        self.kind == SEAL_KIND
    }

    pub(super) fn is_clean(&self) -> bool {
        self.flags & CLEAN != 0
    }

    /// `None` if the bits name no level.
    pub(super) fn level(&self) -> Option<Level> {
        match (self.flags & LEVEL_MASK) >> LEVEL_SHIFT {
            0 => Some(Level::Fsync),
            1 => Some(Level::Interval),
            2 => Some(Level::Os),
            _ => None,
        }
    }

    /// Whether the lengths agree with each other and with `room`, the bytes from the frame's start to the end of
    /// what may be read. Always asked before a length is trusted.
    pub(super) fn fits(&self, room: u64) -> bool {
        u64::from(self.len) <= room && u64::from(self.len) >= FRAME_HEADER_BYTES + u64::from(self.head_len)
    }
}

/// The flags of a frame.
pub(super) fn flags(group_head: bool, level: Level, clean: bool) -> u16 {
    let level = match level {
        Level::Fsync => 0,
        Level::Interval => 1,
        Level::Os => 2,
    };
    (u16::from(group_head) * GROUP_HEAD) | (level << LEVEL_SHIFT) | (u16::from(clean) * CLEAN)
}

/// Ties the checksums of a file's frames to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(nonce: u64, generation: u64) -> Seed {
        let mut both = [0; 16];
        put(&mut both, 0, nonce.to_le_bytes());
        put(&mut both, 8, generation.to_le_bytes());
        Seed(crc32fast::hash(&both))
    }

    /// The checksum of a frame: over its length, and from its kind to the end of its head.
    pub(super) fn checksum(self, header: &[u8; FRAME_HEADER], head: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&header[LEN_AT..CRC_AT]);
        hasher.update(&header[KIND_AT..]);
        hasher.update(head);
        hasher.finalize()
    }
}

/// The next multiple of the block size.
pub(super) fn round_up(at: u64) -> u64 {
    at.next_multiple_of(BLOCK_BYTES)
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}
