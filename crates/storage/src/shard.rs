//! One shard: a journal, the state that its commands make, and the index of their batches.
//!
//! ```text
//!   commands -> encode -> journal: write, sync -> State::apply -> index -> replies
//! ```
//!
//! A shard is a step machine: it has no thread and no clock. The facade's writer thread drives it, and so does the
//! simulator.
//!
//! Invariants
//!   * nothing is applied, readable or answered before its frame is durable at its level (semantics OA-6)
//!   * a failed write or sync applies nothing and ends writing until the log is opened again (OA-5)
//!   * what adds data leaves a journal file and the room for a checkpoint, so that a full log can free its own space
//!   * live, replay and follower run the same `apply` over the same frames (OA-1)

use crate::behind;
use crate::checkpoint::{self, Image, Kept, PartitionImage};
use crate::cleaning::{CheckpointedEnds, Cleaner};
use crate::demand::{Demand, Growth};
use crate::disk::Disk;
use crate::error::{StorageError, out_of_space};
use crate::feed::Feed;
use crate::index::{Index, Located, Reader, Source};
use crate::install;
use crate::journal::{
    self, Cut, FileJournal, Frame, Level, Opened, Placed, Position, ReadFrame, Start, Syncing,
};
use crate::partitions::Segments;
use crate::projection::{Flusher, segment_options};
use crate::reserve::{self, Reserve};
use crate::runs::{RunPlan, Runs};
use crate::segment::SegmentSet;
use exactlog_core::codec;
use exactlog_core::command::{
    COMMIT_BYTES_MAX, Command, Dedup, TimerCommand, TopicDurability, Transactional,
};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::mutants::{Mutant, on};
use exactlog_core::reply::{Applied, Reply};
use exactlog_core::state::{Answers, At, Manifest, State};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// When an acknowledged command is safe. What is sent to a topic may be safe less often: see [`TopicDurability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On disk: it survives a power loss. The default.
    #[default]
    Fsync,
    /// With the operating system: it survives the process, but not a power loss.
    Os,
    /// As [`Os`](Durability::Os), and on disk after this time and one sync at most: a power loss takes what was
    /// acknowledged since then, from the end.
    Interval(Duration),
}

/// How a shard is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// When an acknowledged command is safe.
    pub durability: Durability,
    /// Size of one journal file in bytes. Default 64 MiB.
    pub journal_file_bytes: u64,
    /// Most bytes that journal files take together. Default 1 GiB.
    pub journal_ring_bytes: u64,
    /// A checkpoint is due when the journal has grown by this much since the last. Default 128 MiB.
    pub checkpoint_bytes: u64,
    /// Most bytes of batches kept in memory for readers at the tail. Default 64 MiB.
    pub tail_cache_bytes: u64,
    /// Ids of events that are kept in memory, with all that is known of them: when there are more, they go into runs on
    /// disk. Default 200,000, which takes 18 MB.
    pub dedup_memory_entries: u64,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Options {
            durability: Durability::Fsync,
            journal_file_bytes: 64 * MIB,
            journal_ring_bytes: 1024 * MIB,
            checkpoint_bytes: 128 * MIB,
            tail_cache_bytes: 64 * MIB,
            dedup_memory_entries: 200_000,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Position of the checkpoint that was used; 0: none.
    pub checkpoint_lsn: u64,
    /// Commands that were applied from the journal.
    pub replayed_commands: u64,
    /// Position of the last command found.
    pub last_lsn: u64,
    /// Term of the commands from now on.
    pub term: u32,
    /// Whether the log had been closed properly.
    pub clean: bool,
    /// The end of the journal that was cut off since it was never acknowledged, or could not be told from that.
    pub cut: Option<Cut>,
    /// Files that were found and have no part in the log.
    pub ignored: Vec<String>,
}

/// A command with the time at which it was taken, in ms since 1970.
#[derive(Clone, Debug)]
pub struct Submission {
    /// When.
    pub time_ms: i64,
    /// What.
    pub command: Command,
}

/// What can be read of the segments of partitions, at one moment.
pub(crate) type SegmentSets = Vec<(Partition, Arc<SegmentSet>)>;

/// One shard, open for writing.
#[derive(Debug)]
pub struct Shard {
    disk: Arc<dyn Disk>,
    options: Options,
    journal: FileJournal,
    state: Arc<RwLock<State>>,
    index: Arc<Index>,
    segments: Arc<Segments>,
    flusher: Flusher,
    /// Directly behind the last frame.
    end: Option<Position>,
    /// Checkpoints that this open found, oldest first.
    found: Vec<Kept>,
    /// Checkpoints that this open has made durable and keeps, oldest first.
    own: Vec<Kept>,
    /// What of segments pictures since the older of them name, oldest first.
    pictured: Vec<(u64, CheckpointedEnds)>,
    /// Bytes written to the journal since the last checkpoint.
    since_checkpoint: u64,
    /// What a checkpoint would take now.
    demand: Demand,
    term: u32,
    /// Nothing was written since the last seal.
    sealed: bool,
    /// Data was refused for want of space, and none was taken since.
    short: bool,
    /// What has to be free until it is taken, in bytes, as far as is known.
    needed_bytes: u64,
    /// Since the last rounds of writing behind something may have become free to be removed.
    may_free: bool,
    runs: Arc<Runs>,
    /// The runs that the state named when it was looked at last.
    manifest: Arc<Manifest>,
    /// A run couldn't be written: none is tried while fewer marks than this are in memory.
    roll_at: u64,
    /// What states elsewhere follow this one by.
    feed: Arc<Feed>,
    /// Why writing ended.
    failed: Option<StorageError>,
}

