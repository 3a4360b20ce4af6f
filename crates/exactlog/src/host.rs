//! The node's side of a log that other processes work on: sessions, the state and what changes it, and groups of
//! commands (ADR 42). Whoever speaks with them needs no more than this.
//!
//! ```text
//!   greet -> session -> state (once) -> changes, again and again
//!                    -> submit 1, 2, 3, ..      each group once, also if it comes again
//!                    -> nothing is heard for longer than its grace, or it says so: its members leave their groups
//! ```
//!
//! Invariants
//!   * nothing is taken that the log's own handles wouldn't hand in: time, ticks, what becomes of timers and runs
//!     of marks are the log's own, and batches are what clients may send, in the codec of their topic
//!   * a group is applied whole or not at all, and in the order of the numbers of its session
//!   * a session doesn't end while a group of it is on its way: who is told that it has ended finds what became of it
//!   * a member that was joined by a session leaves with it

use crate::error::Error;
use crate::far_half::{Changes, Pictured, Sent, SessionId, Submitted, Welcome};
use crate::log::{Inner, Log, random_from_system};
use crate::members::Leaving;
use crate::queue::{Queue, Responder, Work};
use crate::room::Claim;
use crate::signal::Signal;
use crate::slot::Slot;
use crate::storing;
use bytes::{Bytes, BytesMut};
use exactlog_core::batch::Batch;
use exactlog_core::codec;
use exactlog_core::command::{Command, ConfigChange, Dedup, TimerCommand};
use exactlog_core::ids::{MemberId, Partition, TopicId};
use exactlog_core::reply::{Applied, Reply};
use exactlog_core::state::{Answers, MarkKey};
use exactlog_storage::checkpoint::Image;
use exactlog_storage::error::StorageError;
use exactlog_storage::feed::Feed;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Bounds of the time after which a session ends of which nothing is heard.
const GRACE_LEAST: Duration = Duration::from_millis(100);
const GRACE_MOST: Duration = Duration::from_secs(300);

/// Most sessions at a time.
const SESSIONS_MAX: usize = 1024;

/// Most commands of one group.
const COMMANDS_MAX: usize = 100_000;

/// Why a session isn't served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// It is none, or none any more.
    NoSession,
    /// There are too many, or what it asks for makes no sense.
    Refused(String),
}

/// The half of a log that serves other processes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    log: Log,
    /// None: another node keeps the log.
    feed: Option<Arc<Feed>>,
    sessions: Arc<Sessions>,
    applied: Arc<Signal>,
}

/// All sessions of a node. They end with it.
#[derive(Debug)]
struct Sessions {
    log: Log,
    feed: Option<Arc<Feed>>,
    by_id: Mutex<BTreeMap<SessionId, Arc<Session>>>,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for session in std::mem::take(self.by_id.get_mut()).into_values() {
            session.end(&self.log.inner);
        }
        if let Some(feed) = &self.feed {
            feed.stop();
        }
    }
}

/// Whoever works on the log from elsewhere.
#[derive(Debug)]
pub(crate) struct Session {
    members: Mutex<Members>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Members {
    groups: BTreeMap<MemberId, String>,
    has_ended: bool,
}

#[derive(Debug)]
struct Held {
    grace: Duration,
    /// When something was heard of it.
    heard: Instant,
    /// The last group, and what became of it.
    last: Option<(u64, Arc<Outcome>)>,
}

type Outcome = Slot<Result<Vec<u64>, Error>>;

/// A group of commands that are written together, for a session.
#[derive(Debug)]
pub(crate) struct Together {
    pub(crate) commands: Vec<Command>,
    pub(crate) session: Weak<Session>,
    pub(crate) responder: Responder<Vec<u64>>,
}

/// What its commands came to, as far as that is known.
#[derive(Debug)]
pub(crate) struct Parts {
    session: Weak<Session>,
    left: usize,
    lsns: Vec<u64>,
    responder: Option<Responder<Vec<u64>>>,
}

impl Together {
    /// Its commands, and who is told what they came to.
    pub(crate) fn into_parts(self) -> (Vec<Command>, Arc<Mutex<Parts>>) {
        let Together { commands, session, responder } = self;
        let (left, responder) = (commands.len(), Some(responder));
        (commands, Arc::new(Mutex::new(Parts { session, left, lsns: Vec::new(), responder })))
    }
}

impl Parts {
    /// One of them was applied. Behind the last one there is somebody to be answered.
    pub(crate) fn applied(&mut self, inner: &Inner, lsn: u64, joins: Option<&str>, applied: &Applied) {
        if let (Reply::Joined { member, .. }, Some(group)) = (&applied.reply, joins) {
            inner.members.joined(*member, inner.monotonic_ms());
            match self.session.upgrade() {
                Some(session) => session.joined(inner, *member, group),
                None => leave(inner, group, *member),
            }
        }
        self.lsns.push(lsn);
        self.left -= 1;
        if self.left == 0
            && let Some(responder) = self.responder.take()
        {
            responder.answer(Ok(std::mem::take(&mut self.lsns)));
        }
    }

