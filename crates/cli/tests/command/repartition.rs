//! `topic repartition`: each record is in the new topic once and as it was, in the order of its key, whatever is
//! killed.
//!
//! `EXACTLOG_REPARTITION=1000000` is the long run: that many records from 10 partitions into 20.

use crate::common::{Place, Running, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

const KEYS: u64 = 97;

/// Records of some keys, every tenth without one; each with a header, a time and the number that it has among all.
fn envelopes(range: std::ops::Range<u64>) -> String {
    let mut text = String::new();
    for number in range {
        let key = if number % 10 == 9 { "null".to_string() } else { format!("\"key-{}\"", number % KEYS) };
        let ts = 1_700_000_000_000 + number;
        let _ = writeln!(
            text,
            "{{\"key\":{key},\"payload\":\"{number}\",\"headers\":[\"h\",\"{number}\"],\"ts\":{ts}}}"
        );
    }
    text
}

/// Everything of a topic but where it stands, in the order of partitions and offsets.
fn content(place: &Place, topic: &str) -> Vec<(u64, Value)> {
    let all = place.run(&["consume", topic, "-f", "json", "-q"]).good();
    let parsed = all.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let object = value.as_object_mut().unwrap();
        let partition = object["partition"].as_u64().unwrap();
        ["topic", "partition", "offset"].iter().for_each(|name| drop(object.remove(*name)));
        (partition, value)
    });
    parsed.collect()
}

fn sorted(content: &[(u64, Value)]) -> Vec<String> {
    let mut all: Vec<String> = content.iter().map(|(_, value)| value.to_string()).collect();
    all.sort_unstable();
    all
}

/// The numbers of each key's records, in order.
fn by_key(content: &[(u64, Value)]) -> BTreeMap<String, Vec<u64>> {
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, value) in content.iter().filter(|(_, value)| value["key"].is_string()) {
        let number = value["payload"].as_str().unwrap().parse().unwrap();
        keys.entry(value["key"].to_string()).or_default().push(number);
    }
    keys
}

/// Where the key of each record leads to, as the log itself says of a topic of so many partitions.
fn partitions_of_keys(place: &Place, partitions: u32) -> BTreeMap<String, u64> {
    place.run(&["topic", "create", "keys", "-p", &partitions.to_string()]).good();
    let input: String = (0..KEYS).map(|key| format!("key-{key}:\n")).collect();
    place.run_with(&["produce", "keys", "-K", ":"], input).good();
    let read = place.run(&["consume", "keys", "-f", "json", "-q"]).good();
    let all = read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.map(|value| (value["key"].to_string(), value["partition"].as_u64().unwrap())).collect()
}

fn repartition(more: &[&str]) -> Vec<String> {
    let base = ["topic", "repartition", "t", "--into", "u", "--format", "json"];
    base.iter().chain(more).map(ToString::to_string).collect()
}