/// Directory of the journal.
pub const JOURNAL_DIR: &str = "journal";

impl Shard {
    /// Opens or creates the shard on a disk whose lock the caller holds, and recovers what is there.
    ///
    /// `random` gives the nonces of journal files. The first command of the new open, `Open`, is not submitted here.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(Shard, RecoveryReport), StorageError> {
        let config = journal::Config {
            file_bytes: options.journal_file_bytes,
            ring_bytes: options.journal_ring_bytes,
            ..journal::Config::new(0, codec::verify)
        };
        install::resume(&disk, config, random)?;
        let found = checkpoint::find(&*disk)?;
        let segments = Arc::new(Segments::new(disk.clone()));
        let index = Index::new(options.tail_cache_bytes);
        let start = start_of(&found);
        let (state, end) = restore(found.newest, &index, &segments);
        let runs = Arc::new(Runs::new(disk.clone()));
        let manifest = state.dedup.runs().clone();
        let mut replay = Replay { state, index, runs, manifest, commands: 0, end, bytes: 0 };
        let opened =
            FileJournal::open(disk.clone(), config, &start, random, &mut |frame| replay.frame(frame));
        let (journal, opened) = match opened {
            // Without room for the journal's next file nothing could ever be freed.
            Err(StorageError::DiskFull { .. }) if reserve::give_up(&*disk) => {
                return Shard::open(disk, options, random);
            }
            opened => opened?,
        };
        let Replay { state, index, runs, manifest, commands, end, bytes: replayed_bytes } = replay;
        checkpoint::remove_temporary(&*disk)?;
        runs.take_stock(&manifest, state.lsn)?;
        index.relocate(&opened.moved.iter().map(|placed| (placed.lsn, *placed)).collect());
        let end = opened.moved.last().map(Placed::end).or(end);
        let mut report = report(&opened, commands);
        report.ignored.extend(found.damaged);
        report.checkpoint_lsn = start.applied_lsn;
        tracing::info!(lsn = opened.last_lsn, term = opened.term, clean = opened.clean, "journal recovered");
        let (state, index) = (Arc::new(RwLock::new(state)), Arc::new(index));
        let flusher = Flusher {
            state: state.clone(),
            index: index.clone(),
            segments: segments.clone(),
            runs: runs.clone(),
            reader: Reader::new(index.clone(), journal.reader(), segments.clone()),
            flushed_lsn: Arc::new(AtomicU64::new(start.needed_lsn)),
            one_at_a_time: Arc::default(),
            disk: disk.clone(),
            reserve: Arc::new(Reserve::new(disk.clone(), journal.spares(), options.journal_file_bytes)),
        };
        let mut demand = Demand::default();
        demand.measured(checkpoint::state_bytes(&state.read()));
        let ends_of = |partition| segments.ends(partition).segments.len();
        demand.has_parts(&state.read(), index.partitions().into_iter().map(ends_of));
        let shard = Shard {
            disk,
            options,
            journal,
            state,
            index,
            segments,
            flusher,
            end,
            found: found.kept,
            own: Vec::new(),
            pictured: Vec::new(),
            since_checkpoint: replayed_bytes,
            demand,
            term: opened.term,
            sealed: true,
            short: false,
            needed_bytes: 0,
            may_free: false,
            runs,
            manifest,
            roll_at: 0,
            feed: Arc::default(),
            failed: None,
        };
        Ok((shard, report))
    }

    /// Writes, makes durable and applies commands as one group; the replies in their order.
    ///
    /// # Errors
    /// When the group couldn't be written or synced nothing of it is applied, and it is unknown whether a later open
    /// finds it; all later calls fail, until the log is opened again. [`StorageError::DiskFull`] is different:
    /// nothing was written and the shard goes on.
    pub fn execute(&mut self, submissions: &[Submission]) -> Result<Vec<Applied>, StorageError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if submissions.is_empty() {
            return Ok(Vec::new());
        }
        let levels = self.levels(submissions);
        let frames = self.frames(submissions, &levels);
        let data = submissions.iter().any(|submission| adds_data(&submission.command));
        let growth = Growth::of(submissions.iter().map(|submission| &submission.command));
        if data {
            self.check_space(growth)?;
        }
        let placed = match self.write(&frames, !data) {
            Err(error @ StorageError::DiskFull { .. }) if data => return Err(self.note_full(error)),
            written => written?,
        };
        let sync = if on(Mutant::M13OneWeakCommandSparesTheOthers) {
            levels.iter().all(|level| *level == Level::Fsync)
        } else {
            levels.contains(&Level::Fsync)
        };
        if sync && !on(Mutant::M2AckBeforeSync) {
            self.journal.sync().map_err(|error| self.fail(error))?;
        }
        let applied = self.apply(submissions, &placed, &frames);
        self.demand.grow(growth);
        if sync && on(Mutant::M2AckBeforeSync) {
            self.journal.sync().map_err(|error| self.fail(error))?;
        }
        applied
    }

    /// Opens the shard again in place, after a failure: what the journal holds decides what was in flight. The shared
    /// state is the same object afterwards; [`Shard::reader`] has to be asked for again.
    pub fn reopen(&mut self, random: &mut dyn FnMut() -> u64) -> Result<RecoveryReport, StorageError> {
        let report = self.recover(random)?;
        // It changes nothing but proves that the journal can be written, and puts the new term on disk.
        let time_ms = self.state().time_ms;
        let probe = Submission { time_ms, command: Command::Tick };
        self.execute(std::slice::from_ref(&probe))?;
        self.journal.sync().map_err(|error| self.fail(error))?;
        Ok(report)
    }

    /// [`Shard::reopen`] without a command of its own.
    pub(crate) fn recover(
        &mut self,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<RecoveryReport, StorageError> {
        let one_at_a_time = self.flusher.one_at_a_time.clone();
        let _no_flush = one_at_a_time.lock();
        self.journal.retire();
        let (opened, report) = Shard::open(self.disk.clone(), self.options.clone(), random)?;
        // Not before: while it can't be opened again, reading goes on. So far no file was written that can be read.
        self.journal.hand_over();
        let shared = self.state.clone();
        let fresh = std::mem::take(&mut *opened.state.write());
        *shared.write() = fresh;
        let flusher =
            Flusher { state: shared.clone(), one_at_a_time: one_at_a_time.clone(), ..opened.flusher.clone() };
        // What was in flight is decided by now, maybe otherwise than those who follow were told.
        self.feed.stop();
        let feed = self.feed.clone();
        *self = Shard { state: shared, flusher, feed, ..opened };
        Ok(report)
    }

    /// Writes, makes durable and applies commands that another log has ordered, as one group; their lsns continue
    /// the order. Nothing is kept in memory for readers at the tail.
    ///
    /// # Errors
    /// As [`Shard::execute`]; also if a command can't be decoded, and then nothing was written.
    pub(crate) fn follow(&mut self, frames: &[ReadFrame]) -> Result<(), StorageError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let commands = frames.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let copies: Vec<Frame> = frames.iter().map(ReadFrame::to_frame).collect();
        let placed = self.write(&copies, false)?;
        self.journal.sync().map_err(|error| self.fail(error))?;
        let state = self.state.clone();
        let mut state = state.write();
        for ((frame, (time_ms, command)), placed) in frames.iter().zip(&commands).zip(&placed) {
            let at = At { lsn: frame.lsn, term: frame.term, time_ms: *time_ms };
            let answers = ask_unlocked(&self.runs, &mut state, command).map_err(|error| self.fail(error))?;
            let reply = apply_and_record(&mut state, &self.index, at, command, &answers, placed)
                .map_err(|error| self.fail(error))?;
            self.runs.applied(&mut self.manifest, &state, &reply);
            self.end = Some(placed.end());
            self.since_checkpoint += placed.head_len() + placed.bodies_len;
        }
        Ok(())
    }

    /// What adds data must leave the reserve whole.
    fn check_space(&mut self, growth: Growth) -> Result<(), StorageError> {
        let unflushed = self.index.unflushed_batches() as u64;
        if !self.flusher.reserve.wants(self.demand.to_keep(unflushed, growth)) {
            self.demand.measured(checkpoint::state_bytes(&self.state.read()));
            let to_keep = self.demand.to_keep(unflushed, growth);
            // More than is needed by now, so that it isn't measured for each batch.
            self.flusher.reserve.want(to_keep + to_keep / 4);
        }
        if !self.flusher.reserve.is_whole()
            && let Err(full) = self.flusher.reserve.make_whole()
        {
            // What is refused asks for nothing: smaller things may pass.
            self.want_reserve();
            return Err(self.note_full(full));
        }
        (self.short, self.may_free) = (false, false);
        Ok(())
    }

    /// The reserve is for what a checkpoint would take now, without what was refused.
    fn want_reserve(&self) {
        let unflushed = self.index.unflushed_batches() as u64;
        self.flusher.reserve.want(self.demand.to_keep(unflushed, Growth::default()));
    }

    /// What makes everything so far durable while commands go on, if there is anything: it is run without holding the
    /// shard, and then [ended](Shard::end_sync).
    pub fn begin_sync(&self) -> Option<Syncing> {
        if self.failed.is_some() { None } else { self.journal.begin_sync() }
    }

    /// Takes in a sync that was run.
    ///
    /// # Errors
    /// If it failed: then writing ends until the log is opened again.
    pub fn end_sync(&mut self, syncing: Syncing) -> Result<(), StorageError> {
        self.journal.end_sync(syncing).map_err(|error| self.fail(error))
    }

    /// To be called when no command waits: what is durable is written down, so that damage can be told from a cut.
    pub fn idle(&mut self) -> Result<(), StorageError> {
        let durable = self.journal.durable_lsn() == self.journal.last_lsn();
        if self.failed.is_some() || self.sealed || !durable {
            return Ok(());
        }
        self.sealed = true;
        self.journal.seal(false).map_err(|error| self.fail(error))
    }

    /// Ends writing properly: everything is synced and the journal says so. Afterwards nothing can be written.
    pub fn close(&mut self) -> Result<(), StorageError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.journal.sync().map_err(|error| self.fail(error))?;
        self.journal.seal(true).map_err(|error| self.fail(error))?;
        self.journal.sync().map_err(|error| self.fail(error))?;
        if let Err(error) = self.journal.spares().settle() {
            tracing::debug!(%error, "unfinished journal files stay until the next open");
        }
        self.failed = Some(StorageError::Poisoned { reason: "the log is closed".into() });
        Ok(())
    }

    /// When an acknowledged command is safe.
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// The state as of the last command applied.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The state, shared with readers of other threads.
    pub fn shared_state(&self) -> Arc<RwLock<State>> {
        self.state.clone()
    }

    /// A reader of records.
    pub fn reader(&self) -> Reader {
        Reader::new(self.index.clone(), self.journal.reader(), self.segments.clone())
    }

    /// What states elsewhere follow this one by.
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    /// The state now, for somebody who follows it from here on: the feed has all that comes behind it.
    pub fn follow_from_here(&self) -> State {
        let state = self.state.read().clone();
        self.feed.start(self.term, state.lsn);
        state
    }

    /// What brings batches into segments; for a thread of its own.
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// Takes a picture of everything, for [`Image::write`] without this shard being held. The journal is synced up to
    /// it first, in every mode: a checkpoint must never know more than the disk.
    ///
    /// # Errors
    /// As [`Shard::execute`]; nothing is pictured of a shard that failed.
    pub fn checkpoint_image(&mut self) -> Result<Image, StorageError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let one_at_a_time = self.flusher.one_at_a_time.clone();
        let _no_flush = one_at_a_time.lock();
        if self.own.last().is_some_and(|own| own.applied_lsn == self.journal.last_lsn()) {
            // Two checkpoints at one lsn would be one: a full journal could never be given up.
            let time_ms = self.state().time_ms;
            self.execute(&[Submission { time_ms, command: Command::Tick }])?;
        }
        self.journal.sync().map_err(|error| self.fail(error))?;
        self.idle()?;
        self.since_checkpoint = 0;
        let image = self.picture();
        let named = image.partitions.iter().filter(|image| image.ends.end_offset > 0);
        let named = named.map(|image| (image.partition, image.ends.end_offset)).collect();
        let own = &self.own;
        self.pictured.retain(|(lsn, _)| own.iter().any(|own| own.applied_lsn == *lsn));
        self.pictured.push((image.applied_lsn, Arc::new(named)));
        self.demand.has_parts(&image.state, image.partitions.iter().map(|image| image.ends.segments.len()));
        self.want_reserve();
        Ok(image)
    }

    /// The state, all of it in segments, and these: what another log can go on from. Flushes and syncs.
    ///
    /// # Errors
    /// As [`Shard::checkpoint`].
    pub(crate) fn flushed_picture(&mut self) -> Result<(Image, SegmentSets), StorageError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        // Nothing is applied meanwhile, since this shard is held: what is flushed now is everything.
        self.flusher.flush()?;
        self.journal.sync().map_err(|error| self.fail(error))?;
        let image = self.picture();
        let set = |partition| Ok((partition, self.segments.set(partition)?));
        let flushed = image.partitions.iter().filter(|image| image.ends.end_offset > 0);
        let sets = flushed.map(|image| set(image.partition)).collect::<Result<_, _>>()?;
        Ok((image, sets))
    }

    fn picture(&self) -> Image {
        let state = self.state.read().clone();
        let image = |partition| {
            let ends = self.segments.ends(partition);
            let placed = self.index.placed(partition, ends.end_offset);
            PartitionImage { partition, ends, placed }
        };
        let partitions = self.index.partitions().into_iter().map(image).collect();
        Image {
            applied_lsn: state.lsn,
            flushed_lsn: self.flusher.flushed_lsn(),
            applied_at: self.end,
            state,
            partitions,
        }
    }

    /// Where the newest checkpoint lies that this open has made.
    pub(crate) fn checkpointed_lsn(&self) -> Option<u64> {
        self.own.last().map(|own| own.applied_lsn)
    }

    /// The segments, for whoever brings other batches into them than those of the journal.
    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Takes over a checkpoint that [`Image::write`] has made durable: older ones and the journal below the older of
    /// the two that are kept are given up.
    ///
    /// # Errors
    /// When a file can't be removed or recycled; for the journal that is final.
    pub fn keep_checkpoint(&mut self, kept: Kept) -> Result<(), StorageError> {
        self.own.retain(|own| own.applied_lsn != kept.applied_lsn);
        self.found.retain(|found| found.applied_lsn != kept.applied_lsn);
        self.own.push(kept);
        if self.own.len() < 2 && !on(Mutant::R7FoundFilesRecycled) {
            // What was found stays until two of our own are there: the newest might be the only good one.
            return Ok(());
        }
        let superfluous = self.own.len().saturating_sub(2);
        let gone: Vec<Kept> = self.own.drain(..superfluous).chain(self.found.drain(..)).collect();
        for kept in gone {
            checkpoint::remove(&*self.disk, kept)?;
        }
        let needed = if on(Mutant::M7RecycledTooEarly) { self.own.last() } else { self.own.first() };
        let through = needed.map_or(0, |needed| needed.flushed_lsn);
        self.journal.recycle(through).map_err(|error| self.fail(error)).map(|_| ())
    }

    /// All checkpoints that are kept show everything up to this lsn, for [`Flusher::sweep`]. None as long as there are
    /// some that earlier opens have made.
    pub fn shown_lsn(&self) -> Option<u64> {
        self.own.first().filter(|_| self.own.len() >= 2 && self.found.is_empty()).map(|own| own.applied_lsn)
    }

    /// What looks for old records. None before two checkpoints of this open are kept: what an earlier one names isn't
    /// known.
    pub fn cleaner(&self) -> Option<Cleaner> {
        let older = self.own.first().filter(|_| self.shown_lsn().is_some())?;
        let (_, checkpointed) = self.pictured.iter().find(|(lsn, _)| *lsn == older.applied_lsn)?;
        Some(Cleaner { flusher: self.flusher.clone(), checkpointed: checkpointed.clone() })
    }

    /// Bytes of the newest checkpoint that this open has made; 0 before the first.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.own.last().map_or(0, |own| own.bytes)
    }

    /// As [`Shard::cleaner`], as if what is in segments now were named by the older checkpoint: for whoever only
    /// asks what there would be to do.
    pub fn prospect(&self) -> Cleaner {
        let ends = |partition| (partition, self.segments.ends(partition).end_offset);
        let named = self.index.partitions().into_iter().map(ends).filter(|(_, end)| *end > 0).collect();
        Cleaner { flusher: self.flusher.clone(), checkpointed: Arc::new(named) }
    }

    /// The runs of event ids.
    pub fn runs(&self) -> &Arc<Runs> {
        &self.runs
    }

    /// Whether more ids are in memory than are to be.
    pub fn wants_run(&self) -> bool {
        let in_memory = self.state.read().dedup.in_memory();
        in_memory > self.options.dedup_memory_entries && in_memory >= self.roll_at
    }

    /// The next run that is worth making: to be written without holding the shard, and then [taken](Shard::take_run).
    ///
    /// # Errors
    /// A smaller run that is to be merged and can't be opened.
    pub fn plan_run(&self) -> Result<Option<RunPlan>, StorageError> {
        if self.failed.is_some() || self.state.read().dedup.in_memory() < self.roll_at {
            return Ok(None);
        }
        let memory_max = self.options.dedup_memory_entries;
        RunPlan::next(&self.state.read(), memory_max, &self.runs, &self.flusher.reserve)
    }

    /// Has a run that was written taken, or removes it if it isn't what the state has by now.
    ///
    /// # Errors
    /// As [`Shard::execute`].
    pub fn take_run(&mut self, plan: &RunPlan) -> Result<(), StorageError> {
        let time_ms = self.state().time_ms;
        let taken = self.execute(&[Submission { time_ms, command: plan.command() }]);
        match taken {
            Ok(_) => self.roll_at = 0,
            // Nothing says that it was taken, and it may have been: then it stays.
            Err(_) if self.failed.is_some() => {}
            Err(_) => plan.discard(),
        }
        taken.map(|_| ())
    }

    /// Notes that no run could be written: it is tried again when there are more marks.
    pub(crate) fn note_no_run(&mut self) {
        const MORE: u64 = 16_384;
        let in_memory = self.state().dedup.in_memory();
        self.roll_at = in_memory + MORE;
    }

    /// Notes that something may have become free: rounds of writing behind are due, until files that no checkpoint
    /// names are removed.
    pub fn note_freeable(&mut self) {
        self.may_free = true;
    }

    /// Flushes, makes a checkpoint, and removes what it lets go: all of it at once, for those who have no other
    /// threads.
    ///
    /// # Errors
    /// As [`behind::checkpoint`].
    pub fn checkpoint(&mut self) -> Result<(), StorageError> {
        behind::checkpoint(&mut behind::Owned(self), behind::Extent::Whole)
    }

    /// Notes that data was refused for want of space: writing behind may free some. The error with numbers.
    pub fn note_full(&mut self, error: StorageError) -> StorageError {
        (self.short, self.may_free) = (true, true);
        let error = match error {
            StorageError::Io { source, .. } if out_of_space(&source) => {
                let free = self.disk.free().unwrap_or(0);
                // About what is missing until the journal goes on: a file of it has to be freed.
                let needed = self.options.journal_file_bytes.max(free + 1);
                StorageError::disk_full(&*self.disk, needed)
            }
            error => error,
        };
        if let StorageError::DiskFull { needed, .. } = error {
            self.needed_bytes = needed;
        }
        error
    }

    /// What has to be free on the disk until data is taken, and what is, in bytes: if some was refused and there isn't
    /// as much by now. A disk that doesn't say what is free may have it.
    pub fn lacks(&self) -> Option<(u64, u64)> {
        let free = self.disk.free().ok().filter(|free| self.short && *free < self.needed_bytes)?;
        Some((self.needed_bytes, free))
    }

    /// Whether data was refused for want of space, and none was taken since.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Notes that writing behind has freed what it can.
    pub(crate) fn note_freed(&mut self) {
        self.may_free = false;
    }

    /// Bytes written to the journal since the last checkpoint was begun.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// Most bytes of commands to be gathered into one group: 1 MiB, and no more than half a journal file. A larger
    /// command is executed alone.
    ///
    /// From here on a larger group makes the disk no faster, and whoever sends stands still while one is written that
    /// has taken most of what may be in flight.
    pub fn group_bytes_max(&self) -> usize {
        const GROUP_BYTES: u64 = 1024 * 1024;
        GROUP_BYTES.min(self.options.journal_file_bytes / 2) as usize
    }

    /// Most bytes of one command: it has to fit into one journal file, with its frame.
    pub fn command_bytes_max(&self) -> usize {
        /// Headers of file, group and frame, and what alignment may add.
        const AROUND_BYTES: u64 = 16 * 1024;
        let bytes = self.options.journal_file_bytes.saturating_sub(AROUND_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX).min(COMMIT_BYTES_MAX)
    }

    /// Bytes of recent batches in memory.
    pub fn cached_bytes(&self) -> u64 {
        self.index.cached_bytes()
    }

    /// Batches that are only in the journal.
    pub fn unflushed_batches(&self) -> usize {
        self.index.unflushed_batches()
    }

    /// Whether a checkpoint is due: much was written, the journal takes more than half of what it may, or earlier opens
    /// left many files, each of them begun by one open.
    pub fn wants_checkpoint(&self) -> bool {
        let some = self.since_checkpoint > self.options.journal_file_bytes
            || self.journal.closed_lsn() > self.flusher.flushed_lsn();
        self.since_checkpoint >= self.options.checkpoint_bytes
            || (self.is_half_full() && some)
            || self.is_full()
            || self.wants_another()
    }

    fn is_half_full(&self) -> bool {
        self.journal.used_bytes() > self.options.journal_ring_bytes / 2
    }

    /// The last lsn of the oldest part of a long journal that isn't in segments; `None`: it isn't that long. It is
    /// large enough for what the checkpoint behind it costs, in which stands batch by batch what isn't flushed.
    pub(crate) fn oldest_part(&self) -> Option<u64> {
        const PARTS_OF_THE_RING: u64 = 16;
        const BATCHES_MAX: usize = 50_000;
        if !self.is_half_full() || self.index.unflushed_batches() > BATCHES_MAX {
            return None;
        }
        let checkpoint_bytes = self.own.last().map_or(0, |own| own.bytes);
        let part_bytes = (self.options.journal_ring_bytes / PARTS_OF_THE_RING).max(2 * checkpoint_bytes);
        let flushed_lsn = self.flusher.flushed_lsn();
        let files = self.journal.files();
        let (_, closed) = files.split_last()?;
        let mut bytes = 0;
        let part = closed.iter().filter(|file| file.last_lsn > flushed_lsn).find(|file| {
            bytes += file.len_bytes;
            bytes >= part_bytes
        });
        part.map(|file| file.last_lsn)
    }

    /// Whether one checkpoint more is due behind the last: the files of earlier opens go with the second of this one,
    /// and what a full disk waits for with the ones behind that.
    pub(crate) fn wants_another(&self) -> bool {
        const FILES_MAX: usize = 4;
        let many = self.own.len() < 2 && self.journal.file_count() > FILES_MAX;
        many || self.may_free
    }

    /// Whether a journal file should be prepared.
    pub fn wants_spare(&self) -> bool {
        self.journal.spares().ready() == 0 && !self.short
    }

    /// Whether the journal takes what it may: the next group waits for a checkpoint.
    pub fn is_full(&self) -> bool {
        self.journal.used_bytes() > self.options.journal_ring_bytes
    }

    /// The disk, for [`Image::write`].
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// The journal.
    pub fn journal(&self) -> &FileJournal {
        &self.journal
    }

    /// Term of the commands that are written now.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// Why writing ended, if it did.
    pub fn failure(&self) -> Option<&StorageError> {
        self.failed.as_ref()
    }

    /// Ends writing until the shard is opened again: whoever drives it has lost track.
    pub fn poison(&mut self, reason: &str) {
        if self.failed.is_none() {
            self.fail(StorageError::Poisoned { reason: reason.into() });
        }
    }

    pub(crate) fn fail(&mut self, error: StorageError) -> StorageError {
        tracing::error!(%error, "the journal failed; writing ends until the log is opened again");
        self.failed = Some(error.clone());
        error
    }

    /// Writes one group. A group that can't be written for want of room, or for its size, changes nothing.
    /// What frees space, or ends something, may use the reserve.
    fn write(&mut self, frames: &[Frame], from_reserve: bool) -> Result<Vec<Placed>, StorageError> {
        self.sealed = false;
        let appended = match from_reserve {
            true => self.journal.append_from_reserve(frames),
            false => self.journal.append(frames),
        };
        match appended {
            Err(error @ (StorageError::DiskFull { .. } | StorageError::TooLarge { .. })) => Err(error),
            Err(error) => Err(self.fail(error)),
            placed => placed,
        }
    }

    /// How safe each of the commands is when it is acknowledged, by what is known of their topics before them: a
    /// command that changes that is synced itself, and with it all of its group.
    fn levels(&self, submissions: &[Submission]) -> SmallVec<[Level; 4]> {
        let of_log = match self.options.durability {
            Durability::Fsync => Level::Fsync,
            Durability::Os => Level::Os,
            Durability::Interval(_) => Level::Interval,
        };
        let state = self.state.read();
        let of_topic = |topic| match state.topics.get(&topic).map(|topic| topic.config.durability) {
            Some(TopicDurability::Os) => Level::Os,
            Some(TopicDurability::Log) | None => of_log,
        };
        let of = |submission: &Submission| match sent_to(&submission.command) {
            Some(topic) => of_topic(topic),
            None if mints_an_identity(&submission.command) => Level::Fsync,
            None => of_log,
        };
        submissions.iter().map(of).collect()
    }

    fn frames(&self, submissions: &[Submission], levels: &[Level]) -> Vec<Frame> {
        let first = self.journal.last_lsn() + 1;
        let encoded =
            submissions.iter().map(|submission| codec::encode(submission.time_ms, &submission.command));
        let frame = |(index, encoded): (usize, codec::Encoded)| Frame {
            lsn: first + index as u64,
            term: self.term,
            kind: encoded.kind,
            version: encoded.version,
            level: levels[index],
            head: encoded.head,
            bodies: encoded.bodies,
        };
        encoded.enumerate().map(frame).collect()
    }

    fn apply(
        &mut self,
        submissions: &[Submission],
        placed: &[Placed],
        frames: &[Frame],
    ) -> Result<Vec<Applied>, StorageError> {
        let state = self.state.clone();
        let mut state = state.write();
        let mut all = Vec::with_capacity(submissions.len());
        for ((submission, placed), frame) in submissions.iter().zip(placed).zip(frames) {
            let at = At { lsn: placed.lsn, term: self.term, time_ms: submission.time_ms };
            let answers = ask_unlocked(&self.runs, &mut state, &submission.command);
            let applied = answers.and_then(|answers| {
                let applied = apply_one(&mut state, at, &submission.command, &answers)?;
                self.feed.push(frame, answers);
                Ok(applied)
            });
            let applied = applied.map_err(|error| self.fail(error))?;
            self.runs.applied(&mut self.manifest, &state, &applied.reply);
            record(&self.index, &submission.command, &applied, placed, frame.head.len(), true);
            let trimmed = applied.timers_start.is_some();
            if trimmed || matches!(applied.reply, Reply::Trimmed { .. } | Reply::TopicDeleted) {
                self.may_free = self.short;
            }
            self.end = Some(placed.end());
            self.since_checkpoint += placed.head_len() + placed.bodies_len;
            all.push(applied);
        }
        self.index.evict();
        Ok(all)
    }
}

