//! One run that is to be made: from marks in memory, or from smaller runs.
//!
//! ```text
//!   planned (shard held) -> written, synced, named (nothing held) -> RunReady (shard held) -> taken | refused: removed
//! ```

use super::{Runs, merge, writer};
use crate::error::StorageError;
use crate::reserve::Reserve;
use exactlog_core::command::{Command, Dedup, RunReady};
use exactlog_core::state::{RunSource, State};
use std::sync::Arc;

/// A run that is to be written; nothing of the shard is held meanwhile.
#[derive(Debug)]
pub struct RunPlan {
    ready: RunReady,
    /// Until it is written: marks that are held here are copied when others leave memory.
    source: Option<Source>,
    runs: Arc<Runs>,
    reserve: Arc<Reserve>,
}

#[derive(Debug)]
enum Source {
    Memory(exactlog_core::state::RolledMarks),
    Runs(Vec<merge::Part>),
}

impl RunPlan {
    /// The next run that a state asks for.
    pub(crate) fn next(
        state: &State,
        memory_max: u64,
        runs: &Arc<Runs>,
        reserve: &Arc<Reserve>,
    ) -> Result<Option<RunPlan>, StorageError> {
        let Some(mut ready) = state.due_run(memory_max) else { return Ok(None) };
        ready.run = runs.number(ready.run);
        let Ok(source) = state.run_source(&ready) else { return Ok(None) };
        let source = Some(Source::of(source, state, runs)?);
        Ok(Some(RunPlan { ready, source, runs: runs.clone(), reserve: reserve.clone() }))
    }

    /// Writes the run and makes it durable.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] if it doesn't fit beside what is kept for checkpoints; else whatever the disk says.
    /// Nothing has changed then, and another plan has to be made.
    pub fn write(&mut self) -> Result<(), StorageError> {
        let Some(source) = self.source.take() else { return Ok(()) };
        self.reserve.leave(writer::len_bytes(self.ready.entries))?;
        self.runs.files.lock().pending.insert(self.ready.run, None);
        let written = source.write(&self.runs, &self.ready);
        // What of it belongs in memory is read here, and not when the first id is looked for in it.
        let read = written.and_then(|()| self.runs.announced(&self.ready));
        let run = read.inspect_err(|_| self.discard())?.map(Arc::new);
        if let Some(pending) = self.runs.files.lock().pending.get_mut(&self.ready.run) {
            *pending = run;
        }
        Ok(())
    }

    /// What has the run taken, once it is written.
    pub fn command(&self) -> Command {
        Dedup::RunReady(self.ready.clone()).into()
    }

    /// Removes what was written, unless it was taken.
    pub fn discard(&self) {
        self.runs.discard(self.ready.run);
    }
}

impl Source {
    fn of(source: RunSource, state: &State, runs: &Arc<Runs>) -> Result<Source, StorageError> {
        match source {
            RunSource::Memory(marks) => Ok(Source::Memory(marks)),
            RunSource::Runs(parts) => {
                let opened = runs.opened(state.dedup.runs())?;
                let part = |id: u64| parts.iter().find(|part| part.id == id).cloned();
                let runs = opened.runs.iter().filter_map(|run| Some((run.clone(), part(run.id())?)));
                Ok(Source::Runs(runs.collect()))
            }
        }
    }

    fn write(self, runs: &Runs, ready: &RunReady) -> Result<(), StorageError> {
        match self {
            Source::Memory(marks) => writer::write(&*runs.disk, ready, marks.sorted().into_iter().map(Ok)),
            Source::Runs(parts) => writer::write(&*runs.disk, ready, merge::merged(parts)),
        }
    }
}

/// Makes the run of a `RunReady` that is about to be applied, if it would be taken and isn't there: another log has
/// written it, or it is gone.
///
/// # Errors
/// If it is there and damaged, or can't be written.
pub(super) fn make(state: &State, ready: &RunReady, runs: &Arc<Runs>) -> Result<(), StorageError> {
    let Ok(source) = state.run_source(ready) else { return Ok(()) };
    if runs.announced(ready)?.is_some() {
        return Ok(());
    }
    Source::of(source, state, runs)?.write(runs, ready)
}
