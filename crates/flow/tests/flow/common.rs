//! A log in a directory of its own, and what many tests ask of it.

use exactlog::{Event, Log, Record, Topic, TopicOptions};
use exactlog_flow::{Counts, Metrics, Running};
use tempfile::TempDir;

/// A log with a topic `orders`.
pub(crate) struct House {
    pub(crate) log: Log,
    pub(crate) orders: Topic,
    directory: TempDir,
}

/// The log of a directory. With `EXACTLOG_FACADE=far` it is reached as a node's is: the same tests run on both.
fn open(directory: &TempDir) -> Log {
    let log = Log::open(directory.path().join("log")).unwrap();
    match std::env::var("EXACTLOG_FACADE").is_ok_and(|what| what == "far") {
        true => crate::over::connected(log).0,
        false => log,
    }
}

impl House {
    pub(crate) fn new(partitions: u32) -> House {
        let directory = tempfile::tempdir().unwrap();
        let log = open(&directory);
        let orders = log.create_topic("orders", TopicOptions::default().partitions(partitions)).unwrap();
        House { log, orders, directory }
    }

    /// The same directory, opened anew.
    pub(crate) fn reopen(self) -> House {
        let House { log, orders, directory } = self;
        drop(orders);
        log.close().unwrap();
        let log = open(&directory);
        let orders = log.open_topic("orders").unwrap();
        House { log, orders, directory }
    }

    pub(crate) fn topic(&self, name: &str) -> Topic {
        self.log.create_topic(name, TopicOptions::default().partitions(self.orders.partitions())).unwrap()
    }

    pub(crate) fn send(&self, events: impl IntoIterator<Item = Event>) {
        let producer = self.log.producer("shop").unwrap();
        for event in events {
            producer.blocking_send(&self.orders, event).unwrap();
        }
    }

    /// All records of a topic, by partition and offset.
    pub(crate) fn records(&self, topic: &str) -> Vec<Record> {
        let topic = self.log.open_topic(topic).unwrap();
        let view = self.log.read_view();
        view.records(&topic).map(Result::unwrap).collect()
    }

    /// The values of a topic's records, as text.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        self.records(topic).iter().map(|record| record.value_str().unwrap().to_string()).collect()
    }
}

/// An event with an id.
pub(crate) fn event(key: &str, value: &str, id: &str) -> Event {
    Event::new(key.to_string(), value.to_string()).header("message-id", id.to_string())
}

pub(crate) fn header(record: &Record, name: &str) -> String {
    let value = record.header(name).unwrap_or_else(|| panic!("no header {name}: {record:?}"));
    String::from_utf8(value.to_vec()).unwrap()
}

/// Waits until so many records have ended. No clock is asked, so that virtual time moves only where the processor
/// waits.
pub(crate) async fn ended(running: &Running, records: u64) -> Counts {
    until(running, |metrics| metrics.counts.ended() >= records).await.counts
}

/// Waits until this is so.
pub(crate) async fn until(running: &Running, is_so: impl FnMut(&Metrics) -> bool) -> Metrics {
    running.until(is_so).await.unwrap_or_else(|error| panic!("{error}: {:?}", running.metrics()))
}
