//! Processes that work on the log of a node, in frames that are made here: what it takes of them, and what it doesn't
//! (ADR 42; semantics ON-2, ON-3, ON-4).

use crate::common::{Client, Node};
use bytes::Bytes;
use exactlog_wire::messages::node_submit::{Command, outcome};
use exactlog_wire::messages::{
    ApiVersions, NodeBye, NodeChanges, NodeFind, NodeHello, NodeMarks, NodeRead, NodeState, NodeSubmit,
    OWN_KEYS_FROM, api_versions, node_bye, node_changes, node_find, node_hello, node_marks, node_read,
    node_state, node_submit,
};
use exactlog_wire::value::{Records, Uuid};
use std::time::{Duration, Instant};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const NO_SESSION: i16 = 70;

async fn hello(client: &mut Client, grace_ms: i32) -> Uuid {
    let request = node_hello::Request { protocol: 1, grace_ms };
    let welcome = client.ask::<NodeHello>(0, &request).await;
    assert_eq!(welcome.error_code, 0);
    assert!(welcome.group_bytes_max > 0 && welcome.command_bytes_max > 0);
    welcome.session
}

/// A head without batches: its time, none, and the fields.
fn head(fields: &[u8]) -> Bytes {
    [&0_i64.to_le_bytes()[..], &0_u32.to_le_bytes(), fields].concat().into()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn command(kind: i8, fields: &[u8]) -> Command {
    Command { kind, version: 1, head: head(fields), bodies: Records::default() }
}

/// `InitProducer` with a name.
fn init_producer(name: &str) -> Command {
    command(5, &[&[1][..], &text(name)].concat())
}

async fn submit(
    client: &mut Client,
    session: Uuid,
    number: i64,
    commands: Vec<Command>,
) -> node_submit::Response {
    client.ask::<NodeSubmit>(0, &node_submit::Request { session, number, commands }).await
}

#[tokio::test]
async fn a_version_of_the_future_is_told_which_ones_are_spoken() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for protocol in [0, 2, -1, i32::MAX] {
        let refused = client.ask::<NodeHello>(0, &node_hello::Request { protocol, grace_ms: 1000 }).await;
        let spoken = (refused.protocol_oldest, refused.protocol_newest);
        assert_eq!((refused.error_code, spoken), (UNSUPPORTED_VERSION, (1, 1)));
        let said = refused.error_message.unwrap().to_string();
        assert!(said.contains(&format!("version {protocol} ")), "{said}");
    }
    hello(&mut client, 1000).await;
}

#[tokio::test]
async fn clients_of_kafka_are_not_told_of_it() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let named =
        api_versions::Request { client_software_name: "test".into(), client_software_version: "1".into() };
    let served = client.ask::<ApiVersions>(4, &named).await;
    assert!(served.api_keys.len() > 30 && served.api_keys.iter().all(|it| it.api_key < OWN_KEYS_FROM));
}

#[tokio::test]
async fn who_has_no_session_is_served_nothing_of_it() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let session = Uuid([7; 16]);
    let request = node_state::Request { session, picture: 0, offset: 0, max_bytes: 1000 };
    assert_eq!(client.ask::<NodeState>(0, &request).await.error_code, NO_SESSION);
    let request = node_changes::Request { session, max_wait_ms: 10_000, ..Default::default() };
    assert_eq!(client.ask::<NodeChanges>(0, &request).await.error_code, NO_SESSION);
    assert_eq!(submit(&mut client, session, 1, vec![init_producer("p")]).await.error_code, NO_SESSION);
    // Ending what isn't there is no error.
    assert_eq!(client.ask::<NodeBye>(0, &node_bye::Request { session }).await.error_code, 0);
}

#[tokio::test]
async fn a_group_is_ordered_once_however_often_it_comes() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let session = hello(&mut client, 10_000).await;
    let group = || vec![init_producer("one"), init_producer("two")];
    let first = submit(&mut client, session, 1, group()).await;
    assert_eq!((first.error_code, first.outcome), (0, outcome::ORDERED));
    let lsn = node.log.details().lsn;
    assert_eq!(first.first_lsn as u64 + 1, lsn);
    // Also over another connection.
    let mut other = node.client().await;
    assert_eq!(submit(&mut other, session, 1, group()).await.first_lsn, first.first_lsn);
    assert_eq!(node.log.details().lsn, lsn);
    assert_eq!(submit(&mut client, session, 2, group()).await.first_lsn, first.first_lsn + 2);
    let late = submit(&mut other, session, 1, group()).await;
    assert_eq!(late.error_code, INVALID_REQUEST, "{late:?}");
    assert_eq!(late.error_message.unwrap().to_string(), "group 1 comes behind group 2");
}

