//! What is measured of logs, and the tables of it.

use crate::Plan;
use crate::rivals::{ALL, Entry, Lives, Result, Rival};
use exactlog_benches::probe::{SyncProbe, write_rate};
use exactlog_benches::samples::{Samples, Summary, duration_text, number_text};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const BATCH_RECORDS: usize = 1000;

/// What a crate did.
struct Row {
    name: &'static str,
    cells: Vec<String>,
    /// Of one table all the more the better, or all the less.
    figure: f64,
}

/// Prints the rows, and how exactlog's stands to the best of the others.
fn print(title: &str, heads: &[&str], rows: &[Row], less_is_better: bool) {
    let figure = |row: &Row| if less_is_better { 1.0 / row.figure } else { row.figure };
    let ours = rows.iter().find(|row| row.name == "exactlog").map(figure);
    let best = rows.iter().filter(|row| row.name != "exactlog").map(figure).fold(f64::NAN, f64::max);
    println!("\n**{title}**\n\n| | {} |\n|---{}|", heads.join(" | "), "|---:".repeat(heads.len()));
    rows.iter().for_each(|row| println!("| {} | {} |", row.name, row.cells.join(" | ")));
    if let Some(ours) = ours {
        println!("\nexactlog: {:.2} x the best of the others", ours / best);
    }
}

/// A new directory on the disk that is measured, with nothing left to be written from before.
fn fresh(plan: &Plan) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir_in(&plan.directory)?;
    std::process::Command::new("sync").status()?;
    Ok(directory)
}

/// So many records, the number of each in its first bytes, and nothing in them that compresses well.
fn records(first: u64, count: usize, record_bytes: usize) -> Vec<u8> {
    let mut state = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; count * record_bytes];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    number(&mut bytes, first, record_bytes);
    bytes
}

/// Writes the numbers of the records into them.
fn number(records: &mut [u8], first: u64, record_bytes: usize) {
    for (number, record) in (first..).zip(records.chunks_exact_mut(record_bytes)) {
        record[..8].copy_from_slice(&number.to_le_bytes());
    }
}

fn number_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// Callers that each append one record and wait until it is on disk.
pub(crate) fn durable(plan: &Plan) -> Result<()> {
    for (callers, record_bytes) in [(1, 1024), (32, 1024), (256, 100)] {
        let mut rows = Vec::new();
        let directory = fresh(plan)?;
        let sync = SyncProbe::new(directory.path())?.samples(plan.pick(5000, 200))?.summary();
        for entry in ALL.iter().filter(|entry| entry.can_sync) {
            let directory = fresh(plan)?;
            let rival = (entry.open)(directory.path(), Lives::PowerLoss)?;
            // What files are made and zeroed for at first isn't what is measured.
            callers_for(&*rival, 1, record_bytes, plan.pick(Duration::from_secs(1), Duration::ZERO))?;
            let period = plan.pick(Duration::from_secs(5), Duration::from_millis(200));
            let (rate, latency) = callers_for(&*rival, callers, record_bytes, period)?;
            rows.push(Row {
                name: entry.name,
                cells: vec![number_text(rate), duration_text(latency.p50), duration_text(latency.p99)],
                figure: rate,
            });
        }
        let who =
            if callers == 1 { "1 caller".to_string() } else { format!("{callers} callers, a thread each") };
        let title = format!(
            "Durable, {who}, {record_bytes} B a record (fdatasync of 4 KiB: p50 {}, p99 {})",
            duration_text(sync.p50),
            duration_text(sync.p99)
        );
        print(&title, &["records/s", "p50", "p99"], &rows, false);
    }
    Ok(())
}

fn callers_for(
    rival: &dyn Rival,
    callers: usize,
    record_bytes: usize,
    period: Duration,
) -> Result<(f64, Summary)> {
    // Keys are numbers of their own: rivals with keys must not overwrite.
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let caller = || -> Result<Samples> {
        let mut record = records(0, 1, record_bytes);
        let (mut samples, began) = (Samples::default(), Instant::now());
        loop {
            let first = NUMBERS.fetch_add(1, Ordering::Relaxed);
            number(&mut record, first, record_bytes);
            let sent = Instant::now();
            rival.append(first, &record, record_bytes)?;
            samples.push(sent.elapsed());
            if began.elapsed() >= period {
                return Ok(samples);
            }
        }
    };
    let began = Instant::now();
    let samples = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        let mut all = Samples::default();
        for caller in callers {
            all.extend(caller.join().map_err(|_| "a caller panicked")??);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(all)
    })?;
    let elapsed = began.elapsed();
    let summary = samples.summary();
    Ok((summary.count as f64 / elapsed.as_secs_f64(), summary))
}

