//! `replay`: a range of a topic is in another one once, whatever is killed.

use crate::common::{Place, Running, lines, until};
use serde_json::json;

fn replay(place: &Place, more: &[&str]) -> crate::common::Answer {
    place.run(&[&["replay", "t", "--into", "u", "--format", "json"], more].concat())
}

fn sorted(text: &str) -> Vec<&str> {
    let mut all: Vec<&str> = text.lines().collect();
    all.sort_unstable();
    all
}

#[test]
fn a_range_is_replayed_once_and_its_command_is_its_name() {
    let place = Place::with_topic(1);
    place.run(&["topic", "create", "u", "-p", "3"]).good();
    place.run_with(&["produce", "t"], lines(0..100)).good();
    let files = place.files();
    let dry = replay(&place, &["--from", "20:50"]).json();
    assert!(files == place.files());
    assert_eq!(
        (&dry["records"], &dry["status"], &dry["dry_run"]),
        (&json!(30), &json!("would be replayed"), &json!(true))
    );
    assert_eq!((&dry["ranges"][0]["from_offset"], &dry["ranges"][0]["to_offset"]), (&json!(20), &json!(50)));
    let done = replay(&place, &["--from", "20:50", "--execute"]).json();
    assert_eq!((&done["copied"], &done["status"]), (&json!(30), &json!("replayed")));
    let again = replay(&place, &["--from", "20:50", "--execute"]).json();
    assert_eq!((&again["copied"], &again["status"]), (&json!(30), &json!("replayed before")));
    assert_eq!(sorted(&place.run(&["consume", "u", "-q"]).good()), sorted(&lines(20..50)));
    // Another name, or other offsets, are another replay.
    assert_eq!(replay(&place, &["--from", "20:50", "--name", "again", "--execute"]).json()["copied"], 30);
    assert_eq!(replay(&place, &["--from", "-10", "--execute"]).json()["copied"], 10);
    assert_eq!(place.records("u"), 70);
    assert_eq!(replay(&place, &["--from", "end", "--execute"]).json()["copied"], 0);
    assert_eq!(place.run(&["group", "list"]).good().lines().next(), Some("no groups"));
}

#[test]
fn killed_on_the_way_it_goes_on_to_the_end_that_there_was_when_it_began() {
    let place = Place::with_topic(2);
    place.run(&["topic", "create", "u"]).good();
    place.run_with(&["produce", "t", "-p", "0"], lines(0..6_000)).good();
    place.run_with(&["produce", "t", "-p", "1"], lines(6_000..12_000)).good();
    // Slow enough that it is killed before its end, however quick the disk is.
    let arguments =
        ["replay", "t", "--into", "u", "--from", "start", "--txn", "1", "--execute", "--format", "json"];
    for kill in 1..=3 {
        let running = Running(Some(place.command(&arguments).spawn().unwrap()));
        until("some were replayed", || place.records("u") >= 12_000 * kill / 5);
        running.kill();
        place.run_with(&["produce", "t"], "too late\n").good();
    }
    let there = place.records("u");
    assert!(there < 12_000, "{there}");
    let left = replay(&place, &["--from", "start"]).json();
    assert_eq!(left["records"], 12_000 - there);
    let done = place.run(&arguments).json();
    assert_eq!((&done["copied"], &done["status"]), (&json!(12_000), &json!("replayed")));
    assert_eq!(sorted(&place.run(&["consume", "u", "-q"]).good()), sorted(&lines(0..12_000)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::with_topic(1);
    for (arguments, exit, what) in [
        (&["replay", "t", "--from", "start", "--into", "t"][..], 2, "into itself"),
        (&["replay", "t", "--from", "start", "--into", "tt"], 1, "did you mean \"t\"?"),
        (&["replay", "tt", "--from", "start", "--into", "t"], 1, "did you mean \"t\"?"),
        (&["replay", "t", "--from", "sometime", "--into", "u"], 2, "sometime"),
        (&["replay", "t", "--into", "u"], 2, "--from"),
        (&["replay", "t", "--from", "start"], 2, "--into"),
    ] {
        place.run(arguments).fails(exit, what);
    }
}