    /// None of them was.
    pub(crate) fn refused(&mut self, error: &Error) {
        if let Some(responder) = self.responder.take() {
            responder.answer(Err(error.clone()));
        }
    }
}

fn leave(inner: &Inner, group: &str, member: MemberId) {
    inner.members.leave(Leaving { group: group.to_string(), member, fenced: true });
    inner.queue.nudge();
}

impl Session {
    fn joined(&self, inner: &Inner, member: MemberId, group: &str) {
        let mut members = self.members.lock();
        match members.has_ended {
            true => leave(inner, group, member),
            false => _ = members.groups.insert(member, group.to_string()),
        }
    }

    /// Its members are those of nobody from here on.
    fn end(&self, inner: &Inner) {
        let groups = {
            let mut members = self.members.lock();
            members.has_ended = true;
            std::mem::take(&mut members.groups)
        };
        for (member, group) in groups {
            tracing::warn!(event = "member.lost", group, %member, "fenced: its process isn't heard of any more");
            leave(inner, &group, member);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let held = self.held.lock();
        let is_settled = held.last.as_ref().is_none_or(|(_, outcome)| outcome.peek().is_some());
        is_settled && now.saturating_duration_since(held.heard) > held.grace
    }
}

impl Host {
    /// That of a log of this process. One that a node keeps serves nobody: whoever comes is to go to that.
    pub fn new(log: &Log) -> Host {
        let feed = log.inner.hold().map(|shard| shard.feed());
        let applied = Arc::new(Signal::default());
        log.inner.follow_by(&applied);
        let by_id = Mutex::default();
        let sessions = Arc::new(Sessions { log: log.clone(), feed: feed.clone(), by_id });
        Host { log: log.clone(), feed, sessions, applied }
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`HostError::Refused`] if there are too many.
    pub fn greet(&self, grace: Duration) -> Result<Welcome, HostError> {
        if self.feed.is_none() {
            let keeper = self.log.inner.location();
            return Err(HostError::Refused(format!("the log is kept by {keeper}: connect to that")));
        }
        let mut id = [0; 16];
        let mut random = random_from_system();
        id.chunks_exact_mut(8).for_each(|half| half.copy_from_slice(&random().to_le_bytes()));
        let session = SessionId(id);
        let grace = grace.clamp(GRACE_LEAST, GRACE_MOST);
        let held = Mutex::new(Held { grace, heard: Instant::now(), last: None });
        {
            let mut sessions = self.sessions.by_id.lock();
            if sessions.len() >= SESSIONS_MAX {
                return Err(HostError::Refused(format!("{SESSIONS_MAX} processes work on the log already")));
            }
            sessions.insert(session, Arc::new(Session { members: Mutex::default(), held }));
        }
        let inner = &self.log.inner;
        let (group_bytes_max, command_bytes_max) = (inner.group_bytes_max, inner.command_bytes_max);
        Ok(Welcome { session, group_bytes_max, command_bytes_max })
    }

    /// The state of the log as of now. What comes behind it is among the [`changes`](Host::changes).
    ///
    /// # Errors
    /// [`HostError`].
    pub fn state(&self, session: SessionId) -> Result<Pictured, HostError> {
        self.session(session)?;
        let Some(shard) = self.log.inner.hold() else { return Err(HostError::NoSession) };
        let (term, state) = (shard.term(), shard.follow_from_here());
        drop(shard);
        let image = Image::of_state(state).map_err(|error| HostError::Refused(error.to_string()))?;
        Ok(Pictured { term, image })
    }

