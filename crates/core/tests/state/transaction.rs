//! Wire transactions: the table of semantics 6.2, and the lines of 2.2 one by one.

use crate::common::*;
use exactlog_core::batch::Batch;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, ProducerId};
use exactlog_core::reply::{Marker, Refusal, Reply};
use exactlog_core::state::{AbortedTransaction, TransactionPhase, TransactionalProducer};

use Protocol::{V1, V2};

const ID: &str = "x";

/// A log with one partition and the transactional id `x`.
struct World {
    log: Log,
    at: Partition,
    me: (ProducerId, i16),
    /// The next sequence in the partition, in the current epoch.
    sequence: i32,
}

impl World {
    fn new() -> World {
        let mut log = Log { term: 7, time_ms: 1_000, ..Log::default() };
        let at = log.partition("t");
        let me = log.init(ID);
        World { log, at, me, sequence: 0 }
    }

    fn entry(&self) -> &TransactionalProducer {
        self.log.state.transactional_producer(ID).expect("the world has made it")
    }

    fn sender(&self, protocol: Protocol) -> TransactionSender {
        sender(ID, self.me, protocol)
    }

    fn add(&self, protocol: Protocol) -> Command {
        let sender = self.sender(protocol);
        Transactional::AddPartitions { sender, partitions: vec![self.at] }.into()
    }

    fn add_offsets(&self, protocol: Protocol) -> Command {
        Transactional::AddOffsets { sender: self.sender(protocol), group: "g".into() }.into()
    }

    fn append(&self, protocol: Protocol) -> Command {
        append_transactional(ID, protocol, self.at, transactional(self.me, self.sequence, 2)).into()
    }

    fn offsets(&self, protocol: Protocol, at: u64) -> Command {
        let offsets = vec![offset(self.at, at)];
        let sender = self.sender(protocol);
        Transactional::CommitOffsets { sender, group: "g".into(), member: None, offsets }.into()
    }

    fn end(&self, protocol: Protocol, commit: bool) -> Command {
        Transactional::End { sender: self.sender(protocol), commit }.into()
    }

    /// Two records in a transaction that stays open.
    fn begin(&mut self, protocol: Protocol) -> u64 {
        if protocol == V1 {
            self.ok(&self.add(V1).clone());
        }
        let base_offset = match self.log.reply(&self.append(protocol)) {
            Reply::Appended { base_offset, duplicate: false, .. } => base_offset,
            other => panic!("{other:?}"),
        };
        self.sequence += 2;
        base_offset
    }

    /// Ends the transaction, and goes on with the identity that it answers.
    fn finish(&mut self, protocol: Protocol, commit: bool) -> Vec<Marker> {
        let applied = self.log.apply(&self.end(protocol, commit));
        let Reply::Transactional { producer, producer_epoch } = applied.reply else {
            panic!("{:?}", applied.reply)
        };
        if self.me != (producer, producer_epoch) {
            (self.me, self.sequence) = ((producer, producer_epoch), 0);
        }
        applied.markers
    }

    fn ok(&mut self, command: &Command) -> Reply {
        match self.log.reply(command) {
            Reply::Refused(refusal) => panic!("{command:?}: {refusal}"),
            reply => reply,
        }
    }

    fn code(&mut self, command: &Command) -> i16 {
        self.log.refused(command).kafka_code()
    }

    fn lso(&self) -> u64 {
        self.log.state.partition(self.at).expect("the world has made it").last_stable_offset()
    }

    fn pending(&self) -> bool {
        self.log.state.stable_offset("g", self.at).is_err()
    }
}

fn phase_name(phase: &TransactionPhase) -> &'static str {
    match phase {
        TransactionPhase::Empty => "Empty",
        TransactionPhase::Ongoing(_) => "Ongoing",
        TransactionPhase::Complete { commit: true, .. } => "CompleteCommit",
        TransactionPhase::Complete { commit: false, .. } => "CompleteAbort",
    }
}

/// A world in a row of the table, by this protocol.
fn world_in(row: &str, protocol: Protocol) -> World {
    let mut world = World::new();
    if row != "Empty" {
        world.begin(protocol);
    }
    match row {
        "CompleteCommit" => drop(world.finish(protocol, true)),
        "CompleteAbort" => drop(world.finish(protocol, false)),
        _ => {}
    }
    assert_eq!(phase_name(&world.entry().phase), row);
    world
}

