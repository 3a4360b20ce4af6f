//! What happens to a shard besides its commands: flushes, checkpoints, spare files, and operations that fail.

use exactlog_core::command::{Command, Dedup};
use exactlog_storage::cleaning::Occasion;
use exactlog_storage::error::StorageError;
use exactlog_storage::runs::RunPlan;
use exactlog_storage::shard::{Durability, Shard, Submission};

use super::{End, Run};
use crate::disk::{Call, EIO, ENOSPC, Effect, Fault, Survival};
use crate::report::Broken;

/// The step of a weak mode's sync.
const SYNC: u64 = 11;

impl Run {
    /// What the owner of a shard does in the background, step by step. An end, if the engine has ended writing.
    pub(super) fn maintain(&mut self, shard: &mut Shard) -> Result<Option<End>, Broken> {
        if self.random.chance(self.plan.faults, 8) {
            self.plan_fault(12);
        }
        let weak = self.options.durability != Durability::Fsync;
        let step = if weak && self.random.chance(1, 3) { SYNC } else { self.random.below(11) };
        let before = self.ledger.last_lsn();
        if (2..8).contains(&step) && self.made.is_none() && self.kept_lsn == before {
            // A second checkpoint at one lsn would be the first: the shard moves on by a command of its own.
            let submission = Submission { time_ms: shard.state().time_ms, command: Command::Tick };
            self.ledger.submit(shard.term(), &[submission]);
            self.mark(|mark| {
                mark.submitted = before + 1;
                mark.writing = true;
            });
        }
        let result = self.maintenance(shard, step);
        self.forget_faults();
        self.trace.push(format!("maintenance {step}: {result:?}"));
        if shard.failure().is_some() {
            let error =
                result.err().unwrap_or_else(|| StorageError::Poisoned { reason: "in passing".into() });
            let applied = shard.state().lsn;
            return self.failed(shard, applied, &error).map(Some);
        }
        let (applied, stated) = (shard.state().lsn, shard.journal().durable_lsn());
        if !(before..=self.ledger.last_lsn()).contains(&applied) {
            return Err(format!("maintenance led from lsn {before} to {applied}").into());
        }
        self.ledger.cut(applied);
        self.mark(|mark| {
            mark.writing = false;
            mark.submitted = applied;
            mark.survives_kill = applied;
            mark.survives_power = mark.survives_power.max(stated);
        });
        self.ledger.show(before + 1)?;
        if self.disk.is_stopped() {
            return Ok(Some(End::Kill));
        }
        match result {
            Err(error) if error.is_refusal() => Err(format!("maintenance was refused: {error}").into()),
            _ => self.check_unchanged(shard).map(|()| None),
        }
    }

    fn maintenance(&mut self, shard: &mut Shard, step: u64) -> Result<(), StorageError> {
        match step {
            0 => shard.journal().spares().prepare(),
            1 => {
                let (flushed_lsn, lsn) = (shard.flusher().flushed_lsn(), shard.state().lsn);
                // All of it, or a part.
                let part = lsn.is_multiple_of(2).then_some(flushed_lsn.midpoint(lsn));
                shard.flusher().flush_through(part).map(|_| ())
            }
            SYNC => self.sync(shard),
            8.. => self.compact(shard),
            // Made now, kept when groups have come in between.
            _ if self.made.is_some() => {
                let kept = self.made.take().expect("it is there");
                self.kept_lsn = kept.applied_lsn;
                shard.keep_checkpoint(kept)?;
                shard.shown_lsn().map_or(Ok(()), |shown_lsn| shard.flusher().sweep(shown_lsn))
            }
            2 | 3 => {
                let image = shard.checkpoint_image()?;
                self.made = Some(image.write(&*shard.disk())?);
                Ok(())
            }
            _ => {
                shard.checkpoint()?;
                self.kept_lsn = shard.state().lsn;
                Ok(())
            }
        }
    }

    /// A sync beside the commands, as a log does it within an interval: begun and run, and ended when groups have come
    /// in between.
    fn sync(&mut self, shard: &mut Shard) -> Result<(), StorageError> {
        if let Some(syncing) = self.syncing.take() {
            return shard.end_sync(syncing);
        }
        let Some(syncing) = shard.begin_sync() else { return Ok(()) };
        match syncing.run() {
            Ok(()) => self.syncing = Some(syncing),
            // The shard hears of it at once.
            Err(_) => return shard.end_sync(syncing),
        }
        Ok(())
    }

