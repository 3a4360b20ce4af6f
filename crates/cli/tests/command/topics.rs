//! `topic` and `config`.

use crate::common::{Place, lines};
use serde_json::json;

#[test]
fn topics_are_created_listed_and_described() {
    let place = Place::new();
    let created =
        place.run(&["topic", "create", "a", "b", "-p", "2", "-c", "segment.ms=1h", "--format", "json"]);
    assert_eq!(created.json()["topics"][1]["status"], "created");
    let again =
        place.run(&["topic", "create", "a", "-p", "2", "-c", "segment.ms=3600000", "--format", "json"]);
    assert_eq!(again.json()["topics"][0]["status"], "existed");
    let listed = place.run(&["topic", "list", "--format", "json"]).json();
    let row = json!({"topic": "a", "partitions": 2, "records": 0, "id": 1, "max_message_bytes": 1_048_588});
    assert_eq!(listed["topics"][0], row);
    let described = place.run(&["topic", "describe", "b", "--format", "json"]).json();
    assert_eq!(described["settings"]["b"]["segment.ms"], 3_600_000);
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
}

#[test]
fn of_several_topics_those_that_work_are_created_and_the_others_say_why() {
    let place = Place::with_topic(1);
    let created = place.run(&["topic", "create", "t", "new", "no/name", "-p", "2", "--format", "json"]);
    assert_eq!(created.exit, Some(1));
    let rows = created.json()["topics"].clone();
    assert_eq!((&rows[0]["error"], &rows[1]["error"]), (&json!("REFUSED"), &json!(null)));
    assert_eq!(rows[2]["error"], "ILLEGAL_NAME");
    assert!(rows[0]["message"].as_str().unwrap().contains("partitions is 1, not 2"));
    let tsv = place.run(&["topic", "create", "t", "new", "-p", "2", "--format", "tsv"]);
    let last: Vec<Vec<&str>> = tsv.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(last[1], ["new", "existed", "-", "-"]);
    assert_eq!((last[0].len(), last[0][2]), (4, "REFUSED"), "rows end in ERROR MESSAGE");
}

#[test]
fn a_dry_run_creates_nothing_not_even_the_directory() {
    let place = Place::new();
    let dry = place.run(&["topic", "create", "t", "--dry-run", "--format", "json"]).json();
    assert_eq!((&dry["dry_run"], &dry["topics"][0]["status"]), (&json!(true), &json!("would be created")));
    assert!(!place.data.exists());
}

#[test]
fn deleting_says_what_it_would_do_and_does_it_with_execute() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    place.run(&["consume", "t", "-g", "g"]).good();
    let before = place.files();
    let dry = place.run(&["topic", "delete", "t", "--format", "json"]);
    assert_eq!((dry.exit, &dry.json()["dry_run"]), (Some(0), &json!(true)));
    let status = dry.json()["topics"][0]["status"].as_str().unwrap().to_string();
    assert_eq!(status, "would be deleted, with 3 records and positions of 1 group");
    assert!(before == place.files());
    let text = place.run(&["topic", "delete", "t"]).good();
    assert!(text.contains("--execute"), "{text}");
    assert!(before == place.files());
    place.run(&["topic", "delete", "t", "--execute"]).good();
    assert_eq!(place.run(&["topic", "list"]).good(), "no topics\n");
    let again = place.run(&["topic", "delete", "t", "--execute", "--format", "json"]);
    assert_eq!((again.exit, &again.json()["topics"][0]["error"]), (Some(1), &json!("NO_SUCH_TOPIC")));
    assert_eq!(place.run(&["topic", "delete", "t"]).exit, Some(1));
}

