//! Timers: batches that wait until their time (semantics EM-10).
//!
//! ```text
//!   Set, Commit ──> waiting ──Fire, not before it is due──> fired: the batch is in its partition
//!                    │   ^  \
//!                    │   │   \──Fire, and it can't go there──> stuck ──Cancel──> cancelled
//!                    │   └──AlterTopic of its topic───────────────┘
//!                    └──Cancel, Commit──> cancelled
//! ```
//!
//! What a timer was set with is a batch of the hidden partition `__timers-0`, which goes the way of every batch through
//! journal and segments. The state has the place, the time, and the checksum: whoever fires reads the batch and puts
//! its bytes into the command.
//!
//! Invariants
//!   * a timer ends once: it fires or is cancelled, and its batch goes nowhere else
//!   * none fires before its time, by the time of the state
//!   * the bytes that come into the log are those that the timer was set with
//!   * the hidden partition begins at the oldest payload that is needed, or is empty
//!   * ids count from 1 in the order of acceptance; timers due at one time fire in that order

use super::pieces::Pieces;
use super::topic::{Arrival, check_shape};
use super::{Outcome, State, Topic, check_bounds, done};
use crate::batch::{Batch, ProducerStamp};
use crate::command::{DELAY_MAX_MS, NewTimer, TIMERS_MAX, TimerCommand, TimerEffects, TopicConfig};
use crate::ids::{Partition, TimerId, TopicId};
use crate::mutants::{Mutant, on};
use crate::reply::{Applied, Cancellation, Placement, Refusal, Reply, TimerFailure};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A timer that hasn't ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due, ms since 1970.
    pub due_ms: i64,
    /// Where its batch is to go.
    pub target: Partition,
    /// Offset of that batch in the hidden partition.
    pub payload_offset: u64,
    /// Length of the batch, in bytes.
    pub payload_bytes: u32,
    /// The CRC-32C of the batch.
    pub payload_crc: u32,
    /// Bytes of all payloads that were stored before it.
    stored_before: u64,
    /// Why it is stuck, if it is.
    pub failure: Option<TimerFailure>,
}

/// All timers that haven't ended, and what is known of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Timers {
    live: Pieces<TimerId, Timer>,
    /// Those that wait for their time.
    due: Pieces<(i64, TimerId), ()>,
    /// The offsets of their payloads.
    payloads: Pieces<u64, TimerId>,
    stuck: BTreeSet<TimerId>,
    live_bytes: u64,
    limits: TimerLimits,
    next: u64,
    /// Bytes of all payloads that were ever stored.
    stored_bytes: u64,
    /// The last ones that were cancelled.
    cancelled: VecDeque<TimerId>,
    /// Up to this one they may be cancelled without being among these.
    forgotten: Option<TimerId>,
    /// The first timer of commits whose replies are kept, by their lsn.
    commits: BTreeMap<u64, TimerId>,
}

/// How many may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerLimits {
    /// `delivery.timers.max`.
    pub count_max: u64,
    /// `delivery.delay.max.ms`.
    pub delay_max_ms: u64,
}

impl Default for TimerLimits {
    fn default() -> Self {
        TimerLimits { count_max: TIMERS_MAX, delay_max_ms: DELAY_MAX_MS }
    }
}

/// Highest `delivery.timers.max`: so many fit into a section of a checkpoint.
const TIMERS_MOST: u64 = 4_000_000;
/// How many cancelled timers are remembered as such.
const CANCELLED_KEPT: usize = 10_000;

/// What of [`Timers`] can't be worked out from the rest. Order and types of the fields are a format.
#[derive(Serialize, Deserialize)]
struct Kept {
    limits: TimerLimits,
    next: u64,
    stored_bytes: u64,
    cancelled: VecDeque<TimerId>,
    forgotten: Option<TimerId>,
    commits: BTreeMap<u64, TimerId>,
    live: Vec<(TimerId, Timer)>,
}

impl From<Timers> for Kept {
    fn from(timers: Timers) -> Kept {
        let live = timers.live.iter().map(|(id, timer)| (*id, *timer)).collect();
        let Timers { limits, next, stored_bytes, cancelled, forgotten, commits, .. } = timers;
        Kept { limits, next, stored_bytes, cancelled, forgotten, commits, live }
    }
}

