//! The commands around ids of events, and the marks of a commit: each id has its effects once.
//!
//! Invariants
//!   * a command carries 16 bytes for an id, never the id itself: what is hashed is hashed before it is ordered

use crate::batch::Batch;
use crate::ids::{DedupId, Partition, ProducerId, TopicId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A request about ids of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Appends one batch whose records have ids, all of it or nothing: it is refused with the places of those records
    /// whose ids the topic has seen, and the sender leaves them out.
    Append {
        /// Who sends. The epoch must be the producer's current one; sequences aren't needed, since the ids are.
        sender: (ProducerId, i16),
        /// Where to.
        partition: Partition,
        /// The version of the topic's settings that the sender has checked against.
        config_version: u32,
        /// One for each record, in order.
        ids: Vec<DedupId>,
        /// The records, without a producer id.
        batch: Batch,
    },
    /// Takes an id for as long as the lease lasts, before something is done that the log can't undo.
    Reserve {
        /// Ids of different scopes have nothing to do with each other.
        scope: String,
        /// The id.
        id: DedupId,
        /// How long, in ms, at most [`LEASE_MS_MAX`].
        lease_ms: u64,
    },
    /// It is done: the id is seen from now on.
    Finish {
        /// The scope.
        scope: String,
        /// The id.
        id: DedupId,
        /// The lsn of the `Reserve`.
        reservation: u64,
    },
    /// It failed: the id is free again.
    Release {
        /// The scope.
        scope: String,
        /// The id.
        id: DedupId,
        /// The lsn of the `Reserve`.
        reservation: u64,
    },
    /// A run is on disk: its marks leave the memory, or other runs their places.
    RunReady(RunReady),
    /// An id that was seen is absent again: what comes with it next has its effects. One that is reserved stays so.
    Forget {
        /// The scope.
        scope: DedupScope,
        /// The id.
        id: DedupId,
    },
}

/// A file of marks that is durable by the time it is ordered. What is in it follows from the state alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReady {
    /// End of the bucket whose marks it has, ms since 1970.
    pub end_ms: i64,
    /// Names the run; above all that the state has known.
    pub run: u64,
    /// How many marks it has: the first of the bucket that are in memory, in whole chunks.
    pub entries: u64,
    /// None of them was set by a later command than this.
    pub up_to: u64,
    /// Sum of [`mark_digest`](crate::state::mark_digest) over its marks.
    pub digest: u64,
    /// Instead of marks in memory it has those of these runs, which follow each other in the bucket.
    pub replaces: Vec<u64>,
}

impl Dedup {
    /// The command's name, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Dedup::Append { .. } => "AppendIdentified",
            Dedup::Reserve { .. } => "Reserve",
            Dedup::Finish { .. } => "Finish",
            Dedup::Release { .. } => "Release",
            Dedup::RunReady(_) => "RunReady",
            Dedup::Forget { .. } => "ForgetId",
        }
    }
}

/// An id that a commit marks as done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The id of a record of the commit, in the scope of its topic.
    Event {
        /// The id.
        id: DedupId,
        /// Which of the commit's batches the record is in.
        batch: u32,
        /// Which of the batch's records it is.
        record: u32,
    },
    /// An id of its own: of what was consumed, say.
    Named {
        /// The scope: one name for many marks.
        scope: Arc<str>,
        /// The id.
        id: DedupId,
        /// The lsn of the `Reserve` that holds it; none: nobody may hold it.
        reservation: Option<u64>,
    },
}

/// Within what an id is unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DedupScope {
    /// The records of one topic.
    Topic(TopicId),
    /// Whatever goes by this name: a group, a job, a handler.
    Named(String),
}

/// A [`DedupScope`] as a command names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScopeRef<'s> {
    /// The records of one topic.
    Topic(TopicId),
    /// Whatever goes by this name.
    Named(&'s str),
}

impl ScopeRef<'_> {
    /// With a name of its own.
    pub fn to_scope(self) -> DedupScope {
        match self {
            ScopeRef::Topic(topic) => DedupScope::Topic(topic),
            ScopeRef::Named(name) => DedupScope::Named(name.to_string()),
        }
    }
}

impl<'s> From<&'s DedupScope> for ScopeRef<'s> {
    fn from(scope: &'s DedupScope) -> ScopeRef<'s> {
        match scope {
            DedupScope::Topic(topic) => ScopeRef::Topic(*topic),
            DedupScope::Named(name) => ScopeRef::Named(name),
        }
    }
}

impl fmt::Display for DedupScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DedupScope::Topic(topic) => write!(f, "topic {topic}"),
            DedupScope::Named(name) => write!(f, "{name:?}"),
        }
    }
}

/// What a new id meets when as many are remembered as may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtCap {
    /// It is refused.
    #[default]
    Refuse,
    /// The oldest marks are given up before their time: the window is shorter than was asked for, and says so.
    Shorten,
}

/// Longest lease, in ms: a day.
pub const LEASE_MS_MAX: u64 = 24 * 3600 * 1000;
