//! The facade from end to end: what is sent is there, once, also after the log is opened again.

use crate::common::{after_kill, open, send_all, until, values};
use exactlog::{Durability, Error, Event, Log, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::time::Duration;

fn record_texts(log: &Log, group: &str, topic: &str) -> Vec<String> {
    let topic = log.open_topic(topic).unwrap();
    let mut consumer = log.consumer(group).subscribe([&topic]).unwrap();
    let mut texts = Vec::new();
    while let Some(batch) = consumer.try_next().unwrap() {
        let records = batch.blocking_ack().unwrap();
        texts.extend(records.iter().map(|record| record.value_str().unwrap().to_owned()));
    }
    texts
}

#[test]
fn what_is_acknowledged_is_there_after_a_reopen_and_committed_positions_hold() {
    let directory = tempfile::tempdir().unwrap();
    {
        let log = Log::open(directory.path()).unwrap();
        let topic = log.create_topic("t", TopicOptions::default().partitions(3)).unwrap();
        let producer = log.producer("p").unwrap();
        for n in 0..100 {
            producer.blocking_send(&topic, Event::new(format!("k{n}"), format!("v{n}"))).unwrap();
        }
        assert_eq!(record_texts(&log, "g", "t").len(), 100);
        producer.blocking_send(&topic, Event::new("k", "new")).unwrap();
    }
    let log = Log::open(directory.path()).unwrap();
    assert_eq!(record_texts(&log, "g", "t"), ["new"]);
    let mut all = record_texts(&log, "other", "t");
    all.sort();
    assert_eq!(all.len(), 101);
    all.dedup();
    assert_eq!(all.len(), 101);
    log.close().unwrap();
}

#[test]
fn transactions_spread_events_without_a_key_over_the_partitions_each_its_own_to_one() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default().partitions(4)).unwrap();
    let mut counts = [0; 4];
    for name in ["p", "q"] {
        let mut producer = log.producer(name).unwrap();
        for _ in 0..4 {
            let mut transaction = producer.begin();
            (0..3).for_each(|n| transaction.send(&topic, Event::unkeyed(format!("{n}"))).unwrap());
            let receipt = transaction.blocking_commit().unwrap();
            let [(partition, _)] = receipt.base_offsets[..] else { panic!("one partition: {receipt:?}") };
            counts[partition.index as usize] += 3;
        }
    }
    assert_eq!(counts, [6; 4]);
}

#[test]
fn many_tickets_resolve_to_dense_offsets_in_order() {
    for durability in [Durability::Fsync, Durability::Os] {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::builder().durability(durability).open(directory.path()).unwrap();
        let topic = log.create_topic("t", TopicOptions::default()).unwrap();
        let producer = log.producer("p").unwrap();
        let tickets: Vec<_> = (0..20_000)
            .map(|n| producer.blocking_submit(&topic, Event::new("k", format!("value {n}"))).unwrap())
            .collect();
        for (n, ticket) in tickets.into_iter().enumerate() {
            assert_eq!(ticket.wait().unwrap().offset, n as u64);
        }
        let texts = record_texts(&log, "g", "t");
        assert_eq!(texts.len(), 20_000);
        assert!(texts.iter().enumerate().all(|(n, text)| *text == format!("value {n}")));
    }
}

#[test]
fn a_transaction_that_is_dropped_leaves_nothing_and_its_input_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let input = log.create_topic("in", TopicOptions::default()).unwrap();
    let output = log.create_topic("out", TopicOptions::default().partitions(2)).unwrap();
    let mut producer = log.producer("p").unwrap();
    producer.blocking_send(&input, Event::new("k", "v")).unwrap();
    let mut consumer = log.consumer("g").subscribe([&input]).unwrap();

    let batch = consumer.blocking_next().unwrap().unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "dropped")).unwrap();
    transaction.ack(batch);
    drop(transaction);
    assert_eq!(log.committed("g", &input, 0), None);

    let batch = consumer.blocking_next().unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    let mut transaction = producer.begin();
    transaction.send(&output, Event::new("k", "kept")).unwrap();
    transaction.ack(batch);
    transaction.set_cursor("here").unwrap();
    let receipt = transaction.blocking_commit().unwrap();
    assert_eq!(receipt.base_offsets.len(), 1);
    assert_eq!(log.committed("g", &input, 0), Some(1));
    assert_eq!(record_texts(&log, "reader", "out"), ["kept"]);
    assert_eq!(producer.cursor().unwrap(), "here");
    let again = log.producer("p").unwrap();
    assert_eq!(again.cursor().unwrap(), "here");
    let error = producer.blocking_send(&output, Event::new("k", "zombie")).unwrap_err();
    assert!(matches!(error, exactlog::Error::Fenced { .. }), "{error}");
}

