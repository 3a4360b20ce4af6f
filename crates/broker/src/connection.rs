//! One connection: requests in, answers out, in the order of the requests.
//!
//! ```text
//!   bytes -> frame -> request -> handled -> due answer --queue--> written
//!            waits for room      one after the other     waits for room, 64 of them at most
//! ```
//!
//! A request is handled when the one before it is; but an answer to Produce becomes due when its batches are handed in,
//! and the next request is read while they are made safe. Whoever doesn't take his answers is read no further. One that
//! came right behind another is handled when it is the connection's turn among all that send so: few of these are at
//! work at a time, so whoever asks now and then finds the threads free.
//!
//! Invariants
//!   * answers leave in the order of their requests, each once
//!   * memory of a connection is bounded by what it has sent, by one answer, and by the queue; that of all of them
//!     together by the room for requests and by the room for answers
//!   * a frame that can't be understood ends the connection: what follows may mean anything

use crate::dispatch::{self, Answer, Later, Peer};
use crate::intervention::Fate;
use crate::meters::name_of;
use crate::node::Node;
use crate::room::{Own, Share};
use bytes::{Buf, Bytes, BytesMut};
use exactlog_wire::error::{FrameError, MessageError};
use exactlog_wire::frame::FrameLimit;
use exactlog_wire::message::{decode_request, encode_response};
use exactlog_wire::messages::{Request, Response};
use exactlog_wire::writer::FrameTooLong;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Requests up to this length take no room, nor do answers that are together no longer: each connection has that much
/// in any case.
const ROOM_FREE_BYTES: usize = 16 * 1024;
/// A request that takes longer than its stall and this many bytes a second isn't waited for; nor is an answer, if
/// others wait for its room.
const RATE_LEAST: u64 = 256 * 1024;
/// How often it is looked whether others wait for the room that a request holds, and how long such a request may hold
/// it besides the time that what has come of it may take.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// Answers of a connection that are due and not written.
const DUE_MAX: usize = 64;
/// Their bytes; a longer one is due alone.
const DUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often reader and writer are polled before other connections are.
const AT_ONCE: usize = 16;