/// What came of a command: its code, or what it did.
fn outcome(world: &mut World, command: &Command) -> String {
    let before = world.entry().clone();
    let applied = world.log.apply(command);
    if let Reply::Refused(refusal) = &applied.reply {
        return refusal.kafka_code().to_string();
    }
    let Some(after) = world.log.state.transactional_producer(ID) else { return "gone".into() };
    assert_eq!(after.producer, before.producer);
    let raised = after.producer_epoch - before.producer_epoch;
    let is_new = match (before.transaction(), after.transaction()) {
        (None, Some(transaction)) => {
            assert_eq!(transaction.txn_seq, world.log.state.lsn);
            " new"
        }
        _ => "",
    };
    let markers: Vec<_> =
        applied.markers.iter().map(|it| if it.control.commit { " commit" } else { " abort" }).collect();
    format!("{} +{raised}{is_new}{}", phase_name(&after.phase), markers.concat())
}

#[test]
fn tx_2_every_command_has_its_answer_in_every_state() {
    type Make = fn(&World) -> Command;
    let init: Make = |_| init(ID, None).into();
    let init_current: Make = |world| crate::common::init(ID, Some(world.me)).into();
    let commands: [(&str, Protocol, Make); 14] = [
        ("Init", V1, init),
        ("Init of the current", V1, init_current),
        ("AddPartitions", V1, |world| world.add(V1)),
        ("AddOffsets", V1, |world| world.add_offsets(V1)),
        ("Append", V1, |world| world.append(V1)),
        ("CommitOffsets", V1, |world| world.offsets(V1, 0)),
        ("Commit", V1, |world| world.end(V1, true)),
        ("Abort", V1, |world| world.end(V1, false)),
        ("AddPartitions", V2, |world| world.add(V2)),
        ("AddOffsets", V2, |world| world.add_offsets(V2)),
        ("Append", V2, |world| world.append(V2)),
        ("CommitOffsets", V2, |world| world.offsets(V2, 0)),
        ("Commit", V2, |world| world.end(V2, true)),
        ("Abort", V2, |world| world.end(V2, false)),
    ];
    // For each command: from Empty, Ongoing, CompleteCommit, CompleteAbort.
    let table: [[&str; 4]; 14] = [
        ["Empty +1", "Empty +1 abort", "Empty +1", "Empty +1"],
        ["Empty +1", "Empty +1 abort", "Empty +1", "Empty +1"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["120", "Ongoing +0", "120", "120"],
        ["120", "120", "120", "120"],
        ["48", "CompleteCommit +0 commit", "CompleteCommit +0", "48"],
        ["48", "CompleteAbort +0 abort", "48", "CompleteAbort +0"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["Ongoing +0 new", "Ongoing +0", "Ongoing +0 new", "Ongoing +0 new"],
        ["48", "CompleteCommit +1 commit", "48", "48"],
        ["CompleteAbort +1", "CompleteAbort +1 abort", "CompleteAbort +1", "CompleteAbort +1"],
    ];
    for ((name, protocol, make), row) in commands.iter().zip(table) {
        for (state, expected) in ["Empty", "Ongoing", "CompleteCommit", "CompleteAbort"].iter().zip(row) {
            let mut world = world_in(state, *protocol);
            world.log.restart();
            let command = make(&world);
            assert_eq!(outcome(&mut world, &command), expected, "{name} by {protocol:?} in {state}");
        }
    }
}

#[test]
fn tx_2_time_and_restarts_have_their_answer_in_every_state() {
    let week_ms = 7 * 86_400_000;
    for (state, at_timeout, at_expiry) in [
        ("Empty", "Empty +0", "gone"),
        ("Ongoing", "CompleteAbort +1 abort", "CompleteAbort +1 abort"),
        ("CompleteCommit", "CompleteCommit +0", "gone"),
        ("CompleteAbort", "CompleteAbort +0", "gone"),
    ] {
        for protocol in [V1, V2] {
            let mut world = world_in(state, protocol);
            let before = world.log.state.clone();
            world.log.restart();
            assert_eq!(world.log.state, before, "a restart changes nothing in {state}");
            let begun = world.log.time_ms;
            world.log.time_ms = begun + i64::from(TIMEOUT_MS) - 1;
            assert_eq!(outcome(&mut world, &Command::Tick), format!("{state} +0"));
            world.log.time_ms = begun + i64::from(TIMEOUT_MS);
            assert_eq!(outcome(&mut world, &Command::Tick), at_timeout, "{state}");
            let mut world = world_in(state, protocol);
            world.log.time_ms = begun + week_ms;
            assert_eq!(outcome(&mut world, &Command::Tick), at_expiry, "{state}");
        }
    }
}

#[test]
fn tx_3_init_fences_and_aborts_what_is_open_in_one_command() {
    let mut world = World::new();
    let first = world.begin(V1);
    let old = world.me;
    let applied = world.log.apply(&init(ID, None).into());
    assert_eq!(applied.reply, Reply::Transactional { producer: old.0, producer_epoch: old.1 + 1 });
    let [marker] = applied.markers[..] else { panic!("{:?}", applied.markers) };
    assert_eq!((marker.partition, marker.offset), (world.at, first + 2));
    assert!(!marker.control.commit);
    assert_eq!(marker.control.producer_epoch, old.1 + 1, "the marker fences too");
    assert_eq!(world.lso(), first + 3);
    for command in [world.add(V1), world.add_offsets(V1), world.offsets(V1, 0), world.end(V1, true)] {
        assert_eq!(world.code(&command), 90);
    }
    assert_eq!(world.code(&world.append(V1).clone()), 47);
}

#[test]
fn tx_4_behind_the_last_epoch_comes_a_new_id_over_a_hundred_transactions() {
    for protocol in [V1, V2] {
        let mut world = World::new();
        let first = world.me.0;
        // Closer to the end, by the way that clients have.
        while world.me.1 < 32_760 {
            world.me = world.log.identity(init(ID, Some(world.me)));
        }
        let (mut records, mut ids) = (0, vec![world.me.0]);
        for number in 0..100 {
            let from = world.begin(protocol);
            assert_eq!(from, records);
            let before = world.me;
            let end = world.end(protocol, true);
            let markers = world.finish(protocol, true);
            assert_eq!(markers.len(), 1);
            assert_eq!(markers[0].control.producer, before.0, "the marker is of the id that wrote");
            records += 3;
            let again = world.ok(&end);
            let (producer, producer_epoch) = world.me;
            assert_eq!(again, Reply::Transactional { producer, producer_epoch }, "transaction {number}");
            if protocol == V1 {
                let old = world.me;
                world.me = world.log.identity(init(ID, Some(old)));
                assert_eq!(
                    world.log.identity(init(ID, Some(old))),
                    world.me,
                    "the retry of this very request"
                );
                world.sequence = 0;
            }
            assert!(world.me.1 <= 32_766);
            ids.extend((ids.last() != Some(&world.me.0)).then_some(world.me.0));
        }
        assert_eq!(ids.len(), 2, "{ids:?}");
        assert_eq!((ids[0], world.lso()), (first, records));
        // Nobody goes on under the old id.
        let late = append_transactional(ID, protocol, world.at, transactional((first, 32_766), 0, 1));
        assert!([47, 49].contains(&world.code(&late.into())));
    }
}

#[test]
fn tx_5_an_init_with_an_epoch_is_a_rise_a_retry_or_fenced() {
    let mut world = World::new();
    let old = world.me;
    let now = world.log.identity(init(ID, Some(old)));
    assert_eq!(now, (old.0, old.1 + 1));
    assert_eq!(world.log.identity(init(ID, Some(old))), now, "the retry of the same sender");
    let next = world.log.identity(init(ID, Some(now)));
    assert_eq!(next, (old.0, old.1 + 2));
    for (newer_codes, code) in [(true, 90), (false, 47)] {
        for current in [old, (old.0, 99), (ProducerId(77), 2)] {
            let Transactional::Init { transactional_id, timeout_ms, current, .. } = init(ID, Some(current))
            else {
                unreachable!()
            };
            let request = Transactional::Init { transactional_id, timeout_ms, current, newer_codes };
            assert_eq!(world.code(&request.into()), code, "{current:?}");
        }
    }
    // Another producer takes over: whoever retries now comes too late.
    let other = world.log.init(ID);
    assert_eq!(world.code(&init(ID, Some(next)).into()), 90);
    assert_eq!(world.log.identity(init(ID, Some(other))).1, other.1 + 1);
}

#[test]
fn tx_5_old_request_versions_are_told_47() {
    let mut world = World::new();
    world.log.init(ID);
    let old = TransactionSender { newer_codes: false, ..world.sender(V1) };
    let requests = [
        Transactional::AddPartitions { sender: old.clone(), partitions: vec![world.at] },
        Transactional::AddOffsets { sender: old.clone(), group: "g".into() },
        Transactional::End { sender: old, commit: true },
    ];
    for request in requests {
        assert_eq!(world.code(&request.into()), 47);
    }
}

#[test]
fn tx_7_what_was_added_is_there_after_a_restart_and_a_wrong_sender_is_told_so() {
    let mut world = World::new();
    let first = world.ok(&world.add(V1).clone());
    world.log.restart();
    assert_eq!(world.ok(&world.add(V1).clone()), first, "contained already");
    let before = world.entry().clone();
    world.ok(&world.add(V1).clone());
    assert_eq!(*world.entry(), before);
    let stranger = sender(ID, (ProducerId(99), 0), V1);
    let nobody = sender("nobody", world.me, V1);
    for sender in [stranger, nobody] {
        let request = Transactional::AddPartitions { sender, partitions: vec![world.at] };
        assert_eq!(world.code(&request.into()), 49);
    }
    let unknown = Transactional::AddPartitions {
        sender: world.sender(V1),
        partitions: vec![world.at, part(world.at.topic, 9)],
    };
    assert_eq!(world.code(&unknown.into()), 3);
    world.log.restart();
    assert!(matches!(world.ok(&world.append(V1).clone()), Reply::Appended { .. }));
}

#[test]
fn tx_8_a_partition_that_is_not_part_is_refused_by_v1_and_added_by_v2() {
    let mut world = World::new();
    let other = part(world.log.topic("other", 1), 0);
    world.begin(V1);
    for (newer_codes, code) in [(true, 120), (false, 48)] {
        let request = Transactional::Append {
            transactional_id: ID.into(),
            protocol: V1,
            newer_codes,
            partition: other,
            config_version: 0,
            batch: transactional(world.me, 0, 1),
        };
        assert_eq!(world.code(&request.into()), code);
    }
    world.ok(&append_transactional(ID, V2, other, transactional(world.me, 0, 1)).into());
    assert!(world.entry().transaction().is_some_and(|it| it.partitions.contains(&other)));
}

#[test]
fn tx_8_a_late_batch_behind_the_marker_is_refused() {
    for commit in [true, false] {
        let mut world = World::new();
        world.begin(V1);
        world.finish(V1, commit);
        assert_eq!(world.code(&world.append(V1).clone()), 120);
        let mut world = World::new();
        world.begin(V2);
        let late = world.append(V2);
        world.finish(V2, commit);
        assert_eq!(world.code(&late), 47);
    }
}

#[test]
fn tx_8_the_epoch_of_the_id_fences_in_partitions_that_never_saw_it() {
    let mut world = World::new();
    let other = part(world.log.topic("other", 1), 0);
    let old = world.me;
    world.log.init(ID);
    for batch in [transactional(old, 0, 1), transactional((old.0, 9), 0, 1)] {
        assert_eq!(world.code(&append_transactional(ID, V2, other, batch).into()), 47);
    }
    assert_eq!(world.code(&append(other, produced(old, 0, 1))), 47, "outside of transactions too");
}

#[test]
fn tx_9_an_end_that_is_sent_again_gets_its_answer_and_the_opposite_is_48() {
    for protocol in [V1, V2] {
        for commit in [true, false] {
            let mut world = World::new();
            world.begin(protocol);
            let (end, opposite) = (world.end(protocol, commit), world.end(protocol, !commit));
            let first = world.ok(&end);
            world.log.restart();
            let before = world.log.state.partition(world.at).cloned();
            assert_eq!(world.ok(&end), first);
            assert_eq!(world.code(&opposite), 48);
            assert_eq!(world.log.state.partition(world.at).cloned(), before, "no second marker");
        }
    }
}

#[test]
fn tx_9_an_end_that_is_late_does_not_end_the_next_transaction_by_v2() {
    let mut world = World::new();
    world.begin(V2);
    let end = world.end(V2, true);
    world.finish(V2, true);
    world.begin(V2);
    assert_eq!(world.code(&end), 90);
    assert_eq!(phase_name(&world.entry().phase), "Ongoing");
}

#[test]
fn tx_11_a_marker_has_kafka_s_bytes_and_a_replay_makes_them_again() {
    let mut world = World::new();
    world.begin(V1);
    let replica = world.log.state.clone();
    let end = world.end(V1, true);
    let markers = world.finish(V1, true);
    let mut replica = Log { state: replica, term: 7, time_ms: 1_000, ..Log::default() };
    let again = replica.apply(&end).markers;
    assert_eq!(again, markers);
    let batch = markers[0].batch();
    assert_eq!(again[0].batch(), batch);
    assert!(batch.is_control() && batch.is_transactional());
    assert_eq!((batch.base_offset(), batch.leader_epoch(), batch.len_bytes()), (2, 7, 78));
    let stamp = batch.producer().expect("a marker names its producer");
    assert_eq!((stamp.id, stamp.epoch, stamp.base_sequence), (world.me.0, world.me.1, -1));
    let record = batch.records().next().expect("one record").expect("a whole one");
    assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, 1][..]), "version 0, commit");
    assert_eq!(record.value.as_deref(), Some(&[0, 0, 0, 0, 0, 7][..]), "version 0, coordinator epoch 7");
    assert!(Batch::crc_holds(batch.header(), batch.body()));
    assert_eq!(batch.body()[..4], [32, 0, 0, 0], "16 bytes follow; attributes, both deltas");
}

