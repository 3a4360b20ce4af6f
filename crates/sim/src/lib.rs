//! The simulated disk, the obvious model, the checkers.
#![forbid(unsafe_code)]

pub mod disk;
pub mod fuzzing;
pub mod rng;
