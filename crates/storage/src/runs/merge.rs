//! The marks of several runs that count, as one ascending row. Of each key at most one mark counts.

use super::run::Run;
use crate::error::StorageError;
use exactlog_core::state::{MarkKey, Place, Run as Named};
use std::sync::Arc;

type Mark = Result<(MarkKey, Place), StorageError>;

/// A run, and what the state knows of it: which of its marks don't count any more.
pub(super) type Part = (Arc<Run>, Named);

/// Their marks, ascending. After an error there are no more.
pub(super) fn merged(parts: Vec<Part>) -> impl Iterator<Item = Mark> {
    let row = |(run, named): Part| {
        // An error goes through.
        let counts = move |mark: &Mark| mark.as_ref().map_or(true, |(key, _)| !named.has_forgotten(key));
        run.marks().filter(counts).peekable()
    };
    let mut rows: Vec<_> = parts.into_iter().map(row).collect();
    std::iter::from_fn(move || {
        let least = |at: &usize, rows: &mut Vec<std::iter::Peekable<_>>| -> Option<Option<MarkKey>> {
            // An error comes before every key.
            let next: Option<&Mark> = rows[*at].peek();
            next.map(|mark| mark.as_ref().ok().map(|(key, _)| *key))
        };
        let all = (0..rows.len()).filter_map(|at| least(&at, &mut rows).map(|key| (key, at)));
        let (_, at) = all.min()?;
        let next = rows[at].next();
        if matches!(next, Some(Err(_))) {
            rows.clear();
        }
        next
    })
}
