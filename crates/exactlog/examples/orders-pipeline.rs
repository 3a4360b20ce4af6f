//! Orders are paid, then taken from the stock: three threads, two hand-overs, each exactly once.
//!
//! ```sh
//! cargo run --release -p exactlog --example orders-pipeline -- --orders 10000
//! ```
//!
//! Every few transactions the pretended bank fails and the transaction is dropped: what it had consumed comes again,
//! what it had written never was. Look at the last lines: each order was paid once, and the stock adds up. Kill it at
//! any time and run it again: it goes on where it was, and the last lines are the same.

use exactlog::{Event, Log, Topic, TopicOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ITEMS: [&str; 4] = ["chair", "desk", "lamp", "shelf"];

/// Every so many transactions the bank can't be reached.
const BANK_FAILS_EVERY: u64 = 7;

/// An order. Its id is the key everywhere: what happens to one order keeps its order.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    item: String,
    quantity: u64,
}

fn main() -> Result<(), Failure> {
    let orders_wanted = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => 1000,
        [flag, number] if flag == "--orders" => number.parse()?,
        _ => return Err("usage: orders-pipeline [--orders N]".into()),
    };
    let log = Log::open("./exactlog-data/orders")?;
    let six = || TopicOptions::default().partitions(6);
    let orders = log.create_topic("orders", six())?;
    let payments = log.create_topic("payments", six())?;
    let taken = log.create_topic("taken-from-stock", six())?;

    let (ordered, paid) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sold, payment, stock) = std::thread::scope(|scope| {
        let selling = scope.spawn(|| ending(&ordered, || sell(&log, &orders, orders_wanted)));
        let paying = scope.spawn(|| ending(&paid, || pass_on(&log, "bank", &orders, &payments, &ordered)));
        let stocking = scope.spawn(|| pass_on(&log, "warehouse", &payments, &taken, &paid));
        (selling.join(), paying.join(), stocking.join())
    });
    sold.map_err(|_| "selling panicked")??;
    let failures = payment.map_err(|_| "paying panicked")??;
    stock.map_err(|_| "stocking panicked")??;
    println!("the bank failed {failures} times in this run");
    report(&log, &orders, &payments, &taken)
}

/// Runs a stage, and lets the next one know that nothing more will come, also after a failure.
fn ending<T>(ended: &AtomicBool, stage: impl FnOnce() -> T) -> T {
    let result = stage();
    ended.store(true, Ordering::Release);
    result
}

/// Takes orders up to the wanted number. The cursor is the number of the next one.
fn sell(log: &Log, orders: &Topic, wanted: u64) -> Result<(), Failure> {
    let mut producer = log.producer("shop")?;
    let mut next = match producer.cursor() {
        Some(cursor) => u64::from_le_bytes(cursor.as_ref().try_into()?),
        None => 0,
    };
    while next < wanted {
        let end = wanted.min(next + 10);
        let mut transaction = producer.begin();
        for id in next..end {
            let item = ITEMS[id as usize % ITEMS.len()].to_string();
            let order = Order { id, item, quantity: 1 + id % 3 };
            transaction.send(orders, Event::json(id.to_string(), &order)?)?;
        }
        next = end;
        transaction.set_cursor(next.to_le_bytes().to_vec())?;
        transaction.blocking_commit()?;
    }
    Ok(())
}

/// Consumes orders from one topic and hands them over to the next; how often it had to begin again.
fn pass_on(log: &Log, stage: &str, from: &Topic, to: &Topic, ended: &AtomicBool) -> Result<u64, Failure> {
    let mut consumer = log.consumer(stage).max_poll_records(25).subscribe([from])?;
    let mut producer = log.producer(stage)?;
    let (mut attempts, mut failures) = (0, 0);
    while let Some(batch) = consumer.blocking_next_for(Duration::from_millis(10))? {
        if batch.is_empty() {
            if ended.load(Ordering::Acquire) && log.lag(stage, from) == 0 {
                break;
            }
            continue;
        }
        attempts += 1;
        let mut transaction = producer.begin();
        for record in &batch {
            let order: Order = record.json()?;
            transaction.send(to, Event::json(order.id.to_string(), &order)?)?;
        }
        if stage == "bank" && attempts % BANK_FAILS_EVERY == 0 {
            failures += 1;
            continue; // Both are dropped: nothing was sent, and the batch will be delivered again.
        }
        transaction.ack(batch);
        transaction.blocking_commit()?;
    }
    Ok(failures)
}

/// Reads all three topics as of one moment, and compares.
fn report(log: &Log, orders: &Topic, payments: &Topic, taken: &Topic) -> Result<(), Failure> {
    let view = log.read_view();
    let read = |topic: &Topic| -> Result<BTreeMap<u64, Vec<Order>>, Failure> {
        let mut found: BTreeMap<u64, Vec<Order>> = BTreeMap::new();
        for record in view.records(topic) {
            let order: Order = record?.json()?;
            found.entry(order.id).or_default().push(order);
        }
        Ok(found)
    };
    let (orders, payments, taken) = (read(orders)?, read(payments)?, read(taken)?);
    let once = |found: &BTreeMap<u64, Vec<Order>>| found.values().filter(|same| same.len() == 1).count();
    let (ordered, paid, shipped) = (once(&orders), once(&payments), once(&taken));
    println!("{ordered} ordered once, {paid} paid once, {shipped} taken from stock once");
    for item in ITEMS {
        let sum = |found: &BTreeMap<u64, Vec<Order>>| -> u64 {
            found.values().flatten().filter(|order| order.item == item).map(|order| order.quantity).sum()
        };
        println!("  {item:<6} {:>7} ordered  {:>7} taken from stock", sum(&orders), sum(&taken));
    }
    Ok(())
}
