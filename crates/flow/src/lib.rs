//! Event processing on [`exactlog`]: every input ends exactly once in done, retried or dead-lettered.
//!
//! ```
//! use exactlog::{Event, Log, TopicOptions};
//! use exactlog_flow::{Context, Failure, Processor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let data = directory.path().join("data");
//! let log = Log::open(&data)?;
//! let orders = log.create_topic("orders", TopicOptions::default().partitions(10))?;
//! let invoices = log.create_topic("invoices", TopicOptions::default().partitions(10))?;
//! # let producer = log.producer("shop")?;
//! # producer.blocking_send(&orders, Event::new("order-1", "two chairs").header("message-id", "1"))?;
//! # producer.blocking_send(&orders, Event::new("order-1", "two chairs").header("message-id", "1"))?;
//! # producer.blocking_send(&orders, Event::new("order-2", "\u{0}"))?;
//! # let invoices_of = invoices.clone();
//!
//! let billing = Processor::new(&log, "billing").topic(&orders).start(move |order: Context| {
//!     let invoices = invoices.clone();
//!     async move {
//!         if order.value_str()?.contains('\0') {
//!             return Err(Failure::poison("Text", "an order is text")); // into dlq.orders, at once
//!         }
//!         order.send(&invoices, Event::new(order.key().to_vec(), "invoice")) // with the order's commit, or not at all
//!     }
//! })?;
//! # let counts = billing.until(|metrics| metrics.counts.ended() == 3).await?.counts;
//! billing.stop().await?; // what was begun is finished first
//! # assert_eq!((counts.read, counts.done_total(), counts.duplicate, counts.dead), (3, 1, 1, 1));
//! # assert_eq!(log.lag("nobody", &invoices_of), 1);
//! # Ok(())
//! # }
//! ```
//!
//! A handler only says what is to be: events to send, writes of tables, timers. **One commit** has all of it, with the
//! position in the input, the mark that tells copies, and what waits or is given up. So wherever the process is killed,
//! each event is in exactly one of these:
//!
//! | | |
//! |---|---|
//! | *done* | its effects are in the log, once |
//! | *duplicate* | a copy of it was done |
//! | *waiting* | it failed and is tried again, or stands behind one of its key that is |
//! | *dead* | it is in the dead-letter topic, as it was, with what is known of its death |
//! | *not read* | it is behind the group's position |
//!
//! What is exact are effects in the log. A handler itself may run more than once for an event: when it failed, when the
//! process was killed before the commit, when what it had read from a table was another one by then. What it does
//! elsewhere (a mail, a payment) it does at least once; give it [`Context::event_id`] as its idempotency key, and let
//! [`Dedup::lease`] keep copies apart.
//!
//! Where to go on: [`Processor`] has the settings · [`Context`] is what a handler gets · [`Failure`] is what it says ·
//! [`Retry`], [`Dedup`], [`DeadLetter`], [`Breaker`] · [`Running`] pauses, stops and counts ·
//! [`inspect`] shows what a group has counted and what waits · [`DeadLetters`] puts them back ·
//! [`Requester`] asks and waits for the reply · [`Saga`] undoes what can't be done as a whole.
#![forbid(unsafe_code)]
#![warn(unnameable_types)]

mod attempt;
mod breaker;
mod chance;
mod clock;
mod commit;
mod context;
mod counts;
mod dead_entry;
mod dead_letter;
mod dedup;
mod engine;
mod error;
mod failure;
#[cfg(any(feature = "webhook", feature = "otel"))]
mod http;
mod inspect;
mod lag_alert;
mod ledger;
mod lines;
mod meters;
#[cfg(feature = "otel")]
mod otel;
mod outbox;
mod owned;
mod parked;
mod processor;
mod redrive;
mod replay;
mod request;
mod retry;
mod round;
mod running;
mod saga;
mod settings;
mod throttle;
mod trace;
#[cfg(feature = "webhook")]
mod webhook;

pub use attempt::Handler;
pub use breaker::{Breaker, BreakerConfig, BreakerMetrics, BreakerState, SlidingWindow};
pub use context::Context;
pub use counts::Counts;
pub use dead_entry::{DeadEntry, EntryState, Origin};
pub use dead_letter::{DeadLetter, DlqHeaders, DlqNaming};
pub use dedup::{Dedup, DedupBy};
pub use error::Error;
pub use failure::{Class, Failure, OrFail};
pub use inspect::{GroupState, PartitionCounts, WaitingEvent, inspect};
pub use lag_alert::{LagAlert, LagChange, LagEvent, LagWatch};
#[cfg(feature = "otel")]
pub use otel::{Otlp, OtlpExporter};
pub use parked::Waiting;
pub use processor::Processor;
pub use redrive::{DeadLetters, Redrive, RedriveTo, Redriven};
pub use replay::{Replay, ReplayFrom};
pub use request::{Answer, Call, RequestError, Requester};
pub use retry::{Jitter, Retry, RetryMode};
pub use running::{Metrics, Running};
pub use saga::{
    OnCompensationFailure, Saga, SagaInstance, SagaStatus, SagaStep, Sagas, Step, StepFailure, StepStatus,
};
#[cfg(feature = "webhook")]
pub use webhook::{Webhook, WebhookSender};

/// The recipes of the cookbook compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/COOKBOOK.md")]
pub struct Cookbook;

/// What takes the place of what compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/COMING_FROM.md")]
pub struct ComingFrom;

/// The lines about topics compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/TOPICS.md")]
pub struct Topics;
