//! The client against a node that is made up: it answers what each test wants, also what no node should.

#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use exactlog_client::{Cluster, Code, Connection, Error, LogOptions, Options, Refused, To};
use exactlog_wire::frame::FrameLimit;
use exactlog_wire::header::begins_with;
use exactlog_wire::message::{decode_request, encode_response};
use exactlog_wire::messages::{
    ApiVersions, CreateTopics, EndTxn, FindCoordinator, Heartbeat, ListGroups, Request, Response,
    api_versions, create_topics, end_txn, find_coordinator, heartbeat, list_groups, metadata,
};
use exactlog_wire::schema::{Api, Versions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the made-up node does with a request: answers it, writes bytes, says nothing, or ends the connection.
enum Does {
    Answers(Response),
    Writes(Vec<u8>),
    Waits,
    Ends,
}

/// A request: its version, its number, and what it says.
type Asked = (i16, i32, Request);

struct MadeUp {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl MadeUp {
    /// A node that does this with each request but ApiVersions and Metadata, which it answers as told: with the APIs
    /// and versions that it has.
    async fn new(has: &[(i16, i16, i16)], mut does: impl FnMut(&Asked) -> Does + Send + 'static) -> MadeUp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let node = MadeUp { address: format!("127.0.0.1:{port}"), asked, connections };
        let (all, count) = (node.asked.clone(), node.connections.clone());
        let has = has.to_vec();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let mut received = BytesMut::new();
                'connection: loop {
                    let frame = loop {
                        if let Some(frame) = (FrameLimit { max: 1 << 20 }).next(&mut received).unwrap() {
                            break frame;
                        }
                        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                            break 'connection;
                        }
                    };
                    let (_, version, number) = begins_with(&frame).unwrap();
                    let (_, request) = decode_request(frame).unwrap();
                    let asked = (version, number, request);
                    let does = match &asked.2 {
                        Request::ApiVersions(_) if !has.is_empty() => Does::Answers(versions(&has).into()),
                        Request::Metadata(_) => Does::Answers(this_node(port).into()),
                        _ => does(&asked),
                    };
                    all.lock().unwrap().push(asked);
                    match does {
                        Does::Answers(response) => {
                            let parts = encode_response(version, number, &response).unwrap();
                            stream.write_all(&parts.concat()).await.unwrap();
                        }
                        Does::Writes(bytes) => stream.write_all(&bytes).await.unwrap(),
                        Does::Waits => {}
                        Does::Ends => break,
                    }
                }
            }
        });
        node
    }

    async fn connection(&self, options: Options) -> Result<Connection, Error> {
        Connection::connect(&self.address, options).await
    }

    async fn cluster(&self) -> Cluster {
        let cluster = Cluster::connect(&self.address, Options::default()).await.unwrap();
        cluster.deadline(Duration::from_secs(5))
    }

    /// How often an API was asked for.
    fn times(&self, key: i16) -> usize {
        self.asked.lock().unwrap().iter().filter(|(_, _, request)| request.key() == key).count()
    }
}

fn versions(has: &[(i16, i16, i16)]) -> api_versions::Response {
    let one = |(api_key, min_version, max_version): &(i16, i16, i16)| api_versions::ApiVersion {
        api_key: *api_key,
        min_version: *min_version,
        max_version: *max_version,
    };
    api_versions::Response { api_keys: has.iter().map(one).collect(), ..Default::default() }
}

fn this_node(port: u16) -> metadata::Response {
    let broker = metadata::MetadataResponseBroker {
        node_id: 1,
        host: "127.0.0.1".into(),
        port: port.into(),
        rack: None,
    };
    metadata::Response { brokers: vec![broker], ..Default::default() }
}

fn groups(name: &str) -> Response {
    let group = list_groups::ListedGroup { group_id: name.into(), ..Default::default() };
    list_groups::Response { groups: vec![group], ..Default::default() }.into()
}

fn everything() -> Vec<(i16, i16, i16)> {
    exactlog_wire::messages::APIS.iter().map(|api| (api.key, api.versions.from, api.versions.to)).collect()
}

