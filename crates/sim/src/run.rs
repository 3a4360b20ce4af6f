//! One run: a log is opened, used, closed or crashed, and opened again, while every operation is recorded; then each
//! point of it is crashed by the [`Enumerator`].
//!
//! Invariants:
//!   * equal seeds give equal runs, whatever the filter lets through
//!   * the run itself is checked as it goes: replies, states, records, and each of its own recoveries

mod background;

use std::panic::{AssertUnwindSafe, catch_unwind};

use exactlog_core::command::{Command, Dedup, TimerCommand, TopicDurability, Transactional};
use exactlog_core::ids::Partition;
use exactlog_core::reply::Applied;
use exactlog_core::state::State;
use exactlog_storage::checkpoint::Kept;
use exactlog_storage::error::StorageError;
use exactlog_storage::journal::{FILE_HEADER_BYTES, Syncing};
use exactlog_storage::runs::{RUNS_DIR, RunPlan};
use exactlog_storage::shard::{Durability, Options, Shard, Submission};

use crate::check::{self, Owed};
use crate::disk::{Fault, SimDisk, Survival};
use crate::enumerate::{Enumerator, Filter};
use crate::forge;
use crate::ledger::{Ledger, Place, Promised};
use crate::report::{Broken, Counters, Mark, Violation};
use crate::rng::Random;
use crate::workload::{Files, Generator, Plan, frame_len};

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    Power,
    /// The engine has ended writing; the machine goes on.
    Poisoned,
}

/// Runs a seed and crashes it at every point that the filter lets through.
pub fn run(seed: u64, filter: Filter) -> (Counters, Result<(), Violation>) {
    let (counters, _, result) = Run::new(seed, filter, None).through();
    (counters, result)
}

/// As [`run`], with one fault planned before anything else, and no others. Whether it was met.
pub fn run_with_fault(seed: u64, filter: Filter, fault: Fault) -> (Counters, bool, Result<(), Violation>) {
    Run::new(seed, filter, Some(fault)).through()
}

/// Runs seeds from `first_seed` on until `states` crash states were checked.
pub fn sweep(first_seed: u64, states: u64, filter: Filter) -> (Counters, u64, Result<(), Violation>) {
    sweep_of(first_seed, states, filter, |_| true)
}

/// As [`sweep`], but only those whose plan is wanted. How many were run, too.
pub fn sweep_of(
    first_seed: u64,
    states: u64,
    filter: Filter,
    wanted: fn(&Plan) -> bool,
) -> (Counters, u64, Result<(), Violation>) {
    let (mut counters, mut seeds) = (Counters::default(), 0);
    for seed in first_seed.. {
        if counters.states >= states {
            break;
        }
        if !wanted(&Plan::draw(&mut Random::new(seed))) {
            continue;
        }
        let (of_run, result) = run(seed, filter);
        counters.add(&of_run);
        seeds += 1;
        if result.is_err() {
            return (counters, seeds, result);
        }
    }
    (counters, seeds, Ok(()))
}

struct Run {
    seed: u64,
    plan: Plan,
    options: Options,
    random: Random,
    generator: Generator,
    disk: SimDisk,
    ledger: Ledger,
    marks: Vec<Mark>,
    /// A checkpoint that is durable, but that the shard wasn't told of.
    made: Option<Kept>,
    /// A sync that ran and isn't taken in yet.
    syncing: Option<Syncing>,
    /// A run of event ids that is written, but that the shard wasn't told of.
    rolled: Option<RunPlan>,
    /// The lsn of the last checkpoint that the shard of this life was told of.
    kept_lsn: u64,
    enumerator: Enumerator,
    /// A fault that is still to be planned.
    fault: Option<Fault>,
    fault_met: bool,
    /// Whether a fault is planned that wasn't met yet: the checks leave the disk alone.
    fault_pending: bool,
    trace: Vec<String>,
}

impl Run {
    fn new(seed: u64, filter: Filter, fault: Option<Fault>) -> Run {
        let mut random = Random::new(seed);
        let mut plan = Plan::draw(&mut random);
        if fault.is_some() {
            plan.faults = 0;
            plan.lives = plan.lives.max(2);
        }
        let options = plan.options();
        let generator = Generator::new(random.fork(), plan.clone());
        Run {
            seed,
            trace: vec![format!("{plan:?}")],
            plan,
            enumerator: Enumerator::new(seed, options.clone(), filter),
            options,
            random,
            generator,
            disk: SimDisk::new(),
            ledger: Ledger::new(),
            marks: vec![Mark::default()],
            made: None,
            syncing: None,
            rolled: None,
            kept_lsn: u64::MAX,
            fault,
            fault_met: false,
            fault_pending: false,
        }
    }