#[test]
fn tx_14_and_21_offsets_are_pending_until_the_end_and_then_the_group_s() {
    for protocol in [V1, V2] {
        for commit in [true, false] {
            let mut world = World::new();
            world.begin(protocol);
            if protocol == V1 {
                assert_eq!(world.code(&world.offsets(V1, 1).clone()), 120);
                world.ok(&world.add_offsets(V1).clone());
            }
            world.ok(&world.offsets(protocol, 1).clone());
            assert!(world.pending());
            assert_eq!(world.log.state.stable_offset("g", world.at).unwrap_err().kafka_code(), 88);
            assert_eq!(world.log.state.committed_offset("g", world.at), None);
            world.log.restart();
            let committed_at = world.log.state.lsn;
            world.finish(protocol, commit);
            assert!(!world.pending());
            let found = world.log.state.committed_offset("g", world.at);
            let expected = commit.then_some((1, 7, committed_at));
            assert_eq!(found.map(|it| (it.offset, it.leader_epoch, it.lsn)), expected);
            assert_eq!(world.log.state.groups.contains_key("g"), commit);
        }
    }
}

#[test]
fn tx_15_the_last_stable_offset_is_that_of_the_oldest_open_transaction() {
    let mut world = World::new();
    let other = world.log.init("y");
    world.log.append(world.at, records(3));
    assert_eq!(world.lso(), 3);
    world.begin(V1);
    let append_other = append_transactional("y", V2, world.at, transactional(other, 0, 1));
    world.ok(&append_other.into());
    world.log.append(world.at, records(1));
    assert_eq!(world.lso(), 3);
    world.finish(V1, true);
    assert_eq!(world.lso(), 5, "the other one is open");
    let end = Transactional::End { sender: sender("y", other, V2), commit: false };
    world.ok(&end.into());
    assert_eq!((world.lso(), world.log.end(world.at)), (9, 9));
}

