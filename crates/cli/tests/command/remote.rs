//! `--bootstrap`: the verbs on a node that runs, and the same on its directory afterwards.

use crate::common::{Answer, Place, Running, lines, until};
use crate::dlq::with_dead_letters;
use crate::serve::{Served, serve};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// A node, and calls of the command on it.
struct Remote<'p> {
    place: &'p Place,
    served: Served,
}

impl Remote<'_> {
    fn serving(place: &Place) -> Remote<'_> {
        Remote { place, served: serve(place, &["-X", "group.initial.rebalance.delay.ms=0"]) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.env_remove("EXACTLOG_DATA").env("EXACTLOG_BOOTSTRAP", self.served.address());
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).output().unwrap())
    }

    fn run_with(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Answer {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
        Answer::of(child.wait_with_output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--format", "json"]].concat()).json()
    }

    /// The node ends; what the directory answers to the same verbs.
    fn stopped_says(self, verbs: &[&[&str]]) -> Vec<String> {
        let (exit, err) = self.served.ends("-TERM");
        assert_eq!(exit, Some(0), "{err}");
        verbs.iter().map(|verb| self.place.run(verb).good()).collect()
    }
}

#[test]
fn topics_are_made_shown_changed_and_deleted_as_in_a_directory() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    assert_eq!(remote.run(&["topic", "list"]).good(), "no topics\n");
    let made = remote.json(&["topic", "create", "a", "b", "-p", "3", "-c", "retention.ms=7d"]);
    let row =
        |topic: &str, status: &str| json!({"topic": topic, "status": status, "error": null, "message": null});
    assert_eq!(made, json!({"dry_run": false, "topics": [row("a", "created"), row("b", "created")]}));
    let again = remote.json(&["topic", "create", "a", "-p", "3", "-c", "retention.ms=7d"]);
    assert_eq!(again["topics"], json!([row("a", "existed")]));
    let other = remote.run(&["topic", "create", "a", "-p", "4", "--format", "json"]);
    assert_eq!((other.exit, &other.json()["topics"][0]["error"]), (Some(1), &json!("REFUSED")));
    let another = ["topic", "create", "a", "-p", "4", "-c", "retention.ms=2d"];
    let another = remote.json(&another)["topics"][0]["message"].clone();
    let different = "partitions is 3, not 4, retention.ms is 604800000, not 172800000";
    assert_eq!(another, format!("topic \"a\" exists with other settings: {different}"));
    remote.run(&["topic", "create", "c:d"]).fails_in_row("ILLEGAL_NAME");
    assert_eq!(
        remote.json(&["topic", "create", "new", "--dry-run"])["topics"][0]["status"],
        "would be created"
    );

    let altered = remote.json(&["topic", "alter", "a", "-c", "retention.ms=1d"]);
    assert_eq!(altered["topics"][0]["status"], "altered: retention.ms from 604800000 to 86400000");
    let grown = remote.json(&["topic", "add-partitions", "a", "-p", "4"]);
    assert_eq!(grown["topics"][0]["status"], "has 4 partitions instead of 3");
    assert!(
        remote.run(&["topic", "add-partitions", "a", "-p", "2"]).exit == Some(1),
        "none can be taken away"
    );

    remote.run_with(&["produce", "a", "-p", "1"], lines(0..10)).good();
    let dry = remote.json(&["topic", "trim", "a", "-p", "1", "--to", "+4"]);
    assert_eq!((&dry["total_records_removed"], &dry["dry_run"]), (&json!(4), &json!(true)));
    remote.run(&["topic", "trim", "a", "-p", "1", "--to", "+4", "--execute"]).good();
    assert_eq!(remote.json(&["topic", "describe", "a"])["partitions"][1]["start_offset"], 4);

    assert!(
        remote.json(&["topic", "delete", "b"])["topics"][0]["status"].as_str().unwrap().starts_with("would")
    );
    assert_eq!(remote.json(&["topic", "delete", "b", "--execute"])["topics"], json!([row("b", "deleted")]));
    remote.run(&["topic", "describe", "b"]).fails(1, "there is no topic \"b\"");

    let (list, wide): (&[&str], &[&str]) = (&["topic", "list"], &["topic", "list", "--format", "wide"]);
    let (listed, all) = (remote.run(list).good(), remote.run(wide).good());
    let mut described = remote.json(&["topic", "describe", "a"]);
    let directory = remote.stopped_says(&[list, wide, &["topic", "describe", "a", "--format", "json"]]);
    assert_eq!((listed, all), (directory[0].clone(), directory[1].clone()));
    let mut of_directory: Value = serde_json::from_str(&directory[2]).unwrap();
    for looked_at in ["crowded_groups", "hot_keys", "looked_at_records", "left_out_partitions"] {
        assert_eq!(described[looked_at].take(), Value::Null);
        assert!(!of_directory[looked_at].take().is_null(), "{looked_at}");
    }
    for described in [&mut described, &mut of_directory] {
        // A node tells the epoch that the next record gets.
        described["partitions"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|it| drop(it["leader_epoch"].take()));
    }
    assert_eq!(described, of_directory);
}