#[tokio::test]
async fn the_highest_version_that_both_have_is_asked_in() {
    let has = [(ListGroups::KEY, 1, 3), (Heartbeat::KEY, 0, 99), (CreateTopics::KEY, 8, 9)];
    let node = MadeUp::new(&has, |_| Does::Answers(groups("g"))).await;
    let mut connection = node.connection(Options::default()).await.unwrap();
    assert_eq!(connection.version_of::<ListGroups>().unwrap(), 3);
    assert_eq!(connection.version_up_to::<ListGroups>(2).unwrap(), 2);
    assert_eq!(connection.version_of::<Heartbeat>().unwrap(), Heartbeat::VERSIONS.to);
    assert!(connection.version_up_to::<ListGroups>(0).is_err(), "below what it has");
    let found = connection.ask::<ListGroups>(&list_groups::Request::default()).await.unwrap();
    assert_eq!(&*found.groups[0].group_id, "g");
    assert_eq!(node.asked.lock().unwrap().last().unwrap().0, 3);

    let error = connection.ask::<CreateTopics>(&create_topics::Request::default()).await.unwrap_err();
    let Error::Version { api: "CreateTopics", theirs: Some(Versions { from: 8, to: 9 }), .. } = error else {
        panic!("{error:?}")
    };
    let text = error.to_string();
    assert!(text.contains("CreateTopics in versions 8 to 9, and versions 2 to 7 would be needed"), "{text}");
    let error = connection.ask::<EndTxn>(&end_txn::Request::default()).await.unwrap_err().to_string();
    assert!(error.contains(&node.address) && error.contains("EndTxn in no version"), "{error}");
}

/// A node of yesterday answers in version 0 that it doesn't know the newest (KIP-511).
#[tokio::test]
async fn a_node_that_is_older_is_asked_for_its_versions_once_more() {
    let node = MadeUp::new(&[], |(version, number, _)| match version {
        0..=2 => Does::Answers(versions(&[(ApiVersions::KEY, 0, 2), (ListGroups::KEY, 0, 1)]).into()),
        _ => {
            let code = Code::UNSUPPORTED_VERSION.0;
            let told = api_versions::Response { error_code: code, ..versions(&[(ApiVersions::KEY, 0, 2)]) };
            Does::Writes(encode_response(0, *number, &told.into()).unwrap().concat())
        }
    })
    .await;
    let connection = node.connection(Options::default()).await.unwrap();
    assert_eq!(connection.version_of::<ListGroups>().unwrap(), 1);
    let asked: Vec<i16> = node.asked.lock().unwrap().iter().map(|(version, _, _)| *version).collect();
    assert_eq!(asked, [ApiVersions::VERSIONS.to, 2]);
}

#[tokio::test]
async fn several_requests_are_answered_in_their_order_and_what_was_given_up_is_passed_over() {
    let node = MadeUp::new(&everything(), |(_, number, _)| Does::Answers(groups(&number.to_string()))).await;
    let mut connection = node.connection(Options::default()).await.unwrap();
    let request = list_groups::Request::default();
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(connection.send::<ListGroups>(3, &request).await.unwrap());
    }
    for number in sent {
        let (answered, response) = connection.receive::<ListGroups>(3).await.unwrap();
        assert_eq!((answered, &*response.groups[0].group_id), (number, number.to_string().as_str()));
    }
    assert!(matches!(connection.receive::<ListGroups>(3).await, Err(Error::NothingAsked { .. })));
    let given_up = connection.send::<ListGroups>(3, &request).await.unwrap();
    let response = connection.ask_at::<ListGroups>(3, &request).await.unwrap();
    assert_eq!(*response.groups[0].group_id, (given_up + 1).to_string());
}

#[tokio::test]
async fn an_answer_that_comes_late_is_not_taken_for_the_next_one() {
    let held = Arc::new(Mutex::new(None));
    let keeps = held.clone();
    let node = MadeUp::new(&everything(), move |(version, number, _)| {
        let answer = encode_response(*version, *number, &groups(&number.to_string())).unwrap().concat();
        let late = keeps.lock().unwrap().take();
        match late {
            None => {
                *keeps.lock().unwrap() = Some(answer);
                Does::Waits
            }
            Some(late) => Does::Writes([late, answer].concat()),
        }
    })
    .await;
    let options = Options { request_timeout: Duration::from_millis(200), ..Options::default() };
    let mut connection = node.connection(options).await.unwrap();
    let request = list_groups::Request::default();
    let error = connection.ask_at::<ListGroups>(3, &request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { api: "ListGroups", .. }) && error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains(&node.address), "{error}");
    // Dropped while it waits, it is as if its time was up.
    let response = connection.ask_at::<ListGroups>(3, &request).await.unwrap();
    assert_eq!(&*response.groups[0].group_id, "3");
}

