//! `saga`: where each is, and a compensation that is tried once more.

use crate::common::{Answer, Place};
use exactlog::{Event, Log, TopicOptions};
use exactlog_flow::{Failure, Processor, Retry, Saga, Step, inspect};
use serde_json::{Value, json};

/// Runs `order` over its events until all have ended. What is called in `broken` fails.
pub(crate) fn process(place: &Place, events: &'static [&'static str], broken: &'static [&'static str]) {
    let log = Log::open(&place.data).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default());
    let orders = orders.or_else(|_| log.open_topic("orders")).unwrap();
    let producer = log.producer("shop").unwrap();
    for event in events {
        let event = Event::new(*event, *event).header("message-id", *event);
        producer.blocking_send(&orders, event).unwrap();
    }
    drop(producer);
    let act = move |what: String| match broken.contains(&what.as_str()) {
        true => Err(Failure::permanent("Broken", format!("{what} is broken"))),
        false => Ok(()),
    };
    let saga = Saga::new(&log, "order")
        .unwrap()
        .step("reserve", |step: Step| async move {
            Ok::<_, Failure>(json!({ "chairs": step.value_str()?.len() }))
        })
        .compensate(move |_| std::future::ready(act("undo reserve".into())))
        .step("charge", move |step: Step| {
            std::future::ready(act(format!("charge {}", String::from_utf8_lossy(step.key()))))
        });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let running = Processor::new(&log, "shop").topic(&orders).retry(Retry::never()).start(saga).unwrap();
        let has_ended = || log.lag("shop", &orders) == 0 && inspect(&log, "shop").unwrap().waiting.is_empty();
        running.until(|_| has_ended()).await.unwrap();
        running.stop().await.unwrap();
    });
    drop(orders);
    log.close().unwrap();
}

fn saga(place: &Place, arguments: &[&str]) -> Answer {
    place.run(&[&["saga"], arguments, &["--format", "json"]].concat())
}

fn statuses(place: &Place, arguments: &[&str]) -> Vec<(String, String)> {
    let listed = saga(place, &[&["list", "order"], arguments].concat()).json();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_string();
    listed["instances"].as_array().unwrap().iter().map(|row| (text(row, "id"), text(row, "status"))).collect()
}

#[test]
fn they_are_listed_and_shown_and_what_could_not_be_undone_is_tried_once_more() {
    let place = Place::new();
    process(&place, &["a", "b"], &["charge b", "undo reserve"]);
    let listed = saga(&place, &["list"]).json();
    let counts = |names: [&str; 5]| names.map(|name| listed["sagas"][0][name].as_u64().unwrap());
    let names = ["running", "compensating", "completed", "compensated", "compensation_failed"];
    assert_eq!((&listed["sagas"][0]["saga"], counts(names)), (&json!("order"), [0, 0, 1, 0, 1]));
    let all = [("a", "COMPLETED"), ("b", "COMPENSATION_FAILED")]
        .map(|(id, status)| (id.to_string(), status.to_string()));
    assert_eq!(statuses(&place, &[]), all);
    assert_eq!(statuses(&place, &["--status", "compensation_failed"]), all[1..]);
    assert_eq!(saga(&place, &["list", "order", "-n", "1"]).json()["more"], true);

    let shown = saga(&place, &["show", "order", "b"]).json();
    assert_eq!(
        (&shown["status"], &shown["failed_step"], &shown["error_class"]),
        (&json!("COMPENSATION_FAILED"), &json!("charge"), &json!("Broken"))
    );
    assert_eq!(shown["steps"][0]["result"], json!({"chairs": 1}));
    assert_eq!(
        (&shown["steps"][0]["status"], &shown["steps"][1]["status"]),
        (&json!("COMPENSATION_FAILED"), &json!("FAILED"))
    );
    assert!(place.run(&["saga", "show", "order", "b"]).good().contains("undo reserve is broken"));

    let files = place.files();
    let dry = saga(&place, &["retry-compensation", "order", "b"]).json();
    assert_eq!(
        (&dry["dry_run"], &dry["dead_letters"], &dry["steps"]),
        (&json!(true), &json!(1), &json!("reserve"))
    );
    assert_eq!(place.files(), files);
    let done = saga(&place, &["retry-compensation", "order", "b", "--execute"]).json();
    assert_eq!((&done["dry_run"], &done["dead_letters"]), (&json!(false), &json!(1)));
    let again = place.run(&["saga", "retry-compensation", "order", "b", "--execute"]);
    assert_eq!(again.exit, Some(1), "its event waits to be tried: {}", again.out);
    process(&place, &[], &[]);
    assert_eq!(statuses(&place, &["--status", "compensated"]).len(), 1);
    place.run(&["saga", "retry-compensation", "order", "b"]).fails(1, "COMPENSATED");
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    process(&place, &["a"], &[]);
    place.run(&["saga", "list", "ordr"]).fails(1, "did you mean \"order\"?");
    place.run(&["saga", "show", "order", "z"]).fails(1, "saga list order");
    place.run(&["saga", "list", "order", "--status", "done"]).fails(2, "compensation_failed");
}
