//! Tables from the command line: they are looked at, and single keys are written by hand.

use crate::common::Place;
use exactlog::{Log, TableOptions};
use serde_json::json;

/// Puts keys of the table `tally`, as a program does it.
pub(crate) fn put(place: &Place, of: &[(&'static str, &'static str)]) {
    let log = Log::open(&place.data).unwrap();
    let tally = log.create_table("tally", TableOptions::default()).unwrap();
    let mut producer = log.producer("counter").unwrap();
    let mut transaction = producer.begin();
    for (key, value) in of {
        transaction.put(&tally, *key, *value).unwrap();
    }
    transaction.blocking_commit().unwrap();
    log.close().unwrap();
}

#[test]
fn tables_are_listed_and_keys_looked_up_and_walked_over() {
    let place = Place::with_topic(1);
    assert_eq!(place.run(&["table", "list", "--format", "json"]).json()["tables"], json!([]));
    put(&place, &[("chair", "12"), ("table", "3"), ("tab", "x")]);
    let listed = place.run(&["table", "list", "--format", "json"]).json();
    assert_eq!((&listed["keys"], &listed["tables"][0]["table"]), (&json!(3), &json!("tally")));
    let found = place.run(&["table", "get", "tally", "chair", "--format", "json"]).json();
    assert_eq!((&found["entries"][0]["value"], &found["missing"]), (&json!("12"), &json!(0)));
    let missing = place.run(&["table", "get", "tally", "chair", "bed", "--format", "json"]);
    assert_eq!(
        (missing.exit, &missing.json()["entries"][1]),
        (
            Some(1),
            &json!({
                "key": "bed", "value": null, "version": null, "partition": null, "offset": null, "timestamp_ms": null
            })
        )
    );
    let keys = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["table", "scan", "tally", "--format", "json"].iter().chain(arguments).copied().collect();
        let entries = place.run(&all).json()["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[]), ["chair", "tab", "table"]);
    assert_eq!(keys(&["--prefix", "tab"]), ["tab", "table"]);
    assert_eq!(keys(&["--from", "chair", "--to", "table"]), ["chair", "tab"]);
    assert_eq!(keys(&["-n", "1"]), ["chair"]);
    place.run(&["table", "get", "tall", "chair"]).fails(1, "tally");
    place.run(&["table", "scan", "t"]).fails(1, "is a plain topic");
    place.run(&["table", "scan", "tally", "--prefix", "a", "--from", "b"]).fails(2, "cannot be used with");
    // It is a topic as well; nothing but a transaction writes to it.
    place.run_with(&["produce", "tally", "-k", "chair"], "13").fails(1, "is a table");
    assert_eq!(keys(&[]), ["chair", "tab", "table"]);
}

#[test]
fn single_keys_are_put_and_deleted_if_their_version_is_the_expected_one() {
    let place = Place::with_topic(1);
    put(&place, &[("chair", "12")]);
    let run = |arguments: &[&str]| place.run(&[&["table"], arguments, &["--format", "json"]].concat());
    let version = |key: &str| run(&["get", "tally", key]).json()["entries"][0]["version"].clone();
    let first = version("chair");
    let written = run(&["put", "tally", "chair", "13"]).json();
    assert_eq!((&written["status"], &written["version_before"]), (&json!("put"), &first));
    assert_eq!(written["version"], version("chair"));
    // Somebody who looked before that is refused, and is told what is there.
    let first = first.to_string();
    let refused = run(&["put", "tally", "chair", "14", "--expect-version", &first]);
    assert_eq!((refused.exit, &refused.json()["error"]["code"]), (Some(1), &json!("KEY_VERSION")));
    let message = refused.json()["error"]["message"].as_str().unwrap().to_string();
    assert!(
        message.contains(&format!("\"tally\" has version {}, not version {first}", written["version"])),
        "{message}"
    );
    let refused = run(&["delete", "tally", "chair", "--expect-version", &first]);
    assert_eq!(refused.exit, Some(1));
    assert_eq!(run(&["get", "tally", "chair"]).json()["entries"][0]["value"], "13");
    let current = written["version"].to_string();
    assert_eq!(run(&["put", "tally", "chair", "14", "--expect-version", &current]).json()["status"], "put");
    // 0: only a key that isn't there.
    run(&["put", "tally", "bed", "1", "--expect-version", "0"]).good();
    let refused = run(&["put", "tally", "bed", "2", "--expect-version", "0"]);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("it isn't there"));
    assert_eq!(run(&["delete", "tally", "bed"]).json()["status"], "deleted");
    let files = place.records("tally");
    let again = run(&["delete", "tally", "bed"]);
    assert_eq!((again.exit, &again.json()["status"]), (Some(1), &json!("wasn't there")));
    let refused = run(&["delete", "tally", "bed", "--expect-version", "3"]);
    assert_eq!((refused.exit, &refused.json()["error"]["code"]), (Some(1), &json!("KEY_VERSION")));
    assert_eq!(place.records("tally"), files, "nothing was written for that");
    assert_eq!(place.run(&["consume", "tally", "-q", "-f", "%k=%v\\n"]).good().lines().count(), 5);
    place.run(&["table", "put", "tall", "a", "b"]).fails(1, "tally");
    place.run(&["table", "put", "t", "a", "b"]).fails(1, "is a plain topic");
    place.run(&["table", "put", "tally", &"x".repeat(2_000), "b"]).fails(1, "table.key.max.bytes");
    Place::new().run(&["table", "put", "tally", "a", "b"]).fails(3, "");
}
