//! Bad input at every door: a typed error that names the thing, the value and the limit, and nothing is written.

use crate::common::{self, *};
use exactlog::{CommitToken, Consumer, Error, Event, Log, Producer, Topic, TopicOptions};
use exactlog_core::batch::{BatchBuilder, HEADER_BYTES, ProducerStamp};
use exactlog_core::ids::ProducerId;
use exactlog_sim::disk::SimDisk;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

struct Bench {
    log: Log,
    topic: Topic,
    small: Topic,
    deleted: Topic,
    producer: Producer,
    consumer: Consumer,
}

fn bench() -> Bench {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 3);
    let small = log.create_topic("small", TopicOptions::default().max_message_bytes(1024)).unwrap();
    let deleted = common::topic(&log, "deleted", 1);
    log.delete_topic(&deleted).unwrap();
    send_all(&log, &topic, (0..10).map(|n| n.to_string()));
    let producer = log.producer("p").unwrap();
    let consumer = log.consumer("assigned").assign([(&topic, 0)]).unwrap();
    Bench { log, topic, small, deleted, producer, consumer }
}

/// A batch as a client would send it; what is changed about it comes without its checksum, or with a new one.
fn raw(records: usize, stamp: Option<ProducerStamp>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(100);
    (0..records).for_each(|n| {
        builder.append(n as i64, Some(b"k"), Some(b"v"), &[]);
    });
    let batch = builder.finish(stamp);
    [&batch.header()[..], batch.body()].concat()
}

