//! A keyed table: what many keys take in memory, how long opening takes with them, and how fast they are put and got.

use crate::limits::Limits;
use crate::memory::{Said, anon_bytes, text_of};
use crate::report::{Report, Survives};
use crate::setup::{self, Measures, Result};
use exactlog::{Durability, Log, TableLimits, TableOptions};
use exactlog_benches::numbers::{Numbers, spread};
use exactlog_benches::samples::{bytes_text, duration_text, number_text};
use exactlog_benches::value::Values;
use std::path::Path;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 100;

/// Puts of one transaction.
const AT_ONCE: u64 = 1000;

/// Many keys in one table, in a process of its own that writes them, and in one that opens them.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("tables: keys of 16 B, values of 100 B, one partition");
    let count = measures.pick(1_000_000_u64, 50_000);
    let directory = measures.fresh()?;
    let (path, number) = (text_of(directory.path())?, count.to_string());
    let put = Said::of(&["tables-put", path, &number])?;
    let per_second = |said: &Said, what: &str| -> Result<f64> {
        Ok(said.number(what)? as f64 * 1e6 / said.number(&format!("{what}_us"))?.max(1) as f64)
    };
    let rate = per_second(&put, "puts")?;
    let beside = format!("{:.2} of write(2)", rate * (VALUE_BYTES + 16) as f64 / limits.write_rate);
    let figure = format!("{count} keys put, {AT_ONCE} in a transaction");
    report.row(&figure, Survives::Kill, &format!("{} puts/s", number_text(rate)), &beside);

    let got = Said::of(&["tables-get", path, &number])?;
    let opened = duration_text(Duration::from_micros(got.number("open_us")?));
    report.row(&format!("closed log of {count} keys: opened"), Survives::NotSaid, &opened, "");
    let more = got.number("anon")?.saturating_sub(got.number("before")?);
    let each = more as f64 / count as f64;
    let figure = format!("memory of {count} keys, of a process that has opened the log");
    report.row(&figure, Survives::NotSaid, &format!("{each:.0} B each"), &bytes_text(more));
    let copied = (VALUE_BYTES + 16) as f64;
    for (name, figure) in [
        ("first", "got from segments: random keys, for the first time"),
        ("gets", "got from segments: once more"),
    ] {
        let rate = per_second(&got, name)?;
        let beside = format!("{:.4} of copying memory", rate * copied / limits.copy_rate);
        report.row(figure, Survives::NotSaid, &format!("{} gets/s", number_text(rate)), &beside);
    }
    Ok(())
}

/// Child: fills a table and closes its log.
pub(crate) fn put(directory: &Path, count: u64) -> Result<()> {
    let log = Log::builder().durability(Durability::Os).open(directory)?;
    let limits = TableLimits { keys_max: log.table_limits().keys_max.max(count), ..log.table_limits() };
    log.set_table_limits(limits)?;
    let table = log.create_table("measured", TableOptions::default())?;
    let mut producer = log.producer("writer")?;
    let mut values = Values::new(VALUE_BYTES);
    let began = Instant::now();
    for from in (0..count).step_by(AT_ONCE as usize) {
        let mut transaction = producer.begin();
        for number in from..(from + AT_ONCE).min(count) {
            transaction.put(&table, spread(number).to_vec(), values.take())?;
        }
        transaction.blocking_commit()?;
    }
    println!("puts {count}\nputs_us {}", began.elapsed().as_micros());
    drop(producer);
    // What is only in the journal is read a batch at a time: into segments, as it goes by itself when more is written.
    log.checkpoint()?;
    Ok(log.close()?)
}

/// Child: opens that log, says what it takes, and gets the same random keys twice.
pub(crate) fn get(directory: &Path, count: u64) -> Result<()> {
    let before = anon_bytes()?;
    let began = Instant::now();
    let log = Log::builder().durability(Durability::Os).open(directory)?;
    println!("open_us {}", began.elapsed().as_micros());
    let table = log.table("measured")?;
    if table.len()? != count {
        return Err(format!("{} of {count} keys are there", table.len()?).into());
    }
    setup::settle(&log);
    println!("before {before}\nanon {}", anon_bytes()?);
    let asked = count.min(200_000);
    for name in ["first", "gets"] {
        let mut numbers = Numbers::below(count);
        let began = Instant::now();
        for _ in 0..asked {
            let entry = table.get(spread(numbers.take()))?.ok_or("a key is missing")?;
            if entry.value().len() != VALUE_BYTES {
                return Err(format!("a value has {} B", entry.value().len()).into());
            }
        }
        println!("{name} {asked}\n{name}_us {}", began.elapsed().as_micros());
    }
    Ok(log.close()?)
}
