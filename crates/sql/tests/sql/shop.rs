//! Orders and the events about them: what an outbox must have sent.

use exactlog::{Log, Topic, TopicOptions};

pub(crate) fn events(log: &Log) -> Topic {
    log.create_topic("orders", TopicOptions::default().partitions(2)).unwrap()
}

/// The events that a database says there must be, against those that are in the log: each once, and those of a writer
/// in the order of its orders.
pub(crate) fn check(directory: &std::path::Path, mut expected: Vec<(i64, i64)>) {
    let log = Log::open(directory.join("data")).unwrap();
    let mut in_log = Vec::new();
    let mut last = std::collections::BTreeMap::new();
    for record in log.read_view().records(&events(&log)) {
        let record = record.unwrap();
        let writer: i64 = record.key_str().unwrap().parse().unwrap();
        let number: i64 = record.value_str().unwrap().parse().unwrap();
        assert_eq!(record.header("writer"), Some(record.key()));
        let before = last.insert(writer, number);
        assert!(before < Some(number), "writer {writer}: {number} stands behind {before:?}");
        in_log.push((writer, number));
    }
    in_log.sort_unstable();
    expected.sort_unstable();
    assert_eq!(in_log, expected, "each order that was committed has its event, once");
    assert!(expected.len() as u64 >= 5 * super::victim::KILLS, "only {} orders", expected.len());
    println!("{} orders, each sent once", expected.len());
}
