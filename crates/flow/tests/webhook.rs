//! Lag alerts that are posted: to a listener of this process.
#![allow(clippy::unwrap_used)]

mod listener;

use exactlog::{Durability, Event, Log, SeekTo, Start, TopicOptions};
use exactlog_flow::{Error, LagAlert, Webhook};
use listener::Listener;
use serde_json::Value;
use std::time::Duration;

/// Posts an alert and its end, of a group that is two records behind and catches up.
async fn crossings(webhook: Webhook, watched: impl AsyncFnOnce(Crossing<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let producer = log.producer("shop").unwrap();
    let consumer = log.consumer("billing").start(Start::Earliest).max_poll_records(1);
    let mut consumer = consumer.subscribe([&orders]).unwrap();
    for _ in 0..3 {
        producer.send(&orders, Event::unkeyed("x")).await.unwrap();
    }
    consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    let webhook = webhook.start().unwrap();
    let alert = LagAlert::default().records(1).hold(Duration::ZERO).clear_ratio(0.0);
    let watch = alert.every(Duration::from_millis(5)).start(&log, move |lag| webhook.tell(lag)).unwrap();
    watched(Crossing { consumer: &mut consumer }).await;
    drop(watch);
}

struct Crossing<'c> {
    consumer: &'c mut exactlog::Consumer,
}

impl Crossing<'_> {
    /// The group catches up.
    async fn catch_up(&mut self) {
        for _ in 0..2 {
            self.consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        }
    }
}

/// What is posted next, without waiting on the thread that looks at the lag.
async fn next(listener: Listener) -> (Listener, String, Value) {
    tokio::task::spawn_blocking(move || {
        let (path, body) = listener.next();
        (listener, path, serde_json::from_slice(&body).unwrap())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn each_crossing_is_posted_once_it_is_taken_and_in_order() {
    // Not at all, with an error, and then taken.
    let listener = Listener::start(|nth| [None, Some(503), Some(429)].get(nth).copied().unwrap_or(Some(200)));
    let webhook = Webhook::new(format!("{}/lag?to=me", listener.url));
    let webhook = webhook.timeout(Duration::from_millis(100)).backoff(Duration::from_millis(1));
    crossings(webhook, async |mut crossing| {
        let (mut listener, path, raised) = next(listener).await;
        assert_eq!(path, "/lag?to=me");
        let of = |name: &str| raised[name].clone();
        assert_eq!(
            (of("event"), of("group"), of("topic")),
            ("lag.alert".into(), "billing".into(), "orders".into())
        );
        assert_eq!((of("partition"), of("records")), (0.into(), 2.into()));
        assert!(raised["age_ms"].is_number() && raised["at_ms"].as_i64().unwrap() > 1_600_000_000_000);
        for _ in 0..3 {
            let again;
            (listener, _, again) = next(listener).await;
            assert_eq!(again, raised, "until it is taken");
        }
        crossing.catch_up().await;
        let (listener, _, cleared) = next(listener).await;
        assert_eq!((&cleared["event"], &cleared["records"]), (&"lag.cleared".into(), &0.into()));
        assert_eq!(listener.try_next(), None);
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_for_good_or_too_often_is_given_up_and_the_next_one_is_posted() {
    let listener = Listener::start(|nth| Some([404, 500, 500, 200][nth]));
    let webhook = Webhook::new(listener.url.as_str()).attempts(2).backoff(Duration::from_millis(1));
    crossings(webhook, async |mut crossing| {
        let (listener, path, raised) = next(listener).await;
        assert_eq!((path.as_str(), &raised["event"]), ("/", &"lag.alert".into()));
        crossing.catch_up().await;
        let (listener, _, first) = next(listener).await;
        let (listener, _, second) = next(listener).await;
        assert_eq!(first["event"], "lag.cleared", "404 isn't tried again");
        assert_eq!(first, second);
        assert_eq!(listener.try_next(), None);
    })
    .await;
}

/// More than wait in line, at once: those that find no place are dropped.
#[tokio::test]
async fn nobody_waits_for_a_listener_that_never_answers() {
    const GROUPS: usize = 1_100;
    let listener = Listener::start(|_| None);
    let webhook = Webhook::new(listener.url.as_str()).timeout(Duration::from_secs(3_600)).start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = Log::builder().durability(Durability::Os).open(directory.path()).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let producer = log.producer("shop").unwrap();
    for _ in 0..2 {
        producer.send(&orders, Event::unkeyed("x")).await.unwrap();
    }
    for nth in 0..GROUPS {
        let begin = SeekTo { topic: orders.clone(), partition: 0, offset: 0 };
        log.seek_group(&format!("group-{nth}"), &[begin]).unwrap();
    }
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let alert = LagAlert::default().records(1).hold(Duration::ZERO);
    let watch = alert.start(&log, move |lag| {
        webhook.tell(lag);
        sender.send(()).unwrap();
    });
    let watch = watch.unwrap();
    for _ in 0..GROUPS {
        told.recv().await.unwrap();
    }
    drop(watch);
}

#[test]
fn a_url_with_another_scheme_is_refused_and_says_what_to_do() {
    let error = Webhook::new("https://alerts.example/lag").start().unwrap_err();
    assert!(matches!(&error, Error::Setting { name: "webhook.url", .. }));
    let text = error.to_string();
    assert!(text.contains("https://alerts.example/lag") && text.contains("no TLS"), "{text}");
    assert!(text.contains("LagAlert::start"), "{text}");
    let refused = |webhook: Webhook| match webhook.start() {
        Err(Error::Setting { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    for url in ["alerts", "127.0.0.1:9", "ftp://alerts", "http://", "http:///lag", ""] {
        assert_eq!(refused(Webhook::new(url)), "webhook.url", "{url}");
    }
    assert_eq!(refused(Webhook::new("http://a/").attempts(0)), "webhook.attempts");
    assert_eq!(refused(Webhook::new("http://a/").timeout(Duration::ZERO)), "webhook.timeout.ms");
}
