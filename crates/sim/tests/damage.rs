//! Damage to every byte of a small directory: found, named, or reported; never silent.

use exactlog_sim::damage::{Directory, Left, Row};

/// All single bits if `EXACTLOG_DAMAGE_MASKS` is set, else two bits and all of them.
fn masks() -> Vec<u8> {
    match std::env::var("EXACTLOG_DAMAGE_MASKS") {
        Ok(_) => (0..8).map(|bit| 1 << bit).collect(),
        Err(_) => vec![0x01, 0xFF],
    }
}

fn header() {
    println!("{:<46} |    exact | reported |  refused |    batch |      cut | silent", "");
}

fn print(what: &str, row: &Row) {
    println!("{what:<46} | {row}");
    for example in &row.examples {
        println!("    {}", example.chars().take(400).collect::<String>());
    }
}

fn sweep(what: &str, directory: &Directory, prefix: &str) -> u64 {
    let rows = [
        ("flipped bytes", directory.flips(prefix, &masks(), 1)),
        ("zeroed sectors", directory.sectors(prefix, false)),
        ("misdirected sectors", directory.sectors(prefix, true)),
        ("cut files", directory.cuts(prefix, 13)),
    ];
    for (kind, row) in &rows {
        print(&format!("{what}: {prefix} {kind}"), row);
    }
    rows.iter().map(|(_, row)| row.silent).sum()
}

#[test]
fn no_damage_is_silent() {
    header();
    let mut silent = 0;
    for (left, what) in [(Left::Clean, "closed"), (Left::Unsealed, "killed")] {
        let directory = Directory::new(left, false);
        silent += sweep(what, &directory, "journal/");
        for (case, row) in directory.files_table("journal/") {
            print(&format!("{what}: journal {case}"), &row);
            silent += row.silent;
        }
        let directory = Directory::new(left, true);
        for prefix in ["journal/", "checkpoint/", "topics/"] {
            silent += sweep(&format!("{what}, checkpoints"), &directory, prefix);
        }
        for prefix in ["journal/", "checkpoint/"] {
        for (case, row) in directory.files_table(prefix) {
            print(&format!("{what}, checkpoints: {prefix} {case}"), &row);
            silent += row.silent;
        }
        }
    }
    assert_eq!(silent, 0);
}
