//! What a front end uses: batches handed in one after the other, and fetched as they are.

use crate::common::*;
use crate::wire_transactions::Wire;
use exactlog::wire::{Appended, Batch, Isolation};
use exactlog::{Compression, Error, Log, Partition, ProducerId, Refusal, Topic, TopicId, TopicOptions};
use exactlog_core::batch::{BatchBuilder, ProducerStamp};
use exactlog_sim::disk::SimDisk;
use exactlog_sim::gate::GatedDisk;
use std::pin::pin;
use std::task::{Context, Waker};

fn at(topic: &Topic) -> Partition {
    Partition { topic: topic.id(), index: 0 }
}

fn batch(values: &[&str], stamp: Option<(ProducerId, i16, i32)>) -> Batch {
    let mut builder = BatchBuilder::new(64);
    for value in values {
        builder.append(1_000, Some(b"k"), Some(value.as_bytes()), &[]);
    }
    builder.finish(stamp.map(|(id, epoch, base_sequence)| ProducerStamp { id, epoch, base_sequence }))
}

/// The values of batches, as a reader takes them apart.
fn texts(batches: &[Batch]) -> Vec<String> {
    let records = batches.iter().filter(|batch| !batch.is_control()).flat_map(|batch| batch.records());
    let text = |value: bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    records.map(|record| text(record.unwrap().value.unwrap())).collect()
}

fn fetch(log: &Log, topic: &Topic, offset: u64, isolation: Isolation) -> Vec<String> {
    texts(&log.fetch(at(topic), offset, 1 << 20, isolation).unwrap().batches)
}

#[tokio::test]
async fn batches_that_are_handed_in_one_after_the_other_are_appended_in_this_order() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let mut handed_in = Vec::new();
    for nth in 0..50 {
        handed_in
            .push(log.submit_batch(at(&topic), batch(&[&format!("{nth}"), "b"], None), None).await.unwrap());
    }
    for (nth, appending) in handed_in.into_iter().enumerate() {
        let appended = appending.outcome().await.unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (2 * nth as u64, false));
    }
    let fetched = log.fetch(at(&topic), 0, 1 << 20, Isolation::Uncommitted).unwrap();
    assert_eq!((fetched.start_offset, fetched.last_stable_offset, fetched.high_watermark), (0, 100, 100));
    assert_eq!(fetched.batches.len(), 50);
    let bytes: usize = fetched.batches.iter().map(Batch::len_bytes).sum();
    assert_eq!(fetched.batch_bytes(), bytes);
}

#[tokio::test]
async fn a_batch_that_comes_twice_has_its_first_place_and_one_out_of_order_is_refused() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let (id, epoch) = {
        // Any producer id that the log has given out.
        let wire = Wire::new(&log, "wire", 60_000);
        (wire.producer, 0)
    };
    let hand_in = async |sequence| {
        log.submit_batch(at(&topic), batch(&["a"], Some((id, epoch, sequence))), None).await?.outcome().await
    };
    let first = hand_in(0).await.unwrap();
    let again = hand_in(0).await.unwrap();
    assert_eq!(again, Appended { duplicate: true, ..first });
    let error = hand_in(7).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::OutOfOrderSequence { .. })), "{error}");
    assert_eq!(fetch(&log, &topic, 0, Isolation::Uncommitted), ["a"]);
}

/// It had waited for room, with settings that were others when it got some.
#[tokio::test]
async fn settings_that_change_on_the_way_are_no_error() {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).queue_bytes(1_000).open("gated").unwrap();
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let long = "long ".repeat(180);
    disk.shut();
    let first = log.submit_batch(at(&topic), batch(&[&long], None), None).await.unwrap();
    disk.wait_until_reached();
    let mut second = pin!(log.submit_batch(at(&topic), batch(&[&long], None), None));
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    disk.open_gate();
    log.alter_topic(&topic, TopicOptions::default().compression(Compression::Snappy).config).unwrap();
    let commands = log.metrics().commands;
    assert_eq!(second.await.unwrap().outcome().await.unwrap().base_offset, 1);
    assert_eq!(first.outcome().await.unwrap().base_offset, 0);
    assert_eq!(log.metrics().commands, commands + 2, "refused, and handed in again");
    let batches = log.fetch(at(&topic), 0, 1 << 20, Isolation::Uncommitted).unwrap().batches;
    let codecs: Vec<_> = batches.iter().map(Batch::compression).collect();
    assert_eq!(
        (codecs, texts(&batches)),
        (vec![Compression::None, Compression::Snappy], vec![long.clone(), long])
    );
}

