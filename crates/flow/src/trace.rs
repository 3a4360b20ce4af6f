//! The trace that an event belongs to, from header to header (W3C Trace Context), and a span for each attempt.
//!
//! An event's headers are kept as they are while it waits, when it is dead-lettered and when it is put back, so all of
//! its attempts, and what comes of them, are of one trace.

use crate::dedup::{event_id, event_type, header};
use crate::failure::Failure;
use crate::settings::{Settings, SpanName};
use exactlog::{Event, Record};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{Span, field};

/// Where a span is among those of its trace.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// What goes along with it unchanged.
const BESIDES: [&str; 2] = ["tracestate", "baggage"];

/// What one attempt has of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// 32 hexadecimal digits.
    pub(crate) trace_id: String,
    /// The span that has sent the event: 16 hexadecimal digits; none if the trace begins here.
    pub(crate) parent_id: String,
    /// The span of this attempt.
    pub(crate) span_id: String,
    pub(crate) flags: String,
}

impl Trace {
    /// That of a record, with a span of its own; `None`: it has none, or one that isn't as the specification has it.
    pub(crate) fn of(record: &Record) -> Option<Trace> {
        let (trace_id, parent_id, flags) = parse(std::str::from_utf8(record.header(TRACEPARENT)?).ok()?)?;
        let (trace_id, parent_id) = (trace_id.to_string(), parent_id.to_string());
        Some(Trace { trace_id, parent_id, span_id: fresh_id(), flags: flags.to_string() })
    }

    /// The header for what this attempt sends.
    pub(crate) fn traceparent(&self) -> String {
        let Trace { trace_id, span_id, flags, .. } = self;
        format!("00-{trace_id}-{span_id}-{flags}")
    }

    /// Puts an event into the trace, unless it says itself where it belongs.
    pub(crate) fn put_in(&self, event: Event, cause: &Record) -> Event {
        if event.headers.iter().any(|(name, _)| &**name == TRACEPARENT) {
            return event;
        }
        let mut event = event.header(TRACEPARENT, self.traceparent());
        for name in BESIDES {
            let is_there = event.headers.iter().any(|(known, _)| &**known == name);
            if let (Some(value), false) = (header(cause, name), is_there) {
                event = event.header(name, value.clone());
            }
        }
        event
    }
}

/// The trace that a record belongs to.
pub(crate) fn trace_id(record: &Record) -> Option<&str> {
    Some(parse(std::str::from_utf8(record.header(TRACEPARENT)?).ok()?)?.0)
}

/// Trace id, span id and flags of a header: <https://www.w3.org/TR/trace-context/#traceparent-header>.
fn parse(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.split('-');
    let (version, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = parts.next()?;
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let is_right = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace_id, 32)
        && is_hex(span_id, 16)
        && is_hex(flags, 2)
        && !is_zero(trace_id)
        && !is_zero(span_id)
        // Later versions may have more behind it.
        && (version != "00" || parts.next().is_none());
    is_right.then_some((trace_id, span_id, flags))
}

/// An id that no other span has: 64 bits by which nobody else counts.
fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static KEYS: RandomState = RandomState::new();
    }
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}", KEYS.with(|keys| keys.hash_one(nth)).max(1))
}

/// The span of an attempt, with the names of OpenTelemetry's conventions for messaging; none if nobody listens. And the
/// trace that the attempt is of instead, if the span is one of OpenTelemetry's: those have ids of their own.
pub(crate) fn span(
    settings: &Settings,
    record: &Record,
    trace: Option<&Trace>,
    number: u32,
) -> (Span, Option<Trace>) {
    if !tracing::enabled!(target: "exactlog_flow::spans", tracing::Level::INFO) {
        return (Span::none(), None);
    }
    let name = match &settings.span_name {
        Some(SpanName(name)) => name(record),
        None => format!("process {}", record.topic),
    };
    let id = event_id(record);
    let span = tracing::info_span!(
        target: "exactlog_flow::spans",
        "process",
        otel.name = name,
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = &*record.topic,
        messaging.destination.partition.id = record.partition.to_string(),
        messaging.consumer.group.name = &*settings.group,
        messaging.kafka.offset = record.offset,
        messaging.message.id = id,
        event.id = id,
        event.type = event_type(record).unwrap_or_default(),
        attempt = number,
        trace_id = field::Empty,
        span_id = field::Empty,
        parent_span_id = field::Empty,
        error = field::Empty,
        error.type = field::Empty,
        error.message = field::Empty,
    );
    let exported = exported(&span, trace);
    if let Some(Trace { trace_id, parent_id, span_id, .. }) = exported.as_ref().or(trace) {
        span.record("trace_id", trace_id).record("span_id", span_id).record("parent_span_id", parent_id);
    }
    (span, exported)
}

#[cfg(feature = "otel")]
fn exported(span: &Span, trace: Option<&Trace>) -> Option<Trace> {
    crate::otel::joined(span, trace)
}

#[cfg(not(feature = "otel"))]
fn exported(_: &Span, _: Option<&Trace>) -> Option<Trace> {
    None
}

/// How the attempt went.
pub(crate) fn end(span: &Span, result: &Result<(), Failure>) {
    match result {
        Ok(()) => _ = span.record("error", false),
        Err(failure) => {
            span.record("error", true).record("otel.status_code", "ERROR");
            span.record("error.type", failure.kind()).record("error.message", failure.message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn record(headers: &[(&str, &str)]) -> Record {
        let header = |(name, value): &(&str, &str)| exactlog::RecordHeader {
            key: name.as_bytes().to_vec().into(),
            value: Some(value.as_bytes().to_vec().into()),
        };
        Record {
            topic: "orders".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        }
    }

    fn header<'e>(event: &'e Event, name: &str) -> Option<&'e [u8]> {
        event.headers.iter().find(|(known, _)| &**known == name).and_then(|(_, value)| value.as_deref())
    }

    #[test]
    fn what_is_sent_is_of_the_same_trace_with_a_span_of_its_own() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let record = record(&[("traceparent", &parent), ("tracestate", "a=1")]);
        let trace = Trace::of(&record).unwrap();
        assert_eq!((trace.trace_id.as_str(), trace.parent_id.as_str()), (TRACE, "00f067aa0ba902b7"));
        assert_ne!(trace.span_id, Trace::of(&record).unwrap().span_id);
        let event = trace.put_in(Event::new("a", "b"), &record);
        let text = String::from_utf8(header(&event, "traceparent").unwrap().to_vec()).unwrap();
        assert_eq!(text, format!("00-{TRACE}-{}-01", trace.span_id));
        assert_eq!(parse(&text).map(|(id, ..)| id), Some(TRACE));
        assert_eq!(header(&event, "tracestate"), Some(&b"a=1"[..]));
        let own = Event::new("a", "b").header("traceparent", "mine");
        let own = trace.put_in(own, &record);
        assert_eq!(
            (header(&own, "traceparent"), own.headers.len()),
            (Some(&b"mine"[..]), 1),
            "never overwritten"
        );
    }

    #[test]
    fn what_is_no_trace_is_passed_by() {
        for text in [
            "",
            "00",
            &format!("00-{TRACE}-00f067aa0ba902b7"),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(Trace::of(&record(&[("traceparent", text)])), None, "{text}");
        }
        assert!(
            Trace::of(&record(&[("traceparent", &format!("cc-{TRACE}-00f067aa0ba902b7-01-more"))])).is_some()
        );
        assert_eq!(Trace::of(&record(&[])), None);
    }
}
