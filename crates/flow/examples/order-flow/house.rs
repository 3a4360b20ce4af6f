//! The topics and tables of the shop, and its day: orders are sold and processed until nothing is left.

use crate::{check, shop, stages};
use exactlog::{Log, Table, TableOptions, Topic, TopicOptions};
use exactlog_flow::Running;
use std::error::Error;
use std::time::Duration;

/// What all stages use.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) log: Log,
    /// What customers want.
    pub(crate) orders: Topic,
    /// What was paid.
    pub(crate) payments: Topic,
    /// What was taken from the stock.
    pub(crate) taken: Topic,
    /// What was paid and isn't there.
    pub(crate) refunds: Topic,
    /// What has left the house.
    pub(crate) shipped: Topic,
    /// What customers were told.
    pub(crate) mails: Topic,
    /// By currency: what was paid and not given back.
    pub(crate) money: Table,
    /// By item: what is left.
    pub(crate) stock: Table,
}

impl House {
    fn open(log: &Log) -> Result<House, exactlog::Error> {
        let topic = |name: &str| log.create_topic(name, TopicOptions::default().partitions(10));
        Ok(House {
            log: log.clone(),
            orders: topic("order-events")?,
            payments: topic("payment-events")?,
            taken: topic("stock-events")?,
            refunds: topic("refund-events")?,
            shipped: topic("shipping-events")?,
            mails: topic("notification-events")?,
            money: log.create_table("money", TableOptions::default())?,
            stock: log.create_table("stock", TableOptions::default())?,
        })
    }
}

/// Sells so many orders, lets the stages work until nothing is left, and checks what came of it.
pub(crate) async fn run(log: &Log, orders: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let house = House::open(log)?;
    let stages = stages::start(&house)?;
    let selling = house.clone();
    tokio::task::spawn_blocking(move || shop::sell(&selling, orders)).await??;
    wait_for_the_end(&house, &stages).await?;
    for (name, _, stage) in stages {
        let counts = stage.metrics().counts;
        println!("{name:<14} {} read, {} tried again in this run", counts.read, counts.retried);
        stage.stop().await?;
    }
    check::check(&house, orders)
}

/// Until nothing is unread and nothing waits, in any stage.
async fn wait_for_the_end(
    house: &House,
    stages: &[(&str, Vec<Topic>, Running)],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        let mut left = 0;
        for (group, topics, stage) in stages {
            if stage.has_ended() {
                return Err(format!("{group} has ended").into());
            }
            left += topics.iter().map(|topic| house.log.lag(group, topic)).sum::<u64>();
            left += exactlog_flow::inspect(&house.log, group)?.waiting.len() as u64;
        }
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
