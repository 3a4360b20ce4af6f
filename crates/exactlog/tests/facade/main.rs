//! The facade, from outside: one program, so that what the tests share is compiled, and used, once.

#![allow(clippy::unwrap_used)]

mod admin;
mod bad_input;
mod basics;
mod common;
mod compaction;
mod compressed;
mod compressing;
mod concurrency;
mod damaged_segments;
mod dedup;
mod forwarding;
mod front;
mod front_transactions;
mod full_disk;
mod groups;
mod in_flight;
mod interval;
mod modes;
mod over_connection;
mod read_only;
mod repair;
mod retention;
mod runs;
mod settings;
mod skipped_time;
mod tables;
mod timers;
mod topic_codec;
mod topic_durability;
mod turns;
mod views;
mod wire_transactions;
