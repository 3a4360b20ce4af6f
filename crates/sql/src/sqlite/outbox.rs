//! Events as rows of SQLite, to be sent once what they are about is there.

use crate::error::Error;
use crate::outbox::columns;
use exactlog::Event;
use rusqlite::Transaction;

/// Events that are sent if and only if your transaction commits. An [`OutboxRelay`](crate::sqlite::OutboxRelay) sends
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Outbox;

impl Outbox {
    /// Adds an event to the transaction; the number of its row. It needn't be the log's process that does this.
    ///
    /// An event without a timestamp has that of this call. Events of a key keep the order of their rows, if the
    /// transactions that write them don't overlap: in SQLite they can't.
    ///
    /// # Errors
    /// [`Error::EventWithId`]; [`exactlog::Error::IllegalName`] and [`exactlog::Error::EventTooLarge`] for what no log
    /// takes; what SQLite answers.
    pub fn enqueue(transaction: &Transaction<'_>, topic: &str, event: Event) -> Result<i64, Error> {
        let columns = columns(topic, &event)?;
        transaction
            .prepare_cached(
                "INSERT INTO _exactlog_outbox (topic, key, value, headers, timestamp_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                topic,
                event.key.as_deref(),
                event.value.as_deref(),
                columns.headers,
                columns.timestamp_ms,
            ))?;
        Ok(transaction.last_insert_rowid())
    }
}
