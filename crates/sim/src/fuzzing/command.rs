//! Target `command_decode`: any bytes as a sequence of commands, each applied to the state that those before made.
//!
//! ```text
//!   (kind u8 | version u8 | term u8 | head length u16 | bodies length u16 | head | bodies) ...
//! ```
//!
//! Bodies aren't verified: `apply` doesn't look at checksums, and the fuzzer needn't find them.
//!
//! Checked:
//!   * decoding gives a command or a typed error, and a command has one form
//!   * `apply` is total, deterministic, and places batches densely
//!   * a checkpoint of the state is read back as the same state

use super::input::{Input, Output};
use crate::disk::SimDisk;
use crate::runs::RunContents;
use bytes::Bytes;
use exactlog_core::codec;
use exactlog_core::command::Command;
use exactlog_core::reply::{Applied, Reply};
use exactlog_core::state::{At, State};
use exactlog_storage::checkpoint::{self, Image};

/// More partitions than this aren't made, all topics together: they cost time and show nothing new.
const PARTITIONS_MAX: usize = 256;

/// More commands than this aren't applied.
const COMMANDS_MAX: u64 = 64;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut state, mut twin) = (State::default(), State::default());
    let (mut lsn, mut runs) = (0, RunContents::default());
    while !input.is_empty() && lsn < COMMANDS_MAX {
        let (kind, version, term) = (input.u8(), input.u8(), u32::from(input.u8()));
        let (head_len, bodies_len) = (input.u16(), input.u16());
        let head = Bytes::copy_from_slice(input.take(usize::from(head_len)));
        let bodies = Bytes::copy_from_slice(input.take(usize::from(bodies_len)));
        codec::verify(kind, version, &head, &bodies);
        let Some((time_ms, command)) = decode(kind, version, &head, &bodies) else { continue };
        if makes_many_partitions(&command, &state) {
            continue;
        }
        lsn += 1;
        let at = At { lsn, term, time_ms };
        let answers = runs.before(&state, &command);
        let applied = state.apply_with(at, &command, &answers);
        check(&command, &applied, &state);
        assert_eq!(twin.apply_with(at, &command, &answers), applied, "the same command in the same state");
    }
    assert_eq!(state, twin);
    check_checkpoint(state);
}

/// One command as this target takes it.
pub(super) fn encode(term: u8, time_ms: i64, command: &Command) -> Vec<u8> {
    let codec::Encoded { kind, version, head, bodies } = codec::encode(time_ms, command);
    let bodies = bodies.concat();
    let lens =
        Output::default().u8(kind).u8(version).u8(term).u16(head.len() as u16).u16(bodies.len() as u16);
    lens.bytes(&head).bytes(&bodies).done()
}

fn decode(kind: u8, version: u8, head: &Bytes, bodies: &Bytes) -> Option<(i64, Command)> {
    match codec::decode(kind, version, head, bodies) {
        Ok((time_ms, command)) => {
            let encoded = codec::encode(time_ms, &command);
            assert_eq!((encoded.kind, encoded.version), (kind, version));
            assert_eq!((&encoded.head[..], &encoded.bodies.concat()[..]), (&head[..], &bodies[..]));
            Some((time_ms, command))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn makes_many_partitions(command: &Command, state: &State) -> bool {
    let there: usize = state.topics.values().map(|topic| topic.partitions.len()).sum();
    match command {
        Command::CreateTopic { partitions, .. } | Command::CreateTable { partitions, .. } => {
            there + *partitions as usize > PARTITIONS_MAX
        }
        _ => false,
    }
}

fn check(command: &Command, applied: &Applied, state: &State) {
    let batches = command.batches();
    for marker in &applied.markers {
        let partition = state.partition(marker.partition).expect("markers are made in partitions that exist");
        assert!(marker.batch().next_offset() <= partition.end);
    }
    for placement in &applied.placements {
        let placed = batches[placement.index as usize].placed(placement.base_offset, placement.leader_epoch);
        assert_eq!(placed.next_offset(), placement.next_offset);
        let partition =
            state.partition(placement.partition).expect("batches are placed in partitions that exist");
        assert!(placed.next_offset() <= partition.end && partition.start <= partition.end);
    }
    if let Reply::Refused(refusal) = &applied.reply {
        assert!(
            applied.touched().count() == 0 && !refusal.to_string().is_empty() && refusal.kafka_code() > 0
        );
    }
}

fn check_checkpoint(state: State) {
    let disk = SimDisk::new();
    let image =
        Image { applied_lsn: state.lsn, flushed_lsn: 0, applied_at: None, state, partitions: Vec::new() };
    image.write(&disk).expect("the disk has room and no faults");
    let found = checkpoint::find(&disk).expect("what was written can be read");
    assert_eq!(found.newest, Some(image));
}
