//! The order flow of the examples, word for word, on the log of a node: `far-order-flow HOST:PORT ORDERS GRACE_MS`.

#[path = "../../../crates/flow/examples/order-flow/check.rs"]
mod check;
#[path = "../../../crates/flow/examples/order-flow/house.rs"]
mod house;
#[path = "../../../crates/flow/examples/order-flow/shop.rs"]
mod shop;
#[path = "../../../crates/flow/examples/order-flow/stages.rs"]
mod stages;

use exactlog_client::LogOptions;
pub(crate) use house::House;
use std::error::Error;
use std::time::Duration;

/// Of the crates that only the modules of the example use.
type _OfTheExample = (exactlog_flow::Failure, serde::de::IgnoredAny, serde_json::Value);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let usage = || "usage: far-order-flow HOST:PORT ORDERS GRACE_MS";
    let [address, orders, grace_ms] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err(usage().into());
    };
    let (orders, grace) = (orders.parse()?, Duration::from_millis(grace_ms.parse()?));
    let options = LogOptions { grace, ..LogOptions::default() };
    // The node may be killed at this very moment: then it is there again soon.
    let log = loop {
        match options.clone().connect(address) {
            Err(error) if error.is_retriable() => tokio::time::sleep(Duration::from_millis(20)).await,
            connected => break connected?,
        }
    };
    house::run(&log, orders).await
}
