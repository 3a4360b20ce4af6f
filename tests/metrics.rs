//! Metrics as somebody else's parser reads them: each moves, is described, and the alerts and the dashboard ask for
//! nothing else.
#![allow(clippy::unwrap_used)]

use exactlog::{Durability, Event, Log, TableOptions, TopicOptions};
use exactlog_broker::NodeOptions;
use exactlog_flow::{Breaker, BreakerConfig, Context, Failure, Processor, Requester, Retry, Saga, Step};
use exactlog_wire::messages::{Fetch, fetch};
use prometheus_parse::{Scrape, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Of the whole project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// By name and labels; of a histogram the count.
fn scrape(log: &Log) -> BTreeMap<String, f64> {
    let text = log.prometheus();
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    assert!(!scrape.samples.is_empty());
    let mut found = BTreeMap::new();
    for sample in scrape.samples {
        let mut labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        let value = match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(buckets) => buckets.last().unwrap().count,
            Value::Summary(_) => panic!("there are none: {}", sample.metric),
        };
        let key = format!("{}{{{}}}", sample.metric, labels.join(","));
        assert_eq!(found.insert(key.clone(), value), None, "{key} is there twice");
    }
    found
}

/// The names that a text asks for, without what histograms have behind them.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_part(letter)).filter_map(|word| word.strip_prefix("exactlog_"));
    let base = |word: &str| {
        let ends = ["_bucket", "_count"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_string()
    };
    words.filter(|word| !word.is_empty()).map(base).collect()
}

fn families(log: &Log) -> BTreeSet<String> {
    let text = log.prometheus();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE exactlog_"));
    types.map(|line| line.split(' ').next().unwrap().to_string()).collect()
}

/// What every client of Kafka's protocol begins with.
async fn ask_for_versions(node: SocketAddr) {
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).await.unwrap();
    stream.read_exact(&mut [0; 10]).await.unwrap();
}

/// Fetch of the first partition of `orders`, which opens a session.
async fn open_session(node: SocketAddr) {
    let partition = fetch::FetchPartition { partition_max_bytes: 1000, ..Default::default() };
    let topic =
        fetch::FetchTopic { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    let request = fetch::Request { session_epoch: 0, topics: vec![topic], ..Default::default() };
    let parts = exactlog_wire::message::ask::<Fetch>(12, 8, None, &request).unwrap();
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.write_all(&parts.concat()).await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
}

/// A log in which everything has happened that is counted.
struct Busy {
    log: Log,
    _running: [exactlog_flow::Running; 3],
    _node: exactlog_broker::Running,
    _requester: Requester,
    _directory: tempfile::TempDir,
}

async fn busy() -> (BTreeMap<String, f64>, Busy) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::builder().durability(Durability::Os).open(directory.path().join("log")).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let table = log.create_table("stock", TableOptions::default()).unwrap();
    let breaker = Breaker::new("bank", BreakerConfig::default()).unwrap();
    let retry = Retry::default().backoff(Duration::from_millis(1), 1.0, Duration::from_millis(1));
    let processor = Processor::new(&log, "billing").topic(&orders).retry(retry).breaker(&breaker);
    let running = processor
        .start(async |order: Context| match order.value_str()? {
            "bad" => Err(Failure::permanent("Refused", "no")),
            "flaky" if order.attempt() == 1 => Err(Failure::transient("Timeout", "late")),
            _ => Ok(()),
        })
        .unwrap();
    let trips = log.create_topic("trips", TopicOptions::default()).unwrap();
    let trip = Saga::new(&log, "trip").unwrap();
    let trip = trip.step("book", async |_: Step| Ok::<_, Failure>(())).compensate(async |trip: Step| {
        match trip.value_str()? {
            "lost" => Err(Failure::permanent("Lost", "no")),
            _ => Ok(()),
        }
    });
    let trip = trip.step("fly", async |trip: Step| match trip.value_str()? {
        "good" => Ok(()),
        _ => Err(Failure::permanent("Fog", "no")),
    });
    let travelling = Processor::new(&log, "travel").topic(&trips).start(trip).unwrap();
    let questions = log.create_topic("questions", TopicOptions::default()).unwrap();
    let requester = Requester::new(&log, "clerk").unwrap();
    let mut producer = log.producer("shop").unwrap();
    let options = NodeOptions { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..NodeOptions::default() };
    let node = exactlog_broker::bind(options).await.unwrap().serve(&log);
    let before = scrape(&log);
    ask_for_versions(node.address()).await;
    open_session(node.address()).await;
    let agency = log.producer("agency").unwrap();
    for value in ["good", "bad", "good", "lost"] {
        agency.send(&trips, Event::new(value, value)).await.unwrap();
    }
    travelling.until(|metrics| metrics.counts.ended() == 4).await.unwrap();
    let call = || requester.call(&questions, Event::unkeyed("?"));
    call().timeout(Duration::from_millis(1)).send().await.unwrap_err();
    let answering = log.clone();
    let oracle = Processor::new(&log, "oracle").topic(&questions).start(move |question: Context| {
        let log = answering.clone();
        async move { question.reply(&log, Event::unkeyed("42")) }
    });
    let oracle = oracle.unwrap();
    call().send().await.unwrap();
    for (value, id) in [("good", "1"), ("good", "1"), ("bad", "2"), ("flaky", "3")] {
        let event = Event::new("a", value).header("message-id", id);
        producer.send(&orders, event).await.unwrap();
    }
    producer.send(&orders, Event::new("a", "good").id("x")).await.unwrap();
    producer.send(&orders, Event::new("a", "good").id("x")).await.unwrap();
    running.until(|metrics| metrics.counts.ended() == 5).await.unwrap();
    let mut transaction = producer.begin();
    transaction.put(&table, "chair", "1").unwrap();
    transaction.send_after(&orders, Event::new("a", "later"), Duration::from_secs(3600)).unwrap();
    transaction.send(&orders, Event::new("a", "good")).unwrap();
    transaction.commit().await.unwrap();
    running.until(|metrics| metrics.counts.ended() == 6).await.unwrap();
    let _running = [running, travelling, oracle];
    (before, Busy { log, _running, _node: node, _requester: requester, _directory: directory })
}