impl From<Kept> for Timers {
    fn from(kept: Kept) -> Timers {
        let Kept { limits, next, stored_bytes, cancelled, forgotten, commits, live } = kept;
        let fresh = Timers { limits, next, stored_bytes, cancelled, forgotten, commits, ..Timers::default() };
        live.into_iter().fold(fresh, |mut timers, (id, timer)| {
            timers.enter(id, timer);
            timers
        })
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            live: Pieces::default(),
            due: Pieces::default(),
            payloads: Pieces::default(),
            stuck: BTreeSet::new(),
            live_bytes: 0,
            limits: TimerLimits::default(),
            next: 1,
            stored_bytes: 0,
            cancelled: VecDeque::new(),
            forgotten: None,
            commits: BTreeMap::new(),
        }
    }
}

impl Timers {
    /// Whether there never was a timer, nor a setting for them.
    pub fn is_untouched(&self) -> bool {
        self.next == 1 && self.limits == TimerLimits::default()
    }

    /// How many haven't ended.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those whose batch can't go where it was to go.
    pub fn stuck(&self) -> impl Iterator<Item = (TimerId, &Timer)> {
        self.stuck.iter().filter_map(|id| Some((*id, self.live.get(id)?)))
    }

    /// How many of these there are.
    pub fn stuck_count(&self) -> usize {
        self.stuck.len()
    }

    /// Those that wait for their time, in the order in which they fire.
    pub fn waiting(&self) -> impl Iterator<Item = (TimerId, &Timer)> {
        self.due.iter().filter_map(|((_, id), ())| Some((*id, self.live.get(id)?)))
    }

    /// A timer that hasn't ended.
    pub fn get(&self, timer: TimerId) -> Option<&Timer> {
        self.live.get(&timer)
    }

    /// The limits.
    pub fn limits(&self) -> TimerLimits {
        self.limits
    }

    /// When the next one is due, ms since 1970; `i64::MAX`: none waits.
    pub fn next_due_ms(&self) -> i64 {
        self.due.first().map_or(i64::MAX, |((due_ms, _), ())| *due_ms)
    }

    /// What cancelling a timer would answer now.
    pub fn standing(&self, timer: TimerId) -> Cancellation {
        match timer.0 {
            _ if self.live.get(&timer).is_some() => Cancellation::Cancelled,
            id if id == 0 || id >= self.next => Cancellation::NeverSet,
            _ if self.cancelled.contains(&timer) => Cancellation::CancelledBefore,
            _ if self.forgotten.is_some_and(|forgotten| timer <= forgotten) => Cancellation::Ended,
            _ => Cancellation::Fired,
        }
    }

    /// Bytes of payloads from the oldest one that is needed on, needed or not.
    pub fn held_bytes(&self) -> u64 {
        let oldest = self.payloads.first().and_then(|(_, id)| self.live.get(id));
        oldest.map_or(0, |oldest| self.stored_bytes.saturating_sub(oldest.stored_before))
    }

