//! `saga`: what has steps that are done all or undone, and which of it could not be undone.

use crate::args::{Global, SagaVerb};
use crate::failure::Failure;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::retry::time;
use crate::suggest;
use crate::topic::{DRY_RUN, close};
use exactlog::Log;
use exactlog_flow::{SagaInstance, SagaStatus, Sagas};
use serde_json::{Value, json};

const NAMES: &[Column] = &[
    column("saga"),
    column("running"),
    column("compensating"),
    column("completed"),
    column("compensated"),
    column("compensation_failed"),
];
const LIST: &[Column] = &[
    column("id"),
    column("status"),
    column("step"),
    column("changed"),
    column("failed_step"),
    column("error_class"),
    column("group"),
    wide("topic"),
    wide("partition"),
    wide("offset"),
    wide("version"),
    wide("began_ms"),
    wide("changed_ms"),
];
const STEPS: &[Column] =
    &[column("step"), column("status"), column("result"), column("error"), wide("has_compensation")];

/// Most sagas that are shown if nothing else was asked for.
const SHOWN: usize = 1_000;

pub(crate) fn run(global: &Global, verb: SagaVerb) -> Result<Report, Failure> {
    match verb {
        SagaVerb::List { name: None, .. } => open::looking(global, names),
        SagaVerb::List { name: Some(name), status, limit } => {
            open::looking(global, |log| list(log, &name, status, limit.unwrap_or(SHOWN)))
        }
        SagaVerb::Show { name, id } => open::looking(global, |log| show(&get(log, &name, &id)?)),
        SagaVerb::RetryCompensation { name, id, execute } => retry_compensation(global, &name, &id, execute),
    }
}

fn find(log: &Log, name: &str) -> Result<Sagas, Failure> {
    let names = Sagas::names(log);
    if names.iter().any(|it| it == name) {
        return Ok(Sagas::open(log, name)?);
    }
    let otherwise = "exactlog saga list shows those that do";
    let hint = suggest::sentence(name, names.iter().map(String::as_str), otherwise);
    Err(Failure::new("NO_SUCH_SAGA", format!("saga {name:?} doesn't exist")).hint(hint))
}

fn get(log: &Log, name: &str, id: &str) -> Result<SagaInstance, Failure> {
    find(log, name)?.get(id)?.ok_or_else(|| {
        Failure::new("NO_SUCH_SAGA", format!("saga {name:?} has none with the id {id:?}"))
            .hint(format!("exactlog saga list {name} shows those that are under way or ended lately"))
    })
}

fn names(log: &Log) -> Result<Report, Failure> {
    let mut rows = Vec::new();
    for name in Sagas::names(log) {
        let mut counts = [0_u64; SagaStatus::ALL.len()];
        Sagas::open(log, &name)?.each(|saga| {
            counts[saga.status as usize] += 1;
            true
        })?;
        let count = |status: SagaStatus| json!(counts[status as usize]);
        rows.push(vec![
            json!(name),
            count(SagaStatus::Running),
            count(SagaStatus::Compensating),
            count(SagaStatus::Completed),
            count(SagaStatus::Compensated),
            count(SagaStatus::CompensationFailed),
        ]);
    }
    Ok(Report::table("sagas", NAMES, rows))
}

fn list(log: &Log, name: &str, status: Option<SagaStatus>, most: usize) -> Result<Report, Failure> {
    let (mut rows, mut has_more) = (Vec::new(), false);
    find(log, name)?.each(|saga| {
        if status.is_none_or(|status| saga.status == status) {
            has_more = rows.len() >= most;
            if !has_more {
                rows.push(row(&saga));
            }
        }
        !has_more
    })?;
    let report = Report::table("instances", LIST, rows).field("saga", name).field("more", has_more);
    Ok(if has_more { report.note("there are more; -n N shows them") } else { report })
}

fn row(saga: &SagaInstance) -> Vec<Value> {
    vec![
        json!(saga.id),
        json!(saga.status.name()),
        json!(saga.next_step()),
        time(Some(saga.changed_ms)),
        json!(saga.failure.as_ref().map(|failure| &failure.step)),
        json!(saga.failure.as_ref().map(|failure| &failure.kind)),
        json!(saga.group),
        json!(saga.topic),
        json!(saga.partition),
        json!(saga.offset),
        json!(saga.version),
        json!(saga.began_ms),
        json!(saga.changed_ms),
    ]
}

fn show(saga: &SagaInstance) -> Result<Report, Failure> {
    let step = |step: &exactlog_flow::SagaStep| {
        vec![
            json!(step.name),
            json!(step.status.name()),
            step.result.clone().unwrap_or_default(),
            json!(step.error),
            json!(step.has_compensation),
        ]
    };
    let report = Report::table("steps", STEPS, saga.steps.iter().map(step).collect())
        .field("saga", saga.saga.as_str())
        .field("id", saga.id.as_str())
        .field("status", saga.status.name())
        .field("version", saga.version)
        .field("group", saga.group.as_str())
        .field("topic", saga.topic.as_str())
        .field("partition", saga.partition)
        .field("offset", saga.offset)
        .field("began", time(Some(saga.began_ms)))
        .field("changed", time(Some(saga.changed_ms)));
    Ok(match &saga.failure {
        None => report,
        Some(failure) => report
            .field("failed_step", failure.step.as_str())
            .field("error_class", failure.kind.as_str())
            .field("message", failure.message.as_str()),
    })
}

fn retry_compensation(global: &Global, name: &str, id: &str, execute: bool) -> Result<Report, Failure> {
    let report = |saga: &SagaInstance| {
        let steps: Vec<&str> = saga.not_compensated().map(|step| step.name.as_str()).collect();
        Report::fields().field("saga", name).field("id", id).field("steps", steps.join(", "))
    };
    if !execute {
        return open::looking(global, |log| {
            let saga = get(log, name, id)?;
            let entries = find(log, name)?.retry_compensation(id)?.count()?;
            let report = report(&saga).field("dead_letters", entries).field("dry_run", true);
            Ok(without_letter(report, &saga, entries).note(DRY_RUN))
        });
    }
    let log = open::write_existing(global)?;
    let saga = get(&log, name, id)?;
    let redriven = find(&log, name)?.retry_compensation(id)?.blocking_run()?;
    close(log)?;
    let report = report(&saga).field("dead_letters", redriven.done).field("dry_run", false);
    Ok(without_letter(report, &saga, redriven.done))
}

/// Exit 1 if there is nothing to put back.
fn without_letter(report: Report, saga: &SagaInstance, entries: u64) -> Report {
    match entries {
        0 => report
            .note(format!(
                "its event isn't in {}: it was put back or given up before",
                saga.dead_letter_topic
            ))
            .exit(1),
        _ => report,
    }
}
