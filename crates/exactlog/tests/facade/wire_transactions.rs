//! Wire transactions behind the facade: who reads embedded never sees what isn't committed.

use crate::common::*;
use exactlog::wire::{OffsetCommit, OffsetMetadata, Protocol, Reply, TransactionSender, Transactional};
use exactlog::{Consumer, Error, Log, Partition, ProducerId, Start, Topic, TopicConfig, TopicOptions};
use exactlog_core::batch::{BatchBuilder, ProducerStamp};
use exactlog_sim::disk::SimDisk;

/// One of Kafka's transactional producers.
pub(crate) struct Wire {
    log: Log,
    id: &'static str,
    pub(crate) producer: ProducerId,
    producer_epoch: i16,
    sequence: i32,
}

impl Wire {
    pub(crate) fn new(log: &Log, id: &'static str, timeout_ms: u32) -> Wire {
        let transactional_id = id.to_owned();
        let request = Transactional::Init { transactional_id, timeout_ms, current: None, newer_codes: true };
        let mut wire = Wire { log: log.clone(), id, producer: ProducerId(0), producer_epoch: 0, sequence: 0 };
        wire.is_now(request).unwrap();
        wire
    }

    fn is_now(&mut self, request: Transactional) -> Result<(), Error> {
        match self.log.transactional(request)? {
            Reply::Transactional { producer, producer_epoch } => {
                (self.producer, self.producer_epoch, self.sequence) = (producer, producer_epoch, 0);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    }

    fn sender(&self) -> TransactionSender {
        TransactionSender {
            transactional_id: self.id.to_owned(),
            producer: self.producer,
            producer_epoch: self.producer_epoch,
            protocol: Protocol::V2,
            newer_codes: true,
            connection: 0,
        }
    }

    pub(crate) fn append(&mut self, topic: &Topic, partition: u32, value: &str) -> Result<u64, Error> {
        let mut builder = BatchBuilder::new(64);
        builder.append(1_000, Some(b"k"), Some(value.as_bytes()), &[]);
        let stamp =
            ProducerStamp { id: self.producer, epoch: self.producer_epoch, base_sequence: self.sequence };
        let request = Transactional::Append {
            transactional_id: self.id.to_owned(),
            protocol: Protocol::V2,
            newer_codes: true,
            partition: Partition { topic: topic.id(), index: partition },
            config_version: 0,
            batch: builder.finish(Some(stamp)).in_transaction(),
        };
        match self.log.transactional(request)? {
            Reply::Appended { base_offset, .. } => {
                self.sequence += 1;
                Ok(base_offset)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn end(&mut self, commit: bool) -> Result<(), Error> {
        self.is_now(Transactional::End { sender: self.sender(), commit })
    }
}

/// What a consumer gets until there is nothing more.
fn drain(consumer: &mut Consumer) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(batch) = consumer.try_next().unwrap() {
        let records = batch.blocking_ack().unwrap();
        values.extend(records.iter().map(|record| record.value_str().unwrap().to_owned()));
    }
    values
}

#[test]
fn tx_24_consumers_see_committed_transactions_in_order_and_never_others() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let (mut one, mut two) = (Wire::new(&log, "one", 60_000), Wire::new(&log, "two", 60_000));
    send_all(&log, &topic, ["before".into()]);
    one.append(&topic, 0, "one").unwrap();
    two.append(&topic, 0, "two").unwrap();
    send_all(&log, &topic, ["behind".into()]);
    assert_eq!(drain(&mut consumer), ["before"]);
    two.end(true).unwrap();
    assert_eq!(drain(&mut consumer), [""; 0], "decided, but behind an open one");
    one.end(false).unwrap();
    assert_eq!(drain(&mut consumer), ["two", "behind"]);
    one.append(&topic, 0, "again").unwrap();
    one.end(true).unwrap();
    assert_eq!(drain(&mut consumer), ["again"]);
    assert_eq!(log.lag("g", &topic), 0);
}

#[test]
fn tx_24_a_consumer_is_woken_by_the_end_of_a_transaction_and_by_its_timeout() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    for timeout_ms in [60_000, 30] {
        let mut wire = Wire::new(&log, "wire", timeout_ms);
        wire.append(&topic, 0, "in the transaction").unwrap();
        send_all(&log, &topic, ["behind".into()]);
        if timeout_ms == 60_000 {
            assert!(consumer.try_next().unwrap().is_none());
            wire.end(false).unwrap();
        }
        let batch = consumer.blocking_next_for(PATIENCE).unwrap().unwrap();
        let values: Vec<_> = batch.records().iter().map(|it| it.value_str().unwrap().to_owned()).collect();
        assert_eq!(values, ["behind"]);
        batch.blocking_ack().unwrap();
        if timeout_ms == 30 {
            assert_eq!(wire.end(true).unwrap_err().kafka_code(), 90, "its time was up");
        }
    }
}

#[test]
fn tx_25_a_view_shows_wire_transactions_wholly_or_not_at_all_also_behind_an_open_one() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 2);
    let (mut one, mut two) = (Wire::new(&log, "one", 60_000), Wire::new(&log, "two", 60_000));
    for partition in [0, 1] {
        one.append(&topic, partition, "one").unwrap();
        two.append(&topic, partition, "two").unwrap();
    }
    let (first, shown) = (log.read_view(), |view: &exactlog::ReadView| {
        view.records(&topic).map(|it| it.unwrap().value_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    two.end(true).unwrap();
    let second = log.read_view();
    one.end(false).unwrap();
    one.append(&topic, 1, "next").unwrap();
    let third = log.read_view();
    one.end(true).unwrap();
    assert_eq!(shown(&first), [""; 0]);
    assert_eq!(shown(&second), ["two", "two"]);
    assert_eq!(shown(&third), ["two", "two"]);
    assert_eq!(shown(&log.read_view()), ["two", "two", "next"]);
    for view in [&first, &second, &third, &log.read_view()] {
        assert_one_by_one(view, &topic);
    }
    // The same from segments, in the next open.
    let mut many = Wire::new(&log, "many", 60_000);
    for number in 0..50 {
        many.append(&topic, 0, &format!("aborted {number}")).unwrap();
        many.end(false).unwrap();
    }
    many.append(&topic, 0, "last").unwrap();
    many.end(true).unwrap();
    assert_eq!(shown(&log.read_view()), ["two", "last", "two", "next"]);
    assert_each_record(&log, &topic);
}

#[test]
fn tx_10_what_was_answered_is_there_after_a_kill_and_an_open_transaction_goes_on() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let mut wire = Wire::new(&log, "wire", 60_000);
    wire.append(&topic, 0, "one").unwrap();
    let (disk, log) = after_kill(&disk);
    let topic = log.open_topic("t").unwrap();
    let mut wire = Wire { log: log.clone(), ..wire };
    assert_eq!(values(&log, &topic), [""; 0]);
    wire.append(&topic, 0, "two").unwrap();
    let (group, offsets) = (
        "g".to_owned(),
        vec![OffsetCommit {
            partition: Partition { topic: topic.id(), index: 0 },
            offset: 1,
            reset: false,
            metadata: OffsetMetadata::default(),
        }],
    );
    let request = Transactional::CommitOffsets { sender: wire.sender(), group, member: None, offsets };
    log.transactional(request).unwrap();
    let (disk, log) = after_kill(&disk);
    assert_eq!(log.committed("g", &topic, 0), None);
    Wire { log: log.clone(), ..wire }.end(true).unwrap();
    assert_eq!(log.committed("g", &topic, 0), Some(1));
    let (_, log) = after_kill(&disk);
    assert_eq!(values(&log, &log.open_topic("t").unwrap()), ["one", "two"]);
    assert_eq!(log.committed("g", &topic, 0), Some(1));
}

#[test]
fn lg_12_lag_counts_what_will_be_shown_and_reaches_zero() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut wire = Wire::new(&log, "wire", 60_000);
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    for commit in [true, false, true, false] {
        wire.append(&topic, 0, "v").unwrap();
        wire.append(&topic, 0, "v").unwrap();
        wire.end(commit).unwrap();
    }
    send_all(&log, &topic, ["plain".into()]);
    let shown = |log: &Log| {
        let position = log.group("g").unwrap().positions.remove(0);
        assert_eq!(position.lag, log.lag("g", &topic), "both ways of asking agree");
        (position.lag, position.lag_ms > 0)
    };
    // Their timestamp lies long ago, so that it is an age.
    assert_eq!(shown(&log), (5, true), "of 13 offsets four are markers and four aborted");
    wire.append(&topic, 0, "open").unwrap();
    assert_eq!(shown(&log), (5, true));
    assert_eq!(drain(&mut consumer).len(), 5);
    assert_eq!(shown(&log), (0, false));
    wire.end(false).unwrap();
    assert_eq!(drain(&mut consumer), [""; 0]);
    assert_eq!(
        shown(&log),
        (0, false),
        "nothing is unread, though the group's offset lies before the marker"
    );
}

#[test]
fn tx_26_open_transactions_and_the_oldest_of_them_are_metrics() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    assert_eq!((log.metrics().open_transactions, log.metrics().oldest_transaction_ms), (0, None));
    let mut wire = Wire::new(&log, "wire", 60_000);
    wire.append(&topic, 0, "v").unwrap();
    let metrics = log.metrics();
    assert_eq!(metrics.open_transactions, 1);
    assert!(metrics.oldest_transaction_ms.is_some_and(|started_ms| started_ms > 1_600_000_000_000));
    // What an admin does to end it: the next epoch, for nobody.
    Wire::new(&log, "wire", 60_000);
    assert_eq!(log.metrics().open_transactions, 0);
    assert_eq!(wire.end(true).unwrap_err().kafka_code(), 90);
}

