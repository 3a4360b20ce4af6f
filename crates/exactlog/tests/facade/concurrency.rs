//! Threads against each other: nobody waits for ever, whatever fails, ends or panics meanwhile.

use crate::common::*;
use exactlog::{Error, Event, Log, StorageError};
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk, Survival};
use exactlog_sim::gate::GatedDisk;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Context;
use std::thread;

fn gated() -> (GatedDisk, Log) {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).queue_bytes(1_000).open("gated").unwrap();
    (disk, log)
}

#[test]
fn closing_ends_those_who_wait_for_room_and_writes_what_was_submitted() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let producer = Arc::new(log.producer("p").unwrap());
    disk.shut();
    let first = producer.blocking_submit(&topic, Event::new("k", vec![b'a'; 900])).unwrap();
    disk.wait_until_reached();
    let (send, ended) = mpsc::channel();
    for _ in 0..4 {
        let (producer, topic, send) = (producer.clone(), topic.clone(), send.clone());
        thread::spawn(move || send.send(producer.blocking_submit(&topic, Event::new("k", vec![b'b'; 900]))));
    }
    let closing = thread::spawn({
        let log = log.clone();
        move || log.close()
    });
    for _ in 0..4 {
        let ended = ended.recv_timeout(PATIENCE).expect("whoever waits for room is sent away");
        assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
    }
    disk.open_gate();
    closing.join().unwrap().unwrap();
    assert_eq!(first.wait().unwrap().offset, 0);
    let log = open(&disk.disk);
    let topic = log.open_topic("t").unwrap();
    assert_eq!(log.bounds(&topic, 0).unwrap(), (0, 1));
}

#[test]
fn closing_ends_consumers_that_wait_for_records_in_threads_and_tasks() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (send, ended) = mpsc::channel();
    let mut subscribed = log.consumer("g").subscribe([&topic]).unwrap();
    let mut assigned = log.consumer("h").assign([(&topic, 0)]).unwrap();
    let mut nothing = log.consumer("i").assign([]).unwrap();
    let mut task = log.consumer("j").subscribe([&topic]).unwrap();
    let sender = send.clone();
    thread::spawn(move || sender.send(subscribed.blocking_next().map(|it| it.is_none())));
    let sender = send.clone();
    thread::spawn(move || sender.send(assigned.blocking_next().map(|it| it.is_none())));
    let sender = send.clone();
    thread::spawn(move || sender.send(nothing.blocking_next().map(|it| it.is_none())));
    runtime.spawn(async move { send.send(task.next().await.map(|it| it.is_none())) });
    within_patience("close", move || log.close()).unwrap();
    for _ in 0..4 {
        assert!(ended.recv_timeout(PATIENCE).expect("every consumer ends").unwrap());
    }
}

#[test]
fn the_last_handle_may_go_inside_a_task_and_the_log_can_be_opened_again() {
    let disk = SimDisk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..20u64 {
        let log = builder(disk.clone()).open("simulated").unwrap();
        let topic = topic(&log, "t", 1);
        let producer = log.producer("p").unwrap();
        drop(log);
        let task = runtime.spawn(async move {
            let ticket = producer.submit(&topic, Event::new("k", "v")).await.unwrap();
            drop(producer);
            ticket.await.unwrap().offset
        });
        assert_eq!(runtime.block_on(task).unwrap(), n);
    }
}

/// Drops a handle when the log's own thread wakes whoever waits for a ticket.
struct DropOnWake(parking_lot::Mutex<Option<exactlog::Producer>>);

impl std::task::Wake for DropOnWake {
    fn wake(self: Arc<Self>) {
        self.0.lock().take();
    }
}

#[test]
fn the_last_handle_may_go_on_the_writer_thread() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    disk.shut();
    let mut ticket = producer.blocking_submit(&topic, Event::new("k", "v")).unwrap();
    disk.wait_until_reached();
    let later = producer.blocking_submit(&topic, Event::new("k", "w")).unwrap();
    let waker = Arc::new(DropOnWake(parking_lot::Mutex::new(Some(producer)))).into();
    let polled = Future::poll(std::pin::Pin::new(&mut ticket), &mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(log);
    disk.open_gate();
    assert_eq!(ticket.wait().unwrap().offset, 0);
    assert_eq!(later.wait().unwrap().offset, 1);
    let reopened = || builder(disk.disk.clone()).open("simulated");
    until("the log is closed", || reopened().is_ok());
}

