//! How many records a second go from a log into SQLite, each an `INSERT`, exactly once.
//!
//! ```sh
//! cargo run --release -p exactlog-sql --features sqlite --example sqlite-throughput
//! ```
//!
//! The question: what the sink costs, by the size of its batches. The workload: 200,000 records of 100 bytes in four
//! partitions (20,000 for batches of one), a table with a key and a value, WAL, `synchronous=FULL`: each batch is on
//! disk before the next one begins. Beside it the same rows in transactions of the same size without any log.

use exactlog::{Event, Log, Record, Topic, TopicOptions};
use exactlog_sql::Error;
use exactlog_sql::sqlite::ExactlyOnceSink;
use exactlog_sql::sqlite::rusqlite::{Connection, Transaction};
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir_in(".")?;
    let log = Log::open(directory.path().join("data"))?;
    println!("records a second, WAL, synchronous=FULL");
    println!("{:>8} {:>12} {:>16} {:>16}", "batch", "sink", "rows alone", "sink of alone");
    for (batch, count) in [(1, 20_000), (50, 200_000), (500, 200_000), (5000, 200_000)] {
        let topic = fill(&log, &format!("records-{batch}"), count)?;
        let sink = consume(&log, &topic, directory.path(), batch, count)?;
        let alone = insert_alone(directory.path(), batch, count)?;
        println!("{batch:>8} {sink:>12.0} {alone:>16.0} {:>16.2}", sink / alone);
    }
    Ok(())
}

fn open(directory: &Path, name: &str) -> Result<Connection, Error> {
    let connection = Connection::open(directory.join(name))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, key BLOB, value BLOB)", ())?;
    Ok(connection)
}

fn insert(transaction: &Transaction<'_>, key: &[u8], value: &[u8]) -> Result<(), Error> {
    let mut insert = transaction.prepare_cached("INSERT INTO records (key, value) VALUES (?1, ?2)")?;
    insert.execute((key, value))?;
    Ok(())
}

fn key_of(number: usize) -> String {
    format!("{number:08}")
}

fn fill(log: &Log, name: &str, count: usize) -> Result<Topic, Error> {
    let topic = log.create_topic(name, TopicOptions::default().partitions(4))?;
    let producer = log.producer("filler")?;
    let mut tickets = Vec::with_capacity(count);
    for number in 0..count {
        tickets.push(producer.blocking_submit(&topic, Event::new(key_of(number), vec![b'v'; 92]))?);
    }
    for ticket in tickets {
        ticket.wait()?;
    }
    Ok(topic)
}

fn consume(log: &Log, topic: &Topic, directory: &Path, batch: usize, count: usize) -> Result<f64, Error> {
    let group = format!("group-{batch}");
    let connection = open(directory, &format!("sink-{batch}.db"))?;
    let mut sink = ExactlyOnceSink::new(log, &group).batch(batch).subscribe([topic], connection)?;
    let begin = Instant::now();
    let mut applied = 0;
    while let Some(records) = sink.try_next(|transaction, records: &[Record]| {
        records.iter().try_for_each(|record| insert(transaction, record.key(), record.value()))
    })? {
        applied += records;
    }
    assert_eq!(applied, count);
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

fn insert_alone(directory: &Path, batch: usize, count: usize) -> Result<f64, Error> {
    let mut connection = open(directory, &format!("alone-{batch}.db"))?;
    let begin = Instant::now();
    for start in (0..count).step_by(batch) {
        let transaction = connection.transaction()?;
        for number in start..(start + batch).min(count) {
            insert(&transaction, key_of(number).as_bytes(), &[b'v'; 92])?;
        }
        transaction.commit()?;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
