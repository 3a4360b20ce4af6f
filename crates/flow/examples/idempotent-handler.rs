//! Every order comes three times, and is paid once, also if the first try fails half way.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example idempotent-handler
//! ```
//!
//! The bank is outside of the log, so the processor reserves an order's id before it asks (`Dedup::lease`), and the
//! bank is given the id as its idempotency key. A failure releases the id: the next try, or a copy, pays. Run it again:
//! the same orders are sent once more, and none is paid twice. Kill it anywhere: the same.

use exactlog::{Event, Log, TableOptions, TopicOptions};
use exactlog_flow::{Context, Dedup, Failure, Processor, Retry};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a bank does that knows idempotency keys: it books once for each.
#[derive(Default)]
struct Bank {
    asked: u32,
    booked: BTreeMap<String, u32>,
}

impl Bank {
    fn pay(&mut self, key: String) -> Result<(), Failure> {
        self.asked += 1;
        let is_first = !self.booked.contains_key(&key);
        *self.booked.entry(key.clone()).or_default() += 1;
        // The answer to this one is lost on the way, once: the booking was made.
        match is_first && key == "order-2" {
            true => Err(Failure::transient("NoAnswer", "the line broke")),
            false => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/idempotent-handler")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(2))?;
    let payments = log.create_topic("payments", TopicOptions::default())?;
    let totals = log.create_table("totals", TableOptions::default())?;
    let producer = log.producer("shop")?;
    for _copy in 0..3 {
        for order in ["order-1", "order-2", "order-3"] {
            producer.send(&orders, Event::new(order, "20").header("message-id", order)).await?;
        }
    }
    let bank = Arc::new(Mutex::new(Bank::default()));
    let handler = {
        let (bank, payments, totals) = (bank.clone(), payments.clone(), totals.clone());
        move |order: Context| {
            let (bank, payments, totals) = (bank.clone(), payments.clone(), totals.clone());
            async move {
                let amount: u64 = order.value_str()?.parse()?;
                bank.lock().unwrap_or_else(PoisonError::into_inner).pay(order.event_id())?;
                // In the log it needs no key: this is one commit with the order's mark.
                let paid: u64 = order.get_json(&totals, "paid")?.unwrap_or(0);
                order.put_json(&totals, "paid", &(paid + amount))?;
                order.send(&payments, Event::new(order.key().to_vec(), amount.to_string()))
            }
        }
    };
    let processor = Processor::new(&log, "billing")
        .topic(&orders)
        .dedup(Dedup::default().lease(Duration::from_secs(10)))
        .retry(Retry::default().backoff(Duration::from_millis(100), 2.0, Duration::from_secs(1)));
    let running = processor.start(handler)?;
    while log.lag("billing", &orders) > 0 || !exactlog_flow::inspect(&log, "billing")?.waiting.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = running.metrics().counts;
    running.stop().await?;

    let bank = bank.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "this run   {} done, {} duplicates; the bank was asked {} times",
        counts.done_total(),
        counts.duplicate,
        bank.asked
    );
    let mut paid = Vec::new();
    for payment in log.read_view().records(&payments) {
        paid.push(payment?.key_str()?.to_owned());
    }
    paid.sort();
    let total: u64 = totals.get("paid")?.map_or(Ok(0), |entry| entry.json())?;
    println!("in all     {} paid, EUR {total}", paid.join(", "));
    Ok(())
}