#[test]
fn a_panic_of_the_writer_answers_everybody_and_the_log_goes_on_after_a_reopen() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let producer = Arc::new(log.producer("p").unwrap());
    producer.blocking_send(&topic, Event::new("k", "before")).unwrap();
    disk.panic_once();
    let results: Vec<_> = (0..6)
        .map(|n| {
            let (producer, topic) = (producer.clone(), topic.clone());
            thread::spawn(move || producer.blocking_send(&topic, Event::new("k", vec![b'0' + n; 600])))
        })
        .collect();
    let results: Vec<_> =
        results.into_iter().map(|it| within_patience("an answer", move || it.join().unwrap())).collect();
    // What was being written is unknown, unless it was only the note that all is durable.
    let told = |it: &Result<_, Error>| {
        matches!(it, Ok(_) | Err(Error::Unknown(_) | Error::Storage(StorageError::Poisoned { .. })))
    };
    assert!(results.iter().all(told) && results.iter().any(Result::is_err), "{results:?}");
    let error = producer.blocking_send(&topic, Event::new("k", "refused")).unwrap_err();
    assert!(matches!(error, Error::Storage(StorageError::Poisoned { .. })), "{error}");
    assert!(log.metrics().failed);
    log.reopen().unwrap();
    producer.blocking_send(&topic, Event::new("k", "after")).unwrap();
    let stored = values(&log, &topic);
    assert_eq!((stored.first().unwrap().as_str(), stored.last().unwrap().as_str()), ("before", "after"));
    let acknowledged = results.iter().filter(|it| it.is_ok()).count();
    assert_eq!(stored.len(), acknowledged + 2, "the panic came before the write");
    assert_eq!(log.metrics().queue_bytes, 0);
    log.close().unwrap();
}

#[test]
fn who_is_answered_may_use_the_log_at_once_also_if_what_it_gathered_was_given_up() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    disk.shut();
    let first = producer.blocking_submit(&topic, Event::new("k", "written")).unwrap();
    disk.wait_until_reached();
    let mut gathered = producer.blocking_submit(&topic, Event::new("k", "gathered")).unwrap();
    let (send, woken) = mpsc::channel();
    let of_waker = log.clone();
    let waker = on_wake(move || send.send(of_waker.metrics().failed).unwrap());
    assert!(Pin::new(&mut gathered).poll(&mut Context::from_waker(&waker)).is_pending());
    disk.disk.add_fault(Fault::once(Some(Call::Write), 0, Effect::Errno(EIO)).on("journal/"));
    disk.open_gate();
    assert_eq!(woken.recv_timeout(PATIENCE), Ok(true));
    assert!(matches!(first.wait(), Err(Error::Unknown(_))));
    assert!(matches!(gathered.peek(), Some(Err(Error::Storage(StorageError::Poisoned { .. })))));
    log.reopen().unwrap();
    producer.blocking_send(&topic, Event::new("k", "after")).unwrap();
}

#[test]
fn writes_go_on_until_the_ring_is_full_when_segments_cant_be_written_and_resume_afterwards() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 2);
    let producer = log.producer("p").unwrap();
    disk.add_fault(Fault::persistent(Some(Call::Open), 0, Effect::Errno(EIO)).on("topics/"));
    let value = vec![b'x'; 50_000];
    let mut stored = 0u64;
    let error = loop {
        match producer.blocking_send(&topic, Event::new("k", value.clone())) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(stored * 50_000 >= 3 * MIB, "the ring took {stored} records");
    assert!(
        matches!(&error, Error::Storage(StorageError::Io { file, .. }) if file.contains("topics")),
        "{error}"
    );
    assert!(!log.metrics().failed);
    assert_eq!(values(&log, &topic).len() as u64, stored, "reads go on");
    disk.clear_faults();
    for _ in 0..100 {
        producer.blocking_send(&topic, Event::new("k", value.clone())).unwrap();
    }
    assert_eq!(values(&log, &topic).len() as u64, stored + 100);
    drop((producer, topic));
    within_patience("close", move || log.close()).unwrap();
    let log = open(&disk);
    assert_eq!(values(&log, &log.open_topic("t").unwrap()).len() as u64, stored + 100);
}

