//! What the plans of [`exactlog_core::plan`] are made from, and done with: which closed segments there are.
//!
//! ```text
//!   closed segments, state, older checkpoint -> plan -> Trim, a command of the caller
//!                                                   \-> new segments in place of old ones
//! ```
//!
//! Not here: when it is time to look, and the removal of files, which the rounds of writing behind do.
//!
//! Invariants
//!   * nothing is planned before two checkpoints of this open are kept: only then it is known what the older one has
//!   * the shard isn't held, nor flushing kept from going on, while a plan is made or segments are rewritten
//!   * of a damaged segment nothing is made: its partition isn't compacted, and the error names it
//!   * segments are rewritten into new files, which take the place of the old ones at one moment, when they are
//!     durable; the old ones stay for readers that have them, and for the checkpoints that name them

use crate::error::StorageError;
use crate::partitions::STEP_BYTES;
use crate::projection::{Flusher, segment_options};
use crate::segment::{Ends, Rewriter, SegmentEnd, SegmentSet, segments_below};
use exactlog_core::batch::Batch;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::plan::compaction::{self, Choice, Fate, KEY_MAP_BYTES, KeyMap, Rules};
use exactlog_core::plan::{SealedSegment, SealedSegments, retention};
use exactlog_core::state::{PartitionState, Topic, Undecided};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far the segments of each partition go that a checkpoint names.
pub(crate) type CheckpointedEnds = Arc<BTreeMap<Partition, u64>>;

/// Looks for old records. Made by [`Shard::cleaner`](crate::shard::Shard::cleaner); used without the shard.
#[derive(Clone, Debug)]
pub struct Cleaner {
    pub(crate) flusher: Flusher,
    /// Of the older of the kept checkpoints.
    pub(crate) checkpointed: CheckpointedEnds,
}

/// What compaction has to do in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueCompaction {
    /// The partition.
    pub partition: Partition,
    /// Closed segments that would be read and written again.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of these the bytes that weren't compacted before.
    pub dirty_bytes: u64,
}

/// What compaction has done in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The partition.
    pub partition: Partition,
    /// Bytes of the segments that were rewritten.
    pub bytes_before: u64,
    /// Bytes of those that took their place.
    pub bytes_after: u64,
}

/// When compaction is due, and what keeps it from going on.
pub struct Occasion<'a> {
    /// The log's time, ms: a clock that is held lets no tombstone go.
    pub now_ms: i64,
    /// Somebody wants it, also where that gains little.
    pub asked: bool,
    /// Up to where each partition may be touched at most: what views show has to stay.
    pub limit: &'a dyn Fn(Partition) -> u64,
    /// Asked now and then: false ends it.
    pub goes_on: &'a dyn Fn() -> bool,
    /// Most bytes that the keys of one pass take, about.
    pub key_bytes_max: usize,
}

impl Occasion<'_> {
    /// Whenever it gains something, without limits.
    pub fn at(now_ms: i64) -> Occasion<'static> {
        let key_bytes_max = KEY_MAP_BYTES;
        Occasion { now_ms, asked: false, limit: &|_| u64::MAX, goes_on: &|| true, key_bytes_max }
    }
}

impl std::fmt::Debug for Occasion<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Occasion")
            .field("now_ms", &self.now_ms)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

/// How far a pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// It was kept from going on, or nothing changes.
    Nothing,
    /// Up to where its keys have fitted.
    Part,
    /// Everything that was chosen.
    All,
}

/// A partition as of one moment, with what decides about its old records.
struct Candidate {
    partition: Partition,
    topic: Arc<Topic>,
    state: Arc<PartitionState>,
}

impl Cleaner {
    /// The partitions whose start retention raises now, and to where: each is a `Trim` for the caller to submit.
    /// `now_ms` is the log's time: a clock that is held expires nothing.
    pub fn due_trims(&self, now_ms: i64) -> Vec<(Partition, u64)> {
        let is_limited = |topic: &Topic| {
            let config = &topic.config;
            let limited = config.retention_ms.is_some() || config.retention_bytes.is_some();
            config.cleanup_policy.deletes() && limited
        };
        let due = |candidate: Candidate| {
            let Candidate { partition, topic, state } = candidate;
            let sealed = self.sealed(partition, &state);
            let start = retention::new_start(&topic.config, &sealed, state.start, now_ms)?;
            Some((partition, start))
        };
        self.candidates(is_limited).into_iter().filter_map(due).collect()
    }

