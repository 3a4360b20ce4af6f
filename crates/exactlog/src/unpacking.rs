//! From stored batches to the records that readers get.
//!
//! Invariants
//!   * a batch is taken apart only when its turn has come, so that of many compressed batches only as many are in
//!     memory as a reader wants: what it wants, in bytes of uncompressed records, and one batch more
//!   * the records in front of a batch that can't be read come first; then, alone, comes its error; then what is
//!     behind it

use crate::error::{Error, UnreadableBatch};
use crate::event::Record;
use crate::topic::Topic;
use exactlog_core::batch::Batch;
use exactlog_core::state::Undecided;
use exactlog_storage::index::LookedUp;
use std::ops::Range;

/// Records of one partition, and where to go on behind them.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) records: Vec<Record>,
    /// Offset behind the last record and behind what isn't shown, or where it began.
    pub(crate) to: u64,
    /// What they take in memory, about: their batches, uncompressed.
    pub(crate) bytes: usize,
}

/// Takes the records within `offsets` out of batches that follow one another, but for markers and what is of open or
/// aborted transactions: at most `records_max`, and no further
/// batch once there are `bytes_max` bytes.
///
/// # Errors
/// [`Error::UnreadableBatch`] if the first batch in question can't be read.
pub(crate) fn unpack(
    topic: &Topic,
    partition: u32,
    batches: &[Batch],
    undecided: &Undecided,
    offsets: Range<u64>,
    records_max: usize,
    bytes_max: usize,
) -> Result<Unpacked, Error> {
    let mut unpacked = Unpacked { records: Vec::new(), to: offsets.start, bytes: 0 };
    for batch in batches {
        let had = unpacked.records.len();
        if had > 0 && (had >= records_max || unpacked.bytes >= bytes_max) {
            break;
        }
        if !undecided.shows(batch) {
            unpacked.to = batch.next_offset().min(offsets.end);
            continue;
        }
        let records = batch.records();
        unpacked.bytes += records.len_bytes().max(batch.len_bytes());
        for record in records {
            let record = match record {
                Ok(record) => record,
                // All or nothing of a batch: what is in front of the fault would come again with each attempt.
                Err(reason) => {
                    unpacked.records.truncate(had);
                    if had > 0 {
                        unpacked.to = unpacked.records[had - 1].offset + 1;
                        return Ok(unpacked);
                    }
                    return Err(unreadable(topic, partition, batch, offsets.start, reason));
                }
            };
            if !offsets.contains(&record.offset) {
                continue;
            }
            if unpacked.records.len() >= records_max {
                return Ok(unpacked);
            }
            unpacked.to = record.offset + 1;
            unpacked.records.push(Record::of(topic, partition, record));
        }
        // Compaction may have left fewer records than offsets.
        unpacked.to = batch.next_offset().clamp(unpacked.to, offsets.end);
    }
    Ok(unpacked)
}

/// The record at an offset of a batch; `None`: there is none, or it isn't shown.
///
/// # Errors
/// [`Error::UnreadableBatch`].
pub(crate) fn record_of(
    topic: &Topic,
    partition: u32,
    found: &LookedUp,
    undecided: &Undecided,
    offset: u64,
) -> Result<Option<Record>, Error> {
    if !undecided.shows(&found.batch) {
        return Ok(None);
    }
    match found.record(offset) {
        Ok(record) => Ok(record.map(|record| Record::of(topic, partition, record))),
        Err(reason) => Err(unreadable(topic, partition, &found.batch, offset, reason)),
    }
}

fn unreadable(
    topic: &Topic,
    partition: u32,
    batch: &Batch,
    from: u64,
    reason: exactlog_core::batch::BatchError,
) -> Error {
    Error::UnreadableBatch(Box::new(UnreadableBatch {
        topic: topic.shared_name(),
        partition,
        from: from.max(batch.base_offset()),
        to: batch.next_offset(),
        raw: [&batch.header()[..], batch.body()].concat().into(),
        reason,
    }))
}
