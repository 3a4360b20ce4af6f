//! Record batch, format v2: the bytes that Kafka stores and sends, and that our segments hold.
//!
//! A [`Batch`] is a 61-byte header of its own and a body that stays the caller's [`Bytes`]. All numbers are
//! big-endian, as Kafka gives them (message format v2, KIP-98).
//!
//! Invariants
//!   * a `Batch` that exists has passed [`Batch::parse`] or came out of the builder: lengths agree, the CRC-32C holds
//!   * base offset and leader epoch lie outside the CRC; nothing else of a batch is ever changed

use bytes::Bytes;

/// Length of the fixed header, in bytes.
pub const HEADER_BYTES: usize = 61;

const BASE_OFFSET_AT: usize = 0; // i64
const LENGTH_AT: usize = BASE_OFFSET_AT + 8; // i32: bytes behind this field
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4; // i32
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4; // i8 = 2
const CRC_AT: usize = MAGIC_AT + 1; // u32, Castagnoli, from ATTRIBUTES_AT to the end of the body
const ATTRIBUTES_AT: usize = CRC_AT + 4; // i16
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2; // i32
const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4; // i64 ms
const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8; // i64 ms
const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8; // i64, -1 = none
const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8; // i16
const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2; // i32
const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4; // i32
const _: () = assert!(RECORD_COUNT_AT + 4 == HEADER_BYTES);

/// One record batch: header and body, whose CRC-32C has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    header: [u8; HEADER_BYTES],
    body: Bytes,
}
