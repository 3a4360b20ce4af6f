//! Writers under load, killed hundreds of times: what was acknowledged is there, once; transactions are there wholly
//! or not at all. The processes are real, so is the disk. A killed process loses nothing under either durability.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod processes;

use exactlog::{Error, Log, StorageError};
use exactlog_sim::rng::Random;
use processes::{Victim, each_record};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const KILLS: u64 = 300;

/// Kills on one directory; then it is looked at, and the next begins anew.
const KILLS_OF_A_ROUND: u64 = 25;

/// Most acknowledgements that are waited for before a kill.
const ACKS_MAX: u64 = 1500;

fn writer(directory: &Path, durability: &str, run: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killed-writer"));
    command.arg(directory).arg(durability).arg(run.to_string());
    command
}

/// What writers were told on one directory.
#[derive(Default)]
struct Acked {
    /// Number of a single record -> partition and offset.
    singles: HashMap<u64, (u32, u64)>,
    /// Numbers of transactions.
    pairs: HashSet<u64>,
}

impl Acked {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        let is_new = match words[0] {
            "s" => self.singles.insert(number(1), (number(2) as u32, number(3))).is_none(),
            "p" => self.pairs.insert(number(1)),
            _ => panic!("{line:?} is no acknowledgement"),
        };
        assert!(is_new, "{line:?} was acknowledged twice");
    }

    fn len(&self) -> u64 {
        (self.singles.len() + self.pairs.len()) as u64
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    lost: u64,
    doubled: u64,
}

/// Compares what was acknowledged with what is there.
fn judge(log: &Log, acked: &Acked) -> Verdict {
    let mut verdict = Verdict::default();
    let mut singles = HashMap::new();
    each_record(log, &log.open_topic("singles").unwrap(), |record| {
        let text = String::from_utf8(record.value().to_vec()).unwrap();
        let number: u64 = text.trim_end().parse().unwrap();
        assert_eq!(record.key.as_deref(), Some(&number.to_be_bytes()[..]));
        let before = singles.insert(number, (record.partition, record.offset));
        verdict.doubled += u64::from(before.is_some());
    });
    let is_there = |(number, place): &(&u64, &(u32, u64))| singles.get(number) == Some(place);
    verdict.lost += acked.singles.iter().filter(|acked| !is_there(acked)).count() as u64;

    let [left, right] = ["left", "right"].map(|topic| transactions(log, topic, &mut verdict.doubled));
    assert_eq!(left, right, "a transaction is in one topic and not in the other");
    for (index, (number, (count, found))) in left.iter().enumerate() {
        assert_eq!(*number, index as u64, "behind its cursor it goes on without a gap");
        assert_eq!(count, found, "transaction {number} is there in part");
    }
    verdict.lost += acked.pairs.iter().filter(|number| !left.contains_key(number)).count() as u64;
    // What was not acknowledged before a kill can be there; more than one can't: the next waits for the one before.
    verdict
}

/// Number of a transaction -> how many records it says it has, and how many it has.
fn transactions(log: &Log, topic: &str, doubled: &mut u64) -> BTreeMap<u64, (u64, u64)> {
    let mut seen = HashSet::new();
    let mut transactions: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    each_record(log, &log.open_topic(topic).unwrap(), |record| {
        let text = std::str::from_utf8(record.value()).unwrap();
        let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        let [number, index, count] = numbers[..] else { panic!("{text:?}") };
        *doubled += u64::from(!seen.insert((number, index)));
        let entry = transactions.entry(number).or_insert((count, 0));
        entry.1 += 1;
    });
    transactions
}

/// Kills writers on one directory; what they were told.
fn kill_writers(directory: &Path, durability: &str, random: &mut Random) -> Acked {
    let mut acked = Acked::default();
    for run in 0..KILLS_OF_A_ROUND {
        let mut victim = Victim::start(&mut writer(directory, durability, run));
        // Some are killed while they open the log: recovery is interrupted, too.
        let wanted = if random.chance(1, 8) { 0 } else { random.below(ACKS_MAX) };
        for _ in 0..wanted {
            let line = victim.line().expect("it writes until it is killed");
            acked.take(&line);
        }
        let (rest, status) = victim.kill(random, Duration::from_millis(10));
        assert_eq!(status.code(), None, "it ended by itself");
        rest.iter().for_each(|line| acked.take(line));
    }
    acked
}

#[test]
fn what_killed_writers_were_told_is_there_once() {
    let (mut kills, mut acks, mut verdict) = (0, 0, Verdict::default());
    for round in 0..KILLS / KILLS_OF_A_ROUND {
        let directory = tempfile::tempdir().unwrap();
        let durability = if round % 2 == 0 { "fsync" } else { "os" };
        let acked = kill_writers(directory.path(), durability, &mut Random::new(round));
        assert!(
            acked.singles.len() > 100 && acked.pairs.len() > 10,
            "{durability}: hardly anything was written"
        );
        let log = Log::open(directory.path()).unwrap();
        let found = judge(&log, &acked);
        verdict = Verdict { lost: verdict.lost + found.lost, doubled: verdict.doubled + found.doubled };
        kills += KILLS_OF_A_ROUND;
        acks += acked.len();
    }
    let Verdict { lost, doubled } = verdict;
    // Not by `println`: libtest would keep it to itself, and the numbers are worth seeing.
    writeln!(std::io::stdout(), "kills: {kills}, acked: {acks}, lost: {lost}, doubled: {doubled}").unwrap();
    assert_eq!(verdict, Verdict::default());
    assert!(kills >= KILLS);
}

#[test]
fn a_second_process_on_a_directory_is_refused_at_once_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut acked = Acked::default();
    let mut first = Victim::start(&mut writer(directory.path(), "fsync", 0));
    let mut take = |victim: &mut Victim, count| {
        (0..count).for_each(|_| acked.take(&victim.line().expect("it writes until it is killed")));
    };
    take(&mut first, 100);

    let second = writer(directory.path(), "fsync", 1).stdin(Stdio::null()).output().unwrap();
    assert!(!second.status.success());
    assert!(second.stdout.is_empty(), "it acknowledged something");
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("process {}", first.id())), "{said}");
    let error = Log::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Storage(StorageError::InUse { .. })), "{error}");

    take(&mut first, 2000);
    let (rest, _) = first.kill(&mut Random::new(0), Duration::ZERO);
    rest.iter().for_each(|line| acked.take(line));
    let log = Log::open(directory.path()).unwrap();
    assert_eq!(judge(&log, &acked), Verdict::default());
}
