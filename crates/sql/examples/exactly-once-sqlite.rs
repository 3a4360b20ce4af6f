//! Orders go from a log into SQLite, and what the shop answers goes back: each once, whenever this is killed.
//!
//! ```sh
//! cargo run --release -p exactlog-sql --features sqlite --example exactly-once-sqlite
//! ```
//!
//! Orders come in, the stock goes down, and in the same transaction of the database the answer is put into the outbox.
//! Run it again: it goes on with new orders, and the numbers still add up. Kill it in the middle, and they do as well.

use exactlog::{Event, Log, Record, TopicOptions};
use exactlog_sql::sqlite::rusqlite::{Connection, Transaction};
use exactlog_sql::sqlite::{ExactlyOnceSink, Inbox, Outbox, OutboxRelay};
use std::error::Error;

const DIRECTORY: &str = "./exactlog-data/exactly-once-sqlite";

/// Orders of one run. Every tenth comes twice, as they do.
const ORDERS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open(DIRECTORY)?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4))?;
    let answers = log.create_topic("answers", TopicOptions::default())?;
    let database = open_database()?;
    let sold_before = sold(&database)?;
    order(&log, &orders)?;

    let mut sink = ExactlyOnceSink::new(&log, "shop").subscribe([&orders], open_database()?)?;
    while sink.try_next(sell)?.is_some() {}

    let mut relay = OutboxRelay::new(&log).open(open_database()?)?;
    let sent = relay.drain()?;

    let sold = sold(&database)?;
    let stock: i64 = database.query_row("SELECT left_over FROM stock", (), |row| row.get(0))?;
    let answered = log.read_view().records(&answers).count() as u64;
    println!("orders that this run has sold   {}", sold - sold_before);
    println!("answers that it has sent        {sent}");
    println!("in all: sold {sold}, answered {answered}, in stock {stock}");
    assert_eq!(stock, 1_000_000 - sold as i64, "each order took one from the stock");
    assert_eq!(answered, sold, "each order was answered once");
    Ok(())
}

fn open_database() -> Result<Connection, exactlog_sql::Error> {
    let database = Connection::open(format!("{DIRECTORY}/shop.db"))?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY);
         CREATE TABLE IF NOT EXISTS stock (one INTEGER PRIMARY KEY, left_over INTEGER);
         INSERT OR IGNORE INTO stock VALUES (1, 1000000);",
    )?;
    Ok(database)
}

fn sold(database: &Connection) -> Result<u64, exactlog_sql::Error> {
    let sold: i64 = database.query_row("SELECT count(*) FROM orders", (), |row| row.get(0))?;
    Ok(sold.unsigned_abs())
}

/// New orders. The cursor says which ones were sent: a run that was killed leaves out none.
fn order(log: &Log, topic: &exactlog::Topic) -> Result<(), Box<dyn Error>> {
    let mut producer = log.producer("customers")?;
    let first = match producer.cursor() {
        Some(cursor) => std::str::from_utf8(cursor)?.parse::<u64>()?,
        None => 0,
    };
    for start in (first..first + ORDERS).step_by(100) {
        let mut transaction = producer.begin();
        for number in start..start + 100 {
            let copies = if number % 10 == 0 { 2 } else { 1 };
            for _ in 0..copies {
                transaction
                    .send(topic, Event::new(format!("customer {}", number % 17), number.to_string()))?;
            }
        }
        transaction.set_cursor((start + 100).to_string())?;
        transaction.blocking_commit()?;
    }
    Ok(())
}

/// One batch: what it does, its offsets, the answers and the marks of the inbox are one transaction of the database.
fn sell(transaction: &Transaction<'_>, orders: &[Record]) -> Result<(), Box<dyn Error>> {
    let inbox = Inbox::new("shop");
    for order in orders {
        let number: i64 = order.value_str()?.parse()?;
        if !inbox.first_time(transaction, order.value())? {
            continue; // the customer has sent it twice
        }
        transaction.execute("INSERT INTO orders VALUES (?1)", [number])?;
        transaction.execute("UPDATE stock SET left_over = left_over - 1", ())?;
        let answer = Event::new(order.key().to_vec(), format!("order {number}: it is on its way"));
        Outbox::enqueue(transaction, "answers", answer)?;
    }
    Ok(())
}
