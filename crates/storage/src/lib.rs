//! Where exactlog keeps bytes.
#![deny(unsafe_code)]

pub mod disk;
pub mod error;
pub mod journal;
#[allow(unsafe_code)]
pub mod mapped;
pub mod segment;

pub use error::StorageError;
