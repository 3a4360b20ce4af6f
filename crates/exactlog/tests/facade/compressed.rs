//! Batches that are compressed when they come: stored as they are, read like any other, and no end when they can't be.

use super::common::{after_kill, open, topic};
use exactlog::{
    BatchError, Bytes, Compression, CompressionFault, Error, Event, Log, Record, Topic, UnreadableBatch,
};
use exactlog_core::batch::{Batch, BatchBuilder, compression};
use exactlog_sim::disk::SimDisk;

/// Codecs that this build has.
pub(crate) fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| codec.is_available())
}

fn raw(batch: &Batch) -> Bytes {
    [&batch.header()[..], batch.body()].concat().into()
}

fn value(number: usize) -> String {
    format!("{{\"event\":\"order-placed\",\"number\":{number}}}")
}

fn batch(codec: Compression, numbers: std::ops::Range<usize>) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for number in numbers {
        builder.append(number as i64, Some(b"k"), Some(value(number).as_bytes()), &[]);
    }
    builder.finish_compressed(None, codec).unwrap()
}

/// A batch with a sound checksum around a body that its codec hasn't written.
fn poison(codec: Compression, records: usize) -> Batch {
    let sound = batch(codec, 0..records);
    let mut body = sound.body().to_vec();
    let end = body.len();
    body[4..end].fill(0xee);
    let mut header = *sound.header();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[21..]), &body);
    header[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::from_parts(header, body.into()).unwrap()
}

fn numbers(log: &Log, topic: &Topic, partition: u32) -> Vec<u64> {
    let view = log.read_view();
    let records = view.records_from(topic, partition, 0).collect::<Result<Vec<Record>, _>>().unwrap();
    for (record, at) in records.iter().zip(0..) {
        assert_eq!((record.offset, record.value_str()), (at, Ok(&*value(at as usize))));
    }
    records.iter().map(|record| record.offset).collect()
}

#[test]
fn compressed_batches_are_read_from_memory_journal_and_segments() {
    for codec in codecs() {
        let disk = SimDisk::default();
        let log = open(&disk);
        let topic = topic(&log, "t", 3);
        let sizes = [1, 10, 3_000];
        for (partition, size) in sizes.into_iter().enumerate() {
            for nth in 0..3 {
                let batch = raw(&batch(codec, nth * size..(nth + 1) * size));
                let base_offset = log.append_batch(&topic, partition as u32, batch).unwrap();
                assert_eq!(base_offset, (nth * size) as u64);
            }
        }
        let check = |log: &Log| {
            for (partition, size) in sizes.into_iter().enumerate() {
                assert_eq!(numbers(log, &topic, partition as u32).len(), 3 * size, "{codec}");
            }
        };
        check(&log);
        let (image, killed) = after_kill(&disk);
        check(&killed);
        killed.close().unwrap();
        check(&open(&image));
    }
}

#[test]
fn a_consumer_takes_a_compressed_batch_in_pieces() {
    for codec in codecs() {
        let disk = SimDisk::default();
        let log = open(&disk);
        let topic = topic(&log, "t", 1);
        log.append_batch(&topic, 0, raw(&batch(codec, 0..25))).unwrap();
        let mut consumer = log.consumer("g").max_poll_records(10).subscribe([&topic]).unwrap();
        let mut seen = 0;
        for size in [10, 10, 5] {
            let batch = consumer.try_next().unwrap().unwrap();
            assert_eq!(batch.len(), size);
            for record in &batch {
                assert_eq!((record.offset, record.value_str()), (seen, Ok(&*value(seen as usize))));
                seen += 1;
            }
            batch.blocking_ack().unwrap();
        }
        assert!(consumer.try_next().unwrap().is_none());
        assert_eq!(log.committed("g", &topic, 0), Some(25));
    }
}