#[tokio::test]
async fn tasks_wait_for_records_and_tickets() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let producer = log.producer("p").unwrap();
    let sending = tokio::spawn(async move {
        for n in 0..50 {
            producer.send(&topic, Event::new("k", format!("{n}"))).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < 50 {
        let batch = consumer.next().await.unwrap().unwrap();
        for record in &batch {
            assert_eq!(record.value(), format!("{seen}").as_bytes());
            seen += 1;
        }
        batch.ack().await.unwrap();
    }
    sending.await.unwrap();
}

#[test]
fn each_way_to_receive_tells_nothing_yet_from_a_log_that_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let mut consumer = log.consumer("g").assign([(&topic, 0)]).unwrap();
    assert!(consumer.try_next().unwrap().is_none(), "nothing yet");
    let batch = consumer.blocking_next_for(Duration::ZERO).unwrap().unwrap();
    assert!(batch.is_empty(), "nothing in time");
    assert!(batch.blocking_ack().unwrap().is_empty());
    assert_eq!(log.committed("g", &topic, 0), None);
    log.close().unwrap();
    assert!(matches!(consumer.try_next(), Err(Error::Closed)));
    assert!(consumer.blocking_next_for(Duration::MAX).unwrap().is_none());
    assert!(consumer.blocking_next().unwrap().is_none());
}

#[test]
fn a_batch_that_is_dropped_is_delivered_again_until_somebody_acks_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let producer = log.producer("p").unwrap();
    for n in 0..3 {
        producer.blocking_send(&topic, Event::new("k", n.to_string())).unwrap();
    }
    let mut consumer = log.consumer("g").max_poll_records(2).subscribe([&topic]).unwrap();
    let mut offsets = |ack: bool| -> Vec<u64> {
        let batch = consumer.try_next().unwrap().unwrap();
        let offsets = batch.records().iter().map(|record| record.offset).collect();
        if ack {
            batch.blocking_ack().unwrap();
        }
        offsets
    };
    assert_eq!(offsets(false), [0, 1]);
    assert_eq!(offsets(false), [0, 1]);
    assert_eq!(log.committed("g", &topic, 0), None);
    assert_eq!(offsets(true), [0, 1]);
    assert_eq!(offsets(false), [2]);
    drop(consumer);
    let mut next = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(next.blocking_next().unwrap().unwrap().records()[0].offset, 2);
}

#[test]
fn key_and_value_are_bytes_text_or_json_and_an_error_says_where_they_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let producer = log.producer("p").unwrap();
    let bytes = || b"\xff\xfe".to_vec();
    for event in [Event::new("ä", "ö"), Event::new(bytes(), bytes()), Event::default()] {
        producer.blocking_send(&topic, event).unwrap();
    }
    let records: Vec<_> = log.read_view().records(&topic).collect::<Result<_, _>>().unwrap();
    let [text, other, nothing] = &records[..] else { panic!("{records:?}") };
    assert_eq!((text.key(), text.value()), ("ä".as_bytes(), "ö".as_bytes()));
    assert_eq!((text.key_str().unwrap(), text.value_str().unwrap()), ("ä", "ö"));
    assert_eq!((nothing.key_str().unwrap(), nothing.value_str().unwrap()), ("", ""));
    assert_eq!((&nothing.key, &nothing.value), (&None, &None));
    assert_eq!((other.key(), other.value()), (&bytes()[..], &bytes()[..]));
    let error = other.key_str().unwrap_err();
    assert_eq!((error.part, &error.raw[..]), ("key", &bytes()[..]));
    let said = error.to_string();
    assert!(
        said.starts_with("topic \"t\" partition 0 offset 1: the key of 2 bytes can't be decoded"),
        "{said}"
    );
    assert!(other.value_str().unwrap_err().to_string().contains("the value of 2 bytes"));
    assert_eq!(other.json::<u8>().unwrap_err().part, "value");
}