/// What is told of 9,367 partitions at once is more than is taken of one answer, so it is asked for in pieces. It was
/// not: of a topic that the node had made gladly `topic list` showed an error and nothing else.
#[test]
fn a_topic_of_ten_thousand_partitions_is_shown_as_any_other() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "w", "-p", "10000"]).good();
    remote.run_with(&["produce", "w", "-p", "9999"], lines(0..3)).good();
    let listed = remote.run(&["topic", "list", "--format", "tsv"]).good();
    assert!(listed.starts_with("w\t10000\t3\t"), "{listed}");
    let described = remote.json(&["topic", "describe", "w"]);
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!((partitions.len(), &partitions[9999]["end_offset"]), (10_000, &json!(3)));
    assert!(
        partitions.iter().zip(0..).all(|(it, index)| it["partition"] == index),
        "each once, in their order"
    );
    let seek = ["group", "seek", "g", "--to", "0", "--topic", "w", "-p", "9999", "--new", "--execute"];
    remote.run(&seek).good();
    assert_eq!(remote.json(&["group", "lag", "g"])["total_lag"], 3);
    assert_eq!(remote.json(&["group", "describe", "g"])["positions"].as_array().unwrap().len(), 10_000);
}

#[test]
fn records_are_the_same_over_the_wire() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    let stored = remote
        .run_with(&["produce", "t", "-K", ":", "-H", "from:here", "--format", "json"], "a:1\nb:2\nc:3\n");
    let stored = stored.json();
    assert_eq!((&stored["records"], &stored["already_stored"]), (&json!(3), &json!(0)));
    let ranges = stored["stored"].as_array().unwrap();
    assert_eq!(ranges.iter().map(|range| range["records"].as_u64().unwrap()).sum::<u64>(), 3);
    remote.run_with(&["produce", "t", "-p", "1"], lines(0..300)).good();
    remote.run_with(&["produce", "t", "-p", "2"], "x\n").fails(1, "partition 2");
    remote.run_with(&["produce", "nowhere"], "x\n").fails(1, "there is no topic \"nowhere\"");

    let verbs: [&[&str]; 7] = [
        &["consume", "t", "-f", "%t %p %o %k %v %h{%k=%v} %[ %| %x %a{compression}\\n"],
        &["consume", "t", "--format", "json"],
        &["consume", "t", "--format", "tsv", "-o", "-5"],
        &["consume", "t", "-p", "1", "-o", "100:120"],
        &["consume", "t", "-p", "1", "-o", "@-1h", "-n", "7"],
        &["consume", "t", "--grep", "line 2[0-9]$"],
        &["consume", "t", "-p", "0", "-o", ":end"],
    ];
    let answers: Vec<String> = verbs.iter().map(|verb| remote.run(verb).good()).collect();
    assert_eq!(answers[3].lines().count(), 20);
    let follows = remote.command(&["consume", "t", "-o", "end", "--follow", "-n", "1"]).spawn().unwrap();
    let mut follows = Running(Some(follows));
    // It says nothing when it has begun, so it is sent until something has come.
    until("what follows sees something new", || {
        remote.run_with(&["produce", "t", "-p", "0"], "news\n").good();
        follows.0.as_mut().unwrap().try_wait().unwrap().is_some()
    });
    let output = follows.0.take().unwrap().wait_with_output().unwrap();
    assert_eq!(Answer::of(output).good(), "news\n");
    let place = remote.place;
    let (exit, err) = remote.served.ends("-TERM");
    assert_eq!(exit, Some(0), "{err}");
    for (verb, answer) in verbs.iter().zip(answers) {
        let now = place.run(verb).good();
        let now: Vec<&str> = now.lines().filter(|line| !line.contains("news")).collect();
        match verb.contains(&"-5") || verb.contains(&"%t %p %o %k %v %h{%k=%v} %[ %| %x %a{compression}\\n") {
            // They tell where the end is, which has moved.
            true => assert!(!answer.is_empty() && !now.is_empty()),
            false => assert_eq!(answer.lines().collect::<Vec<_>>(), now, "{verb:?}"),
        }
    }
}

