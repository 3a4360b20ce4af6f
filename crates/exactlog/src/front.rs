//! What a front end needs that speaks another protocol than this crate: batches as they are, into the log and out of
//! it.
//!
//! ```text
//!   batch -> room -> queued in the order of the calls -> Appending: its outcome, whenever it is wanted
//!                                                            \-> settings have changed: handed in once more
//!   other commands -> their replies
//! ```
//!
//! It isn't: a client. Records are neither made nor taken apart here, nobody is a member of a group, and positions are
//! the caller's.
//!
//! Invariants
//!   * a batch that was refused before it was queued left nothing behind
//!   * what is fetched is of one state: no batch lies at or behind the end that is told with it

use crate::clients::Traffic;
use crate::error::Error;
use crate::log::{Handle, Log};
use crate::queue::{Answer, Queue};
use crate::signal::Signal;
use crate::storing;
use crate::topic::Topic;
use exactlog_core::batch::{Batch, HEADER_BYTES};
use exactlog_core::command::{
    Command, ConfigChange, Dedup, KeptSettings, Protocol, SEMANTICS_LEVEL, Transactional,
};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::{Applied, Refusal, Reply};
use exactlog_core::state::{At, CommittedOffset, PartitionState, State, TransactionalProducer};
use exactlog_storage::shard::Durability;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bits of a connection's number that count inside of one open.
const CONNECTION_BITS: u32 = 40;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record: of the original, if this is a duplicate.
    pub base_offset: u64,
    /// Its largest timestamp, ms since 1970: of the original, if this is a duplicate.
    pub timestamp_ms: i64,
    /// First offset of the partition that can be read.
    pub start_offset: u64,
    /// Whether the log had these records of this producer already.
    pub duplicate: bool,
}

/// A batch that was handed in. Dropping it changes nothing: the batch is on its way.
#[derive(Debug)]
#[must_use = "whether the batch was taken is told by its outcome"]
pub struct Appending {
    inner: Handle,
    partition: Partition,
    batch: Batch,
    within: Option<Within>,
    answer: Arc<Answer>,
}

/// The wire transaction that a batch is handed in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// Its transactional id. Producer and epoch are the batch's.
    pub transactional_id: String,
    /// By [`Protocol::V2`] the batch brings its partition into the transaction.
    pub protocol: Protocol,
    /// Whether the sender's request knows TRANSACTION_ABORTABLE (Produce v11 and later).
    pub newer_codes: bool,
}

/// What can be said of a partition without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that can be read.
    pub start_offset: u64,
    /// Offset up to which readers of committed records get some.
    pub last_stable_offset: u64,
    /// Offset behind the last record.
    pub high_watermark: u64,
    /// The leader epoch that a record would show now.
    pub leader_epoch: u32,
}

/// A command that was handed in. Dropping it changes nothing: it is on its way.
#[derive(Debug)]
#[must_use = "what became of it is told by its reply"]
pub struct Asked(Arc<Answer>);

impl Asked {
    /// What became of it.
    ///
    /// # Errors
    /// Refusals, and whatever ends writing.
    ///
    /// # Cancel safety
    /// Dropped, it has changed nothing of what becomes of the command.
    pub async fn reply(self) -> Result<Reply, Error> {
        self.0.value().await.clone().map(|applied| applied.reply)
    }
}

/// What a partition remembers of a producer (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer: ProducerId,
    /// The epoch of its last batch.
    pub producer_epoch: i16,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, ms since 1970.
    pub last_timestamp_ms: i64,
    /// Coordinator epoch of its last marker; none: there was none.
    pub coordinator_epoch: Option<i32>,
    /// Offset of the first record of its open transaction; none: it has none here.
    pub transaction_start: Option<u64>,
}

/// Where a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Its directory, or what stands for one.
    pub location: String,
    /// Bytes that can still be written there; `None`: the system doesn't say.
    pub free_bytes: Option<u64>,
}

