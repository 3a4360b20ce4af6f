//! Marks on disk: nothing that anybody asks is answered otherwise than if they were in memory (OA-9, EM-7, EM-8).

use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::ids::{DedupId, ProducerId, TopicId};
use exactlog_core::reply::{Refusal, Reply, Seen};
use exactlog_core::state::{Answers, RUNS_OF_A_BUCKET_MAX, RunSource};
use proptest::prelude::*;

const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
const HOUR_MS: i64 = 3600 * 1000;

fn id(number: u64) -> DedupId {
    DedupId(u128::from(number).to_be_bytes())
}

fn named(scope: &str) -> DedupScope {
    DedupScope::Named(scope.to_string())
}

/// A log with a topic and a producer.
#[derive(Clone)]
struct World {
    log: Log,
    topic: TopicId,
    producer: (ProducerId, i16),
    commits: u64,
}

impl World {
    fn new() -> World {
        let mut log = Log { time_ms: 1_700_000_000_000, ..Log::default() };
        let (topic, producer) = (log.topic("t", 1), log.producer(Some("p")));
        World { log, topic, producer, commits: 0 }
    }

    fn send(&mut self, numbers: std::ops::Range<u64>) -> Reply {
        let ids: Vec<_> = numbers.map(id).collect();
        let (partition, batch) = (part(self.topic, 0), records(ids.len() as u32));
        let command =
            Dedup::Append { sender: self.producer, partition, config_version: 0, ids, batch }.into();
        self.log.reply(&command)
    }

    fn commit(&mut self, scope: &str, number: u64) -> Reply {
        let marks = vec![Mark::Named { scope: scope.into(), id: id(number), reservation: None }];
        let commit = Commit { marks, ..commit_of(token(self.producer, self.commits + 1), &[]) };
        let reply = self.log.reply(&Command::Commit(Box::new(commit)));
        self.commits += u64::from(matches!(reply, Reply::Committed(_)));
        reply
    }

    fn forget(&mut self, scope: &DedupScope, number: u64) -> Reply {
        self.log.reply(&Dedup::Forget { scope: scope.clone(), id: id(number) }.into())
    }

    fn ready(&self, memory_max: u64) -> RunReady {
        self.log.state.due_run(memory_max).expect("a run is due")
    }

    fn take(&mut self, ready: &RunReady) -> Reply {
        self.log.reply(&Dedup::RunReady(ready.clone()).into())
    }

    /// Makes all runs that are due; how many.
    fn roll(&mut self, memory_max: u64) -> usize {
        let mut made = 0;
        while let Some(ready) = self.log.state.due_run(memory_max) {
            assert_eq!(self.take(&ready), Reply::RunTaken { entries: ready.entries });
            made += 1;
        }
        made
    }

    fn tick_at(&mut self, time_ms: i64) {
        self.log.time_ms = time_ms;
        self.log.reply(&Command::Tick);
    }

    fn runs(&self) -> Vec<(i64, u64, u64)> {
        self.log.state.dedup.runs().runs().map(|(end_ms, run)| (end_ms, run.id, run.entries)).collect()
    }
}

#[test]
fn oa_9_a_mark_that_a_run_has_is_asked_for_and_one_in_memory_is_not() {
    let mut world = World::new();
    let topic = DedupScope::Topic(world.topic);
    world.send(0..3_000);
    assert_eq!(world.log.state.question(&topic, id(5)), None, "without runs nothing is asked");
    assert_eq!(world.roll(2_000), 1, "the whole chunks; the one that still grows stays");
    let dedup = &world.log.state.dedup;
    assert_eq!((dedup.marked(), dedup.in_memory(), dedup.runs().entries()), (3_000, 952, 2_048));
    assert!(world.log.state.question(&topic, id(5)).is_some(), "the run has it");
    assert!(world.log.state.question(&topic, id(9_000)).is_some(), "only the run knows that it hasn't");
    assert_eq!(world.log.state.question(&topic, id(2_999)), None, "it is in memory");
    assert_eq!(world.log.state.question(&named("s"), id(5)), None, "no id was ever in this scope");
    assert!(matches!(world.log.seen(&topic, id(5)), Seen::Done(_)));
    assert!(matches!(world.send(5..6), Reply::Refused(Refusal::EventsSeen { .. })));
    world.log.restart();
    assert!(matches!(world.send(4..6), Reply::Refused(Refusal::EventsSeen { seen }) if seen.len() == 2));
}

