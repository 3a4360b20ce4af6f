//! Whose turn it is to write: the writer thread's, or that of a caller who blocks for an answer anyway.
//!
//! ```text
//!   task, handle that is dropped:  push, wake the writer                -> the writer takes its turn at the desk
//!   blocking call:                 push quietly -> the desk is free?    yes: take the turn, then wait (or be done)
//!                                                                        no: wait; who sits there looks again
//! ```
//!
//! To be woken takes a thread about as long as a sync takes the disk, and a lone caller would pay for it twice.
//!
//! Invariants
//!   * one at a time sits at the desk, so the order is one
//!   * a caller's turn ends when its own answer is there: it doesn't write for others for ever

use crate::log::Inner;
use crate::slot::Slot;
use std::cell::Cell;

thread_local! {
    static AT_DESK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is writing: then it can wait neither for an answer nor for the writer to end.
pub(crate) fn is_writing() -> bool {
    AT_DESK.get()
}

/// Marks this thread while it sits at the desk.
struct Seat;

impl Seat {
    fn take() -> Seat {
        AT_DESK.set(true);
        Seat
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        AT_DESK.set(false);
    }
}

/// The writer thread: runs until the queue is closed and empty.
pub(crate) fn run(inner: &Inner) {
    loop {
        let until = {
            let mut desk = inner.desk.lock();
            let _seat = Seat::take();
            if !desk.turn(inner, || false) {
                return;
            }
            desk.until_deadline(inner)
        };
        inner.queue.wait(until);
    }
}

impl Inner {
    /// Blocks until an answer is there whose question was pushed quietly.
    pub(crate) fn wait_for<'a, T>(&self, answer: &'a Slot<T>) -> &'a T {
        let is_there = || answer.peek().is_some();
        if !is_there()
            && let Some(mut desk) = self.desk.try_lock()
        {
            let seat = Seat::take();
            // Nothing may be written once the queue is closed and empty: the log may be closed by now.
            if !is_there() {
                desk.turn(self, is_there);
            }
            let (more, until) = (desk.has_work(), desk.until_deadline(self));
            drop(seat);
            drop(desk);
            self.queue.hand_back(more, until);
        }
        answer.wait()
    }
}
