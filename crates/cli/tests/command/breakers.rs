//! `breaker`: what a process shows of its circuit breakers.

use crate::common::Place;
use exactlog::{Event, Log};
use exactlog_flow::{Breaker, BreakerConfig, BreakerState, Failure, Processor};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Answers requests with this, as long as somebody asks.
fn serve(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn the_breakers_of_a_process_are_listed_from_its_page() {
    let place = Place::with_topic(1);
    let log = Log::open(&place.data).unwrap();
    let orders = log.open_topic("t").unwrap();
    let producer = log.producer("shop").unwrap();
    (0..4).for_each(|nth| _ = producer.blocking_send(&orders, Event::new("k", format!("{nth}"))).unwrap());
    let mut config = BreakerConfig::default();
    config.minimum_number_of_calls = 2;
    let (bank, shop) = (Breaker::new("bank", config.clone()).unwrap(), Breaker::new("shop", config).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let page = runtime.block_on(async {
        let processor =
            |group, breaker: &Breaker| Processor::new(&log, group).topic(&orders).batch(1).breaker(breaker);
        let fails = |_| async { Err::<(), _>(Failure::transient("Timeout", "the bank is slow")) };
        let failing = processor("billing", &bank).start(fails).unwrap();
        let running = processor("packing", &shop).start(|_| async { Ok::<(), Failure>(()) }).unwrap();
        while bank.metrics().state != BreakerState::Open || shop.metrics().successful < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let page = log.prometheus();
        failing.stop().await.unwrap();
        running.stop().await.unwrap();
        page
    });
    let address = serve(format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{page}"));
    // Without a path it is the usual one.
    for url in [format!("http://{address}/metrics"), format!("http://{address}")] {
        let listed = place.run(&["breaker", "list", &url, "--format", "json"]).json();
        let row = |nth: usize, names: [&str; 5]| names.map(|name| listed["breakers"][nth][name].clone());
        let names = ["name", "state", "successful", "failed", "failure_percent"];
        // An open one has just begun to count anew.
        assert_eq!(row(0, names), [json!("bank"), json!("OPEN"), json!(0), json!(2), json!(null)]);
        assert_eq!(row(1, names), [json!("shop"), json!("CLOSED"), json!(4), json!(0), json!(0.0)]);
    }
    let shown = place.run(&["breaker", "list", &format!("http://{address}")]).good();
    assert!(shown.contains("bank") && shown.contains("OPEN"), "{shown}");
}

#[test]
fn what_isnt_a_page_of_metrics_is_said() {
    let place = Place::with_topic(1);
    let missing = serve("HTTP/1.0 404 Not Found\r\n\r\nno such page".to_string());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, exit, text) in [
        (format!("http://{missing}"), 1, "404 Not Found"),
        (format!("http://{closed}"), 1, "Connection refused"),
        ("https://127.0.0.1/metrics".to_string(), 2, "doesn't begin with http://"),
        ("http://127.0.0.1/a b".to_string(), 2, "a space in it"),
    ] {
        place.run(&["breaker", "list", &url]).fails(exit, text);
    }
}
