//! Which marks of event ids lie on disk: the runs that the state names, bucket by bucket (semantics OA-9).
//!
//! ```text
//!   marks in memory --RunReady--> run --RunReady of several--> a larger run --Tick, or the cap--> gone
//! ```
//!
//! A run is a sorted file that nothing changes any more. Core never reads one: the shell asks
//! [`State::questions`] which keys of a command only the runs can answer, looks them up, and hands the [`Answers`] to
//! [`State::apply_with`]. So the reply depends on the journal alone: what a run has follows from the state that the
//! command met.
//!
//! Invariants
//!   * a mark is in memory or in exactly one run; in a bucket the runs have what was marked before what is in memory
//!   * the manifest changes by `RunReady`, by a `Tick`, at the cap, and by `ForgetId`; ids of runs only rise
//!   * what is forgotten stays in its file and counts for nothing; a run of which nothing counts isn't named any more
//!   * a `RunReady` that isn't exactly what the state has is refused, whatever its file holds

use super::marks::{MarkKey, Place, RolledMarks, ScopeKey, WHOLE_CHUNK, mark_digest};
use super::{Outcome, State, done};
use crate::command::{Command, Dedup as Request, Mark, RunReady, ScopeRef};
use crate::ids::DedupId;
use crate::reply::{Refusal, Reply, Seen};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The runs of all buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The id of the next run is at least this.
    next_run: u64,
    /// By the ends of their buckets, ms since 1970; in each in the order of marking.
    buckets: BTreeMap<i64, Vec<Run>>,
}

/// A run, as the state knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Names it.
    pub id: u64,
    /// How many marks its file has.
    pub entries: u64,
    /// Sum of [`mark_digest`] over them.
    pub digest: u64,
    /// When the last of them was set, ms since 1970.
    pub(super) newest_ms: i64,
    /// How many of those that count are in which scope that has a name.
    pub(super) scopes: BTreeMap<u32, u64>,
    /// Those of its marks that don't count any more. A part of its own in a checkpoint.
    #[serde(skip)]
    forgotten: BTreeMap<MarkKey, Place>,
}

impl Run {
    /// Whether the mark that it has of a key doesn't count any more. The key may be marked anew, elsewhere.
    pub fn has_forgotten(&self, key: &MarkKey) -> bool {
        self.forgotten.contains_key(key)
    }

