//! Promises of the log that clients of Kafka's protocol are given, too (ID-11, ID-16, ID-17, TX-3, TX-11, EM-1, EM-5,
//! EM-13, LG-7): what is tested of the log itself elsewhere is seen here from a connection.

use crate::common::{Client, Node, batch, batch_of, bytes_of};
use crate::transactional::{TIMEOUT_MS, Who, fetched, init, raw, shown};
use bytes::Bytes;
use exactlog::wire::{Batch, BatchBuilder};
use exactlog::{Compression, Event, Partition, Topic, TopicOptions};
use exactlog_wire::messages::{DeleteRecords, delete_records, fetch};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: Duration = Duration::from_secs(3600);

/// An idempotent producer's id, and its batches of one record.
async fn producer(client: &mut Client) -> impl Fn(i32) -> Bytes + use<> {
    let told = init(client, 4, None, -1, (-1, -1)).await;
    assert_eq!((told.error_code, told.producer_epoch), (0, 0));
    move |sequence| batch_of(&["a"], Some((told.producer_id, 0, sequence)), Compression::None)
}

/// Code and offset.
async fn placed(client: &mut Client, batch: Bytes) -> (i16, i64) {
    let placed = client.produce("orders", 0, batch).await;
    (placed.error_code, placed.base_offset)
}

fn first(topic: &Topic) -> Partition {
    Partition { topic: topic.id(), index: 0 }
}

/// The batches of an answer.
fn batches(partition: &fetch::PartitionData) -> Vec<Batch> {
    let (mut bytes, mut batches) = (bytes_of(partition.records.as_ref().unwrap()), Vec::new());
    while !bytes.is_empty() {
        let length = Batch::announced_len(&bytes).unwrap();
        batches.push(Batch::parse(bytes.split_to(length)).unwrap());
    }
    batches
}

#[tokio::test]
async fn id_11_a_producer_that_has_expired_is_still_known_by_its_place() {
    let node = Node::with_topic("orders", 1).await;
    let topic = node.log.open_topic("orders").unwrap();
    let mut client = node.client().await;
    let of = producer(&mut client).await;
    for sequence in [0, 1] {
        assert_eq!(placed(&mut client, of(sequence)).await, (0, i64::from(sequence)));
    }
    assert_eq!(node.log.active_producers(first(&topic)).unwrap().len(), 1);
    node.log.skip_time(25 * HOUR);
    while !node.log.active_producers(first(&topic)).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(placed(&mut client, of(5)).await, (45, -1), "a gap");
    assert_eq!(placed(&mut client, of(1)).await, (46, -1), "it is there, but where isn't remembered");
    assert_eq!(placed(&mut client, of(2)).await, (0, 2));
    node.log.skip_time(32 * 24 * HOUR);
    while !node.log.active_producers(first(&topic)).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // After 30 days nothing is remembered of it.
    node.log.skip_time(32 * 24 * HOUR);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(placed(&mut client, of(70)).await, (0, 3), "any sequence is a first one");
}

#[tokio::test]
async fn id_16_what_is_deleted_leaves_the_place_of_its_producer() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let of = producer(&mut client).await;
    for sequence in 0..4 {
        assert_eq!(placed(&mut client, of(sequence)).await, (0, i64::from(sequence)));
    }
    let partition = delete_records::DeleteRecordsPartition { partition_index: 0, offset: -1 };
    let topics =
        vec![delete_records::DeleteRecordsTopic { name: "orders".into(), partitions: vec![partition] }];
    let request = delete_records::Request { topics, timeout_ms: 1000 };
    let deleted = client.ask::<DeleteRecords>(2, &request).await.topics[0].partitions[0].clone();
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 4));
    assert_eq!(placed(&mut client, of(3)).await, (0, 3), "a repeat, though its record is gone");
    assert_eq!(placed(&mut client, of(5)).await, (45, -1));
    assert_eq!(placed(&mut client, of(4)).await, (0, 4));
}

