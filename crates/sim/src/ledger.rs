//! What a shard was told and what it owes: the order of commands, the state after each, the records that readers
//! must get, and the bounds within which a crash may have cut.
//!
//! Not a checker: [`check`](crate::check) compares a recovered shard with it.
//!
//! Invariants:
//!   * `states[n]` is the state after the first n commands; there is one more state than there are commands
//!   * only commands that were handed to the journal are in it: acknowledged ones, and those whose outcome is unknown

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlog_core::batch::Batch;
use exactlog_core::codec::{self, Encoded};
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::Applied;
use exactlog_core::state::{At, State};
use exactlog_storage::shard::Submission;

use crate::compare;
use crate::model::{Expected, Model, Stored};
use crate::runs::RunContents;

/// One command in its place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The term under which it was ordered.
    pub term: u32,
    /// The command and its time.
    pub submission: Submission,
    /// Its bytes in the journal.
    pub encoded: Encoded,
    /// Where the group that it is part of was to be written, if that is known.
    pub place: Option<Place>,
}

/// A range of bytes in a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Generation of the file.
    pub generation: u64,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// A (term, lsn) that somebody has seen, and what it named.
#[derive(Clone, Debug)]
pub struct Shown {
    term: u32,
    lsn: u64,
    entry: Arc<Entry>,
}

/// Everything that one journal was told.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The commands that the next open may find, in order; the one at index n has lsn n + 1.
    pub entries: Vec<Arc<Entry>>,
    /// The states after them.
    pub states: Vec<Arc<State>>,
    /// The records that they stored.
    pub contents: BTreeMap<Partition, Vec<Stored>>,
    /// What somebody has seen, also of commands that were lost since.
    pub shown: Vec<Shown>,
    model: Option<Model>,
    /// What the runs of all states have.
    pub runs: RunContents,
}

/// What a command must be answered with: by the model, and by the same state machine on other inputs.
pub struct Promised {
    /// By the model; `None` where only the second is asked.
    pub expected: Option<Expected>,
    /// By a state of our own that was given the same commands.
    pub applied: Applied,
}

impl Ledger {
    /// Of a shard that was told nothing yet.
    #[must_use]
    pub fn new() -> Ledger {
        Ledger {
            entries: Vec::new(),
            states: vec![Arc::new(State::default())],
            contents: BTreeMap::new(),
            shown: Vec::new(),
            model: Some(Model::default()),
            runs: RunContents::default(),
        }
    }

    /// The last lsn.
    #[must_use]
    pub fn last_lsn(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The state after the first `lsn` commands.
    #[must_use]
    pub fn state(&self, lsn: u64) -> &Arc<State> {
        &self.states[lsn as usize]
    }

    /// The model after all commands. Not there in a branch.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.model.as_ref().expect("only branches have no model, and nobody asks them")
    }

