//! Against a second codec, which has its own descriptions of all messages: the crate `kafka-protocol`.
//!
//! It gets only what ours has accepted: it allocates what a length claims.

use crate::made::{Choices, Form};
use crate::{Kind, kinds};
use bytes::{Bytes, BytesMut};
use exactlog_wire::messages::{OWN_KEYS_FROM, Request, Response};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A body as it was read by one of both: its values as text, and its bytes when it is written again.
#[derive(Debug)]
struct Read {
    text: String,
    again: Vec<u8>,
}

fn ours(kind: Kind, body: &[u8]) -> Read {
    let (key, version, body) = (kind.api.key, kind.version, Bytes::copy_from_slice(body));
    let (text, parts) = match kind.is_request {
        true => {
            let read = Request::decode(key, version, body).unwrap();
            (format!("{read:?}"), read.encode(version))
        }
        false => {
            let read = Response::decode(key, version, body).unwrap();
            (format!("{read:?}"), read.encode(version))
        }
    };
    Read { text, again: parts.concat() }
}

fn theirs(kind: Kind, body: &[u8]) -> Read {
    let key = ApiKey::try_from(kind.api.key).unwrap();
    let (mut body, mut again) = (Bytes::copy_from_slice(body), BytesMut::new());
    let text = match kind.is_request {
        true => {
            let read = RequestKind::decode(key, &mut body, kind.version).unwrap();
            read.encode(&mut again, kind.version).unwrap();
            format!("{read:?}")
        }
        false => {
            let read = ResponseKind::decode(key, &mut body, kind.version).unwrap();
            read.encode(&mut again, kind.version).unwrap();
            format!("{read:?}")
        }
    };
    assert!(body.is_empty(), "bytes that the other codec didn't read: {body:?}");
    Read { text, again: again.to_vec() }
}

/// Fields of versions that only one of both codecs knows, none of them a structure.
const NEWER_FIELDS: [&str; 5] = [
    "enable_2_pc",
    "keep_prepared_txn",
    "ongoing_txn_producer_id",
    "ongoing_txn_producer_epoch",
    "is_cordoned",
];

/// Whether a token is a value, not punctuation or the name of a type.
fn is_value(token: &str) -> bool {
    let is_uuid = token.len() == 36 && token.matches('-').count() == 4;
    let is_number = token.trim_start_matches('-').starts_with(|it: char| it.is_ascii_digit());
    let is_text = token.starts_with('"') || token.starts_with("b\"");
    is_uuid || is_number || is_text || matches!(token, "None" | "true" | "false" | "[" | "]")
}

/// The names of fields and the values of a text in Rust's debug form, without the names of types. What is empty and
/// what is null count as equal: fields that a version doesn't have are the one here and the other there. (Where one of
/// them was read, the bytes tell them apart.)
fn values(text: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |it: char| it.is_alphanumeric() || it == '_' || it == '-';
        let len = match first {
            '"' => 2 + rest[1..].find('"').unwrap(),
            'b' if rest.starts_with("b\"") => {
                let inner = &rest[2..];
                // Bytes may have quotes, which are escaped.
                let mut escaped = false;
                let end = inner.find(|it| {
                    let ends = it == '"' && !escaped;
                    escaped = it == '\\' && !escaped;
                    ends
                });
                3 + end.unwrap()
            }
            first if is_word(first) => rest.find(|it| !is_word(it)).unwrap_or(rest.len()),
            _ => 1,
        };
        let (token, behind) = rest.split_at(len);
        if is_word(first) && behind.starts_with(':') {
            values.push(token.trim_start_matches('_').to_owned());
        } else if is_value(token) {
            values.push(token.to_owned());
        }
        rest = behind;
    }
    // A name, and what it is.
    while let Some(at) = values.iter().position(|value| NEWER_FIELDS.contains(&value.as_str())) {
        values.drain(at..at + 2);
    }
    let empty = |value: &String| match value.as_str() {
        "\"\"" | "b\"\"" => "None".to_owned(),
        _ => value.clone(),
    };
    let joined = values.iter().map(empty).filter(|it| it != "unknown_tagged_fields").collect::<Vec<_>>();
    joined.join(" ").replace("[ ]", "None").split(' ').map(str::to_owned).collect()
}

/// Whether the other codec has this version: it reads the smallest message of it.
fn is_known(kind: Kind) -> bool {
    let form = Form { version: kind.version, is_flexible: kind.is_flexible(), has_unknown_tags: false };
    let mut smallest = Vec::new();
    form.make(&kind.shape(), &mut Choices::of(&[]), &mut smallest);
    let (key, mut body) = (ApiKey::try_from(kind.api.key).unwrap(), Bytes::from(smallest));
    match kind.is_request {
        true => RequestKind::decode(key, &mut body, kind.version).is_ok(),
        false => ResponseKind::decode(key, &mut body, kind.version).is_ok(),
    }
}

#[test]
fn both_codecs_read_the_same_values_and_write_the_same_bytes() {
    // What isn't Kafka's only this codec has.
    let of_kafka = kinds().filter(|kind| kind.api.key < OWN_KEYS_FROM);
    let (known, unknown): (Vec<_>, Vec<_>) = of_kafka.partition(|kind| is_known(*kind));
    // What is newer than the other codec, said by name.
    let mut unknown: Vec<_> = unknown.iter().map(|kind| (kind.api.name, kind.version)).collect();
    unknown.dedup();
    let newer = [("ListOffsets", 11), ("OffsetCommit", 10), ("OffsetFetch", 10), ("DescribeLogDirs", 5)];
    assert_eq!(unknown, newer);
    for kind in known {
        let (shape, version, is_flexible) = (kind.shape(), kind.version, kind.is_flexible());
        let form = Form { version, is_flexible, has_unknown_tags: false };
        let mut runner =
            TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let choices = proptest::collection::vec(any::<u8>(), 0..400);
        let outcome = runner.run(&choices, |choices| {
            let mut body = Vec::new();
            form.make(&shape, &mut Choices::of(&choices), &mut body);
            let (ours, theirs) = (ours(kind, &body), theirs(kind, &body));
            prop_assert_eq!(values(&ours.text), values(&theirs.text));
            prop_assert_eq!(&ours.again, &theirs.again);
            // What is written again is what was read, except that tagged fields may have had their defaults.
            prop_assert!(ours.again.len() <= body.len());
            if !is_flexible {
                prop_assert_eq!(&ours.again, &body);
            }
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{} {} request: {}: {error}", kind.api.name, version, kind.is_request);
        }
    }
}
