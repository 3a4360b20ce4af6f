//! From the call that publishes an event until a subscriber, parked meanwhile or spinning, holds it.

use crate::limits::{self, Limits};
use crate::report::{Report, Survives, latency_text};
use crate::setup::{self, Measures, Result, Ring};
use exactlog::{Consumer, Durability, Event, Log, Record, Start, Topic, TopicOptions};
use exactlog_benches::samples::{Samples, Summary};
use exactlog_benches::warm;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Threads and tasks, with and without a sync before the event is visible.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("publish -> subscriber, same process");
    for (durability, survives) in [(Durability::Os, Survives::Kill), (Durability::Fsync, Survives::PowerLoss)]
    {
        for (name, receive, wait) in RECEIVERS {
            let (latency, sync) =
                limits::beside_sync(measures, || measure(measures, durability, receive, wait))?;
            let compared = match durability {
                Durability::Os | Durability::Interval(_) => limits.beside_wake_up(latency.p50),
                Durability::Fsync => limits::to_sync(latency.p50, &sync),
            };
            report.row(name, survives, &latency_text(&latency), &compared);
        }
    }
    Ok(())
}

type Receive = fn(Consumer, &Topic, &Clock, usize) -> Result<Summary>;
type Wait = fn(Duration);

const RECEIVERS: [(&str, Receive, Wait); 4] = [
    ("thread in `blocking_next`, parked", receive_blocking, std::thread::sleep),
    ("task in `next`, 1 runtime thread, parked", receive_in_task, std::thread::sleep),
    ("thread that asks again and again, `try_next`", receive_spinning, std::thread::sleep),
    ("the same, and the publisher doesn't sleep between events either", receive_spinning, spin),
];

/// Stays awake for `time`, as a publisher does that has something else to compute.
fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What sender and receiver share.
struct Clock {
    base: Instant,
    received: AtomicU64,
}

impl Clock {
    fn stamp(&self) -> Vec<u8> {
        (self.base.elapsed().as_nanos() as u64).to_le_bytes().to_vec()
    }

    fn since(&self, record: &Record) -> Result<Duration> {
        let now = self.base.elapsed();
        let stamp = u64::from_le_bytes(record.value().try_into()?);
        self.received.fetch_add(1, Ordering::Release);
        Ok(now.saturating_sub(Duration::from_nanos(stamp)))
    }
}

fn measure(measures: &Measures, durability: Durability, receive: Receive, wait: Wait) -> Result<Summary> {
    let directory = measures.fresh()?;
    let log = setup::open(directory.path(), durability, Ring::Default, setup::MIB)?;
    warm::leave_first_file(&log)?;
    let topic = log.create_topic("published", TopicOptions::default())?;
    let consumer = log.consumer("subscriber").start(Start::Latest).assign([(&topic, 0)])?;
    setup::settle(&log);
    let clock = Clock { base: Instant::now(), received: AtomicU64::new(0) };
    let count = measures.pick(5000, 500);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(consumer, &topic, &clock, count));
        publish(&log, &topic, &clock, count, wait)?;
        receiver.join().unwrap_or_else(|_| Err("the receiver panicked".into()))
    })
}

fn publish(log: &Log, topic: &Topic, clock: &Clock, count: usize, wait: Wait) -> Result<()> {
    let producer = log.producer("publisher")?;
    for number in 0..count as u64 {
        // Long enough for the subscriber to be parked again.
        wait(Duration::from_micros(300));
        producer.blocking_send(topic, Event::unkeyed(clock.stamp()))?;
        while clock.received.load(Ordering::Acquire) <= number {
            wait(Duration::from_micros(50));
        }
    }
    Ok(())
}

fn receive_blocking(mut consumer: Consumer, topic: &Topic, clock: &Clock, count: usize) -> Result<Summary> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let batch = consumer.blocking_next()?.ok_or("the log was closed")?;
        samples.push(clock.since(&batch.records()[0])?);
        let next = batch.records()[0].offset + 1;
        drop(batch);
        // An ack would be a command of its own, whose sync the next publication would wait for.
        consumer.seek(topic, 0, next)?;
    }
    Ok(samples.summary())
}

fn receive_spinning(mut consumer: Consumer, topic: &Topic, clock: &Clock, count: usize) -> Result<Summary> {
    let (mut samples, mut received) = (Samples::default(), 0);
    while received < count {
        let Some(batch) = consumer.try_next()? else {
            std::hint::spin_loop();
            continue;
        };
        received += 1;
        samples.push(clock.since(&batch.records()[0])?);
        let next = batch.records()[0].offset + 1;
        drop(batch);
        consumer.seek(topic, 0, next)?;
    }
    Ok(samples.summary())
}

fn receive_in_task(mut consumer: Consumer, topic: &Topic, clock: &Clock, count: usize) -> Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut samples = Samples::default();
    runtime.block_on(async {
        for _ in 0..count {
            let batch = consumer.next().await?.ok_or("the log was closed")?;
            samples.push(clock.since(&batch.records()[0])?);
            let next = batch.records()[0].offset + 1;
            drop(batch);
            consumer.seek(topic, 0, next)?;
        }
        Ok(samples.summary())
    })
}
