//! The writer: one thread that gives everything its order.
//!
//! ```text
//!   take what waits -> one group of at most 4 MiB -> Shard::execute -> answer -> ring whoever waits to read
//! ```

use crate::clock::Stamper;
use crate::error::Error;
use crate::log::Inner;
use crate::metrics::add;
use crate::producer::{Accumulator, Sealed};
use crate::queue::{Answer, Work};
use exactlog_core::command::{Command, ConfigChange};
use exactlog_core::ids::TopicId;
use exactlog_core::reply::{Applied, Refusal, Reply};
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::Submission;
use parking_lot::MutexGuard;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a command takes in the journal besides its batches, in bytes; an estimate.
const COMMAND_BYTES: usize = 192;

/// How long the writer sleeps when nothing happens and nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Whom a command's answer goes to.
enum Recipient {
    Command(Arc<Answer>, usize),
    Batch(Arc<Accumulator>, Box<Sealed>),
    Nobody,
}

/// A group that is being gathered.
#[derive(Default)]
struct Group {
    submissions: Vec<Submission>,
    recipients: Vec<Recipient>,
    bytes: usize,
}

/// Runs until the queue is closed and empty. A panic is a bug of ours: it ends writing, and whoever waits is told.
pub(crate) fn run(inner: &Inner) {
    if catch_unwind(AssertUnwindSafe(|| write_all(inner))).is_ok() {
        return;
    }
    inner.failed.store(true, Ordering::Release);
    inner.signals.ring_all();
    let error = Error::Unknown(StorageError::Poisoned { reason: "the writer panicked".into() });
    while let Some(work) = inner.queue.take(IDLE) {
        for work in work {
            match work {
                Work::Command { answer, bytes, .. } => {
                    inner.queue.release(bytes);
                    answer.complete(Err(error.clone()));
                }
                Work::Records(accumulator) => accumulator.refuse(inner, &error),
            }
        }
    }
}

/// Answers that the outcome is unknown, if nobody answered before.
impl Drop for Recipient {
    fn drop(&mut self) {
        let error = || Error::Unknown(StorageError::Poisoned { reason: "the writer panicked".into() });
        match self {
            Recipient::Command(answer, _) if answer.peek().is_none() => answer.complete(Err(error())),
            Recipient::Batch(_, sealed) if sealed.answer.peek().is_none() => {
                sealed.answer.complete(Err(error()))
            }
            _ => {}
        }
    }
}

fn write_all(inner: &Inner) {
    let mut stamper = {
        let shard = inner.shard.lock();
        let state_ms = shard.state().time_ms;
        Stamper::new(state_ms, inner.monotonic_ms(), inner.wall_ms())
    };
    let mut group = Group::default();
    while let Some(work) = inner.queue.take(until_deadline(inner, &stamper)) {
        if work.is_empty() {
            tick_if_due(inner, &mut stamper, &mut group);
        }
        for work in work {
            gather(inner, &mut stamper, &mut group, work);
        }
        write(inner, &mut stamper, &mut group);
        if inner.queue.is_empty() {
            // The outcome shows at the next write: a failed seal ends writing like any failed write.
            let _ = inner.shard.lock().idle();
        }
    }
}

fn until_deadline(inner: &Inner, stamper: &Stamper) -> Duration {
    let deadline = inner.state.read().next_deadline_ms();
    if deadline == i64::MAX || inner.failed.load(Ordering::Acquire) {
        return IDLE;
    }
    let mut ahead = *stamper;
    let now = ahead.stamp(inner.monotonic_ms(), inner.wall_ms());
    Duration::from_millis(deadline.saturating_sub(now).max(1) as u64).min(IDLE)
}

fn tick_if_due(inner: &Inner, stamper: &mut Stamper, group: &mut Group) {
    let now = stamper.stamp(inner.monotonic_ms(), inner.wall_ms());
    if inner.state.read().next_deadline_ms() <= now {
        group.push(stamper, inner, Command::Tick, Recipient::Nobody, 0);
    }
}