fn start_of(found: &checkpoint::Found) -> Start {
    found.newest.as_ref().map_or_else(Start::default, |image| Start {
        applied_lsn: image.applied_lsn,
        applied_at: image.applied_at,
        needed_lsn: image.flushed_lsn,
        checkpoints_found: found.kept.len(),
    })
}

fn restore(newest: Option<Image>, index: &Index, segments: &Segments) -> (State, Option<Position>) {
    let Some(Image { state, partitions, applied_at, .. }) = newest else { return (State::default(), None) };
    for image in partitions {
        let partition = image.partition;
        let topic = state.topics.get(&partition.topic);
        if let (Some(topic), Some(found)) = (topic, state.partition(partition)) {
            index.restore(partition, found, &image);
            segments.restore(partition, image.ends, segment_options(topic));
        }
    }
    (state, applied_at)
}

struct Replay {
    state: State,
    index: Index,
    runs: Arc<Runs>,
    manifest: Arc<Manifest>,
    commands: u64,
    bytes: u64,
    end: Option<Position>,
}

impl Replay {
    fn frame(&mut self, frame: ReadFrame) -> Result<(), StorageError> {
        let (time_ms, command) = decode(&frame)?;
        let at = At { lsn: frame.lsn, term: frame.term, time_ms };
        let keys = self.runs.questions(&self.state, &command)?;
        let answers = match keys.is_empty() {
            true => Answers::none(),
            false => self.runs.look_up(&self.manifest, &keys)?,
        };
        let state = &mut self.state;
        let reply = apply_and_record(state, &self.index, at, &command, &answers, &frame.placed)?;
        self.runs.applied(&mut self.manifest, &self.state, &reply);
        self.end = Some(frame.end());
        self.commands += 1;
        self.bytes += (frame.head.len() + frame.bodies.len()) as u64;
        Ok(())
    }
}