#[test]
fn tx_16_aborted_transactions_are_listed_where_they_overlap() {
    let mut world = World::new();
    let first = world.begin(V1);
    world.finish(V1, false);
    world.begin(V1);
    world.finish(V1, true);
    let third = world.begin(V1);
    let end = world.log.end(world.at);
    world.finish(V1, false);
    let state = world.log.state.partition(world.at).expect("it is there");
    let firsts = |list: Vec<AbortedTransaction>| list.iter().map(|it| it.first_offset).collect::<Vec<_>>();
    assert_eq!(firsts(state.aborted_between(0, end + 1)), [first, third]);
    assert_eq!(firsts(state.aborted_between(first + 2, end + 1)), [first, third], "the marker is part of it");
    assert_eq!(firsts(state.aborted_between(first + 3, end + 1)), [third]);
    assert_eq!(firsts(state.aborted_between(0, third)), [first]);
    // Without data there is neither a marker nor an entry.
    let other = part(world.log.topic("other", 1), 0);
    let sender = world.sender(V1);
    world.ok(&Transactional::AddPartitions { sender, partitions: vec![other] }.into());
    assert_eq!(world.finish(V1, false), []);
    assert_eq!(
        (world.log.end(other), world.log.state.partition(other).map(|it| it.aborted.len())),
        (0, Some(0))
    );
    // What is trimmed is forgotten, a range only as a whole.
    for (start, left) in [(first + 2, 2), (first + 3, 1), (end + 1, 0)] {
        world.ok(&Command::Trim { partition: world.at, start });
        let state = world.log.state.partition(world.at).expect("it is there");
        assert_eq!(state.aborted.len(), left, "from {start} on");
    }
}

