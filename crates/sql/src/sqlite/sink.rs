//! From the log into SQLite, each record once.

use crate::claims::{Advance, Place, Plan, advance, plan};
use crate::error::Error;
use crate::intake::{Intake, SinkSettings, Unclaimed};
use crate::numbers::{from_column, to_column};
use crate::sqlite::schema::create_tables;
use crate::tables::OFFSETS;
use exactlog::{Log, Record, Start, Topic};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::time::{Duration, Instant};

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

    /// Joins the group. The connection is the sink's own until [`into_connection`](ExactlyOnceSink::into_connection).
    ///
    /// # Errors
    /// [`Error::Setting`], what [`subscribe`](exactlog::ConsumerBuilder::subscribe) answers, what SQLite answers.
    pub fn subscribe<'t>(
        self,
        topics: impl IntoIterator<Item = &'t Topic>,
        mut connection: Connection,
    ) -> Result<ExactlyOnceSink, Error> {
        create_tables(&mut connection)?;
        Ok(ExactlyOnceSink {
            intake: Intake::join(&self.log, &self.group, self.settings, topics)?,
            connection,
        })
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
    connection: Connection,
}

/// How long a call waits for records.
#[derive(Clone, Copy)]
enum Wait {
    No,
    Until(Instant),
    Forever,
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

    /// Its connection, to look into the database.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Leaves the group.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Waits for a batch and applies it; how many records it had, 0 if the database had all of them. `None`: the log is
    /// closed.
    ///
    /// # Errors
    /// Yours. [`Error::Fenced`]: another sink has claimed a partition since, which is final. [`Error::RecordsLost`],
    /// [`Error::DatabaseAhead`]: the log can't go on where the database is. What the log and SQLite answer.
    pub fn next<E: From<Error>>(
        &mut self,
        body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        self.step(Wait::Forever, body)
    }

    /// As [`next`](ExactlyOnceSink::next), for at most this long: 0 if nothing came.
    pub fn next_for<E: From<Error>>(
        &mut self,
        wait: Duration,
        body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        self.step(Instant::now().checked_add(wait).map_or(Wait::Forever, Wait::Until), body)
    }

    /// Applies what is there now. `None`: nothing is; a log that is closed is [`exactlog::Error::Closed`].
    ///
    /// # Errors
    /// As [`next`](ExactlyOnceSink::next).
    pub fn try_next<E: From<Error>>(
        &mut self,
        body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        self.step(Wait::No, body)
    }

    /// Applies batches until the log is closed.
    ///
    /// # Errors
    /// As [`next`](ExactlyOnceSink::next). Calling it again goes on.
    pub fn run<E: From<Error>>(
        &mut self,
        mut body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.next(&mut body)?.is_some() {}
        Ok(())
    }

