//! The earthquakes example, killed again and again: what it leaves behind is what an undisturbed run leaves, byte for
//! byte. The processes are real, so is the disk.
//!
//! Only kills between the first commit and the last count: something was committed before, and something after.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod built;
mod processes;

use exactlog::Log;
use exactlog_sim::rng::Random;
use processes::{Victim, each_record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How often the week is fed: long enough that a run survives some twenty kills.
const TIMES: u64 = 2;

/// The committed week of earthquakes.
fn week() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/exactlog/examples/data/earthquakes.jsonl")
}

/// What the example is given: a file that it can go back in, or a stream that it can't.
enum Input {
    Week,
    File(PathBuf),
    Stream(PathBuf),
}

fn command(data: &Path, input: &Input, durability: &str) -> Command {
    let mut command = Command::new(built::example("earthquakes"));
    command.arg("--data").arg(data).args(["--durability", durability, "--quiet", "--progress"]);
    match input {
        Input::Week => command.args(["--times", &TIMES.to_string()]),
        Input::File(path) => command.arg("--input").arg(path),
        Input::Stream(path) => command.args(["--input", "-"]).stdin(File::open(path).unwrap()),
    };
    command
}

fn commits(lines: &[String]) -> u64 {
    lines.iter().filter(|line| line.starts_with("commit ")).count() as u64
}

/// An undisturbed run; the number of its commits.
fn undisturbed(data: &Path, input: &Input) -> u64 {
    let done = command(data, input, "os").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines: Vec<String> = String::from_utf8(done.stdout).unwrap().lines().map(str::to_string).collect();
    commits(&lines)
}

/// Starts and kills until a run gets to its end; how many kills hit between the first commit and the last.
fn killed_until_done(data: &Path, input: &Input, durability: &str, random: &mut Random) -> u64 {
    let (mut hits, mut killed_since_commit, mut committed) = (0, 0, 0);
    for _ in 0..1000 {
        let mut victim = Victim::start(&mut command(data, input, durability));
        // Now and then not even opening is let through; else some commits are waited for.
        let wanted = if random.chance(1, 5) { 0 } else { 1 + random.below(40) };
        let mut seen = 0;
        while seen < wanted {
            let Some(line) = victim.line() else { break };
            seen += commits(&[line]);
        }
        let process = victim.id();
        let (rest, status) = victim.kill(random, Duration::from_millis(if wanted == 0 { 15 } else { 2 }));
        let new = seen + commits(&rest);
        committed += new;
        if new > 0 {
            // What was killed before this commit, and after an earlier one, was a hit.
            hits += std::mem::take(&mut killed_since_commit);
        }
        if status.success() {
            return hits;
        }
        assert_eq!(status.code(), None, "process {process} ended by itself, with an error: {rest:?}");
        killed_since_commit += u64::from(committed > 0);
    }
    panic!("no run of a thousand came to its end");
}

type Place = (String, u32, Option<Vec<u8>>);

/// Topic, partition and key; timestamps and values in their order. Rejects are stamped with the time of rejection,
/// which differs from run to run: 0 instead.
fn contents(data: &Path) -> BTreeMap<Place, Vec<(i64, Vec<u8>)>> {
    let log = Log::open(data).unwrap();
    let mut contents: BTreeMap<Place, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
    for topic in log.topics() {
        each_record(&log, &topic, |record| {
            let timestamp_ms = if topic.name() == "rejects" { 0 } else { record.timestamp_ms };
            let place =
                (topic.name().to_string(), record.partition, record.key.as_ref().map(|key| key.to_vec()));
            contents.entry(place).or_default().push((timestamp_ms, record.value().to_vec()));
        });
    }
    assert_eq!(log.lag("alerts", &log.open_topic("quakes").unwrap()), 0);
    contents
}

fn contents_of(contents: &BTreeMap<Place, Vec<(i64, Vec<u8>)>>, topic: &str) -> u64 {
    contents.iter().filter(|((name, _, _), _)| name == topic).map(|(_, values)| values.len() as u64).sum()
}

/// Compares without printing thousands of records.
fn assert_equal(found: &BTreeMap<Place, Vec<(i64, Vec<u8>)>>, wanted: &BTreeMap<Place, Vec<(i64, Vec<u8>)>>) {
    assert!(found.keys().eq(wanted.keys()), "keys differ");
    for (place, wanted) in wanted {
        let found = &found[place];
        let first = found.iter().zip(wanted).position(|(a, b)| a != b);
        assert!(first.is_none(), "{place:?}: record {first:?} differs");
        assert_eq!(found.len(), wanted.len(), "{place:?}");
    }
}

