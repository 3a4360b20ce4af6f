//! What a front end needs that speaks another protocol than this crate: batches as they are, into the log and out of
//! it.
//!
//! ```text
//!   batch -> room -> queued in the order of the calls -> Appending: its outcome, whenever it is wanted
//!                                                            \-> settings have changed: handed in once more
//! ```
//!
//! It isn't: a client. Records are neither made nor taken apart here, nobody is a member of a group, and positions are
//! the caller's.
//!
//! Invariants
//!   * a batch that was refused before it was queued left nothing behind
//!   * what is fetched is of one state: no batch lies at or behind the end that is told with it

use crate::error::Error;
use crate::log::{Handle, Log};
use crate::queue::{Answer, Queue};
use crate::signal::Signal;
use exactlog_core::batch::{Batch, HEADER_BYTES};
use exactlog_core::command::Command;
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::{Applied, Refusal, Reply};
use exactlog_core::state::PartitionState;
use std::sync::Arc;

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
    answer: Arc<Answer>,
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
    pub async fn submit_batch(&self, partition: Partition, batch: Batch) -> Result<Appending, Error> {
        let (config_version, stored) = to_store(&self.inner, partition, &batch)?;
        let claim = self.inner.queue.room().take(stored.len_bytes() + HEADER_BYTES).await?.claim();
        let command = Command::Append { partition, config_version, expected_end: None, batch: stored };
        let answer = self.inner.submit(command, None, Some(claim), Queue::push)?;
        Ok(Appending { inner: self.inner.clone(), partition, batch, answer })
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
        self.inner.check_open()?;
        let (topic, found) = {
            let state = self.inner.state.read();
            let topic = state.topics.get(&partition.topic).ok_or_else(|| unknown_topic(partition))?;
            let found = topic.partitions.get(partition.index as usize);
            let partitions = topic.partitions.len() as u32;
            let unknown = || Error::Refused(Refusal::UnknownPartition { partition, partitions });
            (topic.name.clone(), found.cloned().ok_or_else(unknown)?)
        };
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
            let mut place = None;
            let answer =
                std::future::poll_fn(|context| self.answer.poll(&mut place, context).map(Clone::clone));
            match answer.await {
                Ok(Applied {
                    reply: Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate },
                    ..
                }) => {
                    return Ok(Appended { base_offset, timestamp_ms, start_offset, duplicate });
                }
                Ok(_) => unreachable!("Append answers with a place or a refusal"),
                Err(Error::Refused(Refusal::ConfigChanged { .. })) => {
                    let again = Log { inner: self.inner.clone() };
                    self = again.submit_batch(self.partition, self.batch).await?;
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