/// Killed anywhere and started again with the same input, each record is there once.
#[test]
fn a_transactional_producer_goes_on_where_it_was() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    let input = lines(0..1000);
    let part: String = input.lines().take(300).map(|line| format!("{line}\n")).collect();
    let first = remote.run_with(&["produce", "t", "--txn", "100", "--format", "json"], &part).json();
    assert_eq!((&first["records"], &first["already_stored"]), (&json!(300), &json!(0)));
    let rest = remote.run_with(&["produce", "t", "--txn", "100", "--format", "json"], &input).json();
    assert_eq!((&rest["records"], &rest["already_stored"]), (&json!(700), &json!(300)));
    remote.run_with(&["produce", "t", "--txn", "100"], "another\n").fails(1, "another input");

    // One that is killed while its input is open.
    let killed = remote.command(&["produce", "t", "--txn", "10", "--txn-id", "killed"]);
    let mut killed = Running(Some({ killed }.stdin(Stdio::piped()).spawn().unwrap()));
    let mut stdin = killed.0.as_mut().unwrap().stdin.take().unwrap();
    stdin.write_all(lines(1000..1025).as_bytes()).unwrap();
    until("it has committed two", || remote.json(&["topic", "describe", "t"])["total_records"] == 1020);
    killed.kill();
    remote.run_with(&["produce", "t", "--txn", "10", "--txn-id", "killed"], lines(1000..1040)).good();

    let mut values: Vec<String> = remote.run(&["consume", "t"]).good().lines().map(String::from).collect();
    values.sort();
    let mut expected: Vec<String> = lines(0..1040).lines().map(String::from).collect();
    expected.sort();
    assert_eq!(values, expected, "each once");
    let ids = remote.run(&["txn", "list", "--format", "tsv"]).good();
    assert!(ids.contains("killed\tCompleteCommit"), "{ids}");
    assert!(ids.contains("produce-t\tEmpty"), "it was begun anew, with another input: {ids}");
    let described = remote.json(&["topic", "describe", "t"]);
    let directory =
        remote.stopped_says(&[&["topic", "describe", "t", "--format", "json"], &["consume", "t"]]);
    let of_directory: Value = serde_json::from_str(&directory[0]).unwrap();
    assert_eq!(described["total_records"], 1040, "no marker counts");
    assert_eq!(described["total_records"], of_directory["total_records"]);
}

#[test]
fn groups_read_commit_are_shown_and_moved() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    assert_eq!(remote.run(&["group", "list"]).good(), "no groups\n");
    // Markers lie behind the last record of each partition.
    remote.run_with(&["produce", "t", "-p", "0", "--txn", "5"], lines(0..10)).good();
    remote.run_with(&["produce", "t", "-p", "1", "--txn", "2", "--txn-id", "other"], lines(10..14)).good();
    let six = remote.run(&["consume", "t", "-g", "g", "-n", "6"]).good();
    assert_eq!(six.lines().count(), 6);
    assert_eq!(remote.json(&["group", "lag", "g"])["total_lag"], 8);
    let over = remote.run(&["group", "lag", "g", "--limit", "7", "--format", "json"]);
    assert_eq!((over.exit, &over.json()["over_limit"]), (Some(4), &json!(["g"])));
    let rest = remote.run(&["consume", "t", "-g", "g"]).good();
    let mut all: Vec<&str> = six.lines().chain(rest.lines()).collect();
    all.sort_unstable();
    let expected = lines(0..14);
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort_unstable();
    assert_eq!(all, expected, "each once: what was committed isn't read again");

    let described = remote.json(&["group", "describe", "g"]);
    assert_eq!(described["total_lag"], 0, "caught up, whatever markers there are: {described}");
    assert!(described["positions"].as_array().unwrap().iter().all(|it| it["lag_seconds"] == 0.0));
    remote.run(&["group", "describe", "G"]).fails(1, "did you mean \"g\"?");
    let dry = remote.json(&["group", "seek", "g", "--to", "start", "-p", "0", "--topic", "t"]);
    assert_eq!((&dry["dry_run"], &dry["positions"][0]["new_offset"]), (&json!(true), &json!(0)));
    remote.run(&["group", "seek", "g", "--to", "start", "-p", "0", "--topic", "t", "--execute"]).good();
    remote.run(&["group", "seek", "h", "--to", "-1", "--topic", "t", "--new", "--execute"]).good();
    remote
        .run(&["group", "seek", "nobody", "--to", "end", "--execute"])
        .fails(1, "there is no group \"nobody\"");
    let lags = ["group", "lag", "--format", "json"];
    let described = ["group", "describe", "g", "--format", "json"];
    let (lag, mut g) = (remote.run(&lags).json(), remote.run(&described).json());
    let directory = remote.stopped_says(&[&lags, &described]);
    let mut of_directory: Value = serde_json::from_str(&directory[0]).unwrap();
    // Time goes on.
    let mut lag = lag;
    for lag in [&mut lag, &mut of_directory] {
        lag["lags"].as_array_mut().unwrap().iter_mut().for_each(|it| drop(it["lag_seconds"].take()));
    }
    assert_eq!(lag, of_directory);
    let mut of_directory: Value = serde_json::from_str(&directory[1]).unwrap();
    for described in [&mut g, &mut of_directory] {
        for it in described["positions"].as_array_mut().unwrap() {
            it["lag_seconds"].take();
            // Kafka's protocol doesn't tell it.
            it["committed_at_ms"].take();
        }
    }
    assert_eq!(g, of_directory);
}

