//! docs/SEMANTICS.md as a test: every promise has a line, every line a test or a named reason to wait, and every test
//! that is named there exists.
//!
//! Not here: whether a test proves its line. That is for whoever reads both.

#[path = "semantics/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use table::{Row, rows};

const DOCUMENT: &str = "docs/SEMANTICS.md";

/// The lines that must be there: prefix, and the numbers under it.
const LINES: [(&str, &[u32]); 8] = [
    ("OA", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("ID", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18]),
    ("TX", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 26, 27]),
    ("EM", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]),
    ("GR", &[1, 2, 3, 4, 5, 6, 7, 9, 10]),
    ("RE", &[8]),
    ("LG", &[1, 2, 3, 10, 11, 12, 13]),
    ("ON", &[1, 2, 3, 4, 5]),
];

/// What a half of a line may wait for.
const PENDING: [&str; 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

fn document() -> Vec<Row> {
    let text =
        fs::read_to_string(root().join(DOCUMENT)).unwrap_or_else(|error| panic!("{DOCUMENT}: {error}"));
    rows(&text).unwrap_or_else(|what| panic!("{DOCUMENT}:{what}"))
}

fn report(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}\n", offenders.join("\n  "));
}

/// The names of all functions in the sources that are marked as tests.
fn test_functions(dir: &Path, found: &mut BTreeSet<String>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            test_functions(&path, found);
        } else if name.ends_with(".rs") {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.extend(table::test_names(&text));
        }
    }
}

#[test]
fn every_promise_has_its_line_once() {
    let rows = document();
    let mut offenders = Vec::new();
    for (prefix, numbers) in LINES {
        for number in numbers {
            let line = format!("{prefix}-{number}");
            let count = rows.iter().filter(|row| row.line == line).count();
            if count != 1 {
                offenders.push(format!("{line} is there {count} times"));
            }
        }
    }
    report("Lines that must be in docs/SEMANTICS.md once", &offenders);
}

#[test]
fn every_line_says_something_and_has_a_test_or_a_reason_to_wait() {
    let mut offenders = Vec::new();
    for row in document() {
        if row.promise.is_empty() {
            offenders.push(format!("{DOCUMENT}:{}: {} promises nothing", row.at, row.line));
        }
        if row.tests.is_empty() && row.pending.is_empty() {
            offenders.push(format!("{DOCUMENT}:{}: {} has neither a test nor pending", row.at, row.line));
        }
    }
    report("Lines without a proof", &offenders);
}

#[test]
fn every_test_that_is_named_exists() {
    let mut known = BTreeSet::new();
    test_functions(&root(), &mut known);
    let mut offenders = Vec::new();
    for row in document() {
        for test in row.tests.iter().filter(|test| !known.contains(*test)) {
            offenders.push(format!("{DOCUMENT}:{}: {}: there is no test {test}", row.at, row.line));
        }
    }
    report("Tests that don't exist", &offenders);
}

#[test]
fn what_waits_waits_for_something_that_is_known() {
    let mut offenders = Vec::new();
    for row in document() {
        for word in row.pending.iter().filter(|word| !PENDING.contains(&word.as_str())) {
            offenders.push(format!("{DOCUMENT}:{}: {} waits for {word:?}", row.at, row.line));
        }
    }
    report(&format!("Reasons to wait that aren't one of {PENDING:?}"), &offenders);
}
