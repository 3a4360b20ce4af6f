//! What a batch from outside must fulfil before it becomes part of a command.
//!
//! It is not the whole check: all that depends on state (topic, producer epoch, sequence, limits per topic)
//! happens where the state is, in order. What depends on the request's version (Zstd needs Produce v7) is the
//! broker's.
//!
//! Invariants
//!   * the answer depends on the bytes and the limit alone
//!   * nothing that real clients send is refused: where Kafka ignores a field, so do we

use super::header::*;
use super::{Batch, BatchError, Compression, TimestampType};

/// All attribute bits that a client may set.
const CLIENT_BITS: u16 = CODEC_BITS | TRANSACTIONAL_BIT;

impl Batch {
    /// Checks what a client may send, beyond what every batch fulfils: size, attributes, count, producer. The
    /// records are walked if they aren't compressed.
    ///
    /// A compressed body is taken as it comes, also of a codec that this build lacks, and isn't decompressed: the
    /// check costs what its bytes cost, not what a bomb costs. (Kafka's broker decompresses, to compare count and
    /// offsets of the records with the header's.) Counts, codec, producer and size are checked on the header, and
    /// whoever reads meets a body that contradicts it as an error in the place of the batch.
    pub fn check_client(&self, max_bytes: usize) -> Result<(), BatchError> {
        if self.len_bytes() > max_bytes {
            return Err(BatchError::TooLarge { batch_bytes: self.len_bytes(), max_bytes });
        }
        self.check_client_attributes()?;
        self.check_client_counts()?;
        self.check_client_producer()?;
        match self.compression() {
            Compression::None => self.check_records(),
            _ => Ok(()),
        }
    }

    fn check_client_attributes(&self) -> Result<(), BatchError> {
        if self.is_control() {
            return Err(BatchError::Control);
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchError::LogAppendTime);
        }
        let attributes = self.attributes();
        match attributes & !CLIENT_BITS {
            0 => Ok(()),
            unknown => Err(BatchError::Attributes { attributes, unknown }),
        }
    }

    /// A client sends whole batches: only compaction takes records out.
    fn check_client_counts(&self) -> Result<(), BatchError> {
        if self.record_count() == self.last_offset_delta() + 1 {
            return Ok(());
        }
        Err(BatchError::Counts {
            last_offset_delta: i32_at(&self.header, LAST_OFFSET_DELTA_AT),
            record_count: i32_at(&self.header, RECORD_COUNT_AT),
        })
    }

    /// Without a producer id, epoch and sequence mean nothing and aren't looked at: kafkajs sends 0 for both,
    /// the Java client -1.
    fn check_client_producer(&self) -> Result<(), BatchError> {
        match self.producer() {
            Some(stamp) if stamp.epoch >= 0 && stamp.base_sequence >= 0 => Ok(()),
            None if i64_at(&self.header, PRODUCER_ID_AT) == NO_PRODUCER_ID => match self.is_transactional() {
                true => Err(BatchError::TransactionalWithoutProducer),
                false => Ok(()),
            },
            _ => Err(BatchError::Producer {
                id: i64_at(&self.header, PRODUCER_ID_AT),
                epoch: i16_at(&self.header, PRODUCER_EPOCH_AT),
                base_sequence: i32_at(&self.header, BASE_SEQUENCE_AT),
            }),
        }
    }
}
