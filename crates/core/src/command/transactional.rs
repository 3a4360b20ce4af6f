//! The commands of wire transactions: what Kafka's transactional producer asks for (KIP-98, KIP-360, KIP-447, KIP-890).
//!
//! Invariants
//!   * what an answer's error code depends on besides the state is in the command: the protocol, and whether the
//!     request's version knows the newer codes

use super::OffsetCommit;
use crate::batch::Batch;
use crate::ids::{MemberId, Partition, ProducerId};

/// A request of a transactional producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transactional {
    /// InitProducerId with a transactional id: the id's producer and its next epoch. An open transaction of the id is
    /// aborted.
    Init {
        /// The transactional id.
        transactional_id: String,
        /// How long a transaction may stay open, in ms.
        timeout_ms: u32,
        /// The producer and epoch that the sender has; none: it is a new one (KIP-360).
        current: Option<(ProducerId, i16)>,
        /// InitProducerId v4 and later: a fenced sender is told 90 instead of 47.
        newer_codes: bool,
    },
    /// AddPartitionsToTxn: the transaction goes on in these partitions, and begins if none is open.
    AddPartitions {
        /// Who asks. `newer_codes`: v2 and later, 90 instead of 47.
        sender: TransactionSender,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// AddOffsetsToTxn: positions of this group are going to be part of the transaction, which begins if none is open.
    AddOffsets {
        /// Who asks. `newer_codes`: v2 and later, 90 instead of 47.
        sender: TransactionSender,
        /// The group.
        group: String,
    },
    /// Produce with a transactional batch, for one partition.
    Append {
        /// The transactional id of the request. Producer and epoch are the batch's.
        transactional_id: String,
        /// Produce v12 and later: [`Protocol::V2`].
        protocol: Protocol,
        /// Produce v11 and later: 120 instead of 48 where the partition isn't part of the transaction.
        newer_codes: bool,
        /// Where to.
        partition: Partition,
        /// The version of the topic's settings that the sender has checked against.
        config_version: u32,
        /// The records. Base offset and leader epoch in its header are not believed.
        batch: Batch,
    },
    /// TxnOffsetCommit: positions that become the group's when the transaction commits (KIP-447).
    CommitOffsets {
        /// Who asks. `newer_codes`: 120 instead of 48 where the group isn't part of the transaction.
        sender: TransactionSender,
        /// The group.
        group: String,
        /// The member and its generation; none: whoever has the transactional id.
        member: Option<(MemberId, u64)>,
        /// The positions.
        offsets: Vec<OffsetCommit>,
    },
    /// EndTxn: the decision, its markers, the group's positions and, by [`Protocol::V2`], the next epoch.
    End {
        /// Who asks. `newer_codes`: v2 and later, 90 instead of 47.
        sender: TransactionSender,
        /// Whether to commit; else everything is aborted.
        commit: bool,
    },
}

impl Transactional {
    /// The command's name, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Transactional::Init { .. } => "InitTransactions",
            Transactional::AddPartitions { .. } => "AddPartitionsToTransaction",
            Transactional::AddOffsets { .. } => "AddOffsetsToTransaction",
            Transactional::Append { .. } => "AppendTransactional",
            Transactional::CommitOffsets { .. } => "CommitOffsetsTransactional",
            Transactional::End { .. } => "EndTransaction",
        }
    }
}

/// Who asks for something about a transaction, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSender {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer that the sender takes itself for.
    pub producer: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// Whether its request's version knows the newer error codes.
    pub newer_codes: bool,
    /// Ordinal of the connection, ascending over all opens; 0: not to be looked at. By [`Protocol::V1`] an EndTxn from
    /// an older connection than the last AddPartitions or AddOffsets is refused (KAFKA-17754).
    pub connection: u64,
}

/// Kafka's protocols of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One epoch for an incarnation of the producer; partitions and groups are added before they are written to.
    V1,
    /// One epoch for each transaction; what is written to is added by that (KIP-890, part 2).
    V2,
}

/// Longest transactional id, in bytes: what fits into a string of the Kafka protocol.
pub const TRANSACTIONAL_ID_BYTES_MAX: usize = i16::MAX as usize;