#[tokio::test]
async fn what_happens_is_counted_from_0_on() {
    let (before, busy) = busy().await;
    let log = &busy.log;
    let after = scrape(log);
    let moved = |key: &str, from: f64, to: f64| {
        assert_eq!(before.get(key).copied().unwrap_or(0.0), from, "{key} at first");
        assert_eq!(after.get(key), Some(&to), "{key}: {after:#?}");
    };
    moved("exactlog_messages_in_total{topic=orders}", 0.0, 6.0);
    moved("exactlog_messages_out_total{topic=orders}", 0.0, 6.0);
    moved("exactlog_log_end_offset{partition=0,topic=orders}", 0.0, 6.0);
    moved("exactlog_last_stable_offset{partition=0,topic=orders}", 0.0, 6.0);
    moved("exactlog_producer_records_total{producer=shop}", 0.0, 7.0);
    moved("exactlog_producer_send_seconds{producer=shop}", 0.0, 7.0);
    moved("exactlog_consumer_records_total{group=billing}", 0.0, 6.0);
    moved("exactlog_group_members{group=billing}", 1.0, 1.0);
    moved("exactlog_group_offset{group=billing,partition=0,topic=orders}", 0.0, 6.0);
    moved("exactlog_group_lag_records{group=billing,partition=0,topic=orders}", 0.0, 0.0);
    moved("exactlog_read_total{group=billing}", 0.0, 6.0);
    moved("exactlog_processed_total{group=billing,outcome=ok}", 0.0, 4.0);
    moved("exactlog_processed_total{group=billing,outcome=duplicate}", 0.0, 1.0);
    moved("exactlog_dead{group=billing}", 0.0, 1.0);
    moved("exactlog_waiting{group=billing}", 0.0, 0.0);
    moved("exactlog_retry_total{attempt=1,group=billing}", 0.0, 1.0);
    moved("exactlog_dlq_total{error=Refused,group=billing}", 0.0, 1.0);
    moved("exactlog_dlq_depth{topic=dlq.orders}", 0.0, 1.0);
    moved("exactlog_process_seconds{group=billing}", 0.0, 6.0);
    moved("exactlog_saga_total{name=trip,outcome=completed}", 0.0, 2.0);
    moved("exactlog_saga_total{name=trip,outcome=compensated}", 0.0, 1.0);
    moved("exactlog_saga_total{name=trip,outcome=compensation_failed}", 0.0, 1.0);
    moved("exactlog_saga_running{name=trip}", 0.0, 0.0);
    moved("exactlog_request_duration_seconds{outcome=ok,topic=questions}", 0.0, 1.0);
    moved("exactlog_request_duration_seconds{outcome=timeout,topic=questions}", 0.0, 1.0);
    moved("exactlog_breaker_state{name=bank,state=CLOSED}", 1.0, 1.0);
    moved("exactlog_breaker_calls_total{kind=successful,name=bank}", 0.0, 4.0);
    moved("exactlog_breaker_calls_total{kind=failed,name=bank}", 0.0, 1.0);
    moved("exactlog_breaker_calls_total{kind=ignored,name=bank}", 0.0, 1.0);
    moved("exactlog_node_connections_total{}", 0.0, 2.0);
    moved("exactlog_node_request_seconds{api=ApiVersions}", 0.0, 1.0);
    moved("exactlog_node_fetch_sessions{}", 0.0, 1.0);
    moved("exactlog_node_answer_bytes{}", 0.0, 0.0);
    moved("exactlog_node_request_bytes{}", 0.0, 0.0);
    moved("exactlog_node_fetch_read_bytes_total{}", 0.0, 0.0);
    moved("exactlog_node_fetch_session_partitions{}", 0.0, 1.0);
    moved("exactlog_dedup_hits_total{}", 0.0, 1.0);
    moved("exactlog_timers{}", 0.0, 1.0);
    for key in [
        "exactlog_bytes_in_total{topic=orders}",
        "exactlog_bytes_out_total{topic=orders}",
        "exactlog_commits_total{}",
        "exactlog_node_bytes_in_total{}",
    ] {
        assert!(after[key] > before.get(key).copied().unwrap_or(0.0), "{key}");
    }
    // A topic that is deleted refuses what is sent to it.
    let producer = log.producer("late").unwrap();
    let gone = log.create_topic("gone", TopicOptions::default()).unwrap();
    log.delete_topic(&gone).unwrap();
    let refused = producer.send(&gone, Event::new("a", "b")).await.unwrap_err();
    let key = format!("exactlog_producer_errors_total{{error={},producer=late}}", refused.kafka_code());
    assert_eq!(scrape(log).get(&key), Some(&1.0), "{refused}");
}

