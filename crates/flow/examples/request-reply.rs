//! The same order twice: asked for and answered, and as events that each go their own way.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example request-reply
//! ```
//!
//! A price is asked for: without it the customer sees nothing, so the caller waits, and has a time limit to handle. An
//! order is told: whoever has something to do with it does it, also later, and the shop needs nobody's answer. Two
//! callers ask ten thousand times, and the one who answers is started anew in the middle; each call gets its own
//! answer, once. Run it again: the same.

use exactlog::{Event, Log, Topic, TopicOptions};
use exactlog_flow::{Context, Error, Processor, RequestError, Requester, Running};
use std::sync::Arc;
use std::time::Duration;

const CALLS: u64 = 5_000;

/// A chair costs 49, and its number more.
fn price_of(number: u64) -> u64 {
    49 + number
}

fn answer_prices(log: &Log, prices: &Topic) -> Result<Running, Error> {
    let answers = log.clone();
    Processor::new(log, "prices").topic(prices).start(move |question: Context| {
        let log = answers.clone();
        async move {
            let number: u64 = question.json()?;
            question.reply(&log, Event::unkeyed(price_of(number).to_string()))
        }
    })
}

/// Asks for the prices of many, fifty at a time; how many of the answers were right.
async fn ask(
    requester: Arc<Requester>,
    prices: Topic,
    numbers: std::ops::Range<u64>,
) -> Result<u64, RequestError> {
    let mut callers = tokio::task::JoinSet::new();
    for nth in 0..50 {
        let (requester, prices, numbers) = (requester.clone(), prices.clone(), numbers.clone());
        callers.spawn(async move {
            let mut right = 0;
            for number in numbers.skip(nth).step_by(50) {
                let call = requester.call(&prices, Event::unkeyed(number.to_string()));
                let answer = call.timeout(Duration::from_secs(30)).send().await?;
                right += u64::from(answer.value.as_deref() == Some(price_of(number).to_string().as_bytes()));
            }
            Ok::<_, RequestError>(right)
        });
    }
    let mut right = 0;
    while let Some(ended) = callers.join_next().await {
        right += ended.unwrap_or(Ok(0))?;
    }
    Ok(right)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = Log::open("./exactlog-data/request-reply")?;
    let prices = log.create_topic("prices", TopicOptions::default().partitions(4))?;

    let (web, app) = (Arc::new(Requester::new(&log, "web")?), Arc::new(Requester::new(&log, "app")?));
    let early = web.call(&prices, Event::unkeyed("1")).timeout(Duration::from_millis(50)).send().await;
    println!(
        "nobody answers yet     {}",
        matches!(early, Err(RequestError::NoResponder { .. } | RequestError::Timeout { .. }))
    );

    let answering = answer_prices(&log, &prices)?;
    let one = tokio::spawn(ask(web, prices.clone(), 0..CALLS));
    let other = tokio::spawn(ask(app, prices.clone(), 1_000_000..1_000_000 + CALLS));
    answering.until(|metrics| metrics.counts.ended() > CALLS).await?;
    answering.stop().await?;
    let answering = answer_prices(&log, &prices)?;
    println!("right answers          {} and {} of {CALLS}", one.await??, other.await??);
    answering.stop().await?;

    // The order itself: an event. Who reads it, and when, isn't the shop's business.
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4))?;
    log.producer("shop")?.send(&orders, Event::new("order-1", "chair 7")).await?;
    for group in ["payment", "stock", "mail"] {
        let running =
            Processor::new(&log, group).topic(&orders).start(|_: Context| async { Ok::<_, Error>(()) })?;
        while log.lag(group, &orders) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.stop().await?;
        println!("{group:<22} had the order");
    }
    Ok(())
}
