//! Retention: where a partition is to begin, so that what is too old, or too much, is gone (semantics LG-4).
//!
//! ```text
//!   closed  closed  closed | closed  grows  journal
//!   too old, or too many   ^ the new start
//! ```
//!
//! Invariants
//!   * whole segments from the start on, never one behind another that stays
//!   * by size at least `retention.bytes` stay, counting what isn't in closed segments
//!   * a segment without any time stays until size or somebody's `Trim` takes it; one that compaction has emptied goes

use super::{SealedSegment, SealedSegments};
use crate::command::TopicConfig;

/// The new first offset of a partition that begins at `start`; `None`: it stays.
pub fn new_start(config: &TopicConfig, sealed: &SealedSegments, start: u64, now_ms: i64) -> Option<u64> {
    if !config.cleanup_policy.deletes() {
        return None;
    }
    let count = too_old(config, sealed, now_ms).max(too_many(config, sealed));
    let last = sealed.touchable()[..count].last()?;
    (last.next_offset > start).then_some(last.next_offset)
}

fn too_old(config: &TopicConfig, sealed: &SealedSegments, now_ms: i64) -> usize {
    let Some(retention_ms) = config.retention_ms else { return 0 };
    // The setting is bounded, so the cast loses nothing.
    let least_ms = now_ms.saturating_sub(retention_ms as i64);
    let is_old = |segment: &&SealedSegment| {
        segment.clean_records == Some(0) || (0..least_ms).contains(&segment.max_timestamp_ms)
    };
    sealed.touchable().iter().take_while(is_old).count()
}

fn too_many(config: &TopicConfig, sealed: &SealedSegments) -> usize {
    let Some(retention_bytes) = config.retention_bytes else { return 0 };
    let all = sealed.segments.iter().map(|segment| segment.bytes).sum::<u64>() + sealed.open_bytes;
    let mut surplus = all.saturating_sub(retention_bytes);
    let goes = |segment: &&SealedSegment| match surplus.checked_sub(segment.bytes) {
        Some(less) => {
            surplus = less;
            true
        }
        None => false,
    };
    sealed.touchable().iter().take_while(goes).count()
}