#[test]
fn two_members_share_partitions_and_the_second_takes_over_what_the_first_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default().partitions(6)).unwrap();
    let mut first = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(first.positions().unwrap().len(), 6);
    let mut second = log.consumer("g").subscribe([&topic]).unwrap();
    assert_eq!(second.positions().unwrap().len(), 0, "nothing is released yet");
    assert_eq!(first.positions().unwrap().len(), 3);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while second.positions().unwrap().len() < 3 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(first);
    while second.positions().unwrap().len() < 6 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn a_log_larger_than_its_journal_goes_on_and_every_record_is_readable() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let builder = Log::builder().durability(Durability::Os).journal_file_bytes(1 << 20);
        builder
            .journal_ring_bytes(4 << 20)
            .checkpoint_bytes(2 << 20)
            .tail_cache_bytes(1 << 20)
            .open(directory.path())
    };
    let log = open().unwrap();
    let topic = log.create_topic("t", TopicOptions::default().partitions(4)).unwrap();
    let producer = log.producer("p").unwrap();
    let value = "x".repeat(1000);
    let tickets: Vec<_> = (0..40_000)
        .map(|n| producer.blocking_submit(&topic, Event::new(format!("{n}"), value.clone())).unwrap())
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let metrics = log.metrics();
    assert_eq!(metrics.records_in, 40_000);
    assert!(metrics.journal_bytes <= 6 << 20, "{metrics:?}");
    let seen = record_texts(&log, "g", "t");
    assert_eq!(seen.len(), 40_000);
    drop((producer, topic));
    log.close().unwrap();
    let log = open().unwrap();
    assert!(log.recovery().clean);
    assert!(log.recovery().checkpoint_lsn > 0);
    assert_eq!(record_texts(&log, "second", "t").len(), 40_000);
}

#[test]
fn two_checkpoints_leave_nothing_in_the_journal_and_all_of_it_readable() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        // Of itself it doesn't write behind before there are 32 MiB, or 5 files.
        let builder = Log::builder().journal_file_bytes(4 << 20).journal_ring_bytes(64 << 20);
        builder.checkpoint_bytes(64 << 20).tail_cache_bytes(0).open(directory.path()).unwrap()
    };
    let log = open();
    let topic = log.create_topic("t", TopicOptions::default().partitions(2)).unwrap();
    let producer = log.producer("p").unwrap();
    let value = "x".repeat(100_000);
    let send =
        |n: usize| producer.blocking_submit(&topic, Event::new(format!("{n}"), value.clone())).unwrap();
    let tickets: Vec<_> = (0..100).map(send).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let before = log.metrics();
    assert!(before.unflushed_batches > 0 && before.journal_bytes >= 10_000_000, "{before:?}");
    log.checkpoint().unwrap();
    assert_eq!(log.metrics().unflushed_batches, 0);
    log.checkpoint().unwrap();
    let after = log.metrics();
    assert!(after.journal_bytes <= 4 << 20, "{after:?}");
    assert_eq!(record_texts(&log, "g", "t").len(), 100);
    drop((producer, topic));
    log.close().unwrap();
    let log = open();
    assert_eq!(record_texts(&log, "second", "t").len(), 100);
    let other = log.clone();
    log.close().unwrap();
    assert!(matches!(other.checkpoint(), Err(Error::Closed)));
}

#[test]
fn what_a_killed_process_was_preparing_is_removed_soon_after_the_next_open() {
    let directory = tempfile::tempdir().unwrap();
    Log::open(directory.path()).unwrap().close().unwrap();
    let unfinished = directory.path().join("journal/new-spare-77.tmp");
    std::fs::write(&unfinished, [1; 4096]).unwrap();
    let log = Log::open(directory.path()).unwrap();
    until("the unfinished file is removed", || !unfinished.exists());
    log.close().unwrap();
}

#[test]
fn a_closed_log_has_no_unfinished_file_also_if_the_process_before_was_killed() {
    let disk = SimDisk::new();
    let of_journal = |disk: &SimDisk| -> Vec<(String, u64)> {
        disk.files().into_iter().filter(|(name, _)| name.starts_with("journal/")).collect()
    };
    let unfinished =
        |disk: &SimDisk| of_journal(disk).iter().filter(|(name, _)| name.ends_with(".tmp")).count();
    let log = open(&disk);
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    send_all(&log, &topic, ["1".to_owned()]);
    assert!(unfinished(&disk) > 0, "a file is kept in reserve");
    let killed = disk.process_kill();
    assert!(unfinished(&killed) > 0);
    let log = open(&killed);
    send_all(&log, &topic, ["2".to_owned()]);
    log.close().unwrap();
    let files = of_journal(&killed);
    assert_eq!(unfinished(&killed), 0, "{files:?}");
    assert!(files.iter().any(|(name, _)| name.starts_with("journal/spare-")), "its space is kept: {files:?}");
    let (disk, log) = after_kill(&killed);
    assert_eq!(values(&log, &topic), ["1", "2"]);
    log.close().unwrap();
    assert_eq!(unfinished(&disk), 0, "of a log to which nothing was written");
}

