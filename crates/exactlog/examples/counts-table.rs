//! Words are counted in a table, each exactly once, whenever the process is killed.
//!
//! ```sh
//! cargo run -p exactlog --example counts-table
//! cargo run -p exactlog --example counts-table -- ./exactlog-data/counts-table 40   # is killed after 40 commits
//! ```
//!
//! A poem comes in line by line, with the number of the line as the producer's cursor, so that it is fed once. A
//! consumer takes a few words at a time and adds them to the counts of the table `counts`. Counts and position are one
//! commit: wherever the process ends, the next run goes on with the word that isn't counted yet. With a number as the
//! second argument it ends itself after so many commits, without closing anything, as a kill does.
//!
//! Delete `./exactlog-data/counts-table` to begin anew.

use exactlog::{Event, Log, Table, TableOptions, Topic, TopicOptions};
use std::collections::BTreeMap;
use std::error::Error;

/// "Kubla Khan", Samuel Taylor Coleridge, 1816.
const POEM: [&str; 11] = [
    "In Xanadu did Kubla Khan",
    "A stately pleasure-dome decree:",
    "Where Alph, the sacred river, ran",
    "Through caverns measureless to man",
    "Down to a sunless sea.",
    "So twice five miles of fertile ground",
    "With walls and towers were girdled round:",
    "And there were gardens bright with sinuous rills,",
    "Where blossomed many an incense-bearing tree;",
    "And here were forests ancient as the hills,",
    "Enfolding sunny spots of greenery.",
];

/// How often it is read.
const TIMES: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or("./exactlog-data/counts-table".into());
    let commits_max = arguments.next().map(|number| number.parse()).transpose()?.unwrap_or(u64::MAX);
    let log = Log::open(directory)?;
    let words = log.create_topic("words", TopicOptions::default())?;
    let counts = log.create_table("counts", TableOptions::default())?;

    let mut budget = Budget(commits_max);
    feed(&log, &words, &mut budget)?;
    count(&log, &words, &counts, &mut budget)?;
    show(&counts)?;
    log.close()?;
    Ok(())
}

/// How many commits are left before the process ends itself.
struct Budget(u64);

impl Budget {
    fn take_one(&mut self) {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => {
                println!("killed");
                std::process::abort();
            }
        }
    }
}

fn words_of(line: &str) -> impl Iterator<Item = String> + '_ {
    let words = line.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase)
}

/// Sends each line once, as words: the cursor says how many lines are in the log.
fn feed(log: &Log, words: &Topic, budget: &mut Budget) -> Result<(), Box<dyn Error>> {
    let mut producer = log.producer("poem")?;
    let fed: usize = match producer.cursor() {
        Some(cursor) => std::str::from_utf8(cursor)?.parse()?,
        None => 0,
    };
    for number in fed..POEM.len() * TIMES {
        let mut transaction = producer.begin();
        for word in words_of(POEM[number % POEM.len()]) {
            transaction.send(words, Event::unkeyed(word))?;
        }
        transaction.set_cursor((number + 1).to_string())?;
        budget.take_one();
        transaction.blocking_commit()?;
    }
    Ok(())
}

/// Counts what isn't counted yet.
fn count(log: &Log, words: &Topic, counts: &Table, budget: &mut Budget) -> Result<(), Box<dyn Error>> {
    let mut producer = log.producer("counter")?;
    let mut consumer = log.consumer("counter").max_poll_records(50).subscribe([words])?;
    while let Some(batch) = consumer.try_next()? {
        let mut transaction = producer.begin();
        for record in &batch {
            let word = record.value_str()?.to_owned();
            // What this transaction has written itself, or what the table has.
            let before: u64 = match transaction.get(counts, word.clone())? {
                Some(text) => std::str::from_utf8(&text)?.parse()?,
                None => 0,
            };
            transaction.put(counts, word, (before + 1).to_string())?;
        }
        transaction.ack(batch);
        budget.take_one();
        transaction.blocking_commit()?; // to drop it instead would bring these words again
    }
    Ok(())
}

/// The most frequent words, and whether the counts are those of the poem.
fn show(counts: &Table) -> Result<(), Box<dyn Error>> {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for word in POEM.iter().flat_map(|line| words_of(line)) {
        *expected.entry(word).or_default() += TIMES as u64;
    }
    let mut found = Vec::new();
    for entry in counts.scan(..) {
        let entry = entry?;
        found.push((entry.value_str()?.parse::<u64>()?, entry.key_str()?.to_owned()));
    }
    let right = found.iter().filter(|(count, word)| expected.get(word) == Some(count)).count();
    let all: u64 = found.iter().map(|(count, _)| count).sum();
    found.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    for (count, word) in found.iter().take(5) {
        println!("{count:>4}  {word}");
    }
    println!("{all} words counted, {right} of {} counts are right", expected.len());
    Ok(())
}
