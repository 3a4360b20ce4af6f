//! What isn't a message: refused with what is wrong, without a panic, and with memory that its bytes bound.

use crate::made::{Choices, Form, varint};
use crate::{Kind, kinds};
use bytes::Bytes;
use exactlog_wire::error::{DecodeError, MessageError};
use exactlog_wire::message::decode_request;
use exactlog_wire::messages::{Request, Response};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// A body that has something in every place: choices that are all odd choose no null, and no empty array.
const FULL: [u8; 4000] = [1; 4000];

fn read(kind: Kind, body: &[u8]) -> Result<(), DecodeError> {
    let (key, version, body) = (kind.api.key, kind.version, Bytes::copy_from_slice(body));
    let read = match kind.is_request {
        true => Request::decode(key, version, body).map(drop),
        false => Response::decode(key, version, body).map(drop),
    };
    read.map_err(|error| match error {
        MessageError::Malformed { error, .. } => error,
        error => panic!("{kind:?}: {error}"),
    })
}

fn request(key: i16, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    let api = exactlog_wire::message::api(key).unwrap();
    read(Kind { api, version, is_request: true }, body)
}

fn full(kind: Kind, has_unknown_tags: bool) -> Vec<u8> {
    let form = Form { version: kind.version, is_flexible: kind.is_flexible(), has_unknown_tags };
    let mut body = Vec::new();
    form.make(&kind.shape(), &mut Choices::of(&FULL), &mut body);
    body
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused_and_so_is_one_with_more_behind() {
    for kind in kinds() {
        let body = full(kind, false);
        assert_eq!(read(kind, &body), Ok(()), "{kind:?}");
        for len in 0..body.len() {
            assert!(read(kind, &body[..len]).is_err(), "{kind:?}, {len} bytes of {}", body.len());
        }
        let more = [&body[..], &[0]].concat();
        assert!(matches!(read(kind, &more), Err(DecodeError::Trailing { left: 1, .. })), "{kind:?}");
    }
}

#[test]
fn tagged_fields_that_nobody_knows_are_left_out() {
    for kind in kinds().filter(Kind::is_flexible) {
        assert_eq!(read(kind, &full(kind, true)), Ok(()), "{kind:?}");
    }
}

/// Each length and count of each message becomes what none can be: wherever it lies, since every place is tried.
#[test]
fn lengths_that_cant_be_are_refused_wherever_they_stand() {
    let wrong = [
        &[0x7f, 0xff, 0xff, 0xff][..],
        &[0xff; 4],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff; 10],
    ];
    for kind in kinds() {
        let body = full(kind, false);
        for at in 0..body.len() {
            for wrong in wrong {
                let behind = body.get(at + wrong.len()..).unwrap_or_default();
                // Whatever it says: it doesn't panic, and doesn't take what it announces.
                let _ = read(kind, &[&body[..at], wrong, behind].concat());
                let _ = read(kind, &[&body[..at], wrong].concat());
            }
        }
    }
    let peak = peak_bytes();
    assert!(peak.is_none_or(|peak| peak < 256 << 20), "{peak:?} bytes of memory");
}

#[test]
fn any_bytes_are_read_or_refused() {
    let seed = RngSeed::Fixed(20);
    let mut runner =
        TestRunner::new(Config { cases: 60, failure_persistence: None, rng_seed: seed, ..Config::default() });
    let kinds: Vec<_> = kinds().collect();
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    runner
        .run(&bytes, |bytes| {
            kinds.iter().for_each(|kind| drop(read(*kind, &bytes)));
            let _ = decode_request(bytes.into());
            Ok(())
        })
        .unwrap();
    let peak = peak_bytes();
    assert!(peak.is_none_or(|peak| peak < 256 << 20), "{peak:?} bytes of memory");
}

/// The most memory that the process has had, in bytes, where the system says it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Requests that made another codec ask for 412 GB, 154 GB and 135 GB, and abort.
#[test]
fn twelve_bytes_that_announce_two_billion_elements_are_refused() {
    let produce = [0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
    let error = request(0, 3, &produce).unwrap_err();
    assert!(
        matches!(error, DecodeError::Count { field: "topic_data", count: 0x7fff_ffff, left: 0, .. }),
        "{error}"
    );
    let metadata = [0x7f, 0xff, 0xff, 0xff];
    let error = request(3, 1, &metadata).unwrap_err();
    assert!(matches!(error, DecodeError::Count { field: "topics", .. }), "{error}");
    let error = request(37, 0, &[0x5b, 0x5b, 0, 0]).unwrap_err();
    assert!(matches!(error, DecodeError::Count { .. }), "{error}");
}

/// Elements of few bytes that take many in memory: the message's share ends before the machine's memory does.
#[test]
fn elements_take_at_most_the_messages_share_of_memory() {
    // Names of topics without a letter: one byte each, and a structure in memory.
    let count = 10_000_000_u32;
    let mut body = Vec::new();
    varint(count + 1, &mut body);
    body.extend(std::iter::repeat_n(1, 2 * count as usize));
    let error = request(3, 9, &body).unwrap_err();
    assert!(matches!(error, DecodeError::Memory { field: "topics", .. }), "{error}");
}

#[test]
fn tags_out_of_order_and_fields_of_another_length_are_refused() {
    // ApiVersions 3: two names, then tagged fields.
    let with_tags = |tags: &[u8]| request(18, 3, &[&[2, b'a', 2, b'b'], tags].concat());
    assert!(with_tags(&[2, 1, 0, 2, 0]).is_ok());
    assert!(matches!(with_tags(&[2, 2, 0, 2, 0]), Err(DecodeError::TagOrder { tag: 2, before: 2, .. })));
    assert!(matches!(with_tags(&[2, 2, 0, 1, 0]), Err(DecodeError::TagOrder { tag: 1, before: 2, .. })));
    assert!(matches!(with_tags(&[1, 1, 9, 0]), Err(DecodeError::Truncated { needed: 9, left: 1, .. })));
    assert!(matches!(with_tags(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::Count { .. })));
    assert!(matches!(with_tags(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(DecodeError::Varint { .. })));
    assert!(matches!(with_tags(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), Err(DecodeError::Varint { .. })));
}

#[test]
fn what_isnt_known_is_told_apart_from_what_is_malformed() {
    let of = |key: i16, version: i16| {
        let fixed = [key.to_be_bytes(), version.to_be_bytes()].concat();
        decode_request([&fixed[..], &77_i32.to_be_bytes(), &[0xff, 0xff]].concat().into())
    };
    assert_eq!(of(9999, 0).unwrap_err(), MessageError::UnknownApi { key: 9999 });
    assert_eq!(of(-1, 0).unwrap_err(), MessageError::UnknownApi { key: -1 });
    // A client that asks in a version of tomorrow still gets an answer, by its correlation id (KIP-511).
    let error = of(18, 99).unwrap_err();
    let MessageError::UnsupportedVersion {
        api: "ApiVersions",
        version: 99,
        from: 0,
        to: 4,
        correlation_id: Some(77),
    } = error
    else {
        panic!("{error}");
    };
    assert!(matches!(of(3, 0), Err(MessageError::Malformed { api: "Metadata", version: 0, .. })));
    assert_eq!(decode_request(Bytes::from_static(&[0; 7])).unwrap_err(), MessageError::NoHeader { bytes: 7 });
}
