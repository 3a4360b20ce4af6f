//! Target `record_batch`: any bytes as a Kafka record batch v2.
//!
//! Each input is taken twice: as it is, and with length, magic and CRC set right, so that the fuzzer gets behind
//! the checksum.
//!
//! Checked:
//!   * a batch has the bytes that it was parsed from, and its parts make the same batch
//!   * records lie within the batch's offsets, and all lengths together within its body
//!   * what [`Batch::check_client`] lets pass can be read to its end
//!   * records that are built anew are read as the same records

use bytes::Bytes;
use exactlog_core::batch::compression::RECORDS_BYTES_MAX;
use exactlog_core::batch::{
    BATCH_BYTES_MAX, Batch, BatchBuilder, BatchError, Compression, HEADER_BYTES, Record, TimestampType,
};

// Where the fields lie that are set right (message format v2).
const LENGTH_AT: usize = 8; // i32: bytes behind it
const BEHIND_LENGTH_AT: usize = LENGTH_AT + 4;
const MAGIC_AT: usize = 16; // i8
const CRC_AT: usize = MAGIC_AT + 1; // u32
const MAGIC: u8 = 2;

pub(super) fn run(data: &[u8]) {
    check(data);
    if let Some(mended) = mended(data) {
        check(&mended);
    }
}

/// The bytes with length, magic and CRC set right.
fn mended(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    let length = i32::try_from(bytes.len().checked_sub(BEHIND_LENGTH_AT)?).ok()?;
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    bytes[LENGTH_AT..BEHIND_LENGTH_AT].copy_from_slice(&length.to_be_bytes());
    bytes[MAGIC_AT] = MAGIC;
    if let Err(BatchError::Crc { computed, .. }) = Batch::parse(Bytes::copy_from_slice(&bytes)) {
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&computed.to_be_bytes());
    }
    Some(bytes)
}

fn check(data: &[u8]) {
    let batch = match Batch::parse(Bytes::copy_from_slice(data)) {
        Ok(batch) => batch,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    check_parts(&batch, data);
    let records: Result<Vec<Record>, BatchError> = batch.records().collect();
    if let Ok(records) = &records {
        check_records(&batch, records);
    }
    match batch.check_client(BATCH_BYTES_MAX) {
        Ok(()) if batch.compression() == Compression::None => {
            let records = records.expect("a client's batch can be read");
            assert_eq!(records.len() as u32, batch.last_offset_delta() + 1);
            rebuild(&batch, &records);
        }
        // A compressed body was taken on trust.
        Ok(()) => {
            if let Err(error) = records {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_parts(batch: &Batch, data: &[u8]) {
    let (header, body) = data.split_at(HEADER_BYTES);
    assert_eq!((&batch.header()[..], &batch.body()[..]), (header, body));
    assert_eq!(Batch::announced_len(header).ok(), Some(data.len()));
    assert!(Batch::crc_holds(header, body));
    let again = Batch::from_parts(*batch.header(), batch.body().clone());
    assert_eq!(again.as_ref(), Ok(batch));
    assert!(batch.next_offset() > batch.last_offset() && batch.last_offset() >= batch.base_offset());
    assert!(batch.record_count() <= batch.last_offset_delta() + 1 && batch.last_sequence() >= -1);
    assert!(!format!("{batch:?} {:?}", batch.producer()).is_empty());
    let placed = batch.placed(7, 3);
    assert_eq!((placed.base_offset(), placed.leader_epoch()), (7, 3));
    let stamped = batch.placed_at_append_time(7, 3, 1_000);
    for changed in [placed, stamped] {
        assert_eq!(Batch::from_parts(*changed.header(), changed.body().clone()), Ok(changed));
    }
}

fn check_records(batch: &Batch, records: &[Record]) {
    assert_eq!(records.len() as u32, batch.record_count());
    let mut next_offset = batch.base_offset();
    let mut held_bytes = 0;
    for record in records {
        assert!(next_offset <= record.offset && record.offset <= batch.last_offset());
        next_offset = record.offset + 1;
        held_bytes += [&record.key, &record.value].into_iter().flatten().map(Bytes::len).sum::<usize>();
        for header in &record.headers {
            held_bytes += header.key.len() + header.value.as_ref().map_or(0, Bytes::len);
        }
    }
    let body_bytes = batch.decompressed(RECORDS_BYTES_MAX).expect("its records were read").len();
    assert!(held_bytes <= body_bytes);
    if batch.compression() == Compression::None {
        assert_eq!(body_bytes, batch.body().len());
    }
}

/// Builds the records anew, and that anew: the first time varints may become shorter, the second time nothing does.
fn rebuild(batch: &Batch, records: &[Record]) {
    assert_eq!(batch.timestamp_type(), TimestampType::CreateTime);
    let built = build(batch, records);
    let read: Vec<Record> =
        built.records().map(|record| record.expect("what was built can be read")).collect();
    let base_offset = batch.base_offset();
    let expected: Vec<Record> =
        records.iter().map(|it| Record { offset: it.offset - base_offset, ..it.clone() }).collect();
    assert_eq!(read, expected);
    assert!(
        built.len_bytes() <= batch.len_bytes() + 10 * records.len(),
        "base timestamps may differ, no more"
    );
    assert_eq!(build(&built, &read), built);
}

fn build(batch: &Batch, records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|it| (&it.key[..], it.value.as_deref())).collect();
        builder.append(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.finish(batch.producer())
}
