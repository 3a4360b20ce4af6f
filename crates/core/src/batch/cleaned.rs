//! What compaction makes of a batch: fewer records at the same offsets, or none (KIP-534 for the delete horizon).
//!
//! ```text
//!   offsets   0 1 2 3 4 5 6 7 8          a batch that keeps 1 and 3 goes on covering 0 to 4;
//!   records   . 1 . 3 . | . . . .        what lost all is one hole, up to the next batch that keeps some
//! ```
//!
//! Invariants
//!   * a cleaned batch keeps base offset, last offset delta, producer id, epoch and base sequence, codec and attributes
//!   * offsets and times of the records that stay are what they were; of a compressed batch the bytes are new
//!   * batches and holes together cover the offsets without a gap, as they did before

use super::builder::put_nullable;
use super::compression;
use super::header::*;
use super::varint::{put_varint, put_varlong};
use super::{Batch, BatchError, Compression, Record, TimestampType};
use bytes::Bytes;

impl Batch {
    /// The batch with those of its records alone whose place in it is marked in `keep`, at least one. With a delete
    /// horizon (ms since 1970) it states from when on what it keeps for a while may go.
    ///
    /// # Errors
    /// What [`Batch::records`] answers for a record that can't be read, and what compressing answers.
    pub fn cleaned(&self, keep: &[bool], delete_horizon_ms: Option<i64>) -> Result<Batch, BatchError> {
        let base_ms = delete_horizon_ms.unwrap_or(self.base_timestamp_ms());
        let (mut body, mut count, mut max_ms) = (Vec::new(), 0i32, i64::MIN);
        for (record, keep) in self.records().zip(keep) {
            let record = record?;
            if *keep {
                count += 1;
                max_ms = max_ms.max(record.timestamp_ms);
                self.put_record(&mut body, &record, base_ms);
            }
        }
        let body = match self.compression() {
            Compression::None => body,
            codec => compression::compress(codec, &body)?,
        };
        let mut header = self.header;
        let horizon = if delete_horizon_ms.is_some() { DELETE_HORIZON_BIT } else { 0 };
        set(&mut header, ATTRIBUTES_AT, (self.attributes() | horizon).to_be_bytes());
        set(&mut header, BASE_TIMESTAMP_AT, base_ms.to_be_bytes());
        if self.timestamp_type() == TimestampType::CreateTime {
            set(&mut header, MAX_TIMESTAMP_AT, max_ms.to_be_bytes());
        }
        set(&mut header, RECORD_COUNT_AT, count.to_be_bytes());
        // At most `RECORDS_BYTES_MAX` of records, or what was there, with a few bytes more each.
        set(&mut header, LENGTH_AT, ((LENGTH_LEAST + body.len()) as i32).to_be_bytes());
        Ok(sealed(header, body.into()))
    }

    /// A batch without records that covers the offsets from `base_offset` up to and without `next_offset`.
    ///
    /// # Panics
    /// If it covers none, or more than 2^31 - 1: the header can't say that.
    pub fn hole(base_offset: u64, next_offset: u64, leader_epoch: u32) -> Batch {
        let covered =
            next_offset.checked_sub(base_offset).filter(|covered| (1..=HOLE_OFFSETS_MAX).contains(covered));
        let covered = covered.unwrap_or_else(|| panic!("no hole goes from {base_offset} to {next_offset}"));
        let mut header = [0; HEADER_BYTES];
        set(&mut header, BASE_OFFSET_AT, base_offset.to_be_bytes());
        set(&mut header, LENGTH_AT, (LENGTH_LEAST as i32).to_be_bytes());
        set(&mut header, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
        set(&mut header, MAGIC_AT, [MAGIC]);
        set(&mut header, LAST_OFFSET_DELTA_AT, ((covered - 1) as i32).to_be_bytes());
        set(&mut header, BASE_TIMESTAMP_AT, NO_TIMESTAMP.to_be_bytes());
        set(&mut header, MAX_TIMESTAMP_AT, NO_TIMESTAMP.to_be_bytes());
        set(&mut header, PRODUCER_ID_AT, NO_PRODUCER_ID.to_be_bytes());
        set(&mut header, PRODUCER_EPOCH_AT, NO_PRODUCER_EPOCH.to_be_bytes());
        set(&mut header, BASE_SEQUENCE_AT, NO_SEQUENCE.to_be_bytes());
        sealed(header, Bytes::new())
    }

    /// Whether it covers more offsets than it has records.
    pub fn is_sparse(&self) -> bool {
        u64::from(self.record_count()) < u64::from(self.last_offset_delta()) + 1
    }

    fn put_record(&self, body: &mut Vec<u8>, record: &Record, base_ms: i64) {
        let mut fields = vec![0]; // attributes
        put_varlong(&mut fields, record.timestamp_ms.wrapping_sub(base_ms));
        put_varint(&mut fields, (record.offset - self.base_offset()) as i32); // its delta, which fitted before
        put_nullable(&mut fields, record.key.as_deref());
        put_nullable(&mut fields, record.value.as_deref());
        put_varint(&mut fields, record.headers.len() as i32);
        for header in &record.headers {
            put_nullable(&mut fields, Some(&header.key));
            put_nullable(&mut fields, header.value.as_deref());
        }
        put_varint(body, fields.len() as i32);
        body.extend_from_slice(&fields);
    }
}

/// Most offsets of one hole.
pub const HOLE_OFFSETS_MAX: u64 = i32::MAX as u64;

const NO_TIMESTAMP: i64 = -1;

fn sealed(mut header: [u8; HEADER_BYTES], body: Bytes) -> Batch {
    let crc = crc_of(&header, &body);
    set(&mut header, CRC_AT, crc.to_be_bytes());
    Batch { header, body }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, ProducerStamp};
    use super::*;
    use crate::ids::ProducerId;

