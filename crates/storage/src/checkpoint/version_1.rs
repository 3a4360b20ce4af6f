//! The sections of a checkpoint of version 1, before there were wire transactions.
//!
//! They are read, and become the sections of today. Order and types of the fields are a format (docs/FORMAT.md,
//! "Payload"): nothing here ever changes.

use super::PartitionImage;
use crate::index::{Located as NewLocated, Source};
use crate::journal::Position;
use crate::segment::Ends;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::state::version_1::{PartitionState, State};
use serde::Deserialize;
use std::sync::Arc;

/// A part of an image.
#[derive(Deserialize)]
pub(super) enum Section {
    State(Option<Position>, Box<State>),
    Partitions(TopicId, u32, Vec<PartitionState>),
    Bytes(Vec<Bytes>),
}

/// The bytes of one partition.
#[derive(Deserialize)]
pub(super) struct Bytes {
    partition: Partition,
    ends: Ends,
    placed: Vec<Located>,
}

#[derive(Deserialize)]
struct Located {
    base_offset: u64,
    next_offset: u64,
    lsn: u64,
    max_timestamp_ms: i64,
    generation: u64,
    head_at: u64,
    header_in_frame: u32,
    body_in_frame: u32,
    body_len: u32,
    leader_epoch: u32,
}

impl From<Section> for super::Section {
    fn from(old: Section) -> super::Section {
        match old {
            Section::State(applied_at, state) => super::Section::State(applied_at, Box::new((*state).into())),
            Section::Partitions(topic, from, partitions) => {
                let partitions = partitions.into_iter().map(|old| Arc::new(old.into())).collect();
                super::Section::Partitions(topic, from, partitions)
            }
            Section::Bytes(partitions) => {
                super::Section::Bytes(partitions.into_iter().map(PartitionImage::from).collect())
            }
        }
    }
}

impl From<Bytes> for PartitionImage {
    fn from(old: Bytes) -> PartitionImage {
        let placed = old.placed.into_iter().map(NewLocated::from).collect();
        PartitionImage { partition: old.partition, ends: old.ends, placed }
    }
}

impl From<Located> for NewLocated {
    fn from(old: Located) -> NewLocated {
        let Located { generation, head_at, header_in_frame, body_in_frame, body_len, .. } = old;
        NewLocated {
            base_offset: old.base_offset,
            next_offset: old.next_offset,
            lsn: old.lsn,
            max_timestamp_ms: old.max_timestamp_ms,
            leader_epoch: old.leader_epoch,
            source: Source::Journal { generation, head_at, header_in_frame, body_in_frame, body_len },
        }
    }
}
