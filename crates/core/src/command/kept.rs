//! Settings of Kafka's that are kept for its clients and change nothing.
//!
//! They are about replicas, of which a partition has one, and about syncs, which come before every acknowledgement
//! unless a durability says otherwise. Who sets them finds them again.

use serde::{Deserialize, Serialize};

/// Settings of a topic that change nothing, or what all topics have that say nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSettings {
    /// Replicas that have to have what is acknowledged (`min.insync.replicas`). Default 1, and at least that. A
    /// partition has one, so more is as good as 1, as in Kafka (KIP-966).
    pub min_insync_replicas: u32,
    /// Whether a replica may lead that lacks records (`unclean.leader.election.enable`). Default false. There is none.
    pub unclean_leader_election: bool,
    /// After how many records the log is synced at the latest (`flush.messages`). Default `None`; at least 1.
    pub flush_messages: Option<u64>,
    /// After which time the log is synced at the latest, in ms (`flush.ms`). Default `None`.
    pub flush_ms: Option<u64>,
}

impl Default for KeptSettings {
    fn default() -> Self {
        KeptSettings {
            min_insync_replicas: 1,
            unclean_leader_election: false,
            flush_messages: None,
            flush_ms: None,
        }
    }
}