/// Records before the committed position are gone: it says so, and goes on where there are some.
#[test]
fn a_group_whose_position_was_trimmed_reads_what_is_left() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "1"]).good();
    remote.run_with(&["produce", "t"], lines(0..10)).good();
    assert_eq!(remote.run(&["consume", "t", "-g", "g", "-n", "2"]).good(), lines(0..2));
    remote.run(&["topic", "trim", "t", "--to", "6", "--execute"]).good();
    let answer = remote.run(&["consume", "t", "-g", "g"]);
    assert_eq!((answer.exit, &*answer.out), (Some(0), &*lines(6..10)), "{answer:?}");
    assert!(answer.err.contains("offset 2 isn't there, goes on at 6"), "{answer:?}");
    assert_eq!(remote.json(&["group", "lag", "g"])["total_lag"], 0);
}

/// A batch ends before it is longer than the topic takes, whatever comes behind the records in it.
#[test]
fn records_of_every_length_that_a_topic_takes_are_sent() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "1"]).good();
    let input = lines(0..10_000) + &"x".repeat(1_000_000) + "\n" + &lines(10_000..10_010);
    remote.run_with(&["produce", "t"], &input).good();
    remote.run_with(&["produce", "t", "--txn", "20000"], &input).good();
    assert_eq!(remote.run(&["consume", "t", "-q"]).good(), input.clone() + &input);
    remote.run(&["topic", "create", "small", "-p", "1", "-c", "max.message.bytes=2000"]).good();
    remote.run_with(&["produce", "small"], lines(0..1_000)).good();
    assert_eq!(remote.run(&["consume", "small", "-q"]).good(), lines(0..1_000));
}

/// The second one gets what the first gives back, and doesn't take that it has nothing yet for the end.
#[test]
fn a_second_member_waits_for_its_part() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    let first = Running(Some(remote.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap()));
    until("the first has both partitions", || {
        remote.json(&["group", "describe", "g"])["members"][0]["partitions"] == json!(2)
    });
    remote.run_with(&["produce", "t", "-p", "0"], lines(0..3)).good();
    remote.run_with(&["produce", "t", "-p", "1"], lines(3..6)).good();
    until("it has read them", || remote.json(&["group", "lag", "g"])["total_lag"] == json!(0));
    let second = Running(Some(remote.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap()));
    until("each has one", || {
        let described = remote.json(&["group", "describe", "g"]);
        let members = described["members"].as_array().unwrap();
        members.len() == 2 && members.iter().all(|it| it["partitions"] == json!(1))
    });
    remote.run_with(&["produce", "t", "-p", "0"], lines(6..9)).good();
    remote.run_with(&["produce", "t", "-p", "1"], lines(9..12)).good();
    until("both have read theirs", || remote.json(&["group", "lag", "g"])["total_lag"] == json!(0));
    let (one, other) = (first.interrupt().out, second.interrupt().out);
    assert_eq!((one.lines().count(), other.lines().count()), (9, 3), "{one:?} {other:?}");
}