    /// All of it. A panic is a violation like any other.
    fn through(mut self) -> (Counters, bool, Result<(), Violation>) {
        let lives = catch_unwind(AssertUnwindSafe(|| self.lives()));
        let result = lives.unwrap_or_else(|panic| Err(check::panic_text(&*panic).into()));
        let Run { seed, trace, enumerator, fault_met, .. } = self;
        (enumerator.counters, fault_met, result.map_err(|broken| Violation { seed, broken, trace }))
    }

    fn lives(&mut self) -> Result<(), Broken> {
        let mut torn_next = self.plan.torn_tails;
        for _ in 0..self.plan.lives {
            self.life(torn_next)?;
            torn_next = self.plan.torn_tails && !torn_next;
        }
        Ok(())
    }

    fn mark(&mut self, change: impl FnOnce(&mut Mark)) {
        let mut mark = self.last_mark();
        change(&mut mark);
        self.marks.push(mark);
        self.disk.set_marker(self.marks.len() as u64 - 1);
    }

    fn last_mark(&self) -> Mark {
        *self.marks.last().expect("there is one from the start")
    }

    /// Crashes at everything that was recorded since the last call.
    fn enumerate(&mut self) -> Result<(), Broken> {
        let points = self.disk.take_points();
        self.enumerator.points(&points, &self.marks, &self.ledger)
    }

    /// Opens, works, ends.
    fn life(&mut self, torn: bool) -> Result<(), Broken> {
        let owed = self.last_mark().owed();
        self.marks = vec![Mark { opening: true, ..self.last_mark() }];
        (self.made, self.syncing, self.kept_lsn) = (None, None, u64::MAX);
        self.rolled = None;
        self.disk.record_points(true);
        let Some(mut shard) = self.open(&owed)? else { return Ok(()) };
        let end = self.work(&mut shard, torn)?;
        drop(shard);
        self.enumerate()?;
        self.end(end);
        Ok(())
    }

    /// Opens the log, with an operation that fails now and then. `None`: it has to be tried again.
    fn open(&mut self, owed: &Owed) -> Result<Option<Shard>, Broken> {
        let image = self.disk.process_kill();
        if self.random.chance(self.plan.faults, 24) {
            self.plan_fault(12);
        }
        if let Some(fault) = self.fault.take() {
            self.trace.push(format!("{fault:?}"));
            self.disk.set_failed_sync(Survival::random(self.random.number()));
            self.disk.add_fault(fault);
            self.fault_pending = true;
        }
        let opened = check::open(&self.disk, &self.options, self.random.number());
        let hit = self.disk.faults_hit() > 0;
        self.forget_faults();
        let (shard, report) = match opened? {
            Ok(opened) => opened,
            Err(error) if hit && !error.is_refusal() => {
                self.trace.push(format!("open failed: {error}"));
                self.enumerate()?;
                self.end(End::Poisoned);
                return Ok(None);
            }
            Err(error) => return Err(format!("an honest crash was refused: {error}").into()),
        };
        let lsn = check::recovered(&shard, &report, &self.ledger, owed, &image)?;
        self.trace.push(format!(
            "opened: {report:?} of at least {} and at most {}, generation {}",
            owed.lowest,
            owed.highest,
            shard.journal().generation()
        ));
        self.enumerate()?;
        self.ledger.cut(lsn);
        let term = shard.term();
        self.mark(|mark| {
            *mark = Mark { last_term: term, ..Mark::default() };
            (mark.submitted, mark.survives_kill, mark.survives_power) = (lsn, lsn, lsn);
        });
        self.ledger.show(1)?;
        Ok(Some(shard))
    }

    fn work(&mut self, shard: &mut Shard, torn: bool) -> Result<End, Broken> {
        let groups = 1 + self.random.below(self.plan.groups);
        let stop_at = (torn || self.random.chance(1, 3)).then_some(groups - 1);
        for number in 0..groups {
            if stop_at == Some(number) {
                self.plan_stop();
            } else if self.random.chance(self.plan.faults, 8) {
                self.plan_fault(6);
            }
            let group = self.group(shard, number == 0 && self.plan.submits_open);
            if let Some(end) = self.execute(shard, &group)? {
                return Ok(end);
            }
            if let Some(end) = self.between(shard)? {
                return Ok(end);
            }
            let due = shard.cleaner().map(|cleaner| cleaner.due_trims(self.generator.time_ms()));
            let trims = self.generator.trims(due.unwrap_or_default());
            if !trims.is_empty() {
                self.enumerator.counters.retained += trims.len() as u64;
                if let Some(end) = self.execute(shard, &trims)? {
                    return Ok(end);
                }
            }
        }
        self.last_step(shard, torn)
    }

