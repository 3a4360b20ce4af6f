//! A log that a node of another process keeps: what this process has of it, and how it goes on (ADR 42).
//!
//! ```text
//!   node:     commands -> journal -> State::apply -> feed of heads ----------+
//!   here:     the same State::apply over the same heads  <- follower thread <-+      so all that is asked of the
//!             state is asked here, and each command has the answer that the node has given
//!   desk:     a group of commands -> Link::submit -> the node's desk -> lsns
//!             -> the follower has come so far -> answers
//!   records:  Link::read, where they are wanted
//! ```
//!
//! It isn't: a copy of the log. There is no record here, nothing is on disk, and nothing is decided here but what the
//! state decides.
//!
//! Invariants
//!   * one group is on its way at a time, under a number of its own: however often it is sent, it is taken once
//!   * who is answered finds what was done in the state
//!   * what became of a group that was lost with the node is asked of the state, by what names its commands; what
//!     nothing names is unknown, and never sent again
//!   * the state is one that the node had: a follower that has lost its place takes it anew, as a whole

use crate::error::Error;
use crate::log::Inner;
use bytes::Bytes;
use exactlog_core::batch::Batch;
use exactlog_core::codec;
use exactlog_core::command::{Command, Dedup, TimerCommand};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::{Applied, Reply};
use exactlog_core::state::{Answers, MarkKey, State};
use exactlog_storage::checkpoint::Image;
use exactlog_storage::error::StorageError;
use exactlog_storage::feed::Fed;
use exactlog_storage::shard::{Shard, Submission};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLockWriteGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the node may keep a question for changes before it says that there are none.
const CHANGES_WAIT: Duration = Duration::from_secs(1);
/// How long it is waited before a node that can't be reached is tried again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a session of a node is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// What a node says to who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// His session.
    pub session: SessionId,
    /// Most bytes of commands in one group; a larger command is a group of its own.
    pub group_bytes_max: usize,
    /// Most bytes of one command.
    pub command_bytes_max: usize,
}

/// A state of the node, and the term under which its commands are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictured {
    /// The term.
    pub term: u32,
    /// What [`Link::state`] hands on as it is.
    pub image: Bytes,
}

/// What has happened behind a position.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The commands. `None`: the position is none that can be gone on from, and the state has to be taken anew.
    pub commands: Option<Vec<Fed>>,
    /// The time of the node's log, ms since 1970.
    pub now_ms: i64,
}

/// A command on its way to the node, as [`Command`]s are kept in journals.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which command.
    pub kind: u8,
    /// Version of its encoding.
    pub version: u8,
    /// Everything but the bodies of its batches.
    pub head: Bytes,
    /// The bodies, in their order.
    pub bodies: Vec<Bytes>,
}

/// What became of a group.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// All of it was ordered, at these positions. A command may have been refused: its reply says so.
    At(Vec<u64>),
    /// Nothing of it was written, for want of space.
    Full {
        /// The directory that is full.
        path: String,
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Nothing of it was written, and the same may be taken later: the log of the node has failed, or is closed.
    NotNow(String),
    /// Nothing of it was written: it isn't what a node takes.
    Never(String),
    /// The log of the node has failed while it was written: when it is open again, it knows.
    Unknown(String),
}

/// Why a [`Link`] has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The node can't be reached, or the connection ended before the answer was there.
    Broken(String),
    /// The node doesn't know the session: it was away for too long, or the node was started again.
    NoSession,
    /// The node has answered that it can't, and would answer the same again.
    Refused(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Broken(reason) | LinkError::Refused(reason) => f.write_str(reason),
            LinkError::NoSession => f.write_str("the node doesn't know the session"),
        }
    }
}

