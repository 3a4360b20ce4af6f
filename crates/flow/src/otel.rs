//! The spans of attempts, exported to an OpenTelemetry collector by OTLP over HTTP.
//!
//! ```text
//!   header traceparent -> parent -> span of the attempt -> batch -> POST {endpoint}/v1/traces
//!                                     | its id -> header traceparent of what the attempt sends
//! ```
//!
//! An exported span has the id that OpenTelemetry gives it. So an attempt takes that one for what it sends: who reads
//! it names a span that the collector has.

use crate::error::Error;
use crate::http::{check_url, client};
use crate::trace::Trace;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Exports the spans of `tracing` to an OpenTelemetry collector: OTLP as protobuf, over HTTP without TLS.
///
/// Its layer is added to the program's subscriber. Spans of attempts then belong to the traces of their events, as the
/// header `traceparent` says, and an event without that header begins one.
///
/// ```no_run
/// use exactlog_flow::Otlp;
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// # fn main() -> Result<(), exactlog_flow::Error> {
/// let (layer, exporter) = Otlp::new("http://127.0.0.1:4318").service("billing").start()?;
/// tracing_subscriber::registry().with(layer).init();
/// // .. and when the program ends:
/// exporter.close()?;
/// # Ok(())
/// # }
/// ```
///
/// Whoever has an exporter of his own, with TLS say, adds the layer of `tracing-opentelemetry` to it instead: all that
/// is said of traces here holds with any.
#[derive(Clone, Debug)]
#[must_use = "start it"]
pub struct Otlp {
    endpoint: String,
    service: String,
    timeout: Duration,
}

/// Spans on their way to a collector. Dropped, those that wait are still sent, by a thread that nobody waits for.
#[derive(Debug)]
#[must_use = "close it when the program ends, or the last spans are lost"]
pub struct OtlpExporter(Option<SdkTracerProvider>);

impl Otlp {
    /// Where the collector is, `http://host:port`. There is no TLS in here.
    pub fn new(endpoint: impl Into<String>) -> Otlp {
        let timeout = Duration::from_secs(10);
        Otlp { endpoint: endpoint.into(), service: "exactlog".into(), timeout }
    }

    /// What the program is called there (`service.name`). Default `exactlog`.
    pub fn service(mut self, name: impl Into<String>) -> Otlp {
        self.service = name.into();
        self
    }

    /// How long the collector may take for a batch of spans (`otlp.timeout.ms`). Default 10 s. Those that it doesn't
    /// take are lost, and no handler waits for it.
    pub fn timeout(mut self, timeout: Duration) -> Otlp {
        self.timeout = timeout;
        self
    }

    /// A layer for a subscriber, and what sends its spans, from a thread of its own.
    ///
    /// # Errors
    /// [`Error::Setting`], for an endpoint with another scheme, say.
    pub fn start<S>(self) -> Result<(impl Layer<S> + Send + Sync, OtlpExporter), Error>
    where
        S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    {
        let bound = "http://host:port, as there is no TLS in here: \
                     for https add the layer of tracing-opentelemetry with an exporter of yours";
        check_url("otlp.endpoint", &self.endpoint, bound)?;
        if self.timeout.is_zero() {
            return Err(Error::setting("otlp.timeout.ms", 0, "at least 1"));
        }
        let url = format!("{}/v1/traces", self.endpoint.trim_end_matches('/'));
        let posting = Posting(client(self.timeout));
        let exporter = SpanExporter::builder().with_http().with_http_client(posting);
        let exporter = exporter.with_protocol(Protocol::HttpBinary).with_endpoint(url);
        let exporter = exporter.build().map_err(|error| Error::setting("otlp.endpoint", error, bound))?;
        let resource = Resource::builder().with_service_name(self.service).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("exactlog"));
        Ok((layer, OtlpExporter(Some(provider))))
    }
}

impl OtlpExporter {
    /// Sends what waits, blocking the thread for 5 s at most, and ends.
    ///
    /// # Errors
    /// [`Error::Export`]: the collector didn't take all of it.
    pub fn close(mut self) -> Result<(), Error> {
        let Some(provider) = self.0.take() else { return Ok(()) };
        provider.shutdown().map_err(|error| Error::Export { reason: error.to_string() })
    }
}

impl Drop for OtlpExporter {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            std::thread::spawn(move || provider.shutdown());
        }
    }
}

/// What posts: it blocks, on the exporter's own thread.
#[derive(Debug)]
struct Posting(ureq::Agent);

impl Posting {
    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut response = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let body = response.body_mut().read_to_vec()?;
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = response.status();
        Ok(answer)
    }
}

impl HttpClient for Posting {
    // An async function of a trait object, as `async-trait` has it.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move { self.post(request) })
    }
}

/// Makes the span of an attempt one of its event's trace, or of a new one. The trace with the id of that span; `None`:
/// nobody exports it.
pub(crate) fn joined(span: &Span, trace: Option<&Trace>) -> Option<Trace> {
    if let Some(parent) = trace.and_then(parent) {
        // It fails where nobody exports.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    own.is_valid().then(|| Trace {
        trace_id: own.trace_id().to_string(),
        parent_id: trace.map(|trace| trace.parent_id.clone()).unwrap_or_default(),
        span_id: own.span_id().to_string(),
        flags: format!("{:02x}", own.trace_flags().to_u8()),
    })
}

fn parent(trace: &Trace) -> Option<SpanContext> {
    let flags = TraceFlags::new(u8::from_str_radix(&trace.flags, 16).ok()?);
    let trace_id = TraceId::from_hex(&trace.trace_id).ok()?;
    let span_id = SpanId::from_hex(&trace.parent_id).ok()?;
    Some(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE))
}
