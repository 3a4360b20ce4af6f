//! What can go wrong between the log and a database.

use std::fmt::Display;
use thiserror::Error;

/// An error of this crate. Whatever it is, the database's transaction was rolled back, unless its doc says otherwise.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The log. If it comes from a sink, the batch may have taken effect before: the database's offset tells, and the
    /// next call goes on there.
    #[error("{0}")]
    Log(#[from] exactlog::Error),
    /// SQLite. If it comes from a commit the outcome is unknown: the database's offset tells, the next call reads it.
    #[cfg(feature = "sqlite")]
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL. If it comes from a commit the outcome is unknown: the database's offset tells, and a new sink or
    /// relay on a new connection reads it.
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL: {}", in_full(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Another sink of this group has claimed the partition in the database since. This one is of no more use: nothing
    /// that it does takes effect any more.
    #[error(
        "group {group:?} is fenced at {topic}-{partition}: its claim has number {claim_epoch}, \
         the database has {current}"
    )]
    Fenced {
        /// The group.
        group: String,
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Number of this sink's claim.
        claim_epoch: u64,
        /// Number of the claim that the database has now.
        current: u64,
    },
    /// Records were trimmed from the log before the database had them. The sink goes on behind them if it is told to
    /// (`skip_lost`).
    #[error(
        "topic {topic:?} partition {partition}: group {group:?} is at offset {from} in the database, \
         and records up to {to} were trimmed"
    )]
    RecordsLost {
        /// The group.
        group: String,
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The database's offset: the first one that is gone.
        from: u64,
        /// The first one that can be read.
        to: u64,
    },
    /// The database has more of a partition than the log: it belongs to another log, or the log was restored from an
    /// older copy.
    #[error(
        "topic {topic:?} partition {partition}: group {group:?} is at offset {offset} in the database, \
         and the log ends at {end}: is this its log?"
    )]
    DatabaseAhead {
        /// The group.
        group: String,
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The database's offset.
        offset: u64,
        /// Where the partition ends.
        end: u64,
    },
    /// Another relay of this outbox was opened since: this one is of no more use.
    #[error("this relay is fenced: it has number {relay_epoch}, the outbox has {current}")]
    RelayFenced {
        /// Number of this relay.
        relay_epoch: u64,
        /// Number of the relay that was opened last.
        current: u64,
    },
    /// A row of the outbox that the log doesn't take: its topic isn't there, or the event is too large for it. It
    /// stays, and so do those behind it, until the topic takes it or somebody deletes the row.
    #[error("row {id} of the outbox can't be sent to topic {topic:?}: {reason}")]
    Unsendable {
        /// The row.
        id: i64,
        /// The topic that it is for.
        topic: String,
        /// What the log says.
        reason: Box<exactlog::Error>,
    },
    /// What the outbox and the log remember of each other doesn't fit: one of the two was restored from an older copy,
    /// or is another one. Whether what is in the outbox was sent isn't known then; `accept_mismatch` takes it as not
    /// sent.
    #[error(
        "the outbox has handed over up to batch {handed_over}, the log has batch {in_log}: \
         one of the two is an older copy"
    )]
    OutboxMismatch {
        /// The last batch that the outbox knows of.
        handed_over: u64,
        /// The last batch that the log knows of.
        in_log: u64,
    },
    /// An event with an id in the outbox: a row is sent once by itself, and the id would be a second opinion. Consumers
    /// that want to see an id find it in a header.
    #[error("an event in the outbox can't have an id: the row is sent once, put the id into a header")]
    EventWithId,
    /// An id of the inbox that is empty or too long.
    #[error("an id of {bytes} bytes: it has 1 to {max}")]
    IdLength {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A value in a table of this crate that it can't have written.
    #[error("table {table} has {column} = {value}, which is {problem}")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is there.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting that is out of bounds.
    #[error("{name} is {value}; it has to be {bound}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        bound: &'static str,
    },
}

#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code, reason = "for databases"))]
impl Error {
    pub(crate) fn setting(name: &'static str, value: impl Display, bound: &'static str) -> Error {
        Error::Setting { name, value: value.to_string(), bound }
    }

    /// Whether this sink or relay is of no more use, and a new one isn't wanted either: somebody else has taken over.
    pub fn is_fenced(&self) -> bool {
        match self {
            Error::Fenced { .. } | Error::RelayFenced { .. } => true,
            Error::Log(error) => {
                matches!(error, exactlog::Error::Fenced { .. } | exactlog::Error::ConsumerFenced { .. })
            }
            _ => false,
        }
    }
}

/// What the client says, with what the server said: its own text leaves that out.
#[cfg(feature = "postgres")]
fn in_full(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(server) => format!("{} ({})", server.message(), server.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
