//! `topic describe` and `doctor`: members that wait idle, and keys that make one partition do the work of all.

use crate::common::{Place, until};
use exactlog::{Event, Log};
use serde_json::{Value, json};

fn described(place: &Place) -> Value {
    place.run(&["topic", "describe", "t", "--format", "json"]).json()
}

/// What the doctor says of one thing.
fn found(place: &Place, check: &str) -> Vec<Value> {
    let answer = place.run(&["doctor", "--format", "json"]).json();
    let checks = answer["checks"].as_array().unwrap().clone();
    checks.into_iter().filter(|row| row["check"] == check).collect()
}

#[test]
fn a_group_with_more_members_than_partitions_is_named() {
    let place = Place::with_topic(2);
    let log = Log::open(&place.data).unwrap();
    let topic = log.open_topic("t").unwrap();
    let join = || log.consumer("g").subscribe([&topic]).unwrap();
    let (_first, _second) = (join(), join());
    assert_eq!(described(&place)["crowded_groups"], json!([]));
    assert_eq!(found(&place, "members")[0]["status"], "good");
    let third = join();
    let crowd = json!({"group": "g", "topics": ["t"], "members": 3, "partitions": 2, "idle": 1});
    assert_eq!(described(&place)["crowded_groups"], json!([crowd]));
    let sentence = "group \"g\" has 3 members for 2 partitions of t: 1 waits idle";
    let text = place.run(&["topic", "describe", "t"]).good();
    assert!(text.contains(&format!("\n{sentence}; start fewer")), "{text}");
    let row = found(&place, "members").remove(0);
    assert_eq!((&row["status"], &row["found"]), (&json!("note"), &json!(sentence)));
    assert!(row["fix"].as_str().unwrap().contains("add-partitions"), "{row}");
    drop(third);
    until("the third has left", || described(&place)["crowded_groups"] == json!([]));
}

#[test]
fn who_reads_another_topic_as_well_has_its_partitions_too() {
    let place = Place::with_topic(2);
    place.run(&["topic", "create", "u"]).good();
    let log = Log::open(&place.data).unwrap();
    let (t, u) = (log.open_topic("t").unwrap(), log.open_topic("u").unwrap());
    let both = || log.consumer("g").subscribe([&t, &u]).unwrap();
    let _three = [both(), both(), both()];
    assert_eq!(described(&place)["crowded_groups"], json!([]));
    let _four = both();
    let crowd = json!({"group": "g", "topics": ["t", "u"], "members": 4, "partitions": 3, "idle": 1});
    assert_eq!(described(&place)["crowded_groups"], json!([crowd]));
    assert_eq!(found(&place, "members").len(), 1, "said once for both topics");
}

/// Sends records with these keys into a partition.
fn send(place: &Place, partition: u32, keys: impl IntoIterator<Item = Vec<u8>>) {
    let log = Log::open(&place.data).unwrap();
    let topic = log.open_topic("t").unwrap();
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    for key in keys {
        transaction.send_to(&topic, partition, Event::new(key, "v")).unwrap();
    }
    transaction.blocking_commit().unwrap();
    log.close().unwrap();
}

fn distinct(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| format!("key-{number}").into_bytes())
}

fn same(key: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_n(key.to_vec(), count)
}

#[test]
fn a_key_that_has_more_than_half_of_the_records_is_named() {
    let place = Place::with_topic(3);
    send(&place, 0, distinct(60).chain(same(b"busy\x1b[31m", 90)));
    send(&place, 1, distinct(75).chain(same(b"half", 75)));
    send(&place, 2, same(b"few", 99));
    let answer = described(&place);
    let key = "busy\u{1b}[31m";
    let hot =
        json!({"topic": "t", "partition": 0, "key": key, "records": 90, "looked_at": 150, "share": 0.6});
    assert_eq!((&answer["hot_keys"], &answer["looked_at_records"]), (&json!([hot]), &json!(399)));
    let sentence = "key \"busy\\u{1b}[31m\" has 90 of 150 records of t-0 that were looked at (60 %)";
    let text = place.run(&["topic", "describe", "t"]).good();
    assert!(text.contains(&format!("\n{sentence}; a finer key")) && !text.contains('\u{1b}'), "{text}");
    let rows = found(&place, "keys");
    assert_eq!((rows.len(), &rows[0]["status"], &rows[0]["found"]), (1, &json!("note"), &json!(sentence)));
    send(&place, 2, same(b"\xff\n", 1000));
    let hot = &described(&place)["hot_keys"][1];
    assert_eq!((&hot["partition"], &hot["key"]), (&json!(2), &json!("\\xff\\n")), "bytes that are no text");
}

#[test]
fn only_the_newest_records_are_looked_at() {
    let place = Place::with_topic(1);
    send(&place, 0, same(b"before", 12_000));
    let hot = &described(&place)["hot_keys"][0];
    assert_eq!((&hot["records"], &hot["looked_at"]), (&json!(10_000), &json!(10_000)));
    send(&place, 0, distinct(5_000));
    assert_eq!(described(&place)["hot_keys"], json!([]), "just a half");
    send(&place, 0, distinct(5_000));
    let answer = described(&place);
    assert_eq!((&answer["hot_keys"], &answer["looked_at_records"]), (&json!([]), &json!(10_000)));
    let row = found(&place, "keys").remove(0);
    assert_eq!(row["status"], "good");
    assert!(row["found"].as_str().unwrap().ends_with("; 10000 records looked at"), "{row}");
}

#[test]
fn the_rows_of_a_table_are_no_hot_keys() {
    let place = Place::new();
    let log = Log::open(&place.data).unwrap();
    let table = log.create_table("t", exactlog::TableOptions::default()).unwrap();
    let mut producer = log.producer("p").unwrap();
    for number in 0..150 {
        producer.transaction(|transaction| transaction.put(&table, "total", number.to_string())).unwrap();
    }
    log.close().unwrap();
    let answer = described(&place);
    assert_eq!((&answer["hot_keys"], &answer["looked_at_records"]), (&json!([]), &json!(0)));
    assert_eq!(found(&place, "keys")[0]["status"], "good");
}