#[test]
fn oa_9_a_run_that_is_not_exactly_what_the_state_has_is_refused() {
    let mut world = World::new();
    world.send(0..3_000);
    let fit = world.ready(0);
    let unfit: [&dyn Fn(&mut RunReady); 6] = [
        &|it| it.entries -= 1,
        &|it| it.entries = 0,
        &|it| it.digest ^= 1,
        &|it| it.end_ms += 1,
        &|it| it.run = 0,
        &|it| it.replaces = vec![1],
    ];
    for spoil in unfit {
        let mut ready = fit.clone();
        spoil(&mut ready);
        assert!(matches!(world.take(&ready), Reply::Refused(Refusal::RunUnfit { .. })), "{ready:?}");
    }
    let mut grown = world.clone();
    grown.send(3_000..3_001);
    assert!(matches!(grown.take(&fit), Reply::Refused(_)), "its last chunk has grown");
    assert_eq!(world.take(&fit), Reply::RunTaken { entries: 3_000 });
    assert!(matches!(world.take(&fit), Reply::Refused(_)), "it was taken");
}

#[test]
fn em_7_a_run_goes_with_its_bucket_and_never_before() {
    let mut world = World::new();
    world.log.time_ms = 480_000 * HOUR_MS;
    world.commit("s", 1);
    world.log.time_ms += HOUR_MS / 2;
    world.commit("s", 2);
    // Those of one hour are one bucket, that ends with the hour.
    assert_eq!(world.roll(0), 2, "what was marked at the full hour is another one's");
    let end_ms = 480_000 * HOUR_MS + WEEK_MS;
    assert_eq!(world.log.state.next_tick_ms(), end_ms);
    world.tick_at(end_ms - 1);
    assert!(matches!(world.log.seen(&named("s"), id(1)), Seen::Done(_)));
    world.tick_at(end_ms);
    assert_eq!(world.log.seen(&named("s"), id(1)), Seen::Absent);
    assert!(matches!(world.log.seen(&named("s"), id(2)), Seen::Done(_)));
    world.tick_at(end_ms + HOUR_MS);
    assert_eq!(world.log.seen(&named("s"), id(2)), Seen::Absent);
    assert_eq!((world.log.state.dedup.marked(), world.runs()), (0, Vec::new()));
    // The name is gone with the last of it, and its number serves another one.
    world.commit("other", 7);
    assert_eq!(world.log.seen(&named("s"), id(7)), Seen::Absent);
}

#[test]
fn a_bucket_that_is_filled_has_few_runs_and_one_when_it_is_full() {
    let mut world = World::new();
    let mut most = 0;
    for number in 0..120 {
        world.send(number * 1_024..(number + 1) * 1_024);
        world.roll(1_024);
        most = most.max(world.runs().len());
    }
    assert_eq!(most, RUNS_OF_A_BUCKET_MAX - 1, "at the next one some are merged");
    world.send(500_000..500_100);
    world.log.time_ms += 2 * HOUR_MS;
    world.log.reply(&Command::Tick);
    assert!(world.roll(1_024) > 0);
    assert_eq!(world.runs().len(), 1);
    assert_eq!(world.log.state.dedup.in_memory(), 0, "what was left of it went along");
    assert_eq!(world.log.state.dedup.marked(), 120 * 1_024 + 100);
    assert!(
        matches!(world.send(70_000..70_010), Reply::Refused(Refusal::EventsSeen { seen }) if seen.len() == 10)
    );
}

