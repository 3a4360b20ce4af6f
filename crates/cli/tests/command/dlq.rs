//! `dlq`: dead letters are looked at, and put back or given up once, whatever is killed.

use crate::common::{Answer, Place, Running, until};
use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Context, Failure, Processor};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The group `billing` has read 6 orders. Three died: two of `OutOfStock`, one of `Text`. `audit` has read them, too.
pub(crate) fn with_dead_letters() -> Place {
    let place = Place::new();
    let log = Log::open(&place.data).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let producer = log.producer("shop").unwrap();
    for (number, value) in ["chair", "sofa", "table", "sofa", "?", "chair"].iter().enumerate() {
        producer.blocking_send(&orders, Event::new(format!("order-{number}"), *value)).unwrap();
    }
    drop(producer);
    process(&log, "billing");
    log.close().unwrap();
    place.run(&["consume", "orders", "-q", "-g", "audit"]).good();
    place
}

/// Runs a processor that has no sofas until it has read all orders.
pub(crate) fn process(log: &Log, group: &str) {
    let orders = log.open_topic("orders").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let handler = |order: Context| async move {
            match order.value_str()? {
                "sofa" => Err(Failure::permanent("OutOfStock", "no sofas left\nin any shop")),
                "?" => Err(Failure::poison("Text", "no order")),
                _ => Ok(()),
            }
        };
        let running = Processor::new(log, group).topic(&orders).start(handler).unwrap();
        while log.lag(group, &orders) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop().await.unwrap();
    });
}

fn dlq(place: &Place, arguments: &[&str]) -> Answer {
    place.run(&[&["dlq"], arguments, &["--format", "json"]].concat())
}

fn offsets(place: &Place, arguments: &[&str]) -> Vec<u64> {
    let shown = dlq(place, &[&["show", "dlq.orders"], arguments].concat()).json();
    shown["entries"].as_array().unwrap().iter().map(|entry| entry["offset"].as_u64().unwrap()).collect()
}

fn values(place: &Place, topic: &str) -> Vec<String> {
    let consumed = place.run(&["consume", topic, "-q"]).good();
    let mut values: Vec<String> = consumed.lines().map(ToString::to_string).collect();
    values.sort_unstable();
    values
}