    /// What has happened behind a position; `None`: it is none that can be gone on from. With the time of the log, ms
    /// since 1970.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn changes(
        &self,
        session: SessionId,
        (term, lsn): (u32, u64),
        bytes_max: usize,
    ) -> Result<Changes, HostError> {
        self.session(session)?;
        let commands = self.feed.as_ref().and_then(|feed| feed.since(term, lsn, bytes_max));
        Ok(Changes { commands, now_ms: self.log.inner.log_ms() })
    }

    /// How often something has happened. Taken before looking, so that nothing is missed.
    pub fn so_far(&self) -> u64 {
        self.applied.rung()
    }

    /// Waits until something has happened since, or the log has failed or was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn after(&self, so_far: u64) {
        self.applied.wait(so_far).await;
    }

    /// As [`after`](Host::after), blocking the thread, for at most so long.
    pub fn blocking_after(&self, so_far: u64, wait: Duration) {
        self.applied.blocking_wait(so_far, Instant::now().checked_add(wait));
    }

    /// Has a group of commands ordered, whole or not at all; of each number the first group counts.
    ///
    /// # Errors
    /// [`HostError`].
    ///
    /// # Cancel safety
    /// Dropped behind its first poll the group is on its way; whoever comes again with the number is told.
    pub async fn submit(
        &self,
        session: SessionId,
        number: u64,
        group: Vec<Sent>,
    ) -> Result<Submitted, HostError> {
        let session = self.session(session)?;
        if let Some(outcome) = known(&session, number)? {
            return Ok(told(outcome.value().await));
        }
        let commands = match self.admit(group) {
            Ok(commands) => commands,
            Err(reason) => return Ok(Submitted::Never(reason)),
        };
        let bytes = commands.iter().map(crate::writer::bytes_of).sum();
        let room = self.log.inner.queue.room();
        let claim = match room.take(bytes).await {
            Ok(reserved) => reserved.claim(),
            Err(error) => return Ok(told(&Err(error))),
        };
        let Some(outcome) = self.queue(&session, number, commands, claim)? else {
            return Ok(Submitted::NotNow(Error::Closed.to_string()));
        };
        let submitted = told(outcome.value().await);
        self.hear(&session);
        Ok(submitted)
    }

    /// Puts a group behind those before it; where its outcome will be. Nothing: the log is closed.
    fn queue(
        &self,
        session: &Arc<Session>,
        number: u64,
        commands: Vec<Command>,
        claim: Claim,
    ) -> Result<Option<Arc<Outcome>>, HostError> {
        let mut held = session.held.lock();
        // The same may have come meanwhile, by another connection.
        if let Some(outcome) = found(&held, number)? {
            return Ok(Some(outcome));
        }
        // What isn't queued is dropped, which would say that the outcome is unknown.
        if self.is_closed() {
            return Ok(None);
        }
        let outcome: Arc<Outcome> = Arc::default();
        let responder = Responder::new(outcome.clone(), Some(claim));
        let together = Together { commands, session: Arc::downgrade(session), responder };
        if !Queue::push(&self.log.inner.queue, Work::Together(Box::new(together))) {
            return Ok(None);
        }
        held.last = Some((number, outcome.clone()));
        Ok(Some(outcome))
    }

    /// Batches of a partition from the one that holds an offset on, up to so many bytes, and at least one if there is
    /// one.
    ///
    /// # Errors
    /// What is wrong with the file that had to be read for it.
    pub fn read(&self, partition: Partition, offset: u64, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        Ok(self.log.inner.read(|reader| reader.read(partition, offset, bytes_max))?)
    }

    /// Offset and timestamp of the first record at or after a time, ms since 1970.
    ///
    /// # Errors
    /// As [`read`](Host::read).
    pub fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, Error> {
        Ok(self.log.inner.read(|reader| reader.first_at_or_after(partition, timestamp_ms))?)
    }

    /// The greatest timestamp of a partition, ms since 1970.
    ///
    /// # Errors
    /// As [`read`](Host::read).
    pub fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, Error> {
        Ok(self.log.inner.read(|reader| reader.greatest_timestamp_ms(partition))?)
    }

