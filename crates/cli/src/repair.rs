//! `log repair` and `log index rebuild`: what is wrong with a closed directory, and what can be done without a guess.
//!
//! Invariants
//!   * without `--write` nothing is changed, and no record is ever given up
//!   * what can't be had back is named: file, position, topic, partition, offsets

use crate::args::Global;
use crate::failure::Failure;
use crate::open;
use crate::report::{Column, Report, column, wide};
use exactlog::{Finding, Lost, Remedy};
use serde_json::{Value, json};

const FINDINGS: &[Column] = &[
    column("file"),
    column("position"),
    column("damage"),
    column("status"),
    column("remedy"),
    wide("what"),
    wide("lost"),
];

/// A check found something.
const FOUND: u8 = 4;

const LOST: &str = "what is left is lost for this directory: restore a backup of it, or go on without. \
                    Damaged batches keep nobody from the other records: consume -o, or group seek, behind them. \
                    A segment that is cut or missing keeps its partition from being read, and a damaged journal \
                    the log from being opened";

pub(crate) fn repair(global: &Global, write: bool) -> Result<Report, Failure> {
    run(global, write, |_| true)
}

pub(crate) fn rebuild_indexes(global: &Global, write: bool) -> Result<Report, Failure> {
    run(global, write, |finding| matches!(finding.remedy, Remedy::Index(_)))
}

fn run(global: &Global, write: bool, wanted: impl Fn(&Finding) -> bool) -> Result<Report, Failure> {
    let (done, mut left) = match write {
        false if open::is_held(global) => return Err(in_use(global)),
        false => (Vec::new(), open::builder(global)?.examine(&global.data)?),
        true => {
            let repaired = open::builder(global)?.repair(&global.data, &wanted)?;
            (repaired.done, repaired.left)
        }
    };
    left.retain(&wanted);
    let damaged = left.iter().filter(|finding| finding.is_damage).count();
    let has_lost = left.iter().any(|finding| !finding.remedy.is_without_loss());
    let status = |finding: &Finding| match (finding.remedy.is_without_loss(), write) {
        (false, _) => "left",
        (true, false) => "would be done",
        (true, true) => "not done",
    };
    let rows = done.iter().map(|it| row(it, "done")).chain(left.iter().map(|it| row(it, status(it))));
    let report = Report::table("findings", FINDINGS, rows.collect())
        .field("done", done.len())
        .field("left", left.len())
        .field("damaged", damaged)
        .field("dry_run", !write)
        .exit(if damaged > 0 { FOUND } else { 0 });
    let report = if has_lost { report.note(LOST) } else { report };
    Ok(match !write && left.iter().any(|finding| finding.remedy.is_without_loss()) {
        true => report
            .note("nothing was changed; --write does what loses nothing. Keep a copy of the directory first"),
        false => report,
    })
}

fn in_use(global: &Global) -> Failure {
    let what =
        format!("{} is in use: what is written meanwhile would look like damage", global.data.display());
    let failure = Failure { exit: 3, ..Failure::new("IN_USE", what) };
    failure.hint("stop the process that has it open, or look at a copy")
}

fn row(finding: &Finding, status: &str) -> Vec<Value> {
    vec![
        json!(finding.file),
        json!(finding.position),
        json!(finding.is_damage),
        json!(status),
        json!(finding.remedy.to_string()),
        json!(finding.what),
        json!(lost(finding)),
    ]
}

/// What a finding has cost, if that can't be had back.
pub(crate) fn lost(finding: &Finding) -> Vec<Value> {
    let one = |lost: &Lost| json!({"topic": lost.topic, "partition": lost.partition, "from": lost.from, "to": lost.to});
    match &finding.remedy {
        Remedy::Lost(lost) => lost.iter().map(one).collect(),
        _ => Vec::new(),
    }
}
