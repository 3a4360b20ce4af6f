//! How far a consumer has come, and what of it may still go back.
//!
//! ```text
//!   next: forward -> acked, in a transaction, or delivered | dropped: back to where it was
//!                        \-> on its way: unsure -> applied: stays | not applied: back
//! ```
//!
//! Positions are shared with the batches and transactions that may have to give them back.
//!
//! Invariants
//!   * while it is unknown whether records were committed, nothing of their partition is delivered
//!   * what was sought, or owned anew, in the meantime is not touched by what belongs to the time before

use crate::error::Error;
use crate::queue::Answer;
use crate::signal::Signal;
use exactlog_core::command::{CommitToken, GroupOffsets, OffsetCommit, OffsetMetadata};
use exactlog_core::ids::Partition;
use exactlog_core::state::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The positions of a consumer.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) positions: BTreeMap<Partition, Position>,
    /// Batches that a transaction holds.
    held: usize,
    /// What was submitted, and whose outcome isn't known.
    unsure: Vec<Unsure>,
    /// What was delivered, to be committed by the next call (`enable.auto.commit`).
    delivered: Vec<Span>,
    /// How often a position was set.
    settings: u64,
}

/// Where a consumer goes on in a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) next: u64,
    /// Somebody sought here: the next commit may move the group's offset back.
    pub(crate) reset: bool,
    pub(crate) paused: bool,
    /// Which setting it goes back to.
    setting: u64,
}

/// Some records of a partition that were delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) partition: Partition,
    pub(crate) from: u64,
    pub(crate) to: u64,
    reset: bool,
    setting: u64,
}

#[derive(Debug)]
struct Unsure {
    spans: Vec<Span>,
    answer: Arc<Answer>,
    /// Of the transaction, if it was one.
    token: Option<CommitToken>,
    /// Where the consumer's signal waits for the answer.
    place: Option<usize>,
}

impl Reading {
    /// Sets a position; `reset` if somebody sought it.
    pub(crate) fn set(&mut self, partition: Partition, next: u64, reset: bool) {
        self.settings += 1;
        let paused = self.positions.get(&partition).is_some_and(|position| position.paused);
        self.positions.insert(partition, Position { next, reset, paused, setting: self.settings });
    }

    /// Moves behind records that were taken at this position.
    pub(crate) fn advance(&mut self, partition: Partition, to: u64) -> Option<Span> {
        let position = self.positions.get_mut(&partition)?;
        let Position { next: from, reset, setting, .. } = *position;
        position.next = to;
        Some(Span { partition, from, to, reset, setting })
    }

    /// The partitions to read from now.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (Partition, Position)> + '_ {
        let unsure = |partition: &Partition| {
            self.unsure.iter().flat_map(|it| &it.spans).any(|span| span.partition == *partition)
        };
        let readable = self.positions.iter().filter(move |(at, it)| !it.paused && !unsure(at));
        readable.map(|(partition, position)| (*partition, *position))
    }

    /// Whether records are somewhere from where they may come back, or have to be committed: partitions aren't given up
    /// before.
    pub(crate) fn is_busy(&self) -> bool {
        self.held > 0 || !self.unsure.is_empty() || !self.delivered.is_empty()
    }

    /// Whether it is unknown of any records whether they were committed.
    pub(crate) fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    /// Takes what was delivered, to commit it.
    pub(crate) fn take_delivered(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.delivered)
    }

    /// Records were delivered, and are to be committed.
    pub(crate) fn deliver(&mut self, spans: Vec<Span>) {
        for span in spans {
            match self.delivered.iter_mut().find(|it| it.partition == span.partition) {
                Some(earlier) => *earlier = Span { from: earlier.from, ..span },
                None => self.delivered.push(span),
            }
        }
    }

    /// What becomes of records that were submitted depends on this answer.
    pub(crate) fn settle_by(&mut self, spans: Vec<Span>, answer: &Arc<Answer>, token: Option<CommitToken>) {
        match answer.peek() {
            Some(Ok(_)) => self.keep(&spans),
            Some(Err(Error::Unknown(_))) | None => {
                self.unsure.push(Unsure { spans, answer: answer.clone(), token, place: None });
            }
            Some(Err(_)) => self.go_back(&spans),
        }
    }

    /// Decides what can be decided now. `state`: nothing while the log is failed. The signal is rung when an answer
    /// comes that isn't there yet.
    pub(crate) fn settle(&mut self, group: &str, state: Option<&State>, signal: &Arc<Signal>) {
        if self.unsure.is_empty() {
            return;
        }
        let waker = Waker::from(signal.clone());
        for mut unsure in std::mem::take(&mut self.unsure) {
            let _ = unsure.answer.poll(&mut unsure.place, &mut Context::from_waker(&waker));
            let applied = match (unsure.answer.peek(), state) {
                (Some(Ok(_)), _) => true,
                (Some(Err(Error::Unknown(_))), Some(state)) => unsure.is_applied(group, state),
                (Some(Err(Error::Unknown(_))) | None, _) => {
                    self.unsure.push(unsure);
                    continue;
                }
                (Some(Err(_)), _) => false,
            };
            match applied {
                true => self.keep(&unsure.spans),
                false => self.go_back(&unsure.spans),
            }
        }
    }

    /// The positions stay where they are; what they reset is done.
    fn keep(&mut self, spans: &[Span]) {
        for span in spans.iter().filter(|span| span.reset) {
            if let Some(position) = self.position_of(span) {
                position.reset = false;
            }
        }
    }

    fn go_back(&mut self, spans: &[Span]) {
        for span in spans {
            if let Some(position) = self.position_of(span) {
                position.next = position.next.min(span.from);
            }
        }
    }

    fn position_of(&mut self, span: &Span) -> Option<&mut Position> {
        self.positions.get_mut(&span.partition).filter(|position| position.setting == span.setting)
    }
}

