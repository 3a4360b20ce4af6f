//! Tables written by handlers that run beside each other.

use crate::common::{House, ended};
use exactlog::{Event, TableOptions};
use exactlog_flow::{Context, Failure, Processor};
use std::time::Duration;

/// All keys add to one row, and read it before they wait for something: none of it is lost.
#[tokio::test]
async fn no_update_is_lost_between_events_of_one_commit() {
    let house = House::new(1);
    let totals = house.log.create_table("totals", TableOptions::default()).unwrap();
    house.send((0..200).map(|n| Event::new(format!("key-{}", n % 20), n.to_string())));
    let table = totals.clone();
    let running = Processor::new(&house.log, "sum")
        .topic(&house.orders)
        .concurrency(20)
        .start(move |event: Context| {
            let table = table.clone();
            async move {
                let total: u64 = event.get_json(&table, "all")?.unwrap_or(0);
                let nth: u64 = event.value_str()?.parse()?;
                if nth.is_multiple_of(3) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                event.put_json(&table, "all", &(total + nth))?;
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    ended(&running, 200).await;
    running.stop().await.unwrap();
    let total: u64 = totals.get("all").unwrap().unwrap().json().unwrap();
    assert_eq!(total, (0..200).sum::<u64>());
}

/// Somebody else writes the row all the time: the commit is refused, made anew, and in the end right.
#[tokio::test]
async fn no_update_of_others_is_lost() {
    let house = House::new(1);
    let totals = house.log.create_table("totals", TableOptions::default()).unwrap();
    house.send((0..50).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let (table, writer_table, log) = (totals.clone(), totals.clone(), house.log.clone());
    let writer = std::thread::spawn(move || {
        let mut producer = log.producer("other").unwrap();
        let mut added = 0_u64;
        while added < 100 {
            let mut transaction = producer.begin();
            let before = transaction.get(&writer_table, "all").unwrap();
            let before: u64 = before.map_or(0, |value| serde_json::from_slice(&value).unwrap());
            transaction.put_json(&writer_table, "all", &(before + 1000)).unwrap();
            added += u64::from(transaction.blocking_commit().is_ok());
        }
    });
    let running = Processor::new(&house.log, "sum")
        .topic(&house.orders)
        .start(move |event: Context| {
            let table = table.clone();
            async move {
                let total: u64 = event.get_json(&table, "all")?.unwrap_or(0);
                let nth: u64 = event.value_str()?.parse()?;
                event.put_json(&table, "all", &(total + nth))?;
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    let counts = ended(&running, 50).await;
    writer.join().unwrap();
    assert_eq!((counts.done_total(), counts.dead), (50, 0));
    running.stop().await.unwrap();
    let total: u64 = totals.get("all").unwrap().unwrap().json().unwrap();
    assert_eq!(total, (0..50).sum::<u64>() + 100 * 1000);
}
