//! `dedup`: what is remembered of ids, and of one of them.

use crate::common::{Place, lines};
use serde_json::json;

#[test]
fn what_is_remembered_is_counted_and_one_id_is_shown_with_its_place() {
    let place = Place::with_topic(1);
    let few = ["-X", "dedup.memory.entries=0"];
    place.run_with(&[&few[..], &["produce", "t", "--event-id", "%v"]].concat(), lines(0..50)).good();
    // Whoever writes next finds them on disk, or has moved them there when it ends.
    let stats = place.run(&["dedup", "stats", "--format", "json"]).json();
    assert_eq!((&stats["seen"], &stats["reserved"]), (&json!(50), &json!(0)));
    let kept = stats["in_memory"].as_u64().unwrap() + stats["on_disk"].as_u64().unwrap();
    assert_eq!(kept, 50, "{stats}");
    assert_eq!(stats["complete_since_ms"], json!(null), "nothing was given up early");
    assert_eq!(stats["dedup.entries.max"], 100_000_000);

    let seen = place.run(&["dedup", "show", "t", "line 7", "--topic", "--format", "json"]).json();
    assert_eq!((&seen["state"], &seen["partition"], &seen["offset"]), (&json!("seen"), &json!(0), &json!(7)));
    let absent = place.run(&["dedup", "show", "t", "line 99", "--topic", "--format", "json"]);
    assert_eq!((absent.exit, &absent.json()["state"]), (Some(1), &json!("absent")));
    assert_eq!(place.run(&["dedup", "show", "billing", "line 7"]).exit, Some(1), "another scope");
    place.run(&["dedup", "show", "nothing", "line 7", "--topic"]).fails(1, "nothing");
}

#[test]
fn an_id_is_forgotten_only_when_asked_to_and_its_event_is_stored_once_more() {
    let place = Place::with_topic(1);
    let produce = |place: &Place| {
        place.run_with(&["produce", "t", "--event-id", "%v", "--format", "json"], lines(0..3)).json()
    };
    produce(&place);
    let forget = ["dedup", "forget", "t", "line 1", "--topic", "--format", "json"];
    let dry = place.run(&forget).json();
    assert_eq!((&dry["dry_run"], &dry["state"], &dry["offset"]), (&json!(true), &json!("seen"), &json!(1)));
    assert_eq!(place.run(&["dedup", "stats", "--format", "json"]).json()["seen"], 3, "nothing was changed");
    let done = place.run(&[&forget[..], &["--execute"]].concat()).json();
    let expected = (&json!(false), &json!("forgotten"), &json!(1));
    assert_eq!((&done["dry_run"], &done["state"], &done["offset"]), expected);
    let show = place.run(&["dedup", "show", "t", "line 1", "--topic"]);
    assert_eq!(show.exit, Some(1));
    produce(&place);
    let seen = place.run(&["dedup", "show", "t", "line 1", "--topic", "--format", "json"]).json();
    assert_eq!(seen["offset"], 3, "the others were there");
    let again = place.run(&["dedup", "forget", "t", "line 9", "--topic", "--execute", "--format", "json"]);
    assert_eq!((again.exit, &again.json()["state"]), (Some(1), &json!("absent")));
}
