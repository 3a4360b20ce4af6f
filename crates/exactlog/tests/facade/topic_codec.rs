//! Topics with a codec of their own: what is stored has it, whoever sends it and whatever way it comes.

use crate::common::*;
use crate::compressed::codecs;
use exactlog::wire::{Protocol, TransactionSender, Transactional};
use exactlog::{
    BatchError, Bytes, Compression, Error, Event, Log, Partition, Producer, ProducerId, Refusal, Table,
    TableOptions, Topic, TopicCompression, TopicConfig, TopicOptions,
};
use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::reply::Reply;
use exactlog_sim::disk::SimDisk;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

/// The settings that this build has.
fn settings() -> impl Iterator<Item = TopicCompression> {
    std::iter::once(TopicCompression::Producer).chain(codecs().map(TopicCompression::Codec))
}

fn with(compression: TopicCompression) -> TopicConfig {
    TopicConfig { compression, ..TopicConfig::default() }
}

fn topic_with(log: &Log, name: &str, compression: TopicCompression) -> Topic {
    let mut options = TopicOptions::default();
    options.config.compression = compression;
    log.create_topic(name, options).unwrap()
}

fn raw(batch: &Batch) -> Bytes {
    [&batch.header()[..], batch.body()].concat().into()
}

fn batch(values: &[Bytes], stamp: Option<ProducerStamp>, codec: Compression) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for (value, at) in values.iter().zip(0..) {
        builder.append(1_000 - at, Some(b"k"), Some(value), &[(b"h", Some(b"v")), (b"none", None)]);
    }
    builder.finish_compressed(stamp, codec).unwrap()
}

/// The batches of a topic that are in its first segment: it has to have made a checkpoint.
fn stored(disk: &SimDisk, topic: &Topic) -> Vec<Batch> {
    let bytes = disk.read_file(&format!("topics/{}-0/{:020}.log", topic.id(), 0)).unwrap();
    let (mut left, mut batches) = (&bytes[..], Vec::new());
    while !left.is_empty() {
        let (batch, behind) = left.split_at(Batch::announced_len(left).unwrap());
        batches.push(Batch::parse(batch.to_vec().into()).unwrap());
        left = behind;
    }
    batches
}

fn stored_codecs(disk: &SimDisk, log: &Log, topic: &Topic) -> Vec<Compression> {
    log.checkpoint().unwrap();
    stored(disk, topic).iter().map(Batch::compression).collect()
}

/// A wire transaction of one batch.
fn send_by_wire(log: &Log, topic: &Topic, values: &[Bytes], codec: Compression) {
    let id = format!("wire-{codec}-{}", topic.id());
    let init = Transactional::Init {
        transactional_id: id.clone(),
        timeout_ms: 60_000,
        current: None,
        newer_codes: true,
    };
    let Reply::Transactional { producer, producer_epoch } = log.transactional(init).unwrap() else {
        panic!("it has a producer now")
    };
    let stamp = ProducerStamp { id: producer, epoch: producer_epoch, base_sequence: 0 };
    let request = Transactional::Append {
        transactional_id: id.clone(),
        protocol: Protocol::V2,
        newer_codes: true,
        partition: Partition { topic: topic.id(), index: 0 },
        config_version: 0,
        batch: batch(values, Some(stamp), codec).in_transaction(),
    };
    log.transactional(request).unwrap();
    let sender = TransactionSender {
        transactional_id: id,
        producer,
        producer_epoch,
        protocol: Protocol::V2,
        newer_codes: true,
        connection: 0,
    };
    log.transactional(Transactional::End { sender, commit: true }).unwrap();
}

