//! `timer`: events that are to be delivered later. They are set by `produce --deliver-after` and `--deliver-at`.
//!
//! They come into their topics while some process has the log open to write: `produce` and `consume --group` do.

use crate::args::{Global, TimerVerb};
use crate::failure::Failure;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::topic::{DRY_RUN, close};
use exactlog::{Cancellation, Log, TimerDetails, TimerId, TimerLimits};
use serde_json::{Value, json};

const LIST: &[Column] = &[
    column("timer"),
    column("due_ms"),
    column("due_in_seconds"),
    column("topic"),
    column("partition"),
    column("state"),
    wide("bytes"),
    wide("reason"),
];
const CANCEL: &[Column] = &[column("timer"), column("outcome"), column("topic"), column("due_ms")];

pub(crate) fn run(global: &Global, verb: TimerVerb) -> Result<Report, Failure> {
    match verb {
        TimerVerb::List { limit } => open::looking(global, |log| list(log, limit)),
        TimerVerb::Cancel { timers, execute: false } => open::looking(global, |log| show(log, &timers)),
        TimerVerb::Cancel { timers, execute: true } => cancel(global, &timers),
        TimerVerb::Limits { count, delay } => {
            limits(global, count, delay.map(|delay| delay.as_millis() as u64))
        }
    }
}

fn list(log: &Log, limit: usize) -> Result<Report, Failure> {
    let now_ms = open::now_ms();
    let metrics = log.metrics().timers;
    let row = |timer: &TimerDetails| {
        vec![
            json!(timer.timer.0),
            json!(timer.due_ms),
            json!((timer.due_ms - now_ms) as f64 / 1000.0),
            json!(timer.topic),
            json!(timer.partition),
            json!(state(timer, now_ms)),
            json!(timer.bytes),
            json!(timer.stuck.map(|stuck| stuck.text())),
        ]
    };
    let rows = log.timers(limit).iter().map(row).collect();
    Ok(Report::table("timers", LIST, rows).field("waiting", metrics.waiting).field("stuck", metrics.stuck))
}

fn state(timer: &TimerDetails, now_ms: i64) -> &'static str {
    match timer.stuck {
        Some(_) => "stuck",
        None if timer.due_ms <= now_ms => "due",
        None => "waiting",
    }
}

/// What would be given up.
fn show(log: &Log, timers: &[u64]) -> Result<Report, Failure> {
    let mut rows = Vec::new();
    for timer in timers {
        let found = log.timer(TimerId(*timer))?;
        rows.push(match found {
            Some((details, _)) => row(*timer, "would be cancelled", Some(&details)),
            None => row(*timer, "doesn't wait", None),
        });
    }
    Ok(Report::table("timers", CANCEL, rows).field("dry_run", true).note(DRY_RUN))
}

fn cancel(global: &Global, timers: &[u64]) -> Result<Report, Failure> {
    let log = open::write_existing(global)?;
    let (mut rows, mut cancelled) = (Vec::new(), 0);
    for timer in timers {
        let details = log.timer(TimerId(*timer)).ok().flatten().map(|(details, _)| details);
        let outcome = log.cancel(TimerId(*timer))?;
        cancelled += u64::from(outcome == Cancellation::Cancelled);
        rows.push(row(*timer, outcome_name(outcome), details.as_ref()));
    }
    close(log)?;
    let all = cancelled == timers.len() as u64;
    let report = Report::table("timers", CANCEL, rows).field("dry_run", false).field("cancelled", cancelled);
    Ok(report.exit(if all { 0 } else { 1 }))
}

fn row(timer: u64, outcome: &str, details: Option<&TimerDetails>) -> Vec<Value> {
    let (topic, due_ms) = (details.and_then(|it| it.topic.clone()), details.map(|it| it.due_ms));
    vec![json!(timer), json!(outcome), json!(topic), json!(due_ms)]
}

fn outcome_name(outcome: Cancellation) -> &'static str {
    match outcome {
        Cancellation::Cancelled => "cancelled",
        Cancellation::CancelledBefore => "cancelled before",
        Cancellation::Fired => "has fired",
        Cancellation::Ended => "has ended",
        Cancellation::NeverSet => "never set",
    }
}

fn limits(global: &Global, count: Option<u64>, delay_ms: Option<u64>) -> Result<Report, Failure> {
    let report = |TimerLimits { count_max, delay_max_ms }| {
        Report::fields().field("delivery.timers.max", count_max).field("delivery.delay.max.ms", delay_max_ms)
    };
    if count.is_none() && delay_ms.is_none() {
        return open::looking(global, |log| Ok(report(log.timer_limits())));
    }
    let log = open::write_existing(global)?;
    let mut limits = log.timer_limits();
    limits.count_max = count.unwrap_or(limits.count_max);
    limits.delay_max_ms = delay_ms.unwrap_or(limits.delay_max_ms);
    log.set_timer_limits(limits)?;
    close(log)?;
    Ok(report(limits))
}
