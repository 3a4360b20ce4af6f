//! An embedded, partitioned, append-only event log whose exactly-once semantics are built in.
//!
//! ```
//! use exactlog::{Event, Log, TopicOptions};
//!
//! # fn main() -> Result<(), exactlog::Error> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let data = directory.path().join("data");
//! let log = Log::open(&data)?; // what is acknowledged is on disk
//! let orders = log.create_topic("orders", TopicOptions::default().partitions(6))?;
//! let invoices = log.create_topic("invoices", TopicOptions::default().partitions(6))?;
//! let mut consumer = log.consumer("billing").subscribe([&orders])?;
//! let mut producer = log.producer("billing")?; // always idempotent
//! producer.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
//!
//! let batch = consumer.blocking_next()?.expect("the log is open");
//! let mut transaction = producer.begin();
//! for order in &batch {
//!     transaction.send(&invoices, Event::new(order.key.clone().unwrap(), "invoice"))?;
//! }
//! transaction.ack(batch); // these positions commit with the outputs
//! transaction.blocking_commit()?; // one frame, one sync; dropping it instead aborts
//! # assert_eq!(log.lag("billing", &orders), 0);
//! # Ok(())
//! # }
//! ```
//!
//! Where to go on: [`Log`] opens, creates and closes · [`Producer`] sends, each event with a [`Ticket`] ·
//! [`Transaction`] is all or nothing · [`Consumer`] reads and shares partitions with its group · [`ReadView`] shows
//! everything as of one moment · [`Table`] has the last value of each key.
//!
//! Every call that waits exists for tasks (`send`, `next`, `commit`) and for threads (`blocking_...`), as in tokio.
//! The blocking half needs no runtime.
//!
//! A call that needn't wait doesn't yield either, and takes nothing from tokio's budget of a task. Where it is awaited
//! in a loop ([`Producer::submit`] while there is room, [`Consumer::next`] and [`RecordStream`] while there are
//! records) other tasks of the same thread don't run meanwhile. Await the tickets now and then, or yield:
//!
//! ```
//! # use exactlog::{Event, Log, TopicOptions};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), exactlog::Error> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let log = Log::open(directory.path())?;
//! # let orders = log.create_topic("orders", TopicOptions::default())?;
//! # let producer = log.producer("shop")?;
//! let mut tickets = Vec::new();
//! for number in 0..10_000 {
//!     tickets.push(producer.submit(&orders, Event::unkeyed(format!("order {number}"))).await?);
//!     tokio::task::coop::consume_budget().await; // yields when this task had its share
//! }
//! for ticket in tickets {
//!     ticket.await?;
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(unnameable_types)]

mod admin;
mod batch_details;
mod cleaning;
mod clients;
mod clock;
mod consumer;
mod dedup;
mod delivery;
mod error;
mod event;
mod exposition;
mod far_half;
mod forwarding;
mod front;
mod handover;
mod histogram;
mod host;
mod interval;
mod lag;
mod log;
mod maintenance;
mod members;
mod metrics;
mod own_memory;
mod producer;
mod queue;
mod read_only;
mod reading;
mod repair;
mod repeats;
mod room;
mod samples;
mod scan;
mod signal;
mod slot;
mod source;
mod storing;
mod table;
mod table_writes;
mod timer;
mod topic;
mod transaction;
mod turns;
mod unpacking;
mod view;
mod writer;

pub use admin::{
    CommandDetails, Commands, GroupDetails, GroupPosition, LogDetails, MemberDetails, PartitionDetails,
    ProducerDetails, SeekTo,
};
pub use batch_details::BatchDetails;
pub use bytes::Bytes;
pub use cleaning::Cleaned;
pub use clock::Clock;
pub use consumer::{Consumer, ConsumerBuilder, Start};
pub use dedup::{EventId, Reservation, Reserve, Scope};
pub use delivery::{Batch, RecordStream};
pub use error::{Error, UnreadableBatch};
pub use event::{Event, Receipt, Record, Undecodable};
pub use exactlog_core::batch::TimestampType;
pub use exactlog_core::batch::{BatchError, Compression, CompressionFault, RecordFault, RecordHeader};
pub use exactlog_core::command::{
    AtCap, CleanupPolicy, CommitToken, DedupScope, KEEPABLE, Keepable, KeptSettings, SettingError,
    TopicCompression, TopicConfig, TopicDurability,
};
pub use exactlog_core::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};
pub use exactlog_core::reply::{Cancellation, Refusal, Seen, SeenEvent, Sighting, TimerFailure};
pub use exactlog_core::state::{DedupLimits, TableLimits, TimerLimits};
pub use exactlog_storage::cleaning::{Compacted, DueCompaction};
pub use exactlog_storage::error::StorageError;
pub use exactlog_storage::journal::Cut;
pub use exactlog_storage::repair::{Finding, Lost, Remedy};
pub use exactlog_storage::shard::{Durability, RecoveryReport};
pub use futures_core::Stream;
pub use histogram::{Distribution, Histogram};
pub use log::{Builder, Log, Outcome};
pub use metrics::{DedupMetrics, Metrics, TimerMetrics};
pub use producer::{Producer, Ticket};
pub use repair::Repaired;
pub use samples::{MetricsSource, Samples};
pub use scan::{KeyRange, Scan};
pub use serde_json::Error as JsonError;
pub use table::{Entry, Table, TableOptions};
pub use timer::TimerDetails;
pub use topic::{Topic, TopicOptions};
pub use transaction::{CommitReceipt, Transaction};
pub use view::{ReadView, Records};

/// For a front end that speaks Kafka's protocol: batches as they are ([`Log::submit_batch`], [`Log::fetch`]), and the
/// requests of transactional producers with their answers ([`Log::transactional`]).
pub mod wire {
    pub use crate::front::{
        ActiveProducer, Appended, Appending, Arrivals, Asked, Bounds, Fetched, Isolation, LogPlace, Within,
    };
    pub use exactlog_core::batch::{Batch, BatchBuilder, HEADER_BYTES, ProducerStamp, Record};
    pub use exactlog_core::command::{
        Command, ConfigChange, OFFSET_METADATA_BYTES_MAX, OffsetCommit, OffsetMetadata, Protocol,
        TransactionSender, Transactional, is_legal_group_name, is_legal_name,
    };
    pub use exactlog_core::partitioner::partition_for_key;
    pub use exactlog_core::reply::{Committed, Reply, topic_differences};
    pub use exactlog_core::state::{CommittedOffset, Transaction, TransactionPhase, TransactionalProducer};
}

/// A log that another process keeps: what a node says to whoever works on its log, and the way to it
/// ([`Builder::connect`]).
pub mod far {
    pub use crate::far_half::{Changes, Link, LinkError, Pictured, Sent, SessionId, Submitted, Welcome};
    pub use crate::host::{Host, HostError};
    pub use exactlog_core::state::{Answers, Found, MarkKey, Place, ScopeKey};
    pub use exactlog_storage::feed::Fed;
}

/// What a log is kept on, if that isn't a directory: see [`Builder::disk`].
pub mod disk {
    pub use exactlog_storage::disk::{Disk, Entry, File, Mode, Overlay, RealDisk};
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
