//! What processors tell with the metrics of their log: docs/METRICS.md has each.
//!
//! How events ended is what the group's table says, so it goes on over restarts and counts for the whole group, and so
//! do the sagas of a group whose handler is one. The
//! rest is what this process has seen since the processor was started.

use crate::breaker::BreakerState;
use crate::counts::Counts;
use crate::inspect::counts_of;
use crate::redrive::DeadLetters;
use crate::running::{Metrics, Shared};
use crate::saga::{COMPENSATED, COMPLETED, NOT_COMPENSATED};
use crate::settings::{Job, Settings};
use exactlog::{Histogram, Log, MetricsSource, Samples, Topic};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one processor has seen.
#[derive(Debug)]
pub(crate) struct Meters {
    log: Log,
    settings: Arc<Settings>,
    /// The saga that its handler is.
    saga: Option<String>,
    dead_letters: Vec<Topic>,
    shared: Arc<Shared>,
    /// How long handlers took, attempt by attempt.
    took: Histogram,
    /// Attempts that were followed by another one, by their number.
    retried: Mutex<BTreeMap<u32, u64>>,
    /// Dead letters, by the kind of their failure.
    dead: Mutex<BTreeMap<String, u64>>,
}

const SAGA_HELP: &str = "Sagas that have ended, by how.";

/// Most kinds of failures that are told apart; others count as `other`.
const KINDS_MAX: usize = 100;

impl Meters {
    pub(crate) fn new(log: &Log, job: &Job, dead_letters: Vec<Topic>, shared: &Arc<Shared>) -> Meters {
        Meters {
            log: log.clone(),
            settings: job.settings.clone(),
            saga: job.handler.saga().map(str::to_owned),
            dead_letters,
            shared: shared.clone(),
            took: Histogram::default(),
            retried: Mutex::default(),
            dead: Mutex::default(),
        }
    }

    pub(crate) fn took(&self, took: Duration) {
        self.took.observe(took);
    }

    pub(crate) fn retried(&self, attempt: u32) {
        *self.retried.lock().entry(attempt).or_default() += 1;
    }

    pub(crate) fn dead(&self, kind: &str) {
        let mut dead = self.dead.lock();
        let kind = if dead.len() < KINDS_MAX || dead.contains_key(kind) { kind } else { "other" };
        *dead.entry(kind.to_string()).or_default() += 1;
    }

    fn collect_group(&self, samples: &mut Samples) {
        let group = &*self.settings.group;
        // Several processors of a group tell the same.
        if samples.has("read_total", &[("group", group)]) {
            return;
        }
        let Ok(counts) = counts_of(&self.log, group) else { return };
        let Counts { read, done, duplicate, dead, retried } = &counts;
        let labels = &[("group", group)];
        samples.counter("read_total", "Events that a group has taken over.", labels, *read);
        let help = "Events of a group that are done, by outcome: what its handler said, or duplicate.";
        let mut ended = |outcome: &str, count: u64| {
            samples.counter("processed_total", help, &[("group", group), ("outcome", outcome)], count);
        };
        ended("ok", 0);
        done.iter().for_each(|(outcome, count)| ended(outcome, *count));
        ended("duplicate", *duplicate);
        // No counter: what is put back isn't dead any more.
        samples.gauge(
            "dead",
            "Events of a group that are dead, and were not put back to it.",
            labels,
            *dead as f64,
        );
        let help = "Events of a group that wait: read_total less processed_total and dead, at every moment.";
        samples.gauge("waiting", help, labels, (read - counts.ended()) as f64);
        let help = "Attempts of a group that were followed by another one, since it was made.";
        samples.counter("group_retries_total", help, labels, *retried);
        if let Some(saga) = &self.saga {
            for outcome in [COMPLETED, COMPENSATED] {
                let count = done.get(outcome).copied().unwrap_or(0);
                samples.counter("saga_total", SAGA_HELP, &[("name", saga), ("outcome", outcome)], count);
            }
        }
    }

    /// What this processor alone knows of its sagas. How many ended well is what the group has counted.
    fn collect_saga(&self, saga: &str, metrics: &Metrics, samples: &mut Samples) {
        let failed = self.dead.lock().get(NOT_COMPENSATED).copied().unwrap_or(0);
        let labels = &[("name", saga), ("outcome", "compensation_failed")];
        samples.counter("saga_total", SAGA_HELP, labels, failed);
        let help = "Sagas that are under way: those that wait for their next step, or to be tried again.";
        samples.gauge("saga_running", help, &[("name", saga)], (metrics.held + metrics.parked) as f64);
    }

