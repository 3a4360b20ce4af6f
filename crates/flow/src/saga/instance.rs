//! What is known of one saga: a machine that says which step comes next, and takes in how it went.
//!
//! ```text
//!   RUNNING -> COMPLETED
//!   RUNNING -> COMPENSATING -> COMPENSATED
//!                           \-> COMPENSATION_FAILED -> COMPENSATING   when it is tried once more
//!
//!   step:  PENDING -> DONE -> COMPENSATED | COMPENSATION_FAILED
//!                 \-> FAILED                  PENDING -> SKIPPED, behind one that has failed
//! ```
//!
//! Invariants
//!   * steps are done in their order, and compensated in the reverse of it
//!   * what is COMPENSATED has no step that is DONE and could be compensated
//!   * what has ended changes no more, but for COMPENSATION_FAILED

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a saga is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SagaStatus {
    /// Its steps are being done.
    Running,
    /// All of them are.
    Completed,
    /// A step has failed, and those before it are being compensated.
    Compensating,
    /// They are.
    Compensated,
    /// Some couldn't be.
    CompensationFailed,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepStatus {
    /// Its turn hasn't come, or it is being done.
    Pending,
    /// It is done.
    Done,
    /// It has failed for good.
    Failed,
    /// It was done, and its compensation is, too.
    Compensated,
    /// It was done, and its compensation has failed for good.
    CompensationFailed,
    /// A step before it has failed: it was never begun.
    Skipped,
}

/// One saga, as the table `saga.<name>` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SagaInstance {
    /// Its id: that of its event.
    pub id: String,
    /// The saga's name.
    pub saga: String,
    /// Version of the saga's code when it began.
    pub version: u32,
    /// Where it is.
    pub status: SagaStatus,
    /// The group that does it.
    pub group: String,
    /// Topic of its event.
    pub topic: String,
    /// Id of that topic.
    pub topic_id: u32,
    /// The event's partition.
    pub partition: u32,
    /// The event's offset.
    pub offset: u64,
    /// Where its event is buried if a compensation fails.
    pub dead_letter_topic: String,
    /// When it began, ms since 1970.
    pub began_ms: i64,
    /// When it changed last, ms since 1970.
    pub changed_ms: i64,
    /// What it was compensated for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<StepFailure>,
    /// Its steps, in their order.
    pub steps: Vec<SagaStep>,
}

/// A step of a saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SagaStep {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub status: StepStatus,
    /// Whether there is something that compensates it.
    pub has_compensation: bool,
    /// What it has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Value>,
    /// Why it failed, or its compensation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Which step has failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepFailure {
    /// The step's name.
    pub step: String,
    /// Stable name of the error.
    pub kind: String,
    /// Its text.
    pub message: String,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This step.
    Do(usize),
    /// What compensates this step.
    Undo(usize),
    /// Nothing: it has ended.
    Nothing,
}

/// What follows when a compensation has failed (`saga.compensation.on.failure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCompensationFailure {
    /// The others are compensated all the same.
    #[default]
    Continue,
    /// Nothing more is compensated until it is tried once more.
    Stop,
}

impl SagaInstance {
    pub(crate) fn next(&self) -> Next {
        match self.status {
            SagaStatus::Running => {
                let pending = self.steps.iter().position(|step| step.status == StepStatus::Pending);
                pending.map_or(Next::Nothing, Next::Do)
            }
            SagaStatus::Compensating => {
                let undoes = |step: &SagaStep| step.status == StepStatus::Done && step.has_compensation;
                self.steps.iter().rposition(undoes).map_or(Next::Nothing, Next::Undo)
            }
            _ => Next::Nothing,
        }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, nth: usize, result: Value) {
        let step = &mut self.steps[nth];
        (step.status, step.result, step.error) = (StepStatus::Done, Some(result), None);
        if self.next() == Next::Nothing {
            self.status = SagaStatus::Completed;
        }
    }

