//! A key that fails waits with what is behind it; other keys don't notice.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example ordered-retry
//! ```
//!
//! Each of a hundred customers has ten orders; the bank of customer 7 doesn't answer for a while. The orders of each
//! customer are processed in their order, those of customer 7 later. Run it again: it continues with new orders.

use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Context, Failure, Processor, Retry};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

const CUSTOMERS: u32 = 100;
const ORDERS: u32 = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/ordered-retry")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4))?;
    let processed = log.create_topic("processed", TopicOptions::default())?;
    let before = log.bounds(&processed, 0)?.1;
    let producer = log.producer("shop")?;
    for number in 0..ORDERS {
        for customer in 0..CUSTOMERS {
            producer
                .submit(&orders, Event::new(format!("customer-{customer}"), number.to_string()))
                .await?
                .await?;
        }
    }
    let begin = Instant::now();
    // A tenth of the usual waits, so that the example is short.
    let retry =
        Retry::default().max_attempts(10).backoff(Duration::from_millis(100), 2.0, Duration::from_secs(1));
    let output = processed.clone();
    let billing =
        Processor::new(&log, "billing").topic(&orders).retry(retry).start(move |order: Context| {
            let output = output.clone();
            async move {
                if order.key() == b"customer-7" && begin.elapsed() < Duration::from_millis(500) {
                    return Err(Failure::transient("BankClosed", "come back later"));
                }
                let millis = begin.elapsed().as_millis().to_string();
                let event =
                    Event::new(order.key().to_vec(), order.value().to_vec()).header("after-ms", millis);
                order.send(&output, event)
            }
        })?;
    billing.until(|metrics| metrics.counts.done_total() == u64::from(CUSTOMERS * ORDERS)).await?;
    let counts = billing.metrics().counts;
    billing.stop().await?;

    let (mut numbers, mut last) = (BTreeMap::<String, Vec<u32>>::new(), BTreeMap::<String, u64>::new());
    for record in log.read_view().records_from(&processed, 0, before) {
        let record = record?;
        let customer = record.key_str()?.to_owned();
        numbers.entry(customer.clone()).or_default().push(record.value_str()?.parse()?);
        let after_ms: u64 = String::from_utf8_lossy(record.header("after-ms").unwrap_or_default()).parse()?;
        last.insert(customer, after_ms);
    }
    let in_order = numbers.values().filter(|of_one| of_one.iter().copied().eq(0..ORDERS)).count();
    let slow = last.remove("customer-7").unwrap_or_default();
    let others = last.values().copied().max().unwrap_or_default();
    println!(
        "{in_order} of {} customers had their orders in order; {} attempts were repeated",
        numbers.len(),
        counts.retried
    );
    println!("customer-7 was done only after it was let to: {}", slow >= 500);
    println!("all others were done before that: {}", others < 500);
    Ok(())
}