#[test]
fn tx_18_a_batch_outside_of_the_open_transaction_is_48() {
    let mut world = World::new();
    world.begin(V1);
    let (at, me) = (world.at, world.me);
    assert_eq!(world.code(&append(at, produced(me, 2, 1))), 48);
    assert_eq!(world.code(&append(at, produced(me, 9, 1))), 45, "the window comes first");
    world.finish(V1, true);
    assert_eq!(world.log.append(at, produced(me, 2, 1)), 3);
}

#[test]
fn tx_19_a_timeout_counts_from_the_first_command_and_fences_its_producer() {
    for protocol in [V1, V2] {
        let mut world = World::new();
        world.begin(protocol);
        let deadline = 1_000 + i64::from(TIMEOUT_MS);
        world.log.time_ms = deadline - 1;
        world.ok(&world.append(protocol).clone());
        assert_eq!(world.log.state.next_deadline_ms(), deadline, "what comes later moves nothing");
        world.log.restart();
        assert_eq!(world.log.state.next_deadline_ms(), deadline);
        world.log.time_ms = deadline;
        let Reply::Ticked { transactions, .. } = world.log.reply(&Command::Tick) else { unreachable!() };
        assert_eq!(transactions, 1);
        for command in [world.add(protocol), world.end(protocol, true), world.end(protocol, false)] {
            assert_eq!(world.code(&command), 90);
        }
        assert_eq!(world.code(&world.append(protocol).clone()), 47);
        let again = world.log.identity(init(ID, Some(world.me)));
        assert_eq!(again, (world.me.0, world.me.1 + 1), "it may go on (KIP-588)");
    }
}

