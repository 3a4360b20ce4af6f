//! The simulated disk, the obvious model, the checkers.
#![forbid(unsafe_code)]
