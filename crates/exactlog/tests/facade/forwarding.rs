//! Records into another topic as they are, and what a view says of their batches.

use super::common::{after_kill, open, topic};
use super::compressed::codecs;
use exactlog::{BatchDetails, Bytes, Compression, Error, Event, Record, RecordHeader, TimestampType};
use exactlog_core::batch::{BatchBuilder, HEADER_BYTES};
use exactlog_sim::disk::SimDisk;

/// Everything of a record but where it is.
fn content(record: &Record) -> (Option<Bytes>, Option<Bytes>, i64, Vec<RecordHeader>) {
    (record.key.clone(), record.value.clone(), record.timestamp_ms, record.headers.clone())
}

#[test]
fn forwarded_records_keep_every_byte_also_where_an_event_could_not_hold_them() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (from, into) = (topic(&log, "from", 1), topic(&log, "into", 3));
    let mut builder = BatchBuilder::new(0);
    builder.append(7, Some(b"k"), Some(b"v"), &[(b"\xff\xfe", Some(b"1")), (b"", None)]);
    builder.append(5, Some(b"k"), None, &[(b"text", Some(b""))]);
    builder.append(6, None, Some(b""), &[]);
    let batch = builder.finish(None);
    log.append_batch(&from, 0, [&batch.header()[..], batch.body()].concat().into()).unwrap();
    let read: Vec<Record> = log.read_view().records(&from).map(Result::unwrap).collect();
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    transaction.forward(&into, &read[0]).unwrap();
    transaction.forward(&into, &read[1]).unwrap();
    transaction.forward_to(&into, 2, &read[2]).unwrap();
    assert!(matches!(transaction.forward_to(&into, 3, &read[2]), Err(Error::NoSuchPartition { .. })));
    transaction.send(&into, Event::new("k", "its partition")).unwrap();
    transaction.blocking_commit().unwrap();
    let (_, killed) = after_kill(&disk);
    for log in [&log, &killed] {
        let all: Vec<Record> = log.read_view().records(&into).map(Result::unwrap).collect();
        let of_key: Vec<&Record> = all.iter().filter(|it| it.key() == b"k").collect();
        assert_eq!(of_key.len(), 3);
        assert!(of_key.iter().all(|it| it.partition == of_key[0].partition), "where the key says");
        assert_eq!(content(of_key[0]), content(&read[0]));
        assert_eq!(content(of_key[1]), content(&read[1]));
        let keyless: Vec<&Record> = all.iter().filter(|it| it.key.is_none()).collect();
        assert_eq!((keyless.len(), keyless[0].partition), (1, 2));
        assert_eq!(content(keyless[0]), content(&read[2]));
    }
}

#[test]
fn a_record_that_does_not_fit_its_new_topic_leaves_the_transaction_as_it_was() {
    let log = open(&SimDisk::new());
    let from = topic(&log, "from", 1);
    let options = exactlog::TopicOptions::default().max_message_bytes(1_024);
    let small = log.create_topic("small", options).unwrap();
    let mut producer = log.producer("p").unwrap();
    let room = 1_024 - HEADER_BYTES;
    for len in [10, room] {
        producer.blocking_send(&from, Event::unkeyed(vec![b'x'; len])).unwrap();
    }
    let read: Vec<Record> = log.read_view().records(&from).map(Result::unwrap).collect();
    let mut transaction = producer.begin();
    transaction.forward(&small, &read[0]).unwrap();
    let refused = transaction.forward(&small, &read[1]).unwrap_err();
    assert!(matches!(refused, Error::EventTooLarge { max: 1_024, .. }), "{refused}");
    transaction.blocking_commit().unwrap();
    assert_eq!(log.bounds(&small, 0).unwrap(), (0, 1));
}

#[test]
fn a_transaction_has_the_codec_that_was_set_for_it_and_the_next_one_its_producer_s() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    producer.set_compression(Compression::Gzip).unwrap();
    for codec in codecs().map(Some).chain([None]) {
        let mut transaction = producer.begin();
        transaction.send(&topic, Event::unkeyed("again ".repeat(50))).unwrap();
        if let Some(codec) = codec {
            transaction.set_compression(codec).unwrap();
        }
        let receipt = transaction.blocking_commit().unwrap();
        let (_, offset) = receipt.base_offsets[0];
        let batch = log.read_view().batch(&topic, 0, offset).unwrap().unwrap();
        assert_eq!(batch.compression, codec.unwrap_or(Compression::Gzip));
    }
    assert_eq!(producer.compression(), Compression::Gzip);
}

#[test]
fn a_view_says_of_every_offset_which_batch_it_is_in() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let sent = producer.blocking_send(&topic, Event::unkeyed("one")).unwrap();
    let mut transaction = producer.begin();
    for value in ["two", "three"] {
        transaction.send(&topic, Event::unkeyed(value)).unwrap();
    }
    transaction.blocking_commit().unwrap();
    let view = log.read_view();
    producer.blocking_send(&topic, Event::unkeyed("behind the view")).unwrap();
    let batch = |offset| view.batch(&topic, 0, offset).unwrap();
    let first: BatchDetails = batch(sent.offset).unwrap();
    assert_eq!((first.base_offset, first.next_offset, first.records), (0, 1, 1));
    assert_eq!(first.producer.map(|(_, epoch)| epoch), Some(0));
    assert_eq!(first.timestamp_type, TimestampType::CreateTime);
    assert!(!first.is_transactional && !first.is_control && first.bytes > HEADER_BYTES);
    let second = batch(1).unwrap();
    assert_eq!((second.base_offset, second.next_offset, second.producer), (1, 3, None));
    assert_eq!(batch(2), Some(second));
    assert_eq!(batch(3), None, "the view's end");
    assert!(matches!(view.batch(&topic, 0, 4), Err(Error::OffsetOutOfRange { .. })));
    log.trim(&topic, 0, 1).unwrap();
    assert!(matches!(view.batch(&topic, 0, 0), Err(Error::RecordsLost { to: 1, .. })));
}
