//! The log: open it, make topics, get producers and consumers, close it.

use crate::cleaning::{self, Cleaned, Cleaning};
use crate::clients::Clients;
use crate::clock::{Clock, Stamper};
use crate::consumer::ConsumerBuilder;
use crate::dedup::EventId;
use crate::error::Error;
use crate::event::Record;
use crate::far_half::{self, Begun, Far, Home, Link};
use crate::interval::{self, Interval};
use crate::maintenance::{self, Maintenance};
use crate::members::{Leaving, Members};
use crate::metrics::{Counters, DedupMetrics, Metrics};
use crate::producer::{Accumulator, Producer};
use crate::queue::{Answer, Push, Queue, Responder, Work};
use crate::read_only::Watch;
use crate::room::Claim;
use crate::samples::MetricsSource;
use crate::signal::{Signal, Signals};
use crate::source::{FarReader, Marks, Reader};
use crate::storing;
use crate::timer::Timing;
use crate::topic::{PartitionCounts, Topic, TopicOptions};
use crate::turns;
use crate::view::{self, ReadView, Views};
use crate::writer::{self, Desk};
use bytes::Bytes;
use exactlog_core::batch::Batch;
use exactlog_core::command::{
    Command, CommitToken, ConfigChange, TopicConfig, Transactional, is_legal_group_name, is_legal_name,
};
use exactlog_core::ids::{DedupId, Partition, TopicId};
use exactlog_core::reply::{Applied, Refusal, Reply};
use exactlog_core::state::{PartitionState, State, Undecided};
use exactlog_storage::cleaning::{Compacted, DueCompaction, Occasion};
use exactlog_storage::disk::{Disk, RealDisk};
use exactlog_storage::error::StorageError;
use exactlog_storage::index::LookedUp;
use exactlog_storage::shard::{Durability, Options, RecoveryReport, Shard};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An open event log. Cheap to clone; all clones are the same log.
///
/// When the last handle of any kind (log, producer, consumer) is dropped, the log is closed; [`close`](Log::close)
/// does the same and can say how it went.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) inner: Handle,
}

/// What every handle holds: the last one to go closes the log.
pub(crate) type Handle = Arc<Owner>;

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) queue: Queue,
    /// Who has it writes. Taken before the lock of the shard.
    pub(crate) desk: Mutex<Desk>,
    pub(crate) home: Home,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) reader: RwLock<Reader>,
    /// Of this open, as the reader.
    pub(crate) marks: RwLock<Marks>,
    /// Rung behind every group, for those elsewhere who follow.
    followers: Mutex<Vec<Weak<Signal>>>,
    /// Most bytes of commands in one group; a larger command is a group of its own.
    pub(crate) group_bytes_max: usize,
    /// Most bytes of one command.
    pub(crate) command_bytes_max: usize,
    pub(crate) signals: Signals,
    pub(crate) maintenance: Maintenance,
    pub(crate) interval: Interval,
    pub(crate) cleaning: Cleaning,
    /// How often it looks for old records by itself.
    pub(crate) cleanup_interval: Duration,
    pub(crate) partition_counts: PartitionCounts,
    pub(crate) views: Mutex<Views>,
    /// As the writer has left it.
    pub(crate) stamper: Mutex<Stamper>,
    pub(crate) counters: Counters,
    pub(crate) clients: Clients,
    /// Who else has metrics.
    pub(crate) sources: Mutex<Vec<Weak<dyn MetricsSource>>>,
    pub(crate) members: Members,
    pub(crate) timing: Timing,
    /// How long a view can be read.
    pub(crate) read_view_max: Duration,
    /// How often it was opened again in place. Changed under the lock of the shard.
    pub(crate) reopens: AtomicU64,
    /// Producers' batches on their way, to be told when the log is opened again.
    accumulators: Mutex<Vec<Weak<Accumulator>>>,
    /// Writing ended by a failure. Changed under the lock of the shard.
    pub(crate) failed: AtomicBool,
    /// That of the shard.
    pub(crate) term: AtomicU32,
    pub(crate) closed: AtomicBool,
    /// The key of the state, which never changes once it is there.
    dedup_key: OnceLock<[u8; 16]>,
    /// It was opened to be looked at: no command is taken.
    pub(crate) watch: Option<Watch>,
    started: Instant,
    pub(crate) clock: Clock,
    report: RecoveryReport,
    pub(crate) open_number: u64,
    /// Connections of front ends that were numbered in this open.
    pub(crate) connections: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("open_number", &self.open_number).finish_non_exhaustive()
    }
}

/// The threads and the lock of an open log.
#[derive(Debug)]
pub(crate) struct Owner {
    inner: Arc<Inner>,
    running: Mutex<Option<Running>>,
}

/// What has to be ended.
#[derive(Debug)]
struct Running {
    inner: Arc<Inner>,
    writer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    lock: Option<Lock>,
}

/// Keeps other processes out as long as it is there.
type Lock = Box<dyn fmt::Debug + Send + Sync>;

impl Deref for Owner {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl Owner {
    fn start(inner: Arc<Inner>, lock: Lock) -> Result<Owner, Error> {
        let writer = spawn(&inner, "exactlog-writer", turns::run)?;
        let behind = spawn(&inner, "exactlog-behind", maintenance::run);
        let cleaner = spawn(&inner, "exactlog-cleaner", cleaning::run);
        let interval = inner.interval.is_wanted().then(|| spawn(&inner, "exactlog-interval", interval::run));
        let (mut others, mut failed) = (Vec::new(), None);
        for thread in [Some(behind), Some(cleaner), interval].into_iter().flatten() {
            match thread {
                Ok(thread) => others.push(thread),
                Err(error) => failed = Some(error),
            }
        }
        let running = Running { inner: inner.clone(), writer, others, lock: Some(lock) };
        let owner = Owner { inner, running: Mutex::new(Some(running)) };
        failed.map_or(Ok(owner), Err)
    }

