//! Writing: whoever sits at the one desk gives everything its order ([`turns`](crate::turns) says who that is).
//!
//! ```text
//!   take what waits -> one group of at most 1 MiB -> Shard::execute -> answer -> ring whoever waits to read
//! ```
//!
//! Invariants
//!   * what depends on the state of one open (sequences, numbers of commits) is never written by a later one
//!   * after a failure everybody is told: what was being written is unknown, everything else certainly not written
//!   * nobody is answered while a lock is held
//!   * a full disk refuses what adds data and lets pass what frees it

mod firing;

pub(crate) use firing::payload;

use crate::clients::Traffic;
use crate::clock::{Clock, Stamper};
use crate::error::Error;
use crate::far_half::Far;
use crate::handover::Handovers;
use crate::host::{Parts, Together};
use crate::log::Inner;
use crate::members::Leaving;
use crate::metrics::add;
use crate::own_memory::OwnMemory;
use crate::producer::{Accumulator, Sealed};
use crate::queue::{Responder, Work};
use crate::storing;
use exactlog_core::batch::Batch;
use exactlog_core::command::{Command, Condition, ConfigChange, Dedup, Mark, OffsetCommit, Transactional};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::{Applied, Refusal, Reply, SeenEvent};
use exactlog_core::state;
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::{Submission, adds_data};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a command takes in the journal besides its batches, in bytes; an estimate.
const COMMAND_BYTES: usize = 192;

/// How long the writer sleeps when nothing happens and nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// How long the log is quiet before the end of its journal is sealed. Callers that commit one after the other thus pay
/// for no seal between two commits.
const SEAL_AFTER: Duration = Duration::from_millis(5);

/// How long after a tick that couldn't be written the next one is tried, in ms.
const TICK_AGAIN_MS: i64 = 1_000;

/// Whom a command's answer goes to.
enum Recipient {
    Command(Responder<Applied>),
    Batch(Arc<Accumulator>, Box<Sealed>),
    Leave(Leaving),
    /// Whoever waits for several commands, of which this is one; the group that it joins, if it does.
    Part {
        parts: Arc<Mutex<Parts>>,
        joins: Option<Arc<str>>,
    },
    /// Nobody: what the log does by itself, a tick or something about timers.
    Tick,
}

/// A group that is being gathered.
#[derive(Default)]
struct Group {
    submissions: Vec<Submission>,
    recipients: Vec<Recipient>,
    bytes: usize,
    /// How often the log had been opened again when the first of it was made: all of it belongs to that open.
    since: u64,
    /// Whose batches with ids are in it, and for where: what follows one of them there waits for its answer, since it
    /// may have to be written once more.
    identified: Vec<(Arc<Accumulator>, Partition)>,
}

impl Group {
    fn has_identified(&self, of: &Arc<Accumulator>, partition: Partition) -> bool {
        self.identified.iter().any(|(accumulator, at)| *at == partition && Arc::ptr_eq(accumulator, of))
    }
}

/// A batch that the log has refused: its producer goes on without it before it is answered.
struct RefusedBatch {
    accumulator: Arc<Accumulator>,
    responder: Responder<u64>,
    error: Error,
}

/// Everything that the writer works on. It outlives a panic: what wasn't begun is still answered.
pub(crate) struct Desk {
    stamper: Stamper,
    work: VecDeque<Work>,
    /// Batches of one producer that are not in the group yet.
    taken: VecDeque<Sealed>,
    group: Group,
    /// Of the group that is being written, until they are answered.
    in_writing: VecDeque<Recipient>,
    refused: Vec<RefusedBatch>,
    /// For batches from outside.
    memory: OwnMemory,
    handovers: Handovers,
    tick_not_before_ms: i64,
    /// When what was written last is to be sealed.
    seal_due: Option<Instant>,
}

impl Desk {
    /// The clocks are those of the open that begins, the state is at `state_ms`.
    pub(crate) fn new(state_ms: i64, clock: &Clock) -> Desk {
        Desk {
            stamper: Stamper::new(state_ms, clock.ahead_ms(), clock.wall_ms()),
            work: VecDeque::new(),
            taken: VecDeque::new(),
            group: Group::default(),
            in_writing: VecDeque::new(),
            refused: Vec::new(),
            memory: OwnMemory::default(),
            handovers: Handovers::default(),
            tick_not_before_ms: 0,
            seal_due: None,
        }
    }