#[test]
fn dead_letters_are_listed_and_shown() {
    let place = with_dead_letters();
    place.run(&["topic", "create", "orders-dlt", "error.orders.billing", "other"]).good();
    let files = place.files();
    let listed = dlq(&place, &["list"]).json();
    let topics = listed["dead_letter_topics"].as_array().unwrap();
    let names: Vec<&str> = topics.iter().map(|row| row["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["dlq.orders", "error.orders.billing", "orders-dlt"]);
    assert_eq!((&listed["dead"], &topics[0]["dead"]), (&json!(3), &json!(3)));
    assert_eq!(topics[0]["error_classes"], json!({"OutOfStock": 2, "Text": 1}));
    assert!(topics[0]["oldest_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!((&topics[1]["dead"], &topics[1]["oldest_seconds"]), (&json!(0), &Value::Null));

    let shown = dlq(&place, &["show", "dlq.orders"]).json();
    let entry = &shown["entries"][0];
    assert_eq!(entry["failed_at"].as_str().unwrap().len(), "2026-01-31T12:00:00.000Z".len(), "{entry}");
    let mut entry = entry.clone();
    entry.as_object_mut().unwrap().remove("failed_at");
    assert_eq!(
        entry,
        json!({
            "partition": 0, "offset": 0, "state": "dead", "error_class": "OutOfStock", "key": "order-1",
            "message": "no sofas left\nin any shop", "attempts": 1, "group": "billing", "redrives": 0,
            "origin_topic": "orders", "origin_partition": 0, "origin_offset": 1,
        })
    );
    assert_eq!(offsets(&place, &[]), [0, 1, 2]);
    assert_eq!(offsets(&place, &["--error-class", "Text"]), [2]);
    assert_eq!(offsets(&place, &["--partition", "0", "--offset", "1"]), [1]);
    assert_eq!(offsets(&place, &["-n", "2"]), [0, 1]);
    assert_eq!(dlq(&place, &["show", "dlq.orders", "-n", "2"]).json()["more"], true);
    assert_eq!(dlq(&place, &["show", "dlq.orders", "-n", "3"]).json()["more"], false);
    let text = place.run(&["dlq", "show", "dlq.orders"]).good();
    assert!(text.contains("no sofas left..") && !text.contains("in any shop"), "{text}");
    assert!(files == place.files(), "nothing was written");
    place.run(&["dlq", "show", "dlq.order"]).fails(1, "did you mean \"dlq.orders\"?");
    place.run(&["dlq", "show", "dlq.orders", "-p", "7"]).fails(1, "partition 7");
    place.run(&["dlq", "show", "dlq.orders", "--offset", "7"]).fails(2, "--partition");
    Place::new().run(&["dlq", "list"]).fails(3, "");
}

#[test]
fn without_execute_it_says_what_it_would_do_and_changes_nothing() {
    let place = with_dead_letters();
    let files = place.files();
    let dry = dlq(&place, &["redrive", "dlq.orders"]).json();
    assert_eq!((&dry["entries"], &dry["skipped"], &dry["dry_run"]), (&json!(3), &json!(0), &json!(true)));
    assert_eq!(dry["status"], "would be put back");
    assert_eq!(
        dry["fates"][0],
        json!({"error_class": "OutOfStock", "group": "billing", "topic": "orders", "entries": 2, "reason": null})
    );
    assert_eq!(dry.get("seen_by"), None, "the group alone sees them");
    // The other groups of the topic will see them, too.
    let dry = dlq(&place, &["redrive", "dlq.orders", "--to", "origin", "--error-class", "Text"]).json();
    assert_eq!((&dry["entries"], &dry["seen_by"]), (&json!(1), &json!(["audit", "billing"])));
    let dry = dlq(&place, &["discard", "dlq.orders", "-n", "2"]).json();
    assert_eq!((&dry["entries"], &dry["status"]), (&json!(2), &json!("would be discarded")));
    let text = place.run(&["dlq", "redrive", "dlq.orders", "--to", "origin"]).good();
    assert!(text.contains("audit, billing") && text.contains("--execute does it"), "{text}");
    for (to, exit, what) in [
        ("dlq.orders", 2, "into itself"),
        ("orderz", 1, "did you mean \"orders\"?"),
        ("flow.billing", 1, "is a table"),
    ] {
        place.run(&["dlq", "redrive", "dlq.orders", "--to", to]).fails(exit, what);
    }
    assert!(files == place.files(), "nothing was written");
}

#[test]
fn put_back_to_their_group_they_wait_there_and_are_tried_again() {
    let place = with_dead_letters();
    let done =
        dlq(&place, &["redrive", "dlq.orders", "--to", "group", "--error-class", "OutOfStock", "--execute"])
            .json();
    assert_eq!((&done["entries"], &done["skipped"]), (&json!(2), &json!(0)));
    assert_eq!((&done["status"], &done["dry_run"]), (&json!("put back"), &json!(false)));
    let waiting = place.run(&["retry", "list", "billing", "--format", "json"]).json();
    assert_eq!(waiting["waiting"], 2);
    let event = &waiting["waiting_events"][0];
    let is = |name: &str| event[name].clone();
    assert_eq!([is("topic"), is("offset"), is("why")], [json!("orders"), json!(1), json!("held")]);
    assert_eq!([is("attempts"), is("key")], [json!(0), json!("order-1")]);
    assert_eq!(place.records("orders"), 6, "the topic has nothing new");
    assert_eq!(offsets(&place, &[]), [2]);
    assert_eq!(offsets(&place, &["--all"]), [0, 1, 2]);
    let again = dlq(&place, &["redrive", "dlq.orders", "--error-class", "OutOfStock", "--execute"]).json();
    assert_eq!(again["entries"], 0, "each once");

    let log = Log::open(&place.data).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let orders = log.open_topic("orders").unwrap();
        let running =
            Processor::new(&log, "billing").topic(&orders).start(|_| async { Ok::<_, Failure>(()) }).unwrap();
        while exactlog_flow::inspect(&log, "billing").unwrap().counts.done_total() < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop().await.unwrap();
    });
    log.close().unwrap();
    let waiting = place.run(&["retry", "list", "billing", "--format", "json"]).json();
    assert_eq!(waiting["waiting"], 0);
    assert_eq!(offsets(&place, &[]), [2], "there are sofas again");
}

#[test]
fn what_cannot_be_put_back_is_named_and_the_rest_is_put_back() {
    let place = with_dead_letters();
    place.run_with(&["produce", "dlq.orders", "-k", "stray"], "from nowhere").good();
    let dry = dlq(&place, &["redrive", "dlq.orders", "--to", "origin"]);
    assert_eq!((dry.exit, &dry.json()["skipped"]), (Some(1), &json!(1)));
    let done = dlq(&place, &["redrive", "dlq.orders", "--to", "origin", "--execute"]);
    assert_eq!(done.exit, Some(1));
    let done = done.json();
    assert_eq!((&done["entries"], &done["skipped"]), (&json!(3), &json!(1)));
    assert_eq!(
        done["skipped_entries"],
        json!([{"partition": 0, "offset": 3, "reason": "it doesn't say where it comes from"}])
    );
    assert_eq!(
        values(&place, "orders"),
        ["?", "?", "chair", "chair", "sofa", "sofa", "sofa", "sofa", "table"]
    );
    let left = dlq(&place, &["list"]).json()["dead_letter_topics"][0].clone();
    assert_eq!((&left["dead"], &left["redriven"]), (&json!(1), &json!(3)));
    assert_eq!(left["error_classes"], json!({"none": 1}));
}

#[test]
fn what_is_given_up_is_never_put_back() {
    let place = with_dead_letters();
    let done = dlq(&place, &["discard", "dlq.orders", "-p", "0", "--offset", "1", "--execute"]).json();
    assert_eq!((&done["entries"], &done["status"]), (&json!(1), &json!("discarded")));
    let shown = dlq(&place, &["show", "dlq.orders", "--all"]).json();
    let states: Vec<&str> =
        shown["entries"].as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["dead", "discarded", "dead"]);
    assert_eq!(dlq(&place, &["redrive", "dlq.orders", "--execute"]).json()["entries"], 2);
    let listed = dlq(&place, &["list"]).json();
    assert_eq!(listed["dead"], 0);
    assert_eq!(listed["dead_letter_topics"][0]["discarded"], 1);
}

#[test]
fn an_export_is_what_consume_writes() {
    let place = with_dead_letters();
    dlq(&place, &["discard", "dlq.orders", "-p", "0", "--offset", "1", "--execute"]).good();
    let consumed = place.run(&["consume", "dlq.orders", "-q", "-f", "json"]).good();
    let lines: Vec<&str> = consumed.lines().collect();
    let exported = place.run(&["dlq", "export", "dlq.orders"]);
    assert_eq!((exported.err.as_str(), exported.out.lines().count()), ("2 records\n", 2));
    assert_eq!(exported.good().lines().collect::<Vec<_>>(), [lines[0], lines[2]]);
    assert_eq!(place.run(&["dlq", "export", "dlq.orders", "--all", "-q"]).good(), consumed);
    let one = place.run(&["dlq", "export", "dlq.orders", "--error-class", "Text"]).good();
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["payload"], &one["key"]), (&json!("?"), &json!("order-4")));
    let read = place.run_with(&["produce", "orders", "-f", "json"], consumed).err;
    assert!(read.contains('3'), "produce reads them: {read}");
}

