//! Keyed tables: what is put in a transaction is there exactly if the transaction is.

use crate::common::*;
use exactlog::{
    CleanupPolicy, Compression, Entry, Error, Event, KeyRange, Log, Refusal, Table, TableLimits,
    TableOptions, TopicOptions,
};
use exactlog_sim::disk::{SimDisk, Survival};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn table(log: &Log, name: &str, partitions: u32) -> Table {
    log.create_table(name, TableOptions::default().partitions(partitions)).unwrap()
}

fn value(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| entry.value_str().unwrap().to_owned())
}

#[test]
fn what_a_transaction_puts_is_read_by_key_also_after_a_kill() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let stock = table(&log, "stock", 3);
    let mut producer = log.producer("shop").unwrap();
    let mut transaction = producer.begin();
    transaction.put(&stock, "chairs", "12").unwrap();
    transaction.put(&stock, "tables", "3").unwrap();
    let receipt = transaction.blocking_commit().unwrap();
    let chairs = stock.get("chairs").unwrap().unwrap();
    assert_eq!((chairs.value_str().unwrap(), chairs.version), ("12", receipt.csn));
    assert_eq!((stock.len().unwrap(), stock.get("beds").unwrap()), (2, None));
    let mut transaction = producer.begin();
    transaction.delete(&stock, "tables").unwrap();
    transaction.put(&stock, "chairs", "11").unwrap();
    transaction.blocking_commit().unwrap();
    let (_, log) = after_kill(&disk);
    let stock = log.table("stock").unwrap();
    assert_eq!(value(stock.get("chairs").unwrap()), Some("11".into()));
    assert_eq!((stock.len().unwrap(), stock.get("tables").unwrap()), (1, None));
}

#[test]
fn a_table_is_written_by_transactions_alone() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 1);
    let producer = log.producer("shop").unwrap();
    let sent = producer.blocking_send(stock.topic(), exactlog::Event::new("chairs", "12"));
    assert!(matches!(sent, Err(Error::Refused(Refusal::TableAsTopic { .. }))), "{sent:?}");
    assert_eq!(stock.len().unwrap(), 0);
}

/// Puts all of it in one transaction; its csn.
fn put(log: &Log, table: &Table, of: &[(&str, &str)]) -> u64 {
    let mut producer = log.producer("putting").unwrap();
    let mut transaction = producer.begin();
    for (key, value) in of {
        transaction.put(table, key.to_string(), value.to_string()).unwrap();
    }
    transaction.blocking_commit().unwrap().csn
}

fn scanned(table: &Table, keys: impl Into<KeyRange>) -> Vec<(String, String)> {
    let entry = |entry: Result<Entry, Error>| {
        let entry = entry.unwrap();
        (entry.key_str().unwrap().to_owned(), entry.value_str().unwrap().to_owned())
    };
    table.scan(keys).map(entry).collect()
}

/// Counts the words of a topic into a table, a few at a time, and says each to another topic, until none is left.
fn count(log: &Log, batches_max: usize) {
    let input = log.open_topic("words").unwrap();
    let (counts, output) = (log.table("counts").unwrap(), log.open_topic("said").unwrap());
    let mut producer = log.producer("counter").unwrap();
    let mut consumer = log.consumer("counter").max_poll_records(3).subscribe([&input]).unwrap();
    for _ in 0..batches_max {
        let Some(batch) = consumer.try_next().unwrap() else { break };
        let mut transaction = producer.begin();
        for word in &batch {
            let before = transaction.get(&counts, word.value.clone().unwrap()).unwrap();
            let before: u64 = before.map_or(0, |text| std::str::from_utf8(&text).unwrap().parse().unwrap());
            transaction.put(&counts, word.value.clone().unwrap(), (before + 1).to_string()).unwrap();
            transaction.send(&output, Event::unkeyed(word.value.clone().unwrap())).unwrap();
        }
        transaction.ack(batch);
        transaction.blocking_commit().unwrap();
    }
}

const WORDS: [&str; 12] = ["a", "b", "a", "c", "d", "a", "b", "e", "a", "c", "c", "b"];

/// What the words up to a position make.
fn fold(words: usize) -> Vec<(String, String)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    WORDS[..words].iter().for_each(|word| *counts.entry(word).or_default() += 1);
    counts.into_iter().map(|(word, count)| (word.to_owned(), count.to_string())).collect()
}

/// Whether table, outputs and position are those of the same words; how many.
fn agree(log: &Log) -> usize {
    let words = log.committed("counter", &log.open_topic("words").unwrap(), 0).unwrap_or(0) as usize;
    assert_eq!(scanned(&log.table("counts").unwrap(), ..), fold(words));
    assert_eq!(values(log, &log.open_topic("said").unwrap()), WORDS[..words]);
    words
}

