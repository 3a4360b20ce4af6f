//! Lag alerts, posted to a URL: each as one JSON object, one behind the other, tried again while nobody takes it.
//!
//! ```text
//!   LagAlert -> tell -> queue of 1,000 -> a thread of its own -> POST -> 2xx: the next one
//!                         | full: dropped, and said     ^          \ -> else: after a pause, up to so many times
//! ```
//!
//! Invariants
//!   * whoever tells never waits
//!   * at least once and in order, as long as the process lives; what is dropped or given up is said

use crate::clock::{ms, wall_ms};
use crate::error::Error;
use crate::http::{check_url, client};
use crate::lag_alert::{LagChange, LagEvent};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use ureq::Agent;

/// Posts lag alerts to a URL.
///
/// Each is `POST`ed as one JSON object:
///
/// ```json
/// {"event": "lag.alert", "group": "billing", "topic": "orders", "partition": 0, "records": 10001, "age_ms": 61000,
///  "at_ms": 1700000000000}
/// ```
///
/// or `lag.cleared`. What is answered by 2xx was taken; what times out, can't connect, or is answered by 408, 429 or
/// 5xx is posted again. So one may come twice, and is told by `at_ms`.
///
/// ```
/// # use exactlog::Log;
/// # use exactlog_flow::{LagAlert, Webhook};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), exactlog_flow::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let log = Log::open(directory.path()).unwrap();
/// let webhook = Webhook::new("http://127.0.0.1:9093/lag").start()?;
/// let watch = LagAlert::default().start(&log, move |lag| webhook.tell(lag))?;
/// # drop(watch);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "start it"]
pub struct Webhook {
    url: String,
    timeout: Duration,
    attempts: u32,
    pause: Duration,
}

/// A webhook that is told of alerts. Dropped, it posts what it was told before, and ends.
#[derive(Debug)]
pub struct WebhookSender(SyncSender<Value>);

/// Most alerts that wait to be posted.
const QUEUE: usize = 1_000;
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Webhook {
    /// One that posts to this URL, `http://host:port/path`. There is no TLS in here: for `https://` give
    /// [`LagAlert::start`](crate::LagAlert::start) a function that posts by a client of yours.
    pub fn new(url: impl Into<String>) -> Webhook {
        let (timeout, pause) = (Duration::from_secs(5), Duration::from_secs(1));
        Webhook { url: url.into(), timeout, attempts: 8, pause }
    }

    /// How long one attempt may take (`webhook.timeout.ms`). Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Webhook {
        self.timeout = timeout;
        self
    }

    /// How often it is posted at most (`webhook.attempts`). Default 8, within about two minutes.
    pub fn attempts(mut self, attempts: u32) -> Webhook {
        self.attempts = attempts;
        self
    }

    /// The first pause between two attempts (`webhook.backoff.ms`), each further one is twice as long, up to a minute.
    /// Default 1 s.
    pub fn backoff(mut self, pause: Duration) -> Webhook {
        self.pause = pause;
        self
    }

    /// Starts a thread that posts.
    ///
    /// # Errors
    /// [`Error::Setting`], for a URL with another scheme, say.
    pub fn start(self) -> Result<WebhookSender, Error> {
        let bound = "http://host:port/path, as there is no TLS in here: \
                     for https give LagAlert::start a function that posts by a client of yours";
        check_url("webhook.url", &self.url, bound)?;
        if self.timeout.is_zero() {
            return Err(Error::setting("webhook.timeout.ms", 0, "at least 1"));
        }
        if self.attempts == 0 {
            return Err(Error::setting("webhook.attempts", 0, "at least 1"));
        }
        let (sender, alerts) = sync_channel(QUEUE);
        let started = thread::Builder::new().name("exactlog-webhook".into()).spawn(move || self.run(&alerts));
        match started {
            Ok(_) => Ok(WebhookSender(sender)),
            Err(error) => {
                Err(Error::setting("webhook", error, "started by a process that may have one more thread"))
            }
        }
    }

    fn run(&self, alerts: &Receiver<Value>) {
        let client = client(self.timeout);
        while let Ok(alert) = alerts.recv() {
            self.post(&client, &alert);
        }
    }

    fn post(&self, client: &Agent, alert: &Value) {
        let mut pause = self.pause;
        for attempt in 1..=self.attempts {
            let error = match attempt_to_post(client, &self.url, alert) {
                Ok(()) => return,
                Err(error) => error,
            };
            if !error.may_help || attempt == self.attempts {
                let (url, error) = (&self.url, error.text);
                tracing::error!(event = "webhook.failed", url, attempt, error, %alert, "it wasn't taken");
                return;
            }
            thread::sleep(pause);
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }
}

/// Why an alert wasn't taken, and whether another attempt may help.
struct Refused {
    text: String,
    may_help: bool,
}

fn attempt_to_post(client: &Agent, url: &str, alert: &Value) -> Result<(), Refused> {
    let request = client.post(url).header("content-type", "application/json");
    match request.send(alert.to_string()) {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => {
            let status = response.status();
            let may_help = status.is_server_error() || [408, 429].contains(&status.as_u16());
            Err(Refused { text: format!("answered by {status}"), may_help })
        }
        Err(error) => Err(Refused { text: error.to_string(), may_help: true }),
    }
}

impl WebhookSender {
    /// Posts an alert soon. When a thousand wait already it is dropped, and a `tracing` event says so
    /// (`webhook.dropped`).
    pub fn tell(&self, lag: &LagEvent) {
        let LagEvent { change, group, topic, partition, records, age } = lag;
        let event = match change {
            LagChange::Raised => "lag.alert",
            LagChange::Cleared => "lag.cleared",
        };
        let (age_ms, at_ms) = (ms(*age), wall_ms());
        let alert = json!({
            "event": event, "group": group, "topic": topic, "partition": partition,
            "records": records, "age_ms": age_ms, "at_ms": at_ms,
        });
        if let Err(error) = self.0.try_send(alert) {
            tracing::error!(event = "webhook.dropped", %error, "an alert wasn't posted");
        }
    }
}
