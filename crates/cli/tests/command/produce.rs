//! `produce`: what stands in the input is in the topic, and with `--txn` exactly once.

use crate::common::{Place, Running, lines, until};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

#[test]
fn keys_headers_and_partitions() {
    let place = Place::with_topic(3);
    let made = place
        .run_with(&["produce", "t", "-K", "\\t", "-H", "source:shop:1", "--format", "json"], "k\tv\nplain\n");
    assert_eq!(made.json()["records"], 2);
    place.run_with(&["produce", "t", "-k", "key", "-p", "2"], "x\ny").good();
    let written = place.run(&["consume", "t", "-f", "%p|%k|%v|%h{%k=%v}\\n"]).good();
    let mut rows: Vec<&str> = written.lines().collect();
    rows.sort_by_key(|row| row.split('|').nth(2).unwrap().to_string());
    assert!(rows[0].ends_with("||plain|source=shop:1"), "{rows:?}");
    assert!(rows[1].ends_with("|k|v|source=shop:1"), "{rows:?}");
    assert_eq!(rows[2..], ["2|key|x|", "2|key|y|"]);
    let made = place.run_with(&["produce", "t", "-p", "0", "--format", "json"], "x\ny\nz\n").json();
    let first = made["stored"][0]["first_offset"].as_u64().unwrap();
    let row =
        json!({"topic": "t", "partition": 0, "first_offset": first, "last_offset": first + 2, "records": 3});
    assert_eq!(made["stored"], json!([row]));
}

#[test]
fn envelopes_carry_every_byte_from_one_log_into_another() {
    let (from, to) = (Place::with_topic(2), Place::with_topic(2));
    let envelopes = [
        json!({"key": "k", "payload": "v", "ts": 1_700_000_000_000_u64, "headers": ["a", "1", "b", null]}),
        json!({"key": null, "payload": null, "partition": 1}),
        json!({"key": "/w==", "key_encoding": "base64", "payload": "AP8=", "payload_encoding": "base64",
               "headers": ["aA==", "/w=="], "headers_encoding": "base64", "ts": 7}),
        json!({"key": "", "payload": {"a": [1, 2]}, "ts": 8}),
    ];
    let input: String = envelopes.iter().map(|envelope| format!("{envelope}\n")).collect();
    from.run_with(&["produce", "t", "-f", "json"], input).good();
    let written = from.run(&["consume", "t", "--format", "json"]).good();
    let records: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4);
    let of_key = |key: Value| records.iter().find(|record| record["key"] == key).unwrap();
    assert_eq!(of_key(json!("k"))["headers"], json!(["a", "1", "b", null]));
    assert_eq!(of_key(json!("k"))["tstype"], "create");
    assert_eq!(of_key(json!(""))["payload"], "{\"a\":[1,2]}");
    assert_eq!(of_key(json!(null))["payload"], json!(null));
    assert_eq!(of_key(json!("/w=="))["payload"], "AP8=");
    to.run_with(&["produce", "t", "-f", "json"], &written).good();
    assert_eq!(to.run(&["consume", "t", "-f", "json"]).good(), written);
}

#[test]
fn templates_read_what_templates_write() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t", "-f", "%k{hex}=%v@%d\\n"], "6b=v@5\n00=w@6\n").good();
    let written = place.run(&["consume", "t", "-f", "%k{hex}=%v@%d\\n"]).good();
    assert_eq!(written, "6b=v@5\n00=w@6\n");
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_those_before_it_are_stored() {
    let place = Place::with_topic(1);
    let bad = place.run_with(
        &["produce", "t", "-f", "json"],
        "{\"payload\":\"a\"}\n{\"payload\":\n{\"payload\":\"c\"}\n",
    );
    bad.fails(1, "record 2 of the input");
    assert!(bad.err.contains("1 record stored in t before it"), "{bad:?}");
    assert_eq!(place.run(&["consume", "t"]).good(), "a\n");
    let large = format!("x\n{}\n", "y".repeat(2_000_000));
    let bad = place.run_with(&["produce", "t", "--format", "json"], large);
    assert_eq!((bad.exit, &bad.json()["error"]["code"]), (Some(1), &json!("TOO_LARGE")));
    assert!(bad.json()["error"]["message"].as_str().unwrap().contains("record 2"), "{bad:?}");
    assert_eq!(place.records("t"), 2);
}

