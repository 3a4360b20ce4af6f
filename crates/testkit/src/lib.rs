//! A node for your tests: the real engine, on a disk that is memory.
//!
//! ```text
//!   TestBroker::start -> bootstrap() -> any client of Kafka
//!        | fail_next, lose_answer, cut_next, delay_next     one request of an API
//!        | pause, resume                                    all requests
//!        | crash_and_restart, power_loss_and_restart        what was acknowledged is there
//!        | fill_disk, free_disk, skip_time
//! ```
//!
//! It isn't a stand-in: requests go through the same code as those of `exactlog serve`, and what is acknowledged is
//! synced, on a simulated disk that knows what is. So a crash takes milliseconds, and loses what a crash may lose.
#![forbid(unsafe_code)]

mod broker;
mod faults;
mod refusal;

pub use broker::{Error, Options, TestBroker};
/// Kafka's codes, by its names: what [`TestBroker::fail_next`] refuses a request with.
pub use exactlog_wire::code;
pub use refusal::Api;
