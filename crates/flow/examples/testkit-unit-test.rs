//! How a handler is tested: against the real log, in a directory that goes away, and in virtual time.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example testkit-unit-test
//! cargo test -p exactlog-flow --example testkit-unit-test
//! ```
//!
//! Nothing is replaced by something that only looks like it. The runtime's clock is paused: it moves on when everybody
//! waits, so three attempts within 3 s take milliseconds, and always the same ones. `Running::until` waits for counts
//! and asks no clock. What is under test is a function that makes the handler, of which the product's `main` is another
//! caller. Run, it makes the first of the tests, and shows the attempts.

use exactlog::{Event, Log, Topic, TopicOptions};
use exactlog_flow::{Context, Failure, Handler, Processor};
use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What the handler asks: a trait object, or as here a function.
type Bank = Arc<dyn Fn(&str) -> Result<(), Failure> + Send + Sync>;

/// The handler of the product: pays an order, and writes an invoice.
fn billing(bank: &Bank, invoices: &Topic) -> impl Handler + use<> {
    let (bank, invoices) = (bank.clone(), invoices.clone());
    move |order: Context| {
        let (bank, invoices) = (bank.clone(), invoices.clone());
        async move {
            bank(order.key_str()?)?;
            order.send(&invoices, Event::new(order.key().to_vec(), "invoice"))
        }
    }
}

/// A log that is gone when the test ends, with two topics.
struct Shop {
    log: Log,
    orders: Topic,
    invoices: Topic,
    _directory: tempfile::TempDir,
}

impl Shop {
    fn new() -> Result<Shop, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let log = Log::open(directory.path())?;
        let orders = log.create_topic("orders", TopicOptions::default())?;
        let invoices = log.create_topic("invoices", TopicOptions::default())?;
        Ok(Shop { log, orders, invoices, _directory: directory })
    }

    fn order(&self, event: Event) -> Result<(), exactlog::Error> {
        self.log.producer("test")?.blocking_send(&self.orders, event).map(|_| ())
    }

    fn count(&self, topic: &str) -> Result<usize, exactlog::Error> {
        Ok(self.log.read_view().records(&self.log.open_topic(topic)?).count())
    }
}

/// When it was asked, in ms of the runtime's clock, and for whom.
type Asked = Arc<Mutex<Vec<(u128, String)>>>;

/// A bank that answers these, one after the other, and after that always yes.
fn bank(answers: impl IntoIterator<Item = Result<(), Failure>>) -> (Bank, Asked) {
    let (answers, asked, begin) =
        (Mutex::new(answers.into_iter().collect::<VecDeque<_>>()), Asked::default(), Instant::now());
    let noted = asked.clone();
    let bank = move |customer: &str| {
        let at = (begin.elapsed().as_millis(), customer.to_owned());
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Ok(()))
    };
    (Arc::new(bank), asked)
}

/// The bank is down for two attempts: the third one, 3 s later, goes well.
async fn an_order_is_tried_again_until_the_bank_answers() -> Result<Vec<u128>, Box<dyn Error>> {
    let shop = Shop::new()?;
    let down = || Err(Failure::transient("BankDown", "503"));
    let (bank, asked) = bank([down(), down()]);
    shop.order(Event::new("ada", "two chairs"))?;
    let processor = Processor::new(&shop.log, "billing").topic(&shop.orders);
    let running = processor.start(billing(&bank, &shop.invoices))?;
    let counts = running.until(|metrics| metrics.counts.ended() == 1).await?.counts;
    assert_eq!((counts.done_total(), counts.retried, counts.dead), (1, 2, 0));
    assert_eq!(shop.count("invoices")?, 1, "what failed has sent nothing");
    running.stop().await?;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(asked.iter().map(|(at, _)| at - asked[0].0).collect())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let (began, virtual_began) = (std::time::Instant::now(), Instant::now());
    let attempts = an_order_is_tried_again_until_the_bank_answers().await?;
    println!("attempts after {attempts:?} ms");
    println!("of the runtime's clock {} s", virtual_began.elapsed().as_secs());
    println!("of ours less than a second: {}", began.elapsed().as_secs() < 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_made_at_0_1_and_3_seconds() {
        let attempts = an_order_is_tried_again_until_the_bank_answers().await.unwrap();
        assert_eq!(attempts, [0, 1000, 3000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_not_paid_again_and_a_refused_order_is_dead_at_once() {
        let shop = Shop::new().unwrap();
        let (bank, asked) = bank([Ok(()), Err(Failure::permanent("CardRefused", "no money"))]);
        for (customer, id) in [("ada", "1"), ("ada", "1"), ("grace", "2")] {
            shop.order(Event::new(customer, "two chairs").header("message-id", id)).unwrap();
        }
        let processor = Processor::new(&shop.log, "billing").topic(&shop.orders).concurrency(1);
        let running = processor.start(billing(&bank, &shop.invoices)).unwrap();
        let counts = running.until(|metrics| metrics.counts.ended() == 3).await.unwrap().counts;
        assert_eq!((counts.done_total(), counts.duplicate, counts.dead), (1, 1, 1));
        assert_eq!((shop.count("invoices").unwrap(), shop.count("dlq.orders").unwrap()), (1, 1));
        assert_eq!(asked.lock().unwrap().len(), 2);
        running.stop().await.unwrap();
    }
}
