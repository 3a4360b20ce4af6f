//! One connection of a client that waits for its answers.

use crate::Result;
use bytes::Bytes;
use exactlog::wire::BatchBuilder;
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::{fetch, produce};
use exactlog_wire::schema::Api;
use exactlog_wire::value::Str;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the run is given up.
const ANSWER_MAX: Duration = Duration::from_secs(120);

pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Client { stream, correlation_id: 0 })
    }

    pub(crate) fn ask<A: Api>(&mut self, version: i16, request: &A::Request) -> Result<A::Response> {
        self.correlation_id += 1;
        self.stream.write_all(&frame::<A>(version, self.correlation_id, request)?)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        let (correlation_id, response) = answer::<A>(version, body.into())?;
        match correlation_id == self.correlation_id {
            true => Ok(response),
            false => Err(format!("answer {correlation_id} to request {}", self.correlation_id).into()),
        }
    }
}

/// A request as it is sent.
pub(crate) fn frame<A: Api>(version: i16, correlation_id: i32, request: &A::Request) -> Result<Vec<u8>> {
    let parts = ask::<A>(version, correlation_id, Some(Str::from_static("hostile")), request)?;
    Ok(parts.concat())
}

/// A batch of one record with a value of so many bytes.
pub(crate) fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(value_bytes + 64);
    builder.append(1, None, Some(&vec![b'x'; value_bytes]), &[]);
    let batch = builder.finish(None);
    [batch.header(), &batch.body()[..]].concat().into()
}

pub(crate) const PRODUCE: i16 = 9;

pub(crate) fn produce(topic: &str, index: i32, batch: &Bytes) -> produce::Request {
    let data = produce::PartitionProduceData { index, records: Some(batch.clone().into()) };
    let topic = produce::TopicProduceData {
        name: topic.to_owned().into(),
        partition_data: vec![data],
        ..produce::TopicProduceData::default()
    };
    produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..produce::Request::default() }
}

pub(crate) const FETCH: i16 = 11;

pub(crate) fn fetch(topic: &str, fetch_offset: i64, bytes_max: i32) -> fetch::Request {
    let partition = fetch::FetchPartition {
        partition: 0,
        fetch_offset,
        partition_max_bytes: bytes_max,
        current_leader_epoch: -1,
        ..fetch::FetchPartition::default()
    };
    let topic = fetch::FetchTopic {
        topic: topic.to_owned().into(),
        partitions: vec![partition],
        ..fetch::FetchTopic::default()
    };
    fetch::Request {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: bytes_max,
        session_epoch: -1,
        topics: vec![topic],
        ..fetch::Request::default()
    }
}
