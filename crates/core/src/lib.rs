//! The pure core: what exactlog decides, without a clock, a file, a thread or randomness.
#![forbid(unsafe_code)]

pub mod batch;
pub mod ids;
pub mod mutants;
pub mod partitioner;
