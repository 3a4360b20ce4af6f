//! Transactions over 8 partitions with the offsets of 8 partitions: one frame, one sync.

use crate::callers;
use crate::limits::{self, Limits};
use crate::report::{Report, Survives, latency_text};
use crate::setup::{self, Measures, Result, Ring};
use exactlog::{Durability, TopicOptions};
use exactlog_benches::chain::{Chain, PARTITIONS};
use exactlog_benches::samples::{Samples, number_text};
use exactlog_benches::warm;
use std::time::{Duration, Instant};

const CALLERS: [usize; 2] = [64, 512];

/// One caller, and many at a time.
pub(crate) fn run(measures: &Measures, _limits: &Limits, report: &mut Report) -> Result<()> {
    report.section("transaction: 8 records to 8 partitions, with the offsets of 8 partitions");
    for value_bytes in [100, 1024] {
        let row = Row { measures, value_bytes };
        row.run(report, Durability::Fsync, 1, How::FreshThread)?;
        row.run(report, Durability::Fsync, 1, How::Threads)?;
        row.run(report, Durability::Fsync, CALLERS[0], How::Threads)?;
        for callers in CALLERS {
            row.run(report, Durability::Fsync, callers, How::Tasks)?;
        }
    }
    Row { measures, value_bytes: 100 }.run(report, Durability::Os, 1, How::Threads)
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A thread, on a log whose first journal file was never written before.
    FreshThread,
    Threads,
    Tasks,
}

struct Row<'a> {
    measures: &'a Measures,
    value_bytes: usize,
}

impl Row<'_> {
    fn run(&self, report: &mut Report, durability: Durability, callers: usize, how: How) -> Result<()> {
        let directory = self.measures.fresh()?;
        let log = setup::open(directory.path(), durability, Ring::Default, setup::MIB)?;
        if how != How::FreshThread {
            warm::leave_first_file(&log)?;
        }
        if callers > 1 {
            // Many callers fill many journal files: these have been used before.
            let topic = log.create_topic("warm", TopicOptions::default())?;
            setup::warm_up(&log, &topic, &log.producer("warm")?, setup::GIB)?;
        }
        let chains = (0..callers)
            .map(|number| Chain::new(&log, &format!("circle-{number}"), self.value_bytes))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        setup::settle(&log);
        let period = self.measures.period();
        let mut chains = chains.into_iter();
        let alone = if callers == 1 { chains.next() } else { None };
        let (calls, sync) = match alone {
            Some(mut chain) => callers::alone(self.measures, |period| in_thread(&mut chain, period))?,
            None => limits::beside_sync(self.measures, || match how {
                How::FreshThread | How::Threads => {
                    callers::threads(chains.map(|mut chain| move || in_thread(&mut chain, period)))
                }
                How::Tasks => callers::tasks(chains.map(|chain| in_task(chain, period))),
            })?,
        };
        let (rate, latency) = (calls.rate(), calls.latency);
        let (survives, compared) = match durability {
            Durability::Fsync => (Survives::PowerLoss, limits::to_sync(latency.p50, &sync)),
            Durability::Os | Durability::Interval(_) => (Survives::Kill, String::new()),
        };
        let who = match (callers, how) {
            (_, How::FreshThread) => "1 caller, fresh log".to_string(),
            (1, _) => "1 caller".to_string(),
            (callers, How::Threads) => format!("{callers} threads, each its own producer and topic"),
            (callers, How::Tasks) => {
                format!("{callers} tasks on 1 runtime thread, each its own producer and topic")
            }
        };
        let records = number_text(rate * f64::from(PARTITIONS));
        let text =
            format!("{} transactions/s ({records} rec/s), {}", number_text(rate), latency_text(&latency));
        report.row(&format!("{} B: {who}", self.value_bytes), survives, &text, &compared);
        Ok(())
    }
}

async fn in_task(mut chain: Chain, period: Duration) -> Result<Samples> {
    let (mut samples, began) = (Samples::default(), Instant::now());
    while began.elapsed() < period {
        samples.push(chain.step().await?);
    }
    check(&chain)?;
    Ok(samples)
}

fn in_thread(chain: &mut Chain, period: Duration) -> Result<Samples> {
    let (mut samples, began) = (Samples::default(), Instant::now());
    while began.elapsed() < period {
        samples.push(chain.blocking_step()?);
    }
    check(chain)?;
    Ok(samples)
}

fn check(chain: &Chain) -> Result<()> {
    if chain.is_whole() { Ok(()) } else { Err("offsets and records of a circle don't agree".into()) }
}