    /// Whether there are closed segments below the start of any partition: the next checkpoints let their files go.
    pub fn has_trimmed_segments(&self) -> bool {
        let trimmed = |partition: Partition| {
            segments_below(&self.flusher.segments.ends(partition), self.flusher.index.start_offset(partition))
                > 0
        };
        self.checkpointed.keys().any(|partition| trimmed(*partition))
    }

    /// Whether something is due that lies in the journal alone, and so isn't looked at: records that are older than
    /// their topic's retention, more bytes than that, or as much of a compacted topic as makes a segment.
    pub fn has_old_in_journal(&self, now_ms: i64) -> bool {
        let is_old = |partition: Partition, limit_ms: u64| {
            let oldest = self.flusher.index.oldest_unflushed_ms(partition).filter(|time_ms| *time_ms >= 0);
            oldest.is_some_and(|time_ms| time_ms.saturating_add_unsigned(limit_ms) <= now_ms)
        };
        let is_much = |partition, limit_bytes| self.flusher.index.unflushed_bytes(partition) > limit_bytes;
        let is_due = |topic: &Topic, partition: Partition| {
            let config = &topic.config;
            let expires = config.cleanup_policy.deletes()
                && (config.retention_ms.is_some_and(|limit_ms| is_old(partition, limit_ms))
                    || config.retention_bytes.is_some_and(|limit_bytes| is_much(partition, limit_bytes)));
            let compacts = config.cleanup_policy.compacts()
                && (is_old(partition, config.segment_ms)
                    || is_much(partition, u64::from(config.segment_bytes)));
            expires || compacts
        };
        let topics = self.flusher.state.read().topics.clone();
        topics.iter().any(|(id, topic)| {
            let mut partitions =
                (0..topic.partitions.len() as u32).map(|index| Partition { topic: *id, index });
            partitions.any(|partition| is_due(topic, partition))
        })
    }

    /// What there is to compact now, in all topics that say so.
    pub fn due_compactions(&self, occasion: &Occasion<'_>) -> Vec<DueCompaction> {
        let is_compacted = |topic: &Topic| topic.config.cleanup_policy.compacts();
        let due = |candidate: Candidate| {
            let (ends, choice) = self.choose(&candidate, occasion)?;
            let bytes = |segments: &[SegmentEnd]| segments.iter().map(|it| it.len_bytes).sum();
            Some(DueCompaction {
                partition: candidate.partition,
                segments: choice.all,
                bytes: bytes(&ends.segments[..choice.all]),
                dirty_bytes: bytes(&ends.segments[choice.clean..choice.all]),
            })
        };
        self.candidates(is_compacted).into_iter().filter_map(due).collect()
    }

    /// Compacts a partition, in as many passes as its keys need; nothing if there is nothing to do by now.
    ///
    /// # Errors
    /// A segment that is damaged, and a disk that refuses or is full: what was there stays, and nothing is lost.
    pub fn compact(
        &self,
        partition: Partition,
        occasion: &Occasion<'_>,
    ) -> Result<Option<Compacted>, StorageError> {
        let bytes_below = |ends: &Ends, offset| {
            let below = ends.segments.iter().filter(|segment| segment.base_offset < offset);
            below.map(|segment| segment.len_bytes).sum::<u64>()
        };
        let (mut before, mut asked) = (None, occasion.asked);
        while let Some(candidate) = self.candidate(partition) {
            let Some((ends, choice)) = self.choose(&candidate, &Occasion { asked, ..*occasion }) else {
                break;
            };
            let end = ends.segments[choice.all].base_offset;
            let pass = self.pass(&candidate, occasion, &ends, choice)?;
            if pass != Pass::Nothing {
                before.get_or_insert((bytes_below(&ends, end), end));
            }
            if pass != Pass::Part {
                break;
            }
            // What didn't fit into this one comes now, however little it is.
            asked = true;
        }
        Ok(before.map(|(bytes_before, end)| {
            let bytes_after = bytes_below(&self.flusher.segments.ends(partition), end);
            tracing::info!(%partition, bytes_before, bytes_after, "compacted");
            Compacted { partition, bytes_before, bytes_after }
        }))
    }

