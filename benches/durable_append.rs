//! One record, or a built batch, per durable acknowledgement; beside a bare `fdatasync` of the same run.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exactlog::{Event, Log, TopicOptions};
use exactlog_benches::probe::SyncProbe;
use exactlog_benches::value::Values;
use exactlog_benches::warm::leave_first_file;
use exactlog_core::batch::BatchBuilder;

const BATCH_RECORDS: u64 = 1000;

fn durable_append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut probe = SyncProbe::new(directory.path()).unwrap();
    let log = Log::open(directory.path().join("log")).unwrap();
    leave_first_file(&log).unwrap();
    let topic = log.create_topic("appended", TopicOptions::default()).unwrap();
    let producer = log.producer("appended").unwrap();
    let mut values = Values::new(100);

    let mut group = criterion.benchmark_group("durable_append");
    group.bench_function("probe: fdatasync of 4 KiB", |bencher| bencher.iter(|| probe.step().unwrap()));
    group.bench_function("one event of 100 B", |bencher| {
        bencher.iter(|| producer.blocking_send(&topic, Event::unkeyed(values.take())).unwrap());
    });
    let batch = batch(&mut values);
    group.throughput(Throughput::Elements(BATCH_RECORDS));
    group.bench_function("built batch of 1,000 × 100 B", |bencher| {
        bencher.iter(|| log.append_batch(&topic, 0, batch.clone()).unwrap());
    });
    group.finish();
}

fn batch(values: &mut Values) -> Bytes {
    let mut builder = BatchBuilder::new(128 * 1024);
    for _ in 0..BATCH_RECORDS {
        builder.append(1_700_000_000_000, None, Some(values.take()), &[]);
    }
    let batch = builder.finish(None);
    [batch.header().as_slice(), batch.body()].concat().into()
}

criterion_group!(benches, durable_append);
criterion_main!(benches);