#[tokio::test]
async fn what_is_the_logs_own_to_say_or_no_command_at_all_is_refused() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let session = hello(&mut client, 10_000).await;
    let lsn = node.log.details().lsn;
    let key = [&[21][..], &[0; 16]].concat();
    let mut wrong = vec![
        (command(1, &[]), "Open is the log's own to say"),
        (command(13, &[]), "Tick is the log's own to say"),
        (command(14, &key), "Config is the log's own to say"),
        (command(99, &[]), "command kind 99 version 1 is unknown to this release"),
        (command(5, &[1, 0xff, 0xff, 0xff, 0x7f]), "command kind 5"),
        (command(3, &[0; 200]), "command kind 3"),
    ];
    let mut cut = init_producer("name");
    cut.head.truncate(9);
    wrong.push((cut, "a batch whose checksum doesn't hold"));
    let mut more = init_producer("name");
    more.bodies = Records(vec![Bytes::from_static(b"behind")]);
    wrong.push((more, "a batch whose checksum doesn't hold"));
    for (number, (command, expected)) in (1..).zip(wrong) {
        let refused = submit(&mut client, session, number, vec![init_producer("good"), command]).await;
        assert_eq!((refused.error_code, refused.outcome), (0, outcome::NEVER));
        let said = refused.reason.unwrap().to_string();
        assert!(said.contains(expected), "{said}");
    }
    let nothing = submit(&mut client, session, 20, vec![]).await;
    assert_eq!(nothing.reason.unwrap().to_string(), "a group of 0 commands: it has 1 to 100000");
    assert_eq!(node.log.details().lsn, lsn, "not even the good one of a group");
}

#[tokio::test]
async fn a_batch_that_no_client_may_send_is_refused() {
    let node = Node::with_topic("t", 1).await;
    let topic = node.log.open_topic("t").unwrap();
    let mut client = node.client().await;
    let session = hello(&mut client, 10_000).await;
    let batch = crate::common::batch(&["one"]);
    // `Append`: partition, config version, no expected end, and the entry of its batch.
    let place = [topic.id().0.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let appends = |batch: &[u8]| {
        let fields = [&0_u32.to_le_bytes()[..], &[0; 9], &place, &batch[..61]].concat();
        let head = [&0_i64.to_le_bytes()[..], &1_u32.to_le_bytes(), &fields].concat().into();
        let bodies = Records(vec![Bytes::copy_from_slice(&batch[61..])]);
        Command { kind: 6, version: 1, head, bodies }
    };
    let mut torn = batch.to_vec();
    *torn.last_mut().unwrap() ^= 1;
    let refused = submit(&mut client, session, 1, vec![appends(&torn)]).await;
    assert_eq!(refused.outcome, outcome::NEVER, "{refused:?}");
    let taken = submit(&mut client, session, 2, vec![appends(&batch)]).await;
    assert_eq!(taken.outcome, outcome::ORDERED, "{taken:?}");
    let read =
        |offset| node_read::Request { topic: topic.id().0 as i32, partition: 0, offset, max_bytes: 1 << 20 };
    let found = client.ask::<NodeRead>(0, &read(0)).await;
    assert_eq!(crate::common::values_of(&found.records), [(0, "one".to_string())]);
    assert!(client.ask::<NodeRead>(0, &read(1)).await.records.is_empty());
    assert!(client.ask::<NodeRead>(0, &read(-1)).await.records.is_empty());
    let request = node_find::Request { topic: topic.id().0 as i32, timestamp_ms: 0, ..Default::default() };
    let found = client.ask::<NodeFind>(0, &request).await;
    assert_eq!((found.is_found, found.offset), (true, 0));
    let request = node_find::Request { timestamp_ms: i64::MAX, ..request };
    assert!(!client.ask::<NodeFind>(0, &request).await.is_found);
}

#[tokio::test]
async fn changes_are_told_as_they_come_and_a_place_that_is_none_begins_anew() {
    let node = Node::with_topic("t", 1).await;
    let mut client = node.client().await;
    let session = hello(&mut client, 10_000).await;
    let request = node_state::Request { session, picture: 0, offset: 0, max_bytes: 16 };
    let first = client.ask::<NodeState>(0, &request).await;
    assert_eq!((first.error_code, first.part.len()), (0, 16));
    let (picture, offset) = (first.picture, first.total_bytes + 1);
    let beyond = client.ask::<NodeState>(0, &node_state::Request { picture, offset, ..request }).await;
    assert_eq!(beyond.error_code, INVALID_REQUEST);
    let rest = node_state::Request { picture, offset: 16, max_bytes: i32::MAX, ..request };
    let rest = client.ask::<NodeState>(0, &rest).await;
    assert_eq!(rest.part.len() as i64 + 16, first.total_bytes);
    let lsn = node.log.details().lsn as i64;
    let changes = |lsn, max_wait_ms| node_changes::Request {
        session,
        term: first.term,
        lsn,
        max_bytes: 1 << 20,
        max_wait_ms,
    };
    let began = Instant::now();
    let nothing = client.ask::<NodeChanges>(0, &changes(lsn, 50)).await;
    assert!(!nothing.begins_anew && nothing.commands.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(50));
    let log = node.log.clone();
    let sends = tokio::task::spawn_blocking(move || log.producer("p").map(drop));
    let told = client.ask::<NodeChanges>(0, &changes(lsn, 20_000)).await;
    sends.await.unwrap().unwrap();
    assert_eq!((told.commands[0].lsn, told.commands[0].kind), (lsn + 1, 5));
    for (term, lsn) in [(first.term + 1, lsn), (first.term, lsn + 100), (first.term, 0), (first.term, -1)] {
        let lost = node_changes::Request { term, ..changes(lsn, 20_000) };
        assert!(client.ask::<NodeChanges>(0, &lost).await.begins_anew, "{term} {lsn}");
    }
}

#[tokio::test]
async fn marks_that_are_asked_for_are_answered_each_once() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let key = |byte| node_marks::MarkKey { is_named: true, scope: 0, id: Uuid([byte; 16]) };
    let request = node_marks::Request { keys: vec![key(1), key(2)] };
    let response = client.ask::<NodeMarks>(0, &request).await;
    assert_eq!(response.answers.iter().map(|it| it.run).collect::<Vec<_>>(), [-1, -1]);
    let request = node_marks::Request { keys: vec![node_marks::MarkKey { scope: -1, ..key(1) }] };
    assert_eq!(client.ask::<NodeMarks>(0, &request).await.error_code, INVALID_REQUEST);
}