impl Unsure {
    /// What the log says, once it is open again.
    fn is_applied(&self, group: &str, state: &State) -> bool {
        match self.token.map(|token| state.outcome(&token)) {
            Some(Ok(outcome)) => outcome.is_some(),
            _ => self.spans.iter().all(|span| {
                let committed = state.committed_offset(group, span.partition).map(|it| it.offset);
                committed.is_some_and(|offset| if span.reset { offset == span.to } else { offset >= span.to })
            }),
        }
    }
}

/// The positions that a commit of these records stores.
pub(crate) fn offsets_of(spans: &[Span]) -> Vec<OffsetCommit> {
    let offset = |span: &Span| OffsetCommit {
        partition: span.partition,
        offset: span.to,
        reset: span.reset,
        metadata: OffsetMetadata::default(),
    };
    spans.iter().map(offset).collect()
}

/// Records that were delivered: dropped as it is, they are delivered again.
#[derive(Debug)]
pub(crate) struct Pending {
    reading: Arc<Mutex<Reading>>,
    spans: Vec<Span>,
    fate: Fate,
}

/// What becomes of records whose [`Pending`] is dropped.
#[derive(Debug)]
enum Fate {
    /// They come again.
    Again,
    /// They count as consumed.
    Delivered,
    /// A transaction has them: if it doesn't commit, they come again.
    Held,
    /// What this answer says.
    Submitted(Arc<Answer>),
}

impl Pending {
    /// `auto`: they count as consumed when they are dropped.
    pub(crate) fn new(reading: Arc<Mutex<Reading>>, spans: Vec<Span>, auto: bool) -> Pending {
        Pending { reading, spans, fate: if auto { Fate::Delivered } else { Fate::Again } }
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// A commit of them is on its way.
    pub(crate) fn submitted(&mut self, answer: Arc<Answer>) {
        self.fate = Fate::Submitted(answer);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut reading = self.reading.lock();
        let spans = std::mem::take(&mut self.spans);
        match &self.fate {
            Fate::Again => reading.go_back(&spans),
            Fate::Delivered => reading.deliver(spans),
            Fate::Held => {
                reading.held -= 1;
                reading.go_back(&spans);
            }
            Fate::Submitted(answer) => reading.settle_by(spans, answer, None),
        }
    }
}

/// Consumed records in a transaction.
#[derive(Debug)]
pub(crate) struct Acked {
    offsets: GroupOffsets,
    pending: Pending,
}

impl Acked {
    pub(crate) fn new(offsets: GroupOffsets, mut pending: Pending) -> Acked {
        pending.reading.lock().held += 1;
        pending.fate = Fate::Held;
        Acked { offsets, pending }
    }

    /// Merges the positions into those of the transaction: of one partition only the last counts.
    pub(crate) fn add_to(&self, all: &mut Vec<GroupOffsets>) {
        let same =
            |it: &&mut GroupOffsets| it.group == self.offsets.group && it.member == self.offsets.member;
        let Some(existing) = all.iter_mut().find(same) else {
            all.push(self.offsets.clone());
            return;
        };
        for offset in &self.offsets.offsets {
            match existing.offsets.iter_mut().find(|it| it.partition == offset.partition) {
                Some(earlier) => {
                    earlier.offset = offset.offset;
                    earlier.reset |= offset.reset;
                }
                None => existing.offsets.push(offset.clone()),
            }
        }
    }

    /// The transaction was submitted: the answer decides.
    pub(crate) fn settle_by(mut self, answer: &Arc<Answer>, token: CommitToken) {
        let spans = std::mem::take(&mut self.pending.spans);
        self.pending.reading.lock().settle_by(spans, answer, Some(token));
    }
}
