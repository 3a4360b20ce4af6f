//! A result that is not there yet: set once, awaited by tasks and threads alike.
//!
//! One slot serves all tickets of a batch, so a million records in flight need a few thousand of these.
//!
//! Threads wait at the standard library's [`Condvar`]: it wakes all that wait with one call of the system, where
//! `park`, and the `Condvar` of parking_lot, take one for each thread. Of 32 callers 24 wait for the same batch.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// A place for one value.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    value: OnceLock<T>,
    waiters: Mutex<Waiters>,
    threads: Condvar,
}

#[derive(Debug, Default)]
struct Waiters {
    tasks: Vec<Waker>,
    /// How many threads wait: for nobody nobody is woken.
    threads: usize,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { value: OnceLock::new(), waiters: Mutex::default(), threads: Condvar::new() }
    }
}

impl<T> Slot<T> {
    /// Sets the value and wakes everybody. The first value stays.
    pub(crate) fn complete(&self, value: T) {
        if self.value.set(value).is_err() {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters());
        if waiters.threads > 0 {
            self.threads.notify_all();
        }
        waiters.tasks.into_iter().for_each(Waker::wake);
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
        let mut waiters = self.waiters();
        waiters.threads += 1;
        loop {
            if let Some(value) = self.peek() {
                return value;
            }
            waiters = self.threads.wait(waiters).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the value, as a task.
    pub(crate) async fn value(&self) -> &T {
        let mut place = None;
        std::future::poll_fn(|context| self.poll(&mut place, context).map(|_| ())).await;
        self.peek().expect("it was polled until it was there")
    }

    /// Polls for the value. `place` is where this waiter stands in the list, kept by the caller between polls.
    pub(crate) fn poll(&self, place: &mut Option<usize>, context: &mut Context<'_>) -> Poll<&T> {
        if let Some(value) = self.peek() {
            return Poll::Ready(value);
        }
        let mut waiters = self.waiters();
        if let Some(value) = self.peek() {
            return Poll::Ready(value);
        }
        match place.and_then(|place| waiters.tasks.get_mut(place)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                *place = Some(waiters.tasks.len());
                waiters.tasks.push(context.waker().clone());
            }
        }
        Poll::Pending
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn everybody_who_waits_is_woken_threads_and_tasks() {
        let slot = Arc::new(Slot::default());
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let slot = slot.clone();
                std::thread::spawn(move || *slot.wait())
            })
            .collect();
        let task = Arc::new(Woken::default());
        let (waker, mut place) = (Waker::from(task.clone()), None);
        assert!(slot.poll(&mut place, &mut Context::from_waker(&waker)).is_pending());
        while slot.waiters().threads < 8 {
            std::thread::yield_now();
        }
        slot.complete(7);
        waiting.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 7));
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn polling_again_replaces_the_waker_instead_of_adding_one() {
        let slot = Slot::<u8>::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut place = None;
        for _ in 0..10 {
            assert!(slot.poll(&mut place, &mut context).is_pending());
        }
        assert_eq!(slot.waiters().tasks.len(), 1);
    }
}
