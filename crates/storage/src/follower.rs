//! A log that takes its commands from another log's journal, and keeps its own journal, state and segments.
//!
//! ```text
//!   leader's journal -> durable frames -> own journal: write, sync -> State::apply -> index -> own segments
//! ```
//!
//! It is a [`Shard`] that orders nothing itself: what a command does, and when it counts, is the same code. How frames
//! travel, who leads and what is committed is the owner's business; here the leader's journal is in the same process.
//!
//! Invariants
//!   * at the same lsn it holds the same state and the same batches as the leader, whatever either has been through
//!   * it reads nothing of the leader but durable frames, and the segments of a [`Snapshot`]
//!   * it writes no command of its own: every lsn, term and byte of a command is the leader's
//!   * commands that differ from the leader's where both still have them are refused, not overwritten

use crate::checkpoint::state_hash;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::index::Reader;
use crate::install::Snapshot;
use crate::journal::{Cursor, FileJournal, JournalReader, ReadFrame};
use crate::projection::Flusher;
use crate::shard::{Options, RecoveryReport, Shard};
use exactlog_core::state::State;
use parking_lot::RwLockReadGuard;
use std::sync::Arc;

/// One log that follows another one.
#[derive(Debug)]
pub struct Follower {
    shard: Shard,
    reading: Option<Reading>,
}

/// What [`Follower::pull`] has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Commands that were appended and applied; 0: there are none, for now.
    pub frames: u64,
    /// The last command that this log holds, durably.
    pub up_to_lsn: u64,
}

/// A place in the leader's journal.
#[derive(Debug)]
struct Reading {
    cursor: Cursor,
    /// Read, but not appended: it didn't fit into the last group.
    ahead: Option<ReadFrame>,
}

