//! Clients of a node that is killed again and again, in frames of their own. Shared by the tests that kill nodes.

use crate::processes::Victim;
use exactlog::ProducerId;
use exactlog::wire::{Batch, BatchBuilder, ProducerStamp};
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::{InitProducerId, init_producer_id, produce};
use exactlog_wire::schema::Api;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// What the clients know of the node, and it of them.
pub(crate) struct World {
    pub(crate) address: Mutex<SocketAddr>,
    pub(crate) acks: AtomicU64,
    /// Begin nothing more; finish what was begun.
    pub(crate) ends: AtomicBool,
}

impl World {
    pub(crate) fn new(address: SocketAddr) -> World {
        World { address: Mutex::new(address), acks: AtomicU64::new(0), ends: AtomicBool::new(false) }
    }
}

/// A connection to the node that runs now.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Tries until there is one.
    pub(crate) fn connect(world: &World) -> Client {
        loop {
            let address = *world.address.lock().unwrap();
            if let Ok(stream) = TcpStream::connect(address) {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                stream.set_nodelay(true).unwrap();
                return Client(stream);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn send<A: Api>(&mut self, version: i16, request: &A::Request) -> io::Result<()> {
        self.0.write_all(&ask::<A>(version, 1, None, request).unwrap().concat())
    }

    pub(crate) fn receive<A: Api>(&mut self, version: i16) -> io::Result<A::Response> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame)?;
        Ok(answer::<A>(version, frame.into()).unwrap().1)
    }

    pub(crate) fn ask<A: Api>(&mut self, version: i16, request: &A::Request) -> io::Result<A::Response> {
        self.send::<A>(version, request)?;
        self.receive::<A>(version)
    }

    pub(crate) fn producer(&mut self, transactional_id: Option<&str>) -> io::Result<(i64, i16)> {
        let request = init_producer_id::Request {
            transactional_id: transactional_id.map(Into::into),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let response = self.ask::<InitProducerId>(4, &request)?;
        assert_eq!(response.error_code, 0);
        Ok((response.producer_id, response.producer_epoch))
    }
}

/// A batch with these values.
pub(crate) fn batch(values: &[&str], (id, epoch): (i64, i16), base_sequence: i32) -> Batch {
    let mut builder = BatchBuilder::new(64);
    for value in values {
        builder.append(1000, None, Some(value.as_bytes()), &[]);
    }
    builder.finish(Some(ProducerStamp { id: ProducerId(id), epoch, base_sequence }))
}

pub(crate) fn produce_of(
    topic: &str,
    index: i32,
    transactional_id: Option<&str>,
    batch: &Batch,
) -> produce::Request {
    let records = bytes::Bytes::from([&batch.header()[..], batch.body()].concat());
    produce::Request {
        transactional_id: transactional_id.map(Into::into),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.into(),
            partition_data: vec![produce::PartitionProduceData { index, records: Some(records.into()) }],
            ..Default::default()
        }],
    }
}

/// A node on this directory, and where it listens.
pub(crate) fn start(directory: &Path) -> (Victim, SocketAddr) {
    let mut node = Victim::start(Command::new(env!("CARGO_BIN_EXE_served-log")).arg(directory));
    let address = node.line().expect("it says where it listens").parse().unwrap();
    (node, address)
}
