//! The tables of this crate in SQLite.

use crate::error::Error;
use rusqlite::{Connection, TransactionBehavior};

/// Written so that making them again changes nothing. A later version adds tables or columns, and never alters these.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _exactlog_offsets (
    grp TEXT NOT NULL, topic TEXT NOT NULL, topic_id INTEGER NOT NULL, \"partition\" INTEGER NOT NULL,
    next_offset INTEGER NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (grp, topic_id, \"partition\")
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _exactlog_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB, value BLOB, headers BLOB NOT NULL,
    timestamp_ms INTEGER NOT NULL, batch INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS _exactlog_outbox_batch ON _exactlog_outbox (batch) WHERE batch IS NOT NULL;
CREATE TABLE IF NOT EXISTS _exactlog_outbox_relay (
    one INTEGER PRIMARY KEY CHECK (one = 1), outbox TEXT NOT NULL, epoch INTEGER NOT NULL, batch INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO _exactlog_outbox_relay VALUES (1, lower(hex(randomblob(16))), 0, 0);
CREATE TABLE IF NOT EXISTS _exactlog_inbox (
    scope TEXT NOT NULL, id BLOB NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _exactlog_inbox_at ON _exactlog_inbox (scope, at_ms);
";

/// Makes the tables that aren't there yet. Sinks and relays do it themselves; who only uses
/// [`Outbox`](crate::sqlite::Outbox) or [`Inbox`](crate::sqlite::Inbox) calls it once, outside a transaction.
///
/// # Errors
/// What SQLite answers.
pub fn create_tables(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    Ok(transaction.commit()?)
}
