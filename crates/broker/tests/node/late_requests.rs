//! Requests of a transaction that come late: a network has held them while their sender gave them up, asked again on
//! another connection or began anew, ended its transaction, and began the next one (KIP-890, KAFKA-17754; semantics
//! TX-3, TX-7, TX-8, TX-9, TX-19, TX-27).
//!
//! To a node a request that was held is one that comes late, on the connection on which it was sent. So that connection
//! is made first, and written to last. What it has done is what is otherwise than without it: each case runs with and
//! without, and both are compared.
//!
//! With `EXACTLOG_LATE_REQUESTS_AT=HOST:PORT` the cases run against the broker there, which is Kafka if `BROKER=kafka`
//! says so: `compat/run late-requests`. What both answer is a table in docs/PROTOCOL.md.

use crate::common::{Client, LONG, batch};
use crate::transactional::{TIMEOUT_MS, Who, fetched, init, shown};
use exactlog::Log;
use exactlog_broker::{NodeOptions, Running, bind};
use exactlog_wire::messages::produce::PartitionProduceResponse;
use exactlog_wire::messages::{
    CreateTopics, DescribeTransactions, FindCoordinator, OffsetFetch, create_topics, describe_transactions,
    fetch, find_coordinator, init_producer_id, offset_fetch,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    AddPartitions,
    Produce,
    CommitOffsets,
    End,
}

/// How its transaction ended, meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Commit,
    Abort,
    /// By its timeout; the producer went on with what it knew (KIP-360).
    Timeout,
    /// The producer was started anew.
    Restart,
}

/// The next transaction of the producer, when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There is none yet.
    None,
    /// It is open, but neither in the partition nor with the group of the late request.
    Elsewhere,
    /// It is open in the same partition, and has committed offsets of the same group.
    Same,
}

/// Whose requests they are: versions before KIP-890, or from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    protocol: Protocol,
    late: Late,
    /// Its sender has asked again meanwhile, and was answered; else it gave up.
    again: bool,
    first: First,
    next: Next,
}

/// What a late request has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// It has begun a transaction.
    Begins,
    /// Its partition is one of the next transaction.
    Adds,
    /// Its record is one of the next transaction.
    Joins,
    /// The group's position in the next transaction is the one of the first.
    MovesBack,
    /// It has ended the next transaction.
    Ends,
}

/// Kafka's codes that pass by themselves, and that a broker that has just been started gives.
const PASSING: [i16; 7] = [3, 5, 6, 14, 15, 16, 51];

/// The partition of a case's topic that the late request is about.
const CONCERNED: i32 = 0;
/// The one of what else its transaction does.
const OTHER: i32 = 1;
/// The one whose records the group consumes.
const CONSUMED: i32 = 2;

impl Case {
    fn all() -> Vec<Case> {
        let mut all = Vec::new();
        for protocol in [Protocol::V1, Protocol::V2] {
            for late in [Late::AddPartitions, Late::Produce, Late::CommitOffsets, Late::End] {
                for first in [First::Commit, First::Abort, First::Timeout, First::Restart] {
                    for next in [Next::None, Next::Elsewhere, Next::Same] {
                        let cases = [true, false].map(|again| Case { protocol, late, again, first, next });
                        all.extend(cases.into_iter().filter(|case| case.can_be()));
                    }
                }
            }
        }
        all
    }

    /// Whoever was fenced has given up; and an end that was given up is none by that request.
    fn can_be(self) -> bool {
        let is_fenced = matches!(self.first, First::Timeout | First::Restart);
        match self.late {
            _ if is_fenced => !self.again,
            Late::End => self.again,
            _ => true,
        }
    }
}

/// What the log looks like after a case.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// After the late request: where the transactional id stands, and the partitions that its transaction has.
    state: (String, Vec<i32>),
    /// The end of the next transaction, which commits.
    end: Option<i16>,
    /// What readers of committed records get.
    shown: [Vec<String>; 2],
    committed: i64,
}

/// A broker to ask: one of this process, or another.
struct Broker {
    address: SocketAddr,
    own: Option<(TempDir, Log, Running)>,
}