    fn group(&mut self, shard: &Shard, first: bool) -> Vec<Submission> {
        let (disk, generation) = (self.disk.process_kill(), shard.journal().generation());
        let (next_lsn, term) = (self.ledger.last_lsn() + 1, shard.term());
        let files = Files {
            recorded: &|random| forge::recorded(&disk, random),
            forged: &|random| forge::forged(&disk, generation, next_lsn, term, random),
        };
        if first {
            return vec![self.generator.open()];
        }
        self.generator.group(self.ledger.model(), term, &files)
    }

    /// Hands a group in and checks what comes back. An end, if the engine has ended writing.
    fn execute(&mut self, shard: &mut Shard, group: &[Submission]) -> Result<Option<End>, Broken> {
        let before = self.ledger.last_lsn();
        let position = shard.journal().position();
        let promised = self.ledger.submit(shard.term(), group);
        let submitted = self.ledger.last_lsn();
        self.mark(|mark| {
            mark.submitted = submitted;
            mark.writing = true;
        });
        let result = shard.execute(group);
        self.forget_faults();
        let len = group.iter().map(frame_len).sum::<u64>();
        let place = match shard.journal().position() {
            at if at.generation == position.generation => {
                Place { generation: at.generation, from: position.at, to: position.at + len }
            }
            at => {
                let from = FILE_HEADER_BYTES;
                Place { generation: at.generation, from, to: from + len }
            }
        };
        self.ledger.place(before + 1, place);
        let kinds: Vec<_> = group.iter().map(|it| it.command.kind_name()).collect();
        let outcome = result.as_ref().map(Vec::len).map_err(ToString::to_string);
        self.trace.push(format!("lsn {}..={submitted} {kinds:?} {place:?}: {outcome:?}", before + 1));
        match result {
            Ok(applied) => {
                self.check_replies(&applied, &promised)?;
                self.acknowledged(shard, before, group)?;
                Ok(None)
            }
            Err(StorageError::DiskFull { .. } | StorageError::TooLarge { .. }) => {
                self.ledger.cut(before);
                self.mark(|mark| {
                    mark.submitted = before;
                    mark.writing = false;
                });
                self.check_unchanged(shard)?;
                Ok(None)
            }
            Err(error) => self.failed(shard, before, &error).map(Some),
        }
    }

    fn check_replies(&self, applied: &[Applied], promised: &[Promised]) -> Result<(), Broken> {
        for (applied, promised) in applied.iter().zip(promised) {
            if *applied != promised.applied {
                return Err(format!("answered {applied:?}, replayed {:?}", promised.applied).into());
            }
            if let Some(expected) = &promised.expected
                && !expected.is_met_by(&applied.reply)
            {
                return Err(format!("answered {:?}, the model says {expected:?}", applied.reply).into());
            }
        }
        Ok(self.ledger.compare_with_model()?)
    }

    fn acknowledged(&mut self, shard: &Shard, before: u64, group: &[Submission]) -> Result<(), Broken> {
        let last = self.ledger.last_lsn();
        let synced = is_synced(self.options.durability, self.ledger.state(before), group);
        let stated = shard.journal().durable_lsn();
        self.mark(|mark| {
            mark.writing = false;
            mark.survives_kill = last;
            mark.survives_power = mark.survives_power.max(stated);
            if synced {
                mark.survives_power = last;
            }
        });
        self.check_unchanged(shard)?;
        Ok(self.ledger.show(before + 1)?)
    }

    /// The engine shows exactly what was acknowledged.
    fn check_unchanged(&mut self, shard: &Shard) -> Result<(), Broken> {
        let lsn = self.last_mark().submitted;
        check::same_state(&shard.state(), self.ledger.state(lsn))?;
        let disturbed = self.disk.is_stopped() || self.fault_pending;
        if self.random.chance(1, 4) && !disturbed {
            check::records(shard, &self.ledger, lsn)?;
            check::ids(shard, &self.ledger, lsn)?;
        }
        Ok(())
    }

    /// An operation failed, or the run was stopped: nothing was applied, nothing is written any more.
    fn failed(&mut self, shard: &mut Shard, before: u64, error: &StorageError) -> Result<End, Broken> {
        self.trace.push(format!("failed: {error}"));
        let stopped = self.disk.is_stopped();
        // A look-up that fails ends writing between two commands of its group: what was applied before it stays.
        let applied = shard.state().lsn;
        let is_look_up = matches!(error, StorageError::Io { file, .. } if file.starts_with(RUNS_DIR));
        let before = if is_look_up && applied > before { applied } else { before };
        check::same_state(&shard.state(), self.ledger.state(before))
            .map_err(|what| format!("after {error}: {what}"))?;
        let again = shard.execute(&[Submission { time_ms: 0, command: Command::Tick }]);
        if again.is_ok() {
            return Err(format!("wrote on after {error}").into());
        }
        if stopped {
            return Ok(if self.random.chance(1, 2) { End::Kill } else { End::Power });
        }
        check::records(shard, &self.ledger, before)
            .map_err(|what| format!("reading on after {error}: {what}"))?;
        Ok(End::Poisoned)
    }

