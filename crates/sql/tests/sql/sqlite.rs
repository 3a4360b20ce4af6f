//! What sink, outbox and inbox do with an SQLite when nothing is killed: zombies, copies from before, rows that nobody
//! takes.

use exactlog::{Event, Log, SeekTo, Start, Topic, TopicOptions};
use exactlog_sql::Error;
use exactlog_sql::sqlite::rusqlite::{Connection, Transaction};
use exactlog_sql::sqlite::{ExactlyOnceSink, Inbox, Outbox, OutboxRelay, create_tables};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct House {
    directory: tempfile::TempDir,
}

impl House {
    fn new() -> House {
        let house = House { directory: tempfile::tempdir().unwrap() };
        let table = "CREATE TABLE seen (topic TEXT, \"partition\" INTEGER, \"offset\" INTEGER, value TEXT)";
        house.connect().execute(table, ()).unwrap();
        house
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("house.db")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.file()).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection
    }

    /// A log of this house: logs of different names know nothing of each other.
    fn log(&self, name: &str) -> Log {
        Log::open(self.directory.path().join(name)).unwrap()
    }

    fn copy_database(&self, to: &Path) {
        self.connect().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
    }

    fn put_back(&self, from: &Path) {
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", self.file().display()));
        }
        std::fs::copy(from, self.file()).unwrap();
    }

    fn values(&self) -> Vec<String> {
        let connection = self.connect();
        let mut statement = connection.prepare("SELECT value FROM seen ORDER BY rowid").unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn sink(&self, log: &Log, topics: &[&Topic]) -> ExactlyOnceSink {
        all_left(log);
        ExactlyOnceSink::new(log, "readers").subscribe(topics.iter().copied(), self.connect()).unwrap()
    }
}

/// Waits until sinks that were dropped have left: they do so without waiting.
fn all_left(log: &Log) {
    while log.group("readers").is_some_and(|group| !group.members.is_empty()) {
        std::thread::yield_now();
    }
}

fn write(transaction: &Transaction<'_>, records: &[exactlog::Record]) -> Result<(), Error> {
    for record in records {
        let row = (&*record.topic, record.partition, record.offset as i64, record.value_str().unwrap());
        transaction.execute("INSERT INTO seen VALUES (?1, ?2, ?3, ?4)", row)?;
    }
    Ok(())
}

/// Applies what is there; how many records.
fn apply_all(sink: &mut ExactlyOnceSink) -> Result<usize, Error> {
    let mut applied = 0;
    while let Some(count) = sink.try_next(write)? {
        applied += count;
    }
    Ok(applied)
}

fn send(log: &Log, topic: &Topic, values: &[&str]) {
    let producer = log.producer("sender").unwrap();
    for value in values {
        producer.blocking_send(topic, Event::new(value.to_string(), value.to_string())).unwrap();
    }
}

fn topic(log: &Log) -> Topic {
    log.create_topic("letters", TopicOptions::default()).unwrap()
}

#[test]
fn a_zombie_is_fenced_and_what_it_did_is_rolled_back() {
    // A machine was thought dead, and a copy of its log took over. Both write into one database.
    let house = House::new();
    let (zombie, copy) = (house.log("zombie"), house.log("copy"));
    let topics = [topic(&zombie), topic(&copy)];
    send(&zombie, &topics[0], &["a", "b"]);
    send(&copy, &topics[1], &["a", "b"]);
    let mut old = house.sink(&zombie, &[&topics[0]]);
    assert_eq!(apply_all(&mut old).unwrap(), 2);

    let mut new = house.sink(&copy, &[&topics[1]]);
    assert_eq!(apply_all(&mut new).unwrap(), 0, "the database has them");
    send(&copy, &topics[1], &["c"]);
    send(&zombie, &topics[0], &["zombie"]);
    for _ in 0..2 {
        let fenced = apply_all(&mut old).unwrap_err();
        assert!(fenced.is_fenced());
        let text = "group \"readers\" is fenced at letters-0: its claim has number 1, the database has 2";
        assert_eq!(fenced.to_string(), text);
    }
    assert_eq!(apply_all(&mut new).unwrap(), 1);
    assert_eq!(house.values(), ["a", "b", "c"]);
}

