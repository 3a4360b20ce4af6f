//! One connection to a node: which versions both have, requests and their answers, time limits.
//!
//! ```text
//!   connect -> ApiVersions -> ask, ask                          one at a time
//!                          -> send, send, receive, receive      several on their way; answers come in their order
//!                          -> send_raw, frame                   bytes as they are
//! ```
//!
//! Invariants
//!   * an answer is taken for the request that it belongs to: by its correlation id, and in the order of requests
//!   * memory grows with bytes that were received, up to the limit of a frame
//!   * a request that was written in part is the last one: what would follow has no beginning

use crate::code::Code;
use crate::error::Error;
use bytes::{Bytes, BytesMut};
use exactlog_wire::frame::FrameLimit;
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::{ApiVersions, api_versions};
use exactlog_wire::schema::{Api, Versions};
use exactlog_wire::value::Str;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where an answer has the number of its request.
const CORRELATION_ID_BYTES: usize = 4;
/// Where the answer to ApiVersions, of any version, has its code.
const API_VERSIONS_CODE_AT: usize = CORRELATION_ID_BYTES;

/// What a connection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the client calls itself. Default: `exactlog`.
    pub client_id: String,
    /// How long to wait for the connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long to wait for an answer. Default: 30 s; where the node is told to wait it has to be longer than that.
    pub request_timeout: Duration,
    /// Longest answer that is taken, in bytes. Default: 100 MiB, as a node takes of requests.
    pub frame_bytes_max: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            client_id: "exactlog".to_string(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            frame_bytes_max: 100 * 1024 * 1024,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: Arc<str>,
    options: Options,
    client_id: Str,
    received: BytesMut,
    /// Of the request that was sent last.
    correlation_id: i32,
    /// Requests whose answers are still to come: number and name.
    waiting: VecDeque<(i32, &'static str)>,
    /// What the node says that it has. Nothing before the handshake.
    versions: BTreeMap<i16, Versions>,
    /// Whether a request may have been written in part.
    is_torn: bool,
}

impl Connection {
    /// Connects, and asks for the versions that the node has.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Connect`] if nobody answers there; whatever [`ask_at`](Connection::ask_at) can.
    ///
    /// # Cancel safety
    /// Dropped, there is no connection.
    pub async fn connect(address: &str, options: Options) -> Result<Connection, Error> {
        let mut connection = Connection::unversed(address, options).await?;
        connection.shake_hands().await?;
        Ok(connection)
    }

    /// Connects, and says nothing: for whoever names versions himself.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Connect`].
    ///
    /// # Cancel safety
    /// As [`connect`](Connection::connect).
    pub async fn unversed(address: &str, options: Options) -> Result<Connection, Error> {
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !has_port {
            return Err(Error::Address { address: address.to_string() });
        }
        let late = || {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {:?}", options.connect_timeout))
        };
        let connected = timeout(options.connect_timeout, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(late()));
        let address: Arc<str> = address.into();
        let failed = |source| Error::Connect { address: address.clone(), source };
        let stream = connected.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let client_id = options.client_id.as_str().into();
        Ok(Connection {
            stream,
            address,
            options,
            client_id,
            received: BytesMut::new(),
            correlation_id: 0,
            waiting: VecDeque::new(),
            versions: BTreeMap::new(),
            is_torn: false,
        })
    }

    /// Asks for the versions of the node: in the newest form that both know (KIP-511).
    async fn shake_hands(&mut self) -> Result<(), Error> {
        let request = api_versions::Request {
            client_software_name: self.client_id.clone(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let newest = ApiVersions::VERSIONS.to;
        self.send::<ApiVersions>(newest, &request).await?;
        let frame = self.answered(ApiVersions::NAME).await?;
        let code = frame.get(API_VERSIONS_CODE_AT..).and_then(|rest| rest.first_chunk());
        let response = match code.map(|code| Code(i16::from_be_bytes(*code))) {
            // Told in the form of version 0, with the versions of this API at least.
            Some(Code::UNSUPPORTED_VERSION) => {
                let known = self.read::<ApiVersions>(0, frame)?.api_keys;
                let theirs = known.iter().find(|it| it.api_key == ApiVersions::KEY);
                let version = theirs.map_or(0, |it| it.max_version.min(newest));
                self.ask_at::<ApiVersions>(version, &request).await?
            }
            _ => self.read::<ApiVersions>(newest, frame)?,
        };
        if response.error_code != Code::NONE.0 {
            return Err(self.refused::<ApiVersions>(Code(response.error_code), None));
        }
        let versions = |it: &api_versions::ApiVersion| {
            (it.api_key, Versions { from: it.min_version, to: it.max_version })
        };
        self.versions = response.api_keys.iter().map(versions).collect();
        Ok(())
    }

    /// Whom it is connected to.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether it is of no use any more: a request was given up while it was written.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// The highest version of an API that both have.
    ///
    /// # Errors
    /// [`Error::Version`] names the API and the versions of both.
    pub fn version_of<A: Api>(&self) -> Result<i16, Error> {
        self.version_up_to::<A>(i16::MAX)
    }

    /// As [`version_of`](Connection::version_of), and not above one: for fields that newer versions don't have.
    ///
    /// # Errors
    /// As [`version_of`](Connection::version_of).
    pub fn version_up_to<A: Api>(&self, most: i16) -> Result<i16, Error> {
        let ours = Versions { from: A::VERSIONS.from, to: A::VERSIONS.to.min(most) };
        let theirs = self.versions.get(&A::KEY).copied();
        let version = theirs.map_or(i16::MIN, |theirs| ours.to.min(theirs.to));
        match theirs.is_some_and(|theirs| theirs.has(version)) && ours.has(version) {
            true => Ok(version),
            false => Err(Error::Version { address: self.address.clone(), api: A::NAME, ours, theirs }),
        }
    }

    /// Asks in the highest version that both have, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Version`]; as [`ask_at`](Connection::ask_at).
    ///
    /// # Cancel safety
    /// As [`ask_at`](Connection::ask_at).
    pub async fn ask<A: Api>(&mut self, request: &A::Request) -> Result<A::Response, Error> {
        let version = self.version_of::<A>()?;
        self.ask_at::<A>(version, request).await
    }

    /// Asks in a version, and waits for the answer. Answers to what was sent before, and wasn't received, are passed
    /// over.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Ended`], [`Error::Timeout`]; [`Error::Answer`] for one that can't be read,
    /// [`Error::Stranger`] if it isn't a node's.
    ///
    /// # Cancel safety
    /// Dropped, the request may have been done all the same. The connection stays good, unless the request was being
    /// written: then [`is_torn`](Connection::is_torn), and everything else answers [`Error::Io`].
    pub async fn ask_at<A: Api>(&mut self, version: i16, request: &A::Request) -> Result<A::Response, Error> {
        let asked = self.send::<A>(version, request).await?;
        while self.waiting.front().is_some_and(|(number, _)| *number != asked) {
            self.answered(A::NAME).await?;
        }
        self.receive::<A>(version).await.map(|(_, response)| response)
    }

    /// Sends a request in a version; its number. Answers are [`receive`](Connection::receive)d in their order.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Io`].
    ///
    /// # Cancel safety
    /// Not safe: as [`ask_at`](Connection::ask_at).
    pub async fn send<A: Api>(&mut self, version: i16, request: &A::Request) -> Result<i32, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let number = self.correlation_id;
        let parts = ask::<A>(version, number, Some(self.client_id.clone()), request)
            .map_err(|_| Error::TooLong { address: self.address.clone(), api: A::NAME })?;
        self.write(&parts, A::NAME).await?;
        self.waiting.push_back((number, A::NAME));
        Ok(number)
    }

    /// The answer to the oldest request that has none, and the number of that request.
    ///
    /// # Errors
    /// As [`ask_at`](Connection::ask_at); [`Error::NothingAsked`].
    ///
    /// # Cancel safety
    /// Safe: the answer is received by the next call.
    pub async fn receive<A: Api>(&mut self, version: i16) -> Result<(i32, A::Response), Error> {
        let number = self.waiting.front().map(|(number, _)| *number);
        let number = number.ok_or_else(|| Error::NothingAsked { address: self.address.clone() })?;
        let frame = self.answered(A::NAME).await?;
        Ok((number, self.read::<A>(version, frame)?))
    }

    /// The frame with the next answer, checked to be that of the oldest request without one.
    async fn answered(&mut self, api: &'static str) -> Result<Bytes, Error> {
        let frame = self.next_frame(api).await?;
        let frame = frame.ok_or_else(|| Error::Ended { address: self.address.clone(), api })?;
        let found = frame.first_chunk::<CORRELATION_ID_BYTES>().map_or(0, |id| i32::from_be_bytes(*id));
        match self.waiting.pop_front() {
            Some((expected, _)) if expected == found => Ok(frame),
            due => {
                let expected = due.map_or(0, |(number, _)| number);
                Err(Error::Order { address: self.address.clone(), api, expected, found })
            }
        }
    }

    fn read<A: Api>(&self, version: i16, frame: Bytes) -> Result<A::Response, Error> {
        let read = answer::<A>(version, frame).map(|(_, response)| response);
        read.map_err(|source| Error::Answer { address: self.address.clone(), api: A::NAME, version, source })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Cancel safety
    /// Not safe: as [`ask_at`](Connection::ask_at).
    pub async fn send_raw(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.write(&[bytes], RAW).await
    }

    /// The next frame, whatever it belongs to, without its length; `None`: the node has ended the connection.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Timeout`]; [`Error::Frame`] for a length that can't be one, [`Error::Stranger`] if it
    /// shows that it isn't a node who answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn frame(&mut self) -> Result<Option<Bytes>, Error> {
        let frame = self.next_frame(RAW).await?;
        self.waiting.pop_front();
        Ok(frame)
    }

    async fn write(&mut self, parts: &[Bytes], api: &'static str) -> Result<(), Error> {
        let failed = |source| Error::Io { address: self.address.clone(), api, source };
        if self.is_torn {
            return Err(failed(io::Error::new(io::ErrorKind::BrokenPipe, "an earlier request was given up")));
        }
        self.is_torn = true;
        let stream = &mut self.stream;
        let writes = async {
            for part in parts {
                stream.write_all(part).await?;
            }
            io::Result::Ok(())
        };
        match timeout(self.options.request_timeout, writes).await {
            Ok(written) => written.map_err(failed)?,
            Err(_) => return Err(self.late(api)),
        }
        self.is_torn = false;
        Ok(())
    }

    async fn next_frame(&mut self, api: &'static str) -> Result<Option<Bytes>, Error> {
        let limit = FrameLimit { max: self.options.frame_bytes_max };
        let address = &self.address;
        let (stream, received) = (&mut self.stream, &mut self.received);
        let reads = async {
            loop {
                let next = limit.next(received);
                let next = next.map_err(|source| match source.stranger() {
                    Some(stranger) => Error::Stranger { address: address.clone(), stranger },
                    None => Error::Frame { address: address.clone(), api, source },
                })?;
                if next.is_some() {
                    return Ok(next);
                }
                let read = stream.read_buf(received).await;
                let read = read.map_err(|source| Error::Io { address: address.clone(), api, source })?;
                match read {
                    0 if received.is_empty() => return Ok(None),
                    0 => return Err(Error::Ended { address: address.clone(), api }),
                    _ => {}
                }
            }
        };
        match timeout(self.options.request_timeout, reads).await {
            Ok(frame) => frame,
            Err(_) => Err(self.late(api)),
        }
    }

    fn late(&self, api: &'static str) -> Error {
        Error::Timeout { address: self.address.clone(), api, waited: self.options.request_timeout }
    }

    /// That the node says no.
    pub(crate) fn refused<A: Api>(&self, code: Code, message: Option<String>) -> Error {
        Error::Refused { address: self.address.clone(), api: A::NAME, code, message }
    }
}

/// What errors call bytes that nobody has made into a request.
const RAW: &str = "bytes";
