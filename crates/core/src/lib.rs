//! The pure core: what exactlog decides, without a clock, a file, a thread or randomness.
//!
//! ```text
//! Command  --codec-->  bytes  --(the journal orders and keeps them)-->  codec  -->  State::apply  -->  Applied
//! ```
//!
//! * [`batch`]: Kafka's record batch v2, the form in which records travel and rest
//! * [`command`], [`codec`]: everything that changes the log, and its bytes
//! * [`state`]: the state and the one function that changes it; [`reply`]: what that function answers
//! * [`plan`]: which old records may go
//! * [`partitioner`]: which partition a key goes to, equal to Kafka's clients
//! * [`ids`]: names of things; [`error_code`]: Kafka's words for refusals
//! * [`mutants`]: mistakes that tests plant, compiled out unless a feature asks
#![forbid(unsafe_code)]

pub mod batch;
pub mod codec;
pub mod command;
pub mod error_code;
pub mod ids;
pub mod mutants;
pub mod partitioner;
pub mod plan;
pub mod reply;
pub mod state;