    /// For a log that a node keeps: who writes to it, and who follows it.
    fn start_far(inner: Arc<Inner>) -> Result<Owner, Error> {
        let writer = spawn(&inner, "exactlog-writer", turns::run)?;
        let follower = spawn(&inner, "exactlog-follower", far_half::follow);
        let (others, failed) = match follower {
            Ok(follower) => (vec![follower], None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let running = Running { inner: inner.clone(), writer, others, lock: None };
        let owner = Owner { inner, running: Mutex::new(Some(running)) };
        failed.map_or(Ok(owner), Err)
    }

    fn finish(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.queue.close();
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let here = std::thread::current().id();
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == here;
        if !turns::is_writing() && !is_own(&running.writer) && !running.others.iter().any(is_own) {
            return running.finish();
        }
        // The last handle went with a task that one of the log's own threads has woken: that thread can't wait for
        // itself. If there can be no other thread, the lock goes with the process.
        let closer = std::thread::Builder::new().name("exactlog-closer".into());
        let _ = closer.spawn(move || running.finish());
        Ok(())
    }
}

impl Running {
    fn finish(self) -> Result<(), Error> {
        let Running { inner, writer, others, lock } = self;
        // It waits for the writer, if for anybody: it has its answer when that ends.
        inner.cleaning.close();
        if let Some(far) = inner.far() {
            return Running::finish_far(&inner, far, writer, others);
        }
        // The writer first: what is on its way may need the journal to be recycled.
        let _ = writer.join();
        inner.maintenance.close();
        inner.interval.close();
        for thread in others {
            let _ = thread.join();
        }
        let mut shard = inner.shard().lock();
        // Without it the next open replays more; what is acknowledged is there all the same.
        if let Err(error) = maintenance::at_close(&mut shard) {
            tracing::warn!(%error, "no checkpoint at close");
        }
        let closed = shard.close();
        drop(shard);
        drop(lock);
        inner.signals.ring_all();
        closed.map_err(Error::Storage)
    }

    /// What is on its way is ordered, if the node can be reached; else its fate is unknown.
    fn finish_far(
        inner: &Inner,
        far: &Far,
        writer: JoinHandle<()>,
        others: Vec<JoinHandle<()>>,
    ) -> Result<(), Error> {
        far.end();
        let _ = writer.join();
        far.close();
        for thread in others {
            let _ = thread.join();
        }
        inner.signals.ring_all();
        Ok(())
    }
}

fn spawn(inner: &Arc<Inner>, name: &str, work: fn(&Inner)) -> Result<JoinHandle<()>, Error> {
    let inner = inner.clone();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&inner));
    thread.map_err(|error| Error::Storage(StorageError::io("start a thread", name, error)))
}

/// How a log is opened. Every setting has a default that is safe.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) options: Options,
    pace: Pace,
    pub(crate) disk: Option<Arc<dyn Disk>>,
}

/// What of the settings the threads and handles go by, and not the shard.
#[derive(Clone, Debug)]
struct Pace {
    clock: Clock,
    queue_bytes: usize,
    read_view_max: Duration,
    timers_held_bytes: u64,
    cleanup_interval: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            options: Options::default(),
            pace: Pace {
                clock: Clock::default(),
                queue_bytes: 4 * 1024 * 1024,
                read_view_max: Duration::from_secs(60),
                timers_held_bytes: 64 * 1024 * 1024,
                cleanup_interval: Duration::from_secs(300),
            },
            disk: None,
        }
    }
}

impl Builder {
    /// When an acknowledgement is given. Default [`Durability::Fsync`]: what is acknowledged survives a power loss.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Size of a journal file in bytes. Default 64 MiB; at least 1 MiB.
    #[must_use]
    pub fn journal_file_bytes(mut self, bytes: u64) -> Self {
        self.options.journal_file_bytes = bytes;
        self
    }

    /// Most bytes that journal files take together. Default 1 GiB; at least four times the size of one.
    #[must_use]
    pub fn journal_ring_bytes(mut self, bytes: u64) -> Self {
        self.options.journal_ring_bytes = bytes;
        self
    }

