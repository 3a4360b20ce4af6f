//! What can go wrong, in the words of whoever uses the log.

use bytes::Bytes;
use exactlog_core::batch::BatchError;
use exactlog_core::error_code;
use exactlog_core::ids::MemberId;
use exactlog_core::reply::Refusal;
use exactlog_storage::error::StorageError;
use std::sync::Arc;
use thiserror::Error;

/// An error of the log.
///
/// Every message names the thing, the value and the limit. What was refused changed nothing.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The log answered: no. Nothing of the command was applied.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Topic, group and producer names have to be legal file and header text.
    #[error(
        "{what} name {name:?} is not legal: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', and not '.' or '..'"
    )]
    IllegalName {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that the log keeps for itself.
    #[error("{what} name {name:?} is reserved for what the log keeps for itself")]
    ReservedName {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `open_topic` never creates.
    #[error("topic {name:?} doesn't exist; create_topic makes it")]
    NoSuchTopic {
        /// The name.
        name: String,
    },
    /// `table` never creates; and a table may be gone.
    #[error("table {name:?} doesn't exist; create_table makes it")]
    NoSuchTable {
        /// The name.
        name: String,
    },
    /// A value that can't be written in the form that was asked for.
    #[error("the value can't be written as JSON: {reason}")]
    Unencodable {
        /// What the encoder says.
        reason: String,
    },
    /// A partition that the topic doesn't have.
    #[error("topic {topic:?} has no partition {partition}: it has {partitions}")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// One event is larger than the topic takes.
    #[error("an event of {bytes} bytes is over topic {topic:?}'s max.message.bytes = {max}")]
    EventTooLarge {
        /// The topic.
        topic: String,
        /// Encoded size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A transaction is larger than one command may be.
    #[error("a transaction of {bytes} bytes is over the limit of {max}")]
    TransactionTooLarge {
        /// Encoded size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An id of an event that is empty or too long.
    #[error("an event id of {bytes} bytes: it has 1 to {max}")]
    EventIdLength {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An event with an id that is to be delivered later: whether the id was seen could only be told by then.
    #[error(
        "an event that is delivered later can't have an id: mark it in the transaction that sets the timer"
    )]
    EventIdDelayed,
    /// A transaction without anything in it.
    #[error("an empty transaction: send, put, ack, mark an id or set a cursor before commit")]
    EmptyTransaction,
    /// Bytes that are no record batch, or one that a client must not send.
    #[error("record batch: {0}")]
    Batch(#[from] BatchError),
    /// `try_` found no room. Nothing was taken.
    #[error("the submit queue is full: {bytes} bytes wait, the limit is {max}")]
    Full {
        /// Bytes that wait.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A newer handle of the same name took over.
    #[error("producer {name:?} is fenced: a newer handle of this name was opened")]
    Fenced {
        /// The producer's name.
        name: String,
    },
    /// This consumer is no longer a member of its group.
    #[error("consumer of group {group:?} is fenced: it left the group or was away for too long")]
    ConsumerFenced {
        /// The group.
        group: String,
    },
    /// A position that isn't in the partition.
    #[error("topic {topic:?} partition {partition}: offset {offset} is outside {start} to {end}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// First offset that can be read.
        start: u64,
        /// Offset behind the last record.
        end: u64,
    },
    /// Records were trimmed before they were read. The consumer goes on at `to`.
    #[error(
        "topic {topic:?} partition {partition}: records {from} to {to} were trimmed before they were read"
    )]
    RecordsLost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// First offset that is gone.
        from: u64,
        /// Where reading goes on.
        to: u64,
    },
    /// The records of a stored batch can't be had: its codec is missing in this build, or its sender wrote what no
    /// codec reads. Like a payload that can't be decoded it isn't the end: reading goes on at `to`.
    #[error("{0}")]
    UnreadableBatch(Box<UnreadableBatch>),
    /// The consumer doesn't read this partition.
    #[error("the consumer doesn't read topic {topic:?} partition {partition}")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The read view has been open for longer than `read.view.max.ms`.
    #[error("the read view expired after {max_ms} ms; open a new one")]
    ViewExpired {
        /// The limit.
        max_ms: u64,
    },
    /// The outcome is not known: the write failed after it was submitted. After [`reopen`](crate::Log::reopen) the log
    /// knows; a commit can be asked for with its token.
    #[error("the outcome is unknown, the log stopped while writing: {0}")]
    Unknown(StorageError),
    /// The disk or what lies on it.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// It was opened by [`Builder::open_read_only`](crate::Builder::open_read_only).
    #[error("the log in {directory} was opened for reading only")]
    ReadOnly {
        /// The directory.
        directory: String,
    },
    /// [`Builder::open_read_only`](crate::Builder::open_read_only) makes no log.
    #[error("there is no log in {directory}")]
    NoLog {
        /// The directory.
        directory: String,
    },
    /// A group is moved only while it has no members.
    #[error("group {group:?} is active: {} ({}); stop its consumers first", count(members), list(members))]
    GroupActive {
        /// The group.
        group: String,
        /// Its members.
        members: Vec<MemberId>,
    },
    /// What only the process that keeps the log can do, asked of a log that a node keeps.
    #[error("{what} is for the process that keeps the log, and this one is reached over a connection")]
    NotOverConnection {
        /// What was asked for.
        what: &'static str,
    },
    /// The node that keeps the log can't be reached, or doesn't serve this process. Once a log is there it waits for
    /// its node instead.
    #[error("node {peer}: {reason}")]
    Connection {
        /// Where the node is.
        peer: String,
        /// What is wrong.
        reason: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

fn count(members: &[MemberId]) -> String {
    let s = if members.len() == 1 { "" } else { "s" };
    format!("{} member{s}", members.len())
}

fn list(members: &[MemberId]) -> String {
    let names: Vec<String> = members.iter().map(|member| format!("member {member}")).collect();
    names.join(", ")
}

/// A stored batch whose records can't be had: an item of the stream like any other, never its end. Its bytes are whole,
/// as its checksum says: it is what the sender sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("topic {topic:?} partition {partition}: the records {from} to {} can't be read: {reason}", .to - 1)]
pub struct UnreadableBatch {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Offset of the first record that can't be read.
    pub from: u64,
    /// Where reading goes on: the offset behind the batch.
    pub to: u64,
    /// The whole batch as it is stored, Kafka's record batch v2.
    pub raw: Bytes,
    /// What is wrong with it.
    pub reason: BatchError,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Full { .. } | Error::Connection { .. } => true,
            Error::Refused(refusal) => {
                matches!(refusal, Refusal::ConfigChanged { .. } | Refusal::EventReserved { .. })
            }
            Error::Storage(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// Whether the handle that gave it is of no more use.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Error::Fenced { .. } | Error::ConsumerFenced { .. } | Error::Closed | Error::ViewExpired { .. }
        )
    }

    /// What a consumer says of a commit that was refused.
    pub(crate) fn of_consumer(self) -> Error {
        match self {
            Error::Refused(Refusal::UnknownMember { group, .. } | Refusal::NotOwned { group, .. }) => {
                Error::ConsumerFenced { group }
            }
            error => error,
        }
    }

    /// Kafka's code for it (-1: unknown server error).
    pub fn kafka_code(&self) -> i16 {
        match self {
            Error::Refused(refusal) => refusal.kafka_code(),
            Error::Batch(error) => error.kafka_code(),
            Error::UnreadableBatch(batch) => batch.reason.kafka_code(),
            Error::IllegalName { .. } | Error::ReservedName { .. } => error_code::INVALID_TOPIC_EXCEPTION,
            Error::NoSuchTopic { .. } | Error::NoSuchTable { .. } | Error::NoSuchPartition { .. } => {
                error_code::UNKNOWN_TOPIC_OR_PARTITION
            }
            Error::EventTooLarge { .. } | Error::TransactionTooLarge { .. } => error_code::MESSAGE_TOO_LARGE,
            Error::EventIdLength { .. } | Error::EventIdDelayed => error_code::INVALID_RECORD,
            Error::Fenced { .. } => error_code::PRODUCER_FENCED,
            Error::ConsumerFenced { .. } | Error::GroupActive { .. } => error_code::UNKNOWN_MEMBER_ID,
            Error::OffsetOutOfRange { .. } | Error::RecordsLost { .. } => error_code::OFFSET_OUT_OF_RANGE,
            // What clients try again: the disk may have room, or the log be open again.
            Error::Storage(_) | Error::Unknown(_) | Error::Closed | Error::Full { .. } => {
                error_code::KAFKA_STORAGE_ERROR
            }
            _ => error_code::UNKNOWN_SERVER_ERROR,
        }
    }
}