#[test]
fn at_the_cap_the_oldest_run_goes_and_since_when_all_is_known_is_exact() {
    let mut world = World::new();
    let (ttl_ms, entries_max, at_cap) = (WEEK_MS as u64, 3_000, AtCap::Shorten);
    world.log.reply(&Command::Config(ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap }));
    let first_ms = world.log.time_ms;
    world.send(0..1_024);
    world.log.time_ms += 10;
    world.send(1_024..2_048);
    let ready = world.ready(1_500);
    assert_eq!(ready.entries, 2_048);
    world.take(&ready);
    world.log.time_ms += 10;
    world.send(2_048..2_900);
    assert_eq!(world.log.state.dedup.complete_since_ms(), i64::MIN);
    world.log.time_ms += 10;
    world.send(3_000..3_200);
    assert_eq!(world.log.state.dedup.complete_since_ms(), first_ms + 10, "when the run's last was marked");
    assert_eq!(world.log.state.dedup.marked(), 852 + 200);
    assert!(matches!(world.send(2_048..2_049), Reply::Refused(_)), "what came later is known");
    assert!(matches!(world.send(0..1), Reply::Appended { .. }), "what was given up is not");
}

fn is_forgotten(reply: &Reply) -> bool {
    matches!(reply, Reply::Forgotten { sighting: Some(_) })
}

#[test]
fn em_7_an_id_of_a_run_is_forgotten_and_marked_anew_also_in_the_same_bucket_and_when_runs_are_merged() {
    let mut world = World::new();
    let topic = DedupScope::Topic(world.topic);
    world.send(0..1_500);
    world.commit("s", 7);
    assert_eq!(world.roll(0), 1);
    for scope in [topic.clone(), named("s")] {
        assert!(is_forgotten(&world.forget(&scope, 7)));
        assert_eq!(world.log.seen(&scope, id(7)), Seen::Absent);
        assert_eq!(world.forget(&scope, 7), Reply::Forgotten { sighting: None }, "it was absent");
    }
    assert_eq!(world.log.state.dedup.marked(), 1_499);
    assert!(matches!(world.log.seen(&topic, id(8)), Seen::Done(_)));
    world.log.restart();
    // The name went with its last mark, and its number serves another one, with the same id.
    world.commit("other", 7);
    assert!(matches!(world.send(7..8), Reply::Appended { base_offset: 1_500, .. }));
    assert_eq!(world.roll(0), 1, "a second run of the bucket has the same keys");
    world.log.restart();
    assert!(matches!(world.send(7..8), Reply::Refused(Refusal::EventsSeen { .. })));
    let Seen::Done(seen) = world.log.seen(&topic, id(7)) else { panic!() };
    assert!(is_forgotten(&world.forget(&topic, 8)));
    world.log.time_ms += 2 * HOUR_MS;
    world.log.reply(&Command::Tick);
    assert_eq!(world.roll(0), 1, "those of the hour become one");
    let merged: Vec<u64> = world.runs().iter().map(|(.., entries)| *entries).collect();
    assert_eq!(merged, [1_500], "without what was forgotten");
    world.log.restart();
    assert_eq!(world.log.seen(&topic, id(7)), Seen::Done(seen));
    assert!(matches!(world.log.seen(&named("other"), id(7)), Seen::Done(_)));
    assert_eq!(world.log.seen(&topic, id(8)), Seen::Absent);
    assert_eq!(world.log.seen(&named("s"), id(7)), Seen::Absent);
}

#[test]
fn a_run_is_not_named_any_more_when_all_of_it_is_forgotten() {
    let mut world = World::new();
    let topic = DedupScope::Topic(world.topic);
    world.send(0..2);
    world.roll(0);
    assert!(is_forgotten(&world.forget(&topic, 0)));
    assert_eq!(world.runs().len(), 1);
    assert!(world.log.state.dedup.has_gaps());
    assert!(is_forgotten(&world.forget(&topic, 1)));
    assert_eq!((world.runs(), world.log.state.dedup.marked()), (Vec::new(), 0));
    assert!(!world.log.state.dedup.has_gaps());
    assert_eq!(world.log.state.next_tick_ms(), i64::MAX, "nothing is left that would expire");
}

