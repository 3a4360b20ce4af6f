//! Where records are read from: the shard of this process, or the node that has the log.
//!
//! Invariants
//!   * both answer alike, so nobody who reads has to know which it is

use crate::far_half::Far;
use exactlog_core::batch::Batch;
use exactlog_core::command::CleanupPolicy;
use exactlog_core::ids::Partition;
use exactlog_core::state::{Found, Manifest, MarkKey, PartitionState, State, Undecided};
use exactlog_storage::error::StorageError;
use exactlog_storage::index::{self, Committed, LookedUp};
use exactlog_storage::runs::Runs;
use parking_lot::RwLock;
use std::sync::Arc;

/// Reads batches. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Here(index::Reader),
    Far(FarReader),
}

/// Reads them at the node.
#[derive(Clone, Debug)]
pub(crate) struct FarReader {
    pub(crate) far: Arc<Far>,
    pub(crate) state: Arc<RwLock<State>>,
}

/// How many bytes are counted at once.
const COUNTED_BYTES: usize = 1024 * 1024;

impl Reader {
    /// Batches from the one that holds an offset on: at least one if there is one, then up to `bytes_max`.
    pub(crate) fn read(
        &self,
        partition: Partition,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, StorageError> {
        match self {
            Reader::Here(reader) => reader.read(partition, offset, bytes_max),
            Reader::Far(FarReader { far, .. }) => {
                far.ask("read from", |link| link.read(partition, offset, bytes_max))
            }
        }
    }

    /// The batch that holds an offset, if there is one.
    pub(crate) fn look_up(
        &self,
        partition: Partition,
        offset: u64,
    ) -> Result<Option<LookedUp>, StorageError> {
        match self {
            Reader::Here(reader) => reader.look_up(partition, offset),
            Reader::Far(_) => Ok(self.read(partition, offset, 1)?.into_iter().next().map(LookedUp::of)),
        }
    }

    /// As readers of committed records get them, by this state of the partition.
    pub(crate) fn read_committed(
        &self,
        partition: Partition,
        state: &PartitionState,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Committed, StorageError> {
        Committed::of(state, offset, || self.read(partition, offset, bytes_max))
    }

    /// How many records are shown between two offsets.
    pub(crate) fn count_shown(
        &self,
        partition: Partition,
        from: u64,
        to: u64,
        undecided: &Undecided,
    ) -> Result<u64, StorageError> {
        if let Reader::Here(reader) = self {
            return reader.count_shown(partition, from, to, undecided);
        }
        let (mut count, mut offset) = (0, from);
        while offset < to {
            let batches = self.read(partition, offset, COUNTED_BYTES)?;
            let Some(last) = batches.last() else { break };
            offset = last.next_offset();
            let shown = batches.iter().filter(|batch| undecided.shows(batch));
            count += shown.map(|batch| index::records_within(batch, from..to)).sum::<u64>();
        }
        Ok(count)
    }

    /// Whether records may be missing behind an offset, since their keys have later ones.
    pub(crate) fn is_sparse(&self, partition: Partition, from: u64) -> bool {
        match self {
            Reader::Here(reader) => reader.is_sparse(partition, from),
            Reader::Far(FarReader { state, .. }) => {
                let state = state.read();
                let policy = state.topics.get(&partition.topic).map(|topic| topic.config.cleanup_policy);
                policy.is_some_and(|policy| policy != CleanupPolicy::Delete)
            }
        }
    }

    /// What the segments of a partition take; nothing is known of those of a node.
    pub(crate) fn segment_bytes(&self, partition: Partition) -> u64 {
        match self {
            Reader::Here(reader) => reader.segment_bytes(partition),
            Reader::Far(_) => 0,
        }
    }

    /// Offset and timestamp of the first record at or after a time.
    pub(crate) fn first_at_or_after(
        &self,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, StorageError> {
        match self {
            Reader::Here(reader) => reader.first_at_or_after(partition, timestamp_ms),
            Reader::Far(FarReader { far, .. }) => {
                far.ask("read from", |link| link.first_at_or_after(partition, timestamp_ms))
            }
        }
    }

    /// The greatest timestamp of a partition.
    pub(crate) fn greatest_timestamp_ms(&self, partition: Partition) -> Result<Option<i64>, StorageError> {
        match self {
            Reader::Here(reader) => reader.greatest_timestamp_ms(partition),
            Reader::Far(FarReader { far, .. }) => {
                far.ask("read from", |link| link.greatest_timestamp_ms(partition))
            }
        }
    }

    /// Lets go of mapped segments that nobody has read for a while.
    pub(crate) fn close_unread(&self) {
        if let Reader::Here(reader) = self {
            reader.close_unread();
        }
    }

    /// Whether both are of one open of a log. A node is one as long as it is known.
    pub(crate) fn is_of_same_open(&self, other: &Reader) -> bool {
        match (self, other) {
            (Reader::Here(one), Reader::Here(other)) => one.is_of_same_open(other),
            _ => true,
        }
    }
}

/// Where marks are that aren't in memory.
#[derive(Clone, Debug)]
pub(crate) enum Marks {
    Here(Arc<Runs>),
    Far(Arc<Far>),
}

impl Marks {
    /// What is found of keys, in their order.
    pub(crate) fn find_all(
        &self,
        manifest: &Arc<Manifest>,
        keys: &[MarkKey],
    ) -> Result<Vec<Option<Found>>, StorageError> {
        match self {
            Marks::Here(runs) => runs.find_all(manifest, keys),
            Marks::Far(far) => {
                let answers = far.ask("look for ids at", |link| link.marks(keys))?;
                Ok(keys.iter().map(|key| answers.of(key)).collect())
            }
        }
    }
}
