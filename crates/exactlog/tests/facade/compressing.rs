//! Producers that compress.

use super::common::{after_kill, open, topic, values};
use super::compressed::codecs;
use exactlog::{BatchError, Compression, Error, Event, Log, Topic, TopicOptions};
use exactlog_core::batch::Batch;
use exactlog_sim::disk::SimDisk;

fn value(number: usize) -> String {
    format!("{{\"event\":\"order-placed\",\"number\":{number},\"text\":\"{}\"}}", "again ".repeat(20))
}

/// Codecs of the batches in the first segment of the first topic of a log that made a checkpoint.
fn stored_codecs(disk: &SimDisk) -> Vec<Compression> {
    let bytes = disk.read_file("topics/1-0/00000000000000000000.log").unwrap();
    let (mut left, mut codecs) = (&bytes[..], Vec::new());
    while !left.is_empty() {
        let (batch, behind) = left.split_at(Batch::announced_len(left).unwrap());
        codecs.push(Batch::parse(batch.to_vec().into()).unwrap().compression());
        left = behind;
    }
    codecs
}

/// Closes the log that is found after a kill, and opens it again: from memory, journal and segments the same is read.
fn check(disk: &SimDisk, log: &Log, topic: &Topic, expected: &[String], codec: Compression) {
    assert_eq!(values(log, topic), expected, "{codec}");
    let (image, killed) = after_kill(disk);
    assert_eq!(values(&killed, topic), expected, "{codec}");
    killed.checkpoint().unwrap();
    killed.close().unwrap();
    assert_eq!(values(&open(&image), topic), expected, "{codec}");
    assert!(stored_codecs(&image).iter().all(|it| *it == codec), "{codec}: {:?}", stored_codecs(&image));
}

#[test]
fn what_a_producer_compresses_is_read_from_memory_journal_and_segments() {
    for codec in codecs() {
        for count in [1, 10, 2_000] {
            let disk = SimDisk::default();
            let log = open(&disk);
            let topic = topic(&log, "t", 1);
            let producer = log.producer("p").unwrap();
            assert_eq!(producer.compression(), Compression::None);
            producer.set_compression(codec).unwrap();
            assert_eq!(producer.compression(), codec);
            let expected: Vec<String> = (0..count).map(value).collect();
            let tickets: Vec<_> = expected
                .iter()
                .map(|value| producer.blocking_submit(&topic, Event::new("k", value.clone())).unwrap())
                .collect();
            for (ticket, offset) in tickets.into_iter().zip(0..) {
                assert_eq!(ticket.wait().unwrap().offset, offset);
            }
            check(&disk, &log, &topic, &expected, codec);
        }
    }
}

#[test]
fn what_a_transaction_compresses_is_read_from_memory_journal_and_segments() {
    for codec in codecs() {
        for count in [1, 10, 2_000] {
            let disk = SimDisk::default();
            let log = open(&disk);
            let topic = topic(&log, "t", 1);
            let mut producer = log.producer("p").unwrap();
            producer.set_compression(codec).unwrap();
            let expected: Vec<String> = (0..2 * count).map(value).collect();
            for events in expected.chunks(count) {
                let mut transaction = producer.begin();
                for value in events {
                    transaction.send(&topic, Event::new("k", value.clone())).unwrap();
                }
                transaction.blocking_commit().unwrap();
            }
            check(&disk, &log, &topic, &expected, codec);
        }
    }
}

#[test]
fn an_event_that_a_codec_would_lengthen_fills_the_limit_all_the_same() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1024 - 61 - 32)
    .collect();
    for codec in codecs() {
        let disk = SimDisk::default();
        let log = open(&disk);
        let options = TopicOptions::default().max_message_bytes(1024);
        let topic = log.create_topic("t", options).unwrap();
        let producer = log.producer("p").unwrap();
        producer.set_compression(codec).unwrap();
        producer.blocking_send(&topic, Event::unkeyed(noise.clone())).unwrap();
        let view = log.read_view();
        assert_eq!(view.records(&topic).next().unwrap().unwrap().value(), noise);
        log.checkpoint().unwrap();
        log.close().unwrap();
        assert_eq!(stored_codecs(&disk), [Compression::None], "{codec}");
    }
}

#[test]
fn a_codec_that_this_build_lacks_is_refused_when_it_is_set() {
    let log = open(&SimDisk::default());
    let producer = log.producer("p").unwrap();
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_available()) {
        let error = producer.set_compression(codec).unwrap_err();
        assert!(
            matches!(error, Error::Batch(BatchError::CodecMissing { compression }) if compression == codec)
        );
        assert_eq!((error.kafka_code(), producer.compression()), (76, Compression::None));
    }
}