fn resealed(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    const CRC_AT: usize = 17;
    const CRC_COVERS_FROM: usize = CRC_AT + 4;
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_AT..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn append(bench: &Bench, batch: Vec<u8>) -> Result<(), Error> {
    bench.log.append_batch(&bench.topic, 0, batch.into()).map(|_| ())
}

type Call = Box<dyn Fn(&mut Bench) -> Result<(), Error>>;

/// What is called, and the words that its error must have.
struct Row {
    name: &'static str,
    call: Call,
    words: Vec<String>,
}

fn row<T>(
    name: &'static str,
    words: &[&str],
    call: impl Fn(&mut Bench) -> Result<T, Error> + 'static,
) -> Row {
    let words = words.iter().map(|word| word.to_string()).collect();
    Row { name, call: Box::new(move |bench| call(bench).map(|_| ())), words }
}

fn names() -> Vec<Row> {
    let long = "x".repeat(250);
    let names = ["", &long, "grüße", ".", "..", "../etc/passwd", "a/b", "nul\0", "with space", "\u{202e}"];
    let mut rows = Vec::new();
    for name in names {
        let shown = format!("{name:?}");
        let (a, b, c, d) = (name.to_string(), name.to_string(), name.to_string(), name.to_string());
        rows.push(row("create_topic", &["topic", &shown, "249"], move |it| {
            it.log.create_topic(&a, TopicOptions::default())
        }));
        rows.push(row("producer", &["producer", &shown, "249"], move |it| it.log.producer(&b)));
        rows.push(row("subscribe", &["group", &shown, "249"], move |it| {
            it.log.consumer(&c).subscribe([&it.topic])
        }));
        rows.push(row("assign", &["group", &shown, "249"], move |it| {
            it.log.consumer(&d).assign([(&it.topic, 0)])
        }));
        let name = name.to_string();
        rows.push(row("open_topic", &[&shown, "doesn't exist"], move |it| it.log.open_topic(&name)));
    }
    rows
}

fn topics() -> Vec<Row> {
    let options = TopicOptions::default;
    vec![
        row("no partitions", &["0 partitions", "100000"], move |it| {
            it.log.create_topic("n", options().partitions(0))
        }),
        row("too many partitions", &["100001", "100000"], move |it| {
            it.log.create_topic("n", options().partitions(100_001))
        }),
        row("other settings", &["\"t\"", "partitions is 3, not 4"], move |it| {
            it.log.create_topic("t", options().partitions(4))
        }),
        row("small batches", &["max.message.bytes", "1023", "1024"], move |it| {
            it.log.create_topic("n", options().max_message_bytes(1023))
        }),
        row("large batches", &["max.message.bytes", "16777217", "16777216"], move |it| {
            it.log.create_topic("n", options().max_message_bytes(16 * 1024 * 1024 + 1))
        }),
        row("small segments", &["segment.bytes", "4095"], move |it| {
            it.log.create_topic("n", options().segment_bytes(4095))
        }),
        row("unknown topic", &["\"nowhere\""], |it| it.log.open_topic("nowhere")),
        row("delete twice", &["doesn't exist"], |it| it.log.delete_topic(&it.deleted)),
        row("trim a deleted topic", &["\"deleted\""], |it| it.log.trim(&it.deleted, 0, 0)),
        row("bounds of a deleted topic", &["\"deleted\""], |it| it.log.bounds(&it.deleted, 0)),
        row("send to a deleted topic", &["doesn't exist"], |it| {
            it.producer.blocking_send(&it.deleted, Event::new("k", "v"))
        }),
        row("subscribe to a deleted topic", &["doesn't exist"], |it| {
            it.log.consumer("g").subscribe([&it.deleted])
        }),
        row("assign a deleted topic", &["\"deleted\""], |it| it.log.consumer("g").assign([(&it.deleted, 0)])),
        row("commit to a deleted topic", &["doesn't exist"], |it| {
            let deleted = it.deleted.clone();
            it.producer.transaction(|transaction| transaction.send(&deleted, Event::new("k", "v")))
        }),
        row("view records of a deleted topic", &["\"deleted\""], |it| {
            it.log.read_view().records(&it.deleted).next().unwrap()
        }),
        row("append to a deleted topic", &["doesn't exist"], |it| {
            it.log.append_batch(&it.deleted, 0, raw(1, None).into())
        }),
    ]
}

fn places() -> Vec<Row> {
    vec![
        row("bounds", &["\"t\"", "no partition 3", "it has 3"], |it| it.log.bounds(&it.topic, 3)),
        row("trim", &["\"t\"", "no partition 3", "it has 3"], |it| it.log.trim(&it.topic, 3, 0)),
        row("trim behind the end", &["12", "end 10"], |it| {
            let full = (0..3).find(|index| it.log.bounds(&it.topic, *index).unwrap().1 == 10).unwrap();
            it.log.trim(&it.topic, full, 12)
        }),
        row("assign", &["\"t\"", "no partition 4294967295"], |it| {
            it.log.consumer("g").assign([(&it.topic, u32::MAX)])
        }),
        row("append_batch", &["doesn't exist", "3"], |it| {
            it.log.append_batch(&it.topic, 3, raw(1, None).into())
        }),
        row("view end", &["no partition 3"], |it| it.log.read_view().end(&it.topic, 3)),
        row("view read", &["18446744073709551615", "\"t\""], |it| {
            it.log.read_view().read(&it.topic, 0, u64::MAX, 1)
        }),
        row("view records of a partition", &["no partition 4294967295"], |it| {
            it.log.read_view().records_from(&it.topic, u32::MAX, 0).next().unwrap()
        }),
        row("view records from an offset", &["18446744073709551615", "\"t\""], |it| {
            it.log.read_view().records_from(&it.topic, 0, u64::MAX).next().unwrap()
        }),
        row("seek behind the end", &["18446744073709551615", "\"t\""], |it| {
            it.consumer.seek(&it.topic.clone(), 0, u64::MAX)
        }),
        row("seek elsewhere", &["doesn't read", "partition 1"], |it| {
            it.consumer.seek(&it.topic.clone(), 1, 0)
        }),
        row("seek to begin elsewhere", &["doesn't read"], |it| {
            it.consumer.seek_to_begin(&it.topic.clone(), 2)
        }),
        row("seek to end nowhere", &["no partition 9"], |it| it.consumer.seek_to_end(&it.topic.clone(), 9)),
        row("seek to a time nowhere", &["no partition 9"], |it| {
            it.consumer.seek_to_time(&it.topic.clone(), 9, 0)
        }),
        row("pause elsewhere", &["doesn't read"], |it| it.consumer.pause(&it.topic.clone(), 1)),
        row("resume elsewhere", &["doesn't read"], |it| it.consumer.resume(&it.topic.clone(), 1)),
        row("outcome of nobody's commit", &[], |it| {
            let token = CommitToken { producer: ProducerId(77), producer_epoch: 0, number: 1 };
            assert_eq!(it.log.outcome(token)?, None);
            Err::<(), _>(Error::EmptyTransaction)
        }),
    ]
}

fn sizes() -> Vec<Row> {
    let over = |it: &Bench, max: u32| {
        Event::new("k", vec![0; max as usize]).header("t", it.topic.name().to_string())
    };
    vec![
        row("an event over max.message.bytes", &["\"small\"", "1024"], move |it| {
            it.producer.blocking_send(&it.small, over(it, 1024))
        }),
        row("try_submit of it", &["\"small\"", "1024"], move |it| {
            it.producer.try_submit(&it.small, over(it, 1024))
        }),
        row("in a transaction", &["\"small\"", "1024"], move |it| {
            let (small, event) = (it.small.clone(), over(it, 1024));
            it.producer.transaction(|transaction| transaction.send(&small, event))
        }),
        row("a transaction over what a journal file takes", &["transaction", "limit of 516096"], |it| {
            let topic = it.topic.clone();
            let mut transaction = it.producer.begin();
            (0..100).try_for_each(|_| transaction.send(&topic, Event::new("k", vec![0; 50_000])))
        }),
        row("an event over what a journal file takes", &["exceeds the limit"], |it| {
            it.producer.blocking_send(&it.topic, Event::new("k", vec![0; 1_048_400]))
        }),
        row("a cursor of 257 bytes", &["257", "256"], |it| it.producer.begin().set_cursor(vec![0; 257])),
        row("an empty transaction", &["empty transaction"], |it| it.producer.begin().blocking_commit()),
        row("a condition that doesn't hold", &["99"], |it| {
            let topic = it.topic.clone();
            let mut transaction = it.producer.begin();
            transaction.send(&topic, Event::new("k", "v"))?;
            transaction.expect_end(&topic, 0, 99);
            transaction.blocking_commit()
        }),
        row("a condition on a partition that isn't there", &["doesn't exist"], |it| {
            let topic = it.topic.clone();
            let mut transaction = it.producer.begin();
            transaction.send(&topic, Event::new("k", "v"))?;
            transaction.expect_offset("g", &topic, 9, None);
            transaction.blocking_commit()
        }),
    ]
}

/// Batches that lie.
fn batches() -> Vec<Row> {
    const LENGTH_AT: usize = 8;
    const MAGIC_AT: usize = 16;
    const ATTRIBUTES_AT: usize = 21;
    const LAST_DELTA_AT: usize = 23;
    const PRODUCER_ID_AT: usize = 43;
    const COUNT_AT: usize = 57;
    let stamp = |id, epoch, base_sequence| Some(ProducerStamp { id: ProducerId(id), epoch, base_sequence });
    let batch = |name, bytes: Vec<u8>| row(name, &[], move |it| append(it, bytes.clone()));
    let count = |count: i32| resealed(raw(3, None), COUNT_AT, &count.to_be_bytes());
    vec![
        batch("nothing", Vec::new()),
        batch("less than a header", raw(1, None)[..HEADER_BYTES - 1].to_vec()),
        batch("cut short", {
            let mut bytes = raw(3, None);
            bytes.pop();
            bytes
        }),
        batch("bytes behind", {
            let mut bytes = raw(3, None);
            bytes.push(0);
            bytes
        }),
        batch("a length that lies", {
            let mut bytes = raw(3, None);
            bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&i32::MAX.to_be_bytes());
            bytes
        }),
        batch("a negative length", {
            let mut bytes = raw(3, None);
            bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(-1i32).to_be_bytes());
            bytes
        }),
        batch("an old magic", {
            let mut bytes = raw(3, None);
            bytes[MAGIC_AT] = 1;
            bytes
        }),
        batch("a flipped bit", {
            let mut bytes = raw(3, None);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            bytes
        }),
        batch("more records than there are", count(4)),
        batch("fewer records than there are", count(2)),
        batch("no records", count(0)),
        batch("a billion records", count(i32::MAX)),
        batch("negative records", count(-1)),
        batch("a last offset that lies", resealed(raw(3, None), LAST_DELTA_AT, &7i32.to_be_bytes())),
        batch("a control batch", resealed(raw(1, None), ATTRIBUTES_AT, &0x20u16.to_be_bytes())),
        batch("a transactional batch", resealed(raw(1, None), ATTRIBUTES_AT, &0x10u16.to_be_bytes())),
        batch("unknown attributes", resealed(raw(1, None), ATTRIBUTES_AT, &0x4000u16.to_be_bytes())),
        batch("a producer id of nobody", raw(1, stamp(4_711, 0, 0))),
        batch("a negative producer id", resealed(raw(1, None), PRODUCER_ID_AT, &(-2i64).to_be_bytes())),
        batch("a producer with a negative epoch", raw(1, stamp(0, -1, 0))),
        batch("a producer with a negative sequence", raw(1, stamp(0, 0, -5))),
        row("a batch over the topic's limit", &["1024"], |it| {
            it.log.append_batch(&it.small, 0, raw(500, None).into())
        }),
    ]
}