#[test]
fn a_function_that_fails_leaves_nothing_and_its_batch_comes_again() {
    let (house, fails) = (House::new(), |transaction: &Transaction<'_>, records: &[exactlog::Record]| {
        write(transaction, records)?;
        Err(Error::EventWithId)
    });
    let log = house.log("data");
    let letters = topic(&log);
    send(&log, &letters, &["a", "b"]);
    let mut sink = house.sink(&log, &[&letters]);
    for _ in 0..3 {
        assert!(matches!(sink.try_next(fails), Err(Error::EventWithId)));
        assert_eq!(house.values(), Vec::<String>::new());
    }
    assert_eq!(log.committed("readers", &letters, 0), None);
    assert_eq!(apply_all(&mut sink).unwrap(), 2);
    assert_eq!(log.committed("readers", &letters, 0), Some(2));
    assert_eq!(house.values(), ["a", "b"]);
}

#[test]
fn the_database_is_the_truth_whatever_the_log_has_committed() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    send(&log, &letters, &["a", "b"]);
    assert_eq!(apply_all(&mut house.sink(&log, &[&letters])).unwrap(), 2);
    let before = house.directory.path().join("before.db");
    house.copy_database(&before);
    send(&log, &letters, &["c", "d"]);
    assert_eq!(apply_all(&mut house.sink(&log, &[&letters])).unwrap(), 2);

    // The log is set back: nothing comes twice. It is set ahead: nothing is left out.
    let seek = |offset| log.seek_group("readers", &[SeekTo { topic: letters.clone(), partition: 0, offset }]);
    all_left(&log);
    seek(0).unwrap();
    assert_eq!(apply_all(&mut house.sink(&log, &[&letters])).unwrap(), 0);
    assert_eq!(house.values(), ["a", "b", "c", "d"]);
    house.put_back(&before);
    assert_eq!(log.committed("readers", &letters, 0), Some(0));
    all_left(&log);
    seek(4).unwrap();
    let mut sink = house.sink(&log, &[&letters]);
    assert_eq!(apply_all(&mut sink).unwrap(), 2);
    assert_eq!(house.values(), ["a", "b", "c", "d"]);

    // Somebody sets the offset back by hand, under a sink that runs.
    house.connect().execute("UPDATE _exactlog_offsets SET next_offset = 3", ()).unwrap();
    send(&log, &letters, &["e"]);
    assert_eq!(apply_all(&mut sink).unwrap(), 2);
    assert_eq!(house.values(), ["a", "b", "c", "d", "d", "e"]);
}

#[test]
fn where_a_sink_begins_is_said_once_and_then_the_database_says_it() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    send(&log, &letters, &["old"]);
    let latest = || ExactlyOnceSink::new(&log, "readers").start(Start::Latest);
    assert_eq!(apply_all(&mut latest().subscribe([&letters], house.connect()).unwrap()).unwrap(), 0);
    send(&log, &letters, &["new"]);
    all_left(&log);
    assert_eq!(apply_all(&mut latest().subscribe([&letters], house.connect()).unwrap()).unwrap(), 1);
    assert_eq!(house.values(), ["new"]);
    let none =
        ExactlyOnceSink::new(&log, "readers").batch(0).subscribe([&letters], house.connect()).unwrap_err();
    assert_eq!(none.to_string(), "batch is 0; it has to be at least 1");
}

