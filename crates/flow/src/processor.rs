//! Making and starting a processor.

use crate::attempt::Handler;
use crate::breaker::Breaker;
use crate::dead_letter::DeadLetter;
use crate::dedup::Dedup;
use crate::engine::{Engine, Parts};
use crate::error::Error;
use crate::inspect::table_name;
use crate::ledger::Ledger;
use crate::redrive::DeadLetters;
use crate::replay::Plan;
use crate::retry::Retry;
use crate::running::{Order, Running, Shared};
use crate::settings::{Job, Settings, SpanName};
use crate::throttle::Throttle;
use exactlog::{Log, Record, Start, TableOptions, Topic, TopicOptions};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A processor of a group: reads topics, runs a handler on each event, and commits what follows.
///
/// Each concern has one setter, and they may be called in any order: what runs inside of what is fixed, and
/// [`describe`](Processor::describe) prints it. Everything has a default: three attempts in the order of keys, dead
/// letters in `dlq.<topic>`, no event twice that carries an id.
#[derive(Clone, Debug)]
#[must_use = "start it"]
pub struct Processor {
    log: Log,
    topics: Vec<Topic>,
    start: Start,
    settings: Settings,
}

impl Processor {
    /// A processor of this group. Processors of one group share the partitions, in one process and over restarts.
    pub fn new(log: &Log, group: &str) -> Processor {
        let settings = Settings::new(group);
        Processor { log: log.clone(), topics: Vec::new(), start: Start::Earliest, settings }
    }

    /// One that does a replay.
    pub(crate) fn of_replay(log: &Log, group: &str, topics: Vec<Topic>, plan: Plan) -> Processor {
        let mut processor = Processor { topics, ..Processor::new(log, group) };
        if plan.speed.is_some() {
            // Each waits for its time: one that is done shouldn't wait for the commit of those behind it.
            processor.settings.batch_max = 1;
        }
        processor.settings.replay = Some(Arc::new(plan));
        processor
    }

    /// Adds a topic to read.
    pub fn topic(mut self, topic: &Topic) -> Processor {
        self.topics.push(topic.clone());
        self
    }