/// Which records are fetched (Kafka's `isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All of them.
    Uncommitted,
    /// Those below the last stable offset; which of them belong to aborted transactions is told beside.
    Committed,
}

/// What was fetched from a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Batches from the one that holds the offset on, in their order.
    pub batches: Vec<Batch>,
    /// Producer and first offset of each aborted transaction that has records among them, by first offset. Nothing if
    /// all records were wanted.
    pub aborted: Vec<(ProducerId, u64)>,
    /// First offset that can be read.
    pub start_offset: u64,
    /// Offset up to which readers of committed records get some.
    pub last_stable_offset: u64,
    /// Offset behind the last record (Kafka's high watermark: on one node all of them are safe).
    pub high_watermark: u64,
}

impl Fetched {
    /// What its batches have together, in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.batches.iter().map(Batch::len_bytes).sum()
    }
}

/// Tells when there may be something new in some topics.
#[derive(Debug)]
pub struct Arrivals {
    signal: Arc<Signal>,
}

impl Arrivals {
    /// What has been told so far. Taken before looking, so that nothing is missed.
    pub fn so_far(&self) -> u64 {
        self.signal.rung()
    }

    /// How many bytes have come into the topics since. Taken before looking: what was found may be among what comes,
    /// but never the other way round.
    pub fn bytes_so_far(&self) -> u64 {
        self.signal.bytes()
    }

    /// Waits until more has been told than that: records came into one of the topics, a transaction has ended there, or
    /// the log has failed or was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn after(&self, so_far: u64) {
        self.signal.wait(so_far).await;
    }
}

impl Log {
    /// Hands a finished record batch v2 in, with the producer id and sequence of whoever made it. Waits for room in the
    /// queue, not for the outcome: batches that are handed in one after the other are appended in this order.
    ///
    /// A topic with a [codec of its own](crate::TopicOptions::compression) gets it rewritten by this thread, as
    /// [`append_batch`](Log::append_batch) does.
    ///
    /// # Errors
    /// Nothing of the batch was queued: [`Error::Batch`], [`Error::Refused`] for a topic that isn't there, and whatever
    /// ends writing.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits for room, nothing was handed in.
    pub async fn submit_batch(
        &self,
        partition: Partition,
        batch: Batch,
        within: Option<Within>,
    ) -> Result<Appending, Error> {
        if within.is_some() {
            self.inner.only_here("a batch of one of Kafka's transactions")?;
        }
        let (config_version, stored) = to_store(&self.inner, partition, &batch)?;
        let claim = self.inner.queue.room().take(stored.len_bytes() + HEADER_BYTES).await?.claim();
        let command = match within.clone() {
            None => Command::Append { partition, config_version, expected_end: None, batch: stored },
            Some(Within { transactional_id, protocol, newer_codes }) => Transactional::Append {
                transactional_id,
                protocol,
                newer_codes,
                partition,
                config_version,
                batch: stored,
            }
            .into(),
        };
        let answer = self.inner.submit(command, None, Some(claim), Queue::push)?;
        Ok(Appending { inner: self.inner.clone(), partition, batch, within, answer })
    }

    /// Asks for anything else than a batch. What only the log itself says (that it was opened, that time passes, what
    /// becomes of timers and ids) isn't taken.
    ///
    /// # Errors
    /// Refusals, and whatever ends writing.
    ///
    /// # Panics
    /// For a command that isn't taken here.
    ///
    /// # Cancel safety
    /// Dropped behind its first poll, the command is on its way.
    pub async fn ask(&self, command: Command) -> Result<Reply, Error> {
        self.hand_in(command)?.reply().await
    }

