//! The table that is printed, row by row as they are measured.

use exactlog_benches::samples::{Summary, duration_text};

/// What is left when an acknowledged record meets the worst that the row allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// An acknowledgement after the sync.
    PowerLoss,
    /// An acknowledgement after the write: the process may be killed, the system may not stop.
    Kill,
    /// Nothing is acknowledged: a probe, or reading.
    NotSaid,
}

/// A Markdown table on the standard output.
#[derive(Debug)]
pub(crate) struct Report {
    section: String,
}

impl Report {
    /// Begins the table.
    pub(crate) fn begin(quick: bool) -> Report {
        if quick {
            println!("Small amounts: these rows show that everything works, not how fast it is.\n");
        }
        println!("| figure | an ack survives | measured | compared with this run's probes |");
        println!("|---|---|---|---|");
        Report { section: String::new() }
    }

    /// Rows from here on belong to this section.
    pub(crate) fn section(&mut self, name: &str) {
        self.section = name.to_string();
        println!("| **{name}** | | | |");
    }

    /// One row.
    pub(crate) fn row(&mut self, figure: &str, survives: Survives, measured: &str, compared: &str) {
        let survives = match survives {
            Survives::PowerLoss => "power loss",
            Survives::Kill => "kill -9",
            Survives::NotSaid => "",
        };
        println!("| {figure} | {survives} | {measured} | {compared} |");
    }
}

/// `p50 131 µs, p99 240 µs`.
pub(crate) fn latency_text(summary: &Summary) -> String {
    format!("p50 {}, p99 {}", duration_text(summary.p50), duration_text(summary.p99))
}
