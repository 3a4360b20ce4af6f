//! Record batch, format v2: the bytes that Kafka stores and sends, and that our segments hold.
//!
//! A [`Batch`] is a 61-byte header of its own and a body that stays the caller's [`Bytes`]. All numbers are
//! big-endian, as Kafka gives them (message format v2, KIP-98). A compressed body passes through as it is and is
//! decompressed for those alone who read its records; nothing here knows topics, partitions or what a producer did
//! before.
//!
//! Invariants
//!   * a `Batch` that exists has passed [`Batch::parse`] or came out of the [`BatchBuilder`]: lengths agree, the
//!     CRC-32C holds, counts and offsets are such that no accessor can overflow
//!   * base offset and leader epoch lie outside the CRC; nothing else of a batch is ever changed, except by
//!     [`Batch::placed_at_append_time`], [`Batch::in_transaction`], [`Batch::cleaned`] and
//!     [`Batch::recompressed`], which compute the CRC anew
//!   * the body is never copied

mod builder;
mod cleaned;
mod client;
pub mod compression;
mod control;
mod error;
mod header;
mod recompressed;
mod records;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{BATCH_BYTES_MAX, BatchBuilder};
pub use cleaned::HOLE_OFFSETS_MAX;
pub use compression::Compression;
pub use control::Control;
pub use error::{BatchError, CompressionFault, RecordFault};
pub use header::HEADER_BYTES;
pub use records::{Landmarks, Record, RecordHeader, Records};

use crate::ids::ProducerId;
use bytes::{Buf, Bytes};
use header::*;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One record batch: header and body, whose CRC-32C has been checked. A clone copies 61 bytes and no payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    header: [u8; HEADER_BYTES],
    body: Bytes,
}

/// Longest body of a batch of which only the header is known: no command has a longer one.
pub const BODILESS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What takes the place of such bodies, all of them: it is never written to, and takes no memory.
static ZEROS: [u8; BODILESS_BYTES_MAX] = [0; BODILESS_BYTES_MAX];

/// Who wrote a batch, and where it stands in that producer's order (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its producer epoch: a lower one than the newest is fenced.
    pub epoch: i16,
    /// Sequence of the batch's first record in its partition; -1 in control batches, which have none.
    pub base_sequence: i32,
}

/// What the timestamps of a batch mean (attribute bit 3, KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimestampType {
    /// Each record has the time that its producer gave it.
    CreateTime,
    /// All records have the time of the append, which is the batch's maximum timestamp.
    LogAppendTime,
}

impl Batch {
    /// Parses `bytes` as exactly one batch; the body is a slice of them, not a copy.
    ///
    /// Checked are length, magic, CRC-32C, offsets and count. A count below `last_offset_delta + 1` is fine:
    /// compaction leaves such batches, also empty ones. The records are not walked, that is [`Batch::records`].
    pub fn parse(mut bytes: Bytes) -> Result<Batch, BatchError> {
        let header = *leading_header(&bytes)?;
        bytes.advance(HEADER_BYTES);
        Batch::from_parts(header, bytes)
    }

    /// As [`Batch::parse`], but the CRC is not computed: see [`Batch::from_verified_parts`].
    pub fn parse_verified(mut bytes: Bytes) -> Result<Batch, BatchError> {
        let header = *leading_header(&bytes)?;
        bytes.advance(HEADER_BYTES);
        Batch::from_verified_parts(header, bytes)
    }

    /// As [`Batch::parse`], for a header and a body that lie apart, as in the journal.
    pub fn from_parts(header: [u8; HEADER_BYTES], body: Bytes) -> Result<Batch, BatchError> {
        check_length_and_magic(&header, body.len())?;
        let (stated, computed) = (u32_at(&header, CRC_AT), crc_of(&header, &body));
        if stated != computed {
            return Err(BatchError::Crc { stated, computed });
        }
        Batch::from_verified_parts(header, body)
    }

    /// As [`Batch::from_parts`], but the CRC is not computed: the caller vouches that these very bytes passed
    /// it before. Everything else is checked all the same.
    pub fn from_verified_parts(header: [u8; HEADER_BYTES], body: Bytes) -> Result<Batch, BatchError> {
        check_length_and_magic(&header, body.len())?;
        check_counts(&header, body.len())?;
        Ok(Batch { header, body })
    }

    /// A batch of which only the header is known: what `apply` looks at, for a state that is followed elsewhere than
    /// where the records are kept. Its body is as long as the header says, and zeros: it isn't what the CRC is of.
    ///
    /// # Errors
    /// As [`Batch::from_verified_parts`]; a body of more than [`BODILESS_BYTES_MAX`].
    pub fn bodiless(header: [u8; HEADER_BYTES]) -> Result<Batch, BatchError> {
        let batch_bytes = announced_len(&header)?;
        let body = ZEROS.get(..batch_bytes - HEADER_BYTES);
        let body = body.ok_or(BatchError::TooLarge { batch_bytes, max_bytes: BODILESS_BYTES_MAX })?;
        Batch::from_verified_parts(header, Bytes::from_static(body))
    }