#[test]
fn em_9_state_outputs_and_positions_are_those_of_the_same_input_wherever_it_is_killed() {
    let disk = SimDisk::new();
    let log = open(&disk);
    table(&log, "counts", 2);
    let said = topic(&log, "said", 1);
    let words = topic(&log, "words", 1);
    send_all(&log, &words, WORDS.iter().map(|word| word.to_string()));
    assert_eq!(said.partitions(), 1);
    disk.record_points(true);
    count(&log, 2);
    log.checkpoint().unwrap();
    count(&log, 100);
    assert_eq!(agree(&log), WORDS.len());
    drop(log);
    let mut seen = BTreeMap::new();
    for point in disk.take_points() {
        let torn = point.written_bytes().and_then(|bytes| point.torn_kill(bytes / 2));
        let lost = point.disk.power_loss(&mut Survival::AllLost);
        for image in [Some(point.disk.process_kill()), Some(lost), torn].into_iter().flatten() {
            let log = open(&image);
            *seen.entry(agree(&log)).or_insert(0) += 1;
            // The next process goes on where that one was, and counts each word once.
            count(&log, 100);
            assert_eq!(agree(&log), WORDS.len());
        }
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [0, 3, 6, 9, 12], "{seen:?}");
}

#[test]
fn em_1_what_a_transaction_does_to_tables_appears_with_its_records_under_concurrent_commits() {
    let log = builder(SimDisk::new()).durability(exactlog::Durability::Os).open("simulated").unwrap();
    let (one, two, said) = (table(&log, "one", 3), table(&log, "two", 1), topic(&log, "said", 2));
    let done = Arc::new(AtomicBool::new(false));
    let writing = {
        let (log, one, two, said, done) = (log.clone(), one.clone(), two.clone(), said.clone(), done.clone());
        std::thread::spawn(move || {
            let mut producer = log.producer("w").unwrap();
            let mut number = 0_u64;
            while !done.load(Ordering::Acquire) && number < 5_000 {
                let mut transaction = producer.begin();
                for key in ["a", "b", "c"] {
                    transaction.put(&one, key, number.to_string()).unwrap();
                }
                transaction.put(&two, "all", number.to_string()).unwrap();
                transaction.send_to(&said, 1, Event::unkeyed(number.to_string())).unwrap();
                transaction.blocking_commit().unwrap();
                number += 1;
            }
        })
    };
    for round in 1..80_u64 {
        until("something was committed", || log.metrics().commits >= round);
        let view = log.read_view();
        let end = view.end(&said, 1).unwrap();
        let number = value(view.get(&two, "all").unwrap()).unwrap();
        assert_eq!(number, (end - 1).to_string());
        for entry in view.scan(&one, ..) {
            let entry = entry.unwrap();
            assert_eq!(entry.value_str().unwrap(), number, "in the view at {}", view.csn());
            assert!(entry.version <= view.csn());
        }
        assert_eq!(view.scan(&one, ..).count(), 3);
    }
    done.store(true, Ordering::Release);
    writing.join().unwrap();
}

#[test]
fn em_5_what_was_committed_is_read_by_whoever_asks_afterwards() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 1);
    for number in 0..50_u64 {
        let csn = put(&log, &stock, &[("k", &number.to_string())]);
        let entry = stock.get("k").unwrap().unwrap();
        assert_eq!((entry.value_str().unwrap(), entry.version), (number.to_string().as_str(), csn));
        assert_eq!(stock.version("k").unwrap(), Some(csn));
        assert_eq!(value(log.read_view().get(&stock, "k").unwrap()), Some(number.to_string()));
    }
}

#[test]
fn em_4_no_update_is_lost_between_transactions_that_read_what_they_write() {
    const THREADS: usize = 3;
    const ADDS: u64 = 40;
    let log = builder(SimDisk::new()).durability(exactlog::Durability::Os).open("simulated").unwrap();
    let counts = table(&log, "counts", 1);
    let adding: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (log, counts) = (log.clone(), counts.clone());
            std::thread::spawn(move || {
                let mut producer = log.producer(&format!("p{thread}")).unwrap();
                let (mut added, mut refused) = (0, 0);
                while added < ADDS {
                    let mut transaction = producer.begin();
                    let before = transaction.get(&counts, "sum").unwrap();
                    let before: u64 =
                        before.map_or(0, |it| std::str::from_utf8(&it).unwrap().parse().unwrap());
                    transaction.put(&counts, "sum", (before + 1).to_string()).unwrap();
                    match transaction.blocking_commit() {
                        Ok(_) => added += 1,
                        Err(Error::Refused(Refusal::KeyVersion { .. })) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                refused
            })
        })
        .collect();
    let refused: u64 = adding.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(value(counts.get("sum").unwrap()), Some((THREADS as u64 * ADDS).to_string()));
    assert_eq!(log.metrics().refused, refused);
}

