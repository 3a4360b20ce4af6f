//! What runs of event ids hold, without files: the marks that a state had in memory when a run took them.
//!
//! Invariants:
//!   * it is told of every command before it is applied

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlog_core::command::{Command, Dedup, DedupScope};
use exactlog_core::ids::DedupId;
use exactlog_core::reply::Seen;
use exactlog_core::state::{Answers, MarkKey, Place, RunSource, State};

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
                RunSource::Runs(parts) => {
                    let of = |part: &exactlog_core::state::Run| self.of(part.id, part.digest).clone();
                    parts.iter().flat_map(|part| Arc::unwrap_or_clone(of(part))).collect()
                }
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
        let runs = state.dedup.runs().runs();
        runs.flat_map(|(_, run)| self.of(run.id, run.digest).iter().map(|(key, place)| (*key, *place)))
    }

    fn answers(&self, state: &State, keys: &[MarkKey]) -> Answers {
        let find = |key: &MarkKey| {
            let mut runs = state.dedup.runs().runs();
            runs.find_map(|(_, run)| self.of(run.id, run.digest).get(key).copied())
        };
        Answers::new(keys.iter().map(|key| (*key, find(key))).collect())
    }

    fn of(&self, run: u64, digest: u64) -> &Arc<BTreeMap<MarkKey, Place>> {
        self.0.get(&(run, digest)).expect("a state names only runs that it took")
    }
}