#[test]
fn em_11_every_bad_call_is_refused_with_names_values_and_limits_and_changes_nothing() {
    let mut bench = bench();
    let rows = names().into_iter().chain(topics()).chain(places()).chain(sizes()).chain(batches());
    let end = bench.log.bounds(&bench.topic, 0).unwrap().1;
    for (offset, Row { name, call, words }) in (end..).zip(rows) {
        let before = contents(&bench.log);
        let called = catch_unwind(AssertUnwindSafe(|| call(&mut bench)));
        let error = called.unwrap_or_else(|_| panic!("{name} panicked")).expect_err(name);
        let text = error.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{name}: {text:?} doesn't say {word:?}"));
        assert!(text.len() < 500, "{name}: {text}");
        assert_eq!(contents(&bench.log), before, "{name}: {text}");
        let sent = bench.log.append_batch(&bench.topic, 0, raw(1, None).into());
        assert_eq!(sent.unwrap_or_else(|error| panic!("after {name}: {error}")), offset, "after {name}");
    }
}

/// Everything that a caller can see of a log.
fn contents(log: &Log) -> Vec<(String, u32, u64, u64)> {
    let mut all = Vec::new();
    for topic in log.topics() {
        for partition in 0..topic.partitions() {
            let (start, end) = log.bounds(&topic, partition).unwrap();
            all.push((topic.name().to_string(), partition, start, end));
        }
    }
    all
}