/// Batches from one thread that are in the page cache when they are answered.
pub(crate) fn batches(plan: &Plan) -> Result<()> {
    for record_bytes in [100, 1024] {
        let mut rows = Vec::new();
        let write = write_rate(fresh(plan)?.path(), plan.pick(GIB, 64 * MIB))?;
        for entry in ALL {
            let directory = fresh(plan)?;
            let rival = (entry.open)(directory.path(), Lives::Kill)?;
            let bytes = plan.pick(GIB, 32 * MIB);
            // Half of it once before: files that are recycled are there then.
            let first = load(&*rival, 0, bytes / 2, record_bytes)?.0;
            rival.settle()?;
            let (next, rate) = load(&*rival, first, bytes, record_bytes)?;
            let share = rate * record_bytes as f64 / write;
            let cells = vec![number_text(rate), format!("{share:.2}")];
            rows.push(Row { name: entry.name, cells, figure: rate });
            black_box(next);
        }
        let title = format!(
            "Page cache, 1 caller, batches of {BATCH_RECORDS} x {record_bytes} B, a burst of 1 GiB (write(2) in 64 KiB \
             pieces: {:.2} GB/s)",
            write / 1e9
        );
        print(&title, &["records/s", "of write(2)"], &rows, false);
    }
    Ok(())
}

/// Appends batches of [`BATCH_RECORDS`], and answers with the next number and the records per second.
fn load(rival: &dyn Rival, first: u64, bytes: u64, record_bytes: usize) -> Result<(u64, f64)> {
    let mut batch = records(first, BATCH_RECORDS, record_bytes);
    let batches = (bytes / (BATCH_RECORDS * record_bytes) as u64).max(1);
    let mut next = first;
    let began = Instant::now();
    for _ in 0..batches {
        number(&mut batch, next, record_bytes);
        rival.append(next, &batch, record_bytes)?;
        next += BATCH_RECORDS as u64;
    }
    Ok((next, (next - first) as f64 / began.elapsed().as_secs_f64()))
}

/// Reading what was written: all in order, and one by one; and what it takes on disk.
pub(crate) fn read(plan: &Plan) -> Result<()> {
    const RECORD_BYTES: usize = 1024;
    let (mut scans, mut gets, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in ALL {
        let directory = fresh(plan)?;
        let rival = (entry.open)(directory.path(), Lives::Kill)?;
        let (count, _) = load(&*rival, 0, plan.pick(GIB, 32 * MIB), RECORD_BYTES)?;
        rival.settle()?;
        scans.push(scanned(&entry, &*rival, count)?);
        if entry.has_get {
            gets.push(got(&entry, &*rival, count, plan.pick(20_000, 500))?);
        }
        drop(rival);
        sizes.push(sized(&entry, directory.path(), count)?);
    }
    print("Read all in order, 1 KiB records, warm page cache", &["records/s"], &scans, false);
    print("Read one by one in random order, 1 KiB records", &["p50", "p99"], &gets, true);
    print(
        "On disk, per record of 1,024 B, after close (exactlog: segments; beside them its journal, which is recycled)",
        &["bytes", "of everything in the directory"],
        &sizes,
        true,
    );
    Ok(())
}

fn scanned(entry: &Entry, rival: &dyn Rival, count: u64) -> Result<Row> {
    let mut rate = 0.0_f64;
    // The first time warms up.
    for _ in 0..2 {
        let (mut seen, mut sum, began) = (0, 0_u64, Instant::now());
        rival.scan(&mut |record| {
            seen += 1;
            sum = sum.wrapping_add(number_of(record));
        })?;
        rate = seen as f64 / began.elapsed().as_secs_f64();
        if (seen, sum) != (count, count * (count - 1) / 2) {
            return Err(format!("{}: {seen} of {count} records, sum {sum}", entry.name).into());
        }
    }
    Ok(Row { name: entry.name, cells: vec![number_text(rate)], figure: rate })
}

fn got(entry: &Entry, rival: &dyn Rival, count: u64, reads: usize) -> Result<Row> {
    let (mut samples, mut state) = (Samples::default(), 0x2545_f491_4f6c_dd1d_u64);
    for _ in 0..reads {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 33) % count;
        let (mut found, began) = (None, Instant::now());
        rival.get(number, &mut |record| found = Some(number_of(record)))?;
        samples.push(began.elapsed());
        if found != Some(number) {
            return Err(format!("{}: record {number} is {found:?}", entry.name).into());
        }
    }
    let Summary { p50, p99, .. } = samples.summary();
    let cells = vec![duration_text(p50), duration_text(p99)];
    Ok(Row { name: entry.name, cells, figure: p50.as_secs_f64() })
}

fn sized(entry: &Entry, directory: &Path, count: u64) -> Result<Row> {
    let everything = bytes_below(directory)?;
    let topics = directory.join("topics");
    let records = if topics.is_dir() { bytes_below(&topics)? } else { everything };
    let figure = records as f64 / count as f64;
    let cells = vec![format!("{figure:.0}"), format!("{:.0}", everything as f64 / count as f64)];
    Ok(Row { name: entry.name, cells, figure })
}

fn bytes_below(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        // What is allocated: a length says nothing of a file with holes.
        bytes += if found.is_dir() { bytes_below(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(bytes)
}