    fn batch(codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(0);
        for at in 0..5_i64 {
            let (key, value) = (format!("k{at}"), format!("value {at}"));
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"a", Some(b"b")), (b"empty", None)];
            builder.append(1000 + at, Some(key.as_bytes()), (at != 3).then_some(value.as_bytes()), headers);
        }
        let stamp = ProducerStamp { id: ProducerId(7), epoch: 3, base_sequence: 40 };
        builder.finish_compressed(Some(stamp), codec).unwrap().placed(100, 9)
    }

    #[test]
    fn id_16_a_cleaned_batch_keeps_its_place_its_producer_and_what_stays_of_its_records() {
        for codec in [Compression::None, Compression::Gzip] {
            let before = batch(codec);
            let records: Vec<Record> = before.records().map(Result::unwrap).collect();
            for horizon in [None, Some(5_000), Some(-5)] {
                let cleaned = before.cleaned(&[false, true, false, true, false], horizon).unwrap();
                let bytes = Bytes::from([&cleaned.header()[..], cleaned.body()].concat());
                assert_eq!(Batch::parse(bytes).unwrap(), cleaned);
                let left: Vec<Record> = cleaned.records().map(Result::unwrap).collect();
                assert_eq!(left, [records[1].clone(), records[3].clone()], "{codec:?} {horizon:?}");
                assert_eq!(cleaned.producer(), before.producer());
                assert_eq!(cleaned.last_sequence(), before.last_sequence());
                assert_eq!((cleaned.base_offset(), cleaned.next_offset()), (100, 105));
                assert_eq!((cleaned.leader_epoch(), cleaned.max_timestamp_ms()), (9, 1003));
                assert_eq!((cleaned.compression(), cleaned.is_sparse()), (codec, true));
                assert_eq!(cleaned.has_delete_horizon(), horizon.is_some());
                assert_eq!(cleaned.base_timestamp_ms(), horizon.unwrap_or(1000));
                let again = cleaned.cleaned(&[true, false], None).unwrap();
                assert_eq!(again.records().map(Result::unwrap).collect::<Vec<_>>(), records[1..2]);
            }
        }
    }

    #[test]
    fn a_marker_with_a_delete_horizon_says_what_it_said() {
        let control = super::super::Control {
            producer: ProducerId(7),
            producer_epoch: 3,
            coordinator_epoch: 2,
            commit: true,
            time_ms: 1000,
        };
        let cleaned = Batch::control(&control).placed(9, 1).cleaned(&[true], Some(9_000)).unwrap();
        assert_eq!(cleaned.as_control(), Some(control));
        assert!(cleaned.has_delete_horizon() && cleaned.is_control() && cleaned.is_transactional());
    }

    #[test]
    fn a_hole_has_no_records_and_no_producer_and_covers_its_offsets() {
        let hole = Batch::hole(5, 5 + HOLE_OFFSETS_MAX, 3);
        assert_eq!(Batch::parse(Bytes::copy_from_slice(hole.header())).unwrap(), hole);
        assert_eq!((hole.base_offset(), hole.next_offset()), (5, 5 + HOLE_OFFSETS_MAX));
        assert_eq!((hole.record_count(), hole.records().count(), hole.len_bytes()), (0, 0, HEADER_BYTES));
        assert_eq!((hole.producer(), hole.max_timestamp_ms(), hole.is_sparse()), (None, -1, true));
        assert!(!hole.is_control() && !hole.is_transactional());
    }
}
