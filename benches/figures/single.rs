//! One record per call: the caller waits for its acknowledgement before it sends the next.

use crate::callers;
use crate::limits::{self, Limits};
use crate::report::{Report, Survives, latency_text};
use crate::setup::{self, Measures, Result, Ring};
use exactlog::{Durability, Event, Producer, Topic, TopicOptions};
use exactlog_benches::samples::{Samples, number_text};
use exactlog_benches::value::Values;
use exactlog_benches::warm;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tasks that wait at a time.
const TASKS: usize = 4096;

/// Threads first, then tasks.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("one record per call, each caller waits for its ack; one producer, 8 partitions");
    for value_bytes in [100, 1024] {
        row(measures, limits, report, Durability::Fsync, value_bytes, How::FreshThread)?;
        for threads in [1, 32, 256] {
            row(measures, limits, report, Durability::Fsync, value_bytes, How::Threads(threads))?;
        }
        row(measures, limits, report, Durability::Fsync, value_bytes, How::Tasks)?;
        row(measures, limits, report, Durability::Os, value_bytes, How::Threads(1))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// One thread, on a log whose first journal file was never written before.
    FreshThread,
    Threads(usize),
    Tasks,
}

fn row(
    measures: &Measures,
    limits: &Limits,
    report: &mut Report,
    durability: Durability,
    value_bytes: usize,
    how: How,
) -> Result<()> {
    let directory = measures.fresh()?;
    let log = setup::open(directory.path(), durability, Ring::Default, setup::MIB)?;
    if how != How::FreshThread {
        warm::leave_first_file(&log)?;
    }
    let topic = log.create_topic("single", TopicOptions::default().partitions(8))?;
    let producer = Arc::new(log.producer("single")?);
    setup::settle(&log);
    let period = measures.period();
    let work = |period| in_thread(&producer, &topic, value_bytes, period);
    let (calls, sync) = match how {
        How::FreshThread | How::Threads(1) => callers::alone(measures, work)?,
        How::Threads(threads) => {
            limits::beside_sync(measures, || callers::threads((0..threads).map(|_| || work(period))))?
        }
        How::Tasks => limits::beside_sync(measures, || {
            callers::tasks((0..TASKS).map(|_| in_task(producer.clone(), topic.clone(), value_bytes, period)))
        })?,
    };
    let (rate, latency) = (calls.rate(), calls.latency);
    let (survives, compared) = match durability {
        Durability::Fsync => (Survives::PowerLoss, limits::to_sync(latency.p50, &sync)),
        Durability::Os | Durability::Interval(_) => (Survives::Kill, limits.beside_wake_up(latency.p50)),
    };
    let who = match how {
        How::FreshThread => "1 thread, fresh log".to_string(),
        How::Threads(1) => "1 thread".to_string(),
        How::Threads(threads) => format!("{threads} threads"),
        How::Tasks => format!("{TASKS} tasks on 1 runtime thread"),
    };
    let text = format!("{} rec/s, {}", number_text(rate), latency_text(&latency));
    report.row(&format!("{value_bytes} B: {who}"), survives, &text, &compared);
    Ok(())
}

fn in_thread(producer: &Producer, topic: &Topic, value_bytes: usize, period: Duration) -> Result<Samples> {
    let (mut samples, mut values) = (Samples::default(), Values::new(value_bytes));
    let began = Instant::now();
    while began.elapsed() < period {
        let sent = Instant::now();
        producer.blocking_send(topic, Event::unkeyed(values.take()))?;
        samples.push(sent.elapsed());
    }
    Ok(samples)
}

async fn in_task(
    producer: Arc<Producer>,
    topic: Topic,
    value_bytes: usize,
    period: Duration,
) -> Result<Samples> {
    let (mut samples, mut values) = (Samples::default(), Values::new(value_bytes));
    let began = Instant::now();
    while began.elapsed() < period {
        let sent = Instant::now();
        producer.send(&topic, Event::unkeyed(values.take())).await?;
        samples.push(sent.elapsed());
    }
    Ok(samples)
}