#[test]
fn a_run_that_was_planned_before_one_of_its_ids_was_forgotten_is_refused() {
    let mut world = World::new();
    let topic = DedupScope::Topic(world.topic);
    world.send(0..1_100);
    let planned = world.ready(0);
    assert!(is_forgotten(&world.forget(&topic, 5)));
    assert!(matches!(world.take(&planned), Reply::Refused(Refusal::RunUnfit { .. })));
    assert!(matches!(world.send(5..6), Reply::Appended { .. }), "as many again, and not the same ones");
    assert!(matches!(world.take(&planned), Reply::Refused(Refusal::RunUnfit { .. })));
    world.log.restart();
    world.roll(0);
    world.send(2_000..2_100);
    world.roll(0);
    world.log.time_ms += 2 * HOUR_MS;
    world.log.reply(&Command::Tick);
    let planned = world.ready(0);
    assert_eq!((planned.entries, planned.replaces.len()), (1_200, 2));
    assert!(is_forgotten(&world.forget(&topic, 6)));
    assert!(matches!(world.take(&planned), Reply::Refused(Refusal::RunUnfit { .. })));
    assert_eq!(world.roll(0), 1);
    assert_eq!(world.log.state.dedup.marked(), 1_199);
}

/// One step of both logs.
#[derive(Clone, Debug)]
enum Step {
    Send(u64, u64),
    Commit(u64),
    Reserve(u64, u64),
    Finish(usize),
    Release(usize),
    ForgetEvent(u64),
    Forget(u64),
    Wait(i64),
    Limits(u64, u64),
    Roll(u64),
    /// Plans a run, does the next steps, and has it taken only then.
    Plan(u64),
    TakePlanned,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..40_u64, 1..6_u64).prop_map(|(first, count)| Step::Send(first, count)),
        3 => (0..30_u64).prop_map(Step::Commit),
        3 => (0..30_u64, 1..5_000_u64).prop_map(|(number, lease_ms)| Step::Reserve(number, lease_ms)),
        2 => (0..8_usize).prop_map(Step::Finish),
        1 => (0..8_usize).prop_map(Step::Release),
        2 => (0..46_u64).prop_map(Step::ForgetEvent),
        2 => (0..30_u64).prop_map(Step::Forget),
        3 => prop_oneof![0..50_i64, Just(700), Just(4_000)].prop_map(Step::Wait),
        1 => (prop_oneof![Just(500_u64), Just(50_000)], 5..60_u64).prop_map(|(ttl, most)| Step::Limits(ttl, most)),
        4 => (0..4_u64).prop_map(Step::Roll),
        2 => (0..4_u64).prop_map(Step::Plan),
        2 => Just(Step::TakePlanned),
        1 => Just(Step::Restart),
    ]
}

/// What a step asks of a log; rolling is no business of the log without runs.
fn command(world: &mut World, step: &Step, reserved: &[(u64, u64)]) -> Option<Reply> {
    let scope = || "s".to_string();
    let owned = |at: usize| reserved.get(reserved.len().checked_sub(at + 1)?).copied();
    Some(match step {
        Step::Send(first, count) => world.send(*first..first + count),
        Step::Commit(number) => world.commit("s", *number),
        Step::Reserve(number, lease_ms) => {
            let request = Dedup::Reserve { scope: scope(), id: id(*number), lease_ms: *lease_ms };
            world.log.reply(&request.into())
        }
        Step::Finish(at) => {
            let (number, reservation) = owned(*at)?;
            world.log.reply(&Dedup::Finish { scope: scope(), id: id(number), reservation }.into())
        }
        Step::Release(at) => {
            let (number, reservation) = owned(*at)?;
            world.log.reply(&Dedup::Release { scope: scope(), id: id(number), reservation }.into())
        }
        Step::ForgetEvent(number) => world.forget(&DedupScope::Topic(world.topic), *number),
        Step::Forget(number) => world.forget(&named("s"), *number),
        Step::Wait(ms) => {
            world.log.time_ms += ms;
            world.log.reply(&Command::Tick)
        }
        Step::Limits(ttl_ms, entries_max) => {
            let (ttl_ms, entries_max, at_cap) = (*ttl_ms, *entries_max, AtCap::Refuse);
            world.log.reply(&Command::Config(ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap }))
        }
        _ => return None,
    })
}

