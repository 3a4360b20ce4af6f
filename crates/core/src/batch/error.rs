//! What can be wrong with the bytes of a batch, and the error code that a Kafka client gets for it.
//!
//! It is not about state: fencing, sequences and conditions are decided elsewhere, and aren't errors of bytes.
//!
//! Invariants
//!   * no variant holds payload bytes: every error is safe to log
//!   * every variant has a Kafka code

use super::Compression;
use crate::error_code::*;
use thiserror::Error;

/// Why bytes are not a batch, or not one that a client may send.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum BatchError {
    /// The bytes end too early: a torn tail, or a request that was cut.
    #[error("batch needs {needed_bytes} bytes, only {found_bytes} are there")]
    Truncated { found_bytes: usize, needed_bytes: usize },
    /// Something follows the batch where exactly one was expected.
    #[error("batch ends after {batch_bytes} bytes, but {found_bytes} were given")]
    TrailingBytes { batch_bytes: usize, found_bytes: usize },
    /// The length field is negative or doesn't even cover the header.
    #[error("batch length field {length} is below 49, the length of an empty batch")]
    Length { length: i32 },
    /// Formats 0 and 1 are what clients sent before KIP-98; anything else was never a batch.
    #[error("batch has magic {magic}, only 2 is supported")]
    Magic { magic: u8 },
    /// Damaged bytes.
    #[error("batch states crc-32c {stated:#010x}, its bytes have {computed:#010x}")]
    Crc { stated: u32, computed: u32 },
    /// More records than offsets, or a negative one of both.
    #[error("batch has {record_count} records, but last offset delta {last_offset_delta}")]
    Counts { last_offset_delta: i32, record_count: i32 },
    /// So many records can't lie in so few bytes.
    #[error("batch states {record_count} records in a body of {body_bytes} bytes")]
    CountBeyondBody { record_count: i32, body_bytes: usize },
    /// An offset of the batch would be negative or above `i64::MAX`.
    #[error("batch at base offset {base_offset} with last offset delta {last_offset_delta} is out of range")]
    BaseOffset { base_offset: i64, last_offset_delta: i32 },
    /// Attribute bits 0 to 2 name no codec.
    #[error("batch has codec {codec}, the highest known is 4")]
    UnknownCodec { codec: u16 },

    /// Larger than the topic allows.
    #[error("batch has {batch_bytes} bytes, the limit is {max_bytes}")]
    TooLarge { batch_bytes: usize, max_bytes: usize },
    /// Markers are written by the coordinator alone.
    #[error("batch of a client has the control bit set")]
    Control,
    /// The time of the append is the log's to give (KIP-32).
    #[error("batch of a client has the timestamp type log append time")]
    LogAppendTime,
    /// Bits that a client must not set.
    #[error("batch of a client has attributes {attributes:#06x}, of which {unknown:#06x} are not a client's")]
    Attributes { attributes: u16, unknown: u16 },
    /// A producer id comes with an epoch and a sequence, none with either negative; no id is exactly -1.
    #[error("batch has producer id {id}, epoch {epoch}, base sequence {base_sequence}")]
    Producer { id: i64, epoch: i16, base_sequence: i32 },
    /// A transaction belongs to a producer.
    #[error("batch is transactional, but has no producer id")]
    TransactionalWithoutProducer,

    /// This build lacks the codec: the cargo feature of its name is off.
    #[error(
        "batch is compressed with {compression}, and this build lacks the cargo feature \"{compression}\""
    )]
    CodecMissing { compression: Compression },
    /// The body isn't what its codec writes, or is too large without it.
    #[error("body of the batch, compressed with {compression}: {fault}")]
    Compression { compression: Compression, fault: CompressionFault },
    /// One record is malformed.
    #[error("record {index} of the batch: {fault}")]
    Record { index: u32, fault: RecordFault },
    /// All records were read, and yet the body goes on.
    #[error("{extra_bytes} bytes follow the last record of the batch")]
    BytesBehindRecords { extra_bytes: usize },
}

/// What is wrong with a compressed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum CompressionFault {
    /// The bytes end before the codec's own end.
    #[error("it ends too early")]
    Truncated,
    /// Bytes that the codec never writes, or a checksum of the codec that doesn't hold.
    #[error("it isn't what this codec writes")]
    Malformed,
    /// A block that is longer than what is left, or of negative length.
    #[error("a block of {length} bytes stands where {left_bytes} bytes are left")]
    BlockLength { length: i64, left_bytes: usize },
    /// The codec's end is followed by something.
    #[error("{extra_bytes} bytes follow its end")]
    TrailingBytes { extra_bytes: usize },
    /// Zstd only: the sender asks for more memory than a reader gives.
    #[error("it asks for a window of {window_bytes} bytes, the limit is {max_bytes}")]
    Window { window_bytes: u64, max_bytes: u64 },
    /// The records are larger than a reader takes. Nothing beyond the limit was decompressed.
    #[error("it has more than {max_bytes} bytes of records, which is the limit")]
    TooLarge { max_bytes: usize },
}

/// What is malformed about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum RecordFault {
    /// A varint, or a fixed field, runs over the end.
    #[error("the bytes end within a field")]
    Truncated,
    /// More than 5 (32 bits) or 10 bytes (64 bits), or bits beyond the type.
    #[error("a varint is longer than its type")]
    VarintTooLong,
    /// Negative where that has no meaning, or more than there is.
    #[error("a field states {length} bytes, {left_bytes} are left")]
    Length { length: i32, left_bytes: usize },
    /// Offsets within a batch rise, without gaps unless it was compacted.
    #[error("offset delta {found} where {least} to {greatest} was expected")]
    OffsetDelta { found: i32, least: i64, greatest: i64 },
    /// A header takes two bytes at least.
    #[error("{count} headers are stated in {left_bytes} bytes")]
    HeaderCount { count: i32, left_bytes: usize },
    /// The record is shorter than its length says.
    #[error("{extra_bytes} bytes follow the last header")]
    TrailingBytes { extra_bytes: usize },
}

impl BatchError {
    /// The error code of the Kafka protocol for a produce request with this batch.
    ///
    /// 2 (CORRUPT_MESSAGE) makes a client send again, so it stands for damage only. What the client itself got
    /// wrong, and would again, is 87 (INVALID_RECORD) or more special.
    pub fn kafka_code(&self) -> i16 {
        match self {
            BatchError::Truncated { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
                CORRUPT_MESSAGE
            }
            // Kafka's answer to an old format is 87 too (`ProduceRequest.validateRecords`). The magic lies
            // outside the CRC, so any other value is damage.
            BatchError::Magic { magic: 0 | 1 } => INVALID_RECORD,
            BatchError::Magic { .. } => CORRUPT_MESSAGE,
            BatchError::TooLarge { .. }
            | BatchError::Compression { fault: CompressionFault::TooLarge { .. }, .. } => MESSAGE_TOO_LARGE,
            BatchError::LogAppendTime => INVALID_TIMESTAMP,
            BatchError::UnknownCodec { .. } | BatchError::CodecMissing { .. } => UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::TrailingBytes { .. }
            | BatchError::Counts { .. }
            | BatchError::CountBeyondBody { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::Control
            | BatchError::Attributes { .. }
            | BatchError::Producer { .. }
            | BatchError::TransactionalWithoutProducer
            | BatchError::Compression { .. }
            | BatchError::Record { .. }
            | BatchError::BytesBehindRecords { .. } => INVALID_RECORD,
        }
    }
}