#[test]
fn tx_24_a_consumer_from_the_latest_begins_where_records_are_decided() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut wire = Wire::new(&log, "wire", 60_000);
    send_all(&log, &topic, ["before".into()]);
    wire.append(&topic, 0, "open").unwrap();
    let mut consumer = log.consumer("g").start(Start::Latest).subscribe([&topic]).unwrap();
    assert_eq!(drain(&mut consumer), [""; 0]);
    wire.end(true).unwrap();
    assert_eq!(drain(&mut consumer), ["open"]);
}

#[test]
fn tx_8_a_batch_that_is_no_client_s_is_refused_before_it_is_written() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let wire = Wire::new(&log, "wire", 60_000);
    let control = exactlog_core::batch::Batch::control(&exactlog_core::batch::Control {
        producer: wire.producer,
        producer_epoch: 0,
        coordinator_epoch: 0,
        commit: true,
        time_ms: 0,
    });
    let commands = log.metrics().commands;
    let request = Transactional::Append {
        transactional_id: "wire".into(),
        protocol: Protocol::V2,
        newer_codes: true,
        partition: Partition { topic: topic.id(), index: 0 },
        config_version: 0,
        batch: control,
    };
    let error = log.transactional(request).unwrap_err();
    assert!(matches!(error, Error::Batch(_)) && error.kafka_code() == 87, "{error}");
    assert_eq!(log.metrics().commands, commands);
}

