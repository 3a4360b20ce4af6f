//! Commands to bytes and back: what is written is read, and what was changed on the way is noticed.

use crate::common::commands::command;
use crate::common::*;
use bytes::Bytes;
use exactlog_core::batch::{Batch, HEADER_BYTES};
use exactlog_core::codec::{self, DecodeError, Encoded};
use exactlog_core::command::*;
use exactlog_core::ids::{ProducerId, TopicId};
use proptest::prelude::*;

const ENTRY_BYTES: usize = 8 + HEADER_BYTES;

fn decode(encoded: &Encoded) -> Result<(i64, Command), DecodeError> {
    let bodies = Bytes::from(encoded.bodies.concat());
    codec::decode(encoded.kind, encoded.version, &Bytes::from(encoded.head.clone()), &bodies)
}

fn verify(encoded: &Encoded) -> bool {
    codec::verify(encoded.kind, encoded.version, &encoded.head, &encoded.bodies.concat())
}

fn is_malformed(encoded: &Encoded) -> bool {
    matches!(decode(encoded), Err(DecodeError::Malformed { .. }))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_verifies(time_ms in any::<i64>(), command in command()) {
        let encoded = codec::encode(time_ms, &command);
        prop_assert!(verify(&encoded));
        prop_assert_eq!(decode(&encoded), Ok((time_ms, command)));
    }

    #[test]
    fn a_head_that_is_cut_anywhere_is_refused(command in command(), at in any::<prop::sample::Index>()) {
        let mut encoded = codec::encode(1, &command);
        encoded.head.truncate(at.index(encoded.head.len()));
        prop_assert!(is_malformed(&encoded));
    }

    #[test]
    fn bytes_behind_the_last_field_or_body_are_refused(command in command(), extra in any::<u8>()) {
        let mut encoded = codec::encode(1, &command);
        encoded.bodies.push(Bytes::from(vec![extra]));
        prop_assert!(is_malformed(&encoded));
        prop_assert!(!verify(&encoded));
        encoded.bodies.pop();
        encoded.head.push(extra);
        prop_assert!(is_malformed(&encoded));
    }
}

#[test]
fn lg_1_a_changed_byte_of_a_body_or_under_its_crc_does_not_verify() {
    let commit =
        commit_of(token((ProducerId(1), 0), 1), &[(part(TopicId(1), 0), 2), (part(TopicId(1), 1), 3)]);
    let encoded = codec::encode(1, &Command::Commit(Box::new(commit)));
    for body in 0..2 {
        for at in 0..encoded.bodies[body].len() {
            let mut changed = encoded.clone();
            let mut bytes = changed.bodies[body].to_vec();
            bytes[at] ^= 1;
            changed.bodies[body] = bytes.into();
            assert!(!verify(&changed), "body {body} byte {at}");
        }
        let header_at = codec::batch_header_at(encoded.head.len(), 2, body);
        for at in header_at + CRC_AT..header_at + HEADER_BYTES {
            let mut changed = encoded.clone();
            changed.head[at] ^= 1;
            assert!(!verify(&changed), "header {body} byte {}", at - header_at);
        }
    }
}

#[test]
fn batch_headers_are_found_without_knowing_the_kind() {
    let batches: Vec<_> = (0..3).map(|index| (part(TopicId(7), index), index + 1)).collect();
    let commit = commit_of(token((ProducerId(1), 0), 1), &batches);
    for command in [append(part(TopicId(1), 0), records(2)), Command::Commit(Box::new(commit))] {
        let encoded = codec::encode(1, &command);
        let count = codec::batch_count(&encoded.head).unwrap();
        assert_eq!(count, encoded.bodies.len());
        for (index, body) in encoded.bodies.iter().enumerate() {
            let at = codec::batch_header_at(encoded.head.len(), count, index);
            let header = &encoded.head[at..at + HEADER_BYTES];
            assert_eq!(Batch::announced_len(header), Ok(HEADER_BYTES + body.len()));
        }
        assert_eq!(
            codec::batch_header_at(encoded.head.len(), count, count - 1) + HEADER_BYTES,
            encoded.head.len()
        );
    }
    assert_eq!(codec::batch_count(&[0; 11]), None);
    let mut head = vec![0; 12 + ENTRY_BYTES];
    head[8] = 2;
    assert_eq!(codec::batch_count(&head), None);
    head[8] = 1;
    assert_eq!(codec::batch_count(&head), Some(1));
}

#[test]
fn a_command_of_a_newer_release_is_unknown_and_not_malformed() {
    let head = Bytes::from(codec::encode(1, &Command::Tick).head);
    for (kind, version) in [
        (0, 1),
        (36, 1),
        (255, 1),
        (13, 0),
        (13, 2),
        (7, 4),
        (8, 3),
        (19, 3),
        (2, 6),
        (21, 2),
        (30, 2),
        (32, 6),
        (33, 2),
    ] {
        let error = codec::decode(kind, version, &head, &Bytes::new());
        assert_eq!(error, Err(DecodeError::Unknown { kind, version }));
    }
}