#[test]
fn records_that_are_gone_are_an_error_until_somebody_accepts_it() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    send(&log, &letters, &["a"]);
    let mut sink = house.sink(&log, &[&letters]);
    assert_eq!(apply_all(&mut sink).unwrap(), 1);
    send(&log, &letters, &["b", "c"]);
    log.trim(&letters, 0, 2).unwrap();
    for _ in 0..2 {
        let lost = apply_all(&mut sink).unwrap_err();
        assert!(matches!(lost, Error::RecordsLost { from: 1, to: 2, .. }), "{lost}");
    }
    drop(sink);
    all_left(&log);
    let accepts = ExactlyOnceSink::new(&log, "readers").skip_lost(true);
    assert_eq!(apply_all(&mut accepts.subscribe([&letters], house.connect()).unwrap()).unwrap(), 1);
    assert_eq!(house.values(), ["a", "c"]);
}

#[test]
fn a_log_that_is_behind_the_database_is_refused_and_a_topic_made_anew_begins_anew() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    send(&log, &letters, &["a", "b"]);
    assert_eq!(apply_all(&mut house.sink(&log, &[&letters])).unwrap(), 2);
    let other = house.log("other");
    let ahead = apply_all(&mut house.sink(&other, &[&topic(&other)])).unwrap_err();
    assert!(matches!(ahead, Error::DatabaseAhead { offset: 2, end: 0, .. }), "{ahead}");
    log.delete_topic(&letters).unwrap();
    let letters = topic(&log);
    send(&log, &letters, &["c"]);
    assert_eq!(apply_all(&mut house.sink(&log, &[&letters])).unwrap(), 1);
    assert_eq!(house.values(), ["a", "b", "c"]);
}

