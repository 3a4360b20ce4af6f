//! From the outbox into the log, each row once.

use crate::courier::{Courier, RelaySettings};
use crate::error::Error;
use crate::numbers::{from_column, to_column};
use crate::outbox::Row;
use crate::postgres::outbox::only;
use crate::postgres::schema::create_tables;
use crate::tables::OUTBOX_RELAY;
use exactlog::Log;
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

/// How a relay is made.
#[derive(Debug)]
#[must_use = "open it with a client"]
pub struct OutboxRelayBuilder {
    log: Log,
    settings: RelaySettings,
}

impl OutboxRelayBuilder {
    /// Most rows of one transaction. Default 500, at least 1; it ends earlier, at about 1 MiB.
    pub fn batch(mut self, rows: usize) -> Self {
        self.settings.rows_max = rows;
        self
    }

    /// How long [`run`](OutboxRelay::run) waits when there was nothing. Default 50 ms.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.settings.pause = pause;
        self
    }

    /// Whether to go on if outbox and log don't fit ([`Error::OutboxMismatch`]), taking all rows that are there as not
    /// sent. Default false.
    pub fn accept_mismatch(mut self, accept: bool) -> Self {
        self.settings.accept_mismatch = accept;
        self
    }

    /// Takes the outbox over: a relay that was opened before is fenced.
    ///
    /// # Errors
    /// [`Error::OutboxMismatch`]. What the log and PostgreSQL answer.
    ///
    /// # Cancel safety
    /// Dropped, the earlier relay may be fenced already.
    pub async fn open(self, mut client: Client) -> Result<OutboxRelay, Error> {
        self.settings.check()?;
        create_tables(&mut client).await?;
        let transaction = begin(&mut client).await?;
        let sql = "UPDATE _exactlog_outbox_relay SET epoch = epoch + 1 RETURNING outbox, epoch, batch";
        let rows = transaction.query_typed(sql, &[]).await?;
        let row = only(&rows)?;
        let outbox: String = row.try_get(0)?;
        let relay_epoch = from_column(OUTBOX_RELAY, "epoch", row.try_get(1)?)?;
        // Relays before this one can't make batches any more, and with the producer they can't send any.
        let mut courier = Courier::open(&self.log, &outbox)?;
        let in_log = courier.in_log()?;
        self.settings.check_match(from_column(OUTBOX_RELAY, "batch", row.try_get(2)?)?, in_log)?;
        let in_log = to_column(OUTBOX_RELAY, "batch", in_log)?;
        let sql = "DELETE FROM _exactlog_outbox WHERE batch <= $1";
        transaction.execute_typed(sql, &[(&in_log, Type::INT8)]).await?;
        // What the log doesn't have wasn't sent: it gets its batch anew.
        let sql = "UPDATE _exactlog_outbox SET batch = NULL WHERE batch IS NOT NULL";
        transaction.execute_typed(sql, &[]).await?;
        let sql = "UPDATE _exactlog_outbox_relay SET batch = $1";
        transaction.execute_typed(sql, &[(&in_log, Type::INT8)]).await?;
        transaction.commit().await?;
        Ok(OutboxRelay { courier, client, settings: self.settings, relay_epoch })
    }
}

/// Sends the rows of an outbox to the log, each once, whatever is killed when. There is one at a time.
///
/// Rows are sent in the order in which it sees them, which is that of their numbers among those that it sees at once: a
/// transaction that commits late comes late, and is never missed. A row that the log doesn't take stops it: nothing is
/// skipped or overtaken.
#[derive(Debug)]
pub struct OutboxRelay {
    courier: Courier,
    client: Client,
    settings: RelaySettings,
    relay_epoch: u64,
}

impl OutboxRelay {
    /// How the relay of an outbox into this log is made.
    #[allow(clippy::new_ret_no_self, reason = "as Processor::new: what is said next makes it")]
    pub fn new(log: &Log) -> OutboxRelayBuilder {
        OutboxRelayBuilder { log: log.clone(), settings: RelaySettings::default() }
    }

    /// Its client, to look into the database.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one batch of what is there; how many rows. 0: there is nothing, and what was sent is deleted.
    ///
    /// # Errors
    /// [`Error::Unsendable`] names a row that the log doesn't take; [`Error::RelayFenced`]; what the log and PostgreSQL
    /// answer. Calling it again is right after every error: what was sent isn't sent again.
    ///
    /// # Cancel safety
    /// Safe: a batch whose commit is on its way isn't sent again, the next call asks the log for it.
    pub async fn relay(&mut self) -> Result<usize, Error> {
        let rows = self.next_batch().await?;
        let count = rows.len();
        if count > 0 {
            let committed = self.courier.pack(rows)?.commit().await;
            self.courier.concluded(committed)?;
        }
        Ok(count)
    }

