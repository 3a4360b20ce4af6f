//! The facade, from outside: one program, so that what the tests share is compiled, and used, once.

#![allow(clippy::unwrap_used)]

mod common;

mod bad_input;
mod basics;
mod concurrency;
mod full_disk;
mod groups;
mod in_flight;
mod modes;
mod settings;
mod views;
mod wire_transactions;
