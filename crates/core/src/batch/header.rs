//! Layout of the 61-byte header of a batch: where each field lies and how it is read and written.
//!
//! It is not a check: whether the values make sense is decided in the parent module, once per batch.
//!
//! ```text
//!   0 base offset i64 · 8 length i32 · 12 leader epoch i32 · 16 magic i8 · 17 crc u32 · 21 attributes u16
//!  23 last offset delta i32 · 27 base timestamp i64 · 35 max timestamp i64 · 43 producer id i64
//!  51 producer epoch i16 · 53 base sequence i32 · 57 record count i32
//! ```
//!
//! Invariants
//!   * big-endian throughout
//!   * the CRC-32C covers everything from the attributes to the end of the body, and nothing before

/// Length of the fixed header, in bytes.
pub const HEADER_BYTES: usize = 61;

pub(super) const BASE_OFFSET_AT: usize = 0; // i64
pub(super) const LENGTH_AT: usize = BASE_OFFSET_AT + 8; // i32: bytes behind this field
pub(super) const BEHIND_LENGTH_AT: usize = LENGTH_AT + 4;
pub(super) const LEADER_EPOCH_AT: usize = BEHIND_LENGTH_AT; // i32
pub(super) const MAGIC_AT: usize = LEADER_EPOCH_AT + 4; // i8 = 2
pub(super) const CRC_AT: usize = MAGIC_AT + 1; // u32, Castagnoli, from ATTRIBUTES_AT to the end of the body
pub(super) const ATTRIBUTES_AT: usize = CRC_AT + 4; // i16
pub(super) const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2; // i32
pub(super) const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4; // i64 ms
pub(super) const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8; // i64 ms
pub(super) const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8; // i64, -1 = none
pub(super) const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8; // i16
pub(super) const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2; // i32
pub(super) const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4; // i32
const _: () = assert!(RECORD_COUNT_AT + 4 == HEADER_BYTES);

/// The least value of the length field: that of a batch without a body.
pub(super) const LENGTH_LEAST: usize = HEADER_BYTES - BEHIND_LENGTH_AT;

pub(super) const MAGIC: u8 = 2;
pub(super) const NO_LEADER_EPOCH: i32 = -1;
pub(super) const NO_PRODUCER_ID: i64 = -1;
pub(super) const NO_PRODUCER_EPOCH: i16 = -1;
pub(super) const NO_SEQUENCE: i32 = -1;

pub(super) const CODEC_BITS: u16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: u16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: u16 = 1 << 4;
pub(super) const CONTROL_BIT: u16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: u16 = 1 << 6;

pub(super) const UNCOMPRESSED: u16 = 0;
pub(super) const GZIP: u16 = 1;
pub(super) const SNAPPY: u16 = 2;
pub(super) const LZ4: u16 = 3;
pub(super) const ZSTD: u16 = 4;

/// The CRC-32C that the header of this batch must state.
pub(super) fn crc_of(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), body)
}

pub(super) fn u16_at(header: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_be_bytes(bytes_at(header, at))
}

pub(super) fn i16_at(header: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes(bytes_at(header, at))
}

pub(super) fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes(bytes_at(header, at))
}

pub(super) fn i32_at(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(bytes_at(header, at))
}

pub(super) fn i64_at(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(bytes_at(header, at))
}

pub(super) fn set<const N: usize>(header: &mut [u8; HEADER_BYTES], at: usize, field: [u8; N]) {
    header[at..at + N].copy_from_slice(&field);
}

#[inline]
fn bytes_at<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}
