//! PostgreSQL, through `tokio-postgres`: everything is async, and runs on a tokio runtime.
//!
//! ```no_run
//! use exactlog::{Log, TopicOptions};
//! use exactlog_sql::postgres::{ExactlyOnceSink, tokio_postgres};
//!
//! # async fn shop() -> Result<(), exactlog_sql::Error> {
//! let (client, connection) = tokio_postgres::connect("host=localhost user=shop", tokio_postgres::NoTls).await?;
//! tokio::spawn(connection);
//! let log = Log::open("data")?;
//! let orders = log.create_topic("orders", TopicOptions::default().partitions(6))?;
//! let mut sink = ExactlyOnceSink::new(&log, "reports").subscribe([&orders], client).await?;
//! sink.run(async |transaction, records| {
//!     for order in records {
//!         transaction.execute("INSERT INTO orders VALUES ($1, $2)", &[&order.key(), &order.value()]).await?;
//!     }
//!     Ok::<_, exactlog_sql::Error>(())
//! })
//! .await
//! # }
//! ```
//!
//! In a task of its own (`tokio::spawn`) the function is an `async fn` or an `async move` closure: what a closure
//! borrows keeps the compiler from seeing that the task is [`Send`].
//!
//! A client whose connection has ended is of no more use, and neither is the sink or relay that has it: make another
//! one. What became of a commit that was under way then is read from the database.
//!
//! Invariants
//!   * a claim waits for the transaction that holds the partition's row, so it sees how that ended
//!   * no statement is kept prepared: it works behind poolers that hand out connections for one transaction

mod inbox;
mod outbox;
mod relay;
mod schema;
mod sink;

pub use inbox::Inbox;
pub use outbox::Outbox;
pub use relay::{OutboxRelay, OutboxRelayBuilder};
pub use schema::create_tables;
pub use sink::{ExactlyOnceSink, ExactlyOnceSinkBuilder};
pub use tokio_postgres;