    fn choose(&self, candidate: &Candidate, occasion: &Occasion<'_>) -> Option<(Ends, Choice)> {
        let Candidate { partition, topic, state } = candidate;
        let ends = self.flusher.segments.ends(*partition);
        let mut sealed = self.sealed_of(*partition, state, &ends);
        sealed.limit_offset = sealed.limit_offset.min((occasion.limit)(*partition));
        let choice = compaction::choose(&topic.config, &sealed, occasion.now_ms, occasion.asked)?;
        Some((ends, choice))
    }

    /// One pass: as many keys as fit, and everything up to the last of them rewritten.
    fn pass(
        &self,
        candidate: &Candidate,
        occasion: &Occasion<'_>,
        ends: &Ends,
        choice: Choice,
    ) -> Result<Pass, StorageError> {
        let Candidate { partition, topic, state } = candidate;
        let segments = &self.flusher.segments;
        let log = segments.log(*partition, || segment_options(topic));
        let _rewriting = log.rewriting.lock();
        segments.with(*partition, &log, |opened| opened.expect_files(&ends.segments[..choice.all]))?;
        let (first, end) = (ends.segments[0].base_offset, ends.segments[choice.all].base_offset);
        let undecided = state.undecided_between(first, end);
        let set = segments.set(*partition)?;
        let mut walk = Walk { set: &set, goes_on: occasion.goes_on };
        let dirty_from = ends.segments[choice.clean].base_offset;
        let Some(keys) = walk.keys(dirty_from.min(end), end, &undecided, occasion.key_bytes_max)? else {
            return Ok(Pass::Nothing);
        };
        let pass = if keys.covered() < end { Pass::Part } else { Pass::All };
        // A segment that the keys end in is rewritten as a whole.
        let all = ends.segments[..choice.all].partition_point(|segment| segment.base_offset < keys.covered());
        let (old, end) = (&ends.segments[..all], ends.segments[all].base_offset);
        let bytes_before = old.iter().map(|segment| segment.len_bytes).sum();
        self.flusher.reserve.leave(bytes_before)?;
        let rules = Rules::new(&topic.config, &keys, &undecided, occasion.now_ms);
        let mut rewriter = segments.with(*partition, &log, |opened| Ok(opened.rewriter()))?;
        let rewritten = walk.rewrite(first, end, keys.covered(), rules, &mut rewriter);
        let rewritten = match rewritten {
            Ok(Some(changed)) if changed || choice.clean < choice.all => rewriter.finish(),
            Ok(_) => {
                rewriter.remove();
                return Ok(Pass::Nothing);
            }
            Err(error) => Err(error),
        };
        let rewritten = rewritten.inspect_err(|_| rewriter.remove())?;
        self.flusher.index.forget_cached(*partition, end);
        let replaced = segments.with(*partition, &log, |opened| Ok(opened.replace(old, &rewritten)))?;
        let Some(files) = replaced else {
            rewriter.remove();
            return Ok(Pass::Nothing);
        };
        // Whoever has seen the old ones has a picture of this lsn, or an earlier one. No sweep comes in between, since
        // this partition's segments are being rewritten.
        let lsn = self.flusher.state.read().lsn;
        segments.note_replaced(*partition, lsn, files);
        Ok(pass)
    }

    fn candidate(&self, partition: Partition) -> Option<Candidate> {
        let state = self.flusher.state.read();
        let topic = state.topics.get(&partition.topic)?;
        let found = topic.partitions.get(partition.index as usize)?;
        let candidate = Candidate { partition, topic: topic.clone(), state: found.clone() };
        self.checkpointed.contains_key(&partition).then_some(candidate)
    }