impl Broker {
    async fn start(options: NodeOptions) -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path().join("data")).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = bind(NodeOptions { listen, ..options }).await.unwrap().serve(&log);
        Broker { address: running.address(), own: Some((directory, log, running)) }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Lets a transaction time out.
    fn let_time_pass(&self, time: Duration) {
        if let Some((_, log, _)) = &self.own {
            log.skip_time(time);
        }
    }
}

/// Asks until the answer's code is none that passes, and gives the answer.
macro_rules! lasting {
    ($ask:expr, $code:expr) => {{
        let end = Instant::now() + LONG;
        loop {
            let answer = $ask.await;
            let code: i16 = $code(&answer);
            if !PASSING.contains(&code) {
                break answer;
            }
            assert!(Instant::now() < end, "still {code}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }};
}

/// Asks until the answer is as it has to be.
macro_rules! until {
    ($ask:expr, $is:expr) => {{
        let end = Instant::now() + LONG;
        loop {
            let answer = $ask.await;
            if $is(&answer) {
                break;
            }
            assert!(Instant::now() < end, "still {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }};
}

/// A topic with all that a case needs, and both coordinators.
async fn prepare(client: &mut Client, name: &'static str) {
    // Else records are of 1970, and markers of today: Kafka would begin a segment between them, and an answer to Fetch
    // ends with its segment.
    let of_today = create_topics::CreatableTopicConfig {
        name: "message.timestamp.type".into(),
        value: Some("LogAppendTime".into()),
    };
    let topic = create_topics::CreatableTopic {
        configs: vec![of_today],
        name: name.into(),
        num_partitions: 3,
        replication_factor: 1,
        ..Default::default()
    };
    let request = create_topics::Request { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(client.ask::<CreateTopics>(5, &request).await.topics[0].error_code, 0);
    for key_type in [0, 1] {
        let request = find_coordinator::Request { key: name.into(), key_type, ..Default::default() };
        let code = |found: &find_coordinator::Response| found.error_code;
        lasting!(client.ask::<FindCoordinator>(3, &request), code);
    }
    for index in [CONCERNED, OTHER, CONSUMED] {
        let placed = lasting!(
            client.produce(name, index, batch(&["1", "2", "3"])),
            |it: &PartitionProduceResponse| { it.error_code }
        );
        assert_eq!(placed.error_code, 0);
    }
}

/// Where a transactional id stands, and which partitions of the topic its transaction has.
async fn state(client: &mut Client, name: &str) -> (String, Vec<i32>) {
    let request = describe_transactions::Request { transactional_ids: vec![name.into()] };
    let told = client.ask::<DescribeTransactions>(0, &request).await;
    let told = &told.transaction_states[0];
    assert_eq!(told.error_code, 0);
    let of_topic = told.topics.iter().filter(|it| &*it.topic == name).flat_map(|it| it.partitions.clone());
    let mut partitions: Vec<i32> = of_topic.collect();
    partitions.sort_unstable();
    (told.transaction_state.to_string(), partitions)
}

/// What a group has committed, and the code of that.
async fn committed(client: &mut Client, name: &str) -> (i16, i64) {
    let topic =
        offset_fetch::OffsetFetchRequestTopic { name: name.into(), partition_indexes: vec![CONSUMED] };
    let request = offset_fetch::Request {
        group_id: name.into(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    let told = client.ask::<OffsetFetch>(7, &request).await;
    let partition = &told.topics[0].partitions[0];
    (partition.error_code.max(told.error_code), partition.committed_offset)
}

/// A case on its way.
struct Run<'b> {
    case: Case,
    broker: &'b Broker,
    /// Of topic, transactional id and group.
    name: &'static str,
    client: Client,
    who: Who,
}

impl Run<'_> {
    fn is_v1(&self) -> bool {
        self.case.protocol == Protocol::V1
    }

    /// Versions of Produce, TxnOffsetCommit and EndTxn.
    fn versions(&self) -> [i16; 3] {
        if self.is_v1() { [11, 4, 4] } else { [12, 5, 5] }
    }

    async fn add(&mut self, index: i32) {
        let code = lasting!(self.who.add(&mut self.client, 3, self.name, index), |code: &i16| *code);
        assert_eq!(code, 0);
    }

    async fn add_group(&mut self) {
        let code = lasting!(self.who.add_offsets(&mut self.client, 4, self.name), |code: &i16| *code);
        assert_eq!(code, 0);
    }

    async fn produce(&mut self, index: i32, sequence: i32, value: &str) {
        let at = (self.name, index);
        let [version, ..] = self.versions();
        let batch = self.who.batch(sequence, &[value]);
        let placed =
            lasting!(self.who.produce(&mut self.client, version, at, batch.clone()), |it: &(i16, i64)| it.0);
        assert_eq!(placed.0, 0);
    }

    async fn commit_offset(&mut self, offset: i64) {
        let [_, version, _] = self.versions();
        let positions = [(self.name, CONSUMED, offset)];
        let codes = lasting!(
            self.who.commit_offsets(&mut self.client, version, self.name, &positions),
            |codes: &Vec<i16>| codes[0]
        );
        assert_eq!(codes, [0]);
    }

    /// Ends the transaction; the code.
    async fn end(&mut self, commit: bool) -> i16 {
        let [_, _, version] = self.versions();
        let (code, told) = lasting!(self.who.end(&mut self.client, version, commit), |it: &(i16, Who)| it.0);
        if !self.is_v1() && code == 0 {
            self.who = told;
        }
        code
    }

    /// The request that comes late, as `who` sends it; what it is answered.
    async fn late(&self, who: Who, client: &mut Client) -> i16 {
        let (name, [produce, commit_offsets, end]) = (self.name, self.versions());
        match self.case.late {
            Late::AddPartitions => lasting!(who.add(client, 3, name, CONCERNED), |code: &i16| *code),
            Late::Produce => {
                let (batch, at) = (who.batch(0, &["late"]), (name, CONCERNED));
                lasting!(who.produce(client, produce, at, batch.clone()), |it: &(i16, i64)| it.0).0
            }
            Late::CommitOffsets => {
                let positions = [(name, CONSUMED, 1)];
                let codes = lasting!(
                    who.commit_offsets(client, commit_offsets, name, &positions),
                    |codes: &Vec<i16>| codes[0]
                );
                codes[0]
            }
            Late::End => {
                let commit = self.case.first != First::Abort;
                lasting!(who.end(client, end, commit), |it: &(i16, Who)| it.0).0
            }
        }
    }

    /// The first transaction, up to where the late request was sent.
    async fn first(&mut self) {
        if self.is_v1() {
            self.add(OTHER).await;
            match self.case.late {
                Late::Produce => self.add(CONCERNED).await,
                Late::CommitOffsets => self.add_group().await,
                Late::AddPartitions | Late::End => {}
            }
        }
        self.produce(OTHER, 0, "first").await;
    }

    async fn end_of_first(&mut self, timeout_ms: i32) {
        let is_settled = |(state, _): &(String, Vec<i32>)| state.starts_with("Complete") || state == "Empty";
        let current = match self.case.first {
            First::Commit | First::Abort => {
                assert_eq!(self.end(self.case.first == First::Commit).await, 0);
                until!(state(&mut self.client, self.name), is_settled);
                return;
            }
            First::Timeout => {
                self.broker.let_time_pass(Duration::from_millis(timeout_ms as u64));
                until!(state(&mut self.client, self.name), is_settled);
                (self.who.producer_id, self.who.epoch)
            }
            First::Restart => (-1, -1),
        };
        let told = lasting!(
            init(&mut self.client, 4, Some(self.name), timeout_ms, current),
            |it: &init_producer_id::Response| it.error_code
        );
        assert_eq!(told.error_code, 0);
        self.who = Who { producer_id: told.producer_id, epoch: told.producer_epoch, ..self.who };
        until!(state(&mut self.client, self.name), is_settled);
    }

    /// The next transaction. By the first protocol it has the partition, and hasn't written to it yet: so the batch
    /// that is late is the next one in sequence.
    async fn next(&mut self, first: Who) {
        let sequence = i32::from(self.who == first);
        if self.is_v1() {
            self.add(OTHER).await;
        }
        self.produce(OTHER, sequence, "next").await;
        if self.case.next == Next::Same {
            match self.is_v1() {
                true => {
                    self.add(CONCERNED).await;
                    self.add_group().await;
                }
                false => self.produce(CONCERNED, 0, "next").await,
            }
            self.commit_offset(2).await;
        }
    }

    async fn seen(mut self, state: (String, Vec<i32>), end: Option<i16>) -> Seen {
        let (client, name) = (&mut self.client, self.name);
        let mut lists = Vec::new();
        for index in [CONCERNED, OTHER] {
            // Markers of a broker with several parts take their time.
            until!(fetched(client, name, index, true), |it: &fetch::PartitionData| {
                it.last_stable_offset == it.high_watermark
            });
            lists.push(shown(client, name, index).await);
        }
        until!(committed(client, name), |(code, _): &(i16, i64)| *code == 0);
        let (_, committed) = committed(client, name).await;
        Seen { state, end, shown: lists.try_into().unwrap(), committed }
    }
}

/// Runs a case, with the late request or without it: its answer, and what there is then.
async fn run(broker: &Broker, case: Case, with: bool) -> (Option<i16>, Seen) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let name: &'static str = format!("late-{}-{number}", std::process::id()).leak();
    let timeout_ms = if broker.own.is_none() && case.first == First::Timeout { 1000 } else { TIMEOUT_MS };
    let (mut older, mut client) = (broker.client().await, broker.client().await);
    prepare(&mut client, name).await;
    let told = lasting!(
        init(&mut client, 4, Some(name), timeout_ms, (-1, -1)),
        |it: &init_producer_id::Response| it.error_code
    );
    let who = Who { id: name, producer_id: told.producer_id, epoch: told.producer_epoch };
    let mut run = Run { case, broker, name, client, who };
    run.first().await;
    if case.again && case.late != Late::End {
        let mut newer = broker.client().await;
        assert_eq!(run.late(who, &mut newer).await, 0);
        run.client = newer;
    }
    run.end_of_first(timeout_ms).await;
    if case.next != Next::None {
        run.next(who).await;
    }
    let code = match with {
        true => Some(run.late(who, &mut older).await),
        false => None,
    };
    let stands = state(&mut run.client, name).await;
    let end = match case.next {
        Next::None => None,
        Next::Elsewhere | Next::Same => Some(run.end(true).await),
    };
    (code, run.seen(stands, end).await)
}

/// What is otherwise with the late request.
fn effect(with: &Seen, without: &Seen) -> Effect {
    match (with, without) {
        _ if with == without => Effect::Nothing,
        _ if with.state.0 != without.state.0 && without.state.0 == "Ongoing" => Effect::Ends,
        _ if with.state.0 == "Ongoing" && without.state.0 != "Ongoing" => Effect::Begins,
        _ if with.shown != without.shown => Effect::Joins,
        _ if with.committed != without.committed => Effect::MovesBack,
        _ if with.state.1 != without.state.1 => Effect::Adds,
        _ => panic!("{with:?}, and without it {without:?}"),
    }
}

async fn judged(broker: &Broker, case: Case) -> (i16, Effect) {
    let ((code, with), (_, without)) = (run(broker, case, true).await, run(broker, case, false).await);
    (code.unwrap(), effect(&with, &without))
}

/// Who answers. `Kafka`: 4.3.1, as measured; and this node, when it is told not to look at connections, about EndTxn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    Node,
    Kafka,
}

/// The table of docs/PROTOCOL.md.
fn expected(case: Case, who: Answerer) -> (i16, Effect) {
    use Effect::{Adds, Begins, Ends, Joins, MovesBack, Nothing};
    let Case { protocol, late, again, first, next } = case;
    let is_fenced = matches!(first, First::Timeout | First::Restart) || protocol == Protocol::V2;
    match (late, next) {
        // An end that is asked for again gets its answer.
        (Late::End, Next::None) if again => (0, Nothing),
        (Late::AddPartitions | Late::End, _) if is_fenced => (90, Nothing),
        (Late::Produce | Late::CommitOffsets, _) if is_fenced => (47, Nothing),
        (Late::AddPartitions, Next::None) => (0, Begins),
        (Late::AddPartitions, Next::Elsewhere) => (0, Adds),
        (Late::AddPartitions, Next::Same) => (0, Nothing),
        (Late::Produce, Next::Same) if !again => (0, Joins),
        (Late::Produce, _) if !again => (120, Nothing),
        // Kafka looks at the transaction first, then for a repeated batch; and it doesn't tell that the first one of it
        // is in a transaction that was aborted (ID-18).
        (Late::Produce, Next::Same) if who == Answerer::Kafka => (0, Nothing),
        (Late::Produce, _) if who == Answerer::Kafka => (120, Nothing),
        (Late::Produce, _) => (if first == First::Commit { 0 } else { 45 }, Nothing),
        (Late::CommitOffsets, Next::Same) => (0, MovesBack),
        (Late::CommitOffsets, _) => (120, Nothing),
        (Late::End, _) if who == Answerer::Kafka => (0, Ends),
        (Late::End, _) => (47, Nothing),
    }
}

async fn check_all(broker: &Broker, cases: &[Case], who: Answerer) {
    let mut others = Vec::new();
    for case in cases {
        let judged = judged(broker, *case).await;
        if judged != expected(*case, who) {
            others.push(format!("{case:?}: {judged:?}, not {:?}", expected(*case, who)));
        }
    }
    assert!(others.is_empty(), "of {} cases:\n{}", cases.len(), others.join("\n"));
}

#[tokio::test]
async fn tx_9_tx_27_what_a_late_request_is_answered_and_does() {
    let broker = Broker::start(NodeOptions::default()).await;
    let all = Case::all();
    assert_eq!(all.len(), 132);
    check_all(&broker, &all, Answerer::Node).await;
    // By the second protocol none has an effect, whatever it is answered.
    let of_second = all.iter().filter(|case| case.protocol == Protocol::V2);
    assert!(of_second.clone().all(|case| expected(*case, Answerer::Node).1 == Effect::Nothing));
}

#[tokio::test]
async fn tx_27_where_connections_say_nothing_a_late_end_ends_the_next_transaction_as_in_kafka() {
    let broker =
        Broker::start(NodeOptions { fences_older_connections: false, ..NodeOptions::default() }).await;
    let ends: Vec<Case> = Case::all().into_iter().filter(|case| case.late == Late::End).collect();
    check_all(&broker, &ends, Answerer::Kafka).await;
}

/// Connections were numbered by their own tasks, which several threads begin in any order: of two that were made one
/// right behind the other the later one could have the smaller number, and its EndTxn was refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tx_27_connections_have_their_order_from_when_they_were_made() {
    let broker = Broker::start(NodeOptions::default()).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(broker.client().await);
    }
    prepare(&mut clients[0], "orders").await;
    let who = Who::init(&mut clients[0], "orders").await;
    for older in 0..clients.len() - 1 {
        assert_eq!(who.add(&mut clients[older + 1], 3, "orders", CONCERNED).await, 0);
        assert_eq!(
            who.end(&mut clients[older], 4, true).await.0,
            47,
            "{older} was made before {}",
            older + 1
        );
        assert_eq!(who.end(&mut clients[older + 1], 4, true).await.0, 0, "{} has added", older + 1);
    }
}

/// The same of a broker that is somewhere else. Without an address there is nothing to do.
#[tokio::test]
async fn late_requests_to_another_broker() {
    let Ok(address) = std::env::var("EXACTLOG_LATE_REQUESTS_AT") else { return };
    let who =
        if std::env::var("BROKER").is_ok_and(|it| it == "kafka") { Answerer::Kafka } else { Answerer::Node };
    let broker = Broker { address: address.parse().unwrap(), own: None };
    let all = Case::all();
    check_all(&broker, &all, who).await;
    println!("ok  late requests: {} cases, as {who:?} answers them", all.len());
}
