//! Three attempts, a dead letter, the fix, and the dead letter put back: processed once.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example retry-dlq
//! ```
//!
//! The bank is closed for one customer. Look at the attempts: the order of that customer is tried at 0, 1 and 3 tenths
//! of a second, the next order of the same customer waits behind it, those of others don't. Run it again: nothing is
//! left to do, and each order was paid once.

use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Context, DeadLetters, Failure, Processor, Retry, Running};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Customer and order; the id says which orders are the same one, also over runs.
const ORDERS: [(&str, &str); 4] =
    [("ada", "order-1"), ("grace", "order-2"), ("ada", "order-3"), ("grace", "order-4")];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/retry-dlq")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(2))?;
    let payments = log.create_topic("payments", TopicOptions::default())?;
    let producer = log.producer("shop")?;
    for (customer, order) in ORDERS {
        let event = Event::new(customer, order).header("message-id", order).id(order);
        producer.send(&orders, event).await?;
    }

    let bank_is_open = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let start = || -> Result<Running, exactlog_flow::Error> {
        let (payments, bank_is_open) = (payments.clone(), bank_is_open.clone());
        // A tenth of the usual waits, so that the example is short.
        let retry = Retry::default().backoff(Duration::from_millis(100), 2.0, Duration::from_secs(1));
        Processor::new(&log, "billing").topic(&orders).retry(retry).start(move |order: Context| {
            let (payments, bank_is_open) = (payments.clone(), bank_is_open.load(Ordering::Relaxed));
            async move {
                let tenths = begin.elapsed().as_millis() / 100;
                let number = order.value_str()?.to_owned();
                println!("{tenths:>3} tenths  {number}  attempt {}", order.attempt());
                if number == "order-1" && !bank_is_open {
                    return Err(Failure::transient("BankClosed", "come back later"));
                }
                order.send(&payments, Event::new(order.key().to_vec(), number))
            }
        })
    };

    let billing = start()?;
    while log.lag("billing", &orders) > 0 || !exactlog_flow::inspect(&log, "billing")?.waiting.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    DeadLetters::open(&log, "dlq.orders")?.each(|dead| {
        let (class, message) = (dead.error_class.unwrap_or_default(), dead.error_message.unwrap_or_default());
        let (number, attempts) = (String::from_utf8_lossy(dead.record.value()), dead.attempts.unwrap_or(0));
        println!("dead        {number}  {class}: {message}, after {attempts} attempts");
        true
    })?;

    bank_is_open.store(true, Ordering::Relaxed); // the fix
    let redriven = DeadLetters::open(&log, "dlq.orders")?.redrive().run().await?;
    println!("put back    {}", redriven.done);
    billing.until(|metrics| metrics.counts.done_total() >= redriven.done && metrics.held == 0).await?;
    while !exactlog_flow::inspect(&log, "billing")?.waiting.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    billing.stop().await?;

    let mut paid = Vec::new();
    for payment in log.read_view().records(&payments) {
        paid.push(payment?.value_str()?.to_owned());
    }
    paid.sort();
    println!("paid        {}", paid.join(", "));
    Ok(())
}
