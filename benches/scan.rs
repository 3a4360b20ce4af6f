//! Reading 8 MiB of 1 KiB records through a view; beside copying as many bytes in memory.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Event, Log, Topic, TopicOptions};
use exactlog_benches::probe::copy_rate;
use exactlog_benches::value::Values;
use std::time::Duration;

const VALUE_BYTES: usize = 1024;
const RECORDS: u64 = 8 * 1024;

fn scan(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = criterion.benchmark_group("scan");
    let bytes = RECORDS * VALUE_BYTES as u64;
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("probe: copy in memory", |bencher| {
        bencher.iter_custom(|iterations| {
            Duration::from_secs_f64(iterations as f64 * bytes as f64 / copy_rate())
        });
    });
    for (name, tail_cache_bytes) in [("tail cache", 64 << 20), ("journal", 0)] {
        let builder = Log::builder().durability(Durability::Os).tail_cache_bytes(tail_cache_bytes);
        let log = builder.open(directory.path().join(name)).unwrap();
        let topic = log.create_topic("scanned", TopicOptions::default()).unwrap();
        fill(&log, &topic);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(read(&log, &topic), RECORDS));
        });
    }
    group.finish();
}

fn fill(log: &Log, topic: &Topic) {
    let producer = log.producer("scanned").unwrap();
    let mut values = Values::new(VALUE_BYTES);
    let sent: Vec<_> = (0..RECORDS)
        .map(|_| producer.blocking_submit(topic, Event::unkeyed(values.take())).unwrap())
        .collect();
    for ticket in sent {
        ticket.wait().unwrap();
    }
}

fn read(log: &Log, topic: &Topic) -> u64 {
    let view = log.read_view();
    let end = view.end(topic, 0).unwrap();
    let mut offset = 0;
    while offset < end {
        let records = view.read(topic, 0, offset, 1 << 20).unwrap();
        offset = records.last().unwrap().offset + 1;
    }
    offset
}

criterion_group!(benches, scan);
criterion_main!(benches);
