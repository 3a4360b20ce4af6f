//! A node: the log behind Kafka's protocol, for the clients that there are.
//!
//! ```text
//!   listener -> connection -> frame -> request -> one handler of its API -> answer
//!                                                    |            ^
//!                                                    v            |
//!                                                   the log (exactlog)
//! ```
//!
//! [`bind`] takes the port, [`Bound::serve`] lets the node serve a [`Log`](exactlog::Log), and [`Running::stop`] ends
//! it. The log stays what it is: whoever has it goes on using it beside the node's clients.
//!
//! It isn't: a place where anything is kept. What a node knows besides its log is lost with it, and may be.
#![forbid(unsafe_code)]

mod alteration;
mod apis;
mod code;
mod connection;
mod dispatch;
mod error;
mod groups;
mod http;
mod internal;
#[doc(hidden)]
pub mod intervention;
mod meters;
mod node;
mod options;
mod processes;
mod rights;
mod room;
mod sessions;
mod settings;
mod transactions;
mod uptime;

pub use error::Error;
pub use node::{Bound, Running, bind, topic_id};
pub use options::NodeOptions;
