//! `dedup`: what the log remembers of ids of events. They are sent by `produce --event-id`.

use crate::args::{DedupVerb, Global};
use crate::failure::Failure;
use crate::open;
use crate::report::Report;
use crate::topic::{DRY_RUN, close};
use exactlog::{AtCap, DedupLimits, Log, Scope, Seen, Sighting};
use std::time::Duration;

pub(crate) fn run(global: &Global, verb: &DedupVerb) -> Result<Report, Failure> {
    match verb {
        DedupVerb::Stats => open::looking(global, stats),
        DedupVerb::Show { scope, id, topic } => open::looking(global, |log| show(log, scope, id, *topic)),
        DedupVerb::Forget { scope, id, topic, execute: false } => {
            open::looking(global, |log| would_forget(log, scope, id, *topic))
        }
        DedupVerb::Forget { scope, id, topic, execute: true } => forget(global, scope, id, *topic),
        DedupVerb::Limits { ttl, entries, at_cap } => limits(global, *ttl, *entries, at_cap.as_deref()),
    }
}

fn limits(
    global: &Global,
    ttl: Option<Duration>,
    entries: Option<u64>,
    at_cap: Option<&str>,
) -> Result<Report, Failure> {
    if ttl.is_none() && entries.is_none() && at_cap.is_none() {
        return open::looking(global, |log| Ok(report_of(log.dedup_limits())));
    }
    let log = open::write_existing(global)?;
    let DedupLimits { ttl_ms, entries_max, at_cap: before } = log.dedup_limits();
    let at_cap = match at_cap {
        Some("refuse") => AtCap::Refuse,
        Some(_) => AtCap::Shorten,
        None => before,
    };
    let ttl = ttl.unwrap_or(Duration::from_millis(ttl_ms));
    log.set_dedup_limits(ttl, entries.unwrap_or(entries_max), at_cap)?;
    let limits = log.dedup_limits();
    close(log)?;
    Ok(report_of(limits))
}

fn report_of(limits: DedupLimits) -> Report {
    let at_cap = if limits.at_cap == AtCap::Shorten { "shorten" } else { "refuse" };
    let report = Report::fields().field("dedup.ttl.ms", limits.ttl_ms);
    report.field("dedup.entries.max", limits.entries_max).field("at_cap", at_cap)
}

fn stats(log: &Log) -> Result<Report, Failure> {
    let (metrics, limits) = (log.metrics(), log.dedup_limits());
    let dedup = metrics.dedup;
    let report = Report::fields()
        .field("seen", metrics.dedup_entries)
        .field("reserved", metrics.dedup_reserved)
        .field("in_memory", dedup.in_memory)
        .field("on_disk", metrics.dedup_entries - dedup.in_memory)
        .field("runs", dedup.runs)
        .field("run_bytes", dedup.run_bytes)
        .field("run_memory_bytes", dedup.run_memory_bytes)
        .field("window_ms", metrics.dedup_window_ms)
        .field("complete_since_ms", dedup.complete_since_ms)
        .field("dedup.ttl.ms", limits.ttl_ms)
        .field("dedup.entries.max", limits.entries_max);
    Ok(report)
}

fn scope_of(log: &Log, scope: &str, is_topic: bool) -> Result<Scope, Failure> {
    Ok(match is_topic {
        true => Scope::from(&log.open_topic(scope)?),
        false => Scope::from(scope),
    })
}

/// Exit 1 if nothing is known of the id, as `grep` has it.
fn show(log: &Log, scope: &str, id: &str, is_topic: bool) -> Result<Report, Failure> {
    let seen = log.seen(scope_of(log, scope, is_topic)?, id)?;
    Ok(known(Report::fields().field("id", id), seen))
}

/// What would be forgotten; somebody who works on it would have it refused.
fn would_forget(log: &Log, scope: &str, id: &str, is_topic: bool) -> Result<Report, Failure> {
    let seen = log.seen(scope_of(log, scope, is_topic)?, id)?;
    let refused = matches!(seen, Seen::Reserved { .. });
    let report = known(Report::fields().field("id", id).field("dry_run", true), seen);
    Ok(match refused {
        true => report.note("somebody works on it: it would be refused").exit(1),
        false => report.note(DRY_RUN),
    })
}

fn forget(global: &Global, scope: &str, id: &str, is_topic: bool) -> Result<Report, Failure> {
    let log = open::write_existing(global)?;
    let forgotten = log.forget_id(scope_of(&log, scope, is_topic)?, id)?;
    close(log)?;
    let report = Report::fields().field("id", id).field("dry_run", false);
    Ok(match forgotten {
        Some(sighting) => seen_at(report.field("state", "forgotten"), sighting),
        None => report.field("state", "absent").exit(1),
    })
}

/// What is known of an id; exit 1: nothing.
fn known(report: Report, seen: Seen) -> Report {
    match seen {
        Seen::Absent => report.field("state", "absent").exit(1),
        Seen::Reserved { reservation, until_ms } => {
            report.field("state", "reserved").field("reservation", reservation).field("until_ms", until_ms)
        }
        Seen::Done(sighting) => seen_at(report.field("state", "seen"), sighting),
    }
}

fn seen_at(report: Report, sighting: Sighting) -> Report {
    match sighting {
        Sighting::Record { partition, offset } => {
            report.field("partition", partition.index).field("offset", offset)
        }
        Sighting::Command { lsn } => report.field("lsn", lsn),
    }
}
