//! Ids of events: what many of them take in memory and on disk, how fast they are looked up, and how they go.

use crate::limits::Limits;
use crate::memory::{Said, anon_bytes, text_of};
use crate::report::{Report, Survives};
use crate::setup::{self, Measures, Result};
use exactlog::{AtCap, Durability, Event, EventId, Log, Metrics, Producer, Ticket, Topic, TopicOptions};
use exactlog_benches::numbers::spread;
use exactlog_benches::samples::bytes_text;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Many ids in one log, in a process of its own.
pub(crate) fn run(measures: &Measures, _limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("ids of events: 16 random bytes each, in batches, beyond what memory holds");
    let count = measures.pick(10_000_000_u64, 600_000);
    let directory = measures.fresh()?;
    let said = Said::of(&["ids", text_of(directory.path())?, &count.to_string()])?;
    let per_second = |name: &str| -> Result<String> {
        let ids = said.number(&format!("{name}_ids"))?;
        let us = said.number(&format!("{name}_us"))?.max(1);
        Ok(format!("{} ids/s", ids * 1_000_000 / us))
    };
    let (runs, on_disk) = (said.number("runs")?, said.number("on_disk")?);
    let figure = format!("{count} events with new ids, sent");
    report.row(&figure, Survives::Kill, &per_second("sent")?, &format!("{on_disk} on disk, in {runs} runs"));
    let more = said.number("anon")?.saturating_sub(said.number("before")?);
    let each = more as f64 / count as f64;
    let memory = bytes_text(said.number("run_memory")?);
    let figure = format!("memory of {count} ids, of a process that has opened the log");
    report.row(
        &figure,
        Survives::NotSaid,
        &format!("{each:.1} B each"),
        &format!("{memory} of filters and indexes"),
    );
    let bytes = said.number("run_bytes")?;
    let each = bytes as f64 / on_disk.max(1) as f64;
    report.row("their runs on disk", Survives::NotSaid, &format!("{each:.1} B each"), &bytes_text(bytes));
    let needless = format!("{} of {} needless reads", said.number("needless")?, said.number("look_ups")?);
    report.row("asked for: ids that were seen", Survives::NotSaid, &per_second("seen")?, &needless);
    report.row("asked for: ids that were not", Survives::NotSaid, &per_second("absent")?, "");
    let directory = measures.fresh()?;
    let said = Said::of(&["ids-go", text_of(directory.path())?, &(count / 10).to_string()])?;
    let late = format!("{} ms behind the end of the last bucket", said.number("late_ms")?);
    report.row(&format!("{} ids whose time is over are gone", count / 10), Survives::NotSaid, &late, "");
    Ok(())
}

/// As random as ids of events are, and the same each time.
fn id(number: u64) -> EventId {
    EventId::uuid(spread(number))
}

fn send(producer: &Producer, topic: &Topic, numbers: Range<u64>) -> Result<()> {
    const AT_ONCE: u64 = 20_000;
    for from in numbers.clone().step_by(AT_ONCE as usize) {
        let tickets: Vec<Ticket> = (from..(from + AT_ONCE).min(numbers.end))
            .map(|number| producer.blocking_submit(topic, Event::new("k", "v").id(id(number))))
            .collect::<std::result::Result<_, _>>()?;
        for ticket in tickets {
            ticket.wait()?;
        }
    }
    Ok(())
}

/// What "behind" has to do for these ids is done.
fn wait_for_runs(log: &Log) -> Metrics {
    let mut last = log.metrics();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = log.metrics();
        if now.dedup.in_memory <= 200_000
            && (now.dedup.runs, now.dedup.in_memory) == (last.dedup.runs, last.dedup.in_memory)
        {
            return now;
        }
        last = now;
    }
}

/// Child: fills a log, opens it again, and asks.
pub(crate) fn fill(directory: &Path, count: u64) -> Result<()> {
    let before = anon_bytes()?;
    let log = Log::builder().durability(Durability::Os).open(directory)?;
    let topic = log.create_topic("t", TopicOptions::default())?;
    let producer = log.producer("feed")?;
    let began = Instant::now();
    send(&producer, &topic, 0..count)?;
    println!("sent_ids {count}\nsent_us {}", began.elapsed().as_micros());
    let metrics = wait_for_runs(&log);
    log.checkpoint()?;
    drop(producer);
    log.close()?;
    let log = Log::builder().durability(Durability::Os).open(directory)?;
    setup::settle(&log);
    println!("before {before}\nanon {}", anon_bytes()?);
    println!("runs {}\non_disk {}", metrics.dedup.runs, metrics.dedup_entries - metrics.dedup.in_memory);
    println!("run_bytes {}\nrun_memory {}", metrics.dedup.run_bytes, metrics.dedup.run_memory_bytes);
    let topic = log.open_topic("t")?;
    let asked = count.min(200_000);
    for (name, from, step) in [("seen", 0, (count / asked).max(1)), ("absent", count, 1)] {
        let began = Instant::now();
        for number in (0..asked).map(|nth| from + nth * step) {
            log.seen(&topic, id(number))?;
        }
        println!("{name}_ids {asked}\n{name}_us {}", began.elapsed().as_micros());
    }
    let dedup = log.metrics().dedup;
    println!("needless {}\nlook_ups {}", dedup.false_positives, dedup.look_ups);
    Ok(log.close()?)
}

/// Child: how late ids go.
pub(crate) fn go(directory: &Path, count: u64) -> Result<()> {
    const TTL: Duration = Duration::from_secs(30);
    let log = Log::builder().durability(Durability::Os).dedup_memory_entries(20_000).open(directory)?;
    let topic = log.create_topic("t", TopicOptions::default())?;
    log.set_dedup_limits(TTL, 100_000_000, AtCap::Refuse)?;
    let producer = log.producer("feed")?;
    send(&producer, &topic, 0..count)?;
    let over = Instant::now() + TTL + TTL / 168;
    while log.metrics().dedup_entries > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("late_ms {}", Instant::now().saturating_duration_since(over).as_millis());
    Ok(log.close()?)
}
