//! Events that are delivered later: setting timers, giving them up, and looking at those that wait.
//!
//! ```text
//!   send_at ──> SetTimer, durable ──> TimerId          Transaction::send_at ──> a part of its commit
//!   the writer, when it is due ──> FireTimer ──> the event is in its topic, at an offset
//! ```
//!
//! Not here: firing, which is the writer's (`writer/firing.rs`).
//!
//! Invariants
//!   * an event that is to be delivered later has no offset before its time, and nobody reads it

use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::log::{Inner, Log};
use crate::metrics::TimerMetrics;
use crate::producer::{Producer, append, event_bytes};
use crate::queue::{Answer, Push, Queue};
use crate::room::Claim;

use crate::topic::Topic;
use crate::writer;
use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{Command, ConfigChange, NewTimer, TimerCommand};
use exactlog_core::ids::{Partition, TimerId, TopicId};
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::reply::{Applied, Cancellation, Refusal, Reply, TimerFailure};
use exactlog_core::state::{State, Timer, TimerLimits};
use exactlog_storage::error::StorageError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A timer that hasn't ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerDetails {
    /// Its id.
    pub timer: TimerId,
    /// When it is due, ms since 1970.
    pub due_ms: i64,
    /// Name of the topic that its event goes to; `None`: that was deleted.
    pub topic: Option<String>,
    /// Id of that topic.
    pub topic_id: TopicId,
    /// The partition that its event goes to.
    pub partition: u32,
    /// What its event takes, in bytes.
    pub bytes: u64,
    /// Why it doesn't fire although it is due. It stays until it is cancelled, or the topic's settings are altered.
    pub stuck: Option<TimerFailure>,
    /// Why its event couldn't be read when it was due. It is tried again, each time after a longer pause.
    pub unreadable: Option<String>,
}

impl Producer {
    /// Hands in an event that is to be delivered at a time, and waits until that is as durable as the log promises. A
    /// time that has passed is due at once.
    ///
    /// The event comes into its topic once, not before that time by the log's clock, and shortly after it while the log
    /// is open; what is due while it is closed comes when it is opened. Events due at one time keep the order in which
    /// they were accepted. Without a timestamp of its own it gets the time at which it is due.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`]; [`Refusal::DelayTooLong`] and [`Refusal::TooManyTimers`] name the limit
    /// ([`Log::set_timer_limits`]); [`Error::Fenced`]; [`Error::Unknown`] when the log stopped while writing. A
    /// [transaction](crate::Transaction::send_at) can be asked for its outcome then.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room nothing was handed in; later the timer is set all the same.
    pub async fn send_at(&self, topic: &Topic, event: Event, when: SystemTime) -> Result<TimerId, Error> {
        self.set_timer(topic, event, due_at(when)).await
    }

    /// As [`send_at`](Producer::send_at), so long after now.
    pub async fn send_after(&self, topic: &Topic, event: Event, delay: Duration) -> Result<TimerId, Error> {
        let due_ms = self.inner.timing.due_after(&self.inner, delay);
        self.set_timer(topic, event, due_ms).await
    }

    /// As [`send_at`](Producer::send_at), blocking the thread.
    pub fn blocking_send_at(&self, topic: &Topic, event: Event, when: SystemTime) -> Result<TimerId, Error> {
        self.blocking_set_timer(topic, event, due_at(when))
    }

    /// As [`send_after`](Producer::send_after), blocking the thread.
    pub fn blocking_send_after(
        &self,
        topic: &Topic,
        event: Event,
        delay: Duration,
    ) -> Result<TimerId, Error> {
        self.blocking_set_timer(topic, event, self.inner.timing.due_after(&self.inner, delay))
    }

    async fn set_timer(&self, topic: &Topic, event: Event, due_ms: i64) -> Result<TimerId, Error> {
        let command = self.timer_command(topic, &event, due_ms)?;
        let claim = self.inner.queue.room().take(event_bytes(&event)).await?.claim();
        let answer = self.submit_timer(command, claim, Queue::push)?;
        answer.value().await;
        self.timer_of(&answer)
    }

    fn blocking_set_timer(&self, topic: &Topic, event: Event, due_ms: i64) -> Result<TimerId, Error> {
        let command = self.timer_command(topic, &event, due_ms)?;
        let claim = self.inner.queue.room().blocking_take(event_bytes(&event))?.claim();
        let answer = self.submit_timer(command, claim, Queue::push_quietly)?;
        self.inner.wait_for(&answer);
        self.timer_of(&answer)
    }

    fn timer_command(&self, topic: &Topic, event: &Event, due_ms: i64) -> Result<Command, Error> {
        let index = match &event.key {
            Some(key) => partition_for_key(key, topic.partitions()),
            None => self.inner.timing.next_partition(topic.partitions()),
        };
        self.inner.check_codec(topic.id())?;
        let builder = delayed_batch(topic, event, due_ms)?;
        let batch = self.inner.finish(topic.id(), builder, None, self.compression())?;
        let timer = NewTimer { target: Partition { topic: topic.id(), index }, due_ms, batch };
        Ok(TimerCommand::Set { sender: Some((self.id, self.epoch)), timer }.into())
    }

