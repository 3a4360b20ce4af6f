//! Where exactlog keeps bytes: the journal, the index over it, and recovery.
//!
//! * [`disk`]: what is asked of a disk, and the real one
//! * [`journal`]: every command in one order, on disk before anything relies on it
//! * [`shard`]: journal, state and index as one step machine
//! * [`segment`]: a partition's batches as files of their own, written behind
//! * [`checkpoint`]: the state at one lsn, so that the journal before it can go
//! * [`projection`]: writing behind, from the journal into segments
//! * [`feed`]: the heads of the newest commands, for states that follow this one without its records
//! * [`follower`]: a log that takes its commands from another log's journal
//! * [`install`]: how it goes on when that journal no longer has them
//! * [`index`]: where each batch can be read
//! * [`repair`]: what is wrong with a closed directory, and what can be done without a guess
//! * [`error`]: what can go wrong
//!
//! It knows nothing of threads, clocks or users: those are the facade's.
#![deny(unsafe_code)]

pub mod behind;
pub mod checkpoint;
pub mod cleaning;
mod demand;
pub mod disk;
pub mod error;
pub mod feed;
pub mod follower;
pub mod index;
pub mod install;
pub mod journal;
mod landmarks;
#[allow(unsafe_code)]
pub mod mapped;
pub mod partitions;
pub mod projection;
pub mod repair;
mod reserve;
pub mod runs;
pub mod segment;
pub mod shard;

pub use error::StorageError;