#[test]
fn what_is_just_within_the_limits_is_taken() {
    let bench = bench();
    let name = "x".repeat(249);
    let widest = bench.log.create_topic(&name, TopicOptions::default().partitions(100_000)).unwrap();
    bench.log.producer(&name).unwrap();
    bench.log.consumer(&name).assign([(&widest, 99_999)]).unwrap();
    let mut producer = bench.log.producer("q").unwrap();
    producer.transaction(|transaction| transaction.set_cursor(vec![7; 256])).unwrap();
    assert_eq!(producer.cursor().unwrap().len(), 256);
    let overhead = 61 + 32 + 1;
    let event = || Event::new("k", vec![0; 1024 - overhead]);
    producer.blocking_send(&bench.small, event()).unwrap();
    producer.transaction(|transaction| transaction.send(&bench.small, event())).unwrap();
    // A finished batch of exactly the limit.
    let around = raw(1, None).len() - 1;
    let mut builder = BatchBuilder::new(1024);
    builder.append(0, Some(b"k"), Some(&vec![0; 1024 - around - 2]), &[]);
    let exact = builder.finish(None);
    let exact = [&exact.header()[..], exact.body()].concat();
    assert_eq!(exact.len(), 1024);
    bench.log.append_batch(&bench.small, 0, exact.into()).unwrap();
}

