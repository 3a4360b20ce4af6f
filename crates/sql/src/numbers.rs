//! Numbers of the log in a database, which has no unsigned ones.
//!
//! Invariants
//!   * what can't be represented is an error on the way in and on the way out, never another number

use crate::error::Error;

/// A number as a column has it.
pub(crate) fn to_column(table: &'static str, column: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| row(table, column, value.to_string(), "larger than a column holds"))
}

/// A number of a column, which is none below zero.
pub(crate) fn from_column(table: &'static str, column: &'static str, value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| row(table, column, value.to_string(), "below zero"))
}

pub(crate) fn row(table: &'static str, column: &'static str, value: String, problem: &'static str) -> Error {
    Error::Row { table, column, value, problem }
}