    /// The partitions of the topics that `is_due` knows, as far as the older checkpoint has segments of them.
    fn candidates(&self, is_due: impl Fn(&Topic) -> bool) -> Vec<Candidate> {
        let state = self.flusher.state.read();
        let mut found = Vec::new();
        for (id, topic) in state.topics.iter().filter(|(_, topic)| is_due(topic)) {
            let of_topic =
                (0..).map(|index| Partition { topic: TopicId(id.0), index }).zip(&topic.partitions);
            let checkpointed = of_topic.filter(|(partition, _)| self.checkpointed.contains_key(partition));
            found.extend(checkpointed.map(|(partition, state)| Candidate {
                partition,
                topic: topic.clone(),
                state: state.clone(),
            }));
        }
        found
    }

    fn sealed(&self, partition: Partition, state: &PartitionState) -> SealedSegments {
        self.sealed_of(partition, state, &self.flusher.segments.ends(partition))
    }

    fn sealed_of(&self, partition: Partition, state: &PartitionState, ends: &Ends) -> SealedSegments {
        let checkpointed = self.checkpointed.get(&partition).copied().unwrap_or(0);
        let unflushed = self.flusher.index.unflushed_bytes(partition);
        let open_bytes = ends.segments.last().map_or(0, |open| open.len_bytes) + unflushed;
        SealedSegments::new(closed(ends), open_bytes, checkpointed, state)
    }
}

/// All segments but the one that is written on.
fn closed(ends: &Ends) -> Vec<SealedSegment> {
    let of = |pair: &[SegmentEnd]| SealedSegment {
        base_offset: pair[0].base_offset,
        next_offset: pair[1].base_offset,
        bytes: pair[0].len_bytes,
        max_timestamp_ms: pair[0].max_timestamp_ms,
        first_timestamp_ms: pair[0].first_timestamp_ms,
        clean_records: pair[0].clean_records,
    };
    ends.segments.windows(2).map(of).collect()
}

/// Reads closed segments from end to end.
struct Walk<'a> {
    set: &'a SegmentSet,
    goes_on: &'a dyn Fn() -> bool,
}

impl Walk<'_> {
    /// Shows the batches from one offset up to another, as long as `shown` wants more; false: it was kept from going
    /// on.
    fn batches(
        &self,
        from: u64,
        to: u64,
        mut show: impl FnMut(&Batch) -> Result<bool, StorageError>,
    ) -> Result<bool, StorageError> {
        let mut offset = from;
        while offset < to {
            if !(self.goes_on)() {
                return Ok(false);
            }
            let batches = self.set.read(offset, STEP_BYTES)?;
            let Some(last) = batches.last() else { break };
            offset = last.next_offset();
            for batch in batches.iter().take_while(|batch| batch.base_offset() < to) {
                if !show(batch)? {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    fn keys(
        &mut self,
        from: u64,
        to: u64,
        undecided: &Undecided,
        bytes_max: usize,
    ) -> Result<Option<KeyMap>, StorageError> {
        let (mut keys, mut full) = (KeyMap::new(from, bytes_max), false);
        let went_on = self.batches(from, to, |batch| {
            full = !keys.add(batch, undecided);
            Ok(!full)
        })?;
        if !full {
            keys.cover(to);
        }
        Ok(went_on.then_some(keys))
    }

    /// Whether anything became another, or went; none: it was kept from going on.
    fn rewrite(
        &mut self,
        from: u64,
        to: u64,
        clean_to: u64,
        mut rules: Rules<'_>,
        rewriter: &mut Rewriter,
    ) -> Result<Option<bool>, StorageError> {
        let (mut changed, mut is_clean) = (false, true);
        let went_on = self.batches(from, to, |batch| {
            if is_clean && batch.base_offset() >= clean_to {
                is_clean = false;
                rewriter.end_clean()?;
            }
            let fate = rules.fate(batch);
            // A hole was one before.
            changed |= !matches!(fate, Fate::Stays) && batch.record_count() > 0;
            match fate {
                Fate::Stays => rewriter.keep(batch)?,
                Fate::Becomes(cleaned) => rewriter.keep(&cleaned)?,
                Fate::Goes => rewriter.leave_out(batch)?,
            }
            Ok(true)
        })?;
        Ok(went_on.then_some(changed))
    }
}