    /// Length of the whole batch, in bytes, that starts with `header`: at least [`HEADER_BYTES`], at most
    /// [`BATCH_BYTES_MAX`]. For walkers of segments, which must still compare it with what is left of the file.
    ///
    /// Needs the first [`HEADER_BYTES`] bytes of the batch, more are ignored. Only length and magic are looked at.
    pub fn announced_len(header: &[u8]) -> Result<usize, BatchError> {
        announced_len(leading_header(header)?)
    }

    /// Whether the CRC-32C in `header` holds over it and `body`; false if `header` is too short to hold one.
    pub fn crc_holds(header: &[u8], body: &[u8]) -> bool {
        leading_header(header).is_ok_and(|header| u32_at(header, CRC_AT) == crc_of(header, body))
    }

    /// The batch with its place in the log: base offset and leader epoch set. The CRC stays, both lie outside it.
    ///
    /// # Panics
    /// If an offset would exceed `i64::MAX` or the leader epoch `i32::MAX`: the format can't hold them.
    #[must_use]
    pub fn placed(&self, base_offset: u64, leader_epoch: u32) -> Batch {
        let mut header = self.header;
        place(&mut header, base_offset, leader_epoch);
        Batch { header, body: self.body.clone() }
    }

    /// As [`Batch::placed`], for topics whose records carry the time of the append: timestamp type and maximum
    /// timestamp are set too. These lie under the CRC, so it is computed anew over the whole body.
    ///
    /// # Panics
    /// As [`Batch::placed`].
    #[must_use]
    pub fn placed_at_append_time(&self, base_offset: u64, leader_epoch: u32, append_time_ms: i64) -> Batch {
        let mut header = self.header;
        place(&mut header, base_offset, leader_epoch);
        let attributes = u16_at(&header, ATTRIBUTES_AT) | LOG_APPEND_TIME_BIT;
        set(&mut header, ATTRIBUTES_AT, attributes.to_be_bytes());
        set(&mut header, MAX_TIMESTAMP_AT, append_time_ms.to_be_bytes());
        let crc = crc_of(&header, &self.body);
        set(&mut header, CRC_AT, crc.to_be_bytes());
        Batch { header, body: self.body.clone() }
    }

    /// Length of header and body, in bytes: what the batch takes in a segment.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// The first [`HEADER_BYTES`] bytes of the batch.
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// The records, as they were sent: compressed if [`Batch::compression`] says so.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Offset of the first record, or where it once was if compaction has removed it.
    pub fn base_offset(&self) -> u64 {
        i64_at(&self.header, BASE_OFFSET_AT) as u64 // checked: not negative
    }

    /// Leader epoch of the append; -1 in a batch that no leader has placed yet.
    pub fn leader_epoch(&self) -> i32 {
        i32_at(&self.header, LEADER_EPOCH_AT)
    }

    /// Distance from the base offset to the last offset of the batch.
    pub fn last_offset_delta(&self) -> u32 {
        i32_at(&self.header, LAST_OFFSET_DELTA_AT) as u32 // checked: not negative
    }

    /// How many records the batch states to hold. In a compressed batch this is the sender's word.
    pub fn record_count(&self) -> u32 {
        i32_at(&self.header, RECORD_COUNT_AT) as u32 // checked: not negative
    }

    /// Last offset that the batch covers; it may have no record any more.
    pub fn last_offset(&self) -> u64 {
        self.base_offset() + u64::from(self.last_offset_delta())
    }

    /// Offset of whatever follows this batch.
    pub fn next_offset(&self) -> u64 {
        self.last_offset() + 1
    }

    /// The CRC-32C that the header states: of everything from the attributes to the end of the body.
    pub fn crc(&self) -> u32 {
        u32_at(&self.header, CRC_AT)
    }

    /// The raw attribute bits.
    pub fn attributes(&self) -> u16 {
        u16_at(&self.header, ATTRIBUTES_AT)
    }

    /// Codec of the body.
    pub fn compression(&self) -> Compression {
        match self.attributes() & CODEC_BITS {
            GZIP => Compression::Gzip,
            SNAPPY => Compression::Snappy,
            LZ4 => Compression::Lz4,
            ZSTD => Compression::Zstd,
            _ => Compression::None, // checked: codecs above Zstd make no `Batch`
        }
    }