impl Group {
    fn push(&mut self, stamper: &mut Stamper, inner: &Inner, command: Command, to: Recipient, bytes: usize) {
        if matches!(command, Command::Config(ConfigChange::AcceptTime { .. })) {
            stamper.accept(inner.wall_ms());
        }
        let time_ms = stamper.stamp(inner.monotonic_ms(), inner.wall_ms());
        inner.counters.clock_held.store(stamper.is_held(), Ordering::Relaxed);
        self.submissions.push(Submission { time_ms, command });
        self.recipients.push(to);
        self.bytes += bytes + COMMAND_BYTES;
    }
}

fn gather(inner: &Inner, stamper: &mut Stamper, group: &mut Group, work: Work) {
    match work {
        Work::Command { command, answer, bytes } => {
            if group.bytes + bytes > inner.group_bytes_max {
                write(inner, stamper, group);
            }
            group.push(stamper, inner, command, Recipient::Command(answer, bytes), bytes);
        }
        Work::Records(accumulator) => {
            let mut more = true;
            while more {
                if group.bytes >= inner.group_bytes_max {
                    write(inner, stamper, group);
                }
                let mut taken = Vec::new();
                more = accumulator.take(inner.group_bytes_max - group.bytes, COMMAND_BYTES, &mut taken);
                for sealed in taken {
                    let bytes = sealed.batch.len_bytes();
                    let command = append_command(&sealed, sealed.config_version);
                    let to = Recipient::Batch(accumulator.clone(), Box::new(sealed));
                    group.push(stamper, inner, command, to, bytes);
                }
            }
        }
    }
}

fn append_command(sealed: &Sealed, config_version: u32) -> Command {
    let batch = sealed.batch.clone();
    Command::Append { partition: sealed.partition, config_version, expected_end: None, batch }
}

/// Writes the group and answers everybody in it.
fn write(inner: &Inner, stamper: &mut Stamper, group: &mut Group) {
    while !group.submissions.is_empty() {
        let submissions = std::mem::take(&mut group.submissions);
        let recipients = std::mem::take(&mut group.recipients);
        group.bytes = 0;
        let executed = execute(inner, &submissions);
        match executed {
            Ok(applied) => {
                count(inner, &submissions, &applied);
                ring(inner, &submissions, &applied);
                for (recipient, applied) in recipients.into_iter().zip(applied) {
                    answer(inner, stamper, group, recipient, applied);
                }
            }
            Err(error) => refuse(inner, recipients, error),
        }
    }
}

fn execute(inner: &Inner, submissions: &[Submission]) -> Result<Vec<Applied>, StorageError> {
    let mut shard = inner.shard.lock();
    while shard.is_full() && shard.failure().is_none() {
        // The journal has what it may take: whoever sends waits for the disk, and hears of it if that fails.
        MutexGuard::unlocked(&mut shard, || inner.maintenance.round())?;
    }
    let began = Instant::now();
    let applied = shard.execute(submissions);
    add(&inner.counters.group_us, began.elapsed().as_micros() as u64);
    add(&inner.counters.groups, 1);
    if shard.wants_checkpoint() || shard.wants_spare() {
        inner.maintenance.kick();
    }
    applied
}

fn ring(inner: &Inner, submissions: &[Submission], applied: &[Applied]) {
    let mut topics: BTreeSet<TopicId> = BTreeSet::new();
    for (submission, applied) in submissions.iter().zip(applied) {
        topics.extend(applied.placements.iter().map(|placement| placement.partition.topic));
        match &submission.command {
            Command::JoinGroup { group, .. }
            | Command::LeaveGroup { group, .. }
            | Command::ReleasePartitions { group, .. } => inner.signals.ring_group(group),
            Command::DeleteTopic { .. } => inner.signals.ring_all(),
            _ => {}
        }
    }
    inner.signals.ring_topics(&topics);
}