    /// Bytes of the payloads that are needed.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The oldest payloads, up to about `bytes_max` bytes, if they are to be carried forward: more than
    /// `held_bytes_max` bytes are held back, of which less than a quarter is needed. So no byte is written more often
    /// than once for three others that go.
    pub fn to_carry(&self, held_bytes_max: u64, bytes_max: u64) -> Vec<(TimerId, Timer)> {
        if !self.wants_carrying(held_bytes_max) {
            return Vec::new();
        }
        let mut bytes = 0_u64;
        let oldest = self.payloads.iter().filter_map(|(_, id)| Some((*id, *self.live.get(id)?)));
        let within = oldest.take_while(|(_, timer)| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(u64::from(timer.payload_bytes));
            first || bytes <= bytes_max
        });
        within.collect()
    }

    fn wants_carrying(&self, held_bytes_max: u64) -> bool {
        let held_bytes = self.held_bytes();
        held_bytes > held_bytes_max && self.live_bytes < held_bytes / 4
    }

    /// The first timer that the commit at this lsn has set, if its reply is kept.
    pub(super) fn of_commit(&self, lsn: u64) -> Option<TimerId> {
        self.commits.get(&lsn).copied()
    }

    /// The reply to the commit at this lsn is no longer kept.
    pub(super) fn forget_commit(&mut self, lsn: u64) {
        self.commits.remove(&lsn);
    }

    fn enter(&mut self, id: TimerId, timer: Timer) {
        match timer.failure {
            None => self.due.insert((timer.due_ms, id), ()),
            Some(_) => drop(self.stuck.insert(id)),
        }
        self.payloads.insert(timer.payload_offset, id);
        self.live_bytes = self.live_bytes.saturating_add(u64::from(timer.payload_bytes));
        self.live.insert(id, timer);
    }

    fn remove(&mut self, id: TimerId) {
        let Some(timer) = self.live.remove(&id) else { return };
        self.due.remove(&(timer.due_ms, id));
        self.stuck.remove(&id);
        self.payloads.remove(&timer.payload_offset);
        self.live_bytes = self.live_bytes.saturating_sub(u64::from(timer.payload_bytes));
    }

    fn cancel(&mut self, id: TimerId) {
        if !on(Mutant::T4CancelledFires) {
            self.remove(id);
        }
        if self.cancelled.len() == CANCELLED_KEPT {
            self.forgotten = self.forgotten.max(self.cancelled.pop_front());
        }
        self.cancelled.push_back(id);
    }

    fn ended(&self, timer: TimerId) -> Refusal {
        Refusal::TimerEnded { timer, was: self.standing(timer) }
    }
}

impl State {
    pub(super) fn timer_command(&mut self, term: u32, command: &TimerCommand) -> Outcome {
        match command {
            TimerCommand::Set { sender, timer } => {
                if let Some((id, epoch)) = *sender {
                    self.check_producer_epoch(&ProducerStamp { id, epoch, base_sequence: 0 })?;
                }
                self.check_timers(term, std::slice::from_ref(timer), 0)?;
                let id = TimerId(self.timers.next);
                let placement = self.set_timer(term, timer, 0);
                Ok(Applied {
                    placements: smallvec![placement],
                    ..Applied::only(Reply::TimerSet { timer: id })
                })
            }
            TimerCommand::Cancel { timer } => {
                let standing = self.timers.standing(*timer);
                if standing == Cancellation::Cancelled {
                    self.timers.cancel(*timer);
                }
                let timers_start = self.trim_timers();
                Ok(Applied { timers_start, ..Applied::only(Reply::TimerCancelled(standing)) })
            }
            TimerCommand::Fire { timer, batch } => self.fire_timer(term, *timer, batch),
            TimerCommand::Carry { payloads } => self.carry_timers(term, payloads),
        }
    }