    /// As [`ask`](Log::ask), in two steps: when this comes back the command has its place behind those before it, and
    /// in front of all that are handed in later.
    ///
    /// # Errors
    /// Nothing was handed in: [`Error::Closed`], [`Error::ReadOnly`].
    ///
    /// # Panics
    /// For a command that isn't taken here.
    pub fn hand_in(&self, command: Command) -> Result<Asked, Error> {
        let is_taken = match &command {
            Command::Open | Command::Tick | Command::Append { .. } | Command::Timer(_) => false,
            Command::Transactional(request) => !matches!(**request, Transactional::Append { .. }),
            Command::Dedup(request) => matches!(**request, Dedup::Forget { .. }),
            _ => true,
        };
        assert!(is_taken, "{} isn't for a front end to ask", command.kind_name());
        if matches!(command, Command::Transactional(_)) {
            self.inner.only_here("a request of Kafka's transactional producers")?;
        }
        self.inner.submit(command, None, None, Queue::push).map(Asked)
    }

    /// Raises the log to the semantics level of this build, in front of whatever is handed in later: names of groups
    /// are free text from here on. Nothing happens where it is so already. A build that doesn't know the level must not
    /// open the log afterwards.
    ///
    /// # Errors
    /// As [`hand_in`](Log::hand_in).
    pub fn raise_semantics_level(&self) -> Result<(), Error> {
        let level = SEMANTICS_LEVEL;
        if self.inner.state.read().semantics_level >= level {
            return Ok(());
        }
        self.hand_in(Command::Config(ConfigChange::SemanticsLevel { level })).map(drop)
    }

