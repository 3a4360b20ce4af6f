//! Verbs that only read: nothing is written, and nobody is kept out.

use crate::common::{Place, Running, lines, until};
use exactlog::{Event, Log};
use std::io::{BufRead, BufReader};

#[test]
fn verbs_that_only_read_change_no_byte_and_need_no_right_to_write() {
    let place = Place::with_topic(2);
    place.run_with(&["produce", "t", "-K", " "], lines(0..100)).good();
    place.run(&["consume", "t", "-g", "g", "-n", "5"]).good();
    let before = place.files();
    for arguments in [
        &["topic", "list"][..],
        &["topic", "describe", "t"],
        &["topic", "delete", "t"],
        &["topic", "trim", "t", "--to", "end"],
        &["topic", "create", "u", "--dry-run"],
        &["consume", "t"],
        &["group", "list"],
        &["group", "describe", "g"],
        &["group", "lag"],
        &["group", "seek", "g", "--to", "start"],
        &["log", "stat"],
        &["log", "dump"],
        &["log", "verify"],
    ] {
        place.run(arguments).good();
        assert!(before == place.files(), "{arguments:?}");
    }
}

#[test]
fn while_somebody_writes_reading_works_and_writing_names_him() {
    let place = Place::with_topic(1);
    let log = Log::open(&place.data).unwrap();
    let topic = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    producer.blocking_send(&topic, Event::unkeyed("line 0")).unwrap();
    assert_eq!(place.run(&["consume", "t"]).good(), lines(0..1));
    assert_eq!(place.run(&["log", "stat", "--format", "json"]).json()["in_use"], true);
    let owner = format!("process {}", std::process::id());
    place.run_with(&["produce", "t"], "x\n").fails(3, &owner);
    place.run(&["topic", "create", "u"]).fails(3, &owner);
    place.run(&["topic", "delete", "t", "--execute"]).fails(3, &owner);
    place.run(&["topic", "create", "u", "--timeout", "100ms"]).fails(3, &owner);
    let refused = place.run(&["topic", "create", "u", "--format", "json"]);
    assert_eq!(refused.json()["error"]["code"], "IN_USE");
    // It waits until the directory is free.
    let waiting = place.command(&["topic", "create", "u", "--timeout", "1h"]).spawn().unwrap();
    log.close().unwrap();
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success(), "{waited:?}");
}

#[test]
fn who_follows_without_a_group_sees_what_another_process_writes() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..1)).good();
    let child = place.command(&["consume", "t", "--follow", "-n", "4"]).spawn().unwrap();
    let mut running = Running(Some(child));
    let out = running.0.as_mut().unwrap().stdout.take().unwrap();
    let mut seen = BufReader::new(out).lines();
    assert_eq!(seen.next().unwrap().unwrap(), "line 0");
    place.run_with(&["produce", "t"], lines(1..2)).good();
    assert_eq!(seen.next().unwrap().unwrap(), "line 1");
    let log = Log::open(&place.data).unwrap();
    let topic = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    for number in 2..4 {
        producer.blocking_send(&topic, Event::unkeyed(format!("line {number}"))).unwrap();
        assert_eq!(seen.next().unwrap().unwrap(), format!("line {number}"));
    }
    assert!(seen.next().is_none());
    let ended = running.0.as_mut().unwrap().wait().unwrap();
    assert_eq!(ended.code(), Some(0), "-n was reached");
}

#[test]
fn following_ends_where_it_was_asked_to() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    let child = place.command(&["consume", "t", "--follow", "-o", ":5", "-q"]).spawn().unwrap();
    until("the other records are there", || {
        place.run_with(&["produce", "t"], lines(3..7)).good();
        true
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines(0..5));
    assert!(output.status.success());
}