#[test]
fn many_short_runs_leave_few_journal_files() {
    let directory = tempfile::tempdir().unwrap();
    for run in 0..20 {
        let log = Log::builder().journal_file_bytes(1 << 20).open(directory.path()).unwrap();
        let topic = log.create_topic("t", TopicOptions::default()).unwrap();
        let producer = log.producer("p").unwrap();
        assert_eq!(producer.blocking_send(&topic, Event::new("k", "v")).unwrap().offset, run);
        drop((producer, topic));
        log.close().unwrap();
    }
    let files = std::fs::read_dir(directory.path().join("journal")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let journals = names.iter().filter(|name| name.ends_with(".journal")).count();
    assert!(journals <= 6, "{names:?}");
}

#[test]
fn a_topic_tells_beforehand_what_it_would_refuse() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = log.create_topic("small", TopicOptions::default().max_message_bytes(1024)).unwrap();
    let mut producer = log.producer("p").unwrap();
    let events =
        [100, 800, 900, 930, 940, 945, 950, 955, 960, 1000, 5000].map(|bytes| Event::unkeyed(vec![7; bytes]));
    let ids = ["", "id"].map(|id| Event::unkeyed("v").id(id));
    let (mut taken, mut refused) = (0, 0);
    for event in events.into_iter().chain(ids).chain([Event::unkeyed("v").id("x".repeat(1025))]) {
        let said = topic.check(&event).map_err(|error| error.to_string());
        let mut transaction = producer.begin();
        let done = transaction.send(&topic, event).map_err(|error| error.to_string());
        assert_eq!(said, done);
        *(if said.is_ok() { &mut taken } else { &mut refused }) += 1;
    }
    assert!(taken > 3 && refused > 3, "{taken}, {refused}");
}

#[test]
fn how_many_records_come_at_once_can_be_changed() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let producer = log.producer("p").unwrap();
    for n in 0..20 {
        producer.blocking_send(&topic, Event::unkeyed(n.to_string())).unwrap();
    }
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    for (most, expected) in [(3, 3), (0, 1), (100, 16)] {
        consumer.set_max_poll_records(most);
        assert_eq!(consumer.try_next().unwrap().unwrap().blocking_ack().unwrap().len(), expected);
    }
}

#[test]
fn a_consumer_reads_up_to_the_end_that_it_was_given_and_no_further() {
    let house = tempfile::tempdir().unwrap();
    let log = Log::open(house.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default().partitions(2)).unwrap();
    let producer = log.producer("p").unwrap();
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    // Within a batch, at its end, and behind everything.
    let tickets: Vec<_> =
        (0..20).map(|n| producer.blocking_submit(&topic, Event::new("k", n.to_string())).unwrap()).collect();
    let partition = tickets.into_iter().map(|ticket| ticket.wait().unwrap().partition).max().unwrap();
    let read = |consumer: &mut exactlog::Consumer| {
        let mut offsets = Vec::new();
        while let Some(batch) = consumer.try_next().unwrap() {
            offsets.extend(batch.blocking_ack().unwrap().iter().map(|record| record.offset));
        }
        offsets
    };
    for (end, expected) in [(0, 0..0), (7, 0..7), (3, 7..7), (15, 7..15), (100, 15..20)] {
        consumer.set_end(&topic, partition, Some(end)).unwrap();
        assert_eq!(read(&mut consumer), expected.collect::<Vec<u64>>(), "up to {end}");
    }
    producer.blocking_send(&topic, Event::new("k", "20")).unwrap();
    consumer.set_end(&topic, partition, Some(20)).unwrap();
    assert_eq!(read(&mut consumer), [0; 0]);
    consumer.set_end(&topic, partition, None).unwrap();
    assert_eq!(read(&mut consumer), [20]);
    assert!(consumer.set_end(&topic, 2, Some(0)).is_err());
}
