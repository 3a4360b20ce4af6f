//! Names of things: topics, partitions, producers, members.
//!
//! Offsets and lsns are plain `u64`, named `..._offset` and `lsn`; everything that is an identity is a type
//! of its own, so that two of them can't be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Identity of a topic. Given out in order by `CreateTopic`, never reused, also not after the topic is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub u32);

/// One partition of one topic. The index counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The topic.
    pub topic: TopicId,
    /// Which of the topic's partitions, from 0.
    pub index: u32,
}

/// Identity of a producer (Kafka's `producer.id`). Given out in order by `InitProducer`, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId(pub i64);

/// Identity of one member of one group: the lsn of the command that let it join, so never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u64);

/// What stands for an event's id where repeats are looked for: a UUID as it is, else a 128-bit hash of the id with the
/// log's own key, so that nobody outside can make two ids meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DedupId(pub [u8; 16]);
/// Identity of a timer. Given out in order, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerId(pub u64);

impl TopicId {
    /// The hidden topic `__timers-0`, which holds what timers were set with. `CreateTopic` never gives this id out.
    pub const TIMERS: TopicId = TopicId(0);

    /// Whether the log keeps it for itself: nobody else names it in a command.
    pub fn is_hidden(self) -> bool {
        self == TopicId::TIMERS
    }
}

impl Partition {
    /// The one partition of the hidden topic of timers.
    pub const TIMERS: Partition = Partition { topic: TopicId::TIMERS, index: 0 };
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for DedupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
