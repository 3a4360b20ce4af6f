//! A node with a log of its own, and a client that says exactly what it is told to.

use bytes::{Buf, Bytes};
use exactlog::wire::{Batch, BatchBuilder, ProducerStamp};
use exactlog::{Compression, Log, ProducerId, TopicOptions};
use exactlog_broker::{NodeOptions, Running, bind};
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::{OffsetCommit, Produce, offset_commit, produce};
use exactlog_wire::schema::Api;
use exactlog_wire::value::{Records, Str};
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long a test waits for what has to come.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) directory: TempDir,
    pub(crate) log: Log,
    pub(crate) running: Running,
}

impl Node {
    pub(crate) async fn start() -> Node {
        Node::with(NodeOptions::default()).await
    }

    /// On a port that is free.
    pub(crate) async fn with(options: NodeOptions) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path().join("data")).unwrap();
        Node { directory, ..Node::serving(log, options).await }
    }

    /// On this log.
    pub(crate) async fn serving(log: Log, options: NodeOptions) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = bind(NodeOptions { listen, ..options }).await.unwrap().serve(&log);
        Node { directory, log, running }
    }

    /// With a topic of so many partitions.
    pub(crate) async fn with_topic(name: &str, partitions: u32) -> Node {
        let node = Node::start().await;
        node.log.create_topic(name, TopicOptions::default().partitions(partitions)).unwrap();
        node
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.running.address()).await
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), correlation_id: 0 }
    }

    /// One whose system takes little of what it doesn't read.
    pub(crate) async fn with_short_buffers(address: SocketAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        Client { stream: socket.connect(address).await.unwrap(), correlation_id: 0 }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<A: Api>(&mut self, version: i16, request: &A::Request) -> A::Response {
        self.send::<A>(version, request).await;
        self.receive::<A>(version).await.1
    }

    /// Sends a request; its number.
    pub(crate) async fn send<A: Api>(&mut self, version: i16, request: &A::Request) -> i32 {
        self.correlation_id += 1;
        let client_id = Some(Str::from_static("test"));
        for part in ask::<A>(version, self.correlation_id, client_id, request).unwrap() {
            self.stream.write_all(&part).await.unwrap();
        }
        self.correlation_id
    }

    /// The next answer, and the number of its request.
    pub(crate) async fn receive<A: Api>(&mut self, version: i16) -> (i32, A::Response) {
        let frame = self.frame().await.expect("an answer, and not the end of the connection");
        answer::<A>(version, frame).unwrap()
    }

    /// The next frame; nothing: the node has ended the connection.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match timeout(LONG, self.stream.read_exact(&mut length)).await.expect("an answer in time") {
            Ok(_) => {}
            Err(_) => return None,
        }
        let mut frame = vec![0; (&length[..]).get_u32() as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    /// Produces a batch and waits for what became of it.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        index: i32,
        batch: Bytes,
    ) -> produce::PartitionProduceResponse {
        let response = self.ask::<Produce>(9, &produce_request(-1, topic, index, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }
}

pub(crate) fn produce_request(acks: i16, topic: &str, index: i32, batch: Bytes) -> produce::Request {
    produce::Request {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.into(),
            partition_data: vec![produce::PartitionProduceData { index, records: Some(batch.into()) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A batch of records with these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_of(values, None, Compression::None)
}

/// The same, of a producer (id, epoch, first sequence), in a codec.
pub(crate) fn batch_of(values: &[&str], producer: Option<(i64, i16, i32)>, codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    values.iter().for_each(|value| _ = builder.append(1000, None, Some(value.as_bytes()), &[]));
    let stamp = producer.map(|(producer, epoch, base_sequence)| ProducerStamp {
        id: ProducerId(producer),
        epoch,
        base_sequence,
    });
    let batch = builder.finish_compressed(stamp, codec).unwrap();
    [&batch.header()[..], batch.body()].concat().into()
}

/// The values of the records of an answer, with their offsets.
pub(crate) fn values_of(records: &Records) -> Vec<(u64, String)> {
    let (mut bytes, mut values) = (bytes_of(records), Vec::new());
    while !bytes.is_empty() {
        let batch = Batch::parse(bytes.split_to(Batch::announced_len(&bytes).unwrap())).unwrap();
        for record in batch.records().filter(|_| !batch.is_control()) {
            let record = record.unwrap();
            values.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    values
}

/// The batches of an answer, one behind the other.
pub(crate) fn bytes_of(records: &Records) -> Bytes {
    records.0.concat().into()
}

/// A metric of the node, by its name.
pub(crate) fn counter(node: &Node, name: &str) -> u64 {
    let page = node.log.prometheus();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("there is no {name} in {page}")).parse().unwrap()
}

/// Of a member of the group `billing`, in its generation or at its epoch.
pub(crate) fn commit(generation: i32, member_id: &str, offsets: &[(i32, i64)]) -> offset_commit::Request {
    let partition =
        |(partition_index, committed_offset): &(i32, i64)| offset_commit::OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
    offset_commit::Request {
        group_id: "billing".into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: offsets.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What became of each position of the only topic.
pub(crate) async fn committed(
    client: &mut Client,
    version: i16,
    request: &offset_commit::Request,
) -> Vec<i16> {
    let response = client.ask::<OffsetCommit>(version, request).await;
    response.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
}
