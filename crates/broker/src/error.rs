//! Why a node can't start.

use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// An error of a node. Those of requests are answers, not errors.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// It can't listen where it should.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A setting that can't be, with what others are.
    #[error("setting {name} is {value}; it must be {bounds}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        bounds: String,
    },
}