    /// A step has failed for good.
    pub(crate) fn failed(&mut self, nth: usize, failure: &Failure) {
        let step = &mut self.steps[nth];
        (step.status, step.error) = (StepStatus::Failed, Some(failure.to_string()));
        let (kind, message) = (failure.kind().to_string(), failure.message().to_string());
        self.failure = Some(StepFailure { step: step.name.clone(), kind, message });
        for step in &mut self.steps[nth + 1..] {
            step.status = StepStatus::Skipped;
        }
        self.status = SagaStatus::Compensating;
        self.end_if_nothing_is_left();
    }

    /// A step is compensated.
    pub(crate) fn undone(&mut self, nth: usize) {
        let step = &mut self.steps[nth];
        (step.status, step.error) = (StepStatus::Compensated, None);
        self.end_if_nothing_is_left();
    }

    /// The compensation of a step has failed for good.
    pub(crate) fn undo_failed(&mut self, nth: usize, failure: &Failure, then: OnCompensationFailure) {
        let step = &mut self.steps[nth];
        (step.status, step.error) = (StepStatus::CompensationFailed, Some(failure.to_string()));
        match then {
            OnCompensationFailure::Continue => self.end_if_nothing_is_left(),
            OnCompensationFailure::Stop => self.status = SagaStatus::CompensationFailed,
        }
    }

    /// What couldn't be compensated is tried once more.
    pub(crate) fn resume(&mut self) {
        for step in self.steps.iter_mut().filter(|step| step.status == StepStatus::CompensationFailed) {
            step.status = StepStatus::Done;
        }
        self.status = SagaStatus::Compensating;
    }

    /// Name of the step that is being done or compensated; none: it has ended.
    pub fn next_step(&self) -> Option<&str> {
        match self.next() {
            Next::Do(nth) | Next::Undo(nth) => Some(&self.steps[nth].name),
            Next::Nothing => None,
        }
    }

    /// Steps that couldn't be compensated.
    pub fn not_compensated(&self) -> impl Iterator<Item = &SagaStep> {
        self.steps.iter().filter(|step| step.status == StepStatus::CompensationFailed)
    }

    fn end_if_nothing_is_left(&mut self) {
        if self.next() == Next::Nothing {
            let is_left = self.not_compensated().next().is_some();
            self.status = if is_left { SagaStatus::CompensationFailed } else { SagaStatus::Compensated };
        }
    }
}

impl SagaStatus {
    /// Its name, as tables and the command line have it.
    pub fn name(self) -> &'static str {
        match self {
            SagaStatus::Running => "RUNNING",
            SagaStatus::Completed => "COMPLETED",
            SagaStatus::Compensating => "COMPENSATING",
            SagaStatus::Compensated => "COMPENSATED",
            SagaStatus::CompensationFailed => "COMPENSATION_FAILED",
        }
    }

    /// All of them.
    pub const ALL: [SagaStatus; 5] = [
        SagaStatus::Running,
        SagaStatus::Completed,
        SagaStatus::Compensating,
        SagaStatus::Compensated,
        SagaStatus::CompensationFailed,
    ];
}