fn run(place: &Place, more: &[&str]) -> crate::common::Answer {
    let arguments = repartition(more);
    place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Killed five times on the way; then to the end.
fn killed_five_times(records: u64, (from, to): (u32, u32), txn: &str) {
    let place = Place::with_topic(from);
    for first in (0..records).step_by(100_000) {
        let part = envelopes(first..(first + 100_000).min(records));
        place
            .run_with(
                &["produce", "t", "-f", "json", "--txn", "10000", "--txn-id", &format!("p{first}")],
                part,
            )
            .good();
    }
    place.run(&["consume", "t", "-g", "all", "-q"]).good();
    place.run(&["consume", "t", "-g", "some", "-n", "100", "-q"]).good();
    let before = content(&place, "t");
    let to_text = to.to_string();
    let more = ["-p", &to_text, "--txn", txn, "--execute"];
    let since = Instant::now();
    for kill in 1..=5 {
        let arguments = repartition(&more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = Running(Some(place.command(&arguments).spawn().unwrap()));
        // It stands still while it is looked at, so that it doesn't come to its end meanwhile.
        until("some were copied", || {
            running.signal("-STOP");
            let are_there = place.records("u") >= records * kill / 7;
            if !are_there {
                running.signal("-CONT");
                std::thread::sleep(Duration::from_millis(2));
            }
            are_there
        });
        running.kill();
    }
    let there = place.records("u");
    assert!((1..records).contains(&there), "{there} of {records} before the last run");
    let done = run(&place, &more).json();
    let seconds = since.elapsed().as_secs_f64();
    assert_eq!(
        (&done["copied"], &done["status"], &done["left"]),
        (&json!(records), &json!("copied"), &json!(0))
    );
    let after = content(&place, "u");
    println!(
        "{records} records from {from} into {to} partitions, 5 kills, {there} there at the last: {seconds:.1} s"
    );
    assert!(sorted(&before) == sorted(&after), "each record once, with key, value, headers and time");
    assert_eq!(by_key(&before), by_key(&after), "and each key's in their order");
    let leads_to = partitions_of_keys(&place, to);
    let strayed = after.iter().find(|(partition, value)| {
        value["key"].is_string() && leads_to[&value["key"].to_string()] != *partition
    });
    assert_eq!(strayed, None, "where their keys say");
    let lags = place.run(&["group", "lag", "--format", "tsv"]).good();
    assert!(lags.lines().any(|line| line.starts_with("all\tu\t0\t")), "{lags}");
    assert!(!lags.contains("some\tu") && !lags.contains("repartition"), "{lags}");
    // And once more: nothing happens.
    let again = run(&place, &more).json();
    assert_eq!((&again["status"], &again["copied"]), (&json!("copied before"), &json!(records)));
    assert_eq!(place.records("u"), records);
}

#[test]
fn killed_five_times_each_record_is_there_once_and_keys_keep_their_order() {
    killed_five_times(12_000, (5, 8), "5");
}

#[test]
#[ignore = "minutes: the long run, EXACTLOG_REPARTITION records"]
fn a_million_records_killed_five_times() {
    let records = std::env::var("EXACTLOG_REPARTITION").ok().and_then(|text| text.parse().ok());
    killed_five_times(records.unwrap_or(1_000_000), (10, 20), "1000");
}

#[test]
fn a_dry_run_says_what_would_be_copied_and_what_groups_would_see_again() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-f", "json"], envelopes(0..50)).good();
    place.run(&["consume", "t", "-g", "done", "-q"]).good();
    place.run(&["consume", "t", "-g", "half", "-n", "7", "-q"]).good();
    place.run_with(&["produce", "t", "--deliver-after", "7d"], "later").good();
    let files = place.files();
    let dry = run(&place, &["-p", "5"]);
    assert!(files == place.files());
    let dry = dry.json();
    for (field, value) in [
        ("dry_run", json!(true)),
        ("records", json!(50)),
        ("left", json!(50)),
        ("partitions_before", json!(2)),
        ("partitions", json!(5)),
        ("timers_left_behind", json!(1)),
        ("status", json!("would be copied")),
    ] {
        assert_eq!(dry[field], value, "{field}");
    }
    let groups = dry["groups"].as_array().unwrap();
    let rows: Vec<_> = groups
        .iter()
        .map(|it| {
            (
                it["group"].as_str().unwrap(),
                it["lag"].as_u64(),
                it["continues_at"].as_str().unwrap(),
                it["sees_again"].as_u64(),
            )
        })
        .collect();
    assert_eq!(rows, [("done", Some(0), "end", Some(0)), ("half", Some(43), "start", Some(7))]);
    let again: u64 = groups[1]["offsets_again"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["to"].as_u64().unwrap() - it["from"].as_u64().unwrap())
        .sum();
    assert_eq!(again, 7);
    let text = place.run(&["topic", "repartition", "t", "--into", "u", "-p", "5"]).good();
    assert!(text.contains("SEES-AGAIN") && text.contains("--execute"), "{text}");
}

#[test]
fn only_a_topic_that_this_copy_has_made_is_written_to() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-f", "json"], envelopes(0..20)).good();
    place.run(&["topic", "create", "u", "-p", "3"]).good();
    for execute in [&["-p", "3"][..], &["-p", "3", "--execute"]] {
        let refused = run(&place, execute);
        assert_eq!(
            (refused.exit, &refused.json()["error"]["code"]),
            (Some(1), &json!("TOPIC_ALREADY_EXISTS"))
        );
    }
    place.run(&["topic", "delete", "u", "--execute"]).good();
    assert_eq!(run(&place, &["-p", "3", "--execute"]).json()["status"], "copied");
    // With another number of partitions it would be another copy.
    assert_eq!(run(&place, &["-p", "4", "--execute"]).exit, Some(1));
    // A copy whose topic was deleted begins anew.
    place.run(&["topic", "delete", "u", "--execute"]).good();
    let again = run(&place, &["-p", "4", "--execute"]).json();
    assert_eq!((&again["status"], &again["copied"]), (&json!("copied"), &json!(20)));
    for (arguments, exit, what) in [
        (&["topic", "repartition", "t", "--into", "t", "-p", "2"][..], 2, "into itself"),
        (&["topic", "repartition", "tt", "--into", "v", "-p", "2"], 1, "did you mean \"t\"?"),
        (&["topic", "repartition", "t", "--into", "a/b", "-p", "2", "--execute"], 1, "a/b"),
        (&["topic", "repartition", "t", "--into", "v"], 2, "--partitions"),
        (&["topic", "repartition", "t", "--into", "v", "-p", "0"], 2, "0"),
        (&["topic", "repartition", "t", "-p", "2"], 2, "--into"),
    ] {
        place.run(arguments).fails(exit, what);
    }
}