#[test]
fn values_that_are_none_are_refused_with_their_place() {
    let what = |encoded: &Encoded| match decode(encoded) {
        Err(DecodeError::Malformed { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let retained = TopicConfig { retention_ms: Some(1), ..TopicConfig::default() };
    let alter = Command::AlterTopic { topic: TopicId(1), config: retained };
    let mut policy = codec::encode(1, &alter);
    policy.head[12 + 4 + 16] = 3;
    assert_eq!(what(&policy), "an unknown cleanup policy");
    let mut plain = codec::encode(1, &alter);
    plain.head[12 + 4 + 17..][..9].copy_from_slice(&[0; 9]);
    assert_eq!(what(&plain), "settings that an earlier version has a form for");

    let mut text = codec::encode(1, &join("g", &[]));
    text.head[16] = 0xff;
    assert_eq!(what(&text), "text that isn't UTF-8");

    let mut flag = codec::encode(1, &Command::InitProducer { name: None });
    flag.head[12] = 2;
    assert_eq!(what(&flag), "a flag that is neither 0 nor 1");

    let mut none = codec::encode(1, &commit_offsets("g", None, &[]));
    none.head[12 + 5 + 1] = 9;
    assert_eq!(what(&none), "a value where none is announced");

    let mut carries = codec::encode(1, &append(part(TopicId(1), 0), records(1)));
    carries.head[8] = 0;
    assert_eq!(what(&carries), "an append without exactly one batch");

    let mut tick = codec::encode(1, &Command::Tick);
    tick.head[8] = 1;
    assert_eq!(what(&tick), "more batches than bytes");
    tick.head.extend([0; ENTRY_BYTES]);
    assert_eq!(what(&tick), "batches in a command that has none");

    let mut config = codec::encode(1, &Command::Config(ConfigChange::SemanticsLevel { level: 1 }));
    config.head[12] = 4;
    assert_eq!(what(&config), "an unknown setting");

    let end = Transactional::End { sender: sender("x", (ProducerId(1), 0), Protocol::V1), commit: true };
    let mut protocol = codec::encode(1, &end.into());
    protocol.head[12 + 5 + 12] = 3;
    assert_eq!(what(&protocol), "an unknown transaction protocol");

    let mut epoch =
        codec::encode(1, &Command::Commit(Box::new(commit_of(token((ProducerId(1), 0), 1), &[]))));
    epoch.head[12 + 8 + 2] = 1;
    assert_eq!(what(&epoch), "an epoch over 16 bits");

    let mut condition = commit_of(token((ProducerId(1), 0), 1), &[]);
    condition.conditions = vec![Condition::EndOffset { partition: part(TopicId(1), 0), offset: 0 }];
    let mut condition = codec::encode(1, &Command::Commit(Box::new(condition)));
    condition.head[12 + 20 + 1 + 4 + 4] = 3;
    assert_eq!(what(&condition), "an unknown condition");

    let write = TableWrite { key: Bytes::new(), deletes: false };
    let writes = TableWrites { partition: part(TopicId(1), 0), writes: vec![write], batch: records(1) };
    let tables = Commit { table_writes: vec![writes], ..commit_of(token((ProducerId(1), 0), 1), &[]) };
    let encoded = codec::encode(1, &Command::Commit(Box::new(tables)));
    let section_at = 12 + 20 + 1 + 4 + 4 + 1;
    let mut more = encoded.clone();
    more.head[section_at + 1] = 12;
    assert_eq!(what(&more), "a section of another length than it says");
    let mut fewer = encoded.clone();
    fewer.head.drain(section_at + 13..section_at + 18);
    (fewer.head[section_at + 1], fewer.head[section_at + 5], fewer.head[section_at + 9]) = (8, 1, 0);
    assert!(decode(&fewer).is_ok(), "that there are no writes is for apply to say");
    let mut empty = encoded.clone();
    empty.head.drain(section_at + 9..section_at + 18);
    (empty.head[section_at + 1], empty.head[section_at + 5]) = (4, 0);
    assert_eq!(what(&empty), "a section without content");
    let mut many = encoded;
    many.head.splice(section_at + 9..section_at + 18, [0; 8]);
    (many.head[section_at + 1], many.head[section_at + 5]) = (12, 2);
    assert_eq!(what(&many), "fewer batches than timers and writes to tables");

    let mut short = codec::encode(1, &append(part(TopicId(1), 0), records(1)));
    short.bodies[0].truncate(3);
    assert_eq!(what(&short), "a batch longer than the bodies");
    let header_at = codec::batch_header_at(short.head.len(), 1, 0);
    short.head[header_at + 16] = 1;
    assert_eq!(what(&short), "a batch header with a wrong length");
}
