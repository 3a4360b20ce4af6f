//! Events that are delivered later, from the command line: set, listed, delivered by whoever opens the log, given up.

use crate::common::{Place, lines, until};
use serde_json::{Value, json};

fn timers(place: &Place) -> Vec<Value> {
    let listed = place.run(&["timer", "list", "--format", "json"]).json();
    listed["timers"].as_array().unwrap().clone()
}

#[test]
fn what_is_due_is_delivered_by_whoever_writes_next_and_the_rest_waits() {
    let place = Place::with_topic(2);
    let set = ["produce", "t", "-k", "k", "--deliver-after", "7d", "--format", "json"];
    let made = place.run_with(&set, "in a week\n").json();
    assert_eq!(
        (&made["records"], &made["first_timer"], &made["last_timer"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(made["stored"], json!([]), "nothing is in the topic yet");
    place.run_with(&["produce", "t", "-k", "k", "--deliver-at", "2000-01-31"], lines(0..3)).good();

    // What was due may have been delivered by the call that set it, and else is by the next one that writes.
    until("it is delivered", || {
        place.run_with(&["produce", "t"], "").good();
        timers(&place).len() == 1
    });
    let waiting = &timers(&place)[0];
    assert_eq!(
        (&waiting["timer"], &waiting["topic"], &waiting["state"]),
        (&json!(1), &json!("t"), &json!("waiting"))
    );
    assert!(waiting["due_in_seconds"].as_f64().unwrap() > 6.9 * 86_400.0, "{waiting}");
    let delivered = place.run(&["consume", "t", "-f", "%k %v %d\\n"]).good();
    assert_eq!(delivered, "k line 0 949276800000\nk line 1 949276800000\nk line 2 949276800000\n");
}

#[test]
fn an_input_in_transactions_is_delivered_later_exactly_once_too() {
    let place = Place::with_topic(1);
    let produce = ["produce", "t", "--txn", "2", "--deliver-after", "7d", "--format", "json"];
    assert_eq!(place.run_with(&produce, lines(0..5)).json()["last_timer"], 5);
    let again = place.run_with(&produce, lines(0..7)).json();
    assert_eq!(
        (&again["records"], &again["already_stored"], &again["first_timer"]),
        (&json!(2), &json!(5), &json!(6))
    );
    assert_eq!(timers(&place).len(), 7);
}

#[test]
fn cancelling_says_first_what_it_would_do_and_then_what_became_of_each() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t", "--deliver-after", "1h"], "x\ny\n").good();
    let shown = place.run(&["timer", "cancel", "1", "9", "--format", "json"]).json();
    assert_eq!(shown["dry_run"], true);
    assert_eq!(shown["timers"][0]["outcome"], "would be cancelled");
    assert_eq!(shown["timers"][1]["outcome"], "doesn't wait");
    assert_eq!(timers(&place).len(), 2);

    let done = place.run(&["timer", "cancel", "1", "--execute", "--format", "json"]);
    assert_eq!((done.exit, &done.json()["timers"][0]["outcome"]), (Some(0), &json!("cancelled")));
    let again = place.run(&["timer", "cancel", "1", "2", "9", "--execute", "--format", "json"]);
    assert_eq!(again.exit, Some(1), "{again:?}");
    let outcomes: Vec<Value> =
        again.json()["timers"].as_array().unwrap().iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["cancelled before", "cancelled", "never set"]);
    assert_eq!(timers(&place), [] as [Value; 0]);
}

#[test]
fn limits_are_shown_and_set() {
    let place = Place::with_topic(1);
    let shown = place.run(&["timer", "limits", "--format", "json"]).json();
    assert_eq!(shown["delivery.timers.max"], 1_000_000);
    assert_eq!(shown["delivery.delay.max.ms"], 31_536_000_000_u64);
    place.run(&["timer", "limits", "--count", "1", "--delay", "1h"]).good();
    let long = place.run_with(&["produce", "t", "--deliver-after", "2h"], "x");
    long.fails(1, "delivery.delay.max.ms is 3600000");
    place.run_with(&["produce", "t", "--deliver-after", "30m"], "x").good();
    place.run_with(&["produce", "t", "--deliver-after", "30m"], "x").fails(1, "delivery.timers.max = 1");
    place.run(&["timer", "limits", "--count", "5000000"]).fails(1, "0 to 4000000");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "--deliver-at", "soon"], "x").fails(2, "\"soon\" is no time");
    place.run_with(&["produce", "t", "--deliver-after", "soon"], "x").fails(2, "soon");
    place.run_with(&["produce", "t", "-p", "0", "--deliver-after", "1h"], "x").fails(2, "cannot be used");
    let envelope = "{\"payload\": \"v\", \"partition\": 1}\n";
    place
        .run_with(&["produce", "t", "-f", "json", "--deliver-after", "1h"], envelope)
        .fails(2, "its key says");
}