#[test]
fn any_time_can_be_stored_and_sought() {
    let mut bench = bench();
    let topic = topic(&bench.log, "times", 1);
    let times = [0, -1, i64::MIN, i64::MAX, 1, i64::MIN + 1, -5_000];
    for time in times {
        bench.producer.blocking_send(&topic, Event::new("k", "v").at(time)).unwrap();
    }
    let tickets: Vec<_> = times
        .map(|time| bench.producer.blocking_submit(&topic, Event::new("k", "v").at(time)).unwrap())
        .into();
    tickets.into_iter().for_each(|ticket| {
        ticket.wait().unwrap();
    });
    bench
        .producer
        .transaction(|it| {
            times.into_iter().try_for_each(|time| it.send(&topic, Event::new("k", "v").at(time)))
        })
        .unwrap();
    let stored: Vec<i64> =
        bench.log.read_view().records(&topic).map(|record| record.unwrap().timestamp_ms).collect();
    assert_eq!(stored, [times, times, times].concat());
    let mut consumer = bench.log.consumer("g").assign([(&topic, 0)]).unwrap();
    for (time, expected) in [(i64::MIN, 0), (0, 0), (1, 3), (i64::MAX, 3)] {
        assert_eq!(consumer.seek_to_time(&topic, 0, time).unwrap(), expected, "{time}");
    }
}

#[test]
fn positions_of_a_partition_that_isnt_owned_are_refused() {
    let bench = bench();
    let mut outsider =
        bench.log.consumer("g").assign([(&bench.topic, 0), (&bench.topic, 1), (&bench.topic, 2)]).unwrap();
    let member = bench.log.consumer("g").subscribe([&bench.topic]).unwrap();
    let error = outsider.blocking_next().unwrap().unwrap().blocking_ack().unwrap_err();
    assert!(error.to_string().contains("1 members"), "{error}");
    assert_eq!(bench.log.lag("g", &bench.topic), 10);
    drop(member);
    until("the member is gone", || outsider.blocking_next().unwrap().unwrap().blocking_ack().is_ok());
    assert_eq!(bench.log.lag("g", &bench.topic), 0);
}

#[tokio::test]
async fn every_handle_says_closed_after_close() {
    let Bench { log, topic, mut producer, mut consumer, .. } = bench();
    let other = log.clone();
    let view = log.read_view();
    let mut subscribed = log.consumer("g").subscribe([&topic]).unwrap();
    let mut auto = log.consumer("auto").auto_commit(true).subscribe([&topic]).unwrap();
    drop(auto.try_next().unwrap().unwrap());
    let held = log.consumer("held").assign([(&topic, 0), (&topic, 1), (&topic, 2)]);
    let mut held = held.unwrap();
    let held = held.try_next().unwrap().unwrap();
    log.close().unwrap();
    let closed = |name: &str, error: Error| assert!(matches!(error, Error::Closed), "{name}: {error}");
    let event = || Event::new("k", "v");
    closed("create", other.create_topic("n", TopicOptions::default()).unwrap_err());
    closed("open", other.open_topic("t").unwrap_err());
    closed("delete", other.delete_topic(&topic).unwrap_err());
    closed("trim", other.trim(&topic, 0, 0).unwrap_err());
    closed("bounds", other.bounds(&topic, 0).unwrap_err());
    closed("append", other.append_batch(&topic, 0, raw(1, None).into()).unwrap_err());
    closed("time", other.accept_time().unwrap_err());
    closed("producer", other.producer("q").unwrap_err());
    closed("subscribe", other.consumer("g").subscribe([&topic]).unwrap_err());
    closed("reopen", other.reopen().unwrap_err());
    closed("send", producer.blocking_send(&topic, event()).unwrap_err());
    closed("send in a task", producer.send(&topic, event()).await.unwrap_err());
    closed("submit", producer.submit(&topic, event()).await.unwrap_err());
    closed("try_submit", producer.try_submit(&topic, event()).unwrap_err());
    closed("commit", producer.transaction(|it| it.send(&topic, event())).unwrap_err());
    closed("ack", held.blocking_ack().unwrap_err());
    closed("try_next", consumer.try_next().unwrap_err());
    closed("seek", consumer.seek(&topic, 0, 0).unwrap_err());
    closed("seek to a time", consumer.seek_to_time(&topic, 0, 0).unwrap_err());
    closed("positions", consumer.positions().unwrap_err());
    closed("view", view.read(&topic, 0, 0, 1).unwrap_err());
    closed("records", view.records(&topic).next().unwrap().unwrap_err());
    assert!(subscribed.next().await.unwrap().is_none());
    assert!(auto.next().await.unwrap().is_none());
    assert!(consumer.blocking_next().unwrap().is_none());
    assert!(other.metrics().lsn > 0);
    other.close().unwrap();
}