    fn submit_timer(&self, command: Command, claim: Claim, push: Push) -> Result<Arc<Answer>, Error> {
        self.inner.submit(command, None, Some(claim), push)
    }

    fn timer_of(&self, answer: &Answer) -> Result<TimerId, Error> {
        match answer.peek().expect("the answer was awaited") {
            Ok(Applied { reply: Reply::TimerSet { timer }, .. }) => Ok(*timer),
            Ok(_) => unreachable!("a timer is set or refused"),
            Err(Error::Refused(Refusal::ProducerFenced { .. })) => {
                Err(Error::Fenced { name: self.name.to_string() })
            }
            Err(error) => Err(error.clone()),
        }
    }
}

impl Log {
    /// Gives a timer up, and tells what became of it: only after [`Cancellation::Cancelled`] it never fires, whatever
    /// happens. [`Transaction::cancel`](crate::Transaction::cancel) does it with other effects.
    ///
    /// # Errors
    /// Whatever ends writing.
    pub fn cancel(&self, timer: TimerId) -> Result<Cancellation, Error> {
        match self.inner.command(TimerCommand::Cancel { timer }.into())?.reply {
            Reply::TimerCancelled(cancellation) => Ok(cancellation),
            _ => unreachable!("Cancel is answered with what became of the timer"),
        }
    }

    /// The timers that haven't ended, by the time at which they are due: the first `most` of them that wait, and all
    /// that are stuck.
    pub fn timers(&self, most: usize) -> Vec<TimerDetails> {
        let state = self.inner.state.read();
        let timers = state.timers.waiting().take(most).chain(state.timers.stuck());
        let mut timers: Vec<TimerDetails> =
            timers.map(|(id, timer)| details(&self.inner, &state, id, timer)).collect();
        timers.sort_by_key(|timer| (timer.due_ms, timer.timer));
        timers
    }

    /// A timer that hasn't ended, with the event that it holds.
    ///
    /// # Errors
    /// When the event can't be read.
    pub fn timer(&self, timer: TimerId) -> Result<Option<(TimerDetails, Event)>, Error> {
        let found = {
            let state = self.inner.state.read();
            state.timers.get(timer).map(|found| (*found, details(&self.inner, &state, timer, found)))
        };
        let Some((found, details)) = found else { return Ok(None) };
        let payload = match writer::payload(&self.inner, &found) {
            // It has ended meanwhile, or lies elsewhere now.
            Err(_) if self.inner.state.read().timers.get(timer) != Some(&found) => return self.timer(timer),
            payload => payload?,
        };
        let record = payload.records().next().transpose()?;
        Ok(record.map(|record| {
            let name = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
            let headers = record.headers.iter().map(|header| (name(&header.key), header.value.clone()));
            let event = Event {
                key: record.key,
                value: record.value,
                headers: headers.collect(),
                timestamp_ms: Some(record.timestamp_ms),
                id: None,
            };
            (details, event)
        }))
    }

    pub(crate) fn timer_metrics(&self) -> TimerMetrics {
        let state = self.inner.state.read();
        let (all, stuck) = (state.timers.len(), state.timers.stuck_count());
        let counters = &self.inner.timing.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TimerMetrics {
            waiting: (all - stuck) as u64,
            stuck: stuck as u64,
            unreadable: self.inner.timing.unreadable_count(&state) as u64,
            fired: read(&counters.fired),
            lateness_ms: read(&counters.lateness_ms),
            lateness_max_ms: read(&counters.lateness_max_ms),
        }
    }

    /// How many timers may wait, and for how long (`delivery.timers.max`, `delivery.delay.max.ms`).
    pub fn timer_limits(&self) -> TimerLimits {
        self.inner.state.read().timers.limits()
    }

    /// Sets these limits, for good. Timers that wait already stay as they are.
    ///
    /// # Errors
    /// [`Refusal::SettingOutOfBounds`] names the bounds: at most 4,000,000 timers, 1 ms to about 100 years.
    pub fn set_timer_limits(&self, limits: TimerLimits) -> Result<(), Error> {
        let TimerLimits { count_max, delay_max_ms } = limits;
        self.inner.command(Command::Config(ConfigChange::TimerLimits { count_max, delay_max_ms })).map(|_| ())
    }
}

fn details(inner: &Inner, state: &State, id: TimerId, timer: &Timer) -> TimerDetails {
    TimerDetails {
        timer: id,
        due_ms: timer.due_ms,
        topic: state.topics.get(&timer.target.topic).map(|topic| topic.name.clone()),
        topic_id: timer.target.topic,
        partition: timer.target.index,
        bytes: u64::from(timer.payload_bytes),
        stuck: timer.failure,
        unreadable: inner.timing.unreadable.lock().get(&id).map(|it| it.reason.clone()),
    }
}

