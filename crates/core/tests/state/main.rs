//! The state and its commands, from outside: one program, so that what the tests share is compiled, and used, once.

mod common;

mod codec;
mod commit;
mod dedup;
mod golden;
mod group;
mod model;
mod offset_expiry;
mod order;
mod producer;
mod runs;
mod table;
mod timer;
mod timer_model;
mod topics;
mod totality;
mod transaction;
mod transaction_model;
