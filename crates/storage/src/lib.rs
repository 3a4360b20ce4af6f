//! Where exactlog keeps bytes.
#![deny(unsafe_code)]

pub mod disk;