#[test]
fn closing_ends_while_the_ring_is_full_and_segments_cant_be_written() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let topic = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    disk.add_fault(Fault::persistent(Some(Call::Open), 0, Effect::Errno(EIO)).on("topics/"));
    while producer.blocking_send(&topic, Event::new("k", vec![0; 100_000])).is_ok() {}
    let waiting: Vec<_> = (0..8)
        .map(|_| producer.blocking_submit(&topic, Event::new("k", vec![0; 100_000])).unwrap())
        .collect();
    let closed = within_patience("close", move || log.close());
    assert!(closed.is_ok(), "{closed:?}");
    waiting.into_iter().for_each(|ticket| assert!(ticket.wait().is_err()));
}

#[test]
fn reopening_under_load_loses_no_acknowledged_record_and_doubles_none() {
    let disk = SimDisk::new();
    disk.set_failed_sync(Survival::AllKept);
    let log = open(&disk);
    let topic = topic(&log, "t", 3);
    let done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let (log, topic, done) = (log.clone(), topic.clone(), done.clone());
            thread::spawn(move || {
                let producer = loop {
                    if let Ok(producer) = log.producer(&format!("p{sender}")) {
                        break producer;
                    }
                };
                let (mut acknowledged, mut unknown, mut number) = (Vec::new(), Vec::new(), 0);
                while !done.load(Ordering::Acquire) {
                    number += 1;
                    let value = format!("{sender}/{number}");
                    let event = Event::new(value.clone(), format!("{value}/{}", "x".repeat(2_000)));
                    match producer.blocking_send(&topic, event) {
                        Ok(_) => acknowledged.push(value),
                        Err(Error::Unknown(_)) => unknown.push(value),
                        Err(Error::Storage(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    let consuming = thread::spawn({
        let (log, topic, done) = (log.clone(), topic.clone(), done.clone());
        move || {
            let mut consumer = log.consumer("g").assign((0..3).map(|index| (&topic, index))).unwrap();
            let mut next = [0; 3];
            while !done.load(Ordering::Acquire) {
                let Some(batch) = consumer.try_next().unwrap() else { continue };
                for record in &batch {
                    assert_eq!(record.offset, next[record.partition as usize]);
                    next[record.partition as usize] += 1;
                }
                std::mem::forget(batch);
            }
        }
    });
    for round in 0..12 {
        let target = log.metrics().records_in + 40;
        until("records come in", || log.metrics().records_in >= target);
        let call = if round % 2 == 0 { Call::Sync } else { Call::Write };
        let mut hits = disk.faults_hit();
        let fault = || disk.add_fault(Fault::once(Some(call), 3, Effect::Errno(EIO)).on("journal/"));
        fault();
        until("the log fails", || {
            // A journal file that couldn't be prepared fails nothing: then again.
            if disk.faults_hit() > std::mem::replace(&mut hits, disk.faults_hit()) {
                fault();
            }
            log.metrics().failed
        });
        disk.clear_faults();
        until("the log opens again", || log.reopen().is_ok() && !log.metrics().failed);
    }
    done.store(true, Ordering::Release);
    consuming.join().unwrap();
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for sender in senders {
        let (mine, doubt) = sender.join().unwrap();
        acknowledged.extend(mine);
        unknown.extend(doubt);
    }
    let mut stored: Vec<String> =
        values(&log, &topic).iter().map(|value| value.rsplit_once('/').unwrap().0.to_string()).collect();
    let count = stored.len();
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), count, "a record is there twice");
    for value in &acknowledged {
        assert!(stored.binary_search(value).is_ok(), "{value} was acknowledged and is lost");
    }
    unknown.extend(acknowledged);
    unknown.sort();
    for value in &stored {
        assert!(unknown.binary_search(value).is_ok(), "{value} was refused and is there");
    }
}

#[test]
fn a_large_event_gets_its_room_among_many_small_ones() {
    let disk = SimDisk::new();
    let log = builder(disk).queue_bytes(10_000).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    let producer = Arc::new(log.producer("p").unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let small: Vec<_> = (0..3)
        .map(|_| {
            let (producer, topic, done) = (producer.clone(), topic.clone(), done.clone());
            thread::spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let _ticket = producer.blocking_submit(&topic, Event::new("k", vec![0; 500])).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let (producer, topic) = (producer.clone(), topic.clone());
        let send = move || producer.blocking_send(&topic, Event::new("k", vec![1; 9_900]));
        within_patience("the large event is stored", send).unwrap();
    }
    done.store(true, Ordering::Release);
    small.into_iter().for_each(|thread| thread.join().unwrap());
}