#[tokio::test]
async fn each_is_described_and_what_is_described_is_there() {
    let (_, busy) = busy().await;
    let log = &busy.log;
    let described = std::fs::read_to_string(root().join("docs/METRICS.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| `") && !line.starts_with("| `exactlog_`");
    let rows = described.lines().filter(is_row);
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let described: BTreeSet<String> = cells
        .flat_map(|cell| cell.split(','))
        .map(|name| name.trim().trim_matches('`').to_string())
        .collect();
    // There only when there was an error.
    let errors = BTreeSet::from(["producer_errors_total".to_string()]);
    let told = families(log).union(&errors).cloned().collect::<BTreeSet<_>>();
    let difference: Vec<_> = described.symmetric_difference(&told).collect();
    assert!(difference.is_empty(), "only in one of docs/METRICS.md and the page: {difference:?}");
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_what_there_is() {
    let (_, busy) = busy().await;
    let log = &busy.log;
    let mut told = families(log);
    told.insert("producer_errors_total".to_string());
    let rules = std::fs::read_to_string(root().join("ops/prometheus/rules.yml")).unwrap();
    let rules: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(rules.len() >= 10, "{}", rules.len());
    let board = std::fs::read_to_string(root().join("ops/grafana/exactlog.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() >= 30, "{}", queries.len());
    for query in rules.into_iter().chain(queries) {
        let names = names_in(query);
        assert!(!names.is_empty(), "{query} asks for nothing");
        let unknown: Vec<_> = names.difference(&told).collect();
        assert!(unknown.is_empty(), "{query} asks for {unknown:?}");
    }
}
