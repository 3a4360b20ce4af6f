//! `bench produce`, `consume`, `e2e`, `txn`: what a node does, measured with this client over its socket, in a topic
//! of its own that is deleted afterwards.
//!
//! One connection, and one request of it at a time: it says what one client gets, not what a node can do.

use crate::args::{BenchVerb, Global, Load};
use crate::bench::{Percentiles, check_not_interrupted};
use crate::failure::Failure;
use crate::interrupt;
use crate::node::{Node, Remote, Seen};
use crate::place::{self, Place, TopicFacts};
use crate::report::Report;
use crate::sink::Sink;
use exactlog::{Bytes, Event, TopicConfig};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Records of a transaction.
const RECORDS: u64 = 10;
/// How long a fetch waits at the node, in ms.
const WAIT_MS: i32 = 500;
/// How long a record may take until it is fetched.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// What was measured: single calls, and how many records in how long.
struct Measured {
    times: Vec<Duration>,
    records: u64,
    lasted: Duration,
    note: &'static str,
}

pub(crate) fn run(global: &Global, verb: &BenchVerb) -> Result<Report, Failure> {
    let Some(address) = &global.bootstrap else {
        return Err(Failure::usage("this bench measures a node, and none is named")
            .hint("--bootstrap HOST:PORT names it; bench embedded measures a directory"));
    };
    let node = Node::connect(global, address)?;
    let name = format!("exactlog-bench-{}", std::process::id());
    node.create_topic(&name, 1, &TopicConfig::default(), &[])?;
    interrupt::watch();
    let topic = place::topic(&node, &name)?;
    let bench = Bench { global, address, topic };
    let measured = match verb {
        BenchVerb::Produce(load) => bench.produce(load).map(|it| (it, load)),
        BenchVerb::Consume(load) => bench.consume(load).map(|it| (it, load)),
        BenchVerb::E2e(load) => bench.end_to_end(load).map(|it| (it, load)),
        BenchVerb::Txn(load) => bench.transactions(load).map(|it| (it, load)),
        BenchVerb::Embedded { .. } => Err(Failure::usage("bench embedded measures a directory")),
    };
    let removed = node.delete_topic(&bench.topic);
    let (Measured { times, records, lasted, note }, load) = measured?;
    removed?;
    let rate = records as f64 / lasted.as_secs_f64().max(f64::MIN_POSITIVE);
    let calls = times.len();
    Ok(Report::fields()
        .field("latency_us", Percentiles::of(times).value())
        .field("calls", calls)
        .field("events_per_second", rate.round() as u64)
        .field("bytes_per_second", (rate * f64::from(load.size)).round() as u64)
        .field("events", records)
        .field("value_bytes", load.size)
        .field("node", address.as_str())
        .note(note))
}

struct Bench<'a> {
    global: &'a Global,
    address: &'a str,
    topic: TopicFacts,
}