    /// Takes what waits and writes it, until `is_enough` or nothing is left. False: the queue is closed and empty.
    ///
    /// A panic is a bug of ours: it ends writing as a failed write does, whoever waits is told, and opening the log
    /// again goes on from what the journal holds.
    pub(crate) fn turn(&mut self, inner: &Inner, is_enough: impl Fn() -> bool) -> bool {
        let goes_on = inner.queue.take(&mut self.work);
        while catch_unwind(AssertUnwindSafe(|| self.round(inner, &is_enough))).is_err() {
            self.end_after_panic(inner);
        }
        goes_on
    }

    /// Whether work is left: a turn that had enough, or that panicked.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    fn end_after_panic(&mut self, inner: &Inner) {
        let gathered = {
            let mut shard = inner.hold();
            if let Some(shard) = &mut shard {
                shard.poison("the writer panicked");
            }
            inner.failed.store(true, Ordering::Release);
            // The panic may have taken a producer's token along, and nobody would come for what it has gathered.
            inner.restart_all(inner.reopens.load(Ordering::Acquire))
        };
        // Dropped, they answer that the outcome is unknown: not before the log has failed, since whoever hears of it
        // may open it again at once.
        self.in_writing.clear();
        self.refused.clear();
        self.group = Group::default();
        self.taken.clear();
        let reason = "the writer panicked".into();
        answer_all(gathered, &Error::Storage(StorageError::Poisoned { reason }));
        inner.signals.ring_all();
    }

    fn round(&mut self, inner: &Inner, is_enough: &impl Fn() -> bool) {
        if !inner.failed.load(Ordering::Acquire) {
            self.handovers.follow(inner);
            for group in inner.far().map(|far| far.take_groups()).unwrap_or_default() {
                self.handovers.look_at(inner, &group);
            }
            self.handovers.fence(inner);
            for leaving in inner.members.take_leaving() {
                let Leaving { group, member, fenced } = leaving.clone();
                let command = Command::LeaveGroup { group, member, fenced };
                self.begin(inner);
                self.push(inner, command, Recipient::Leave(leaving), 0);
            }
            if inner.far().is_none() {
                self.tick_if_due(inner);
                self.fire_due(inner);
            }
        }
        while !is_enough()
            && let Some(work) = self.work.front_mut()
        {
            // While the group before it is written it stays on the desk, for a panic not to take it along.
            let commands = match work {
                Work::Command { command, .. } => std::slice::from_mut(command),
                Work::Together(together) => &mut together.commands,
                Work::Records(_) => &mut [],
            };
            commands.iter_mut().for_each(|command| storing::settle(inner, command));
            let (any, bytes) = (!commands.is_empty(), commands.iter().map(bytes_of).sum());
            if any && self.is_over(inner, bytes) {
                self.write(inner);
            }
            if let Some(work) = self.work.pop_front() {
                self.gather(inner, work);
            }
        }
        self.write(inner);
        self.answer_refused(inner);
        *inner.stamper.lock() = self.stamper;
        self.seal_if_due(inner);
    }

    /// Seals what was written when nothing came behind it for a while.
    fn seal_if_due(&mut self, inner: &Inner) {
        if self.seal_due.is_some_and(|due| due <= Instant::now()) {
            self.seal_due = None;
            // The outcome shows at the next write: a failed seal ends writing like any failed write.
            let _ = inner.hold().map(|mut shard| shard.idle());
        }
    }

    /// How long nothing has to be done if no work comes.
    pub(crate) fn until_deadline(&self, inner: &Inner) -> Duration {
        if inner.failed.load(Ordering::Acquire) {
            return IDLE;
        }
        let now_ms = inner.monotonic_ms();
        let until_handover = self.handovers.deadline_ms(inner).saturating_sub(now_ms);
        if inner.far().is_some() {
            // What is due there is its node's.
            return Duration::from_millis(until_handover.max(1) as u64).min(IDLE);
        }
        let tick_ms = inner.state.read().next_tick_ms();
        let until_tick = match tick_ms {
            i64::MAX => i64::MAX,
            _ => {
                let mut ahead = self.stamper;
                let due_ms = tick_ms.saturating_sub(ahead.stamp(now_ms, inner.clock.wall_ms()));
                due_ms.max(self.tick_not_before_ms.saturating_sub(now_ms))
            }
        };
        let until = until_tick.min(until_handover).min(self.until_due_ms(inner, now_ms));
        let until = Duration::from_millis(until.max(1) as u64).min(IDLE);
        self.seal_due.map_or(until, |due| until.min(due.saturating_duration_since(Instant::now())))
    }

    fn tick_if_due(&mut self, inner: &Inner) {
        let deadline_ms = inner.state.read().next_tick_ms();
        let now_ms = inner.monotonic_ms();
        if deadline_ms == i64::MAX || now_ms < self.tick_not_before_ms {
            return;
        }
        if deadline_ms <= self.stamper.stamp(now_ms, inner.clock.wall_ms()) {
            self.begin(inner);
            self.push(inner, Command::Tick, Recipient::Tick, 0);
        }
    }

    fn push(&mut self, inner: &Inner, command: Command, to: Recipient, bytes: usize) {
        if matches!(command, Command::Config(ConfigChange::AcceptTime { .. })) {
            self.stamper.accept(inner.clock.wall_ms());
        }
        let time_ms = self.stamper.stamp(inner.monotonic_ms(), inner.clock.wall_ms());
        inner.counters.clock_held.store(self.stamper.is_held(), Ordering::Relaxed);
        self.group.submissions.push(Submission { time_ms, command });
        self.group.recipients.push(to);
        self.group.bytes += bytes + COMMAND_BYTES;
    }

    /// To be called before anything is looked at that goes into the group next.
    fn begin(&mut self, inner: &Inner) {
        if self.group.submissions.is_empty() {
            self.group.since = inner.reopens.load(Ordering::Acquire);
        }
    }

    /// Whether this many bytes more are for another group.
    fn is_over(&self, inner: &Inner, bytes: usize) -> bool {
        !self.group.submissions.is_empty() && self.group.bytes + bytes > inner.group_bytes_max
    }

    fn gather(&mut self, inner: &Inner, work: Work) {
        match work {
            Work::Command { mut command, since, responder } => {
                let bytes = bytes_of(&command);
                self.memory.take_over(&mut command);
                self.begin(inner);
                if since.is_some_and(|since| since != inner.reopens.load(Ordering::Acquire)) {
                    return responder.answer(Err(reopened()));
                }
                let alters = matches!(command, Command::AlterTopic { .. });
                self.push(inner, command, Recipient::Command(responder), bytes);
                if alters {
                    // What comes next is made by the settings that hold then.
                    self.write(inner);
                }
            }
            Work::Together(together) => self.gather_together(inner, *together),
            Work::Records(accumulator) => {
                let room = inner.group_bytes_max.saturating_sub(self.group.bytes);
                let more = accumulator.take(inner, room, COMMAND_BYTES, &mut self.taken);
                self.gather_taken(inner, &accumulator);
                if more {
                    // Behind what came meanwhile: who sends as fast as the disk writes keeps nobody else waiting.
                    inner.queue.take(&mut self.work);
                    self.work.push_back(Work::Records(accumulator));
                }
            }
        }
    }

    /// All of them go into the group, whatever its size: they are written together.
    fn gather_together(&mut self, inner: &Inner, together: Together) {
        self.begin(inner);
        let (commands, parts) = together.into_parts();
        for mut command in commands {
            self.memory.take_over_all(&mut command);
            let joins = match &command {
                Command::JoinGroup { group, .. } => Some(group.as_str().into()),
                _ => None,
            };
            let bytes = bytes_of(&command);
            self.push(inner, command, Recipient::Part { parts: parts.clone(), joins }, bytes);
        }
    }

    fn gather_taken(&mut self, inner: &Inner, accumulator: &Arc<Accumulator>) {
        while let Some(sealed) = self.taken.pop_front() {
            let (bytes, since) = (sealed.batch.len_bytes(), sealed.since);
            let is_other = !self.group.submissions.is_empty() && self.group.since != since;
            if is_other {
                // Gathered before and after a reopen: what comes before will be refused.
                self.write(inner);
            } else if (self.is_over(inner, bytes) || self.group.has_identified(accumulator, sealed.partition))
                && let Some(error) = self.write(inner)
            {
                // They follow what was just refused, perhaps in its partition.
                give_up(inner, since, [accumulator].into_iter(), &error);
                sealed.responder.answer(Err(error.clone()));
                return self.taken.drain(..).for_each(|sealed| sealed.responder.answer(Err(error.clone())));
            }
            if self.group.submissions.is_empty() {
                self.group.since = since;
            }
            self.push_batch(inner, accumulator.clone(), Box::new(sealed));
        }
    }

    /// By the settings that hold now, as all batches behind it: one that were answered `ConfigChanged` could else be
    /// overtaken, within its group, by a later one of a newer handle.
    fn push_batch(&mut self, inner: &Inner, accumulator: Arc<Accumulator>, mut sealed: Box<Sealed>) {
        let storing = inner.storing(sealed.partition.topic);
        let config_version = storing.map_or(sealed.config_version, |storing| storing.config_version);
        if let Some(codec) = storing.and_then(|storing| storing.compression.codec()) {
            match sealed.batch.recompressed(codec) {
                Ok(batch) => sealed.batch = batch,
                Err(error) => {
                    let (responder, error) = (sealed.responder, Error::Batch(error));
                    return self.refused.push(RefusedBatch { accumulator, responder, error });
                }
            }
        }
        let bytes = sealed.batch.len_bytes();
        if self.group.submissions.is_empty() {
            self.group.since = sealed.since;
        }
        if sealed.ids.is_some() {
            self.group.identified.push((accumulator.clone(), sealed.partition));
        }
        let command = append_command(&accumulator, &sealed, config_version);
        self.push(inner, command, Recipient::Batch(accumulator, sealed), bytes);
    }

    /// Writes the group and answers everybody in it; the error of what was not written, if any.
    fn write(&mut self, inner: &Inner) -> Option<Error> {
        let mut failure = None;
        while !self.group.submissions.is_empty() {
            let Group { submissions, recipients, since, .. } = std::mem::take(&mut self.group);
            self.in_writing.extend(recipients);
            match execute(inner, since, &submissions) {
                Ok((first_lsn, applied)) => {
                    self.seal_due = Some(Instant::now() + SEAL_AFTER);
                    inner.interval.note_written();
                    count(inner, &submissions, &applied);
                    say_if_shortened(inner, &submissions);
                    self.ring(inner, &submissions, &applied);
                    inner.tell_followers();
                    for (lsn, applied) in (first_lsn..).zip(applied) {
                        let recipient = self.in_writing.pop_front().expect("each command has a recipient");
                        self.answer(inner, recipient, lsn, applied);
                    }
                }
                Err(error) => {
                    self.refuse(inner, since, submissions, &error);
                    failure = Some(unwritten(error));
                }
            }
        }
        failure
    }

    fn ring(&mut self, inner: &Inner, submissions: &[Submission], applied: &[Applied]) {
        let mut topics: BTreeMap<TopicId, u64> = BTreeMap::new();
        for (submission, applied) in submissions.iter().zip(applied) {
            applied.touched().for_each(|partition| _ = topics.entry(partition.topic).or_default());
            for (topic, bytes) in bytes_of_topics(submission, applied) {
                *topics.entry(topic).or_default() += bytes;
            }
            match &submission.command {
                Command::JoinGroup { group, .. }
                | Command::LeaveGroup { group, .. }
                | Command::ReleasePartitions { group, .. } => {
                    self.handovers.look_at(inner, group);
                    inner.signals.ring_group(group);
                }
                Command::DeleteTopic { .. } => inner.signals.ring_all(),
                Command::CreatePartitions { topic, .. } => self.ring_new_partitions(inner, *topic),
                _ => {}
            }
        }
        inner.signals.ring_topics(&topics);
    }

    /// Before anybody is answered: who hears of new partitions may send to them at once.
    fn ring_new_partitions(&mut self, inner: &Inner, topic: TopicId) {
        let groups: Vec<String> = {
            let now = inner.state.read();
            inner.partition_counts.refresh(&now);
            let reads =
                |group: &state::Group| group.members.values().any(|member| member.topics.contains(&topic));
            now.groups.iter().filter(|(_, group)| reads(group)).map(|(name, _)| name.clone()).collect()
        };
        for group in groups {
            self.handovers.look_at(inner, &group);
            inner.signals.ring_group(&group);
        }
    }

    fn answer(&mut self, inner: &Inner, recipient: Recipient, lsn: u64, applied: Applied) {
        match recipient {
            Recipient::Tick => {}
            Recipient::Part { parts, joins } => parts.lock().applied(inner, lsn, joins.as_deref(), &applied),
            Recipient::Leave(leaving) => inner.members.left(leaving.member),
            Recipient::Command(responder) => {
                if let Reply::Joined { member, .. } = applied.reply {
                    inner.members.joined(member, inner.monotonic_ms());
                }
                responder.answer(match applied.reply {
                    Reply::Refused(refusal) => Err(Error::Refused(refusal)),
                    _ => Ok(applied),
                });
            }
            Recipient::Batch(accumulator, sealed) => {
                let reply = match applied.reply {
                    Reply::Appended { base_offset, .. } => Ok(base_offset),
                    // The settings changed on the way: the same batch again, judged by the new ones.
                    Reply::Refused(Refusal::ConfigChanged { .. }) => {
                        return self.push_batch(inner, accumulator, sealed);
                    }
                    Reply::Refused(Refusal::EventsSeen { seen }) => {
                        return self.leave_out(inner, accumulator, sealed, &seen);
                    }
                    Reply::Refused(Refusal::ProducerFenced { .. }) => {
                        Err(Error::Fenced { name: accumulator.name.to_string() })
                    }
                    Reply::Refused(refusal) => {
                        let error = Error::Refused(refusal);
                        return self.refused.push(RefusedBatch {
                            accumulator,
                            responder: sealed.responder,
                            error,
                        });
                    }
                    _ => unreachable!("Append answers with a place or a refusal"),
                };
                let Sealed { responder, ids, .. } = *sealed;
                ids.into_iter().for_each(|ids| ids.tell());
                responder.answer(reply);
            }
        }
    }

    /// Events of the batch were seen before: what is left of it goes once more.
    fn leave_out(
        &mut self,
        inner: &Inner,
        accumulator: Arc<Accumulator>,
        mut sealed: Box<Sealed>,
        seen: &[SeenEvent],
    ) {
        let ids = sealed.ids.as_mut().expect("only events with ids are seen before");
        let topic = sealed.partition.topic;
        let finish = |builder| inner.finish(topic, builder, None, accumulator.compression());
        let left = ids.leave_out(&sealed.batch, seen, finish);
        let Sealed { responder, ids, .. } = match left {
            Err(error) => return sealed.responder.answer(Err(error)),
            Ok(Some(batch)) => {
                sealed.batch = batch;
                return self.push_batch(inner, accumulator, sealed);
            }
            Ok(None) => *sealed,
        };
        ids.into_iter().for_each(|ids| ids.tell());
        // Nobody looks at it: each event has the place of its original.
        responder.answer(Ok(0));
    }

    /// The sequences behind a batch that was refused would leave a gap for ever: what its producer has gathered is
    /// numbered anew. Not before all that it has sealed is written, since that is counted too; and before anybody is
    /// answered, since who hears of it may send the next record at once.
    fn answer_refused(&mut self, inner: &Inner) {
        if self.refused.is_empty() {
            return;
        }
        debug_assert!(self.group.submissions.is_empty() && self.taken.is_empty());
        {
            // With it held the log isn't opened again meanwhile.
            let _shard = inner.hold();
            let (state, reopens) = (inner.state.read(), inner.reopens.load(Ordering::Acquire));
            let next =
                |partition, producer, epoch| state.partition(partition)?.next_sequence(producer, epoch);
            for RefusedBatch { accumulator, .. } in &self.refused {
                accumulator.renumber(reopens, next);
            }
        }
        for RefusedBatch { responder, error, .. } in self.refused.drain(..) {
            responder.answer(Err(error));
        }
    }

    /// Nothing of the group was applied. What is known of its future is in the error.
    fn refuse(&mut self, inner: &Inner, since: u64, submissions: Vec<Submission>, error: &Error) {
        let accumulators = self.in_writing.iter().filter_map(|recipient| match recipient {
            Recipient::Batch(accumulator, _) => Some(accumulator),
            _ => None,
        });
        give_up(inner, since, accumulators, &unwritten(error.clone()));
        // For want of space only what adds data is refused; the rest is what the space is kept for.
        let apart = matches!(error, Error::Storage(_)) && !inner.failed.load(Ordering::Acquire);
        let apart = apart && submissions.iter().any(|submission| adds_data(&submission.command));
        for submission in submissions {
            let recipient = self.in_writing.pop_front().expect("each command has a recipient");
            let is_part = matches!(recipient, Recipient::Part { .. });
            if apart && !is_part && !adds_data(&submission.command) {
                self.group.since = since;
                self.group.submissions.push(submission);
                self.group.recipients.push(recipient);
                continue;
            }
            match recipient {
                Recipient::Part { parts, .. } => parts.lock().refused(error),
                Recipient::Tick => self.tick_not_before_ms = inner.monotonic_ms() + TICK_AGAIN_MS,
                Recipient::Leave(leaving) => inner.members.leave(leaving),
                Recipient::Command(responder) => responder.answer(Err(error.clone())),
                Recipient::Batch(_, sealed) => sealed.responder.answer(Err(error.clone())),
            }
        }
        if inner.failed.load(Ordering::Acquire) {
            inner.signals.ring_all();
        }
    }
}