/// As service managers end it. It was ended at once then, and its partitions had nobody until its session was over.
#[test]
fn a_member_that_is_terminated_leaves_its_group() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "1"]).good();
    remote.run_with(&["produce", "t"], lines(0..3)).good();
    let reads = remote.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap();
    let reads = Running(Some(reads));
    until("it has read what there is", || {
        let lag = remote.run(&["group", "lag", "g", "--format", "json"]);
        lag.exit == Some(0) && lag.json()["total_lag"] == 0
    });
    let answer = reads.ends("-TERM");
    assert_eq!((answer.exit, answer.out), (Some(130), lines(0..3)), "{}", answer.err);
    assert_eq!(remote.json(&["group", "describe", "g"])["members"], json!([]));
}

#[test]
fn a_group_with_members_is_shown_with_them_and_left_alone() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    remote.run_with(&["produce", "t", "-p", "1"], lines(0..3)).good();
    let reads = remote.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap();
    let reads = Running(Some(reads));
    until("it has read what there is", || {
        let lag = remote.run(&["group", "lag", "g", "--format", "json"]);
        lag.exit == Some(0) && lag.json()["total_lag"] == 0
    });
    let described = remote.json(&["group", "describe", "g"]);
    let member = &described["members"][0];
    assert_eq!((&member["topics"], &member["partitions"]), (&json!(["t"]), &json!(2)), "{described}");
    assert!(
        described["positions"].as_array().unwrap().iter().all(|it| it["member_id"] == member["member_id"])
    );
    remote.run(&["group", "seek", "g", "--to", "start", "--execute"]).fails(1, "is active: 1 member");
    remote.run(&["group", "delete", "g", "--execute"]).fails_in_row("GROUP_ACTIVE");
    let answer = reads.interrupt();
    assert_eq!((answer.exit, answer.out.lines().count()), (Some(130), 3), "{answer:?}");
    let forgotten = remote.json(&["group", "delete-offsets", "g", "--topic", "t", "-p", "1", "--execute"]);
    assert_eq!(forgotten["positions"][0]["prior_offset"], 3);
    assert_eq!(remote.json(&["group", "describe", "g"])["positions"], json!([]), "it has no position left");
    assert_eq!(remote.json(&["group", "delete", "g", "--execute"])["groups"][0]["status"], "deleted");
    assert_eq!(remote.run(&["group", "list"]).good(), "no groups\n");
}

/// A transaction that its producer has left open: readers wait for it, until somebody aborts it.
#[test]
fn a_transaction_that_hangs_is_found_and_aborted() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t"]).good();
    let open = exactlog_left_open(remote.served.address());
    assert_eq!(remote.run(&["consume", "t"]).good(), "", "it isn't committed");
    assert_eq!(remote.run(&["consume", "t", "--uncommitted"]).good(), "left\n");
    assert_eq!(remote.run(&["txn", "find-hanging"]).exit, Some(0), "its producer may go on");
    let hanging = remote.run(&["txn", "find-hanging", "t", "--over", "0s", "--format", "json"]);
    assert_eq!(hanging.exit, Some(4), "{hanging:?}");
    let row = &hanging.json()["hanging"][0];
    assert_eq!((&row["transactional_id"], &row["producer_id"]), (&json!("open"), &json!(open.0)));
    let described = remote.json(&["txn", "describe", "open"]);
    let row = &described["transactions"][0];
    assert_eq!((&row["state"], &row["partitions"]), (&json!("Ongoing"), &json!(["t-0"])));
    let producers = remote.json(&["txn", "producers", "t"]);
    assert_eq!(producers["producers"][0]["transaction_start_offset"], 0);
    remote.run(&["txn", "describe", "opne"]).fails(1, "did you mean \"open\"?");
    assert_eq!(remote.json(&["txn", "abort", "open"])["dry_run"], true);
    assert_eq!(remote.json(&["txn", "describe", "open"])["transactions"][0]["state"], "Ongoing");
    let aborted = remote.json(&["txn", "abort", "open", "--execute"]);
    assert_eq!(aborted["transactions"][0]["producer_epoch"], open.1 + 1, "{aborted}");
    assert_eq!(remote.run(&["txn", "find-hanging", "--over", "0s"]).exit, Some(0));
    assert_eq!(remote.run(&["consume", "t"]).good(), "");
    let verbs: [&[&str]; 4] = [
        &["txn", "list", "--format", "json"],
        &["txn", "describe", "open", "--format", "json"],
        &["txn", "producers", "t", "--format", "json"],
        &["consume", "t", "--uncommitted"],
    ];
    let answers: Vec<String> = verbs.iter().map(|verb| remote.run(verb).good()).collect();
    assert_eq!(answers, remote.stopped_says(&verbs));
    assert_eq!(place.run(&["txn", "find-hanging"]).exit, Some(0));
    place.run(&["txn", "abort", "open", "--execute"]).good();
}