    /// All that gains anything, with as many passes as few keys at a time need.
    fn compact(&mut self, shard: &Shard) -> Result<(), StorageError> {
        let Some(cleaner) = shard.cleaner() else { return Ok(()) };
        let key_bytes_max = [1, 200, 1 << 20][self.random.below(3) as usize];
        let occasion = Occasion { key_bytes_max, ..Occasion::at(self.generator.time_ms()) };
        for due in cleaner.due_compactions(&occasion) {
            let compacted = cleaner.compact(due.partition, &occasion)?;
            self.enumerator.counters.compacted += u64::from(compacted.is_some());
        }
        Ok(())
    }

    /// Writes the next run of event ids that is due, and has it taken: at once, or when groups have come in between,
    /// which may have made it unfit.
    pub(super) fn roll(&mut self, shard: &mut Shard) -> Result<Option<End>, Broken> {
        if self.random.chance(self.plan.faults, 8) {
            self.plan_fault(6);
        }
        if self.rolled.is_none() {
            let planned = shard.plan_run();
            let written = planned.and_then(|plan| match plan {
                Some(mut plan) => plan.write().map(|()| Some(plan)),
                None => Ok(None),
            });
            let stopped = self.disk.is_stopped();
            self.trace.push(format!(
                "roll: {:?}",
                written.as_ref().map(|plan| plan.as_ref().map(RunPlan::command))
            ));
            match written {
                Ok(plan) => self.rolled = plan,
                Err(error) if error.is_refusal() => return Err(format!("no run: {error}").into()),
                // Nothing has changed: it is tried again.
                Err(_) => {}
            }
            self.forget_faults();
            if stopped {
                return Ok(Some(End::Kill));
            }
            if self.random.chance(1, 4) {
                return Ok(None);
            }
        }
        let Some(plan) = self.rolled.take() else { return Ok(None) };
        let command = plan.command();
        self.enumerator.counters.rolled += 1;
        if let Command::Dedup(request) = &command
            && let Dedup::RunReady(ready) = &**request
        {
            self.enumerator.counters.merged += u64::from(!ready.replaces.is_empty());
        }
        let submission = self.generator.run_ready(command);
        let ended = self.execute(shard, &[submission])?;
        if ended.is_none() {
            plan.discard();
        }
        Ok(ended)
    }

    /// Faults that were planned for one step don't reach into the next, but for the one that a test planned itself.
    pub(super) fn forget_faults(&mut self) {
        self.fault_met |= self.disk.faults_hit() > 0;
        self.fault_pending &= !self.fault_met;
        if self.plan.faults > 0 || self.fault_met {
            self.disk.clear_faults();
        }
    }

    pub(super) fn plan_stop(&mut self) {
        let op = self.disk.ops() + self.random.below(4);
        if self.random.chance(1, 2) {
            self.disk.set_stop_after(op);
        } else {
            self.disk.set_stop_in_write(op, self.random.below(9000));
        }
    }

    /// One of the next operations fails.
    pub(super) fn plan_fault(&mut self, within: u64) {
        let random = &mut self.random;
        let calls =
            [Call::Sync, Call::Sync, Call::SyncDir, Call::Write, Call::Rename, Call::Allocate, Call::Read];
        let call = random.chance(7, 8).then(|| calls[random.below(7) as usize]);
        let effect = match random.below(4) {
            0 => Effect::Errno(ENOSPC),
            1 => Effect::Short { bytes: random.below(6000), errno: EIO },
            _ => Effect::Errno(EIO),
        };
        let skip = if call.is_none() { random.below(within) } else { random.below(2) };
        self.trace.push(format!("fault: {call:?} after {skip}: {effect:?}"));
        self.disk.set_failed_sync(match random.below(3) {
            0 => Survival::AllLost,
            1 => Survival::AllKept,
            _ => Survival::random(random.number()),
        });
        self.disk.set_failed_sync_dir_loses_names(random.chance(1, 4));
        self.disk.add_fault(Fault::once(call, skip, effect));
    }
}
