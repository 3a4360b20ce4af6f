//! A projection is rebuilt from all events beside the one that is served, and takes its place in one step.
//!
//! ```sh
//! cargo run -p exactlog --example replay-projection
//! cargo run -p exactlog --example replay-projection
//! ```
//!
//! Orders come in, and the table `totals-v1` has what each customer spent. Then somebody wants to know how many orders
//! that were, too: `totals-v2` begins with the first order, while new ones come and `totals-v1` is kept up. When both
//! have applied the same orders the table `serving` says `totals-v2`; the commit holds only if that is still so, so no
//! reader ever goes back. A third one, `totals-march`, begins at a time. Kill it anywhere and run it again: it goes on
//! where it was, and the last lines are the same. A second run has nothing to do.
//!
//! Delete `./exactlog-data/replay-projection` to begin anew; another directory may be named as the argument.

use exactlog::{Bytes, Consumer, Event, Log, Producer, ReadView, SeekTo, Table, TableOptions};
use exactlog::{Topic, TopicOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One each hour of the year, from its beginning.
const ORDERS: u64 = 3000;
const YEAR_BEGINS_MS: i64 = 1_735_689_600_000; // 2025-01-01T00:00:00Z
const HOUR_MS: i64 = 3_600_000;
const MARCH_BEGINS_MS: i64 = YEAR_BEGINS_MS + (31 + 28) * 24 * HOUR_MS;

/// So many have come when the second version begins.
const BEFORE_THE_SECOND: u64 = 2000;

/// What the table `serving` has a value for: the name of the table to be read.
const SERVED: &str = "totals";

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    cents: u64,
}

/// What a projection has for a customer. The first version left `orders` out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    cents: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    orders: Option<u64>,
}

fn first_version(before: Totals, order: &Order) -> Totals {
    Totals { cents: before.cents + order.cents, orders: None }
}

fn second_version(before: Totals, order: &Order) -> Totals {
    Totals { cents: before.cents + order.cents, orders: Some(before.orders.unwrap_or(0) + 1) }
}

fn main() -> Result<(), Failure> {
    let directory = std::env::args().nth(1).unwrap_or("./exactlog-data/replay-projection".into());
    let log = Log::open(directory)?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(3))?;
    let serving = log.create_table("serving", TableOptions::default())?;
    let mut shop = log.producer("shop")?;

    if serving.get(SERVED)?.is_none_or(|entry| entry.value() != b"totals-v2") {
        let mut live = Projection::open(&log, &orders, "totals-v1", first_version)?;
        sell(&mut shop, &orders, BEFORE_THE_SECOND)?;
        while live.apply_some()? > 0 {}
        shop.transaction(|transaction| transaction.put(&serving, SERVED, "totals-v1"))?;
        replace(&log, &orders, &mut shop, &mut live, &serving)?;
    }
    // From here on nobody writes the first version any more. `delete_topic` and `delete_group` would remove it.
    let mut served = Projection::open(&log, &orders, "totals-v2", second_version)?;
    sell(&mut shop, &orders, ORDERS)?;
    while served.apply_some()? > 0 {}

    begin_at(&log, &orders, "totals-march", MARCH_BEGINS_MS)?;
    let mut since_march = Projection::open(&log, &orders, "totals-march", second_version)?;
    while since_march.apply_some()? > 0 {}
    report(&log, &orders, &serving, &since_march.table)?;
    drop((served, since_march, shop));
    Ok(log.close()?)
}

/// A table, and the group that says which orders are in it: one commit moves both.
struct Projection {
    consumer: Consumer,
    producer: Producer,
    table: Table,
    apply: fn(Totals, &Order) -> Totals,
}

impl Projection {
    /// Makes it, or goes on with it. A group without positions begins with the first order that there is.
    fn open(
        log: &Log,
        orders: &Topic,
        name: &str,
        apply: fn(Totals, &Order) -> Totals,
    ) -> Result<Projection, Failure> {
        let table = log.create_table(name, TableOptions::default())?;
        let (consumer, producer) = (log.consumer(name).subscribe([orders])?, log.producer(name)?);
        Ok(Projection { consumer, producer, table, apply })
    }

    /// Applies the next orders; how many there were.
    fn apply_some(&mut self) -> Result<usize, Failure> {
        let Some(batch) = self.consumer.try_next()? else { return Ok(0) };
        let mut transaction = self.producer.begin();
        for record in &batch {
            let customer = record.key_str()?.to_owned();
            let before = transaction.get(&self.table, customer.clone())?;
            let before = before.map_or(Ok(Totals::default()), |json: Bytes| serde_json::from_slice(&json))?;
            transaction.put_json(&self.table, customer, &(self.apply)(before, &record.json()?))?;
        }
        let applied = batch.len();
        transaction.ack(batch);
        transaction.blocking_commit()?;
        Ok(applied)
    }
}