#[test]
fn tx_19_a_timeout_beyond_the_bounds_is_50() {
    let mut log = Log::default();
    for timeout_ms in [0, 900_001, u32::MAX] {
        let request =
            Transactional::Init { transactional_id: ID.into(), timeout_ms, current: None, newer_codes: true };
        assert_eq!(log.refused(&request.into()).kafka_code(), 50);
    }
    for transactional_id in [String::new(), "x".repeat(32_768)] {
        assert_eq!(log.refused(&init(&transactional_id, None).into()).kafka_code(), 42);
    }
}

#[test]
fn tx_19_a_timeout_in_the_last_epoch_needs_no_new_id_before_the_next_init() {
    let mut world = World::new();
    while world.me.1 < 32_766 {
        world.me = world.log.identity(init(ID, Some(world.me)));
    }
    let old = world.me;
    world.begin(V2);
    world.log.time_ms += i64::from(TIMEOUT_MS);
    world.log.reply(&Command::Tick);
    assert_eq!((world.entry().producer, world.entry().producer_epoch), (old.0, 32_767));
    let new = world.log.identity(init(ID, Some(old)));
    assert!(new.0 != old.0 && new.1 == 0);
    assert_eq!(world.log.identity(init(ID, Some(old))), new, "the retry gets the same answer");
}

#[test]
fn tx_20_an_id_that_nobody_uses_is_forgotten_but_never_an_open_one() {
    let mut world = World::new();
    world.begin(V1);
    world.finish(V1, true);
    let week_ms = 7 * 86_400_000;
    assert_eq!(world.log.state.next_deadline_ms(), 1_000 + 86_400_000, "first the window goes");
    world.log.time_ms = 1_000 + week_ms - 1;
    world.log.reply(&Command::Tick);
    assert_eq!(world.log.state.next_deadline_ms(), 1_000 + week_ms);
    world.log.time_ms += 1;
    let Reply::Ticked { transactional_ids, .. } = world.log.reply(&Command::Tick) else { unreachable!() };
    assert_eq!(transactional_ids, 1);
    assert_eq!(world.code(&world.add(V1).clone()), 49);
    let new = world.log.identity(init(ID, Some(world.me)));
    assert!(new.0 > world.me.0, "ids are never given out twice");
}

#[test]
fn tx_20_limits_are_settings_and_move_the_deadlines() {
    let mut world = World::new();
    let limits = |timeout_max_ms, id_expiration_ms| {
        Command::Config(ConfigChange::TransactionLimits { timeout_max_ms, id_expiration_ms })
    };
    world.ok(&limits(10, 500));
    assert_eq!(world.log.state.next_deadline_ms(), 1_500);
    assert_eq!(world.code(&init(ID, None).into()), 50);
    for command in [limits(0, 500), limits(1, 0), limits(1, u64::MAX)] {
        assert!(matches!(world.log.refused(&command), Refusal::SettingOutOfBounds { .. }));
    }
}