    /// Everything that can refuse what a commit does to timers.
    pub(super) fn check_timer_effects(&self, term: u32, effects: &TimerEffects) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for timer in &effects.cancel {
            if self.timers.get(*timer).is_none() {
                return Err(self.timers.ended(*timer));
            }
            if !seen.insert(*timer) {
                return Err(Refusal::TimerEnded { timer: *timer, was: Cancellation::CancelledBefore });
            }
        }
        match effects.set.is_empty() {
            true => Ok(()),
            false => self.check_timers(term, &effects.set, effects.cancel.len() as u64),
        }
    }

    /// What was checked before. `first_index` is that of the first timer's batch in the command.
    pub(super) fn apply_timer_effects(
        &mut self,
        term: u32,
        effects: &TimerEffects,
        first_index: u32,
    ) -> (SmallVec<[Placement; 1]>, Option<TimerId>, Option<u64>) {
        let first_timer = (!effects.set.is_empty()).then_some(TimerId(self.timers.next));
        if let Some(first) = first_timer {
            self.timers.commits.insert(self.lsn, first);
        }
        let set = effects.set.iter().zip(first_index..);
        let placements = set.map(|(timer, index)| self.set_timer(term, timer, index)).collect();
        effects.cancel.iter().for_each(|timer| self.timers.cancel(*timer));
        (placements, first_timer, self.trim_timers())
    }

    /// `ending` timers end by the same command.
    fn check_timers(&self, term: u32, set: &[NewTimer], ending: u64) -> Result<(), Refusal> {
        let TimerLimits { count_max, delay_max_ms } = self.timers.limits;
        let (waiting, sent) = (self.timers.len() as u64, set.len() as u64);
        let ids_left = u64::MAX - self.timers.next;
        if sent > ids_left || waiting.saturating_sub(ending).saturating_add(sent) > count_max {
            return Err(Refusal::TooManyTimers { waiting, sent, max: count_max });
        }
        let records: u64 = set.iter().map(|timer| u64::from(timer.batch.record_count())).sum();
        let hidden_end = self.partition(Partition::TIMERS).map_or(0, |hidden| hidden.end);
        for NewTimer { target, due_ms, batch } in set {
            if batch.producer().is_some() {
                return Err(Refusal::Batch { what: "carries a producer id, and waits in a timer" });
            }
            let arrival = Arrival { partition: *target, batch, index: 0, term, txn_seq: 0 };
            // Also when it fires. What is known to fail already isn't taken at all.
            self.check_batch(&arrival, u64::from(batch.record_count()))?;
            let delay_ms = u64::try_from(due_ms.saturating_sub(self.time_ms)).unwrap_or(0);
            if delay_ms > delay_max_ms {
                return Err(Refusal::DelayTooLong { due_ms: *due_ms, delay_ms, max_ms: delay_max_ms });
            }
        }
        self.check_hidden_room(hidden_end, records)
    }

    fn check_hidden_room(&self, end: u64, records: u64) -> Result<(), Refusal> {
        match records > (i64::MAX as u64).saturating_sub(end) {
            true => Err(Refusal::OffsetsExhausted { partition: Partition::TIMERS, end, records }),
            false => Ok(()),
        }
    }

    /// Sets a timer that passed every check.
    fn set_timer(&mut self, term: u32, new: &NewTimer, index: u32) -> Placement {
        self.topics.entry(TopicId::TIMERS).or_insert_with(hidden_topic);
        let id = TimerId(self.timers.next);
        self.timers.next += 1;
        let stored_before = self.timers.stored_bytes;
        let (placement, payload_bytes) = self.store_payload(term, &new.batch, index);
        self.timers.enter(
            id,
            Timer {
                due_ms: new.due_ms,
                target: new.target,
                payload_offset: placement.base_offset,
                payload_bytes,
                payload_crc: new.batch.crc(),
                stored_before,
                failure: None,
            },
        );
        placement
    }

    fn store_payload(&mut self, term: u32, batch: &Batch, index: u32) -> (Placement, u32) {
        let bytes = batch.len_bytes() as u32;
        self.timers.stored_bytes = self.timers.stored_bytes.saturating_add(u64::from(bytes));
        let arrival = Arrival { partition: Partition::TIMERS, batch, index, term, txn_seq: 0 };
        (self.place_batch(&arrival), bytes)
    }

    fn fire_timer(&mut self, term: u32, id: TimerId, batch: &Batch) -> Outcome {
        let timer = self.payload_of(id, batch)?;
        if let Some(failure) = timer.failure {
            return Err(Refusal::TimerStuck { timer: id, failure });
        }
        let Timer { due_ms, target, .. } = timer;
        if self.time_ms < due_ms && !on(Mutant::T2FiresBeforeDue) {
            return Err(Refusal::TimerNotDue { timer: id, due_ms, now_ms: self.time_ms });
        }
        let arrival = Arrival { partition: target, batch, index: 0, term, txn_seq: 0 };
        if let Err(refusal) = self.check_batch(&arrival, u64::from(batch.record_count())) {
            return self.get_stuck(id, timer, refusal);
        }
        let placement = self.place_batch(&arrival);
        match on(Mutant::T1FiresTwice) {
            true => drop(self.timers.due.remove(&(due_ms, id))),
            false => self.timers.remove(id),
        }
        let timers_start = self.trim_timers();
        let reply = Reply::TimerFired { partition: target, base_offset: placement.base_offset, due_ms };
        Ok(Applied { placements: smallvec![placement], timers_start, ..Applied::only(reply) })
    }

    /// The batch can't go where it was to go: nothing of it is lost, and whoever looks is told why.
    fn get_stuck(&mut self, id: TimerId, timer: Timer, refusal: Refusal) -> Outcome {
        let failure = match refusal {
            Refusal::UnknownTopic { .. } | Refusal::UnknownPartition { .. } => TimerFailure::NoTarget,
            Refusal::BatchTooLarge { .. } => TimerFailure::TooLarge,
            Refusal::OffsetsExhausted { .. } => TimerFailure::NoRoom,
            // Of the term, which another open may mend: it stays due.
            refusal => return Err(refusal),
        };
        self.timers.remove(id);
        self.timers.enter(id, Timer { failure: Some(failure), ..timer });
        done(Reply::TimerFailed(failure))
    }

    /// The settings of a topic changed: what is stuck there is due again.
    pub(super) fn free_stuck_timers(&mut self, topic: TopicId) {
        let freed = self.timers.stuck().filter(|(_, timer)| timer.target.topic == topic);
        let freed: Vec<(TimerId, Timer)> = freed.map(|(id, timer)| (id, *timer)).collect();
        for (id, timer) in freed {
            self.timers.remove(id);
            self.timers.enter(id, Timer { failure: None, ..timer });
        }
    }

    fn carry_timers(&mut self, term: u32, payloads: &[(TimerId, Batch)]) -> Outcome {
        let mut seen = BTreeSet::new();
        for (id, batch) in payloads {
            self.payload_of(*id, batch)?;
            if !seen.insert(*id) {
                return Err(Refusal::TimerPayload { timer: *id });
            }
        }
        let records: u64 = payloads.iter().map(|(_, batch)| u64::from(batch.record_count())).sum();
        self.check_hidden_room(self.partition(Partition::TIMERS).map_or(0, |hidden| hidden.end), records)?;
        let mut placements = SmallVec::new();
        for ((id, batch), index) in payloads.iter().zip(0..) {
            let Some(timer) = self.timers.get(*id).copied() else { continue };
            let stored_before = self.timers.stored_bytes;
            let (placement, _) = self.store_payload(term, batch, index);
            self.timers.remove(*id);
            self.timers.enter(*id, Timer { payload_offset: placement.base_offset, stored_before, ..timer });
            placements.push(placement);
        }
        let timers_start = self.trim_timers();
        Ok(Applied { placements, timers_start, ..Applied::only(Reply::TimersCarried) })
    }

    /// The timer, if it hasn't ended and was set with this batch.
    fn payload_of(&self, id: TimerId, batch: &Batch) -> Result<Timer, Refusal> {
        let timer = *self.timers.get(id).ok_or_else(|| self.timers.ended(id))?;
        let same = (batch.crc(), batch.len_bytes()) == (timer.payload_crc, timer.payload_bytes as usize);
        match same && check_shape(batch).is_ok() {
            true => Ok(timer),
            false => Err(Refusal::TimerPayload { timer: id }),
        }
    }

    /// Lets go of what lies before the oldest payload that is needed; the new start, if it moved.
    fn trim_timers(&mut self) -> Option<u64> {
        let hidden = self.partition(Partition::TIMERS)?;
        let oldest = match on(Mutant::T3PayloadTrimmed) {
            true => self.timers.payloads.iter().last(),
            false => self.timers.payloads.first(),
        };
        let needed_from = oldest.map_or(hidden.end, |(offset, _)| *offset);
        if needed_from <= hidden.start {
            return None;
        }
        self.partition_mut(Partition::TIMERS).trim(needed_from);
        Some(needed_from)
    }

    pub(super) fn limit_timers(&mut self, count_max: u64, delay_max_ms: u64) -> Result<(), Refusal> {
        check_bounds("delivery.timers.max", count_max, 0, TIMERS_MOST)?;
        check_bounds("delivery.delay.max.ms", delay_max_ms, 1, super::SETTING_MS_MAX)?;
        self.timers.limits = TimerLimits { count_max, delay_max_ms };
        Ok(())
    }
}

/// The topic that holds payloads, as it is made with the first timer.
fn hidden_topic() -> Arc<Topic> {
    let name = format!("__timers-{}", Partition::TIMERS.index);
    let config = TopicConfig { segment_bytes: 16 * 1024 * 1024, ..TopicConfig::default() };
    Arc::new(Topic { name, config, config_version: 0, partitions: vec![Arc::default()] })
}