/// Producer id and epoch of a transactional producer that has gone, with a record in an open transaction.
fn exactlog_left_open(address: &str) -> (i64, i64) {
    use exactlog::wire::{BatchBuilder, ProducerStamp};
    use exactlog_client::{Connection, Options};
    use exactlog_wire::messages::{InitProducerId, Produce, init_producer_id, produce};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = Connection::connect(address, Options::default()).await.unwrap();
        let request = init_producer_id::Request {
            transactional_id: Some("open".into()),
            transaction_timeout_ms: 600_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let given = node.ask::<InitProducerId>(&request).await.unwrap();
        let (id, epoch) = (given.producer_id, given.producer_epoch);
        let mut builder = BatchBuilder::new(64);
        builder.append(1000, None, Some(b"left"), &[]);
        let stamp = ProducerStamp { id: exactlog::ProducerId(id), epoch, base_sequence: 0 };
        let batch = builder.finish(Some(stamp)).in_transaction();
        let records = exactlog::Bytes::from([&batch.header()[..], batch.body()].concat());
        let request = produce::Request {
            transactional_id: Some("open".into()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![produce::TopicProduceData {
                name: "t".into(),
                partition_data: vec![produce::PartitionProduceData {
                    index: 0,
                    records: Some(records.into()),
                }],
                ..Default::default()
            }],
        };
        // By version 12 the batch brings its partition into the transaction (KIP-890).
        let placed = node.ask_at::<Produce>(12, &request).await.unwrap();
        assert_eq!(placed.responses[0].partition_responses[0].error_code, 0, "{placed:?}");
        (id, epoch.into())
    })
}

#[test]
fn what_a_node_cannot_be_asked_for_says_so_before_anything_is_done() {
    let place = Place::new();
    // Nobody is asked: nothing listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let verbs: [&[&str]; 4] = [
        &["topic", "compact", "t"],
        &["topic", "repartition", "t", "--into", "u", "-p", "2"],
        &["log", "verify"],
        &["doctor"],
    ];
    for verb in verbs {
        let answer = place.run(&[verb, &["-b", &nobody]].concat());
        answer.fails(2, &verb[0..1].concat());
        assert!(answer.err.contains("--data"), "{answer:?}");
        assert_eq!(
            answer.err.lines().next().unwrap().matches("can't be had of a node").count(),
            1,
            "{answer:?}"
        );
    }
    let others = [&["dlq", "list"][..], &["dedup", "stats"], &["group", "limits"], &["table", "list"]];
    let asked = [&["topic", "list"][..], &["consume", "t"], &["group", "lag"], &["txn", "list"]];
    for verb in asked.into_iter().chain(others) {
        place.run(&[verb, &["-b", &nobody]].concat()).fails(3, &nobody);
    }
    place.run(&["topic", "list", "-b", "nowhere"]).fails(2, "HOST:PORT");
    place.run(&["topic", "list", "-b", &nobody, "--data", "x"]).fails(2, "--bootstrap");
    place.run(&["topic", "list", "-b", &nobody, "-X", "durability=os"]).fails(2, "serve -X");
    // What the command line says goes before the environment; of the environment alone it has to be clear.
    let both = place.command(&["topic", "list"]).env("EXACTLOG_BOOTSTRAP", &nobody).output().unwrap();
    Answer::of(both).fails(2, "EXACTLOG_BOOTSTRAP");
    let data = place.data.to_str().unwrap();
    let said = place.command(&["topic", "list", "--data", data]).env("EXACTLOG_BOOTSTRAP", &nobody).output();
    Answer::of(said.unwrap()).fails(3, "there is no log in");
    assert!(!place.data.exists());
}

