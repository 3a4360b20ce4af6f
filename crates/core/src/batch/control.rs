//! Control batches: the markers that end a wire transaction in one partition (KIP-98).
//!
//! ```text
//!   one record: key   version i16 = 0 | type i16: 0 abort, 1 commit
//!               value version i16 = 0 | coordinator epoch i32
//! ```
//!
//! Invariants
//!   * equal controls have equal bytes, so that a replay makes the marker again that it made before
//!   * what is read may be longer and of a higher version than what is written

use super::builder::BatchBuilder;
use super::header::*;
use super::{Batch, ProducerStamp};
use crate::ids::ProducerId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The producer whose transaction ends.
    pub producer: ProducerId,
    /// The epoch that the marker shows: that of the transaction, or one more if the end has raised it.
    pub producer_epoch: i16,
    /// Incarnation of the coordinator, derived from the shard's term.
    pub coordinator_epoch: i32,
    /// Whether the transaction is committed; else it is aborted.
    pub commit: bool,
    /// When it ended, ms since 1970.
    pub time_ms: i64,
}

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl Batch {
    /// The marker, at base offset 0 and without leader epoch: 78 bytes, those that Kafka's brokers write.
    pub fn control(control: &Control) -> Batch {
        let kind = if control.commit { COMMIT } else { ABORT };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [&VERSION.to_be_bytes()[..], &control.coordinator_epoch.to_be_bytes()].concat();
        let mut builder = BatchBuilder::new(32);
        builder.append(control.time_ms, Some(&key), Some(&value), &[]);
        let (id, epoch) = (control.producer, control.producer_epoch);
        let Batch { mut header, body } =
            builder.finish(Some(ProducerStamp { id, epoch, base_sequence: NO_SEQUENCE }));
        set(&mut header, ATTRIBUTES_AT, (TRANSACTIONAL_BIT | CONTROL_BIT).to_be_bytes());
        let crc = crc_of(&header, &body);
        set(&mut header, CRC_AT, crc.to_be_bytes());
        Batch { header, body }
    }

    /// The batch with the mark that its records belong to a wire transaction of its producer.
    #[must_use]
    pub fn in_transaction(&self) -> Batch {
        let mut header = self.header;
        let attributes = self.attributes() | TRANSACTIONAL_BIT;
        set(&mut header, ATTRIBUTES_AT, attributes.to_be_bytes());
        let crc = crc_of(&header, &self.body);
        set(&mut header, CRC_AT, crc.to_be_bytes());
        Batch { header, body: self.body.clone() }
    }

    /// What the marker says, if this is one: `None` for data, and for control batches of other types.
    pub fn as_control(&self) -> Option<Control> {
        let stamp = self.producer().filter(|_| self.is_control())?;
        let record = self.records().next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let commit = match i16_of(&key, 2)? {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let epoch: [u8; 4] = value.get(2..6)?.try_into().ok()?;
        Some(Control {
            producer: stamp.id,
            producer_epoch: stamp.epoch,
            coordinator_epoch: i32::from_be_bytes(epoch),
            commit,
            time_ms: record.timestamp_ms,
        })
    }
}

fn i16_of(bytes: &Bytes, at: usize) -> Option<i16> {
    let two: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(i16::from_be_bytes(two))
}
