//! `dedup`: what the log remembers of ids of events. They are sent by `produce --event-id`.

use crate::args::{DedupVerb, Global, SeenId};
use crate::failure::Failure;
use crate::open;
use crate::report::Report;
use crate::topic::{DRY_RUN, close};
use exactlog::{AtCap, DedupLimits, Log, Scope, Seen, Sighting};
use std::time::Duration;

pub(crate) fn run(global: &Global, verb: &DedupVerb) -> Result<Report, Failure> {
    match verb {
        DedupVerb::Stats => open::looking(global, stats),
        DedupVerb::Show { which } => open::looking(global, |log| show(log, which)),
        DedupVerb::Forget { which, execute: false } => open::looking(global, |log| would_forget(log, which)),
        DedupVerb::Forget { which, execute: true } => forget(global, which),
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

impl SeenId {
    fn scope(&self, log: &Log) -> Result<Scope, Failure> {
        Ok(match self.topic {
            true => Scope::from(&log.open_topic(&self.scope)?),
            false => Scope::from(&*self.scope),
        })
    }

    fn seen(&self, log: &Log) -> Result<Seen, Failure> {
        Ok(log.seen(self.scope(log)?, &*self.id)?)
    }
}

/// Exit 1 if nothing is known of the id, as `grep` has it.
fn show(log: &Log, which: &SeenId) -> Result<Report, Failure> {
    Ok(known(Report::fields().field("id", &*which.id), which.seen(log)?))
}

/// What would be forgotten; somebody who works on it would have it refused.
fn would_forget(log: &Log, which: &SeenId) -> Result<Report, Failure> {
    let seen = which.seen(log)?;
    let refused = matches!(seen, Seen::Reserved { .. });
    let report = known(Report::fields().field("id", &*which.id).field("dry_run", true), seen);
    Ok(match refused {
        true => report.note("somebody works on it: it would be refused").exit(1),
        false => report.note(DRY_RUN),
    })
}

fn forget(global: &Global, which: &SeenId) -> Result<Report, Failure> {
    let log = open::write_existing(global)?;
    let forgotten = log.forget_id(which.scope(&log)?, &*which.id)?;
    close(log)?;
    let report = Report::fields().field("id", &*which.id).field("dry_run", false);
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
