//! What sink, outbox and inbox do with a PostgreSQL: where it differs from SQLite, transactions run beside each other.

use exactlog::{Event, Log, Topic, TopicOptions};
use exactlog_sql::Error;
use exactlog_sql::postgres::tokio_postgres::{Client, NoTls, Transaction};
use exactlog_sql::postgres::{ExactlyOnceSink, Inbox, Outbox, OutboxRelay, create_tables};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the server is: a connection string without a database.
const SERVER: &str = "EXACTLOG_SQL_POSTGRES";

async fn connect_to(database: &str) -> Client {
    let server = std::env::var(SERVER);
    let server = server.unwrap_or_else(|_| panic!("{SERVER} isn't set: .ci/sql starts a server and sets it"));
    let (client, connection) =
        exactlog_sql::postgres::tokio_postgres::connect(&format!("{server} dbname={database}"), NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
}

/// A database of a test's own.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Database {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("exactlog_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = connect_to("postgres").await;
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { name }
    }

    pub(crate) fn of(name: &str) -> Database {
        Database { name: name.to_string() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn connect(&self) -> Client {
        connect_to(&self.name).await
    }

    pub(crate) async fn integers(&self, sql: &str) -> Vec<i64> {
        self.connect().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// A database with a table for what is read.
    async fn with_table() -> Database {
        let database = Database::new().await;
        let table = "CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, value text)";
        database.connect().await.batch_execute(table).await.unwrap();
        database
    }

    async fn values(&self) -> Vec<String> {
        let rows = self.connect().await.query("SELECT value FROM seen ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn sink(&self, log: &Log, topic: &Topic) -> ExactlyOnceSink {
        ExactlyOnceSink::new(log, "readers").batch(5).subscribe([topic], self.connect().await).await.unwrap()
    }
}

async fn write(transaction: &Transaction<'_>, records: &[exactlog::Record]) -> Result<(), Error> {
    for record in records {
        transaction.execute("INSERT INTO seen (value) VALUES ($1)", &[&record.value_str().unwrap()]).await?;
    }
    Ok(())
}

async fn apply_all(sink: &mut ExactlyOnceSink) -> Result<usize, Error> {
    let mut applied = 0;
    while let Some(count) = sink.try_next(write).await? {
        applied += count;
    }
    Ok(applied)
}

async fn send(log: &Log, topic: &Topic, values: &[&str]) {
    let producer = log.producer("sender").unwrap();
    for value in values {
        producer.send(topic, Event::new(value.to_string(), value.to_string())).await.unwrap();
    }
}

fn log_in(directory: &tempfile::TempDir, name: &str) -> (Log, Topic) {
    let log = Log::open(directory.path().join(name)).unwrap();
    let topic = log.create_topic("letters", TopicOptions::default()).unwrap();
    (log, topic)
}

#[tokio::test]
async fn a_zombie_is_fenced_and_what_it_did_is_rolled_back() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::with_table().await);
    let ((zombie, letters), (copy, copied)) = (log_in(&directory, "zombie"), log_in(&directory, "copy"));
    send(&zombie, &letters, &["a", "b"]).await;
    send(&copy, &copied, &["a", "b"]).await;
    let mut old = database.sink(&zombie, &letters).await;
    assert_eq!(apply_all(&mut old).await.unwrap(), 2);
    let mut new = database.sink(&copy, &copied).await;
    assert_eq!(apply_all(&mut new).await.unwrap(), 0, "the database has them");
    send(&copy, &copied, &["c"]).await;
    send(&zombie, &letters, &["zombie"]).await;
    for _ in 0..2 {
        let fenced = apply_all(&mut old).await.unwrap_err();
        let is_it = matches!(fenced, Error::Fenced { claim_epoch: 1, current: 2, partition: 0, .. });
        assert!(is_it && fenced.is_fenced(), "{fenced}");
    }
    assert_eq!(apply_all(&mut new).await.unwrap(), 1);
    assert_eq!(database.values().await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_waits_for_the_transaction_that_is_under_way_and_sees_how_it_ended() {
    for commits in [true, false] {
        let (directory, database) = (tempfile::tempdir().unwrap(), Database::with_table().await);
        let ((zombie, letters), (copy, copied)) = (log_in(&directory, "zombie"), log_in(&directory, "copy"));
        send(&zombie, &letters, &["a", "b"]).await;
        send(&copy, &copied, &["a", "b"]).await;
        let mut old = database.sink(&zombie, &letters).await;
        let mut new = database.sink(&copy, &copied).await;
        let (entered, has_entered) = tokio::sync::oneshot::channel();
        let (go, may_go) = tokio::sync::oneshot::channel::<()>();
        let slow = tokio::spawn(async move {
            let mut channels = Some((entered, may_go));
            old.next(async move |transaction: &Transaction<'_>, records: &[exactlog::Record]| {
                let (entered, may_go) = channels.take().unwrap();
                write(transaction, records).await?;
                entered.send(()).unwrap();
                may_go.await.unwrap();
                if commits { Ok(()) } else { Err(Error::EventWithId) }
            })
            .await
        });
        has_entered.await.unwrap();
        let next = tokio::spawn(async move { apply_all(&mut new).await.unwrap() });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        while database.integers(waiting).await != [1] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap().is_ok(), commits);
        assert_eq!(next.await.unwrap(), if commits { 0 } else { 2 });
        assert_eq!(database.values().await, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_has_taken_effect_or_comes_again() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::with_table().await);
    let (log, letters) = log_in(&directory, "data");
    let mut sink = database.sink(&log, &letters).await;
    let mut sent = Vec::new();
    for number in 0..200_u64 {
        let value = number.to_string();
        send(&log, &letters, &[&value]).await;
        sent.push(value);
        // From nothing to more than it takes.
        let _ = tokio::time::timeout(Duration::from_micros(number * 20), sink.next(write)).await;
    }
    // Not with `try_next`: it answers `None` as long as the log's commit of a dropped call is on its way.
    while database.values().await.len() < sent.len() {
        sink.next(write).await.unwrap();
    }
    assert_eq!(database.values().await, sent);
}

#[tokio::test]
async fn a_sink_whose_connection_is_cut_says_so_and_the_next_one_goes_on() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::with_table().await);
    let (log, letters) = log_in(&directory, "data");
    send(&log, &letters, &["a"]).await;
    let mut sink = database.sink(&log, &letters).await;
    let cut = sink
        .next(async |transaction: &Transaction<'_>, records: &[exactlog::Record]| {
            write(transaction, records).await?;
            transaction.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap_err();
    assert!(cut.to_string().starts_with("PostgreSQL: "), "{cut}");
    assert!(sink.next(write).await.is_err());
    drop(sink);
    // It leaves without waiting.
    while log.group("readers").is_some_and(|group| !group.members.is_empty()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(apply_all(&mut database.sink(&log, &letters).await).await.unwrap(), 1);
    assert_eq!(database.values().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_share_partitions_and_apply_each_record_once() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::with_table().await);
    let log = Log::open(directory.path().join("data")).unwrap();
    let letters = log.create_topic("letters", TopicOptions::default().partitions(6)).unwrap();
    let mut sinks = Vec::new();
    for number in 0..3 {
        let (mut sink, log, letters) = (database.sink(&log, &letters).await, log.clone(), letters.clone());
        let client = database.connect().await;
        sinks.push(tokio::spawn(async move {
            if number == 0 {
                // Leaves in the middle of it, for another one that comes.
                for _ in 0..20 {
                    sink.next(write).await.unwrap();
                }
                drop(sink);
                sink = ExactlyOnceSink::new(&log, "readers").subscribe([&letters], client).await.unwrap();
            }
            sink.run(write).await.unwrap();
        }));
    }
    let producer = log.producer("sender").unwrap();
    for number in 0..1000 {
        producer.send(&letters, Event::new(number.to_string(), number.to_string())).await.unwrap();
    }
    while log.lag("readers", &letters) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.close().unwrap();
    for sink in sinks {
        sink.await.unwrap();
    }
    let mut values: Vec<usize> = database.values().await.iter().map(|value| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..1000).collect::<Vec<_>>());
}

async fn enqueue(database: &Database, value: &str) {
    let mut client = database.connect().await;
    let transaction = client.transaction().await.unwrap();
    Outbox::enqueue(&transaction, "letters", Event::new("key", value.to_string())).await.unwrap();
    transaction.commit().await.unwrap();
}

fn in_log(log: &Log, topic: &Topic) -> Vec<String> {
    let view = log.read_view();
    view.records(topic).map(|record| record.unwrap().value_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn a_row_whose_transaction_commits_late_is_sent_late_and_not_lost() {
    // Numbers are taken in one order and committed in another: a relay that remembers the last number it has sent
    // never looks at the row that came late.
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::new().await);
    let (log, letters) = log_in(&directory, "data");
    let mut client = database.connect().await;
    create_tables(&mut client).await.unwrap();
    let late = client.transaction().await.unwrap();
    let first = Outbox::enqueue(&late, "letters", Event::new("key", "late")).await.unwrap();
    enqueue(&database, "early").await;
    let mut relay = OutboxRelay::new(&log).open(database.connect().await).await.unwrap();
    assert_eq!(relay.drain().await.unwrap(), 1);
    late.commit().await.unwrap();
    assert_eq!(first, 1);
    assert_eq!(relay.drain().await.unwrap(), 1);
    assert_eq!(in_log(&log, &letters), ["early", "late"]);
    assert_eq!(database.integers("SELECT count(*) FROM _exactlog_outbox").await, [0]);
}

#[tokio::test]
async fn a_relay_that_is_dropped_half_way_sends_each_row_once() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::new().await);
    let (log, letters) = log_in(&directory, "data");
    create_tables(&mut database.connect().await).await.unwrap();
    let mut relay = OutboxRelay::new(&log).batch(2).open(database.connect().await).await.unwrap();
    let mut client = database.connect().await;
    let mut sent = Vec::new();
    for number in 0..100_u64 {
        let transaction = client.transaction().await.unwrap();
        for part in 0..3 {
            let value = format!("{number}.{part}");
            Outbox::enqueue(&transaction, "letters", Event::new("key", value.clone())).await.unwrap();
            sent.push(value);
        }
        transaction.commit().await.unwrap();
        let _ = tokio::time::timeout(Duration::from_micros(number * 40), relay.drain()).await;
    }
    relay.drain().await.unwrap();
    assert_eq!(in_log(&log, &letters), sent);

    let mut other = OutboxRelay::new(&log).open(database.connect().await).await.unwrap();
    let fenced = relay.relay().await.unwrap_err();
    assert!(matches!(fenced, Error::RelayFenced { relay_epoch: 1, current: 2 }), "{fenced}");
    enqueue(&database, "last").await;
    assert_eq!(other.drain().await.unwrap(), 1);
}

