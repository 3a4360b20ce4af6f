//! Every planted mistake must be found.
#![cfg(feature = "mutants")]

use exactlog_core::mutants::{Mutant, plant};
use exactlog_sim::enumerate::Filter;
use exactlog_sim::run;

#[test]
fn every_planted_mistake_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    for mutant in Mutant::ALL {
        plant(Some(mutant));
        let began = std::time::Instant::now();
        let (counters, seeds, result) = run::sweep(1, 200_000, Filter::default());
        let what = match result {
            Ok(()) => "NOT CAUGHT".to_owned(),
            Err(violation) => violation.what.chars().rev().take(160).collect::<Vec<_>>().into_iter().rev().collect(),
        };
        println!("{mutant:?}: {seeds} seeds, {} states, {:?}: {what}", counters.states, began.elapsed());
        plant(None);
    }
}
