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

#[test]
fn lag_and_rates_are_shown_again_and_again_while_somebody_writes() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..10)).good();
    place.run(&["consume", "t", "-q", "-g", "g", "-n", "4"]).good();
    let log = exactlog::Log::open(&place.data).unwrap();
    let topic = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                producer.blocking_send(&topic, exactlog::Event::new("k", "v")).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let shown = |arguments: &[&str]| -> Vec<serde_json::Value> {
            let out = place
                .run(&[arguments, &["--watch", "50ms", "--times", "3", "--format", "json"]].concat())
                .good();
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let lags: Vec<u64> =
            shown(&["group", "lag", "g"]).iter().map(|it| it["total_lag"].as_u64().unwrap()).collect();
        let tops = shown(&["top"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(lags.len() == 3 && lags[0] >= 6 && lags.is_sorted(), "{lags:?}");
        assert_eq!((tops.len(), &tops[0]["topics"][0]["records_per_second"]), (3, &serde_json::Value::Null));
        let row = &tops[2]["topics"][0];
        assert!(row["records_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(
            (&row["topic"], &row["groups"], &row["slowest_group"]),
            (&"t".into(), &1.into(), &"g".into())
        );
    });
    let row = &place.run(&["top", "--format", "json"]).json()["topics"][0];
    assert!(row["records_per_second"].is_number() && row["lag"].as_u64().unwrap() >= 6, "{row}");
    place.run(&["top", "--times", "2"]).fails(2, "--watch");
}

/// It said -0.0, which is what no numbers come to.
#[test]
fn a_log_without_topics_has_no_records_per_second() {
    let place = Place::with_topic(1);
    place.run(&["topic", "delete", "t", "--execute"]).good();
    let shown = place.run(&["top"]).good();
    assert!(shown.contains("records per second  0.0\n"), "{shown}");
}
