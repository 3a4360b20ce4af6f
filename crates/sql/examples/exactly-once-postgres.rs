//! Orders go from a log into PostgreSQL, and what the shop answers goes back: each once, whenever this is killed.
//!
//! ```sh
//! export EXACTLOG_SQL_POSTGRES="host=localhost user=me dbname=me"
//! cargo run --release -p exactlog-sql --features postgres --example exactly-once-postgres
//! ```
//!
//! Orders come in, the stock goes down, and in the same transaction of the database the answer is put into the outbox.
//! Everything is in the schema `exactlog_example`. Run it again: it goes on with new orders, and the numbers still add
//! up. Kill it in the middle, and they do as well.

use exactlog::{Event, Log, Record, TopicOptions};
use exactlog_sql::postgres::tokio_postgres::{Client, NoTls, Transaction, connect};
use exactlog_sql::postgres::{ExactlyOnceSink, Inbox, Outbox, OutboxRelay};
use std::error::Error;

/// Orders of one run. Every tenth comes twice, as they do.
const ORDERS: u64 = 1000;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let log = Log::open("./exactlog-data/exactly-once-postgres")?;
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4))?;
    let answers = log.create_topic("answers", TopicOptions::default())?;
    let database = open_database().await?;
    let sold_before = number(&database, "SELECT count(*) FROM orders").await?;
    order(&log, &orders).await?;

    let mut sink = ExactlyOnceSink::new(&log, "shop").subscribe([&orders], open_database().await?).await?;
    while sink.try_next(sell).await?.is_some() {}

    let mut relay = OutboxRelay::new(&log).open(open_database().await?).await?;
    let sent = relay.drain().await?;

    let sold = number(&database, "SELECT count(*) FROM orders").await?;
    let stock = number(&database, "SELECT left_over FROM stock").await?;
    let answered = log.read_view().records(&answers).count() as i64;
    println!("orders that this run has sold   {}", sold - sold_before);
    println!("answers that it has sent        {sent}");
    println!("in all: sold {sold}, answered {answered}, in stock {stock}");
    assert_eq!(stock, 1_000_000 - sold, "each order took one from the stock");
    assert_eq!(answered, sold, "each order was answered once");
    Ok(())
}

async fn open_database() -> Result<Client, Failure> {
    let server = std::env::var("EXACTLOG_SQL_POSTGRES")
        .map_err(|_| "set EXACTLOG_SQL_POSTGRES to a connection string, as \"host=localhost user=me\"")?;
    // `dbname` is what the connection string says, or the server's own database.
    let server = if server.contains("dbname") { server } else { format!("{server} dbname=postgres") };
    let (client, connection) = connect(&server, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS exactlog_example;
             SET search_path TO exactlog_example;
             CREATE TABLE IF NOT EXISTS orders (number bigint PRIMARY KEY);
             CREATE TABLE IF NOT EXISTS stock (one bigint PRIMARY KEY, left_over bigint);
             INSERT INTO stock VALUES (1, 1000000) ON CONFLICT DO NOTHING;",
        )
        .await?;
    Ok(client)
}

async fn number(database: &Client, sql: &str) -> Result<i64, Failure> {
    Ok(database.query_one(sql, &[]).await?.try_get(0)?)
}

/// New orders. The cursor says which ones were sent: a run that was killed leaves out none.
async fn order(log: &Log, topic: &exactlog::Topic) -> Result<(), Failure> {
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
        transaction.commit().await?;
    }
    Ok(())
}

/// One batch: what it does, its offsets, the answers and the marks of the inbox are one transaction of the database.
async fn sell(transaction: &Transaction<'_>, orders: &[Record]) -> Result<(), Failure> {
    let inbox = Inbox::new("shop");
    for order in orders {
        let number: i64 = order.value_str()?.parse()?;
        if !inbox.first_time(transaction, order.value()).await? {
            continue; // the customer has sent it twice
        }
        transaction.execute("INSERT INTO orders VALUES ($1)", &[&number]).await?;
        transaction.execute("UPDATE stock SET left_over = left_over - 1", &[]).await?;
        let answer = Event::new(order.key().to_vec(), format!("order {number}: it is on its way"));
        Outbox::enqueue(transaction, "answers", answer).await?;
    }
    Ok(())
}
