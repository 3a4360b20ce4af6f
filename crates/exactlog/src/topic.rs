//! A handle on a topic.

use exactlog_core::command::TopicConfig;
use exactlog_core::ids::TopicId;
use std::sync::Arc;

/// A topic of an open log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topic {
    inner: Arc<Described>,
}

#[derive(Debug)]
struct Described {
    id: TopicId,
    name: Arc<str>,
    partitions: u32,
    config: TopicConfig,
    config_version: u32,
}

impl Topic {
    pub(crate) fn new(id: TopicId, topic: &exactlog_core::state::Topic) -> Topic {
        Topic {
            inner: Arc::new(Described {
                id,
                name: topic.name.as_str().into(),
                partitions: topic.partitions.len() as u32,
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

    /// Number of its partitions.
    pub fn partitions(&self) -> u32 {
        self.inner.partitions
    }

    /// Its settings when the handle was made.
    pub fn config(&self) -> &TopicConfig {
        &self.inner.config
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
}
