//! Processes with a log and a connection to PostgreSQL that are killed fifty times. The server lives on, and may still
//! be at work on what a dead client has told it.

use crate::bank::{self, ACCOUNTS, BALANCE, Books, Transfer};
use crate::postgres::Database;
use crate::shop;
use crate::victim::{Work, kill_again_and_again, work};
use exactlog::{Event, Log, Record};
use exactlog_sim::rng::Random;
use exactlog_sql::Error;
use exactlog_sql::postgres::tokio_postgres::{Client, Transaction};
use exactlog_sql::postgres::{ExactlyOnceSink, Outbox, OutboxRelay, create_tables};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The victim finds its database by a file beside its log.
async fn database_for(directory: &std::path::Path) -> Database {
    let database = Database::new().await;
    std::fs::write(directory.join("database"), database.name()).unwrap();
    database
}

fn database_of(work: &Work) -> Database {
    Database::of(&std::fs::read_to_string(work.directory.join("database")).unwrap())
}

#[tokio::test]
async fn money_stays_and_every_transfer_takes_effect_once_wherever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let database = database_for(directory.path()).await;
    let client = database.connect().await;
    let tables =
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint); CREATE TABLE applied (number bigint)";
    client.batch_execute(tables).await.unwrap();
    for account in 0..ACCOUNTS {
        client.execute("INSERT INTO accounts VALUES ($1, $2)", &[&account, &BALANCE]).await.unwrap();
    }
    kill_again_and_again("postgres_kills::victim_that_transfers", directory.path());
    let balances = database.integers("SELECT balance FROM accounts ORDER BY id").await;
    let applied = database.integers("SELECT number FROM applied").await;
    bank::check(directory.path(), Books { balances, applied });
}

#[tokio::test(flavor = "multi_thread")]
async fn victim_that_transfers() {
    let Some(work) = work() else { return };
    let log = Log::open(work.directory.join("data")).unwrap();
    let topic = bank::transfers(&log);
    let client = database_of(&work).connect().await;
    let mut sink = ExactlyOnceSink::new(&log, "books").batch(25).subscribe([&topic], client).await.unwrap();
    let stop = Arc::new(AtomicBool::new(work.finishes));
    let tellers = {
        let (log, stop) = (log.clone(), stop.clone());
        std::thread::spawn(move || bank::produce(&log, "books", &stop))
    };
    loop {
        match sink.try_next(apply).await.unwrap() {
            Some(_) => {}
            None if work.finishes => break,
            None => tokio::task::yield_now().await,
        }
    }
    stop.store(true, Ordering::Relaxed);
    tellers.join().unwrap();
}

async fn apply(transaction: &Transaction<'_>, records: &[Record]) -> Result<(), Error> {
    let change = transaction.prepare("UPDATE accounts SET balance = balance + $2 WHERE id = $1").await?;
    let applied = transaction.prepare("INSERT INTO applied VALUES ($1)").await?;
    for transfer in records {
        let Transfer { number, from, to, amount } = Transfer::read(transfer);
        transaction.execute(&change, &[&from, &-amount]).await?;
        transaction.execute(&change, &[&to, &amount]).await?;
        transaction.execute(&applied, &[&number]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_order_and_its_event_are_there_together_and_once_wherever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let database = database_for(directory.path()).await;
    let mut client = database.connect().await;
    create_tables(&mut client).await.unwrap();
    let tables = "CREATE TABLE orders (writer bigint, number bigint); \
                  CREATE TABLE writers (id bigint PRIMARY KEY, last bigint); \
                  INSERT INTO writers VALUES (0, 0), (1, 0), (2, 0)";
    client.batch_execute(tables).await.unwrap();
    kill_again_and_again("postgres_kills::victim_that_sells", directory.path());
    let orders = client.query("SELECT writer, number FROM orders", &[]).await.unwrap();
    shop::check(directory.path(), orders.iter().map(|row| (row.get(0), row.get(1))).collect());
    assert_eq!(database.integers("SELECT count(*) FROM _exactlog_outbox").await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn victim_that_sells() {
    let Some(work) = work() else { return };
    let (log, database) = (Log::open(work.directory.join("data")).unwrap(), database_of(&work));
    shop::events(&log);
    let mut relay = OutboxRelay::new(&log).batch(7).open(database.connect().await).await.unwrap();
    if work.finishes {
        relay.drain().await.unwrap();
        return;
    }
    for writer in 0..3 {
        tokio::spawn(sell(database.connect().await, writer));
    }
    relay.run().await.unwrap();
}

/// Each writer locks its row first, as whoever wants an order does; writers run beside each other, and some take long
/// from number to commit.
async fn sell(mut client: Client, writer: i64) {
    let mut random = Random::new(u64::from(std::process::id()) + writer as u64);
    loop {
        let transaction = client.transaction().await.unwrap();
        for _ in 0..1 + random.below(3) {
            let next = "UPDATE writers SET last = last + 1 WHERE id = $1 RETURNING last";
            let number: i64 = transaction.query_one(next, &[&writer]).await.unwrap().get(0);
            transaction.execute("INSERT INTO orders VALUES ($1, $2)", &[&writer, &number]).await.unwrap();
            let event =
                Event::new(writer.to_string(), number.to_string()).header("writer", writer.to_string());
            Outbox::enqueue(&transaction, "orders", event).await.unwrap();
        }
        if random.chance(1, 4) {
            transaction.batch_execute("SELECT pg_sleep(0.005)").await.unwrap();
        }
        match random.chance(1, 8) {
            true => transaction.rollback().await.unwrap(),
            false => transaction.commit().await.unwrap(),
        }
    }
}
