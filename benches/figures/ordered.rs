//! Events of other keys while one key in a hundred fails, beside a run in which none does: in turns, five times each.

use crate::limits::Limits;
use crate::report::{Report, Survives, latency_text};
use crate::setup::{Measures, Result};
use exactlog::{Event, Log, TopicOptions};
use exactlog_benches::samples::{Samples, Summary};
use exactlog_flow::{Context, Failure, Processor};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Events a second, over this many keys.
const RATE: u32 = 5_000;
const KEYS: u32 = 1_000;

/// Ordered retry, the default: keys that fail wait with what is behind them, the others go on.
pub(crate) fn run(measures: &Measures, _: &Limits, report: &mut Report) -> Result<()> {
    report.section("processor: 5,000 events/s of 1,000 keys, ordered retry; from sending to the handler");
    let (mut undisturbed, mut disturbed) = (Vec::new(), Vec::new());
    for _ in 0..measures.pick(5, 2) {
        undisturbed.push(measure(measures, 0)?);
        disturbed.push(measure(measures, KEYS / 100)?);
    }
    let base = median(&mut undisturbed);
    report.row("no key fails", Survives::PowerLoss, &latency_text(&base), "median of the runs by p99");
    let other = median(&mut disturbed);
    let ratio = other.p99.as_secs_f64() / base.p99.as_secs_f64();
    let compared = format!("{ratio:.2} × the p99 in which none fails");
    report.row(
        "events of other keys, 1 % of the keys fail always",
        Survives::PowerLoss,
        &latency_text(&other),
        &compared,
    );
    Ok(())
}

fn median(runs: &mut [Summary]) -> Summary {
    runs.sort_by_key(|run| run.p99);
    runs[runs.len() / 2]
}

fn measure(measures: &Measures, failing: u32) -> Result<Summary> {
    let (warm_up, period) =
        (Duration::from_secs(1), measures.pick(Duration::from_secs(20), Duration::from_secs(1)));
    let directory = measures.fresh()?;
    let log = Log::open(directory.path())?;
    let topic = log.create_topic("events", TopicOptions::default().partitions(10))?;
    let samples = Arc::new(Mutex::new(Samples::default()));
    let base = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let handled = samples.clone();
    let running = {
        let _entered = runtime.enter();
        Processor::new(&log, "group").topic(&topic).start(move |event: Context| {
            let now = base.elapsed();
            let fails = number(event.key()).is_none_or(|key| key < failing);
            if !fails && let Some(sent) = event.value().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
            {
                let sent = Duration::from_nanos(sent);
                if sent >= warm_up {
                    handled
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .push(now.saturating_sub(sent));
                }
            }
            std::future::ready(match fails {
                true => Err(Failure::transient("Always", "this key fails")),
                false => Ok(()),
            })
        })?
    };
    let producer = log.producer("sender")?;
    let (mut sent, gap) = (0, Duration::from_secs(1) / RATE);
    while base.elapsed() < warm_up + period {
        // As many as are due by now: a sleep may be longer than it was meant to be.
        while gap * sent <= base.elapsed() {
            let stamp = base.elapsed().as_nanos() as u64;
            let key = (sent.wrapping_mul(7919) % KEYS).to_le_bytes().to_vec();
            // The ticket isn't needed: what counts is when the handler has it.
            drop(producer.blocking_submit(&topic, Event::new(key, stamp.to_le_bytes().to_vec()))?);
            sent += 1;
        }
        std::thread::sleep(gap);
    }
    while log.lag("group", &topic) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    runtime.block_on(running.stop())?;
    let samples = std::mem::take(&mut *samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    Ok(samples.summary())
}

fn number(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
