//! `doctor`: is this a good place for a log, and is the log well. Each finding says what to do.
//!
//! The one verb that writes to look: syncs are timed in a directory of its own beside the log, which it removes again.

use crate::args::Global;
use crate::bench::Percentiles;
use crate::failure::Failure;
use crate::hardware;
use crate::layout::{self, Crowd, HotKey};
use crate::open;
use crate::report::{Column, Report, column};
use crate::texts::count;
use exactlog::Log;
use exactlog::disk::{Disk, Mode, RealDisk};
use serde_json::{Value, json};
use std::io::IoSlice;
use std::path::Path;
use std::time::{Duration, Instant};

const CHECKS: &[Column] = &[column("check"), column("status"), column("found"), column("fix")];

/// File systems whose syncs and locks can't be relied on, or that lose everything with the machine.
const DOUBTFUL: [(&str, &str); 7] = [
    ("tmpfs", "it is memory: put the log on a disk, or expect to lose it with the machine"),
    ("ramfs", "it is memory: put the log on a disk, or expect to lose it with the machine"),
    ("nfs", "locks and syncs depend on the server: use a local disk"),
    ("nfs4", "locks and syncs depend on the server: use a local disk"),
    ("cifs", "locks and syncs depend on the server: use a local disk"),
    ("9p", "syncs may not reach the disk: use a local disk"),
    ("vboxsf", "syncs may not reach the disk: use a local disk"),
];

/// Syncs that are timed.
const SYNCS: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Good,
    Note,
    Bad,
}

#[derive(Debug, Default)]
struct Findings {
    rows: Vec<Vec<Value>>,
    bad: u64,
    crowds: Vec<Value>,
    hot_keys: Vec<Value>,
    looked_at: u64,
}

impl Findings {
    fn add(&mut self, check: &str, status: Status, found: impl Into<String>, fix: &str) {
        let name = match status {
            Status::Good => "good",
            Status::Note => "note",
            Status::Bad => "bad",
        };
        self.bad += u64::from(status == Status::Bad);
        let fix = if fix.is_empty() { Value::Null } else { json!(fix) };
        self.rows.push(vec![json!(check), json!(name), json!(found.into()), fix]);
    }
}

pub(crate) fn run(global: &Global) -> Result<Report, Failure> {
    let mut findings = Findings::default();
    let parent = hardware::existing_parent(&global.data);
    findings.add("system", Status::Good, hardware::system(), "");
    findings.add("processors", Status::Good, hardware::processors(), "");
    file_system(&global.data, &parent, &mut findings);
    let histogram = syncs(&parent, &mut findings);
    clock(&mut findings);
    limits(&mut findings);
    space(&parent, &mut findings);
    log(global, &mut findings);
    let exit = if findings.bad > 0 { 4 } else { 0 };
    Ok(Report::table("checks", CHECKS, findings.rows)
        .field("bad", findings.bad)
        .field("sync_latency_us", histogram)
        .detail("crowded_groups", findings.crowds)
        .detail("hot_keys", findings.hot_keys)
        .detail("looked_at_records", findings.looked_at)
        .exit(exit))
}

fn file_system(data: &Path, parent: &Path, findings: &mut Findings) {
    let place = if data.is_dir() { data } else { parent };
    let Some((kind, options)) = hardware::file_system(place) else {
        return findings.add("file system", Status::Note, "unknown", "make sure that it is a local disk");
    };
    if let Some((_, fix)) = DOUBTFUL.iter().find(|(name, _)| *name == kind) {
        return findings.add("file system", Status::Bad, kind, fix);
    }
    if options.split(',').any(|option| option == "nobarrier" || option == "barrier=0") {
        let fix = "without barriers a power loss can undo a sync: mount it with barriers";
        return findings.add("file system", Status::Bad, format!("{kind} ({options})"), fix);
    }
    findings.add("file system", Status::Good, kind, "");
}

/// How long a sync takes there: what a lone writer waits for each acknowledgement.
fn syncs(parent: &Path, findings: &mut Findings) -> Value {
    let name = format!("exactlog-doctor-{}", std::process::id());
    let timed = RealDisk::existing(parent).and_then(|disk| {
        disk.create_dir(&name)?;
        let file_name = format!("{name}/probe");
        let timed = time_syncs(&disk, &file_name);
        let _ = disk.unlink(&file_name);
        disk.remove_dir(&name)?;
        timed
    });
    let times = match timed {
        Ok(times) => times,
        Err(error) => {
            let fix = "the log needs the right to write there; --data names another place";
            findings.add("sync latency", Status::Bad, format!("{}: {error}", parent.display()), fix);
            return Value::Null;
        }
    };
    let found = Percentiles::of(times);
    let (status, fix) = match found.p50_us {
        0..=19 => (Status::Note, "faster than disks are: is it memory, or does something ignore syncs?"),
        20..=20_000 => (Status::Good, ""),
        _ => {
            (Status::Note, "slow: let many events share a sync (submit them, then wait), or use another disk")
        }
    };
    let text = format!("p50 {} us, p99 {} us, max {} us", found.p50_us, found.p99_us, found.max_us);
    findings.add("sync latency", status, text, fix);
    found.value()
}

