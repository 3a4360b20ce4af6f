//! A client of Kafka's protocol: asks nodes, exactlog's and Kafka's, and says exactly what they answer. And the way
//! to the log of a node of exactlog: [`connect`] gives a [`Log`](exactlog::Log) that is used like one of this process.
//!
//! ```text
//!   Cluster      whom to ask (bootstrap, leaders, coordinators), and again where Kafka says that this helps
//!   Connection   one node: versions that both have, requests and answers, time limits
//!   exactlog-wire                           messages and frames
//! ```
//!
//! * [`connection`]: one connection; one request at a time, several on their way, or raw frames
//! * [`cluster`]: the nodes of a cluster behind one address
//! * [`code`]: Kafka's codes, by name, and which of them ask for another try
//! * [`node_link`]: the log of a node
//! * [`error`]: what can go wrong, with the address and the API
//!
//! It isn't: a producer or a consumer. Nothing here makes or reads record batches, keeps positions, or is a member of a
//! group by itself. There is no TLS and no SASL.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod code;
pub mod connection;
pub mod error;
pub mod node_link;

pub use cluster::{Cluster, Refused, To};
pub use code::Code;
pub use connection::{Connection, Options};
pub use error::Error;
pub use node_link::{LogOptions, connect};