/// The name of a variant, whatever it holds: the log with runs has commands more, and so other lsns.
fn kind(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn oa_9_a_log_with_runs_answers_as_one_that_has_all_in_memory(steps in prop::collection::vec(step(), 1..80)) {
        let (mut plain, mut rolled) = (World::new(), World::new());
        // Reservations of both, by the same numbers.
        let (mut of_plain, mut of_rolled) = (Vec::<(u64, u64)>::new(), Vec::<(u64, u64)>::new());
        let mut planned = None;
        for step in &steps {
            match step {
                Step::Roll(memory_max) => { rolled.roll(*memory_max); }
                Step::Plan(memory_max) => planned = rolled.log.state.due_run(*memory_max),
                Step::TakePlanned => {
                    if let Some(ready) = planned.take() {
                        rolled.take(&ready);
                    }
                }
                Step::Restart => rolled.log.restart(),
                _ => {}
            }
            let answers = (command(&mut plain, step, &of_plain), command(&mut rolled, step, &of_rolled));
            if let (Some(expected), Some(found)) = &answers {
                if let (
                    Step::Reserve(number, _),
                    Reply::Reserved { reservation: a, .. },
                    Reply::Reserved { reservation: b, .. },
                ) = (step, expected, found)
                {
                    of_plain.push((*number, *a));
                    of_rolled.push((*number, *b));
                }
                prop_assert_eq!(kind(expected), kind(found), "{:?}: {:?}, {:?}", step, expected, found);
                if let (Reply::Refused(expected), Reply::Refused(found)) = (expected, found) {
                    prop_assert_eq!(kind(expected), kind(found));
                    if let (Refusal::EventsSeen { seen: expected }, Refusal::EventsSeen { seen: found }) =
                        (expected, found)
                    {
                        // Offsets are those of the records, and have nothing to do with lsns.
                        prop_assert_eq!(expected, found);
                    }
                }
            }
            let (a, b) = (&plain.log.state.dedup, &rolled.log.state.dedup);
            prop_assert_eq!((a.marked(), a.reserved()), (b.marked(), b.reserved()));
            let topic = DedupScope::Topic(plain.topic);
            for number in 0..46 {
                prop_assert_eq!(plain.log.seen(&topic, id(number)), rolled.log.seen(&topic, id(number)));
                let (a, b) = (plain.log.seen(&named("s"), id(number)), rolled.log.seen(&named("s"), id(number)));
                prop_assert_eq!(std::mem::discriminant(&a), std::mem::discriminant(&b), "{} {:?} {:?}", number, a, b);
            }
        }
    }
}

#[test]
#[should_panic(expected = "the shell has looked it up")]
fn m26_what_nobody_looked_up_is_never_taken_for_absent() {
    let mut world = World::new();
    world.send(0..2_000);
    world.roll(0);
    world.log.state.seen(&DedupScope::Topic(world.topic), id(1), &Answers::none());
}

#[test]
fn what_a_run_has_follows_from_the_state_alone() {
    let mut world = World::new();
    world.send(0..2_048);
    let ready = world.ready(1_100);
    let other = world.clone();
    let marks = |world: &World| match world.log.state.run_source(&ready).unwrap() {
        RunSource::Memory(marks) => marks.sorted(),
        RunSource::Runs(_) => panic!("it is from memory"),
    };
    assert_eq!(marks(&world), marks(&other));
    assert!(marks(&world).is_sorted());
    assert_eq!(marks(&world).len() as u64, ready.entries);
    let digests = marks(&world)
        .iter()
        .map(|(key, place)| exactlog_core::state::mark_digest(key, *place))
        .fold(0, u64::wrapping_add);
    assert_eq!(digests, ready.digest);
}