    /// How much the journal grows between checkpoints. Default 128 MiB.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.options.checkpoint_bytes = bytes;
        self
    }

    /// Most bytes of recent events kept in memory for consumers at the end. Default 64 MiB.
    #[must_use]
    pub fn tail_cache_bytes(mut self, bytes: u64) -> Self {
        self.options.tail_cache_bytes = bytes;
        self
    }

    /// How many ids of events are kept in memory (`dedup.memory.entries`): when there are more, they go into sorted
    /// files that are looked up. Default 200,000, at about 115 bytes each; on disk each takes 3.2 bytes of memory and
    /// 36 of the disk. It changes what is fast, not what is known.
    #[must_use]
    pub fn dedup_memory_entries(mut self, entries: u64) -> Self {
        self.options.dedup_memory_entries = entries;
        self
    }

    /// Most bytes that wait to be written before senders wait. Default 4 MiB.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.pace.queue_bytes = bytes;
        self
    }

    /// How long a [`ReadView`] can be read (`read.view.max.ms`). Default 60 s.
    #[must_use]
    pub fn read_view_max(mut self, life: Duration) -> Self {
        self.pace.read_view_max = life;
        self
    }

    /// How often it looks for records that are too old for their topics, or too many, and for what is to be compacted
    /// (`log.retention.check.interval.ms`). Default 5 minutes.
    #[must_use]
    pub fn cleanup_interval(mut self, interval: Duration) -> Self {
        self.pace.cleanup_interval = interval;
        self
    }

    /// How much of the hidden partition a few old timers may hold back, in bytes. If more is, and less than a quarter
    /// of it is needed, what is needed is written again at the end. Default 64 MiB.
    #[must_use]
    pub fn timers_held_bytes(mut self, bytes: u64) -> Self {
        self.pace.timers_held_bytes = bytes;
        self
    }

    /// Goes by this clock instead of the system's, for tests that [skip time](Log::skip_time) and open the log again.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.pace.clock = clock.clone();
        self
    }

    /// Keeps the log on this disk instead of a directory.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Opens or creates the log in a directory.
    ///
    /// # Errors
    /// [`StorageError::InUse`] names the directory and who has it open; [`StorageError::Damaged`] names file and
    /// position: nothing is changed then. [`StorageError::Setting`] names a setting that is out of its bounds.
    pub fn open(self, directory: impl AsRef<Path>) -> Result<Log, Error> {
        self.check()?;
        let disk = match self.disk {
            Some(disk) => disk,
            None => Arc::new(open_directory(directory.as_ref())?),
        };
        let lock = take_lock(&*disk)?;
        let mut random = random_from_system();
        let (shard, report) = Shard::open(disk, self.options, &mut random)?;
        Log::start(shard, report, lock, self.pace)
    }

    /// Opens the log that a node keeps, by a way to it. What belongs to the node isn't looked at: durability, journal,
    /// caches, cleaning. `grace`: how long consumers of this process stay members of their groups while the node hears
    /// nothing of it, 10 s for instance; 100 ms to 5 minutes.
    ///
    /// It waits for a node that goes away, for as long as that takes, and goes on with it: calls that wait for the log
    /// wait for its node.
    ///
    /// # Errors
    /// [`Error::Connection`] if the node can't be reached at first, or doesn't serve other processes.
    pub fn connect(self, link: Arc<dyn Link>, grace: Duration) -> Result<Log, Error> {
        let begun = Far::begin(link, grace)?;
        let (number, last_lsn) = (begun.state.open_number, begun.state.lsn);
        let report = RecoveryReport { last_lsn, term: begun.far.term(), ..RecoveryReport::default() };
        let inner = Inner::new(Parts::far(begun), report, number, self.pace);
        Ok(Log { inner: Arc::new(Owner::start_far(Arc::new(inner))?) })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        const FILE_BYTES_MIN: u64 = 1024 * 1024;
        const RING_FILES_MIN: u64 = 4;
        const INTERVAL_MAX: Duration = Duration::from_secs(3600);
        let Options { journal_file_bytes: file, journal_ring_bytes: ring, .. } = self.options;
        let setting =
            |name, value, bounds| Err(Error::Storage(StorageError::Setting { name, value, bounds }));
        if file < FILE_BYTES_MIN {
            return setting("journal.file.bytes", file, "at least 1 MiB");
        }
        if let Durability::Interval(length) = self.options.durability
            && !(Duration::from_millis(1)..=INTERVAL_MAX).contains(&length)
        {
            let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            return setting("durability interval in ms", ms, "1 to 3,600,000");
        }
        // With fewer there is no file left to give up: a writer would wait for ever.
        if ring / file < RING_FILES_MIN {
            return setting("journal.ring.bytes", ring, "at least four times journal.file.bytes");
        }
        Ok(())
    }
}

fn open_directory(directory: &Path) -> Result<RealDisk, Error> {
    RealDisk::new(directory).map_err(|error| {
        Error::Storage(StorageError::io("open the directory", directory.display().to_string(), error))
    })
}

pub(crate) fn take_lock(disk: &dyn Disk) -> Result<Box<dyn fmt::Debug + Send + Sync>, Error> {
    /// Who looks at a directory has its lock for an instant.
    const TRIES: u32 = 5;
    let owner = format!("process {}", std::process::id());
    let mut lock = disk.lock(&owner);
    for _ in 1..TRIES {
        if !lock.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        lock = disk.lock(&owner);
    }
    lock.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            Error::Storage(StorageError::InUse { directory: disk.location(), owner: error.to_string() })
        }
        _ => Error::Storage(StorageError::io("take the lock", "LOCK", error)),
    })
}

/// Numbers that no other process draws: nonces of journal files. Std's hasher keys come from the system.
pub(crate) fn random_from_system() -> impl FnMut() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut count = 0u64;
    move || {
        count += 1;
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(count);
        hasher.finish()
    }
}

/// A key for hashes of event ids.
fn new_dedup_key(random: &mut dyn FnMut() -> u64) -> [u8; 16] {
    let mut key = [0; 16];
    key.chunks_exact_mut(8).for_each(|half| half.copy_from_slice(&random().to_le_bytes()));
    key
}

/// What the names of topics begin with that the log keeps for itself.
const HIDDEN_TOPICS: &str = "__timers-";

/// What became of a commit that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its position in the log's order, if that is still kept.
    pub csn: Option<u64>,
}