#[test]
fn the_index_of_aborted_transactions_is_made_again_where_it_is_missing_or_wrong() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut options = TopicOptions::default();
    options.config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
    let topic = log.create_topic("t", options).unwrap();
    let mut wire = Wire::new(&log, "wire", 60_000);
    for number in 0..30 {
        wire.append(&topic, 0, &"x".repeat(300)).unwrap();
        wire.end(number % 3 == 0).unwrap();
    }
    drop(wire);
    // The first one flushes, the second one finds the segments full.
    log.checkpoint().unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    let whole = disk.process_kill();
    let of_transactions = |name: &String| name.ends_with(".txnindex");
    let file = whole.files().into_iter().map(|(name, _)| name).find(of_transactions).unwrap();
    let content = whole.read_file(&file).unwrap();
    for case in ["flipped", "cut", "missing"] {
        let disk = whole.process_kill();
        match case {
            "flipped" => disk.flip_bit(&file, content.len() as u64 - 1, 1).unwrap(),
            "cut" => disk.cut(&file, 20).unwrap(),
            _ => disk.remove(&file).unwrap(),
        }
        let found = builder(disk.clone()).examine("simulated").unwrap();
        let [finding] = &found[..] else { panic!("{case}: {found:?}") };
        assert_eq!((&finding.file, finding.is_damage), (&file, case != "missing"));
        assert_eq!(builder(disk.clone()).repair("simulated", |_| true).unwrap().left, []);
        assert_eq!(disk.read_file(&file).unwrap(), content, "{case}");
    }
}
