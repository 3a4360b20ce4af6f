//! OA-3: any decodable command, in any state, gets a reply; bytes that are no command get a typed error.

use crate::common::commands::{Step, command, small_world, steps};
use crate::common::*;
use bytes::Bytes;
use exactlog_core::codec::{self, DecodeError};
use exactlog_core::command::*;
use exactlog_core::reply::Reply;
use proptest::prelude::*;

/// A change of the bytes of a command.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    /// A count or length, so that what it announces isn't there.
    Word(prop::sample::Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let word = prop_oneof![Just(u32::MAX), Just(i32::MAX as u32), Just(0), 0..100u32];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        4 => (at(), word).prop_map(|(at, word)| Damage::Word(at, word)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for damage in damage {
        if bytes.len() < 4 {
            break;
        }
        match damage {
            Damage::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Damage::Word(at, word) => {
                let at = at.index(bytes.len() - 3);
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    bytes
}

/// Decodes, and if it is a command applies it: whatever happens is a value, never a panic.
fn decode_and_apply(
    log: &mut Log,
    kind: u8,
    version: u8,
    head: Vec<u8>,
    bodies: Vec<u8>,
) -> Result<(), TestCaseError> {
    let (head, bodies) = (Bytes::from(head), Bytes::from(bodies));
    codec::verify(kind, version, &head, &bodies);
    match codec::decode(kind, version, &head, &bodies) {
        Ok((time_ms, command)) => {
            let encoded = codec::encode(time_ms, &command);
            prop_assert_eq!((encoded.kind, encoded.version), (kind, version));
            prop_assert_eq!(&encoded.head[..], &head[..], "one command has one form");
            prop_assert_eq!(encoded.bodies.concat(), &bodies[..]);
            prop_assert!(memory_bytes(&command) <= 8 * (head.len() + bodies.len()) + 256);
            place_all(log, &Step { term: 1, time_ms, command });
        }
        Err(DecodeError::Malformed { at, len, .. }) => prop_assert!(at <= len && len == head.len()),
        Err(DecodeError::Unknown { .. }) => {
            let known = (1..=24).contains(&kind) || (26..=31).contains(&kind);
            let is_read = (version == 1 && known) || (version == 2 && matches!(kind, 2 | 3 | 7 | 8 | 19));
            prop_assert!(!is_read);
        }
        Err(other) => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

/// Applies, and does with the answer what the shell does: a placed batch must have a header.
fn place_all(log: &mut Log, step: &Step) {
    let applied = log.step(step);
    let batches = step.command.batches();
    for placement in &applied.placements {
        let batch = batches[placement.index as usize];
        let placed = batch.placed(placement.base_offset, placement.leader_epoch);
        assert_eq!(placed.next_offset(), placement.next_offset);
        assert!(placed.next_offset() <= log.end(placement.partition));
    }
    for marker in &applied.markers {
        let batch = marker.batch();
        assert_eq!((batch.base_offset(), batch.next_offset()), (marker.offset, marker.offset + 1));
        assert_eq!(batch.as_control(), Some(marker.control));
        assert!(batch.next_offset() <= log.end(marker.partition));
    }
    if let Reply::Refused(refusal) = &applied.reply {
        assert!(!refusal.to_string().is_empty() && refusal.kafka_code() > 0);
    }
}

/// What a decoded command holds in memory besides the bodies, which are slices.
fn memory_bytes(command: &Command) -> usize {
    let offsets = |offsets: &Vec<OffsetCommit>| {
        let texts = offsets.iter().map(|it| it.metadata.as_str().len());
        offsets.capacity() * size_of::<OffsetCommit>() + texts.sum::<usize>()
    };
    size_of::<Command>()
        + match command {
            Command::CreateTopic { name, .. } => name.capacity(),
            Command::InitProducer { name } => name.as_ref().map_or(0, String::capacity),
            Command::CommitOffsets { group, offsets: them, .. } => group.capacity() + offsets(them),
            Command::JoinGroup { group, topics } => group.capacity() + topics.capacity() * 4,
            Command::LeaveGroup { group, .. } => group.capacity(),
            Command::ReleasePartitions { group, partitions, .. } => {
                group.capacity() + partitions.capacity() * 8
            }
            Command::DeleteOffsets { group, partitions } => {
                group.capacity() + partitions.as_ref().map_or(0, |partitions| partitions.capacity() * 8)
            }
            Command::Transactional(request) => {
                let sender = |sender: &TransactionSender| sender.transactional_id.capacity();
                size_of::<Transactional>()
                    + match &**request {
                        Transactional::Init { transactional_id, .. }
                        | Transactional::Append { transactional_id, .. } => transactional_id.capacity(),
                        Transactional::AddPartitions { sender: it, partitions } => {
                            sender(it) + partitions.capacity() * 8
                        }
                        Transactional::AddOffsets { sender: it, group } => sender(it) + group.capacity(),
                        Transactional::CommitOffsets { sender: it, group, offsets: them, .. } => {
                            sender(it) + group.capacity() + offsets(them)
                        }
                        Transactional::End { sender: it, .. } => sender(it),
                    }
            }
            Command::Dedup(request) => {
                size_of::<Dedup>()
                    + match &**request {
                        Dedup::Append { ids, .. } => ids.capacity() * 16,
                        Dedup::Reserve { scope, .. }
                        | Dedup::Finish { scope, .. }
                        | Dedup::Release { scope, .. } => scope.capacity(),
                        Dedup::RunReady(ready) => ready.replaces.capacity() * 8,
                        Dedup::Forget { scope: DedupScope::Named(scope), .. } => scope.capacity(),
                        Dedup::Forget { .. } => 0,
                    }
            }
            Command::Commit(commit) => {
                let groups = commit.offsets.iter().map(|it| it.group.capacity() + offsets(&it.offsets));
                let scopes = commit.marks.iter().map(|mark| match mark {
                    Mark::Named { scope, .. } => scope.len(),
                    Mark::Event { .. } => 0,
                });
                size_of::<Commit>()
                    + commit.marks.capacity() * size_of::<Mark>()
                    + scopes.sum::<usize>()
                    + groups.sum::<usize>()
                    + commit.cursor.as_ref().map_or(0, Bytes::len)
                    + commit.offsets.capacity() * size_of::<GroupOffsets>()
                    + commit.conditions.capacity() * size_of::<Condition>()
                    + commit.batches.capacity() * size_of_val(&commit.batches.first())
                    + commit.timers.set.capacity() * size_of::<NewTimer>()
                    + commit.timers.cancel.capacity() * 8
            }
            Command::Timer(command) => {
                size_of::<TimerCommand>()
                    + match &**command {
                        TimerCommand::Carry { payloads } => {
                            payloads.capacity() * size_of_val(&payloads.first())
                        }
                        _ => 0,
                    }
            }
            _ => 0,
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn oa_3_any_sequence_of_commands_gets_a_reply_for_each(steps in steps(100)) {
        let mut log = small_world();
        for step in &steps {
            place_all(&mut log, step);
        }
        check_invariants(&log);
    }

    #[test]
    fn oa_3_arbitrary_bytes_are_a_command_that_is_answered_or_a_typed_error(
        kind in 0..23u8,
        version in prop_oneof![9 => Just(1u8), 1 => any::<u8>()],
        head in prop::collection::vec(any::<u8>(), 0..200),
        bodies in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        decode_and_apply(&mut small_world(), kind, version, head, bodies)?;
    }

    #[test]
    fn oa_3_damaged_commands_are_answered_or_a_typed_error(
        commands in prop::collection::vec((command(), prop::collection::vec(damage(), 0..3)), 1..20),
    ) {
        let mut log = small_world();
        for (command, damage) in commands {
            let encoded = codec::encode(5, &command);
            let head = damaged(encoded.head, &damage);
            decode_and_apply(&mut log, encoded.kind, encoded.version, head, encoded.bodies.concat())?;
        }
        check_invariants(&log);
    }
}

/// What the files of the state promise at their heads.
fn check_invariants(log: &Log) {
    let state = &log.state;
    for topic in state.topics.values() {
        for partition in &topic.partitions {
            assert!(partition.start <= partition.end);
            assert!(
                partition.leader_epochs.is_sorted_by(|a, b| {
                    a.leader_epoch < b.leader_epoch && a.start_offset < b.start_offset
                })
            );
            assert!(partition.last_stable_offset() <= partition.end);
            assert!(partition.aborted.is_sorted_by(|a, b| a.last_offset < b.last_offset));
            assert!(partition.aborted.iter().all(|it| it.last_offset >= partition.start));
            for (producer, open) in &partition.open {
                let owner = &state.transactional[&state.transactional_ids[producer]];
                assert_eq!(owner.transaction().map(|it| it.txn_seq), Some(open.txn_seq));
            }
            for (id, window) in &partition.producers {
                assert!((1..=5).contains(&window.batches.len()));
                assert!(!partition.tombstones.contains_key(id));
                let known = window.batches.iter().all(|it| it.first_sequence >= 0 && it.last_sequence >= 0);
                assert!(known && window.producer_epoch >= 0);
            }
        }
    }
    for producer in state.producers.values() {
        assert!(producer.replies.len() <= 5 && producer.epochs.len() <= 5);
    }
    let pending = state.groups.values().flat_map(|group| group.pending.values().flat_map(|it| it.keys()));
    let open: Vec<u64> = state.open_transactions().map(|(_, it)| it.txn_seq).collect();
    assert!(pending.into_iter().all(|txn_seq| open.contains(txn_seq)));
    for (id, entry) in &state.transactional {
        assert_eq!(state.transactional_ids.get(&entry.producer), Some(id));
        assert!(entry.transaction().is_none() || entry.producer_epoch < i16::MAX);
        let partitions = entry.transaction().into_iter().flat_map(|it| &it.partitions);
        assert!(partitions.into_iter().all(|partition| state.partition(*partition).is_some()));
    }
    assert_eq!(state.transactional_ids.len(), state.transactional.len());
    for (name, id) in &state.producer_names {
        assert_eq!(&state.producers[id].name, name);
    }
    for group in state.groups.values() {
        assert!(group.owners.values().all(|owner| group.members.contains_key(&owner.member)));
        assert!(group.offsets.iter().all(|(partition, it)| it.offset <= log.end(*partition)));
    }
}

#[test]
fn oa_3_a_count_beyond_the_bytes_is_refused_before_anything_is_allocated() {
    for (command, count_at) in [
        // Behind time, batches and: the group's name ("g"); the same and the member; token, cursor flag.
        (join("g", &[]), 12 + 5),
        (commit_offsets("g", None, &[]), 12 + 5 + 9),
        (
            Command::Commit(Box::new(commit_of(token((exactlog_core::ids::ProducerId(1), 0), 1), &[]))),
            12 + 20 + 1,
        ),
        (append(part(exactlog_core::ids::TopicId(1), 0), records(1)), 8),
    ] {
        let encoded = codec::encode(0, &command);
        let mut head = encoded.head;
        head[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let bodies = Bytes::from(encoded.bodies.concat());
        let error = codec::decode(encoded.kind, encoded.version, &Bytes::from(head), &bodies);
        assert!(matches!(error, Err(DecodeError::Malformed { .. })), "{error:?}");
    }
}

/// The state of a version 1 checkpoint may hold such a value; adding one to it must not stop the log.
#[test]
fn oa_3_counters_at_their_ends_are_answered_too() {
    use std::sync::Arc;
    let mut log = small_world();
    let partition = part(exactlog_core::ids::TopicId(1), 0);
    let topic = Arc::make_mut(log.state.topics.get_mut(&partition.topic).unwrap());
    topic.config_version = u32::MAX;
    let producer = Arc::make_mut(log.state.producers.values_mut().next().unwrap());
    producer.last_number = u64::MAX;
    let id = *log.state.producers.keys().next().unwrap();

    let config = TopicConfig { segment_ms: 1, ..TopicConfig::default() };
    let altered = log.reply(&Command::AlterTopic { topic: partition.topic, config });
    assert_eq!(altered, Reply::TopicAltered { config_version: 0 });
    for number in [0, 1, u64::MAX] {
        let commit = commit_of(token((id, 0), number), &[]);
        let reply = log.reply(&Command::Commit(Box::new(commit)));
        assert_eq!(matches!(reply, Reply::CommittedBefore), number != 0, "{reply:?}");
    }
}
