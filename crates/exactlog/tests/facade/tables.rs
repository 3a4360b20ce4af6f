//! Keyed tables: what is put in a transaction is there exactly if the transaction is.

use crate::common::*;
use exactlog::{Entry, Error, Log, Refusal, Table, TableOptions};
use exactlog_sim::disk::SimDisk;

fn table(log: &Log, name: &str, partitions: u32) -> Table {
    log.create_table(name, TableOptions::default().partitions(partitions)).unwrap()
}

fn value(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| entry.value_str().unwrap().to_owned())
}

#[test]
fn what_a_transaction_puts_is_read_by_key_also_after_a_kill() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let stock = table(&log, "stock", 3);
    let mut producer = log.producer("shop").unwrap();
    let mut transaction = producer.begin();
    transaction.put(&stock, "chairs", "12").unwrap();
    transaction.put(&stock, "tables", "3").unwrap();
    let receipt = transaction.blocking_commit().unwrap();
    let chairs = stock.get("chairs").unwrap().unwrap();
    assert_eq!((chairs.value_str().unwrap(), chairs.version), ("12", receipt.csn));
    assert_eq!((stock.len().unwrap(), stock.get("beds").unwrap()), (2, None));
    let mut transaction = producer.begin();
    transaction.delete(&stock, "tables").unwrap();
    transaction.put(&stock, "chairs", "11").unwrap();
    transaction.blocking_commit().unwrap();
    let (_, log) = after_kill(&disk);
    let stock = log.table("stock").unwrap();
    assert_eq!(value(stock.get("chairs").unwrap()), Some("11".into()));
    assert_eq!((stock.len().unwrap(), stock.get("tables").unwrap()), (1, None));
}

#[test]
fn a_table_is_written_by_transactions_alone() {
    let log = open(&SimDisk::new());
    let stock = table(&log, "stock", 1);
    let producer = log.producer("shop").unwrap();
    let sent = producer.blocking_send(stock.topic(), exactlog::Event::new("chairs", "12"));
    assert!(matches!(sent, Err(Error::Refused(Refusal::TableAsTopic { .. }))), "{sent:?}");
    assert_eq!(stock.len().unwrap(), 0);
}