    /// What happens between two groups.
    fn between(&mut self, shard: &mut Shard) -> Result<Option<End>, Broken> {
        if self.random.chance(1, 3) {
            self.trace.push("idle".to_owned());
            let sealed = shard.idle();
            self.forget_faults();
            if let Err(error) = sealed {
                let before = self.ledger.last_lsn();
                return self.failed(shard, before, &error).map(Some);
            }
        }
        if self.random.chance(1, 12) {
            self.trace.push("written back".to_owned());
            self.disk.write_back(&mut Survival::random(self.random.number()));
        }
        if self.random.chance(self.plan.maintenance, 12)
            && let Some(end) = self.maintain(shard)?
        {
            return Ok(Some(end));
        }
        if self.plan.goes_to_disk() && self.random.chance(3, 4) {
            return self.roll(shard);
        }
        Ok(None)
    }

    fn last_step(&mut self, shard: &mut Shard, torn: bool) -> Result<End, Broken> {
        let end = match self.random.below(3) {
            _ if torn || self.disk.is_stopped() => End::Kill,
            0 => End::Close,
            1 => End::Kill,
            _ => End::Power,
        };
        if end != End::Close {
            return Ok(end);
        }
        self.mark(|mark| mark.closing = true);
        self.trace.push("close".to_owned());
        let closed = shard.close();
        self.forget_faults();
        if let Err(error) = closed {
            let before = self.ledger.last_lsn();
            return self.failed(shard, before, &error);
        }
        let last = self.ledger.last_lsn();
        self.mark(|mark| mark.survives_power = last);
        Ok(End::Close)
    }

    /// What is left on the disk, and what it owes.
    fn end(&mut self, end: End) {
        self.trace.push(format!("end: {end:?}"));
        let mut mark = self.last_mark();
        let random = &mut self.random;
        self.disk = match end {
            End::Close | End::Kill => self.disk.process_kill(),
            End::Power => self.disk.power_loss(&mut Survival::random(random.number())),
            End::Poisoned => {
                let disk = self.disk.process_kill();
                match random.below(3) {
                    0 => {}
                    1 => disk.evict(&mut Survival::AllLost),
                    _ => disk.evict(&mut Survival::random(random.number())),
                }
                disk
            }
        };
        if matches!(end, End::Power | End::Poisoned) {
            mark.survives_kill = mark.survives_power;
        }
        mark.writing = false;
        self.marks.push(mark);
    }
}

/// Commands that give out an identity or take a decision survive a power loss in every mode (semantics OA-6).
/// Whether a group is on disk when it is acknowledged, by the state before it.
pub(crate) fn is_synced(durability: Durability, before: &State, group: &[Submission]) -> bool {
    let is_with_the_system = |partition: &Partition| {
        let topic = before.topics.get(&partition.topic);
        topic.is_some_and(|topic| topic.config.durability == TopicDurability::Os)
    };
    let is_weak = |command: &Command| match command {
        Command::Append { partition, .. } => is_with_the_system(partition),
        Command::Transactional(request) => {
            matches!(&**request, Transactional::Append { partition, .. } if is_with_the_system(partition))
        }
        Command::Dedup(request) => {
            matches!(&**request, Dedup::Append { partition, .. } if is_with_the_system(partition))
        }
        _ => false,
    };
    let waits = |command| durability == Durability::Fsync && !is_weak(command);
    group.iter().map(|submission| &submission.command).any(|it| waits(it) || is_synced_in_every_mode(it))
}

fn is_synced_in_every_mode(command: &Command) -> bool {
    match command {
        Command::Transactional(request) => {
            matches!(**request, Transactional::Init { .. } | Transactional::End { .. })
        }
        Command::Commit(commit) => !commit.timers.is_empty(),
        Command::Timer(command) => {
            matches!(**command, TimerCommand::Set { .. } | TimerCommand::Cancel { .. })
        }
        _ => !matches!(
            command,
            Command::Append { .. }
                | Command::CommitOffsets { .. }
                | Command::Trim { .. }
                | Command::Tick
                | Command::Dedup(_)
        ),
    }
}
