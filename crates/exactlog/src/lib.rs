//! The embedded event log.
#![forbid(unsafe_code)]
