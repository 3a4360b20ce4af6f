//! Timers in the model: a list of all that were ever set, and where each stands.

use exactlog_core::batch::Batch;
use exactlog_core::command::{NewTimer, TimerCommand, TimerEffects};
use exactlog_core::ids::{Partition, TimerId, TopicId};
use exactlog_core::reply::{Cancellation, Reply, TimerFailure};

use super::{Model, Outcome, Stored};

/// A timer that was set.
#[derive(Clone, Debug)]
pub struct TimerMade {
    /// When it is due.
    pub due_ms: i64,
    /// Where its batch is to go.
    pub target: Partition,
    /// What it was set with.
    pub payload: Batch,
    /// Where that is in the hidden partition.
    pub payload_offset: u64,
    /// Where it stands.
    pub standing: Standing,
}

/// Where a timer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for its time.
    Waits,
    /// Its batch can't go where it was to go.
    Stuck(TimerFailure),
    /// It has fired.
    Fired,
    /// It was given up.
    Cancelled,
}

impl TimerMade {
    /// Whether it hasn't ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.standing, Standing::Waits | Standing::Stuck(_))
    }
}

impl Model {
    pub(super) fn timer_command(&mut self, term: u32, command: &TimerCommand) -> Outcome {
        match command {
            TimerCommand::Set { sender, timer } => {
                if let Some((producer, epoch)) = sender {
                    self.check_named_sender(*producer, *epoch)?;
                }
                self.check_new_timers(std::slice::from_ref(timer), 0)?;
                self.set_timer(term, timer);
                Ok(Reply::TimerSet { timer: TimerId(self.timers.len() as u64) })
            }
            TimerCommand::Cancel { timer } => {
                let standing = self.standing(*timer);
                self.give_up(*timer);
                Ok(Reply::TimerCancelled(standing))
            }
            TimerCommand::Fire { timer, batch } => self.fire(term, *timer, batch),
            TimerCommand::Carry { payloads } => {
                for (nth, (timer, batch)) in payloads.iter().enumerate() {
                    self.check_payload(*timer, batch)?;
                    if payloads[..nth].iter().any(|(earlier, _)| earlier == timer) {
                        return Err("TimerPayload");
                    }
                }
                for (timer, batch) in payloads {
                    let payload_offset = self.store_payload(term, batch);
                    self.timers[timer.0 as usize - 1].payload_offset = payload_offset;
                }
                self.trim_hidden();
                Ok(Reply::TimersCarried)
            }
        }
    }