    /// Which of these marks lie on disk, and where they were set.
    ///
    /// # Errors
    /// As [`read`](Host::read).
    pub fn marks(&self, keys: &[MarkKey]) -> Result<Answers, Error> {
        let inner = &self.log.inner;
        loop {
            let manifest = inner.state.read().dedup.runs().clone();
            let marks = inner.marks.read().clone();
            match marks.find_all(&manifest, keys) {
                Ok(found) => return Ok(Answers::new(keys.iter().copied().zip(found).collect())),
                // A run may have gone while it was looked into.
                Err(_) if !Arc::ptr_eq(&manifest, inner.state.read().dedup.runs()) => {}
                Err(error) => return Err(Error::Storage(error)),
            }
        }
    }

    /// Ends a session: its members leave.
    pub fn leave(&self, session: SessionId) {
        let ended = self.sessions.by_id.lock().remove(&session);
        if let Some(ended) = ended {
            ended.end(&self.log.inner);
            self.rest();
        }
    }

    /// Ends the sessions of which nothing was heard for too long. To be called several times a second.
    pub fn look(&self) {
        let now = Instant::now();
        let over: Vec<Arc<Session>> = {
            let mut sessions = self.sessions.by_id.lock();
            let over: Vec<SessionId> =
                sessions.iter().filter(|(_, it)| it.is_over(now)).map(|(id, _)| *id).collect();
            over.iter().filter_map(|id| sessions.remove(id)).collect()
        };
        if !over.is_empty() {
            over.iter().for_each(|session| session.end(&self.log.inner));
            self.rest();
        }
    }

    /// Whether a session is there.
    pub fn has(&self, session: SessionId) -> bool {
        self.sessions.by_id.lock().contains_key(&session)
    }

    /// How many processes work on the log.
    pub fn sessions(&self) -> usize {
        self.sessions.by_id.lock().len()
    }

    /// Nobody follows any more: nothing has to be kept for them.
    fn rest(&self) {
        let sessions = self.sessions.by_id.lock();
        if sessions.is_empty()
            && let Some(feed) = &self.feed
        {
            feed.stop();
        }
    }

    fn is_closed(&self) -> bool {
        self.log.inner.closed.load(Ordering::Acquire)
    }

    fn session(&self, id: SessionId) -> Result<Arc<Session>, HostError> {
        let session = self.sessions.by_id.lock().get(&id).cloned().ok_or(HostError::NoSession)?;
        self.hear(&session);
        Ok(session)
    }

    fn hear(&self, session: &Session) {
        session.held.lock().heard = Instant::now();
    }

    /// The commands of a group, as strictly as the journal reads them, and by the rules of the log's own handles.
    fn admit(&self, group: Vec<Sent>) -> Result<Vec<Command>, String> {
        if group.is_empty() || group.len() > COMMANDS_MAX {
            return Err(format!("a group of {} commands: it has 1 to {COMMANDS_MAX}", group.len()));
        }
        let bytes: usize = group.iter().map(Sent::len_bytes).sum();
        let max = self.log.inner.command_bytes_max.max(self.log.inner.group_bytes_max);
        if group.len() > 1 && bytes > max {
            return Err(format!("a group of {bytes} bytes is over the limit of {max}"));
        }
        group.into_iter().map(|sent| self.admit_one(sent)).collect()
    }

    fn admit_one(&self, sent: Sent) -> Result<Command, String> {
        let (len, max) = (sent.len_bytes(), self.log.inner.command_bytes_max);
        if len > max {
            return Err(format!("a command of {len} bytes is over the limit of {max}"));
        }
        let Sent { kind, version, head, bodies } = sent;
        let bodies = joined(bodies);
        if !codec::verify(kind, version, &head, &bodies) {
            return Err("a batch whose checksum doesn't hold".into());
        }
        let (_, mut command) =
            codec::decode(kind, version, &head, &bodies).map_err(|error| error.to_string())?;
        if !is_taken(&command) {
            return Err(format!("{} is the log's own to say", command.kind_name()));
        }
        if let Command::CreateTopic { name, config, .. } | Command::CreateTable { name, config, .. } =
            &command
        {
            self.log.check_new_topic(name, config).map_err(|error| error.to_string())?;
        }
        if let Command::AlterTopic { config, .. } = &command {
            storing::check_setting(config).map_err(|error| error.to_string())?;
        }
        self.check_batches(&mut command)?;
        Ok(command)
    }

