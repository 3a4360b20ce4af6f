//! Whole frames, byte by byte: what stands before messages, and what a response is made of.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use exactlog_wire::error::MessageError;
use exactlog_wire::header::begins_with;
use exactlog_wire::message::{answer, ask, decode_request, encode_response};
use exactlog_wire::messages::{ApiVersions, Fetch, Metadata, Request, api_versions, fetch, metadata};
use exactlog_wire::value::{Records, Str};

/// The bytes that a text of hexadecimal digits and blanks says.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let number = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.chunks(2).map(number).collect()
}

fn frame(parts: &[Bytes]) -> Vec<u8> {
    parts.concat()
}

/// A frame behind its length.
fn behind_length(parts: &[Bytes]) -> Bytes {
    let whole = frame(parts);
    let (length, rest) = whole.split_first_chunk().unwrap();
    assert_eq!(i32::from_be_bytes(*length) as usize, rest.len());
    Bytes::copy_from_slice(rest)
}

#[test]
fn a_request_of_a_flexible_version_has_tags_and_a_client_id_that_isnt_compact() {
    // Length; key and version; correlation id; client id, no tags; two compact strings; no tags.
    let bytes =
        hex("00000024 0012 0003 00000007 0007 72646b61666b61 00 0b 6c696272646b61666b61 06 322e302e32 00");
    let software = api_versions::Request {
        client_software_name: "librdkafka".into(),
        client_software_version: "2.0.2".into(),
    };
    let asked = ask::<ApiVersions>(3, 7, Some("rdkafka".into()), &software).unwrap();
    assert_eq!(frame(&asked), bytes);
    let (header, request) = decode_request(behind_length(&asked)).unwrap();
    let more = [&behind_length(&asked)[..], b"more"].concat();
    assert_eq!(decode_request(more.into()).unwrap().1, request, "what lies behind it is passed over");
    assert_eq!((header.key, header.version, header.correlation_id), (18, 3, 7));
    assert_eq!(header.client_id, Some(Str::from("rdkafka")));
    assert_eq!(request, Request::ApiVersions(software));
}

#[test]
fn a_request_of_an_older_version_has_neither() {
    let asked = ask::<Metadata>(0, -1, None, &metadata::Request::default()).unwrap();
    // No topics are all of them in version 0, which has no null.
    assert_eq!(frame(&asked), hex("0000000e 0003 0000 ffffffff ffff 00000000"));
    let asked = ask::<Metadata>(1, -1, None, &metadata::Request::default()).unwrap();
    assert_eq!(frame(&asked), hex("0000000e 0003 0001 ffffffff ffff ffffffff"));
}

/// A client reads it before it knows what the node speaks (KIP-511).
#[test]
fn the_header_of_a_response_to_api_versions_never_has_tags() {
    let response = api_versions::Response { error_code: 35, ..Default::default() };
    let written = encode_response(3, 9, &response.clone().into()).unwrap();
    assert_eq!(frame(&written), hex("0000000c 00000009 0023 01 00000000 00"));
    assert_eq!(answer::<ApiVersions>(3, behind_length(&written)).unwrap(), (9, response.clone()));
    // What a client of tomorrow gets, which asked in a version that isn't known: the form of version 0.
    let written = encode_response(0, 9, &response.into()).unwrap();
    assert_eq!(frame(&written), hex("0000000a 00000009 0023 00000000"));

    let written = encode_response(12, 9, &fetch::Response::default().into()).unwrap();
    assert_eq!(frame(&written), hex("00000011 00000009 00 00000000 0000 00000000 01 00"));
    assert_eq!(answer::<Fetch>(12, behind_length(&written)).unwrap(), (9, fetch::Response::default()));
}

#[test]
fn an_id_to_answer_to_is_found_before_anything_else_is_known() {
    let unknown = Bytes::from(hex("7fff 0063 00000005 dead"));
    assert_eq!(begins_with(&unknown), Ok((i16::MAX, 99, 5)));
    assert_eq!(decode_request(unknown), Err(MessageError::UnknownApi { key: i16::MAX }));
}

#[test]
fn record_batches_leave_as_the_parts_that_they_came_as() {
    let (large, small) = (Bytes::from(vec![7; 5000]), Bytes::from_static(b"small"));
    let partition = |records| fetch::PartitionData { records: Some(records), ..Default::default() };
    let topic = fetch::FetchableTopicResponse {
        topic: "orders".into(),
        partitions: vec![
            partition(Records(vec![large.clone(), small.clone(), large.clone()])),
            partition(Records::from(small.clone())),
            partition(Records::from(large.clone())),
        ],
        ..Default::default()
    };
    let response = fetch::Response { responses: vec![topic], ..Default::default() };
    for version in [4, 11, 12] {
        let parts = encode_response(version, 1, &response.clone().into()).unwrap();
        let is_same = |part: &&Bytes| part.as_ptr() == large.as_ptr() && part.len() == large.len();
        assert_eq!(parts.iter().filter(is_same).count(), 3, "version {version}: not copied");
        let copied: usize = parts.iter().filter(|part| !is_same(part)).map(Bytes::len).sum();
        assert!(copied < 300, "version {version}: {copied} bytes beside the batches");
        assert_eq!(answer::<Fetch>(version, behind_length(&parts)).unwrap(), (1, response.clone()));
    }
}
