//! Events as rows of PostgreSQL, to be sent once what they are about is there.

use crate::error::Error;
use crate::outbox::columns;
use exactlog::Event;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

/// Events that are sent if and only if your transaction commits. An [`OutboxRelay`](crate::postgres::OutboxRelay) sends
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Outbox;

impl Outbox {
    /// Adds an event to the transaction; the number of its row. It needn't be the log's process that does this.
    ///
    /// An event without a timestamp has that of this call. Events of a key keep their order if the transactions that
    /// write them don't overlap: if each has locked the same row (the order's, the customer's) before it enqueues.
    ///
    /// # Errors
    /// [`Error::EventWithId`]; [`exactlog::Error::IllegalName`] and [`exactlog::Error::EventTooLarge`] for what no log
    /// takes; what PostgreSQL answers.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the row may be there: roll the transaction back.
    pub async fn enqueue(transaction: &Transaction<'_>, topic: &str, event: Event) -> Result<i64, Error> {
        let columns = columns(topic, &event)?;
        let rows = transaction
            .query_typed(
                "INSERT INTO _exactlog_outbox (topic, key, value, headers, timestamp_ms)
                 VALUES ($1, $2, $3, $4, $5) RETURNING id",
                &[
                    (&topic, Type::TEXT),
                    (&event.key.as_deref(), Type::BYTEA),
                    (&event.value.as_deref(), Type::BYTEA),
                    (&columns.headers, Type::BYTEA),
                    (&columns.timestamp_ms, Type::INT8),
                ],
            )
            .await?;
        only(&rows)?.try_get(0).map_err(Error::from)
    }
}

/// The row of a statement that answers with one.
pub(super) fn only(rows: &[tokio_postgres::Row]) -> Result<&tokio_postgres::Row, Error> {
    rows.first().ok_or_else(|| Error::setting("the answer of PostgreSQL", "0 rows", "1 row"))
}