/// Takes orders up to this number. The cursor is the number of the next one.
fn sell(shop: &mut Producer, orders: &Topic, end: u64) -> Result<(), Failure> {
    let mut next: u64 = match shop.cursor() {
        Some(cursor) => std::str::from_utf8(cursor)?.parse()?,
        None => 0,
    };
    while next < end {
        let upper = end.min(next + 20);
        let mut transaction = shop.begin();
        for number in next..upper {
            let order = Order { number, cents: 100 + number * 7919 % 10_000 };
            let event = Event::json(format!("customer-{}", number % 97), &order)?;
            transaction.send(orders, event.at(YEAR_BEGINS_MS + number as i64 * HOUR_MS))?;
        }
        next = upper;
        transaction.set_cursor(next.to_string())?;
        transaction.blocking_commit()?;
    }
    Ok(())
}

/// Builds the second version while orders come and the first one is kept up, until it is served instead.
fn replace(
    log: &Log,
    orders: &Topic,
    shop: &mut Producer,
    live: &mut Projection,
    serving: &Table,
) -> Result<(), Failure> {
    let mut next = Projection::open(log, orders, "totals-v2", second_version)?;
    let (mut taken, mut replayed) = (BEFORE_THE_SECOND, 0);
    loop {
        taken = ORDERS.min(taken + 20);
        sell(shop, orders, taken)?;
        live.apply_some()?;
        replayed += next.apply_some()?;
        let mut transaction = shop.begin();
        transaction.put(serving, SERVED, "totals-v2")?;
        for partition in 0..orders.partitions() {
            let of_live = log.committed("totals-v1", orders, partition);
            transaction.expect_offset("totals-v1", orders, partition, of_live);
            transaction.expect_offset("totals-v2", orders, partition, of_live);
        }
        match transaction.blocking_commit() {
            Ok(_) => break,
            Err(exactlog::Error::Refused(_)) => {} // It isn't as far as the live one, or that one has moved.
            Err(error) => return Err(error.into()),
        }
    }
    let (old, new) = totals_of(&log.read_view(), &live.table, &next.table)?;
    assert!(!old.is_empty() && old.len() == new.len(), "{} and {} customers", old.len(), new.len());
    for (customer, old) in &old {
        assert_eq!(old.cents, new[customer].cents, "both versions have the same sum for {customer}");
    }
    println!("totals-v2 replayed {replayed} orders, and agrees with totals-v1 on {} customers", old.len());
    Ok(())
}

/// What two tables have, as of one moment.
fn totals_of(view: &ReadView, one: &Table, other: &Table) -> Result<(All, All), Failure> {
    let all = |table: &Table| -> Result<All, Failure> {
        let totals = view.scan(table, ..).map(|entry| -> Result<(String, Totals), Failure> {
            let entry = entry?;
            Ok((entry.key_str()?.to_owned(), entry.json()?))
        });
        totals.collect()
    };
    Ok((all(one)?, all(other)?))
}

type All = BTreeMap<String, Totals>;

/// Lets a group that has no positions yet begin with the first order of this time or later.
fn begin_at(log: &Log, orders: &Topic, group: &str, timestamp_ms: i64) -> Result<(), Failure> {
    if log.committed(group, orders, 0).is_some() {
        return Ok(());
    }
    let mut positions = Vec::new();
    for partition in 0..orders.partitions() {
        let (_, end) = log.bounds(orders, partition)?;
        let found = log.first_at_or_after(orders, partition, timestamp_ms)?;
        let offset = found.map_or(end, |(offset, _)| offset);
        positions.push(SeekTo { topic: orders.clone(), partition, offset });
    }
    Ok(log.seek_group(group, &positions)?)
}

/// Compares what the tables have with what the orders themselves add up to.
fn report(log: &Log, orders: &Topic, serving: &Table, since_march: &Table) -> Result<(), Failure> {
    let view = log.read_view();
    let name = view.get(serving, SERVED)?.ok_or("nothing is served")?;
    let served = log.table(name.value_str()?)?;
    let (mut all, mut recent) = (All::new(), All::new());
    for record in view.records(orders) {
        let record = record?;
        let (customer, order): (_, Order) = (record.key_str()?.to_owned(), record.json()?);
        let add = |totals: &mut All| {
            let totals = totals.entry(customer.clone()).or_default();
            *totals = second_version(std::mem::take(totals), &order);
        };
        add(&mut all);
        if record.timestamp_ms >= MARCH_BEGINS_MS {
            add(&mut recent);
        }
    }
    let found = totals_of(&view, &served, since_march)?;
    for (table, found, made) in [(served.name(), &found.0, &all), (since_march.name(), &found.1, &recent)] {
        assert_eq!(found, made, "{table} is what the orders add up to");
        let orders: u64 = found.values().filter_map(|totals| totals.orders).sum();
        let cents: u64 = found.values().map(|totals| totals.cents).sum();
        println!("{table}: {orders} orders of {} customers, {}.{:02}", found.len(), cents / 100, cents % 100);
    }
    println!("served is {}, and both are what the orders add up to", served.name());
    Ok(())
}