#[tokio::test]
async fn what_cannot_be_an_answer_is_an_error_that_says_so() {
    let answers: [(&[u8], &str); 4] = [
        (&[0, 0, 0, 4, 0, 0, 0, 99], "answers request 99, and 2 (ListGroups) is the next one"),
        (&[0, 0, 0, 5, 0, 0, 0, 2, 0], "needs 4 bytes"),
        (&[0x7f, 0, 0, 0], "announces 2130706432 bytes"),
        (&[0, 0, 0, 0], "announces 0 bytes"),
    ];
    for (bytes, text) in answers {
        let bytes = bytes.to_vec();
        let node = MadeUp::new(&everything(), move |_| Does::Writes(bytes.clone())).await;
        let mut connection = node.connection(Options::default()).await.unwrap();
        let error = connection.ask_at::<ListGroups>(1, &list_groups::Request::default()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().contains("ListGroups"), "{error}");
    }
    let node = MadeUp::new(&everything(), |_| Does::Ends).await;
    let mut connection = node.connection(Options::default()).await.unwrap();
    let error = connection.ask::<ListGroups>(&list_groups::Request::default()).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }) && error.is_broken(), "{error:?}");
    // Bytes as they are, and the end as what it is.
    let mut raw = Connection::unversed(&node.address, Options::default()).await.unwrap();
    raw.send_raw(Bytes::from_static(&[0, 0, 0, 10, 0, 16, 0, 0, 0, 0, 0, 7, 0xff, 0xff])).await.unwrap();
    assert_eq!(raw.frame().await.unwrap(), None);
}

/// What they send first was taken for a length: "a frame announces 1213486160 bytes".
#[tokio::test]
async fn who_speaks_something_else_is_named_by_it() {
    let answers: [(&[u8], &str); 2] =
        [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "in HTTP"), (&[0x15, 3, 1, 0, 2, 2, 70], "in TLS")];
    for (bytes, text) in answers {
        let bytes = bytes.to_vec();
        let node = MadeUp::new(&[], move |_| Does::Writes(bytes.clone())).await;
        let error = node.connection(Options::default()).await.unwrap_err();
        assert!(error.is_unreachable() && !error.is_retriable(), "{error:?}");
        assert_eq!(error.to_string(), format!("{} answers {text}, not in Kafka's protocol", node.address));
        let address = node.address.clone();
        let error = tokio::task::spawn_blocking(move || exactlog_client::connect(&address)).await.unwrap();
        let error = error.map(drop).unwrap_err();
        let said = format!("node {}: answers {text}, not in Kafka's protocol", node.address);
        assert_eq!(error.to_string(), said);
    }
}

/// It said "Resource temporarily unavailable (os error 11)".
#[tokio::test]
async fn a_node_that_says_nothing_is_waited_for_as_long_as_was_said() {
    let node = MadeUp::new(&[], |_| Does::Waits).await;
    let patience = Duration::from_millis(200);
    let options = Options { request_timeout: patience, ..Options::default() };
    let error = node.connection(options).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let (options, address) =
        (LogOptions { request_timeout: patience, ..LogOptions::default() }, node.address);
    let of_link = options.link(&address);
    let error = tokio::task::spawn_blocking(move || of_link.greet(Duration::from_secs(1)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.to_string(), "hasn't answered NodeHello within 200ms");
}

#[tokio::test]
async fn where_nobody_listens_the_address_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = Connection::connect(&address, Options::default()).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains(&address), "{error}");
    for wrong in ["nowhere", ":9092", "host:", "host:99999"] {
        let error = Connection::connect(wrong, Options::default()).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }) && !error.is_unreachable(), "{error}");
    }
    // The first of several that answers is asked.
    let node = MadeUp::new(&everything(), |_| Does::Answers(groups("g"))).await;
    let mut cluster =
        Cluster::connect(&format!("{address}, {}", node.address), Options::default()).await.unwrap();
    assert_eq!(cluster.node_ids().await.unwrap(), [1]);
}

fn heartbeat_of(code: Code) -> Does {
    Does::Answers(heartbeat::Response { error_code: code.0, ..Default::default() }.into())
}

fn coordinator(port: i32) -> Does {
    let it = find_coordinator::Coordinator { host: "127.0.0.1".into(), port, ..Default::default() };
    Does::Answers(find_coordinator::Response { coordinators: vec![it], ..Default::default() }.into())
}

#[tokio::test]
async fn codes_that_pass_are_waited_for_and_others_are_told() {
    let port = Arc::new(AtomicUsize::new(0));
    let known = port.clone();
    let mut left = vec![Code::NONE, Code::COORDINATOR_LOAD_IN_PROGRESS, Code::NOT_COORDINATOR];
    let node = MadeUp::new(&everything(), move |(_, _, request)| match request {
        Request::FindCoordinator(_) => coordinator(known.load(Ordering::Relaxed) as i32),
        _ => heartbeat_of(left.pop().unwrap_or(Code::ILLEGAL_GENERATION)),
    })
    .await;
    port.store(node.address.rsplit_once(':').unwrap().1.parse().unwrap(), Ordering::Relaxed);
    let mut cluster = node.cluster().await;
    let request = heartbeat::Request::default();
    let check = |response: heartbeat::Response| Refused::check(response.error_code, None);
    cluster.ask::<Heartbeat, ()>(To::Group("g"), &request, check).await.unwrap();
    assert_eq!(node.times(Heartbeat::KEY), 3);
    assert_eq!(node.times(FindCoordinator::KEY), 2, "asked for anew behind NOT_COORDINATOR alone");
    let error = cluster.ask::<Heartbeat, ()>(To::Group("g"), &request, check).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::ILLEGAL_GENERATION));
    assert!(error.to_string().contains("Heartbeat with ILLEGAL_GENERATION (22)"), "{error}");
    assert_eq!(node.times(Heartbeat::KEY), 4);
}

