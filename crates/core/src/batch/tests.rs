//! Examples of the batch format: golden bytes, and what is refused by which error.

mod oracle;
mod properties;

use super::*;

/// Two records of producer 7, epoch 3, sequences 10 and 11. Derived by hand from the format's description; the
/// CRC comes from a bit-by-bit CRC-32C that shares nothing with the one used here.
const GOLDEN: &str = "
    0000000000000000                   base offset
    00000044                           length: 68 bytes behind this field
    ffffffff                           leader epoch: none yet
    02                                 magic
    f6969f77                           CRC-32C of all that follows
    0000                               attributes
    00000001                           last offset delta
    00000000000003e8                   base timestamp: 1000
    00000000000003eb                   max timestamp: 1003
    0000000000000007                   producer id
    0003                               producer epoch
    0000000a                           base sequence
    00000002                           record count
    10 00 00 00  02 6b  02 76  00      8 bytes, attributes, time +0, offset +0, key k, value v, no headers
    12 00 06 02  01     00             9 bytes, attributes, time +3, offset +1, no key, empty value
                 02  02 68  01         one header: key h, no value
";

fn golden() -> Bytes {
    let is_hex =
        |word: &&str| word.len().is_multiple_of(2) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = Vec::new();
    for line in GOLDEN.lines() {
        // A comment starts with a word that isn't hex, and nothing behind it counts.
        for word in line.split_whitespace().take_while(is_hex) {
            bytes.extend(
                (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()),
            );
        }
    }
    Bytes::from(bytes)
}

fn built_golden() -> Batch {
    let mut builder = BatchBuilder::new(64);
    assert_eq!(builder.append(1000, Some(b"k"), Some(b"v"), &[]), 0);
    assert_eq!(builder.append(1003, None, Some(b""), &[(b"h", None)]), 1);
    builder.finish(Some(ProducerStamp { id: ProducerId(7), epoch: 3, base_sequence: 10 }))
}

fn whole(batch: &Batch) -> Bytes {
    Bytes::from([batch.header(), &batch.body()[..]].concat())
}

/// The batch with header fields changed and a CRC that fits again: what a hostile client could send.
fn forged(batch: &Batch, change: impl FnOnce(&mut [u8; HEADER_BYTES])) -> Result<Batch, BatchError> {
    let mut header = *batch.header();
    change(&mut header);
    let crc = crc_of(&header, batch.body());
    set(&mut header, CRC_AT, crc.to_be_bytes());
    Batch::from_parts(header, batch.body().clone())
}

/// A batch of `record_count` records whose body is `body`, whatever it is, with lengths and CRC in order.
fn around(body: &[u8], record_count: i32) -> Result<Batch, BatchError> {
    let mut header = *built_golden().header();
    set(&mut header, LENGTH_AT, ((LENGTH_LEAST + body.len()) as i32).to_be_bytes());
    set(&mut header, LAST_OFFSET_DELTA_AT, (record_count - 1).to_be_bytes());
    set(&mut header, RECORD_COUNT_AT, record_count.to_be_bytes());
    let crc = crc_of(&header, body);
    set(&mut header, CRC_AT, crc.to_be_bytes());
    Batch::from_parts(header, Bytes::copy_from_slice(body))
}

fn with_attributes(attributes: u16) -> Result<Batch, BatchError> {
    forged(&built_golden(), |header| set(header, ATTRIBUTES_AT, attributes.to_be_bytes()))
}

fn with_counts(last_offset_delta: i32, record_count: i32) -> Result<Batch, BatchError> {
    forged(&built_golden(), |header| {
        set(header, LAST_OFFSET_DELTA_AT, last_offset_delta.to_be_bytes());
        set(header, RECORD_COUNT_AT, record_count.to_be_bytes());
    })
}