/// Both kinds of connections: that of Kafka's protocol, and that of exactlog's own.
const OVER_BOTH: [&[&str]; 8] = [
    &["topic", "list"],
    &["consume", "t"],
    &["group", "lag"],
    &["txn", "list"],
    &["table", "list"],
    &["dlq", "list"],
    &["dedup", "stats"],
    &["timer", "list"],
];

/// The system takes the connections, as those of a process that is stopped. Without `--timeout` an answer is waited for
/// as long as ever, 30 s; with it that was so as well.
#[test]
fn a_node_that_says_nothing_is_waited_for_as_long_as_timeout_says() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for verb in OVER_BOTH {
        let answer = place.run(&[verb, &["-b", &address, "--timeout", "200ms"]].concat());
        answer.fails(3, "hasn't answered");
        assert!(answer.err.contains("within 200ms") && answer.err.contains(&address), "{answer:?}");
        assert!(answer.err.contains("hint: somebody listens there"), "{answer:?}");
    }
}

#[test]
fn who_speaks_something_else_than_a_node_is_named_by_it() {
    let place = Place::new();
    let served = serve(&place, &[]);
    let alert: &[u8] = &[0x15, 3, 3, 0, 2, 2, 70];
    let encrypted = TcpListener::bind("127.0.0.1:0").unwrap();
    let wants_tls = encrypted.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in encrypted.incoming() {
            let mut stream = stream.unwrap();
            // Bytes that nobody has read when a connection ends would break it.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(alert);
        }
    });
    for (address, text, hint) in [(served.http(), "HTTP", "--listen"), (&*wants_tls, "TLS", "PLAINTEXT")] {
        for verb in OVER_BOTH {
            // Nobody becomes a node by being waited for.
            let answer = place.run(&[verb, &["-b", address, "--timeout", "1h"]].concat());
            answer.fails(3, &format!("answers in {text}, not in Kafka's protocol"));
            assert!(answer.err.contains(address) && answer.err.contains(hint), "{answer:?}");
        }
    }
}

#[test]
fn a_node_is_measured_and_left_as_it_was() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    for what in ["produce", "consume", "e2e", "txn"] {
        let measured = remote.json(&["bench", what, "--calls", "5", "--events", "200"]);
        assert!(measured["events_per_second"].as_u64().unwrap() > 0, "{what}: {measured}");
        assert!(measured["latency_us"]["max"].as_u64().unwrap() > 0, "{what}: {measured}");
    }
    let left = remote.run(&["topic", "list", "--format", "tsv"]).good();
    // Cursors have a topic of their own, and the node has one as soon as a coordinator was looked for. Both are empty.
    let kept = ["__consumer_offsets\t1\t0\t", "exactlog.cursors\t1\t0\t"];
    assert!(left.lines().all(|line| kept.iter().any(|kept| line.starts_with(kept))), "{left}");
    place.run(&["bench", "produce"]).fails(2, "--bootstrap");
}

/// A list of all topics doesn't read all that they have: it says so where it reckons.
#[test]
fn records_are_counted_one_by_one_as_far_as_that_is_worth_it() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t"]).good();
    let line = format!("{}\n", "x".repeat(100_000));
    remote.run_with(&["produce", "t", "--txn", "10"], line.repeat(30)).good();
    let listed = remote.run(&["topic", "list", "--format", "tsv"]).good();
    let records: u64 =
        listed.lines().find_map(|row| row.strip_prefix("t\t1\t")?.split('\t').next()?.parse().ok()).unwrap();
    assert!((31..=33).contains(&records), "of three markers those at the end count: {listed}");
    assert!(remote.run(&["topic", "list"]).good().contains("counted by offsets"));
    let described = remote.run(&["topic", "describe", "t"]).good();
    assert!(!described.contains("counted by offsets"), "{described}");
    assert_eq!(remote.json(&["topic", "describe", "t"])["total_records"], 30);
    remote.run(&["group", "seek", "g", "--to", "start", "--topic", "t", "--new", "--execute"]).good();
    assert_eq!(remote.json(&["group", "lag", "g"])["total_lag"], 30);
}

