//! Requests with replies, over topics: the request is an event, the reply a row that stays for a while.
//!
//! ```text
//!   call -> an event with correlation-id and reply-to -> a processor -> Context::reply, or its death
//!     ^                                                                    |  in the commit of the request
//!     \------------- the row  <correlation id>/<group>  of a table  <------/
//! ```
//!
//! Not a way around events: a caller waits, and knows who is to answer. It is for the question whose answer is needed
//! now.
//!
//! Invariants
//!   * of each group there is one reply to a request, written with the position that goes over it
//!   * a call with an id that was called before sends nothing anew and has the same reply, also after a restart

use crate::clock::{ms, wall_ms};
use crate::context::Context;
use crate::error::Error;
use crate::failure::Failure;
use crate::parked::{RowOf, base64};
use bytes::Bytes;
use exactlog::{
    Consumer, Event, Histogram, KeyRange, Log, MetricsSource, Producer, Record, Samples, Start, Stream,
    Table, TableOptions, Topic,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The header that tells requests apart.
pub(crate) const CORRELATION_ID: &str = "correlation-id";
/// The header that names the table of replies.
pub(crate) const REPLY_TO: &str = "reply-to";
/// The table of replies.
const REPLIES: &str = "flow-replies";
/// Longest id of a request, in bytes: with a group's name it is a key.
const ID_BYTES_MAX: usize = 512;
/// How often replies that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Most rows that one transaction takes out.
const SWEEP_MAX: usize = 500;

/// Why there is no reply.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It didn't come in time. It may come yet: call again with the same id, or see [`Requester::replies`].
    #[error("no reply to request {correlation_id:?} within {waited:?} ({received} of {wanted} came)")]
    Timeout {
        /// The request.
        correlation_id: String,
        /// How long was waited.
        waited: Duration,
        /// Replies that came.
        received: usize,
        /// Replies that were waited for.
        wanted: usize,
    },
    /// It didn't come in time, and no group reads the topic.
    #[error("no reply to request {correlation_id:?} within {waited:?}: nobody has read topic {topic:?} yet")]
    NoResponder {
        /// The request.
        correlation_id: String,
        /// The topic it was sent to.
        topic: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The one who was asked couldn't answer.
    #[error("{group} couldn't answer request {correlation_id:?}: {class}: {message}")]
    Remote {
        /// The request.
        correlation_id: String,
        /// The group that was asked.
        group: String,
        /// Stable name of the error.
        class: String,
        /// Its text.
        message: String,
    },
    /// The log.
    #[error("{0}")]
    Flow(#[from] Error),
}

impl From<exactlog::Error> for RequestError {
    fn from(error: exactlog::Error) -> RequestError {
        RequestError::Flow(error.into())
    }
}

/// A reply, as the table has it: JSON, with base64 where bytes needn't be text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    value: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    headers: Vec<(String, Option<String>)>,
}

/// What a group has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The group.
    pub group: String,
    /// The payload.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// The key of a reply's row.
fn reply_key(correlation_id: &str, group: &str) -> String {
    format!("{correlation_id}/{group}")
}

/// Whom an event asks, if it does: the id, and the name of the table.
fn asked(record: &Record) -> Option<(&str, &str)> {
    let text = |name: &str| std::str::from_utf8(record.header(name)?).ok();
    Some((text(CORRELATION_ID)?, text(REPLY_TO)?))
}

impl Context {
    /// Answers the request that this event is, when it commits. Once for each group: another answer of the same attempt
    /// replaces it. An event that asks nothing is an error of class [`Class::Permanent`](crate::Class::Permanent).
    ///
    /// # Errors
    /// Also what is too large.
    pub fn reply(&self, log: &Log, reply: Event) -> Result<(), Failure> {
        let Some((id, table)) = asked(self.record()) else {
            return Err(Failure::permanent("NoRequest", "the event has no correlation-id and reply-to"));
        };
        let table = log.table(table)?;
        let headers = reply.headers.iter().map(|(name, value)| (name.clone(), value.as_ref().map(base64)));
        let row = Row { error: None, value: reply.value.as_ref().map(base64), headers: headers.collect() };
        self.put_json(&table, reply_key(id, self.group()), &row)
    }
}

/// What an asker is told when his request died: key and value of the row, if it was a request.
pub(crate) fn reply_of_death(
    log: &Log,
    record: &Record,
    group: &str,
    failure: &Failure,
) -> Option<(Table, String, Vec<u8>)> {
    let (id, table) = asked(record)?;
    let table = log.table(table).ok()?;
    let error = Some((failure.kind().to_string(), failure.message().to_string()));
    let row = Row { error, value: None, headers: Vec::new() };
    Some((table, reply_key(id, group), serde_json::to_vec(&row).ok()?))
}

/// What callers wait for.
#[derive(Debug, Default)]
struct Waiters {
    by_id: Mutex<HashMap<String, Arc<Notify>>>,
}

/// Sends requests, and waits for their replies. Cheap to share: `call` takes `&self`.
///
/// ```
/// # use exactlog::{Event, Log, TopicOptions};
/// # use exactlog_flow::{Context, Processor, Requester};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// let questions = log.create_topic("questions", TopicOptions::default())?;
/// let requester = Requester::new(&log, "clerk")?;
/// let answering = log.clone();
/// let running = Processor::new(&log, "oracle").topic(&questions).start(move |question: Context| {
///     let log = answering.clone();
///     async move {
///         let length = question.value_str()?.len();
///         question.reply(&log, Event::unkeyed(length.to_string()))
///     }
/// })?;
/// let answer = requester.call(&questions, Event::unkeyed("how long is this?")).send().await?;
/// assert_eq!(answer.value.as_deref(), Some(&b"17"[..]));
/// # running.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Requester {
    log: Log,
    table: Table,
    producer: Producer,
    waiters: Arc<Waiters>,
    ids: RandomState,
    next: AtomicU64,
    meters: Arc<Meters>,
    listening: JoinHandle<()>,
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A call that is being made up.
#[derive(Debug)]
#[must_use = "send it"]
pub struct Call<'r> {
    requester: &'r Requester,
    topic: Topic,
    event: Event,
    id: Option<String>,
    timeout: Duration,
}

