//! Metrics of one moment, and their text as Prometheus reads it.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, text, version 0.0.4. There are three things
//! to escape, so it is written here rather than by a library with a registry of its own.

use crate::histogram::Distribution;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// What of a name was measured, by its labels.
#[derive(Clone, Debug, Default)]
struct Family {
    kind: &'static str,
    help: &'static str,
    /// By labels, as they are written.
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug)]
enum Row {
    Value(f64),
    Distribution(Distribution),
}

/// Metrics of one moment. Names begin with `exactlog_`, which is put in front of them here.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    families: BTreeMap<&'static str, Family>,
}

/// Whoever has metrics of its own, to be told with those of the log ([`Log::add_metrics`](crate::Log::add_metrics)).
pub trait MetricsSource: Send + Sync {
    /// Adds them.
    fn collect(&self, samples: &mut Samples);
}

impl Samples {
    /// Adds a counter: its name ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.add("counter", name, help, labels, Row::Value(value as f64));
    }

    /// Adds a counter of something that isn't whole, seconds say.
    pub fn sum(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add("counter", name, help, labels, Row::Value(value));
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add("gauge", name, help, labels, Row::Value(value));
    }

    /// Adds a histogram: its name ends with `_seconds`.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        distribution: Distribution,
    ) {
        self.add("histogram", name, help, labels, Row::Distribution(distribution));
    }

    /// Whether there is one of this name with these labels.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let labels = text_of(labels);
        self.families.get(name).is_some_and(|family| family.rows.contains_key(&labels))
    }

    fn add(
        &mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        row: Row,
    ) {
        let family =
            self.families.entry(name).or_insert_with(|| Family { kind, help, rows: BTreeMap::new() });
        debug_assert_eq!((family.kind, family.help), (kind, help), "{name} is one thing");
        let labels = text_of(labels);
        // Several sources may have the same: processors of one group, say.
        match (family.rows.get_mut(&labels), row) {
            (Some(Row::Value(known)), Row::Value(value)) => *known += value,
            (Some(Row::Distribution(known)), Row::Distribution(more)) => known.add(&more),
            (_, row) => _ = family.rows.insert(labels, row),
        }
    }

    /// As Prometheus reads it (`text/plain; version=0.0.4`): families in the order of their names.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, Family { kind, help, rows }) in &self.families {
            // Writing to a text can't fail.
            _ = writeln!(text, "# HELP exactlog_{name} {help}\n# TYPE exactlog_{name} {kind}");
            for (labels, row) in rows {
                match row {
                    Row::Value(value) => line(&mut text, name, "", labels, value),
                    Row::Distribution(Distribution { buckets, count, sum_seconds }) => {
                        let separator = if labels.is_empty() { "" } else { "," };
                        let bounds = buckets.iter().map(|(bound, count)| (bound.to_string(), *count));
                        for (bound, count) in bounds.chain([("+Inf".to_string(), *count)]) {
                            let labels = format!("{labels}{separator}le=\"{bound}\"");
                            line(&mut text, name, "_bucket", &labels, count);
                        }
                        line(&mut text, name, "_sum", labels, sum_seconds);
                        line(&mut text, name, "_count", labels, count);
                    }
                }
            }
        }
        text
    }
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: impl Display) {
    _ = match labels {
        "" => writeln!(text, "exactlog_{name}{suffix} {value}"),
        labels => writeln!(text, "exactlog_{name}{suffix}{{{labels}}} {value}"),
    };
}

fn text_of(labels: &[(&str, &str)]) -> String {
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use std::time::Duration;

    #[test]
    fn values_labels_and_histograms_are_written_as_prometheus_reads_them() {
        let mut samples = Samples::default();
        samples.gauge("b", "B.", &[("topic", "a\"b\\c\nd")], 0.5);
        samples.counter("a_total", "A.", &[], 3);
        samples.counter("a_total", "A.", &[], 4);
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(5));
        samples.histogram("c_seconds", "C.", &[("g", "1")], histogram.read());
        samples.histogram("c_seconds", "C.", &[("g", "1")], histogram.read());
        let text = samples.text();
        let expected = "# HELP exactlog_a_total A.\n# TYPE exactlog_a_total counter\nexactlog_a_total 7\n\
                        # HELP exactlog_b B.\n# TYPE exactlog_b gauge\nexactlog_b{topic=\"a\\\"b\\\\c\\nd\"} 0.5\n\
                        # HELP exactlog_c_seconds C.\n# TYPE exactlog_c_seconds histogram\n\
                        exactlog_c_seconds_bucket{g=\"1\",le=\"0.00001\"} 0\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("exactlog_c_seconds_bucket{g=\"1\",le=\"0.0025\"} 0\n"), "{text}");
        assert!(text.contains("exactlog_c_seconds_bucket{g=\"1\",le=\"0.005\"} 2\n"), "{text}");
        let end = "exactlog_c_seconds_bucket{g=\"1\",le=\"+Inf\"} 2\nexactlog_c_seconds_sum{g=\"1\"} 0.01\n\
                   exactlog_c_seconds_count{g=\"1\"} 2\n";
        assert!(text.ends_with(end), "{text}");
    }
}