#[test]
fn trimming_says_what_it_would_do_and_does_it_with_execute() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-p", "1"], lines(0..10)).good();
    let before = place.files();
    let dry = place.run(&["topic", "trim", "t", "--to", "-3", "--format", "json"]).json();
    assert_eq!((&dry["dry_run"], &dry["total_records_removed"]), (&json!(true), &json!(7)));
    assert_eq!(dry["partitions"][1]["new_start_offset"], 7);
    assert!(before == place.files());
    let done = place.run(&["topic", "trim", "t", "--to", "-3", "-p", "1", "--execute", "--format", "json"]);
    assert_eq!(done.json()["partitions"].as_array().unwrap().len(), 1);
    assert_eq!(place.run(&["consume", "t"]).good(), lines(7..10));
    let nothing = place.run(&["topic", "trim", "t", "--to", "2", "--execute", "--format", "json"]).json();
    assert_eq!(nothing["total_records_removed"], 0, "a start never goes back");
    place.run(&["topic", "trim", "t", "--to", "3:5"]).fails(2, "is a range");
    place.run(&["topic", "trim", "t", "--to", "1", "-p", "2"]).fails(1, "has no partition 2");
}

#[test]
fn settings_are_altered_one_by_one_and_shown() {
    let place = Place::new();
    let create =
        ["topic", "create", "t", "-c", "retention.ms=7d", "-c", "message.timestamp.type=LogAppendTime"];
    place.run(&create).good();
    let before = place.files();
    let dry = ["topic", "alter", "t", "-c", "retention.bytes=1MiB", "--dry-run", "--format", "json"];
    let dry = place.run(&dry).json();
    let said = "would be altered: retention.bytes from -1 to 1048576";
    assert_eq!((&dry["dry_run"], &dry["topics"][0]["status"]), (&json!(true), &json!(said)));
    assert!(before == place.files());
    let alter =
        ["topic", "alter", "t", "-c", "retention.bytes=1MiB", "-c", "retention.ms=-1", "--format", "json"];
    let altered = place.run(&alter).json();
    let said = "altered: retention.ms from 604800000 to -1, retention.bytes from -1 to 1048576";
    assert_eq!(altered["topics"][0]["status"], said);
    assert_eq!(place.run(&alter).json()["topics"][0]["status"], "unchanged");
    let shown = place.run(&["topic", "describe", "t", "--format", "json"]).json()["settings"]["t"].clone();
    assert_eq!((&shown["retention.ms"], &shown["retention.bytes"]), (&json!(-1), &json!(1_048_576)));
    assert_eq!(
        (&shown["cleanup.policy"], &shown["message.timestamp.type"]),
        (&json!("delete"), &json!("LogAppendTime"))
    );
    place.run(&["topic", "alter", "t", "-c", "retention.mss=1"]).fails(2, "did you mean \"retention.ms\"?");
    place
        .run(&["topic", "alter", "t", "-c", "cleanup.policy=none"])
        .fails(2, "delete, compact, or compact,delete");
    place.run(&["topic", "alter", "t", "-c", "segment.bytes=1"]).fails(2, "4096 to 2147483647");
    // How two settings go together is for the log to say.
    let lags = ["-c", "min.compaction.lag.ms=2", "-c", "max.compaction.lag.ms=1", "--format", "json"];
    let refused = place.run(&[&["topic", "alter", "t", "no"], &lags[..]].concat());
    let rows = refused.json()["topics"].clone();
    assert_eq!((refused.exit, &rows[1]["error"]), (Some(1), &json!("NO_SUCH_TOPIC")));
    assert!(
        rows[0]["message"].as_str().unwrap().contains("max.compaction.lag.ms = 1 is out of bounds: 2 to"),
        "{rows}"
    );
}

#[test]
fn a_topic_has_a_codec_of_its_own_and_what_is_read_is_the_same() {
    let place = Place::new();
    place.run(&["topic", "create", "t", "-c", "compression.type=zstd"]).good();
    let shown = |of: &str| {
        let described = place.run(&["topic", "describe", of, "--format", "json"]).json();
        described["settings"][of]["compression.type"].clone()
    };
    assert_eq!(shown("t"), json!("zstd"));
    let alter = ["topic", "alter", "t", "-c", "compression.type=uncompressed", "--format", "json"];
    let said = "altered: compression.type from zstd to uncompressed";
    assert_eq!(place.run(&alter).json()["topics"][0]["status"], said);
    assert_eq!(shown("t"), json!("uncompressed"));
    let wrong = ["topic", "alter", "t", "-c", "compression.type=none"];
    place.run(&wrong).fails(2, "producer, uncompressed, gzip, snappy, lz4 or zstd");
    let wrong = ["topic", "alter", "t", "-c", "compresion.type=gzip"];
    place.run(&wrong).fails(2, "did you mean \"compression.type\"?");
    let explained = place.run(&["config", "explain", "compression.type", "--format", "json"]).json();
    assert_eq!(explained["default"], "producer");
}

