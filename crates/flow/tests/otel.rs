//! Spans as a collector gets them: of one trace from the producer through retry, dead letter and redrive to what came
//! of it.
#![allow(clippy::unwrap_used)]

mod listener;

use exactlog::{Event, Log, Record, Topic, TopicOptions};
use exactlog_flow::{Context, DeadLetters, Error, Failure, Otlp, Processor, Retry, Running};
use listener::Listener;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

/// A field of a protobuf message: its number, and its bytes, or the number that it is.
enum Field<'b> {
    Bytes(u64, &'b [u8]),
    Number(u64, u64),
}

/// <https://protobuf.dev/programming-guides/encoding/>
fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let fixed = |len: usize, bytes: &mut &[u8]| {
            let (number, behind) = bytes.split_at(len);
            *bytes = behind;
            number.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let number = key >> 3;
        match key & 7 {
            0 => fields.push(Field::Number(number, varint(&mut bytes))),
            1 => fields.push(Field::Number(number, fixed(8, &mut bytes))),
            5 => fields.push(Field::Number(number, fixed(4, &mut bytes))),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (content, behind) = bytes.split_at(len);
                fields.push(Field::Bytes(number, content));
                bytes = behind;
            }
            kind => panic!("a field of kind {kind}"),
        }
    }
    fields
}

/// The messages of this number in a message.
fn within<'b>(bytes: &'b [u8], wanted: u64) -> Vec<&'b [u8]> {
    let of = |field: Field<'b>| match field {
        Field::Bytes(number, content) if number == wanted => Some(content),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

