//! The newest commands of a shard without the records in them, and what was found for them on disk: all that a state
//! elsewhere needs to go on as this one does (ADR 42).
//!
//! ```text
//!   Shard::follow_from_here -> the state at an lsn           once
//!   Feed::since(term, lsn)  -> the commands behind it        again and again; None: too far behind, begin anew
//! ```
//!
//! It isn't: a copy of the log. A follower of that kind takes the journal, records and all
//! ([`follower`](crate::follower)).
//!
//! Invariants
//!   * what is in it was applied, and is as durable as its acknowledgement says
//!   * its commands follow each other without a gap, under one term
//!   * it holds at most so many bytes, and nothing while nobody follows

use crate::error::StorageError;
use crate::journal::Frame;
use crate::shard::apply_one;
use bytes::Bytes;
use exactlog_core::codec;
use exactlog_core::command::Command;
use exactlog_core::reply::Applied;
use exactlog_core::state::{Answers, At, State};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Most bytes of commands that are kept for those who are behind.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a command takes besides its head, in bytes; an estimate.
const AROUND_BYTES: usize = 96;

/// A command as it was applied, without the bodies of its batches.
#[derive(Clone, Debug)]
pub struct Fed {
    /// Its place in the order.
    pub lsn: u64,
    /// The term under which it was ordered.
    pub term: u32,
    /// Which command.
    pub kind: u8,
    /// Version of its encoding.
    pub version: u8,
    /// Everything but the bodies of its batches; its time is in it.
    pub head: Bytes,
    /// What the runs of marks have answered to it.
    pub answers: Answers,
}

impl Fed {
    /// Does to a state what the command did to that of the shard; the command, and what it came to.
    ///
    /// # Errors
    /// Bytes that are no command; a command that isn't the next one of this state, and one that this state can't take:
    /// then the state isn't to be used any more.
    pub fn apply(&self, state: &mut State) -> Result<(Command, Applied), StorageError> {
        let damaged = |what: String| StorageError::damaged("the feed of the node", self.lsn, what);
        let decoded = codec::decode_head(self.kind, self.version, &self.head);
        let (time_ms, command) = decoded.map_err(|error| damaged(error.to_string()))?;
        if self.lsn != state.lsn + 1 {
            return Err(damaged(format!("the state is at lsn {}", state.lsn)));
        }
        let asked = state.questions(&command);
        if asked.iter().any(|key| !self.answers.iter().any(|(answered, _)| answered == key)) {
            return Err(damaged("a question about a mark has no answer".into()));
        }
        let at = At { lsn: self.lsn, term: self.term, time_ms };
        let applied = apply_one(state, at, &command, &self.answers)?;
        Ok((command, applied))
    }

    /// What it takes in memory, in bytes, about.
    pub fn bytes(&self) -> usize {
        AROUND_BYTES + self.head.len() + self.answers.iter().count() * 48
    }
}

/// The feed of one shard.
#[derive(Debug, Default)]
pub struct Feed {
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    term: u32,
    /// The lsn in front of the first.
    base_lsn: u64,
    commands: VecDeque<Fed>,
    bytes: usize,
}

impl Feed {
    /// Begins to keep commands, if it doesn't yet.
    pub(crate) fn start(&self, term: u32, lsn: u64) {
        let mut kept = self.kept.lock();
        if kept.as_ref().is_none_or(|kept| kept.term != term) {
            *kept = Some(Kept { term, base_lsn: lsn, commands: VecDeque::new(), bytes: 0 });
        }
    }

    /// Nobody follows any more, or everybody has to begin anew.
    pub fn stop(&self) {
        *self.kept.lock() = None;
    }

    pub(crate) fn push(&self, frame: &Frame, answers: Answers) {
        let mut kept = self.kept.lock();
        let Some(kept) = &mut *kept else { return };
        let Frame { lsn, term, kind, version, ref head, .. } = *frame;
        let fed = Fed { lsn, term, kind, version, head: Bytes::copy_from_slice(head), answers };
        kept.bytes += fed.bytes();
        kept.commands.push_back(fed);
        while kept.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = kept.commands.pop_front()
        {
            kept.base_lsn = oldest.lsn;
            kept.bytes -= oldest.bytes();
        }
    }

    /// The commands behind this position, about as many bytes of them, and at least one if there is one. `None`: they
    /// aren't all here any more, or the position is of another term.
    pub fn since(&self, term: u32, lsn: u64, bytes_max: usize) -> Option<Vec<Fed>> {
        let kept = self.kept.lock();
        let kept = kept.as_ref().filter(|kept| kept.term == term)?;
        let skipped = usize::try_from(lsn.checked_sub(kept.base_lsn)?).ok()?;
        if skipped > kept.commands.len() {
            return None;
        }
        let mut bytes = 0;
        let behind = kept.commands.iter().skip(skipped).take_while(|fed| {
            let is_first = bytes == 0;
            bytes += fed.bytes();
            is_first || bytes <= bytes_max
        });
        Some(behind.cloned().collect())
    }
}
