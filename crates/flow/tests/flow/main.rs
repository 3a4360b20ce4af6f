//! The processor on the real engine, in virtual time where time matters.
#![allow(clippy::unwrap_used, missing_docs)]

mod basics;
mod beside;
mod breaking;
mod common;
mod crashes;
mod dead_letters;
mod dedup;
mod lags;
mod ordering;
#[allow(dead_code, reason = "its faults are for the tests of the facade")]
#[path = "../../../exactlog/tests/facade/common/over.rs"]
mod over;
mod redrives;
mod replays;
mod requests;
mod retries;
mod saga_crashes;
mod sagas;
mod tables;
mod throttling;
mod traces;