#[test]
fn a_run_that_is_killed_leaves_what_an_undisturbed_run_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let calm = directory.path().join("calm");
    let commits = undisturbed(&calm, &Input::Week);
    let wanted = contents(&calm);
    assert_is_the_week(&wanted);

    let (mut kills, mut rounds) = (0, 0);
    while kills < 60 || rounds < 4 {
        let mut random = Random::new(1000 + rounds);
        let data = directory.path().join(format!("killed {rounds}"));
        let durability = if rounds % 2 == 0 { "fsync" } else { "os" };
        kills += killed_until_done(&data, &Input::Week, durability, &mut random);
        assert_equal(&contents(&data), &wanted);
        std::fs::remove_dir_all(&data).unwrap();
        rounds += 1;
        assert!(rounds < 100, "{kills} kills hit in {rounds} rounds");
    }
    // Not by `println`: libtest would keep it to itself, and the number of kills is worth seeing.
    writeln!(
        std::io::stdout(),
        "earthquakes: {kills} kills in {rounds} runs of {commits} commits, no difference"
    )
    .unwrap();
}

/// The undisturbed run itself, against what the input says.
fn assert_is_the_week(contents: &BTreeMap<Place, Vec<(i64, Vec<u8>)>>) {
    let text = std::fs::read_to_string(week()).unwrap();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut events, mut alerts) = (0, 0);
    for line in text.lines() {
        let quake: serde_json::Value = serde_json::from_str(line).unwrap();
        let place = quake["place"].as_str().unwrap();
        *counts.entry(place.rsplit(',').next().unwrap().trim().to_string()).or_default() += TIMES;
        events += TIMES;
        alerts += if quake["mag"].as_f64().unwrap() >= 4.5 { TIMES } else { 0 };
    }
    let found = ["quakes", "alerts", "rejects", "counts"].map(|topic| contents_of(contents, topic));
    assert_eq!(found, [events, alerts, 0, events]);
    for (region, count) in counts {
        let key = Some(region.clone().into_bytes());
        let (_, running) =
            contents.iter().find(|((topic, _, k), _)| topic == "counts" && *k == key).expect("a count");
        let running: Vec<u64> = running
            .iter()
            .map(|(_, value)| {
                serde_json::from_slice::<serde_json::Value>(value).unwrap()["count"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(running, (1..=count).collect::<Vec<_>>(), "{region}");
    }
}

/// The week with a bad line behind every 40th; the reasons of the bad ones by line number.
fn with_bad_lines(path: &Path) -> BTreeMap<u64, &'static str> {
    let text = std::fs::read_to_string(week()).unwrap();
    let long = [b"{\"id\":\"", "x".repeat(2 << 20).as_bytes(), b"\"}"].concat();
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    let mut reasons = BTreeMap::new();
    let mut number = 0;
    for (index, line) in text.lines().enumerate() {
        number += 1;
        file.write_all(line.as_bytes()).unwrap();
        file.write_all(b"\n").unwrap();
        if index % 40 != 7 {
            continue;
        }
        let (reason, bytes): (&str, &[u8]) = match index / 40 % 8 {
            0 => ("EOF while parsing", &line.as_bytes()[..60]),
            1 => ("empty", b""),
            2 => ("not UTF-8", b"{\"id\":\"\xff\xfe\"}"),
            3 => ("missing field `mag`", b"{\"id\":\"a\",\"time_ms\":1,\"place\":\"b\"}"),
            4 => ("missing field `id`", b"{\"mag\":1.0,\"time_ms\":1,\"place\":\"b\"}"),
            5 => ("longer than", &long),
            6 => ("expected value", b"id;time_ms;mag;place"),
            _ => ("invalid type: null", b"{\"id\":\"a\",\"time_ms\":1,\"mag\":null,\"place\":\"b\"}"),
        };
        number += 1;
        file.write_all(bytes).unwrap();
        file.write_all(b"\n").unwrap();
        reasons.insert(number, reason);
    }
    file.into_inner().unwrap().sync_all().unwrap();
    reasons
}

#[test]
fn bad_lines_of_a_stream_are_set_aside_once_each_however_often_the_run_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let lines = directory.path().join("lines");
    let reasons = with_bad_lines(&lines);

    let calm = directory.path().join("calm");
    undisturbed(&calm, &Input::File(lines.clone()));
    let wanted = contents(&calm);
    let rejects = &wanted[&("rejects".to_string(), 0, None)];
    assert_eq!(rejects.len(), reasons.len());
    for ((_, value), (number, reason)) in rejects.iter().zip(&reasons) {
        assert!(value.len() < 1000, "only the beginning of a line is kept");
        let reject: serde_json::Value = serde_json::from_slice(value).unwrap();
        assert_eq!(reject["line"], *number, "{reject}");
        assert!(reject["reason"].as_str().unwrap().starts_with(reason), "{reject}");
        if *reason == "longer than" {
            assert_eq!(
                reject["bytes"],
                (2 << 20) + 10,
                "its length without the end of the line is 2 MiB and 9"
            );
        }
    }

    let mut random = Random::new(77);
    let data = directory.path().join("killed");
    let kills = killed_until_done(&data, &Input::Stream(lines), "fsync", &mut random);
    assert!(kills > 0);
    assert_equal(&contents(&data), &wanted);
}