#[tokio::test]
async fn a_batch_ends_at_its_bytes_and_a_large_row_goes_alone() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::new().await);
    let log = Log::open(directory.path().join("data")).unwrap();
    log.create_topic("letters", TopicOptions::default().max_message_bytes(4 << 20)).unwrap();
    create_tables(&mut database.connect().await).await.unwrap();
    for bytes in [400_000, 400_000, 400_000, 3_000_000, 400_000] {
        enqueue(&database, &"x".repeat(bytes)).await;
    }
    let mut relay = OutboxRelay::new(&log).open(database.connect().await).await.unwrap();
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(relay.relay().await.unwrap());
    }
    assert_eq!(counts, [2, 1, 1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_with_one_id_the_second_waits_for_what_becomes_of_the_first() {
    let database = Database::new().await;
    create_tables(&mut database.connect().await).await.unwrap();
    let inbox = Inbox::new("mails");
    for (id, commits) in [("a", true), ("b", false)] {
        let (mut one, mut other) = (database.connect().await, database.connect().await);
        let first = one.transaction().await.unwrap();
        assert!(inbox.first_time(&first, id).await.unwrap());
        let waits = inbox.clone();
        let second = tokio::spawn(async move {
            let second = other.transaction().await.unwrap();
            let is_first = waits.first_time(&second, id).await.unwrap();
            second.commit().await.unwrap();
            is_first
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        while database.integers(waiting).await != [1] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match commits {
            true => first.commit().await.unwrap(),
            false => first.rollback().await.unwrap(),
        }
        assert_eq!(second.await.unwrap(), !commits);
    }
    let client = database.connect().await;
    client.batch_execute("UPDATE _exactlog_inbox SET at_ms = 0 WHERE id = 'a'").await.unwrap();
    assert_eq!(inbox.forget_older(&client).await.unwrap(), 1);
    assert_eq!(database.integers("SELECT count(*) FROM _exactlog_inbox").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_by_many_at_once() {
    let database = Database::new().await;
    let mut makers = Vec::new();
    for _ in 0..8 {
        let mut client = database.connect().await;
        makers.push(tokio::spawn(async move { create_tables(&mut client).await }));
    }
    for maker in makers {
        maker.await.unwrap().unwrap();
    }
}