    /// Sends what is there until nothing is; how many rows.
    ///
    /// # Errors
    /// As [`relay`](OutboxRelay::relay).
    ///
    /// # Cancel safety
    /// As [`relay`](OutboxRelay::relay).
    pub async fn drain(&mut self) -> Result<usize, Error> {
        let mut sent = 0;
        loop {
            match self.relay().await? {
                0 => return Ok(sent),
                count => sent += count,
            }
        }
    }

    /// Sends what comes until the log is closed.
    ///
    /// # Errors
    /// As [`relay`](OutboxRelay::relay).
    ///
    /// # Cancel safety
    /// As [`relay`](OutboxRelay::relay): to end it, drop it.
    pub async fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.relay().await {
                Ok(0) => tokio::time::sleep(self.settings.pause).await,
                Err(Error::Log(exactlog::Error::Closed)) => return Ok(()),
                relayed => _ = relayed?,
            }
        }
    }

    /// Deletes what the log has, and makes the next batch.
    async fn next_batch(&mut self) -> Result<Vec<Row>, Error> {
        let transaction = begin(&mut self.client).await?;
        // Locked: who takes the outbox over waits for this batch to be made.
        let sql = "SELECT epoch FROM _exactlog_outbox_relay FOR UPDATE";
        let current = only(&transaction.query_typed(sql, &[]).await?)?.try_get(0)?;
        let current = from_column(OUTBOX_RELAY, "epoch", current)?;
        if current != self.relay_epoch {
            return Err(Error::RelayFenced { relay_epoch: self.relay_epoch, current });
        }
        // Asked by the last relay alone: if it isn't known, the producer is opened anew, and others are fenced.
        let in_log = self.courier.in_log()?;
        let batch = to_column(OUTBOX_RELAY, "batch", in_log + 1)?;
        let sql = "DELETE FROM _exactlog_outbox WHERE batch < $1";
        transaction.execute_typed(sql, &[(&batch, Type::INT8)]).await?;
        let mut rows = load(&transaction, "batch = $3", Some(batch), self.settings).await?;
        if rows.is_empty() {
            rows = load(&transaction, "batch IS NULL", None, self.settings).await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let sql = "UPDATE _exactlog_outbox SET batch = $1 WHERE id = ANY($2)";
            let parameters = [(&batch as _, Type::INT8), (&ids as _, Type::INT8_ARRAY)];
            if !ids.is_empty() {
                transaction.execute_typed(sql, &parameters).await?;
                let sql = "UPDATE _exactlog_outbox_relay SET batch = $1";
                transaction.execute_typed(sql, &[(&batch, Type::INT8)]).await?;
            }
        }
        transaction.commit().await?;
        Ok(rows)
    }
}

/// A transaction that is on disk when its commit answers: what it hands over must not be forgotten.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    Ok(transaction)
}

/// Rows in their order, as many as a batch has.
async fn load(
    transaction: &Transaction<'_>,
    which: &str,
    batch: Option<i64>,
    settings: RelaySettings,
) -> Result<Vec<Row>, Error> {
    let sql = format!(
        "SELECT id, topic, key, value, headers, timestamp_ms FROM (
             SELECT *, row_number() OVER (ORDER BY id) AS place, sum(
                 coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers)
             ) OVER (ORDER BY id) AS bytes
             FROM (SELECT * FROM _exactlog_outbox WHERE {which} ORDER BY id LIMIT $1) AS first
         ) AS counted WHERE place = 1 OR bytes <= $2 ORDER BY id"
    );
    let rows_max = i64::try_from(settings.rows_max).unwrap_or(i64::MAX);
    let bytes_max = i64::try_from(settings.bytes_max).unwrap_or(i64::MAX);
    let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        vec![(&rows_max, Type::INT8), (&bytes_max, Type::INT8)];
    parameters.extend(batch.iter().map(|batch| (batch as _, Type::INT8)));
    let found = transaction.query_typed(&sql, &parameters).await?;
    let row = |row: &tokio_postgres::Row| {
        let headers: Vec<u8> = row.try_get(4)?;
        let (id, topic, timestamp_ms) = (row.try_get(0)?, row.try_get(1)?, row.try_get(5)?);
        Row::new(id, topic, row.try_get(2)?, row.try_get(3)?, &headers, timestamp_ms)
    };
    found.iter().map(row).collect()
}
