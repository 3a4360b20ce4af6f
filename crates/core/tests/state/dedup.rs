//! Ids of events: each has its effects once within its window (semantics EM-7, EM-8, ID-11).

use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::error_code::*;
use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};
use exactlog_core::reply::{Refusal, Reply, Seen, SeenEvent, Sighting};

const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
const HOUR_MS: i64 = 3600 * 1000;
const LEASE_MS: u64 = 60_000;

fn id(number: u64) -> DedupId {
    DedupId(u128::from(number).to_be_bytes())
}

fn named(scope: &str) -> DedupScope {
    DedupScope::Named(scope.to_string())
}

fn reserve(number: u64) -> Command {
    Dedup::Reserve { scope: "s".into(), id: id(number), lease_ms: LEASE_MS }.into()
}

fn finish(number: u64, reservation: u64) -> Command {
    Dedup::Finish { scope: "s".into(), id: id(number), reservation }.into()
}

fn release(number: u64, reservation: u64) -> Command {
    Dedup::Release { scope: "s".into(), id: id(number), reservation }.into()
}

fn mark(scope: &str, number: u64) -> Mark {
    Mark::Named { scope: scope.into(), id: id(number), reservation: None }
}

fn limits(ttl_ms: u64, entries_max: u64, at_cap: AtCap) -> Command {
    Command::Config(ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap })
}

/// A log with a topic of two partitions and a producer.
struct World {
    log: Log,
    topic: TopicId,
    producer: (ProducerId, i16),
    commits: u64,
}

impl World {
    fn new() -> World {
        let mut log = Log { time_ms: 1_700_000_000_000, ..Log::default() };
        let (topic, producer) = (log.topic("t", 2), log.producer(Some("p")));
        World { log, topic, producer, commits: 0 }
    }

    fn at(&self, index: u32) -> Partition {
        part(self.topic, index)
    }

    fn identified(&self, index: u32, numbers: &[u64]) -> Command {
        let ids = numbers.iter().map(|number| id(*number)).collect();
        let (partition, batch) = (self.at(index), records(numbers.len() as u32));
        Dedup::Append { sender: self.producer, partition, config_version: 0, ids, batch }.into()
    }

    /// The next commit: a batch for each of the partitions, and marks.
    fn commit(&mut self, partitions: &[u32], marks: Vec<Mark>) -> Reply {
        let batches: Vec<_> = partitions.iter().map(|index| (self.at(*index), 3)).collect();
        let commit = Commit { marks, ..commit_of(token(self.producer, self.commits + 1), &batches) };
        let reply = self.log.reply(&Command::Commit(Box::new(commit)));
        self.commits += u64::from(matches!(reply, Reply::Committed(_)));
        reply
    }

