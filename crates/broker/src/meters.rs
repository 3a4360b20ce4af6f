//! What a node counts: connections, requests by API, and sessions of Fetch.

use crate::room::Room;
use crate::sessions::{Counts, Sessions};
use exactlog::{Histogram, MetricsSource, Samples};
use exactlog_wire::message::{ApiInfo, api};
use exactlog_wire::messages::APIS;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The meters of a node. They go on the log's page of metrics.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Vec<Requests>,
    opened: AtomicU64,
    closed: AtomicU64,
    /// Connections that this node has ended.
    cut: AtomicU64,
    refused: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_read: AtomicU64,
    sessions: Arc<Mutex<Sessions>>,
    requests_room: Arc<Room>,
    answers_room: Arc<Room>,
}

#[derive(Debug)]
struct Requests {
    api: &'static ApiInfo,
    handled: Histogram,
}

impl Meters {
    pub(crate) fn new(
        sessions: Arc<Mutex<Sessions>>,
        requests_room: Arc<Room>,
        answers_room: Arc<Room>,
    ) -> Meters {
        let of = |api: &'static ApiInfo| Requests { api, handled: Histogram::default() };
        Meters {
            requests: APIS.iter().map(of).collect(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            sessions,
            requests_room,
            answers_room,
        }
    }

    /// A request was handled: from when it was there in full to when its answer was known, or was on its way to be.
    pub(crate) fn handled(&self, key: i16, took: Duration) {
        let found = self.requests.binary_search_by_key(&key, |requests| requests.api.key);
        if let Ok(at) = found {
            self.requests[at].handled.observe(took);
        }
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// `by_node`: it isn't its client who has ended it.
    pub(crate) fn closed(&self, by_node: bool) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        self.cut.fetch_add(u64::from(by_node), Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// For an answer to Fetch, or to see whether there is enough for one.
    pub(crate) fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl MetricsSource for Meters {
    fn collect(&self, samples: &mut Samples) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let closed = read(&self.closed);
        let open = read(&self.opened).saturating_sub(closed);
        samples.gauge("node_connections", "Connections that are open.", &[], open as f64);
        for (name, help, counter) in [
            ("node_connections_total", "Connections that were opened.", &self.opened),
            ("node_connections_cut_total", "Connections that the node has ended.", &self.cut),
            ("node_connections_refused_total", "Connections over max.connections.", &self.refused),
            ("node_bytes_in_total", "Bytes of requests, with their headers.", &self.bytes_in),
            ("node_bytes_out_total", "Bytes of answers, with their headers.", &self.bytes_out),
            ("node_fetch_read_bytes_total", "Bytes of batches that were read for Fetch.", &self.bytes_read),
        ] {
            samples.counter(name, help, &[], read(counter));
        }
        let Counts { sessions, partitions, evicted } = self.sessions.lock().counts();
        let held = |room: &Room| room.held_bytes() as u64;
        for (name, help, value) in [
            ("node_request_bytes", "Room that requests hold.", held(&self.requests_room)),
            ("node_answer_bytes", "Room that answers hold.", held(&self.answers_room)),
            ("node_fetch_sessions", "Sessions of Fetch.", sessions),
            ("node_fetch_session_partitions", "Partitions that they remember.", partitions),
        ] {
            samples.gauge(name, help, &[], value as f64);
        }
        samples.counter(
            "node_fetch_sessions_evicted_total",
            "Sessions of Fetch that went for others.",
            &[],
            evicted,
        );
        for Requests { api, handled } in &self.requests {
            let distribution = handled.read();
            if distribution.count > 0 {
                samples.histogram("node_request_seconds", TOOK, &[("api", api.name)], distribution);
            }
        }
    }
}

const TOOK: &str =
    "From when a request was there to when its answer was known, or its batches were handed in.";

/// The name of an API, for messages.
pub(crate) fn name_of(key: i16) -> &'static str {
    api(key).map_or("unknown", |api| api.name)
}
