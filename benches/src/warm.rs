//! Bringing a new log into the state that it has for the rest of its life.

use crate::value::Values;
use exactlog::{Error, Event, Log, TopicOptions};
use std::time::{Duration, Instant};

/// Size of a journal file, if nothing else was said to the log's builder.
pub const JOURNAL_FILE_BYTES: u64 = 64 << 20;

/// Waits until nothing is being written behind any more.
pub fn settle(log: &Log) {
    // A sync of all that the page cache holds takes seconds, and nothing changes meanwhile.
    const STILL: Duration = Duration::from_secs(4);
    let look = || {
        let metrics = log.metrics();
        (metrics.unflushed_batches, metrics.journal_bytes)
    };
    let (mut last, mut since) = (look(), Instant::now());
    while since.elapsed() < STILL {
        std::thread::sleep(Duration::from_millis(50));
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Writes until the journal is in its second file. The first one of a new log is allocated, but was never written: each
/// sync of it must also note which of its blocks now are, which takes about half as long again.
///
/// # Errors
/// Those of the log.
pub fn leave_first_file(log: &Log) -> Result<(), Error> {
    // By then the second file is zeroed.
    settle(log);
    let topic = log.create_topic("filler", TopicOptions::default())?;
    let producer = log.producer("filler")?;
    let mut values = Values::new(1024);
    let mut last = None;
    let before = log.metrics().journal_bytes;
    while log.metrics().journal_bytes <= before {
        for _ in 0..1024 {
            last = Some(producer.blocking_submit(&topic, Event::unkeyed(values.take()))?);
        }
    }
    last.map(|ticket| ticket.wait()).transpose()?;
    settle(log);
    Ok(())
}