fn with_producer(id: i64, epoch: i16, base_sequence: i32) -> Batch {
    forged(&built_golden(), |header| {
        set(header, PRODUCER_ID_AT, id.to_be_bytes());
        set(header, PRODUCER_EPOCH_AT, epoch.to_be_bytes());
        set(header, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
    })
    .unwrap()
}

fn record_fault(body: &[u8], record_count: i32) -> (u32, RecordFault) {
    let batch = around(body, record_count).unwrap();
    let error = batch.records().find_map(Result::err);
    assert_eq!(batch.check_client(usize::MAX).err(), error, "both walks agree");
    match error {
        Some(BatchError::Record { index, fault }) => (index, fault),
        other => panic!("expected a fault of a record, not {other:?}"),
    }
}

#[test]
fn names_of_headers_are_any_bytes_and_are_read_back_as_they_were() {
    let names: [&[u8]; 4] = [b"text", b"", b"\xff\x00", "größe".as_bytes()];
    let headers: Vec<(&[u8], Option<&[u8]>)> = names.iter().map(|name| (*name, Some(*name))).collect();
    let mut builder = BatchBuilder::new(0);
    builder.append(7, None, None, &headers);
    let read = builder.finish(None).records().next().unwrap().unwrap();
    let of = |header: &RecordHeader| (header.key.to_vec(), header.value.as_ref().map(|it| it.to_vec()));
    let expected = names.map(|name| (name.to_vec(), Some(name.to_vec())));
    assert_eq!(read.headers.iter().map(of).collect::<Vec<_>>(), expected);
}

#[test]
fn a_built_batch_has_exactly_the_golden_bytes() {
    assert_eq!(whole(&built_golden()), golden());
}

#[test]
fn the_golden_bytes_are_read_back_field_by_field() {
    let batch = Batch::parse(golden()).unwrap();
    assert_eq!(batch, built_golden());
    assert_eq!((batch.len_bytes(), batch.base_offset(), batch.leader_epoch()), (80, 0, -1));
    assert_eq!((batch.record_count(), batch.last_offset(), batch.next_offset()), (2, 1, 2));
    assert_eq!((batch.base_timestamp_ms(), batch.max_timestamp_ms()), (1000, 1003));
    assert_eq!(batch.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(batch.compression(), Compression::None);
    assert!(!batch.is_transactional() && !batch.is_control() && !batch.has_delete_horizon());
    let stamp = ProducerStamp { id: ProducerId(7), epoch: 3, base_sequence: 10 };
    assert_eq!((batch.producer(), batch.last_sequence()), (Some(stamp), 11));
    assert_eq!(batch.check_client(80), Ok(()));

    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    let header = RecordHeader { key: Bytes::from("h"), value: None };
    assert_eq!(header.key_str(), Ok("h"));
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((first.offset, first.timestamp_ms), (0, 1000));
    assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert!(first.headers.is_empty());
    assert_eq!((second.offset, second.timestamp_ms), (1, 1003));
    assert_eq!((second.key.as_deref(), second.value.as_deref()), (None, Some(&b""[..])));
    assert_eq!(second.headers, [header]);
}

#[test]
fn parsing_and_reading_copy_no_payload() {
    let bytes = golden();
    let batch = Batch::parse(bytes.clone()).unwrap();
    assert_eq!(batch.body().as_ptr(), bytes[HEADER_BYTES..].as_ptr());
    assert_eq!(batch.placed(5, 1).body().as_ptr(), batch.body().as_ptr());
    let value = batch.records().next().unwrap().unwrap().value.unwrap();
    assert_eq!(value.as_ptr(), bytes[HEADER_BYTES + 7..].as_ptr());
}

#[test]
fn a_change_of_any_byte_behind_the_leader_epoch_is_refused() {
    let bytes = golden();
    for at in (LENGTH_AT..LEADER_EPOCH_AT).chain(MAGIC_AT..bytes.len()) {
        for flip in 1..=255 {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            assert!(Batch::parse(changed.into()).is_err(), "byte {at} ^ {flip}");
        }
    }
}

#[test]
fn what_lies_outside_the_crc_is_read_and_not_refused() {
    let mut bytes = golden().to_vec();
    bytes[BASE_OFFSET_AT + 7] = 9;
    bytes[LEADER_EPOCH_AT + 3] = 0xfe;
    let batch = Batch::parse(bytes.into()).unwrap();
    assert_eq!((batch.base_offset(), batch.leader_epoch()), (9, -2));
}

#[test]
fn a_batch_cut_at_any_byte_is_refused() {
    let bytes = golden();
    for end in 0..bytes.len() {
        let needed_bytes = if end < HEADER_BYTES { HEADER_BYTES } else { bytes.len() };
        let truncated = BatchError::Truncated { found_bytes: end, needed_bytes };
        assert_eq!(Batch::parse(bytes.slice(..end)), Err(truncated));
    }
}

#[test]
fn bytes_behind_the_batch_are_refused() {
    let bytes = Bytes::from([golden(), golden()].concat());
    let error = Batch::parse(bytes).unwrap_err();
    assert_eq!(error, BatchError::TrailingBytes { batch_bytes: 80, found_bytes: 160 });
    assert_eq!(error.kafka_code(), 87);
}

#[test]
fn header_and_body_that_do_not_belong_together_are_refused() {
    let batch = built_golden();
    let (header, body) = (*batch.header(), batch.body().clone());
    assert_eq!(Batch::from_parts(header, body.clone()), Ok(batch.clone()));
    assert_eq!(Batch::from_verified_parts(header, body.clone()), Ok(batch));
    for wrong in [body.slice(1..), Bytes::from([&body[..], b"x"].concat()), Bytes::new()] {
        assert!(Batch::from_parts(header, wrong.clone()).is_err());
        assert!(Batch::from_verified_parts(header, wrong).is_err());
    }
    let other = Bytes::from(vec![0; body.len()]);
    assert!(matches!(Batch::from_parts(header, other), Err(BatchError::Crc { stated: 0xf696_9f77, .. })));
}

#[test]
fn the_announced_length_is_that_of_the_batch_or_an_error() {
    let with_length = |length: i32| {
        let mut header = *built_golden().header();
        set(&mut header, LENGTH_AT, length.to_be_bytes());
        Batch::announced_len(&header)
    };
    assert_eq!(Batch::announced_len(&golden()), Ok(80));
    assert_eq!(with_length(49), Ok(HEADER_BYTES));
    assert_eq!(with_length(i32::MAX), Ok(BATCH_BYTES_MAX));
    for length in [48, 0, -1, i32::MIN] {
        assert_eq!(with_length(length), Err(BatchError::Length { length }));
    }
    let truncated = BatchError::Truncated { found_bytes: 60, needed_bytes: 61 };
    assert_eq!(Batch::announced_len(&golden()[..60]), Err(truncated));
}

#[test]
fn an_older_format_is_named_and_not_called_damage() {
    let magic = |magic: u8| {
        let mut bytes = golden().to_vec();
        bytes[MAGIC_AT] = magic;
        Batch::parse(bytes.into()).unwrap_err()
    };
    assert_eq!(magic(1), BatchError::Magic { magic: 1 });
    assert_eq!((magic(0).kafka_code(), magic(1).kafka_code()), (87, 87));
    assert_eq!((magic(3).kafka_code(), magic(255).kafka_code()), (2, 2));
}

#[test]
fn placing_sets_offset_and_leader_epoch_and_keeps_the_crc() {
    let batch = built_golden();
    let placed = batch.placed(0x0102_0304_0506_0708, 9);
    assert_eq!((placed.base_offset(), placed.leader_epoch()), (0x0102_0304_0506_0708, 9));
    assert_eq!(placed.header()[MAGIC_AT..], batch.header()[MAGIC_AT..]);
    assert_eq!(placed.records().last().unwrap().unwrap().offset, placed.last_offset());
    assert_eq!(Batch::parse(whole(&placed)), Ok(placed));

    let last_possible = i64::MAX as u64 - 2; // so that the next offset is i64::MAX
    let placed = batch.placed(last_possible, i32::MAX as u32);
    assert_eq!(placed.next_offset(), i64::MAX as u64);
    assert_eq!(Batch::parse(whole(&placed)), Ok(placed));
}

#[test]
#[should_panic(expected = "beyond the format")]
fn an_offset_beyond_the_format_is_never_written() {
    let _ = built_golden().placed(i64::MAX as u64 - 1, 0);
}

#[test]
fn append_time_replaces_the_time_of_every_record_and_leaves_the_body() {
    let placed = built_golden().placed_at_append_time(40, 2, 5000);
    assert_eq!(Batch::parse(whole(&placed)), Ok(placed.clone()));
    assert_eq!(placed.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((placed.base_timestamp_ms(), placed.max_timestamp_ms()), (1000, 5000));
    assert_eq!(placed.body(), built_golden().body());
    let records: Vec<_> = placed.records().map(Result::unwrap).collect();
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [40, 41]);
    assert!(records.iter().all(|record| record.timestamp_ms == 5000));
}

#[test]
fn the_sequence_behind_the_greatest_is_zero() {
    assert_eq!(with_producer(7, 0, i32::MAX - 1).last_sequence(), i32::MAX);
    assert_eq!(with_producer(7, 0, i32::MAX).last_sequence(), 0);
    assert_eq!(sequence_after(i32::MAX, i32::MAX as u32), i32::MAX - 1);
    assert_eq!(sequence_after(0, 0), 0);
    // Neither a batch without producer nor a control batch has a sequence.
    assert_eq!(with_producer(-1, -1, 5).last_sequence(), -1);
    assert_eq!(with_producer(7, 0, -1).last_sequence(), -1);
}

#[test]
fn counts_and_offsets_that_make_no_sense_are_no_batch() {
    for (last_offset_delta, record_count) in [(0, 2), (-1, 0), (1, -1), (i32::MIN, i32::MIN)] {
        assert_eq!(
            with_counts(last_offset_delta, record_count),
            Err(BatchError::Counts { last_offset_delta, record_count })
        );
    }
    // 19 bytes hold two records of seven, not three; a compressed body may hold any number.
    let beyond = BatchError::CountBeyondBody { record_count: 3, body_bytes: 19 };
    assert_eq!(with_counts(2, 3), Err(beyond));
    let compressed = forged(&with_attributes(ZSTD).unwrap(), |header| {
        set(header, LAST_OFFSET_DELTA_AT, i32::MAX.to_be_bytes());
        set(header, RECORD_COUNT_AT, i32::MAX.to_be_bytes());
    })
    .unwrap();
    assert_eq!(compressed.next_offset(), 1 << 31);

    for base_offset in [-1, i64::MIN, i64::MAX, i64::MAX - 1] {
        let error = forged(&built_golden(), |header| set(header, BASE_OFFSET_AT, base_offset.to_be_bytes()));
        assert_eq!(error, Err(BatchError::BaseOffset { base_offset, last_offset_delta: 1 }));
    }
    let unknown = with_attributes(5).unwrap_err();
    assert_eq!((unknown.clone(), unknown.kafka_code()), (BatchError::UnknownCodec { codec: 5 }, 76));
}

#[test]
fn a_compacted_batch_is_read_with_its_gaps_but_not_taken_from_a_client() {
    let compacted = with_counts(9, 2).unwrap();
    assert_eq!((compacted.last_offset(), compacted.last_sequence()), (9, 19));
    assert_eq!(compacted.records().filter(Result::is_ok).count(), 2);
    let error = compacted.check_client(80).unwrap_err();
    assert_eq!(error, BatchError::Counts { last_offset_delta: 9, record_count: 2 });
    assert_eq!(error.kafka_code(), 87);

    // What is left when the last record went: the batch stays, for its producer's sequence.
    let mut header = *compacted.header();
    set(&mut header, LENGTH_AT, (LENGTH_LEAST as i32).to_be_bytes());
    set(&mut header, RECORD_COUNT_AT, 0_i32.to_be_bytes());
    let crc = crc_of(&header, b"");
    set(&mut header, CRC_AT, crc.to_be_bytes());
    let empty = Batch::parse(Bytes::copy_from_slice(&header)).unwrap();
    assert_eq!((empty.len_bytes(), empty.next_offset(), empty.records().count()), (61, 10, 0));
    assert!(empty.check_client(80).is_err());
}

#[test]
fn a_client_may_set_codec_and_transactional_bits_only() {
    let check = |attributes| with_attributes(attributes).unwrap().check_client(80);
    assert_eq!(check(TRANSACTIONAL_BIT), Ok(()));
    for codec in [GZIP, SNAPPY, LZ4, ZSTD] {
        assert_eq!(check(codec), Ok(()));
    }
    assert_eq!(check(CONTROL_BIT), Err(BatchError::Control));
    assert_eq!(check(CONTROL_BIT | TRANSACTIONAL_BIT), Err(BatchError::Control));
    assert_eq!(check(LOG_APPEND_TIME_BIT).unwrap_err().kafka_code(), 32);
    for bit in 6..16 {
        let attributes = 1 << bit | TRANSACTIONAL_BIT;
        assert_eq!(check(attributes), Err(BatchError::Attributes { attributes, unknown: 1 << bit }));
    }
}

#[test]
fn a_client_needs_epoch_and_sequence_exactly_if_it_has_a_producer_id() {
    let check = |id, epoch, base_sequence| with_producer(id, epoch, base_sequence).check_client(80);
    assert_eq!(check(0, 0, 0), Ok(()));
    assert_eq!(check(-1, -1, -1), Ok(())); // the Java client
    assert_eq!(check(-1, 0, 0), Ok(())); // kafkajs
    for (id, epoch, base_sequence) in [(0, -1, 0), (0, 0, -1), (-2, -1, -1), (i64::MIN, 0, 0)] {
        let error = check(id, epoch, base_sequence).unwrap_err();
        assert_eq!(error, BatchError::Producer { id, epoch, base_sequence });
        assert_eq!(error.kafka_code(), 87);
    }
    let anonymous = forged(&with_producer(-1, -1, -1), |header| {
        set(header, ATTRIBUTES_AT, TRANSACTIONAL_BIT.to_be_bytes());
    });
    assert_eq!(anonymous.unwrap().check_client(80), Err(BatchError::TransactionalWithoutProducer));
}

#[test]
fn a_client_may_fill_the_limit_but_not_exceed_it() {
    assert_eq!(built_golden().check_client(80), Ok(()));
    let error = built_golden().check_client(79).unwrap_err();
    assert_eq!(error, BatchError::TooLarge { batch_bytes: 80, max_bytes: 79 });
    assert_eq!(error.kafka_code(), 10);
}

#[test]
fn records_of_a_batch_that_only_says_it_is_compressed_are_one_error() {
    for (attribute, compression) in
        [(GZIP, Compression::Gzip), (LZ4, Compression::Lz4), (ZSTD, Compression::Zstd)]
    {
        let mut records = with_attributes(attribute).unwrap().records();
        let error = match compression.is_available() {
            true => BatchError::Compression { compression, fault: CompressionFault::Malformed },
            false => BatchError::CodecMissing { compression },
        };
        let found = records.next().unwrap().unwrap_err();
        assert!(found == error || matches!(found, BatchError::Compression { .. }), "{found}");
        assert_eq!(found.kafka_code(), if compression.is_available() { 87 } else { 76 });
        assert_eq!((records.next(), records.next(), records.len_bytes()), (None, None, 0));
    }
}

#[test]
fn a_malformed_record_is_named_with_its_fault() {
    let good = b"\x0c\x00\x00\x00\x01\x01\x00"; // 6 bytes, attributes, time +0, offset +0, no key, no value, none
    assert!(around(good, 1).unwrap().check_client(80).is_ok());
    let fault = |at: usize, byte: u8| {
        let mut record = good.to_vec();
        record[at] = byte;
        record_fault(&record, 1)
    };
    assert_eq!(fault(0, 0x0e), (0, RecordFault::Length { length: 7, left_bytes: 6 }));
    assert_eq!(fault(0, 0x01), (0, RecordFault::Length { length: -1, left_bytes: 6 }));
    assert_eq!(fault(0, 0x00), (0, RecordFault::Truncated)); // not even attributes
    assert_eq!(fault(0, 0x0a), (0, RecordFault::Truncated)); // no header count
    assert_eq!(fault(3, 0x02), (0, RecordFault::OffsetDelta { found: 1, least: 0, greatest: 0 }));
    assert_eq!(fault(3, 0x01), (0, RecordFault::OffsetDelta { found: -1, least: 0, greatest: 0 }));
    assert_eq!(fault(4, 0x03), (0, RecordFault::Length { length: -2, left_bytes: 2 }));
    assert_eq!(fault(4, 0x06), (0, RecordFault::Length { length: 3, left_bytes: 2 }));
    assert_eq!(fault(6, 0x02), (0, RecordFault::HeaderCount { count: 1, left_bytes: 0 }));
    assert_eq!(fault(6, 0x01), (0, RecordFault::HeaderCount { count: -1, left_bytes: 0 }));
    assert_eq!(fault(6, 0x80), (0, RecordFault::Truncated)); // the varint would go on behind the record

    let trailing = b"\x0e\x00\x00\x00\x01\x01\x00\x00";
    assert_eq!(record_fault(trailing, 1), (0, RecordFault::TrailingBytes { extra_bytes: 1 }));
    let header_without_key = b"\x10\x00\x00\x00\x01\x01\x02\x01\x01";
    assert_eq!(record_fault(header_without_key, 1), (0, RecordFault::Length { length: -1, left_bytes: 1 }));
    let header_of_one_byte = b"\x0e\x00\x00\x00\x01\x01\x02\x00";
    assert_eq!(
        record_fault(header_of_one_byte, 1),
        (0, RecordFault::HeaderCount { count: 1, left_bytes: 1 })
    );
    let second_repeats_the_offset = [good, good].map(|record| &record[..]).concat();
    let delta = RecordFault::OffsetDelta { found: 0, least: 1, greatest: 1 };
    assert_eq!(record_fault(&second_repeats_the_offset, 2), (1, delta));
    assert_eq!(record_fault(&[good, &[0x80; 7][..]].concat(), 2), (1, RecordFault::VarintTooLong));
}

#[test]
fn bytes_behind_the_last_record_are_refused_and_end_the_walk() {
    let body = b"\x0c\x00\x00\x00\x01\x01\x00\x00";
    let mut records = around(body, 1).unwrap().records();
    assert!(matches!(records.next(), Some(Ok(_))));
    assert_eq!(records.next(), Some(Err(BatchError::BytesBehindRecords { extra_bytes: 1 })));
    assert_eq!((records.next(), records.next()), (None, None));
}

#[test]
fn a_compacted_batch_leaves_room_for_its_later_records() {
    // Offsets 3 and 3 of 0..=4: the first may be 3 at most, so that the second can be 4.
    let record = |delta: u8| [0x0c, 0, 0, delta << 1, 1, 1, 0];
    let with_deltas = |first: u8, second: u8| {
        let batch = around(&[record(first), record(second)].concat(), 2).unwrap();
        let batch = forged(&batch, |header| set(header, LAST_OFFSET_DELTA_AT, 4_i32.to_be_bytes())).unwrap();
        batch.records().map(|record| record.map(|record| record.offset)).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(with_deltas(0, 1), Ok(vec![0, 1]));
    assert_eq!(with_deltas(1, 4), Ok(vec![1, 4]));
    assert_eq!(with_deltas(3, 4), Ok(vec![3, 4]));
    for (first, second, refused_index) in [(3, 3, 1), (3, 2, 1), (3, 5, 1), (4, 4, 0)] {
        let refused = with_deltas(first, second);
        assert!(
            matches!(refused, Err(BatchError::Record { index, .. }) if index == refused_index),
            "{refused:?}"
        );
    }
}

#[test]
fn times_further_apart_than_64_bits_survive() {
    let mut builder = BatchBuilder::new(0);
    let times = [i64::MAX, i64::MIN, 0, -1];
    for time in times {
        builder.append(time, None, None, &[]);
    }
    let batch = builder.finish(None);
    let read: Vec<_> = batch.records().map(|record| record.unwrap().timestamp_ms).collect();
    assert_eq!(read, times);
    assert_eq!((batch.base_timestamp_ms(), batch.max_timestamp_ms()), (i64::MAX, i64::MAX));
    assert_eq!(batch.producer(), None);
    assert_eq!(batch.check_client(1000), Ok(()));
}

#[test]
fn the_greatest_timestamp_may_be_negative() {
    let mut builder = BatchBuilder::new(0);
    builder.append(-5, None, None, &[]);
    builder.append(-7, None, None, &[]);
    assert_eq!(builder.finish(None).max_timestamp_ms(), -5);
}

#[test]
#[should_panic(expected = "a batch needs a record")]
fn a_batch_without_records_is_never_built() {
    let _ = BatchBuilder::new(0).finish(None);
}

#[test]
fn a_batch_says_in_one_line_what_it_is_and_nothing_of_its_payload() {
    let batch = with_attributes(TRANSACTIONAL_BIT | LZ4).unwrap().placed(100, 0);
    assert_eq!(
        format!("{batch:?}"),
        "Batch(100..=101, 2 records, 80 bytes, Lz4, producer 7 epoch 3 sequence 10, transactional)"
    );
}
