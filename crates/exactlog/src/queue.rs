//! The way to the writer: work in order, and the answers to it.
//!
//! The queue is bounded by the bytes that wait or are being written ([`Room`]), not by their number. Whoever finds it
//! full waits before anything of it is submitted, never between. Work that must not wait (a handle that is dropped,
//! a clock tick) is small and passes.
//!
//! Who blocks for an answer needs no other thread to be woken: it pushes quietly and then takes the writer's part
//! itself if nobody has it ([`Inner::wait_for`](crate::log::Inner::wait_for)).
//!
//! Invariants
//!   * what waits is seen: its pusher has woken the writer or comes to the desk itself, and who leaves the desk looks
//!     at the queue again
//!   * what was pushed is answered, also if the writer panics or the queue is closed: a [`Responder`] that is dropped
//!     answers that the outcome is unknown

use crate::clients::Sent;
use crate::error::Error;
use crate::host::Together;
use crate::producer::Accumulator;
use crate::room::{Claim, Reserved, Room};
use crate::slot::Slot;
use exactlog_core::command::Command;
use exactlog_core::reply::Applied;
use exactlog_storage::error::StorageError;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The answer to a command.
pub(crate) type Answer = Slot<Result<Applied, Error>>;

/// Whoever has it owes an answer.
#[derive(Debug)]
pub(crate) struct Responder<T> {
    slot: Arc<Slot<Result<T, Error>>>,
    claim: Option<Claim>,
    tally: Option<Box<Tally>>,
}

/// Records that are counted with the answer.
#[derive(Debug)]
struct Tally {
    by: Arc<Sent>,
    since: Instant,
    records: u64,
    bytes: u64,
}

impl<T> Responder<T> {
    /// An answer that is owed, and the room that is given back with it.
    pub(crate) fn new(slot: Arc<Slot<Result<T, Error>>>, claim: Option<Claim>) -> Self {
        Responder { slot, claim, tally: None }
    }

    /// One that counts the records that are [added](Responder::add).
    pub(crate) fn counting(slot: Arc<Slot<Result<T, Error>>>, by: &Arc<Sent>) -> Self {
        let tally = Tally { by: by.clone(), since: Instant::now(), records: 0, bytes: 0 };
        Responder { slot, claim: None, tally: Some(Box::new(tally)) }
    }

    /// Where the answer will be.
    pub(crate) fn slot(&self) -> &Arc<Slot<Result<T, Error>>> {
        &self.slot
    }

    /// A record, whose room is given back with the answer.
    pub(crate) fn add(&mut self, more: Reserved<'_>) {
        if let Some(tally) = &mut self.tally {
            tally.records += 1;
            tally.bytes += more.bytes() as u64;
        }
        match &mut self.claim {
            Some(claim) => claim.add(more),
            claim => *claim = Some(more.claim()),
        }
    }

    /// Answers, and gives the room back first: whoever waits for the answer may go on at once.
    pub(crate) fn answer(mut self, answer: Result<T, Error>) {
        self.complete(answer);
    }

    fn complete(&mut self, answer: Result<T, Error>) {
        self.claim = None;
        if let Some(tally) = self.tally.take() {
            let Tally { by, since, records, bytes } = *tally;
            by.answered(&answer, records, bytes, since.elapsed());
        }
        self.slot.complete(answer);
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        self.claim = None;
        if self.slot.peek().is_none() {
            let reason = "the writer ended without an answer".into();
            self.complete(Err(Error::Unknown(StorageError::Poisoned { reason })));
        }
    }
}

/// Something for the writer to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A command. `since` is the number of reopens that its sender knew of, if the command depends on that.
    Command { command: Command, since: Option<u64>, responder: Responder<Applied> },
    /// Commands that are written together, for somebody elsewhere.
    Together(Box<Together>),
    /// A producer has records: take what is there when the turn comes.
    Records(Arc<Accumulator>),
}

/// How work is queued: [`Queue::push`] or [`Queue::push_quietly`].
pub(crate) type Push = fn(&Queue, Work) -> bool;

#[derive(Debug, Default)]
struct Waiting {
    work: VecDeque<Work>,
    /// Somebody wants the writer to look around.
    nudged: bool,
    closed: bool,
    /// Until when the writer sleeps, while it does.
    asleep_until: Option<Instant>,
}

impl Waiting {
    fn is_awaited(&self) -> bool {
        !self.work.is_empty() || self.nudged || self.closed
    }
}

/// The queue of one log.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    writer: Condvar,
    room: Arc<Room>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Queue {
        Queue { waiting: Mutex::default(), writer: Condvar::new(), room: Arc::new(Room::new(bytes_max)) }
    }

    /// The room for what waits.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Queues work and wakes the writer; false if the log is closed.
    pub(crate) fn push(&self, work: Work) -> bool {
        let pushed = self.add(work);
        pushed.as_ref().inspect(|waiting| self.wake(waiting)).is_some()
    }

    /// Queues work for which the caller comes to the desk itself, at once; false if the log is closed.
    pub(crate) fn push_quietly(&self, work: Work) -> bool {
        self.add(work).is_some()
    }

    fn add(&self, work: Work) -> Option<MutexGuard<'_, Waiting>> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            // It is answered when it is dropped: not under a lock.
            drop(waiting);
            return None;
        }
        waiting.work.push_back(work);
        Some(waiting)
    }

    /// Makes the writer look around without work.
    pub(crate) fn nudge(&self) {
        let mut waiting = self.waiting.lock();
        waiting.nudged = true;
        self.wake(&waiting);
    }

    /// Somebody else than the writer leaves the desk: the writer goes on if work waits or is left (`more`), and is up
    /// again after `timeout` at the latest.
    pub(crate) fn hand_back(&self, more: bool, timeout: Duration) {
        let mut waiting = self.waiting.lock();
        let oversleeps = || waiting.asleep_until.is_some_and(|until| until > Instant::now() + timeout);
        if more || !waiting.work.is_empty() || oversleeps() {
            waiting.nudged = true;
            self.wake(&waiting);
        }
    }

    fn wake(&self, waiting: &Waiting) {
        if waiting.asleep_until.is_some() {
            self.writer.notify_one();
        }
    }

    /// Refuses new work from now on, sends away who waits for room, and lets the writer finish.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.writer.notify_one();
        self.room.close();
    }

    /// Moves everything that waits to the end of `into`. False: closed and empty.
    pub(crate) fn take(&self, into: &mut VecDeque<Work>) -> bool {
        let mut waiting = self.waiting.lock();
        let is_over = waiting.work.is_empty() && waiting.closed;
        into.append(&mut waiting.work);
        !is_over
    }

    /// Waits until something waits, or the writer is wanted for something else, but for at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_awaited() {
            waiting.asleep_until = Some(Instant::now() + timeout);
            self.writer.wait_for(&mut waiting, timeout);
            waiting.asleep_until = None;
        }
        waiting.nudged = false;
    }
}
