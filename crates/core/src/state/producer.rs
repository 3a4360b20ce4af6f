//! Named producers: epochs, the numbers of their commits, and their cursor (semantics ID-1, ID-5, EM-3).
//!
//! ```text
//!   InitProducer(name):  epoch 0 -> 1 -> 2 ... -> 32766 -> a new id with epoch 0, under the same name
//! ```
//!
//! Invariants
//!   * commit numbers go up by one, over all epochs and ids of a name
//!   * a named producer never expires: its cursor is somebody's position in an outside source

use super::{Outcome, State, done, push_bounded};
use crate::batch::ProducerStamp;
use crate::command::{CommitToken, is_legal_name};
use crate::ids::{Partition, ProducerId};
use crate::mutants::{Mutant, on};
use crate::reply::{Committed, Refusal, Reply};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A named producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Its name.
    pub name: String,
    /// The current epoch.
    pub producer_epoch: i16,
    /// Number of the last commit; 0: none yet.
    pub last_number: u64,
    /// Answers to the last commits, oldest first, at most five.
    pub replies: Vec<KeptReply>,
    /// The last commit number of earlier epochs, oldest first, at most five.
    pub epochs: Vec<EpochEnd>,
    /// The position in an outside source that a commit set last.
    pub cursor: Option<Vec<u8>>,
}

/// The answer to a commit, kept for its retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReply {
    /// Its token.
    pub token: CommitToken,
    /// Its lsn.
    pub lsn: u64,
    /// Base offsets of its batches, for at most the first 64 partitions.
    pub base_offsets: Vec<(Partition, u64)>,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEnd {
    /// The id that the producer had.
    pub producer: ProducerId,
    /// The epoch.
    pub producer_epoch: i16,
    /// Number of the last commit in it, or before it if it had none.
    pub last_number: u64,
}

/// Answers kept per producer.
const REPLIES_KEPT: usize = 5;
/// Ends of epochs kept per producer.
const EPOCHS_KEPT: usize = 5;
/// The last epoch of an id: Kafka's clients take 32767 for exhausted.
const PRODUCER_EPOCH_MAX: i16 = i16::MAX - 1;

impl State {
    pub(super) fn init_producer(&mut self, name: Option<&str>) -> Outcome {
        if let Some(name) = name {
            if !is_legal_name(name) {
                return Err(Refusal::IllegalName { name: name.to_string() });
            }
            if let Some(id) = self.producer_names.get(name).copied() {
                return self.next_epoch(name, id);
            }
        }
        let producer = self.new_producer_id()?;
        if let Some(name) = name {
            let named = Producer { name: name.to_string(), ..Producer::default() };
            self.producer_names.insert(name.to_string(), producer);
            self.producers.insert(producer, Arc::new(named));
        }
        done(Reply::Producer { producer, producer_epoch: 0, last_number: 0, cursor: None })
    }

    fn next_epoch(&mut self, name: &str, id: ProducerId) -> Outcome {
        let exhausted = self.producers[&id].producer_epoch >= PRODUCER_EPOCH_MAX;
        let next_id = if exhausted { self.new_producer_id()? } else { id };
        let mut entry = self.producers.remove(&id).expect("a name leads to a producer");
        let producer = Arc::make_mut(&mut entry);
        let end = EpochEnd {
            producer: id,
            producer_epoch: producer.producer_epoch,
            last_number: producer.last_number,
        };
        push_bounded(&mut producer.epochs, end, EPOCHS_KEPT);
        producer.producer_epoch = if exhausted { 0 } else { producer.producer_epoch + 1 };
        let reply = Reply::Producer {
            producer: next_id,
            producer_epoch: producer.producer_epoch,
            last_number: producer.last_number,
            cursor: producer.cursor.clone().map(Into::into),
        };
        self.producers.insert(next_id, entry);
        if exhausted {
            self.producer_names.insert(name.to_string(), next_id);
            self.producer_renamed.values_mut().filter(|now| **now == id).for_each(|now| *now = next_id);
            self.producer_renamed.insert(id, next_id);
        }
        done(reply)
    }

    pub(super) fn new_producer_id(&mut self) -> Result<ProducerId, Refusal> {
        let id = self.next_producer;
        self.next_producer = id.checked_add(1).ok_or(Refusal::ProducersExhausted)?;
        Ok(ProducerId(id))
    }

