//! From the log into PostgreSQL, each record once.

use crate::claims::{Advance, Place, Plan, advance, plan};
use crate::error::Error;
use crate::intake::{Intake, SinkSettings, Unclaimed};
use crate::numbers::{from_column, to_column};
use crate::postgres::outbox::only;
use crate::postgres::schema::create_tables;
use crate::tables::OFFSETS;
use exactlog::{Log, Record, Start, Topic};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

/// How a sink is made.
#[derive(Debug)]
#[must_use = "say what it reads: subscribe"]
pub struct ExactlyOnceSinkBuilder {
    log: Log,
    group: String,
    settings: SinkSettings,
}

impl ExactlyOnceSinkBuilder {
    /// Most records of one transaction. Default 500, at least 1: each costs a sync of the database, so more is faster.
    pub fn batch(mut self, records: usize) -> Self {
        self.settings.records_max = records;
        self
    }

    /// Where to begin in a partition of which the database has nothing yet, whatever the log says of the group.
    /// Default [`Start::Earliest`].
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// Whether to go on behind records that were trimmed before the database had them, instead of answering
    /// [`Error::RecordsLost`]. Default false.
    pub fn skip_lost(mut self, skip: bool) -> Self {
        self.settings.skip_lost = skip;
        self
    }

    /// Joins the group. The client is the sink's own until [`into_client`](ExactlyOnceSink::into_client).
    ///
    /// # Errors
    /// [`Error::Setting`], what [`subscribe`](exactlog::ConsumerBuilder::subscribe) answers, what PostgreSQL answers.
    ///
    /// # Cancel safety
    /// Safe: the group is joined last.
    pub async fn subscribe<'t>(
        self,
        topics: impl IntoIterator<Item = &'t Topic>,
        mut client: Client,
    ) -> Result<ExactlyOnceSink, Error> {
        create_tables(&mut client).await?;
        Ok(ExactlyOnceSink { intake: Intake::join(&self.log, &self.group, self.settings, topics)?, client })
    }
}

/// Consumes topics as a member of a group. For each batch a function of yours runs inside a transaction of the
/// database, which also has the next offset of each partition: both are there, or neither.
///
/// The database's offset is the truth: the sink reads on where that is, whatever is committed in the log. There the
/// offsets are committed afterwards, so that the group's lag is right, and nothing is read from them.
///
/// If the function fails, its transaction is rolled back and the batch comes again with the next call. An error of the
/// function is yours; anything else is an [`Error`], from which yours is made.
#[derive(Debug)]
pub struct ExactlyOnceSink {
    intake: Intake,
    client: Client,
}

impl ExactlyOnceSink {
    /// How a sink of a group is made.
    #[allow(clippy::new_ret_no_self, reason = "as Processor::new: what is said next makes it")]
    pub fn new(log: &Log, group: &str) -> ExactlyOnceSinkBuilder {
        let (log, group) = (log.clone(), group.to_string());
        ExactlyOnceSinkBuilder { log, group, settings: SinkSettings::default() }
    }

    /// Its group.
    pub fn group(&self) -> &str {
        self.intake.group()
    }

    /// Its client, to look into the database.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Leaves the group.
    pub fn into_client(self) -> Client {
        self.client
    }

    /// Waits for a batch and applies it; how many records it had, 0 if the database had all of them. `None`: the log is
    /// closed.
    ///
    /// # Errors
    /// Yours. [`Error::Fenced`]: another sink has claimed a partition since, which is final. [`Error::RecordsLost`],
    /// [`Error::DatabaseAhead`]: the log can't go on where the database is. What the log and PostgreSQL answer.
    ///
    /// # Cancel safety
    /// Safe: the transaction is rolled back, or it is committed and the next call finds that in the database.
    pub async fn next<E: From<Error>>(
        &mut self,
        mut body: impl AsyncFnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        self.step(true, &mut body).await
    }

    /// Applies what is there now. `None`: nothing is; a log that is closed is [`exactlog::Error::Closed`]. After a call
    /// that was dropped, `None` also says that what this has told the log is still on its way.
    ///
    /// # Errors
    /// As [`next`](ExactlyOnceSink::next).
    ///
    /// # Cancel safety
    /// As [`next`](ExactlyOnceSink::next).
    pub async fn try_next<E: From<Error>>(
        &mut self,
        mut body: impl AsyncFnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        self.step(false, &mut body).await
    }

    /// Applies batches until the log is closed.
    ///
    /// # Errors
    /// As [`next`](ExactlyOnceSink::next). Calling it again goes on.
    ///
    /// # Cancel safety
    /// As [`next`](ExactlyOnceSink::next): to end it, drop it.
    pub async fn run<E: From<Error>>(
        &mut self,
        mut body: impl AsyncFnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.step(true, &mut body).await?.is_some() {}
        Ok(())
    }

