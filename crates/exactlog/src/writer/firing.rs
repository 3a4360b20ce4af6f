//! What the writer does about timers: it reads what is due and puts it into commands.
//!
//! Not here: whether a timer fires. `apply` decides that, from the command alone.
//!
//! Invariants
//!   * of what is due only a part is taken in one round, so that nobody who sends waits for all of it
//!   * a payload that can't be read delays its own timer and no other, and its timer is never given up for it

use super::{Desk, Recipient};
use crate::log::Inner;
use exactlog_core::batch::Batch;
use exactlog_core::command::{Command, TimerCommand};
use exactlog_core::ids::{Partition, TimerId};
use exactlog_core::reply::{Applied, Reply};
use exactlog_core::state::Timer;
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::Submission;
use std::sync::atomic::Ordering;

/// Most timers that fire in one round of the writer.
const TIMERS_PER_ROUND: usize = 256;

/// Most bytes of payloads that are read in one round: of those that fire, and of those that are carried.
const ROUND_BYTES: u64 = 512 * 1024;

impl Desk {
    /// Takes what is due into the group, and payloads that have to be carried forward.
    pub(super) fn fire_due(&mut self, inner: &Inner) {
        let now_ms = inner.monotonic_ms();
        let stamp_ms = self.stamper.stamp(now_ms, inner.clock.wall_ms());
        inner.timing.publish(stamp_ms - now_ms);
        if now_ms < self.tick_not_before_ms {
            return;
        }
        let (due, to_carry) = {
            let state = inner.state.read();
            let due = state.timers.waiting().take_while(|(_, timer)| timer.due_ms <= stamp_ms);
            let due = due.filter(|(id, _)| !inner.timing.is_delayed(*id, now_ms));
            let due: Vec<(TimerId, Timer)> =
                due.take(TIMERS_PER_ROUND).map(|(id, timer)| (id, *timer)).collect();
            (due, state.timers.to_carry(inner.timing.held_bytes_max, ROUND_BYTES))
        };
        let mut bytes = 0;
        for (id, timer) in due {
            if bytes >= ROUND_BYTES {
                break;
            }
            bytes += u64::from(timer.payload_bytes);
            if let Some(batch) = payload_or_delay(inner, id, &timer, now_ms) {
                self.own_command(inner, TimerCommand::Fire { timer: id, batch });
            }
        }
        // One that fires in this round would be refused, and all that is carried with it.
        if bytes == 0 && can_be_carried(inner, &to_carry, now_ms) {
            self.carry(inner, &to_carry, now_ms);
        }
    }

    fn carry(&mut self, inner: &Inner, timers: &[(TimerId, Timer)], now_ms: i64) {
        let read = |(id, timer): &(TimerId, Timer)| {
            payload_or_delay(inner, *id, timer, now_ms).map(|batch| (*id, batch))
        };
        if let Some(payloads) = timers.iter().map(read).collect() {
            self.own_command(inner, TimerCommand::Carry { payloads });
        }
    }

    fn own_command(&mut self, inner: &Inner, command: TimerCommand) {
        let bytes = command.batches().map(Batch::len_bytes).sum();
        if self.is_over(inner, bytes) {
            self.write(inner);
        }
        self.begin(inner);
        self.push(inner, command.into(), Recipient::Tick, bytes);
    }

    /// How long until there is something to do about timers, in ms; `i64::MAX`: nothing, as things stand.
    pub(super) fn until_due_ms(&self, inner: &Inner, now_ms: i64) -> i64 {
        let due_ms = {
            let state = inner.state.read();
            let next = state.timers.waiting().find(|(id, _)| !inner.timing.is_delayed(*id, now_ms));
            let to_carry = state.timers.to_carry(inner.timing.held_bytes_max, ROUND_BYTES);
            match can_be_carried(inner, &to_carry, now_ms) {
                true => i64::MIN,
                false => next.map_or(i64::MAX, |(_, timer)| timer.due_ms),
            }
        };
        let mut ahead = self.stamper;
        let until = match due_ms {
            i64::MAX => i64::MAX,
            _ => due_ms.saturating_sub(ahead.stamp(now_ms, inner.clock.wall_ms())),
        };
        let again = inner.timing.retry_ms().map_or(i64::MAX, |retry_ms| retry_ms.saturating_sub(now_ms));
        until.min(again).max(self.tick_not_before_ms.saturating_sub(now_ms))
    }
}

/// While one of them can't be read, nothing would go for the others.
fn can_be_carried(inner: &Inner, timers: &[(TimerId, Timer)], now_ms: i64) -> bool {
    !timers.is_empty() && timers.iter().all(|(id, _)| !inner.timing.is_delayed(*id, now_ms))
}

/// What a timer was set with. If it can't be read the timer has to wait.
fn payload_or_delay(inner: &Inner, id: TimerId, timer: &Timer, now_ms: i64) -> Option<Batch> {
    match payload(inner, timer) {
        Ok(batch) => {
            inner.timing.is_readable(id);
            Some(batch)
        }
        Err(error) => {
            inner.timing.delay(id, error, now_ms);
            None
        }
    }
}

/// What a timer was set with, from the hidden partition.
pub(crate) fn payload(inner: &Inner, timer: &Timer) -> Result<Batch, StorageError> {
    let offset = timer.payload_offset;
    let batches = inner.read(|reader| reader.read(Partition::TIMERS, offset, 1))?;
    let found = batches.into_iter().next().filter(|batch| batch.base_offset() == offset);
    found.filter(|batch| batch.crc() == timer.payload_crc).ok_or_else(|| {
        let what = "another batch, or none, than the one that a timer was set with";
        StorageError::damaged(format!("topics/{}", Partition::TIMERS), offset, what)
    })
}

/// Counts what a command did to timers.
pub(super) fn count(inner: &Inner, submission: &Submission, applied: &Applied) {
    let Command::Timer(command) = &submission.command else { return };
    let counters = &inner.timing.counters;
    match (&**command, &applied.reply) {
        (TimerCommand::Fire { .. }, Reply::TimerFired { due_ms, .. }) => {
            let late_ms = submission.time_ms.saturating_sub(*due_ms).max(0) as u64;
            counters.fired.fetch_add(1, Ordering::Relaxed);
            counters.lateness_ms.fetch_add(late_ms, Ordering::Relaxed);
            counters.lateness_max_ms.fetch_max(late_ms, Ordering::Relaxed);
        }
        (TimerCommand::Fire { timer, .. }, Reply::TimerFailed(failure)) => {
            let reason = failure.text();
            tracing::warn!(event = "timer.stuck", %timer, reason, "a timer is due and can't fire");
        }
        (TimerCommand::Fire { timer, .. }, Reply::Refused(refusal)) => {
            tracing::warn!(event = "timer.refused", %timer, %refusal, "a timer didn't fire");
        }
        _ => {}
    }
}
