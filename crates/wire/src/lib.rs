//! Kafka's protocol as bytes: what a node and its clients say to each other, without a socket.
//!
//! ```text
//!   bytes of a connection --frame--> a frame --header--> which API, which version --message--> a request
//!   a response --message--> parts of a frame: small buffers, and record batches as they are
//! ```
//!
//! * [`frame`]: cuts frames out of what a connection sends
//! * [`header`]: what stands before each message
//! * [`message`]: whole messages, of any API
//! * [`messages`]: each API in a file of its own, in the notation of [`schema`]
//! * [`value`]: the kinds of values, each with its bytes; [`reader`] and [`writer`]
//! * [`error`]: what is wrong with bytes
//!
//! It isn't: a connection, a client, or what a node does about a request. Record batches stay bytes here; exactlog-core
//! looks into them.
#![forbid(unsafe_code)]

pub mod code;
pub mod error;
pub mod frame;
pub mod header;
pub mod message;
pub mod messages;
pub mod reader;
pub mod schema;
pub mod value;
pub mod writer;