#[test]
fn somebody_else_s_records_in_the_new_topic_end_the_copy() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-f", "json"], envelopes(0..2_000)).good();
    let arguments = repartition(&["-p", "3", "--txn", "5", "--execute"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let running = Running(Some(place.command(&arguments).spawn().unwrap()));
    until("some were copied", || place.records("u") > 0);
    let interrupted = running.interrupt();
    assert_eq!((interrupted.exit, &interrupted.json()["status"]), (Some(130), &json!("interrupted")));
    assert_eq!(interrupted.json()["copied"], place.records("u"));
    place.run_with(&["produce", "u"], "x\n").good();
    let refused = run(&place, &["-p", "3", "--execute"]);
    assert_eq!(refused.exit, Some(1));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("somebody else wrote to it"));
}

#[test]
fn times_stay_where_the_topic_has_those_of_the_append_and_so_do_its_settings() {
    let place = Place::new();
    let settings = [
        "-c",
        "message.timestamp.type=LogAppendTime",
        "-c",
        "segment.bytes=8192",
        "-c",
        "message.timestamp.before.max.ms=1000",
    ];
    place.run(&[&["topic", "create", "t", "-p", "2"], &settings[..]].concat()).good();
    place.run_with(&["produce", "t", "-f", "json"], envelopes(0..100)).good();
    let before = content(&place, "t");
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(run(&place, &["-p", "3", "--execute"]).json()["status"], "copied");
    assert_eq!(sorted(&before), sorted(&content(&place, "u")));
    let described = place.run(&["topic", "describe", "t", "u", "--format", "json"]).json();
    let of = |topic: &str, key: &str| described["settings"][topic][key].clone();
    for key in ["message.timestamp.type", "segment.bytes", "message.timestamp.before.max.ms"] {
        assert_eq!(of("t", key), of("u", key), "{key}");
    }
}

/// Keys move when a topic gets more partitions: the newer half of a key's records may lie in a lower partition.
#[test]
fn keys_that_have_moved_are_brought_together_in_the_order_of_their_times() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-f", "json"], envelopes(0..500)).good();
    place.run(&["topic", "add-partitions", "t", "-p", "3"]).good();
    place.run_with(&["produce", "t", "-f", "json"], envelopes(500..1_000)).good();
    let before = by_key(&content(&place, "t"));
    assert!(before.values().any(|numbers| !numbers.is_sorted()), "some keys have moved down");
    assert_eq!(run(&place, &["-p", "4", "--execute"]).json()["copied"], 1_000);
    let after = by_key(&content(&place, "u"));
    assert!(after.values().all(|numbers| numbers.is_sorted()));
    assert_eq!(after.values().map(Vec::len).sum::<usize>(), 900);
}
