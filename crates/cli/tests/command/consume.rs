//! `consume`: which records, how they are written, and what a group commits.

use crate::common::{Place, lines};
use serde_json::{Value, json};

fn filled() -> Place {
    let place = Place::with_topic(1);
    let input: String =
        (0..10).map(|number| format!("k{number} line {number}@{}\n", 1000 + number)).collect();
    place.run_with(&["produce", "t", "-f", "%k %v@%d\\n"], input).good();
    place
}

#[test]
fn the_language_of_offsets() {
    let place = filled();
    for (offsets, from, to) in [
        ("start", 0, 10),
        ("end", 10, 10),
        (":end", 0, 10),
        ("+3", 3, 10),
        ("-3", 7, 10),
        ("4", 4, 10),
        ("4:", 4, 10),
        (":4", 0, 4),
        ("4:6", 4, 6),
        ("-4:end", 6, 10),
        ("99", 10, 10),
        ("5:99", 5, 10),
        ("@1970-01-01T00:00:01.005Z", 5, 10),
        ("@1970-01-01", 0, 10),
        ("@:1970-01-01T00:00:01.002Z", 0, 2),
        ("@1970-01-01T00:00:01.002Z:1970-01-01T00:00:01.004Z", 2, 4),
        ("@-1h", 10, 10),
    ] {
        let consumed = place.run(&["consume", "t", "-q", "-o", offsets]);
        assert_eq!(consumed.good(), lines(from..to), "{offsets}");
    }
    place.run(&["consume", "t", "-o", "middle"]).fails(2, "\"middle\" is no offset");
}

#[test]
fn formats_of_records() {
    let place = filled();
    let first = |arguments: &[&str]| {
        let all: Vec<&str> = ["consume", "t", "-n", "1"].iter().chain(arguments).copied().collect();
        place.run(&all).good()
    };
    assert_eq!(first(&[]), "line 0\n");
    assert_eq!(first(&["--format", "tsv"]), "t\t0\t0\t1000\tk0\tline 0\n");
    assert_eq!(first(&["-f", "%t[%p:%o] %k{base64}%%\\n"]), "t[0:0] azA=%\n");
    assert_eq!(first(&["--format", "wide"]), "t 0 0 1970-01-01T00:00:01.000Z k0 line 0\n");
    let envelope = json!({"topic": "t", "partition": 0, "offset": 0, "tstype": "create", "ts": 1000, "key": "k0",
                          "payload": "line 0"});
    for arguments in [["--format", "json"], ["--format", "jsonl"], ["-f", "json"]] {
        assert_eq!(serde_json::from_str::<Value>(&first(&arguments)).unwrap(), envelope);
    }
    assert!(first(&["--format", "yaml"]).starts_with("---\nkey: \"k0\"\n"));
    place.run(&["consume", "t", "-f", "%q"]).fails(2, "there is no token %q");
}

#[test]
fn grep_looks_at_keys_and_values_and_n_counts_what_is_written() {
    let place = filled();
    assert_eq!(place.run(&["consume", "t", "--grep", "line [357]$"]).good(), "line 3\nline 5\nline 7\n");
    assert_eq!(place.run(&["consume", "t", "--grep", "^k[89]", "-n", "1"]).good(), "line 8\n");
    place.run(&["consume", "t", "--grep", "("]).fails(2, "--grep");
}

#[test]
fn a_group_goes_on_exactly_behind_what_was_written() {
    let place = Place::with_topic(3);
    place
        .run_with(&["produce", "t", "-K", ":"], (0..1500).map(|n| format!("{n}:{n}\n")).collect::<String>())
        .good();
    let mut all: Vec<u32> = Vec::new();
    for number in ["1", "7", "777", "0", "600", "1000"] {
        let consumed = place.run(&["consume", "t", "-g", "g", "-n", number]).good();
        all.extend(consumed.lines().map(|line| line.parse::<u32>().unwrap()));
    }
    all.sort_unstable();
    assert_eq!(all, (0..1500).collect::<Vec<_>>());
    assert_eq!(place.run(&["group", "lag", "g", "--format", "json"]).json()["total_lag"], 0);
}

