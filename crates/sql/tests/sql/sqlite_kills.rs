//! Processes with a log and an SQLite that are killed fifty times.

use crate::bank::{self, ACCOUNTS, BALANCE, Books, Transfer};
use crate::shop;
use crate::victim::{kill_again_and_again, work};
use exactlog::{Event, Log};
use exactlog_sim::rng::Random;
use exactlog_sql::Error;
use exactlog_sql::sqlite::rusqlite::{Connection, TransactionBehavior};
use exactlog_sql::sqlite::{ExactlyOnceSink, Outbox, OutboxRelay, create_tables};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn connect(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("books.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection
}

fn integers(connection: &Connection, sql: &str) -> Vec<i64> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn money_stays_and_every_transfer_takes_effect_once_wherever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let connection = connect(directory.path());
    connection
        .execute_batch(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER); CREATE TABLE applied (number INTEGER)",
        )
        .unwrap();
    for account in 0..ACCOUNTS {
        connection.execute("INSERT INTO accounts VALUES (?1, ?2)", [account, BALANCE]).unwrap();
    }
    kill_again_and_again("sqlite_kills::victim_that_transfers", directory.path());
    let balances = integers(&connection, "SELECT balance FROM accounts ORDER BY id");
    let applied = integers(&connection, "SELECT number FROM applied");
    bank::check(directory.path(), Books { balances, applied });
}

#[test]
fn victim_that_transfers() {
    let Some(work) = work() else { return };
    let log = Log::open(work.directory.join("data")).unwrap();
    let topic = bank::transfers(&log);
    let mut sink =
        ExactlyOnceSink::new(&log, "books").batch(25).subscribe([&topic], connect(&work.directory)).unwrap();
    let (stop, mut random) = (AtomicBool::new(work.finishes), Random::new(u64::from(std::process::id())));
    std::thread::scope(|threads| {
        threads.spawn(|| bank::produce(&log, "books", &stop));
        loop {
            // Some fail half-way, as functions do.
            let fails_at = random.chance(1, 8).then(|| random.below(25) as usize);
            let stepped = sink.try_next(|transaction, records| {
                for (index, transfer) in records.iter().map(Transfer::read).enumerate() {
                    let Transfer { number, from, to, amount } = transfer;
                    let change = "UPDATE accounts SET balance = balance + ?2 WHERE id = ?1";
                    transaction.execute(change, [from, -amount])?;
                    if Some(index) == fails_at {
                        return Err(Failed::OnPurpose);
                    }
                    transaction.execute(change, [to, amount])?;
                    transaction.execute("INSERT INTO applied VALUES (?1)", [number])?;
                }
                Ok(())
            });
            match stepped {
                Ok(None) if work.finishes => return,
                Ok(_) | Err(Failed::OnPurpose) => {}
                Err(Failed::Otherwise(error)) => panic!("{error}"),
            }
        }
    });
}

#[derive(Debug)]
enum Failed {
    OnPurpose,
    Otherwise(Error),
}

impl<T: Into<Error>> From<T> for Failed {
    fn from(error: T) -> Failed {
        Failed::Otherwise(error.into())
    }
}

#[test]
fn an_order_and_its_event_are_there_together_and_once_wherever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = connect(directory.path());
    create_tables(&mut connection).unwrap();
    connection.execute("CREATE TABLE orders (writer INTEGER, number INTEGER)", ()).unwrap();
    kill_again_and_again("sqlite_kills::victim_that_sells", directory.path());
    let mut statement = connection.prepare("SELECT writer, number FROM orders").unwrap();
    let orders = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap);
    shop::check(directory.path(), orders.collect());
    assert_eq!(integers(&connection, "SELECT count(*) FROM _exactlog_outbox"), [0]);
}

#[test]
fn victim_that_sells() {
    let Some(work) = work() else { return };
    let log = Log::open(work.directory.join("data")).unwrap();
    shop::events(&log);
    let mut relay = OutboxRelay::new(&log).batch(7).open(connect(&work.directory)).unwrap();
    if work.finishes {
        relay.drain().unwrap();
        return;
    }
    std::thread::scope(|threads| {
        for writer in 0..2 {
            let directory = &work.directory;
            threads.spawn(move || sell(connect(directory), writer));
        }
        relay.run(|| false).unwrap();
    });
}

fn sell(mut connection: Connection, writer: i64) {
    let mut random = Random::new(u64::from(std::process::id()) + writer as u64);
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        for _ in 0..1 + random.below(3) {
            let number = "SELECT coalesce(max(number), 0) + 1 FROM orders WHERE writer = ?1";
            let number: i64 = transaction.query_row(number, [writer], |row| row.get(0)).unwrap();
            transaction.execute("INSERT INTO orders VALUES (?1, ?2)", [writer, number]).unwrap();
            let event =
                Event::new(writer.to_string(), number.to_string()).header("writer", writer.to_string());
            Outbox::enqueue(&transaction, "orders", event).unwrap();
        }
        match random.chance(1, 8) {
            true => transaction.rollback().unwrap(),
            false => transaction.commit().unwrap(),
        }
    }
}
