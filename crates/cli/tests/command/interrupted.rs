//! Ctrl-C and SIGTERM: what was done counts, a summary says so, and the exit code is 130.

use crate::common::{Place, Running, lines, until};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

#[test]
fn an_interrupted_follower_says_how_many_it_wrote() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    let cases = [(&[][..], "-INT"), (&[], "-TERM"), (&["-g", "g"], "-INT"), (&["-g", "h"], "-TERM")];
    for (more, signal) in cases {
        let all: Vec<&str> = ["consume", "t", "--follow"].iter().chain(more).copied().collect();
        let mut running = Running(Some(place.command(&all).spawn().unwrap()));
        let out = running.0.as_mut().unwrap().stdout.take().unwrap();
        let mut seen = BufReader::new(out).lines();
        (0..3).for_each(|number| assert_eq!(seen.next().unwrap().unwrap(), format!("line {number}")));
        let answer = running.ends(signal);
        assert_eq!(answer.exit, Some(130), "{answer:?}");
        assert!(answer.err.contains("3 records"), "{answer:?}");
    }
    for group in ["g", "h"] {
        assert_eq!(place.run(&["group", "lag", group, "--format", "json"]).json()["total_lag"], 0);
    }
}

#[test]
fn an_interrupted_producer_has_stored_what_it_says() {
    let place = Place::with_topic(1);
    for (arguments, least) in [(&["produce", "t"][..], 10), (&["produce", "t", "--txn", "4"], 8)] {
        let before = place.records("t");
        let all: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
        let child = place.command(&all).stdin(Stdio::piped()).spawn().unwrap();
        let mut running = Running(Some(child));
        let mut stdin = running.0.as_mut().unwrap().stdin.take().unwrap();
        stdin.write_all(lines(0..10).as_bytes()).unwrap();
        until("it is stored", || place.records("t") == before + least);
        let answer = running.interrupt();
        assert_eq!(answer.exit, Some(130), "{answer:?}");
        assert_eq!((&answer.json()["records"], &answer.json()["interrupted"]), (&json!(least), &json!(true)));
        assert!(answer.err.contains(&format!("{least} records stored in t")), "{answer:?}");
        assert_eq!(place.records("t"), before + least);
        drop(stdin);
    }
}
