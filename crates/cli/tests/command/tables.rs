//! Tables from the command line: they are looked at, and written by programs alone.

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
