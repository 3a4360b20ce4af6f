//! Sagas, looked at while they run or not, and what can be done about one.
//!
//! The table `saga.<name>` has a row `id/<id>` for each, and `end/<ms since 1970>/<id>` for each that has ended.

use super::instance::{SagaInstance, SagaStatus};
use crate::dead_entry::DeadEntry;
use crate::error::Error;
use crate::parked::RowOf;
use crate::redrive::{DeadLetters, Redrive};
use exactlog::{KeyRange, Log, Table};

const TABLE: &str = "saga.";
const ID: &str = "id/";
pub(super) const END: &str = "end/";

/// The name of a saga's table.
pub(super) fn table_name(saga: &str) -> String {
    format!("{TABLE}{saga}")
}

/// The key of a saga's row.
pub(super) fn key(id: &str) -> String {
    format!("{ID}{id}")
}

/// The key that says when one has ended.
pub(super) fn end_key(ended_ms: i64, id: &str) -> String {
    format!("{END}{ended_ms:020}/{id}")
}

pub(super) fn parse_end_key(key: &[u8]) -> Option<(i64, &str)> {
    let (ended_ms, id) = std::str::from_utf8(key).ok()?.strip_prefix(END)?.split_once('/')?;
    Some((ended_ms.parse().ok()?, id))
}

/// What is known of the sagas of one name.
#[derive(Clone, Debug)]
pub struct Sagas {
    log: Log,
    name: String,
    table: Table,
}

impl Sagas {
    /// The names of all sagas of a log, in order.
    pub fn names(log: &Log) -> Vec<String> {
        let tables = log.tables();
        let mut names: Vec<String> =
            tables.iter().filter_map(|table| table.name().strip_prefix(TABLE)).map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// The sagas of this name.
    ///
    /// # Errors
    /// [`exactlog::Error::NoSuchTable`]: none was ever begun.
    pub fn open(log: &Log, name: &str) -> Result<Sagas, Error> {
        Ok(Sagas { log: log.clone(), name: name.to_string(), table: log.table(&table_name(name))? })
    }

    /// The one of this id.
    ///
    /// # Errors
    /// [`Error::Row`], and what reading can answer.
    pub fn get(&self, id: &str) -> Result<Option<SagaInstance>, Error> {
        let key = key(id);
        let Some(entry) = self.table.get(&key)? else { return Ok(None) };
        RowOf { table: self.table.name(), key: &key }.json(entry.value()).map(Some)
    }

    /// All of them, by id. `see` says whether to go on.
    ///
    /// # Errors
    /// [`Error::Row`], and what reading can answer.
    pub fn each(&self, mut see: impl FnMut(SagaInstance) -> bool) -> Result<(), Error> {
        for entry in self.log.read_view().scan(&self.table, KeyRange::prefix(ID)) {
            let entry = entry?;
            let key = String::from_utf8_lossy(entry.key());
            if !see(RowOf { table: self.table.name(), key: &key }.json(entry.value())?) {
                break;
            }
        }
        Ok(())
    }

    /// Tries once more to compensate one whose compensation has failed: its dead letter is put back, and the group goes
    /// on where it was. Run what this answers.
    ///
    /// # Errors
    /// [`Error::Saga`]: there is none of this id, or its compensation hasn't failed.
    pub fn retry_compensation(&self, id: &str) -> Result<Redrive, Error> {
        let wrong = |reason: String| Error::Saga { saga: self.name.clone(), reason };
        let instance = self.get(id)?.ok_or_else(|| wrong(format!("there is none with the id {id:?}")))?;
        if instance.status != SagaStatus::CompensationFailed {
            return Err(wrong(format!("{id:?} is {}: no compensation has failed", instance.status.name())));
        }
        let letters = DeadLetters::open(&self.log, &instance.dead_letter_topic)?;
        let is_its = move |entry: &DeadEntry| {
            entry.origin.as_ref().is_some_and(|origin| {
                origin.topic == instance.topic
                    && (origin.partition, origin.offset) == (instance.partition, instance.offset)
                    && origin.group.as_deref().is_none_or(|group| group == instance.group)
            })
        };
        Ok(letters.redrive().filter(is_its))
    }
}