/// An event on its own in a batch, in which it waits.
pub(crate) fn delayed_batch(topic: &Topic, event: &Event, due_ms: i64) -> Result<BatchBuilder, Error> {
    if event.id.is_some() {
        return Err(Error::EventIdDelayed);
    }
    let bytes = event_bytes(event);
    topic.check_bytes(bytes)?;
    let mut builder = BatchBuilder::new(bytes);
    append(&mut builder, event, event.timestamp_ms.unwrap_or(due_ms));
    Ok(builder)
}

/// A time in ms since 1970, rounded up: nothing is delivered before it.
pub(crate) fn due_at(when: SystemTime) -> i64 {
    when.duration_since(UNIX_EPOCH).map_or(0, up_to_ms)
}

fn up_to_ms(duration: Duration) -> i64 {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// What of timers isn't in the state: the log's clock as the writer sees it, what couldn't be read, and counters.
#[derive(Debug)]
pub(crate) struct Timing {
    /// How far the stamps of commands are ahead of the monotonic clock, in ms.
    stamp_offset_ms: AtomicI64,
    /// Where the next event without a key goes.
    sticky: AtomicU32,
    /// Most bytes of payloads that few timers may hold back.
    pub(crate) held_bytes_max: u64,
    unreadable: Mutex<BTreeMap<TimerId, Unreadable>>,
    pub(crate) counters: TimerCounters,
}

#[derive(Debug)]
struct Unreadable {
    reason: String,
    /// Of the monotonic clock.
    not_before_ms: i64,
    pause_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct TimerCounters {
    pub(crate) fired: AtomicU64,
    pub(crate) lateness_ms: AtomicU64,
    pub(crate) lateness_max_ms: AtomicU64,
}

/// First pause before a payload is read again, in ms. Each further one is twice as long.
const PAUSE_MS: i64 = 1_000;
/// The longest one.
const PAUSE_MAX_MS: i64 = 60_000;

impl Timing {
    /// `state_ms`: the time of the state at open, when the monotonic clock begins.
    pub(crate) fn new(state_ms: i64, clock: &Clock, held_bytes_max: u64) -> Timing {
        Timing {
            stamp_offset_ms: AtomicI64::new(clock.wall_ms().max(state_ms) - clock.ahead_ms()),
            sticky: AtomicU32::new(0),
            held_bytes_max,
            unreadable: Mutex::default(),
            counters: TimerCounters::default(),
        }
    }

    /// The writer says how far its stamps are ahead of the monotonic clock.
    pub(crate) fn publish(&self, offset_ms: i64) {
        self.stamp_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// So long after now, by the log's clock: it may be behind a wall clock that was set ahead, and before one that was
    /// set back.
    pub(crate) fn due_after(&self, inner: &Inner, delay: Duration) -> i64 {
        /// Each of the two clocks may be nearly a millisecond further than it says.
        const BEGUN_MS: i64 = 2;
        let now_ms = inner.monotonic_ms().saturating_add(self.stamp_offset_ms.load(Ordering::Relaxed));
        now_ms.saturating_add(BEGUN_MS).saturating_add(up_to_ms(delay))
    }

    pub(crate) fn next_partition(&self, partitions: u32) -> u32 {
        self.sticky.fetch_add(1, Ordering::Relaxed) % partitions
    }

    pub(crate) fn is_delayed(&self, timer: TimerId, now_ms: i64) -> bool {
        self.unreadable.lock().get(&timer).is_some_and(|it| now_ms < it.not_before_ms)
    }

    /// When the next one that couldn't be read is tried again, by the monotonic clock.
    pub(crate) fn retry_ms(&self) -> Option<i64> {
        self.unreadable.lock().values().map(|it| it.not_before_ms).min()
    }

    pub(crate) fn is_readable(&self, timer: TimerId) {
        self.unreadable.lock().remove(&timer);
    }

    pub(crate) fn delay(&self, timer: TimerId, error: StorageError, now_ms: i64) {
        let mut unreadable = self.unreadable.lock();
        let before = unreadable.get(&timer).map(|it| it.pause_ms);
        let pause_ms = before.map_or(PAUSE_MS, |pause_ms| (2 * pause_ms).min(PAUSE_MAX_MS));
        tracing::error!(event = "timer.unreadable", %timer, %error, pause_ms, "a timer is due and can't be read");
        let not_before_ms = now_ms.saturating_add(pause_ms);
        unreadable.insert(timer, Unreadable { reason: error.to_string(), not_before_ms, pause_ms });
    }

    /// How many couldn't be read when they were last tried.
    pub(crate) fn unreadable_count(&self, state: &State) -> usize {
        let mut unreadable = self.unreadable.lock();
        // Those that were cancelled meanwhile don't count.
        unreadable.retain(|timer, _| state.timers.get(*timer).is_some());
        unreadable.len()
    }
}