#[test]
fn sinks_share_partitions_hand_them_over_and_apply_each_record_once() {
    let house = House::new();
    let log = house.log("data");
    let letters = log.create_topic("letters", TopicOptions::default().partitions(6)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let count = 3000;
    std::thread::scope(|threads| {
        let run = |lives: usize| {
            for life in 0.. {
                let mut sink = ExactlyOnceSink::new(&log, "readers")
                    .batch(5)
                    .subscribe([&letters], house.connect())
                    .unwrap();
                // The first stays, others come and go.
                let steps = if lives == 0 { usize::MAX } else { 20 + 7 * (life % 5) };
                for _ in 0..steps {
                    sink.next_for(Duration::from_millis(2), write).unwrap();
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            }
        };
        for lives in 0..3 {
            threads.spawn(move || run(lives));
        }
        let producer = log.producer("sender").unwrap();
        for number in 0..count {
            let event = Event::new(number.to_string(), number.to_string());
            producer.blocking_send(&letters, event).unwrap();
        }
        while house.values().len() < count {
            std::thread::yield_now();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut values: Vec<usize> = house.values().iter().map(|value| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..count).collect::<Vec<_>>());
    let claims: i64 =
        house.connect().query_row("SELECT max(epoch) FROM _exactlog_offsets", (), |row| row.get(0)).unwrap();
    assert!(claims > 2, "nothing was handed over");
}

fn enqueue(house: &House, topic: &str, values: &[&str]) {
    let mut connection = house.connect();
    create_tables(&mut connection).unwrap();
    let transaction = connection.transaction().unwrap();
    for value in values {
        Outbox::enqueue(&transaction, topic, Event::new("key", value.to_string())).unwrap();
    }
    transaction.commit().unwrap();
}

fn in_log(log: &Log, topic: &Topic) -> Vec<String> {
    let view = log.read_view();
    view.records(topic).map(|record| record.unwrap().value_str().unwrap().to_string()).collect()
}

#[test]
fn a_row_is_the_event_that_was_enqueued_and_one_that_is_rolled_back_is_not_sent() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    let mut connection = house.connect();
    create_tables(&mut connection).unwrap();
    let transaction = connection.transaction().unwrap();
    Outbox::enqueue(&transaction, "letters", Event::unkeyed("gone")).unwrap();
    transaction.rollback().unwrap();
    let transaction = connection.transaction().unwrap();
    let mut event = Event::new("key", "value").header("one", "1").header("two", "").at(1_700_000_000_000);
    event.headers.push(("none".into(), None));
    Outbox::enqueue(&transaction, "letters", event).unwrap();
    Outbox::enqueue(&transaction, "letters", Event::default()).unwrap();
    assert!(matches!(
        Outbox::enqueue(&transaction, "letters", Event::unkeyed("x").id("x")),
        Err(Error::EventWithId)
    ));
    transaction.commit().unwrap();
    let mut relay = OutboxRelay::new(&log).open(connection).unwrap();
    assert_eq!(relay.drain().unwrap(), 2);
    let records: Vec<_> = log.read_view().records(&letters).map(Result::unwrap).collect();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (first.key(), first.value(), first.timestamp_ms),
        (&b"key"[..], &b"value"[..], 1_700_000_000_000)
    );
    assert_eq!((first.header("one"), first.header("two")), (Some(&b"1"[..]), Some(&b""[..])));
    assert_eq!((first.headers.len(), first.headers[2].value.as_deref()), (3, None));
    assert_eq!((&second.key, &second.value), (&None, &None));
}

#[test]
fn a_row_that_nobody_takes_stops_the_relay_until_its_topic_is_there() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    enqueue(&house, "letters", &["a"]);
    enqueue(&house, "parcels", &["b"]);
    enqueue(&house, "letters", &["c"]);
    let mut relay = OutboxRelay::new(&log).batch(1).open(house.connect()).unwrap();
    for _ in 0..2 {
        let stuck = relay.drain().unwrap_err();
        let text = "row 2 of the outbox can't be sent to topic \"parcels\": topic \"parcels\" doesn't exist; \
                    create_topic makes it";
        assert_eq!(stuck.to_string(), text);
        assert_eq!(in_log(&log, &letters), ["a"]);
    }
    let parcels = log.create_topic("parcels", TopicOptions::default()).unwrap();
    assert_eq!(relay.drain().unwrap(), 2);
    assert_eq!(
        (in_log(&log, &letters), in_log(&log, &parcels)),
        (vec!["a".into(), "c".into()], vec!["b".into()])
    );
}

#[test]
fn an_earlier_relay_is_fenced() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    let mut old = OutboxRelay::new(&log).open(house.connect()).unwrap();
    let mut new = OutboxRelay::new(&log).open(house.connect()).unwrap();
    enqueue(&house, "letters", &["a"]);
    let fenced = old.relay().unwrap_err();
    assert!(fenced.is_fenced());
    assert_eq!(fenced.to_string(), "this relay is fenced: it has number 1, the outbox has 2");
    assert_eq!(new.drain().unwrap(), 1);
    assert_eq!(in_log(&log, &letters), ["a"]);
}

#[test]
fn what_the_log_has_is_not_sent_again_and_an_older_copy_is_refused() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    enqueue(&house, "letters", &["a"]);
    let before = house.directory.path().join("before.db");
    house.copy_database(&before);
    let mut relay = OutboxRelay::new(&log).open(house.connect()).unwrap();
    assert_eq!(relay.relay().unwrap(), 1);
    // As if it were killed here: the row is in the log, and still in the outbox.
    drop(relay);
    let rows = || house.connect().query_row("SELECT count(*) FROM _exactlog_outbox", (), |row| row.get(0));
    assert_eq!(rows(), Ok(1i64));
    let mut relay = OutboxRelay::new(&log).open(house.connect()).unwrap();
    assert_eq!((relay.drain().unwrap(), rows()), (0, Ok(0)));
    drop(relay);

    house.put_back(&before);
    let older = OutboxRelay::new(&log).open(house.connect()).unwrap_err();
    assert!(matches!(older, Error::OutboxMismatch { handed_over: 0, in_log: 1 }), "{older}");
    assert_eq!(rows(), Ok(1), "nothing was taken for sent");
    let mut relay = OutboxRelay::new(&log).accept_mismatch(true).open(house.connect()).unwrap();
    assert_eq!(relay.drain().unwrap(), 1);
    drop(relay);
    assert!(OutboxRelay::new(&log).open(house.connect()).is_ok());
    assert_eq!(in_log(&log, &letters), ["a", "a"]);
}

