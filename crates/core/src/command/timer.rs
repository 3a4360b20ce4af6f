//! The commands of timers: a batch that waits until its time and then becomes part of its partition.
//!
//! Invariants
//!   * a batch travels in the command that sets its timer, and again in the one that fires it: `apply` reads no file

use crate::batch::Batch;
use crate::ids::{Partition, ProducerId, TimerId};

/// A change of the timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerCommand {
    /// Keeps a batch until its time.
    Set {
        /// Who sets it, with its epoch: a producer that is fenced sets none.
        sender: Option<(ProducerId, i16)>,
        /// The timer.
        timer: NewTimer,
    },
    /// Gives a timer up. It never fires then.
    Cancel {
        /// The timer.
        timer: TimerId,
    },
    /// The time of a timer has come: it ends, and its batch becomes part of its partition.
    Fire {
        /// The timer.
        timer: TimerId,
        /// What it was set with, as it was read.
        batch: Batch,
    },
    /// Writes payloads again at the end of the hidden partition, so that what they held back there can go.
    Carry {
        /// Timers with what they were set with, those first whose payloads lie first.
        payloads: Vec<(TimerId, Batch)>,
    },
}

impl TimerCommand {
    /// The command's name, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            TimerCommand::Set { .. } => "SetTimer",
            TimerCommand::Cancel { .. } => "CancelTimer",
            TimerCommand::Fire { .. } => "FireTimer",
            TimerCommand::Carry { .. } => "CarryTimers",
        }
    }

    /// Its batches, in the order of their bodies.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        let (one, many) = match self {
            TimerCommand::Set { timer, .. } => (Some(&timer.batch), &[][..]),
            TimerCommand::Cancel { .. } => (None, &[][..]),
            TimerCommand::Fire { batch, .. } => (Some(batch), &[][..]),
            TimerCommand::Carry { payloads } => (None, &payloads[..]),
        };
        one.into_iter().chain(many.iter().map(|(_, batch)| batch))
    }
}

/// A timer that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTimer {
    /// Where the batch is to go.
    pub target: Partition,
    /// When, ms since 1970. A time that has passed is due at once.
    pub due_ms: i64,
    /// What is to go there, without a producer id.
    pub batch: Batch,
}

/// What a commit does to timers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerEffects {
    /// Timers that are set; their ids follow each other in this order.
    pub set: Vec<NewTimer>,
    /// Timers that are given up. One that waits no more refuses the commit.
    pub cancel: Vec<TimerId>,
}

impl TimerEffects {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.cancel.is_empty()
    }
}

/// Most timers that wait at a time (`delivery.timers.max`), if no `Config` says otherwise.
pub const TIMERS_MAX: u64 = 1_000_000;
/// Longest time that a timer waits, in ms (`delivery.delay.max.ms`), if no `Config` says otherwise: 365 days.
pub const DELAY_MAX_MS: u64 = 31_536_000_000;
