//! Ids that were seen, in PostgreSQL.

use crate::error::Error;
use crate::inbox::{RETENTION, check_id, now_ms, oldest_kept_ms};
use std::time::Duration;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Transaction};

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

    /// Whether this is the first time of an id, which is marked by it. If another transaction has just marked it, this
    /// waits for the end of that one.
    ///
    /// # Errors
    /// [`Error::IdLength`], what PostgreSQL answers.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the id may be marked: roll the transaction back.
    pub async fn first_time(
        &self,
        transaction: &Transaction<'_>,
        id: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        let id = id.as_ref();
        check_id(id)?;
        let sql = "INSERT INTO _exactlog_inbox VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let parameters =
            [(&self.scope as _, Type::TEXT), (&id as _, Type::BYTEA), (&now_ms() as _, Type::INT8)];
        Ok(transaction.execute_typed(sql, &parameters).await? == 1)
    }

    /// Forgets ids of this scope that are older than the retention; how many. A copy that comes afterwards is the first
    /// one again. Call it now and then, in a transaction or outside.
    ///
    /// # Errors
    /// What PostgreSQL answers.
    ///
    /// # Cancel safety
    /// Dropped after its first poll they may be forgotten all the same.
    pub async fn forget_older(&self, client: &impl GenericClient) -> Result<u64, Error> {
        let sql = "DELETE FROM _exactlog_inbox WHERE scope = $1 AND at_ms < $2";
        let oldest_ms = oldest_kept_ms(now_ms(), self.retention);
        Ok(client.execute_typed(sql, &[(&self.scope, Type::TEXT), (&oldest_ms, Type::INT8)]).await?)
    }
}