#[tokio::test]
async fn members_of_a_session_that_is_silent_leave_and_so_do_those_of_one_that_ends() {
    let node = Node::with_topic("t", 2).await;
    let topic = node.log.open_topic("t").unwrap();
    let mut client = node.client().await;
    let joins = [&text("g")[..], &1_u32.to_le_bytes(), &topic.id().0.to_le_bytes()].concat();
    let members = || node.log.group_members("g").unwrap_or(0);
    let gone = async || {
        let deadline = Instant::now() + crate::common::LONG;
        while members() > 0 {
            assert!(Instant::now() < deadline, "it never leaves");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let silent = hello(&mut client, 200).await;
    assert_eq!(submit(&mut client, silent, 1, vec![command(9, &joins)]).await.outcome, outcome::ORDERED);
    assert_eq!(members(), 1);
    gone().await;
    assert_eq!(submit(&mut client, silent, 2, vec![init_producer("p")]).await.error_code, NO_SESSION);
    let polite = hello(&mut client, 60_000).await;
    assert_eq!(submit(&mut client, polite, 1, vec![command(9, &joins)]).await.outcome, outcome::ORDERED);
    assert_eq!(members(), 1);
    client.ask::<NodeBye>(0, &node_bye::Request { session: polite }).await;
    gone().await;
}

#[tokio::test]
async fn with_a_node_that_is_stopped_the_members_of_its_processes_leave_a_log_that_goes_on() {
    let node = Node::with_topic("t", 2).await;
    let topic = node.log.open_topic("t").unwrap();
    let mut client = node.client().await;
    let session = hello(&mut client, 60_000).await;
    let joins = [&text("g")[..], &1_u32.to_le_bytes(), &topic.id().0.to_le_bytes()].concat();
    assert_eq!(submit(&mut client, session, 1, vec![command(9, &joins)]).await.outcome, outcome::ORDERED);
    let Node { log, running, directory: _directory } = node;
    assert_eq!(log.group_members("g"), Some(1));
    drop(client);
    running.stop().await;
    let deadline = Instant::now() + crate::common::LONG;
    while log.group_members("g") != Some(0) {
        assert!(Instant::now() < deadline, "it never leaves");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