/// An estimate of what a command takes, in bytes.
pub(crate) fn bytes_of(command: &Command) -> usize {
    match command {
        Command::Append { batch, .. } => batch.len_bytes(),
        Command::Commit(commit) => {
            let batches: usize = commit.batches.iter().map(|(_, batch)| batch.len_bytes() + 16).sum();
            let offsets: usize =
                commit.offsets.iter().map(|it| it.group.len() + bytes_of_offsets(&it.offsets)).sum();
            let marks = commit.marks.iter().map(|mark| match mark {
                Mark::Event { .. } => 25,
                Mark::Named { scope, .. } => 30 + scope.len(),
            });
            let timers: usize = commit.timers.set.iter().map(|it| it.batch.len_bytes() + 32).sum();
            let writes = commit.table_writes.iter().map(|it| {
                let keys: usize = it.writes.iter().map(|write| write.key.len() + 5).sum();
                it.batch.len_bytes() + 32 + keys
            });
            let conditions = commit.conditions.iter().map(|condition| match condition {
                Condition::KeyVersion { key, .. } => 32 + key.len(),
                _ => 320,
            });
            let conditions = conditions.sum::<usize>();
            batches + offsets + timers + conditions + marks.sum::<usize>() + writes.sum::<usize>()
        }
        Command::CommitOffsets { offsets, .. } => bytes_of_offsets(offsets),
        Command::Transactional(request) => match &**request {
            Transactional::Append { batch, .. } => batch.len_bytes(),
            Transactional::AddPartitions { partitions, .. } => partitions.len() * 8,
            Transactional::CommitOffsets { offsets, .. } => bytes_of_offsets(offsets),
            Transactional::Init { .. } | Transactional::AddOffsets { .. } | Transactional::End { .. } => 0,
        },
        Command::Dedup(request) => match &**request {
            Dedup::Append { ids, batch, .. } => batch.len_bytes() + 16 * ids.len(),
            Dedup::Reserve { .. } | Dedup::Finish { .. } | Dedup::Release { .. } => 0,
            Dedup::RunReady(_) | Dedup::Forget { .. } => 0,
        },
        Command::Timer(command) => command.batches().map(Batch::len_bytes).sum(),
        Command::JoinGroup { topics, .. } => topics.len() * 8,
        Command::ReleasePartitions { partitions, .. } => partitions.len() * 16,
        _ => 0,
    }
}

