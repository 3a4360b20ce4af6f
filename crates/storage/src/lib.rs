//! Where exactlog keeps bytes.
#![deny(unsafe_code)]

pub mod disk;
pub mod error;
pub mod journal;

pub use error::StorageError;