    /// Adds commands that are about to be handed to the journal.
    pub fn submit(&mut self, term: u32, submissions: &[Submission]) -> Vec<Promised> {
        let mut promised = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let (time_ms, command) = (submission.time_ms, &submission.command);
            let encoded = codec::encode(time_ms, command);
            let mut state = State::clone(self.state(self.last_lsn()));
            let lsn = self.last_lsn() + 1;
            let answers = self.runs.before(&state, command);
            let applied = state.apply_with(At { lsn, term, time_ms }, command, &answers);
            let expected = self.model.as_mut().map(|model| model.apply(term, time_ms, command));
            self.store(lsn, submission, &applied);
            self.states.push(Arc::new(state));
            self.entries.push(Arc::new(Entry { term, submission: submission.clone(), encoded, place: None }));
            promised.push(Promised { expected, applied });
        }
        promised
    }

    /// Takes over what a command stored: from the model, or else from its placements.
    fn store(&mut self, lsn: u64, submission: &Submission, applied: &Applied) {
        if let Some(model) = &self.model {
            for (partition, stored) in &model.stored {
                let new = stored.iter().rev().take_while(|stored| stored.lsn == lsn).count();
                let known = self.contents.entry(*partition).or_default();
                known.extend_from_slice(&stored[stored.len() - new..]);
            }
            return;
        }
        for placement in &applied.placements {
            let batch = submission.command.batches()[placement.index as usize];
            let batch = placement.placed(batch);
            self.contents.entry(placement.partition).or_default().push(Stored { lsn, batch, txn_seq: None });
        }
        for marker in &applied.markers {
            let stored = Stored { lsn, batch: marker.batch(), txn_seq: None };
            self.contents.entry(marker.partition).or_default().push(stored);
        }
    }

    /// The records of a partition that readers of committed records get after the first `lsn` commands, and where they
    /// end; nothing in a branch, where nobody knows which batch is of which transaction.
    #[must_use]
    pub fn committed(&self, partition: Partition, lsn: u64) -> Option<(Vec<&Batch>, Option<u64>)> {
        let model = self.model.as_ref()?;
        let stored = self.contents.get(&partition).map_or(&[][..], Vec::as_slice);
        let stored: Vec<&Stored> = stored.iter().take_while(|stored| stored.lsn <= lsn).collect();
        let fate = |stored: &Stored| stored.txn_seq.map_or(Some(true), |txn_seq| model.fate_at(txn_seq, lsn));
        let open = stored.iter().position(|stored| fate(stored).is_none());
        let last_stable_offset = open.map(|open| stored[open].batch.base_offset());
        let decided = stored[..open.unwrap_or(stored.len())].iter();
        let shown = decided.filter(|stored| !stored.batch.is_control() && fate(stored) == Some(true));
        Some((shown.map(|stored| &stored.batch).collect(), last_stable_offset))
    }

    /// Whether the settings of a topic have ever let it be compacted.
    #[must_use]
    pub fn was_compacted(&self, topic: TopicId) -> bool {
        let compacts = |config: &TopicConfig| config.cleanup_policy.compacts();
        self.entries.iter().zip(&self.states[1..]).any(|(entry, state)| match &entry.submission.command {
            Command::AlterTopic { topic: altered, config } => *altered == topic && compacts(config),
            Command::CreateTopic { name, config, .. } | Command::CreateTable { name, config, .. } => {
                compacts(config) && state.topic_names.get(name) == Some(&topic)
            }
            _ => false,
        })
    }

    /// Says where the commands from `from` on were to be written.
    pub fn place(&mut self, from: u64, place: Place) {
        for entry in &mut self.entries[from as usize - 1..] {
            Arc::make_mut(entry).place = Some(place);
        }
    }

    /// Forgets the commands behind `lsn`: they were never written, or are lost for good.
    pub fn cut(&mut self, lsn: u64) {
        if lsn == self.last_lsn() {
            return;
        }
        self.entries.truncate(lsn as usize);
        self.states.truncate(lsn as usize + 1);
        for stored in self.contents.values_mut() {
            stored.retain(|stored| stored.lsn <= lsn);
        }
        if let Some(model) = &mut self.model {
            *model = Model::default();
            for entry in &self.entries {
                model.apply(entry.term, entry.submission.time_ms, &entry.submission.command);
            }
        }
    }

    /// What another history would start from that begins with the first `lsn` commands: without a model.
    #[must_use]
    pub fn branch(&self, lsn: u64) -> Ledger {
        let prefix = |stored: &Vec<Stored>| {
            stored.iter().take_while(|stored| stored.lsn <= lsn).cloned().collect::<Vec<_>>()
        };
        Ledger {
            entries: self.entries[..lsn as usize].to_vec(),
            states: self.states[..=lsn as usize].to_vec(),
            contents: self.contents.iter().map(|(at, stored)| (*at, prefix(stored))).collect(),
            shown: self.shown.clone(),
            model: None,
            runs: self.runs.clone(),
        }
    }

    /// Notes that the commands from `from` on are seen. A (term, lsn) must never name two commands.
    pub fn show(&mut self, from: u64) -> Result<(), String> {
        for lsn in from..=self.last_lsn() {
            let entry = self.entries[lsn as usize - 1].clone();
            self.check_unnamed(lsn, &entry)?;
            self.shown.push(Shown { term: entry.term, lsn, entry });
        }
        Ok(())
    }

    fn check_unnamed(&self, lsn: u64, entry: &Arc<Entry>) -> Result<(), String> {
        let term = entry.term;
        let same =
            |shown: &&Shown| shown.term == term && shown.lsn == lsn && !same_command(&shown.entry, entry);
        match self.shown.iter().find(same) {
            None => Ok(()),
            Some(shown) => {
                let (was, is) =
                    (shown.entry.submission.command.kind_name(), entry.submission.command.kind_name());
                Err(format!("term {term}, lsn {lsn} names two commands: it was {was}, now it is {is}"))
            }
        }
    }

    /// Whether model and engine agree on everything that both know.
    pub fn compare_with_model(&self) -> Result<(), String> {
        let lsn = self.last_lsn();
        match &self.model {
            Some(model) => compare::same(model, self.state(lsn), &self.runs),
            None => Ok(()),
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

fn same_command(a: &Arc<Entry>, b: &Arc<Entry>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.encoded.kind == b.encoded.kind
            && a.encoded.head == b.encoded.head
            && a.encoded.bodies == b.encoded.bodies)
}