/// Sends the values in every way that there is; into the table goes the last one.
fn send_in_every_way(log: &Log, producer: &mut Producer, to: (&Topic, &Table), values: &[Bytes]) {
    let ((topic, table), codec) = (to, producer.compression());
    let event = |value: &Bytes| Event::new("k", value.clone());
    for value in values {
        producer.blocking_send(topic, event(value)).unwrap();
    }
    for (value, at) in values.iter().zip(0..) {
        let id = format!("{codec}-{}-{at}", topic.id());
        producer.blocking_send(topic, event(value).id(id)).unwrap();
    }
    let mut transaction = producer.begin();
    for value in values {
        transaction.send(topic, event(value)).unwrap();
        transaction.put(table, "k", value.clone()).unwrap();
    }
    transaction.send_at(topic, event(&values[0]), SystemTime::UNIX_EPOCH).unwrap();
    transaction.blocking_commit().unwrap();
    producer.blocking_send_at(topic, event(&values[0]), SystemTime::UNIX_EPOCH).unwrap();
    let started = Instant::now();
    while log.metrics().timers.waiting > 0 {
        assert!(started.elapsed() < PATIENCE, "timers that are due don't fire");
        std::thread::yield_now();
    }
    log.append_batch(topic, 0, raw(&batch(values, None, codec))).unwrap();
    send_by_wire(log, topic, values, codec);
}

/// What of a topic is read when the values were sent in every way.
fn expected(values: &[Bytes]) -> Vec<Bytes> {
    let delayed = [values[0].clone(), values[0].clone()];
    [values, values, values, &delayed, values, values].concat()
}

fn read(log: &Log, topic: &Topic) -> Vec<Bytes> {
    log.read_view().records(topic).map(|record| record.unwrap().value.unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn lg_1_what_is_stored_has_the_codec_of_its_topic_whatever_way_it_came(
        values in prop::collection::vec((any::<u8>(), 0_usize..200, any::<[u8; 8]>()), 1..4),
    ) {
        let value = |(byte, len, noise): (u8, usize, [u8; 8])| [&vec![byte; len][..], &noise].concat().into();
        let values: Vec<Bytes> = values.into_iter().map(value).collect();
        let disk = SimDisk::new();
        let log = open(&disk);
        let mut topics = BTreeMap::new();
        for (setting, codec) in settings().flat_map(|it| codecs().map(move |codec| (it, codec))) {
            let topic = topic_with(&log, &format!("{setting}-{codec}"), setting);
            let mut options = TableOptions::default();
            options.config.compression = setting;
            let table = log.create_table(&format!("table-{setting}-{codec}"), options).unwrap();
            let mut producer = log.producer("p").unwrap();
            producer.set_compression(codec).unwrap();
            send_in_every_way(&log, &mut producer, (&topic, &table), &values);
            topics.insert(topic.id(), (topic, table, setting, codec));
        }
        let check = |log: &Log| {
            for (topic, table, ..) in topics.values() {
                assert_eq!(read(log, topic), expected(&values), "{}", topic.name());
                let found = log.table(table.topic().name()).unwrap().get("k").unwrap().unwrap();
                assert_eq!(found.record.value.as_ref(), values.last());
            }
        };
        check(&log);
        let (image, killed) = after_kill(&disk);
        check(&killed);
        killed.checkpoint().unwrap();
        killed.close().unwrap();
        let log = open(&image);
        check(&log);
        for (topic, table, setting, codec) in topics.values() {
            for batch in [stored(&image, topic), stored(&image, table.topic())].concat() {
                // A marker has no records to compress.
                let found = batch.compression();
                let is_right = match setting {
                    _ if batch.is_control() => found == Compression::None,
                    TopicCompression::Codec(own) => found == *own,
                    TopicCompression::Producer => [Compression::None, *codec].contains(&found),
                };
                prop_assert!(is_right, "{setting}, sent with {codec}: {batch:?}");
            }
        }
    }
}

#[test]
fn lg_1_a_batch_that_is_rewritten_keeps_its_records_and_its_header() {
    let values: Vec<Bytes> = (0..50).map(|at| Bytes::from(format!("value {at}").repeat(3))).collect();
    for (codec, own) in codecs().flat_map(|codec| codecs().map(move |own| (codec, own))) {
        let disk = SimDisk::new();
        let log = open(&disk);
        let topic = topic_with(&log, "t", TopicCompression::Codec(own));
        let _first = log.producer("p").unwrap();
        let stamp = |base_sequence| Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence });
        let (first, second) = (batch(&values, stamp(0), codec), batch(&values, stamp(50), codec));
        for _ in 0..2 {
            // A retry is known, though it is rewritten each time.
            assert_eq!(log.append_batch(&topic, 0, raw(&first)).unwrap(), 0, "{codec} to {own}");
        }
        assert_eq!(log.append_batch(&topic, 0, raw(&second)).unwrap(), 50);
        assert_eq!(log.metrics().duplicates, 1);
        assert_eq!(stored_codecs(&disk, &log, &topic), [own, own]);
        for (stored, sent) in stored(&disk, &topic).iter().zip([first, second]) {
            let sent = sent.placed(stored.base_offset(), stored.leader_epoch() as u32);
            let records = |batch: &Batch| batch.records().map(Result::unwrap).collect::<Vec<_>>();
            assert_eq!(records(stored), records(&sent));
            assert_eq!(stored.producer(), sent.producer());
            assert_eq!(stored.max_timestamp_ms(), sent.max_timestamp_ms());
            if codec == own {
                assert_eq!(raw(stored), raw(&sent), "what has the codec is stored as it came");
            }
        }
    }
}