#[test]
fn em_4_a_write_skew_is_refused() {
    let log = open(&SimDisk::new());
    let on_call = table(&log, "on-call", 1);
    put(&log, &on_call, &[("ada", "yes"), ("grace", "yes")]);
    let (mut one, mut other) = (log.producer("one").unwrap(), log.producer("other").unwrap());
    // Each leaves only if the other one stays.
    let mut ada = one.begin();
    let mut grace = other.begin();
    assert_eq!(ada.get(&on_call, "grace").unwrap().as_deref(), Some(&b"yes"[..]));
    assert_eq!(grace.get(&on_call, "ada").unwrap().as_deref(), Some(&b"yes"[..]));
    ada.put(&on_call, "ada", "no").unwrap();
    grace.put(&on_call, "grace", "no").unwrap();
    ada.blocking_commit().unwrap();
    let refused = grace.blocking_commit().unwrap_err();
    assert!(matches!(&refused, Error::Refused(Refusal::KeyVersion { key, .. }) if key == "ada"), "{refused}");
    assert_eq!(value(on_call.get("grace").unwrap()), Some("yes".into()));
}

#[test]
fn em_6_of_many_with_the_same_expected_version_one_succeeds() {
    let log = open(&SimDisk::new());
    let locks = table(&log, "locks", 1);
    let taking = (0..4).map(|nth| {
        let (log, locks) = (log.clone(), locks.clone());
        std::thread::spawn(move || {
            let mut producer = log.producer(&format!("p{nth}")).unwrap();
            let mut transaction = producer.begin();
            transaction.expect_version(&locks, "the lock", None);
            transaction.put(&locks, "the lock", nth.to_string()).unwrap();
            transaction.blocking_commit().is_ok()
        })
    });
    let taken: Vec<bool> = taking.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    let holder = value(locks.get("the lock").unwrap()).unwrap();
    assert_eq!(taken.iter().position(|taken| *taken), Some(holder.parse().unwrap()));
}

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does_before_it_commits() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 1);
    put(&log, &stock, &[("a", "1"), ("b", "1")]);
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    transaction.put(&stock, "a", "2").unwrap();
    transaction.delete(&stock, "b").unwrap();
    transaction.put(&stock, "c", "1").unwrap();
    transaction.put(&stock, "c", "2").unwrap();
    transaction.put_json(&stock, "d", &[1, 2]).unwrap();
    let mut own = |key: &'static str| transaction.get(&stock, key).unwrap();
    assert_eq!(
        (own("a").as_deref(), own("b"), own("c").as_deref()),
        (Some(&b"2"[..]), None, Some(&b"2"[..]))
    );
    assert_eq!(scanned(&stock, ..), [("a".into(), "1".into()), ("b".into(), "1".into())]);
    // What it has written itself is no condition: somebody else's write doesn't refuse it.
    put(&log, &stock, &[("a", "3")]);
    transaction.blocking_commit().unwrap();
    let expected = [("a", "2"), ("c", "2"), ("d", "[1,2]")];
    assert_eq!(scanned(&stock, ..), expected.map(|(key, value)| (key.to_string(), value.to_string())));
    assert_eq!(stock.get("d").unwrap().unwrap().json::<Vec<u8>>().unwrap(), [1, 2]);
    // Of the two writes of "c" one became a record.
    assert_eq!(log.bounds(stock.topic(), 0).unwrap().1, 2 + 1 + 4);
    let dropped = producer.begin().put(&stock, "e", "1");
    assert!(dropped.is_ok() && stock.get("e").unwrap().is_none());
}