    /// Whether some of its marks don't count any more.
    pub fn has_gaps(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// How many of its marks count: at least one.
    fn counted(&self) -> u64 {
        self.entries - self.forgotten.len() as u64
    }

    /// Digest of the marks that count.
    fn counted_digest(&self) -> u64 {
        let forgotten = self.forgotten.iter().map(|(key, place)| mark_digest(key, *place));
        forgotten.fold(self.digest, u64::wrapping_sub)
    }
}

/// How many marks of several runs count, and their digest: what one that replaces them has.
fn counted(runs: &[Run]) -> (u64, u64) {
    let digest = runs.iter().map(Run::counted_digest).fold(0, u64::wrapping_add);
    (runs.iter().map(Run::counted).sum(), digest)
}

/// Most runs of one bucket, as long as the disk takes merged ones: at so many some are merged. Each look-up of an id
/// that wasn't seen asks the filter of every run.
pub const RUNS_OF_A_BUCKET_MAX: usize = 8;

/// Most marks of one run that comes from memory. Taking them out of memory takes some ms, and whoever writes waits.
const ROLLED_MAX: u64 = 32 * WHOLE_CHUNK as u64;

impl Manifest {
    /// The runs, those that expire last first: the order in which an id is looked for. With the ends of their buckets.
    pub fn runs(&self) -> impl Iterator<Item = (i64, &Run)> {
        self.buckets.iter().rev().flat_map(|(end_ms, runs)| runs.iter().rev().map(|run| (*end_ms, run)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Marks in all of them that count.
    pub fn entries(&self) -> u64 {
        self.buckets.values().flatten().map(Run::counted).sum()
    }

    /// The mark that a run has of a key doesn't count any more, and if it was the last one neither does the run.
    pub(super) fn forget(&mut self, key: MarkKey, Found { run: id, place }: Found) {
        let at = |runs: &Vec<Run>| runs.iter().position(|run| run.id == id);
        let found = self.buckets.iter_mut().find_map(|(end_ms, runs)| Some((*end_ms, at(runs)?, runs)));
        let (end_ms, at, runs) = found.expect("an answer names a run of the state");
        let run = &mut runs[at];
        run.forgotten.insert(key, place);
        if let ScopeKey::Named(number) = key.scope
            && let Some(count) = run.scopes.get_mut(&number)
        {
            *count = count.saturating_sub(1);
            run.scopes.retain(|_, count| *count > 0);
        }
        if run.counted() == 0 {
            runs.remove(at);
            if runs.is_empty() {
                self.buckets.remove(&end_ms);
            }
        }
    }

    /// What its runs have that doesn't count any more.
    pub(super) fn forgotten(&self) -> Vec<ForgottenMark> {
        let of =
            |run: &Run| run.forgotten.iter().map(|(key, place)| (run.id, *key, *place)).collect::<Vec<_>>();
        self.buckets.values().flatten().flat_map(of).collect()
    }

    /// Takes that back in.
    ///
    /// # Errors
    /// What is of no run, or more than a run has.
    pub(super) fn restore_forgotten(&mut self, marks: Vec<ForgottenMark>) -> Result<(), String> {
        let mut runs: BTreeMap<u64, &mut Run> =
            self.buckets.values_mut().flatten().map(|run| (run.id, run)).collect();
        for (id, key, place) in marks {
            let run =
                runs.get_mut(&id).ok_or_else(|| format!("what is forgotten of run {id}, which is none"))?;
            if run.forgotten.insert(key, place).is_some() || run.forgotten.len() as u64 >= run.entries {
                return Err(format!("more is forgotten of run {id} than it has"));
            }
        }
        Ok(())
    }

    /// The id of the next run is at least this.
    pub fn next_run(&self) -> u64 {
        self.next_run.max(1)
    }

    /// Whether there was never any.
    pub(super) fn is_untouched(&self) -> bool {
        self.next_run == 0
    }

    pub(super) fn first_end_ms(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(end_ms, _)| *end_ms)
    }

    /// Gives up the run that expires first, of several the oldest.
    pub(super) fn give_up_first(&mut self) -> Option<Run> {
        let mut bucket = self.buckets.first_entry()?;
        let run = bucket.get_mut().remove(0);
        if bucket.get().is_empty() {
            bucket.remove();
        }
        Some(run)
    }

    /// Whether the parts say what could have been.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut runs = self.buckets.values().flatten();
        let is_sound = runs.all(|run| run.entries > 0 && run.id < self.next_run);
        match is_sound && self.buckets.values().all(|runs| !runs.is_empty()) {
            true => Ok(()),
            false => Err("the runs of marks contradict each other".into()),
        }
    }

    /// Where the replaced runs of a `RunReady` stand in their bucket.
    fn replaced(&self, ready: &RunReady) -> Option<(usize, &[Run])> {
        let runs = self.buckets.get(&ready.end_ms)?;
        let from = runs.iter().position(|run| Some(&run.id) == ready.replaces.first())?;
        let found = runs.get(from..from + ready.replaces.len())?;
        found.iter().map(|run| run.id).eq(ready.replaces.iter().copied()).then_some((from, found))
    }
}

/// A mark that doesn't count any more: the run that has it, its key, and where that was seen.
pub(super) type ForgottenMark = (u64, MarkKey, Place);

/// A mark that was found, and the run that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The run's number.
    pub run: u64,
    /// Where the id was seen.
    pub place: Place,
}

/// What the runs say of the keys that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(Vec<(MarkKey, Option<Found>)>);

impl Answers {
    /// Where nothing was asked.
    pub fn none() -> Answers {
        Answers::default()
    }

    /// Answers, in the order of the keys.
    pub fn new(mut answers: Vec<(MarkKey, Option<Found>)>) -> Answers {
        answers.sort_unstable_by_key(|(key, _)| *key);
        Answers(answers)
    }

    /// What was found, and where, key by key.
    pub fn iter(&self) -> impl Iterator<Item = (&MarkKey, Option<Found>)> {
        self.0.iter().map(|(key, found)| (key, *found))
    }

