//! A node over its socket, in frames that are made here: what each API answers, and what becomes of a connection.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod admin_cluster;
mod admin_settings;
mod admin_topics;
mod answers;
mod api_versions;
mod common;
mod connections;
mod consumer_groups;
mod coordinators;
mod fetch_sessions;
mod fetching;
mod groups;
mod http;
mod late_requests;
mod offsets_by_time;
mod positions;
mod processes;
mod producing;
mod promises;
mod settings_honoured;
mod topics;
mod transactional;
mod transactions;
mod transactions_listed;