#[test]
fn a_scan_is_in_the_order_of_keys_by_range_and_prefix_over_pages() {
    let files = builder(SimDisk::new()).journal_file_bytes(8 * MIB).journal_ring_bytes(32 * MIB);
    let log = files.open("simulated").unwrap();
    let users = table(&log, "users", 3);
    let mut producer = log.producer("p").unwrap();
    producer.set_compression(Compression::Zstd).unwrap();
    // More than a page of keys, and some whose values are larger than a page.
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        let mut transaction = producer.begin();
        for number in 0..300 {
            let key = format!("user-{:04}", number * 7 % 300);
            let bytes = if number % 100 == 99 { 700_000 } else { 10 };
            let value = format!("{round}/{number}/{}", "x".repeat(bytes));
            transaction.put(&users, key.clone(), value.clone()).unwrap();
            expected.insert(key, value);
        }
        transaction.blocking_commit().unwrap();
    }
    let expected: Vec<(String, String)> = expected.into_iter().collect();
    assert_eq!(scanned(&users, ..), expected);
    assert_eq!(scanned(&users, "user-0100".."user-0200"), expected[100..200]);
    assert_eq!(scanned(&users, "user-0290".to_string()..), expected[290..]);
    assert_eq!(scanned(&users, .."user-0010"), expected[..10]);
    assert_eq!(scanned(&users, KeyRange::prefix("user-02")), expected[200..]);
    assert!(scanned(&users, KeyRange::prefix("nobody")).is_empty());
    // A scan goes on with what it began with.
    let mut scan = users.scan(..);
    let first = scan.next().unwrap().unwrap();
    put(&log, &users, &[("user-0299", "changed"), ("user-0300", "new")]);
    assert!(first.version <= scan.csn());
    let rest: Vec<Entry> = scan.map(Result::unwrap).collect();
    assert_eq!(rest.len(), 299);
    assert_eq!(rest.last().unwrap().value_str().unwrap(), expected[299].1);
}

#[test]
fn tx_25_a_view_shows_tables_as_they_were_also_over_compaction_until_it_expires() {
    let log = builder(SimDisk::new()).read_view_max(Duration::from_secs(3600)).open("simulated").unwrap();
    let options = TableOptions::default().segment_bytes(4096);
    let stock = log.create_table("stock", options).unwrap();
    let filling = "v".repeat(400);
    let round = |number: u64| {
        let values: Vec<String> = (0..5).map(|key| format!("{number}:{key}:{filling}")).collect();
        let keys = ["0", "1", "2", "3", "4"];
        let of: Vec<(&str, &str)> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
        put(&log, &stock, &of);
    };
    (0..10).for_each(round);
    let view = log.read_view();
    let before: Vec<_> = view.scan(&stock, ..).map(Result::unwrap).collect();
    (10..30).for_each(round);
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    transaction.delete(&stock, "0").unwrap();
    transaction.blocking_commit().unwrap();
    let compacted = log.compact(stock.topic()).unwrap();
    assert!(compacted[0].bytes_after < compacted[0].bytes_before, "{compacted:?}");
    assert_eq!(view.scan(&stock, ..).map(Result::unwrap).collect::<Vec<_>>(), before);
    assert!(before[0].value_str().unwrap().starts_with("9:0:"));
    assert_eq!(view.get(&stock, "0").unwrap(), Some(before[0].clone()));
    drop(view);
    log.compact(stock.topic()).unwrap();
    let now: Vec<_> =
        scanned(&stock, ..).into_iter().map(|(key, value)| (key, value[..2].to_owned())).collect();
    assert_eq!(now, ["1", "2", "3", "4"].map(|key| (key.to_owned(), "29".to_owned())));
    let newer = table(&log, "newer", 1);
    let view = log.read_view();
    log.delete_topic(newer.topic()).unwrap();
    assert!(matches!(newer.get("k"), Err(Error::NoSuchTable { .. })));
    assert!(view.get(&newer, "k").unwrap().is_none());
    let gone = table(&log, "newer", 1);
    assert!(matches!(view.get(&gone, "k"), Err(Error::NoSuchTable { .. })));
    assert!(matches!(view.scan(&gone, ..).next(), Some(Err(Error::NoSuchTable { .. }))));
}

#[test]
fn tx_25_a_view_of_a_table_expires() {
    let log = builder(SimDisk::new()).read_view_max(Duration::ZERO).open("simulated").unwrap();
    let stock = table(&log, "stock", 1);
    put(&log, &stock, &[("a", "1")]);
    assert!(matches!(log.read_view().get(&stock, "a"), Err(Error::ViewExpired { max_ms: 0 })));
    let mut scan = stock.scan(..);
    assert!(matches!(scan.next(), Some(Err(Error::ViewExpired { .. }))));
    assert!(scan.next().is_none());
    // What a key has now needs no view.
    assert_eq!(value(stock.get("a").unwrap()), Some("1".into()));
}