/// The way to a node. Each call blocks its thread for a round trip, from any thread; a connection that broke is made
/// anew by the next call.
pub trait Link: Send + Sync + fmt::Debug + 'static {
    /// Where the node is, for messages.
    fn peer(&self) -> String;

    /// Begins a session. `grace`: how long its members stay in their groups while nothing is heard of it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] by a node that doesn't speak this protocol.
    fn greet(&self, grace: Duration) -> Result<Welcome, LinkError>;

    /// The state of the node as of now. Nothing of what comes behind it is missed.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn state(&self, session: SessionId) -> Result<Pictured, LinkError>;

    /// What has happened behind a position, waiting so long for something.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn changes(&self, session: SessionId, term: u32, lsn: u64, wait: Duration) -> Result<Changes, LinkError>;

    /// Has a group ordered, whole or not at all. Numbers count from 1; of one number the first group counts, and is
    /// answered again.
    ///
    /// # Errors
    /// See [`LinkError`]: the group may have been taken all the same.
    fn submit(&self, session: SessionId, number: u64, group: &[Sent]) -> Result<Submitted, LinkError>;

    /// Batches of a partition from the one that holds an offset on, up to so many bytes, and at least one if there is
    /// one.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn read(&self, partition: Partition, offset: u64, bytes_max: usize) -> Result<Vec<Batch>, LinkError>;

    /// Offset and timestamp of the first record at or after a time, ms since 1970.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, LinkError>;

    /// The greatest timestamp of a partition, ms since 1970.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, LinkError>;

    /// Which of these marks lie on disk, and where they were set.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn marks(&self, keys: &[MarkKey]) -> Result<Answers, LinkError>;

    /// Ends a session: its members leave at once.
    fn leave(&self, session: SessionId);

    /// Ends whatever waits for an answer, and all that is asked later.
    fn close(&self);
}

/// Where a log is kept.
pub(crate) enum Home {
    /// By this process.
    Here(Box<Mutex<Shard>>),
    /// By a node.
    Far(Arc<Far>),
}

/// This process's half of a log that a node keeps.
pub(crate) struct Far {
    link: Arc<dyn Link>,
    grace: Duration,
    command_bytes_max: usize,
    now: Mutex<Now>,
    changed: Condvar,
    /// Groups that have changed, for the desk.
    groups: Mutex<BTreeSet<String>>,
}

/// Where it stands.
#[derive(Debug)]
struct Now {
    session: SessionId,
    /// Counts the states that were taken as a whole: commands in between weren't seen.
    pictures: u64,
    term: u32,
    lsn: u64,
    /// Of the last group.
    number: u64,
    /// What was applied while a group is on its way; `None`: none is.
    applied: Option<BTreeMap<u64, Applied>>,
    /// What is on its way is waited for, but not a node that is away.
    is_ending: bool,
    is_closing: bool,
    /// Why the node can't be reached, while it can't.
    trouble: Option<String>,
}

impl Now {
    /// Whether a node that is away isn't waited for any more.
    fn is_over(&self) -> bool {
        self.is_ending || self.is_closing
    }
}

/// What a first look at a node has found.
pub(crate) struct Begun {
    pub(crate) far: Arc<Far>,
    pub(crate) state: State,
    pub(crate) welcome: Welcome,
}

impl Far {
    /// Comes to a node, and takes its state.
    pub(crate) fn begin(link: Arc<dyn Link>, grace: Duration) -> Result<Begun, Error> {
        let failed = |error: LinkError| Error::Connection { peer: link.peer(), reason: error.to_string() };
        let welcome = link.greet(grace).map_err(failed)?;
        let pictured = link.state(welcome.session).map_err(failed)?;
        let state = Image::read_state(&pictured.image)?;
        let now = Now {
            session: welcome.session,
            pictures: 1,
            term: pictured.term,
            lsn: state.lsn,
            number: 0,
            applied: None,
            is_ending: false,
            is_closing: false,
            trouble: None,
        };
        let far = Far {
            link,
            grace,
            command_bytes_max: welcome.command_bytes_max,
            now: Mutex::new(now),
            changed: Condvar::new(),
            groups: Mutex::default(),
        };
        Ok(Begun { far: Arc::new(far), state, welcome })
    }

    pub(crate) fn peer(&self) -> String {
        self.link.peer()
    }

    pub(crate) fn term(&self) -> u32 {
        self.now.lock().term
    }

