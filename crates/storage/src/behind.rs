//! Writing behind: the round that makes the journal short again and gives space back.
//!
//! ```text
//!   flush -> picture (shard held) -> write it -> keep it (shard held), recycle -> sweep -> reserve
//! ```
//!
//! Not here: when a round is due ([`Shard::wants_checkpoint`]) and on which thread.
//!
//! A round that is due because the journal takes more than half of what it may brings its oldest part into segments,
//! so that whoever waits for room waits for that part, and not for hundreds of megabytes.
//!
//! Invariants
//!   * the shard is held for the picture and for the recycling only: commands go on meanwhile
//!   * a full disk ends a round only if the round can't lead to more space

use crate::error::StorageError;
use crate::shard::Shard;
use parking_lot::Mutex;

/// Gives a shard for a moment.
pub trait Hold {
    /// Works on the shard.
    fn with<T>(&mut self, work: impl FnOnce(&mut Shard) -> T) -> T;
}

/// A shard that nobody else uses.
#[derive(Debug)]
pub struct Owned<'a>(pub &'a mut Shard);

impl Hold for Owned<'_> {
    fn with<T>(&mut self, work: impl FnOnce(&mut Shard) -> T) -> T {
        work(self.0)
    }
}

impl Hold for &Mutex<Shard> {
    fn with<T>(&mut self, work: impl FnOnce(&mut Shard) -> T) -> T {
        work(&mut self.lock())
    }
}

/// How much a round brings into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that was applied.
    Whole,
    /// If the journal is long its oldest part, else all.
    Due,
}

/// Makes checkpoints as long as one more is of use, at least one.
///
/// # Errors
/// As [`checkpoint`].
pub fn rounds(shard: &mut impl Hold, extent: Extent) -> Result<(), StorageError> {
    /// What a full disk needs at most until all that can be freed is: the first one passes over what was trimmed, and
    /// two newer ones let go of what only older ones name; one more for what only then can be flushed.
    const ROUNDS_MAX: usize = 4;
    let mut ended = Ok(());
    for _ in 0..ROUNDS_MAX {
        ended = checkpoint(shard, extent);
        let may_help = ended.as_ref().err().is_none_or(StorageError::is_disk_full);
        if !may_help || !shard.with(|shard| shard.wants_another()) {
            break;
        }
    }
    shard.with(Shard::note_freed);
    ended
}

/// Makes the next run of event ids that is worth making; whether there was one.
///
/// # Errors
/// As its parts. A run that couldn't be written is tried again when there are more ids.
pub fn roll(shard: &mut impl Hold) -> Result<bool, StorageError> {
    let planned = shard.with(|shard| shard.plan_run());
    let rolled = planned.and_then(|plan| {
        let Some(mut plan) = plan else { return Ok(false) };
        plan.write()?;
        shard.with(|shard| shard.take_run(&plan)).map(|()| true)
    });
    rolled.inspect_err(|_| shard.with(Shard::note_no_run))
}

/// Flushes, makes a checkpoint, and removes what it lets go.
///
/// # Errors
/// As its parts. After a failed flush there is no checkpoint. Only if the disk is full and files wait to be removed it
/// is made all the same, since it leads to what the flush needs.
pub fn checkpoint(shard: &mut impl Hold, extent: Extent) -> Result<(), StorageError> {
    let (flusher, spares, part) = shard.with(|shard| {
        let part = shard.oldest_part().filter(|_| extent == Extent::Due);
        (shard.flusher(), shard.journal().spares(), part)
    });
    let full = match flusher.flush_through(part) {
        Err(error) if error.is_disk_full() => {
            // What was made ahead is the first to go.
            spares.remove_all()?;
            flusher.refill();
            if !flusher.has_unnamed() {
                return Err(error);
            }
            Some(error)
        }
        flushed => flushed.map(|_| None)?,
    };
    let image = shard.with(|shard| shard.checkpoint_image())?;
    let kept = flusher.write(&image).inspect_err(|_| flusher.refill())?;
    let shown_lsn = shard.with(|shard| shard.keep_checkpoint(kept).map(|()| shard.shown_lsn()))?;
    if let Some(shown_lsn) = shown_lsn {
        flusher.sweep(shown_lsn)?;
    }
    flusher.refill();
    full.map_or(Ok(()), Err)
}