    /// Whether the records are visible to `read_committed` only once their transaction has committed.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether this is a marker (commit or abort) rather than data.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is the time after which tombstones and markers may go (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON_BIT != 0
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes() & LOG_APPEND_TIME_BIT {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// What the records' timestamps are relative to, in ms since 1970: as built here, that of the first record.
    pub fn base_timestamp_ms(&self) -> i64 {
        i64_at(&self.header, BASE_TIMESTAMP_AT)
    }

    /// Greatest timestamp of the records, in ms since 1970. In a client's batch this is the client's word.
    pub fn max_timestamp_ms(&self) -> i64 {
        i64_at(&self.header, MAX_TIMESTAMP_AT)
    }

    /// Who wrote the batch; `None` for a producer without identity, whose epoch and sequence mean nothing.
    pub fn producer(&self) -> Option<ProducerStamp> {
        let id = i64_at(&self.header, PRODUCER_ID_AT);
        (id >= 0).then(|| ProducerStamp {
            id: ProducerId(id),
            epoch: i16_at(&self.header, PRODUCER_EPOCH_AT),
            base_sequence: i32_at(&self.header, BASE_SEQUENCE_AT),
        })
    }

    /// Sequence of the last record; -1 if the batch has no sequence (no producer, or a control batch). As in
    /// Kafka it follows from the offsets, so compaction doesn't change it.
    pub fn last_sequence(&self) -> i32 {
        match self.producer() {
            Some(stamp) if stamp.base_sequence >= 0 => {
                sequence_after(stamp.base_sequence, self.last_offset_delta())
            }
            _ => NO_SEQUENCE,
        }
    }
}

/// The sequence `distance` records behind `sequence`: behind `i32::MAX` comes 0.
///
/// Both must be below 2^31, as every sequence is; -1, which stands for none, has no successor.
pub const fn sequence_after(sequence: i32, distance: u32) -> i32 {
    debug_assert!(sequence >= 0);
    ((sequence as u32).wrapping_add(distance) & i32::MAX as u32) as i32
}

impl fmt::Debug for Batch {
    /// A summary in one line, without any payload: it is safe to log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}..={}", self.base_offset(), self.last_offset())?;
        write!(f, ", {} records, {} bytes", self.record_count(), self.len_bytes())?;
        if self.compression() != Compression::None {
            write!(f, ", {:?}", self.compression())?;
        }
        if let Some(ProducerStamp { id, epoch, base_sequence }) = self.producer() {
            write!(f, ", producer {id} epoch {epoch} sequence {base_sequence}")?;
        }
        if self.is_transactional() {
            f.write_str(", transactional")?;
        }
        if self.is_control() {
            f.write_str(", control")?;
        }
        f.write_str(")")
    }
}

fn leading_header(bytes: &[u8]) -> Result<&[u8; HEADER_BYTES], BatchError> {
    bytes
        .first_chunk::<HEADER_BYTES>()
        .ok_or(BatchError::Truncated { found_bytes: bytes.len(), needed_bytes: HEADER_BYTES })
}

fn announced_len(header: &[u8; HEADER_BYTES]) -> Result<usize, BatchError> {
    let length = i32_at(header, LENGTH_AT);
    // Magic stands at the same place in all formats, so an older batch is named as such.
    let magic = header[MAGIC_AT];
    if magic != MAGIC {
        return Err(BatchError::Magic { magic });
    }
    match usize::try_from(length) {
        Ok(length) if length >= LENGTH_LEAST => Ok(BEHIND_LENGTH_AT + length),
        _ => Err(BatchError::Length { length }),
    }
}

fn check_length_and_magic(header: &[u8; HEADER_BYTES], body_bytes: usize) -> Result<(), BatchError> {
    let needed_bytes = announced_len(header)?;
    let found_bytes = HEADER_BYTES + body_bytes;
    if found_bytes < needed_bytes {
        return Err(BatchError::Truncated { found_bytes, needed_bytes });
    }
    if found_bytes > needed_bytes {
        return Err(BatchError::TrailingBytes { batch_bytes: needed_bytes, found_bytes });
    }
    Ok(())
}

/// Everything that the accessors rely on: after this, none of them can overflow or meet an unknown value.
fn check_counts(header: &[u8; HEADER_BYTES], body_bytes: usize) -> Result<(), BatchError> {
    let base_offset = i64_at(header, BASE_OFFSET_AT);
    let last_offset_delta = i32_at(header, LAST_OFFSET_DELTA_AT);
    let record_count = i32_at(header, RECORD_COUNT_AT);
    if last_offset_delta < 0 || record_count < 0 || i64::from(record_count) > i64::from(last_offset_delta) + 1
    {
        return Err(BatchError::Counts { last_offset_delta, record_count });
    }
    if base_offset < 0 || base_offset.checked_add(i64::from(last_offset_delta) + 1).is_none() {
        return Err(BatchError::BaseOffset { base_offset, last_offset_delta });
    }
    let codec = u16_at(header, ATTRIBUTES_AT) & CODEC_BITS;
    if codec > ZSTD {
        return Err(BatchError::UnknownCodec { codec });
    }
    // Readers may size their buffers by the count of an uncompressed batch, so it must be possible.
    if codec == UNCOMPRESSED && record_count as usize > body_bytes / records::RECORD_BYTES_LEAST {
        return Err(BatchError::CountBeyondBody { record_count, body_bytes });
    }
    Ok(())
}

fn place(header: &mut [u8; HEADER_BYTES], base_offset: u64, leader_epoch: u32) {
    let last_offset_delta = i32_at(header, LAST_OFFSET_DELTA_AT) as u64; // checked: not negative
    assert!(base_offset < i64::MAX as u64 - last_offset_delta, "offset {base_offset} is beyond the format");
    assert!(leader_epoch <= i32::MAX as u32, "leader epoch {leader_epoch} is beyond the format");
    set(header, BASE_OFFSET_AT, base_offset.to_be_bytes());
    set(header, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}