impl Bench<'_> {
    fn node(&self) -> Result<Node, Failure> {
        Node::connect(self.global, self.address)
    }

    fn fill(&self, events: u64, size: u32) -> Result<Duration, Failure> {
        let mut producer = Remote::idempotent(self.node()?, self.topic.clone())?;
        let value = value(size);
        let since = Instant::now();
        for _ in 0..events {
            check_not_interrupted()?;
            producer.submit(Event::unkeyed(value.clone()), None)?;
        }
        producer.settle(0)?;
        Ok(since.elapsed())
    }

    fn produce(&self, load: &Load) -> Result<Measured, Failure> {
        let mut producer = Remote::idempotent(self.node()?, self.topic.clone())?;
        let times = times(load.calls, |_| {
            producer.submit(Event::unkeyed(value(load.size)), None)?;
            producer.settle(0)
        })?;
        let lasted = self.fill(load.events, load.size)?;
        let note = "latency: one record that is waited for; rate: batches of 128 KiB, one behind the other";
        Ok(Measured { times, records: load.events, lasted, note })
    }

    fn consume(&self, load: &Load) -> Result<Measured, Failure> {
        self.fill(load.events, load.size)?;
        let node = self.node()?;
        let (mut times, mut next, mut records) = (Vec::new(), 0, 0);
        let since = Instant::now();
        while records < load.events {
            check_not_interrupted()?;
            let begun = Instant::now();
            let fetched = node.fetch(&self.topic.name, 0, next, Seen::Committed, WAIT_MS)?;
            times.push(begun.elapsed());
            records += fetched.batches.iter().map(|batch| u64::from(batch.record_count())).sum::<u64>();
            next = fetched.next;
        }
        let note = "latency: one fetch of about 1 MiB; rate: one fetch behind the other";
        Ok(Measured { times, records, lasted: since.elapsed(), note })
    }

    /// A thread waits at the node; each record is sent when the one before has arrived.
    fn end_to_end(&self, load: &Load) -> Result<Measured, Failure> {
        let (arrived, arrivals) = channel();
        let (ends, ended) = channel();
        let (reader, topic) = (self.node()?, self.topic.name.to_string());
        let reads = thread::Builder::new().name("exactlog-bench".into());
        // It ends with the channel.
        let reading = reads.spawn(move || tell_arrivals(&reader, &topic, &arrived, &ended));
        let reading = reading.map_err(|error| Failure::new("OTHER", format!("start a thread: {error}")))?;
        let mut producer = Remote::idempotent(self.node()?, self.topic.clone())?;
        let since = Instant::now();
        let times = times(load.calls, |nth| {
            producer.submit(Event::unkeyed(value(load.size)), None)?;
            producer.settle(0)?;
            loop {
                let up_to = arrivals.recv_timeout(ARRIVES_WITHIN);
                let late = |_| Failure::new("NETWORK", format!("record {nth} hasn't arrived"));
                if up_to.map_err(late)?? > nth {
                    return Ok(());
                }
            }
        });
        let lasted = since.elapsed();
        drop(ends);
        _ = reading.join();
        let note =
            "latency: from the send of a record until a consumer has it; rate: the same, one at a time";
        Ok(Measured { times: times?, records: load.calls, lasted, note })
    }

    fn transactions(&self, load: &Load) -> Result<Measured, Failure> {
        let id = self.topic.name.to_string();
        let mut producer = Remote::transactional(self.node()?, self.topic.clone(), id)?;
        let since = Instant::now();
        let times = times(load.calls, |_| {
            let record = || (Event::unkeyed(value(load.size)), Some(0));
            let records = (0..RECORDS).map(|_| record()).collect();
            producer.commit(records, None).map(drop).map_err(|(_, failure)| failure)
        })?;
        let note = "latency: one transaction of 10 records; rate: one behind the other";
        Ok(Measured { times, records: load.calls * RECORDS, lasted: since.elapsed(), note })
    }
}

/// Fetches, and tells each time up to where, until nobody listens.
fn tell_arrivals(node: &Node, topic: &str, arrived: &Sender<Result<u64, Failure>>, ended: &Receiver<()>) {
    let mut next = 0;
    while ended.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
        let fetched = node.fetch(topic, 0, next, Seen::Committed, WAIT_MS).map(|fetched| fetched.next);
        let is_failure = fetched.is_err();
        match fetched {
            Ok(up_to) if up_to == next => continue,
            Ok(up_to) => next = up_to,
            Err(_) => {}
        }
        if arrived.send(fetched).is_err() || is_failure {
            return;
        }
    }
}

fn value(size: u32) -> Bytes {
    Bytes::from(vec![b'x'; size as usize])
}

/// How long each of so many calls takes.
fn times(calls: u64, mut call: impl FnMut(u64) -> Result<(), Failure>) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for nth in 0..calls {
        check_not_interrupted()?;
        let since = Instant::now();
        call(nth)?;
        times.push(since.elapsed());
    }
    Ok(times)
}
