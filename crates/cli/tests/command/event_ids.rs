//! `produce --event-id`: of the records with one id the first is in the topic, whatever is killed.

use crate::common::{Place, Running, lines, until};
use serde_json::json;
use std::io::Write;
use std::process::Stdio;

/// Kills in the middle of one input: `EXACTLOG_KILLS=40` for the long run.
fn kills() -> u32 {
    std::env::var("EXACTLOG_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// `id` as text, as a number, and in another place.
fn feed(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{{\"id\":\"event-{number}\",\"n\":{number}}}\n")).collect()
}

#[test]
fn a_feed_that_is_read_twice_is_stored_once() {
    let place = Place::with_topic(3);
    let arguments = ["produce", "t", "--event-id", "id", "--format", "json"];
    let first = place.run_with(&arguments, feed(0..100)).json();
    assert_eq!((&first["records"], &first["already_stored"]), (&json!(100), &json!(0)));
    // The second half again, with new ones behind it: another input, which a position in it would not help with.
    let second = place.run_with(&arguments, feed(50..130)).json();
    assert_eq!((&second["records"], &second["already_stored"]), (&json!(30), &json!(50)));
    assert_eq!(place.records("t"), 130);
    let third = place.run_with(&["produce", "t", "--event-id", "id"], feed(0..130));
    assert!(third.err.contains("0 records stored in t, 130 were there already"), "{third:?}");
}

#[test]
fn keys_whole_lines_and_numbers_are_ids_too() {
    let place = Place::with_topic(2);
    let stored = |arguments: &[&str], input: &str| {
        let all = [&["produce", "t", "--format", "json"], arguments].concat();
        place.run_with(&all, input).json()["records"].as_u64().unwrap()
    };
    assert_eq!(stored(&["--event-id", "%v"], "a\nb\na\n"), 2);
    assert_eq!(stored(&["--event-id", "%k", "-K", ":"], "k1:x\nk2:x\nk1:y\n"), 2);
    assert_eq!(
        stored(&["--event-id", "o.n"], "{\"o\":{\"n\":1}}\n{\"o\":{\"n\":2}}\n{\"o\":{\"n\":1}}\n"),
        2
    );
    // What chooses its partition itself has its turn, and its id.
    let chosen =
        "{\"payload\":\"c\",\"partition\":1}\n{\"payload\":\"c\",\"partition\":0}\n{\"payload\":\"b\"}\n";
    assert_eq!(stored(&["--event-id", "%v", "-f", "json"], chosen), 1);
    assert_eq!(place.records("t"), 7);
}

#[test]
fn a_record_without_its_id_is_named_and_those_before_it_are_stored() {
    let place = Place::with_topic(1);
    for (field, input, what) in [
        ("id", "{\"id\":1}\n{}\n{\"id\":2}\n", "it has no field \"id\""),
        ("id", "{\"id\":1}\nno json\n", "isn't JSON"),
        ("%k", "x\n", "it has no key"),
    ] {
        let bad = place.run_with(&["produce", "t", "--event-id", field], input);
        bad.fails(1, what);
        let number = if field == "id" { 2 } else { 1 };
        assert!(bad.err.contains(&format!("record {number} of the input")), "{bad:?}");
    }
    assert_eq!(place.records("t"), 1);
}

#[test]
fn killed_many_times_and_then_run_to_its_end_each_line_is_there_once() {
    const LINES: u32 = 20_000;
    let place = Place::with_topic(1);
    let arguments = ["produce", "t", "--event-id", "%v", "-q"];
    let mut before = 0;
    for round in 1..=kills() {
        let child = place.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut running = Running(Some(child));
        let mut stdin = running.0.as_mut().unwrap().stdin.take().unwrap();
        // Each run begins with the first line again, and gets some further than the one before it.
        let part = lines(0..LINES * round / (kills() + 1));
        let writes = std::thread::spawn(move || {
            let _ = stdin.write_all(part.as_bytes());
            stdin
        });
        until("something new was stored", || place.records("t") > before);
        running.kill();
        drop(writes.join().unwrap());
        before = place.records("t");
    }
    assert!(before < u64::from(LINES));
    let whole =
        place.run_with(&["produce", "t", "--event-id", "%v", "--format", "json"], lines(0..LINES)).json();
    assert_eq!(
        whole["records"].as_u64().unwrap() + whole["already_stored"].as_u64().unwrap(),
        u64::from(LINES)
    );
    assert_eq!(whole["already_stored"], json!(before));
    // In order, too: there is one partition.
    assert!(place.run(&["consume", "t"]).good() == lines(0..LINES));
}