    /// Where a key was seen. Whoever applies a command without asking for its keys would answer from half of the marks.
    ///
    /// # Panics
    /// If the key wasn't asked for.
    pub fn of(&self, key: &MarkKey) -> Option<Found> {
        let at = self.0.binary_search_by_key(key, |(key, _)| *key);
        self.0[at.expect("State::questions has named the key, and the shell has looked it up")].1
    }
}

/// Where a run's marks come from.
#[derive(Clone, Debug)]
pub enum RunSource {
    /// From memory.
    Memory(RolledMarks),
    /// From these runs of the bucket.
    Runs(Vec<Run>),
}

impl State {
    /// The keys of a command that only the runs can answer, ascending; none as long as there are no runs.
    pub fn questions<'c>(&self, command: &'c Command) -> Vec<MarkKey> {
        if self.dedup.runs().is_empty() {
            return Vec::new();
        }
        let mut keys: Vec<MarkKey> = match command {
            Command::Dedup(request) => match &**request {
                Request::Append { partition, ids, .. } => {
                    let scope = ScopeKey::Topic(partition.topic);
                    ids.iter().map(|id| MarkKey { scope, id: *id }).collect()
                }
                Request::Reserve { scope, id, .. } | Request::Finish { scope, id, .. } => {
                    self.dedup.key_of(ScopeRef::Named(scope), *id).into_iter().collect()
                }
                Request::Forget { scope, id } => self.dedup.key_of(scope.into(), *id).into_iter().collect(),
                Request::Release { .. } | Request::RunReady(_) => Vec::new(),
            },
            Command::Commit(commit) => {
                let mut last = None;
                let key = |mark: &'c Mark| match mark {
                    Mark::Event { id, batch, .. } => {
                        let (partition, _) = commit.batches.get(*batch as usize)?;
                        Some(MarkKey { scope: ScopeKey::Topic(partition.topic), id: *id })
                    }
                    Mark::Named { scope, id, .. } => {
                        // Of marks that follow each other the name is looked up once.
                        let key = match last {
                            Some((name, key)) if name == scope => key,
                            _ => self.dedup.scope_key(ScopeRef::Named(scope)),
                        };
                        last = Some((scope, key));
                        key.map(|scope| MarkKey { scope, id: *id })
                    }
                };
                commit.marks.iter().filter_map(key).collect()
            }
            _ => Vec::new(),
        };
        keys.retain(|key| self.dedup.is_question(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The key of an id that only the runs can answer.
    pub fn question<'s>(&self, scope: impl Into<ScopeRef<'s>>, id: DedupId) -> Option<MarkKey> {
        self.dedup.key_of(scope.into(), id).filter(|key| self.dedup.is_question(key))
    }

    /// What is known of ids of a scope, or the key of one that only the runs can answer.
    pub fn seen_or_question(
        &self,
        scope: ScopeRef<'_>,
    ) -> impl Fn(DedupId) -> Result<Seen, MarkKey> + use<'_> {
        let scope = self.dedup.scope_key(scope);
        move |id| {
            let Some(scope) = scope else { return Ok(Seen::Absent) };
            let key = MarkKey { scope, id };
            match self.dedup.is_question(&key) {
                true => Err(key),
                false => Ok(self.dedup.seen(&key, self.time_ms, &Answers::none())),
            }
        }
    }

    /// The next run that is worth making, with the least id that it can have: of marks in memory if there are more than
    /// `memory_max`, or of runs that are to be one. A bucket that no mark of now goes to ends up as one run.
    pub fn due_run(&self, memory_max: u64) -> Option<RunReady> {
        let open_ms = self.dedup.end_ms(self.time_ms);
        let (marks, runs) = (self.dedup.marks(), self.dedup.runs());
        let partial = |end_ms| end_ms != open_ms || memory_max < WHOLE_CHUNK as u64;
        let from_memory = |end_ms: i64| {
            let (entries, digest) = marks.first_of(end_ms, ROLLED_MAX, partial(end_ms));
            let replaces = Vec::new();
            let up_to = self.lsn;
            let ready = RunReady { end_ms, run: runs.next_run(), entries, up_to, digest, replaces };
            (entries > 0).then_some(ready)
        };
        if marks.count() > memory_max {
            // The largest frees most with one file; of equal ones that which is needed for longest.
            let mut buckets: Vec<(u64, i64)> =
                marks.buckets().map(|(end_ms, count)| (count, end_ms)).collect();
            buckets.sort_unstable();
            if let Some(ready) = buckets.iter().rev().find_map(|(_, end_ms)| from_memory(*end_ms)) {
                return Some(ready);
            }
        }
        runs.buckets.iter().find_map(|(end_ms, of_bucket)| {
            let is_closed = *end_ms != open_ms;
            // What is left of it first: then one merge is enough.
            let rest = is_closed.then(|| from_memory(*end_ms)).flatten();
            let merged = || {
                let from = merged_from(of_bucket, is_closed)?;
                let parts = &of_bucket[from..];
                let (entries, digest) = counted(parts);
                Some(RunReady {
                    end_ms: *end_ms,
                    run: runs.next_run(),
                    entries,
                    up_to: self.lsn,
                    digest,
                    replaces: parts.iter().map(|run| run.id).collect(),
                })
            };
            rest.or_else(merged)
        })
    }

