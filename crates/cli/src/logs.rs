//! Log lines of a node on stderr: for humans, or one JSON object each.
//!
//! ```text
//!   {"ts":"2026-11-30T16:09:56.123456Z","level":"info","target":"..","event":"connection.ended","msg":"..", fields}
//!   16:09:56.123 info  connection.ended  a connection has ended  peer=127.0.0.1:40000 ..
//! ```

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::fmt::{Debug, Write};
use std::io::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For a terminal
    Human,
    /// One object a line
    Json,
}

/// Writes what this process logs from here on.
pub(crate) fn write_to_stderr(format: LogFormat, most: Level) {
    let subscriber = tracing_subscriber::registry().with(Lines { format, most });
    // An error: somebody in this process writes them already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
    format: LogFormat,
    most: Level,
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Of what others have to say only what is wrong.
        let most = if metadata.target().starts_with("exactlog") { self.most } else { Level::WARN };
        *metadata.level() <= most
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = match self.format {
            LogFormat::Json => json_line(event.metadata(), fields),
            LogFormat::Human => human_line(event.metadata(), fields),
        };
        // There is nobody to tell that stderr can't be written.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// What an event has: its kind and text, and the rest.
#[derive(Default)]
struct Fields {
    event: Option<String>,
    message: Option<String>,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let text = || value.as_str().map_or_else(|| value.to_string(), str::to_string);
        match field.name() {
            "event" => self.event = Some(text()),
            "message" => self.message = Some(text()),
            name => _ = self.rest.insert(name.to_string(), value),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }
}

fn level(metadata: &Metadata<'_>) -> String {
    metadata.level().as_str().to_lowercase()
}

fn json_line(metadata: &Metadata<'_>, fields: Fields) -> String {
    let mut line = Map::new();
    line.insert("ts".into(), json!(format!("{:.6}", Timestamp::now())));
    line.insert("level".into(), json!(level(metadata)));
    line.insert("target".into(), json!(metadata.target()));
    line.extend(fields.event.map(|event| ("event".to_string(), json!(event))));
    line.extend(fields.message.map(|message| ("msg".to_string(), json!(message))));
    // What a field can't be called without hiding one of these gets a dash behind it.
    let apart = |(name, value): (String, Value)| match name.as_str() {
        "ts" | "level" | "target" | "msg" => (format!("{name}_"), value),
        _ => (name, value),
    };
    line.extend(fields.rest.into_iter().map(apart));
    Value::Object(line).to_string()
}

/// As one line, whatever a client has put into it.
fn shown(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.to_string(),
    }
}

fn human_line(metadata: &Metadata<'_>, fields: Fields) -> String {
    let now = format!("{:.3}", Timestamp::now());
    let time = now.split('T').nth(1).unwrap_or(&now).trim_end_matches('Z').to_string();
    let mut line = format!("{time} {:<5}", level(metadata));
    for text in [fields.event, fields.message].into_iter().flatten() {
        // Writing to a text can't fail.
        _ = write!(line, " {} ", shown(&text));
    }
    for (name, value) in fields.rest {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        _ = write!(line, " {name}={}", shown(&value));
    }
    line.trim_end().to_string()
}
