//! The embedded transaction: all conditions first, then every part (semantics EM-1 to EM-6).
//!
//! ```text
//!   token -> known: the first reply, whatever else the command says
//!         -> next:  limits -> conditions -> ownership -> batches | nothing applied so far
//!                   then batches, positions, cursor, number    | nothing can fail from here on
//! ```

use super::producer::KeptReply;
use super::{Outcome, State, done};
use crate::command::{COMMIT_PARTITIONS_MAX, CURSOR_BYTES_MAX, Commit, Condition};
use crate::mutants::{Mutant, on};
use crate::reply::{Applied, Committed, KEPT_PARTITIONS_MAX, Placement, Refusal, Reply};
use smallvec::SmallVec;
use std::collections::BTreeSet;

impl State {
    pub(super) fn commit(&mut self, lsn: u64, term: u32, commit: &Commit) -> Outcome {
        if let Some(known) = self.look_up(&commit.token)? {
            return done(known);
        }
        if on(Mutant::M8CommitInPart) {
            let first = commit
                .batches
                .first()
                .filter(|(partition, batch)| self.check_batch(term, *partition, batch).is_ok());
            if let Some((partition, batch)) = first {
                self.check_commit(term, commit).inspect_err(|_| {
                    self.place_batch(term, *partition, 0, batch);
                })?;
            }
        }
        self.check_commit(term, commit)?;

        let mut placements: SmallVec<[Placement; 1]> = SmallVec::with_capacity(commit.batches.len());
        for (index, (partition, batch)) in commit.batches.iter().enumerate() {
            placements.push(self.place_batch(term, *partition, index as u32, batch));
        }
        for offsets in &commit.offsets {
            self.store_offsets(lsn, &offsets.group, &offsets.offsets);
        }
        let kept = placements.iter().take(KEPT_PARTITIONS_MAX);
        let base_offsets: Vec<_> =
            kept.map(|placement| (placement.partition, placement.base_offset)).collect();
        let reply = Committed { lsn, base_offsets: base_offsets.clone(), duplicate: false };
        self.remember_commit(KeptReply { token: commit.token, lsn, base_offsets }, commit.cursor.as_deref());
        Ok(Applied { reply: Reply::Committed(reply), placements })
    }

    fn check_commit(&self, term: u32, commit: &Commit) -> Result<(), Refusal> {
        if let Some(bytes) =
            commit.cursor.as_ref().map(|cursor| cursor.len()).filter(|len| *len > CURSOR_BYTES_MAX)
        {
            return Err(Refusal::CursorTooLarge { bytes, max: CURSOR_BYTES_MAX });
        }
        let partitions = commit.batches.len();
        if partitions > COMMIT_PARTITIONS_MAX {
            return Err(Refusal::TooManyPartitions { partitions, max: COMMIT_PARTITIONS_MAX });
        }
        for condition in &commit.conditions {
            self.check_condition(condition)?;
        }
        let mut positions = BTreeSet::new();
        for offsets in &commit.offsets {
            self.check_offsets(&offsets.group, offsets.member, &offsets.offsets, &mut positions)?;
        }
        let mut seen = BTreeSet::new();
        for (partition, batch) in &commit.batches {
            if !seen.insert(*partition) {
                return Err(Refusal::PartitionTwice { partition: *partition });
            }
            if batch.producer().is_some() {
                return Err(Refusal::Batch {
                    what: "carries a producer id inside a commit, whose token replaces it",
                });
            }
            self.check_batch(term, *partition, batch)?;
        }
        Ok(())
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), Refusal> {
        match condition {
            Condition::EndOffset { partition, offset } => {
                let actual = self.find(*partition)?.end;
                if actual != *offset {
                    return Err(Refusal::EndOffset { partition: *partition, expected: *offset, actual });
                }
            }
            Condition::GroupOffset { group, partition, offset } => {
                self.find(*partition)?;
                let actual = self.committed_offset(group, *partition).map(|committed| committed.offset);
                if actual != *offset {
                    let (group, partition, expected) = (group.clone(), *partition, *offset);
                    return Err(Refusal::GroupOffset { group, partition, expected, actual });
                }
            }
        }
        Ok(())
    }
}
