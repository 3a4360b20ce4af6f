//! 1,000 records of 1 KiB at random offsets, one call each; beside copying as many from memory, and beside the checksum
//! of one batch for each, which a reader would pay that starts anew every time.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Event, Log, Topic, TopicOptions};
use exactlog_benches::beside::{Rounds, pick};
use exactlog_benches::numbers::Numbers;
use exactlog_benches::value::Values;
use std::hint::black_box;
use std::time::Duration;

const READS: u64 = 1000;
const VALUE_BYTES: usize = 1024;

/// As large as a batch gets that a producer fills.
const BATCH_BYTES: usize = 128 << 10;

/// Where the records are read from.
const PLACES: [(&str, u64, bool); 3] =
    [("tail cache", 1 << 30, false), ("journal", 0, false), ("segments", 0, true)];

fn point_read(criterion: &mut Criterion) {
    let records = pick(64 << 10, 2000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = criterion.benchmark_group("point_read");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(READS));
    let (mut copying, mut checking) = (Rounds::default(), Rounds::default());
    let memory = vec![0xa5; records as usize * VALUE_BYTES];
    let mut numbers = Numbers::below(records);
    group.bench_function("limit: copy as many from memory", |bencher| {
        bencher.iter_custom(|count| copying.run(count, || copy_some(&memory, &mut numbers)));
    });
    group.bench_function("limit: checksum of a batch for each", |bencher| {
        let batch = &memory[..BATCH_BYTES.min(memory.len())];
        let checksums = || (0..READS).for_each(|_| _ = black_box(crc32c::crc32c(black_box(batch))));
        bencher.iter_custom(|count| checking.run(count, checksums));
    });
    for (name, tail_cache_bytes, is_flushed) in PLACES {
        let builder = Log::builder().durability(Durability::Os).tail_cache_bytes(tail_cache_bytes);
        let log = builder.open(directory.path().join(name)).unwrap();
        // Of small segments nearly all are closed.
        let topic = log.create_topic("read", TopicOptions::default().segment_bytes(4 << 20)).unwrap();
        fill(&log, &topic, records);
        if is_flushed {
            log.checkpoint().unwrap();
        }
        let mut reading = Rounds::default();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| reading.run(count, || read_some(&log, &topic, &mut numbers)));
        });
        reading.tell(name, &copying, "a copy from memory");
        reading.tell(name, &checking, "a checksum for each");
    }
    group.finish();
}

fn fill(log: &Log, topic: &Topic, records: u64) {
    let producer = log.producer("read").unwrap();
    let mut values = Values::new(VALUE_BYTES);
    let mut last = None;
    for _ in 0..records {
        last = Some(producer.blocking_submit(topic, Event::unkeyed(values.take())).unwrap());
    }
    last.unwrap().wait().unwrap();
}

fn copy_some(memory: &[u8], numbers: &mut Numbers) {
    let mut record = [0; VALUE_BYTES];
    for _ in 0..READS {
        let at = numbers.take() as usize * VALUE_BYTES;
        record.copy_from_slice(&memory[at..at + VALUE_BYTES]);
        black_box(&mut record);
    }
}

fn read_some(log: &Log, topic: &Topic, numbers: &mut Numbers) {
    for _ in 0..READS {
        let offset = numbers.take();
        let record = log.record(topic, 0, offset).unwrap().unwrap();
        assert_eq!((record.offset, record.value().len()), (offset, VALUE_BYTES));
    }
}

criterion_group!(benches, point_read);
criterion_main!(benches);