fn bytes_of_offsets(offsets: &[OffsetCommit]) -> usize {
    offsets.iter().map(|offset| 32 + offset.metadata.as_str().len()).sum()
}

fn append_command(accumulator: &Accumulator, sealed: &Sealed, config_version: u32) -> Command {
    let (partition, batch) = (sealed.partition, sealed.batch.clone());
    match &sealed.ids {
        None => Command::Append { partition, config_version, expected_end: None, batch },
        Some(identified) => {
            let (sender, ids) = (accumulator.sender(), identified.ids.clone());
            Dedup::Append { sender, partition, config_version, ids, batch }.into()
        }
    }
}

/// What came into each topic, batch for batch, in bytes.
fn bytes_of_topics<'a>(
    submission: &'a Submission,
    applied: &'a Applied,
) -> impl Iterator<Item = (TopicId, u64)> + 'a {
    let batches = submission.command.batches();
    let placed = applied.placements.iter().map(move |placed| {
        let bytes = batches.get(placed.index as usize).map_or(0, |batch| batch.len_bytes() as u64);
        (placed.partition.topic, bytes)
    });
    let markers = applied.markers.iter();
    placed.chain(markers.map(|marker| (marker.partition.topic, marker.batch().len_bytes() as u64)))
}

/// Executes a group that was gathered when the log had been opened again `since` times.
///
/// The lsn of the first, and what they came to. [`Error::Unknown`] if the group was being written when it failed; any
/// other error means that nothing of it was.
fn execute(inner: &Inner, since: u64, submissions: &[Submission]) -> Result<(u64, Vec<Applied>), Error> {
    if let Some(far) = inner.far() {
        return execute_far(inner, far, since, submissions);
    }
    let data = submissions.iter().any(|submission| adds_data(&submission.command));
    let mut shard = inner.shard().lock();
    while data && shard.is_full() && shard.failure().is_none() {
        // The journal has what it may take: whoever sends waits for the disk, and hears of it if that fails.
        if MutexGuard::unlocked(&mut shard, || inner.maintenance.any_round()) {
            continue;
        }
        match MutexGuard::unlocked(&mut shard, || inner.maintenance.round()) {
            Err(error) if error.is_disk_full() => return Err(Error::Storage(shard.note_full(error))),
            ended => ended?,
        }
    }
    if inner.reopens.load(Ordering::Acquire) != since {
        return Err(reopened());
    }
    if let Some(failure) = shard.failure() {
        let reason = failure.to_string().into();
        inner.failed.store(true, Ordering::Release);
        return Err(Error::Storage(StorageError::Poisoned { reason }));
    }
    let began = Instant::now();
    let first_lsn = shard.journal().last_lsn() + 1;
    let applied = shard.execute(submissions).map(|applied| (first_lsn, applied));
    add(&inner.counters.group_us, began.elapsed().as_micros() as u64);
    add(&inner.counters.groups, 1);
    if shard.wants_checkpoint() || shard.wants_spare() || shard.wants_run() {
        inner.maintenance.kick();
    }
    applied.map_err(|error| match shard.failure() {
        Some(_) => {
            inner.failed.store(true, Ordering::Release);
            Error::Unknown(error)
        }
        None => Error::Storage(error),
    })
}

