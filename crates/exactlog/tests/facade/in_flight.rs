//! What happens to commits and acks whose answer nobody waited for, or nobody could give.

use crate::common::*;
use exactlog::{Consumer, Error, Event, Log, Producer, Refusal, StorageError, Topic};
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk, Survival};
use exactlog_sim::gate::GatedDisk;
use std::task::{Context, Poll, Waker};

struct Pipe {
    log: Log,
    input: Topic,
    output: Topic,
    producer: Producer,
    consumer: Consumer,
}

fn pipe(log: Log) -> Pipe {
    let (input, output) = (topic(&log, "in", 1), topic(&log, "out", 2));
    send_all(&log, &input, (0..6).map(|n| n.to_string()));
    let consumer = log.consumer("g").max_poll_records(2).subscribe([&input]).unwrap();
    Pipe { producer: log.producer("p").unwrap(), consumer, input, output, log }
}

impl Pipe {
    /// Takes the next two records into a transaction; what the outputs are.
    fn step(&mut self) -> Result<Vec<String>, Error> {
        let batch = self.consumer.try_next()?.expect("there is more to read");
        let mut transaction = self.producer.begin();
        let mut texts = Vec::new();
        for record in &batch {
            texts.push(record.value_str().unwrap().to_owned());
            transaction.send(
                &self.output,
                Event::new(record.value.clone().unwrap(), record.value.clone().unwrap()),
            )?;
        }
        transaction.ack(batch);
        transaction.blocking_commit()?;
        Ok(texts)
    }

    /// Begins a commit of the next two records and drops its future after the first poll.
    fn begin_and_drop(&mut self) {
        let batch = self.consumer.try_next().unwrap().unwrap();
        let mut transaction = self.producer.begin();
        for record in &batch {
            transaction
                .send(&self.output, Event::new(record.value.clone().unwrap(), record.value.clone().unwrap()))
                .unwrap();
        }
        transaction.ack(batch);
        let mut commit = Box::pin(transaction.commit());
        assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    /// Submits a commit of the next two records, of which this is the first: sent on, if it commits.
    fn submit(&mut self, expected: &str) {
        let batch = self.consumer.try_next().unwrap().unwrap();
        assert_eq!(batch.records()[0].value(), expected.as_bytes());
        let mut transaction = self.producer.begin();
        transaction.send(&self.output, Event::new("k", expected.to_owned())).unwrap();
        transaction.ack(batch);
        transaction.blocking_submit().unwrap();
    }

    fn outputs(&self) -> Vec<String> {
        let mut outputs = values(&self.log, &self.output);
        outputs.sort();
        outputs
    }
}

fn gated() -> (GatedDisk, Pipe) {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).open("gated").unwrap();
    (disk, pipe(log))
}

