//! An event bus inside a process: three subscribers with their own types and their own pace, and nobody misses
//! anything.
//!
//! ```sh
//! cargo run --release -p exactlog --example event-bus
//! ```
//!
//! Where `tokio::sync::broadcast` would be, with its bounded buffer and its `Lagged`, there is a topic with a group for
//! each subscriber. Look at the slow one: it falls far behind, holds nobody up, reads the older events from the log,
//! and misses none. Kill it in the middle and run it again: subscribers go on where they were.

use exactlog::{Error, Event, Log, Topic, TopicOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

const EVENTS: u64 = 100_000;

/// Tickets that are kept before the oldest is awaited.
const IN_FLIGHT: usize = 4096;

/// What happens in a shop.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Happening {
    Visited {
        customer: u64,
    },
    Bought {
        customer: u64,
        cents: u64,
    },
    /// Nothing more will happen today.
    Closed,
}

/// What the bookkeeper needs of it: whatever else there is, they don't care.
#[derive(Debug, Deserialize)]
struct Sale {
    kind: String,
    #[serde(default)]
    cents: u64,
}

/// Somebody with a group, and with a type and a state of their own.
struct Subscriber<T, S> {
    log: Log,
    topic: Topic,
    group: &'static str,
    /// What it rests after each batch.
    pace: Duration,
    state: S,
    handle: fn(&mut S, T) -> bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = std::env::args().nth(1).unwrap_or("./exactlog-data/event-bus".into());
    let log = Log::open(directory)?;
    // One partition: every subscriber sees everything in one order.
    let shop = log.create_topic("shop", TopicOptions::default())?;

    let bookkeeper = Subscriber::new(&log, &shop, "bookkeeper", 0u64, |cents, sale: Sale| {
        *cents += sale.cents;
        sale.kind == "Closed"
    });
    let counter = Subscriber::new(&log, &shop, "counter", BTreeSet::new(), |customers, happening| {
        if let Happening::Visited { customer } | Happening::Bought { customer, .. } = happening {
            customers.insert(customer);
        }
        matches!(happening, Happening::Closed)
    });
    let mut slow = Subscriber::new(&log, &shop, "slow", 0u64, |sales, happening| {
        *sales += u64::from(matches!(happening, Happening::Bought { .. }));
        matches!(happening, Happening::Closed)
    });
    slow.pace = Duration::from_millis(3);
    let subscribers = (tokio::spawn(bookkeeper.run()), tokio::spawn(counter.run()), tokio::spawn(slow.run()));

    println!("published   {} events", publish(&log, &shop).await?);
    let (cents, customers, sales) = (subscribers.0.await??, subscribers.1.await??, subscribers.2.await??);
    println!("{} customers bought {sales} times, for {}.{:02}", customers.len(), cents / 100, cents % 100);
    log.close()?;
    Ok(())
}

/// Publishes without waiting for each event, and returns when all are on disk.
async fn publish(log: &Log, topic: &Topic) -> Result<u64, Failure> {
    let producer = log.producer("shop")?;
    let mut tickets = std::collections::VecDeque::new();
    for number in 0..EVENTS {
        let customer = number % 1000;
        let happening = match number {
            _ if number + 1 == EVENTS => Happening::Closed,
            _ if number % 3 == 0 => Happening::Bought { customer, cents: 100 + number % 900 },
            _ => Happening::Visited { customer },
        };
        tickets.push_back(producer.submit(topic, Event::json(customer.to_string(), &happening)?).await?);
        if tickets.len() == IN_FLIGHT {
            tickets.pop_front().expect("it is full").await?;
        }
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(EVENTS)
}

impl<T: DeserializeOwned, S> Subscriber<T, S> {
    fn new(log: &Log, topic: &Topic, group: &'static str, state: S, handle: fn(&mut S, T) -> bool) -> Self {
        Subscriber { log: log.clone(), topic: topic.clone(), group, pace: Duration::ZERO, state, handle }
    }

    /// Shows events to `handle` until it says that this was the last one.
    async fn run(mut self) -> Result<S, Failure> {
        let mut consumer = self.log.consumer(self.group).subscribe([&self.topic])?;
        let mut expected = self.log.committed(self.group, &self.topic, 0).unwrap_or(0);
        let (mut events, mut missed, mut behind, mut is_last) = (0, 0, 0, false);
        while !is_last {
            let batch = consumer.next().await?.ok_or(Error::Closed)?;
            for record in &batch {
                events += 1;
                missed += record.offset - expected;
                expected = record.offset + 1;
                is_last = (self.handle)(&mut self.state, record.json()?);
            }
            batch.ack().await?; // after the work: what was not acked when the process is killed comes again
            behind = behind.max(self.log.lag(self.group, &self.topic));
            if !self.pace.is_zero() {
                tokio::time::sleep(self.pace).await;
            }
        }
        println!("{:<11} {events} events, {missed} missed, at most {behind} behind", self.group);
        Ok(self.state)
    }
}
