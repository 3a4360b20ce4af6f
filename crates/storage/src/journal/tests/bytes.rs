//! The bytes of format version 1. If one of these tests fails, old journals can no longer be read.

use super::format::{FRAME_HEADER, FileHeader, FrameHeader, HeaderFault, Predecessor, Seed};
use super::group::{Group, Place};
use super::*;
use proptest::prelude::*;

const HEADER: FileHeader = FileHeader {
    shard: 3,
    generation: 7,
    nonce: 0x1122_3344_5566_7788,
    first_lsn: 1001,
    term: 5,
    len_blocks: 16_384,
    predecessor: Some(Predecessor { generation: 6, end: 12_345, last_lsn: 1000 }),
};

const PLACE: Place = Place { generation: 7, nonce: 0x1122_3344_5566_7788, at: 4096, durable_lsn: 1000 };

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn image(frames: &[Frame]) -> Vec<u8> {
    let mut group = Group::default();
    group.build(frames, PLACE);
    group.pieces().iter().flat_map(|piece| piece.to_vec()).collect()
}

#[test]
fn the_file_header_has_these_bytes() {
    let golden = [
        "45584c4f474a4e4c",  // magic "EXLOGJNL"
        "0100 0000",         // version 1, reserved
        "03000000",          // shard 3
        "0700000000000000",  // generation 7
        "8877665544332211",  // nonce
        "e903000000000000",  // first lsn 1001
        "05000000 00400000", // term 5, 16,384 blocks
        "0600000000000000",  // predecessor: generation 6
        "3930000000000000",  // its end, byte 12345
        "e803000000000000",  // its last lsn 1000
        "bbe2def3",          // crc32 of the bytes before
    ];
    let golden = unhex(&golden.concat());
    let block = HEADER.encode();
    assert_eq!(block[..golden.len()], golden);
    assert!(block[golden.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(FileHeader::decode(&block), Ok(HEADER));
}

#[test]
fn a_group_of_two_commands_has_these_bytes() {
    let mut frames = [frame(1001, 0xA1, b"body".to_vec()), frame(1002, 0xA2, vec![])];
    frames[0].term = 5;
    frames[1] = Frame { term: 5, kind: 9, version: 2, level: Level::Os, ..frames[1].clone() };
    let golden = [
        "40000000",                  // length 64: header 48, head 12, body 4
        "f35945e1", // crc32 of nonce, generation, length, and from the kind to the end of the head
        "01 00",    // kind 1, version 0
        "0100",     // flags: first of its group, level fsync
        "05000000", // term 5
        "e903000000000000", // lsn 1001
        "0c000000", // head of 12 bytes
        "01000000", // one frame of the group follows
        "8877665544332211", // the file's nonce
        "e803000000000000", // durable lsn 1000
        "a100000000000000 50c93f26", // head
        "626f6479", // body
        "3c000000", // length 60: header 48, head 12
        "a077dc9c", // crc32
        "09 02",    // kind 9, version 2
        "0400",     // flags: level os
        "05000000", // term 5
        "ea03000000000000", // lsn 1002
        "0c000000", // head of 12 bytes
        "00000000", // no frame of the group follows
        "e903000000000000", // lsn of the group's first frame
        "0000000000000000",
        "a200000000000000 00000000", // head
    ];
    let golden = unhex(&golden.concat());
    let image = image(&frames);
    assert_eq!(image[..golden.len()], golden);
    assert_eq!(image.len(), 4096);
    assert!(image[golden.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_clean_seal_has_these_bytes() {
    let golden = [
        "30000000",         // length 48
        "2224525d",         // crc32
        "00 00",            // kind 0, version 0
        "0900",             // flags: first of its group, clean
        "05000000",         // term 5
        "ea03000000000000", // lsn 1002: the last one written
        "00000000",         // no head
        "00000000",         // no frame follows
        "8877665544332211", // the file's nonce
        "e803000000000000", // durable lsn 1000
    ];
    let golden = unhex(&golden.concat());
    let mut group = Group::default();
    group.build_seal(1002, 5, true, PLACE);
    let image: Vec<u8> = group.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
    assert_eq!(image[..golden.len()], golden);
    assert_eq!(image.len(), 4096);
}

#[test]
fn a_frame_checksum_is_the_crc32_of_nonce_generation_length_and_what_follows_the_checksum() {
    let image = image(&[frame(1001, 1, b"body".to_vec())]);
    let mut covered = PLACE.nonce.to_le_bytes().to_vec();
    covered.extend(PLACE.generation.to_le_bytes());
    covered.extend(&image[..4]);
    covered.extend(&image[8..48 + 12]);
    assert_eq!(image[4..8], crc32fast::hash(&covered).to_le_bytes());
}

#[test]
fn every_flipped_bit_of_a_file_header_is_found() {
    let block = HEADER.encode();
    for at in 0..block.len() {
        let mut flipped = block;
        flipped[at] ^= 1 << (at % 8);
        let fault = FileHeader::decode(&flipped).unwrap_err();
        match at {
            0..8 => assert!(matches!(fault, HeaderFault::Magic(_))),
            8..10 => assert!(matches!(fault, HeaderFault::Version(_))),
            10..76 => assert!(matches!(fault, HeaderFault::Checksum { .. })),
            _ => assert_eq!(fault, HeaderFault::Rest(at)),
        }
    }
    assert_eq!(FileHeader::decode(&block[..4095]), Err(HeaderFault::Short(4095)));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let predecessor = Predecessor { generation: 6, end: 12_345, last_lsn: 1000 };
    let nothing = Predecessor { generation: 0, end: 0, last_lsn: 0 };
    for header in [
        FileHeader { first_lsn: 1002, ..HEADER },
        FileHeader { first_lsn: 0, predecessor: None, ..HEADER },
        FileHeader { first_lsn: 2, predecessor: Some(nothing), ..HEADER },
        FileHeader { predecessor: Some(Predecessor { generation: 7, ..predecessor }), ..HEADER },
        FileHeader { predecessor: Some(Predecessor { end: 4095, ..predecessor }), ..HEADER },
    ] {
        assert_eq!(FileHeader::decode(&header.encode()), Err(HeaderFault::Contradiction), "{header:?}");
    }
}

#[test]
fn a_journal_that_begins_behind_a_state_that_was_taken_over_says_at_which_lsn() {
    let header = FileHeader { first_lsn: 101, predecessor: None, ..HEADER };
    let block = header.encode();
    assert_eq!((&block[48..64], &block[64..72]), (&[0; 16][..], &100u64.to_le_bytes()[..]));
    assert_eq!(FileHeader::decode(&block), Ok(header));
}

proptest! {
    #[test]
    fn frame_headers_are_read_back_as_they_were_written(
        (len, kind, version, flags) in any::<(u32, u8, u8, u16)>(),
        (term, lsn, head_len, left) in any::<(u32, u64, u32, u32)>(),
        (tie, durable, nonce, generation) in any::<(u64, u64, u64, u64)>(),
        head in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let header = FrameHeader {
            len, crc: 0, kind, version, flags, term, lsn, head_len, left, tie, durable,
        };
        let seed = Seed::new(nonce, generation);
        let bytes = header.encode(&head, seed);
        let read = FrameHeader::decode(&bytes);
        prop_assert_eq!(FrameHeader { crc: 0, ..read }, header);
        prop_assert_eq!(read.crc, seed.checksum(&bytes, &head));
        for at in 0..FRAME_HEADER {
            let mut flipped = bytes;
            flipped[at] ^= 1 << (at % 8);
            let read = FrameHeader::decode(&flipped);
            prop_assert!(read.crc != seed.checksum(&flipped, &head));
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_a_fault_but_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let _ = FileHeader::decode(&bytes);
    }

    #[test]
    fn a_directory_of_any_bytes_opens_or_is_refused(
        first in proptest::collection::vec(any::<u8>(), 0..9000),
        second in proptest::collection::vec(any::<u8>(), 0..9000),
        header in any::<bool>(),
    ) {
        let disk = MemoryDisk::new();
        let mut bytes = Vec::new();
        if header {
            bytes.extend(FileHeader { generation: 1, first_lsn: 1, predecessor: None, ..HEADER }.encode());
        }
        bytes.extend(first);
        disk.put(&generation(1), bytes);
        disk.put(&generation(2), second);
        if let Ok(open) = try_open(&disk) {
            prop_assert_eq!(open.opened.last_lsn, 0);
        }
    }
}