#[tokio::test]
async fn what_isnt_there_or_isnt_a_clients_is_refused_before_anything_is_queued() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default().max_message_bytes(1024)).unwrap();
    let commands = log.metrics().commands;
    let nowhere = Partition { topic: TopicId(99), index: 0 };
    let error = log.submit_batch(nowhere, batch(&["a"], None), None).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::UnknownTopic { topic: TopicId(99) })), "{error}");
    let error = log.submit_batch(at(&topic), batch(&[&"a".repeat(2000)], None), None).await.unwrap_err();
    assert!(matches!(error, Error::Batch(_)) && error.kafka_code() == 10, "{error}");
    assert_eq!(log.metrics().commands, commands);
    // That partition could come: it is the log's to refuse.
    let second = Partition { topic: topic.id(), index: 1 };
    let error =
        log.submit_batch(second, batch(&["a"], None), None).await.unwrap().outcome().await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::UnknownPartition { partitions: 1, .. })), "{error}");

    for (partition, text) in [(nowhere, "topic 99"), (second, "has 1")] {
        let error = log.fetch(partition, 0, 1, Isolation::Uncommitted).unwrap_err();
        assert!(error.kafka_code() == 3 && error.to_string().contains(text), "{error}");
    }
    let error = log.fetch(at(&topic), 1, 1, Isolation::Uncommitted).unwrap_err();
    assert!(matches!(error, Error::OffsetOutOfRange { offset: 1, start: 0, end: 0, .. }), "{error}");
    assert_eq!(log.fetch(at(&topic), 0, 1, Isolation::Committed).unwrap().batches, []);
}

#[test]
fn readers_of_committed_records_stop_at_what_is_open_and_are_told_what_was_aborted() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let mut aborts = Wire::new(&log, "aborts", 60_000);
    let mut commits = Wire::new(&log, "commits", 60_000);
    let aborted = (aborts.producer, aborts.append(&topic, 0, "gone").unwrap());
    commits.append(&topic, 0, "stays").unwrap();
    aborts.end(false).unwrap();
    let committed = log.fetch(at(&topic), 0, 1 << 20, Isolation::Committed).unwrap();
    assert_eq!((texts(&committed.batches), committed.last_stable_offset), (vec!["gone".to_owned()], 1));
    assert_eq!((committed.aborted, committed.high_watermark), (vec![aborted], 3));
    commits.end(true).unwrap();
    let committed = log.fetch(at(&topic), 0, 1 << 20, Isolation::Committed).unwrap();
    assert_eq!(
        (texts(&committed.batches), committed.aborted),
        (vec!["gone".into(), "stays".into()], vec![aborted])
    );
    assert_eq!((committed.last_stable_offset, committed.high_watermark), (4, 4));
    let all = log.fetch(at(&topic), 0, 1 << 20, Isolation::Uncommitted).unwrap();
    assert_eq!((all.batches.len(), all.aborted), (4, vec![]), "two of them are markers");
}

#[test]
fn at_least_one_batch_is_fetched_and_no_more_than_fit() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    for nth in 0..3 {
        log.append_batch(&topic, 0, raw(&batch(&[&format!("{nth}")], None))).unwrap();
    }
    let one = log.fetch(at(&topic), 0, 0, Isolation::Uncommitted).unwrap();
    assert_eq!(texts(&one.batches), ["0"]);
    let two = log.fetch(at(&topic), 1, 2 * one.batch_bytes(), Isolation::Uncommitted).unwrap();
    assert_eq!(texts(&two.batches), ["1", "2"]);
}

#[test]
fn arrivals_tell_of_their_topics_and_of_the_end() {
    let log = open(&SimDisk::new());
    let topic = log.create_topic("t", TopicOptions::default()).unwrap();
    let other = log.create_topic("other", TopicOptions::default()).unwrap();
    let arrivals = log.arrivals([topic.id()]);
    let so_far = arrivals.so_far();
    let mut waiting = pin!(arrivals.after(so_far));
    let mut context = Context::from_waker(Waker::noop());
    log.append_batch(&other, 0, raw(&batch(&["a"], None))).unwrap();
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    log.append_batch(&topic, 0, raw(&batch(&["a"], None))).unwrap();
    assert!(waiting.as_mut().poll(&mut context).is_ready());
    let so_far = arrivals.so_far();
    log.close().unwrap();
    assert!(pin!(arrivals.after(so_far)).poll(&mut context).is_ready());
}

fn raw(batch: &Batch) -> bytes::Bytes {
    [&batch.header()[..], batch.body()].concat().into()
}

#[test]
fn topics_are_told_by_name_when_any_came_grew_or_went() {
    let log = open(&SimDisk::new());
    assert_eq!(log.changed_topics(&[]), None);
    let second = log.create_topic("second", TopicOptions::default().partitions(2)).unwrap();
    let first = log.create_topic("first", TopicOptions::default()).unwrap();
    let mut known = Vec::new();
    let mut changed = |log: &Log| {
        let told = log.changed_topics(&known)?;
        known = told.iter().map(|(_, id, partitions)| (*id, *partitions)).collect();
        assert_eq!(log.changed_topics(&known), None, "they are known now");
        Some(told.into_iter().map(|(name, _, partitions)| (name, partitions)).collect::<Vec<_>>())
    };
    let named = |name: &str, partitions| (name.to_owned(), partitions);
    assert_eq!(changed(&log), Some(vec![named("first", 1), named("second", 2)]));
    assert_eq!(changed(&log), None);
    log.add_partitions(&first, 3).unwrap();
    assert_eq!(changed(&log), Some(vec![named("first", 3), named("second", 2)]));
    log.delete_topic(&second).unwrap();
    assert_eq!(changed(&log), Some(vec![named("first", 3)]));
    // It is another one, though it looks the same.
    log.delete_topic(&first).unwrap();
    log.create_topic("first", TopicOptions::default().partitions(3)).unwrap();
    assert_eq!(changed(&log), Some(vec![named("first", 3)]));
}
