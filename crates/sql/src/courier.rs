//! The log's side of an outbox: batches of rows become transactions of a producer that belongs to the outbox alone.
//!
//! ```text
//!   database: rows -> batch n + 1      log: rows and cursor n + 1, in one transaction      database: batch n + 1 goes
//! ```
//!
//! A row gets its batch when a relay sees it, which is after its transaction has committed: so it doesn't matter in
//! which order transactions commit that have taken numbers in another one. The cursor says which batches the log has.
//!
//! Invariants
//!   * batch n + 1 is sent only if the log has all up to n, and nobody else sends: opening the producer fences others
//!   * after a commit whose outcome isn't known the producer is opened anew, and its cursor tells

use crate::error::Error;
use crate::outbox::Row;
use bytes::Bytes;
use exactlog::{Log, Producer, Topic, Transaction};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a relay is made: what both kinds of it have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelaySettings {
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) pause: Duration,
    pub(crate) accept_mismatch: bool,
}

/// Most rows of one batch, if nothing else is said.
const ROWS_MAX: usize = 500;

/// About how many bytes one batch has at most: a transaction of a log with small journal files takes no more.
const BYTES_MAX: usize = 1024 * 1024;

/// How long to wait for rows when there were none, if nothing else is said.
const PAUSE: Duration = Duration::from_millis(50);

impl Default for RelaySettings {
    fn default() -> Self {
        RelaySettings { rows_max: ROWS_MAX, bytes_max: BYTES_MAX, pause: PAUSE, accept_mismatch: false }
    }
}

impl RelaySettings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.rows_max {
            0 => Err(Error::setting("batch", 0, "at least 1")),
            _ => Ok(()),
        }
    }

    /// Whether what the outbox has handed over fits what the log has: the same, or one batch less in the log, which was
    /// on its way.
    pub(crate) fn check_match(&self, handed_over: u64, in_log: u64) -> Result<(), Error> {
        let fits = handed_over == in_log || handed_over.checked_sub(1) == Some(in_log);
        match fits || self.accept_mismatch {
            true => Ok(()),
            false => Err(Error::OutboxMismatch { handed_over, in_log }),
        }
    }
}

/// Who carries rows into the log.
#[derive(Debug)]
pub(crate) struct Courier {
    log: Log,
    producer: Producer,
    topics: BTreeMap<String, Topic>,
    /// The last batch that the log has.
    in_log: u64,
    /// It isn't known whether the next one was committed.
    in_doubt: bool,
}

impl Courier {
    /// `outbox` is what the outbox calls itself.
    pub(crate) fn open(log: &Log, outbox: &str) -> Result<Courier, Error> {
        let producer = log.producer(&format!("outbox.{outbox}"))?;
        let in_log = number(producer.cursor())?;
        Ok(Courier { log: log.clone(), producer, topics: BTreeMap::new(), in_log, in_doubt: false })
    }

    /// The last batch that the log has, once that is known.
    pub(crate) fn in_log(&mut self) -> Result<u64, Error> {
        if self.in_doubt {
            let name = self.producer.name().to_string();
            self.producer = self.log.producer(&name)?;
            self.in_log = number(self.producer.cursor())?;
            self.in_doubt = false;
        }
        Ok(self.in_log)
    }

    /// Has the next batch in a transaction, to be committed: what becomes of that has to be [said](Courier::concluded).
    /// Not called while the outcome of another one isn't known.
    pub(crate) fn pack(&mut self, rows: Vec<Row>) -> Result<Transaction<'_>, Error> {
        for row in &rows {
            if !self.topics.contains_key(&row.topic) {
                let topic = self.log.open_topic(&row.topic).map_err(|error| unsendable(row, error))?;
                self.topics.insert(row.topic.clone(), topic);
            }
        }
        let Courier { producer, topics, in_log, in_doubt, .. } = self;
        let mut transaction = producer.begin();
        for mut row in rows {
            let Some(topic) = topics.get(&row.topic) else { continue };
            let event = std::mem::take(&mut row.event);
            transaction.send(topic, event).map_err(|error| unsendable(&row, error))?;
        }
        transaction.set_cursor((*in_log + 1).to_be_bytes().to_vec())?;
        *in_doubt = true;
        Ok(transaction)
    }

    /// What became of the batch that was packed.
    pub(crate) fn concluded<T>(&mut self, committed: Result<T, exactlog::Error>) -> Result<(), Error> {
        match committed {
            Ok(_) => {
                self.in_log += 1;
                self.in_doubt = false;
                Ok(())
            }
            Err(error) => {
                // A topic may have been deleted and made anew, or altered: it is looked up again.
                self.topics.clear();
                Err(error.into())
            }
        }
    }
}

fn unsendable(row: &Row, error: exactlog::Error) -> Error {
    match error {
        exactlog::Error::Closed | exactlog::Error::Storage(_) => error.into(),
        error => Error::Unsendable { id: row.id, topic: row.topic.clone(), reason: Box::new(error) },
    }
}

fn number(cursor: Option<&Bytes>) -> Result<u64, Error> {
    let Some(cursor) = cursor else { return Ok(0) };
    let bytes: [u8; 8] = cursor.as_ref().try_into().map_err(|_| {
        Error::setting(
            "the cursor of the outbox's producer",
            format!("{} bytes", cursor.len()),
            "8 bytes long",
        )
    })?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_and_a_log_that_do_not_fit_are_not_guessed_about() {
        let settings = RelaySettings::default();
        assert!(settings.check_match(0, 0).is_ok());
        assert!(settings.check_match(8, 8).is_ok());
        assert!(settings.check_match(8, 7).is_ok());
        assert!(settings.check_match(7, 8).is_err());
        assert!(settings.check_match(8, 6).is_err());
        assert!(RelaySettings { accept_mismatch: true, ..settings }.check_match(7, 8).is_ok());
    }
}
