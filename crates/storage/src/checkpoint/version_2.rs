//! The sections of a checkpoint of version 2, before there were retention, compaction and times of the append.
//!
//! They are read, and become the sections of today. Order and types of the fields are a format (docs/FORMAT.md,
//! "Payload"): nothing here ever changes.

use super::PartitionImage;
use crate::index::{Located as NewLocated, Source};
use crate::journal::Position;
use crate::segment::{Ends, SegmentEnd as NewSegmentEnd};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::state::PartitionState;
use exactlog_core::state::version_2::State;
use serde::Deserialize;
use std::sync::Arc;

/// A part of an image.
#[derive(Deserialize)]
pub(super) enum Section {
    State(Option<Position>, Box<State>),
    Partitions(TopicId, u32, Vec<Arc<PartitionState>>),
    Bytes(Vec<Bytes>),
}

/// The bytes of one partition.
#[derive(Deserialize)]
pub(super) struct Bytes {
    partition: Partition,
    ends: OldEnds,
    placed: Vec<Located>,
}

#[derive(Deserialize)]
struct OldEnds {
    end_offset: u64,
    segments: Vec<SegmentEnd>,
}

#[derive(Deserialize)]
struct SegmentEnd {
    base_offset: u64,
    len_bytes: u64,
    max_timestamp_ms: i64,
    first_timestamp_ms: i64,
}

#[derive(Deserialize)]
struct Located {
    base_offset: u64,
    next_offset: u64,
    lsn: u64,
    max_timestamp_ms: i64,
    leader_epoch: u32,
    source: Source,
}

impl Section {
    /// The section of today.
    pub(super) fn upgrade(self) -> Result<super::Section, String> {
        Ok(match self {
            Section::State(applied_at, state) => {
                super::Section::State(applied_at, Box::new(state.upgrade()?))
            }
            Section::Partitions(topic, from, partitions) => {
                super::Section::Partitions(topic, from, partitions)
            }
            Section::Bytes(partitions) => {
                super::Section::Bytes(partitions.into_iter().map(PartitionImage::from).collect())
            }
        })
    }
}

impl From<Bytes> for PartitionImage {
    fn from(old: Bytes) -> PartitionImage {
        let placed = old.placed.into_iter().map(NewLocated::from).collect();
        let segments = old.ends.segments.into_iter().map(NewSegmentEnd::from).collect();
        let ends = Ends { end_offset: old.ends.end_offset, segments };
        PartitionImage { partition: old.partition, ends, placed }
    }
}

impl From<SegmentEnd> for NewSegmentEnd {
    fn from(old: SegmentEnd) -> NewSegmentEnd {
        let SegmentEnd { base_offset, len_bytes, max_timestamp_ms, first_timestamp_ms } = old;
        NewSegmentEnd {
            base_offset,
            len_bytes,
            max_timestamp_ms,
            first_timestamp_ms,
            file: 0,
            sparse: false,
            clean_records: None,
        }
    }
}

impl From<Located> for NewLocated {
    fn from(old: Located) -> NewLocated {
        let Located { base_offset, next_offset, lsn, max_timestamp_ms, leader_epoch, source } = old;
        NewLocated {
            base_offset,
            next_offset,
            lsn,
            max_timestamp_ms,
            leader_epoch,
            source,
            has_append_time: false,
        }
    }
}