    /// Batches are what clients may send, and those that state a version of their topic's settings have its codec.
    fn check_batches(&self, command: &mut Command) -> Result<(), String> {
        let inner = &self.log.inner;
        // How long a batch may be is for `apply` to say, of that batch alone.
        let checked = |batch: &Batch| batch.check_client(usize::MAX);
        let stored = |topic: TopicId, by: u32, batch: &mut Batch| {
            checked(batch)?;
            let storing = inner.storing(topic).filter(|storing| storing.config_version == by);
            if let Some(storing) = storing.filter(|it| it.compression.codec().is_some()) {
                *batch = storing.stored(batch)?;
            }
            // By settings of another version it is refused.
            Ok(())
        };
        let all = match command {
            Command::Append { partition, config_version, batch, .. } => {
                stored(partition.topic, *config_version, batch)
            }
            Command::Dedup(request) => match &mut **request {
                Dedup::Append { partition, config_version, batch, .. } => {
                    stored(partition.topic, *config_version, batch)
                }
                _ => Ok(()),
            },
            Command::Timer(request) => match &**request {
                TimerCommand::Set { timer, .. } => checked(&timer.batch),
                _ => Ok(()),
            },
            Command::Commit(commit) => {
                let sent = commit.batches.iter().map(|(_, batch)| batch);
                let set = commit.timers.set.iter().map(|timer| &timer.batch);
                let written = commit.table_writes.iter().map(|it| &it.batch);
                sent.chain(set).chain(written).try_for_each(checked)
            }
            _ => Ok(()),
        };
        all.map_err(|error| error.to_string())
    }
}

impl Sent {
    /// What it takes, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.head.len() + self.bodies.iter().map(Bytes::len).sum::<usize>()
    }
}

fn joined(mut bodies: Vec<Bytes>) -> Bytes {
    match bodies.len() {
        0 => Bytes::new(),
        1 => bodies.remove(0),
        _ => {
            let mut all = BytesMut::with_capacity(bodies.iter().map(Bytes::len).sum());
            bodies.iter().for_each(|body| all.extend_from_slice(body));
            all.freeze()
        }
    }
}

/// What a process elsewhere may say: not that the log was opened, nor what time does to it, nor what becomes of timers
/// and of runs of marks.
fn is_taken(command: &Command) -> bool {
    match command {
        Command::Open | Command::Tick | Command::Transactional(_) => false,
        Command::Config(change) => !matches!(change, ConfigChange::DedupKey { .. }),
        Command::Dedup(request) => !matches!(**request, Dedup::RunReady(_)),
        Command::Timer(request) => {
            matches!(**request, TimerCommand::Set { .. } | TimerCommand::Cancel { .. })
        }
        _ => true,
    }
}

fn known(session: &Session, number: u64) -> Result<Option<Arc<Outcome>>, HostError> {
    found(&session.held.lock(), number)
}

fn found(held: &Held, number: u64) -> Result<Option<Arc<Outcome>>, HostError> {
    match &held.last {
        Some((last, outcome)) if *last == number => Ok(Some(outcome.clone())),
        Some((last, outcome)) if *last > number || outcome.peek().is_none() => {
            Err(HostError::Refused(format!("group {number} comes behind group {last}")))
        }
        _ => Ok(None),
    }
}

fn told(outcome: &Result<Vec<u64>, Error>) -> Submitted {
    match outcome {
        Ok(lsns) => Submitted::At(lsns.clone()),
        Err(Error::Storage(StorageError::DiskFull { path, needed, free })) => {
            Submitted::Full { path: path.clone(), needed: *needed, free: *free }
        }
        Err(Error::Unknown(error)) => Submitted::Unknown(error.to_string()),
        Err(error @ (Error::Closed | Error::Storage(StorageError::Poisoned { .. }))) => {
            Submitted::NotNow(error.to_string())
        }
        Err(error) => Submitted::Never(error.to_string()),
    }
}