#[test]
fn a_batch_that_cannot_be_rewritten_is_refused_by_name_and_loses_nothing() {
    for codec in codecs().filter(|codec| *codec != Compression::None) {
        let log = open(&SimDisk::new());
        let topic = topic_with(&log, "t", TopicCompression::Codec(Compression::None));
        let sound = batch(&["value".repeat(20).into()], None, codec);
        log.append_batch(&topic, 0, raw(&sound)).unwrap();
        let lsn = log.metrics().lsn;
        let mut body = sound.body().to_vec();
        body[4..].fill(0xee);
        let mut header = *sound.header();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[21..]), &body);
        header[17..21].copy_from_slice(&crc.to_be_bytes());
        let poison = Batch::from_parts(header, body.into()).unwrap();
        let error = log.append_batch(&topic, 0, raw(&poison)).unwrap_err();
        let Error::Batch(BatchError::Compression { compression, .. }) = &error else { panic!("{error}") };
        assert_eq!((*compression, log.metrics().lsn), (codec, lsn), "nothing was written");
        assert!(error.to_string().contains(codec.name()), "{error}");

        // What is stored is measured, too: these records are small as they come.
        let large = batch(&[vec![0; 2 << 20].into()], None, codec);
        assert!(large.len_bytes() < 1 << 20, "{codec}");
        let error = log.append_batch(&topic, 0, raw(&large)).unwrap_err();
        let Error::Batch(BatchError::TooLarge { batch_bytes, max_bytes: 1_048_588 }) = error else {
            panic!("{error}")
        };
        assert!(batch_bytes > 2 << 20);
        assert_eq!((error.kafka_code(), log.metrics().lsn), (10, lsn), "nothing was written");
        assert_eq!(log.append_batch(&topic, 0, raw(&sound)).unwrap(), 1);
    }
}

#[test]
fn an_event_that_a_codec_lengthens_is_stored_in_it_or_told_the_limit() {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for codec in codecs() {
        let disk = SimDisk::new();
        let log = open(&disk);
        let options = TopicOptions::default().max_message_bytes(4096).compression(codec);
        let topic = log.create_topic("t", options).unwrap();
        let mut producer = log.producer("p").unwrap();
        let max = if codec == Compression::None { 4096 } else { 4096 - 128 - 64 };
        // As large as it may be: on its own, of a transaction, and as many as fit together.
        let event = Event::unkeyed((0..max - 61 - 32).map(|_| noise()).collect::<Vec<u8>>());
        let longer = Event::unkeyed((0..max - 61 - 31).map(|_| noise()).collect::<Vec<u8>>());
        producer.blocking_send(&topic, event.clone()).unwrap();
        producer.transaction(|transaction| transaction.send(&topic, event.clone())).unwrap();
        let small = || Event::unkeyed((0..100).map(|_| 1).collect::<Vec<u8>>());
        let tickets: Vec<_> = (0..100).map(|_| producer.blocking_submit(&topic, small()).unwrap()).collect();
        tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        let error = producer.blocking_send(&topic, longer).unwrap_err();
        assert!(matches!(error, Error::EventTooLarge { max: told, .. } if told == max), "{error}");
        let codecs = stored_codecs(&disk, &log, &topic);
        assert!(codecs.len() > 2 && codecs.iter().all(|it| *it == codec), "{codec}: {codecs:?}");
    }
}