/// A field of a batch's header that no client sends so, with its code.
#[tokio::test]
async fn id_17_each_part_of_a_batch_s_header_is_checked_before_anything_is_written() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let reckoned = |mut bytes: Vec<u8>| {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(bytes)
    };
    let good = batch_of(&["a", "b"], Some((0, 0, 0)), Compression::None).to_vec();
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    };
    let mut wrong = good.clone();
    wrong[17] ^= 1;
    for (what, sent) in [
        ("magic", Bytes::from(with(16, &[1]))),
        ("checksum", Bytes::from(wrong)),
        ("control bit", reckoned(with(21, &0x20_i16.to_be_bytes()))),
        ("codec", reckoned(with(21, &7_i16.to_be_bytes()))),
        ("last offset delta", reckoned(with(23, &5_i32.to_be_bytes()))),
        ("epoch of a producer", reckoned(with(51, &(-1_i16).to_be_bytes()))),
        ("sequence of a producer", reckoned(with(53, &(-1_i32).to_be_bytes()))),
        ("count", reckoned(with(57, &0_i32.to_be_bytes()))),
        ("length", Bytes::copy_from_slice(&good[..good.len() - 1])),
    ] {
        let (code, offset) = placed(&mut client, sent).await;
        assert!(code != 0 && offset == -1, "{what}: {code}");
    }
    assert_eq!(placed(&mut client, batch(&["c"])).await, (0, 0), "nothing of that was written");
}

#[tokio::test]
async fn tx_3_an_init_aborts_what_its_predecessor_has_left_open() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let old = Who::init(&mut client, "t").await;
    assert_eq!(old.add(&mut client, 3, "orders", 0).await, 0);
    assert_eq!(old.produce(&mut client, 11, ("orders", 0), old.batch(0, &["left"])).await, (0, 0));
    let told = init(&mut node.client().await, 4, Some("t"), TIMEOUT_MS, (-1, -1)).await;
    assert_eq!((told.error_code, told.producer_id), (0, old.producer_id));
    let partition = fetched(&mut client, "orders", 0, true).await;
    assert_eq!(
        (partition.last_stable_offset, partition.high_watermark),
        (2, 2),
        "a marker, and nothing open"
    );
    assert!(shown(&mut client, "orders", 0).await.is_empty());
    let late = old.produce(&mut client, 11, ("orders", 0), old.batch(1, &["late"])).await;
    assert!(late.0 != 0 && late.1 == -1, "{late:?}");
    assert!(old.end(&mut client, 4, true).await.0 != 0);
}

/// A control batch of one record, of Kafka's `EndTransactionMarker`: key version 0 and type, value version 0 and the
/// coordinator's epoch.
#[tokio::test]
async fn tx_11_the_end_of_a_transaction_is_a_marker_as_kafka_writes_it() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    for (nth, is_committed) in [(0, true), (1, false)] {
        assert_eq!(who.add(&mut client, 3, "orders", 0).await, 0);
        who.produce(&mut client, 11, ("orders", 0), who.batch(nth, &["a"])).await;
        assert_eq!(who.end(&mut client, 4, is_committed).await.0, 0);
        let partition = fetched(&mut client, "orders", 0, false).await;
        let batches = batches(&partition);
        assert_eq!(batches.len(), 2 * (nth as usize + 1));
        let marker = batches.last().unwrap();
        assert!(marker.is_control() && marker.is_transactional());
        assert_eq!((marker.base_offset(), marker.record_count()), (2 * nth as u64 + 1, 1));
        let stamp = marker.producer().unwrap();
        assert_eq!((stamp.id.0, stamp.epoch, stamp.base_sequence), (who.producer_id, who.epoch, -1));
        let record = marker.records().next().unwrap().unwrap();
        assert_eq!(record.key.unwrap()[..], [0, 0, 0, u8::from(is_committed)]);
        let value = record.value.unwrap();
        assert_eq!((value.len(), &value[..2]), (6, &[0, 0][..]));
    }
}

#[tokio::test]
async fn em_1_what_the_process_commits_in_one_is_never_seen_in_part() {
    let node = Node::with_topic("orders", 2).await;
    let topic = node.log.open_topic("orders").unwrap();
    let log = node.log.clone();
    let committing = std::thread::spawn(move || {
        let mut producer = log.producer("shop").unwrap();
        for nth in 0..200 {
            let mut transaction = producer.begin();
            for index in [0, 1, 0] {
                transaction.send_to(&topic, index, Event::new("k", format!("{nth}"))).unwrap();
            }
            transaction.blocking_commit().unwrap();
        }
    });
    let mut client = node.client().await;
    loop {
        let is_over = committing.is_finished();
        let earlier = raw(&fetched(&mut client, "orders", 0, true).await);
        let later = raw(&fetched(&mut client, "orders", 1, true).await);
        assert!(
            earlier.len().is_multiple_of(2),
            "two records of each, next to each other: {}",
            earlier.len()
        );
        assert!(
            later.len() >= earlier.len() / 2,
            "{} of one partition, {} of the other",
            earlier.len(),
            later.len()
        );
        if is_over {
            assert_eq!((earlier.len(), later.len()), (400, 200));
            break;
        }
    }
    committing.join().unwrap();
}

