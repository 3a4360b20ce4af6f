//! The examples as a newcomer runs them: in an empty directory, without arguments, and then once more.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod built;

use built::example;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn output(name: &str, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(example(name));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command.output().unwrap()
}

/// What an example prints when it succeeds.
fn run(name: &str, directory: &Path, arguments: &[&str]) -> String {
    let done = output(name, directory, arguments);
    assert!(done.status.success(), "{name}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} isn't in\n{text}");
    }
}

#[test]
fn hello_log_goes_on_behind_what_its_first_run_stored() {
    let directory = tempfile::tempdir().unwrap();
    let lines = |from: u64| {
        let stored = (from..from + 3).map(|offset| format!("stored  offset {offset}\n"));
        let names = ["Ada", "Grace", "Barbara"];
        let read = (from..from + 3)
            .zip(names)
            .map(|(offset, name)| format!("read    offset {offset}  hello, {name}\n"));
        stored.chain(read).collect::<String>()
    };
    assert_eq!(run("hello-log", directory.path(), &[]), lines(0));
    assert_eq!(run("hello-log", directory.path(), &[]), lines(3));
}

#[test]
fn each_order_of_the_flow_ends_once_and_the_second_run_finds_nothing_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let first = run("order-flow", directory.path(), &[]);
    let ends = "each order has ended once, and money and stock add up\n";
    // 1,000 orders of which 33 come twice, and 15 that can't be processed.
    assert_has(&first, &["payments       1033 read, ", " shipped, ", " 15 dead; ", ends]);
    let second = run("order-flow", directory.path(), &[]);
    assert_has(&second, &["payments       0 read, 0 tried again in this run\n", " 15 dead; ", ends]);
    let refused = output("order-flow", directory.path(), &["--order", "7"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("usage: order-flow"), "{refused:?}");
}

#[test]
fn an_order_that_fails_is_dead_and_put_back_and_paid_once() {
    let directory = tempfile::tempdir().unwrap();
    let first = run("retry-dlq", directory.path(), &[]);
    let dead = "dead        order-1  BankClosed: come back later, after 3 attempts\n";
    assert_has(&first, &["order-1  attempt 3\n", dead, "put back    1\n"]);
    let paid = "paid        order-1, order-2, order-3, order-4\n";
    assert_has(&first, &[paid]);
    // The next order of the same customer waits until the first one has ended.
    let at = |text: &str| first.find(text).unwrap_or_else(|| panic!("{text:?} isn't in\n{first}"));
    assert!(at("order-1  attempt 3") < at("order-3  attempt 1"), "{first}");
    assert!(at("order-4  attempt 1") < at("order-1  attempt 2"), "{first}");
    let second = run("retry-dlq", directory.path(), &[]);
    assert_eq!(second, format!("put back    0\n{paid}"));
}

#[test]
fn a_webhook_that_is_posted_again_is_stored_and_booked_once() {
    let directory = tempfile::tempdir().unwrap();
    let refused = "post      400 Bad Request\n";
    let balances = "balance   ada 1200\nbalance   grace 300\n";
    let copies = "post p-1  200 OK\npost p-2  200 OK\n";
    let new = "post p-1  202 Accepted\npost p-2  202 Accepted\n";
    let first = run("webhook", directory.path(), &[]);
    assert_eq!(first, format!("{new}{copies}{refused}{balances}"));
    let second = run("webhook", directory.path(), &[]);
    assert_eq!(second, format!("{copies}{copies}{refused}{balances}"));
}

#[test]
fn a_handler_is_tested_in_virtual_time() {
    let directory = tempfile::tempdir().unwrap();
    let text = run("testkit-unit-test", directory.path(), &[]);
    assert_has(&text, &["attempts after [0, 1000, 3000] ms\n", "of the runtime's clock 3 s\n"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_feed_that_is_read_twice_is_stored_once_and_each_mail_is_sent_once() {
    let directory = tempfile::tempdir().unwrap();
    let first = run("dedup-feed", directory.path(), &[]);
    assert_has(
        &first,
        &["round 1  order-4  stored at offset 3\n", "round 2  order-4  was there at offset 3\n"],
    );
    assert_has(&first, &["4 stored, 8 were there already\n", "4 mails sent, 4 had been sent before\n"]);
    let second = run("dedup-feed", directory.path(), &[]);
    assert_has(&second, &["0 stored, 12 were there already\n", "0 mails sent, 0 had been sent before\n"]);
}

#[test]
fn words_are_counted_once_wherever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").display().to_string();
    // While the poem is fed, at its end, and while words are counted.
    let mut killed = 0;
    for commits in ["0", "7", "100", "113", "1", "9", "0", "3"] {
        let done = output("counts-table", directory.path(), &[&data, commits]);
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(!done.status.success() && text == "killed\n", "{commits}: {text}");
        killed += 1;
    }
    assert_eq!(killed, 8);
    for _ in 0..2 {
        let text = run("counts-table", directory.path(), &[&data]);
        assert_has(&text, &["  60  and\n", "1360 words counted, 58 of 58 counts are right\n"]);
    }
}

#[test]
fn a_rebuilt_projection_takes_the_place_of_the_one_that_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let first = run("replay-projection", directory.path(), &[]);
    assert_has(&first, &["and agrees with totals-v1 on 97 customers\n"]);
    let last = [
        "totals-v2: 3000 orders of 97 customers, 153015.00\n",
        "totals-march: 1584 orders of 97 customers, 80773.20\n",
        "served is totals-v2, and both are what the orders add up to\n",
    ];
    assert_has(&first, &last);
    // Nothing is replaced, fed or applied a second time.
    assert_eq!(run("replay-projection", directory.path(), &[]), last.concat());
}

#[test]
fn a_reminder_comes_once_and_one_that_is_cancelled_never() {
    let directory = tempfile::tempdir().unwrap();
    for (run_number, timers) in [(1, [1, 2]), (2, [3, 4])] {
        let text = run("delayed-reminder", directory.path(), &[]);
        let [paid, forgotten] = timers;
        let said = format!("reminders wait as timers {paid} and {forgotten}");
        assert_has(&text, &[&said, "says: CancelledBefore", "reminded  please pay order-2"]);
        assert_eq!(text.matches("reminded").count(), 1, "run {run_number}: {text}");
    }
}

#[test]
fn nobody_misses_an_event_on_the_bus() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let text = run("event-bus", directory.path(), &[]);
        for subscriber in ["bookkeeper ", "counter    ", "slow       "] {
            assert_has(&text, &[&format!("{subscriber} 100000 events, 0 missed")]);
        }
        assert_has(&text, &["1000 customers bought 33333 times, for 182699.34"]);
    }
}

