//! Bursts of individually acknowledged events, beside batches of 1,000 that were built before.

use crate::callers;
use crate::engine;
use crate::limits::{Limits, rate_text};
use crate::report::{Report, Survives, latency_text};
use crate::setup::{self, Measures, Result, Ring};
use bytes::Bytes;
use exactlog::{Durability, Event, Log, Producer, Ticket, Topic, TopicOptions};
use exactlog_benches::chain::keys_of;
use exactlog_benches::samples::{Samples, Summary, number_text};
use exactlog_benches::value::Values;
use exactlog_core::batch::{Batch, BatchBuilder};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) const PARTITIONS: u32 = 8;

/// Records of a batch of the comparison.
pub(crate) const BATCH_RECORDS: u64 = 1000;

/// Batches in flight in the comparison.
pub(crate) const BATCHES_IN_FLIGHT: usize = 8;

/// One of so many events is timed: a reading of the clock costs about as much as sending an event.
const TIMED_EVERY: u64 = 64;

/// How often a burst in a used ring is measured; the median counts.
const ROUNDS: usize = 5;

/// The one in the middle, by rate.
fn median(mut bursts: Vec<Burst>) -> Burst {
    bursts.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    bursts[bursts.len() / 2]
}

/// What a burst took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub(crate) records: u64,
    pub(crate) value_bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Summary,
}

impl Burst {
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn text(&self) -> String {
        let bytes = rate_text(self.rate() * self.value_bytes as f64);
        format!("{} rec/s ({bytes}), ack {}", number_text(self.rate()), latency_text(&self.latency))
    }
}

/// Durable bursts.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("burst, one thread, 8 partitions, 4 MiB in flight, durable");
    of_durability(measures, limits, report, Durability::Fsync)
}

/// The same, acknowledged by the system's page cache.
pub(crate) fn run_os(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("burst, one thread, 8 partitions, 4 MiB in flight, page cache");
    of_durability(measures, limits, report, Durability::Os)
}

fn of_durability(
    measures: &Measures,
    limits: &Limits,
    report: &mut Report,
    durability: Durability,
) -> Result<()> {
    for value_bytes in [100, 1024] {
        let mut rows = Rows { limits, report, durability, value_bytes };
        let bytes = measures.burst_bytes();
        with_defaults(measures, &mut rows, bytes)?;
        in_the_ring(measures, &mut rows, bytes)?;
    }
    Ok(())
}

struct Rows<'a> {
    limits: &'a Limits,
    report: &'a mut Report,
    durability: Durability,
    value_bytes: u64,
}

impl Rows<'_> {
    fn add(&mut self, what: &str, burst: &Burst, compared: &str) {
        let (survives, name, limit) = match self.durability {
            Durability::Fsync => (Survives::PowerLoss, "synced writes", self.limits.drain_rate),
            Durability::Os | Durability::Interval(_) => (Survives::Kill, "write(2)", self.limits.write_rate),
        };
        let share = burst.rate() * self.value_bytes as f64 / limit;
        let figure = format!("{} B: {what}", self.value_bytes);
        self.report.row(&figure, survives, &burst.text(), &format!("{share:.2} of {name}{compared}"));
    }
}

fn topic_of(log: &Log) -> Result<(Topic, Producer)> {
    let topic = log.create_topic("burst", TopicOptions::default().partitions(PARTITIONS))?;
    Ok((topic, log.producer("burst")?))
}

fn with_defaults(measures: &Measures, rows: &mut Rows<'_>, bytes: u64) -> Result<()> {
    let directory = measures.fresh()?;
    let log = setup::open(directory.path(), rows.durability, Ring::Default, bytes)?;
    let (topic, producer) = topic_of(&log)?;
    let mut values = Values::new(rows.value_bytes as usize);
    let fresh = tickets(&producer, &topic, &mut values, bytes, &[])?;
    rows.add("tickets, fresh log, default settings", &fresh, "");
    setup::settle(&log);
    setup::warm_up(&log, &topic, &producer, setup::GIB)?;
    let warm = tickets(&producer, &topic, &mut values, bytes, &[])?;
    rows.add("tickets, used log, default settings", &warm, "");
    Ok(())
}

