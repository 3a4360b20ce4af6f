//! The tables of this crate in PostgreSQL.

use crate::error::Error;
use crate::postgres::outbox::only;
use tokio_postgres::Client;

/// Written so that making them again changes nothing. A later version adds tables or columns, and never alters these.
/// The lock (an arbitrary number, released with the transaction): `IF NOT EXISTS` fails if two do it at once.
const TABLES: &str = "
SELECT pg_advisory_xact_lock(7308339910637985895);
CREATE TABLE IF NOT EXISTS _exactlog_offsets (
    grp text NOT NULL, topic text NOT NULL, topic_id bigint NOT NULL, partition bigint NOT NULL,
    next_offset bigint NOT NULL, epoch bigint NOT NULL,
    PRIMARY KEY (grp, topic_id, partition)
);
CREATE TABLE IF NOT EXISTS _exactlog_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, key bytea, value bytea,
    headers bytea NOT NULL, timestamp_ms bigint NOT NULL, batch bigint
);
CREATE INDEX IF NOT EXISTS _exactlog_outbox_batch ON _exactlog_outbox (batch) WHERE batch IS NOT NULL;
CREATE TABLE IF NOT EXISTS _exactlog_outbox_relay (
    one bigint PRIMARY KEY CHECK (one = 1), outbox text NOT NULL, epoch bigint NOT NULL, batch bigint NOT NULL
);
INSERT INTO _exactlog_outbox_relay VALUES (1, replace(gen_random_uuid()::text, '-', ''), 0, 0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS _exactlog_inbox (
    scope text NOT NULL, id bytea NOT NULL, at_ms bigint NOT NULL,
    PRIMARY KEY (scope, id)
);
CREATE INDEX IF NOT EXISTS _exactlog_inbox_at ON _exactlog_inbox (scope, at_ms);
";

/// Makes the tables that aren't there yet, in the first schema of the `search_path`. Sinks and relays do it themselves;
/// who only uses [`Outbox`](crate::postgres::Outbox) or [`Inbox`](crate::postgres::Inbox) calls it once.
///
/// # Errors
/// What PostgreSQL answers; it has to be version 13 or newer.
pub async fn create_tables(client: &mut Client) -> Result<(), Error> {
    // They are made in one transaction: the last one is there, or none. Asked before, as `CREATE INDEX IF NOT EXISTS`
    // waits for everybody who has written to its table, also when the index is there.
    let last = client.query_typed("SELECT to_regclass('_exactlog_inbox') IS NOT NULL", &[]).await?;
    if only(&last)?.try_get(0)? {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute(TABLES).await?;
    Ok(transaction.commit().await?)
}