/// What processors keep is asked of a node over a connection of its own, and answered as its directory answers.
#[test]
fn dead_letters_ids_timers_and_tables_of_a_node_are_those_of_its_directory() {
    let place = with_dead_letters();
    place.run_with(&["produce", "orders", "--deliver-after", "7d"], "in a week\n").good();
    let verbs: &[&[&str]] = &[
        &["dlq", "show", "dlq.orders", "--format", "json"],
        &["dedup", "limits", "--format", "tsv"],
        &["table", "scan", "flow.billing", "--format", "tsv"],
        &["retry", "list", "billing", "--format", "tsv"],
        &["saga", "list", "--format", "tsv"],
        &["group", "limits", "--format", "tsv"],
    ];
    let remote = Remote::serving(&place);
    assert_eq!(remote.json(&["timer", "list"])["timers"].as_array().unwrap().len(), 1);
    let said: Vec<String> = verbs.iter().map(|verb| remote.run(verb).good()).collect();
    assert_eq!(remote.stopped_says(verbs), said);
}

#[test]
fn dead_letters_of_a_node_are_put_back_once_and_timers_are_given_up() {
    let place = with_dead_letters();
    place.run_with(&["produce", "orders", "--deliver-after", "7d"], "in a week\n").good();
    let remote = Remote::serving(&place);
    let redrive = ["dlq", "redrive", "dlq.orders"];
    let would = remote.json(&redrive);
    assert_eq!((&would["dry_run"], &would["entries"]), (&json!(true), &json!(3)), "{would}");
    let execute = [&redrive[..], &["--execute"]].concat();
    assert_eq!(remote.json(&execute)["entries"], 3);
    assert_eq!(remote.json(&execute)["entries"], 0, "each is put back once");
    remote.run(&["timer", "cancel", "1", "--execute"]).good();
    assert_eq!(remote.json(&["timer", "list"])["timers"], json!([]));
    remote.run(&["dedup", "limits", "--ttl", "1d"]).good();
    let says = remote.stopped_says(&[&["dedup", "limits", "--format", "json"]]);
    assert!(says[0].contains("86400"), "{}", says[0]);
}

/// Two feeds at once, which overlap: neither fences the other, and each id is in the topic once.
#[test]
fn each_event_of_feeds_to_a_node_is_stored_once() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "3"]).good();
    let feed = |range: std::ops::Range<u32>| -> String {
        range.map(|number| format!("{{\"id\":\"event-{number}\"}}\n")).collect()
    };
    let arguments = ["produce", "t", "--event-id", "id", "--format", "json"];
    let mut first = remote.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    first.stdin.as_mut().unwrap().write_all(feed(0..100).as_bytes()).unwrap();
    let total = || remote.json(&["topic", "describe", "t"])["total_records"].as_u64().unwrap();
    until("the first feed is stored", || total() == 100);
    let second = remote.run_with(&arguments, feed(50..130)).json();
    assert_eq!((&second["records"], &second["already_stored"]), (&json!(30), &json!(50)));
    first.stdin.as_mut().unwrap().write_all(feed(120..140).as_bytes()).unwrap();
    let first = Answer::of(first.wait_with_output().unwrap()).json();
    assert_eq!((&first["records"], &first["already_stored"]), (&json!(110), &json!(10)));
    assert_eq!(total(), 140);
    for (answer, records) in [(first, 110), (second, 30)] {
        let of = |range: &Value| range["records"].as_u64().unwrap();
        let ranges = answer["stored"].as_array().unwrap();
        assert_eq!(ranges.iter().map(of).sum::<u64>(), records, "of this feed alone: {ranges:?}");
    }
}

#[test]
fn events_for_later_are_handed_to_a_node_and_come_once() {
    let place = Place::new();
    let remote = Remote::serving(&place);
    remote.run(&["topic", "create", "t", "-p", "2"]).good();
    let later = ["produce", "t", "--deliver-after", "7d", "--txn", "2", "--format", "json"];
    let set = remote.run_with(&later, lines(0..3)).json();
    assert_eq!((&set["records"], &set["first_timer"], &set["last_timer"]), (&json!(3), &json!(1), &json!(3)));
    let again = remote.run_with(&later, lines(0..4)).json();
    assert_eq!((&again["records"], &again["already_stored"]), (&json!(1), &json!(3)), "its cursor is kept");
    remote.run_with(&["produce", "t", "-k", "k", "--deliver-at", "2000-01-31"], lines(0..3)).good();
    until("what was due has come", || remote.json(&["topic", "describe", "t"])["total_records"] == 3);
    assert_eq!(remote.json(&["timer", "list"])["timers"].as_array().unwrap().len(), 4);
    remote.run(&["produce", "t", "--deliver-after", "1d", "-p", "0"]).fails(2, "--partition");
}