#[test]
fn tx_21_a_member_commits_in_its_generation_and_only_what_it_owns() {
    let mut world = World::new();
    let member = world.log.join("g", &[world.at.topic]);
    let generation = world.log.state.groups["g"].generation;
    world.log.append(world.at, records(2));
    let request = |world: &World, member, partition| {
        let offsets = vec![offset(partition, 1)];
        let sender = world.sender(V2);
        Command::from(Transactional::CommitOffsets { sender, group: "g".into(), member, offsets })
    };
    let (at, other) = (world.at, part(world.log.topic("other", 1), 0));
    let stale = request(&world, Some((member, generation + 1)), at);
    assert!(matches!(world.log.refused(&stale), Refusal::StaleGeneration { .. }));
    assert_eq!(world.code(&stale), 22);
    let unknown = request(&world, Some((exactlog_core::ids::MemberId(999), generation)), at);
    assert_eq!(world.code(&unknown), 25);
    let foreign = request(&world, Some((member, generation)), other);
    assert_eq!(world.code(&foreign), 22);
    world.ok(&request(&world, Some((member, generation)), at).clone());
    // Without a member it is taken as in Kafka.
    world.ok(&request(&world, None, at).clone());
}

#[test]
fn tx_22_of_plain_and_transactional_commits_the_later_one_counts() {
    for plain_last in [true, false] {
        let mut world = World::new();
        world.log.append(world.at, records(9));
        let plain = commit_offsets("g", None, &[offset(world.at, 5)]);
        if !plain_last {
            world.ok(&plain);
        }
        world.ok(&world.offsets(V2, 7).clone());
        if plain_last {
            world.ok(&plain);
        }
        world.finish(V2, true);
        let found = world.log.state.committed_offset("g", world.at).map(|it| it.offset);
        assert_eq!(found, Some(if plain_last { 5 } else { 7 }));
    }
}

#[test]
fn tx_14_what_stands_beside_a_pending_offset_counts_when_its_transaction_commits() {
    for commit in [true, false] {
        let mut world = World::new();
        world.log.append(world.at, records(9));
        let (at, sender) = (world.at, world.sender(V2));
        let with = |text: &str, to| OffsetCommit { metadata: text.into(), ..offset(at, to) };
        world.ok(&commit_offsets("g", None, &[with("before", 5)]));
        let request = |offsets| {
            let (sender, group) = (sender.clone(), "g".into());
            Command::from(Transactional::CommitOffsets { sender, group, member: None, offsets })
        };
        let over = request(vec![with(&"m".repeat(4_097), 7)]);
        let (pending, found) = (request(vec![with("pending", 7)]), with("before", 5));
        assert!(matches!(world.log.refused(&over), Refusal::OffsetMetadataTooLarge { bytes: 4_097, .. }));
        world.ok(&pending);
        let text = |world: &World| {
            let found = world.log.state.committed_offset("g", world.at).unwrap();
            (found.offset, found.metadata.clone())
        };
        world.log.restart();
        assert_eq!(text(&world), (found.offset, found.metadata.clone()));
        world.finish(V2, commit);
        assert_eq!(text(&world), if commit { (7, "pending".into()) } else { (5, found.metadata) });
    }
}

#[test]
fn tx_22_two_transactions_never_move_an_offset_back_between_them() {
    let mut world = World::new();
    world.log.append(world.at, records(9));
    let other = world.log.init("y");
    world.ok(&world.offsets(V2, 7).clone());
    let mut request = Transactional::CommitOffsets {
        sender: sender("y", other, V2),
        group: "g".into(),
        member: None,
        offsets: vec![offset(world.at, 6)],
    };
    assert!(matches!(world.log.refused(&request.clone().into()), Refusal::OffsetRegress { .. }));
    if let Transactional::CommitOffsets { offsets, .. } = &mut request {
        offsets[0].reset = true;
    }
    world.ok(&request.into());
}

#[test]
fn tx_27_an_end_from_an_older_connection_than_the_last_request_is_refused_by_v1() {
    let mut world = World::new();
    let on = |world: &World, connection, protocol| TransactionSender { connection, ..world.sender(protocol) };
    let sender = on(&world, 4, V1);
    world.ok(&Transactional::AddPartitions { sender, partitions: vec![world.at] }.into());
    world.ok(&world.append(V1).clone());
    let end = |sender| Command::from(Transactional::End { sender, commit: true });
    assert_eq!(world.code(&end(on(&world, 3, V1))), 47);
    // 0: nobody looks.
    let mut unguarded = world.log.clone();
    unguarded.reply(&end(on(&world, 0, V1)));
    assert_eq!(unguarded.state.open_transactions().count(), 0);
    world.ok(&end(on(&world, 4, V1)));
}

#[test]
fn tx_26_open_transactions_are_listed_with_their_start() {
    let mut world = World::new();
    assert_eq!(world.log.state.open_transactions().count(), 0);
    world.begin(V2);
    let open: Vec<_> = world
        .log
        .state
        .open_transactions()
        .map(|(id, it)| (id, it.started_ms, it.partitions.len()))
        .collect();
    assert_eq!(open, [(ID, 1_000, 1)]);
}