/// Why this node ends a connection.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("{0}")]
    TooLong(#[from] FrameTooLong),
    #[error("{api} isn't served")]
    NotServed { api: &'static str },
    #[error("nothing was asked for {after:?} (connections.max.idle.ms)")]
    Idle { after: Duration },
    #[error("the rest of a request didn't come in {after:?} and a second for each 256 KiB")]
    Stalled { after: Duration },
    #[error("a request came at less than 256 KiB a second, and others waited for its room")]
    SentTooSlowly,
    #[error("an answer wasn't taken for {after:?}")]
    NotTaken { after: Duration },
    #[error("answers were taken at less than 256 KiB a second, and others waited for their room")]
    TakenTooSlowly,
    #[error("a test wants it so")]
    Cut,
    #[error("what was produced without waiting for an answer was refused")]
    Unacknowledged,
}

/// An answer in its turn.
enum Due {
    /// It is written, and holds its room.
    Frame(Parts, Held),
    /// It comes of what is on its way into the log. The room of its request is given back with it.
    Later { correlation_id: i32, version: i16, response: Later<Response>, room: Option<Share> },
    /// There is none, but it matters whether all went well.
    Silent(Later<bool>, Option<Share>),
}

/// Answers in their turn. Reader and writer of a connection are one task, and the writer is polled behind the reader:
/// so nobody has to be woken for it, which would wake another thread of the runtime, too.
#[derive(Default)]
struct Line(Mutex<Dues>);

#[derive(Default)]
struct Dues {
    due: VecDeque<Due>,
    /// It was full, and isn't: the reader may have waited for that.
    has_room: bool,
    is_closed: bool,
}

impl Line {
    /// Waits for room.
    async fn push(&self, due: Due) {
        let mut due = Some(due);
        poll_fn(|_| {
            let mut dues = self.0.lock();
            if dues.due.len() >= DUE_MAX {
                return Poll::Pending;
            }
            dues.due.extend(due.take());
            Poll::Ready(())
        })
        .await;
    }

    /// The next one; nothing if it is closed and empty.
    async fn next(&self) -> Option<Due> {
        poll_fn(|_| {
            let mut dues = self.0.lock();
            dues.has_room |= dues.due.len() >= DUE_MAX;
            let next = dues.due.pop_front();
            if next.is_none() && !dues.is_closed { Poll::Pending } else { Poll::Ready(next) }
        })
        .await
    }

    fn is_empty(&self) -> bool {
        self.0.lock().due.is_empty()
    }

    /// Nothing comes behind what is there.
    fn close(&self) {
        self.0.lock().is_closed = true;
    }

    /// Whether it was full since this was asked last, and isn't any more.
    fn has_room(&self) -> bool {
        std::mem::take(&mut self.0.lock().has_room)
    }
}

/// What an answer holds until it is written: its part of the queue, and room.
struct Held {
    _queued: OwnedSemaphorePermit,
    _free: Option<OwnedSemaphorePermit>,
    _share: Option<Share>,
}

/// What the answers of a connection may take together.
struct Queue {
    node: Arc<Node>,
    /// Of [`DUE_BYTES_MAX`].
    bytes: Arc<Semaphore>,
    /// Of [`ROOM_FREE_BYTES`].
    free: Arc<Semaphore>,
}

/// Serves a connection, the `number`th of the log, until either side ends it.
pub(crate) async fn serve(
    node: Arc<Node>,
    stream: TcpStream,
    address: SocketAddr,
    number: u64,
) -> Result<(), Ended> {
    let local = stream.local_addr()?;
    let (input, output) = stream.into_split();
    let peer = Peer::new(number, address, local);
    let line = Line::default();
    let mut reading = std::pin::pin!(async {
        let read = read(node.clone(), input, peer, &line).await;
        line.close();
        read
    });
    let mut writing = std::pin::pin!(write(node.clone(), output, &line));
    let mut read = None;
    // The writer ends when the reader has, and all that is due is written. If it fails there is nobody to read for.
    poll_fn(|task| {
        for _ in 0..AT_ONCE {
            if read.is_none()
                && let Poll::Ready(ended) = reading.as_mut().poll(task)
            {
                read = Some(ended);
            }
            if let Poll::Ready(written) = writing.as_mut().poll(task) {
                return Poll::Ready(written.and(read.take().unwrap_or(Ok(()))));
            }
            if !line.has_room() {
                return Poll::Pending;
            }
        }
        // Others have their turn between.
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

async fn read(node: Arc<Node>, mut input: OwnedReadHalf, mut peer: Peer, line: &Line) -> Result<(), Ended> {
    let (mut received, own, queue) = (BytesMut::new(), node.requests.own(), Queue::new(node.clone()));
    loop {
        let is_behind_another = !received.is_empty();
        let next = tokio::select! {
            biased;
            () = node.stopped() => return Ok(()),
            next = next_frame(&node, &own, &mut input, &mut received) => next?,
        };
        let Some((frame, room)) = next else { return Ok(()) };
        node.meters.received(frame.len());
        let (header, request) = match decode_request(frame) {
            Ok(decoded) => decoded,
            Err(error) => match dispatch::answer_to_unknown_version(&error) {
                Some((correlation_id, response)) => {
                    let frame = queue.frame_of(0, correlation_id, &response, None).await?;
                    line.push(frame).await;
                    continue;
                }
                None => return Err(error.into()),
            },
        };
        let (correlation_id, version) = (header.correlation_id, header.version);
        let fate = tokio::select! {
            biased;
            () = node.stopped() => return Ok(()),
            fate = node.fate(&request) => fate,
        };
        let is_unanswered = matches!(fate, Fate::Unanswered);
        // Of others than those with records nothing is kept while they wait, for records or for members of their group.
        let room = room.filter(|_| matches!(request, Request::Produce(_) | Request::NodeSubmit(_)));
        let (since, waits) = (Instant::now(), dispatch::may_wait(&request));
        let handled = match fate {
            Fate::Cut => return Err(Ended::Cut),
            Fate::Refused(response) => Some(Answer::Now(*response)),
            Fate::Served | Fate::Unanswered => {
                let turn = if is_behind_another { Some(node.turns.of_busy().await) } else { None };
                let mut handling = std::pin::pin!(dispatch::handle(&node, &mut peer, &header, request));
                // What it waits for is nobody's work: its turn is over then.
                let begun = poll_fn(|task| Poll::Ready(handling.as_mut().poll(task))).await;
                drop(turn);
                match begun {
                    Poll::Ready(handled) => handled,
                    Poll::Pending => tokio::select! {
                        biased;
                        handled = handling => handled,
                        () = gone(&input), if waits => return Ok(()),
                    },
                }
            }
        };
        let Some(answer) = handled else {
            return Err(Ended::NotServed { api: name_of(header.key) });
        };
        node.meters.handled(header.key, since.elapsed());
        if is_unanswered {
            answer.settle().await;
            return Err(Ended::Cut);
        }
        let next = match answer {
            Answer::Now(response) => queue.frame_of(version, correlation_id, &response, None).await?,
            Answer::Held(response, share) => {
                queue.frame_of(version, correlation_id, &response, share).await?
            }
            Answer::Later(response) => Due::Later { correlation_id, version, response, room },
            Answer::Silent(outcome) => Due::Silent(outcome, room),
        };
        line.push(next).await;
    }
}

/// Comes back when the client has ended the connection; not if it has sent something behind the request that waits.
async fn gone(input: &OwnedReadHalf) {
    loop {
        if input.as_ref().readable().await.is_err() {
            return;
        }
        match input.as_ref().peek(&mut [0]).await {
            Ok(0) | Err(_) => return,
            Ok(_) => std::future::pending().await,
        }
    }
}

impl Queue {
    fn new(node: Arc<Node>) -> Queue {
        let of = |bytes| Arc::new(Semaphore::new(bytes));
        Queue { node, bytes: of(DUE_BYTES_MAX), free: of(ROOM_FREE_BYTES) }
    }

    /// An answer as it is written, with the room that was taken for it or else is now. It waits until less is due:
    /// whoever doesn't take his answers is read no further.
    async fn frame_of(
        &self,
        version: i16,
        correlation_id: i32,
        response: &Response,
        mut share: Option<Share>,
    ) -> Result<Due, Ended> {
        let parts = Parts(encode_response(version, correlation_id, response)?.into());
        let length = parts.remaining();
        // What isn't needed is others', however long this one waits.
        share.iter_mut().for_each(|share| share.shrink_to(length));
        let part = u32::try_from(length.min(DUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let queued = self.bytes.clone().acquire_many_owned(part).await.expect("a queue is never closed");
        let (free, share) = match share {
            Some(share) => (None, Some(share)),
            None => match self.free.clone().try_acquire_many_owned(part) {
                Ok(free) => (Some(free), None),
                Err(_) => (None, Some(self.node.answers.take(None, length).await)),
            },
        };
        Ok(Due::Frame(parts, Held { _queued: queued, _free: free, _share: share }))
    }
}

/// The next request, with its room; nothing if the client has ended the connection between two.
async fn next_frame(
    node: &Node,
    own: &Own,
    input: &mut OwnedReadHalf,
    received: &mut BytesMut,
) -> Result<Option<(Bytes, Option<Share>)>, Ended> {
    let (limit, mut room) = (FrameLimit { max: node.options.request_bytes_max }, None);
    let (idle_max, stall_max) = (node.options.idle_max, node.options.stall_max);
    let (mut deadline, mut held, mut heard) = (None, None, Instant::now());
    loop {
        if let Some(frame) = limit.next(received)? {
            if frame.len() > ROOM_FREE_BYTES {
                // What is left shares its memory with the frame: that shouldn't stay as long as the connection does.
                *received = BytesMut::from(&received[..]);
            }
            return Ok(Some((frame, room)));
        }
        if let Some(length) = received.first_chunk()
            && deadline.is_none()
        {
            deadline = Some(Instant::now() + stall_max + time_for(u64::from(u32::from_be_bytes(*length))));
        }
        if room.is_none() && received.len() > ROOM_FREE_BYTES {
            room = Some(take_room(node, own, received).await);
            // Others held it: that isn't this client's doing.
            heard = Instant::now();
            (deadline, held) = (None, Some(heard));
            continue;
        }
        if held.is_some_and(|since| is_held_too_long(node, since, received.len())) {
            return Err(Ended::SentTooSlowly);
        }
        let is_idle = received.is_empty();
        let since = Instant::now();
        let left = deadline.map_or(stall_max, |deadline: Instant| deadline.saturating_duration_since(since));
        let stalls = stall_max.saturating_sub(since.saturating_duration_since(heard));
        let after = if is_idle { idle_max } else { stalls.min(left) };
        let look = if held.is_some() { after.min(HELD_LOOK) } else { after };
        let read = match timeout(look, input.read_buf(received)).await {
            Ok(read) => {
                heard = Instant::now();
                read?
            }
            Err(_) if look < after => continue,
            Err(_) if is_idle => return Err(Ended::Idle { after }),
            Err(_) => return Err(Ended::Stalled { after: stall_max }),
        };
        if read == 0 {
            return match received.is_empty() {
                true => Ok(None),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            };
        }
    }
}

/// How long so many bytes may take at least: whoever holds room for them has to make use of it.
fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(1000 * bytes / RATE_LEAST)
}

/// Whether a request of which so many bytes came has held its room for too long, since others wait for some. Whoever
/// takes it and sends next to nothing is the first to go, not the last.
fn is_held_too_long(node: &Node, since: Instant, bytes: usize) -> bool {
    since.elapsed() > HELD_LOOK.min(node.options.stall_max) + time_for(bytes as u64)
        && node.requests.is_short()
}

/// Room for the request that has begun to arrive: for all that it announces, since what isn't there yet will come.
async fn take_room(node: &Node, own: &Own, received: &BytesMut) -> Share {
    let announced = received.first_chunk().map_or(0, |length| i32::from_be_bytes(*length));
    node.requests.take(Some(own), usize::try_from(announced).unwrap_or(0)).await
}

async fn write(node: Arc<Node>, mut output: OwnedWriteHalf, line: &Line) -> Result<(), Ended> {
    let stall_max = node.options.stall_max;
    // How long the client has been taking answers without having taken all that were due, and how much it took.
    let (mut took, mut taken) = (Duration::ZERO, 0);
    while let Some(due) = line.next().await {
        let (mut parts, _held) = match due {
            Due::Frame(parts, held) => (parts, Some(held)),
            Due::Later { correlation_id, version, response, room } => {
                let response = response.await;
                drop(room);
                (Parts(encode_response(version, correlation_id, &response)?.into()), None)
            }
            Due::Silent(outcome, _room) => match outcome.await {
                true => continue,
                false => return Err(Ended::Unacknowledged),
            },
        };
        node.meters.sent(parts.remaining());
        // Slowly is fine if nobody else is kept waiting by it, not at all isn't. Requests whose answers wait behind
        // this one have their room, too.
        let (look, mut heard) = (HELD_LOOK.min(stall_max), Instant::now());
        while parts.has_remaining() {
            let is_short = || node.answers.is_short() || node.requests.is_short();
            if took > look + time_for(taken) && is_short() {
                return Err(Ended::TakenTooSlowly);
            }
            let since = Instant::now();
            match timeout(look, output.write_buf(&mut parts)).await {
                Ok(written) => {
                    taken += written? as u64;
                    heard = Instant::now();
                }
                Err(_) if heard.elapsed() >= stall_max => return Err(Ended::NotTaken { after: stall_max }),
                Err(_) => {}
            }
            took += since.elapsed();
        }
        if line.is_empty() {
            (took, taken) = (Duration::ZERO, 0);
        }
    }
    Ok(())
}

/// The parts of a frame, written one behind the other without being copied together.
struct Parts(VecDeque<Bytes>);

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.iter().find(|part| !part.is_empty()).map_or(&[], |part| part)
    }

    fn chunks_vectored<'p>(&'p self, slices: &mut [IoSlice<'p>]) -> usize {
        let parts = self.0.iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.0.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.0.pop_front();
        }
        assert!(count == 0, "advanced beyond the end");
    }
}
