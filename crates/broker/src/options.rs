//! What a node is told when it starts. Names and meanings of settings are Kafka's, where there is one.

use crate::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

/// How a node listens, and what it does for its clients.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where it listens (`listeners`). Default `127.0.0.1:9092`; port 0: whichever is free.
    pub listen: SocketAddr,
    /// Where it answers HTTP: whether it is well, and its metrics. Default `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The address that it tells its clients to connect to (`advertised.listeners`). Default `None`: the one that each
    /// client has dialled.
    pub advertised: Option<(String, u16)>,
    /// Its number (`node.id`). Default 1.
    pub node_id: i32,
    /// Partitions of a topic for which none are asked for (`num.partitions`). Default 1.
    pub partitions: u32,
    /// Whether a topic is created when a client asks for it (`auto.create.topics.enable`). Default false.
    pub creates_topics: bool,
    /// How many partitions all topics may have together until none is created any more because a client asks for it.
    /// Default 10,000.
    pub auto_partitions_max: usize,
    /// Whether a topic can have more replicas than there are nodes: it has one then. Default false.
    pub accepts_replicas: bool,
    /// How long a group waits for more members when its first one joins (`group.initial.rebalance.delay.ms`). Default
    /// 3 s.
    pub initial_rebalance_delay: Duration,
    /// Shortest session timeout that a member of a classic group may have (`group.min.session.timeout.ms`). Default
    /// 6 s.
    pub session_timeout_min: Duration,
    /// The longest (`group.max.session.timeout.ms`). Default 30 minutes.
    pub session_timeout_max: Duration,
    /// How often members of consumer groups are told to send heartbeats (`group.consumer.heartbeat.interval.ms`).
    /// Default 5 s.
    pub consumer_heartbeat_interval: Duration,
    /// How long after its last heartbeat a member of a consumer group is fenced (`group.consumer.session.timeout.ms`).
    /// Default 45 s.
    pub consumer_session_timeout: Duration,
    /// Whether a client that sends EndTxn in versions up to 4 is refused if a newer connection has added to its
    /// transaction: its request was delayed and may be meant for the one before (KAFKA-17754). Default true; false for
    /// clients behind a proxy that spreads their requests over connections.
    pub fences_older_connections: bool,
    /// Most connections at a time (`max.connections`). Default 10,000.
    pub connections_max: usize,
    /// Longest request, in bytes (`socket.request.max.bytes`). Default 100 MiB.
    pub request_bytes_max: u32,
    /// Most memory that requests take which haven't arrived in full or aren't answered, in bytes, of all connections
    /// (`queued.max.request.bytes`). Default 256 MiB. One that is longer than half of it counts as half.
    pub requests_bytes_max: usize,
    /// Most memory that answers take which aren't written, in bytes, of all connections (`queued.max.response.bytes`;
    /// Kafka has no such setting). Default 256 MiB. If there is little left answers to Fetch become shorter; one that
    /// is longer than half of it counts as half.
    pub answers_bytes_max: usize,
    /// Most bytes of one answer to Fetch (`fetch.max.bytes`). Default 55 MiB; a batch that is longer comes alone.
    pub fetch_bytes_max: usize,
    /// Most sessions of Fetch (`max.incremental.fetch.session.cache.slots`): who gets none names all its partitions
    /// each time. Default 1000; together they take 64 MiB at most.
    pub fetch_sessions_max: usize,
    /// How much of the answers to a client the system holds for it, in bytes (`socket.send.buffer.bytes`). Default
    /// 100 KiB, as Kafka's; `None`: as much as the system sees fit, which is some MiB for a client that doesn't read.
    /// A client that is far away may need more: what it gets in a second is this much for each round trip.
    pub send_buffer_bytes: Option<u32>,
    /// How long a connection is kept on which nothing is asked (`connections.max.idle.ms`). Default 10 minutes.
    pub idle_max: Duration,
    /// How long a client may take to send the rest of a request, or to take an answer. Default 30 s.
    pub stall_max: Duration,
}

impl NodeOptions {
    /// What there can't be together.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (heartbeat, session) = (self.consumer_heartbeat_interval, self.consumer_session_timeout);
        if heartbeat >= session {
            // Each member would be fenced before it is heard of again.
            return Err(Error::Setting {
                name: "group.consumer.heartbeat.interval.ms",
                value: heartbeat.as_millis().to_string(),
                bounds: format!("less than group.consumer.session.timeout.ms, {}", session.as_millis()),
            });
        }
        let (least, most) = (self.session_timeout_min, self.session_timeout_max);
        if least > most {
            return Err(Error::Setting {
                name: "group.min.session.timeout.ms",
                value: least.as_millis().to_string(),
                bounds: format!("at most group.max.session.timeout.ms, {}", most.as_millis()),
            });
        }
        Ok(())
    }
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            http: None,
            advertised: None,
            node_id: 1,
            partitions: 1,
            creates_topics: false,
            auto_partitions_max: 10_000,
            accepts_replicas: false,
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1800),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_session_timeout: Duration::from_secs(45),
            fences_older_connections: true,
            connections_max: 10_000,
            request_bytes_max: 100 * 1024 * 1024,
            requests_bytes_max: 256 * 1024 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
            fetch_bytes_max: 55 * 1024 * 1024,
            fetch_sessions_max: 1000,
            send_buffer_bytes: Some(100 * 1024),
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
        }
    }
}