#[test]
fn killed_three_times_each_of_ten_thousand_is_put_back_once() {
    const DEAD: u64 = 10_000;
    let place = Place::with_topic(4);
    let log = Log::open(&place.data).unwrap();
    let dead = log.create_topic("dlq.orders", TopicOptions::default().partitions(3)).unwrap();
    let mut producer = log.producer("dead").unwrap();
    for thousand in 0..DEAD / 1_000 {
        let mut transaction = producer.begin();
        for number in thousand * 1_000..(thousand + 1) * 1_000 {
            let event = Event::new(format!("order-{number}"), format!("value {number}"))
                .header("__dlq.errors.topic", "orders")
                .header("__dlq.errors.partition", "0")
                .header("__dlq.errors.offset", number.to_string());
            transaction.send(&dead, event).unwrap();
        }
        transaction.blocking_commit().unwrap();
    }
    drop(producer);
    log.close().unwrap();
    let arguments = ["redrive", "dlq.orders", "--to", "t", "--execute"];
    for kill in 1..=3 {
        let slowly = [&["dlq"], &arguments[..], &["--rate", "4000"]].concat();
        let running = Running(Some(place.command(&slowly).spawn().unwrap()));
        until("some were put back", || place.records("t") >= DEAD * kill / 5);
        running.kill();
        let there = place.records("t");
        assert!(there < DEAD, "it was killed on the way, not behind {there}");
        let left = dlq(&place, &["redrive", "dlq.orders", "--to", "t"]).json();
        assert_eq!(left["entries"], DEAD - there, "what is there is what is marked as put back");
    }
    let left = DEAD - place.records("t");
    let done = dlq(&place, &arguments).json();
    assert_eq!((&done["entries"], &done["skipped"]), (&json!(left), &json!(0)));
    let (values, expected) = (values(&place, "t"), (0..DEAD).map(|number| format!("value {number}")));
    assert_eq!(values.len() as u64, DEAD);
    assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
    assert_eq!(dlq(&place, &arguments).json()["entries"], 0);
    assert_eq!(dlq(&place, &["list"]).json()["dead"], 0);
}

#[test]
fn interrupted_it_says_how_far_it_is_and_goes_on() {
    let place = with_dead_letters();
    let arguments = ["dlq", "redrive", "dlq.orders", "--to", "origin", "--rate", "1", "--execute"];
    let running = Running(Some(place.command(&arguments).spawn().unwrap()));
    until("one was put back", || place.records("orders") > 6);
    let answer = running.interrupt();
    assert_eq!(answer.exit, Some(130), "{answer:?}");
    assert!(answer.out.contains("the same command goes on"), "{answer:?}");
    dlq(&place, &["redrive", "dlq.orders", "--to", "origin", "--execute"]).good();
    assert_eq!(place.records("orders"), 9);
}