#[test]
fn a_database_that_may_forget_what_it_handed_over_is_refused() {
    let house = House::new();
    let connection = house.connect();
    connection.pragma_update(None, "synchronous", "normal").unwrap();
    let refused = OutboxRelay::new(&house.log("data")).open(connection).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "synchronous is 1; it has to be 2 (FULL) or more, where rows are relayed"
    );
}

#[test]
fn a_batch_ends_at_its_bytes_and_a_large_row_goes_alone() {
    let house = House::new();
    let log = house.log("data");
    let options = TopicOptions::default().max_message_bytes(4 << 20);
    let letters = log.create_topic("letters", options).unwrap();
    let (small, large) = ("s".repeat(400_000), "l".repeat(3_000_000));
    enqueue(&house, "letters", &[&small, &small, &small, &large, &small]);
    let mut relay = OutboxRelay::new(&log).open(house.connect()).unwrap();
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(relay.relay().unwrap());
    }
    assert_eq!(counts, [2, 1, 1, 1, 0]);
    assert_eq!(in_log(&log, &letters).len(), 5);
}

#[test]
fn an_id_is_new_once_until_it_is_forgotten_and_a_rollback_takes_its_mark_along() {
    let house = House::new();
    let mut connection = house.connect();
    create_tables(&mut connection).unwrap();
    let (mails, bills) = (Inbox::new("mails"), Inbox::new("bills"));
    let mut first = |inbox: &Inbox, id: &str, commits: bool| {
        let transaction = connection.transaction().unwrap();
        let first = inbox.first_time(&transaction, id).unwrap();
        match commits {
            true => transaction.commit().unwrap(),
            false => transaction.rollback().unwrap(),
        }
        first
    };
    assert!(first(&mails, "a", false));
    assert!(first(&mails, "a", true));
    assert!(!first(&mails, "a", true));
    assert!(first(&bills, "a", true));
    assert!(first(&mails, "b", true));

    let aged =
        "UPDATE _exactlog_inbox SET at_ms = at_ms - 7 * 24 * 3600 * 1000 - 1000 WHERE id = CAST('a' AS BLOB)";
    assert_eq!(house.connect().execute(aged, ()).unwrap(), 2);
    let longer = Inbox::new("mails").retention(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(longer.forget_older(&house.connect()).unwrap(), 0);
    assert_eq!(mails.forget_older(&house.connect()).unwrap(), 1);
    assert!(first(&mails, "a", true));
    assert!(!first(&mails, "b", true));
    assert!(!first(&bills, "a", true));

    let transaction = connection.transaction().unwrap();
    let too_long = mails.first_time(&transaction, "x".repeat(1025)).unwrap_err();
    assert_eq!(too_long.to_string(), "an id of 1025 bytes: it has 1 to 1024");
    assert!(matches!(mails.first_time(&transaction, ""), Err(Error::IdLength { bytes: 0, .. })));
}

#[test]
fn a_sink_that_waits_goes_on_with_what_comes_and_ends_with_the_log() {
    let house = House::new();
    let log = house.log("data");
    let letters = topic(&log);
    let mut sink = house.sink(&log, &[&letters]);
    assert_eq!(sink.next_for(Duration::from_millis(1), write).unwrap(), Some(0));
    assert_eq!(sink.try_next(write).unwrap(), None);
    let reader = std::thread::spawn(move || sink.run(write));
    send(&log, &letters, &["a", "b"]);
    while house.values().len() < 2 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    reader.join().unwrap().unwrap();
    let counts: BTreeMap<String, usize> = house.values().into_iter().map(|value| (value, 1)).collect();
    assert_eq!(counts.len(), 2);
}
