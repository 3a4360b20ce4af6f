//! Memory of their own for batches that come from outside.
//!
//! A batch that a front end hands in is a slice of what a connection has received: it keeps all of that alive, and that
//! was allocated by whichever thread served the connection. The tail cache holds such batches for long, and then the
//! allocator has memory of each of these threads that it can't give back (measured: 138 MiB for a cache of 64). So the
//! writer copies them into memory that it allocates itself, one behind the other, and that goes in the same order.
//!
//! ```text
//!   body up to 16 KiB -> behind the one before it, in a slab of 64 KiB     longer -> memory of exactly its length
//! ```
//!
//! Invariants
//!   * a body keeps no more alive than itself and its slab
//!   * what is copied is the same batch, byte for byte

use bytes::{Bytes, BytesMut};
use exactlog_core::batch::Batch;
use exactlog_core::command::{Command, Dedup, TimerCommand, Transactional};

/// What short bodies lie in.
const SLAB_BYTES: usize = 64 * 1024;
/// Longer bodies are alone.
const SHARED_BYTES_MAX: usize = SLAB_BYTES / 4;

/// Where the next short body goes.
#[derive(Debug, Default)]
pub(crate) struct OwnMemory {
    slab: BytesMut,
}

impl OwnMemory {
    /// Moves the batch of a command there, if it is one that may come from outside.
    pub(crate) fn take_over(&mut self, command: &mut Command) {
        match command {
            Command::Append { batch, .. } => self.copy(batch),
            Command::Transactional(request) => {
                if let Transactional::Append { batch, .. } = &mut **request {
                    self.copy(batch);
                }
            }
            _ => {}
        }
    }

    /// Moves all batches of a command there: one that comes from another process as a whole.
    pub(crate) fn take_over_all(&mut self, command: &mut Command) {
        match command {
            Command::Commit(commit) => {
                commit.batches.iter_mut().for_each(|(_, batch)| self.copy(batch));
                commit.timers.set.iter_mut().for_each(|timer| self.copy(&mut timer.batch));
                commit.table_writes.iter_mut().for_each(|writes| self.copy(&mut writes.batch));
            }
            Command::Dedup(request) => {
                if let Dedup::Append { batch, .. } = &mut **request {
                    self.copy(batch);
                }
            }
            Command::Timer(request) => {
                if let TimerCommand::Set { timer, .. } = &mut **request {
                    self.copy(&mut timer.batch);
                }
            }
            command => self.take_over(command),
        }
    }

    fn copy(&mut self, batch: &mut Batch) {
        let body = self.copied(batch.body());
        // What is checked of a header without its checksum is about lengths and counts, and these stay.
        if let Ok(copied) = Batch::from_verified_parts(*batch.header(), body) {
            *batch = copied;
        }
    }

    fn copied(&mut self, body: &[u8]) -> Bytes {
        if body.len() > SHARED_BYTES_MAX {
            return Bytes::copy_from_slice(body);
        }
        if self.slab.capacity() < body.len() {
            self.slab = BytesMut::with_capacity(SLAB_BYTES);
        }
        self.slab.extend_from_slice(body);
        self.slab.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_core::batch::BatchBuilder;
    use exactlog_core::ids::{Partition, TopicId};

    fn batch_of(value_bytes: usize) -> Batch {
        let value = vec![7; value_bytes];
        let mut builder = BatchBuilder::new(value_bytes);
        builder.append(0, None, Some(&value), &[]);
        builder.finish(None)
    }

    /// As it comes from a connection: in the middle of something longer.
    fn received(batch: &Batch) -> Command {
        let bytes = [&b"before"[..], batch.header(), batch.body(), &[0; 1 << 20]].concat();
        let batch = Batch::parse(Bytes::from(bytes).slice(6..6 + batch.len_bytes())).unwrap();
        let partition = Partition { topic: TopicId(1), index: 0 };
        Command::Append { partition, config_version: 0, expected_end: None, batch }
    }

    #[test]
    fn a_batch_from_outside_stays_the_same_and_keeps_nothing_else_alive() {
        let mut memory = OwnMemory::default();
        for value_bytes in [0, 1, 100, SHARED_BYTES_MAX, SHARED_BYTES_MAX + 1, 300_000] {
            let original = batch_of(value_bytes);
            let mut command = received(&original);
            memory.take_over(&mut command);
            let Command::Append { batch, .. } = command else { unreachable!() };
            assert_eq!(batch, original, "{value_bytes} bytes");
            // Nobody else has it: it can be had to be written, with no more room than a slab.
            let body = batch.body().clone();
            drop(batch);
            memory.slab = BytesMut::new();
            let body = body.try_into_mut().expect("nobody shares it");
            assert!(body.capacity() <= SLAB_BYTES.max(body.len()), "{} bytes", body.capacity());
        }
    }

    #[test]
    fn short_bodies_lie_in_few_slabs() {
        let mut memory = OwnMemory::default();
        let bodies: Vec<Bytes> = (0..1000).map(|nth| memory.copied(&[nth as u8; 1000])).collect();
        let in_order = bodies.windows(2).filter(|pair| pair[0].as_ptr_range().end == pair[1].as_ptr());
        assert!(in_order.count() >= 980, "each slab takes 65 of them");
        assert!(bodies.iter().enumerate().all(|(nth, body)| body.iter().all(|byte| *byte == nth as u8)));
    }
}
