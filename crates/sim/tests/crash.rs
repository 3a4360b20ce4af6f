//! Every crash of seeded runs, as many as `EXACTLOG_CRASH_STATES` says.

use exactlog_sim::enumerate::Filter;
use exactlog_sim::run;

/// What the gate checks, in crash states.
const STATES: u64 = 300_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

#[test]
fn no_crash_loses_or_invents_anything() {
    if let Ok(numbers) = std::env::var("EXACTLOG_CRASH_REPLAY") {
        let numbers: Vec<_> = numbers.split(',').map(|number| number.parse().ok()).collect();
        let [Some(seed), point, image] = numbers[..] else { panic!("seed,point,image is expected") };
        let only = point.zip(image);
        run::run(seed, Filter { only, ..Filter::default() }).1.unwrap_or_else(|violation| panic!("\n{violation}"));
        return;
    }
    let states = number("EXACTLOG_CRASH_STATES").unwrap_or(STATES);
    let first_seed = number("EXACTLOG_CRASH_SEED").unwrap_or(1);
    let began = std::time::Instant::now();
    let (counters, seeds, result) = run::sweep(first_seed, states, Filter::default());
    println!("{seeds} seeds from {first_seed}: {counters:?} in {:?}", began.elapsed());
    result.unwrap_or_else(|violation| panic!("\n{violation}"));
}