    /// Groups that have changed since it was asked last.
    pub(crate) fn take_groups(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.groups.lock())
    }

    /// The log is being closed: what is on its way is waited for as long as the node is there.
    pub(crate) fn end(&self) {
        self.now.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// Wakes up everybody who waits for the node. What is on its way is unknown from here on.
    pub(crate) fn close(&self) {
        let session = {
            let mut now = self.now.lock();
            if std::mem::replace(&mut now.is_closing, true) {
                return;
            }
            self.changed.notify_all();
            now.session
        };
        if self.now.lock().trouble.is_none() {
            self.link.leave(session);
        }
        self.link.close();
    }

    /// Asks the node for what can be asked again and again, until it answers.
    pub(crate) fn ask<T>(
        &self,
        what: &'static str,
        question: impl Fn(&dyn Link) -> Result<T, LinkError>,
    ) -> Result<T, StorageError> {
        let mut pause = PAUSE;
        loop {
            match question(&*self.link) {
                Ok(answer) => return Ok(answer),
                Err(LinkError::Refused(reason)) => return Err(self.failure(what, reason)),
                Err(error @ (LinkError::Broken(_) | LinkError::NoSession)) => {
                    if self.rest(&mut pause) {
                        return Err(self.failure(what, error.to_string()));
                    }
                }
            }
        }
    }

    fn failure(&self, what: &'static str, reason: String) -> StorageError {
        StorageError::io(what, self.link.peer(), io::Error::other(reason))
    }

    /// Waits for so long, and longer the next time; whether the log is being closed.
    fn rest(&self, pause: &mut Duration) -> bool {
        let mut now = self.now.lock();
        if !now.is_over() {
            self.changed.wait_for(&mut now, *pause);
        }
        *pause = (2 * *pause).min(PAUSE_MAX);
        now.is_over()
    }

    /// Has a group ordered by the node, and waits until the state here has come so far.
    ///
    /// # Errors
    /// [`Error::Unknown`]: it may have been ordered. Any other: nothing of it was.
    pub(crate) fn execute(&self, submissions: &[Submission]) -> Result<Vec<Applied>, Error> {
        let encode = |submission: &Submission| {
            let encoded = codec::encode(0, &submission.command);
            let bodies = encoded.bodies.into_iter().collect();
            let (kind, version, head) = (encoded.kind, encoded.version, encoded.head.into());
            Sent { kind, version, head, bodies }
        };
        let group: Vec<Sent> = submissions.iter().map(encode).collect();
        let limit = self.command_bytes_max as u64;
        let longest = group.iter().map(|sent| sent.len_bytes() as u64).max().unwrap_or(0);
        if longest > limit {
            // As the journal says it: nothing was written.
            return Err(Error::Storage(StorageError::TooLarge { what: "a command", found: longest, limit }));
        }
        let is_repeatable = submissions.iter().all(|submission| is_repeatable(&submission.command));
        self.now.lock().applied = Some(BTreeMap::new());
        let done = self.order(&group, is_repeatable);
        self.now.lock().applied = None;
        done
    }

    fn order(&self, group: &[Sent], is_repeatable: bool) -> Result<Vec<Applied>, Error> {
        let mut pause = PAUSE;
        let (mut session, mut number, mut pictures) = self.next_number();
        let unknown = |reason: String| Error::Unknown(self.failure("write to", reason));
        // Whether it may have been taken under a number that says nothing any more.
        let mut is_lost = false;
        loop {
            let why = match self.link.submit(session, number, group) {
                Ok(Submitted::At(lsns)) => match self.applied(&lsns, pictures)? {
                    Some(applied) => return Ok(applied),
                    None => "the state was taken anew behind it".to_string(),
                },
                Ok(Submitted::Full { path, needed, free }) => {
                    return Err(Error::Storage(StorageError::DiskFull { path, needed, free }));
                }
                Ok(Submitted::Never(reason)) => {
                    return Err(Error::Storage(self.failure("send to", reason)));
                }
                Ok(Submitted::NotNow(reason)) => {
                    if self.rest(&mut pause) {
                        return Err(Error::Closed);
                    }
                    tracing::debug!(%reason, "the node takes nothing at the moment");
                    (session, number, pictures) = self.next_number();
                    continue;
                }
                Ok(Submitted::Unknown(reason)) => {
                    self.wait_for_picture(pictures).map_err(|()| unknown(reason.clone()))?;
                    reason
                }
                Err(LinkError::Refused(reason)) => {
                    return Err(Error::Storage(self.failure("send to", reason)));
                }
                Err(LinkError::Broken(reason)) => {
                    // Under the same number it is taken once.
                    if self.rest(&mut pause) {
                        return Err(unknown(reason));
                    }
                    is_lost = true;
                    continue;
                }
                Err(LinkError::NoSession) => {
                    self.wait_for_session(session)
                        .map_err(|()| unknown("the log was closed meanwhile".into()))?;
                    if !is_lost {
                        // The first to be told that the session is gone: it was never taken.
                        (session, number, pictures) = self.next_number();
                        continue;
                    }
                    "the node was started again while it was on its way".into()
                }
            };
            if !is_repeatable {
                return Err(unknown(why));
            }
            // What names each of its commands tells the node what it has already.
            is_lost = false;
            (session, number, pictures) = self.next_number();
        }
    }

    fn next_number(&self) -> (SessionId, u64, u64) {
        let mut now = self.now.lock();
        now.number += 1;
        (now.session, now.number, now.pictures)
    }

    /// What these commands came to, when they were applied here; nothing if they were passed over by a new state.
    fn applied(&self, lsns: &[u64], pictures: u64) -> Result<Option<Vec<Applied>>, Error> {
        let last = lsns.last().copied().unwrap_or(0);
        let mut now = self.now.lock();
        loop {
            if now.lsn >= last || now.pictures != pictures {
                let kept = now.applied.as_mut();
                let taken = kept.and_then(|kept| lsns.iter().map(|lsn| kept.remove(lsn)).collect());
                if taken.is_some() || now.pictures != pictures {
                    return Ok(taken);
                }
                let reason = format!("the node says lsn {last}, and nothing of it was applied here");
                return Err(Error::Unknown(self.failure("write to", reason)));
            }
            if now.is_closing || (now.is_ending && now.trouble.is_some()) {
                let reason = "the log was closed before the answer was there".to_string();
                return Err(Error::Unknown(self.failure("write to", reason)));
            }
            self.changed.wait(&mut now);
        }
    }

    fn wait_for_picture(&self, before: u64) -> Result<(), ()> {
        self.wait_until(|now| now.pictures != before)
    }

    fn wait_for_session(&self, before: SessionId) -> Result<(), ()> {
        self.wait_until(|now| now.session != before)
    }

    fn wait_until(&self, is_so: impl Fn(&Now) -> bool) -> Result<(), ()> {
        let mut now = self.now.lock();
        while !is_so(&now) {
            if now.is_over() {
                return Err(());
            }
            self.changed.wait(&mut now);
        }
        Ok(())
    }

    /// Notes whether the node can be reached, and says so once.
    fn note(&self, trouble: Option<&LinkError>) {
        let mut now = self.now.lock();
        match (trouble, &now.trouble) {
            (Some(error), None) => {
                tracing::warn!(event = "node.lost", node = %self.link.peer(), %error, "the node is waited for");
            }
            (None, Some(_)) => {
                tracing::info!(event = "node.found", node = %self.link.peer(), "the node is there again");
            }
            _ => {}
        }
        now.trouble = trouble.map(LinkError::to_string);
        self.changed.notify_all();
    }
}

