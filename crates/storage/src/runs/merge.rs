//! The marks of several runs as one ascending row. No two runs have the same key.

use super::run::Run;
use crate::error::StorageError;
use exactlog_core::state::{MarkKey, Place};
use std::sync::Arc;

type Mark = Result<(MarkKey, Place), StorageError>;

/// Their marks, ascending. After an error there are no more.
pub(super) fn merged(runs: &[Arc<Run>]) -> impl Iterator<Item = Mark> {
    let mut rows: Vec<_> = runs.iter().map(|run| run.marks().peekable()).collect();
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
