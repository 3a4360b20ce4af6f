//! A log that is reached over a connection, without the connection: a link that calls the node's half directly, and
//! that can lose answers, be cut, and have its node killed.

use exactlog::far::{
    Answers, Changes, Host, HostError, Link, LinkError, MarkKey, Pictured, Sent, SessionId, Submitted,
    Welcome,
};
use exactlog::wire::Batch;
use exactlog::{Log, Partition};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// How long members of what is lost stay.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// What a link can let happen.
#[derive(Default)]
pub(crate) struct Faults {
    /// So many of the next groups are taken, and their answers are lost.
    pub(crate) lose_answers: AtomicU64,
    /// Nothing comes through.
    pub(crate) is_cut: AtomicBool,
    /// How many groups have come to the node.
    pub(crate) groups: AtomicU64,
}

/// The way to a log of the same process.
pub(crate) struct Direct {
    node: Mutex<Option<Node>>,
    pub(crate) faults: Faults,
    is_closed: AtomicBool,
}

#[derive(Clone)]
struct Node {
    host: Host,
    _log: Log,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Direct")
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

impl Direct {
    pub(crate) fn to(log: Log) -> Arc<Direct> {
        let link =
            Direct { node: Mutex::default(), faults: Faults::default(), is_closed: AtomicBool::new(false) };
        link.starts(log);
        Arc::new(link)
    }

    /// A node begins to serve this log.
    pub(crate) fn starts(&self, log: Log) {
        let host = Host::new(&log);
        *self.node.lock().unwrap() = Some(Node { host, _log: log });
    }

    /// The node is gone.
    pub(crate) fn stops(&self) {
        *self.node.lock().unwrap() = None;
    }

    pub(crate) fn look(&self) {
        if let Ok(host) = self.host() {
            host.look();
        }
    }

    fn host(&self) -> Result<Host, LinkError> {
        let is_off = self.is_closed.load(Ordering::SeqCst) || self.faults.is_cut.load(Ordering::SeqCst);
        let node = self.node.lock().unwrap().clone().filter(|_| !is_off);
        node.map(|node| node.host).ok_or_else(|| LinkError::Broken("it is cut".into()))
    }
}

fn failed(error: HostError) -> LinkError {
    match error {
        HostError::NoSession => LinkError::NoSession,
        HostError::Refused(reason) => LinkError::Refused(reason),
    }
}

fn refused(error: exactlog::Error) -> LinkError {
    LinkError::Refused(error.to_string())
}

impl Link for Direct {
    fn peer(&self) -> String {
        "beside".into()
    }

    fn greet(&self, grace: Duration) -> Result<Welcome, LinkError> {
        self.host()?.greet(grace).map_err(failed)
    }

    fn state(&self, session: SessionId) -> Result<Pictured, LinkError> {
        self.host()?.state(session).map_err(failed)
    }

    fn changes(&self, session: SessionId, term: u32, lsn: u64, wait: Duration) -> Result<Changes, LinkError> {
        let host = self.host()?;
        host.look();
        let so_far = host.so_far();
        let changes = host.changes(session, (term, lsn), 1 << 20).map_err(failed)?;
        if changes.commands.as_ref().is_none_or(|commands| !commands.is_empty()) {
            return Ok(changes);
        }
        host.blocking_after(so_far, wait.min(Duration::from_millis(20)));
        host.changes(session, (term, lsn), 1 << 20).map_err(failed)
    }

    fn submit(&self, session: SessionId, number: u64, group: &[Sent]) -> Result<Submitted, LinkError> {
        let host = self.host()?;
        self.faults.groups.fetch_add(1, Ordering::SeqCst);
        let submitted = block_on(host.submit(session, number, group.to_vec())).map_err(failed)?;
        let lose = |left: u64| left.checked_sub(1);
        match self.faults.lose_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose) {
            Ok(_) => Err(LinkError::Broken("the answer is lost".into())),
            Err(_) => Ok(submitted),
        }
    }

    fn read(&self, partition: Partition, offset: u64, bytes_max: usize) -> Result<Vec<Batch>, LinkError> {
        self.host()?.read(partition, offset, bytes_max).map_err(refused)
    }

    fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, LinkError> {
        self.host()?.first_at_or_after(partition, timestamp_ms).map_err(refused)
    }

    fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, LinkError> {
        self.host()?.greatest_timestamp_ms(partition).map_err(refused)
    }

    fn marks(&self, keys: &[MarkKey]) -> Result<Answers, LinkError> {
        self.host()?.marks(keys).map_err(refused)
    }

    fn leave(&self, session: SessionId) {
        if let Ok(host) = self.host() {
            host.leave(session);
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

/// A log over a link, and the link.
pub(crate) fn connected(log: Log) -> (Log, Arc<Direct>) {
    let link = Direct::to(log);
    (another(&link), link)
}

/// One more process at the same node.
pub(crate) fn another(link: &Arc<Direct>) -> Log {
    let own: Arc<dyn Link> = match link.is_closed.load(Ordering::SeqCst) {
        false => link.clone(),
        true => panic!("the link is closed"),
    };
    Log::builder().connect(own, GRACE).unwrap()
}
