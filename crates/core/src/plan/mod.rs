//! Plans for old records: what may go, decided from facts that the shell has gathered, without touching anything.
//!
//! A plan changes no state and is no command: two logs with equal states may have cleaned up to different places, and
//! replay never plans. What a plan leads to that others must know of, a new start offset, is a command again (`Trim`).
//!
//! * [`retention`]: which segments are too old, or too many
//! * [`compaction`]: which segments to rewrite, and which records of them stay
//!
//! Invariants
//!   * nothing at or behind [`SealedSegments::limit_offset`] is ever planned: what the older checkpoint doesn't have in
//!     segments, what isn't decided, and what still grows

pub mod compaction;
pub mod retention;

use crate::mutants::{Mutant, on};
use crate::state::PartitionState;

/// What is known of one closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset behind its last record: where the next one begins.
    pub next_offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Greatest timestamp that its batches state, ms; negative: they have none.
    pub max_timestamp_ms: i64,
    /// Timestamp of its first batch, ms; negative: it has none.
    pub first_timestamp_ms: i64,
    /// If it was compacted, how many records that left.
    pub clean_records: Option<u64>,
}

/// The closed segments of one partition, in the order of their offsets, and how far a plan may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegments {
    /// The segments.
    pub segments: Vec<SealedSegment>,
    /// Bytes of the partition that are in none of them: the segment that grows, and the journal's part.
    pub open_bytes: u64,
    /// No segment that ends behind this offset may be touched.
    pub limit_offset: u64,
}

impl SealedSegments {
    /// `checkpointed_offset` is how far the segments go that the older of the kept checkpoints names.
    pub fn new(
        segments: Vec<SealedSegment>,
        open_bytes: u64,
        checkpointed_offset: u64,
        state: &PartitionState,
    ) -> SealedSegments {
        // Where every record is durable and applied the high watermark is the end, which the last stable offset never
        // passes.
        let stable =
            if on(Mutant::C1CleanedPastTheStableOffset) { state.end } else { state.last_stable_offset() };
        SealedSegments { segments, open_bytes, limit_offset: checkpointed_offset.min(stable) }
    }

    /// The first segments, as far as a plan may go.
    fn touchable(&self) -> &[SealedSegment] {
        let behind = self.segments.partition_point(|segment| segment.next_offset <= self.limit_offset);
        &self.segments[..behind]
    }
}
