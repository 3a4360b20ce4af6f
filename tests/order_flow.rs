//! The order flow, killed again and again: every order ends once, and money and stock add up to the cent. The processes
//! are real, so is the disk; the example itself says what has to be so, and this only kills.
//!
//! `EXACTLOG_ORDERS=100000 EXACTLOG_KILLS=100` is the long run.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod built;

use exactlog_sim::rng::Random;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn command(directory: &Path, orders: u64) -> Command {
    let mut command = Command::new(built::example("order-flow"));
    command.args(["--orders", &orders.to_string()]).current_dir(directory).stdin(Stdio::null());
    command
}

#[test]
fn killed_again_and_again_every_order_ends_once_and_money_and_stock_add_up() {
    let (orders, kills) = (setting("EXACTLOG_ORDERS", 10_000), setting("EXACTLOG_KILLS", 10));
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(7);
    built::example("order-flow");
    let (mut killed, begin) = (0, Instant::now());
    while killed < kills {
        let mut child = command(directory.path(), orders).stdout(Stdio::null()).spawn().unwrap();
        // From before the log is open to some hundred commits: all of them together are less than a run takes.
        std::thread::sleep(Duration::from_millis(2 + random.below(120)));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        killed += 1;
    }
    let last = command(directory.path(), orders).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&last.stdout), String::from_utf8_lossy(&last.stderr));
    assert!(last.status.success(), "after {killed} kills: {}\n{said}\n{errors}", last.status);
    println!("{killed} kills in {:.1} s\n{said}", begin.elapsed().as_secs_f64());
    assert!(said.contains("each order has ended once, and money and stock add up"), "{said}");
    assert!(killed >= kills / 2, "only {killed} kills hit a run that wasn't at its end");
}
