//! Every operation fails once, or from then on: nothing is acknowledged for it, nothing of it is applied, and after
//! the log is opened again, without a reboot and with one, everything acknowledged is there. `EXACTLOG_FAULT_SEEDS`
//! says in how many runs (docs/TESTING.md).

use exactlog_sim::campaign::number;
use exactlog_sim::disk::{Call, EIO, ENOSPC, Effect, Fault};
use exactlog_sim::enumerate::Filter;
use exactlog_sim::report::Counters;
use exactlog_sim::run;

/// How many runs the gate takes for each kind of fault.
const SEEDS: u64 = 12;

/// Fails the first, second, third ... matching call of each run, until a run is through untouched.
fn fail_each(call: Option<Call>, effect: Effect, persistent: bool, seeds: u64, most: u64) -> (u64, Counters) {
    let (mut met, mut counters) = (0, Counters::default());
    for seed in 1..=seeds {
        for skip in 0..most {
            let fault = Fault { persistent, ..Fault::once(call, skip, effect) };
            let filter = Filter { points_one_in: 24, survivals: 1, ..Filter::default() };
            let (of_run, was_met, result) = run::run_with_fault(seed, filter, fault);
            counters.add(&of_run);
            result.unwrap_or_else(|violation| panic!("{call:?} {effect:?} after {skip}\n{violation}"));
            if !was_met {
                break;
            }
            met += 1;
        }
    }
    (met, counters)
}

fn row(call: Option<Call>, effect: Effect, persistent: bool) {
    let seeds = number("EXACTLOG_FAULT_SEEDS").unwrap_or(SEEDS);
    let (met, counters) = fail_each(call, effect, persistent, seeds, 400);
    println!(
        "{call:?} {effect:?}, persistent: {persistent}: {met} failures, {} crash states",
        counters.states
    );
    assert!(met > 0, "the fault was never met");
}

#[test]
fn every_failed_sync_loses_nothing_that_was_acknowledged() {
    row(Some(Call::Sync), Effect::Errno(EIO), false);
    row(Some(Call::Sync), Effect::Errno(EIO), true);
    row(Some(Call::SyncDir), Effect::Errno(EIO), false);
}

#[test]
fn every_failed_write_loses_nothing_that_was_acknowledged() {
    row(Some(Call::Write), Effect::Errno(EIO), false);
    row(Some(Call::Write), Effect::Errno(ENOSPC), true);
    row(Some(Call::Write), Effect::Short { bytes: 700, errno: ENOSPC }, false);
    row(Some(Call::Write), Effect::Short { bytes: 4096, errno: EIO }, false);
}

#[test]
fn every_failed_change_of_names_and_lengths_loses_nothing_that_was_acknowledged() {
    for call in [Call::Open, Call::Rename, Call::Allocate, Call::CreateDir] {
        row(Some(call), Effect::Errno(EIO), false);
        row(Some(call), Effect::Errno(ENOSPC), false);
    }
}

#[test]
fn every_failed_call_of_any_kind_loses_nothing_that_was_acknowledged() {
    row(None, Effect::Errno(EIO), false);
    row(None, Effect::Errno(EIO), true);
}
