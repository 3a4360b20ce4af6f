//! Commits and positions in the model: all conditions first, then every part.

use exactlog_core::command::{Commit, CommitToken, Condition, OffsetCommit};
use exactlog_core::ids::{MemberId, Partition};
use exactlog_core::reply::{Committed, Reply};

use super::transaction::Transactor;
use super::{CommitMade, Model, Outcome};

const KEPT_REPLIES: usize = 5;
const KEPT_EPOCHS: usize = 5;

impl Model {
    pub(super) fn commit(&mut self, term: u32, commit: &Commit) -> Outcome {
        if let Some(known) = self.look_up(&commit.token)? {
            return Ok(known);
        }
        for condition in &commit.conditions {
            self.check_condition(condition)?;
        }
        self.check_marks(commit)?;
        for offsets in &commit.offsets {
            self.check_offsets(&offsets.group, offsets.member, &offsets.offsets)?;
        }
        for (partition, batch) in &commit.batches {
            if batch.producer().is_some() {
                return Err("Batch");
            }
            self.check_batch(*partition, batch)?;
        }
        self.check_timer_effects(&commit.timers)?;
        self.check_table_writes(&commit.table_writes)?;
        let mut base_offsets: Vec<(Partition, u64)> = Vec::new();
        let mut of_batches = Vec::new();
        for (partition, batch) in &commit.batches {
            let base_offset = self.store(term, *partition, batch, None);
            of_batches.push(base_offset);
            if !base_offsets.iter().any(|(known, _)| known == partition) {
                base_offsets.push((*partition, base_offset));
            }
        }
        self.set_marks(commit, &of_batches);
        for offsets in &commit.offsets {
            self.store_offsets(&offsets.group, &offsets.offsets);
        }
        let first_timer = self.apply_timer_effects(term, &commit.timers);
        self.apply_table_writes(term, &commit.table_writes);
        let lsn = self.lsn;
        let producer = self.producers.get_mut(&commit.token.producer).expect("its token was looked up");
        let token = commit.token;
        producer.commits.push(CommitMade { token, lsn, base_offsets: base_offsets.clone(), first_timer });
        if let Some(cursor) = &commit.cursor {
            producer.cursor = Some(cursor.to_vec());
        }
        Ok(Reply::Committed(Committed { lsn, base_offsets, first_timer, duplicate: false }))
    }

    /// What is known of a token; `None`: it is the producer's next commit.
    fn look_up(&self, token: &CommitToken) -> Result<Option<Reply>, &'static str> {
        let producer = self.producers.get(&token.producer).ok_or("UnknownProducer")?;
        let mut kept = producer.commits.iter().rev().take(KEPT_REPLIES);
        if let Some(kept) = kept.find(|kept| kept.token == *token) {
            let CommitMade { lsn, base_offsets, first_timer, .. } = kept.clone();
            let known = Committed { lsn, base_offsets, first_timer, duplicate: true };
            return Ok(Some(Reply::Committed(known)));
        }
        if token.producer_epoch > producer.producer_epoch {
            return Err("ProducerEpochUnknown");
        }
        if token.producer_epoch == producer.producer_epoch {
            return match token.number {
                next if next == producer.last_number() + 1 => Ok(None),
                0 => Err("CommitNumber"),
                old if old <= producer.last_number() => Ok(Some(Reply::CommittedBefore)),
                _ => Err("CommitNumber"),
            };
        }
        let epoch = token.producer_epoch as usize;
        if epoch + KEPT_EPOCHS < producer.epoch_ends.len() {
            return Err("CommitForgotten");
        }
        match token.number {
            0 => Err("CommitFenced"),
            number if number <= producer.epoch_ends[epoch] => Ok(Some(Reply::CommittedBefore)),
            _ => Err("CommitFenced"),
        }
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), &'static str> {
        match condition {
            Condition::EndOffset { partition, offset } => {
                if self.find(*partition)?.end == *offset {
                    Ok(())
                } else {
                    Err("EndOffset")
                }
            }
            Condition::GroupOffset { group, partition, offset } => {
                self.find(*partition)?;
                let found = self.groups.get(group).and_then(|group| group.offsets.get(partition));
                if found.map(|(offset, ..)| offset) == offset.as_ref() { Ok(()) } else { Err("GroupOffset") }
            }
            Condition::KeyVersion { table, key, version } => self.check_version(*table, key, *version),
        }
    }

    pub(super) fn check_offsets(
        &self,
        name: &str,
        member: Option<MemberId>,
        offsets: &[OffsetCommit],
    ) -> Result<(), &'static str> {
        let group = self.groups.get(name);
        let present = group.and_then(|group| group.member.as_ref());
        match (member, present) {
            (Some(member), Some((id, topics))) if member == *id => {
                let owned = |offset: &&OffsetCommit| {
                    topics.contains(&offset.partition.topic) && self.partition(offset.partition).is_some()
                };
                if offsets.iter().filter(owned).count() < offsets.len() {
                    return Err("NotOwned");
                }
            }
            (Some(_), _) => return Err("UnknownMember"),
            (None, Some(_)) => return Err("GroupNotEmpty"),
            (None, None) => {}
        }
        let committed = |partition| group.and_then(|group| group.offsets.get(&partition)).map(|it| it.0);
        self.check_positions(offsets, committed)
    }

    /// What of positions doesn't depend on who commits them.
    pub(super) fn check_positions(
        &self,
        offsets: &[OffsetCommit],
        committed: impl Fn(Partition) -> Option<u64>,
    ) -> Result<(), &'static str> {
        for (index, offset) in offsets.iter().enumerate() {
            if offsets[..index].iter().any(|earlier| earlier.partition == offset.partition) {
                return Err("PartitionTwice");
            }
            if offset.metadata.as_str().len() > 4096 {
                return Err("OffsetMetadataTooLarge");
            }
            if offset.offset > self.find(offset.partition)?.end {
                return Err("OffsetOutOfRange");
            }
            if !offset.reset && offset.offset < committed(offset.partition).unwrap_or(0) {
                return Err("OffsetRegress");
            }
        }
        Ok(())
    }

    pub(super) fn store_offsets(&mut self, name: &str, offsets: &[OffsetCommit]) {
        for offset in offsets {
            let lsn = self.lsn;
            let group = self.groups.entry(name.to_owned()).or_default();
            let metadata = offset.metadata.as_str().to_owned();
            group.offsets.insert(offset.partition, (offset.offset, lsn, metadata));
        }
    }

    pub(super) fn delete_offsets(&mut self, name: &str, partitions: Option<&[Partition]>) -> Outcome {
        let group = self.groups.get(name).ok_or("UnknownGroup")?;
        if group.member.is_some() {
            return Err("GroupNotEmpty");
        }
        let is_named = |partition: &Partition| partitions.is_none_or(|these| these.contains(partition));
        let open = self.transactors.values().filter_map(Transactor::open);
        let mut pending = open.flat_map(|open| &self.transactions[&open].offsets);
        if pending.any(|it| it.group == name && is_named(&it.partition)) {
            return Err("UnstableOffset");
        }
        let group = self.groups.get_mut(name).expect("it was found above");
        let before = group.offsets.len();
        group.offsets.retain(|partition, _| !is_named(partition));
        let positions = (before - group.offsets.len()) as u64;
        if partitions.is_none() {
            self.groups.remove(name);
        }
        Ok(Reply::OffsetsDeleted { positions })
    }
}
