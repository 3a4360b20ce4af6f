//! The simulated disk, the obvious model, the checkers.
//!
//! * [`disk`]: a disk in memory that loses what wasn't synced; [`layer`]: one around it, through which a test sees
//!   calls; [`rng`]: where all randomness comes from
//! * [`model`], [`compare`]: what the log must answer and hold, without its logic
//! * [`workload`], [`forge`]: what runs do
//! * [`run`]: a run of opens, groups and crashes; [`enumerate`]: every crash of it; [`check`], [`ledger`]: oracle P;
//!   [`runs`]: ids of events that memory doesn't hold; [`report`]: what was met and what was broken
//! * [`damage`]: damage to every byte of a small directory
//! * [`fuzzing`]: what fuzzers feed; [`campaign`]: how far the suites go
//!
//! docs/TESTING.md says what each suite proves and how to run it longer.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod check;
pub mod compare;
pub mod damage;
pub mod disk;
pub mod enumerate;
pub mod forge;
pub mod fuzzing;
pub mod gate;
pub mod layer;
pub mod ledger;
pub mod model;
pub mod report;
pub mod rng;
pub mod run;
pub mod runs;
pub mod workload;