#[tokio::test]
async fn nothing_is_tried_beyond_the_deadline() {
    let node = MadeUp::new(&everything(), |_| heartbeat_of(Code::CONCURRENT_TRANSACTIONS)).await;
    let mut cluster = node.cluster().await.deadline(Duration::from_millis(200));
    let check = |response: heartbeat::Response| Refused::check(response.error_code, None);
    let asked = cluster.ask::<Heartbeat, ()>(To::Any, &heartbeat::Request::default(), check).await;
    assert_eq!(asked.unwrap_err().code(), Some(Code::CONCURRENT_TRANSACTIONS));
    assert!((2..=4).contains(&node.times(Heartbeat::KEY)), "{} tries", node.times(Heartbeat::KEY));
}

/// What may have been done is only asked again if that changes nothing.
#[tokio::test]
async fn behind_a_broken_connection_what_reads_is_asked_again_and_what_changes_is_not() {
    let mut ends = true;
    let node = MadeUp::new(&everything(), move |(_, _, request)| {
        ends = !ends;
        match request {
            _ if !ends => Does::Ends,
            Request::ListGroups(_) => Does::Answers(groups("g")),
            _ => Does::Answers(create_topics::Response::default().into()),
        }
    })
    .await;
    let mut cluster = node.cluster().await;
    let listed = cluster.ask::<ListGroups, _>(To::Any, &list_groups::Request::default(), Ok).await.unwrap();
    assert_eq!((&*listed.groups[0].group_id, node.times(ListGroups::KEY)), ("g", 2));
    let request = create_topics::Request::default();
    let error = cluster.ask::<CreateTopics, _>(To::Any, &request, Ok).await.unwrap_err();
    assert!(error.is_broken() && node.times(CreateTopics::KEY) == 1, "{error}");
    // The next request has a connection again.
    cluster.ask_repeatable::<CreateTopics, _>(To::Any, &request, Ok).await.unwrap();
    assert!(node.connections.load(Ordering::Relaxed) >= 3);
}

/// Also where it was the question for the coordinator that broke: who is asked next has a connection that works.
#[tokio::test]
async fn a_connection_that_breaks_while_a_coordinator_is_asked_for_is_forgotten() {
    let port = Arc::new(AtomicUsize::new(0));
    let (known, mut ends) = (port.clone(), true);
    let node = MadeUp::new(&everything(), move |(_, _, request)| match request {
        Request::FindCoordinator(_) if std::mem::take(&mut ends) => Does::Ends,
        Request::FindCoordinator(_) => coordinator(known.load(Ordering::Relaxed) as i32),
        _ => heartbeat_of(Code::NONE),
    })
    .await;
    port.store(node.address.rsplit_once(':').unwrap().1.parse().unwrap(), Ordering::Relaxed);
    let mut cluster = node.cluster().await;
    let check = |response: heartbeat::Response| Refused::check(response.error_code, None);
    let request = heartbeat::Request::default();
    cluster.ask_repeatable::<Heartbeat, ()>(To::Group("g"), &request, check).await.unwrap();
    assert_eq!((node.times(FindCoordinator::KEY), node.times(Heartbeat::KEY)), (2, 1));
}

/// Some codes that pass don't say that nothing was done.
#[tokio::test]
async fn a_code_that_leaves_it_open_is_as_a_broken_connection() {
    let node = MadeUp::new(&everything(), |_| heartbeat_of(Code::REQUEST_TIMED_OUT)).await;
    let mut cluster = node.cluster().await.deadline(Duration::from_millis(200));
    let check = |response: heartbeat::Response| Refused::check(response.error_code, None);
    let request = heartbeat::Request::default();
    let error = cluster.ask::<Heartbeat, ()>(To::Any, &request, check).await.unwrap_err();
    assert_eq!((error.code(), node.times(Heartbeat::KEY)), (Some(Code::REQUEST_TIMED_OUT), 1));
    _ = cluster.ask_repeatable::<Heartbeat, ()>(To::Any, &request, check).await.unwrap_err();
    assert!(node.times(Heartbeat::KEY) > 2);
}
