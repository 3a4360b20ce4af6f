//! The table that is printed.

use crate::node::Memory;
use crate::ordinary::{self, Latencies};
use exactlog_benches::samples::{bytes_text, duration_text};
use std::time::Duration;

/// How long after an attack memory is looked at once more.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// One attack, or none.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) latencies: Latencies,
    pub(crate) before: Memory,
    pub(crate) peak: Memory,
    pub(crate) after: Memory,
    pub(crate) note: String,
}

pub(crate) fn begin(files: u64, each: Duration) {
    println!(
        "{files} files a process, {} s each; p50 / p99 (p99 to that without an attack)\n",
        each.as_secs()
    );
    let kinds = ordinary::names().map(|name| format!(" {name} |")).concat();
    println!("| attack |{kinds} RssAnon before, peak, after | RssFile peak | |");
    println!("|---|{}---|---|---|", "---|".repeat(ordinary::KINDS_COUNT));
}

impl Row {
    pub(crate) fn print(&self, alone: &Row) {
        let Row { name, latencies, before, peak, after, note } = self;
        let of_kind = |(now, alone): (&exactlog_benches::samples::Summary, _)| {
            let alone: &exactlog_benches::samples::Summary = alone;
            let ratio = now.p99.as_secs_f64() / alone.p99.as_secs_f64();
            format!(" {} / {} ({ratio:.1}) |", duration_text(now.p50), duration_text(now.p99))
        };
        let kinds: String = latencies.iter().zip(&alone.latencies).map(of_kind).collect();
        let anonymous = [before, peak, after].map(|memory| bytes_text(memory.anonymous)).join(", ");
        println!("| {name} |{kinds} {anonymous} | {} | {note} |", bytes_text(peak.of_files));
    }
}
