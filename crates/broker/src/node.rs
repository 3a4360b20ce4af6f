//! A node at work: its listener, and what its connections share.
//!
//! ```text
//!   bind -> Bound -> serve -> Running -> stop: no more connections and requests; what is due is answered
//!                                                                                            -> ended
//! ```
//!
//! Invariants
//!   * what was acknowledged is in the log before: a node keeps nothing that can't be lost

use crate::code::{self, Refused};
use crate::connection::{self, Ended};
use crate::error;
use crate::groups::{self, Groups};
use crate::http;
use crate::intervention::{Fate, Intervention};
use crate::meters::Meters;
use crate::options::NodeOptions;
use crate::processes::{self, Pictures};
use crate::room::Room;
use crate::sessions::{self, Sessions};
use crate::uptime::Uptime;
use exactlog::far::Host;
use exactlog::wire::is_legal_name;
use exactlog::{Error, Log, Partition, Topic, TopicId};
use exactlog_wire::messages::Request;
use exactlog_wire::value::Uuid;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections that wait to be accepted, at most.
const LISTEN_BACKLOG: u32 = 1024;
/// How long the listener waits after the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether connections that were cut have ended.
const KILL_LOOK: Duration = Duration::from_millis(1);

/// What all connections of a node share.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) log: Log,
    pub(crate) options: NodeOptions,
    /// Its id as Kafka writes one: 16 bytes in base64.
    pub(crate) cluster_id: String,
    /// Held while the settings of a topic are read, changed and given back: of two changes at a time both count.
    pub(crate) altering: tokio::sync::Mutex<()>,
    /// Room for requests that haven't arrived in full or aren't answered.
    pub(crate) requests: Arc<Room>,
    /// Room for answers that aren't written.
    pub(crate) answers: Arc<Room>,
    /// Whose turn it is to read records, by whether he wants many.
    pub(crate) turns: Turns,
    pub(crate) meters: Arc<Meters>,
    pub(crate) groups: Groups,
    /// What clients of Fetch want.
    pub(crate) sessions: Arc<Mutex<Sessions>>,
    pub(crate) uptime: Uptime,
    /// For processes that work on the log.
    pub(crate) host: Host,
    pub(crate) pictures: Pictures,
    intervention: Option<Arc<dyn Intervention>>,
    stop: watch::Receiver<bool>,
}

/// A node that runs. Dropping it ends it without waiting for anybody.
#[derive(Debug)]
pub struct Running {
    node: Weak<Node>,
    address: SocketAddr,
    http: Option<SocketAddr>,
    cluster_id: String,
    stop: watch::Sender<bool>,
    connections: JoinSet<()>,
    /// It is heard until the connections have ended.
    _https: JoinSet<()>,
}

/// A node that has its port, and no log yet: whoever connects waits.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    http: Option<(TcpListener, SocketAddr)>,
    options: NodeOptions,
    intervention: Option<Arc<dyn Intervention>>,
}

/// Takes the ports of a node. It needs tokio's timers and I/O.
///
/// # Errors
/// [`Error::Listen`](error::Error::Listen): the port is taken, or isn't this process's to take.
/// [`Error::Setting`](error::Error::Setting): there can't be such options, so nothing was taken.
pub async fn bind(options: NodeOptions) -> Result<Bound, error::Error> {
    options.check()?;
    let address = options.listen;
    let refused = |error| error::Error::Listen { address, error };
    let listener = listener(address, &options).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let http = match options.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    Ok(Bound { listener, address, http, options, intervention: None })
}

