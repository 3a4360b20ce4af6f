//! `retry`: events of a processor that wait to be tried again, and when attempts are made.

use crate::args::{Global, RetryVerb};
use crate::failure::Failure;
use crate::open;
use crate::place::no_such_group;
use crate::report::{Column, Report, column, wide};
use crate::table::text;
use exactlog::Log;
use exactlog_flow::{Retry, Waiting, WaitingEvent};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const WAITING: &[Column] = &[
    column("topic"),
    column("partition"),
    column("offset"),
    column("why"),
    column("attempts"),
    column("due"),
    column("first_failed"),
    column("error"),
    column("key"),
    wide("due_ms"),
    wide("first_failed_ms"),
];
const SCHEDULE: &[Column] = &[column("attempt"), column("at_seconds"), column("wait_seconds")];

pub(crate) fn run(global: &Global, verb: RetryVerb) -> Result<Report, Failure> {
    match verb {
        RetryVerb::List { group } => open::looking(global, |log| list(log, &group)),
        RetryVerb::Explain { max_attempts, initial, multiplier, max } => {
            let defaults = Retry::default();
            let retry = Retry::default().max_attempts(max_attempts.unwrap_or(defaults.max_attempts)).backoff(
                initial.unwrap_or(defaults.initial),
                multiplier.unwrap_or(defaults.multiplier),
                max.unwrap_or(defaults.max),
            );
            explain(&retry)
        }
    }
}

fn list(log: &Log, group: &str) -> Result<Report, Failure> {
    let state = exactlog_flow::inspect(log, group).map_err(|error| match error {
        exactlog_flow::Error::Log(exactlog::Error::NoSuchTable { .. }) => match log.group(group) {
            None => {
                let groups = log.group_names();
                no_such_group(group, groups.iter().map(|(name, _)| name.as_str()))
            }
            Some(_) => Failure::new(
                "NO_SUCH_GROUP",
                format!("group {group:?} has no processor, and waits for nothing"),
            )
            .hint(format!("exactlog group describe {group} shows its positions")),
        },
        error => error.into(),
    })?;
    let rows = state.waiting.iter().map(row).collect();
    Ok(Report::table("waiting_events", WAITING, rows)
        .field("group", group)
        .field("waiting", state.waiting.len()))
}

fn row(event: &WaitingEvent) -> Vec<Value> {
    let record = &event.record;
    // One behind an earlier one has no time of its own.
    let due_ms = Some(event.due_ms).filter(|_| event.waiting != Waiting::Blocked);
    vec![
        json!(&*record.topic),
        json!(record.partition),
        json!(record.offset),
        json!(why(event.waiting)),
        json!(event.attempts),
        time(due_ms),
        time(event.first_failed_ms),
        json!(event.error),
        json!(record.key.as_ref().map(|key| text(key))),
        json!(due_ms),
        json!(event.first_failed_ms),
    ]
}

fn why(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Parked => "parked",
        Waiting::Blocked => "blocked",
        Waiting::Held => "held",
    }
}

/// As text; a number that is no time stays one.
pub(crate) fn time(ms: Option<i64>) -> Value {
    match ms.map(|ms| (ms, Timestamp::from_millisecond(ms))) {
        None => Value::Null,
        Some((_, Ok(time))) => json!(time.to_string()),
        Some((ms, Err(_))) => json!(ms),
    }
}

fn explain(retry: &Retry) -> Result<Report, Failure> {
    if retry.initial > retry.max {
        let (initial, max) = (retry.initial, retry.max);
        let what = format!("the first wait is {initial:?}, which is longer than the longest, {max:?}");
        return Err(Failure::usage(what).hint("--max sets the longest"));
    }
    let schedule = retry.schedule();
    let before = std::iter::once(Duration::ZERO).chain(schedule.iter().copied());
    let row = |((at, before), attempt): ((&Duration, Duration), u32)| {
        vec![json!(attempt), json!(at.as_secs_f64()), json!(at.saturating_sub(before).as_secs_f64())]
    };
    let rows = schedule.iter().zip(before).zip(1..).map(row).collect();
    Ok(Report::table("attempts", SCHEDULE, rows)
        .field("retry.max.attempts", retry.max_attempts)
        .field("retry.backoff.initial.ms", retry.initial.as_millis() as u64)
        .field("retry.backoff.multiplier", retry.multiplier)
        .field("retry.backoff.max.ms", retry.max.as_millis() as u64)
        .note("then it goes to the dead letters; exactlog dlq list shows them"))
}
