//! A feed that is read twice, and a mail that is sent once.
//!
//! ```sh
//! cargo run -p exactlog --example dedup-feed
//! cargo run -p exactlog --example dedup-feed
//! ```
//!
//! The feed has an id for each of its events, and begins anew each time it is asked; of each id the log stores the
//! first event only. A mail can't be taken back, so its order's id is reserved before it is sent, and finished after.
//! The second run stores nothing and sends nothing. Delete `./exactlog-data/dedup-feed` to begin anew; another
//! directory may be named as the argument.

use exactlog::{Event, Log, Reserve, TopicOptions};
use std::time::Duration;

/// What the feed gives whenever it is asked: an id, and what happened.
const FEED: [(&str, &str); 6] = [
    ("order-1", "two chairs"),
    ("order-2", "a table"),
    ("order-1", "two chairs"), // feeds do that
    ("order-3", "a lamp"),
    ("order-4", "a shelf"),
    ("order-2", "a table"),
];

/// Longer than a mail takes to be sent. If this process dies in between, the next one may send it when this is over.
const LEASE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).unwrap_or("./exactlog-data/dedup-feed".into());
    let log = Log::open(directory)?;
    let orders = log.create_topic("orders", TopicOptions::default())?;
    let producer = log.producer("feed")?;

    let (mut stored, mut repeats) = (0, 0);
    for round in 1..=2 {
        let submit = |(id, what): &(&'static str, &'static str)| {
            // The id isn't stored with the event, so that readers need a header to see it.
            let event = Event::new(*id, *what).header("message-id", *id).id(*id);
            producer.blocking_submit(&orders, event)
        };
        let tickets = FEED.iter().map(submit).collect::<Result<Vec<_>, _>>()?;
        for ((id, _), ticket) in FEED.iter().zip(tickets) {
            let receipt = ticket.wait()?;
            match receipt.duplicate {
                false => stored += 1,
                true => repeats += 1,
            }
            let what = if receipt.duplicate { "was there at" } else { "stored at" };
            println!("round {round}  {id}  {what} offset {}", receipt.offset);
        }
    }
    println!("{stored} stored, {repeats} were there already");

    let mut consumer = log.consumer("mailer").subscribe([&orders])?;
    let (mut sent, mut skipped) = (0, 0);
    // As after a crash before the ack: a batch that is dropped without one comes again.
    for crashes in [true, false] {
        let Some(batch) = consumer.try_next()? else { break };
        for record in &batch {
            match log.blocking_reserve("mailer", record.key(), LEASE)? {
                Reserve::Reserved(reservation) => {
                    println!("mail  {}: {}", record.key_str()?, record.value_str()?);
                    reservation.blocking_finish()?; // to drop it instead would let the next copy run
                    sent += 1;
                }
                Reserve::InProgress { until_ms } => println!("somebody else sends it, until {until_ms} ms"),
                Reserve::Done(_) => skipped += 1,
            }
        }
        if !crashes {
            batch.blocking_ack()?;
        }
    }
    println!("{sent} mails sent, {skipped} had been sent before");
    log.close()?;
    Ok(())
}
