//! Exactly once between an exactlog and a database of yours: SQLite (feature `sqlite`) or PostgreSQL (`postgres`).
//!
//! | From | To | What makes it once |
//! |---|---|---|
//! | log | database | *sink*: a batch's effects and its offset are one transaction of the database |
//! | database | log | *outbox*: the event is a row of your transaction; a relay hands rows over in numbered batches |
//! | anywhere | database | *inbox*: an id is marked in your transaction, and a second one is told so |
//!
//! Both modules have the same three things. In `sqlite` calls block their thread, in `postgres` they are async, as
//! the two clients are. Neither feature is on by default, and without them nothing of C is built.
//!
//! The pages behind this: `docs/SQL.md` has the guarantees and what happens in each failure.
//!
//! Invariants
//!   * a table of this crate changes only in a transaction, and what a batch does is in one with its offset
//!   * nothing that a database or the log answers is skipped: what can't go on is an error that names it
#![forbid(unsafe_code)]
#![warn(unnameable_types)]

mod error;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod claims;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod courier;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod inbox;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod intake;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod numbers;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod outbox;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod tables;

pub use error::Error;
