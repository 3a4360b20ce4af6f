//! Sink, outbox and inbox on real databases: SQLite in files with a WAL, and a PostgreSQL that `.ci/sql` starts. Some
//! of them kill processes.
#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod bank;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_kills;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod shop;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_kills;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod victim;