#[test]
fn orders_are_paid_once_and_the_stock_adds_up() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, orders) in [(&[][..], 1000), (&["--orders", "3000"][..], 3000)] {
        let text = run("orders-pipeline", directory.path(), arguments);
        assert_has(
            &text,
            &[&format!("{orders} ordered once, {orders} paid once, {orders} taken from stock once")],
        );
        let failures = text.split(' ').nth(3).and_then(|number| number.parse::<u64>().ok());
        assert!(failures.is_some_and(|failures| failures > 0), "no transaction was dropped:\n{text}");
        let items = text.lines().filter(|line| line.contains(" ordered  "));
        let sums: Vec<Vec<u64>> = items
            .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
            .collect();
        assert_eq!(sums.len(), 4);
        assert!(sums.iter().all(|sums| sums.len() == 2 && sums[0] == sums[1] && sums[0] > 0), "{text}");
    }
}

#[test]
fn the_week_of_earthquakes_is_found_shown_and_not_fed_twice() {
    let directory = tempfile::tempdir().unwrap();
    let first = run("earthquakes", directory.path(), &[]);
    let tables = [
        "   6.4  2018-02-06 15:50:42  22km NNE of Hualian, Taiwan\n",
        "     747  CA                   ████",
        "1,707 events, 0 rejects, 85 alerts, lag 0\n",
    ];
    assert_has(&first, &tables);
    assert_has(&first, &["exactlog-data/earthquakes: a new log", "1,707 lines fed (from the beginning)"]);
    let second = run("earthquakes", directory.path(), &[]);
    assert_has(&second, &tables);
    assert_has(&second, &["was closed properly", "0 lines fed (resumed behind line 1,707 of repetition 1)"]);
    let third = run("earthquakes", directory.path(), &["--times", "3", "--quiet", "--durability", "os"]);
    assert_has(&third, &["5,121 events, 0 rejects, 255 alerts, lag 0\n", "3,414 lines fed"]);
}

#[test]
fn lines_that_are_added_to_a_file_are_fed_by_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let line = |id| format!("{{\"id\":\"{id}\",\"time_ms\":1,\"mag\":1.5,\"place\":\"a, b\"}}\n");
    let file = directory.path().join("lines");
    std::fs::write(&file, line(1)).unwrap();
    assert_has(&run("earthquakes", directory.path(), &["--input", "lines"]), &["1 events, 0 rejects"]);
    std::fs::write(&file, [line(1), line(2)].concat()).unwrap();
    assert_has(&run("earthquakes", directory.path(), &["--input", "lines"]), &["2 events, 0 rejects"]);
    std::fs::write(&file, "").unwrap();
    let done = output("earthquakes", directory.path(), &["--input", "lines"]);
    assert_eq!(done.status.code(), Some(1));
    assert_has(&String::from_utf8(done.stderr).unwrap(), &["lines has 0 bytes,", "were taken before"]);
}

#[test]
fn what_an_example_can_t_do_is_said_and_not_done() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--nonsense"], 2, "\"--nonsense\" isn't known"),
        (&["--times"], 2, "--times needs a value"),
        (&["--times", "often"], 2, "--times: invalid digit"),
        (&["--durability", "maybe"], 2, "--durability is fsync or os, not \"maybe\""),
        (&["--input", "-", "--times", "2"], 2, "standard input can't be read more than once"),
        (&["--input", "no-such-file"], 1, "no-such-file: "),
    ];
    for (arguments, code, reason) in cases {
        let done = output("earthquakes", directory.path(), arguments);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}");
        assert_has(&String::from_utf8(done.stderr).unwrap(), &[reason]);
    }
}
