//! What scripts rely on: one object per command, TSV without a header, exit codes, streams.

use crate::common::{Place, lines};
use serde_json::Value;

/// Every verb that answers with a report.
const VERBS: [&[&str]; 42] = [
    &["topic", "list"],
    &["topic", "describe", "t"],
    &["topic", "create", "t2"],
    &["topic", "create", "t3", "--dry-run"],
    &["topic", "delete", "t2"],
    &["topic", "trim", "t", "--to", "1"],
    &["topic", "repartition", "t", "--into", "t4", "-p", "2"],
    &["produce", "t"],
    &["replay", "t", "--from", "start", "--into", "t2"],
    &["group", "list"],
    &["group", "describe", "g"],
    &["group", "lag"],
    &["group", "seek", "g", "--to", "start"],
    &["group", "delete-offsets", "g", "--topic", "t"],
    &["group", "delete", "g"],
    &["group", "limits"],
    &["timer", "list"],
    &["timer", "cancel", "1"],
    &["timer", "limits"],
    &["table", "list"],
    &["table", "get", "tally", "chair"],
    &["table", "scan", "tally"],
    &["table", "put", "tally", "sofa", "1"],
    &["table", "limits"],
    &["dedup", "stats"],
    &["dedup", "limits"],
    &["dlq", "list"],
    &["dlq", "show", "t-dlt"],
    &["dlq", "redrive", "t-dlt", "--to", "t"],
    &["dlq", "discard", "t-dlt"],
    &["retry", "explain"],
    &["saga", "list"],
    &["top"],
    &["saga", "list", "order"],
    &["saga", "show", "order", "a"],
    &["log", "stat"],
    &["log", "dump"],
    &["log", "verify"],
    &["config", "list"],
    &["config", "explain", "durability"],
    &["explain", "IN_USE"],
    &["doctor"],
];

fn filled() -> Place {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    place.run(&["consume", "t", "-g", "g"]).good();
    place.run_with(&["produce", "t", "--deliver-after", "7d"], "later").good();
    place.run(&["topic", "create", "t-dlt"]).good();
    place.run_with(&["produce", "t-dlt"], "dead").good();
    crate::tables::put(&place, &[("chair", "12"), ("table", "3")]);
    crate::sagas::process(&place, &["a"], &[]);
    place
}

#[test]
fn every_verb_has_every_format() {
    let place = filled();
    for verb in VERBS {
        let run = |format: &str| {
            let all: Vec<&str> = verb.iter().copied().chain(["--format", format]).collect();
            let answer = place.run_with(&all, "x\n");
            assert!(matches!(answer.exit, Some(0 | 4)), "{answer:?}");
            answer
        };
        let object = run("json").json();
        assert!(object.is_object(), "{verb:?}");
        for line in run("jsonl").out.lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap().is_object(), "{verb:?}: {line}");
        }
        let tsv = run("tsv").out;
        let columns: Vec<usize> = tsv.lines().map(|line| line.split('\t').count()).collect();
        assert!(!columns.is_empty() && columns.iter().all(|count| *count == columns[0]), "{verb:?}: {tsv}");
        assert!(tsv.split(['\t', '\n']).rev().skip(1).all(|cell| !cell.is_empty()), "{verb:?}: {tsv}");
        assert!(run("yaml").out.contains(':'), "{verb:?}");
        let (text, wide) = (run("text").out, run("wide").out);
        assert!(!text.is_empty() && !wide.is_empty(), "{verb:?}");
        assert!(!text.contains('\x1b'), "not a terminal: {text}");
    }
}

#[test]
fn an_error_is_one_object_too() {
    let place = filled();
    for (verb, code, exit) in [
        (&["topic", "describe", "x"][..], "NO_SUCH_TOPIC", 1),
        (&["group", "describe", "x"], "NO_SUCH_GROUP", 1),
        (&["dlq", "show", "x"], "NO_SUCH_TOPIC", 1),
        (&["retry", "list", "g"], "NO_SUCH_GROUP", 1),
        (&["saga", "show", "order", "1"], "NO_SUCH_SAGA", 1),
        (&["consume", "t", "-o", "x"], "USAGE", 2),
        (&["topic", "list", "-X", "no=1"], "SETTING", 2),
        (&["topic", "create", "u", "-X", "journal.file.bytes=1"], "SETTING", 2),
        (&["topic", "create", "u", "-c", "durability=os"], "SETTING", 2),
        (&["topic", "list", "--data", "missing"], "NO_LOG", 3),
        (&["nothing"], "USAGE", 2),
        (&["topic", "list", "--nothing"], "USAGE", 2),
        (&["explain", "nothing"], "USAGE", 2),
    ] {
        for format in [&["--format", "json"][..], &["--format=json"]] {
            let all: Vec<&str> = verb.iter().chain(format).copied().collect();
            let answer = place.run(&all);
            assert_eq!(answer.exit, Some(exit), "{answer:?}");
            assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
            assert_eq!(answer.json()["error"]["exit"], exit);
        }
        let answer = place.run(verb);
        assert!(answer.out.is_empty() && answer.err.starts_with("error: "), "{answer:?}");
    }
}

#[test]
fn every_code_that_is_answered_is_explained() {
    let place = Place::new();
    let all = place.run(&["explain", "--format", "json"]).json();
    for code in all["codes"].as_array().unwrap() {
        let name = code["code"].as_str().unwrap();
        let explained = place.run(&["explain", name, "--format", "json"]).json();
        assert_eq!(explained["codes"][0], *code);
        if let Some(number) = code["kafka"].as_i64() {
            let explained = place.run(&["explain", &number.to_string(), "--format", "json"]).json();
            assert!(explained["codes"].as_array().unwrap().contains(code), "{code}");
        }
    }
    place.run(&["explain", "INUSE"]).fails(2, "did you mean \"IN_USE\"?");
}

#[test]
fn data_is_on_stdout_and_the_rest_on_stderr() {
    let place = filled();
    let consumed = place.run(&["consume", "t"]);
    assert_eq!((consumed.out.as_str(), consumed.err.as_str()), (&*lines(0..3), "3 records\n"));
    assert_eq!(place.run(&["consume", "t", "-q"]).err, "");
    assert!(place.run(&["topic", "list", "-v"]).err.contains("opened at lsn"));
    place.run(&["topic", "list", "-v", "-q"]).fails(2, "cannot be used with");
}

#[test]
fn colour_is_for_terminals_and_for_who_asks() {
    let place = filled();
    assert!(place.run(&["topic", "list", "--color", "always"]).good().starts_with("\x1b[1mTOPIC"));
    assert!(!place.run(&["topic", "list", "--color", "never"]).good().contains('\x1b'));
    assert!(!place.run(&["nothing", "--color", "never"]).err.contains('\x1b'));
}

#[test]
fn flags_stand_before_or_after_the_verb() {
    let place = filled();
    let data = place.data.display().to_string();
    let elsewhere = Place::new();
    for arguments in [
        ["--data", &data, "--format", "tsv", "topic", "list"],
        ["topic", "--data", &data, "list", "--format", "tsv"],
        ["topic", "list", "--format", "tsv", "--data", &data],
    ] {
        assert!(elsewhere.run(&arguments).good().lines().any(|line| line.starts_with("t\t1\t")));
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..50_000)).good();
    let mut child = place.command(&["consume", "t"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
