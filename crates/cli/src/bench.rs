//! `bench embedded`: what the log does on this machine, measured in a directory of its own beside `--data`, which is
//! removed.

use crate::args::{BenchVerb, Global};
use crate::bench_node;
use crate::failure::Failure;
use crate::hardware;
use crate::interrupt;
use crate::open;
use crate::report::Report;
use crate::topic::close;
use exactlog::disk::{Disk, RealDisk};
use exactlog::{Event, Log, Ticket, Topic, TopicOptions};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Times of many calls, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Percentiles {
    pub(crate) fn of(mut times: Vec<Duration>) -> Percentiles {
        times.sort_unstable();
        // The smallest time that at least this many thousandths of the calls didn't exceed.
        let at = |thousandths: usize| {
            let rank = (times.len() * thousandths).div_ceil(1000).max(1);
            times.get(rank - 1).map_or(0, |time| time.as_micros() as u64)
        };
        Percentiles { p50_us: at(500), p90_us: at(900), p99_us: at(990), p999_us: at(999), max_us: at(1000) }
    }

    pub(crate) fn value(self) -> Value {
        json!({"p50": self.p50_us, "p90": self.p90_us, "p99": self.p99_us, "p99.9": self.p999_us, "max": self.max_us})
    }
}

pub(crate) fn run(global: &Global, verb: &BenchVerb) -> Result<Report, Failure> {
    let BenchVerb::Embedded { calls, events, size } = verb else { return bench_node::run(global, verb) };
    let parent = hardware::existing_parent(&global.data);
    let name = format!("exactlog-bench-{}", std::process::id());
    let place = Global { data: parent.join(&name), ..global.clone() };
    interrupt::watch();
    let measured = measure(&place, *calls, *events, *size as usize);
    let removed = RealDisk::existing(&parent).and_then(|disk| remove(&disk, &name));
    let (latency, rate) = measured?;
    removed.map_err(|error| Failure::new("DISK", format!("remove {}: {error}", place.data.display())))?;
    let durability = global.settings.iter().rev().find(|setting| setting.key == "durability");
    let file_system = hardware::file_system(&parent).map(|(kind, _)| kind);
    Ok(Report::fields()
        .field("latency_us", latency.value())
        .field("calls", *calls)
        .field("events_per_second", rate.round() as u64)
        .field("bytes_per_second", (rate * f64::from(*size)).round() as u64)
        .field("events", *events)
        .field("value_bytes", *size)
        .field("durability", durability.map_or("fsync", |setting| setting.value.as_str()))
        .field("processors", hardware::processors())
        .field("memory_bytes", hardware::memory_bytes())
        .field("system", hardware::system())
        .field("file_system", file_system)
        .note("latency: one caller that waits for each event; rate: one caller with 10,000 events in flight"))
}

pub(crate) fn check_not_interrupted() -> Result<(), Failure> {
    let interrupted = || Failure::new("INTERRUPTED", "interrupted before it was measured");
    match interrupt::asked() {
        true => Err(Failure { exit: interrupt::EXIT, ..interrupted() }),
        false => Ok(()),
    }
}

fn measure(place: &Global, calls: u64, events: u64, size: usize) -> Result<(Percentiles, f64), Failure> {
    let log = open::write(place)?;
    let topic = log.create_topic("bench", TopicOptions::default())?;
    let progress =
        if open::shows_progress(place) { ProgressBar::new(calls + events) } else { ProgressBar::hidden() };
    let latency = one_by_one(&log, &topic, calls, size, &progress)?;
    let rate = in_flight(&log, &topic, events, size, &progress)?;
    progress.finish_and_clear();
    close(log)?;
    Ok((latency, rate))
}

fn one_by_one(
    log: &Log,
    topic: &Topic,
    calls: u64,
    size: usize,
    progress: &ProgressBar,
) -> Result<Percentiles, Failure> {
    let producer = log.producer("bench-latency")?;
    let mut times = Vec::new();
    for _ in 0..calls {
        check_not_interrupted()?;
        let event = Event::unkeyed(vec![b'x'; size]);
        let since = Instant::now();
        producer.blocking_send(topic, event)?;
        times.push(since.elapsed());
        progress.inc(1);
    }
    Ok(Percentiles::of(times))
}

fn in_flight(
    log: &Log,
    topic: &Topic,
    events: u64,
    size: usize,
    progress: &ProgressBar,
) -> Result<f64, Failure> {
    const MOST: usize = 10_000;
    let producer = log.producer("bench-rate")?;
    let value = exactlog::Bytes::from(vec![b'x'; size]);
    let mut tickets: VecDeque<Ticket> = VecDeque::with_capacity(MOST);
    let since = Instant::now();
    for _ in 0..events {
        if tickets.len() == MOST {
            check_not_interrupted()?;
            for ticket in tickets.drain(..MOST / 2) {
                ticket.wait()?;
            }
            progress.inc(MOST as u64 / 2);
        }
        tickets.push_back(producer.blocking_submit(topic, Event::unkeyed(value.clone()))?);
    }
    for ticket in tickets {
        ticket.wait()?;
    }
    Ok(events as f64 / since.elapsed().as_secs_f64())
}

/// Removes a directory with everything in it.
fn remove(disk: &RealDisk, dir: &str) -> std::io::Result<()> {
    for entry in disk.list(dir)? {
        let name = format!("{dir}/{}", entry.name);
        if entry.is_dir { remove(disk, &name)? } else { disk.unlink(&name)? }
    }
    disk.remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=1000).rev().map(Duration::from_micros).collect();
        let found = Percentiles::of(times);
        let expected = Percentiles { p50_us: 500, p90_us: 900, p99_us: 990, p999_us: 999, max_us: 1000 };
        assert_eq!(found, expected);
        assert_eq!(Percentiles::of(vec![Duration::from_micros(7)]).p50_us, 7);
        assert_eq!(Percentiles::of(Vec::new()).max_us, 0);
    }
}