fn in_the_ring(measures: &Measures, rows: &mut Rows<'_>, bytes: u64) -> Result<()> {
    let directory = measures.fresh()?;
    let ring_bytes = setup::ring_bytes(bytes);
    let log = setup::open(directory.path(), rows.durability, Ring::HoldsTheBurst, bytes)?;
    let (topic, producer) = topic_of(&log)?;
    let mut values = Values::new(rows.value_bytes as usize);

    // Single bursts spread: each is repeated, in turn with the others.
    let (mut pipelined, mut unkeyed, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..measures.pick(ROUNDS, 1) {
        setup::warm_up(&log, &topic, &producer, ring_bytes)?;
        pipelined.push(from_threads(&log, &topic, rows.value_bytes, bytes)?);
        setup::warm_up(&log, &topic, &producer, ring_bytes)?;
        unkeyed.push(tickets(&producer, &topic, &mut values, bytes, &[])?);
        setup::warm_up(&log, &topic, &producer, ring_bytes)?;
        keyed.push(tickets(&producer, &topic, &mut values, bytes, &keys_of(PARTITIONS))?);
    }
    let (pipelined, unkeyed, keyed) = (median(pipelined), median(unkeyed), median(keyed));
    drop((topic, producer));
    log.close()?;
    drop(directory);
    let alone = engine::burst(measures, rows.durability, rows.value_bytes, bytes)?;

    let ratio = |burst: &Burst| {
        let (to_pipelined, to_alone) = (burst.rate() / pipelined.rate(), burst.rate() / alone.rate());
        format!("; {to_pipelined:.2} × append_batch, {to_alone:.2} × engine alone")
    };
    rows.add("tickets, used ring that holds the burst", &unkeyed, &ratio(&unkeyed));
    rows.add("the same, with keys: all 8 partitions at once", &keyed, &ratio(&keyed));
    rows.add("built batches of 1,000 from 8 threads: `Log::append_batch`", &pipelined, "");
    rows.add("built batches of 1,000, 8 to a group: `Shard::execute`, no queue, no thread", &alone, "");
    Ok(())
}

/// Sends events from one thread and takes the tickets' answers as they come; keys are used in turn.
pub(crate) fn tickets(
    producer: &Producer,
    topic: &Topic,
    values: &mut Values,
    bytes: u64,
    keys: &[&'static [u8]],
) -> Result<Burst> {
    let value_bytes = values.len_bytes() as u64;
    let records = bytes / value_bytes;
    let mut flying = Flying::default();
    let mut keys_in_turn = keys.iter().cycle();
    let began = Instant::now();
    for number in 0..records {
        let event = match keys_in_turn.next() {
            Some(key) => Event::new(*key, values.take()),
            None => Event::unkeyed(values.take()),
        };
        let is_timed = number % TIMED_EVERY == 0;
        let sent = is_timed.then(Instant::now);
        flying.add(producer.blocking_submit(topic, event)?, sent);
        if is_timed {
            flying.land()?;
        }
    }
    flying.land_all()?;
    let elapsed = began.elapsed();
    if flying.landed != records {
        return Err(format!("{} of {records} events were acknowledged", flying.landed).into());
    }
    Ok(Burst { records, value_bytes, elapsed, latency: flying.latency.summary() })
}

/// Tickets that are held, oldest first.
#[derive(Default)]
struct Flying {
    tickets: VecDeque<Ticket>,
    /// When some of them were sent: the number of the ticket, and the time.
    sent: VecDeque<(u64, Instant)>,
    landed: u64,
    latency: Samples,
}

impl Flying {
    fn add(&mut self, ticket: Ticket, sent: Option<Instant>) {
        if let Some(at) = sent {
            self.sent.push_back((self.landed + self.tickets.len() as u64, at));
        }
        self.tickets.push_back(ticket);
    }

    /// Takes the answers that are there.
    fn land(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(answer) = self.tickets.front().and_then(Ticket::peek) {
            answer?;
            self.tickets.pop_front();
            self.count(now);
        }
        Ok(())
    }

    fn land_all(&mut self) -> Result<()> {
        while let Some(ticket) = self.tickets.pop_front() {
            ticket.wait()?;
            self.count(Instant::now());
        }
        Ok(())
    }

    fn count(&mut self, now: Instant) {
        if let Some((_, at)) = self.sent.pop_front_if(|(number, _)| *number == self.landed) {
            self.latency.push(now.duration_since(at));
        }
        self.landed += 1;
    }
}

/// A batch of [`BATCH_RECORDS`], as a client would send it.
pub(crate) fn built_batch(value_bytes: u64) -> Batch {
    let mut values = Values::new(value_bytes as usize);
    let mut builder = BatchBuilder::new((BATCH_RECORDS * (value_bytes + 16)) as usize);
    for _ in 0..BATCH_RECORDS {
        builder.append(1_700_000_000_000, None, Some(values.take()), &[]);
    }
    builder.finish(None)
}

/// The lowest public interface that takes several batches at a time from outside: a thread for each.
fn from_threads(log: &Log, topic: &Topic, value_bytes: u64, bytes: u64) -> Result<Burst> {
    let batch = built_batch(value_bytes);
    let encoded: Bytes = [batch.header().as_slice(), batch.body()].concat().into();
    let batches_each = bytes / (BATCH_RECORDS * value_bytes) / BATCHES_IN_FLIGHT as u64;
    let append = |partition: u32| {
        let encoded = &encoded;
        move || -> Result<Samples> {
            let mut latency = Samples::default();
            for _ in 0..batches_each {
                let began = Instant::now();
                log.append_batch(topic, partition, encoded.clone())?;
                latency.push(began.elapsed());
            }
            Ok(latency)
        }
    };
    let calls = callers::threads((0..BATCHES_IN_FLIGHT).map(|index| append(index as u32 % PARTITIONS)))?;
    let records = calls.latency.count as u64 * BATCH_RECORDS;
    Ok(Burst { records, value_bytes, elapsed: calls.elapsed, latency: calls.latency })
}