fn number(bytes: &[u8], wanted: u64) -> Option<u64> {
    fields(bytes).into_iter().find_map(|field| match field {
        Field::Number(number, value) if number == wanted => Some(value),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes, numbers and flags as text.
fn attributes(bytes: &[u8], wanted: u64) -> BTreeMap<String, String> {
    let attribute = |content: &[u8]| {
        let value = within(content, 2).first().copied().unwrap_or_default();
        let as_text = within(value, 1).first().map(|bytes| text(bytes));
        let as_number = || number(value, 2).or(number(value, 3)).unwrap_or_default().to_string();
        (text(within(content, 1)[0]), as_text.unwrap_or_else(as_number))
    };
    within(bytes, wanted).into_iter().map(attribute).collect()
}

/// One span, by the fields of `opentelemetry.proto.trace.v1.Span`.
#[derive(Debug)]
struct Span {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    attributes: BTreeMap<String, String>,
    status: u64,
}

fn spans(request: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for resource_spans in within(request, 1) {
        let resource = within(resource_spans, 1).first().copied().unwrap_or_default();
        let service = attributes(resource, 1).remove("service.name").unwrap_or_default();
        for span in within(resource_spans, 2).into_iter().flat_map(|scope| within(scope, 2)) {
            let id = |wanted| within(span, wanted).first().map(|bytes| hex(bytes)).unwrap_or_default();
            found.push(Span {
                service: service.clone(),
                trace: id(1),
                id: id(2),
                parent: id(4),
                name: text(within(span, 5)[0]),
                kind: number(span, 6).unwrap_or_default(),
                attributes: attributes(span, 9),
                status: within(span, 15).first().and_then(|status| number(status, 3)).unwrap_or_default(),
            });
        }
    }
    found
}

fn header(record: &Record, name: &str) -> String {
    text(record.header(name).unwrap())
}

async fn ended(running: Running, events: u64) {
    running.until(|metrics| metrics.counts.ended() == events).await.unwrap();
    running.stop().await.unwrap();
}

fn billing(log: &Log, orders: &Topic, payments: &Topic, is_well: &Arc<AtomicBool>) -> Running {
    let (payments, is_well) = (payments.clone(), is_well.clone());
    let millisecond = Duration::from_millis(1);
    let retry = Retry::default().max_attempts(2).backoff(millisecond, 1.0, millisecond);
    let processor = Processor::new(log, "billing").topic(orders).retry(retry);
    let running = processor.start(move |order: Context| {
        let (payments, is_well) = (payments.clone(), is_well.load(Ordering::Relaxed));
        async move {
            if order.key() == b"a" && !is_well {
                return Err(Failure::transient("BankClosed", "come back later"));
            }
            order.send(&payments, Event::new(order.key().to_vec(), "paid"))
        }
    });
    running.unwrap()
}

#[tokio::test]
async fn a_collector_gets_one_trace_from_the_producer_through_retry_dead_letter_and_redrive() {
    let collector = Listener::start(|_| Some(200));
    let (layer, exporter) = Otlp::new(collector.url.as_str()).service("shop").start().unwrap();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = |name| log.create_topic(name, TopicOptions::default()).unwrap();
    let (orders, payments) = (topic("orders"), topic("payments"));
    let producer = log.producer("shop").unwrap();
    let order = Event::new("a", "chairs").header("traceparent", format!("00-{TRACE}-{PRODUCER}-01"));
    producer.send(&orders, order).await.unwrap();
    producer.send(&orders, Event::new("b", "tables")).await.unwrap();
    let is_well = Arc::new(AtomicBool::new(false));
    ended(billing(&log, &orders, &payments, &is_well), 2).await;
    is_well.store(true, Ordering::Relaxed);
    let running = billing(&log, &orders, &payments, &is_well);
    DeadLetters::open(&log, "dlq.orders").unwrap().redrive().run().await.unwrap();
    ended(running, 1).await;
    let shipping = Processor::new(&log, "shipping").topic(&payments);
    ended(shipping.start(async |_: Context| Ok::<_, Failure>(())).unwrap(), 2).await;
    // It blocks until the collector has them.
    tokio::task::spawn_blocking(move || exporter.close()).await.unwrap().unwrap();

    let mut all = Vec::new();
    let mut posted = Some(collector.next());
    while let Some((path, body)) = posted {
        assert_eq!(path, "/v1/traces");
        all.extend(spans(&body));
        posted = collector.try_next();
    }
    assert_eq!(all.len(), 6, "{all:#?}");
    let of = |name: &str, offset: &str| -> Vec<&Span> {
        let is_it = |span: &&Span| span.name == name && span.attributes["messaging.kafka.offset"] == offset;
        all.iter().filter(is_it).collect()
    };
    let attempts = of("process orders", "0");
    let said: Vec<_> = attempts
        .iter()
        .map(|span| {
            let error = span.attributes.get("error.type").map_or("", String::as_str);
            (span.attributes["attempt"].as_str(), span.status, error)
        })
        .collect();
    // 2: an error. What is redriven is tried as if it had not been.
    assert_eq!(said, [("1", 2, "BankClosed"), ("2", 2, "BankClosed"), ("1", 0, "")]);
    for span in &attempts {
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PRODUCER), "{span:?}");
        assert_eq!((span.kind, span.service.as_str()), (5, "shop"), "a consumer's: {span:?}");
        let of = |name: &str| span.attributes[name].as_str();
        assert_eq!(
            (of("messaging.destination.name"), of("messaging.consumer.group.name")),
            ("orders", "billing")
        );
        assert_eq!((of("trace_id"), of("span_id")), (TRACE, span.id.as_str()));
    }
    // What came of it names the span that has sent it, and so does the span of who reads that.
    let view = log.read_view();
    let records: Vec<Record> = view.records(&payments).map(Result::unwrap).collect();
    for (key, attempt, trace) in [(b"a", attempts[2], TRACE), (b"b", of("process orders", "1")[0], "")] {
        let paid = records.iter().find(|record| record.key() == key).unwrap();
        assert_eq!(header(paid, "traceparent"), format!("00-{}-{}-01", attempt.trace, attempt.id));
        let shipped = of("process payments", &paid.offset.to_string())[0];
        assert_eq!((&shipped.trace, &shipped.parent), (&attempt.trace, &attempt.id));
        assert!(trace.is_empty() || attempt.trace == trace);
    }
    let own = of("process orders", "1")[0];
    assert!(own.parent.is_empty() && own.trace != TRACE, "what has no trace begins one: {own:?}");
}

#[test]
fn what_can_not_be_exported_to_is_refused() {
    let error = Otlp::new("https://collector:4318").start::<tracing_subscriber::Registry>().map(|_| ());
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Setting { name: "otlp.endpoint", .. }));
    assert!(error.to_string().contains("https://collector:4318"), "{error}");
}