    pub(super) fn check_timer_effects(&self, effects: &TimerEffects) -> Result<(), &'static str> {
        for (nth, timer) in effects.cancel.iter().enumerate() {
            let twice = effects.cancel[..nth].contains(timer);
            if twice || self.standing(*timer) != Cancellation::Cancelled {
                return Err("TimerEnded");
            }
        }
        self.check_new_timers(&effects.set, effects.cancel.len())
    }

    /// The first timer that is set, if any.
    pub(super) fn apply_timer_effects(&mut self, term: u32, effects: &TimerEffects) -> Option<TimerId> {
        let first = TimerId(self.timers.len() as u64 + 1);
        effects.set.iter().for_each(|timer| self.set_timer(term, timer));
        effects.cancel.iter().for_each(|timer| self.give_up(*timer));
        (!effects.set.is_empty()).then_some(first)
    }

    /// Timers that haven't ended, with their ids.
    pub fn live_timers(&self) -> impl Iterator<Item = (TimerId, &TimerMade)> {
        (1..).map(TimerId).zip(&self.timers).filter(|(_, timer)| timer.is_live())
    }

    /// The settings of a topic changed.
    pub(super) fn free_stuck(&mut self, topic: TopicId) {
        for timer in self.timers.iter_mut().filter(|timer| timer.target.topic == topic) {
            if matches!(timer.standing, Standing::Stuck(_)) {
                timer.standing = Standing::Waits;
            }
        }
    }

    fn check_new_timers(&self, set: &[NewTimer], ending: usize) -> Result<(), &'static str> {
        let (count_max, delay_max_ms) = self.timer_limits.unwrap_or((1_000_000, 365 * super::DAY_MS));
        if !set.is_empty() && (self.live_timers().count() - ending + set.len()) as u64 > count_max {
            return Err("TooManyTimers");
        }
        for timer in set {
            if timer.batch.producer().is_some() {
                return Err("Batch");
            }
            self.check_batch(timer.target, &timer.batch)?;
            if timer.due_ms - self.time_ms > delay_max_ms as i64 {
                return Err("DelayTooLong");
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, term: u32, new: &NewTimer) {
        let payload_offset = self.store_payload(term, &new.batch);
        self.timers.push(TimerMade {
            due_ms: new.due_ms,
            target: new.target,
            payload: new.batch.clone(),
            payload_offset,
            standing: Standing::Waits,
        });
    }

    fn store_payload(&mut self, term: u32, batch: &Batch) -> u64 {
        let hidden = self.hidden.get_or_insert_default();
        let base_offset = hidden.end;
        hidden.end += u64::from(batch.record_count());
        let stored = Stored { lsn: self.lsn, batch: batch.placed(base_offset, term), txn_seq: None };
        self.stored.entry(Partition::TIMERS).or_default().push(stored);
        base_offset
    }

    fn fire(&mut self, term: u32, timer: TimerId, batch: &Batch) -> Outcome {
        let TimerMade { due_ms, target, standing, .. } = self.check_payload(timer, batch)?.clone();
        if matches!(standing, Standing::Stuck(_)) {
            return Err("TimerStuck");
        }
        if self.time_ms < due_ms {
            return Err("TimerNotDue");
        }
        let failure = match self.check_batch(target, batch) {
            Ok(()) => None,
            Err("BatchTooLarge") => Some(TimerFailure::TooLarge),
            Err(_) => Some(TimerFailure::NoTarget),
        };
        let standing = failure.map_or(Standing::Fired, Standing::Stuck);
        self.timers[timer.0 as usize - 1].standing = standing;
        if let Some(failure) = failure {
            return Ok(Reply::TimerFailed(failure));
        }
        let base_offset = self.store(term, target, batch, None);
        self.trim_hidden();
        Ok(Reply::TimerFired { partition: target, base_offset, due_ms })
    }

    fn check_payload(&self, timer: TimerId, batch: &Batch) -> Result<&TimerMade, &'static str> {
        let made = timer.0.checked_sub(1).and_then(|nth| self.timers.get(nth as usize));
        let made = made.filter(|made| made.is_live()).ok_or("TimerEnded")?;
        match made.payload.body() == batch.body() && made.payload.crc() == batch.crc() {
            true => Ok(made),
            false => Err("TimerPayload"),
        }
    }

    fn standing(&self, timer: TimerId) -> Cancellation {
        let made = timer.0.checked_sub(1).and_then(|nth| self.timers.get(nth as usize));
        match made.map(|made| made.standing) {
            None => Cancellation::NeverSet,
            Some(Standing::Waits | Standing::Stuck(_)) => Cancellation::Cancelled,
            Some(Standing::Cancelled) => Cancellation::CancelledBefore,
            Some(Standing::Fired) => Cancellation::Fired,
        }
    }

    fn give_up(&mut self, timer: TimerId) {
        if self.standing(timer) == Cancellation::Cancelled {
            self.timers[timer.0 as usize - 1].standing = Standing::Cancelled;
        }
        self.trim_hidden();
    }

    fn trim_hidden(&mut self) {
        let oldest = self.live_timers().map(|(_, timer)| timer.payload_offset).min();
        if let Some(hidden) = &mut self.hidden {
            hidden.start = oldest.unwrap_or(hidden.end);
        }
    }
}