#[test]
fn id_2_a_window_knows_the_transactions_of_its_batches_and_the_last_coordinator() {
    let mut world = World::new();
    world.begin(V1);
    let txn_seq = world.entry().transaction().map(|it| it.txn_seq);
    let window = |world: &World| world.log.state.partition(world.at).unwrap().producers[&world.me.0].clone();
    assert_eq!(window(&world).batches.iter().map(|it| Some(it.txn_seq)).collect::<Vec<_>>(), [txn_seq]);
    let open = world.log.state.partition(world.at).unwrap().open[&world.me.0];
    assert_eq!((Some(open.txn_seq), open.first_offset), (txn_seq, 0));
    assert_eq!(window(&world).coordinator_epoch, None);
    world.finish(V1, true);
    world.log.restart();
    assert_eq!(window(&world).coordinator_epoch, Some(7));
}

#[test]
fn id_12_a_window_does_not_expire_while_its_transaction_is_open() {
    let mut world = World::new();
    let limits = ConfigChange::TransactionLimits { timeout_max_ms: u32::MAX, id_expiration_ms: 1 << 40 };
    world.ok(&Command::Config(limits));
    let request = Transactional::Init {
        transactional_id: ID.into(),
        timeout_ms: u32::MAX,
        current: None,
        newer_codes: true,
    };
    world.me = world.log.identity(request);
    world.begin(V1);
    world.log.time_ms += 2 * 86_400_000;
    assert_eq!(world.log.reply(&Command::Tick), ticked(0, 0));
    world.finish(V1, true);
    assert!(world.log.state.next_deadline_ms() <= world.log.time_ms, "it is due now");
    assert_eq!(world.log.reply(&Command::Tick), ticked(1, 0));
}

#[test]
fn id_15_transactions_without_a_batch_survive_a_restart() {
    let mut world = World::new();
    world.ok(&world.add(V1).clone());
    world.log.restart();
    assert_eq!(phase_name(&world.entry().phase), "Ongoing");
    assert_eq!(world.finish(V1, true), []);
}

#[test]
fn id_18_a_hit_of_an_aborted_transaction_is_45_and_of_a_committed_one_a_duplicate() {
    for commit in [true, false] {
        let mut world = World::new();
        let again = world.append(V1);
        world.begin(V1);
        let reply = world.ok(&again);
        assert!(matches!(reply, Reply::Appended { duplicate: true, base_offset: 0, .. }), "still open");
        world.finish(V1, commit);
        world.ok(&world.add(V1).clone());
        world.ok(&Command::Trim { partition: world.at, start: 3 });
        match commit {
            true => assert!(matches!(world.ok(&again), Reply::Appended { duplicate: true, .. })),
            false => assert_eq!(world.code(&again), 45),
        }
    }
}

#[test]
fn a_topic_that_is_deleted_leaves_the_transaction_and_its_offsets() {
    let mut world = World::new();
    let other = part(world.log.topic("other", 1), 0);
    world.begin(V2);
    world.ok(&append_transactional(ID, V2, other, transactional(world.me, 0, 1)).into());
    world.ok(&world.offsets(V2, 1).clone());
    world.ok(&Command::DeleteTopic { topic: world.at.topic });
    let markers = world.finish(V2, true);
    assert_eq!(markers.iter().map(|it| it.partition).collect::<Vec<_>>(), [other]);
    assert!(!world.log.state.groups.contains_key("g"));
}

#[test]
fn batches_that_say_something_else_than_the_command_are_refused() {
    let mut world = World::new();
    world.begin(V2);
    let (at, me) = (world.at, world.me);
    let plain = append_transactional(ID, V2, at, produced(me, 2, 1));
    let anonymous = changed(&records(1), |header| {
        header[ATTRIBUTES_AT..][..2].copy_from_slice(&TRANSACTIONAL.to_be_bytes());
    });
    let control = changed(&transactional(me, 2, 1), |header| {
        header[ATTRIBUTES_AT..][..2].copy_from_slice(&(TRANSACTIONAL | CONTROL).to_be_bytes());
    });
    for request in
        [plain, append_transactional(ID, V2, at, anonymous), append_transactional(ID, V2, at, control)]
    {
        assert_eq!(world.code(&request.into()), 87);
    }
    assert_eq!(world.code(&append(at, transactional(me, 2, 1))), 87, "an Append carries no transaction");
}
