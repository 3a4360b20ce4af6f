//! One log event for each event that was processed, put off, left out or given up: what `tracing` subscribers write,
//! as JSON say. They are told when the commit is done, so a line is never about what didn't become true.
//!
//! Payloads and keys are never among it.

use crate::dedup::{event_id, event_type};
use crate::failure::Failure;
use crate::outbox::End;
use crate::parked::{Wait, Waiting};
use crate::round::{Item, Verdict};
use crate::trace::trace_id;
use exactlog::Record;
use std::sync::Arc;
use std::time::Duration;

/// What is said of one event.
#[derive(Debug)]
pub(crate) struct Line {
    what: What,
    topic: Arc<str>,
    partition: u32,
    offset: u64,
    event_id: String,
    event_type: Option<String>,
    trace_id: String,
    attempt: u32,
    took: Duration,
}

#[derive(Debug)]
enum What {
    Processed {
        outcome: &'static str,
    },
    DuplicateSkipped,
    RetryScheduled {
        failure: Failure,
        due_ms: i64,
    },
    /// Its handler is called again.
    Continues {
        failure: Option<Failure>,
        due_ms: i64,
    },
    DeadLettered {
        failure: Failure,
    },
}

/// Whether anybody listens: otherwise nothing is collected.
pub(crate) fn are_wanted() -> bool {
    tracing::enabled!(target: "exactlog_flow::events", tracing::Level::ERROR)
}

impl Line {
    /// What there is to say of an event; of one that just waits for others nothing.
    pub(crate) fn of(item: &Item, verdict: &Verdict) -> Option<Line> {
        let (what, attempt) = match verdict {
            Verdict::Done { outcome, .. } => (What::Processed { outcome }, item.attempts() + 1),
            Verdict::Duplicate => (What::DuplicateSkipped, item.attempts()),
            Verdict::Wait {
                wait: Wait { waiting: Waiting::Parked, due_ms, attempts, .. }, failure, ..
            } => {
                let failure = failure.clone()?;
                (What::RetryScheduled { failure, due_ms: *due_ms }, *attempts)
            }
            // A stage of its handler is done, or was given up.
            Verdict::Wait { wait: Wait { due_ms, attempts: 0, .. }, failure, outbox } => match outbox.end() {
                End::Again { .. } => {
                    (What::Continues { failure: failure.clone(), due_ms: *due_ms }, item.attempts() + 1)
                }
                _ => return None,
            },
            Verdict::Wait { .. } => return None,
            Verdict::Dead { failure, attempts, .. } => {
                (What::DeadLettered { failure: failure.clone() }, *attempts)
            }
        };
        let record: &Record = &item.record;
        Some(Line {
            what,
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            event_id: event_id(record),
            event_type: event_type(record).map(str::to_owned),
            trace_id: trace_id(record).unwrap_or_default().to_string(),
            attempt,
            took: item.took,
        })
    }

    pub(crate) fn tell(&self, group: &str, max_attempts: u32) {
        let Line { what, topic, partition, offset, event_id, event_type, trace_id, attempt, took } = self;
        let (event_type, duration_ms) = (event_type.as_deref().unwrap_or_default(), took.as_secs_f64() * 1e3);
        macro_rules! tell {
            ($level:ident, $event:literal, $success:literal, $($field:tt)*) => {
                tracing::$level!(
                    target: "exactlog_flow::events",
                    event = $event,
                    group,
                    %topic,
                    partition,
                    offset,
                    event_id,
                    event_type,
                    trace_id,
                    attempt,
                    max_attempts,
                    duration_ms,
                    success = $success,
                    $($field)*
                )
            };
        }
        match what {
            What::Processed { outcome } => tell!(info, "event.processed", true, outcome),
            What::DuplicateSkipped => tell!(info, "event.duplicate_skipped", true, outcome = "duplicate"),
            What::RetryScheduled { failure, due_ms } => tell!(
                warn,
                "event.retry_scheduled",
                false,
                due_ms,
                "error.type" = failure.kind(),
                "error.message" = failure.message()
            ),
            What::Continues { failure: None, due_ms } => tell!(info, "event.continues", true, due_ms),
            What::Continues { failure: Some(failure), due_ms } => tell!(
                warn,
                "event.continues",
                false,
                due_ms,
                "error.type" = failure.kind(),
                "error.message" = failure.message()
            ),
            What::DeadLettered { failure } => tell!(
                error,
                "event.dead_lettered",
                false,
                "error.type" = failure.kind(),
                "error.message" = failure.message()
            ),
        }
    }
}