impl Follower {
    /// Opens or creates the log on a disk whose lock the caller holds, and recovers what is there, as [`Shard::open`].
    ///
    /// A command has to fit into one file: with `options.journal_file_bytes` of at least the leader's each does.
    /// Nothing is cached for readers at the tail, and every pull is synced, whatever the options say.
    ///
    /// To lead, the log is opened as a [`Shard`] instead.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(Follower, RecoveryReport), StorageError> {
        let (shard, report) = Shard::open(disk, options, random)?;
        Ok((Follower { shard, reading: None }, report))
    }

    /// Appends the leader's next durable commands to the own journal, syncs and applies them, group by group, until
    /// there are no more or `max_bytes` of frames were taken. If there is a command, at least one is taken.
    ///
    /// # Errors
    /// [`StorageError::Recycled`]: the leader no longer has what comes next; go on with [`Follower::catch_up`].
    /// [`StorageError::Diverged`]: this log isn't a part of the leader's. `DiskFull` and `TooLarge` are those of the
    /// own journal, whose earlier groups count. Errors of the leader's disk and of commands that this build can't
    /// decode change nothing. After any other one the log must be opened again.
    pub fn pull(&mut self, leader: &JournalReader, max_bytes: usize) -> Result<Pulled, StorageError> {
        // If anything fails, the place is found again from the own last lsn.
        let mut reading = match self.reading.take() {
            Some(reading) if reading.is_behind(self.last_lsn()) && reading.cursor.reads(leader) => reading,
            _ => self.begin(leader)?,
        };
        let group_bytes = self.shard.group_bytes_max().min(max_bytes) as u64;
        let mut pulled = Pulled { frames: 0, up_to_lsn: self.last_lsn() };
        let mut bytes = 0;
        loop {
            let group = reading.next_group(group_bytes)?;
            let Some(last) = group.last() else { break };
            self.shard.follow(&group)?;
            pulled.frames += group.len() as u64;
            pulled.up_to_lsn = last.lsn;
            bytes += group.iter().map(ReadFrame::len_bytes).sum::<u64>();
            if bytes >= max_bytes as u64 {
                break;
            }
        }
        self.reading = Some(reading);
        Ok(pulled)
    }

    /// Takes over the state of a snapshot of the leader instead of commands that can't be pulled any more; whether it
    /// did. A snapshot that isn't ahead of this log changes nothing.
    ///
    /// Afterwards the state is the same object; [`Follower::reader`] and [`Follower::flusher`] have to be asked for
    /// again.
    ///
    /// # Errors
    /// After any error the log must be opened again. It is then as it was, or has the snapshot's state.
    pub fn catch_up(
        &mut self,
        snapshot: &Snapshot,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<bool, StorageError> {
        if let Some(failed) = self.shard.failure() {
            return Err(failed.clone());
        }
        if snapshot.lsn() <= self.last_lsn() {
            return Ok(false);
        }
        self.reading = None;
        {
            let one_at_a_time = self.shard.flusher().one_at_a_time;
            let _no_flush = one_at_a_time.lock();
            let (segments, runs) = (self.shard.segments(), self.shard.runs());
            let taken = snapshot.take_over(&self.shard.state(), segments, runs, &*self.shard.disk());
            taken.map_err(|error| self.shard.fail(error))?;
        }
        self.shard.recover(random).map_err(|error| self.shard.fail(error))?;
        Ok(true)
    }

    /// Brings everything applied so far into the own segments, as [`Flusher::flush`].
    pub fn flush(&self) -> Result<u64, StorageError> {
        self.shard.flusher().flush()
    }

    /// Flushes, makes a checkpoint and gives up the journal below the older of the two that are kept, as
    /// [`Shard::checkpoint`]. Nothing happens if nothing was pulled since the last one.
    pub fn checkpoint(&mut self) -> Result<(), StorageError> {
        if self.shard.checkpointed_lsn() == Some(self.last_lsn()) {
            return Ok(());
        }
        self.shard.checkpoint()
    }

    /// Whether a checkpoint is due, as [`Shard::wants_checkpoint`].
    pub fn wants_checkpoint(&self) -> bool {
        self.shard.wants_checkpoint()
    }

    /// To be called when there is nothing to pull, as [`Shard::idle`].
    pub fn idle(&mut self) -> Result<(), StorageError> {
        self.shard.idle()
    }

    /// Ends following properly, as [`Shard::close`].
    pub fn close(&mut self) -> Result<(), StorageError> {
        self.shard.close()
    }

    /// The last command that is in the own journal, or in the own checkpoint, durable and applied.
    pub fn last_lsn(&self) -> u64 {
        self.shard.journal().last_lsn()
    }

    /// The state as of the last command.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shard.state()
    }

    /// [`state_hash`] of the state: equal to the leader's at the same lsn.
    pub fn state_hash(&self) -> u64 {
        state_hash(&self.shard.state())
    }

    /// A reader of records, of the own journal and segments.
    pub fn reader(&self) -> Reader {
        self.shard.reader()
    }

    /// What brings batches into segments; for a thread of its own.
    pub fn flusher(&self) -> Flusher {
        self.shard.flusher()
    }

    /// The own journal.
    pub fn journal(&self) -> &FileJournal {
        self.shard.journal()
    }

    /// Why following ended, if it did.
    pub fn failure(&self) -> Option<&StorageError> {
        self.shard.failure()
    }

    /// Finds the place behind the own last command in the leader's journal, and compares that command if both still
    /// have it: two journals with the same lsn and term at one place, and the same command there, are equal below.
    fn begin(&self, leader: &JournalReader) -> Result<Reading, StorageError> {
        let last_lsn = self.last_lsn();
        if leader.durable_lsn() < last_lsn {
            let what = format!("the leader's journal ends with lsn {}", leader.durable_lsn());
            return Err(StorageError::Diverged { lsn: last_lsn, what });
        }
        let Some(mut own) = held(self.shard.journal().reader().cursor(last_lsn), last_lsn)? else {
            return Ok(Reading { cursor: leader.cursor(last_lsn + 1)?, ahead: None });
        };
        let Some(mut cursor) = held(leader.cursor(last_lsn), last_lsn)? else {
            return Ok(Reading { cursor: leader.cursor(last_lsn + 1)?, ahead: None });
        };
        let what = match (own.next()?, cursor.next()?) {
            (Some(own), Some(theirs)) if is_same(&own, &theirs) => {
                return Ok(Reading { cursor, ahead: None });
            }
            (Some(own), Some(theirs)) => {
                format!("a command of term {} there, another one of term {} here", theirs.term, own.term)
            }
            _ => "only one of the journals has it".to_owned(),
        };
        Err(StorageError::Diverged { lsn: last_lsn, what })
    }
}

impl Reading {
    fn is_behind(&self, last_lsn: u64) -> bool {
        self.ahead.as_ref().map_or(self.cursor.next_lsn(), |ahead| ahead.lsn) == last_lsn + 1
    }

    /// The next commands of at most `max_bytes` together; a larger one comes alone.
    fn next_group(&mut self, max_bytes: u64) -> Result<Vec<ReadFrame>, StorageError> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        loop {
            let next = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.cursor.next()?,
            };
            let Some(frame) = next else { return Ok(group) };
            bytes += frame.len_bytes();
            if bytes > max_bytes && !group.is_empty() {
                self.ahead = Some(frame);
                return Ok(group);
            }
            group.push(frame);
        }
    }
}

/// The cursor at `lsn`; `None` if there is no such command, or no longer.
fn held(cursor: Result<Cursor, StorageError>, lsn: u64) -> Result<Option<Cursor>, StorageError> {
    match cursor {
        Err(StorageError::Recycled { .. }) => Ok(None),
        cursor => cursor.map(|cursor| Some(cursor).filter(|_| lsn > 0)),
    }
}

fn is_same(own: &ReadFrame, theirs: &ReadFrame) -> bool {
    let place = |frame: &ReadFrame| (frame.lsn, frame.term, frame.kind, frame.version);
    place(own) == place(theirs) && own.head == theirs.head && own.bodies == theirs.bodies
}
