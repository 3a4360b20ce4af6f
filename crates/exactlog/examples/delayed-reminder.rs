//! A reminder for each order that isn't paid in time; the payment cancels it, in one transaction.
//!
//! ```sh
//! cargo run -p exactlog --example delayed-reminder
//! ```
//!
//! Kill it while it waits and start it again: what was due comes then, once. Delete `./exactlog-data/reminders` to
//! begin anew; another directory may be named as the argument.

use exactlog::{Cancellation, Event, Log, Record, TopicOptions};
use std::time::Duration;

/// How long an order may stay unpaid.
const PATIENCE: Duration = Duration::from_millis(700);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).unwrap_or("./exactlog-data/reminders".into());
    let log = Log::open(directory)?;
    let orders = log.create_topic("orders", TopicOptions::default())?;
    let payments = log.create_topic("payments", TopicOptions::default())?;
    let reminders = log.create_topic("reminders", TopicOptions::default())?;
    let mut shop = log.producer("shop")?;

    // The order and its reminder are one commit: never one without the other.
    let mut order = |name: &'static str| -> Result<_, exactlog::Error> {
        let mut transaction = shop.begin();
        transaction.send(&orders, Event::new(name, "two chairs"))?;
        transaction.send_after(&reminders, Event::new(name, format!("please pay {name}")), PATIENCE)?;
        Ok(transaction.blocking_commit()?.timers[0])
    };
    let (paid, forgotten) = (order("order-1")?, order("order-2")?);
    println!("ordered   two, reminders wait as timers {paid} and {forgotten}");

    // The payment and the end of its reminder are one commit, too.
    let mut bank = log.producer("bank")?;
    let mut transaction = bank.begin();
    transaction.send(&payments, Event::new("order-1", "EUR 120"))?;
    transaction.cancel(paid);
    transaction.blocking_commit()?;
    println!("paid      order-1; cancelling its reminder again says: {:?}", log.cancel(paid)?);

    let mut consumer = log.consumer("mailer").subscribe([&reminders])?;
    loop {
        let Some(batch) = consumer.blocking_next()? else { break };
        let mails: Vec<Record> = batch.blocking_ack()?;
        for mail in &mails {
            println!("reminded  {}", mail.value_str()?); // the time of the record is that at which it was due
        }
        if mails.iter().any(|mail| mail.key() == b"order-2") && log.cancel(forgotten)? == Cancellation::Fired
        {
            break;
        }
    }
    log.close()?;
    Ok(())
}
