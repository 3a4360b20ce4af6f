//! Orders become payments, payments take from the stock, what was taken is shipped, and customers are told: five
//! processors, and failures of every kind between them.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example order-flow -- --orders 10000
//! ```
//!
//! One order in twenty meets a bank that doesn't answer at first, some are declined, some can't be read, some come
//! twice, and of one item there isn't enough: then the money goes back. Kill it at any time and run it again. At the
//! end each order is in exactly one of shipped, refunded and dead, and money and stock add up; otherwise it says so and
//! fails.

mod check;
mod house;
mod shop;
mod stages;

use exactlog::Log;
pub(crate) use house::House;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let orders = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => 1000,
        [flag, number] if flag == "--orders" => number.parse()?,
        _ => return Err("usage: order-flow [--orders N]".into()),
    };
    let log = Log::open("./exactlog-data/order-flow")?;
    house::run(&log, orders).await
}