fn count(inner: &Inner, submissions: &[Submission], applied: &[Applied]) {
    let counters = &inner.counters;
    add(&counters.commands, applied.len() as u64);
    let (mut records, mut bytes, mut refused, mut duplicates, mut commits) = (0, 0, 0, 0, 0);
    for (submission, applied) in submissions.iter().zip(applied) {
        records +=
            applied.placements.iter().map(|placed| placed.next_offset - placed.base_offset).sum::<u64>();
        match (&applied.reply, &submission.command) {
            (Reply::Refused(_), _) => refused += 1,
            (Reply::Appended { duplicate: true, .. }, _) => duplicates += 1,
            (_, Command::Append { batch, .. }) => bytes += batch.len_bytes() as u64,
            (_, Command::Commit(commit)) => {
                commits += 1;
                bytes += commit.batches.iter().map(|(_, batch)| batch.len_bytes() as u64).sum::<u64>();
            }
            _ => {}
        }
    }
    add(&counters.records_in, records);
    add(&counters.bytes_in, bytes);
    add(&counters.refused, refused);
    add(&counters.duplicates, duplicates);
    add(&counters.commits, commits);
}

fn answer(inner: &Inner, stamper: &mut Stamper, group: &mut Group, recipient: Recipient, applied: Applied) {
    match &recipient {
        Recipient::Nobody => {}
        Recipient::Command(answer, bytes) => {
            inner.queue.release(*bytes);
            answer.complete(match applied.reply {
                Reply::Refused(refusal) => Err(Error::Refused(refusal)),
                _ => Ok(applied),
            });
        }
        Recipient::Batch(accumulator, sealed) => {
            let reply = match applied.reply {
                Reply::Appended { base_offset, .. } => Ok(base_offset),
                // The settings changed on the way: the same batch again, judged by the new ones.
                Reply::Refused(Refusal::ConfigChanged { current, .. }) => {
                    let bytes = sealed.batch.len_bytes();
                    let command = append_command(sealed, current);
                    group.push(stamper, inner, command, recipient, bytes);
                    return;
                }
                Reply::Refused(Refusal::ProducerFenced { .. }) => {
                    Err(Error::Fenced { name: accumulator.name.to_string() })
                }
                Reply::Refused(refusal) => Err(Error::Refused(refusal)),
                _ => unreachable!("Append answers with a place or a refusal"),
            };
            inner.queue.release(sealed.room_bytes);
            sealed.answer.complete(reply);
        }
    }
}

/// Nothing of the group was applied. What is known of its future depends on the error.
fn refuse(inner: &Inner, recipients: Vec<Recipient>, error: StorageError) {
    // A shard that didn't fail has written nothing of the group.
    let failed = inner.shard.lock().failure().is_some();
    let error = if failed {
        inner.failed.store(true, Ordering::Release);
        Error::Unknown(error)
    } else {
        Error::Storage(error)
    };
    for recipient in &recipients {
        match recipient {
            Recipient::Nobody => {}
            Recipient::Command(answer, bytes) => {
                inner.queue.release(*bytes);
                answer.complete(Err(error.clone()));
            }
            Recipient::Batch(accumulator, sealed) => {
                inner.queue.release(sealed.room_bytes);
                sealed.answer.complete(Err(error.clone()));
                // What was gathered behind it would leave a gap in its sequences, and in its order.
                accumulator.refuse(inner, &error);
                resume(inner, accumulator);
            }
        }
    }
    if inner.failed.load(Ordering::Acquire) {
        inner.signals.ring_all();
    }
}

/// Lets a producer go on behind what the log holds of it.
pub(crate) fn resume(inner: &Inner, accumulator: &Accumulator) {
    let state = inner.state.read();
    accumulator
        .resume(|partition, producer, epoch| state.partition(partition)?.next_sequence(producer, epoch));
}
