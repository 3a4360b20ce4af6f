//! What a processor costs for each event: dedup by id, retry and dead letters on, a handler that does nothing; beside
//! the bare loop of a consumer that commits as many at a time, with and without a mark for each id; and the same
//! processor on the same log over a connection to a node.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Event, Log, Topic, TopicOptions};
use exactlog_broker::{NodeOptions, bind};
use exactlog_flow::{Context, Failure, Processor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RECORDS: u64 = 200_000;
const BATCH: usize = 500;

fn processor(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = Log::builder().durability(Durability::Os).open(directory.path().join("log")).unwrap();
    let topic = log.create_topic("orders", TopicOptions::default().partitions(8)).unwrap();
    let mut producer = log.producer("orders").unwrap();
    for batch in 0..RECORDS / 1000 {
        let mut transaction = producer.begin();
        for nth in batch * 1000..(batch + 1) * 1000 {
            let event = Event::new(format!("key-{}", nth % 5000), vec![7; 100]);
            transaction.send(&topic, event.header("message-id", format!("id-{nth}"))).unwrap();
        }
        transaction.blocking_commit().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // Each run is another group's first.
    let groups = AtomicU64::new(0);
    let fresh = || format!("group-{}", groups.fetch_add(1, Ordering::Relaxed));
    let mut group = criterion.benchmark_group("processor");
    group.sample_size(10).throughput(Throughput::Elements(RECORDS));
    for (name, marks) in [("bare loop", false), ("bare loop that marks ids", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| bare(&log, &topic, &fresh(), marks)).sum());
        });
    }
    for (name, dedup) in [("processor, without dedup", false), ("processor", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let run = |_| runtime.block_on(processed(&log, &topic, &fresh(), dedup));
                (0..rounds).map(run).sum()
            });
        });
    }
    let (log, topic) = (log.clone(), topic.clone());
    let (node, address) = serving(&log);
    let far = exactlog_client::connect(&address).unwrap();
    let far_topic = far.open_topic(topic.name()).unwrap();
    group.bench_function("bare loop that marks ids, over a node", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| bare(&far, &far_topic, &fresh(), true)).sum());
    });
    for (name, dedup) in [("processor, without dedup, over a node", false), ("processor, over a node", true)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let run = |_| runtime.block_on(processed(&far, &far_topic, &fresh(), dedup));
                (0..rounds).map(run).sum()
            });
        });
    }
    group.finish();
    far.close().unwrap();
    drop(node);
}

/// A node for the log, in threads of its own, and where it is.
fn serving(log: &Log) -> (tokio::runtime::Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = NodeOptions { listen: "127.0.0.1:0".parse().unwrap(), ..NodeOptions::default() };
    let bound = runtime.block_on(bind(options)).unwrap();
    let running = runtime.block_on(async { bound.serve(log) });
    let address = running.address().to_string();
    // It serves as long as its runtime is there.
    std::mem::forget(running);
    (runtime, address)
}

fn bare(log: &Log, topic: &Topic, group: &str, marks: bool) -> Duration {
    let begin = Instant::now();
    let mut consumer = log.consumer(group).max_poll_records(BATCH).subscribe([topic]).unwrap();
    let mut producer = log.producer(group).unwrap();
    let mut read = 0;
    while read < RECORDS {
        let batch = consumer.blocking_next().unwrap().unwrap();
        let mut transaction = producer.begin();
        for record in &batch {
            read += 1;
            if marks {
                transaction.mark(group, record.header("message-id").unwrap()).unwrap();
            }
        }
        transaction.ack(batch);
        transaction.blocking_commit().unwrap();
    }
    begin.elapsed()
}

async fn processed(log: &Log, topic: &Topic, group: &str, dedup: bool) -> Duration {
    let begin = Instant::now();
    let processor = Processor::new(log, group).topic(topic).batch(BATCH);
    let processor = if dedup { processor } else { processor.without_dedup() };
    let running = processor.start(async |_: Context| Ok::<(), Failure>(())).unwrap();
    running.until(|metrics| metrics.counts.ended() >= RECORDS).await.unwrap();
    let elapsed = begin.elapsed();
    running.stop().await.unwrap();
    elapsed
}

criterion_group!(benches, processor);
criterion_main!(benches);
