//! Codecs against other implementations, against themselves, and against bytes that nobody wrote.

use super::super::header::*;
use super::super::{Batch, BatchBuilder, ProducerStamp, Record};
use super::*;
use crate::ids::ProducerId;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

/// Those that this build has, but none.
fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| *codec != Compression::None && codec.is_available())
}

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/src/batch/compression/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text in the vectors of `python-*`.
fn text() -> Vec<u8> {
    (0..6000).flat_map(|number| format!("{number} little words in a row, ").into_bytes()).collect()
}

/// The records in the vectors of `kafka-*`.
fn builder(records: i32) -> BatchBuilder {
    let mut builder = BatchBuilder::new(0);
    for number in 0..records {
        let value = format!(
            "{{\"event\":\"order-placed\",\"number\":{number},\"square\":{}}}",
            number.wrapping_mul(number)
        );
        let key = format!("key-{number}");
        let time = 1_700_000_000_000 + i64::from(number);
        builder.append(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    builder
}

fn records_of(batch: &Batch) -> Vec<Record> {
    batch.records().collect::<Result<_, _>>().unwrap()
}

fn fault(codec: Compression, bytes: &[u8], max_bytes: usize) -> CompressionFault {
    match decompress(codec, bytes, max_bytes) {
        Err(BatchError::Compression { compression, fault }) if compression == codec => fault,
        other => panic!("{codec}: {:?}", other.map(|plain| plain.len())),
    }
}

#[test]
fn names_and_numbers_are_kafkas() {
    let named: Vec<_> = Compression::ALL.iter().map(|codec| (codec.id(), codec.name())).collect();
    assert_eq!(named, [(0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")]);
    for codec in Compression::ALL {
        assert_eq!(Compression::from_name(codec.name()), Some(codec));
        assert_eq!(codec.to_string(), codec.name());
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
    }
    assert_eq!(Compression::from_id(5), None);
    for name in ["", "producer", "uncompressed", "GZIP", "brotli"] {
        assert_eq!(Compression::from_name(name), None, "{name}");
    }
}

#[test]
fn batches_of_the_java_client_are_read_and_ours_have_the_same_records() {
    for codec in codecs() {
        for count in [1, 1200] {
            let theirs = Batch::parse(Bytes::from(vector(&format!("kafka-{codec}-{count}")))).unwrap();
            assert_eq!((theirs.compression(), theirs.record_count()), (codec, count as u32));
            let ours = builder(count).finish_compressed(None, codec).unwrap();
            assert_eq!(records_of(&theirs), records_of(&ours), "{codec}");
            assert_eq!(theirs.check_client(1 << 20), Ok(()));
        }
    }
}

#[test]
fn what_other_libraries_write_is_read() {
    for (codec, name) in [
        (Compression::Gzip, "python-gzip"),
        (Compression::Snappy, "python-snappy-raw"),
        (Compression::Lz4, "python-lz4"),
        (Compression::Lz4, "python-lz4-64k-linked"),
        (Compression::Zstd, "python-zstd"),
    ] {
        if codec.is_available() {
            assert_eq!(decompress(codec, &vector(name), 1 << 20), Ok(text()), "{name}");
        }
    }
}

#[cfg(feature = "snappy")]
#[test]
fn snappy_is_written_in_the_framing_of_the_java_client() {
    let ours = compress(Compression::Snappy, &[7; 40_000]).unwrap();
    assert_eq!(ours[..16], vector("kafka-snappy-1")[HEADER_BYTES..][..16]);
    // Two blocks: the first of 32 KiB, whose raw form begins with that length as a varint.
    let first = i32::from_be_bytes(*ours[16..].first_chunk().unwrap()) as usize;
    assert_eq!(ours[20..23], [0x80, 0x80, 0x02]);
    let second = i32::from_be_bytes(*ours[20 + first..].first_chunk().unwrap()) as usize;
    assert_eq!(ours.len(), 24 + first + second);
    assert_eq!(ours[24 + first..26 + first], [0xc0, 0x38]); // 7232
}

#[cfg(feature = "lz4")]
#[test]
fn lz4_is_written_with_the_frame_header_of_the_java_client() {
    let ours = compress(Compression::Lz4, &[7; 100_000]).unwrap();
    // Magic; version 1, independent blocks, no checksums, no size; 64 KiB; checksum of the header.
    assert_eq!(ours[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(ours[..7], vector("kafka-lz4-1")[HEADER_BYTES..][..7]);
    assert_eq!(ours[ours.len() - 4..], [0; 4]);
}

#[test]
fn a_compressed_batch_differs_from_the_plain_one_in_length_crc_codec_and_body() {
    let stamp = ProducerStamp { id: ProducerId(7), epoch: 3, base_sequence: 10 };
    let plain = builder(100).finish(Some(stamp));
    for codec in codecs() {
        let batch = builder(100).finish_compressed(Some(stamp), codec).unwrap();
        assert_eq!(batch.attributes(), u16::from(codec.id()));
        assert!(batch.len_bytes() < plain.len_bytes());
        let bytes = [&batch.header()[..], batch.body()].concat();
        assert_eq!(Batch::parse(Bytes::from(bytes)), Ok(batch.clone()));
        assert_eq!(batch.header()[LAST_OFFSET_DELTA_AT..], plain.header()[LAST_OFFSET_DELTA_AT..]);
        assert_eq!(records_of(&batch), records_of(&plain));
        let placed = batch.placed_at_append_time(70, 1, 5_000);
        assert!(
            records_of(&placed).iter().zip(70..).all(|(it, at)| (it.offset, it.timestamp_ms) == (at, 5_000))
        );
    }
}

#[test]
fn incompressible_records_are_left_plain_where_the_length_counts() {
    let random = |builder: &mut BatchBuilder| {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(300)
        .collect();
        builder.append(0, None, Some(&noise), &[]);
    };
    for codec in codecs() {
        let (mut shortest, mut always) = (BatchBuilder::new(0), BatchBuilder::new(0));
        random(&mut shortest);
        random(&mut always);
        let len_bytes = shortest.len_bytes();
        let shortest = shortest.finish_shortest(None, codec).unwrap();
        assert_eq!((shortest.compression(), shortest.len_bytes()), (Compression::None, len_bytes));
        let always = always.finish_compressed(None, codec).unwrap();
        assert_eq!(always.compression(), codec);
        assert!(always.len_bytes() > len_bytes);
        let both = builder(100).finish_shortest(None, codec);
        assert_eq!(both, builder(100).finish_compressed(None, codec));
    }
}

#[test]
fn exactly_the_limit_is_decompressed_and_not_a_byte_more() {
    for codec in codecs() {
        for len in [1, 1000, 65_536, 65_537, 300_000] {
            let packed = compress(codec, &vec![b'x'; len]).unwrap();
            assert_eq!(decompress(codec, &packed, len), Ok(vec![b'x'; len]), "{codec}");
            assert_eq!(fault(codec, &packed, len - 1), CompressionFault::TooLarge { max_bytes: len - 1 });
            assert_eq!(fault(codec, &packed, 0), CompressionFault::TooLarge { max_bytes: 0 });
        }
        assert_eq!(decompress(codec, &compress(codec, b"").unwrap(), 0), Ok(Vec::new()));
    }
    assert_eq!(fault(Compression::None, b"12", 1), CompressionFault::TooLarge { max_bytes: 1 });
}

#[test]
fn more_than_readers_decompress_is_not_compressed() {
    let huge = vec![0; RECORDS_BYTES_MAX + 1];
    for codec in codecs() {
        let fault = CompressionFault::TooLarge { max_bytes: RECORDS_BYTES_MAX };
        let error = BatchError::Compression { compression: codec, fault };
        assert_eq!(compress(codec, &huge), Err(error.clone()));
        assert_eq!(error.kafka_code(), 10);
    }
}

/// Each expands to a GiB or more.
#[test]
fn bombs_are_cut_at_the_limit() {
    let cut = CompressionFault::TooLarge { max_bytes: 1 << 20 };
    #[cfg(feature = "gzip")]
    {
        let member = compress(Compression::Gzip, &vec![0; 16 << 20]).unwrap();
        assert_eq!(fault(Compression::Gzip, &member.repeat(64), 1 << 20), cut);
    }
    #[cfg(feature = "zstd")]
    {
        // A window of 128 KiB; blocks of 128 KiB of one byte, in four bytes each, which go on.
        let frame =
            [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38][..], &[0x02, 0x00, 0x10, b'x'].repeat(8192)].concat();
        assert_eq!(fault(Compression::Zstd, &frame, 1 << 20), cut);
        let one_kib = &frame[..1022];
        assert_eq!(fault(Compression::Zstd, one_kib, 1 << 20), cut);
        assert_eq!(fault(Compression::Zstd, one_kib, 1 << 30), CompressionFault::Truncated);
    }
    #[cfg(feature = "snappy")]
    {
        let one = compress(Compression::Snappy, &[0; 32 * 1024]).unwrap();
        let blocks = [&one[..16], &one[16..].repeat(32 * 1024)].concat();
        assert_eq!(fault(Compression::Snappy, &blocks, 1 << 20), cut);
    }
    #[cfg(feature = "lz4")]
    {
        let one = compress(Compression::Lz4, &[0; 64 * 1024]).unwrap();
        let (blocks, end) = one[7..].split_at(one.len() - 11);
        let frame = [&one[..7], &blocks.repeat(16 * 1024), end].concat();
        assert_eq!(fault(Compression::Lz4, &frame, 1 << 20), cut);
    }
}

#[cfg(feature = "snappy")]
#[test]
fn snappy_lengths_that_cannot_be_are_refused_before_there_is_memory_for_them() {
    let framed = |tail: &[u8]| [&compress(Compression::Snappy, b"").unwrap()[..], tail].concat();
    let refused = |bytes: &[u8]| fault(Compression::Snappy, bytes, usize::MAX);
    let length = |length, left_bytes| CompressionFault::BlockLength { length, left_bytes };
    assert_eq!(refused(&framed(&[0xff; 4])), length(-1, 0)); // CVE-2023-34455
    assert_eq!(refused(&framed(&[0x80, 0, 0, 0, 1])), length(i32::MIN.into(), 1));
    assert_eq!(refused(&framed(&[0, 0, 0, 2, 1])), length(2, 1));
    assert_eq!(refused(&framed(&[0, 0, 0, 0])), CompressionFault::Truncated);
    assert_eq!(refused(&framed(&[0, 0])), CompressionFault::Truncated);
    assert_eq!(refused(&framed(b"")[..12]), CompressionFault::Truncated);
    // Four GiB out of six bytes.
    assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), CompressionFault::Malformed);
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    // 128 MiB, as level 22 of the reference asks for.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
    let refused = fault(Compression::Zstd, &frame, RECORDS_BYTES_MAX);
    assert_eq!(refused, CompressionFault::Window { window_bytes: 128 << 20, max_bytes: 64 << 20 });
    let level_19 = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x01, 0x00, 0x00]; // 8 MiB, empty
    assert_eq!(decompress(Compression::Zstd, &level_19, 10), Ok(Vec::new()));
}

#[test]
fn bytes_behind_the_end_and_an_end_that_is_missing_are_errors() {
    for codec in codecs() {
        let packed = compress(codec, &text()).unwrap();
        assert!(decompress(codec, &[&packed[..], b"\x01"].concat(), 1 << 20).is_err(), "{codec}");
        assert!(decompress(codec, b"", 1 << 20).is_err(), "{codec}");
        for cut in [1, 2, 4, 5, packed.len() / 2, packed.len() - 10] {
            let cut = &packed[..packed.len() - cut];
            assert!(decompress(codec, cut, 1 << 20).is_err(), "{codec} {}", cut.len());
        }
    }
}

#[test]
fn a_compressed_batch_without_records_is_empty() {
    let batch = builder(1).finish_compressed(None, Compression::None).unwrap();
    let mut header = *batch.header();
    set(&mut header, ATTRIBUTES_AT, LZ4.to_be_bytes());
    set(&mut header, LENGTH_AT, (LENGTH_LEAST as i32).to_be_bytes());
    set(&mut header, RECORD_COUNT_AT, 0_i32.to_be_bytes());
    let crc = crc_of(&header, b"");
    set(&mut header, CRC_AT, crc.to_be_bytes());
    let batch = Batch::from_parts(header, Bytes::new()).unwrap();
    assert_eq!(batch.records().count(), 0);
}

#[test]
fn a_header_that_states_other_records_than_the_body_has_is_an_error_when_it_is_read() {
    for codec in codecs() {
        let batch = builder(2).finish_compressed(None, codec).unwrap();
        for count in [1, 3] {
            let mut header = *batch.header();
            set(&mut header, LAST_OFFSET_DELTA_AT, (count - 1_i32).to_be_bytes());
            set(&mut header, RECORD_COUNT_AT, count.to_be_bytes());
            let crc = crc_of(&header, batch.body());
            set(&mut header, CRC_AT, crc.to_be_bytes());
            let forged = Batch::from_parts(header, batch.body().clone()).unwrap();
            assert_eq!(forged.check_client(1 << 20), Ok(()), "it isn't decompressed");
            assert!(forged.records().any(|record| record.is_err()), "{codec} {count}");
        }
    }
}

#[test]
fn a_codec_that_this_build_lacks_is_named() {
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_available()) {
        let missing = BatchError::CodecMissing { compression: codec };
        assert_eq!(compress(codec, b"x"), Err(missing.clone()));
        assert_eq!(decompress(codec, b"x", 1), Err(missing.clone()));
        assert_eq!(builder(1).finish_compressed(None, codec), Err(missing.clone()));
        assert_eq!(builder(1).finish_shortest(None, codec), Err(missing.clone()));
        assert_eq!(missing.kafka_code(), 76);
        assert!(missing.to_string().contains(&format!("feature \"{codec}\"")), "{missing}");
        let theirs = Batch::parse(Bytes::from(vector(&format!("kafka-{codec}-1")))).unwrap();
        assert_eq!(theirs.check_client(1 << 20), Ok(()), "it is stored as it comes");
        assert_eq!(theirs.records().collect::<Vec<_>>(), [Err(missing)]);
    }
}

/// Bytes that repeat themselves more or less.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..300),
        (vec(any::<u8>(), 1..40), 1_usize..5_000).prop_map(|(piece, times)| piece.repeat(times)),
    ]
}