#[test]
fn where_a_new_group_begins() {
    let place = filled();
    assert_eq!(place.run(&["consume", "t", "-g", "new", "-o", "end"]).good(), "");
    assert_eq!(place.run(&["consume", "t", "-g", "old", "-o", "start"]).good(), lines(0..10));
    place.run(&["consume", "t", "-g", "g", "-o", "5"]).fails(2, "only -o start and -o end");
    place.run(&["consume", "t", "-g", "no name"]).fails(1, "is not legal");
    place.run(&["consume", "t", "-g", "g", "-p", "0"]).fails(2, "cannot be used with");
}

#[test]
fn several_topics_and_one_partition() {
    let place = Place::with_topic(2);
    place.run(&["topic", "create", "u"]).good();
    place.run_with(&["produce", "t", "-p", "0"], "t0\n").good();
    place.run_with(&["produce", "t", "-p", "1"], "t1\n").good();
    place.run_with(&["produce", "u"], "u0\n").good();
    assert_eq!(place.run(&["consume", "t", "u"]).good(), "t0\nt1\nu0\n");
    assert_eq!(place.run(&["consume", "t", "-p", "1"]).good(), "t1\n");
    place.run(&["consume", "t", "v"]).fails(1, "there is no topic \"v\"");
    place.run(&["consume", "t", "-p", "2"]).fails(1, "has no partition 2");
}

#[test]
fn tokens_of_the_batch_are_those_of_the_batch_that_a_record_is_in() {
    const FORMAT: &str = "%o %e %x %y %a{compression} %a{compression;number} %a{timestamp-type} \
                          %a{transactional-bit;bool} %a{control-bit}\\n";
    let place = Place::new();
    place.run(&["topic", "create", "t", "-c", "message.timestamp.type=LogAppendTime"]).good();
    let log = exactlog::Log::open(&place.data).unwrap();
    let t = log.open_topic("t").unwrap();
    let producer = log.producer("p").unwrap();
    let event = || exactlog::Event::unkeyed("again and again and again and again and again");
    producer.blocking_send(&t, event()).unwrap();
    drop(producer);
    let mut producer = log.producer("p").unwrap();
    producer.set_compression(exactlog::Compression::Gzip).unwrap();
    producer.blocking_send(&t, event()).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&t, event()).unwrap();
    transaction.send(&t, event()).unwrap();
    transaction.blocking_commit().unwrap();
    let batch = log.read_view().batch(&t, 0, 0).unwrap().unwrap();
    let (id, epoch) = (batch.producer.unwrap().0.0, batch.leader_epoch);
    drop(producer);
    log.close().unwrap();
    let expected = format!(
        "0 {epoch} {id} 0 none 0 1 false 0\n1 {epoch} {id} 1 gzip 1 1 false 0\n\
         2 {epoch} -1 -1 gzip 1 1 false 0\n3 {epoch} -1 -1 gzip 1 1 false 0\n"
    );
    assert_eq!(place.run(&["consume", "t", "-q", "-f", FORMAT]).good(), expected);
    assert_eq!(place.run(&["consume", "t", "-q", "-g", "g", "-f", FORMAT]).good(), expected);
    place.run(&["consume", "t", "-f", "%a{codec}"]).fails(2, "%a has no {codec}: compression");
}

#[test]
fn one_record_is_counted_in_the_singular() {
    let place = Place::with_topic(1);
    assert_eq!(place.run_with(&["produce", "t"], "a\n").err, "1 record stored in t\n");
    assert_eq!(place.run(&["consume", "t"]).err, "1 record\n");
    assert_eq!(place.run_with(&["produce", "t"], "b\nc\n").err, "2 records stored in t\n");
    let deleted = place.run(&["topic", "delete", "t"]).good();
    assert!(deleted.contains("with 3 records and positions of 0 groups"), "{deleted}");
    let added = place.run(&["topic", "add-partitions", "t", "-p", "1"]).good();
    assert!(added.contains("has 1 partition already"), "{added}");
}
