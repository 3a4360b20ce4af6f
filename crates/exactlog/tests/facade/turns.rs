//! Whose turn it is to write: the writer thread's, or that of a caller who blocks.

use crate::common::{MIB, builder, on_wake, open, topic, values, within_patience};
use exactlog::{Event, Log};
use exactlog_sim::disk::SimDisk;
use exactlog_sim::gate::GatedDisk;
use exactlog_sim::layer::{Layer, Observer};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

/// Which threads have written to the journal.
#[derive(Debug, Default)]
struct Writers(Mutex<Vec<ThreadId>>);

impl Observer for Writers {
    fn before_write(&self, name: &str) {
        if name.starts_with("journal/") {
            self.0.lock().push(thread::current().id());
        }
    }
}

fn gated() -> (GatedDisk, Log) {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).open("gated").unwrap();
    (disk, log)
}

#[test]
fn a_caller_that_blocks_writes_itself_when_nobody_else_does() {
    let writers = Arc::new(Writers::default());
    let log = builder(Layer::over(&SimDisk::new(), writers.clone())).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    writers.0.lock().clear();
    for _ in 0..50 {
        producer.transaction(|it| it.send(&topic, Event::new("k", "v"))).unwrap();
        producer.blocking_send(&topic, Event::new("k", "v")).unwrap();
    }
    let own = writers.0.lock().iter().filter(|id| **id == thread::current().id()).count();
    // The writer may be about to seal, or to look whether it should.
    assert!(own >= 50, "{own} of 100");
    assert_eq!(values(&log, &topic).len(), 100);
}

#[test]
fn what_waits_behind_a_caller_s_own_group_is_written_by_the_writer() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let (first, second) = (log.producer("first").unwrap(), log.producer("second").unwrap());
    disk.shut();
    thread::scope(|scope| {
        let sent = scope.spawn(|| first.blocking_send(&topic, Event::new("k", "first")));
        disk.wait_until_reached();
        let waiting: Vec<_> = (0..30)
            .map(|_| second.blocking_submit(&topic, Event::new("k", vec![b'x'; 100_000])).unwrap())
            .collect();
        disk.open_gate();
        assert_eq!(sent.join().unwrap().unwrap().offset, 0);
        for (ticket, offset) in waiting.into_iter().zip(1..) {
            assert_eq!(within_patience("a ticket", move || ticket.wait()).unwrap().offset, offset);
        }
    });
}

#[test]
fn who_sends_as_fast_as_the_disk_writes_keeps_nobody_else_waiting() {
    let (disk, log) = gated();
    let topic = topic(&log, "t", 1);
    let (fast, mut other) = (log.producer("fast").unwrap(), log.producer("other").unwrap());
    disk.shut();
    let _first = fast.blocking_submit(&topic, Event::new("k", "first")).unwrap();
    disk.wait_until_reached();
    // Three groups of it wait, and behind them a transaction.
    let waiting: Vec<_> = (0..30)
        .map(|_| fast.blocking_submit(&topic, Event::new("k", vec![b'x'; MIB as usize / 10])).unwrap())
        .collect();
    let mut transaction = other.begin();
    transaction.send(&topic, Event::new("k", "other")).unwrap();
    let mut commit = Box::pin(transaction.commit());
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    disk.open_gate();
    waiting.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    let Poll::Ready(receipt) = commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it was submitted before the last of them was written")
    };
    let offset = receipt.unwrap().base_offsets[0].1;
    assert!(offset <= 11, "it came behind {offset} of 31 records, of which a group holds 10");
}

/// Wakers may run anything, also on the thread of a caller who writes for others.
#[test]
fn a_log_may_be_closed_by_whom_a_caller_wakes_while_it_writes() {
    for _ in 0..100 {
        let log = open(&SimDisk::new());
        let topic = topic(&log, "t", 1);
        let (mut first, second) = (log.producer("first").unwrap(), log.producer("second").unwrap());
        let closing = log.clone();
        let waker = on_wake(move || drop(closing.clone().close()));
        within_patience("closing", move || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Either before the log is closed or not at all.
                    let _ = first.transaction(|it| it.send(&topic, Event::new("k", "first")));
                });
                if let Ok(mut ticket) = second.blocking_submit(&topic, Event::new("k", "second")) {
                    let _ = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
                    assert!(ticket.wait().is_ok(), "it was submitted before");
                }
            });
        });
    }
}