#[test]
fn a_table_outlives_checkpoints_compaction_and_kills_with_its_versions() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let stock = log.create_table("stock", TableOptions::default().segment_bytes(4096).partitions(2)).unwrap();
    let filling = "v".repeat(300);
    let mut versions = BTreeMap::new();
    for number in 0..40_u64 {
        let (key, text) = (format!("key-{}", number % 9), format!("{number}:{filling}"));
        let version = put(&log, &stock, &[(key.as_str(), text.as_str())]);
        versions.insert(key, (number, version));
        if number == 30 {
            log.checkpoint().unwrap();
            log.compact(stock.topic()).unwrap();
        }
    }
    let (image, log) = after_kill(&disk);
    let check = |log: &Log| {
        let stock = log.table("stock").unwrap();
        assert_eq!(stock.len().unwrap(), 9);
        for (key, (number, version)) in &versions {
            let entry = stock.get(key).unwrap().unwrap();
            assert_eq!(entry.value_str().unwrap(), format!("{number}:{filling}"));
            assert_eq!(entry.version, *version);
        }
        let metrics = log.metrics();
        assert_eq!((metrics.tables, metrics.table_keys), (1, 9));
    };
    check(&log);
    log.close().unwrap();
    let log = open(&image);
    check(&log);
    log.delete_topic(log.table("stock").unwrap().topic()).unwrap();
    let (_, log) = after_kill(&image);
    assert!(log.tables().is_empty() && log.metrics().table_keys == 0);
}

#[test]
fn a_table_s_topic_is_consumed_as_any_other() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 1);
    let mut consumer = log.consumer("g").subscribe([stock.topic()]).unwrap();
    put(&log, &stock, &[("a", "1"), ("b", "2")]);
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    transaction.delete(&stock, "a").unwrap();
    transaction.blocking_commit().unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = consumer.try_next().unwrap() {
        seen.extend(batch.records().iter().map(|it| (it.key_str().unwrap().to_owned(), it.value.clone())));
        batch.blocking_ack().unwrap();
    }
    let text = |key: &str, value: Option<&'static str>| (key.to_owned(), value.map(exactlog::Bytes::from));
    assert_eq!(seen, [text("a", Some("1")), text("b", Some("2")), text("a", None)]);
    assert_eq!(log.lag("g", stock.topic()), 0);
}

#[test]
fn what_a_table_does_not_take_is_named() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 2);
    let plain = topic(&log, "plain", 1);
    let text = |error: Error| error.to_string();
    let mut options = TableOptions::default();
    options.config.cleanup_policy = CleanupPolicy::Delete;
    let refused = log.create_table("other", options).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::TablePolicy { policy: CleanupPolicy::Delete })));
    assert!(text(log.create_table("plain", TableOptions::default()).unwrap_err()).contains("not a table"));
    assert!(text(log.create_topic("stock", TopicOptions::default()).unwrap_err()).contains("it is a table"));
    assert!(matches!(log.table("plain"), Err(Error::Refused(Refusal::NoTable { .. }))));
    assert_eq!(
        text(log.table("nothing").unwrap_err()),
        "table \"nothing\" doesn't exist; create_table makes it"
    );
    assert!(matches!(
        log.create_table("__timers-1", TableOptions::default()),
        Err(Error::ReservedName { .. })
    ));
    let refused = log.add_partitions(stock.topic(), 3).unwrap_err();
    assert!(text(refused).ends_with("its keys would move"));
    let mut producer = log.producer("p").unwrap();
    let large = producer.begin().put(&stock, "k", vec![0; 2_000_000]);
    assert!(matches!(large, Err(Error::EventTooLarge { max: 1_048_588, .. })), "{large:?}");
    let mut transaction = producer.begin();
    transaction.put(&stock, "k".repeat(1_025), "v").unwrap();
    transaction.send(&plain, Event::unkeyed("beside")).unwrap();
    assert_eq!(
        text(transaction.blocking_commit().unwrap_err()),
        "a key of 1025 bytes is over table.key.max.bytes = 1024"
    );
    log.set_table_limits(TableLimits { keys_max: 1, key_bytes_max: 2_000 }).unwrap();
    assert_eq!(log.table_limits().key_bytes_max, 2_000);
    let mut transaction = producer.begin();
    transaction.put(&stock, "k".repeat(1_025), "v").unwrap();
    transaction.blocking_commit().unwrap();
    let mut transaction = producer.begin();
    transaction.put(&stock, "another", "v").unwrap();
    let refused = text(transaction.blocking_commit().unwrap_err());
    assert_eq!(refused, "tables have 1 keys, and 1 more would be over table.keys.max = 1");
    assert_eq!(log.bounds(&plain, 0).unwrap(), (0, 0), "nothing of a refused transaction is anywhere");
    let only_read = {
        let mut transaction = producer.begin();
        transaction.get(&stock, "x").unwrap();
        transaction.blocking_commit()
    };
    assert!(matches!(only_read, Err(Error::EmptyTransaction)));
}