    /// Where the marks of a run come from.
    ///
    /// # Errors
    /// What a `RunReady` is refused with in this state.
    pub fn run_source(&self, ready: &RunReady) -> Result<RunSource, Refusal> {
        self.check_run(ready)?;
        match self.dedup.runs().replaced(ready).filter(|_| !ready.replaces.is_empty()) {
            Some((_, parts)) => Ok(RunSource::Runs(parts.to_vec())),
            None => Ok(RunSource::Memory(self.dedup.marks().rolled(ready.end_ms, ready.entries))),
        }
    }

    fn check_run(&self, ready: &RunReady) -> Result<(), Refusal> {
        let unfit = |what| Err(Refusal::RunUnfit { run: ready.run, what });
        let (marks, runs) = (self.dedup.marks(), self.dedup.runs());
        if ready.run < runs.next_run() || ready.run == u64::MAX {
            return unfit("its number isn't above those before it");
        }
        if ready.replaces.is_empty() {
            let found = marks.first_of(ready.end_ms, ready.entries, true);
            return match ready.entries > 0 && found == (ready.entries, ready.digest) {
                true => Ok(()),
                false => unfit("the bucket has other marks in memory"),
            };
        }
        let Some((_, parts)) = runs.replaced(ready) else { return unfit("the bucket has no such runs") };
        match counted(parts) == (ready.entries, ready.digest) {
            true => Ok(()),
            false => unfit("the runs that it replaces have other marks"),
        }
    }

    pub(super) fn take_run(&mut self, ready: &RunReady) -> Outcome {
        self.check_run(ready)?;
        let (id, entries, digest) = (ready.run, ready.entries, ready.digest);
        let (newest_ms, scopes, forgotten) = (i64::MIN, BTreeMap::new(), BTreeMap::new());
        let mut run = Run { id, entries, digest, newest_ms, scopes, forgotten };
        let at = if ready.replaces.is_empty() {
            for (newest_ms, marks) in self.dedup.take_rolled(ready.end_ms, ready.entries) {
                run.newest_ms = run.newest_ms.max(newest_ms);
                for (key, _) in marks.iter() {
                    if let ScopeKey::Named(number) = key.scope {
                        *run.scopes.entry(number).or_default() += 1;
                    }
                }
            }
            self.dedup.runs().buckets.get(&ready.end_ms).map_or(0, Vec::len)
        } else {
            let (at, parts) = self.dedup.runs().replaced(ready).expect("it was checked");
            for part in parts {
                run.newest_ms = run.newest_ms.max(part.newest_ms);
                for (number, count) in &part.scopes {
                    *run.scopes.entry(*number).or_default() += count;
                }
            }
            at
        };
        let manifest = self.dedup.runs_mut();
        manifest.next_run = id + 1;
        let bucket = manifest.buckets.entry(ready.end_ms).or_default();
        bucket.splice(at..at + ready.replaces.len(), [run]);
        done(Reply::RunTaken { entries })
    }
}

/// From which run on those of a bucket are merged, if they are: of one that is still filled, so few and so small ones
/// that what was merged once isn't merged for each new run again.
fn merged_from(runs: &[Run], is_closed: bool) -> Option<usize> {
    if is_closed {
        return (runs.len() > 1).then_some(0);
    }
    if runs.len() < RUNS_OF_A_BUCKET_MAX {
        return None;
    }
    let behind = |at: usize| runs[at + 1..].iter().map(|run| run.entries).sum::<u64>();
    let small = (0..runs.len() - 1).find(|at| runs[*at].entries <= behind(*at));
    Some(small.unwrap_or(runs.len() - 2))
}