    /// Adds topics to read.
    pub fn topics<'t>(mut self, topics: impl IntoIterator<Item = &'t Topic>) -> Processor {
        self.topics.extend(topics.into_iter().cloned());
        self
    }

    /// Adds dead letters to read, for a handler that can do something about them. An entry whose handler succeeds has
    /// ended, in the same commit, as if it had been [put back](DeadLetters::redrive); one that something has become of
    /// before is left out as a duplicate. One that fails for good stays where it is, as it is: nothing is
    /// dead-lettered twice. [`Context::dead_entry`](crate::Context::dead_entry) says what it died of.
    pub fn dead_letters(mut self, letters: &DeadLetters) -> Processor {
        self.settings.letters.insert(letters.topic().name().to_string());
        self.topic(letters.topic())
    }

    /// Where a group begins that has read nothing yet (`auto.offset.reset`). Default: at the first event.
    pub fn start_at(mut self, start: Start) -> Processor {
        self.start = start;
        self
    }

    /// The handler's name, as dead letters have it (`dlq-handler`). Default: the group's.
    pub fn name(mut self, name: impl Into<String>) -> Processor {
        self.settings.name = name.into();
        self
    }

    /// Which events are the same one. Default: those with one id in the header `ce_id` or `message-id`.
    pub fn dedup(mut self, dedup: Dedup) -> Processor {
        self.settings.dedup = Some(dedup);
        self
    }

    /// Copies are processed as any other event (`dedup.enable=false`).
    pub fn without_dedup(mut self) -> Processor {
        self.settings.dedup = None;
        self
    }

    /// How often and when failed events are tried again. Default: [`Retry::default`].
    pub fn retry(mut self, retry: Retry) -> Processor {
        self.settings.retry = retry;
        self
    }

    /// Where events go that can't be processed. Default: [`DeadLetter::default`].
    pub fn dead_letter(mut self, dead_letter: DeadLetter) -> Processor {
        self.settings.dead_letter = dead_letter;
        self
    }

    /// At most so many events in so long (`throttle.events`, `throttle.period.ms`). Default: as fast as it can. It
    /// counts what is taken up, retries and copies too, not what goes behind another one of its key at once; evenly:
    /// behind a pause at most what a tenth of a second brings comes at once, and behind slow handlers what the whole
    /// time does. Each processor of a group has a throttle of its own.
    pub fn throttle(mut self, events: u32, per: Duration) -> Processor {
        self.settings.throttle = Some(Throttle { events, per });
        self
    }

    /// What is asked before each attempt. Default: nothing. While it is open, nothing is read and nothing tried, the
    /// group keeps its partitions, and no attempt is lost; half open, it is given as many events as it permits.
    pub fn breaker(mut self, breaker: &Breaker) -> Processor {
        self.settings.breaker = Some(breaker.clone());
        self
    }

    /// How long a handler may take (`handler.timeout.ms`). Default 30 s. Then its future is dropped, and the attempt
    /// has failed: [`Class::Transient`](crate::Class::Transient).
    pub fn timeout(mut self, timeout: Duration) -> Processor {
        self.settings.timeout = timeout;
        self
    }

    /// How many events are processed at a time: as many different keys. Default 64. Handlers that compute share one
    /// thread until they first wait; start several processors of the group to have more.
    pub fn concurrency(mut self, keys: usize) -> Processor {
        self.settings.concurrency = keys;
        self
    }

    /// How many events are committed at once at most (`max.poll.records`). Default 500; 1 commits each by itself.
    pub fn batch(mut self, events: usize) -> Processor {
        self.settings.batch_max = events;
        self
    }

    /// How long a round may take while another processor of the group waits for its partitions
    /// (`max.poll.interval.ms`). Default 300 s. After that the group goes on without this one: what it was doing is
    /// refused when it wants to commit, and comes again to whoever has the partition.
    pub fn max_poll_interval(mut self, interval: Duration) -> Processor {
        self.settings.max_poll_interval = interval;
        self
    }

    /// What the span of an attempt is called (`otel.name`). Default: `process` and the topic.
    pub fn span_name(mut self, name: impl Fn(&Record) -> String + Send + Sync + 'static) -> Processor {
        self.settings.span_name = Some(SpanName(Arc::new(name)));
        self
    }

    /// What is done, outermost first.
    ///
    /// ```
    /// # use exactlog::{Log, TopicOptions};
    /// # use exactlog_flow::{Processor, Retry};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let log = Log::open(directory.path()).unwrap();
    /// # let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    /// let processor = Processor::new(&log, "billing").topic(&orders);
    /// assert_eq!(
    ///     processor.describe(),
    ///     "group        billing reads orders\n\
    ///      commit       at most 500 events, all of their effects at once\n\
    ///      throttle     none\n\
    ///      breaker      none\n\
    ///      dedup        by header ce_id or message-id, within the group\n\
    ///      dead letter  to dlq.orders\n\
    ///      retry        ordered, attempts at 0ns, 1s, 3s\n\
    ///      timeout      30s\n\
    ///      panic        is a failure\n\
    ///      handler      billing, 64 keys at a time\n"
    /// );
    /// ```
    pub fn describe(&self) -> String {
        let topics: Vec<String> = self.topics.iter().map(|topic| topic.name().to_string()).collect();
        self.settings.describe(&topics)
    }

    /// Starts it on the runtime that this is called on.
    ///
    /// It makes the topics of its dead letters and the table `flow.<group>`, in which the group keeps what waits and
    /// what it has counted.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::NoTopic`], [`Error::NoRuntime`], and what the log says to a new topic or consumer.
    pub fn start(self, handler: impl Handler) -> Result<Running, Error> {
        let Processor { log, topics, start, settings } = self;
        settings.check()?;
        handler.check()?;
        if topics.is_empty() {
            return Err(Error::NoTopic { group: settings.group.to_string() });
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        // Within the runtime's clock from the first moment on.
        let _entered = runtime.enter();
        let options = TableOptions::default().max_message_bytes(ROW_BYTES_MAX);
        let table = log.create_table(&table_name(&settings.group), options)?;
        let (mut dead_letters, mut ledgers) = (BTreeMap::new(), BTreeMap::new());
        for topic in &topics {
            let name: Arc<str> = topic.name().into();
            if settings.letters.contains(topic.name()) {
                ledgers.insert(name, (topic.clone(), Ledger::create(&log, topic)?));
            } else {
                dead_letters.insert(name, dead_letter_topic(&log, &settings, topic)?);
            }
        }
        let seat = Seat::take(&settings.group);
        let producer = log.producer(&format!("flow.{}.{}", settings.group, seat.number))?;
        let (orders, told) = watch::channel(Order::Run);
        let shared = Arc::new(Shared::default());
        let job = Job { settings: Arc::new(settings), handler: Arc::new(handler) };
        let (shares, told_of) = (shared.clone(), shared.clone());
        let parts = Parts { log, job, table, topics, dead_letters, ledgers, start, producer, shared: shares };
        let engine = Engine::new(parts, told)?;
        let task = runtime.spawn(async move {
            let ended = engine.run().await;
            drop(seat);
            told_of.update(|_| {});
            ended
        });
        Ok(Running::new(orders, shared, task))
    }
}

/// What waits has the bytes of its event in base64.
pub(crate) const ROW_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The topic for the dead letters of a topic: the one that is there, or a new one with as many partitions.
fn dead_letter_topic(log: &Log, settings: &Settings, topic: &Topic) -> Result<Topic, Error> {
    /// Room for what is said besides the event.
    const HEADERS_BYTES: u32 = 32 * 1024;
    const BATCH_BYTES_MAX: u32 = 16 * 1024 * 1024;
    let name = settings.dead_letter.topic_for(topic.name(), &settings.group);
    match log.open_topic(&name) {
        Ok(topic) => return Ok(topic),
        Err(exactlog::Error::NoSuchTopic { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let bytes = topic.config().max_message_bytes.saturating_add(HEADERS_BYTES).min(BATCH_BYTES_MAX);
    let options = TopicOptions::default()
        .partitions(topic.partitions())
        .max_message_bytes(bytes)
        .retention(settings.dead_letter.retention);
    match log.create_topic(&name, options) {
        Ok(topic) => Ok(topic),
        // Another processor has just made it, for a topic of another size.
        Err(error) => log.open_topic(&name).map_err(|_| error.into()),
    }
}

/// The seats of this process, by group: processors that run at the same time must not fence each other's producer.
static SEATS: Mutex<BTreeMap<String, BTreeSet<u32>>> = Mutex::new(BTreeMap::new());

/// A number that no other processor of the group in this process has.
#[derive(Debug)]
struct Seat {
    group: String,
    number: u32,
}

impl Seat {
    fn take(group: &str) -> Seat {
        let mut seats = SEATS.lock();
        let taken = seats.entry(group.to_string()).or_default();
        let number = (0..u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
        taken.insert(number);
        Seat { group: group.to_string(), number }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = SEATS.lock();
        if let Some(taken) = seats.get_mut(&self.group) {
            taken.remove(&self.number);
            if taken.is_empty() {
                seats.remove(&self.group);
            }
        }
    }
}
