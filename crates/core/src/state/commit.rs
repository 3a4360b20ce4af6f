//! The embedded transaction: all conditions first, then every part (semantics EM-1 to EM-7).
//!
//! ```text
//!   token -> known: the first reply, whatever else the command says
//!         -> next:  limits -> conditions -> marks -> ownership -> batches -> timers -> tables | nothing applied so far
//!                   then batches, marks, positions, timers, tables, cursor, number          | nothing can fail now
//! ```

use super::producer::KeptReply;
use super::runs::Answers;
use super::topic::Arrival;
use super::{Outcome, State, done};
use crate::command::{COMMIT_BATCHES_MAX, CURSOR_BYTES_MAX, Commit, Condition, Mark};
use crate::ids::Partition;
use crate::mutants::{Mutant, on};
use crate::reply::{Applied, Committed, KEPT_PARTITIONS_MAX, Placement, Refusal, Reply};
use smallvec::SmallVec;
use std::collections::BTreeSet;

impl State {
    pub(super) fn commit(&mut self, term: u32, commit: &Commit, answers: &Answers) -> Outcome {
        if let Some(known) = self.outcome(&commit.token)? {
            return done(known);
        }
        let checked = self.check_commit(term, commit, answers);
        if on(Mutant::M8CommitInPart) && checked.is_err() {
            self.place_first(term, commit);
        }
        if on(Mutant::D2MarkOfRefusedCommit) && checked.is_err() {
            self.mark_refused(commit, answers);
        }
        if on(Mutant::K1WriteOfRefusedCommit) && checked.is_err() {
            self.write_refused(commit);
        }
        checked?;

        let mut placements: SmallVec<[Placement; 1]> =
            arrivals(term, commit).map(|arrival| self.place_batch(&arrival)).collect();
        self.set_marks(commit, &placements);
        let base_offsets = first_offsets(&placements);
        for offsets in &commit.offsets {
            self.store_offsets(&offsets.group, &offsets.offsets);
        }
        let behind = commit.batches.len() as u32;
        let (payloads, first_timer, timers_start) = self.apply_timer_effects(term, &commit.timers, behind);
        placements.extend(payloads);
        let behind = behind + commit.timers.set.len() as u32;
        placements.extend(self.apply_table_writes(term, &commit.table_writes, behind));
        let lsn = self.lsn;
        let reply = Committed { lsn, base_offsets: base_offsets.clone(), first_timer, duplicate: false };
        self.remember_commit(KeptReply { token: commit.token, lsn, base_offsets }, commit.cursor.as_deref());
        Ok(Applied { placements, timers_start, ..Applied::only(Reply::Committed(reply)) })
    }

    fn check_commit(&self, term: u32, commit: &Commit, answers: &Answers) -> Result<(), Refusal> {
        if let Some(bytes) =
            commit.cursor.as_ref().map(|cursor| cursor.len()).filter(|len| *len > CURSOR_BYTES_MAX)
        {
            return Err(Refusal::CursorTooLarge { bytes, max: CURSOR_BYTES_MAX });
        }
        let batches = commit.batches.len() + commit.timers.set.len() + commit.table_writes.len();
        if batches > COMMIT_BATCHES_MAX {
            return Err(Refusal::TooManyBatches { batches, max: COMMIT_BATCHES_MAX });
        }
        for condition in &commit.conditions {
            self.check_condition(condition)?;
        }
        self.check_marks(commit, answers)?;
        let mut positions = BTreeSet::new();
        for offsets in &commit.offsets {
            self.check_offsets(&offsets.group, offsets.member, &offsets.offsets, &mut positions, false)?;
        }
        let records: u64 = commit.batches.iter().map(|(_, batch)| batch.record_count() as u64).sum();
        for arrival in arrivals(term, commit) {
            if arrival.batch.producer().is_some() {
                return Err(Refusal::Batch {
                    what: "carries a producer id inside a commit, whose token replaces it",
                });
            }
            self.check_batch(&arrival, records)?;
        }
        self.check_timer_effects(term, &commit.timers)?;
        self.check_table_writes(term, &commit.table_writes)
    }

    /// The mistake [`Mutant::M8CommitInPart`]: a refused commit leaves its first batch behind.
    fn place_first(&mut self, term: u32, commit: &Commit) {
        let first = arrivals(term, commit).next().filter(|first| self.check_batch(first, 1).is_ok());
        first.map(|first| self.place_batch(&first));
    }

    /// The mistake [`Mutant::D2MarkOfRefusedCommit`]: marks are set before the rest is checked.
    fn mark_refused(&mut self, commit: &Commit, answers: &Answers) {
        let named = commit.marks.iter().filter(|mark| matches!(mark, Mark::Named { .. })).cloned().collect();
        let marks = Commit { marks: named, ..commit.clone() };
        if self.check_marks(&marks, answers).is_ok() {
            self.set_marks(&marks, &[]);
        }
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
            Condition::KeyVersion { table, key, version } => self.check_version(*table, key, *version)?,
        }
        Ok(())
    }
}

/// The batches of a commit, in the order of the command.
fn arrivals(term: u32, commit: &Commit) -> impl Iterator<Item = Arrival<'_>> {
    let batches = commit.batches.iter().zip(0..);
    batches.map(move |((partition, batch), index)| Arrival {
        partition: *partition,
        batch,
        index,
        term,
        txn_seq: 0,
    })
}

/// The first offset in each partition, in the order of the command, as far as a reply keeps them.
fn first_offsets(placements: &[Placement]) -> Vec<(Partition, u64)> {
    let mut kept: Vec<(Partition, u64)> = Vec::new();
    for placement in placements {
        if kept.len() == KEPT_PARTITIONS_MAX {
            break;
        }
        if kept.iter().all(|(partition, _)| *partition != placement.partition) {
            kept.push((placement.partition, placement.base_offset));
        }
    }
    kept
}
