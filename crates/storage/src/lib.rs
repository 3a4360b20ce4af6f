//! Where exactlog keeps bytes.
#![deny(unsafe_code)]

pub mod disk;
pub mod segment;
