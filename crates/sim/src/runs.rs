//! What runs of event ids hold, without files: the marks that a state had in memory when a run took them.
//!
//! Invariants:
//!   * it is told of every command before it is applied

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlog_core::command::{Command, Dedup, DedupScope};
use exactlog_core::ids::DedupId;
use exactlog_core::reply::Seen;
use exactlog_core::state::{Answers, Found, MarkKey, Place, Run, RunSource, State};

/// The marks of runs, by the numbers and digests of these.
#[derive(Clone, Debug, Default)]
pub struct RunContents(BTreeMap<(u64, u64), Arc<BTreeMap<MarkKey, Place>>>);

impl RunContents {
    /// Takes in a command that is about to be applied, and answers what it asks.
    pub fn before(&mut self, state: &State, command: &Command) -> Answers {
        if let Command::Dedup(request) = command
            && let Dedup::RunReady(ready) = &**request
            && let Ok(source) = state.run_source(ready)
        {
            let marks = match source {
                RunSource::Memory(marks) => marks.sorted().into_iter().collect(),
                RunSource::Runs(parts) => parts.iter().flat_map(|part| self.counted(part)).collect(),
            };
            self.0.insert((ready.run, ready.digest), Arc::new(marks));
        }
        self.answers(state, &state.questions(command))
    }

    /// What is known of an id.
    #[must_use]
    pub fn seen(&self, state: &State, scope: &DedupScope, id: DedupId) -> Seen {
        let keys: Vec<_> = state.question(scope, id).into_iter().collect();
        state.seen(scope, id, &self.answers(state, &keys))
    }

    /// Where each id of the runs of a state was seen.
    pub fn marks<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (MarkKey, Place)> + 'a {
        state.dedup.runs().runs().flat_map(|(_, run)| self.counted(run))
    }

    /// The marks of a run that were not forgotten.
    fn counted<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = (MarkKey, Place)> + 'a {
        let all = self.of(run.id, run.digest).iter().map(|(key, place)| (*key, *place));
        all.filter(|(key, _)| !run.has_forgotten(key))
    }

    fn answers(&self, state: &State, keys: &[MarkKey]) -> Answers {
        let find = |key: &MarkKey| {
            let mut runs = state.dedup.runs().runs();
            runs.find_map(|(_, run)| {
                let place = *self.of(run.id, run.digest).get(key).filter(|_| !run.has_forgotten(key))?;
                Some(Found { run: run.id, place })
            })
        };
        Answers::new(keys.iter().map(|key| (*key, find(key))).collect())
    }

    fn of(&self, run: u64, digest: u64) -> &Arc<BTreeMap<MarkKey, Place>> {
        self.0.get(&(run, digest)).expect("a state names only runs that it took")
    }
}