    fn step<E: From<Error>>(
        &mut self,
        wait: Wait,
        mut body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        loop {
            match self.claim() {
                Err(Error::Log(exactlog::Error::Closed)) if !matches!(wait, Wait::No) => return Ok(None),
                claimed => claimed?,
            }
            let Intake { consumer, claims, group, .. } = &mut self.intake;
            let batch = match consumer.try_next() {
                Ok(Some(batch)) => batch,
                Ok(None) => match self.wait(wait)? {
                    Waited::Look => continue,
                    Waited::Over(answer) => return Ok(answer),
                },
                Err(error) => {
                    self.intake.unread(error)?;
                    continue;
                }
            };
            let Plan::Apply { records, advances } = plan(claims, batch.records()) else { continue };
            match transact(&mut self.connection, group, &advances, &records, &mut body) {
                Ok(Transacted::Applied) => advance(claims, advances),
                // Somebody has moved the offset by hand, or a commit that answered with an error had taken place.
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
            batch.blocking_ack().map_err(Error::from)?;
            return Ok(Some(applied));
        }
    }

    /// Waits until there may be records. A batch that comes is dropped, so that it is delivered again.
    fn wait(&mut self, wait: Wait) -> Result<Waited, Error> {
        let waited = match wait {
            Wait::No => return Ok(Waited::Over(None)),
            Wait::Until(deadline) => {
                self.intake.consumer.blocking_next_for(deadline.saturating_duration_since(Instant::now()))
            }
            Wait::Forever => self.intake.consumer.blocking_next(),
        };
        match waited {
            Ok(Some(batch)) if batch.is_empty() => Ok(Waited::Over(Some(0))),
            Ok(Some(_)) => Ok(Waited::Look),
            Ok(None) => Ok(Waited::Over(None)),
            Err(error) => self.intake.unread(error).map(|()| Waited::Look),
        }
    }

    /// Claims in the database what the log has assigned.
    fn claim(&mut self) -> Result<(), Error> {
        let unclaimed = self.intake.unclaimed()?;
        if unclaimed.is_empty() {
            return Ok(());
        }
        let transaction = immediate(&mut self.connection)?;
        let mut claimed = Vec::new();
        for unclaimed in unclaimed {
            let (claim_epoch, next) = claim(&transaction, &self.intake, &unclaimed)?;
            self.intake.check(&unclaimed, next)?;
            claimed.push((unclaimed, claim_epoch, next));
        }
        transaction.commit()?;
        for (unclaimed, claim_epoch, next) in claimed {
            self.intake.claimed(unclaimed, claim_epoch, next)?;
        }
        Ok(())
    }
}

enum Waited {
    /// There may be something.
    Look,
    /// That is the answer.
    Over(Option<usize>),
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

fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, Error> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// The offsets and what the function does, in one transaction. The offsets come first: who is fenced does nothing.
fn transact<E: From<Error>>(
    connection: &mut Connection,
    group: &str,
    advances: &[Advance],
    records: &[Record],
    mut body: impl FnMut(&Transaction<'_>, &[Record]) -> Result<(), E>,
) -> Result<Transacted, E> {
    if advances.is_empty() {
        return Ok(Transacted::Applied);
    }
    let transaction = immediate(connection)?;
    for advance in advances {
        if let Some(refused) = set_offset(&transaction, group, advance)? {
            return Ok(refused);
        }
    }
    body(&transaction, records)?;
    transaction.commit().map_err(Error::from)?;
    Ok(Transacted::Applied)
}

/// The next claim of a partition: its number, and the database's offset.
fn claim(transaction: &Transaction<'_>, intake: &Intake, unclaimed: &Unclaimed) -> Result<(u64, u64), Error> {
    let Unclaimed { place: (topic, partition), topic_id, .. } = unclaimed;
    let first = to_column(OFFSETS, "next_offset", intake.first_offset(unclaimed))?;
    let row = transaction.query_row(
        "INSERT INTO _exactlog_offsets VALUES (?1, ?2, ?3, ?4, ?5, 1)
         ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch, next_offset",
        (intake.group(), topic, topic_id, partition, first),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((from_column(OFFSETS, "epoch", row.0)?, from_column(OFFSETS, "next_offset", row.1)?))
}

/// Moves a partition's offset, if the claim is the last one; what is in the way otherwise.
fn set_offset(
    transaction: &Transaction<'_>,
    group: &str,
    advance: &Advance,
) -> Result<Option<Transacted>, Error> {
    let Advance { place, claim, to } = advance;
    let key = (group, claim.topic_id, place.1);
    let column = |value| to_column(OFFSETS, "next_offset", value);
    let changed = transaction
        .prepare_cached(
            "UPDATE _exactlog_offsets SET next_offset = ?4
             WHERE grp = ?1 AND topic_id = ?2 AND \"partition\" = ?3 AND epoch = ?5 AND next_offset = ?6",
        )?
        .execute((key.0, key.1, key.2, column(*to)?, column(claim.claim_epoch)?, column(claim.next)?))?;
    if changed == 1 {
        return Ok(None);
    }
    let current = transaction
        .query_row(
            "SELECT epoch FROM _exactlog_offsets WHERE grp = ?1 AND topic_id = ?2 AND \"partition\" = ?3",
            key,
            |row| row.get(0),
        )
        .optional()?;
    let current = current.map(|current| from_column(OFFSETS, "epoch", current)).transpose()?;
    Ok(Some(match current {
        Some(current) if current != claim.claim_epoch => {
            Transacted::Fenced { place: place.clone(), claim_epoch: claim.claim_epoch, current }
        }
        _ => Transacted::Moved,
    }))
}
