//! The `exactlog` command from outside: the real program, one process per call.

#![allow(clippy::unwrap_used)]

mod breakers;
mod common;
mod completion;
mod consume;
mod contract;
mod copying;
mod dedup;
mod dlq;
mod event_ids;
mod groups;
mod inspect;
mod interrupted;
mod layout;
mod limits;
mod looking;
mod produce;
mod remote;
mod repair;
mod repartition;
mod replay;
mod retry;
mod sagas;
mod serve;
mod tables;
mod timers;
mod topics;
mod usage;
