//! The tables that this crate keeps in the user's database, by name and by column.
//!
//! | Table | A row is | Key |
//! |---|---|---|
//! | `_exactlog_offsets` | what a group has of a partition | group, topic id, partition |
//! | `_exactlog_outbox` | an event that is to be sent | id |
//! | `_exactlog_outbox_relay` | which outbox it is, who relays it, how far it was handed over: one row | |
//! | `_exactlog_inbox` | an id that was seen | scope, id |
//!
//! Invariants
//!   * a topic that was made anew under its old name has another id, and so another row

/// Offsets of groups.
pub(crate) const OFFSETS: &str = "_exactlog_offsets";

/// Events to be sent.
pub(crate) const OUTBOX: &str = "_exactlog_outbox";

/// The outbox itself.
pub(crate) const OUTBOX_RELAY: &str = "_exactlog_outbox_relay";