    async fn step<E: From<Error>>(
        &mut self,
        waits: bool,
        body: &mut impl AsyncFnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        loop {
            match self.claim().await {
                Err(Error::Log(exactlog::Error::Closed)) if waits => return Ok(None),
                claimed => claimed?,
            }
            let Intake { consumer, claims, group, .. } = &mut self.intake;
            let batch = match consumer.try_next() {
                Ok(Some(batch)) => batch,
                Ok(None) if !waits => return Ok(None),
                // A batch that comes is dropped here, so that it is delivered again.
                Ok(None) => match consumer.next().await.map(|batch| batch.is_some()) {
                    Ok(true) => continue,
                    Ok(false) => return Ok(None),
                    Err(error) => {
                        self.intake.unread(error)?;
                        continue;
                    }
                },
                Err(error) => {
                    self.intake.unread(error)?;
                    continue;
                }
            };
            let Plan::Apply { records, advances } = plan(claims, batch.records()) else { continue };
            match transact(&mut self.client, group, &advances, &records, body).await {
                Ok(Transacted::Applied) => advance(claims, advances),
                // Somebody has moved the offset by hand, or a commit whose answer was lost had taken place.
                Ok(Transacted::Moved) => {
                    claims.clear();
                    continue;
                }
                Ok(Transacted::Fenced { place, claim_epoch, current }) => {
                    drop(batch);
                    return Err(self.intake.fence(place, claim_epoch, current).into());
                }
                Err(error) => {
                    claims.clear();
                    return Err(error);
                }
            }
            let applied = records.len();
            // For whoever looks at the group's lag. If it is refused the records come again, and are left out.
            batch.ack().await.map_err(Error::from)?;
            return Ok(Some(applied));
        }
    }

    /// Claims in the database what the log has assigned.
    async fn claim(&mut self) -> Result<(), Error> {
        let unclaimed = self.intake.unclaimed()?;
        if unclaimed.is_empty() {
            return Ok(());
        }
        let transaction = self.client.transaction().await?;
        let mut claimed = Vec::new();
        for unclaimed in unclaimed {
            let (claim_epoch, next) = claim(&transaction, &self.intake, &unclaimed).await?;
            self.intake.check(&unclaimed, next)?;
            claimed.push((unclaimed, claim_epoch, next));
        }
        transaction.commit().await?;
        for (unclaimed, claim_epoch, next) in claimed {
            self.intake.claimed(unclaimed, claim_epoch, next)?;
        }
        Ok(())
    }
}

/// What became of a batch.
enum Transacted {
    Applied,
    /// The database's offset isn't where this sink has left it.
    Moved,
    Fenced {
        place: Place,
        claim_epoch: u64,
        current: u64,
    },
}

/// The offsets and what the function does, in one transaction. The offsets come first: who is fenced does nothing, and
/// who claims waits for the end of this.
async fn transact<E: From<Error>>(
    client: &mut Client,
    group: &str,
    advances: &[Advance],
    records: &[Record],
    body: &mut impl AsyncFnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
) -> Result<Transacted, E> {
    if advances.is_empty() {
        return Ok(Transacted::Applied);
    }
    let transaction = client.transaction().await.map_err(Error::from)?;
    for advance in advances {
        if let Some(refused) = set_offset(&transaction, group, advance).await? {
            return Ok(refused);
        }
    }
    body(&transaction, records).await?;
    transaction.commit().await.map_err(Error::from)?;
    Ok(Transacted::Applied)
}

/// The next claim of a partition: its number, and the database's offset.
async fn claim(
    transaction: &Transaction<'_>,
    intake: &Intake,
    unclaimed: &Unclaimed,
) -> Result<(u64, u64), Error> {
    let Unclaimed { place: (topic, partition), topic_id, .. } = unclaimed;
    let first = to_column(OFFSETS, "next_offset", intake.first_offset(unclaimed))?;
    let rows = transaction
        .query_typed(
            "INSERT INTO _exactlog_offsets AS known VALUES ($1, $2, $3, $4, $5, 1)
             ON CONFLICT (grp, topic_id, partition) DO UPDATE SET epoch = known.epoch + 1
             RETURNING epoch, next_offset",
            &[
                (&intake.group(), Type::TEXT),
                (topic, Type::TEXT),
                (&i64::from(*topic_id), Type::INT8),
                (&i64::from(*partition), Type::INT8),
                (&first, Type::INT8),
            ],
        )
        .await?;
    let row = only(&rows)?;
    let claim_epoch = from_column(OFFSETS, "epoch", row.try_get(0)?)?;
    Ok((claim_epoch, from_column(OFFSETS, "next_offset", row.try_get(1)?)?))
}

/// Moves a partition's offset, if the claim is the last one; what is in the way otherwise.
async fn set_offset(
    transaction: &Transaction<'_>,
    group: &str,
    advance: &Advance,
) -> Result<Option<Transacted>, Error> {
    let Advance { place, claim, to } = advance;
    let (topic_id, partition) = (i64::from(claim.topic_id), i64::from(place.1));
    let column = |value| to_column(OFFSETS, "next_offset", value);
    let (to, claim_epoch, next) = (column(*to)?, column(claim.claim_epoch)?, column(claim.next)?);
    let changed = transaction
        .execute_typed(
            "UPDATE _exactlog_offsets SET next_offset = $4
             WHERE grp = $1 AND topic_id = $2 AND partition = $3 AND epoch = $5 AND next_offset = $6",
            &[
                (&group, Type::TEXT),
                (&topic_id, Type::INT8),
                (&partition, Type::INT8),
                (&to, Type::INT8),
                (&claim_epoch, Type::INT8),
                (&next, Type::INT8),
            ],
        )
        .await?;
    if changed == 1 {
        return Ok(None);
    }
    let rows = transaction
        .query_typed(
            "SELECT epoch FROM _exactlog_offsets WHERE grp = $1 AND topic_id = $2 AND partition = $3",
            &[(&group, Type::TEXT), (&topic_id, Type::INT8), (&partition, Type::INT8)],
        )
        .await?;
    let current = rows.first().map(|row| row.try_get(0)).transpose()?;
    let current = current.map(|current| from_column(OFFSETS, "epoch", current)).transpose()?;
    Ok(Some(match current {
        Some(current) if current != claim.claim_epoch => {
            Transacted::Fenced { place: place.clone(), claim_epoch: claim.claim_epoch, current }
        }
        _ => Transacted::Moved,
    }))
}