#[tokio::test]
async fn em_5_what_a_commit_was_told_is_read_by_a_client_at_once() {
    let node = Node::with_topic("orders", 1).await;
    let topic = node.log.open_topic("orders").unwrap();
    let mut producer = node.log.producer("shop").unwrap();
    let mut client = node.client().await;
    for nth in 0..50 {
        let mut transaction = producer.begin();
        transaction.send(&topic, Event::new("k", format!("{nth}"))).unwrap();
        let receipt = transaction.commit().await.unwrap();
        // It doesn't wait for anything.
        let values = raw(&fetched(&mut client, "orders", 0, true).await);
        assert_eq!((receipt.base_offsets[0].1, values.len()), (nth, nth as usize + 1));
        assert_eq!(values.last(), Some(&nth.to_string()));
    }
}

#[tokio::test]
async fn em_13_a_commit_of_the_process_is_plain_batches_to_clients_in_both_isolations() {
    let node = Node::with_topic("orders", 1).await;
    let topic = node.log.open_topic("orders").unwrap();
    let mut producer = node.log.producer("shop").unwrap();
    let mut client = node.client().await;
    for nth in 0..3 {
        let mut transaction = producer.begin();
        for value in ["a", "b"] {
            transaction.send(&topic, Event::new("k", format!("{value}{nth}"))).unwrap();
        }
        transaction.commit().await.unwrap();
    }
    // What lies behind an open transaction waits for its end in committed reads only.
    let who = Who::init(&mut client, "t").await;
    assert_eq!(who.produce(&mut client, 12, ("orders", 0), who.batch(0, &["open"])).await, (0, 6));
    let mut transaction = producer.begin();
    transaction.send(&topic, Event::new("k", "behind")).unwrap();
    transaction.commit().await.unwrap();
    let dense = ["a0", "b0", "a1", "b1", "a2", "b2"];
    let committed = fetched(&mut client, "orders", 0, true).await;
    assert_eq!((raw(&committed), committed.last_stable_offset), (dense.map(String::from).to_vec(), 6));
    let all = fetched(&mut client, "orders", 0, false).await;
    assert_eq!(raw(&all), [&dense[..], &["open", "behind"]].concat());
    for batch in batches(&all).iter().filter(|batch| batch.base_offset() != 6) {
        assert!(!batch.is_control() && !batch.is_transactional(), "{batch:?}");
    }
    let values = crate::common::values_of(all.records.as_ref().unwrap());
    assert!(values.iter().map(|(offset, _)| *offset).eq(0..8), "{values:?}");
}

/// A record that is 1,000 bytes long, or a tombstone.
fn keyed(key: &str, has_value: bool) -> Bytes {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let value = has_value.then(|| "v".repeat(1000));
    let mut builder = BatchBuilder::new(2048);
    _ = builder.append(now_ms, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &[]);
    let batch = builder.finish(None);
    [&batch.header()[..], batch.body()].concat().into()
}

#[tokio::test]
async fn lg_7_a_tombstone_is_read_for_its_time_and_not_longer() {
    let node = Node::start().await;
    let mut config = exactlog::TopicConfig::default();
    for (name, value) in
        [("cleanup.policy", "compact"), ("segment.bytes", "4096"), ("delete.retention.ms", "3600000")]
    {
        config.set(name, value).unwrap();
    }
    let topic = node.log.create_topic("orders", TopicOptions::default()).unwrap();
    let topic = node.log.alter_topic(&topic, config).unwrap();
    let mut client = node.client().await;
    let mut sent = vec![keyed("gone", true), keyed("gone", false)];
    sent.extend((0..20).map(|_| keyed("kept", true)));
    for batch in sent {
        assert_eq!(client.produce("orders", 0, batch).await.error_code, 0);
    }
    let tombstones = |partition: &fetch::PartitionData| {
        let records = batches(partition).into_iter().flat_map(|batch| {
            batch.records().map(|record| record.unwrap().value.is_none()).collect::<Vec<_>>()
        });
        records.filter(|is_tombstone| *is_tombstone).count()
    };
    node.log.compact(&topic).unwrap();
    let partition = fetched(&mut client, "orders", 0, true).await;
    let left = batches(&partition).len();
    assert_eq!(tombstones(&partition), 1);
    assert!(left < 22, "what it took the place of has gone: {left}");
    node.log.skip_time(2 * HOUR);
    for _ in 0..8 {
        assert_eq!(client.produce("orders", 0, keyed("kept", true)).await.error_code, 0);
    }
    node.log.compact(&topic).unwrap();
    assert_eq!(tombstones(&fetched(&mut client, "orders", 0, true).await), 0);
}