pub(crate) fn decode(frame: &ReadFrame) -> Result<(i64, Command), StorageError> {
    codec::decode(frame.kind, frame.version, &frame.head, &frame.bodies)
        .map_err(|error| undecodable(frame, &error))
}

/// What replay and a follower do with a command: no tail cache.
fn apply_and_record(
    state: &mut State,
    index: &Index,
    at: At,
    command: &Command,
    answers: &Answers,
    placed: &Placed,
) -> Result<Reply, StorageError> {
    let applied = apply_one(state, at, command, answers)?;
    record(index, command, &applied, placed, placed.head_len() as usize, false);
    Ok(applied.reply)
}

/// Looks up what a command asks of the runs, while readers have the state.
fn ask_unlocked(
    runs: &Arc<Runs>,
    state: &mut RwLockWriteGuard<'_, State>,
    command: &Command,
) -> Result<Answers, StorageError> {
    let keys = runs.questions(state, command)?;
    if keys.is_empty() {
        return Ok(Answers::none());
    }
    let manifest = state.dedup.runs().clone();
    RwLockWriteGuard::unlocked(state, || runs.look_up(&manifest, &keys))
}

fn undecodable(frame: &ReadFrame, error: &codec::DecodeError) -> StorageError {
    let Placed { generation, head_at, .. } = frame.placed;
    let what = format!("lsn {}: {error}", frame.lsn);
    StorageError::damaged(journal::file_name(generation), head_at, what)
}

