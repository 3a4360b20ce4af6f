//! `retry`: what waits to be tried again, and when attempts are made.

use crate::common::Place;
use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Failure, Processor, Retry};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn what_waits_is_listed_with_its_reason_and_its_time() {
    let place = Place::with_topic(1);
    let log = Log::open(&place.data).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let producer = log.producer("shop").unwrap();
    for value in ["first", "second"] {
        producer.blocking_send(&orders, Event::new("order-1", value)).unwrap();
    }
    drop(producer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin_ms = now_ms();
    runtime.block_on(async {
        let hour = Duration::from_secs(3_600);
        let processor =
            Processor::new(&log, "billing").topic(&orders).retry(Retry::default().backoff(hour, 1.0, hour));
        let handler = |_| async { Err::<(), _>(Failure::transient("Timeout", "too late")) };
        let running = processor.start(handler).unwrap();
        while log.lag("billing", &orders) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop().await.unwrap();
    });
    log.close().unwrap();
    let files = place.files();
    let listed = place.run(&["retry", "list", "billing", "--format", "json"]).json();
    assert_eq!((&listed["group"], &listed["waiting"]), (&json!("billing"), &json!(2)));
    let (first, second) = (&listed["waiting_events"][0], &listed["waiting_events"][1]);
    let is =
        |event: &Value, names: &[&str]| names.iter().map(|name| event[*name].clone()).collect::<Vec<_>>();
    let names = ["topic", "partition", "offset", "why", "attempts", "error", "key"];
    assert_eq!(
        json!(is(first, &names)),
        json!(["orders", 0, 0, "parked", 1, "Timeout: too late", "order-1"])
    );
    assert_eq!(json!(is(second, &names)), json!(["orders", 0, 1, "blocked", 0, null, "order-1"]));
    let due_ms = first["due_ms"].as_i64().unwrap();
    assert!(due_ms >= begin_ms + 3_600_000, "{due_ms} is an hour behind {begin_ms}");
    let due: jiff::Timestamp = first["due"].as_str().unwrap().parse().unwrap();
    assert_eq!(due.as_millisecond(), due_ms);
    assert_eq!(first["first_failed_ms"], due_ms - 3_600_000);
    assert_eq!((&second["due"], &second["first_failed"]), (&Value::Null, &Value::Null));
    assert!(files == place.files(), "nothing was written");

    place.run(&["consume", "t", "-q", "-g", "readers"]).good();
    place.run(&["retry", "list", "readers"]).fails(1, "has no processor");
    place.run(&["retry", "list", "biling"]).fails(1, "did you mean \"billing\"?");
    Place::new().run(&["retry", "list", "billing"]).fails(3, "");
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[test]
fn the_schedule_is_explained_without_a_log() {
    let place = Place::new();
    let explain = |arguments: &[&str]| {
        let all = [&["retry", "explain", "--format", "json"], arguments].concat();
        let attempts = place.run(&all).json()["attempts"].as_array().unwrap().clone();
        let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
        attempts
            .iter()
            .map(|row| (number(row, "at_seconds"), number(row, "wait_seconds")))
            .collect::<Vec<_>>()
    };
    assert_eq!(explain(&[]), [(0.0, 0.0), (1.0, 1.0), (3.0, 2.0)]);
    let at = |arguments: &[&str]| explain(arguments).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(at(&["--max-attempts", "7"]), [0.0, 1.0, 3.0, 7.0, 15.0, 25.0, 35.0]);
    let settings = ["--max-attempts", "4", "--initial", "100ms", "--multiplier", "1.5", "--max", "200ms"];
    let waits: Vec<f64> = explain(&settings).into_iter().map(|(_, wait)| wait).collect();
    assert_eq!(waits, [0.0, 0.1, 0.15, 0.2]);
    let text = place.run(&["retry", "explain"]).good();
    assert!(text.contains("dead letters"), "{text}");
    for (arguments, what) in [
        (["--max-attempts", "0"], "0 is not in"),
        (["--multiplier", "0.5"], "no number from 1 on"),
        (["--initial", "20s"], "longer than the longest"),
        (["--max", "soon"], "soon"),
    ] {
        place.run(&[&["retry", "explain"], &arguments[..]].concat()).fails(2, what);
    }
    assert!(!place.data.exists(), "no log was made");
}
