//! What a run promises at each of its points, what was met in it, and what a broken promise says.

use crate::check::Owed;

/// What a marker on the disk stands for: what was promised when it was set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The last command handed to the journal.
    pub submitted: u64,
    /// What survives a kill.
    pub survives_kill: u64,
    /// What survives a power loss.
    pub survives_power: u64,
    /// Whether a group is being written: as soon as its write is done it survives a kill.
    pub writing: bool,
    /// Whether closing has begun.
    pub closing: bool,
    /// Whether the log is being opened.
    pub opening: bool,
    /// The term of the last open that returned.
    pub last_term: u32,
}

impl Mark {
    /// What an open after a kill owes.
    #[must_use]
    pub fn owed(&self) -> Owed {
        Owed {
            lowest: self.survives_kill,
            highest: self.submitted,
            last_term: self.last_term,
            closing: self.closing,
            untouched: !self.opening,
        }
    }
}

/// How many of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Images opened and checked: crash states.
    pub states: u64,
    /// Of them images of a killed process.
    pub kills: u64,
    /// Of them images of a process killed within a write.
    pub torn: u64,
    /// Of them images of a power loss.
    pub powers: u64,
    /// Of them images of a crash within recovery.
    pub nested: u64,
    /// Of them images that went on afterwards and were opened again.
    pub continued: u64,
    /// Opens that reported a possible cut.
    pub cuts: u64,
    /// Of them opens that found a group in part, or one behind a hole.
    pub certain_cuts: u64,
    /// Opens that began with a checkpoint.
    pub from_checkpoint: u64,
    /// Images whose newest checkpoint was damaged besides, while an older one was there.
    pub from_older: u64,
    /// Images that brought back commands that weren't acknowledged.
    pub unacknowledged: u64,
    /// Compactions of a partition that runs have made.
    pub compacted: u64,
    /// Trims that retention has asked for in runs.
    pub retained: u64,
    /// Runs of event ids that were written.
    pub rolled: u64,
    /// Of them runs made of smaller ones.
    pub merged: u64,
}

impl Counters {
    /// Adds another run's.
    pub fn add(&mut self, other: &Counters) {
        self.states += other.states;
        self.kills += other.kills;
        self.torn += other.torn;
        self.powers += other.powers;
        self.nested += other.nested;
        self.continued += other.continued;
        self.cuts += other.cuts;
        self.certain_cuts += other.certain_cuts;
        self.from_checkpoint += other.from_checkpoint;
        self.from_older += other.from_older;
        self.unacknowledged += other.unacknowledged;
        self.compacted += other.compacted;
        self.retained += other.retained;
        self.rolled += other.rolled;
        self.merged += other.merged;
    }
}

/// A broken promise, and in which image.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The point, counted over the run, and the image of that point; `None`: while the workload itself ran.
    pub place: Option<(u64, u64)>,
    /// What happened.
    pub what: String,
}

impl From<String> for Broken {
    fn from(what: String) -> Broken {
        Broken { place: None, what }
    }
}

/// A broken promise with the run that it was broken in: seed, point and image open the image again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    /// What was done before.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Violation { seed, broken: Broken { place, what }, trace } = self;
        for line in trace {
            writeln!(f, "  {line}")?;
        }
        let (point, image) =
            place.map_or(("-".into(), "-".into()), |(point, image)| (point.to_string(), image.to_string()));
        writeln!(f, "seed {seed}, point {point}, image {image}: {what}")?;
        write!(f, "again: EXACTLOG_CRASH_REPLAY={seed},{point},{image}")
    }
}
