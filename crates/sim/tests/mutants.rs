//! Every planted mistake must be found (docs/TESTING.md has the table). Run with `--features mutants`;
//! `EXACTLOG_MUTANTS=M4` hunts those alone whose names begin like this.
//!
//! Mistakes about old records are found by histories that are mostly about these
//! (crates/storage/tests/compaction.rs).
#![cfg(feature = "mutants")]

use exactlog_core::mutants::{Mutant, plant};
use exactlog_sim::campaign::number;
use exactlog_sim::damage::{Directory, Left, Verdict};
use exactlog_sim::disk::{Call, EIO, Effect, Fault};
use exactlog_sim::enumerate::Filter;
use exactlog_sim::rng::Random;
use exactlog_sim::run;
use exactlog_sim::workload::Plan;

/// Mistakes that no check can reach yet, since what they spoil isn't built. To be kept empty.
const NOT_YET_REACHABLE: [Mutant; 0] = [];

/// How often the gate hunts each mistake, from another seed each time; `EXACTLOG_MUTANT_HUNTS` says otherwise.
const HUNTS: u64 = 2;
/// Crash states after which a hunt is given up. Most are over after a few thousand; a window of one batch takes some
/// hundred thousand, since few commands of the workload are retries of a batch that isn't the newest.
const STATES: u64 = 5_000_000;

/// One success: which check, after how many seeds and states, what it said.
struct Kill {
    check: &'static str,
    seeds: u64,
    states: u64,
    what: String,
}

/// Those about runs of event ids are hunted in histories that have some.
fn hunt(first_seed: u64, about_runs: bool) -> Option<Kill> {
    // The damage sweep is short and the same each time; what it finds needs no seeds.
    if let Some((states, what)) = damage() {
        return Some(Kill { check: "damage", seeds: 1, states, what });
    }
    if let Some(kill) = about_runs.then(|| failing_look_ups(first_seed)).flatten() {
        return Some(kill);
    }
    let wanted = if about_runs { Plan::goes_to_disk } else { |_: &Plan| true };
    let (counters, seeds, result) = run::sweep_of(first_seed, STATES, Filter::default(), wanted);
    let what = result.err()?.broken.what;
    Some(Kill { check: "crashes", seeds, states: counters.states, what })
}

/// A few runs in which reading a run of event ids fails: once for each read.
fn failing_look_ups(first_seed: u64) -> Option<Kill> {
    const SEEDS: u64 = 8;
    let on_disk = (first_seed..).filter(|seed| Plan::draw(&mut Random::new(*seed)).goes_to_disk());
    let (mut states, filter) = (0, Filter { points_one_in: 24, survivals: 1, ..Filter::default() });
    for (seeds, seed) in (1..=SEEDS).zip(on_disk) {
        for skip in 0..100 {
            let fault = Fault::once(Some(Call::Read), skip, Effect::Errno(EIO)).on("dedup/");
            let (counters, was_met, result) = run::run_with_fault(seed, filter, fault);
            states += counters.states;
            if let Err(violation) = result {
                return Some(Kill { check: "faults", seeds, states, what: violation.broken.what });
            }
            if !was_met {
                break;
            }
        }
    }
    None
}

/// A sample of the damage sweep: the first silent loss, and how many directories were opened up to it.
fn damage() -> Option<(u64, String)> {
    let mut opened = 0;
    for left in [Left::Clean, Left::Unsealed] {
        let Ok(directory) = std::panic::catch_unwind(|| Directory::new(left, false)) else { continue };
        for (name, len) in directory.files("journal/") {
            for position in (0..len).step_by(97) {
                let damaged = directory.copy();
                damaged.flip_bit(&name, position, 0xFF).ok()?;
                opened += 1;
                // Damage that a mistake merely answers with another word isn't its discovery: only silence is.
                if let Verdict::Silent(what) = directory.judge(&damaged) {
                    return Some((opened, format!("{name} byte {position}: {what}")));
                }
            }
        }
    }
    None
}

#[test]
fn every_planted_mistake_is_found() {
    // A mistake makes the engine panic, too: that is found as a violation, and needn't be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| mistake | found by | median seeds | median states | most states | for example |");
    println!("|---|---|---:|---:|---:|---|");
    // Of some alone: EXACTLOG_MUTANTS=T is the mistakes about timers.
    let wanted = std::env::var("EXACTLOG_MUTANTS").unwrap_or_default();
    let hunts = number("EXACTLOG_MUTANT_HUNTS").unwrap_or(HUNTS);
    let hunted = Mutant::ALL.iter().filter(|mutant| !mutant.is_about_old_records());
    for &mutant in hunted.filter(|mutant| format!("{mutant:?}").starts_with(&wanted)) {
        let mut kills = Vec::new();
        for nth in 0..hunts {
            plant(Some(mutant));
            let kill = hunt(1 + nth * 1000, mutant.is_about_runs());
            plant(None);
            kills.extend(kill);
        }
        if kills.len() < hunts as usize {
            missed.push(mutant);
        }
        kills.sort_by_key(|kill| kill.states);
        match kills.get(kills.len() / 2) {
            None => println!("| {mutant:?} | **not found** | | | | |"),
            Some(kill) => {
                let most = kills.last().map_or(0, |kill| kill.states);
                let what: String =
                    kill.what.split(": ").last().unwrap_or_default().chars().take(110).collect();
                let Kill { check, seeds, states, .. } = kill;
                println!(
                    "| {mutant:?} | {check} | {seeds} | {states} | {most} | {} |",
                    what.replace('\n', " ")
                );
            }
        }
    }
    let _ = std::panic::take_hook();
    missed.retain(|mutant| !NOT_YET_REACHABLE.contains(mutant));
    assert!(missed.is_empty(), "not found in each of {hunts} hunts: {missed:?}");
}

#[test]
fn without_a_mistake_nothing_is_found() {
    plant(None);
    assert_eq!(damage(), None);
    assert!(failing_look_ups(1).is_none());
    let (_, _, result) = run::sweep(1, 20_000, Filter::default());
    result.unwrap_or_else(|violation| panic!("\n{violation}"));
}
