//! `serve`: what it says when it starts and can't, and how it ends. What its clients get is tested with the node.

use crate::common::{Answer, Place, Running};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ChildStdout;

/// A node on ports that are free, and the lines that it has printed so far.
pub(crate) struct Served {
    running: Running,
    out: std::io::Lines<BufReader<ChildStdout>>,
    lines: Vec<String>,
}

pub(crate) fn serve(place: &Place, more: &[&str]) -> Served {
    let all: Vec<&str> =
        ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"].iter().chain(more).copied().collect();
    let mut running = Running(Some(place.command(&all).spawn().unwrap()));
    let mut out = BufReader::new(running.0.as_mut().unwrap().stdout.take().unwrap()).lines();
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("bootstrap.servers=")) {
        lines.push(out.next().expect("it says where it listens").unwrap());
    }
    Served { running, out, lines }
}

impl Served {
    pub(crate) fn address(&self) -> &str {
        self.lines[0].rsplit(' ').next().unwrap()
    }

    /// Where health and metrics are.
    pub(crate) fn http(&self) -> &str {
        let behind = self.lines.iter().find_map(|line| line.split("http://").nth(1));
        behind.unwrap().split('/').next().unwrap()
    }

    /// Asks for ApiVersions, version 0: whether it is answered.
    fn answers(&self) -> bool {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        answer[4..] == [0, 0, 0, 7, 0, 0]
    }

    pub(crate) fn ends(mut self, signal: &str) -> (Option<i32>, String) {
        self.running.signal(signal);
        self.out.by_ref().for_each(drop);
        let output = self.running.0.take().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn it_serves_until_it_is_asked_to_end_and_again() {
    let place = Place::new();
    for (nth, signal) in ["-TERM", "-INT"].into_iter().enumerate() {
        let served = serve(&place, &["--dev"]);
        let opened = served
            .lines
            .iter()
            .any(|line| line.contains("opened at lsn") && line.contains("closed properly"));
        assert_eq!(opened, nth == 1, "{:?}", served.lines);
        assert!(served.answers(), "{:?}", served.lines);
        assert!(served.lines.iter().any(|line| line.contains("kcat -b 127.0.0.1:")), "{:?}", served.lines);
        let mut stream = TcpStream::connect(served.http()).unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (exit, err) = served.ends(signal);
        assert_eq!(exit, Some(0), "{err}");
        assert!(err.contains("node.stopping"), "{err}");
    }
    place.run(&["log", "verify"]).good();
}

#[test]
fn log_lines_are_objects_where_nobody_reads_them() {
    let place = Place::new();
    let served = serve(&place, &[]);
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.write_all(&[0xff; 8]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is cut off");
    let (_, err) = served.ends("-TERM");
    let lines: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended = lines.iter().find(|line| line["event"] == "connection.ended").expect("it is said");
    assert_eq!((&ended["level"], &ended["by_node"]), (&"info".into(), &true.into()));
    assert!(ended["ts"].as_str().unwrap().ends_with('Z') && ended["error"].is_string(), "{ended}");
}

fn refused(place: &Place, arguments: &[&str], exit: i32, text: &str) -> Answer {
    let all: Vec<&str> = ["serve"].iter().chain(arguments).copied().collect();
    let answer = place.run(&all);
    answer.fails(exit, text);
    answer
}

#[test]
fn where_it_cannot_serve_it_says_why_and_creates_nothing() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, http) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let answer = refused(&place, &["--listen", listen, "--http", http], 1, &address);
        assert!(answer.err.contains("--listen"), "{answer:?}");
    }
    let free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-X"];
    for (setting, text) in [
        ("num.partition=3", "num.partitions"),
        ("num.partitions=0", "1 to 100000"),
        ("advertised.listeners=nowhere", "HOST:PORT"),
        ("advertised.listeners=PLAINTEXT://a:1,PLAINTEXT://b:2", "HOST:PORT"),
        ("advertised.listeners=SASL_SSL://a:1", "HOST:PORT"),
        ("advertised.listeners=0.0.0.0:9092", "HOST:PORT"),
        ("retention.ms=1", "topic create --config"),
        ("listeners=PLAINTEXT://127.0.0.1:9092", "serve --listen ADDRESS:PORT"),
        ("log.dirs=/tmp/logs", "--data DIR"),
        ("fetch.max.bytes=99999999999999999999", "1024 to 2^64 - 1 bytes"),
    ] {
        refused(&place, &[&free[..], &[setting]].concat(), 2, text);
    }
    let twice = [&free[..], &["node.id=1", "-X", "node.id=2"]].concat();
    refused(&place, &twice, 2, "setting node.id is given twice");
    refused(&place, &["--listen", "127.0.0.1"], 2, "ADDRESS:PORT");
    assert!(!place.data.exists(), "nothing was created");
    let owner = serve(&place, &[]);
    let pid = owner.running.0.as_ref().unwrap().id().to_string();
    refused(&place, &free[..4], 3, &pid);
    assert!(owner.answers(), "who had it goes on");
    let file = place.data.join("LOCK/data");
    let answer = place.run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--data",
        file.to_str().unwrap(),
    ]);
    assert_eq!(answer.exit, Some(1), "a directory that can't be made: {answer:?}");
}

#[test]
fn settings_of_a_node_are_in_the_catalogue() {
    let place = Place::new();
    let listed = place.run(&["config", "list", "--format", "tsv"]).good();
    assert!(listed.contains("num.partitions\tnode"), "{listed}");
    let explained = place.run(&["config", "explain", "auto.create.topics.enable"]).good();
    assert!(explained.contains("serve -X auto.create.topics.enable=VALUE"), "{explained}");
    refused(&place, &["-X", "num.partitions=3", "--help"], 0, "");
    place.run(&["topic", "create", "t", "-X", "num.partitions=3"]).fails(2, "serve -X num.partitions=");
}

/// A client that doesn't take its answers may hold up the end; whoever is in a hurry asks twice.
#[test]
fn asked_twice_it_ends_at_once() {
    let place = Place::with_topic(1);
    let served = serve(&place, &[]);
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let hello = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff].repeat(1000);
    // Until neither side takes any more.
    let mut idle = 0;
    while idle < 20 {
        match stream.write(&hello) {
            Ok(written) if written > 0 => idle = 0,
            _ => {
                idle += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    served.running.signal("-TERM");
    crate::common::until("it is about to end", || TcpStream::connect(served.address()).is_err());
    let (exit, err) = served.ends("-TERM");
    assert_eq!(exit, Some(130), "{err}");
}
