//! The node, and what a test lets happen to it.
//!
//! Invariants
//!   * it keeps its port: clients find it again after each crash
//!   * when a crash is taken nobody is answered any more: what a client was told before is on the disk

use crate::faults::{Fault, Faults};
use crate::refusal::Api;
use exactlog::{Clock, Log};
use exactlog_broker::{NodeOptions, Running, bind};
use exactlog_sim::disk::{SimDisk, Survival};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What becomes of starting a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] exactlog::Error),
    /// The port can't be had.
    #[error(transparent)]
    Node(#[from] exactlog_broker::Error),
}

/// How a node for tests is started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What it does for its clients. Topics are created on first use, a replication factor above 1 is accepted, and
    /// groups don't wait for more members; its port is a free one of 127.0.0.1, whatever stands here.
    pub node: NodeOptions,
}

impl Default for Options {
    fn default() -> Self {
        let node = NodeOptions {
            creates_topics: true,
            accepts_replicas: true,
            initial_rebalance_delay: Duration::ZERO,
            ..NodeOptions::default()
        };
        Options { node }
    }
}

/// A node for tests. Dropped, its connections are cut, and nothing of it is left.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use exactlog_testkit::{Api, TestBroker, code};
///
/// let mut broker = TestBroker::start().await?;
/// broker.fail_next(Api::Produce, code::NOT_LEADER_OR_FOLLOWER);
/// println!("bootstrap.servers={}", broker.bootstrap());
/// // .. a client produces: it tries again, and succeeds ..
/// broker.crash_and_restart().await?;
/// // .. what it was told is there.
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    options: NodeOptions,
    disk: SimDisk,
    clock: Clock,
    log: Log,
    faults: Arc<Faults>,
    address: SocketAddr,
    /// None only while one ends and the next hasn't begun.
    running: Option<Running>,
}

/// Small files: a disk that is memory is quickly filled with zeroes, and a test opens many.
const JOURNAL_FILE_BYTES: u64 = 4 * 1024 * 1024;
const JOURNAL_RING_BYTES: u64 = 64 * 1024 * 1024;

impl TestBroker {
    /// Starts one, on a port that is free and with nothing in it. It needs a runtime of tokio, with its timers and I/O.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start() -> Result<TestBroker, Error> {
        TestBroker::start_with(Options::default()).await
    }

    /// As [`start`](TestBroker::start), with options.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start_with(options: Options) -> Result<TestBroker, Error> {
        let (disk, clock, faults) = (SimDisk::new(), Clock::default(), Arc::new(Faults::new()));
        let options = NodeOptions { listen: (Ipv4Addr::LOCALHOST, 0).into(), http: None, ..options.node };
        let log = open(&disk, &clock)?;
        let running = serve(&options, &log, &faults).await?;
        let address = running.address();
        let options = NodeOptions { listen: address, ..options };
        Ok(TestBroker { options, disk, clock, log, faults, address, running: Some(running) })
    }

    /// Where it listens, as clients are told it: `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log, to look at beside its clients. After a crash it is another one.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The next request of this API is refused as a whole with one of [Kafka's codes](crate::code), and nothing of it
    /// is done.
    pub fn fail_next(&self, api: Api, code: i16) {
        self.faults.want(api, Fault::Refuse(code));
    }

    /// The next request of this API is done, and its connection ends instead of the answer: its client can't know.
    pub fn lose_answer(&self, api: Api) {
        self.faults.want(api, Fault::Unanswered);
    }

    /// The connection of the next request of this API ends, and nobody has heard it.
    pub fn cut_next(&self, api: Api) {
        self.faults.want(api, Fault::Cut);
    }

    /// The next request of this API is done so much later, and so is what its client has sent behind it.
    pub fn delay_next(&self, api: Api, time: Duration) {
        self.faults.want(api, Fault::Delay(time));
    }

    /// How many of such wishes no request has come for yet.
    pub fn pending_faults(&self) -> usize {
        self.faults.waiting()
    }

    /// Forgets wishes that no request has come for.
    pub fn clear_faults(&self) {
        self.faults.clear();
    }

    /// Requests wait from now on, as those of a node that doesn't get the processor any more; connections stay.
    pub fn pause(&self) {
        self.faults.pause(true);
    }

    /// Requests go on.
    pub fn resume(&self) {
        self.faults.pause(false);
    }

    /// The process is killed and started again: connections are cut, and what the system had written is there.
    ///
    /// # Errors
    /// [`Error`]: it isn't running any more.
    ///
    /// # Cancel safety
    /// Not safe: dropped on its way it isn't running any more, and the next call starts it.
    pub async fn crash_and_restart(&mut self) -> Result<(), Error> {
        self.restart(SimDisk::process_kill).await
    }

    /// The power is cut, and the node started again: of what wasn't synced a part is there that this number chooses.
    ///
    /// # Errors
    /// As [`crash_and_restart`](TestBroker::crash_and_restart).
    pub async fn power_loss_and_restart(&mut self, seed: u64) -> Result<(), Error> {
        self.restart(|disk| disk.power_loss(&mut Survival::random(seed))).await
    }

    async fn restart(&mut self, crash: impl FnOnce(&SimDisk) -> SimDisk) -> Result<(), Error> {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
        self.disk = crash(&self.disk);
        // What the one before still does is done to a disk that nobody has.
        self.log = open(&self.disk, &self.clock)?;
        self.running = Some(serve(&self.options, &self.log, &self.faults).await?);
        Ok(())
    }

    /// The disk takes no more than it has: whatever adds data is refused with KAFKA_STORAGE_ERROR soon.
    pub fn fill_disk(&self) {
        self.disk.set_capacity(Some(0));
    }

    /// The disk takes as much as there is again.
    pub fn free_disk(&self) {
        self.disk.set_capacity(None);
    }

    /// Lets the clocks of node and log go on by so much at once: sessions of members and transactions time out, delayed
    /// events are due, records and offsets get old. Waiting for records isn't shortened by it.
    pub fn skip_time(&self, time: Duration) {
        self.log.skip_time(time);
        if let Some(running) = &self.running {
            running.time_was_skipped();
        }
    }

    /// Ends it as `exactlog serve` does when it is told to: what is due is answered.
    ///
    /// # Errors
    /// [`Error::Log`]: what the last write has come to.
    pub async fn stop(mut self) -> Result<(), Error> {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        Ok(self.log.close()?)
    }
}

fn open(disk: &SimDisk, clock: &Clock) -> Result<Log, exactlog::Error> {
    let builder =
        Log::builder().journal_file_bytes(JOURNAL_FILE_BYTES).journal_ring_bytes(JOURNAL_RING_BYTES);
    builder.clock(clock).disk(Arc::new(disk.clone())).open("a disk for tests")
}

async fn serve(options: &NodeOptions, log: &Log, faults: &Arc<Faults>) -> Result<Running, Error> {
    let bound = bind(options.clone()).await?;
    Ok(bound.intervene(faults.clone()).serve(log))
}
