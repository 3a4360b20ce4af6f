//! `breaker`: the circuit breakers of a process, from its page of metrics.
//!
//! A breaker is memory of its process: no directory and no node knows it. Whoever serves the page of its log over HTTP
//! (`Log::prometheus`) shows it there.

use crate::args::BreakerVerb;
use crate::failure::Failure;
use crate::report::{Column, Report, column};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const BREAKERS: &[Column] = &[
    column("name"),
    column("state"),
    column("failure_percent"),
    column("slow_percent"),
    column("successful"),
    column("failed"),
    column("ignored"),
    column("not_permitted"),
];

/// How long connecting, and each read, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a page.
const PAGE_BYTES_MAX: u64 = 16 << 20;

pub(crate) fn run(verb: BreakerVerb) -> Result<Report, Failure> {
    let BreakerVerb::List { url } = verb;
    let page = page(&url)?;
    let rows: Vec<Vec<Value>> = breakers(&page).iter().map(|(name, breaker)| breaker.row(name)).collect();
    Ok(Report::table("breakers", BREAKERS, rows).field("url", url))
}

/// What the page says of one.
#[derive(Debug, Default, PartialEq)]
struct Breaker {
    state: Option<String>,
    failure_percent: Option<f64>,
    slow_percent: Option<f64>,
    calls: BTreeMap<String, u64>,
}

impl Breaker {
    fn row(&self, name: &str) -> Vec<Value> {
        let calls = |kind: &str| json!(self.calls.get(kind).copied().unwrap_or(0));
        vec![
            json!(name),
            json!(self.state),
            json!(self.failure_percent),
            json!(self.slow_percent),
            calls("successful"),
            calls("failed"),
            calls("ignored"),
            calls("not_permitted"),
        ]
    }
}

/// All that a page of metrics shows, by name.
fn breakers(page: &str) -> BTreeMap<String, Breaker> {
    let mut found: BTreeMap<String, Breaker> = BTreeMap::new();
    for (metric, mut labels, value) in page.lines().filter_map(sample) {
        let Some(metric) = metric.strip_prefix("exactlog_breaker_") else { continue };
        let Some(name) = labels.remove("name") else { continue };
        let breaker = found.entry(name).or_default();
        // NaN: too few calls to say.
        let percent = (!value.is_nan()).then_some(value);
        match (metric, labels.remove("state"), labels.remove("kind")) {
            ("state", Some(state), _) if value == 1.0 => breaker.state = Some(state),
            ("calls_total", _, Some(kind)) => _ = breaker.calls.insert(kind, value as u64),
            ("failure_rate", ..) => breaker.failure_percent = percent,
            ("slow_call_rate", ..) => breaker.slow_percent = percent,
            _ => {}
        }
    }
    found
}

/// Name, labels and value of a line: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let (metric, mut rest) = line.split_once('{')?;
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(value) = rest.strip_prefix('}') {
            return Some((metric, labels, value.split_whitespace().next()?.parse().ok()?));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut text, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        labels.insert(name.to_string(), text);
        rest = &quoted[end + 1..];
    }
}

/// What is at a URL.
fn page(url: &str) -> Result<String, Failure> {
    let unusable = |why: &str| {
        Failure::usage(format!("{url:?} isn't the URL of a page of metrics: {why}"))
            .hint("one looks like http://127.0.0.1:9100/metrics")
    };
    let rest = url.strip_prefix("http://").ok_or_else(|| unusable("it doesn't begin with http://"))?;
    let (host, path) = rest.find('/').map_or((rest, "/metrics"), |at| rest.split_at(at));
    if url.contains(|it: char| it.is_whitespace() || it.is_control()) {
        return Err(unusable("there is a space in it"));
    }
    let with_port = if has_port(host) { host.to_string() } else { format!("{host}:80") };
    let failed = |error: std::io::Error| {
        Failure::new("NO_METRICS", format!("{url} can't be read: {error}"))
            .hint("a process shows its breakers where it serves its log's metrics over HTTP")
    };
    let address = with_port.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| unusable("its host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    // By HTTP/1.0 the answer comes in one piece, and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let length = stream.take(PAGE_BYTES_MAX + 1).read_to_end(&mut answer).map_err(failed)?;
    if length as u64 > PAGE_BYTES_MAX {
        return Err(Failure::new("NO_METRICS", format!("{url} has more than {PAGE_BYTES_MAX} bytes")));
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| unusable("what answers there isn't HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_string()),
        _ => Err(Failure::new("NO_METRICS", format!("{url} answered {status:?}"))),
    }
}

/// Behind the last colon, unless that is within the brackets of an IPv6 address.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_name_labels_and_value_whatever_the_labels_have_in_them() {
        let line = r#"exactlog_breaker_state{name="a \"b\" {c}\\,",state="open"} 1 1700000000"#;
        let (metric, labels, value) = sample(line).unwrap();
        assert_eq!((metric, value), ("exactlog_breaker_state", 1.0));
        assert_eq!(labels["name"], r#"a "b" {c}\,"#);
        assert_eq!(labels["state"], "open");
        for broken in ["", "# HELP a b", "up 1", r#"a{b="c"#, r#"a{b="c"} "#, "a{b} 1", r#"a{b="c\"#] {
            assert!(sample(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn hosts_may_have_a_port() {
        let hosts = ["a:80", "[::1]:80", "127.0.0.1:1", "a", "[::1]", "127.0.0.1"];
        assert_eq!(hosts.map(has_port), [true, true, true, false, false, false]);
    }
}
