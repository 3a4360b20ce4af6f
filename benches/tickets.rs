//! 10,000 events on their way at a time, each with its own ticket; beside large synced writes of the same run.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Event, Log, Producer, Topic, TopicOptions};
use exactlog_benches::probe::drain_rate;
use exactlog_benches::value::Values;
use exactlog_benches::warm::leave_first_file;
use std::time::Duration;

const RECORDS: usize = 10_000;
const VALUE_BYTES: usize = 100;

fn tickets(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = criterion.benchmark_group("tickets");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("probe: as many bytes in synced writes", |bencher| {
        bencher.iter_custom(|iterations| {
            let bytes_per_second = drain_rate(directory.path(), 64 << 20).unwrap();
            let bytes = iterations as f64 * (RECORDS * VALUE_BYTES) as f64;
            Duration::from_secs_f64(bytes / bytes_per_second)
        });
    });
    for (name, durability) in [("durable", Durability::Fsync), ("page cache", Durability::Os)] {
        let log = Log::builder().durability(durability).open(directory.path().join(name)).unwrap();
        leave_first_file(&log).unwrap();
        let topic = log.create_topic("sent", TopicOptions::default().partitions(8)).unwrap();
        let producer = log.producer("sent").unwrap();
        let mut values = Values::new(VALUE_BYTES);
        group.bench_function(name, |bencher| {
            let events = || (0..RECORDS).map(|_| Event::unkeyed(values.take())).collect::<Vec<_>>();
            bencher.iter_batched(events, |events| send(&producer, &topic, events), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn send(producer: &Producer, topic: &Topic, events: Vec<Event>) {
    let submitted: Vec<_> =
        events.into_iter().map(|event| producer.blocking_submit(topic, event).unwrap()).collect();
    for ticket in submitted {
        ticket.wait().unwrap();
    }
}

criterion_group!(benches, tickets);
criterion_main!(benches);
