//! What the tests of the facade share: logs on a simulated disk, and what they hold.

pub(crate) mod over;

use exactlog::{Builder, Durability, Event, Log, ReadView, Record, Topic, TopicOptions};
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::Disk;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// How long anything may take before the test is a failure: never waited for when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const MIB: u64 = 1024 * 1024;

/// A log with small files, on any disk.
pub(crate) fn builder(disk: impl Disk) -> Builder {
    Log::builder()
        .journal_file_bytes(MIB)
        .journal_ring_bytes(4 * MIB)
        .checkpoint_bytes(2 * MIB)
        .tail_cache_bytes(MIB)
        .durability(Durability::Fsync)
        .disk(Arc::new(disk))
}

/// Opens a log on a disk; the directory is only a name then.
///
/// With `EXACTLOG_FACADE=far` it is reached as a node's is: the same tests run on both, but for those that ask for
/// what only the process with the directory has.
pub(crate) fn open(disk: &SimDisk) -> Log {
    let log = builder(disk.clone()).open("simulated").unwrap();
    match is_far() {
        true => over::connected(log).0,
        false => log,
    }
}

/// Whether the logs of this test are reached over a connection.
pub(crate) fn is_far() -> bool {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let wanted = std::env::var("EXACTLOG_FACADE").is_ok_and(|what| what == "far");
    wanted && !NEAR_ONLY.iter().any(|test| name.starts_with(test))
}

/// Tests of checkpoints, cleaning, damage and failures of the disk, of what opening finds, of the journal, of metrics
/// of the log itself, of Kafka's transactions, and those that skip time: by how their names begin.
const NEAR_ONLY: [&str; 44] = [
    "compaction::",
    "compressing::an_event_that",
    "compressing::what_a",
    "concurrency::reopening_under_load",
    "concurrency::writes_go_on_until",
    "damaged_segments::",
    "dedup::at_the_cap",
    "dedup::em_7_a_transaction_s_mark",
    "dedup::the_first_event_of_an_id",
    "dedup::what_was_unknown",
    "front::a_batch_that_comes_twice",
    "front::readers_of_committed",
    "front_transactions::",
    "full_disk::",
    "groups::a_join_whose_outcome",
    "groups::gr_6_offsets",
    "groups::leaving_while",
    "in_flight::an_ack_in_doubt",
    "in_flight::em_3_a_commit_in_doubt",
    "in_flight::metrics_count",
    "interval::",
    "modes::",
    "read_only::",
    "repair::",
    "retention::",
    "skipped_time::",
    "tables::a_table_outlives",
    "tables::em_9_state",
    "timers::em_10_a_delayed",
    "timers::em_10_a_log_with",
    "timers::em_10_a_payload",
    "timers::em_10_an_event",
    "timers::em_10_an_unreadable",
    "timers::em_10_what_is_due",
    "timers::em_10_what_was_due",
    "timers::em_1_delayed",
    "topic_codec::a_change_counts",
    "topic_codec::an_event_that",
    "topic_codec::lg_1_a_batch",
    "topic_codec::lg_1_what_is",
    "topic_codec::the_codec",
    "topic_durability::re_8",
    "topic_durability::the_durability",
    "wire_transactions::",
];

/// The log as the next process finds it, after this one was killed now.
pub(crate) fn after_kill(disk: &SimDisk) -> (SimDisk, Log) {
    let image = disk.process_kill();
    let log = open(&image);
    (image, log)
}

pub(crate) fn topic(log: &Log, name: &str, partitions: u32) -> Topic {
    log.create_topic(name, TopicOptions::default().partitions(partitions)).unwrap()
}

/// Sends values to one key.
pub(crate) fn send_all(log: &Log, topic: &Topic, values: impl IntoIterator<Item = String>) {
    let producer = log.producer("sender").unwrap();
    for value in values {
        producer.blocking_send(topic, Event::new("k", value)).unwrap();
    }
}

/// All values of a topic, partition by partition.
pub(crate) fn values(log: &Log, topic: &Topic) -> Vec<String> {
    log.read_view().records(topic).map(|record| record.unwrap().value_str().unwrap().to_owned()).collect()
}

/// Each offset of a view shows the record that it has among all records, or none. (Twice: some of it is remembered.)
pub(crate) fn assert_one_by_one(view: &ReadView, topic: &Topic) {
    let records: Vec<Record> = view.records(topic).map(Result::unwrap).collect();
    for _ in 0..2 {
        let mut next = records.iter().peekable();
        for partition in 0..topic.partitions() {
            for offset in 0..=view.end(topic, partition).unwrap() {
                let expected =
                    next.next_if(|record| (record.partition, record.offset) == (partition, offset));
                let found = view.record(topic, partition, offset).unwrap();
                assert_eq!(format!("{found:?}"), format!("{:?}", expected.cloned()));
            }
        }
        assert!(next.next().is_none());
    }
}

/// The same of what the log shows now, also when it is asked without a view.
pub(crate) fn assert_each_record(log: &Log, topic: &Topic) {
    let view = log.read_view();
    assert_one_by_one(&view, topic);
    for partition in 0..topic.partitions() {
        for offset in 0..=view.end(topic, partition).unwrap() {
            let (found, shown) =
                (log.record(topic, partition, offset), view.record(topic, partition, offset));
            assert_eq!(found.unwrap(), shown.unwrap(), "{partition} {offset}");
        }
    }
}

/// Asks until the answer is yes; a bound on time is a failure.
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes() {
        assert!(Instant::now() < deadline, "{what} never happened");
        std::thread::yield_now();
    }
}

/// Waits until the next journal file is prepared: from here on only the writer syncs in the journal's folder.
pub(crate) fn spare_is_ready(disk: &SimDisk) {
    until("a journal file is prepared", || {
        disk.list("journal").unwrap().iter().any(|entry| entry.name.starts_with("spare-"))
    });
}

/// Runs something in a thread that must end; its result.
pub(crate) fn within_patience<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || send.send(work()));
    let result = receive.recv_timeout(PATIENCE);
    let result = result.unwrap_or_else(|error| panic!("{what}: {error}"));
    thread.join().unwrap().unwrap();
    result
}

struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Does something on the thread that wakes it.
pub(crate) fn on_wake(work: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(work)))
}