impl Log {
    /// Opens or creates the log in a directory, with the defaults: what is acknowledged is on disk.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Log, Error> {
        Builder::default().open(directory)
    }

    /// Settings first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(mut shard: Shard, report: RecoveryReport, lock: Lock, pace: Pace) -> Result<Log, Error> {
        // The first command of every open: it proves that the journal can be written and fences earlier members.
        let time_ms = pace.clock.wall_ms().max(shard.state().time_ms);
        let submission = |command| exactlog_storage::shard::Submission { time_ms, command };
        let mut first = vec![submission(Command::Open)];
        if shard.state().dedup.key().is_none() {
            let key = new_dedup_key(&mut random_from_system());
            first.push(submission(Command::Config(ConfigChange::DedupKey { key })));
        }
        let applied = shard.execute(&first)?;
        let Some(Reply::Opened { number }) = applied.first().map(|applied| applied.reply.clone()) else {
            unreachable!("Open answers with a number")
        };
        let inner = Inner::new(Parts::here(shard), report, number, pace);
        let owner = Owner::start(Arc::new(inner), lock)?;
        owner.inner.maintenance.kick();
        Ok(Log { inner: Arc::new(owner) })
    }

    /// A log that nobody writes to: it has no threads and no lock.
    pub(crate) fn looking(shard: Shard, report: RecoveryReport, builder: &Builder, watch: Watch) -> Log {
        let number = shard.state().open_number;
        let inner = Inner::new(Parts::here(shard), report, number, builder.pace.clone());
        let inner = Arc::new(Inner { watch: Some(watch), ..inner });
        Log { inner: Arc::new(Owner { inner, running: Mutex::new(None) }) }
    }

    /// Creates a topic, or returns the one of this name if its options are equal.
    ///
    /// # Errors
    /// A topic of this name with other options: each difference is named. Illegal names and sizes. A codec that this
    /// build lacks ([`BatchError::CodecMissing`](crate::BatchError::CodecMissing)).
    pub fn create_topic(&self, name: &str, options: TopicOptions) -> Result<Topic, Error> {
        let TopicOptions { partitions, config } = options;
        self.check_new_topic(name, &config)?;
        let applied =
            self.inner.command(Command::CreateTopic { name: name.to_string(), partitions, config })?;
        match applied.reply {
            Reply::Topic { topic, .. } => {
                self.inner.topic(topic).ok_or(Error::NoSuchTopic { name: name.into() })
            }
            _ => unreachable!("CreateTopic answers with a topic or a refusal"),
        }
    }

    /// What can be said of a topic before the log is asked for it: whether its name is legal and not the log's own, and
    /// whether this build has its codec.
    ///
    /// # Errors
    /// As [`create_topic`](Log::create_topic).
    pub fn check_new_topic(&self, name: &str, config: &TopicConfig) -> Result<(), Error> {
        self.check_topic_name(name)?;
        storing::check_setting(config)
    }

    pub(crate) fn check_topic_name(&self, name: &str) -> Result<(), Error> {
        self.inner.check_name("topic", name)?;
        match name.starts_with(HIDDEN_TOPICS) {
            true => Err(Error::ReservedName { what: "topic", name: name.to_string() }),
            false => Ok(()),
        }
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]: it never creates one. [`Error::Closed`].
    pub fn open_topic(&self, name: &str) -> Result<Topic, Error> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        let found =
            state.topic_named(name).map(|(id, topic)| Topic::new(id, topic, &self.inner.partition_counts));
        found.ok_or_else(|| Error::NoSuchTopic { name: name.to_string() })
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Topic> {
        let state = self.inner.state.read();
        let counts = &self.inner.partition_counts;
        let handle = |id: &TopicId| Some(Topic::new(*id, state.topics.get(id)?, counts));
        state.topic_names.values().filter_map(handle).collect()
    }

    /// Replaces the settings of a topic; a new handle on it, which shows them. Older handles go on as well: what they
    /// send is judged by the settings that hold.
    ///
    /// # Errors
    /// A setting that is out of its bounds, a codec that this build lacks, and a topic that was deleted. Another
    /// `cleanup.policy` for a table ([`Refusal::TablePolicy`]).
    pub fn alter_topic(&self, topic: &Topic, config: TopicConfig) -> Result<Topic, Error> {
        storing::check_setting(&config)?;
        self.inner.command(Command::AlterTopic { topic: topic.id(), config })?;
        self.inner.topic(topic.id()).ok_or_else(|| Error::NoSuchTopic { name: topic.name().into() })
    }

    /// Makes a topic have this many partitions; how many it has now. Nothing happens if it has so many already. Groups
    /// that read it share the new ones, and all handles on it show them.
    ///
    /// Keys move: a key's later records may go to another partition than its earlier ones, so their order is kept in
    /// each partition only.
    ///
    /// # Errors
    /// Fewer than it has: none can be taken away. More than 100,000. Any for a table, whose keys would move
    /// ([`Refusal::TablePartitions`]).
    pub fn add_partitions(&self, topic: &Topic, partitions: u32) -> Result<u32, Error> {
        match self.inner.command(Command::CreatePartitions { topic: topic.id(), partitions })?.reply {
            Reply::Partitions { partitions, .. } => Ok(partitions),
            _ => unreachable!("CreatePartitions answers with a number or a refusal"),
        }
    }

    /// Deletes a topic with its records and the groups' positions in it, and if it is a table with its keys.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn delete_topic(&self, topic: &Topic) -> Result<(), Error> {
        self.inner.command(Command::DeleteTopic { topic: topic.id() }).map(|_| ())
    }

    /// Raises the first offset of a partition that can be read; records below it are gone.
    ///
    /// # Errors
    /// When `start` is behind the end.
    pub fn trim(&self, topic: &Topic, partition: u32, start: u64) -> Result<u64, Error> {
        self.inner.bounds(topic, partition)?;
        let partition = Partition { topic: topic.id(), index: partition };
        match self.inner.command(Command::Trim { partition, start })?.reply {
            Reply::Trimmed { start_offset } => Ok(start_offset),
            _ => unreachable!("Trim answers with a start or a refusal"),
        }
    }

    /// Does now what the log does by itself every few minutes, blocking the thread: lets go of records that are too old
    /// for their topics, or too many, and compacts where that gains something. Brings everything into segments for
    /// that, and makes checkpoints until the files are removed. Of each partition the segment that still grows stays.
    ///
    /// # Errors
    /// When writing fails: nothing is lost by that. [`Error::Closed`].
    pub fn clean(&self) -> Result<Cleaned, Error> {
        self.inner.check_open()?;
        self.check_writable()?;
        self.inner.cleaning.round([])
    }

    /// As [`clean`](Log::clean); this topic, which has to be a compacted one, is compacted also where that gains
    /// little. What was compacted, of all topics.
    ///
    /// # Errors
    /// As [`clean`](Log::clean).
    pub fn compact(&self, topic: &Topic) -> Result<Vec<Compacted>, Error> {
        self.inner.check_open()?;
        self.check_writable()?;
        self.inner.cleaning.round([topic.id()]).map(|cleaned| cleaned.compacted)
    }

    /// What [`compact`](Log::compact) would read and write again of a topic, as far as it is in segments by now.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn compactable(&self, topic: &Topic) -> Result<Vec<DueCompaction>, Error> {
        self.inner.check_open()?;
        let cleaner = self.inner.only_here("what could be compacted")?.lock().prospect();
        let asked = Occasion { asked: true, ..Occasion::at(self.inner.log_ms()) };
        let due = cleaner.due_compactions(&asked).into_iter();
        Ok(due.filter(|due| due.partition.topic == topic.id()).collect())
    }

    fn check_writable(&self) -> Result<(), Error> {
        self.inner.only_here("cleaning")?;
        match self.inner.watch {
            Some(_) => Err(Error::ReadOnly { directory: self.inner.location() }),
            None => Ok(()),
        }
    }

    /// Brings everything into segments now and makes a checkpoint, blocking the thread; the log does so by itself as it
    /// grows. Two checkpoints are kept: after the second call in a row the journal is as short as it gets.
    ///
    /// # Errors
    /// When writing fails: nothing is lost by that, the journal has it. [`Error::Closed`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.inner.check_open()?;
        self.inner.only_here("a checkpoint")?;
        self.inner.maintenance.checkpoint().map_err(Error::Storage)?;
        self.inner.check_open()
    }

    /// First offset that can be read, and the offset that the next record will get.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`], [`Error::Closed`].
    pub fn bounds(&self, topic: &Topic, partition: u32) -> Result<(u64, u64), Error> {
        self.inner.check_open()?;
        self.inner.bounds(topic, partition)
    }

    /// A producer of this name: always idempotent. An older one of the name is fenced.
    ///
    /// # Errors
    /// [`Error::IllegalName`], and whatever ends writing.
    pub fn producer(&self, name: &str) -> Result<Producer, Error> {
        Producer::open(&self.inner, name)
    }

    /// A consumer of this group: then say what it reads.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.inner.clone(), group)
    }

    /// A view of everything as of now: it sees each transaction wholly or not at all, over all partitions.
    pub fn read_view(&self) -> ReadView {
        ReadView::new(&self.inner)
    }

    /// The record at one offset, that of a [`Receipt`](crate::Receipt), say: as [`ReadView::record`] of a view that is
    /// opened for it, in less time.
    ///
    /// # Errors
    /// As [`ReadView::record`]; none expires.
    ///
    /// ```
    /// # use exactlog::{Event, Log, TopicOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = Log::open(directory.path())?;
    /// # let orders = log.create_topic("orders", TopicOptions::default())?;
    /// let sent = log.producer("shop")?.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
    /// let record = log.record(&orders, sent.partition, sent.offset)?.expect("it was sent");
    /// assert_eq!(record.value_str()?, "two chairs");
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self, topic: &Topic, partition: u32, offset: u64) -> Result<Option<Record>, Error> {
        view::newest_record(&self.inner, topic, partition, offset)
    }

    /// The committed offset of a group: the first record that isn't consumed; `None`: it never committed there.
    pub fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Option<u64> {
        let partition = Partition { topic: topic.id(), index: partition };
        self.inner.state.read().committed_offset(group, partition).map(|committed| committed.offset)
    }

    /// A request of one of Kafka's transactional producers (KIP-98): the low-level call of a front end that speaks
    /// their protocol. Embedded transactions are [`Producer::begin`].
    ///
    /// # Errors
    /// [`Error::Batch`] before anything is written; refusals, each with Kafka's code for the client; and
    /// [`Refusal::ConfigChanged`], after which the front end sends the batch again. A batch in another codec than the
    /// topic's is rewritten, as by [`append_batch`](Log::append_batch).
    pub fn transactional(&self, mut request: Transactional) -> Result<Reply, Error> {
        self.inner.only_here("a request of Kafka's transactional producers")?;
        if let Transactional::Append { partition, config_version, batch, .. } = &mut request {
            match self.inner.storing(partition.topic) {
                None => batch.check_client(usize::MAX)?,
                Some(storing) => {
                    storing.check_client(batch)?;
                    // By settings of another version it is refused, whatever its codec.
                    if storing.config_version == *config_version {
                        *batch = storing.stored(batch)?;
                    }
                }
            }
        }
        self.inner.command(request.into()).map(|applied| applied.reply)
    }

    /// Appends a finished record batch v2, as a Kafka client would send it, with its own producer id and sequence.
    ///
    /// # Errors
    /// [`Error::Batch`] before anything is written, also for a batch that is larger than the handle's settings allow;
    /// refusals such as a sequence out of order after. That the topic's settings have changed since the handle was made
    /// is no error: the log judges the batch by those that hold now.
    ///
    /// If the topic has a [codec of its own](TopicOptions::compression), a batch in another one is rewritten by this
    /// thread: the records and all fields of the header but length, codec and checksum stay what they are. The limit
    /// holds before and after; one whose records can't be read is refused ([`Error::Batch`]).
    pub fn append_batch(&self, topic: &Topic, partition: u32, batch: Bytes) -> Result<u64, Error> {
        let batch = Batch::parse(batch)?;
        batch.check_client(topic.config().max_message_bytes as usize)?;
        let partition = Partition { topic: topic.id(), index: partition };
        let mut config_version = topic.config_version();
        loop {
            // By settings that are not older than this version: if they are newer, it is refused, and comes again.
            let batch = match self.inner.storing(topic.id()) {
                Some(storing) => storing.stored(&batch)?,
                None => batch.clone(),
            };
            let command = Command::Append { partition, config_version, expected_end: None, batch };
            match self.inner.command(command) {
                Ok(Applied { reply: Reply::Appended { base_offset, .. }, .. }) => return Ok(base_offset),
                Ok(_) => unreachable!("Append answers with a place or a refusal"),
                // Nothing was looked at but the version: the same batch again, judged by the new settings.
                Err(Error::Refused(Refusal::ConfigChanged { current, .. })) => config_version = current,
                Err(error) => return Err(error),
            }
        }
    }

    /// Confirms that the wall clock is right after a step ahead that was not followed.
    ///
    /// # Errors
    /// Whatever ends writing.
    pub fn accept_time(&self) -> Result<(), Error> {
        let time_ms = self.inner.clock.wall_ms();
        self.inner.command(Command::Config(ConfigChange::AcceptTime { time_ms })).map(|_| ())
    }

    /// Lets the clocks of this log go on by so much at once, for tests: what was to come in that time is due. Events
    /// that are delivered later, leases, transactions that time out, what is forgotten or too old. Nothing that waits
    /// in the system's time wakes up by it: neither pauses between attempts of a processor nor a
    /// [`blocking_next_for`](crate::Consumer::blocking_next_for).
    ///
    /// What is written from then on is stamped as of then. A log that was let go ahead, and is opened again by the
    /// system's clocks, stands still until these have come as far: give it the same [`Clock`](Builder::clock).
    ///
    /// ```
    /// # use exactlog::{Event, Log, TopicOptions};
    /// # use std::time::Duration;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let log = Log::open(directory.path()).unwrap();
    /// # let reminders = log.create_topic("reminders", TopicOptions::default()).unwrap();
    /// let mut consumer = log.consumer("mailer").subscribe([&reminders])?;
    /// let day = Duration::from_secs(24 * 3600);
    /// log.producer("shop")?.blocking_send_after(&reminders, Event::new("order-1", "pay it"), day)?;
    /// assert!(consumer.try_next()?.is_none());
    /// log.skip_time(day);
    /// assert_eq!(consumer.blocking_next()?.unwrap().records()[0].key(), b"order-1");
    /// # Ok::<_, exactlog::Error>(())
    /// ```
    pub fn skip_time(&self, time: Duration) {
        self.inner.clock.skip(time);
        self.inner.queue.nudge();
        self.inner.cleaning.skip_time();
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    /// Whether and where a commit was applied: `None` if it certainly was not. After an [`Error::Unknown`] ask when the
    /// log is open again.
    ///
    /// # Errors
    /// [`Refusal::CommitForgotten`](crate::Refusal::CommitForgotten) when the token is too old to say.
    pub fn outcome(&self, token: CommitToken) -> Result<Option<Outcome>, Error> {
        match self.inner.state.read().outcome(&token) {
            Ok(Some(Reply::Committed(committed))) => Ok(Some(Outcome { csn: Some(committed.lsn) })),
            Ok(Some(_)) => Ok(Some(Outcome { csn: None })),
            Err(refusal @ Refusal::CommitForgotten { .. }) => Err(Error::Refused(refusal)),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Opens the log again in place after a failure, under the same lock: the journal decides what became of what
    /// was in flight, producers and consumers go on. Without a failure nothing happens.
    ///
    /// # Errors
    /// What opening can answer; the log then stays as it is, readable.
    pub fn reopen(&self) -> Result<(), Error> {
        if self.inner.far().is_some() {
            return self.reopen_far();
        }
        // In this order: a round that runs belongs to the open that ends here.
        let _quiet = self.inner.maintenance.pause();
        let mut shard = self.inner.shard().lock();
        self.inner.check_open()?;
        // A reopen that failed half-way may have left a shard that writes, but nobody was told.
        if shard.failure().is_none() && !self.inner.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let reopened = match shard.failure() {
            Some(_) => shard.reopen(&mut random_from_system()).map(|_| ()),
            None => Ok(()),
        };
        let mut given_up = Vec::new();
        // Also if it failed: what can be read may be another journal by now.
        *self.inner.reader.write() = Reader::Here(shard.reader());
        *self.inner.marks.write() = Marks::Here(shard.runs().clone());
        if shard.failure().is_none() {
            tracing::info!(lsn = shard.journal().last_lsn(), term = shard.term(), "the log is open again");
            self.inner.term.store(shard.term(), Ordering::Release);
            given_up = self.inner.go_on();
        }
        drop(shard);
        writer::answer_all(given_up, &writer::reopened());
        self.inner.signals.ring_all();
        self.inner.queue.nudge();
        self.inner.maintenance.kick();
        reopened.map_err(Error::Storage)
    }

    /// A node that was away is gone on with by itself: only a panic at the desk ends writing here.
    fn reopen_far(&self) -> Result<(), Error> {
        self.inner.check_open()?;
        if self.inner.failed.load(Ordering::Acquire) {
            writer::answer_all(self.inner.go_on(), &writer::reopened());
            self.inner.signals.ring_all();
            self.inner.queue.nudge();
        }
        Ok(())
    }

    /// Counters and gauges as of now. Of a log that a node keeps only what this process has counted, and what the state
    /// says: the rest is 0 here, and told by the node.
    pub fn metrics(&self) -> Metrics {
        let Some(shard) = self.inner.hold() else { return self.metrics_far() };
        let (open, oldest_ms) = {
            let state = shard.state();
            let started = || state.open_transactions().map(|(_, transaction)| transaction.started_ms);
            (started().count() as u64, started().min())
        };
        let ids = {
            let (state, ids) = (shard.state(), &shard.state().dedup);
            let known_ms = state.time_ms.saturating_sub(ids.complete_since_ms());
            let window_ms = ids.limits().ttl_ms.min(known_ms.max(0) as u64);
            let since_ms = Some(ids.complete_since_ms()).filter(|since_ms| *since_ms != i64::MIN);
            (ids.marked(), ids.reserved(), window_ms, ids.in_memory(), since_ms)
        };
        let timers = self.timer_metrics();
        let tables = (shard.state().tables.len() as u64, shard.state().tables.keys());
        Metrics {
            tables: tables.0,
            table_keys: tables.1,
            dedup_entries: ids.0,
            dedup_reserved: ids.1,
            dedup_window_ms: ids.2,
            dedup: DedupMetrics {
                in_memory: ids.3,
                complete_since_ms: ids.4,
                ..DedupMetrics::of(&shard.runs().stats(shard.state().dedup.runs()))
            },
            open_transactions: open,
            oldest_transaction_ms: oldest_ms,
            lsn: shard.journal().last_lsn(),
            durable_lsn: shard.journal().durable_lsn(),
            queue_bytes: self.inner.queue.room().bytes() as u64,
            tail_cache_bytes: shard.cached_bytes(),
            journal_bytes: shard.journal().used_bytes(),
            unflushed_batches: shard.unflushed_batches() as u64,
            failed: shard.failure().is_some(),
            timers,
            ..self.inner.counters.snapshot()
        }
    }

    fn metrics_far(&self) -> Metrics {
        let timers = self.timer_metrics();
        let state = self.inner.state.read();
        let started = || state.open_transactions().map(|(_, transaction)| transaction.started_ms);
        Metrics {
            tables: state.tables.len() as u64,
            table_keys: state.tables.keys(),
            dedup_entries: state.dedup.marked(),
            dedup_reserved: state.dedup.reserved(),
            open_transactions: started().count() as u64,
            oldest_transaction_ms: started().min(),
            lsn: state.lsn,
            durable_lsn: state.lsn,
            queue_bytes: self.inner.queue.room().bytes() as u64,
            failed: self.inner.failed.load(Ordering::Acquire),
            timers,
            ..self.inner.counters.snapshot()
        }
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.report
    }

    /// Closes the log: what is on its way is written, then the journal is sealed. All other handles answer
    /// [`Error::Closed`] from now on. Dropping the last handle does the same, but can't report.
    ///
    /// # Errors
    /// When the last write or sync failed. The next open finds what was acknowledged all the same.
    pub fn close(self) -> Result<(), Error> {
        self.inner.finish()
    }
}

/// What a log stands on.
struct Parts {
    home: Home,
    state: Arc<RwLock<State>>,
    reader: Reader,
    marks: Marks,
    durability: Durability,
    term: u32,
    group_bytes_max: usize,
    command_bytes_max: usize,
}

impl Parts {
    fn here(shard: Shard) -> Parts {
        Parts {
            state: shard.shared_state(),
            reader: Reader::Here(shard.reader()),
            marks: Marks::Here(shard.runs().clone()),
            durability: shard.durability(),
            term: shard.term(),
            group_bytes_max: shard.group_bytes_max(),
            command_bytes_max: shard.command_bytes_max(),
            home: Home::Here(Box::new(Mutex::new(shard))),
        }
    }

    fn far(begun: Begun) -> Parts {
        let Begun { far, state, welcome } = begun;
        let state = Arc::new(RwLock::new(state));
        Parts {
            reader: Reader::Far(FarReader { far: far.clone(), state: state.clone() }),
            marks: Marks::Far(far.clone()),
            state,
            // How safe a command is when it is answered is the node's to say.
            durability: Durability::Fsync,
            term: far.term(),
            group_bytes_max: welcome.group_bytes_max,
            command_bytes_max: welcome.command_bytes_max,
            home: Home::Far(far),
        }
    }
}

impl Inner {
    fn new(parts: Parts, report: RecoveryReport, open_number: u64, pace: Pace) -> Inner {
        let Pace { clock, queue_bytes, read_view_max, timers_held_bytes, cleanup_interval } = pace;
        let state_ms = parts.state.read().time_ms;
        let interval = Interval::new(parts.durability);
        let term = AtomicU32::new(parts.term);
        Inner {
            queue: Queue::new(queue_bytes),
            desk: Mutex::new(Desk::new(state_ms, &clock)),
            state: parts.state,
            reader: RwLock::new(parts.reader),
            marks: RwLock::new(parts.marks),
            followers: Mutex::default(),
            group_bytes_max: parts.group_bytes_max,
            command_bytes_max: parts.command_bytes_max,
            home: parts.home,
            signals: Signals::default(),
            maintenance: Maintenance::default(),
            interval,
            cleaning: Cleaning::default(),
            cleanup_interval,
            partition_counts: PartitionCounts::default(),
            views: Mutex::new(Views::new(read_view_max)),
            stamper: Mutex::new(Stamper::new(state_ms, clock.ahead_ms(), clock.wall_ms())),
            counters: Counters::default(),
            clients: Clients::default(),
            sources: Mutex::default(),
            members: Members::default(),
            timing: Timing::new(state_ms, &clock, timers_held_bytes),
            read_view_max,
            reopens: AtomicU64::new(0),
            accumulators: Mutex::default(),
            failed: AtomicBool::new(false),
            term,
            closed: AtomicBool::new(false),
            dedup_key: OnceLock::new(),
            watch: None,
            started: Instant::now(),
            clock,
            report,
            open_number,
            connections: AtomicU64::new(0),
        }
    }

    /// The shard of a log that this process keeps: only for what such a log alone has, its threads among it.
    pub(crate) fn shard(&self) -> &Mutex<Shard> {
        match &self.home {
            Home::Here(shard) => shard,
            Home::Far(_) => unreachable!("what only a log of this process has asks for its shard"),
        }
    }

    /// The shard, held, if this process has it.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, Shard>> {
        match &self.home {
            Home::Here(shard) => Some(shard.lock()),
            Home::Far(_) => None,
        }
    }

    /// The shard, for what nobody else can do.
    pub(crate) fn only_here(&self, what: &'static str) -> Result<&Mutex<Shard>, Error> {
        match &self.home {
            Home::Here(shard) => Ok(shard),
            Home::Far(_) => Err(Error::NotOverConnection { what }),
        }
    }

    /// This process's half of a log that a node keeps, if it is one.
    pub(crate) fn far(&self) -> Option<&Far> {
        match &self.home {
            Home::Here(_) => None,
            Home::Far(far) => Some(far),
        }
    }

    /// Where the log is kept, for messages.
    pub(crate) fn location(&self) -> String {
        match &self.home {
            Home::Here(shard) => shard.lock().disk().location(),
            Home::Far(far) => far.peer(),
        }
    }

    /// Has this rung behind every group from now on.
    pub(crate) fn follow_by(&self, signal: &Arc<Signal>) {
        self.signals.watch(signal);
        let mut followers = self.followers.lock();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(signal));
    }

    /// A group was applied.
    pub(crate) fn tell_followers(&self) {
        let followers: Vec<Arc<Signal>> = self.followers.lock().iter().filter_map(Weak::upgrade).collect();
        followers.iter().for_each(|follower| follower.ring());
    }

    /// After a reopen, under the lock of the shard: producers go on behind what the log holds of them, and members
    /// that nobody knows leave. Who waits for what was given up is to be answered without the lock.
    fn go_on(&self) -> Vec<Responder<u64>> {
        let reopens = self.reopens.load(Ordering::Acquire) + 1;
        let given_up = self.restart_all(reopens);
        for (name, group) in &self.state.read().groups {
            // Whoever joined in the group that failed was told that it is unknown, and has no handle.
            for member in group.members.keys().filter(|member| self.members.polls(**member).is_none()) {
                self.members.leave(Leaving { group: name.clone(), member: *member, fenced: true });
            }
        }
        self.partition_counts.refresh(&self.state.read());
        self.reopens.store(reopens, Ordering::Release);
        self.failed.store(false, Ordering::Release);
        given_up
    }

    /// Lets all producers go on behind what the log holds of them: [`writer::restart`]. Under the lock of the shard.
    pub(crate) fn restart_all(&self, reopens: u64) -> Vec<Responder<u64>> {
        let accumulators: Vec<_> = self.accumulators.lock().iter().filter_map(Weak::upgrade).collect();
        accumulators.iter().flat_map(|accumulator| writer::restart(self, accumulator, reopens)).collect()
    }

    /// Reads. What fails since the log is being opened again is asked of the new open.
    pub(crate) fn read<T>(
        &self,
        work: impl Fn(&Reader) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        loop {
            let reader = self.reader.read().clone();
            let read = work(&reader);
            if let Some(watch) = &self.watch {
                watch.check()?;
            }
            if read.is_ok() {
                return read;
            }
            // While the log is opened again somebody has the shard.
            drop(self.hold());
            if self.reader.read().is_of_same_open(&reader) {
                return read;
            }
        }
    }

    /// The batch that holds an offset, which lies below the end.
    pub(crate) fn look_up(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
    ) -> Result<LookedUp, StorageError> {
        self.read_below_end(topic, partition, |reader, at| reader.look_up(at, offset))
    }

    /// Batches from the one that holds an offset on, which lies below the end: at least one, then up to `max_bytes`.
    pub(crate) fn batches(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, StorageError> {
        self.read_below_end(topic, partition, |reader, at| {
            reader.read(at, offset, max_bytes).map(|batches| Some(batches).filter(|found| !found.is_empty()))
        })
    }

    /// Reads where there is something. A reader of before a reopen may not know of it.
    fn read_below_end<T>(
        &self,
        topic: &Topic,
        partition: u32,
        work: impl Fn(&Reader, Partition) -> Result<Option<T>, StorageError>,
    ) -> Result<T, StorageError> {
        let at = Partition { topic: topic.id(), index: partition };
        self.read(|reader| {
            let missing = || StorageError::Reopened { file: format!("{}-{partition}", topic.name()) };
            work(reader, at)?.ok_or_else(missing)
        })
    }

    /// Submits a command and waits for its answer. For the rare ones; records go through accumulators.
    pub(crate) fn command(&self, command: Command) -> Result<Applied, Error> {
        let answer = self.submit(command, None, None, Queue::push_quietly)?;
        self.wait_for(&answer).clone()
    }

    /// Submits a command, with the room that was taken for it. `since`: see [`Work::Command`]. It is
    /// [`pushed quietly`](Queue::push_quietly) by who then [waits](Inner::wait_for) for the answer, at once.
    pub(crate) fn submit(
        &self,
        command: Command,
        since: Option<u64>,
        claim: Option<Claim>,
        push: Push,
    ) -> Result<Arc<Answer>, Error> {
        if self.watch.is_some() {
            return Err(Error::ReadOnly { directory: self.location() });
        }
        let answer: Arc<Answer> = Arc::default();
        let responder = Responder::new(answer.clone(), claim);
        match push(&self.queue, Work::Command { command, since, responder }) {
            true => Ok(answer),
            false => Err(Error::Closed),
        }
    }

    pub(crate) fn register(&self, accumulator: &Arc<Accumulator>) {
        let mut accumulators = self.accumulators.lock();
        accumulators.retain(|accumulator| accumulator.strong_count() > 0);
        accumulators.push(Arc::downgrade(accumulator));
    }

    /// What no log takes as the name of a group. Whether this one takes free text is its own to say.
    pub(crate) fn check_group_name(&self, name: &str) -> Result<(), Error> {
        match is_legal_group_name(name) {
            true => Ok(()),
            false => Err(Refusal::IllegalGroupName { name: name.to_string() }.into()),
        }
    }

    pub(crate) fn check_name(&self, what: &'static str, name: &str) -> Result<(), Error> {
        if is_legal_name(name) { Ok(()) } else { Err(Error::IllegalName { what, name: name.to_string() }) }
    }

    pub(crate) fn topic(&self, id: TopicId) -> Option<Topic> {
        self.state.read().topics.get(&id).map(|topic| Topic::new(id, topic, &self.partition_counts))
    }

    pub(crate) fn bounds(&self, topic: &Topic, partition: u32) -> Result<(u64, u64), Error> {
        self.of_partition(topic, partition, |found| (found.start, found.end))
    }

    /// First offset that can be read, and where the records end whose transactions are decided.
    pub(crate) fn stable_bounds(&self, topic: &Topic, partition: u32) -> Result<(u64, u64), Error> {
        self.of_partition(topic, partition, |found| (found.start, found.last_stable_offset()))
    }

    /// First offset that can be read, and what of these offsets isn't shown.
    pub(crate) fn undecided(
        &self,
        topic: &Topic,
        partition: u32,
        from: u64,
        to: u64,
    ) -> Result<(u64, Undecided), Error> {
        self.of_partition(topic, partition, |found| (found.start, found.undecided_between(from, to)))
    }

    fn of_partition<T>(
        &self,
        topic: &Topic,
        partition: u32,
        look: impl FnOnce(&PartitionState) -> T,
    ) -> Result<T, Error> {
        let state = self.state.read();
        let found = state.partition(Partition { topic: topic.id(), index: partition });
        found.map(look).ok_or_else(|| Error::NoSuchPartition {
            topic: topic.name().to_string(),
            partition,
            partitions: topic.partitions(),
        })
    }

    /// The key for hashes of event ids; a log that is only looked at may have none.
    pub(crate) fn dedup_key(&self) -> Option<[u8; 16]> {
        match self.dedup_key.get() {
            Some(key) => Some(*key),
            None => {
                let key = self.state.read().dedup.key();
                key.map(|key| *self.dedup_key.get_or_init(|| key))
            }
        }
    }

    /// What stands for an id of an event.
    pub(crate) fn dedup_id(&self, id: &EventId) -> Result<DedupId, Error> {
        let read_only = || Error::ReadOnly { directory: self.location() };
        id.in_log(self.dedup_key())?.ok_or_else(read_only)
    }

    /// Whether waiting for more makes no sense any more.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn monotonic_ms(&self) -> i64 {
        (self.started.elapsed().as_millis() as i64).saturating_add(self.clock.ahead_ms())
    }
}
