//! Builds a batch, record by record, in one buffer that becomes its body without a copy.
//!
//! It is not a policy: when a batch is full or due is the caller's to decide, with
//! [`BatchBuilder::record_len_bytes`] and [`BatchBuilder::len_bytes`].
//!
//! Invariants
//!   * each record is written once, at its final place; only the header waits for the end
//!   * the batch never exceeds [`BATCH_BYTES_MAX`], the most that its length field can say

use super::header::*;
use super::varint::{put_varint, varint_len, varlong_len, write_varlong};
use super::{Batch, BatchError, Compression, CompressionFault, ProducerStamp, compression};
use bytes::Bytes;

/// Most bytes of a batch, header included: what the 32-bit length field can state.
pub const BATCH_BYTES_MAX: usize = BEHIND_LENGTH_AT + i32::MAX as usize;

/// A batch in the making: records, not compressed yet, with the timestamps of their producer.
#[derive(Debug)]
pub struct BatchBuilder {
    body: Vec<u8>,
    record_count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty builder with room for `capacity_hint` bytes of records; it grows beyond that by itself.
    pub fn new(capacity_hint: usize) -> BatchBuilder {
        BatchBuilder {
            body: Vec::with_capacity(capacity_hint),
            record_count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: i64::MIN,
        }
    }

    /// Appends one record and returns its index in the batch, which is its distance from the base offset. Names of
    /// headers are bytes: what was read can be written as it was.
    ///
    /// # Panics
    /// If the batch would exceed [`BATCH_BYTES_MAX`]. Ask [`BatchBuilder::record_len_bytes`] first.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> u32 {
        let index = self.record_count;
        if index == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        // Fields that are short are put together before they are appended: most of the time goes into small copies.
        let mut front = Fields::new();
        front.attributes();
        front.varlong(self.timestamp_delta_ms(timestamp_ms));
        front.varlong(i64::from(index));
        front.length(key.map(<[u8]>::len));
        let mut middle = Fields::new();
        middle.length(value.map(<[u8]>::len));
        let behind = headers_len(headers);
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let length = front.len() + key.len() + middle.len() + value.len() + behind;
        let body_bytes_max = BATCH_BYTES_MAX - HEADER_BYTES;
        assert!(
            length <= body_bytes_max && whole_len(length) <= body_bytes_max - self.body.len(),
            "a record of {length} bytes doesn't fit a batch"
        );
        // From here on every length fits its field, since it is below `length`, which does.
        let end = self.body.len() + whole_len(length);
        self.body.reserve(whole_len(length) + FIELDS_BYTES);
        let mut first = Fields::new();
        first.varlong(length as i64);
        first.append_to(&mut self.body);
        front.append_to(&mut self.body);
        self.body.extend_from_slice(key);
        middle.append_to(&mut self.body);
        self.body.extend_from_slice(value);
        put_headers(&mut self.body, headers);
        assert_eq!(self.body.len(), end);
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        self.record_count = index + 1;
        index
    }

    /// Exactly the bytes by which [`BatchBuilder::append`] of such a record would lengthen the batch.
    pub fn record_len_bytes(
        &self,
        timestamp_ms: i64,
        key_len: Option<usize>,
        value_len: Option<usize>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> usize {
        whole_len(self.length_field(self.timestamp_delta_ms(timestamp_ms), key_len, value_len, headers))
    }

    /// How many records were appended.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Length in bytes that the batch would have if it were finished now, header included.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch, at base offset 0 and without leader epoch, as a client would send it. Reads the body once, for
    /// the CRC, and copies nothing; memory that was reserved beyond the body stays with it.
    ///
    /// # Panics
    /// If there is no record: a batch that a producer writes has one at least.
    pub fn finish(mut self, stamp: Option<ProducerStamp>) -> Batch {
        let body = std::mem::take(&mut self.body);
        self.assemble(stamp, Compression::None, body)
    }

    /// As [`BatchBuilder::finish`], with a compressed body, as Kafka's producers do: also where that makes it longer.
    ///
    /// # Errors
    /// [`BatchError::CodecMissing`]; [`BatchError::Compression`] if the records are larger than what readers
    /// decompress, or exceed a batch once compressed.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn finish_compressed(
        self,
        stamp: Option<ProducerStamp>,
        codec: Compression,
    ) -> Result<Batch, BatchError> {
        if codec == Compression::None {
            return Ok(self.finish(stamp));
        }
        let body = compression::compress(codec, &self.body)?;
        let max_bytes = BATCH_BYTES_MAX - HEADER_BYTES;
        if body.len() > max_bytes {
            let fault = CompressionFault::TooLarge { max_bytes };
            return Err(BatchError::Compression { compression: codec, fault });
        }
        Ok(self.assemble(stamp, codec, body))
    }

    /// As [`BatchBuilder::finish_compressed`], but without compression where that is no longer: the batch never has
    /// more bytes than [`BatchBuilder::len_bytes`] said. For writers that have reckoned with these.
    ///
    /// # Errors
    /// [`BatchError::CodecMissing`]; [`BatchError::Compression`] if the records are larger than what readers
    /// decompress.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn finish_shortest(
        self,
        stamp: Option<ProducerStamp>,
        codec: Compression,
    ) -> Result<Batch, BatchError> {
        if codec == Compression::None {
            return Ok(self.finish(stamp));
        }
        let compressed = compression::compress(codec, &self.body)?;
        match compressed.len() < self.body.len() {
            true => Ok(self.assemble(stamp, codec, compressed)),
            false => Ok(self.finish(stamp)),
        }
    }

    /// Header and body as one batch; the body fits the length field.
    fn assemble(self, stamp: Option<ProducerStamp>, codec: Compression, body: Vec<u8>) -> Batch {
        assert!(self.record_count > 0, "a batch needs a record");
        let stamp = stamp.map_or((NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE), |stamp| {
            (stamp.id.0, stamp.epoch, stamp.base_sequence)
        });
        // `append` kept body and count within these fields.
        let length = (LENGTH_LEAST + body.len()) as i32;
        let record_count = self.record_count as i32;

        let mut header = [0; HEADER_BYTES]; // base offset 0
        set(&mut header, LENGTH_AT, length.to_be_bytes());
        set(&mut header, LEADER_EPOCH_AT, NO_LEADER_EPOCH.to_be_bytes());
        set(&mut header, MAGIC_AT, [MAGIC]);
        set(&mut header, ATTRIBUTES_AT, u16::from(codec.id()).to_be_bytes());
        set(&mut header, LAST_OFFSET_DELTA_AT, (record_count - 1).to_be_bytes());
        set(&mut header, BASE_TIMESTAMP_AT, self.base_timestamp_ms.to_be_bytes());
        set(&mut header, MAX_TIMESTAMP_AT, self.max_timestamp_ms.to_be_bytes());
        set(&mut header, PRODUCER_ID_AT, stamp.0.to_be_bytes());
        set(&mut header, PRODUCER_EPOCH_AT, stamp.1.to_be_bytes());
        set(&mut header, BASE_SEQUENCE_AT, stamp.2.to_be_bytes());
        set(&mut header, RECORD_COUNT_AT, record_count.to_be_bytes());
        let crc = crc_of(&header, &body);
        set(&mut header, CRC_AT, crc.to_be_bytes());
        Batch { header, body: Bytes::from(body) }
    }

    /// The first record is its own base. Beyond 64 bits the difference wraps, as in Kafka, and readers wrap back.
    fn timestamp_delta_ms(&self, timestamp_ms: i64) -> i64 {
        if self.is_empty() { 0 } else { timestamp_ms.wrapping_sub(self.base_timestamp_ms) }
    }

    /// What the length field of the next record says: the bytes behind that field.
    #[inline]
    fn length_field(
        &self,
        timestamp_delta_ms: i64,
        key_len: Option<usize>,
        value_len: Option<usize>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> usize {
        size_of_val(&RECORD_ATTRIBUTES)
            + varlong_len(timestamp_delta_ms)
            + varint_len(self.record_count as i32)
            + nullable_len(key_len)
            + nullable_len(value_len)
            + headers_len(headers)
    }
}

