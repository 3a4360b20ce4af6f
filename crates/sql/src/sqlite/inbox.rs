//! Ids that were seen, in SQLite.

use crate::error::Error;
use crate::inbox::{RETENTION, check_id, now_ms, oldest_kept_ms};
use rusqlite::{Connection, Transaction};
use std::time::Duration;

/// Tells the first time of an id from all later ones: for what comes from elsewhere, and may come more than once.
///
/// The mark is part of your transaction. If that is rolled back, the next time is the first one again.
#[derive(Clone, Debug)]
pub struct Inbox {
    scope: String,
    retention: Duration,
}

impl Inbox {
    /// Ids are unique within a scope: the name of a group, a job, a sender.
    pub fn new(scope: impl Into<String>) -> Inbox {
        Inbox { scope: scope.into(), retention: RETENTION }
    }

    /// How long an id is kept at least. Default 7 days. Nothing goes before [`forget_older`](Inbox::forget_older) is
    /// called.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Inbox {
        self.retention = retention;
        self
    }

    /// Whether this is the first time of an id, which is marked by it.
    ///
    /// # Errors
    /// [`Error::IdLength`], what SQLite answers.
    pub fn first_time(&self, transaction: &Transaction<'_>, id: impl AsRef<[u8]>) -> Result<bool, Error> {
        check_id(id.as_ref())?;
        let sql = "INSERT INTO _exactlog_inbox VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let marked = transaction.prepare_cached(sql)?.execute((&self.scope, id.as_ref(), now_ms()))?;
        Ok(marked == 1)
    }

    /// Forgets ids of this scope that are older than the retention; how many. A copy that comes afterwards is the first
    /// one again. Call it now and then, in a transaction or outside.
    ///
    /// # Errors
    /// What SQLite answers.
    pub fn forget_older(&self, connection: &Connection) -> Result<usize, Error> {
        let sql = "DELETE FROM _exactlog_inbox WHERE scope = ?1 AND at_ms < ?2";
        Ok(connection.execute(sql, (&self.scope, oldest_kept_ms(now_ms(), self.retention)))?)
    }
}
