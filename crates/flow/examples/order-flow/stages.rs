//! The five processors. Each handler says what follows from one event; the processor commits it once.

use crate::House;
use crate::shop::{Order, Trouble, first_stock, trouble};
use exactlog::{Event, Topic};
use exactlog_flow::{Context, Error, Failure, Processor, Retry, Running};
use std::time::Duration;

/// A stage: its group, what it reads, and its handle.
type Stage = (&'static str, Vec<Topic>, Running);

pub(crate) fn start(house: &House) -> Result<Vec<Stage>, Error> {
    // Short waits, so that the example is short.
    let retry = Retry::default().backoff(Duration::from_millis(50), 2.0, Duration::from_secs(1));
    let stage = |group: &'static str, topics: &[&Topic]| {
        Processor::new(&house.log, group).topics(topics.iter().copied()).retry(retry.clone())
    };
    let at = house.clone();
    let payment = stage("payments", &[&house.orders]).start(move |event| pay(event, at.clone()))?;
    let at = house.clone();
    let inventory = stage("inventory", &[&house.payments]).start(move |event| take(event, at.clone()))?;
    let at = house.clone();
    let shipping = stage("shipping", &[&house.taken]).start(move |event| ship(event, at.clone()))?;
    let at = house.clone();
    let refunds = stage("refunds", &[&house.refunds]).start(move |event| refund(event, at.clone()))?;
    let told = [&house.shipped, &house.refunds];
    let at = house.clone();
    let mails = stage("notifications", &told).start(move |event| tell(event, at.clone()))?;

    Ok(vec![
        ("payments", vec![house.orders.clone()], payment),
        ("inventory", vec![house.payments.clone()], inventory),
        ("shipping", vec![house.taken.clone()], shipping),
        ("refunds", vec![house.refunds.clone()], refunds),
        ("notifications", vec![house.shipped.clone(), house.refunds.clone()], mails),
    ])
}

/// The next event of an order: its key, and an id of its own.
fn next_of(event: &Context, what: &str, order: &Order) -> Result<Event, Failure> {
    let id = format!("{what}-{}", order.id);
    Ok(Event::json(event.key().to_vec(), order)?.header("message-id", id).header("type", what.to_string()))
}

async fn pay(event: Context, house: House) -> Result<(), Failure> {
    let order: Order = event.json()?; // what can't be read is poison
    match trouble(order.id) {
        Trouble::Unanswered(times) if event.attempt() <= times => {
            return Err(Failure::transient("BankTimeout", "the bank didn't answer"));
        }
        Trouble::Declined => return Err(Failure::permanent("CardDeclined", "the bank said no")),
        _ => {}
    }
    let paid: u64 = event.get_json(&house.money, "EUR")?.unwrap_or(0);
    event.put_json(&house.money, "EUR", &(paid + order.cents))?;
    event.send(&house.payments, next_of(&event, "order.paid", &order)?)
}

async fn take(event: Context, house: House) -> Result<(), Failure> {
    let order: Order = event.json()?;
    let left: u64 =
        event.get_json(&house.stock, order.item.clone())?.unwrap_or(first_stock(&order.item, order.orders));
    if left < order.quantity {
        event.set_outcome("compensated")?;
        return event.send(&house.refunds, next_of(&event, "order.out-of-stock", &order)?);
    }
    event.put_json(&house.stock, order.item.clone(), &(left - order.quantity))?;
    event.send(&house.taken, next_of(&event, "order.taken", &order)?)
}

async fn ship(event: Context, house: House) -> Result<(), Failure> {
    let order: Order = event.json()?;
    event.send(&house.shipped, next_of(&event, "order.shipped", &order)?)
}

async fn refund(event: Context, house: House) -> Result<(), Failure> {
    let order: Order = event.json()?;
    let paid: u64 = event.get_json(&house.money, "EUR")?.unwrap_or(0);
    let Some(left) = paid.checked_sub(order.cents) else {
        return Err(Failure::fatal("Money", format!("{paid} cents, and {} go back", order.cents)));
    };
    event.put_json(&house.money, "EUR", &left)
}

async fn tell(event: Context, house: House) -> Result<(), Failure> {
    let order: Order = event.json()?;
    let text = match event.event_type() {
        Some("order.shipped") => format!("{} x {} are on their way", order.quantity, order.item),
        _ => format!("we are out of {}: your money goes back", order.item),
    };
    event.send(&house.mails, Event::new(event.key().to_vec(), text))
}
