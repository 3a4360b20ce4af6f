//! The marks of several runs that count, as one ascending row. Of each key at most one mark counts.

use super::run::Run;
use crate::error::StorageError;
use exactlog_core::state::{MarkKey, Place, Run as Named};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

type Mark = Result<(MarkKey, Place), StorageError>;

/// A run, and what the state knows of it: which of its marks don't count any more.
pub(super) type Part = (Arc<Run>, Named);

/// Their marks, ascending. After an error there are no more.
pub(super) fn merged(parts: Vec<Part>) -> impl Iterator<Item = Mark> {
    let row = |(run, named): Part| {
        // An error goes through.
        let counts = move |mark: &Mark| mark.as_ref().map_or(true, |(key, _)| !named.has_forgotten(key));
        run.marks().filter(counts)
    };
    let mut rows: Vec<_> = parts.into_iter().map(row).collect();
    let mut firsts: Vec<Option<Mark>> = rows.iter_mut().map(Iterator::next).collect();
    // An error comes before every key.
    let key = |mark: &Mark| mark.as_ref().ok().map(|(key, _)| *key);
    let of_row = |(at, first): (usize, &Option<Mark>)| first.as_ref().map(|mark| Reverse((key(mark), at)));
    let mut least: BinaryHeap<Reverse<(Option<MarkKey>, usize)>> =
        firsts.iter().enumerate().filter_map(of_row).collect();
    std::iter::from_fn(move || {
        let Reverse((_, at)) = *least.peek()?;
        let mark = std::mem::replace(&mut firsts[at], rows[at].next());
        if matches!(mark, Some(Err(_))) {
            least.clear();
        } else if let Some(mut first) = least.peek_mut() {
            match &firsts[at] {
                Some(next) => *first = Reverse((key(next), at)),
                None => _ = PeekMut::pop(first),
            }
        }
        mark
    })
}
