//! The three ways to process: what a kill between any two steps loses or doubles (docs/PROCESSING.md).
//!
//! The work is done outside of the log, so that a kill can't undo it. Each run is killed once, at each step in turn.

use crate::common::*;
use exactlog::{Consumer, Event, Log, Record};
use exactlog_sim::disk::SimDisk;
use std::collections::BTreeMap;

const RECORDS: u32 = 6;

/// One process: how many steps it may do before it is killed.
struct Life {
    disk: SimDisk,
    steps_left: u32,
}

/// The process was killed.
struct Killed;

impl Life {
    /// To be called between steps.
    fn step(&mut self) -> Result<(), Killed> {
        if self.steps_left == 0 {
            return Err(Killed);
        }
        self.steps_left -= 1;
        Ok(())
    }
}

/// What the work did, by record.
type Done = BTreeMap<String, u32>;

fn work(done: &mut Done, record: &Record) {
    *done.entry(text(record)).or_default() += 1;
}

fn text(record: &Record) -> String {
    record.value_str().unwrap().to_owned()
}

fn consumer(log: &Log) -> Consumer {
    log.consumer("g").max_poll_records(2).subscribe([&log.open_topic("in").unwrap()]).unwrap()
}

fn at_most_once(log: &Log, life: &mut Life, done: &mut Done) -> Result<(), Killed> {
    let mut consumer = consumer(log);
    loop {
        life.step()?;
        let Some(batch) = consumer.try_next().unwrap() else { return Ok(()) };
        life.step()?;
        let records = batch.blocking_ack().unwrap();
        for record in &records {
            life.step()?;
            work(done, record);
        }
    }
}

fn at_least_once(log: &Log, life: &mut Life, done: &mut Done) -> Result<(), Killed> {
    ack_behind_the_work(consumer(log), false, life, done)
}

fn auto_commit(log: &Log, life: &mut Life, done: &mut Done) -> Result<(), Killed> {
    let builder = log.consumer("g").max_poll_records(2).auto_commit(true);
    let consumer = builder.subscribe([&log.open_topic("in").unwrap()]).unwrap();
    ack_behind_the_work(consumer, true, life, done)
}

fn ack_behind_the_work(
    mut consumer: Consumer,
    auto_commit: bool,
    life: &mut Life,
    done: &mut Done,
) -> Result<(), Killed> {
    loop {
        life.step()?;
        let Some(batch) = consumer.try_next().unwrap() else { return Ok(()) };
        for record in &batch {
            life.step()?;
            work(done, record);
        }
        if !auto_commit {
            life.step()?;
            batch.blocking_ack().unwrap();
        }
    }
}

/// Here the work is what it sends.
fn exactly_once(log: &Log, life: &mut Life, _: &mut Done) -> Result<(), Killed> {
    let output = log.open_topic("out").unwrap();
    let mut consumer = consumer(log);
    let mut producer = log.producer("worker").unwrap();
    loop {
        life.step()?;
        let Some(batch) = consumer.try_next().unwrap() else { return Ok(()) };
        let mut transaction = producer.begin();
        for record in &batch {
            life.step()?;
            transaction.send(&output, Event::new(text(record), text(record))).unwrap();
        }
        life.step()?;
        transaction.ack(batch);
        life.step()?;
        transaction.blocking_commit().unwrap();
        life.step()?;
    }
}

type Process = fn(&Log, &mut Life, &mut Done) -> Result<(), Killed>;

/// All outcomes: for a kill before each step, what the work did in both lives together.
fn outcomes(process: Process) -> Vec<Done> {
    let mut outcomes = Vec::new();
    for steps_left in 0.. {
        let disk = SimDisk::new();
        let log = open(&disk);
        let (input, _) = (topic(&log, "in", 2), topic(&log, "out", 2));
        let producer = log.producer("sender").unwrap();
        for n in 0..RECORDS {
            producer.blocking_send(&input, Event::new(n.to_string(), n.to_string())).unwrap();
        }
        let mut done = Done::new();
        let mut life = Life { disk, steps_left };
        let killed = process(&log, &mut life, &mut done).is_err();
        let (disk, next) = after_kill(&life.disk);
        let mut second = Life { disk, steps_left: u32::MAX };
        assert!(process(&next, &mut second, &mut done).is_ok());
        for value in values(&next, &next.open_topic("out").unwrap()) {
            *done.entry(value).or_default() += 1;
        }
        outcomes.push(done);
        if !killed {
            return outcomes;
        }
    }
    unreachable!("a process ends after some steps")
}

fn counts(outcomes: &[Done]) -> impl Iterator<Item = u32> + '_ {
    let counts =
        |done: &'_ Done| (0..RECORDS).map(|n| *done.get(&n.to_string()).unwrap_or(&0)).collect::<Vec<_>>();
    outcomes.iter().flat_map(counts)
}

#[test]
fn ack_before_the_work_may_lose_and_never_doubles() {
    let outcomes = outcomes(at_most_once);
    assert!(outcomes.len() > 10);
    assert!(counts(&outcomes).all(|count| count <= 1), "{outcomes:?}");
    assert!(counts(&outcomes).any(|count| count == 0), "a kill before the work loses it");
}

#[test]
fn ack_after_the_work_may_double_and_never_loses() {
    for process in [at_least_once as Process, auto_commit] {
        let outcomes = outcomes(process);
        assert!(outcomes.len() > 10);
        assert!(counts(&outcomes).all(|count| count >= 1), "{outcomes:?}");
        assert!(counts(&outcomes).any(|count| count == 2), "a kill before the ack doubles it");
    }
}

#[test]
fn em_1_the_transaction_does_it_exactly_once() {
    let outcomes = outcomes(exactly_once);
    assert!(outcomes.len() > 10);
    assert!(counts(&outcomes).all(|count| count == 1), "{outcomes:?}");
}
