//! How waiting consumers learn that there is something to read, or that their group changed.

use exactlog_core::ids::TopicId;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;
use tokio::sync::Notify;

/// One consumer's bell. It is rung often and listened to by one.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    rung: AtomicU64,
    /// Of the batches that have come into its topics.
    bytes: AtomicU64,
    tasks: Notify,
    /// The task of a stream, which can't hold a future between polls.
    stream: Mutex<Option<Waker>>,
    lock: Mutex<()>,
    threads: Condvar,
}

impl Signal {
    /// How often it was rung. Read before looking for something, so that no ring is missed.
    pub(crate) fn rung(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    /// How many bytes have come into its topics. Read before looking for something: then no batch is missed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::Release);
        self.tasks.notify_waiters();
        let stream = self.stream.lock().take();
        if let Some(waker) = stream {
            waker.wake();
        }
        drop(self.lock.lock());
        self.threads.notify_all();
    }

    /// Wakes this task at the next ring.
    pub(crate) fn register(&self, waker: &Waker) {
        *self.stream.lock() = Some(waker.clone());
    }

    /// Waits until it has been rung more often than `seen`.
    pub(crate) async fn wait(&self, seen: u64) {
        loop {
            let mut notified = std::pin::pin!(self.tasks.notified());
            notified.as_mut().enable();
            if self.rung() != seen {
                return;
            }
            notified.await;
        }
    }

    /// Blocks until it has been rung more often than `seen`, or until the deadline; whether it was rung.
    pub(crate) fn blocking_wait(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut guard = self.lock.lock();
        while self.rung() == seen {
            match deadline {
                Some(deadline) => {
                    if self.threads.wait_until(&mut guard, deadline).timed_out() {
                        return self.rung() != seen;
                    }
                }
                None => self.threads.wait(&mut guard),
            }
        }
        true
    }
}

/// So that whatever can wake a task can ring a consumer.
impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Who is to be rung for what.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    topics: RwLock<BTreeMap<TopicId, Vec<Weak<Signal>>>>,
    groups: RwLock<BTreeMap<String, Vec<Weak<Signal>>>>,
    everybody: Mutex<Vec<Weak<Signal>>>,
}

impl Signals {
    pub(crate) fn watch_topic(&self, topic: TopicId, signal: &Arc<Signal>) {
        let mut topics = self.topics.write();
        let watchers = topics.entry(topic).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        if !watchers.iter().any(|watcher| std::ptr::eq(watcher.as_ptr(), Arc::as_ptr(signal))) {
            watchers.push(Arc::downgrade(signal));
        }
    }

    pub(crate) fn watch_group(&self, group: &str, signal: &Arc<Signal>) {
        let mut groups = self.groups.write();
        let watchers = groups.entry(group.to_string()).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(signal));
    }

    /// For what concerns everybody: each consumer is here, whatever else it watches.
    pub(crate) fn watch(&self, signal: &Arc<Signal>) {
        let mut everybody = self.everybody.lock();
        everybody.retain(|watcher| watcher.strong_count() > 0);
        everybody.push(Arc::downgrade(signal));
    }

    /// Each topic with the bytes that have come into it.
    pub(crate) fn ring_topics(&self, touched: &BTreeMap<TopicId, u64>) {
        for (topic, bytes) in touched {
            let watchers = self.topics.read().get(topic).map(|it| living(it));
            watchers
                .iter()
                .flatten()
                .for_each(|signal| _ = signal.bytes.fetch_add(*bytes, Ordering::Release));
            ring(watchers);
        }
    }

    pub(crate) fn ring_group(&self, group: &str) {
        let watchers = self.groups.read().get(group).map(|it| living(it));
        ring(watchers);
    }

    /// Rings everybody: the log failed, was reopened or closed.
    pub(crate) fn ring_all(&self) {
        let watchers = living(&self.everybody.lock());
        ring(Some(watchers));
    }
}

fn living(watchers: &[Weak<Signal>]) -> Vec<Arc<Signal>> {
    watchers.iter().filter_map(Weak::upgrade).collect()
}

/// Without a lock held: a ring wakes tasks, and what a task that is woken drops may ring too.
fn ring(watchers: Option<Vec<Arc<Signal>>>) {
    watchers.into_iter().flatten().for_each(|signal| signal.ring());
}