/// No attribute of single records is defined yet.
const RECORD_ATTRIBUTES: u8 = 0;

/// Most bytes of the short fields that stand side by side: attributes, two deltas and a length.
const FIELDS_BYTES: usize = 32;

/// Short fields that follow each other.
struct Fields {
    bytes: [u8; FIELDS_BYTES],
    len: usize,
}

impl Fields {
    #[inline]
    fn new() -> Fields {
        Fields { bytes: [0; FIELDS_BYTES], len: 0 }
    }

    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn attributes(&mut self) {
        self.bytes[self.len] = RECORD_ATTRIBUTES;
        self.len += size_of_val(&RECORD_ATTRIBUTES);
    }

    #[inline]
    fn varlong(&mut self, value: i64) {
        self.len = write_varlong(&mut self.bytes, self.len, value);
    }

    #[inline]
    fn length(&mut self, len: Option<usize>) {
        self.varlong(len.map_or(i64::from(NULL_LENGTH), |len| len as i64));
    }

    /// All of the bytes are copied, since a copy of a known length is a few instructions; those behind go again.
    #[inline]
    fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// Stands in the length field of a key or value that is absent.
const NULL_LENGTH: i32 = -1;

fn whole_len(length: usize) -> usize {
    length_len(length) + length
}

#[inline]
fn nullable_len(len: Option<usize>) -> usize {
    match len {
        Some(len) => length_len(len) + len,
        None => varint_len(NULL_LENGTH),
    }
}

/// Lengths are those of things in memory, so they fit `i64`; whether they fit `i32` is checked on the whole.
#[inline]
fn length_len(length: usize) -> usize {
    varlong_len(length as i64)
}

#[inline]
fn headers_len(headers: &[(&[u8], Option<&[u8]>)]) -> usize {
    let len = |(name, value): &(&[u8], Option<&[u8]>)| {
        nullable_len(Some(name.len())) + nullable_len(value.map(<[u8]>::len))
    };
    length_len(headers.len()) + headers.iter().map(len).sum::<usize>()
}

#[inline]
fn put_headers(out: &mut Vec<u8>, headers: &[(&[u8], Option<&[u8]>)]) {
    if headers.is_empty() {
        return out.push(0);
    }
    put_varint(out, headers.len() as i32);
    for &(name, value) in headers {
        put_nullable(out, Some(name));
        put_nullable(out, value);
    }
}

#[inline]
pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, NULL_LENGTH),
    }
}
