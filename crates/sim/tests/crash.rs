//! Every crash of seeded runs, as many as `EXACTLOG_CRASH_STATES` says, from `EXACTLOG_CRASH_SEED` on.
//! `EXACTLOG_CRASH_REPLAY=seed,point,image` opens one image again (docs/TESTING.md).

use exactlog_sim::campaign::number;
use exactlog_sim::enumerate::Filter;
use exactlog_sim::report::Counters;
use exactlog_sim::run;

/// What the gate checks, in crash states.
const STATES: u64 = 300_000;

/// The numbers that a violation prints. Point and image are `-` where the run itself failed.
fn replay(numbers: &str) {
    let numbers: Vec<Option<u64>> = numbers.split(',').map(|number| number.parse().ok()).collect();
    let [Some(seed), point, image] = numbers[..] else { panic!("seed,point,image is expected") };
    let filter = Filter { only: point.zip(image), ..Filter::default() };
    run::run(seed, filter).1.unwrap_or_else(|violation| panic!("\n{violation}"));
    println!("nothing wrong with seed {seed}, point {point:?}, image {image:?}");
}

#[test]
fn no_crash_loses_or_invents_anything() {
    if let Ok(numbers) = std::env::var("EXACTLOG_CRASH_REPLAY") {
        return replay(&numbers);
    }
    let states = number("EXACTLOG_CRASH_STATES").unwrap_or(STATES);
    let first_seed = number("EXACTLOG_CRASH_SEED").unwrap_or(1);
    let (counters, seeds, result) = run::sweep(first_seed, states, Filter::default());
    println!("{seeds} seeds from {first_seed}: {counters:?}");
    result.unwrap_or_else(|violation| panic!("\n{violation}"));
    if states >= STATES {
        assert_each_kind_was_met(&counters);
    }
}

/// A kind of crash that is never met proves nothing.
fn assert_each_kind_was_met(counters: &Counters) {
    let Counters { kills, torn, powers, nested, continued, certain_cuts, from_checkpoint, .. } = *counters;
    let rows = [kills, torn, powers, nested, continued, certain_cuts, from_checkpoint];
    assert!(rows.iter().all(|met| *met > 1000), "{counters:?}");
    assert!(counters.from_older > 1000 && counters.unacknowledged > 1000, "{counters:?}");
    assert!(counters.compacted > 0 && counters.retained > 0, "{counters:?}");
    assert!(counters.rolled > 30 && counters.merged > 0, "{counters:?}");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 1..8 {
        let once = run::run(seed, Filter::default()).0;
        assert_eq!(once, run::run(seed, Filter::default()).0);
        assert!(once.states > 0);
    }
}