/// Whether doing it twice is doing it once: its name, or its place in an order, tells that it was done.
fn is_repeatable(command: &Command) -> bool {
    match command {
        Command::Append { batch, .. } => batch.producer().is_some(),
        Command::Timer(command) => !matches!(**command, TimerCommand::Set { .. }),
        Command::Dedup(request) => !matches!(**request, Dedup::Forget { .. }),
        // A second one would find nothing to delete, and say so.
        Command::DeleteTopic { .. } | Command::DeleteOffsets { .. } => false,
        // Members of a node that was started again, or of a session that is gone, are none any more.
        Command::JoinGroup { .. } | Command::LeaveGroup { .. } | Command::ReleasePartitions { .. } => true,
        Command::Commit(_) | Command::CommitOffsets { .. } | Command::InitProducer { .. } => true,
        Command::CreateTopic { .. } | Command::CreateTable { .. } | Command::CreatePartitions { .. } => true,
        Command::AlterTopic { .. } | Command::Trim { .. } | Command::Config(_) => true,
        Command::Open | Command::Tick | Command::Transactional(_) => false,
    }
}

/// Follows the node until the log is closed.
pub(crate) fn follow(inner: &Inner) {
    let Some(far) = inner.far() else { return };
    let mut pause = PAUSE;
    loop {
        let (session, term, lsn) = {
            let now = far.now.lock();
            if now.is_closing {
                return;
            }
            (now.session, now.term, now.lsn)
        };
        let wait = CHANGES_WAIT.min(far.grace / 3);
        let followed = match far.link.changes(session, term, lsn, wait) {
            Ok(Changes { commands: Some(commands), now_ms }) => {
                inner.timing.publish(now_ms.saturating_sub(inner.monotonic_ms()));
                match take_in(inner, far, &commands) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        tracing::error!(event = "node.diverged", %error, "the state is taken anew");
                        begin_anew(inner, far, session)
                    }
                }
            }
            Ok(Changes { commands: None, .. }) => begin_anew(inner, far, session),
            Err(LinkError::NoSession) => {
                let welcome = far.link.greet(far.grace);
                welcome.and_then(|welcome| begin_anew(inner, far, welcome.session))
            }
            Err(error) => Err(error),
        };
        far.note(followed.as_ref().err());
        match followed {
            Ok(()) => pause = PAUSE,
            Err(_) if far.rest(&mut pause) => return,
            Err(_) => {}
        }
    }
}

