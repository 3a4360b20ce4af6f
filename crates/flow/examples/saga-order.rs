//! Reserve, charge, ship: all of them, or what was done is undone, the last one first.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example saga-order
//! ```
//!
//! Three orders. The first one goes through. The second can't be shipped, so its charge and its reservation are
//! undone. The third can't be shipped either, and the bank doesn't take its charge back: the reservation is undone all
//! the same, the order is dead, and says what is left; when the bank is well again it is tried once more. Run it again:
//! nothing is left to do. Kill it anywhere: it goes on with the step where it was.

use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Failure, Processor, Retry, Running, Saga, SagaInstance, SagaStatus, Sagas, Step};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ORDERS: [(&str, &str); 3] =
    [("order-1", "chair"), ("order-2", "piano"), ("order-3", "piano by a closed bank")];

/// Does what can be done: says it, and answers what is to be known later.
fn act(step: &Step, what: &str) -> String {
    println!("{}  {what}", step.key_str().unwrap_or_default());
    format!("{what} of {}", step.idempotency_key())
}

fn order(log: &Log, bank_is_well: &Arc<AtomicBool>) -> Result<Saga, exactlog_flow::Error> {
    let bank_is_well = bank_is_well.clone();
    let saga = Saga::new(log, "order")?
        .step("reserve", |step: Step| async move { Ok::<_, Failure>(act(&step, "reserved")) })
        .compensate(|step: Step| async move {
            let _reservation: String = step.result("reserve")?;
            act(&step, "put back");
            Ok::<_, Failure>(())
        })
        .step("charge", |step: Step| async move { Ok::<_, Failure>(act(&step, "charged")) })
        .compensate(move |step: Step| {
            let bank_is_well = bank_is_well.load(Ordering::Relaxed);
            async move {
                if step.value_str()?.contains("closed") && !bank_is_well {
                    return Err(Failure::transient("BankClosed", "come back later"));
                }
                act(&step, "paid back");
                Ok(())
            }
        })
        .step("ship", |step: Step| async move {
            match step.value_str()?.contains("piano") {
                true => Err(Failure::permanent("TooHeavy", "no carrier takes it")),
                false => Ok(act(&step, "shipped")),
            }
        });
    Ok(saga)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/saga-order")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(2))?;
    let producer = log.producer("shop")?;
    for (key, what) in ORDERS {
        producer.send(&orders, Event::new(key, what).header("message-id", key).id(key)).await?;
    }
    let bank_is_well = Arc::new(AtomicBool::new(false));
    // A tenth of the usual waits, so that the example is short.
    let retry = Retry::default().backoff(Duration::from_millis(100), 2.0, Duration::from_secs(1));
    let processor = Processor::new(&log, "shop").topic(&orders).retry(retry);
    let shop: Running = processor.start(order(&log, &bank_is_well)?)?;
    let settle = async || {
        let has_ended = || -> Result<bool, exactlog_flow::Error> {
            Ok(log.lag("shop", &orders) == 0 && exactlog_flow::inspect(&log, "shop")?.waiting.is_empty())
        };
        while !has_ended()? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, exactlog_flow::Error>(())
    };
    settle().await?;

    let sagas = Sagas::open(&log, "order")?;
    let mut failed = Vec::new();
    sagas.each(|saga: SagaInstance| {
        println!("{}  {}", saga.id, saga.status.name());
        for step in saga.not_compensated() {
            println!("{}    {} is left: {}", saga.id, step.name, step.error.as_deref().unwrap_or_default());
        }
        if saga.status == SagaStatus::CompensationFailed {
            failed.push(saga.id);
        }
        true
    })?;
    bank_is_well.store(true, Ordering::Relaxed);
    for id in &failed {
        sagas.retry_compensation(id)?.run().await?; // or: exactlog saga retry-compensation order ID --execute
    }
    settle().await?;
    for id in &failed {
        println!("{id}  {}", sagas.get(id)?.map_or("gone", |saga| saga.status.name()));
    }
    shop.stop().await?;
    Ok(())
}
