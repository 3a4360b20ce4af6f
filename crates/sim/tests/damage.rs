//! Damage to every byte of a small directory: found, named, or reported; never silent.
//!
//! One loss can't be seen, and is a row of its own: a newest journal file that is missing as a whole, as in an older
//! copy of the directory.

use exactlog_sim::damage::{Directory, Left, Row};

/// All single bits if `EXACTLOG_DAMAGE_ALL` is set, else two masks; and the steps between lengths that are cut to.
fn extent() -> (Vec<u8>, u64) {
    match std::env::var_os("EXACTLOG_DAMAGE_ALL") {
        Some(_) => ((0..8).map(|bit| 1 << bit).collect(), 1),
        None => (vec![0x01, 0xFF], 61),
    }
}

/// Prints a row; the number of silent losses in it.
fn count(what: &str, row: &Row) -> u64 {
    println!("| {what:<52} | {row} |");
    for example in &row.examples {
        println!("    {}", example.chars().take(400).collect::<String>());
    }
    row.silent
}

fn sweep(what: &str, directory: &Directory, prefix: &str) -> u64 {
    let (masks, step) = extent();
    println!(
        "| {:<52} |    exact | reported |  refused |    batch |      cut | silent |",
        format!("{what}, {prefix}")
    );
    let mut silent = count("every byte flipped", &directory.flips(prefix, &masks, 1));
    silent += count("every sector zeroed", &directory.sectors(prefix, false));
    silent += count("every sector another one's", &directory.sectors(prefix, true));
    silent += count("cut to every length", &directory.cuts(prefix, step));
    for (case, row) in directory.files_table(prefix) {
        let silent_here = count(case, &row);
        // Not to be told from an older copy of the directory.
        if case != "newest missing" {
            silent += silent_here;
        }
    }
    silent
}

#[test]
fn no_damage_is_silent() {
    assert_eq!(sweep("closed", &Directory::new(Left::Clean, false), "journal/"), 0);
}

#[test]
fn no_damage_to_a_journal_that_was_killed_is_silent() {
    assert_eq!(sweep("killed", &Directory::new(Left::Unsealed, false), "journal/"), 0);
}

#[test]
fn no_damage_beside_checkpoints_is_silent() {
    let directory = Directory::new(Left::Clean, true);
    let silent: u64 =
        ["journal/", "checkpoint/"].map(|prefix| sweep("checkpoints", &directory, prefix)).iter().sum();
    assert_eq!(silent, 0);
}

#[test]
fn no_damage_to_segments_is_silent() {
    let directory = Directory::new(Left::Clean, true);
    let (masks, step) = extent();
    let mut silent = count("topics/ every byte flipped", &directory.flips("topics/", &masks, 1));
    silent += count("topics/ every sector zeroed", &directory.sectors("topics/", false));
    silent += count("topics/ every sector another one's", &directory.sectors("topics/", true));
    silent += count("topics/ cut to every length", &directory.cuts("topics/", step));
    for (case, row) in directory.closed_segments(step) {
        silent += count(&format!("topics/ {case}"), &row);
        assert!(row.batch_refused > 0, "{case}");
    }
    assert_eq!(silent, 0);
}