proptest! {
    #[test]
    fn what_is_compressed_is_decompressed_to_the_same(plain in plain()) {
        for codec in codecs() {
            let packed = compress(codec, &plain).unwrap();
            prop_assert_eq!(decompress(codec, &packed, plain.len()), Ok(plain.clone()));
        }
    }

    #[test]
    fn damaged_bytes_never_panic_nor_exceed_the_limit(
        plain in plain(),
        cut in any::<prop::sample::Index>(),
        flips in vec((any::<prop::sample::Index>(), 1_u8..), 0..4),
        max_bytes in 0_usize..100_000,
    ) {
        for codec in codecs() {
            let mut packed = compress(codec, &plain).unwrap();
            packed.truncate(cut.index(packed.len() + 1));
            for (at, bits) in &flips {
                if !packed.is_empty() {
                    let at = at.index(packed.len());
                    packed[at] ^= bits;
                }
            }
            if let Ok(plain) = decompress(codec, &packed, max_bytes) {
                prop_assert!(plain.len() <= max_bytes);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for codec in codecs() {
            for start in [&b""[..], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &[0x28, 0xb5, 0x2f, 0xfd], &[0x1f, 0x8b, 8]] {
                let bytes = [start, &bytes].concat();
                prop_assert!(decompress(codec, &bytes, 10_000).is_ok_and(|plain| plain.len() <= 10_000)
                    || decompress(codec, &bytes, 10_000).is_err());
            }
        }
    }
}
