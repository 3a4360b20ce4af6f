//! What a subscriber is told of each event.
//!
//! A program of its own: what threads without a subscriber ask first is remembered for those that have one.
#![allow(clippy::unwrap_used, missing_docs)]

#[expect(dead_code, reason = "one test needs few of them")]
#[path = "flow/common.rs"]
mod common;
#[allow(dead_code, reason = "its faults are for the tests of the facade")]
#[path = "../../exactlog/tests/facade/common/over.rs"]
mod over;

use common::{House, ended, event};
use exactlog::Event;
use exactlog_flow::{Context, Failure, Processor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of what it is told by a processor, and of spans.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Fields>>>, Arc<Mutex<Vec<Fields>>>);

struct Collect(Fields);

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_string(), format!("{value:?}").trim_matches('"').to_string());
    }
}

impl Subscriber for Told {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut spans = self.1.lock();
        let mut fields = Collect(Fields::new());
        attributes.record(&mut fields);
        fields.0.insert("target".to_string(), attributes.metadata().target().to_string());
        spans.push(fields.0);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Collect(Fields::new());
        values.record(&mut fields);
        self.1.lock()[id.into_u64() as usize - 1].extend(fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().target() == "exactlog_flow::events" {
            let mut fields = Collect(Fields::new());
            event.record(&mut fields);
            fields.0.insert("level".to_string(), event.metadata().level().to_string());
            self.0.lock().push(fields.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(start_paused = true)]
async fn each_end_of_an_event_is_told_with_its_id_and_without_its_payload() {
    let told = Told::default();
    let _guard = tracing::subscriber::set_default(told.clone());
    let house = House::new(1);
    house.send([
        event("a", "good-payload", "id-1").header("type", "order.placed").header("traceparent", TRACEPARENT),
        event("a", "good-payload", "id-1"),
        event("b", "bad-payload", "id-2"),
        Event::new("c", "good-payload"),
    ]);
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let processor = processor.span_name(|record| format!("bill {}", record.offset));
    let running = processor
        .start(async |order: Context| match order.value_str()? {
            "bad-payload" => Err(Failure::transient("Timeout", "late")),
            _ => Ok(()),
        })
        .unwrap();
    ended(&running, 4).await;
    running.stop().await.unwrap();
    let Told(told, spans) = told;
    let told = told.lock();
    let said: Vec<[&str; 5]> = told
        .iter()
        .map(|fields| ["level", "event", "event_id", "attempt", "success"].map(|name| &*fields[name]))
        .collect();
    assert_eq!(
        said,
        [
            ["INFO", "event.processed", "id-1", "1", "true"],
            ["INFO", "event.duplicate_skipped", "id-1", "0", "true"],
            ["WARN", "event.retry_scheduled", "id-2", "1", "false"],
            ["INFO", "event.processed", "orders/0/3", "1", "true"],
            ["WARN", "event.retry_scheduled", "id-2", "2", "false"],
            ["ERROR", "event.dead_lettered", "id-2", "3", "false"],
        ]
    );
    assert_eq!(
        (&*told[0]["event_type"], &*told[0]["max_attempts"], &*told[0]["group"]),
        ("order.placed", "3", "billing")
    );
    assert_eq!((&*told[5]["error.type"], &*told[5]["error.message"]), ("Timeout", "late"));
    assert_eq!((&*told[0]["trace_id"], &*told[2]["trace_id"]), ("4bf92f3577b34da6a3ce929d0e0e4736", ""));
    assert!(told.iter().all(|fields| !format!("{fields:?}").contains("payload")), "{told:?}");

    let spans = spans.lock();
    let spans: Vec<&Fields> = spans.iter().filter(|span| span["target"] == "exactlog_flow::spans").collect();
    let names: Vec<[&str; 4]> = spans
        .iter()
        .map(|span| ["otel.name", "event.id", "attempt", "error"].map(|name| &*span[name]))
        .collect();
    assert_eq!(
        names,
        [
            ["bill 0", "id-1", "1", "false"],
            ["bill 2", "id-2", "1", "true"],
            ["bill 3", "orders/0/3", "1", "false"],
            ["bill 2", "id-2", "2", "true"],
            ["bill 2", "id-2", "3", "true"],
        ]
    );
    assert_eq!(spans[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&*spans[0]["parent_span_id"], spans[0]["span_id"].len()), ("00f067aa0ba902b7", 16));
    assert_eq!((&*spans[0]["event.type"], &*spans[1]["error.message"]), ("order.placed", "late"));
    assert!(spans.iter().all(|fields| !format!("{fields:?}").contains("payload")), "{spans:?}");
}
