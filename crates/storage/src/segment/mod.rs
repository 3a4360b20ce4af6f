//! Segments: the data of one partition as byte-exact Kafka batches v2, in files named by their base offset.
//!
//! ```text
//!   append -> buffer -> tail file -> sync -> published -> readers
//!                           \-> roll -> sealed file, its indexes written -> mapped by readers
//! ```
//!
//! Segments are a projection of the journal: one flusher thread writes them behind it ([`PartitionLog`]), many
//! threads read what the last sync made durable ([`SegmentSet`]). They are neither the truth nor a recovery log:
//! what lies above the ends that a checkpoint keeps ([`Ends`]) is written again from the journal, byte by byte the
//! same. Format: docs/FORMAT.md.
//!
//! Invariants
//!   * within a segment the batches follow each other without a gap in offsets (what compaction removes becomes a batch
//!     without records); a gap begins a new segment
//!   * where a segment ends is decided by the batches alone, never by how they were flushed
//!   * a closed segment never changes: compaction makes others, which take its place all at once
//!   * a file on which a write or sync failed is never written again
//!   * a file is cut only of bytes that were never published (a full disk needs them back), so none is cut under a
//!     slice of a mapping
//!   * no byte is handed out that its batch's CRC-32C doesn't cover, leader epoch and base offset apart; the
//!     base offset is checked against the batches before it. The checksum is computed for each read of whole batches;
//!     for reads of single records once, while the segment stays mapped
//!   * an index is never evidence: whatever it says, the answer comes out of a checked batch

mod checked;
mod cursor;
mod directory;
mod fault;
mod gather;
mod index;
mod index_file;
mod inspection;
mod names;
mod open;
mod present;
mod reader;
mod rewriter;
mod shelf;
mod survey;
mod tail;
mod transaction_index;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use inspection::{Fault, inspect, is_temporary, rebuild_indexes};
pub use reader::SegmentSet;
pub(crate) use rewriter::Rewriter;
pub(crate) use writer::segments_below;
pub use writer::{PartitionLog, SegmentReader};

use serde::{Deserialize, Serialize};

/// When a segment is full, and how sparse its indexes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of a segment, unless its only batch is larger. Default 128 MiB, at most 2 GiB - 1 (a larger value
    /// counts as that). Small segments cost files, large ones make retention coarse.
    pub segment_bytes: u64,
    /// A batch goes to a new segment if its greatest timestamp is more than this many ms after that of the segment's
    /// first batch. Default 7 days.
    pub segment_ms: i64,
    /// Bytes between two entries of an index: a read walks over at most so many, and one batch. Default 4096, at
    /// least 1 (0 counts as 1). An entry takes 24 bytes of memory at most.
    pub index_interval_bytes: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 128 << 20, segment_ms: 7 * 24 * 60 * 60 * 1000, index_interval_bytes: 4096 }
    }
}

/// What a checkpoint keeps about one partition's segments: how far they are durable.
///
/// The last segment is the one that is written next. Its `len_bytes` may be 0 if others stand before it: then it
/// has no file yet, and its predecessor is closed for good (a failed write, or a gap in the offsets).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The next offset that isn't in the segments.
    pub end_offset: u64,
    /// In offset order.
    pub segments: Vec<SegmentEnd>,
}

/// What a checkpoint keeps about one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEnd {
    /// Offset of its first record, and its name.
    pub base_offset: u64,
    /// Its logical length. The file may be longer: what lies behind is void.
    pub len_bytes: u64,
    /// Greatest timestamp that its batches state, in ms since 1970.
    pub max_timestamp_ms: i64,
    /// Greatest timestamp of its first batch, in ms since 1970: what `segment_ms` counts from.
    pub first_timestamp_ms: i64,
    /// Which of the files with this base offset it is: 0 as it was flushed, else the one that compaction has made.
    pub file: u32,
    /// Whether it covers more offsets than it has records.
    pub sparse: bool,
    /// If all of it was compacted: how many records of it readers are shown.
    pub clean_records: Option<u64>,
}

/// Tells a segment's files from those of another one, also of one with the same base offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) base_offset: u64,
    pub(crate) file: u32,
}

impl SegmentEnd {
    /// A segment that has no batch and no file yet.
    fn planned(base_offset: u64) -> SegmentEnd {
        SegmentEnd {
            base_offset,
            len_bytes: 0,
            max_timestamp_ms: 0,
            first_timestamp_ms: 0,
            file: 0,
            sparse: false,
            clean_records: None,
        }
    }

    /// Of its files.
    pub(crate) fn id(&self) -> FileId {
        FileId { base_offset: self.base_offset, file: self.file }
    }
}
