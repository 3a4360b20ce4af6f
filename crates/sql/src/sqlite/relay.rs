//! From the outbox into the log, each row once.

use crate::courier::{Courier, RelaySettings};
use crate::error::Error;
use crate::numbers::{from_column, to_column};
use crate::outbox::Row;
use crate::sqlite::schema::create_tables;
use crate::tables::OUTBOX_RELAY;
use exactlog::Log;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::time::Duration;

/// How a relay is made.
#[derive(Debug)]
#[must_use = "open it with a connection"]
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
    /// [`Error::OutboxMismatch`]. [`Error::Setting`]: the connection's `synchronous` is below `FULL`, so that the
    /// database could forget, with the power, what it has handed over. What the log and SQLite answer.
    pub fn open(self, mut connection: Connection) -> Result<OutboxRelay, Error> {
        self.settings.check()?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", (), |row| row.get(0))?;
        if synchronous < SYNCHRONOUS_FULL {
            return Err(Error::setting(
                "synchronous",
                synchronous,
                "2 (FULL) or more, where rows are relayed",
            ));
        }
        create_tables(&mut connection)?;
        let transaction = immediate(&mut connection)?;
        let (outbox, relay_epoch, handed_over) = transaction.query_row(
            "UPDATE _exactlog_outbox_relay SET epoch = epoch + 1 RETURNING outbox, epoch, batch",
            (),
            |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let relay_epoch = from_column(OUTBOX_RELAY, "epoch", relay_epoch)?;
        // Relays before this one can't make batches any more, and with the producer they can't send any.
        let mut courier = Courier::open(&self.log, &outbox)?;
        let in_log = courier.in_log()?;
        self.settings.check_match(from_column(OUTBOX_RELAY, "batch", handed_over)?, in_log)?;
        let in_log = to_column(OUTBOX_RELAY, "batch", in_log)?;
        transaction.execute("DELETE FROM _exactlog_outbox WHERE batch <= ?1", [in_log])?;
        // What the log doesn't have wasn't sent: it gets its batch anew.
        transaction.execute("UPDATE _exactlog_outbox SET batch = NULL WHERE batch IS NOT NULL", ())?;
        transaction.execute("UPDATE _exactlog_outbox_relay SET batch = ?1", [in_log])?;
        transaction.commit()?;
        Ok(OutboxRelay { courier, connection, settings: self.settings, relay_epoch })
    }
}

/// `PRAGMA synchronous`: a commit is on disk when it answers, also of a database with a WAL.
const SYNCHRONOUS_FULL: i64 = 2;

/// Sends the rows of an outbox to the log, each once, whatever is killed when. There is one at a time.
///
/// Rows are sent in the order in which it sees them, which is that of their numbers among those that it sees at once. A
/// row that the log doesn't take stops it: nothing is skipped or overtaken.
#[derive(Debug)]
pub struct OutboxRelay {
    courier: Courier,
    connection: Connection,
    settings: RelaySettings,
    relay_epoch: u64,
}

impl OutboxRelay {
    /// How the relay of an outbox into this log is made.
    #[allow(clippy::new_ret_no_self, reason = "as Processor::new: what is said next makes it")]
    pub fn new(log: &Log) -> OutboxRelayBuilder {
        OutboxRelayBuilder { log: log.clone(), settings: RelaySettings::default() }
    }

    /// Its connection, to look into the database.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends one batch of what is there; how many rows. 0: there is nothing, and what was sent is deleted.
    ///
    /// # Errors
    /// [`Error::Unsendable`] names a row that the log doesn't take; [`Error::RelayFenced`]; what the log and SQLite
    /// answer. Calling it again is right after every error: what was sent isn't sent again.
    pub fn relay(&mut self) -> Result<usize, Error> {
        let rows = self.next_batch()?;
        let count = rows.len();
        if count > 0 {
            let committed = self.courier.pack(rows)?.blocking_commit();
            self.courier.concluded(committed)?;
        }
        Ok(count)
    }

    /// Sends what is there until nothing is; how many rows.
    ///
    /// # Errors
    /// As [`relay`](OutboxRelay::relay).
    pub fn drain(&mut self) -> Result<usize, Error> {
        let mut sent = 0;
        loop {
            match self.relay()? {
                0 => return Ok(sent),
                count => sent += count,
            }
        }
    }

    /// Sends what comes until the log is closed or `is_over` says so, which is asked between two batches.
    ///
    /// # Errors
    /// As [`relay`](OutboxRelay::relay).
    pub fn run(&mut self, mut is_over: impl FnMut() -> bool) -> Result<(), Error> {
        while !is_over() {
            match self.relay() {
                Ok(0) => std::thread::sleep(self.settings.pause),
                Err(Error::Log(exactlog::Error::Closed)) => return Ok(()),
                relayed => _ = relayed?,
            }
        }
        Ok(())
    }

    /// Deletes what the log has, and makes the next batch.
    fn next_batch(&mut self) -> Result<Vec<Row>, Error> {
        let relay_epoch = to_column(OUTBOX_RELAY, "epoch", self.relay_epoch)?;
        let transaction = immediate(&mut self.connection)?;
        let current =
            transaction.query_row("SELECT epoch FROM _exactlog_outbox_relay", (), |row| row.get(0))?;
        if current != relay_epoch {
            let current = from_column(OUTBOX_RELAY, "epoch", current)?;
            return Err(Error::RelayFenced { relay_epoch: self.relay_epoch, current });
        }
        // Asked by the last relay alone: if it isn't known, the producer is opened anew, and others are fenced.
        let in_log = self.courier.in_log()?;
        let batch = to_column(OUTBOX_RELAY, "batch", in_log + 1)?;
        transaction.execute("DELETE FROM _exactlog_outbox WHERE batch < ?1", [batch])?;
        let mut rows = load(&transaction, "batch = ?1", (batch,), self.settings)?;
        if rows.is_empty() {
            rows = load(&transaction, "batch IS NULL", (), self.settings)?;
            let mut assign =
                transaction.prepare_cached("UPDATE _exactlog_outbox SET batch = ?1 WHERE id = ?2")?;
            for row in &rows {
                assign.execute((batch, row.id))?;
            }
            if !rows.is_empty() {
                transaction.execute("UPDATE _exactlog_outbox_relay SET batch = ?1", [batch])?;
            }
        }
        transaction.commit()?;
        Ok(rows)
    }
}

fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, Error> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Rows in their order, as many as a batch has.
fn load(
    transaction: &Transaction<'_>,
    which: &str,
    parameters: impl rusqlite::Params,
    settings: RelaySettings,
) -> Result<Vec<Row>, Error> {
    let sql = format!(
        "SELECT id, topic, key, value, headers, timestamp_ms FROM _exactlog_outbox WHERE {which} ORDER BY id"
    );
    let mut select = transaction.prepare_cached(&sql)?;
    let mut found = select.query(parameters)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let headers: Vec<u8> = row.get(4)?;
        let row = Row::new(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, &headers, row.get(5)?)?;
        bytes += row.bytes();
        if !rows.is_empty() && bytes > settings.bytes_max {
            break;
        }
        rows.push(row);
        if rows.len() == settings.rows_max {
            break;
        }
    }
    Ok(rows)
}