    /// What tells this log from all others: made from what it was created with, it never changes.
    pub fn identity(&self) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.inner.dedup_key().unwrap_or_default());
        hasher.write(b"identity of the log");
        hasher.finish128().as_bytes()
    }

    /// What [`ask`](Log::ask) would answer to a command that creates a topic, alters it or adds partitions to it, as
    /// things stand, without anything being done. The id of a topic that would be new means nothing.
    ///
    /// What `ask` doesn't look at is looked at here: whether the name is the log's own, and whether this build has the
    /// codec.
    ///
    /// # Errors
    /// Refusals; as [`check_new_topic`](Log::check_new_topic).
    ///
    /// # Panics
    /// For any other command.
    pub fn rehearse(&self, command: &Command) -> Result<Reply, Error> {
        self.inner.check_open()?;
        let mut scratch = State::default();
        let state = self.inner.state.read();
        let topic = match command {
            Command::CreateTopic { name, config, .. } => {
                self.check_new_topic(name, config)?;
                state.topic_names.get(name).copied()
            }
            Command::AlterTopic { topic, config } => {
                storing::check_setting(config)?;
                Some(*topic)
            }
            Command::CreatePartitions { topic, .. } => Some(*topic),
            Command::Config(ConfigChange::KeptSettings(_)) => None,
            _ => panic!("{} isn't rehearsed", command.kind_name()),
        };
        // Nothing else is looked at by these.
        if let Some((id, topic)) = topic.and_then(|id| Some((id, state.topics.get(&id)?))) {
            scratch.topics.insert(id, topic.clone());
            scratch.topic_names.insert(topic.name.clone(), id);
            scratch.tables = state.tables.clone();
        }
        let at = At { lsn: scratch.lsn + 1, term: 0, time_ms: state.time_ms };
        scratch.semantics_level = state.semantics_level;
        drop(state);
        match scratch.apply(at, command).reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Counts what clients were given of topics besides consumers of this process: records, and bytes.
    pub fn count_given(&self, given: impl IntoIterator<Item = (TopicId, u64, u64)>) {
        let given = given.into_iter().map(|(topic, records_out, bytes_out)| {
            (topic, Traffic { records_out, bytes_out, ..Traffic::default() })
        });
        self.inner.clients.add(given);
    }

    /// What topics have of the settings that change nothing, if they say nothing else.
    pub fn kept_settings(&self) -> KeptSettings {
        self.inner.state.read().kept.clone()
    }

    /// Whether whatever is acknowledged is synced before; of a log that is closed, or that a node keeps, no. It may
    /// wait for what is being written.
    pub fn syncs_first(&self) -> bool {
        self.inner.hold().is_some_and(|shard| shard.durability() == Durability::Fsync)
    }

    /// Where this log is, and how much more the disk can take there.
    pub fn place(&self) -> LogPlace {
        match self.inner.hold().map(|shard| shard.disk()) {
            Some(disk) => LogPlace { location: disk.location(), free_bytes: disk.free().ok() },
            None => LogPlace { location: self.inner.location(), free_bytes: None },
        }
    }

    /// What has to be free on the disk until something can be sent again, and what is, in bytes; `None`: nothing was
    /// refused for want of space, or there is as much by now. It may wait for what is being written.
    pub fn lacks_space(&self) -> Option<(u64, u64)> {
        self.inner.hold()?.lacks()
    }

    /// A batch as its topic stores it now: what [`submit_batch`](Log::submit_batch) makes of it on its caller's thread,
    /// for callers that have another one for long work.
    ///
    /// # Errors
    /// As [`submit_batch`](Log::submit_batch), without those that end writing.
    pub fn batch_to_store(&self, partition: Partition, batch: &Batch) -> Result<Batch, Error> {
        Ok(to_store(&self.inner, partition, batch)?.1)
    }

    /// What the segments of a partition take on disk, in bytes, without their indexes. What was written last may only
    /// be in the journal so far, which all partitions share: it isn't among it.
    ///
    /// # Errors
    /// As [`bounds_of`](Log::bounds_of); the log was closed.
    pub fn segment_bytes(&self, partition: Partition) -> Result<u64, Error> {
        self.find(partition)?;
        Ok(self.inner.read(|reader| Ok(reader.segment_bytes(partition)))?)
    }

    /// All topics by name, each with its id and how many partitions it has, unless ids and partitions are still those
    /// that are known, in this order.
    pub fn changed_topics(&self, known: &[(TopicId, u32)]) -> Option<Vec<(String, TopicId, u32)>> {
        let state = self.inner.state.read();
        let topics = || {
            let partitions = |id: &TopicId| Some(state.topics.get(id)?.partitions.len() as u32);
            state.topic_names.iter().filter_map(move |(name, id)| Some((name, *id, partitions(id)?)))
        };
        if topics().map(|(_, id, partitions)| (id, partitions)).eq(known.iter().copied()) {
            return None;
        }
        Some(topics().map(|(name, id, partitions)| (name.clone(), id, partitions)).collect())
    }

    /// The topic of this id. What the log keeps for itself isn't one.
    pub fn topic_by_id(&self, topic: TopicId) -> Option<Topic> {
        self.inner.topic(topic).filter(|topic| !topic.id().is_hidden())
    }

    /// What can be said of a partition without reading it.
    ///
    /// # Errors
    /// [`Refusal::UnknownTopic`], [`Refusal::UnknownPartition`].
    pub fn bounds_of(&self, partition: Partition) -> Result<Bounds, Error> {
        let (_, found) = self.find(partition)?;
        Ok(Bounds {
            start_offset: found.start,
            last_stable_offset: found.last_stable_offset(),
            high_watermark: found.end,
            leader_epoch: self.leader_epoch(&found),
        })
    }

    /// Where a leader epoch ends in a partition: the largest epoch that has records there and isn't above it, and the
    /// offset behind its last one (KIP-320). `None`: there was no such epoch yet.
    ///
    /// # Errors
    /// As [`bounds_of`](Log::bounds_of).
    pub fn leader_epoch_end(&self, partition: Partition, epoch: u32) -> Result<Option<(u32, u64)>, Error> {
        let (_, found) = self.find(partition)?;
        let (epochs, current) = (&found.leader_epochs, self.leader_epoch(&found));
        if epoch >= current {
            return Ok((epoch == current).then_some((current, found.end)));
        }
        let above = epochs.partition_point(|it| it.leader_epoch <= epoch);
        let next = epochs.get(above).map_or(found.end, |next| next.start_offset);
        // Below the first that is known there is nothing before that.
        let largest = above.checked_sub(1).map_or(epoch, |at| epochs[at].leader_epoch);
        Ok(Some((largest, next)))
    }

    /// A group's committed offset in a partition. `is_stable`: unless an open transaction is about to commit another
    /// one (OffsetFetch with `require_stable`, KIP-447).
    ///
    /// # Errors
    /// [`Refusal::UnstableOffset`].
    pub fn committed_offset(
        &self,
        group: &str,
        partition: Partition,
        is_stable: bool,
    ) -> Result<Option<CommittedOffset>, Error> {
        let state = self.inner.state.read();
        match is_stable {
            true => Ok(state.stable_offset(group, partition)?.cloned()),
            false => Ok(state.committed_offset(group, partition).cloned()),
        }
    }

    /// All groups, by name: each with how many members in this process it has.
    pub fn group_names(&self) -> Vec<(String, usize)> {
        let state = self.inner.state.read();
        state.groups.iter().map(|(name, group)| (name.clone(), group.members.len())).collect()
    }

    /// How many members in this process a group has; `None`: there is no such group.
    pub fn group_members(&self, group: &str) -> Option<usize> {
        self.inner.state.read().groups.get(group).map(|group| group.members.len())
    }

    /// The partitions in which a group has committed offsets, or a transaction is about to; `None`: there is no such
    /// group.
    pub fn committed_partitions(&self, group: &str) -> Option<Vec<Partition>> {
        let state = self.inner.state.read();
        let group = state.groups.get(group)?;
        let mut partitions: Vec<Partition> =
            group.offsets.keys().chain(group.pending.keys()).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        Some(partitions)
    }

    /// What is known of a transactional id: its producer, and where its transaction stands. `None`: there is no such
    /// id.
    pub fn transactional_id(&self, transactional_id: &str) -> Option<Arc<TransactionalProducer>> {
        self.inner.state.read().transactional.get(transactional_id).cloned()
    }

    /// All transactional ids in their order, each as [`transactional_id`](Log::transactional_id) tells it, of one
    /// state.
    pub fn transactional_ids(&self) -> Vec<(String, Arc<TransactionalProducer>)> {
        let state = self.inner.state.read();
        state.transactional.iter().map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    /// The producers that a partition remembers, in the order of their ids.
    ///
    /// # Errors
    /// As [`bounds_of`](Log::bounds_of).
    pub fn active_producers(&self, partition: Partition) -> Result<Vec<ActiveProducer>, Error> {
        let (_, found) = self.find(partition)?;
        let active = found.producers.iter().filter_map(|(producer, window)| {
            let last = window.batches.last()?;
            Some(ActiveProducer {
                producer: *producer,
                producer_epoch: window.producer_epoch,
                last_sequence: last.last_sequence,
                last_timestamp_ms: last.timestamp_ms,
                coordinator_epoch: window.coordinator_epoch,
                transaction_start: found.open.get(producer).map(|open| open.first_offset),
            })
        });
        Ok(active.collect())
    }

    /// The number of the next connection of a front end: larger than all before it, those of earlier opens included, as
    /// [`TransactionSender::connection`](exactlog_core::command::TransactionSender) wants it.
    pub fn next_connection(&self) -> u64 {
        let nth = self.inner.connections.fetch_add(1, Ordering::Relaxed) + 1;
        (self.inner.open_number << CONNECTION_BITS) | nth
    }

    /// The leader epoch that the record at an offset shows; `None` where it isn't known.
    pub fn leader_epoch_at(&self, partition: Partition, offset: u64) -> Option<u32> {
        let (_, found) = self.find(partition).ok()?;
        match offset < found.end {
            true => Some(found.leader_epoch_at(offset)),
            false => Some(self.leader_epoch(&found)),
        }
    }

    fn find(&self, partition: Partition) -> Result<(String, Arc<PartitionState>), Error> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        let topic = state.topics.get(&partition.topic).ok_or_else(|| unknown_topic(partition))?;
        let found = topic.partitions.get(partition.index as usize);
        let partitions = topic.partitions.len() as u32;
        let unknown = || Error::Refused(Refusal::UnknownPartition { partition, partitions });
        Ok((topic.name.clone(), found.cloned().ok_or_else(unknown)?))
    }

    fn leader_epoch(&self, found: &PartitionState) -> u32 {
        let term = self.inner.term.load(Ordering::Acquire);
        found.leader_epochs.last().map_or(term, |last| last.leader_epoch.max(term))
    }

    /// Batches of a partition from the one that holds an offset on: up to so many bytes, and at least one if there is
    /// one. None at the end.
    ///
    /// # Errors
    /// [`Refusal::UnknownTopic`], [`Refusal::UnknownPartition`]; [`Error::OffsetOutOfRange`] below the start and behind
    /// the end.
    pub fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        bytes_max: usize,
        isolation: Isolation,
    ) -> Result<Fetched, Error> {
        let (topic, found) = self.find(partition)?;
        let PartitionState { start, end, .. } = *found;
        if !(start..=end).contains(&offset) {
            return Err(Error::OffsetOutOfRange { topic, partition: partition.index, offset, start, end });
        }
        let last_stable_offset = found.last_stable_offset();
        let (mut batches, aborted) = match isolation {
            Isolation::Uncommitted => {
                (self.inner.read(|it| it.read(partition, offset, bytes_max))?, Vec::new())
            }
            Isolation::Committed => {
                let read = self.inner.read(|it| it.read_committed(partition, &found, offset, bytes_max))?;
                let aborted = read.aborted.iter().map(|it| (it.producer, it.first_offset));
                (read.batches, aborted.collect())
            }
        };
        batches.retain(|batch| batch.base_offset() < end);
        Ok(Fetched { batches, aborted, start_offset: start, last_stable_offset, high_watermark: end })
    }

    /// Whom to ask when there may be something new in one of these topics.
    pub fn arrivals(&self, topics: impl IntoIterator<Item = TopicId>) -> Arrivals {
        let signal: Arc<Signal> = Arc::default();
        self.inner.signals.watch(&signal);
        topics.into_iter().for_each(|topic| self.inner.signals.watch_topic(topic, &signal));
        Arrivals { signal }
    }
}

