//! The order flow with its processors in another process than the log: that process and the node are killed in turn,
//! again and again. Every order ends once, and money and stock add up to the cent. Processes, sockets and the disk
//! are real (semantics ON-5).
//!
//! `EXACTLOG_ORDERS=10000 EXACTLOG_KILLS=30` is the long run: as many kills of each of the two.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

#[allow(dead_code, reason = "what logs hold is looked at by others that kill")]
mod processes;

use exactlog_sim::rng::Random;
use processes::Victim;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long members of a process that is gone stay, in ms: not as long as it takes to start the next one.
const GRACE_MS: &str = "300";

/// Longer than a run takes whose kills land everywhere.
const PATIENCE: Duration = Duration::from_secs(240);

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn node(directory: &Path, address: SocketAddr) -> Victim {
    let mut command = Command::new(env!("CARGO_BIN_EXE_served-log"));
    let mut node = Victim::start(command.arg(directory).arg(address.port().to_string()));
    assert_eq!(node.line(), Some(address.to_string()), "it serves where the one before it did");
    node
}

fn flow(address: SocketAddr, orders: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_far-order-flow"));
    command.args([&address.to_string(), &orders.to_string(), GRACE_MS]).stdin(Stdio::null());
    command
}

/// Waits for its end, but not for ever; what it has said.
fn finished(mut child: Child) -> (bool, String) {
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("no end in {PATIENCE:?}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[test]
fn node_and_processors_are_killed_in_turn_and_every_order_ends_once() {
    let (orders, kills) = (setting("EXACTLOG_ORDERS", 10_000), setting("EXACTLOG_KILLS", 4));
    let directory = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut random = Random::new(11);
    let begin = Instant::now();
    let mut running = node(directory.path(), address);
    let (mut of_node, mut of_flow, mut ended) = (0, 0, false);
    while of_flow < kills && !ended {
        let mut child = flow(address, orders).stdout(Stdio::null()).spawn().unwrap();
        // The node goes down under its processors, and comes back while they wait for it.
        std::thread::sleep(Duration::from_millis(20 + random.below(120)));
        if of_node < kills {
            drop(running.kill(&mut random, Duration::from_millis(5)));
            std::thread::sleep(Duration::from_millis(random.below(30)));
            running = node(directory.path(), address);
            of_node += 1;
        }
        std::thread::sleep(Duration::from_millis(20 + random.below(150)));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success(), "it has got over everything so far: {status}");
                ended = true;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                of_flow += 1;
            }
        }
    }
    let last = flow(address, orders).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (is_well, said) = finished(last);
    let seconds = begin.elapsed().as_secs_f64();
    println!("{of_node} kills of the node, {of_flow} of the processors in {seconds:.1} s\n{said}");
    assert!(is_well, "{said}");
    assert!(said.contains("each order has ended once, and money and stock add up"), "{said}");
    assert!(of_flow >= kills / 2, "only {of_flow} kills hit a run that wasn't at its end");
}