#[test]
fn a_change_counts_for_what_comes_behind_it_also_from_earlier_handles() {
    let (Some(first), Some(second)) = (codecs().nth(1), codecs().nth(2)) else { return };
    let disk = SimDisk::new();
    let log = open(&disk);
    let older = topic_with(&log, "t", TopicCompression::Codec(first));
    let mut producer = log.producer("p").unwrap();
    let event = || Event::new("k", "v".repeat(100));
    let sound = |codec| raw(&batch(&["w".repeat(100).into()], None, codec));
    producer.blocking_send(&older, event()).unwrap();
    let later = SystemTime::now() + std::time::Duration::from_secs(3600);
    let timer = producer.blocking_send_at(&older, event(), later).unwrap();

    let newer = log.alter_topic(&older, with(TopicCompression::Codec(second))).unwrap();
    assert_eq!(newer.config().compression, TopicCompression::Codec(second));
    producer.blocking_send(&older, event()).unwrap();
    producer.transaction(|transaction| transaction.send(&older, event())).unwrap();
    log.append_batch(&older, 0, sound(first)).unwrap();
    log.append_batch(&older, 0, sound(Compression::None)).unwrap();
    log.append_batch(&newer, 0, sound(second)).unwrap();
    assert_eq!(log.timer(timer).unwrap().unwrap().1.value, event().value, "it can be read all the same");

    log.alter_topic(&older, with(TopicCompression::Producer)).unwrap();
    producer.blocking_send(&older, event()).unwrap();
    log.append_batch(&newer, 0, sound(first)).unwrap();
    let expected = [first, second, second, second, second, second, Compression::None, first];
    assert_eq!(stored_codecs(&disk, &log, &older), expected);
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(log.open_topic("t").unwrap().config().compression, TopicCompression::Producer);
    assert_eq!(values(&log, &older).len(), expected.len());
}

#[test]
fn the_codec_of_a_topic_outlives_checkpoints_and_is_a_difference_to_another_one() {
    for setting in settings() {
        let disk = SimDisk::new();
        let log = open(&disk);
        topic_with(&log, "t", setting);
        log.checkpoint().unwrap();
        log.close().unwrap();
        let log = open(&disk.process_kill());
        assert_eq!(log.open_topic("t").unwrap().config().compression, setting);
        for other in settings().filter(|other| *other != setting) {
            let mut options = TopicOptions::default();
            options.config.compression = other;
            let error = log.create_topic("t", options).unwrap_err();
            let Error::Refused(Refusal::TopicExists { differences, .. }) = error else { panic!("{error}") };
            assert!(differences.contains("compression.type"), "{differences}");
        }
    }
}

#[test]
fn a_codec_that_this_build_lacks_is_refused_when_a_topic_is_to_have_it() {
    let log = open(&SimDisk::new());
    let plain = topic(&log, "plain", 1);
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_available()) {
        let missing = |error: Error| {
            assert!(
                matches!(error, Error::Batch(BatchError::CodecMissing { compression }) if compression == codec)
            );
        };
        missing(log.create_topic("t", TopicOptions::default().compression(codec)).unwrap_err());
        missing(log.create_table("t", TableOptions::default().compression(codec)).unwrap_err());
        missing(log.alter_topic(&plain, with(TopicCompression::Codec(codec))).unwrap_err());
    }
    assert_eq!(log.topics().len(), 1);
}