/// A panic in `apply` is a bug of ours that must not take the process down, nor be met with a half-changed state:
/// the shard ends before the next command, and open refuses with the same words.
pub(crate) fn apply_one(
    state: &mut State,
    at: At,
    command: &Command,
    answers: &Answers,
) -> Result<Applied, StorageError> {
    catch_unwind(AssertUnwindSafe(|| state.apply_with(at, command, answers))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let kind = command.kind_name();
        StorageError::Poisoned {
            reason: format!("applying {kind} at lsn {} panicked: {text}", at.lsn).into(),
        }
    })
}

/// Whether a command makes the log grow. The others pass when space is short: they are what frees it, and what ends
/// the work of those who can't go on.
pub fn adds_data(command: &Command) -> bool {
    match command {
        Command::Append { .. } | Command::Commit(_) | Command::CommitOffsets { .. } => true,
        Command::CreateTopic { .. } | Command::CreateTable { .. } | Command::AlterTopic { .. } => true,
        Command::InitProducer { .. } | Command::JoinGroup { .. } => true,
        Command::Open | Command::DeleteTopic { .. } | Command::Trim { .. } | Command::Tick => false,
        Command::LeaveGroup { .. } | Command::ReleasePartitions { .. } | Command::Config(_) => false,
        Command::CreatePartitions { .. } => true,
        Command::DeleteOffsets { .. } => false,
        // An abort ends something; its markers are a few bytes.
        Command::Transactional(request) => !matches!(**request, Transactional::End { commit: false, .. }),
        // A mark takes the place of its reservation.
        Command::Dedup(request) => {
            !matches!(**request, Dedup::Finish { .. } | Dedup::Release { .. } | Dedup::Forget { .. })
        }
        Command::Timer(command) => !matches!(**command, TimerCommand::Cancel { .. }),
    }
}

