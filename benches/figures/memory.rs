//! Memory of the process that doesn't belong to a file (`RssAnon`), in processes of their own.

use crate::child;
use crate::limits::{Limits, rate_text};
use crate::report::{Report, Survives};
use crate::setup::{self, GIB, Measures, Result, Ring};
use bytes::Bytes;
use exactlog::{Consumer, Durability, Event, Log, Start, Topic, TopicOptions};
use exactlog_benches::samples::{bytes_text, duration_text};
use exactlog_benches::value::Values;
use exactlog_core::batch::BatchBuilder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 10_000;

/// Most bytes that a flood leaves on the disk.
const FLOOD_BYTES: u64 = 24 * GIB;

/// How far the subscriber of the flood is behind, at most, when it begins to read.
const BEHIND_BYTES: u64 = 8 * GIB;

/// Idle, flooded and then read, and with many partitions.
pub(crate) fn run(measures: &Measures, _limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("memory: RssAnon of a process of its own");
    let empty = Said::of(&["empty"])?.number("anon")?;
    let directory = measures.fresh()?;
    let idle = Said::of(&["idle", text_of(directory.path())?])?.number("anon")?;
    let more = bytes_text(idle.saturating_sub(empty));
    let compared = format!("an empty program has {}", bytes_text(empty));
    let figure = "idle log, 6 partitions, 1 producer: above an empty program";
    report.row(figure, Survives::PowerLoss, &more, &compared);
    flooded(measures, report)?;
    many_partitions(measures, report, empty)
}

fn flooded(measures: &Measures, report: &mut Report) -> Result<()> {
    let directory = measures.fresh()?;
    let seconds = measures.pick("60", "10");
    let bytes = measures.pick(FLOOD_BYTES, 4 * GIB).to_string();
    let said = Said::of(&["flood", text_of(directory.path())?, seconds, &bytes])?;
    let (before, most) = (said.number("before")?, said.number("most")?);
    let (elapsed_ms, written) = (said.number("elapsed_ms")?, said.number("written")?);
    let figure = "producer faster than the disk, beside a subscriber that doesn't read: most";
    let measured = format!("{}, {} before", bytes_text(most), bytes_text(before));
    let rate = rate_text(written as f64 * 1000.0 / elapsed_ms as f64);
    let seconds = elapsed_ms as f64 / 1000.0;
    let compared =
        format!("{} in {seconds:.0} s, {rate}; tail cache 64 MiB, queue 4 MiB", bytes_text(written));
    report.row(figure, Survives::PowerLoss, &measured, &compared);
    let (behind, most) = (said.number("behind")?, said.number("behind_most")?);
    let read_ms = said.number("behind_ms")?;
    let figure = format!("that subscriber, {} behind, reads them: most", bytes_text(behind));
    let compared = format!("read and committed at {}", rate_text(behind as f64 * 1000.0 / read_ms as f64));
    report.row(&figure, Survives::PowerLoss, &bytes_text(most), &compared);
    Ok(())
}

fn many_partitions(measures: &Measures, report: &mut Report, empty: u64) -> Result<()> {
    let directory = measures.fresh()?;
    let (created, cost, cost_of_one) = {
        let log = Log::builder().durability(Durability::Os).open(directory.path())?;
        let began = Instant::now();
        let topic = log.create_topic("many", TopicOptions::default().partitions(PARTITIONS))?;
        let created = began.elapsed();
        let one = log.create_topic("one", TopicOptions::default())?;
        let cost_of_one = cost_of(&log, &one, |_| 0)?;
        let cost = cost_of(&log, &topic, |number| number)?;
        log.close()?;
        (created, cost, cost_of_one)
    };
    let said = Said::of(&["partitions", text_of(directory.path())?])?;
    let (anon, elapsed_us) = (said.number("anon")?, said.number("elapsed_us")?);
    let more = anon.saturating_sub(empty);
    let opened = duration_text(Duration::from_micros(elapsed_us));
    let figure = format!("{PARTITIONS} partitions, a record in each: opened");
    let measured = format!("{opened}, {} above an empty program", bytes_text(more));
    let each = more / u64::from(PARTITIONS);
    let file = bytes_text(said.number("file")?);
    let times = cost.as_secs_f64() / cost_of_one.as_secs_f64();
    let compared = format!(
        "{each} B a partition, RssFile {file}; created in {}; an event took {}, {times:.2} × one of a single partition",
        duration_text(created),
        duration_text(cost)
    );
    report.row(&figure, Survives::PowerLoss, &measured, &compared);
    Ok(())
}

