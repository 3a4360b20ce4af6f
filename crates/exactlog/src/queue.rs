//! The way to the writer: work in order, and the answers to it.
//!
//! The queue is bounded by the bytes that wait or are being written ([`Room`]), not by their number. Whoever finds it
//! full waits before anything of it is submitted, never between. Work that must not wait (a handle that is dropped,
//! a clock tick) is small and passes.
//!
//! Invariants
//!   * what was pushed is answered, also if the writer panics or the queue is closed: a [`Responder`] that is dropped
//!     answers that the outcome is unknown

use crate::error::Error;
use crate::producer::Accumulator;
use crate::room::{Claim, Reserved, Room};
use crate::slot::Slot;
use exactlog_core::command::Command;
use exactlog_core::reply::Applied;
use exactlog_storage::error::StorageError;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The answer to a command.
pub(crate) type Answer = Slot<Result<Applied, Error>>;

/// Whoever has it owes an answer.
#[derive(Debug)]
pub(crate) struct Responder<T> {
    slot: Arc<Slot<Result<T, Error>>>,
    claim: Option<Claim>,
}

impl<T> Responder<T> {
    /// An answer that is owed, and the room that is given back with it.
    pub(crate) fn new(slot: Arc<Slot<Result<T, Error>>>, claim: Option<Claim>) -> Self {
        Responder { slot, claim }
    }

    /// Where the answer will be.
    pub(crate) fn slot(&self) -> &Arc<Slot<Result<T, Error>>> {
        &self.slot
    }

    /// More room that is given back with the answer.
    pub(crate) fn add(&mut self, more: Reserved<'_>) {
        match &mut self.claim {
            Some(claim) => claim.add(more),
            claim => *claim = Some(more.claim()),
        }
    }

    /// Answers, and gives the room back first: whoever waits for the answer may go on at once.
    pub(crate) fn answer(mut self, answer: Result<T, Error>) {
        self.claim = None;
        self.slot.complete(answer);
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        self.claim = None;
        if self.slot.peek().is_none() {
            let reason = "the writer ended without an answer".into();
            self.slot.complete(Err(Error::Unknown(StorageError::Poisoned { reason })));
        }
    }
}

/// Something for the writer to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A command. `since` is the number of reopens that its sender knew of, if the command depends on that.
    Command { command: Command, since: Option<u64>, responder: Responder<Applied> },
    /// A producer has records: take what is there when the turn comes.
    Records(Arc<Accumulator>),
}

#[derive(Debug, Default)]
struct Waiting {
    work: VecDeque<Work>,
    /// Somebody wants the writer to look around.
    nudged: bool,
    closed: bool,
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

    /// Queues work; false if the log is closed.
    pub(crate) fn push(&self, work: Work) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return false;
        }
        waiting.work.push_back(work);
        if waiting.work.len() == 1 {
            self.writer.notify_one();
        }
        true
    }

    /// Makes the writer look around without work.
    pub(crate) fn nudge(&self) {
        self.waiting.lock().nudged = true;
        self.writer.notify_one();
    }

    /// Refuses new work from now on, sends away who waits for room, and lets the writer finish.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.writer.notify_one();
        self.room.close();
    }

    /// Moves everything that waits to the end of `into`; waits itself for at most `timeout` if there is nothing.
    /// False: closed and empty.
    pub(crate) fn take(&self, timeout: Duration, into: &mut VecDeque<Work>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.work.is_empty() && !waiting.closed && !waiting.nudged {
            self.writer.wait_for(&mut waiting, timeout);
        }
        waiting.nudged = false;
        if waiting.work.is_empty() && waiting.closed {
            return false;
        }
        into.append(&mut waiting.work);
        true
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().work.is_empty()
    }
}
