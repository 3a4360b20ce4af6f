//! Requests and their replies.

use crate::common::House;
use exactlog::{Event, Log, Topic};
use exactlog_flow::{Context, Handler, Processor, RequestError, Requester, Retry, Running};
use std::sync::Arc;
use std::time::Duration;

/// Answers with the number's square; what is no number can't be answered.
fn square(log: &Log) -> impl Handler + use<> {
    let log = log.clone();
    move |question: Context| {
        let log = log.clone();
        async move {
            let number: u64 = question.json()?;
            question.reply(&log, Event::unkeyed((number * number).to_string()).header("by", "square"))
        }
    }
}

fn answering(house: &House, group: &str) -> Running {
    let processor = Processor::new(&house.log, group).topic(&house.orders).retry(Retry::never());
    processor.start(square(&house.log)).unwrap()
}

fn ask(number: u64) -> Event {
    Event::unkeyed(number.to_string())
}

/// Asks for all of them, a hundred at a time.
async fn asks(requester: Requester, topic: Topic, numbers: std::ops::Range<u64>) {
    let requester = Arc::new(requester);
    let mut callers = tokio::task::JoinSet::new();
    for nth in 0..100 {
        let (requester, topic, numbers) = (requester.clone(), topic.clone(), numbers.clone());
        callers.spawn(async move {
            for number in numbers.skip(nth).step_by(100) {
                let call = requester.call(&topic, ask(number)).timeout(Duration::from_secs(60));
                let answer = call.send().await.unwrap();
                assert_eq!(answer.value.as_deref(), Some((number * number).to_string().as_bytes()));
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn two_callers_at_the_same_time_get_their_own_answers() {
    const CALLS: u64 = 10_000;
    let house = House::new(3);
    let first = Requester::new(&house.log, "first").unwrap();
    let second = Requester::new(&house.log, "second").unwrap();
    let running = answering(&house, "oracle");
    let one = tokio::spawn(asks(first, house.orders.clone(), 0..CALLS / 2));
    let other = tokio::spawn(asks(second, house.orders.clone(), 1_000_000..1_000_000 + CALLS / 2));
    // The one who answers is started anew in the middle.
    running.until(|metrics| metrics.counts.ended() > CALLS / 2).await.unwrap();
    running.stop().await.unwrap();
    let running = answering(&house, "oracle");
    one.await.unwrap();
    other.await.unwrap();
    let again = running.metrics().counts.ended();
    assert!(again > 0, "it had to answer, too");
    running.stop().await.unwrap();
    assert_eq!(house.records("orders").len() as u64, CALLS);
}

#[tokio::test]
async fn who_cannot_answer_says_why() {
    let house = House::new(1);
    let requester = Requester::new(&house.log, "clerk").unwrap();
    let running = answering(&house, "oracle");
    let error = requester.call(&house.orders, Event::unkeyed("seven")).send().await.unwrap_err();
    match &error {
        RequestError::Remote { group, message, .. } if group == "oracle" && message.contains("offset 0") => {}
        other => panic!("{other:?}"),
    }
    running.stop().await.unwrap();
    assert_eq!(house.records("dlq.orders").len(), 1);
    let long = requester.call(&house.orders, ask(1)).id("x".repeat(513)).send().await.unwrap_err();
    assert!(long.to_string().contains("correlation-id is 513 bytes"), "{long}");
}

#[tokio::test]
async fn nobody_there_and_nobody_in_time_are_told_apart_and_the_answer_can_be_fetched_later() {
    let house = House::new(1);
    let soon = Duration::from_millis(30);
    let requester = Requester::new(&house.log, "clerk").unwrap();
    let call = || requester.call(&house.orders, ask(12)).timeout(soon).id("question-12");
    let nobody = call().send().await.unwrap_err();
    assert!(matches!(nobody, RequestError::NoResponder { .. }), "{nobody}");
    let running = answering(&house, "oracle");
    running.until(|metrics| metrics.counts.ended() == 1).await.unwrap();
    running.stop().await.unwrap();
    // Nothing is sent anew, and nobody has to be there: the answer is.
    drop(requester);
    let requester = Requester::new(&house.log, "clerk").unwrap();
    let answer = requester.call(&house.orders, ask(12)).timeout(soon).id("question-12").send().await.unwrap();
    assert_eq!((answer.value.as_deref(), &*answer.headers[0].0), (Some(&b"144"[..]), "by"));
    assert_eq!(house.records("orders").len(), 1);
    let late = requester.call(&house.orders, ask(13)).timeout(soon).send().await.unwrap_err();
    assert!(matches!(late, RequestError::Timeout { received: 0, wanted: 1, .. }), "{late}");
}

#[tokio::test]
async fn several_groups_answer_one_request() {
    let house = House::new(1);
    let requester = Requester::new(&house.log, "clerk").unwrap();
    let running = ["one", "other"].map(|group| answering(&house, group));
    let answers = requester.call(&house.orders, ask(3)).gather(2).await.unwrap();
    let groups: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().group).collect();
    assert_eq!(groups, ["one", "other"]);
    for running in running {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_event_that_asks_nothing_is_not_answered() {
    let house = House::new(1);
    house.send([ask(2)]);
    let running = answering(&house, "oracle");
    assert_eq!(running.until(|metrics| metrics.counts.ended() == 1).await.unwrap().counts.dead, 1);
    running.stop().await.unwrap();
    let failure = house.records("dlq.orders");
    assert_eq!(crate::common::header(&failure[0], "dlq-error-class"), "NoRequest");
}

#[tokio::test]
async fn old_replies_are_taken_out() {
    let house = House::new(1);
    let requester = Requester::new(&house.log, "clerk").unwrap();
    let running = answering(&house, "oracle");
    requester.call(&house.orders, ask(2)).id("old").send().await.unwrap();
    running.stop().await.unwrap();
    drop(requester);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let requester = Requester::keeping(&house.log, "clerk", Duration::from_millis(1)).unwrap();
    while !requester.replies("old").unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