    /// The id must have been given out, and a batch of a named producer must be of its current epoch, also in a
    /// partition that never saw it.
    pub(super) fn check_producer_epoch(&self, stamp: &ProducerStamp) -> Result<(), Refusal> {
        // Of an id that the name has given up every epoch is fenced, the last one too.
        if self.producer_renamed.contains_key(&stamp.id) {
            return Err(Refusal::ProducerFenced {
                producer: stamp.id,
                sent: stamp.epoch,
                current: PRODUCER_EPOCH_MAX,
            });
        }
        // Else the id would be given out later, and the newcomer's first batches be taken for duplicates.
        if stamp.id.0 >= self.next_producer {
            return Err(Refusal::UnknownProducer { producer: stamp.id });
        }
        let transactional = || self.transactional.get(self.transactional_ids.get(&stamp.id)?);
        let known = self.producers.get(&stamp.id).map(|producer| producer.producer_epoch);
        let known = known.or_else(|| transactional().map(|producer| producer.producer_epoch));
        let Some(current) = known else { return Ok(()) };
        match stamp.epoch.cmp(&current) {
            _ if on(Mutant::M4ProducerEpochIgnored) => Ok(()),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => {
                Err(Refusal::ProducerFenced { producer: stamp.id, sent: stamp.epoch, current })
            }
            std::cmp::Ordering::Greater => {
                Err(Refusal::ProducerEpochUnknown { producer: stamp.id, sent: stamp.epoch, current })
            }
        }
    }

    /// A batch outside of transactions has to wait for the end of the one that its producer has open.
    pub(super) fn check_no_transaction(&self, producer: ProducerId) -> Result<(), Refusal> {
        let entry = self.transactional_ids.get(&producer).and_then(|id| self.transactional.get(id));
        match entry.and_then(|entry| entry.transaction()) {
            Some(_) => Err(Refusal::OpenTransaction { producer }),
            None => Ok(()),
        }
    }

    /// Whether a commit was applied: the reply to a retry of it now, `Ok(None)` if it would be the producer's next.
    pub fn outcome(&self, token: &CommitToken) -> Result<Option<Reply>, Refusal> {
        let id = *self.producer_renamed.get(&token.producer).unwrap_or(&token.producer);
        let producer =
            self.producers.get(&id).ok_or(Refusal::UnknownProducer { producer: token.producer })?;
        if let Some(kept) = producer.replies.iter().find(|kept| kept.token == *token) {
            return Ok(Some(Reply::Committed(Committed {
                lsn: kept.lsn,
                base_offsets: kept.base_offsets.clone(),
                first_timer: self.timers.of_commit(kept.lsn),
                duplicate: true,
            })));
        }
        let current = producer.producer_epoch;
        if token.producer == id && token.producer_epoch == current {
            if token.number != 0 && token.number <= producer.last_number {
                return Ok(Some(Reply::CommittedBefore));
            }
            let expected = producer.last_number.saturating_add(1);
            return match token.number == expected {
                true => Ok(None),
                false => Err(Refusal::CommitNumber { token: *token, expected }),
            };
        }
        let highest = if token.producer == id { current } else { PRODUCER_EPOCH_MAX };
        if !(0..=highest).contains(&token.producer_epoch) {
            let (producer, sent) = (token.producer, token.producer_epoch);
            return Err(Refusal::ProducerEpochUnknown { producer, sent, current: highest });
        }
        let epoch =
            |end: &&EpochEnd| end.producer == token.producer && end.producer_epoch == token.producer_epoch;
        match producer.epochs.iter().find(epoch) {
            Some(end) if token.number != 0 && token.number <= end.last_number => {
                Ok(Some(Reply::CommittedBefore))
            }
            Some(_) => Err(Refusal::CommitFenced { token: *token, current }),
            None => Err(Refusal::CommitForgotten { token: *token }),
        }
    }

    /// Records that the producer's next commit was applied.
    pub(super) fn remember_commit(&mut self, kept: KeptReply, cursor: Option<&[u8]>) {
        let entry = self.producers.get_mut(&kept.token.producer).expect("the token was looked up");
        let producer = Arc::make_mut(entry);
        producer.last_number = kept.token.number;
        if let Some(cursor) = cursor {
            producer.cursor = Some(cursor.to_vec());
        }
        if producer.replies.len() == REPLIES_KEPT {
            self.timers.forget_commit(producer.replies[0].lsn);
        }
        push_bounded(&mut producer.replies, kept, REPLIES_KEPT);
    }
}