impl Appending {
    /// Where the batch is, once it is safe as the log's durability says.
    ///
    /// # Errors
    /// Refusals, such as a sequence out of order, and whatever ends writing. That the topic's settings have changed on
    /// the way is none: the batch is handed in once more, behind those that came meanwhile.
    ///
    /// # Cancel safety
    /// Dropped, it has changed nothing of what becomes of the batch.
    pub async fn outcome(mut self) -> Result<Appended, Error> {
        loop {
            match self.answer.value().await.clone() {
                Ok(Applied {
                    reply: Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate },
                    ..
                }) => {
                    return Ok(Appended { base_offset, timestamp_ms, start_offset, duplicate });
                }
                Ok(_) => unreachable!("Append answers with a place or a refusal"),
                Err(Error::Refused(Refusal::ConfigChanged { .. })) => {
                    let again = Log { inner: self.inner.clone() };
                    self = again.submit_batch(self.partition, self.batch, self.within).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn unknown_topic(partition: Partition) -> Error {
    Error::Refused(Refusal::UnknownTopic { topic: partition.topic })
}

/// A batch as its topic stores it now, and the version of the settings that say so.
fn to_store(inner: &Handle, partition: Partition, batch: &Batch) -> Result<(u32, Batch), Error> {
    let storing = inner.storing(partition.topic).ok_or_else(|| unknown_topic(partition))?;
    storing.check_client(batch)?;
    Ok((storing.config_version, storing.stored(batch)?))
}