impl Requester {
    /// A requester of this name, on the runtime that this is called on. A second one of the name fences the first.
    ///
    /// Replies stay for an hour (`reply.retention.ms`), while there is a requester.
    ///
    /// # Errors
    /// [`Error::NoRuntime`], and what the log says to a new table or producer.
    pub fn new(log: &Log, name: &str) -> Result<Requester, Error> {
        const RETENTION: Duration = Duration::from_secs(3600);
        Requester::keeping(log, name, RETENTION)
    }

    /// As [`new`](Requester::new), keeping replies for so long.
    ///
    /// # Errors
    /// As [`new`](Requester::new).
    pub fn keeping(log: &Log, name: &str, retention: Duration) -> Result<Requester, Error> {
        const ROW_BYTES_MAX: u32 = 16 * 1024 * 1024;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let _entered = runtime.enter();
        let table = log.create_table(REPLIES, TableOptions::default().max_message_bytes(ROW_BYTES_MAX))?;
        let producer = log.producer(&format!("flow.requester.{name}"))?;
        let sweeper = log.producer(&format!("flow.requester.{name}.sweeper"))?;
        let partitions = (0..table.topic().partitions()).map(|partition| (table.topic(), partition));
        let consumer =
            log.consumer(&format!("flow.requester.{name}")).start(Start::Latest).assign(partitions)?;
        let waiters = Arc::new(Waiters::default());
        let meters = Arc::new(Meters::default());
        log.add_metrics(&meters);
        let listening =
            Listening { consumer, waiters: waiters.clone(), table: table.clone(), sweeper, retention };
        Ok(Requester {
            log: log.clone(),
            table,
            producer,
            waiters,
            ids: RandomState::new(),
            next: AtomicU64::new(0),
            meters,
            listening: runtime.spawn(listening.run()),
        })
    }

