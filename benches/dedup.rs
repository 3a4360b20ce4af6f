//! Ids of events: 1,000 events with new ids, with known ids and without, and 1,000 ids that are asked for; beside as
//! many ids in a `HashSet`.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Event, EventId, Log, Producer, Seen, Ticket, Topic, TopicOptions};
use exactlog_benches::beside::{Rounds, pick};
use exactlog_benches::numbers::{Numbers, spread};
use std::collections::HashSet;
use std::hint::black_box;
use std::time::Duration;

const AT_ONCE: u64 = 1000;

fn dedup(criterion: &mut Criterion) {
    let known = pick(100_000, 2000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = criterion.benchmark_group("dedup");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(AT_ONCE));
    let log = Log::builder().durability(Durability::Os).open(directory.path()).unwrap();
    let asked = log.create_topic("asked", TopicOptions::default()).unwrap();
    let producer = log.producer("feed").unwrap();
    for from in (0..known).step_by(AT_ONCE as usize) {
        assert_eq!(send(&producer, &asked, (from..from + AT_ONCE).map(Some)), 0);
    }
    looked_up(&mut group, &log, &asked, known);
    sent(&mut group, &log, &producer, known);
    group.finish();
}

/// Ids that are asked for, half a thousand of them in vain.
fn looked_up(group: &mut BenchmarkGroup<'_, WallTime>, log: &Log, topic: &Topic, known: u64) {
    let set: HashSet<[u8; 16]> = (0..known).map(spread).collect();
    let (mut in_set, mut in_log) = (Rounds::default(), Rounds::default());
    let mut numbers = Numbers::below(2 * known);
    group.bench_function("limit: look up in a HashSet", |bencher| {
        bencher.iter_custom(|count| {
            in_set.run(count, || {
                for number in (0..AT_ONCE).map(|_| numbers.take()) {
                    assert_eq!(black_box(&set).contains(&spread(number)), number < known);
                }
            })
        });
    });
    group.bench_function("look up, half of them known", |bencher| {
        bencher.iter_custom(|count| {
            in_log.run(count, || {
                for number in (0..AT_ONCE).map(|_| numbers.take()) {
                    let seen = log.seen(topic, EventId::uuid(spread(number))).unwrap();
                    assert_eq!(matches!(seen, Seen::Done(_)), number < known);
                }
            })
        });
    });
    in_log.tell("look up", &in_set, "a HashSet");
}

/// Events that are sent. New ids go to a topic of their own, and on into runs when there are many.
fn sent(group: &mut BenchmarkGroup<'_, WallTime>, log: &Log, producer: &Producer, known: u64) {
    let [plain, new, repeated] =
        ["plain", "new", "asked"].map(|name| log.create_topic(name, TopicOptions::default()).unwrap());
    let (mut set, mut next) = (HashSet::new(), 0);
    let mut in_set = Rounds::default();
    group.bench_function("limit: insert into a HashSet", |bencher| {
        bencher.iter_custom(|count| {
            in_set.run(count, || {
                (next..next + AT_ONCE).for_each(|number| assert!(set.insert(spread(number))));
                next += AT_ONCE;
            })
        });
    });
    drop(set);
    let mut without = Rounds::default();
    group.bench_function("send without ids", |bencher| {
        bencher.iter_custom(|count| {
            without.run(count, || assert_eq!(send(producer, &plain, (0..AT_ONCE).map(|_| None)), 0))
        });
    });
    let (mut with_new, mut with_known) = (Rounds::default(), Rounds::default());
    let mut next = 0;
    group.bench_function("send with new ids", |bencher| {
        bencher.iter_custom(|count| {
            with_new.run(count, || {
                assert_eq!(send(producer, &new, (next..next + AT_ONCE).map(Some)), 0);
                next += AT_ONCE;
            })
        });
    });
    let mut numbers = Numbers::below(known);
    group.bench_function("send with known ids", |bencher| {
        bencher.iter_custom(|count| {
            with_known.run(count, || {
                let ids = (0..AT_ONCE).map(|_| Some(numbers.take()));
                assert_eq!(send(producer, &repeated, ids), AT_ONCE);
            })
        });
    });
    for (name, rounds) in [("send with new ids", with_new), ("send with known ids", with_known)] {
        rounds.tell(name, &in_set, "inserting into a HashSet");
        rounds.tell(name, &without, "sending without ids");
    }
}

/// Sends events with these ids and waits for all of them; how many were there before.
fn send(producer: &Producer, topic: &Topic, ids: impl Iterator<Item = Option<u64>>) -> u64 {
    let event = |id: Option<u64>| match id {
        Some(number) => Event::new("key", "value").id(EventId::uuid(spread(number))),
        None => Event::new("key", "value"),
    };
    let tickets: Vec<Ticket> = ids.map(|id| producer.blocking_submit(topic, event(id)).unwrap()).collect();
    tickets.into_iter().map(|ticket| u64::from(ticket.wait().unwrap().duplicate)).sum()
}

criterion_group!(benches, dedup);
criterion_main!(benches);
