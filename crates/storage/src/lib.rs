//! Where exactlog keeps bytes.
#![deny(unsafe_code)]

pub mod disk;
#[allow(unsafe_code)]
pub mod mapped;
pub mod segment;