/// As [`execute`], by the node that keeps the log. Only who serves others asks for lsns, and that isn't this one.
fn execute_far(
    inner: &Inner,
    far: &Far,
    since: u64,
    submissions: &[Submission],
) -> Result<(u64, Vec<Applied>), Error> {
    if inner.reopens.load(Ordering::Acquire) != since {
        return Err(reopened());
    }
    let began = Instant::now();
    let applied = far.execute(submissions);
    add(&inner.counters.group_us, began.elapsed().as_micros() as u64);
    add(&inner.counters.groups, 1);
    Ok((0, applied?))
}

/// The error of what was submitted to an earlier open and certainly not written.
pub(crate) fn reopened() -> Error {
    let reason = "the log was opened again before this was written".into();
    Error::Storage(StorageError::Poisoned { reason })
}

/// The error of what comes behind something that failed with this one: it certainly wasn't written.
fn unwritten(error: Error) -> Error {
    match error {
        Error::Unknown(error) => Error::Storage(StorageError::Poisoned { reason: error.to_string().into() }),
        error => error,
    }
}

fn count(inner: &Inner, submissions: &[Submission], applied: &[Applied]) {
    let counters = &inner.counters;
    add(&counters.commands, applied.len() as u64);
    let (mut records, mut bytes, mut refused, mut duplicates, mut commits) = (0, 0, 0, 0, 0);
    let (mut hits, mut released) = (0, 0);
    let mut traffic = Vec::new();
    for (submission, applied) in submissions.iter().zip(applied) {
        // What waits in a timer is no record of the log yet.
        let batches = submission.command.batches();
        for placed in applied.placements.iter().filter(|placed| !placed.partition.topic.is_hidden()) {
            let records_in = placed.next_offset - placed.base_offset;
            let bytes_in = batches.get(placed.index as usize).map_or(0, |batch| batch.len_bytes() as u64);
            traffic.push((placed.partition.topic, Traffic { records_in, bytes_in, ..Traffic::default() }));
            records += records_in;
        }
        firing::count(inner, submission, applied);
        hits += match &applied.reply {
            Reply::Refused(Refusal::EventsSeen { seen }) => seen.len() as u64,
            Reply::Refused(Refusal::EventSeen { .. }) => 1,
            _ => 0,
        };
        released += u64::from(applied.reply == Reply::Released);
        if let Reply::Ticked { offsets: offsets @ 1.., .. } = applied.reply {
            add(&counters.offsets_expired, offsets);
            tracing::info!(offsets, "committed offsets that nobody used were forgotten");
        }
        match (&applied.reply, &submission.command) {
            (Reply::Refused(_), _) => refused += 1,
            (Reply::Appended { duplicate: true, .. }, _) => duplicates += 1,
            (_, Command::Append { batch, .. }) => bytes += batch.len_bytes() as u64,
            (Reply::Appended { .. }, Command::Transactional(_) | Command::Dedup(_)) => {
                bytes += bytes_of(&submission.command) as u64
            }
            (Reply::TimerFired { .. }, command) => bytes += bytes_of(command) as u64,
            (_, Command::Commit(commit)) => {
                commits += 1;
                bytes += commit.batches.iter().map(|(_, batch)| batch.len_bytes() as u64).sum::<u64>();
            }
            _ => {}
        }
    }
    inner.clients.add(traffic);
    add(&counters.records_in, records);
    add(&counters.bytes_in, bytes);
    add(&counters.refused, refused);
    add(&counters.duplicates, duplicates);
    add(&counters.commits, commits);
    add(&counters.dedup_hits, hits);
    add(&counters.dedup_released, released);
}

