//! A handle on a topic.

use crate::error::Error;
use crate::event::{Event, Record};
use crate::producer::{event_bytes, len, record_bytes};
use exactlog_core::batch::{Compression, HEADER_BYTES};
use exactlog_core::command::{CleanupPolicy, TopicCompression, TopicConfig, TopicDurability};
use exactlog_core::ids::TopicId;
use exactlog_core::state::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A topic of an open log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topic {
    inner: Arc<Described>,
}

#[derive(Debug)]
struct Described {
    id: TopicId,
    name: Arc<str>,
    /// Shared with all handles on the topic: it grows.
    partitions: Arc<AtomicU32>,
    config: TopicConfig,
    config_version: u32,
}

/// How many partitions topics have, as their handles show it.
#[derive(Debug, Default)]
pub(crate) struct PartitionCounts(Mutex<BTreeMap<TopicId, Arc<AtomicU32>>>);

impl PartitionCounts {
    /// That of a topic, which it has at least.
    fn of(&self, id: TopicId, partitions: u32) -> Arc<AtomicU32> {
        let count = self.0.lock().entry(id).or_default().clone();
        count.fetch_max(partitions, Ordering::AcqRel);
        count
    }

    /// The state may show more by now, or topics may be gone.
    pub(crate) fn refresh(&self, state: &State) {
        self.0.lock().retain(|id, count| match state.topics.get(id) {
            Some(topic) => {
                count.store(topic.partitions.len() as u32, Ordering::Release);
                true
            }
            None => false,
        });
    }
}

impl Topic {
    pub(crate) fn new(id: TopicId, topic: &exactlog_core::state::Topic, counts: &PartitionCounts) -> Topic {
        Topic {
            inner: Arc::new(Described {
                id,
                name: topic.name.as_str().into(),
                partitions: counts.of(id, topic.partitions.len() as u32),
                config: topic.config.clone(),
                config_version: topic.config_version,
            }),
        }
    }

    /// Its id: it never changes and is never given out again.
    pub fn id(&self) -> TopicId {
        self.inner.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.inner.name.clone()
    }

    /// Number of its partitions: as of now, also if some were added since the handle was made
    /// ([`Log::add_partitions`](crate::Log::add_partitions)).
    pub fn partitions(&self) -> u32 {
        self.inner.partitions.load(Ordering::Acquire)
    }

    /// Its settings when the handle was made.
    pub fn config(&self) -> &TopicConfig {
        &self.inner.config
    }

    /// Whether an event can be sent to it: what a producer and a transaction would refuse for what the event is.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::EventIdLength`].
    pub fn check(&self, event: &Event) -> Result<(), Error> {
        self.check_bytes(event_bytes(event))?;
        event.id.as_ref().map_or(Ok(()), |id| id.in_log(None).map(|_| ()))
    }

    /// Whether a record is small enough to be [forwarded](crate::Transaction::forward) to it.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`].
    pub fn check_record(&self, record: &Record) -> Result<(), Error> {
        let headers = record.headers.iter().map(|it| it.key.len() + len(&it.value));
        self.check_bytes(record_bytes(&record.key, &record.value, headers))
    }

    /// Whether a record of at most so many bytes has room in a batch.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), Error> {
        let max = self.batch_bytes_max();
        match bytes > max - HEADER_BYTES {
            true => Err(Error::EventTooLarge { topic: self.name().to_string(), bytes, max }),
            false => Ok(()),
        }
    }

    /// Most bytes of a batch that is made of events, before it is compressed: with what the topic's codec adds to
    /// events that it can't make shorter it stays within `max.message.bytes`.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let max = self.config().max_message_bytes as usize;
        max - self.config().compression.codec().unwrap_or_default().bytes_added_max(max)
    }

    pub(crate) fn config_version(&self) -> u32 {
        self.inner.config_version
    }
}

/// How a topic is created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicOptions {
    /// Number of partitions. Default 1, at most 100,000.
    pub partitions: u32,
    /// Settings, by Kafka's names.
    pub config: TopicConfig,
}

impl Default for TopicOptions {
    fn default() -> Self {
        TopicOptions { partitions: 1, config: TopicConfig::default() }
    }
}

impl TopicOptions {
    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the largest batch in bytes (`max.message.bytes`; 1,024 to 16 MiB, default 1,048,588).
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.config.max_message_bytes = bytes;
        self
    }

    /// Sets the size at which a segment is closed (`segment.bytes`; default 128 MiB).
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.config.segment_bytes = bytes;
        self
    }

    /// Lets records go that are older than this (`retention.ms`). By default they never do by age.
    #[must_use]
    pub fn retention(mut self, age: Duration) -> Self {
        self.config.retention_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Lets the oldest records of a partition go as long as more bytes than this stay (`retention.bytes`). By default
    /// none go by size.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.config.retention_bytes = Some(bytes);
        self
    }

    /// Sets what becomes of old records (`cleanup.policy`; default [`CleanupPolicy::Delete`]).
    #[must_use]
    pub fn cleanup_policy(mut self, policy: CleanupPolicy) -> Self {
        self.config.cleanup_policy = policy;
        self
    }

    /// Sets when what is sent to it is safe (`topic.durability`; default [`TopicDurability::Log`]). Transactions, and
    /// what is decided about the topic, stay as safe as the log's [`Durability`](crate::Durability) says.
    ///
    /// A power loss takes what was acknowledged last, from the end of the whole log, up to what was synced.
    #[must_use]
    pub fn durability(mut self, durability: TopicDurability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Stores all batches in this codec (`compression.type`), whatever their producers say and whoever hands them in.
    /// [`Compression::None`] is Kafka's `uncompressed`. By default ([`TopicCompression::Producer`]) each batch keeps
    /// the codec that it comes with.
    ///
    /// [`Producer::set_compression`](crate::Producer::set_compression) has no say in such a topic, and a batch that the
    /// codec makes longer is stored in it all the same: the largest event has a 32nd and 64 bytes less than
    /// [`max_message_bytes`](TopicOptions::max_message_bytes) here.
    #[must_use]
    pub fn compression(mut self, codec: Compression) -> Self {
        self.config.compression = TopicCompression::Codec(codec);
        self
    }
}