/// The topic to which a command only sends: such a command is as safe as that topic's durability says.
fn sent_to(command: &Command) -> Option<TopicId> {
    match command {
        Command::Append { partition, .. } => Some(partition.topic),
        Command::Transactional(request) => match &**request {
            Transactional::Append { partition, .. } => Some(partition.topic),
            _ => None,
        },
        Command::Dedup(request) => match &**request {
            Dedup::Append { partition, .. } => Some(partition.topic),
            _ => None,
        },
        _ => None,
    }
}

/// Commands that give out an identity or take a decision are synced in every mode (semantics OA-6).
fn mints_an_identity(command: &Command) -> bool {
    match command {
        Command::Append { .. } | Command::CommitOffsets { .. } => false,
        Command::Commit(commit) => !commit.timers.is_empty(),
        // A power loss that takes a reservation has ended the work under it, too.
        Command::Trim { .. } | Command::Tick | Command::Dedup(_) => false,
        Command::Open
        | Command::CreateTopic { .. }
        | Command::CreateTable { .. }
        | Command::AlterTopic { .. }
        | Command::DeleteTopic { .. } => true,
        Command::InitProducer { .. } | Command::JoinGroup { .. } | Command::LeaveGroup { .. } => true,
        Command::ReleasePartitions { .. } | Command::Config(_) => true,
        Command::CreatePartitions { .. } | Command::DeleteOffsets { .. } => true,
        Command::Transactional(request) => {
            matches!(**request, Transactional::Init { .. } | Transactional::End { .. })
        }
        // The id of a timer must not become another one's, nor one that was given up fire.
        Command::Timer(command) => {
            matches!(**command, TimerCommand::Set { .. } | TimerCommand::Cancel { .. })
        }
    }
}