    /// A request: an event to be sent to a topic, whose groups answer it.
    pub fn call(&self, topic: &Topic, event: Event) -> Call<'_> {
        /// `request.timeout.ms`
        const TIMEOUT: Duration = Duration::from_secs(5);
        Call { requester: self, topic: topic.clone(), event, id: None, timeout: TIMEOUT }
    }

    /// The replies to a request that are there.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn replies(&self, correlation_id: &str) -> Result<Vec<Result<Answer, RequestError>>, Error> {
        let mut replies = Vec::new();
        let prefix = format!("{correlation_id}/");
        for entry in self.table.scan(KeyRange::prefix(prefix.clone())) {
            let entry = entry?;
            let key = String::from_utf8_lossy(entry.key()).into_owned();
            let row_of = RowOf { table: self.table.name(), key: &key };
            let row: Row = row_of.json(entry.value())?;
            let group = key.strip_prefix(&prefix).unwrap_or_default().to_string();
            replies.push(match row.error {
                Some((class, message)) => {
                    let correlation_id = correlation_id.to_string();
                    Err(RequestError::Remote { correlation_id, group, class, message })
                }
                None => {
                    let value = row_of.maybe_bytes(&row.value)?;
                    let header = |(name, value): &(String, Option<String>)| {
                        Ok((name.clone(), row_of.maybe_bytes(value)?))
                    };
                    let headers = row.headers.iter().map(header).collect::<Result<_, Error>>()?;
                    Ok(Answer { group, value, headers })
                }
            });
        }
        Ok(replies)
    }

    /// An id that no other request has: 128 bits by which nobody else counts.
    fn fresh_id(&self) -> String {
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        format!("{:016x}{:016x}", self.ids.hash_one((nth, since_1970)), self.ids.hash_one((since_1970, nth)))
    }

    /// Whether there is a group that could read a topic: it has members, or has read of it before.
    fn has_reader(&self, topic: &Topic) -> bool {
        let has_read = |group: &str| {
            (0..topic.partitions()).any(|partition| self.log.committed(group, topic, partition).is_some())
        };
        self.log.groups().iter().any(|group| !group.members.is_empty() || has_read(&group.name))
    }
}

impl Call<'_> {
    /// How long to wait (`request.timeout.ms`). Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The request's id. Called again with it, also by another process, nothing is sent anew, and the reply is the same
    /// one. Default: one that nobody else has.
    pub fn id(mut self, correlation_id: impl Into<String>) -> Self {
        self.id = Some(correlation_id.into());
        self
    }

    /// Sends it, and waits for the first reply.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits the request may be answered all the same: see [`Requester::replies`].
    pub async fn send(self) -> Result<Answer, RequestError> {
        let mut replies = self.gather(1).await?;
        replies.swap_remove(0)
    }

    /// Sends it, and waits for the replies of so many groups, by their names.
    ///
    /// # Errors
    /// [`RequestError::Timeout`] when they don't all come in time. A group that couldn't answer is an answer, too.
    ///
    /// # Cancel safety
    /// As [`send`](Call::send).
    pub async fn gather(self, groups: usize) -> Result<Vec<Result<Answer, RequestError>>, RequestError> {
        let (meters, topic, begin) = (self.requester.meters.clone(), self.topic.clone(), Instant::now());
        let replies = self.replies(groups).await;
        meters.ended(topic.name(), &replies, begin.elapsed());
        replies
    }

    async fn replies(self, groups: usize) -> Result<Vec<Result<Answer, RequestError>>, RequestError> {
        let Call { requester, topic, event, id, timeout } = self;
        let (begin, wanted) = (Instant::now(), groups.max(1));
        let id = id.unwrap_or_else(|| requester.fresh_id());
        if !(1..=ID_BYTES_MAX).contains(&id.len()) {
            let length = format!("{} bytes long", id.len());
            return Err(Error::setting("correlation-id", length, "1 to 512 bytes long").into());
        }
        let came = requester.waiters.by_id.lock().entry(id.clone()).or_default().clone();
        let _waiting = Waiting { waiters: &requester.waiters, id: &id };
        let mut event = event.header(CORRELATION_ID, id.clone()).header(REPLY_TO, REPLIES);
        event.id = Some(format!("request/{id}").into());
        requester.producer.send(&topic, event).await?;
        loop {
            let mut told = std::pin::pin!(came.notified());
            // From here on no reply is missed.
            told.as_mut().enable();
            let replies = requester.replies(&id)?;
            if replies.len() >= wanted {
                return Ok(replies);
            }
            if tokio::time::timeout_at(begin + timeout, told).await.is_err() {
                let (waited, correlation_id) = (begin.elapsed(), id.clone());
                let received = replies.len();
                return Err(match received == 0 && !requester.has_reader(&topic) {
                    true => {
                        RequestError::NoResponder { correlation_id, topic: topic.name().to_string(), waited }
                    }
                    false => RequestError::Timeout { correlation_id, waited, received, wanted },
                });
            }
        }
    }
}