    fn collect_dead_letters(&self, samples: &mut Samples) {
        for topic in &self.dead_letters {
            let labels = &[("topic", topic.name())];
            if samples.has("dlq_depth", labels) {
                continue;
            }
            let Ok(letters) = DeadLetters::open(&self.log, topic.name()) else { continue };
            let (Ok(depth), Ok(oldest_ms), Ok((redriven, discarded))) =
                (letters.depth(), letters.oldest_ms(), letters.ended_counts())
            else {
                continue;
            };
            samples.gauge("dlq_depth", "Dead letters that nothing became of yet.", labels, depth as f64);
            let now_ms = crate::clock::wall_ms();
            let age_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms).max(0));
            samples.gauge("dlq_oldest_seconds", "Age of the oldest of them.", labels, age_ms as f64 / 1e3);
            let help = "Dead letters that were put back or given up, of those that are kept.";
            for (outcome, count) in [("redriven", redriven), ("discarded", discarded)] {
                let labels = &[("topic", topic.name()), ("outcome", outcome)];
                samples.gauge("dlq_ended", help, labels, count as f64);
            }
        }
    }

    fn collect_breaker(&self, samples: &mut Samples) {
        let Some(breaker) = &self.settings.breaker else { return };
        let (name, metrics) = (breaker.name(), breaker.metrics());
        if samples.has("breaker_failure_rate", &[("name", name)]) {
            return;
        }
        for state in BreakerState::ALL {
            let text = state.to_string();
            let value = f64::from(u8::from(state == metrics.state));
            let help = "1: the circuit breaker is in this state.";
            samples.gauge("breaker_state", help, &[("name", name), ("state", &text)], value);
        }
        let kinds = [
            ("successful", metrics.successful),
            ("failed", metrics.failed),
            ("ignored", metrics.ignored),
            ("not_permitted", metrics.not_permitted),
        ];
        for (kind, count) in kinds {
            let labels = &[("name", name), ("kind", kind)];
            samples.counter(
                "breaker_calls_total",
                "Calls under a circuit breaker, by how they went.",
                labels,
                count,
            );
        }
        let percent = |rate: Option<f32>| rate.map_or(f64::NAN, f64::from);
        let help = "Failed calls in percent; NaN: too few calls.";
        samples.gauge("breaker_failure_rate", help, &[("name", name)], percent(metrics.failure_rate));
        let help = "Slow calls in percent; NaN: too few calls.";
        samples.gauge("breaker_slow_call_rate", help, &[("name", name)], percent(metrics.slow_call_rate));
    }
}

impl MetricsSource for Meters {
    fn collect(&self, samples: &mut Samples) {
        let group = &*self.settings.group;
        let labels = &[("group", group)];
        let metrics = self.shared.metrics();
        let help = "Attempts that were followed by another one, by number of the attempt.";
        samples.counter("retry_total", help, &[("group", group), ("attempt", "1")], 0);
        for (attempt, count) in &*self.retried.lock() {
            let attempt = attempt.to_string();
            samples.counter("retry_total", help, &[("group", group), ("attempt", &attempt)], *count);
        }
        let help = "Events that were dead-lettered, by the kind of their failure.";
        samples.counter("dlq_total", help, &[("group", group), ("error", "other")], 0);
        for (kind, count) in &*self.dead.lock() {
            samples.counter("dlq_total", help, &[("group", group), ("error", kind)], *count);
        }
        let mut gauge = |name, help, value: f64| samples.gauge(name, help, labels, value);
        gauge("retry_parked", "Events that wait to be tried again.", metrics.parked as f64);
        gauge("retry_blocked", "Events that wait behind such.", metrics.blocked as f64);
        gauge("retry_held", "Events that could not be tried yet.", metrics.held as f64);
        gauge(
            "retry_oldest_seconds",
            "Age of the oldest failure that waits.",
            metrics.oldest_waiting_ms as f64 / 1e3,
        );
        let mut counter = |name, help, value| samples.counter(name, help, labels, value);
        counter("processor_commits_total", "Commits of a processor.", metrics.commits);
        counter("processor_refused_total", "Commits that were refused and made anew.", metrics.refused);
        counter(
            "processor_fenced_total",
            "How often a group had gone on without a processor.",
            metrics.fenced,
        );
        counter("processor_lost_records_total", "Records that were trimmed unread.", metrics.lost);
        let help = "How long handlers took, attempt by attempt.";
        samples.histogram("process_seconds", help, labels, self.took.read());
        if let Some(saga) = &self.saga {
            self.collect_saga(saga, &metrics, samples);
        }
        self.collect_group(samples);
        self.collect_dead_letters(samples);
        self.collect_breaker(samples);
    }
}