#[test]
fn partitions_are_added_and_none_is_taken_away() {
    let place = Place::with_topic(2);
    let before = place.files();
    let dry = place.run(&["topic", "add-partitions", "t", "-p", "3", "--dry-run", "--format", "json"]).json();
    assert_eq!(dry["topics"][0]["status"], "would have 3 partitions instead of 2");
    assert!(before == place.files());
    let text = place.run(&["topic", "add-partitions", "t", "-p", "3"]).good();
    assert!(text.contains("has 3 partitions instead of 2") && text.contains("keys move"), "{text}");
    let again = place.run(&["topic", "add-partitions", "t", "-p", "3", "--format", "json"]).json();
    assert_eq!(again["topics"][0]["status"], "has 3 partitions already");
    let fewer = place.run(&["topic", "add-partitions", "t", "-p", "2", "--format", "json"]);
    let message = fewer.json()["topics"][0]["message"].as_str().unwrap().to_string();
    assert!(fewer.exit == Some(1) && message.contains("has 3 partitions, and can't have 2"), "{message}");
}

#[test]
fn the_settings_are_one_catalogue() {
    let place = Place::new();
    let listed = place.run(&["config", "list", "--format", "json"]).json();
    let settings = listed["settings"].as_array().unwrap().clone();
    assert!(settings.len() > 5);
    for setting in settings {
        let key = setting["setting"].as_str().unwrap();
        let explained = place.run(&["config", "explain", key, "--format", "json"]).json();
        assert_eq!(explained["default"], setting["default"]);
        assert!(!explained["costs"].as_str().unwrap().is_empty());
    }
    place.run(&["config", "explain", "segment.byte"]).fails(2, "did you mean \"segment.bytes\"?");
}

#[test]
fn compacting_says_what_it_would_do_and_does_it_with_execute() {
    let place = Place::new();
    place.run(&["topic", "create", "plain"]).good();
    place.run(&["topic", "compact", "plain"]).fails(1, "cleanup.policy=delete");
    let create = ["topic", "create", "t", "-c", "cleanup.policy=compact", "-c", "segment.bytes=4096"];
    place.run(&create).good();
    let input: String = (0..60).map(|at| format!("{}:{at}{}\n", at % 3, "v".repeat(500))).collect();
    place.run_with(&["produce", "t", "-K", ":", "--txn", "1"], input.clone()).good();
    place.run(&["topic", "compact", "t", "--execute"]).good();
    let left = place.run(&["consume", "t", "-f", "%k\n"]).good();
    assert!(left.lines().count() < 30, "{left}");
    for key in 0..3 {
        let last =
            input.lines().filter_map(|line| line.strip_prefix(&format!("{key}:"))).next_back().unwrap();
        let value = place.run(&["consume", "t", "-f", "%k:%v\n"]).good();
        assert!(value.lines().any(|line| line == format!("{key}:{last}")));
    }
    let verified = place.run(&["log", "verify", "--format", "json"]).json();
    assert_eq!(verified["partitions"][1]["records"], left.lines().count(), "{verified}");
    let before = place.files();
    let dry = place.run(&["topic", "compact", "t", "--format", "json"]).json();
    assert_eq!((&dry["dry_run"], &dry["partitions"][0]["dirty_bytes"]), (&json!(true), &json!(0)));
    assert!(before == place.files());
    place.run(&["topic", "trim", "t", "--to", "end", "--execute", "--format", "json"]).json();
    let lag = place.run(&["topic", "list", "--format", "json"]).json();
    assert_eq!(lag["topics"][1]["records"], left.lines().count());
}
