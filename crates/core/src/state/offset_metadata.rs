//! What stands beside committed offsets, apart from these: for checkpoints.
//!
//! It isn't a part of the bytes of a [`CommittedOffset`], which are a format and have no place for it, and it may be
//! longer than everything else that a group has.

use super::State;
use super::group::{CommittedOffset, Group};
use crate::command::{OFFSET_METADATA_BYTES_MAX, OffsetMetadata};
use crate::ids::Partition;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most texts in one part.
const TEXTS_MAX: usize = 1024;

/// Some of the texts of one group. Order and types of the fields are a format (docs/FORMAT.md, "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetMetadataPiece {
    group: String,
    texts: Vec<Text>,
}

/// Beside which offset, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Text {
    partition: Partition,
    /// The transaction that is about to commit the offset; none: it is committed.
    txn_seq: Option<u64>,
    text: String,
}

impl Group {
    /// All texts: of the committed offsets in their order, then of those that transactions are about to commit.
    fn metadata(&self) -> impl Iterator<Item = (Partition, Option<u64>, &str)> {
        let committed = self.offsets.iter().map(|(partition, it)| (*partition, None, it));
        let pending = self.pending.iter().flat_map(|(partition, of_partition)| {
            of_partition.iter().map(|(txn_seq, it)| (*partition, Some(*txn_seq), it))
        });
        let all = committed.chain(pending).filter(|(.., it)| !it.metadata.is_empty());
        all.map(|(partition, txn_seq, it)| (partition, txn_seq, it.metadata.as_str()))
    }

    fn offset_mut(&mut self, partition: Partition, txn_seq: Option<u64>) -> Option<&mut CommittedOffset> {
        match txn_seq {
            None => self.offsets.get_mut(&partition),
            Some(txn_seq) => self.pending.get_mut(&partition)?.get_mut(&txn_seq),
        }
    }
}

impl State {
    /// Whether anything stands beside any offset.
    pub fn has_offset_metadata(&self) -> bool {
        self.groups.values().any(|group| group.metadata().next().is_some())
    }

    /// Of each group with such texts its name, and the bytes of each text.
    pub fn offset_metadata_bytes(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = usize>)> {
        let groups = self.groups.iter().filter(|(_, group)| group.metadata().next().is_some());
        groups.map(|(name, group)| (name.as_str(), group.metadata().map(|(.., text)| text.len())))
    }

    /// All of it in parts, by group: each of a group's has as many texts as fit, but the last.
    pub fn offset_metadata_pieces(&self) -> impl Iterator<Item = OffsetMetadataPiece> {
        self.groups.iter().flat_map(|(name, group)| {
            let mut metadata = group.metadata();
            std::iter::from_fn(move || {
                let text = |(partition, txn_seq, text): (_, _, &str)| Text {
                    partition,
                    txn_seq,
                    text: text.to_string(),
                };
                let texts: Vec<Text> = metadata.by_ref().take(TEXTS_MAX).map(text).collect();
                (!texts.is_empty()).then(|| OffsetMetadataPiece { group: name.clone(), texts })
            })
        })
    }

    /// Takes a part back in; the group's offsets are there already.
    ///
    /// # Errors
    /// What can't be: a text of no offset, a second one of an offset, an empty or a longer one than there may be.
    pub fn restore_offset_metadata(&mut self, piece: OffsetMetadataPiece) -> Result<(), String> {
        let OffsetMetadataPiece { group: name, texts } = piece;
        let group = self.groups.get_mut(&name).ok_or_else(|| format!("metadata of no group {name:?}"))?;
        let group = Arc::make_mut(group);
        for Text { partition, txn_seq, text } in texts {
            let found = group.offset_mut(partition, txn_seq).filter(|it| it.metadata.is_empty());
            let found = found
                .ok_or_else(|| format!("metadata of group {name:?} at {partition}, beside no offset"))?;
            let bytes = text.len();
            if !(1..=OFFSET_METADATA_BYTES_MAX).contains(&bytes) {
                return Err(format!("metadata of group {name:?} at {partition}, of {bytes} bytes"));
            }
            found.metadata = OffsetMetadata::from(text.as_str());
        }
        Ok(())
    }
}
