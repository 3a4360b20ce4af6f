//! `group`: what is shown, and moving one.

use crate::common::{Place, Running, lines, until};
use serde_json::json;
use std::process::Stdio;

fn filled() -> Place {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-p", "0"], lines(0..10)).good();
    place.run_with(&["produce", "t", "-p", "1"], lines(10..14)).good();
    place.run(&["consume", "t", "-g", "g", "-n", "6"]).good();
    place
}

#[test]
fn lag_is_exact_in_records_and_told_in_seconds() {
    let place = filled();
    let described = place.run(&["group", "describe", "g", "--format", "json"]).json();
    assert_eq!((&described["total_lag"], &described["lag_by_topic"]["g"]["t"]), (&json!(8), &json!(8)));
    for row in described["positions"].as_array().unwrap() {
        let committed = row["current_offset"].as_u64().unwrap_or(0);
        let lag = row["log_end_offset"].as_u64().unwrap() - committed;
        assert_eq!(row["lag"].as_u64().unwrap(), lag);
        let seconds = row["lag_seconds"].as_f64().unwrap();
        assert!(if lag == 0 { seconds == 0.0 } else { seconds > 0.0 && seconds < 600.0 }, "{row}");
    }
    let listed = place.run(&["group", "list", "--format", "json"]).json();
    assert_eq!(listed["groups"][0]["lag"], 8);
    assert_eq!(place.run(&["group", "lag", "--limit", "8"]).exit, Some(0));
    let over = place.run(&["group", "lag", "--limit", "7", "--format", "json"]);
    assert_eq!((over.exit, &over.json()["over_limit"]), (Some(4), &json!(["g"])));
    place.run(&["group", "describe", "G"]).fails(1, "did you mean \"g\"?");
    place.run(&["group", "lag", "g", "nobody"]).fails(1, "there is no group \"nobody\"");
    place.run(&["group", "lag", "--limit", "x"]).fails(2, "--limit");
}

#[test]
fn a_group_is_moved_with_execute_and_not_without() {
    let place = filled();
    let before = place.files();
    let dry = place.run(&["group", "seek", "g", "--to", "-1", "--format", "json"]).json();
    assert_eq!((&dry["dry_run"], &dry["positions"][0]["new_offset"]), (&json!(true), &json!(9)));
    assert!(before == place.files());
    place.run(&["group", "seek", "g", "--to", "-1", "--execute"]).good();
    assert_eq!(place.run(&["group", "lag", "g", "--format", "json"]).json()["total_lag"], 2);
    place.run(&["group", "seek", "g", "--to", "start", "--topic", "t", "-p", "1", "--execute"]).good();
    assert_eq!(place.run(&["consume", "t", "-g", "g", "-q"]).good(), lines(9..14));
}

#[test]
fn a_group_that_is_not_there_is_made_only_when_asked_to() {
    let place = filled();
    place.run(&["group", "seek", "h", "--to", "end", "--execute"]).fails(1, "there is no group \"h\"");
    place.run(&["group", "seek", "h", "--to", "end", "--new"]).fails(2, "--topic");
    place.run(&["group", "seek", "h", "--to", "end", "--new", "--topic", "t", "--execute"]).good();
    assert_eq!(place.run(&["group", "lag", "h", "--format", "json"]).json()["total_lag"], 0);
    place.run(&["group", "seek", "g", "--to", "start", "--topic", "x"]).fails(1, "there is no topic \"x\"");
    place.run(&["group", "seek", "g", "--to", "1:2"]).fails(2, "is a range");
}

#[test]
fn an_active_group_is_shown_with_its_members_and_not_moved() {
    let place = filled();
    let following =
        place.command(&["consume", "t", "-g", "g", "--follow"]).stdout(Stdio::null()).spawn().unwrap();
    let following = Running(Some(following));
    let described = || place.run(&["group", "describe", "g", "--format", "json"]).json();
    until("it joined and read everything", || {
        let described = described();
        described["members"].as_array().unwrap().len() == 1 && described["total_lag"] == 0
    });
    let member = described()["members"][0]["member_id"].clone();
    assert_eq!(described()["positions"][0]["member_id"], member);
    for more in [&[][..], &["--execute"]] {
        let all: Vec<&str> = ["group", "seek", "g", "--to", "start"].iter().chain(more).copied().collect();
        place.run(&all).fails(1, &format!("group \"g\" is active: 1 member (member {member})"));
    }
    following.kill();
    place.run(&["group", "seek", "g", "--to", "start", "--execute"]).good();
    assert_eq!(place.run(&["group", "lag", "g", "--format", "json"]).json()["total_lag"], 14);
}

#[test]
fn positions_and_groups_are_forgotten_with_execute_alone() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-p", "0"], lines(0..10)).good();
    place.run_with(&["produce", "t", "-p", "1"], lines(0..10)).good();
    for group in ["g", "h"] {
        place.run(&["consume", "t", "-g", group, "-q"]).good();
    }
    let one = ["group", "delete-offsets", "g", "--topic", "t", "-p", "1", "--format", "json"];
    let before = place.files();
    let dry = place.run(&one).json();
    assert!(before == place.files());
    let row = json!({"topic": "t", "partition": 1, "prior_offset": 10, "lag": 0});
    assert_eq!((&dry["dry_run"], &dry["positions"]), (&json!(true), &json!([row])));
    place.run(&[&one[..], &["--execute"]].concat()).good();
    assert_eq!(place.run(&["group", "lag", "g", "--format", "json"]).json()["total_lag"], 10);
    let all = ["group", "delete", "g", "hh", "h", "--format", "json"];
    assert_eq!(place.run(&all).exit, Some(1));
    let done = place.run(&[&all[..], &["--execute"]].concat());
    assert_eq!(done.exit, Some(1));
    let status = |nth: usize| done.json()["groups"][nth]["status"].clone();
    assert_eq!([status(0), status(1), status(2)], ["deleted", "failed", "deleted"].map(|text| json!(text)));
    assert!(done.json()["groups"][1]["message"].as_str().unwrap().contains("did you mean \"h\"?"));
    assert_eq!(place.run(&["group", "list"]).good().lines().next(), Some("no groups"));
    place.run(&["group", "delete-offsets", "g", "--topic", "t"]).fails(1, "no group");
    place.run(&["group", "delete-offsets", "g"]).fails(2, "--topic");
    place.run(&["group", "delete"]).fails(2, "GROUP");
}

#[test]
fn a_group_with_members_is_not_forgotten() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    let child = place.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap();
    let running = crate::common::Running(Some(child));
    crate::common::until("it has joined", || {
        place.run(&["group", "list", "--format", "tsv"]).out.starts_with("g\t1")
    });
    for verb in [&["group", "delete-offsets", "g", "--topic", "t"][..], &["group", "delete", "g"]] {
        for more in [&[][..], &["--execute"]] {
            let refused = place.run(&[verb, more, &["--format", "json"]].concat());
            assert!(refused.exit == Some(1) && refused.out.contains("GROUP_ACTIVE"), "{refused:?}");
        }
    }
    running.kill();
}
