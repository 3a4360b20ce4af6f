//! Topics whose settings change under handles that know the earlier ones: nobody has to send anything again.

use crate::common::*;
use exactlog::{Bytes, Durability, Error, Event, Refusal, Topic, TopicConfig};
use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::Command;
use exactlog_core::reply::Reply;
use exactlog_sim::disk::SimDisk;
use exactlog_sim::gate::GatedDisk;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::sync::Arc;

const VALUE_BYTES: usize = 2000;

/// A topic whose handle is older than its settings, in a log that is closed.
fn altered(disk: &SimDisk, config: TopicConfig) -> Topic {
    let log = open(disk);
    let topic = topic(&log, "t", 1);
    log.close().unwrap();
    alter(disk, &topic, config);
    topic
}

/// Alters a topic of a log that is closed.
fn alter(disk: &SimDisk, topic: &Topic, config: TopicConfig) {
    let options = Options {
        durability: Durability::Fsync,
        journal_file_bytes: MIB,
        journal_ring_bytes: 4 * MIB,
        checkpoint_bytes: 2 * MIB,
        tail_cache_bytes: MIB,
        ..Options::default()
    };
    let mut nonce = 0;
    let mut random = || {
        nonce += 1;
        nonce
    };
    let (mut shard, _) = Shard::open(Arc::new(disk.clone()), options, &mut random).unwrap();
    let command = Command::AlterTopic { topic: topic.id(), config };
    let time_ms = shard.state().time_ms;
    let applied = shard.execute(&[Submission { time_ms, command }]).unwrap();
    assert!(matches!(applied[0].reply, Reply::TopicAltered { .. }), "{applied:?}");
    shard.close().unwrap();
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(VALUE_BYTES);
    builder.append(0, Some(b"k"), Some(&[b'v'; VALUE_BYTES]), &[]);
    let batch = builder.finish(None);
    [&batch.header()[..], batch.body()].concat().into()
}

#[test]
fn oa_7_batches_and_events_of_a_handle_with_earlier_settings_are_stored() {
    let disk = SimDisk::new();
    let topic = altered(&disk, TopicConfig { segment_ms: 1, ..TopicConfig::default() });
    let log = open(&disk);
    assert_ne!(log.open_topic("t").unwrap().config(), topic.config(), "the handle is older");
    assert_eq!(log.append_batch(&topic, 0, batch()).unwrap(), 0);
    assert_eq!(log.metrics().refused, 1, "it was repeated");
    assert_eq!(log.producer("p").unwrap().blocking_send(&topic, Event::new("k", "v")).unwrap().offset, 1);
    assert_eq!(values(&log, &topic).len(), 2);
}

#[test]
fn oa_7_a_repeated_batch_is_judged_by_the_settings_that_hold_now() {
    let disk = SimDisk::new();
    let topic = altered(&disk, TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() });
    let log = open(&disk);
    let error = log.append_batch(&topic, 0, batch()).unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::BatchTooLarge { max: 1024, .. })), "{error}");
    assert!(values(&log, &topic).is_empty());
}

/// Two events in two batches of one group, the first by a handle from before the topic was altered, the second by one
/// from after that. What became of them and of one behind them, and what is stored.
fn older_handle_first(first_bytes: usize, knows_producer: bool) -> (Vec<Result<u64, Error>>, Vec<usize>) {
    let config = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    let disk = GatedDisk::default();
    let older = altered(&disk.disk, config);
    let log = builder(disk.layer()).open("gated").unwrap();
    let newer = log.open_topic("t").unwrap();
    let (producer, other) = (log.producer("p").unwrap(), log.producer("other").unwrap());
    let event = |bytes| Event::new("k", vec![b'x'; bytes]);
    if knows_producer {
        producer.blocking_send(&newer, event(1)).unwrap();
    }
    disk.shut();
    let ahead = other.blocking_submit(&newer, Event::new("k", "a")).unwrap();
    disk.wait_until_reached();
    let tickets = [
        producer.blocking_submit(&older, event(first_bytes)).unwrap(),
        // Too large for the batch of the first.
        producer.blocking_submit(&newer, event(900)).unwrap(),
    ];
    disk.open_gate();
    ahead.wait().unwrap();
    let mut told: Vec<_> = tickets.into_iter().map(|it| it.wait().map(|receipt| receipt.offset)).collect();
    told.push(producer.blocking_send(&newer, event(100)).map(|receipt| receipt.offset));
    let lengths = values(&log, &newer).iter().map(String::len).collect();
    (told, lengths)
}

#[test]
fn oa_7_a_batch_of_an_earlier_handle_is_not_overtaken_by_one_of_a_later_handle() {
    let (told, lengths) = older_handle_first(800, false);
    assert!(matches!(told[..], [Ok(1), Ok(2), Ok(3)]), "{told:?}");
    assert_eq!(lengths, [1, 800, 900, 100]);
    let (told, lengths) = older_handle_first(800, true);
    assert!(matches!(told[..], [Ok(2), Ok(3), Ok(4)]), "{told:?}");
    assert_eq!(lengths, [1, 1, 800, 900, 100]);
}

#[test]
fn oa_7_a_batch_that_the_altered_settings_refuse_does_not_end_its_producer() {
    for knows_producer in [false, true] {
        let (told, lengths) = older_handle_first(5_000, knows_producer);
        let [Err(Error::Refused(Refusal::BatchTooLarge { max: 1024, .. })), second, Ok(_)] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(lengths.ends_with(if second.is_ok() { &[900, 100] } else { &[1, 100] }), "{lengths:?}");
    }
}
