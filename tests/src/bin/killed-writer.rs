//! Writes until it is killed, and says on standard output what was acknowledged. `tests/killed_writers.rs` starts it.
//!
//! ```text
//!   killed-writer DIRECTORY fsync|os RUN
//!
//!   s NUMBER PARTITION OFFSET    a record of topic `singles` was acknowledged
//!   p NUMBER                     a transaction over `left` and `right` was
//! ```
//!
//! Two threads write: one keeps many tickets in flight, with numbers that no other run uses; the other commits
//! transactions, and goes on behind its cursor after a restart. A line is written only after its acknowledgement.

use exactlog::{Durability, Event, Log, Producer, Ticket, Topic, TopicOptions};
use exactlog_sim::rng::Random;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const MIB: u64 = 1024 * 1024;

const SEGMENT_BYTES: u32 = 1024 * 1024;

/// Tickets in flight.
const TICKETS_MAX: usize = 512;

/// Acknowledgements are written in blocks of so many lines.
const LINES: usize = 64;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, durability, run] = &arguments[..] else {
        return Err("killed-writer DIRECTORY fsync|os RUN".into());
    };
    let durability = if durability == "os" { Durability::Os } else { Durability::Fsync };
    let run: u64 = run.parse()?;
    // As small as can be, so that kills also hit where files end, are recycled, and where checkpoints are made.
    let builder = Log::builder().durability(durability).journal_file_bytes(MIB).journal_ring_bytes(8 * MIB);
    let log = builder.checkpoint_bytes(MIB / 4).tail_cache_bytes(MIB / 4).open(directory)?;
    let options = |partitions| TopicOptions::default().partitions(partitions).segment_bytes(SEGMENT_BYTES);
    let singles = log.create_topic("singles", options(4))?;
    let left = log.create_topic("left", options(3))?;
    let right = log.create_topic("right", options(1))?;
    let (submitting, committing) = (log.producer("singles")?, log.producer("pairs")?);
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| commit(committing, &left, &right, Random::new(run)));
        let submitted = submit(&submitting, &singles, run, Random::new(!run));
        let committed = committing.join().map_err(|_| "the committing thread panicked")?;
        submitted.and(committed)
    })
}

fn say(lines: &mut String) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(lines.as_bytes())?;
    stdout.flush()?;
    lines.clear();
    Ok(())
}

fn submit(producer: &Producer, topic: &Topic, run: u64, mut random: Random) -> Result<(), Failure> {
    let mut tickets: VecDeque<(u64, Ticket)> = VecDeque::new();
    let mut lines = String::new();
    for number in (run << 32).. {
        let mut value = number.to_string().into_bytes();
        // Mostly small, now and then larger than what the journal copies.
        let filler = if random.chance(1, 500) { random.below(60_000) } else { random.below(100) };
        value.resize(value.len() + filler as usize, b' ');
        tickets.push_back((
            number,
            producer.blocking_submit(topic, Event::new(number.to_be_bytes().to_vec(), value))?,
        ));
        if tickets.len() < TICKETS_MAX {
            continue;
        }
        for (number, ticket) in tickets.drain(..LINES) {
            let receipt = ticket.wait()?;
            writeln!(lines, "s {number} {} {}", receipt.partition, receipt.offset)?;
        }
        say(&mut lines)?;
    }
    Ok(())
}

fn commit(mut producer: Producer, left: &Topic, right: &Topic, mut random: Random) -> Result<(), Failure> {
    let first = match producer.cursor() {
        Some(cursor) => u64::from_be_bytes(cursor.as_ref().try_into()?),
        None => 0,
    };
    let mut lines = String::new();
    for number in first.. {
        let mut transaction = producer.begin();
        // Some records to each side: how many is in each of them, so that a part would be noticed.
        let count = 1 + random.below(8);
        for index in 0..count {
            let value = format!("{number} {index} {count}");
            transaction.send(left, Event::new(format!("{number} {index}"), value.clone()))?;
            transaction.send(right, Event::unkeyed(value))?;
        }
        transaction.set_cursor((number + 1).to_be_bytes().to_vec())?;
        transaction.blocking_commit()?;
        writeln!(lines, "p {number}")?;
        say(&mut lines)?;
    }
    Ok(())
}