/// How long calls took, as long as there is a requester.
#[derive(Debug, Default)]
struct Meters(Mutex<BTreeMap<(String, &'static str), Histogram>>);

impl Meters {
    fn ended(
        &self,
        topic: &str,
        replies: &Result<Vec<Result<Answer, RequestError>>, RequestError>,
        took: Duration,
    ) {
        let outcome = match replies {
            Ok(replies) if replies.iter().all(Result::is_ok) => "ok",
            Ok(_) | Err(RequestError::Remote { .. }) => "remote",
            Err(RequestError::Timeout { .. }) => "timeout",
            Err(RequestError::NoResponder { .. }) => "no_responder",
            Err(RequestError::Flow(_)) => "error",
        };
        self.0.lock().entry((topic.to_string(), outcome)).or_default().observe(took);
    }
}

impl MetricsSource for Meters {
    fn collect(&self, samples: &mut Samples) {
        for ((topic, outcome), took) in &*self.0.lock() {
            let labels = &[("topic", topic.as_str()), ("outcome", *outcome)];
            let help = "How long requests took, to the last reply that was waited for, by how they ended.";
            samples.histogram("request_duration_seconds", help, labels, took.read());
        }
    }
}

/// A caller that waits; the last one of an id takes it out.
struct Waiting<'w> {
    waiters: &'w Waiters,
    id: &'w str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut by_id = self.waiters.by_id.lock();
        // The map's and this caller's own.
        if by_id.get(self.id).is_some_and(|came| Arc::strong_count(came) <= 2) {
            by_id.remove(self.id);
        }
    }
}

/// Sees replies come, and takes out those that are too old.
struct Listening {
    consumer: Consumer,
    waiters: Arc<Waiters>,
    table: Table,
    sweeper: Producer,
    retention: Duration,
}

impl Listening {
    async fn run(self) {
        let Listening { consumer, waiters, table, mut sweeper, retention } = self;
        // Nothing is committed: it begins behind the last reply, whenever it begins.
        let mut replies = consumer.into_stream();
        let mut sweeps = tokio::time::interval(SWEEP);
        loop {
            let next = std::future::poll_fn(|task| Pin::new(&mut replies).poll_next(task));
            let reply = tokio::select! {
                reply = next => reply,
                _ = sweeps.tick() => {
                    if let Err(error) = sweep(&table, &mut sweeper, retention).await {
                        tracing::warn!(event = "replies.kept", %error, "old replies weren't taken out");
                    }
                    continue;
                }
            };
            match reply {
                Some(Ok(record)) => {
                    let Ok(key) = record.key_str() else { continue };
                    let id = key.rsplit_once('/').map_or(key, |(id, _)| id);
                    waiters.by_id.lock().get(id).into_iter().for_each(|came| came.notify_waiters());
                }
                Some(Err(error)) => {
                    tracing::warn!(event = "replies.unread", %error, "replies weren't seen");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                None => return,
            }
        }
    }
}

/// Takes out replies that are older than this.
async fn sweep(table: &Table, producer: &mut Producer, retention: Duration) -> Result<(), exactlog::Error> {
    let oldest_ms = wall_ms().saturating_sub(ms(retention));
    loop {
        let mut transaction = producer.begin();
        let mut taken = 0;
        for entry in table.scan(..) {
            let entry = entry?;
            if entry.record.timestamp_ms < oldest_ms {
                transaction.expect_version(table, entry.key().to_vec(), Some(entry.version));
                transaction.delete(table, entry.key().to_vec())?;
                taken += 1;
                if taken == SWEEP_MAX {
                    break;
                }
            }
        }
        if taken == 0 {
            return Ok(());
        }
        transaction.commit().await?;
    }
}