impl StepStatus {
    /// Its name, as tables and the command line have it.
    pub fn name(self) -> &'static str {
        match self {
            StepStatus::Pending => "PENDING",
            StepStatus::Done => "DONE",
            StepStatus::Failed => "FAILED",
            StepStatus::Compensated => "COMPENSATED",
            StepStatus::CompensationFailed => "COMPENSATION_FAILED",
            StepStatus::Skipped => "SKIPPED",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn instance(compensations: &[bool]) -> SagaInstance {
        let step = |(nth, has_compensation): (usize, &bool)| SagaStep {
            name: format!("s{nth}"),
            status: StepStatus::Pending,
            has_compensation: *has_compensation,
            result: None,
            error: None,
        };
        SagaInstance {
            id: "order-1".into(),
            saga: "order".into(),
            version: 1,
            status: SagaStatus::Running,
            group: "g".into(),
            topic: "orders".into(),
            topic_id: 1,
            partition: 0,
            offset: 0,
            dead_letter_topic: "dlq.orders".into(),
            began_ms: 0,
            changed_ms: 0,
            failure: None,
            steps: compensations.iter().enumerate().map(step).collect(),
        }
    }

    fn failure() -> Failure {
        Failure::permanent("No", "no")
    }

    #[test]
    fn names_are_those_that_are_stored() {
        for status in SagaStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
        for status in [
            StepStatus::Pending,
            StepStatus::Done,
            StepStatus::Failed,
            StepStatus::Compensated,
            StepStatus::CompensationFailed,
            StepStatus::Skipped,
        ] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }

    /// Runs one to its end; what was done and undone, by number.
    fn run(
        saga: &mut SagaInstance,
        goes_well: &[bool],
        then: OnCompensationFailure,
    ) -> (Vec<usize>, Vec<usize>) {
        let (mut done, mut undone, mut well) = (Vec::new(), Vec::new(), goes_well.iter().copied().cycle());
        loop {
            match (saga.next(), well.next().unwrap()) {
                (Next::Nothing, _) => return (done, undone),
                (Next::Do(nth), true) => {
                    done.push(nth);
                    saga.done(nth, Value::from(nth));
                }
                (Next::Do(nth), false) => saga.failed(nth, &failure()),
                (Next::Undo(nth), true) => {
                    undone.push(nth);
                    saga.undone(nth);
                }
                (Next::Undo(nth), false) => saga.undo_failed(nth, &failure(), then),
            }
        }
    }

    #[test]
    fn every_status_of_a_saga_and_of_a_step_is_reached() {
        let (mut sagas, mut steps) = (BTreeSet::new(), BTreeSet::new());
        let mut see = |saga: &SagaInstance| {
            sagas.insert(saga.status.name());
            steps.extend(saga.steps.iter().map(|step| step.status.name()));
        };
        let mut saga = instance(&[true, true, false, true]);
        see(&saga);
        saga.done(0, Value::Null);
        saga.done(1, Value::Null);
        saga.failed(2, &failure());
        see(&saga);
        saga.undo_failed(1, &failure(), OnCompensationFailure::Continue);
        saga.undone(0);
        see(&saga);
        saga.resume();
        assert_eq!(saga.next(), Next::Undo(1));
        saga.undone(1);
        see(&saga);
        let mut saga = instance(&[false]);
        saga.done(0, Value::Null);
        see(&saga);
        assert_eq!((sagas.len(), steps.len()), (5, 6));
    }

    proptest! {
        #[test]
        fn what_was_done_is_undone_in_reverse_or_named(
            compensations in prop::collection::vec(any::<bool>(), 1..6),
            goes_well in prop::collection::vec(prop::bool::weighted(0.7), 1..12),
            stops in any::<bool>(),
            again in prop::collection::vec(prop::bool::weighted(0.7), 1..6),
        ) {
            let mut saga = instance(&compensations);
            let then = if stops { OnCompensationFailure::Stop } else { OnCompensationFailure::Continue };
            let (done, mut undone) = run(&mut saga, &goes_well, then);
            prop_assert_eq!(&done, &(0..done.len()).collect::<Vec<_>>());
            prop_assert!(undone.iter().rev().is_sorted());
            prop_assert_eq!(saga.status == SagaStatus::Completed, done.len() == compensations.len());
            prop_assert_eq!(saga.failure.is_none(), saga.status == SagaStatus::Completed);
            let mut tries = 0;
            while saga.status == SagaStatus::CompensationFailed && tries < 20 {
                prop_assert!(saga.not_compensated().count() > 0);
                saga.resume();
                let goes_well: Vec<bool> = again.iter().copied().cycle().skip(tries).take(5).collect();
                let (more, now_undone) = run(&mut saga, &goes_well, then);
                prop_assert_eq!(more, Vec::<usize>::new());
                undone.extend(now_undone);
                tries += 1;
            }
            if saga.status == SagaStatus::Compensated {
                let mut all: Vec<usize> = done.into_iter().filter(|nth| compensations[*nth]).collect();
                undone.sort_unstable();
                all.sort_unstable();
                prop_assert_eq!(undone, all, "each once");
                prop_assert!(saga.steps.iter().all(|it| it.status != StepStatus::Done || !it.has_compensation));
            }
        }
    }
}
