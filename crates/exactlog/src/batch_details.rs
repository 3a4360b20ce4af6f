//! What the records of one batch have in common, for those who ask: a record doesn't carry it.

use crate::error::Error;
use crate::topic::Topic;
use crate::view::ReadView;
use exactlog_core::batch::{Batch, Compression, TimestampType};
use exactlog_core::ids::ProducerId;

/// What a batch says of all its records: see [`ReadView::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchDetails {
    /// Its first offset; compaction may have taken the record there.
    pub base_offset: u64,
    /// Offset behind its last one.
    pub next_offset: u64,
    /// How many records it has.
    pub records: u32,
    /// What it takes on the disk.
    pub bytes: usize,
    /// How its records are compressed.
    pub compression: Compression,
    /// Whose the times of its records are.
    pub timestamp_type: TimestampType,
    /// Whether it belongs to a transaction of Kafka's kind. What [`Transaction`](crate::Transaction) commits doesn't:
    /// that is true or not there.
    pub is_transactional: bool,
    /// Whether it is a marker, which no reader is shown.
    pub is_control: bool,
    /// Who sent it, and in which epoch; `None`: it was committed, or its events have ids.
    pub producer: Option<(ProducerId, i16)>,
    /// In which epoch of the log it was appended.
    pub leader_epoch: i32,
}

impl From<&Batch> for BatchDetails {
    fn from(batch: &Batch) -> BatchDetails {
        BatchDetails {
            base_offset: batch.base_offset(),
            next_offset: batch.next_offset(),
            records: batch.record_count(),
            bytes: batch.len_bytes(),
            compression: batch.compression(),
            timestamp_type: batch.timestamp_type(),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
            producer: batch.producer().map(|stamp| (stamp.id, stamp.epoch)),
            leader_epoch: batch.leader_epoch(),
        }
    }
}

impl ReadView {
    /// The batch that holds an offset, or the next one behind it; `None` at the view's end. It holds for all records up
    /// to [`next_offset`](BatchDetails::next_offset): ask once for them.
    ///
    /// # Errors
    /// As [`read`](ReadView::read), but that nothing is decompressed.
    pub fn batch(&self, topic: &Topic, partition: u32, offset: u64) -> Result<Option<BatchDetails>, Error> {
        self.check_life()?;
        self.check_end(topic, partition, offset, self.end(topic, partition)?)?;
        let batches = self.read_batches(topic, partition, offset, 1)?;
        Ok(batches.first().map(BatchDetails::from))
    }
}
