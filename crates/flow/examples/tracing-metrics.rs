//! One trace id over three topics, a retry and a dead letter that was put back; and the metrics of all of it.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example tracing-metrics
//! ```
//!
//! `RUST_LOG`-like filters, JSON lines and OpenTelemetry exporters are those of the `tracing` subscriber that a program
//! sets up; this one has none, and looks at the headers.

use exactlog::{Event, Log, Record, Topic, TopicOptions};
use exactlog_flow::{Context, DeadLetters, Failure, Processor, Retry};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Passes an event on to the next topic, if it is let to.
fn pass_on(to: &Topic, may: &Arc<AtomicBool>) -> impl exactlog_flow::Handler + use<> {
    let (to, may) = (to.clone(), may.clone());
    move |event: Context| {
        let (to, may) = (to.clone(), may.load(Ordering::Relaxed));
        async move {
            match may {
                true => event.send(&to, Event::new(event.key().to_vec(), event.value().to_vec())),
                false => Err(Failure::transient("Closed", "come back later")),
            }
        }
    }
}

fn trace_of(record: &Record) -> String {
    String::from_utf8_lossy(record.header("traceparent").unwrap_or_default()).into_owned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = "./exactlog-data/tracing-metrics";
    let log = Log::open(directory)?;
    let topics: Vec<Topic> = ["orders", "payments", "shipments"]
        .iter()
        .map(|name| log.create_topic(name, TopicOptions::default()))
        .collect::<Result<_, _>>()?;
    let [orders, payments, shipments] = &topics[..] else { return Ok(()) };
    let (before, may_pay, may_ship) =
        (log.bounds(shipments, 0)?.1, Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let retry = Retry::default().backoff(Duration::from_millis(10), 2.0, Duration::from_secs(1));
    let billing =
        Processor::new(&log, "billing").topic(orders).retry(retry).start(pass_on(payments, &may_pay))?;
    let shipping = Processor::new(&log, "shipping").topic(payments).start(pass_on(shipments, &may_ship))?;

    let order =
        Event::new("order-1", "two chairs").header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    log.producer("shop")?.send(orders, order).await?;
    billing.until(|metrics| metrics.counts.dead == 1).await?; // three attempts, then a dead letter
    may_pay.store(true, Ordering::Relaxed); // the fix
    DeadLetters::open(&log, "dlq.orders")?.redrive().run().await?;
    shipping.until(|metrics| metrics.counts.done_total() == 1).await?;

    let view = log.read_view();
    let dead = view.records(&log.open_topic("dlq.orders")?).last().ok_or("no dead letter")??;
    let paid = view.records(payments).last().ok_or("no payment")??;
    let shipped = view.records_from(shipments, 0, before).last().ok_or("no shipment")??;
    let is_one = [&dead, &paid, &shipped].iter().all(|record| trace_of(record).contains(TRACE));
    println!("one trace from the order to its shipment: {is_one}");
    println!("each step a span of its own: {}", trace_of(&paid) != trace_of(&shipped));

    let page = log.prometheus();
    let wanted =
        ["exactlog_processed_total{", "exactlog_retry_total{", "exactlog_dlq_total{", "exactlog_dead{"];
    for line in page.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    billing.stop().await?;
    shipping.stop().await?;
    Ok(())
}