    fn commit_refused(&mut self, partitions: &[u32], marks: Vec<Mark>) -> Refusal {
        match self.commit(partitions, marks) {
            Reply::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn forget(&mut self, scope: DedupScope, number: u64) -> Reply {
        self.log.reply(&Dedup::Forget { scope, id: id(number) }.into())
    }

    fn reserve(&mut self, number: u64) -> u64 {
        match self.log.reply(&reserve(number)) {
            Reply::Reserved { reservation, .. } => reservation,
            other => panic!("{other:?}"),
        }
    }

    fn seen(&self, number: u64) -> Seen {
        self.log.seen(&named("s"), id(number))
    }

    fn seen_event(&self, number: u64) -> Seen {
        self.log.seen(&DedupScope::Topic(self.topic), id(number))
    }

    fn tick_at(&mut self, time_ms: i64) {
        self.log.time_ms = time_ms;
        self.log.reply(&Command::Tick);
    }
}

#[test]
fn em_7_a_second_commit_with_the_id_is_refused_with_the_first_one_s_position_and_applies_nothing() {
    let mut world = World::new();
    let Reply::Committed(first) = world.commit(&[0], vec![mark("s", 1), mark("other", 1)]) else { panic!() };
    for restarts in [false, true] {
        if restarts {
            world.log.restart();
        }
        let refusal = world.commit_refused(&[0, 1], vec![mark("s", 2), mark("s", 1)]);
        let sighting = Sighting::Command { lsn: first.lsn };
        assert_eq!(refusal, Refusal::EventSeen { scope: named("s"), id: id(1), sighting });
        assert_eq!(refusal.kafka_code(), DUPLICATE_SEQUENCE_NUMBER);
        assert_eq!(world.seen(2), Seen::Absent, "no mark of a refused commit stays");
        assert_eq!((world.log.end(world.at(0)), world.log.end(world.at(1))), (3, 0));
    }
    assert!(
        matches!(world.commit(&[1], vec![mark("s", 2)]), Reply::Committed(_)),
        "the token was not used up"
    );
}

#[test]
fn em_7_an_id_that_is_forgotten_has_its_effects_once_more_and_the_others_are_known() {
    let mut world = World::new();
    let topic = DedupScope::Topic(world.topic);
    let Reply::Committed(first) = world.commit(&[], vec![mark("s", 1), mark("s", 2)]) else { panic!() };
    // More than a chunk: the first one has a gap then.
    let numbers: Vec<u64> = (0..1_500).collect();
    world.log.reply(&world.identified(0, &numbers));
    assert_eq!(world.forget(named("nowhere"), 1), Reply::Forgotten { sighting: None });
    assert_eq!(world.forget(named("s"), 9), Reply::Forgotten { sighting: None });
    let sighting = Some(Sighting::Command { lsn: first.lsn });
    assert_eq!(world.forget(named("s"), 1), Reply::Forgotten { sighting });
    let sighting = Some(Sighting::Record { partition: world.at(0), offset: 3 });
    assert_eq!(world.forget(topic.clone(), 3), Reply::Forgotten { sighting });
    assert_eq!(world.forget(topic, 3), Reply::Forgotten { sighting: None });
    for restarts in [false, true] {
        if restarts {
            world.log.restart();
        }
        assert_eq!((world.seen(1), world.seen_event(3)), (Seen::Absent, Seen::Absent));
        assert!(matches!((world.seen(2), world.seen_event(4)), (Seen::Done(_), Seen::Done(_))));
        assert_eq!(world.log.state.dedup.marked(), 1_500);
    }
    assert!(matches!(world.commit(&[], vec![mark("s", 1)]), Reply::Committed(_)));
    assert!(matches!(world.log.reply(&world.identified(1, &[3])), Reply::Appended { base_offset: 0, .. }));
    let Seen::Done(Sighting::Record { partition, .. }) = world.seen_event(3) else { panic!() };
    assert_eq!(partition, world.at(1));
    world.commit_refused(&[], vec![mark("s", 1)]);
    // All of it goes when its time comes, and not before.
    world.tick_at(1_700_000_000_000 + WEEK_MS - 1);
    assert_eq!(world.log.state.dedup.marked(), 1_502);
    world.tick_at(1_700_000_000_000 + WEEK_MS + HOUR_MS);
    assert_eq!(world.log.state.dedup.marked(), 0);
}

#[test]
fn em_8_an_id_that_somebody_works_on_is_not_forgotten() {
    let mut world = World::new();
    let reservation = world.reserve(1);
    let refusal = world.log.refused(&Dedup::Forget { scope: named("s"), id: id(1) }.into());
    assert!(matches!(refusal, Refusal::EventReserved { reservation: found, .. } if found == reservation));
    assert_eq!(world.log.reply(&finish(1, reservation)), Reply::Finished);
    let sighting = Some(Sighting::Command { lsn: reservation });
    assert_eq!(world.forget(named("s"), 1), Reply::Forgotten { sighting });
    // What its owner says later finds neither the mark nor the reservation.
    let refusal = world.log.refused(&finish(1, reservation));
    assert!(matches!(refusal, Refusal::ReservationLapsed { .. }), "{refusal}");
    let next = world.reserve(1);
    assert!(next > reservation);
    // A lease that is over is nobody's.
    world.log.time_ms += LEASE_MS as i64;
    assert_eq!(world.forget(named("s"), 1), Reply::Forgotten { sighting: None });
}

#[test]
fn em_7_a_commit_that_is_refused_for_another_reason_leaves_its_id_free() {
    let mut world = World::new();
    let refusal = world.commit_refused(&[7], vec![mark("s", 1)]);
    assert!(matches!(refusal, Refusal::UnknownPartition { .. }), "{refusal}");
    assert_eq!(world.seen(1), Seen::Absent);
    assert!(matches!(world.commit(&[0], vec![mark("s", 1)]), Reply::Committed(_)));
}

#[test]
fn em_7_the_retry_of_a_commit_gets_its_first_reply_and_not_that_its_id_was_seen() {
    let mut world = World::new();
    let Reply::Committed(first) = world.commit(&[0], vec![mark("s", 1)]) else { panic!() };
    world.commits -= 1;
    let Reply::Committed(again) = world.commit(&[0], vec![mark("s", 1)]) else { panic!() };
    assert_eq!((again.lsn, again.duplicate), (first.lsn, true));
}

#[test]
fn em_7_a_mark_stays_for_the_whole_week_and_goes_with_its_hour() {
    let mut world = World::new();
    world.commit(&[0], vec![mark("s", 1)]);
    let marked_ms = world.log.time_ms;
    world.tick_at(marked_ms + WEEK_MS - 1);
    assert_ne!(world.seen(1), Seen::Absent, "a millisecond before the week is over");
    let deadline_ms = world.log.state.next_deadline_ms();
    assert!((marked_ms + WEEK_MS..marked_ms + WEEK_MS + HOUR_MS).contains(&deadline_ms));
    world.log.time_ms = deadline_ms;
    assert!(
        matches!(world.commit_refused(&[], vec![mark("s", 1)]), Refusal::EventSeen { .. }),
        "by a tick only"
    );
    world.tick_at(deadline_ms);
    assert_eq!(world.seen(1), Seen::Absent);
    assert!(matches!(world.commit(&[], vec![mark("s", 1)]), Reply::Committed(_)));
    assert_eq!(world.log.state.next_deadline_ms(), deadline_ms + WEEK_MS, "it counts anew");
}

#[test]
fn em_7_another_ttl_counts_for_what_is_marked_from_then_on() {
    let mut world = World::new();
    world.commit(&[], vec![mark("s", 1)]);
    world.log.reply(&limits(1000, 10, AtCap::Refuse));
    world.commit(&[], vec![mark("s", 2)]);
    world.tick_at(world.log.time_ms + 1010);
    assert_eq!(world.seen(2), Seen::Absent);
    assert_ne!(world.seen(1), Seen::Absent);
    for (ttl_ms, entries_max, setting) in [(0, 1, "dedup.ttl.ms"), (1, 0, "dedup.entries.max")] {
        let refusal = world.log.refused(&limits(ttl_ms, entries_max, AtCap::Refuse));
        assert!(refusal.to_string().contains(setting), "{refusal}");
    }
}

#[test]
fn em_7_an_id_twice_in_one_commit_and_a_mark_of_no_record_are_refused() {
    let mut world = World::new();
    let twice = world.commit_refused(&[0], vec![mark("s", 1), mark("s", 1)]);
    assert_eq!(twice, Refusal::EventTwice { scope: named("s"), id: id(1) });
    for (batch, record) in [(0, 3), (1, 0), (u32::MAX, u32::MAX)] {
        let none = world.commit_refused(&[0], vec![Mark::Event { id: id(1), batch, record }]);
        assert_eq!(none, Refusal::MarkWithoutRecord { batch, record });
    }
    assert!(matches!(world.commit_refused(&[], vec![mark("a b", 1)]), Refusal::IllegalName { .. }));
}

#[test]
fn an_event_that_is_sent_again_is_refused_with_the_place_of_its_original() {
    let mut world = World::new();
    world.log.append(world.at(1), records(5));
    assert!(matches!(world.log.reply(&world.identified(1, &[1, 2])), Reply::Appended { base_offset: 5, .. }));
    // In another partition, and in a commit: the scope is the topic.
    let Refusal::EventsSeen { seen } = world.log.refused(&world.identified(0, &[3, 2, 4, 1])) else {
        panic!()
    };
    let partition = world.at(1);
    let place = |offset| Sighting::Record { partition, offset };
    let wanted = [SeenEvent { index: 1, sighting: place(6) }, SeenEvent { index: 3, sighting: place(5) }];
    assert_eq!(seen, wanted);
    assert_eq!(world.seen_event(3), Seen::Absent);
    let refusal = world.commit_refused(&[0], vec![Mark::Event { id: id(2), batch: 0, record: 0 }]);
    assert!(matches!(refusal, Refusal::EventSeen { sighting, .. } if sighting == place(6)), "{refusal}");
    world.log.restart();
    let marks = vec![Mark::Event { id: id(5), batch: 1, record: 2 }];
    assert!(matches!(world.commit(&[0, 1], marks), Reply::Committed(_)));
    assert_eq!(world.seen_event(5), Seen::Done(place(7 + 2)));
    assert!(matches!(world.log.refused(&world.identified(1, &[5])), Refusal::EventsSeen { .. }));
}

#[test]
fn an_identified_append_is_checked_like_others() {
    let mut world = World::new();
    let with = |change: &dyn Fn(&mut Dedup)| {
        let Command::Dedup(mut request) = world.identified(0, &[1, 2]) else { unreachable!() };
        change(&mut request);
        Command::Dedup(request)
    };
    let at_version = with(&|request| match request {
        Dedup::Append { config_version, .. } => *config_version = 1,
        _ => unreachable!(),
    });
    let too_few = with(&|request| match request {
        Dedup::Append { ids, .. } => ids.truncate(1),
        _ => unreachable!(),
    });
    let twice = with(&|request| match request {
        Dedup::Append { ids, .. } => ids[1] = ids[0],
        _ => unreachable!(),
    });
    let stamped = with(&|request| match request {
        Dedup::Append { batch, .. } => *batch = produced((ProducerId(1), 0), 0, 2),
        _ => unreachable!(),
    });
    let nobody = with(&|request| match request {
        Dedup::Append { sender, .. } => sender.0 = ProducerId(99),
        _ => unreachable!(),
    });
    let fenced = world.identified(0, &[1, 2]);
    assert!(matches!(world.log.refused(&at_version), Refusal::ConfigChanged { .. }));
    for wrong in [too_few, twice, stamped] {
        assert!(matches!(world.log.refused(&wrong), Refusal::Batch { .. }), "{wrong:?}");
    }
    assert!(matches!(world.log.refused(&nobody), Refusal::UnknownProducer { .. }));
    world.producer = world.log.producer(Some("p"));
    assert!(matches!(world.log.refused(&fenced), Refusal::ProducerFenced { .. }));
    assert!(matches!(world.log.reply(&world.identified(0, &[1, 2])), Reply::Appended { .. }));
}

#[test]
fn em_8_of_two_copies_one_runs_and_the_other_is_told_that_it_is_in_progress_and_then_done() {
    let mut world = World::new();
    let reservation = world.reserve(1);
    let until_ms = world.log.time_ms + LEASE_MS as i64;
    let refusal = world.log.refused(&reserve(1));
    assert_eq!(refusal, Refusal::EventReserved { scope: named("s"), id: id(1), reservation, until_ms });
    assert_eq!(refusal.kafka_code(), REQUEST_TIMED_OUT);
    assert!(matches!(world.commit_refused(&[], vec![mark("s", 1)]), Refusal::EventReserved { .. }));
    world.log.restart();
    assert_eq!(world.seen(1), Seen::Reserved { reservation, until_ms });
    assert_eq!(world.log.reply(&finish(1, reservation)), Reply::Finished);
    assert_eq!(world.log.reply(&finish(1, reservation)), Reply::Finished, "whose answer was lost");
    let sighting = Sighting::Command { lsn: reservation };
    assert_eq!(world.log.refused(&reserve(1)), Refusal::EventSeen { scope: named("s"), id: id(1), sighting });
    assert_eq!(world.log.state.next_deadline_ms() / HOUR_MS, (world.log.time_ms + WEEK_MS) / HOUR_MS + 1);
}

#[test]
fn em_8_a_failure_releases_at_once_and_the_next_copy_runs() {
    let mut world = World::new();
    let first = world.reserve(1);
    assert_eq!(world.log.reply(&release(1, first)), Reply::Released);
    let second = world.reserve(1);
    assert!(matches!(world.log.refused(&release(1, first)), Refusal::ReservationLapsed { .. }));
    assert!(matches!(world.log.refused(&finish(1, first)), Refusal::ReservationLapsed { .. }));
    assert_eq!(world.log.reply(&finish(1, second)), Reply::Finished);
    assert!(matches!(world.log.refused(&release(1, second)), Refusal::ReservationLapsed { .. }));
}

#[test]
fn em_8_a_lease_that_is_over_lets_the_redelivery_run_and_fences_its_owner() {
    for ticks in [false, true] {
        let mut world = World::new();
        let first = world.reserve(1);
        let until_ms = world.log.state.next_deadline_ms();
        assert_eq!(until_ms, world.log.time_ms + LEASE_MS as i64);
        world.tick_at(until_ms - 1);
        assert!(matches!(world.seen(1), Seen::Reserved { .. }));
        world.log.time_ms = until_ms;
        if ticks {
            world.tick_at(until_ms);
            assert_eq!(world.log.state.dedup.reserved(), 0);
        }
        assert!(matches!(world.log.refused(&finish(1, first)), Refusal::ReservationLapsed { .. }));
        assert!(matches!(world.log.refused(&release(1, first)), Refusal::ReservationLapsed { .. }));
        let second = world.reserve(1);
        assert!(matches!(world.log.refused(&finish(1, first)), Refusal::ReservationLapsed { .. }));
        assert_eq!(world.log.state.next_deadline_ms(), until_ms + LEASE_MS as i64);
        assert_eq!(world.log.reply(&finish(1, second)), Reply::Finished);
        assert_eq!(world.log.state.dedup.reserved(), 0);
    }
}

#[test]
fn em_8_a_commit_finishes_a_reservation_with_its_effects_or_not_at_all() {
    let mut world = World::new();
    let reservation = world.reserve(1);
    let held = |reservation| Mark::Named { scope: "s".into(), id: id(1), reservation: Some(reservation) };
    assert!(matches!(
        world.commit_refused(&[0], vec![held(reservation + 1)]),
        Refusal::ReservationLapsed { .. }
    ));
    assert!(matches!(world.commit_refused(&[9], vec![held(reservation)]), Refusal::UnknownPartition { .. }));
    assert!(matches!(world.seen(1), Seen::Reserved { .. }));
    let Reply::Committed(committed) = world.commit(&[0], vec![held(reservation)]) else { panic!() };
    assert_eq!(world.seen(1), Seen::Done(Sighting::Command { lsn: committed.lsn }));
    assert!(matches!(world.commit_refused(&[0], vec![held(reservation)]), Refusal::EventSeen { .. }));
    let lapsed = world.reserve(2);
    world.log.time_ms += LEASE_MS as i64;
    let late = Mark::Named { scope: "s".into(), id: id(2), reservation: Some(lapsed) };
    assert!(matches!(world.commit_refused(&[0], vec![late]), Refusal::ReservationLapsed { .. }));
    assert!(
        matches!(world.commit(&[0], vec![mark("s", 2)]), Reply::Committed(_)),
        "nobody holds it any more"
    );
    assert_eq!(world.log.state.dedup.reserved(), 0);
}

#[test]
fn em_8_leases_have_bounds() {
    let mut world = World::new();
    for lease_ms in [0, LEASE_MS_MAX + 1, u64::MAX] {
        let request = Dedup::Reserve { scope: "s".into(), id: id(1), lease_ms };
        let refusal = world.log.refused(&request.into());
        assert!(matches!(refusal, Refusal::SettingOutOfBounds { setting: "dedup.lease.ms", .. }));
    }
    let nameless = Dedup::Reserve { scope: String::new(), id: id(1), lease_ms: 1 };
    assert!(matches!(world.log.refused(&nameless.into()), Refusal::IllegalName { .. }));
}

#[test]
fn at_the_cap_new_ids_are_refused_and_what_needs_no_room_goes_on() {
    let mut world = World::new();
    world.log.reply(&limits(WEEK_MS as u64, 3, AtCap::Refuse));
    world.log.reply(&world.identified(0, &[1, 2]));
    let reservation = world.reserve(3);
    let full = Refusal::DedupFull { entries: 3, more: 1, max: 3 };
    assert_eq!(full.kafka_code(), POLICY_VIOLATION);
    assert_eq!(world.log.refused(&reserve(4)), full);
    assert_eq!(world.log.refused(&world.identified(0, &[4])), full);
    assert_eq!(world.commit_refused(&[0], vec![mark("s", 4)]), full);
    assert!(matches!(world.log.refused(&world.identified(0, &[1])), Refusal::EventsSeen { .. }));
    assert_eq!(world.log.reply(&finish(3, reservation)), Reply::Finished);
    world.log.reply(&limits(WEEK_MS as u64, 1, AtCap::Refuse));
    assert!(matches!(world.commit(&[0], vec![]), Reply::Committed(_)), "it marks nothing");
    assert_eq!(world.log.state.dedup.marked(), 3, "a lower cap takes nothing away");
    assert_eq!(world.log.state.dedup.complete_since_ms(), i64::MIN);
}

#[test]
fn at_the_cap_the_window_may_get_shorter_and_says_since_when_it_is_whole() {
    let mut world = World::new();
    world.log.reply(&limits(WEEK_MS as u64, 3, AtCap::Shorten));
    let began_ms = world.log.time_ms;
    for number in 1..=3 {
        world.log.reply(&world.identified(0, &[number]));
        world.log.time_ms += HOUR_MS;
    }
    assert_eq!(world.log.state.dedup.complete_since_ms(), i64::MIN);
    world.log.reply(&world.identified(0, &[4]));
    assert_eq!(world.seen_event(1), Seen::Absent);
    assert!((2..=4).all(|number| world.seen_event(number) != Seen::Absent));
    assert_eq!(world.log.state.dedup.complete_since_ms(), began_ms, "what was marked behind it is known");
    world.log.restart();
    world.reserve(5);
    assert_eq!(world.seen_event(2), Seen::Absent);
    assert_eq!(world.log.state.dedup.complete_since_ms(), began_ms + HOUR_MS);
    // Reservations are never given up.
    let refusal = world.log.refused(&world.identified(0, &[6, 7, 8]));
    assert_eq!(refusal, Refusal::DedupFull { entries: 1, more: 3, max: 3 });
}

#[test]
fn a_tick_gives_up_so_many_marks_at_once_and_the_rest_is_due_at_once() {
    const MARKS: u64 = 70_000;
    let mut world = World::new();
    for first in (0..MARKS).step_by(1000) {
        world.log.reply(&world.identified(0, &(first..first + 1000).collect::<Vec<_>>()));
    }
    let deadline_ms = world.log.state.next_deadline_ms();
    world.tick_at(deadline_ms);
    assert_eq!(world.log.state.dedup.marked(), MARKS - 65_536);
    assert_eq!(world.log.state.next_deadline_ms(), deadline_ms);
    let before = world.log.state.clone();
    world.log.restart();
    assert_eq!(world.log.state, before);
    world.tick_at(deadline_ms);
    assert_eq!((world.log.state.dedup.marked(), world.log.state.next_deadline_ms() > deadline_ms), (0, true));
}

#[test]
fn a_scope_goes_with_its_last_id_and_scopes_never_meet() {
    let mut world = World::new();
    for round in 0..3u64 {
        for scope in ["a", "b", "c"] {
            assert!(
                matches!(world.commit(&[], vec![mark(scope, 1)]), Reply::Committed(_)),
                "{scope} {round}"
            );
        }
        assert!(matches!(world.commit_refused(&[], vec![mark("b", 1)]), Refusal::EventSeen { .. }));
        world.log.restart();
        world.tick_at(world.log.state.next_deadline_ms());
        let new = Log { time_ms: world.log.time_ms, ..Log::default() };
        assert_eq!(world.log.state.dedup, new.state.dedup, "as if nothing had ever been marked");
    }
}

#[test]
fn the_key_for_hashes_is_set_once() {
    let mut world = World::new();
    assert_eq!(world.log.state.dedup.key(), None);
    for key in [[1; 16], [2; 16]] {
        assert_eq!(world.log.reply(&Command::Config(ConfigChange::DedupKey { key })), Reply::Configured);
        world.log.restart();
        assert_eq!(world.log.state.dedup.key(), Some([1; 16]));
    }
}

#[test]
fn parts_of_a_checkpoint_that_contradict_each_other_are_refused() {
    let mut world = World::new();
    world.commit(&[], vec![mark("s", 1)]);
    let pieces: Vec<_> = world.log.state.dedup.pieces().collect();
    assert_eq!(pieces.len(), 2);
    let mut twice = world.log.state.dedup.clone();
    for piece in pieces {
        assert!(twice.restore(piece).is_err());
    }
}

/// Alone in its process: `cargo test -p exactlog-core --test state memory_of_an_id -- --ignored --nocapture`.
#[test]
#[ignore = "measures the whole process, which other tests share"]
fn memory_of_an_id() {
    const IDS: u64 = 1_000_000;
    let resident_bytes = || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("this is measured on Linux");
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("the second number is the resident set") * 4096
    };
    let mut world = World::new();
    let before = resident_bytes();
    // As hashes are: no two of them near each other.
    let scattered = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    for first in (0..IDS).step_by(1000) {
        let numbers: Vec<u64> = (first..first + 1000).map(scattered).collect();
        assert!(matches!(
            world
                .log
                .state
                .apply(
                    exactlog_core::state::At {
                        lsn: world.log.state.lsn + 1,
                        term: 1,
                        time_ms: world.log.time_ms
                    },
                    &world.identified(0, &numbers),
                )
                .reply,
            Reply::Appended { .. }
        ));
    }
    let each = (resident_bytes() - before) as f64 / IDS as f64;
    println!("{IDS} ids, {each:.1} bytes each");
    assert!(each < 128.0, "{each}");
}