/// Does here what the node has done, and rings whoever waits for it.
fn take_in(inner: &Inner, far: &Far, commands: &[Fed]) -> Result<(), StorageError> {
    if commands.is_empty() {
        return Ok(());
    }
    let mut rings = Rings::default();
    {
        let mut state = inner.state.write();
        let mut all = Vec::with_capacity(commands.len());
        for fed in commands {
            let (command, applied) = fed.apply(&mut state)?;
            rings.note(&state, &command, &applied);
            all.push((fed.lsn, applied));
        }
        inner.partition_counts.refresh(&state);
        drop(state);
        let mut now = far.now.lock();
        now.lsn = commands.last().map_or(now.lsn, |last| last.lsn);
        if let Some(kept) = &mut now.applied {
            kept.extend(all);
        }
        far.changed.notify_all();
    }
    rings.ring(inner, far);
    Ok(())
}

/// Takes the state of the node as a whole.
fn begin_anew(inner: &Inner, far: &Far, session: SessionId) -> Result<(), LinkError> {
    let pictured = far.link.state(session)?;
    let fresh = Image::read_state(&pictured.image).map_err(|error| LinkError::Broken(error.to_string()))?;
    let mut state: RwLockWriteGuard<'_, State> = inner.state.write();
    let mut now: MutexGuard<'_, Now> = far.now.lock();
    (now.session, now.term, now.lsn) = (session, pictured.term, fresh.lsn);
    now.pictures += 1;
    *state = fresh;
    inner.partition_counts.refresh(&state);
    far.groups.lock().extend(state.groups.keys().cloned());
    drop((now, state));
    inner.term.store(pictured.term, Ordering::Release);
    far.changed.notify_all();
    inner.signals.ring_all();
    inner.queue.nudge();
    Ok(())
}

/// Who is to be rung.
#[derive(Default)]
struct Rings {
    topics: BTreeMap<TopicId, u64>,
    groups: BTreeSet<String>,
    all: bool,
}

impl Rings {
    fn note(&mut self, state: &State, command: &Command, applied: &Applied) {
        applied.touched().for_each(|partition| _ = self.topics.entry(partition.topic).or_default());
        let batches = command.batches();
        for placed in &applied.placements {
            let bytes = batches.get(placed.index as usize).map_or(0, |batch| batch.len_bytes() as u64);
            *self.topics.entry(placed.partition.topic).or_default() += bytes;
        }
        match command {
            Command::JoinGroup { group, .. }
            | Command::LeaveGroup { group, .. }
            | Command::ReleasePartitions { group, .. } => _ = self.groups.insert(group.clone()),
            Command::CreatePartitions { topic, .. } if !matches!(applied.reply, Reply::Refused(_)) => {
                let reads = |(_, group): &(&String, &Arc<exactlog_core::state::Group>)| {
                    group.members.values().any(|member| member.topics.contains(topic))
                };
                self.groups.extend(state.groups.iter().filter(reads).map(|(name, _)| name.clone()));
            }
            Command::DeleteTopic { .. } | Command::Open => self.all = true,
            _ => {}
        }
    }

    fn ring(self, inner: &Inner, far: &Far) {
        if !self.groups.is_empty() {
            far.groups.lock().extend(self.groups.iter().cloned());
            self.groups.iter().for_each(|group| inner.signals.ring_group(group));
            inner.queue.nudge();
        }
        inner.signals.ring_topics(&self.topics);
        if self.all {
            inner.signals.ring_all();
        }
    }
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Far").field("link", &self.link).finish_non_exhaustive()
    }
}
