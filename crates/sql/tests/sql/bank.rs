//! Transfers between accounts: what a bank's log has, and what its database must have then.

use exactlog::{Event, Log, Record, Topic, TopicOptions};
use std::sync::atomic::{AtomicBool, Ordering};

/// Accounts, and what each begins with.
pub(crate) const ACCOUNTS: i64 = 20;
pub(crate) const BALANCE: i64 = 1000;

/// How far the log may be ahead of the database: so that each life of a process has old work and new.
const AHEAD_MAX: u64 = 400;

/// Transfers of one transaction of the log.
const TRANSFERS: u64 = 20;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transfer {
    pub(crate) number: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) amount: i64,
}

impl Transfer {
    fn of(number: i64) -> Transfer {
        let mixed = exactlog_sim::rng::mix(number as u64) as i64 & i64::MAX;
        let from = mixed % ACCOUNTS;
        let to = (from + 1 + mixed / 100 % (ACCOUNTS - 1)) % ACCOUNTS;
        Transfer { number, from, to, amount: mixed / 10_000 % 50 }
    }

    fn event(self) -> Event {
        let Transfer { number, from, to, amount } = self;
        Event::new(from.to_string(), format!("{number} {from} {to} {amount}"))
    }

    pub(crate) fn read(record: &Record) -> Transfer {
        let numbers: Vec<i64> =
            record.value_str().unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
        Transfer { number: numbers[0], from: numbers[1], to: numbers[2], amount: numbers[3] }
    }
}

pub(crate) fn transfers(log: &Log) -> Topic {
    log.create_topic("transfers", TopicOptions::default().partitions(3)).unwrap()
}

/// Sends transfers until it is told to stop. How many there are is the producer's cursor.
pub(crate) fn produce(log: &Log, group: &str, stop: &AtomicBool) {
    let topic = transfers(log);
    let mut producer = log.producer("tellers").unwrap();
    let mut next = sent(&producer);
    while !stop.load(Ordering::Relaxed) {
        if log.lag(group, &topic) > AHEAD_MAX {
            std::thread::yield_now();
            continue;
        }
        let mut transaction = producer.begin();
        for number in next..next + TRANSFERS {
            transaction.send(&topic, Transfer::of(number as i64).event()).unwrap();
        }
        next += TRANSFERS;
        transaction.set_cursor(next.to_string()).unwrap();
        transaction.blocking_commit().unwrap();
    }
}

pub(crate) fn sent(producer: &exactlog::Producer) -> u64 {
    producer.cursor().map_or(0, |cursor| std::str::from_utf8(cursor).unwrap().parse().unwrap())
}

/// What the database holds at the end: balances by account, and the number of each transfer that was applied, as often
/// as it was.
pub(crate) struct Books {
    pub(crate) balances: Vec<i64>,
    pub(crate) applied: Vec<i64>,
}

/// The sum holds, every transfer of the log took effect, and none did twice.
pub(crate) fn check(directory: &std::path::Path, books: Books) {
    let log = Log::open(directory.join("data")).unwrap();
    let count = sent(&log.producer("tellers").unwrap());
    let topic = transfers(&log);
    let mut expected = vec![BALANCE; ACCOUNTS as usize];
    let mut in_log = Vec::new();
    for record in log.read_view().records(&topic) {
        let transfer = Transfer::read(&record.unwrap());
        expected[transfer.from as usize] -= transfer.amount;
        expected[transfer.to as usize] += transfer.amount;
        in_log.push(transfer.number);
    }
    in_log.sort_unstable();
    let mut applied = books.applied;
    applied.sort_unstable();
    assert_eq!(in_log, (0..count as i64).collect::<Vec<_>>());
    assert_eq!(applied, in_log, "each transfer of the log took effect once");
    assert_eq!(books.balances, expected);
    assert_eq!(books.balances.iter().sum::<i64>(), ACCOUNTS * BALANCE);
    assert!(count >= super::victim::KILLS * TRANSFERS, "only {count} transfers: nothing was put to the test");
    println!("{count} transfers, each once");
}