/// An event when marks of ids were given up at the cap; while that goes on, one for each minute that the window loses.
fn say_if_shortened(inner: &Inner, submissions: &[Submission]) {
    const AGAIN_MS: i64 = 60_000;
    let has_ids = |submission: &Submission| match &submission.command {
        Command::Dedup(_) => true,
        Command::Commit(commit) => !commit.marks.is_empty(),
        _ => false,
    };
    if !submissions.iter().any(has_ids) {
        return;
    }
    let (since_ms, limits) = {
        let ids = &inner.state.read().dedup;
        (ids.complete_since_ms(), ids.limits())
    };
    let said_ms = inner.counters.dedup_since_said.load(Ordering::Relaxed);
    if since_ms > said_ms.saturating_add(AGAIN_MS) {
        inner.counters.dedup_since_said.store(since_ms, Ordering::Relaxed);
        let max = limits.entries_max;
        tracing::warn!(since_ms, max, "ids of events were given up early, at dedup.entries.max");
    }
}

/// What producers have gathered behind something that was refused would leave a gap in their sequences, and in their
/// order. Before anybody is answered: who hears of it may send the next record at once.
fn give_up<'a>(
    inner: &Inner,
    since: u64,
    accumulators: impl Iterator<Item = &'a Arc<Accumulator>>,
    error: &Error,
) {
    let mut last: Option<&Arc<Accumulator>> = None;
    let mut given_up = Vec::new();
    // With it held the log isn't opened again meanwhile.
    let shard = inner.hold();
    let reopens = inner.reopens.load(Ordering::Acquire);
    for accumulator in accumulators {
        // Those that the reopen has restarted go on behind it already.
        let is_due = since == reopens || accumulator.since() != reopens;
        if is_due && !last.replace(accumulator).is_some_and(|last| Arc::ptr_eq(last, accumulator)) {
            given_up.extend(restart(inner, accumulator, reopens));
        }
    }
    drop(shard);
    answer_all(given_up, error);
}

/// Answers with one error. Not under a lock: whoever is woken may need it.
pub(crate) fn answer_all(responders: Vec<Responder<u64>>, error: &Error) {
    responders.into_iter().for_each(|responder| responder.answer(Err(error.clone())));
}

/// Lets a producer go on behind what the log holds of it when it was opened again `reopens` times. Who waits for
/// what it has gathered is to be answered when no lock is held any more.
#[must_use]
pub(crate) fn restart(inner: &Inner, accumulator: &Accumulator, reopens: u64) -> Vec<Responder<u64>> {
    let state = inner.state.read();
    let next = |partition, producer, epoch| state.partition(partition)?.next_sequence(producer, epoch);
    accumulator.restart(reopens, next)
}
