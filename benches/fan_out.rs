//! 10,000 records of 1 KiB from one publisher to 1 and to 4 subscribers, of whom each gets all of them; beside copying
//! them in memory as often, and beside `tokio::sync::broadcast` with room for all, which keeps nothing.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use exactlog::{Consumer, Durability, Event, Log, Producer, Start, Topic, TopicOptions};
use exactlog_benches::beside::{Rounds, pick};
use exactlog_benches::value::Values;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

const VALUE_BYTES: usize = 1024;

fn fan_out(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let records = pick(10_000, 1000);
    let mut memory = vec![1; records * VALUE_BYTES];
    let mut group = criterion.benchmark_group("fan_out");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for subscribers in [1, 4] {
        group.throughput(Throughput::Elements(records as u64 * subscribers as u64));
        let (mut copying, mut broadcasting) = (Rounds::default(), Rounds::default());
        group.bench_function(format!("limit: copy in memory, 1 to {subscribers}"), |bencher| {
            bencher.iter_custom(|count| copying.run(count, || copy(&mut memory, subscribers)));
        });
        group.bench_function(format!("tokio::sync::broadcast, 1 to {subscribers}"), |bencher| {
            bencher.iter_custom(|count| broadcasting.run(count, || broadcast(records, subscribers)));
        });
        let mut bus = Bus::open(&directory.path().join(subscribers.to_string()), subscribers);
        let mut delivering = Rounds::default();
        let name = format!("page cache, 1 to {subscribers}");
        group.bench_function(&name, |bencher| {
            bencher.iter_custom(|count| delivering.run_timed(count, || bus.deliver(records)));
        });
        delivering.tell(&name, &copying, "copying");
        delivering.tell(&name, &broadcasting, "tokio::sync::broadcast");
    }
    group.finish();
}

/// Once for the publisher, and once for each subscriber.
fn copy(memory: &mut [u8], subscribers: usize) {
    let mut values = Values::new(VALUE_BYTES);
    let mut record = [0; VALUE_BYTES];
    memory.chunks_exact_mut(VALUE_BYTES).for_each(|room| room.copy_from_slice(values.take()));
    for _ in 0..subscribers {
        for published in black_box(&*memory).chunks_exact(VALUE_BYTES) {
            record.copy_from_slice(published);
            black_box(&mut record);
        }
    }
}

fn broadcast(records: usize, subscribers: usize) {
    let (sender, _) = broadcast::channel::<Bytes>(records);
    let mut values = Values::new(VALUE_BYTES);
    std::thread::scope(|scope| {
        for mut receiver in (0..subscribers).map(|_| sender.subscribe()).collect::<Vec<_>>() {
            scope.spawn(move || {
                (0..records).for_each(|_| assert_eq!(receiver.blocking_recv().unwrap().len(), VALUE_BYTES));
            });
        }
        for _ in 0..records {
            sender.send(Bytes::copy_from_slice(values.take())).unwrap();
        }
    });
}

/// A log with subscribers that stay.
struct Bus {
    log: Log,
    topic: Topic,
    producer: Producer,
    consumers: Vec<Consumer>,
    values: Values,
}

impl Bus {
    fn open(directory: &std::path::Path, subscribers: usize) -> Bus {
        let log = Log::builder().durability(Durability::Os).open(directory).unwrap();
        let topic = log.create_topic("bus", TopicOptions::default()).unwrap();
        let producer = log.producer("bus").unwrap();
        let subscribe = |number: usize| {
            let builder = log.consumer(&format!("subscriber-{number}")).start(Start::Earliest);
            builder.assign([(&topic, 0)]).unwrap()
        };
        let consumers = (0..subscribers).map(subscribe).collect();
        Bus { log, topic, producer, consumers, values: Values::new(VALUE_BYTES) }
    }

    /// From the first record that is published to the last that is received, and the threads are gone.
    fn deliver(&mut self, records: usize) -> Duration {
        let Bus { topic, producer, consumers, values, .. } = self;
        let began = Instant::now();
        std::thread::scope(|scope| {
            for consumer in consumers {
                scope.spawn(|| receive(consumer, topic, records));
            }
            let mut last = None;
            for _ in 0..records {
                let event = Event::unkeyed(Bytes::copy_from_slice(values.take()));
                last = Some(producer.blocking_submit(topic, event).unwrap());
            }
            last.unwrap().wait().unwrap();
        });
        let elapsed = began.elapsed();
        // What all have seen needn't be written a second time, nor fill the disk.
        let (_, end) = self.log.bounds(topic, 0).unwrap();
        self.log.trim(topic, 0, end).unwrap();
        elapsed
    }
}

fn receive(consumer: &mut Consumer, topic: &Topic, records: usize) {
    let mut received = 0;
    while received < records {
        let batch = consumer.blocking_next().unwrap().unwrap();
        received += batch.len();
        let next = batch.records().last().unwrap().offset + 1;
        drop(batch);
        // An ack would be a command of its own: what a bus without groups doesn't need.
        consumer.seek(topic, 0, next).unwrap();
    }
    assert_eq!(received, records, "every subscriber gets each record once");
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
