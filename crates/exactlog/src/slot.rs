//! A result that is not there yet: set once, awaited by tasks and threads alike.
//!
//! One slot serves all tickets of a batch, so a million records in flight need a few thousand of these.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

/// A place for one value.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    value: OnceLock<T>,
    waiters: Mutex<Vec<Waiter>>,
}

#[derive(Debug)]
enum Waiter {
    Task(Waker),
    Thread(Thread),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { value: OnceLock::new(), waiters: Mutex::new(Vec::new()) }
    }
}

impl<T> Slot<T> {
    /// Sets the value and wakes everybody. The first value stays.
    pub(crate) fn complete(&self, value: T) {
        if self.value.set(value).is_err() {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters {
            match waiter {
                Waiter::Task(waker) => waker.wake(),
                Waiter::Thread(thread) => thread.unpark(),
            }
        }
    }

    /// The value, if it is there.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.value.get()
    }

    /// Blocks the thread until the value is there.
    pub(crate) fn wait(&self) -> &T {
        if let Some(value) = self.peek() {
            return value;
        }
        {
            let mut waiters = self.waiters.lock();
            if self.peek().is_none() {
                waiters.push(Waiter::Thread(std::thread::current()));
            }
        }
        loop {
            if let Some(value) = self.peek() {
                return value;
            }
            std::thread::park();
        }
    }

    /// Polls for the value. `place` is where this waiter stands in the list, kept by the caller between polls.
    pub(crate) fn poll(&self, place: &mut Option<usize>, context: &mut Context<'_>) -> Poll<&T> {
        if let Some(value) = self.peek() {
            return Poll::Ready(value);
        }
        let mut waiters = self.waiters.lock();
        if let Some(value) = self.peek() {
            return Poll::Ready(value);
        }
        match place.and_then(|place| waiters.get_mut(place)) {
            Some(Waiter::Task(waker)) => waker.clone_from(context.waker()),
            _ => {
                *place = Some(waiters.len());
                waiters.push(Waiter::Task(context.waker().clone()));
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_thread_and_a_late_reader_see_the_first_value() {
        let slot = Arc::new(Slot::default());
        let waiting = std::thread::spawn({
            let slot = slot.clone();
            move || *slot.wait()
        });
        slot.complete(7);
        slot.complete(8);
        assert_eq!(waiting.join().unwrap(), 7);
        assert_eq!(*slot.wait(), 7);
    }

    #[test]
    fn polling_again_replaces_the_waker_instead_of_adding_one() {
        let slot = Slot::<u8>::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut place = None;
        for _ in 0..10 {
            assert!(slot.poll(&mut place, &mut context).is_pending());
        }
        assert_eq!(slot.waiters.lock().len(), 1);
    }
}
