//! The writes of a commit to tables.
//!
//! A table is a compacted topic of which the state knows the place of each key's last record. Its records are
//! batches like any others; what `apply` has to know of them, the keys, stands beside the batch, so that it looks into
//! no record and a batch may be compressed.
//!
//! Invariants
//!   * of each record of a table's batch a write names key and kind, in the order of the records

use crate::batch::Batch;
use crate::ids::Partition;
use bytes::Bytes;

/// Writes to one partition of a table, and the batch that holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrites {
    /// The partition of the table that its keys belong to, by
    /// [`partition_for_key`](crate::partitioner::partition_for_key).
    pub partition: Partition,
    /// What each of the batch's records is.
    pub writes: Vec<TableWrite>,
    /// The records, without a producer id: of each write its key, and its value or none.
    pub batch: Batch,
}

/// One write to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    /// The key.
    pub key: Bytes,
    /// Whether the key goes: its record is a tombstone.
    pub deletes: bool,
}

/// Most keys of all tables together (`table.keys.max`), if no `Config` says otherwise.
pub const TABLE_KEYS_MAX: u64 = 1_000_000;
/// Longest key of a table in bytes (`table.key.max.bytes`), if no `Config` says otherwise.
pub const TABLE_KEY_BYTES_MAX: u64 = 1_024;
