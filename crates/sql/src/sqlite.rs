//! SQLite: what the calling thread does, it waits for. From a task, go through `spawn_blocking` or a thread of its own.
//!
//! ```
//! use exactlog::{Event, Log, TopicOptions};
//! use exactlog_sql::sqlite::{ExactlyOnceSink, rusqlite::Connection};
//!
//! # fn main() -> Result<(), exactlog_sql::Error> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let (data, file) = (directory.path().join("data"), directory.path().join("shop.db"));
//! let log = Log::open(&data)?;
//! let orders = log.create_topic("orders", TopicOptions::default())?;
//! log.producer("shop")?.blocking_send(&orders, Event::new("ada", "3 chairs"))?;
//!
//! let database = Connection::open(&file)?;
//! database.pragma_update(None, "journal_mode", "wal")?;
//! database.execute("CREATE TABLE IF NOT EXISTS orders (customer TEXT, what TEXT)", ())?;
//! let mut sink = ExactlyOnceSink::new(&log, "reports").subscribe([&orders], database)?;
//! while let Some(_applied) = sink.try_next(|transaction, records| {
//!     for order in records {
//!         transaction.execute("INSERT INTO orders VALUES (?1, ?2)", (order.key(), order.value()))?;
//!     }
//!     Ok::<_, exactlog_sql::Error>(())
//! })? {}
//! # Ok(())
//! # }
//! ```
//!
//! A connection that finds another one writing waits for as long as its `busy_timeout` says (rusqlite sets 5 s).
//!
//! Invariants
//!   * every transaction of this crate begins `IMMEDIATE`: none is refused for having read before it wrote

mod inbox;
mod outbox;
mod relay;
mod schema;
mod sink;

pub use inbox::Inbox;
pub use outbox::Outbox;
pub use relay::{OutboxRelay, OutboxRelayBuilder};
pub use rusqlite;
pub use schema::create_tables;
pub use sink::{ExactlyOnceSink, ExactlyOnceSinkBuilder};