#[test]
fn a_commit_whose_future_is_dropped_counts_and_the_next_one_goes_on_behind_it() {
    let (disk, mut pipe) = gated();
    disk.shut();
    pipe.begin_and_drop();
    disk.wait_until_reached();
    disk.open_gate();
    assert_eq!(pipe.step().unwrap(), ["2", "3"]);
    assert_eq!(pipe.step().unwrap(), ["4", "5"]);
    assert_eq!(pipe.outputs(), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(pipe.log.lag("g", &pipe.input), 0);
}

#[test]
fn a_dropped_commit_that_was_refused_fails_the_next_one_and_its_input_comes_again() {
    let (disk, mut pipe) = gated();
    disk.shut();
    let batch = pipe.consumer.try_next().unwrap().unwrap();
    let mut transaction = pipe.producer.begin();
    transaction.send(&pipe.output, Event::new("k", "never")).unwrap();
    transaction.expect_end(&pipe.output, 0, 77);
    transaction.ack(batch);
    {
        let mut commit = Box::pin(transaction.commit());
        assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    disk.wait_until_reached();
    disk.open_gate();
    let error = pipe.step().unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::EndOffset { expected: 77, .. })), "{error}");
    for expected in [["0", "1"], ["2", "3"], ["4", "5"]] {
        assert_eq!(pipe.step().unwrap(), expected);
    }
    assert_eq!(pipe.outputs(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn what_comes_behind_a_submitted_commit_is_delivered_before_its_outcome_is_known() {
    let (disk, mut pipe) = gated();
    disk.shut();
    pipe.submit("0");
    disk.wait_until_reached();
    assert_eq!(pipe.log.committed("g", &pipe.input, 0), None);
    assert_eq!(pipe.consumer.try_next().unwrap().unwrap().records()[0].value(), b"2", "and dropped");
    disk.open_gate();
    pipe.submit("2");
    let receipt = pipe.producer.blocking_outcome().unwrap().expect("it was on its way");
    assert_eq!(receipt.base_offsets.len(), 1);
    assert_eq!(pipe.producer.blocking_outcome().unwrap(), None);
    assert_eq!(pipe.step().unwrap(), ["4", "5"]);
    assert_eq!(pipe.outputs(), ["0", "2", "4", "5"]);
    assert_eq!(pipe.log.lag("g", &pipe.input), 0);
}

#[test]
fn what_was_taken_behind_a_refused_commit_comes_again_with_its_input() {
    let (disk, mut pipe) = gated();
    disk.shut();
    let batch = pipe.consumer.try_next().unwrap().unwrap();
    let mut transaction = pipe.producer.begin();
    transaction.expect_end(&pipe.output, 0, 77);
    transaction.ack(batch);
    transaction.blocking_submit().unwrap();
    let batch = pipe.consumer.try_next().unwrap().expect("what comes behind it");
    assert_eq!(batch.records()[0].value(), b"2");
    let mut transaction = pipe.producer.begin();
    transaction.send(&pipe.output, Event::new("k", "never")).unwrap();
    transaction.ack(batch);
    let submitted = std::thread::scope(|scope| {
        let submitting = scope.spawn(|| transaction.blocking_submit());
        disk.wait_until_reached();
        disk.open_gate();
        submitting.join().unwrap()
    });
    assert!(matches!(submitted, Err(Error::Refused(Refusal::EndOffset { expected: 77, .. }))));
    assert_eq!(pipe.producer.blocking_outcome().unwrap(), None, "it was told once");
    for expected in [["0", "1"], ["2", "3"], ["4", "5"]] {
        assert_eq!(pipe.step().unwrap(), expected);
    }
    assert_eq!(pipe.outputs(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn the_input_of_a_commit_in_flight_isnt_delivered_again_when_its_producer_is_dropped() {
    let (disk, mut pipe) = gated();
    pipe.consumer = {
        drop(pipe.consumer);
        pipe.log.consumer("g").max_poll_records(2).subscribe([&pipe.input]).unwrap()
    };
    assert_eq!(pipe.consumer.positions().unwrap().len(), 1);
    disk.shut();
    pipe.begin_and_drop();
    disk.wait_until_reached();
    let Pipe { log, input, output, producer, mut consumer } = pipe;
    drop(producer);
    assert!(consumer.try_next().unwrap().is_none(), "nobody knows yet what is consumed");
    disk.open_gate();
    let batch = consumer.blocking_next_for(PATIENCE).unwrap().unwrap();
    assert_eq!(batch.records()[0].value(), b"2");
    drop(batch);
    let producer = log.producer("p").unwrap();
    let mut pipe = Pipe { log, input, output, producer, consumer };
    assert_eq!(pipe.step().unwrap(), ["2", "3"]);
    assert_eq!(pipe.outputs(), ["0", "1", "2", "3"]);
}

#[test]
fn an_ack_whose_future_is_dropped_counts_if_it_succeeds() {
    let (disk, mut pipe) = gated();
    assert_eq!(pipe.consumer.positions().unwrap().len(), 1);
    disk.shut();
    {
        let mut ack = Box::pin(pipe.consumer.try_next().unwrap().unwrap().ack());
        assert!(ack.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(pipe.consumer.try_next().unwrap().is_none());
    disk.open_gate();
    let batch = pipe.consumer.blocking_next_for(PATIENCE).unwrap().unwrap();
    assert_eq!(batch.records()[0].value(), b"2");
    assert_eq!(pipe.log.committed("g", &pipe.input, 0), Some(2));
}

/// A commit fails at its sync; what the disk keeps of it decides. Then everything must be there once.
fn unknown_outcome(survival: Survival) {
    let disk = SimDisk::new();
    let applied = matches!(survival, Survival::AllKept);
    disk.set_failed_sync(survival);
    let mut pipe = pipe(open(&disk));
    assert_eq!(pipe.step().unwrap(), ["0", "1"]);
    spare_is_ready(&disk);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
    let token = pipe.producer.begin().token();
    let error = pipe.step().unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    assert!(pipe.consumer.try_next().unwrap().is_none(), "what is consumed is not known");
    // A commit in between is certainly refused, and says nothing of the one before.
    let mut transaction = pipe.producer.begin();
    transaction.send(&pipe.output, Event::new("k", "refused")).unwrap();
    let refused = transaction.blocking_commit().unwrap_err();
    assert!(matches!(refused, Error::Storage(StorageError::Poisoned { .. })), "{refused}");
    // Lost from the cache too: the failed sync had given it up.
    disk.evict(&mut Survival::AllLost);
    pipe.log.reopen().unwrap();
    let outcome = pipe.log.outcome(token).unwrap();
    assert_eq!(outcome.is_some(), applied);
    let expected: &[&str] = if applied { &["4", "5"] } else { &["2", "3"] };
    assert_eq!(pipe.step().unwrap(), expected);
    while pipe.log.lag("g", &pipe.input) > 0 {
        pipe.step().unwrap();
    }
    assert_eq!(pipe.outputs(), ["0", "1", "2", "3", "4", "5"]);
    let (_, log) = after_kill(&disk);
    let mut outputs = values(&log, &log.open_topic("out").unwrap());
    outputs.sort();
    assert_eq!(outputs, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn em_3_a_commit_in_doubt_that_the_disk_kept_is_not_repeated() {
    unknown_outcome(Survival::AllKept);
}

#[test]
fn em_3_a_commit_in_doubt_that_the_disk_lost_is_repeated_by_its_input() {
    unknown_outcome(Survival::AllLost);
}

/// The writer panics on the group of a commit, or on one before it; what the commit is told, at once.
fn commit_at_a_panic(bytes_before: usize, bytes: usize) -> (Error, Option<exactlog::Outcome>) {
    let (disk, Pipe { log, output, mut producer, .. }) = gated();
    let other = log.producer("other").unwrap();
    disk.shut();
    let _first = other.blocking_submit(&output, Event::new("k", "first")).unwrap();
    disk.wait_until_reached();
    let mut before: Vec<_> = (0..bytes_before / 100_000)
        .map(|_| other.blocking_submit(&output, Event::new("k", vec![b'x'; 100_000])).unwrap())
        .collect();
    let (send, told) = std::sync::mpsc::channel();
    let of_waker = log.clone();
    let waker = on_wake(move || send.send(of_waker.metrics().failed).unwrap());
    let mut transaction = producer.begin();
    let token = transaction.token();
    transaction.send(&output, Event::new("k", vec![b'y'; bytes])).unwrap();
    let mut commit = Box::pin(transaction.commit());
    assert!(commit.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    disk.panic_once();
    disk.open_gate();
    let failed = told.recv_timeout(PATIENCE).expect("it is answered without a reopen");
    assert!(failed, "whoever is told can open the log again at once");
    let Poll::Ready(Err(error)) = commit.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it was answered")
    };
    drop(commit);
    until("all before it are answered", || before.iter().all(|ticket| ticket.peek().is_some()));
    before.clear();
    log.reopen().unwrap();
    let outcome = log.outcome(token).unwrap();
    producer.transaction(|it| it.send(&output, Event::new("k", "again"))).unwrap();
    assert!(log.outcome(token).unwrap().is_some(), "the number was free");
    (error, outcome)
}

#[test]
fn em_3_a_commit_that_the_writer_panics_on_is_unknown_and_decided_by_the_reopen() {
    let (error, outcome) = commit_at_a_panic(0, 100);
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    assert_eq!(outcome, None, "the panic came before the write");
}

#[test]
fn em_3_a_commit_behind_the_group_that_the_writer_panics_on_is_refused_before_any_reopen() {
    // More than a group, and more than it leaves over, so that the commit isn't in the one that fails.
    let (error, outcome) = commit_at_a_panic(1_500_000, 60_000);
    assert!(matches!(error, Error::Storage(StorageError::Poisoned { .. })), "{error}");
    assert_eq!(outcome, None);
}

#[test]
fn an_ack_in_doubt_is_decided_by_the_reopen_also_for_a_group_that_begins_at_the_end() {
    for survival in [Survival::AllKept, Survival::AllLost] {
        let disk = SimDisk::new();
        let applied = matches!(survival, Survival::AllKept);
        disk.set_failed_sync(survival);
        let log = open(&disk);
        let topic = topic(&log, "t", 1);
        let mut consumer = log.consumer("g").start(exactlog::Start::Latest).subscribe([&topic]).unwrap();
        assert!(consumer.try_next().unwrap().is_none());
        send_all(&log, &topic, (0..3).map(|n| n.to_string()));
        spare_is_ready(&disk);
        disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
        let error = consumer.try_next().unwrap().unwrap().blocking_ack().unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{error}");
        disk.evict(&mut Survival::AllLost);
        log.reopen().unwrap();
        let again = consumer.try_next().unwrap().map(|batch| batch.len());
        assert_eq!(again, if applied { None } else { Some(3) });
    }
}

#[test]
fn a_ticket_that_is_dropped_changes_nothing() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    for n in 0..100 {
        drop(producer.blocking_submit(&topic, Event::new("k", n.to_string())).unwrap());
    }
    assert_eq!(producer.blocking_send(&topic, Event::new("k", "last")).unwrap().offset, 100);
}

#[test]
fn em_3_an_outcome_is_known_by_its_token_also_to_the_next_process() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    let token = transaction.token();
    assert_eq!(log.outcome(token).unwrap(), None);
    transaction.send(&topic, Event::new("k", "v")).unwrap();
    let receipt = transaction.blocking_commit().unwrap();
    assert_eq!(receipt.token, token);
    assert_eq!(log.outcome(token).unwrap().unwrap().csn, Some(receipt.csn));
    for _ in 0..10 {
        let mut transaction = producer.begin();
        transaction.send(&topic, Event::new("k", "v")).unwrap();
        transaction.blocking_commit().unwrap();
    }
    let (_, next) = after_kill(&disk);
    assert_eq!(next.outcome(token).unwrap().unwrap().csn, None, "applied, but too long ago to say where");
    let never = exactlog::CommitToken { number: 99, ..token };
    assert_eq!(next.outcome(never).unwrap(), None);
    for _ in 0..10 {
        next.producer("p").unwrap();
    }
    assert!(matches!(next.outcome(token), Err(Error::Refused(Refusal::CommitForgotten { .. }))));
}

#[test]
fn metrics_count_what_was_done() {
    let log = open(&SimDisk::new());
    let before = log.metrics();
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    for _ in 0..3 {
        producer.blocking_send(&topic, Event::new("k", "v")).unwrap();
    }
    producer.transaction(|transaction| transaction.send(&topic, Event::new("k", "w"))).unwrap();
    assert!(log.trim(&topic, 0, 99).is_err());
    let after = log.metrics();
    assert_eq!((after.records_in, after.commits, after.refused, after.duplicates), (4, 1, 1, 0));
    assert_eq!(after.commands, 7);
    assert_eq!(after.lsn, before.lsn + 7);
    assert_eq!(after.durable_lsn, after.lsn);
    assert_eq!((after.queue_bytes, after.unflushed_batches, after.failed), (0, 4, false));
    assert!(after.bytes_in > 4 * 61 && after.tail_cache_bytes >= after.bytes_in);
    assert!(after.groups >= 7 && after.journal_bytes >= MIB);
}
