//! The processor on the real engine, in virtual time where time matters.
#![allow(clippy::unwrap_used, missing_docs)]

mod basics;
mod breaking;
mod common;
mod crashes;
mod dead_letters;
mod dedup;
mod ordering;
mod redrives;
mod requests;
mod retries;
mod tables;