/// What one event costs of as many as there are partitions, one after the other.
fn cost_of(log: &Log, topic: &Topic, partition_of: impl Fn(u32) -> u32) -> Result<Duration> {
    let (batch, began) = (one_record(), Instant::now());
    for number in 0..PARTITIONS {
        log.append_batch(topic, partition_of(number), batch.clone())?;
    }
    Ok(began.elapsed() / PARTITIONS)
}

/// A batch of one record, without a producer, as a client would send it.
fn one_record() -> Bytes {
    let mut builder = BatchBuilder::new(128);
    builder.append(1_700_000_000_000, None, Some(Values::new(100).take()), &[]);
    let batch = builder.finish(None);
    [batch.header().as_slice(), batch.body()].concat().into()
}

pub(crate) fn text_of(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("the directory's name isn't UTF-8")?)
}

/// The numbers that a child has printed, `name value` in each line.
pub(crate) struct Said(BTreeMap<String, u64>);

impl Said {
    pub(crate) fn of(arguments: &[&str]) -> Result<Said> {
        let text = child::text(arguments)?;
        let line = |line: &str| -> Result<(String, u64)> {
            let (name, number) = line.split_once(' ').ok_or("a line without a number")?;
            Ok((name.to_string(), number.parse()?))
        };
        Ok(Said(text.lines().map(line).collect::<Result<_>>()?))
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        Ok(*self.0.get(name).ok_or_else(|| format!("the child didn't say {name}"))?)
    }
}

/// `RssAnon` of this process, in bytes.
pub(crate) fn anon_bytes() -> Result<u64> {
    status_bytes("RssAnon:")
}

fn status_bytes(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib = kib.ok_or_else(|| format!("the system doesn't tell {name}"))?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// Child: prints what this program takes without a log.
pub(crate) fn print_own() -> Result<()> {
    println!("anon {}", anon_bytes()?);
    Ok(())
}

/// Child: a log with nothing to do.
pub(crate) fn idle(directory: &Path) -> Result<()> {
    let log = Log::open(directory)?;
    let topic = log.create_topic("idle", TopicOptions::default().partitions(6))?;
    let producer = log.producer("idle")?;
    producer.blocking_send(&topic, Event::new("key", "value"))?;
    setup::settle(&log);
    print_own()
}

/// The most that this process has while something is done, and what that gave.
fn most_while<T>(work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<u64> {
            let mut most = anon_bytes()?;
            while !done.load(Ordering::Acquire) {
                most = most.max(anon_bytes()?);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(most)
        });
        let made = work();
        done.store(true, Ordering::Release);
        let most = watcher.join().unwrap_or_else(|_| Err("the watcher panicked".into()))?;
        Ok((most, made?))
    })
}

/// Child: sends as fast as it may, then reads, and watches its memory.
pub(crate) fn flood(directory: &Path, period: Duration, bytes_max: u64) -> Result<()> {
    let log = setup::open(directory, Durability::Fsync, Ring::Default, 0)?;
    let topic = log.create_topic("flood", TopicOptions::default().partitions(8))?;
    let subscriber = log.consumer("slow").start(Start::Earliest).subscribe([&topic])?;
    let producer = log.producer("flood")?;
    let mut values = Values::new(1024);
    setup::settle(&log);
    let before = anon_bytes()?;
    let began = Instant::now();
    let (most, written) = most_while(|| {
        let mut written = 0;
        while written < bytes_max && began.elapsed() < period {
            for _ in 0..1024 {
                // Nobody waits for the tickets: the queue's bound alone holds the sender back.
                drop(producer.blocking_submit(&topic, Event::unkeyed(values.take()))?);
            }
            written += setup::MIB;
        }
        Ok(written)
    })?;
    let elapsed_ms = began.elapsed().as_millis();
    println!("before {before}\nmost {most}\nelapsed_ms {elapsed_ms}\nwritten {written}");

    setup::settle(&log);
    let behind = BEHIND_BYTES.min(written);
    let began = Instant::now();
    let (most, ()) = most_while(|| catch_up(subscriber, behind))?;
    println!("behind {behind}\nbehind_most {most}\nbehind_ms {}", began.elapsed().as_millis());
    Ok(())
}

fn catch_up(mut subscriber: Consumer, bytes: u64) -> Result<()> {
    let mut read = 0;
    while read < bytes {
        let batch = subscriber.blocking_next()?.ok_or("the log was closed")?;
        let records = batch.blocking_ack()?;
        read += records.iter().map(|record| record.value().len() as u64).sum::<u64>();
    }
    Ok(())
}

/// Child: opens a log of many partitions.
pub(crate) fn partitions(directory: &Path) -> Result<()> {
    let began = Instant::now();
    let log = Log::open(directory)?;
    println!("elapsed_us {}\nfile {}", began.elapsed().as_micros(), status_bytes("RssFile:")?);
    print_own()?;
    Ok(log.close()?)
}
