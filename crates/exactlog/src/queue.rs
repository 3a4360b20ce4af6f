//! The way to the writer: work in order, and room for it.
//!
//! The queue is bounded by the bytes that wait or are being written, not by their number. Whoever finds it full
//! waits before anything of it is submitted, never between. Work that must not wait (a handle that is dropped, a
//! clock tick) is small and passes.

use crate::error::Error;
use crate::producer::Accumulator;
use crate::slot::Slot;
use exactlog_core::command::Command;
use exactlog_core::reply::Applied;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// The answer to a command.
pub(crate) type Answer = Slot<Result<Applied, Error>>;

/// Something for the writer to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A command; its bytes in flight are given back when it is answered.
    Command { command: Command, answer: Arc<Answer>, bytes: usize },
    /// A producer has records: take what is there when the turn comes.
    Records(Arc<Accumulator>),
}

#[derive(Debug, Default)]
struct Waiting {
    work: Vec<Work>,
    closed: bool,
}

/// The queue of one log.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    writer: Condvar,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Somebody waits for room: tasks by the notify, threads by the condvar.
    blocked: AtomicUsize,
    room: Notify,
    room_lock: Mutex<()>,
    room_threads: Condvar,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Queue {
        Queue {
            waiting: Mutex::default(),
            writer: Condvar::new(),
            bytes: AtomicUsize::new(0),
            bytes_max,
            blocked: AtomicUsize::new(0),
            room: Notify::new(),
            room_lock: Mutex::new(()),
            room_threads: Condvar::new(),
        }
    }

    /// Bytes in flight now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes room for `bytes`, if there is. More than the limit is admitted alone.
    pub(crate) fn try_room(&self, bytes: usize) -> Result<(), Error> {
        let fits = |used: usize| (used == 0 || used + bytes <= self.bytes_max).then_some(used + bytes);
        let taken = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.map(|_| ()).map_err(|used| Error::Full { bytes: used, max: self.bytes_max })
    }

    /// Takes room for `bytes`, waiting for it.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits, it has taken nothing.
    pub(crate) async fn room(&self, bytes: usize) {
        if self.try_room(bytes).is_ok() {
            return;
        }
        let _blocked = Blocked::new(&self.blocked);
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            notified.as_mut().enable();
            if self.try_room(bytes).is_ok() {
                return;
            }
            notified.await;
        }
    }

    /// Takes room for `bytes`, blocking the thread for it.
    pub(crate) fn blocking_room(&self, bytes: usize) {
        if self.try_room(bytes).is_ok() {
            return;
        }
        let _blocked = Blocked::new(&self.blocked);
        let mut guard = self.room_lock.lock();
        while self.try_room(bytes).is_err() {
            self.room_threads.wait(&mut guard);
        }
    }

    /// Gives room back.
    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if self.blocked.load(Ordering::SeqCst) > 0 {
            self.room.notify_waiters();
            drop(self.room_lock.lock());
            self.room_threads.notify_all();
        }
    }

    /// Queues work; false if the log is closed.
    pub(crate) fn push(&self, work: Work) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        waiting.work.push(work);
        if waiting.work.len() == 1 {
            self.writer.notify_one();
        }
        true
    }

    /// Refuses new work from now on and lets the writer finish.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.writer.notify_one();
    }

    /// Everything that waits; waits itself for at most `timeout` if there is nothing. `None`: closed and empty.
    pub(crate) fn take(&self, timeout: Duration) -> Option<Vec<Work>> {
        let mut waiting = self.waiting.lock();
        if waiting.work.is_empty() && !waiting.closed {
            self.writer.wait_for(&mut waiting, timeout);
        }
        if waiting.work.is_empty() && waiting.closed {
            return None;
        }
        Some(std::mem::take(&mut waiting.work))
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().work.is_empty()
    }
}

struct Blocked<'a>(&'a AtomicUsize);

impl<'a> Blocked<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Blocked(count)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
