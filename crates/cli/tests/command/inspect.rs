//! `log`, `doctor`, `bench`: a copy is looked at, and damage is found.

use crate::common::{Place, lines};
use serde_json::json;

fn filled() -> Place {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-p", "0"], lines(0..100)).good();
    place
}

#[test]
fn a_whole_log_is_whole() {
    let place = filled();
    let verified = place.run(&["log", "verify", "--format", "json"]);
    assert_eq!((verified.exit, &verified.json()["whole"]), (Some(0), &json!(true)));
    assert_eq!(verified.json()["records"], 100);
    let stat = place.run(&["log", "stat", "--format", "json"]).json();
    assert_eq!((&stat["records"], &stat["topics"], &stat["in_use"]), (&json!(100), &json!(1), &json!(false)));
    assert_eq!(stat["closed_properly"], true);
}

#[test]
fn damage_is_found_and_ends_with_4() {
    let place = filled();
    (0..8).for_each(|_| drop(place.run_with(&["produce", "t", "-p", "0"], lines(0..100)).good()));
    // A batch in a segment: its log opens, and reading it doesn't.
    let find = |ending: &str| {
        place
            .files()
            .into_keys()
            .filter(|file| file.display().to_string().ends_with(ending))
            .collect::<Vec<_>>()
    };
    let segments = find(".log");
    assert!(!segments.is_empty(), "several opens have written segments");
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let before = place.files();
    let verified = place.run(&["log", "verify", "--format", "json"]);
    assert_eq!(verified.exit, Some(4), "{verified:?}");
    assert_eq!(
        (&verified.json()["whole"], &verified.json()["damaged_partitions"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(verified.json()["partitions"][0]["error"], "DAMAGED");
    // Checkpoints that can't be read: nothing opens.
    for file in find(".checkpoint") {
        std::fs::write(file, "no checkpoint").unwrap();
    }
    let refused = place.run(&["log", "verify", "--format", "json"]);
    assert_eq!((refused.exit, &refused.json()["error"]["code"]), (Some(4), &json!("DAMAGED")));
    assert_eq!(place.run(&["topic", "list"]).exit, Some(1));
    assert_eq!(place.run(&["doctor"]).exit, Some(4));
    assert_eq!(before.len(), place.files().len());
}

#[test]
fn the_commands_of_the_journal_are_dumped() {
    let place = filled();
    let all = place.run(&["log", "dump", "--format", "json"]).json();
    let commands = all["commands"].as_array().unwrap();
    assert_eq!(commands.last().unwrap()["lsn"], all["last_lsn"]);
    let first = all["first_lsn"].as_u64().unwrap();
    let from =
        place.run(&["log", "dump", "--from", &(first + 1).to_string(), "-n", "1", "--format", "tsv"]).good();
    assert!(from.starts_with(&format!("{}\t", first + 1)) && from.lines().count() == 1, "{from}");
    assert_eq!(place.run(&["log", "dump", "--from", "999999"]).good().lines().next(), Some("no commands"));
}

#[test]
fn the_doctor_says_what_it_found_and_leaves_nothing_behind() {
    let place = filled();
    let parent = place.data.parent().unwrap();
    let before = place.files();
    let found = place.run(&["doctor", "--format", "json"]);
    assert!(matches!(found.exit, Some(0 | 4)), "{found:?}");
    let checks = found.json()["checks"].as_array().unwrap().clone();
    for name in ["file system", "sync latency", "clock", "open files", "space", "log", "end of the journal"] {
        let check =
            checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
        assert!(check["status"] == "good" || check["fix"].is_string(), "{check}");
    }
    assert!(found.json()["sync_latency_us"]["p99.9"].is_u64());
    assert_eq!(std::fs::read_dir(parent).unwrap().count(), 1);
    assert!(before == place.files());
}

#[test]
fn a_measurement_names_its_conditions_and_leaves_nothing_behind() {
    let place = Place::new();
    let arguments =
        ["bench", "embedded", "--calls", "20", "--events", "100", "-X", "durability=os", "--format", "json"];
    let measured = place.run(&arguments).json();
    assert_eq!(
        (&measured["calls"], &measured["events"], &measured["durability"]),
        (&json!(20), &json!(100), &json!("os"))
    );
    let latency = &measured["latency_us"];
    let at = |name: &str| latency[name].as_u64().unwrap();
    assert!(
        at("p50") <= at("p90")
            && at("p90") <= at("p99")
            && at("p99") <= at("p99.9")
            && at("p99.9") <= at("max")
    );
    assert!(measured["events_per_second"].as_u64().unwrap() > 0);
    assert!(measured["processors"].is_string());
    assert_eq!(std::fs::read_dir(place.data.parent().unwrap()).unwrap().count(), 0);
    place.run(&["bench", "embedded", "--calls", "0"]).fails(2, "--calls");
}