#[test]
fn a_batch_that_cannot_be_decompressed_is_an_item_and_not_the_end() {
    for codec in codecs().filter(|codec| *codec != Compression::None) {
        let disk = SimDisk::default();
        let log = open(&disk);
        let topic = topic(&log, "t", 1);
        let poison = poison(codec, 4);
        log.append_batch(&topic, 0, raw(&batch(codec, 0..2))).unwrap();
        log.append_batch(&topic, 0, raw(&poison)).unwrap();
        log.append_batch(&topic, 0, raw(&batch(codec, 6..8))).unwrap();
        let is_poison = |error: Error| {
            assert_eq!(error.kafka_code(), 87, "{error}");
            let Error::UnreadableBatch(unreadable) = error else { panic!("{error}") };
            let UnreadableBatch { topic, partition, from, to, raw, reason } = *unreadable;
            assert_eq!((&*topic, partition, from, to), ("t", 0, 2, 6));
            assert_eq!(Batch::parse(raw).unwrap().body(), poison.body());
            assert!(
                matches!(reason, BatchError::Compression { compression, .. } if compression == codec),
                "{reason}"
            );
        };

        let view = log.read_view();
        let mut offsets = Vec::new();
        for item in view.records(&topic) {
            match item {
                Ok(record) => offsets.push(record.offset),
                Err(error) => {
                    assert_eq!(offsets, [0, 1]);
                    is_poison(error);
                }
            }
        }
        assert_eq!(offsets, [0, 1, 6, 7], "{codec}");
        is_poison(view.read(&topic, 0, 2, 1 << 20).unwrap_err());

        let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
        let first = consumer.try_next().unwrap().unwrap();
        assert_eq!(first.records().iter().map(|it| it.offset).collect::<Vec<_>>(), [0, 1]);
        first.blocking_ack().unwrap();
        is_poison(consumer.try_next().unwrap_err());
        let last = consumer.try_next().unwrap().unwrap();
        assert_eq!(last.records().iter().map(|it| it.offset).collect::<Vec<_>>(), [6, 7]);
        last.blocking_ack().unwrap();
        assert_eq!(log.committed("g", &topic, 0), Some(8));
    }
}

/// A transaction that is given up takes its records back; a batch behind them that was reported must not keep them from
/// coming again.
#[test]
fn what_stands_in_front_of_an_unreadable_batch_comes_again_after_an_abort() {
    let Some(codec) = codecs().find(|codec| *codec != Compression::None) else { return };
    let disk = SimDisk::default();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    log.append_batch(&topic, 0, raw(&batch(codec, 0..2))).unwrap();
    log.append_batch(&topic, 0, raw(&poison(codec, 1))).unwrap();
    let mut producer = log.producer("p").unwrap();
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    let mut transaction = producer.begin();
    transaction.ack(consumer.try_next().unwrap().unwrap());
    assert!(matches!(consumer.try_next(), Err(Error::UnreadableBatch(_))));
    transaction.abort();
    let again = consumer.try_next().unwrap().unwrap();
    assert_eq!(again.records().iter().map(|it| it.offset).collect::<Vec<_>>(), [0, 1]);
    again.blocking_ack().unwrap();
    assert!(matches!(consumer.try_next(), Err(Error::UnreadableBatch(_))));
    assert!(consumer.try_next().unwrap().is_none());
}

#[test]
fn a_bomb_costs_its_readers_no_more_than_the_limit() {
    let codec = Compression::Zstd;
    if !codec.is_available() {
        return;
    }
    // Blocks of 128 KiB of one byte, in four bytes each: a GiB.
    let body = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38][..], &[0x02, 0, 0x10, b'x'].repeat(8192)].concat();
    let mut header = *batch(codec, 0..1).header();
    header[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[21..]), &body);
    header[17..21].copy_from_slice(&crc.to_be_bytes());
    let bomb = Batch::from_parts(header, body.into()).unwrap();

    let disk = SimDisk::default();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    log.append_batch(&topic, 0, raw(&bomb)).unwrap();
    log.producer("p").unwrap().blocking_send(&topic, Event::new("k", "behind")).unwrap();
    let items: Vec<_> = log.read_view().records(&topic).collect();
    let fault = CompressionFault::TooLarge { max_bytes: compression::RECORDS_BYTES_MAX };
    assert!(matches!(&items[0], Err(Error::UnreadableBatch(unreadable))
        if unreadable.reason == BatchError::Compression { compression: codec, fault }));
    assert_eq!(items[1].as_ref().unwrap().value(), b"behind");
    assert_eq!(items.len(), 2);
}