#[test]
fn settings_that_couldnt_work_are_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("never");
    let rows = [
        (Log::builder().journal_file_bytes(1000), "journal.file.bytes is 1000; it must be at least 1 MiB"),
        (Log::builder().journal_file_bytes(MIB + 1).journal_ring_bytes(8 * MIB), "multiple of 4096"),
        (Log::builder().journal_file_bytes(1 << 32).journal_ring_bytes(1 << 34), "below 4 GiB"),
        (Log::builder().journal_ring_bytes(0), "journal.ring.bytes is 0"),
        (Log::builder().journal_ring_bytes(255 * MIB), "four times"),
    ];
    for (builder, words) in rows {
        let error = builder.open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!path.join("journal").exists(), "{error}");
    }
}

#[test]
fn a_directory_that_is_a_file_in_use_read_only_or_of_another_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a log").unwrap();
    let error = Log::open(&file).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a log");

    let path = directory.path().join("log");
    let log = small_files(&path).unwrap();
    let error = small_files(&path).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    let topic = topic(&log, "t", 1);
    send_all(&log, &topic, ["v".into()]);
    log.close().unwrap();

    let read_only = |path: &Path, yes: bool| {
        let mut permissions = std::fs::metadata(path).unwrap().permissions();
        permissions.set_readonly(yes);
        std::fs::set_permissions(path, permissions).unwrap();
    };
    read_only(&path, true);
    // Root may write all the same.
    if std::fs::write(path.join("probe"), "").is_err() {
        let error = small_files(&path).unwrap_err();
        assert!(matches!(error, Error::Storage(_)), "{error}");
    }
    read_only(&path, false);
    let _ = std::fs::remove_file(path.join("probe"));
    assert_eq!(values(&small_files(&path).unwrap(), &topic), ["v"]);
    of_another_version(&path);
}

/// A journal file of a later release.
fn of_another_version(path: &Path) {
    let journal = path.join("journal");
    let mut files: Vec<_> = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let file = files.iter().rev().find(|path| name(path).ends_with(".journal")).unwrap();
    let good = std::fs::read(file).unwrap();
    let mut bad = good.clone();
    bad[8] = 99;
    std::fs::write(file, &bad).unwrap();
    let error = small_files(path).unwrap_err().to_string();
    assert!(error.contains(&name(file)), "{error}");
    assert_eq!(std::fs::read(file).unwrap(), bad, "refused and left as it was");
    std::fs::write(file, &good).unwrap();
    small_files(path).unwrap();
}

fn small_files(path: &Path) -> Result<Log, Error> {
    Log::builder().journal_file_bytes(MIB).journal_ring_bytes(4 * MIB).open(path)
}
