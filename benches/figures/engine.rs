//! The engine without the facade: groups of built batches, one after the other.
//!
//! What the log could reach at most if queue, producer and threads cost nothing. The journal's files are prepared
//! before, and nothing is written behind.

use crate::burst::{BATCH_RECORDS, BATCHES_IN_FLIGHT, Burst, PARTITIONS, built_batch};
use crate::setup::{self, JOURNAL_FILE_BYTES, Measures, Result};
use exactlog::{Durability, TopicConfig};
use exactlog_benches::samples::Samples;
use exactlog_core::command::Command;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::Reply;
use exactlog_storage::disk::RealDisk;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Time of all commands, in ms since 1970.
const TIME_MS: i64 = 1_700_000_000_000;

/// Settings of a topic that were never changed.
const FIRST_CONFIG_VERSION: u32 = 0;

/// Opens the engine of a log that nobody else has open.
pub(crate) fn open(directory: &Path, options: Options) -> Result<Shard> {
    let mut number = u64::from(std::process::id()) << 32;
    let mut random = move || {
        number += 1;
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let (shard, _) = Shard::open(Arc::new(RealDisk::new(directory)?), options, &mut random)?;
    Ok(shard)
}

/// A burst of built batches.
pub(crate) fn burst(
    measures: &Measures,
    durability: Durability,
    value_bytes: u64,
    bytes: u64,
) -> Result<Burst> {
    let directory = measures.fresh()?;
    let ring_bytes = setup::ring_bytes(bytes);
    let options = Options { durability, journal_ring_bytes: ring_bytes, ..Options::default() };
    let mut shard = open(directory.path(), options)?;
    let topic = create_topic(&mut shard)?;
    for _ in 0..bytes * 5 / 4 / JOURNAL_FILE_BYTES + 2 {
        shard.journal().spares().prepare()?;
    }
    let batch = built_batch(value_bytes);
    let in_group = BATCHES_IN_FLIGHT.min((shard.group_bytes_max() / batch.len_bytes()).max(1));
    let groups = bytes / (BATCH_RECORDS * value_bytes) / in_group as u64;
    let mut latency = Samples::default();
    let began = Instant::now();
    for _ in 0..groups {
        let began = Instant::now();
        let submissions: Vec<Submission> = (0..in_group)
            .map(|index| Submission {
                time_ms: TIME_MS,
                command: Command::Append {
                    partition: Partition { topic, index: index as u32 % PARTITIONS },
                    config_version: FIRST_CONFIG_VERSION,
                    expected_end: None,
                    batch: batch.clone(),
                },
            })
            .collect();
        for applied in shard.execute(&submissions)? {
            if let Reply::Refused(refusal) = applied.reply {
                return Err(format!("a batch was refused: {refusal:?}").into());
            }
        }
        latency.push(began.elapsed());
    }
    let elapsed = began.elapsed();
    let records = groups * in_group as u64 * BATCH_RECORDS;
    Ok(Burst { records, value_bytes, elapsed, latency: latency.summary() })
}

fn create_topic(shard: &mut Shard) -> Result<TopicId> {
    let name = "burst".to_string();
    let create = Command::CreateTopic { name, partitions: PARTITIONS, config: TopicConfig::default() };
    let commands = [Command::Open, create];
    let submissions = commands.map(|command| Submission { time_ms: TIME_MS, command });
    match shard.execute(&submissions)?.pop().map(|applied| applied.reply) {
        Some(Reply::Topic { topic, .. }) => Ok(topic),
        other => Err(format!("no topic was created: {other:?}").into()),
    }
}
