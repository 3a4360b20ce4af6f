//! One trace from the producer through retry, dead letter and redrive to what came of it.

use crate::common::{House, ended, event, header};
use exactlog::Event;
use exactlog_flow::{Context, DeadLetters, Failure, Processor, Retry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(start_paused = true)]
async fn one_trace_id_leads_through_retry_dead_letter_and_redrive() {
    let house = House::new(1);
    let (payments, is_well) = (house.topic("payments"), Arc::new(AtomicBool::new(false)));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let order = event("a", "chairs", "1").header("traceparent", parent.clone()).header("baggage", "shop=1");
    house.send([order, event("b", "tables", "2")]);
    let start = || {
        let (payments, is_well) = (payments.clone(), is_well.clone());
        let processor = Processor::new(&house.log, "billing")
            .topic(&house.orders)
            .retry(Retry::default().max_attempts(2));
        processor.start(move |order: Context| {
            let (payments, is_well) = (payments.clone(), is_well.load(Ordering::Relaxed));
            async move {
                if order.key() == b"a" && !is_well {
                    return Err(Failure::transient("BankClosed", "come back later"));
                }
                let asked = order.traceparent().unwrap_or_default();
                order.send(&payments, Event::new(order.key().to_vec(), asked))?;
                let own = Event::new(order.key().to_vec(), "own").header("traceparent", "mine");
                order.send_after(&payments, own, Duration::from_millis(1))
            }
        })
    };
    let running = start().unwrap();
    ended(&running, 2).await;
    running.stop().await.unwrap();
    let dead = &house.records("dlq.orders")[0];
    assert_eq!(
        (header(dead, "traceparent"), header(dead, "baggage")),
        (parent, "shop=1".into()),
        "as it was"
    );

    is_well.store(true, Ordering::Relaxed);
    let running = start().unwrap();
    DeadLetters::open(&house.log, "dlq.orders").unwrap().redrive().run().await.unwrap();
    ended(&running, 1).await;
    running.stop().await.unwrap();
    let payments = house.records("payments");
    let paid = |key: &[u8]| payments.iter().find(|it| it.key() == key && it.value() != b"own").unwrap();
    let of_trace = header(paid(b"a"), "traceparent");
    assert!(of_trace.starts_with(&format!("00-{TRACE}-")) && of_trace.ends_with("-01"), "{of_trace}");
    assert!(!of_trace.contains("00f067aa0ba902b7"), "a span of its own: {of_trace}");
    assert_eq!(paid(b"a").value_str().unwrap(), of_trace);
    assert_eq!(header(paid(b"a"), "baggage"), "shop=1");
    assert_eq!(paid(b"b").header("traceparent"), None, "what has no trace is given none");
}