#[test]
fn the_same_input_again_adds_only_what_is_new_and_another_one_nothing() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t", "--txn", "3"], lines(0..10)).good();
    let more = place.run_with(&["produce", "t", "--txn", "4", "--format", "json"], lines(0..15)).json();
    assert_eq!((&more["records"], &more["already_stored"]), (&json!(5), &json!(10)));
    assert_eq!(place.run(&["consume", "t"]).good(), lines(0..15));
    for other in [lines(1..20), lines(0..9), String::new()] {
        let refused = place.run_with(&["produce", "t", "--txn", "3"], other);
        refused.fails(1, "has begun with another input");
        assert!(refused.err.contains("--txn-id"), "{refused:?}");
    }
    assert_eq!(place.records("t"), 15);
    place.run_with(&["produce", "t", "--txn", "3", "--txn-id", "other"], lines(15..16)).good();
    assert_eq!(place.run(&["consume", "t"]).good(), lines(0..16));
}

#[test]
fn transactions_are_smaller_where_so_many_records_are_more_than_one_can_hold() {
    let place = Place::with_topic(1);
    let input: String = (0..400).map(|number| format!("{number:0>60000}\n")).collect();
    let made = place.run_with(&["produce", "t", "--txn", "1000", "-H", "a:b", "--format", "json"], input);
    assert_eq!((made.exit, &made.json()["records"]), (Some(0), &json!(400)));
    let order = place.run(&["consume", "t", "-f", "%o %v %h{%k}\\n"]).good();
    let wrong = order.lines().enumerate().find(|(at, line)| *line != format!("{at} {at:0>60000} a"));
    assert!(wrong.is_none(), "each once, in order, with one header");
}

#[test]
fn killed_in_the_middle_and_started_again_each_line_is_there_once() {
    const LINES: u32 = 2_000;
    let place = Place::with_topic(1);
    let arguments = ["produce", "t", "--txn", "7", "-q"];
    for round in 1..=5 {
        let child = place.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut running = Running(Some(child));
        let mut stdin = running.0.as_mut().unwrap().stdin.take().unwrap();
        // Not all of it: it waits for more in the middle of a transaction, or is still writing.
        let part = lines(0..LINES * round / 6);
        let before = place.records("t");
        let writes = std::thread::spawn(move || {
            let _ = stdin.write_all(part.as_bytes());
            stdin
        });
        until("something was stored", || place.records("t") > before);
        running.kill();
        drop(writes.join().unwrap());
        let stored = place.records("t");
        assert_eq!(stored % 7, 0, "whole transactions only");
        assert!(stored > before, "it went on");
    }
    place.run_with(&arguments, lines(0..LINES)).good();
    assert_eq!(place.run(&["consume", "t"]).good(), lines(0..LINES));
}

#[test]
fn a_topic_or_a_log_that_is_not_there_is_not_made() {
    let place = Place::new();
    place.run_with(&["produce", "t"], "x\n").fails(3, "there is no log in");
    assert!(!place.data.exists());
    let place = Place::with_topic(1);
    place.run_with(&["produce", "T"], "x\n").fails(1, "did you mean \"t\"?");
    place.run_with(&["produce", "t", "-p", "1"], "x\n").fails(1, "has no partition 1");
}

#[test]
fn input_flags_that_make_no_sense_are_refused_before_anything_is_read() {
    let place = Place::with_topic(1);
    let before = place.files();
    for arguments in [
        &["-K", ""][..],
        &["-K", "\\q"],
        &["-k", "a", "-K", ":"],
        &["-H", "no-value"],
        &["-H", ":v"],
        &["-f", "%q"],
        &["-f", "%k%v"],
        &["-f", "json", "-K", ":"],
        &["-p", "-1"],
        &["--txn", "0"],
        &["--txn", "many"],
        &["--txn-id", "without-txn"],
        &["--event-id", ""],
        &["--event-id", "%p"],
        &["--event-id", "%k", "--txn", "5"],
        &["--event-id", "%k", "-p", "0"],
    ] {
        let all: Vec<&str> = ["produce", "t"].iter().chain(arguments).copied().collect();
        let refused = place.run_with(&all, "x\n");
        assert_eq!(refused.exit, Some(2), "{arguments:?}: {refused:?}");
        assert!(!refused.err.is_empty());
    }
    assert!(before == place.files());
}
