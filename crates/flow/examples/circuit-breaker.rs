//! A service that breaks down: the breaker opens, nothing is tried and nothing is lost, and when it is well again the
//! backlog is worked off.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example circuit-breaker
//! ```
//!
//! The bank fails for a while. Without the breaker each order would use up its three attempts and be a dead letter.
//! With it the first failures open it, reading stops, two probes are made half a second later, and so on until they go
//! well. Run it again: it begins anew with more orders.

use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{
    Breaker, BreakerConfig, BreakerState, Context, Failure, Processor, Retry, SlidingWindow,
};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ORDERS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/circuit-breaker")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4))?;
    let producer = log.producer("shop")?;
    let mut tickets = Vec::new();
    for number in 0..ORDERS {
        tickets.push(producer.submit(&orders, Event::new(number.to_string(), "two chairs")).await?);
    }
    for ticket in tickets {
        ticket.await?;
    }
    let mut config = BreakerConfig::default();
    config.sliding_window = SlidingWindow::CountBased(20);
    config.minimum_number_of_calls = 20;
    config.wait_duration_in_open_state = Duration::from_millis(500);
    config.permitted_number_of_calls_in_half_open_state = 2;
    let bank = Breaker::new("bank", config)?;
    let is_well = Arc::new(AtomicBool::new(false));
    let answers = is_well.clone();
    let retry = Retry::default().backoff(Duration::from_millis(200), 1.0, Duration::from_millis(200));
    let processor = Processor::new(&log, "billing").topic(&orders).retry(retry).breaker(&bank).batch(50);
    let billing = processor.start(move |_: Context| {
        let is_well = answers.load(Ordering::Relaxed);
        async move {
            match is_well {
                true => Ok(()),
                false => Err(Failure::transient("BankDown", "503")),
            }
        }
    })?;
    let mut states = vec![bank.metrics().state];
    let begin = std::time::Instant::now();
    loop {
        let (state, metrics) = (bank.metrics().state, billing.metrics());
        if states.last() != Some(&state) {
            states.push(state);
        }
        is_well.store(begin.elapsed() > Duration::from_millis(800), Ordering::Relaxed);
        if metrics.counts.ended() >= u64::from(ORDERS) && state == BreakerState::Closed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (counts, calls) = (billing.metrics().counts, bank.metrics());
    billing.stop().await?;

    let states: Vec<String> = states.iter().map(ToString::to_string).collect();
    println!("states       {}", states.join(" -> "));
    println!(
        "processed    {} of {ORDERS}, dead {}, lag {}",
        counts.done_total(),
        counts.dead,
        log.lag("billing", &orders)
    );
    println!("few failed   {}", calls.failed < 100);
    Ok(())
}