/// Enters what a command did into the index.
fn record(
    index: &Index,
    command: &Command,
    applied: &Applied,
    placed: &Placed,
    head_len: usize,
    cache: bool,
) {
    match (command, &applied.reply) {
        (Command::Trim { partition, .. }, Reply::Trimmed { start_offset }) => {
            index.trim(*partition, *start_offset)
        }
        (Command::DeleteTopic { topic }, Reply::TopicDeleted) => index.remove_topic(*topic),
        _ => {}
    }
    if let Some(start) = applied.timers_start {
        index.trim(Partition::TIMERS, start);
    }
    for marker in &applied.markers {
        let cached = cache.then(|| marker.batch());
        index.add(marker.partition, Located::marker(marker, placed.lsn), cached);
    }
    if applied.placements.is_empty() {
        return;
    }
    let batches = command.batches();
    let mut body_in_frame = head_len as u32;
    let mut placements = applied.placements.iter().peekable();
    for (nth, batch) in batches.iter().enumerate() {
        if let Some(placement) = placements.next_if(|placement| placement.index as usize == nth) {
            let located = Located {
                base_offset: placement.base_offset,
                next_offset: placement.next_offset,
                lsn: placed.lsn,
                max_timestamp_ms: placement.max_timestamp_ms(batch),
                leader_epoch: placement.leader_epoch,
                source: Source::Journal {
                    generation: placed.generation,
                    head_at: placed.head_at,
                    header_in_frame: codec::batch_header_at(head_len, batches.len(), nth) as u32,
                    body_in_frame,
                    body_len: batch.body().len() as u32,
                },
                has_append_time: placement.append_time_ms.is_some(),
            };
            let cached = cache.then(|| placement.placed(batch));
            index.add(placement.partition, located, cached);
        }
        body_in_frame += batch.body().len() as u32;
    }
}

fn report(opened: &Opened, replayed_commands: u64) -> RecoveryReport {
    RecoveryReport {
        checkpoint_lsn: 0,
        replayed_commands,
        last_lsn: opened.last_lsn,
        term: opened.term,
        clean: opened.clean,
        cut: opened.cut.clone(),
        ignored: opened.ignored.clone(),
    }
}

/// Partitions of a command's batches, for whoever wakes readers.
pub fn touched(applied: &Applied) -> impl Iterator<Item = Partition> + '_ {
    applied.touched()
}
