//! The way to a node that keeps a log for other processes, and the log behind it (ADR 42).
//!
//! ```text
//!   connect -> Log                        the calls of the crate exactlog, as of a log of this process
//!     lane 1   NodeChanges, NodeState     one question behind the other, by the log's follower
//!     lane 2   NodeSubmit                 one group behind the other, by whoever writes
//!     lanes    NodeRead, NodeFind, ..     as many as are asked at a time
//! ```
//!
//! Its calls block their thread and need no runtime, so that whoever waits for one keeps nothing else from going on. A
//! lane is a connection that is made when it is used, and made anew when it broke; what was asked on it is asked
//! again by the log where that is right, never here.
//!
//! Invariants
//!   * an answer is taken for the request that it belongs to; a lane on which anything else came is given up
//!   * memory grows with bytes that were received, up to the limit of a frame

use bytes::{Bytes, BytesMut};
use exactlog::far::{
    Answers, Changes, Fed, Found, Link, LinkError, MarkKey, Pictured, Place, ScopeKey, Sent, SessionId,
    Submitted, Welcome,
};
use exactlog::wire::{Batch, HEADER_BYTES};
use exactlog::{DedupId, Error, Log, Partition, TopicId};
use exactlog_wire::code;
use exactlog_wire::error::Stranger;
use exactlog_wire::frame::FrameLimit;
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::node_changes::{Applied, MarkAnswer};
use exactlog_wire::messages::node_hello::{PROTOCOL_NEWEST, PROTOCOL_OLDEST};
use exactlog_wire::messages::node_submit::outcome;
use exactlog_wire::messages::{
    NodeBye, NodeChanges, NodeFind, NodeHello, NodeMarks, NodeRead, NodeState, NodeSubmit, node_bye,
    node_changes, node_find, node_hello, node_marks, node_read, node_state, node_submit,
};
use exactlog_wire::schema::Api;
use exactlog_wire::value::{Records, Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is read of a connection at once.
const READ_BYTES: usize = 64 * 1024;
/// Shorter parts of a request are written as one.
const JOINED_BYTES: usize = 64 * 1024;
/// Longest answer about changes, and longest part of a picture.
const CHANGES_BYTES: i32 = 1024 * 1024;
/// Largest picture of a state that is taken.
const PICTURE_BYTES_MAX: i64 = 4 * 1024 * 1024 * 1024;
/// Connections for reading that are kept while nobody reads.
const IDLE_LANES: usize = 8;

/// How a log of a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// What this process calls itself. Default: `exactlog`.
    pub client_id: String,
    /// How long to wait for a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long an answer may take before the connection counts as broken. Default: 30 s.
    pub request_timeout: Duration,
    /// How long consumers of this process stay in their groups while the node hears nothing of it, as Kafka's
    /// `session.timeout.ms`. Default: 10 s; the node takes 100 ms to 5 minutes.
    pub grace: Duration,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            client_id: "exactlog".to_string(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// The log that a node keeps, `HOST:PORT`, with the default options: what `exactlog serve` listens at. It is used
/// like one that this process has opened; when the node goes away it is waited for.
///
/// It blocks the thread until the state of the node is here.
///
/// # Errors
/// [`Error::Connection`] if nobody answers there, or it isn't a node of exactlog, or one of another release.
pub fn connect(address: &str) -> Result<Log, Error> {
    LogOptions::default().connect(address)
}

impl LogOptions {
    /// As [`connect`], with these options.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn connect(self, address: &str) -> Result<Log, Error> {
        let grace = self.grace;
        Log::builder().connect(self.link(address), grace)
    }

    /// The way to the node alone, for [`Builder::connect`](exactlog::Builder::connect) with settings of the log's
    /// own. Nobody is asked for anything yet.
    pub fn link(self, address: &str) -> Arc<dyn Link> {
        let link = NodeLink {
            address: address.to_string(),
            options: self,
            follower: Mutex::new(Lane::new()),
            writer: Mutex::new(Lane::new()),
            readers: Mutex::default(),
            open: Arc::default(),
        };
        Arc::new(link)
    }
}

#[derive(Debug)]
struct NodeLink {
    address: String,
    options: LogOptions,
    follower: Mutex<Lane>,
    writer: Mutex<Lane>,
    readers: Mutex<Vec<Lane>>,
    open: Arc<Open>,
}

/// Connections that are open, so that they can be ended while somebody waits at them.
#[derive(Debug, Default)]
struct Open {
    is_closed: AtomicBool,
    last: AtomicU64,
    streams: Mutex<BTreeMap<u64, TcpStream>>,
}

/// One connection, if there is one.
#[derive(Debug)]
struct Lane {
    stream: Option<Stream>,
    correlation_id: i32,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    open: Arc<Open>,
    socket: TcpStream,
    received: BytesMut,
}

impl Drop for Stream {
    fn drop(&mut self) {
        held(&self.open.streams).remove(&self.number);
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum AskError {
    Io(io::Error),
    /// None came for so long.
    Late(Duration),
    /// It isn't a node who answers: asking again doesn't help.
    Stranger(Stranger),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        AskError::Io(error)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    fn new() -> Lane {
        Lane { stream: None, correlation_id: 0 }
    }

    /// Asks, and waits for the answer. After any error the connection is given up.
    fn ask<A: Api>(
        &mut self,
        link: &NodeLink,
        wait: Duration,
        request: &A::Request,
    ) -> Result<A::Response, LinkError> {
        let asked = self.try_ask::<A>(link, wait, request);
        if asked.is_err() {
            self.stream = None;
        }
        asked.map_err(|error| match error {
            AskError::Io(error) => LinkError::Broken(format!("{}: {error}", A::NAME)),
            AskError::Late(waited) => {
                LinkError::Broken(format!("hasn't answered {} within {waited:?}", A::NAME))
            }
            AskError::Stranger(stranger) => LinkError::Refused(stranger.to_string()),
        })
    }

    fn try_ask<A: Api>(
        &mut self,
        link: &NodeLink,
        wait: Duration,
        request: &A::Request,
    ) -> Result<A::Response, AskError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(link.dial()?),
        };
        let patience = link.options.request_timeout + wait;
        // Which of the two says that time is up depends on the system.
        let or_late = |error: AskError| match error {
            AskError::Io(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
            {
                AskError::Late(patience)
            }
            error => error,
        };
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let client_id: Str = link.options.client_id.as_str().into();
        let parts = ask::<A>(A::VERSIONS.to, self.correlation_id, Some(client_id), request);
        let parts = parts.map_err(|_| io::Error::other("the request is longer than a frame can be"))?;
        stream.write(&parts).map_err(|error| or_late(error.into()))?;
        stream.socket.set_read_timeout(Some(patience))?;
        let frame = stream.frame().map_err(or_late)?;
        let (found, response) = answer::<A>(A::VERSIONS.to, frame).map_err(io::Error::other)?;
        match found == self.correlation_id {
            true => Ok(response),
            false => {
                let expected = self.correlation_id;
                Err(io::Error::other(format!("the answer to {found}, not to {expected}")).into())
            }
        }
    }
}

impl Stream {
    fn write(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut joined = Vec::new();
        for part in parts {
            if part.len() > JOINED_BYTES {
                self.socket.write_all(&joined)?;
                joined.clear();
                self.socket.write_all(part)?;
                continue;
            }
            joined.extend_from_slice(part);
            if joined.len() > JOINED_BYTES {
                self.socket.write_all(&joined)?;
                joined.clear();
            }
        }
        self.socket.write_all(&joined)
    }

    fn frame(&mut self) -> Result<Bytes, AskError> {
        /// As a node takes of requests.
        const LIMIT: FrameLimit = FrameLimit { max: 100 * 1024 * 1024 };
        let mut piece = [0; READ_BYTES];
        loop {
            let next = LIMIT.next(&mut self.received).map_err(|error| match error.stranger() {
                Some(stranger) => AskError::Stranger(stranger),
                None => AskError::Io(io::Error::other(error)),
            })?;
            if let Some(frame) = next {
                return Ok(frame);
            }
            match self.socket.read(&mut piece)? {
                0 => return Err(AskError::Io(io::ErrorKind::UnexpectedEof.into())),
                read => self.received.extend_from_slice(&piece[..read]),
            }
        }
    }
}

impl NodeLink {
    fn dial(&self) -> io::Result<Stream> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the log was closed");
        if self.open.is_closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.options.connect_timeout) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_write_timeout(Some(self.options.request_timeout))?;
                    let number = self.open.last.fetch_add(1, Ordering::Relaxed);
                    held(&self.open.streams).insert(number, socket.try_clone()?);
                    let open = self.open.clone();
                    let stream = Stream { number, open, socket, received: BytesMut::new() };
                    // Whoever closed it meanwhile hasn't seen this one.
                    let is_closed = self.open.is_closed.load(Ordering::SeqCst);
                    return if is_closed { Err(closed()) } else { Ok(stream) };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks on a connection of its own.
    fn read_with<A: Api>(&self, request: &A::Request) -> Result<A::Response, LinkError> {
        let idle = held(&self.readers).pop();
        let mut lane = idle.unwrap_or_else(Lane::new);
        let asked = lane.ask::<A>(self, Duration::ZERO, request);
        let mut idle = held(&self.readers);
        if asked.is_ok() && idle.len() < IDLE_LANES {
            idle.push(lane);
        }
        asked
    }
}

/// What a node says instead of an answer.
fn check(error_code: i16, message: Option<Str>) -> Result<(), LinkError> {
    match error_code {
        code::NONE => Ok(()),
        code::FETCH_SESSION_ID_NOT_FOUND => Err(LinkError::NoSession),
        code => {
            let name = code::known(code).map_or_else(|| code.to_string(), |known| known.name.to_string());
            let message = message.map(|message| message.to_string());
            Err(LinkError::Refused(message.unwrap_or(name)))
        }
    }
}

fn nonsense(what: &str) -> LinkError {
    LinkError::Broken(format!("the node answers nonsense: {what}"))
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

impl Link for NodeLink {
    fn peer(&self) -> String {
        self.address.clone()
    }

    fn greet(&self, grace: Duration) -> Result<Welcome, LinkError> {
        let request = node_hello::Request { protocol: PROTOCOL_NEWEST, grace_ms: millis(grace) };
        let mut lane = held(&self.follower);
        let response = lane.ask::<NodeHello>(self, Duration::ZERO, &request)?;
        if response.error_code == code::UNSUPPORTED_VERSION {
            let node_hello::Response { protocol_oldest: from, protocol_newest: to, .. } = response;
            return Err(LinkError::Refused(format!(
                "it speaks versions {from} to {to} of the protocol for processes, this release \
                 {PROTOCOL_OLDEST} to {PROTOCOL_NEWEST}"
            )));
        }
        check(response.error_code, response.error_message)?;
        let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        Ok(Welcome {
            session: SessionId(response.session.0),
            group_bytes_max: bytes(response.group_bytes_max),
            command_bytes_max: bytes(response.command_bytes_max),
        })
    }

    fn state(&self, session: SessionId) -> Result<Pictured, LinkError> {
        let (mut image, mut picture) = (BytesMut::new(), 0);
        let mut lane = held(&self.follower);
        loop {
            let (session, offset) = (Uuid(session.0), image.len() as i64);
            let request = node_state::Request { session, picture, offset, max_bytes: CHANGES_BYTES };
            let response = lane.ask::<NodeState>(self, Duration::ZERO, &request)?;
            check(response.error_code, response.error_message)?;
            image.extend_from_slice(&response.part);
            picture = response.picture;
            let (total, has) = (response.total_bytes, image.len() as i64);
            if total == has {
                return Ok(Pictured { term: response.term as u32, image: image.freeze() });
            }
            if response.part.is_empty() || has > total || total > PICTURE_BYTES_MAX {
                return Err(nonsense("a picture that doesn't come to its end"));
            }
        }
    }

    fn changes(&self, session: SessionId, term: u32, lsn: u64, wait: Duration) -> Result<Changes, LinkError> {
        let request = node_changes::Request {
            session: Uuid(session.0),
            term: term as i32,
            lsn: lsn as i64,
            max_bytes: CHANGES_BYTES,
            max_wait_ms: millis(wait),
        };
        let mut lane = held(&self.follower);
        let response = lane.ask::<NodeChanges>(self, wait, &request)?;
        check(response.error_code, response.error_message)?;
        let node_changes::Response { now_ms, begins_anew, commands, .. } = response;
        let commands = match begins_anew {
            true => None,
            false => Some(commands.into_iter().map(fed).collect::<Result<Vec<Fed>, LinkError>>()?),
        };
        Ok(Changes { commands, now_ms })
    }

    fn submit(&self, session: SessionId, number: u64, group: &[Sent]) -> Result<Submitted, LinkError> {
        let command = |sent: &Sent| node_submit::Command {
            kind: sent.kind as i8,
            version: sent.version as i8,
            head: sent.head.clone(),
            bodies: Records(sent.bodies.clone()),
        };
        let commands = group.iter().map(command).collect();
        let request = node_submit::Request { session: Uuid(session.0), number: number as i64, commands };
        let mut lane = held(&self.writer);
        let response = lane.ask::<NodeSubmit>(self, Duration::ZERO, &request)?;
        check(response.error_code, response.error_message)?;
        let reason = response.reason.map_or_else(String::new, |reason| reason.to_string());
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        match response.outcome {
            outcome::ORDERED => {
                let first = bytes(response.first_lsn);
                Ok(Submitted::At((0..group.len() as u64).map(|nth| first + nth).collect()))
            }
            outcome::FULL => {
                let (needed, free) = (bytes(response.needed_bytes), bytes(response.free_bytes));
                Ok(Submitted::Full { path: format!("{} at {}", reason, self.address), needed, free })
            }
            outcome::NOT_NOW => Ok(Submitted::NotNow(reason)),
            outcome::NEVER => Ok(Submitted::Never(reason)),
            outcome::UNKNOWN => Ok(Submitted::Unknown(reason)),
            _ => Err(nonsense("an outcome that isn't known")),
        }
    }

    fn read(&self, partition: Partition, offset: u64, bytes_max: usize) -> Result<Vec<Batch>, LinkError> {
        let request = node_read::Request {
            topic: partition.topic.0 as i32,
            partition: partition.index as i32,
            offset: offset as i64,
            max_bytes: i32::try_from(bytes_max).unwrap_or(i32::MAX),
        };
        let response = self.read_with::<NodeRead>(&request)?;
        check(response.error_code, response.error_message)?;
        batches(response.records)
    }

    fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, LinkError> {
        let found = self.find(partition, timestamp_ms, false)?;
        Ok(found.map(|(offset, found_ms)| (offset as u64, found_ms)))
    }

    fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, LinkError> {
        Ok(self.find(partition, 0, true)?.map(|(_, found_ms)| found_ms))
    }

    fn marks(&self, keys: &[MarkKey]) -> Result<Answers, LinkError> {
        let key = |key: &MarkKey| {
            let (is_named, scope) = match key.scope {
                ScopeKey::Named(number) => (true, number),
                ScopeKey::Topic(topic) => (false, topic.0),
            };
            node_marks::MarkKey { is_named, scope: scope as i32, id: Uuid(key.id.0) }
        };
        let request = node_marks::Request { keys: keys.iter().map(key).collect() };
        let response = self.read_with::<NodeMarks>(&request)?;
        check(response.error_code, response.error_message)?;
        let answers = answers(response.answers)?;
        let answered: BTreeSet<MarkKey> = answers.iter().map(|(key, _)| *key).collect();
        match keys.iter().all(|key| answered.contains(key)) {
            true => Ok(answers),
            false => Err(nonsense("not all marks that it was asked for")),
        }
    }

    fn leave(&self, session: SessionId) {
        // Nothing depends on it: without it the session ends by itself.
        let _ = self.read_with::<NodeBye>(&node_bye::Request { session: Uuid(session.0) });
    }

    fn close(&self) {
        self.open.is_closed.store(true, Ordering::SeqCst);
        for stream in held(&self.open.streams).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl NodeLink {
    fn find(
        &self,
        partition: Partition,
        timestamp_ms: i64,
        wants_greatest: bool,
    ) -> Result<Option<(i64, i64)>, LinkError> {
        let (topic, partition) = (partition.topic.0 as i32, partition.index as i32);
        let request = node_find::Request { topic, partition, timestamp_ms, wants_greatest };
        let response = self.read_with::<NodeFind>(&request)?;
        check(response.error_code, response.error_message)?;
        Ok(response.is_found.then_some((response.offset, response.timestamp_ms)))
    }
}

fn fed(applied: Applied) -> Result<Fed, LinkError> {
    Ok(Fed {
        lsn: applied.lsn as u64,
        term: applied.term as u32,
        kind: applied.kind as u8,
        version: applied.version as u8,
        head: applied.head,
        answers: answers(applied.answers)?,
    })
}

fn answers(answers: Vec<MarkAnswer>) -> Result<Answers, LinkError> {
    let answer = |answer: MarkAnswer| {
        let number = u32::try_from(answer.scope).map_err(|_| nonsense("a scope below 0"))?;
        let scope = if answer.is_named { ScopeKey::Named(number) } else { ScopeKey::Topic(TopicId(number)) };
        let place = Place { at: answer.seen_at as u64, index: answer.partition_index as u32 };
        let found = u64::try_from(answer.run).ok().map(|run| Found { run, place });
        Ok((MarkKey { scope, id: DedupId(answer.id.0) }, found))
    };
    Ok(Answers::new(answers.into_iter().map(answer).collect::<Result<Vec<_>, LinkError>>()?))
}

/// Record batches, one behind the other. Their bytes are checked as those of a disk are.
fn batches(records: Records) -> Result<Vec<Batch>, LinkError> {
    let mut bytes = match <[Bytes; 1]>::try_from(records.0) {
        Ok([bytes]) => bytes,
        Err(parts) => parts.concat().into(),
    };
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.get(..HEADER_BYTES).ok_or_else(|| nonsense("a part of a batch"))?;
        let length = Batch::announced_len(length).map_err(|error| nonsense(&error.to_string()))?;
        if length > bytes.len() {
            return Err(nonsense("a part of a batch"));
        }
        let batch = Batch::parse(bytes.split_to(length));
        batches.push(batch.map_err(|error| nonsense(&error.to_string()))?);
    }
    Ok(batches)
}