fn time_syncs(disk: &RealDisk, name: &str) -> std::io::Result<Vec<Duration>> {
    const PAGE: [u8; 4096] = [1; 4096];
    let file = disk.open(name, Mode::CreateNew)?;
    // As the journal does it: written before, so that a sync changes no length.
    for page in 0..u64::from(SYNCS) {
        file.write_at(&[IoSlice::new(&PAGE)], page * PAGE.len() as u64)?;
    }
    file.sync()?;
    let mut times = Vec::new();
    for page in 0..u64::from(SYNCS) {
        let since = Instant::now();
        file.write_at(&[IoSlice::new(&PAGE)], page * PAGE.len() as u64)?;
        file.sync()?;
        times.push(since.elapsed());
    }
    Ok(times)
}

fn clock(findings: &mut Findings) {
    /// 2025-01-01.
    const EARLIEST_MS: i64 = 1_735_689_600_000;
    let now_ms = open::now_ms();
    let text =
        jiff::Timestamp::from_millisecond(now_ms).map_or_else(|_| now_ms.to_string(), |now| now.to_string());
    match now_ms < EARLIEST_MS {
        true => findings.add("clock", Status::Bad, text, "the clock is wrong: set it, and keep it by NTP"),
        false => findings.add("clock", Status::Good, text, ""),
    }
}

fn limits(findings: &mut Findings) {
    const FILES_MIN: u64 = 1024;
    match hardware::open_files_max() {
        Some(most) if most < FILES_MIN => {
            findings.add(
                "open files",
                Status::Note,
                most.to_string(),
                "ulimit -n 65536, for many partitions",
            );
        }
        Some(most) => findings.add("open files", Status::Good, most.to_string(), ""),
        None => findings.add("open files", Status::Note, "unknown", "ulimit -n shows it"),
    }
}

fn space(parent: &Path, findings: &mut Findings) {
    const NEEDED: u64 = 1 << 28;
    const COMFORTABLE: u64 = 1 << 31;
    let free = RealDisk::existing(parent).and_then(|disk| disk.free());
    match free {
        Ok(free) if free < NEEDED => {
            findings.add(
                "space",
                Status::Bad,
                format!("{free} B free"),
                "free space, or trim topics; 256 MiB at least",
            );
        }
        Ok(free) if free < COMFORTABLE => {
            let fix = "the journal alone may take 1 GiB: free some, or lower journal.ring.bytes";
            findings.add("space", Status::Note, format!("{free} B free"), fix);
        }
        Ok(free) => findings.add("space", Status::Good, format!("{free} B free"), ""),
        Err(error) => findings.add("space", Status::Note, error.to_string(), "df shows it"),
    }
}

fn log(global: &Global, findings: &mut Findings) {
    let held = open::is_held(global);
    let log = match open::read(global) {
        Ok(log) => log,
        Err(failure) if failure.code == "NO_LOG" => {
            let fix = "exactlog topic create makes one; --data names another directory";
            return findings.add("log", Status::Note, failure.message, fix);
        }
        Err(failure) => {
            let fix = failure.hint.unwrap_or_default();
            return findings.add("log", Status::Bad, failure.message, &fix);
        }
    };
    let topics = count(log.topics().len() as u64, "topic");
    let found = format!("{topics}, last lsn {}", log.recovery().last_lsn);
    findings.add("log", Status::Good, found, "");
    let user = if held { "another process has it open" } else { "nobody has it open" };
    findings.add("lock", Status::Good, user, "");
    ending(&log, held, findings);
    members(&log, findings);
    keys(&log, findings);
}

/// Groups of which some members wait idle.
fn members(log: &Log, findings: &mut Findings) {
    let crowds = layout::crowds(log);
    if crowds.is_empty() {
        return findings.add("members", Status::Good, "no group has more of them than partitions", "");
    }
    for crowd in &crowds {
        findings.add("members", Status::Note, crowd.sentence(), layout::FEWER_MEMBERS);
    }
    findings.crowds = crowds.iter().map(Crowd::value).collect();
}

/// Keys for which one partition does the work of all.
fn keys(log: &Log, findings: &mut Findings) {
    let keys = layout::keys(log, &log.topics());
    let mut looked_at = format!("{} looked at", count(keys.looked_at, "record"));
    if keys.left_out > 0 {
        looked_at.push_str(&format!(", {} left out", count(keys.left_out, "partition")));
    }
    if keys.hot.is_empty() {
        let found = format!("none has more than half of a partition's newest records; {looked_at}");
        findings.add("keys", Status::Good, found, "");
    }
    for sentence in keys.sentences() {
        findings.add("keys", Status::Note, sentence, layout::FINER_KEYS);
    }
    findings.hot_keys = keys.hot.iter().map(HotKey::value).collect();
    findings.looked_at = keys.looked_at;
}

fn ending(log: &Log, held: bool, findings: &mut Findings) {
    let recovery = log.recovery();
    if held {
        findings.add("end of the journal", Status::Good, "in the making: somebody writes", "");
    } else if let Some(cut) = &recovery.cut {
        let fix =
            "nothing that was acknowledged under fsync is lost; after a crash without a power loss, ask why";
        findings.add("end of the journal", Status::Note, open::cut_text(cut), fix);
    } else if recovery.clean {
        findings.add("end of the journal", Status::Good, "whole", "");
    } else {
        findings.add("end of the journal", Status::Good, "whole, though the log was not closed properly", "");
    }
    for file in &recovery.ignored {
        let status = if file.contains("damaged") { Status::Bad } else { Status::Note };
        findings.add(
            "file",
            status,
            file.clone(),
            "it has no part in the log; keep a copy before you remove it",
        );
    }
}