/// What the connections of a node come from.
fn listener(address: SocketAddr, options: &NodeOptions) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Whoever was connected when the node before ended may still hold the port.
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = options.send_buffer_bytes {
        // Connections have what their listener has.
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

impl Bound {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets somebody decide what becomes of each request.
    #[doc(hidden)]
    #[must_use]
    pub fn intervene(self, by: Arc<dyn Intervention>) -> Bound {
        Bound { intervention: Some(by), ..self }
    }

    /// Lets it serve a log.
    pub fn serve(self, log: &Log) -> Running {
        let Bound { listener, address, http, options, intervention } = self;
        let (stop, stopped) = watch::channel(false);
        if let Err(error) = log.raise_semantics_level() {
            // It takes nothing any more, and says so to each client.
            tracing::warn!(event = "level.kept", %error, "names of groups are as the log had them");
        }
        let node = Arc::new(Node { intervention, ..Node::new(log.clone(), options, stopped) });
        let cluster_id = node.cluster_id.clone();
        let (mut connections, mut https) = (JoinSet::new(), JoinSet::new());
        let http = http.map(|(listener, address)| {
            https.spawn(http::serve(node.clone(), listener));
            address
        });
        connections.spawn(groups::keep_time(node.clone()));
        connections.spawn(processes::keep_time(node.clone()));
        let weak = Arc::downgrade(&node);
        connections.spawn(listen(node, listener));
        Running { node: weak, address, http, cluster_id, stop, connections, _https: https }
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers HTTP, if it does.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The id of its cluster: that of the log.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Ends it: nobody can connect any more, no further request is taken, what waits for records or for others is
    /// answered now, and what was handed in is answered when it is safe.
    ///
    /// # Cancel safety
    /// Dropped, the connections that are left are cut.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.connections.join_next().await.is_some() {}
    }

    /// Ends it as if its process were killed: connections are cut, and nobody is answered any more when this comes
    /// back. What was handed in goes on in the log.
    pub async fn kill(mut self) {
        self.connections.shutdown().await;
        self._https.shutdown().await;
        while self.node.strong_count() > 0 {
            tokio::time::sleep(KILL_LOOK).await;
        }
    }

    /// The log's clock was let go on: what is due by it happens.
    #[doc(hidden)]
    pub fn time_was_skipped(&self) {
        if let Some(node) = self.node.upgrade() {
            node.groups.look();
        }
    }
}

async fn listen(node: Arc<Node>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = node.stopped() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if connections.len() >= node.options.connections_max => {
                let max = node.options.connections_max;
                tracing::warn!(event = "connection.refused", %peer, max, "max.connections are open");
                node.meters.refused();
                drop(stream);
            }
            Ok((stream, peer)) => {
                // Here, and not by its task: those of several threads begin in any order.
                let number = node.log.next_connection();
                connections.spawn(connect(node.clone(), stream, peer, number));
            }
            Err(error) => {
                tracing::warn!(event = "connection.failed", %error, "the system has no room for a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connect(node: Arc<Node>, stream: TcpStream, peer: SocketAddr, number: u64) {
    // An answer is written whole: waiting for more only delays it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "it goes on with Nagle's algorithm");
    }
    let mut counted = Counted::new(node.meters.clone());
    let ended = connection::serve(node, stream, peer, number).await;
    let by_node = !matches!(ended, Ok(()) | Err(Ended::Io(_)));
    counted.by_node = by_node;
    if let Err(error) = ended {
        tracing::info!(event = "connection.ended", %peer, by_node, %error, "a connection has ended");
    }
}

/// A connection that is open, for whoever counts them: until this is dropped, also by a panic.
struct Counted {
    meters: Arc<Meters>,
    by_node: bool,
}

impl Counted {
    fn new(meters: Arc<Meters>) -> Counted {
        meters.opened();
        Counted { meters, by_node: true }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meters.closed(self.by_node);
    }
}

/// Turns of those who would leave next to nothing of the cores to others.
///
/// Measured without: answers took 250 ms beside 200 clients that fetched 50 MiB each, and 30 ms beside 100 that sent
/// Metadata without end.
#[derive(Debug)]
pub(crate) struct Turns {
    /// To read few records, on a thread of its own.
    few: Arc<Semaphore>,
    /// To read many.
    many: Arc<Semaphore>,
    /// To handle a request that came right behind another one of its connection.
    busy: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Turns {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let of = |turns| Arc::new(Semaphore::new(turns));
        Turns { few: of(2 * cores), many: of(cores.div_ceil(2)), busy: of(cores) }
    }
}

impl Turns {
    /// A turn to read, of those who want much or of the others, who don't wait for these.
    ///
    /// # Cancel safety
    /// Dropped, the turn is somebody else's.
    pub(crate) async fn to_read(&self, is_much: bool) -> OwnedSemaphorePermit {
        let of = if is_much { &self.many } else { &self.few };
        of.clone().acquire_owned().await.expect("turns are never closed")
    }

    /// A turn to handle a request that came right behind another one.
    ///
    /// # Cancel safety
    /// As [`to_read`](Turns::to_read).
    pub(crate) async fn of_busy(&self) -> OwnedSemaphorePermit {
        self.busy.clone().acquire_owned().await.expect("turns are never closed")
    }
}

impl Node {
    fn new(log: Log, options: NodeOptions, stop: watch::Receiver<bool>) -> Node {
        use base64::Engine;
        let cluster_id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(log.identity());
        let requests = Arc::new(Room::new(options.requests_bytes_max));
        let answers = Arc::new(Room::new(options.answers_bytes_max));
        let settings =
            sessions::Settings { sessions_max: options.fetch_sessions_max, ..sessions::Settings::default() };
        let sessions = Arc::new(Mutex::new(Sessions::new(settings)));
        let meters = Arc::new(Meters::new(sessions.clone(), requests.clone(), answers.clone()));
        log.add_metrics(&meters);
        let uptime = Uptime::new(log.clock());
        let groups = Groups::new(&options, uptime.clone());
        let altering = tokio::sync::Mutex::default();
        let host = Host::new(&log);
        Node {
            log,
            options,
            cluster_id,
            altering,
            requests,
            answers,
            turns: Turns::default(),
            meters,
            groups,
            sessions,
            uptime,
            host,
            pictures: Pictures::default(),
            intervention: None,
            stop,
        }
    }

    /// What becomes of a request.
    pub(crate) async fn fate(&self, request: &Request) -> Fate {
        match &self.intervention {
            Some(intervention) => intervention.fate(request).await,
            None => Fate::Served,
        }
    }

    /// Comes back when the node is to end.
    pub(crate) async fn stopped(&self) {
        // An error: nobody can say it any more, since the handle was dropped.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Why nobody is served at the moment, or can't send anything. It may wait for the disk.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.is_stopped() {
            return Some("the node ends".into());
        }
        if self.log.metrics().failed {
            return Some("the log has failed: what is sent is refused".into());
        }
        let (needed, free) = self.log.lacks_space()?;
        Some(format!("the disk is full: what is sent is refused; {needed} B are needed, {free} B are free"))
    }

    /// A topic by its name, or by its id where a client says that.
    pub(crate) fn topic(&self, name: &str, id: Uuid) -> Option<Topic> {
        match id == Uuid::default() {
            true => self.log.open_topic(name).ok(),
            false => self.log.topic_by_id(topic_id(id)?),
        }
    }
}

impl Node {
    /// A topic by its name, or why there is none.
    pub(crate) fn topic_named(&self, name: &str) -> Result<Topic, Refused> {
        match self.log.open_topic(name) {
            Ok(topic) => Ok(topic),
            Err(Error::NoSuchTopic { .. }) => {
                Err((code::UNKNOWN_TOPIC_OR_PARTITION, format!("topic {name:?} doesn't exist")))
            }
            Err(error) => Err(code::refused(error)),
        }
    }

    /// As [`topic_named`](Node::topic_named); of a name that no topic can have that is what is said.
    pub(crate) fn topic_legally_named(&self, name: &str) -> Result<Topic, Refused> {
        match is_legal_name(name) {
            true => self.topic_named(name),
            false => Err(code::refused(Error::IllegalName { what: "topic", name: name.into() })),
        }
    }

    /// A partition of a topic, or why there is none.
    pub(crate) fn partition(&self, name: &str, index: i32) -> Result<Partition, Refused> {
        let topic = self.topic_named(name)?;
        let partitions = topic.partitions();
        match u32::try_from(index) {
            Ok(index) if index < partitions => Ok(Partition { topic: topic.id(), index }),
            _ => {
                let what = format!("topic {name:?} has no partition {index}: it has {partitions}, from 0");
                Err((code::UNKNOWN_TOPIC_OR_PARTITION, what))
            }
        }
    }
}

/// Whether a client that names a leader epoch means the one that there is (KIP-320); below 0 it names none.
///
/// # Errors
/// The code that it is told.
pub(crate) fn check_leader_epoch(named: i32, current: u32) -> Result<(), i16> {
    match named {
        epoch if epoch >= 0 && epoch < current as i32 => Err(code::FENCED_LEADER_EPOCH),
        epoch if epoch > current as i32 => Err(code::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// What the ids of topics begin with on the wire: a UUID of version 8 (RFC 9562), whose rest is the topic's number.
const TOPIC_TAG: [u8; 12] = [0x65, 0x78, 0x61, 0x63, 0x74, 0x6c, 0x80, 0x6f, 0x80, 0x67, 0, 0];

/// The id of a topic on the wire (KIP-516).
pub(crate) fn uuid(topic: TopicId) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&TOPIC_TAG);
    bytes[12..].copy_from_slice(&topic.0.to_be_bytes());
    Uuid(bytes)
}

/// The topic that an id on the wire stands for; `None`: no node of exactlog has given it.
pub fn topic_id(uuid: Uuid) -> Option<TopicId> {
    let (tag, number) = uuid.0.split_last_chunk::<4>()?;
    (tag == TOPIC_TAG).then(|| TopicId(u32::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn who_reads_little_does_not_wait_for_those_who_read_much() {
        let turns = Turns::default();
        let take = |is_much| {
            let mut take = std::pin::pin!(turns.to_read(is_much));
            match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            }
        };
        let much: Vec<_> = std::iter::from_fn(|| take(true)).take(1000).collect();
        assert!(!much.is_empty() && much.len() < 1000, "few threads at a time");
        assert!(take(false).is_some());
        drop(much);
        assert!(take(true).is_some());
    }
}
