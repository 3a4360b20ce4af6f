//! Reading a partition from its beginning: out of memory, out of the journal, out of segments.
//!
//! The system's page cache is warm; what isn't in memory of the log has its CRC-32C checked.

use crate::engine;
use crate::limits::{Limits, rate_text};
use crate::report::{Report, Survives};
use crate::setup::{self, GIB, MIB, Measures, Result};
use exactlog::{Durability, Event, Log, Topic, TopicOptions};
use exactlog_benches::samples::number_text;
use exactlog_benches::value::Values;
use exactlog_core::ids::Partition;
use exactlog_storage::shard::Options;
use std::time::{Duration, Instant};

/// How much one call reads.
const READ_BYTES: usize = MIB as usize;

/// Where the records lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Tail,
    Journal,
    Segments,
}

/// What was read, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    records: u64,
    value_bytes: u64,
    elapsed: Duration,
}

/// Each place, as records and as batches.
pub(crate) fn run(measures: &Measures, limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("scan of one partition, 1 thread, warm page cache, CRC-32C checked");
    let bytes = measures.pick(GIB, 128 * MIB);
    for value_bytes in [100, 1024] {
        for (from, name) in
            [(From::Tail, "memory (tail cache)"), (From::Journal, "journal"), (From::Segments, "segments")]
        {
            let (records, batches) = measure(measures, from, value_bytes, bytes)?;
            let mut row = |what: &str, scan: Scan| {
                let rate = scan.value_bytes as f64 / scan.elapsed.as_secs_f64();
                let per_second = number_text(scan.records as f64 / scan.elapsed.as_secs_f64());
                let compared = format!("{:.2} of copying memory", rate / limits.copy_rate);
                let figure = format!("{value_bytes} B: {what} from {name}");
                report.row(
                    &figure,
                    Survives::NotSaid,
                    &format!("{per_second} rec/s, {}", rate_text(rate)),
                    &compared,
                );
            };
            row("`ReadView::read`, records", records);
            if let Some(batches) = batches {
                row("engine's reader, batches and their records", batches);
            }
        }
    }
    Ok(())
}

fn measure(measures: &Measures, from: From, value_bytes: usize, bytes: u64) -> Result<(Scan, Option<Scan>)> {
    let directory = measures.fresh()?;
    let options = Options {
        durability: Durability::Os,
        journal_ring_bytes: 4 * GIB,
        checkpoint_bytes: if from == From::Segments { MIB } else { 8 * GIB },
        tail_cache_bytes: if from == From::Tail { 2 * bytes } else { 0 },
        ..Options::default()
    };
    let log = Log::builder()
        .durability(options.durability)
        .journal_ring_bytes(options.journal_ring_bytes)
        .checkpoint_bytes(options.checkpoint_bytes)
        .tail_cache_bytes(options.tail_cache_bytes)
        .open(directory.path())?;
    let topic = log.create_topic("scanned", TopicOptions::default())?;
    let records = fill(&log, &topic, value_bytes, bytes)?;
    setup::settle(&log);
    // Segments are written around the page cache: who comes first reads the disk.
    scan_view(&log, &topic)?;
    let by_view = scan_view(&log, &topic)?;
    let partition = Partition { topic: topic.id(), index: 0 };
    drop(topic);
    log.close()?;
    let by_engine = match from {
        From::Tail => None,
        From::Journal | From::Segments => {
            let shard = engine::open(directory.path(), options)?;
            Some(scan_engine(&shard, partition)?)
        }
    };
    for scan in [Some(by_view), by_engine].into_iter().flatten() {
        if scan.records != records || scan.value_bytes != records * value_bytes as u64 {
            return Err(
                format!("{records} records of {value_bytes} B were written, and read: {scan:?}").into()
            );
        }
    }
    Ok((by_view, by_engine))
}

fn fill(log: &Log, topic: &Topic, value_bytes: usize, bytes: u64) -> Result<u64> {
    let producer = log.producer("scanned")?;
    let mut values = Values::new(value_bytes);
    let records = bytes / value_bytes as u64;
    let mut last = None;
    for _ in 0..records {
        last = Some(producer.blocking_submit(topic, Event::unkeyed(values.take()))?);
    }
    last.map(|ticket| ticket.wait()).transpose()?;
    Ok(records)
}

fn scan_view(log: &Log, topic: &Topic) -> Result<Scan> {
    let view = log.read_view();
    let end = view.end(topic, 0)?;
    let (mut offset, mut scan, began) = (0, Scan::default(), Instant::now());
    while offset < end {
        let records = view.read(topic, 0, offset, READ_BYTES)?;
        for record in &records {
            scan.value_bytes += record.value().len() as u64;
        }
        scan.records += records.len() as u64;
        offset = records.last().ok_or("a hole in the log")?.offset + 1;
    }
    scan.elapsed = began.elapsed();
    Ok(scan)
}

fn scan_engine(shard: &exactlog_storage::shard::Shard, partition: Partition) -> Result<Scan> {
    let reader = shard.reader();
    let (mut offset, mut scan, began) = (0, Scan::default(), Instant::now());
    loop {
        let batches = reader.read(partition, offset, READ_BYTES)?;
        let Some(last) = batches.last() else { break };
        offset = last.next_offset();
        for record in batches.iter().flat_map(|batch| batch.records()) {
            scan.value_bytes += record?.value.map_or(0, |value| value.len() as u64);
            scan.records += 1;
        }
    }
    scan.elapsed = began.elapsed();
    Ok(scan)
}
