//! Random lives of a journal: commands, checkpoints, recycling, crashes (also while opening), failed syncs, and in
//! the end damage. What must hold is checked against a list in memory.
//!
//! A run is a function of its seed. `promised` is what no crash may lose; `candidates` are the orders of commands
//! that an open may find: one for each open that wasn't finished; `shown` are the names (term, lsn) given out.

use super::*;
use exactlog_core::mutants::{Mutant, on};
use exactlog_sim::campaign::number;
use std::collections::BTreeMap;

/// How many lives the gate looks at, in about a second and a half.
const LIVES: u64 = 1500;

#[test]
fn no_crash_loses_a_promise_and_no_honest_crash_is_refused() {
    let lives = number("EXACTLOG_JOURNAL_LIVES").unwrap_or(LIVES);
    if let Some((seed, violation)) = first_violation(1..=lives) {
        panic!("seed {seed}: {violation}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn every_planted_mistake_of_the_journal_is_found() {
    use exactlog_core::mutants::plant;
    let mut survivors = Vec::new();
    for &mistake in Mutant::ALL.iter().filter(|mistake| mistake.is_found_by_the_journal_alone()) {
        plant(Some(mistake));
        match first_violation(1..=20_000) {
            Some((seed, violation)) => println!("{mistake:?}: seed {seed}: {violation}"),
            None => survivors.push(mistake),
        }
        plant(None);
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

fn first_violation(seeds: impl IntoIterator<Item = u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| Some((seed, Life::new(seed).run().err()?)))
}

/// One command of the list in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    term: u32,
    id: u64,
}

#[derive(Clone, Debug)]
struct Checkpoint {
    start: Start,
    state: Vec<Entry>,
}

struct Life {
    disk: MemoryDisk,
    random: Random,
    config: Config,
    /// 0: every group is synced, 1: none, 2: some.
    weak: u64,
    steps: u64,
    crashes: u64,
    failures: u64,
    forge: bool,
    next_id: u64,
    candidates: Vec<Vec<Entry>>,
    promised: usize,
    /// How many commands were written, if a killed process can't have lost them.
    written: Option<usize>,
    shown: BTreeMap<(u32, u64), u64>,
    checkpoints: Vec<Checkpoint>,
    own_checkpoints: usize,
    flushed: u64,
}

/// How a part of a life ends.
enum End {
    Fault(StorageError),
    Violation(String),
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> End {
        End::Fault(error)
    }
}

struct Running {
    journal: FileJournal,
    state: Vec<Entry>,
    term: u32,
    /// Directly behind the last command.
    end: Option<Position>,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut random = Random::new(seed);
        let disk = MemoryDisk::new();
        disk.seed(seed);
        if random.below(2) == 0 {
            disk.forget_names();
        }
        let file_bytes = (4 + random.below(6)) * 4096;
        let ring_bytes = file_bytes * (3 + random.below(4));
        let config = Config { file_bytes, ring_bytes, ..Config::new(3, verify) };
        Life {
            disk,
            config,
            weak: random.below(3),
            steps: 2 + random.below(14),
            crashes: 1 + random.below(4),
            failures: random.below(3),
            forge: random.below(3) == 0,
            random,
            next_id: 0,
            candidates: vec![vec![]],
            promised: 0,
            written: None,
            shown: BTreeMap::new(),
            checkpoints: vec![],
            own_checkpoints: 0,
            flushed: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..14 {
            let written = self.written;
            self.plan_trouble();
            let end = self.open(true).and_then(|mut running| {
                let survivors = running.state.len() - 1;
                match written {
                    Some(written) if survivors < written && self.written.is_some() => {
                        Err(End::Violation(format!("a killed process lost lsns above {survivors}")))
                    }
                    _ => self.go_on(&mut running),
                }
            });
            match end {
                Ok(true) => break,
                Ok(false) => {}
                Err(End::Violation(violation)) => return Err(violation),
                Err(End::Fault(error)) if error.is_refusal() => {
                    // A read that fails while opening may come out as a refusal only if the disk really answered.
                    return Err(format!("honest crash refused: {error}"));
                }
                Err(End::Fault(_)) => self.fault(),
            }
        }
        self.disk.crash_after(None);
        self.disk.cancel_failure();
        self.disk.lose_power();
        self.written = None;
        self.judge()
    }

    fn plan_trouble(&mut self) {
        self.disk.crash_after(None);
        if self.crashes > 0 && self.random.below(4) > 0 {
            self.crashes -= 1;
            self.disk.crash_after(Some(self.random.below(60)));
        }
        if self.failures > 0 && self.random.below(3) == 0 {
            self.failures -= 1;
            let ops = [Op::Sync, Op::Sync, Op::Sync, Op::Write, Op::Rename, Op::SyncDirectory];
            let op = ops[self.random.below(6) as usize];
            self.disk.fail(op, 1 + self.random.below(6), 5);
        }
    }

    /// After an operation failed: the machine stopped, or the process gave up.
    fn fault(&mut self) {
        let failure_came = !self.disk.cancel_failure();
        if self.disk.crashed() && self.random.below(2) == 0 {
            self.disk.lose_power();
            self.written = None;
        } else {
            if !self.disk.crashed() && failure_came {
                self.written = None;
            }
            self.disk.kill();
        }
    }

    fn open(&mut self, writes: bool) -> Result<Running, End> {
        let checkpoint = self.checkpoints.last().cloned();
        let disk = self.disk.clone();
        let (journal, opened, state) = self.read(&disk, checkpoint.as_ref())?;
        self.check(&state, &opened).map_err(End::Violation)?;
        let end = checkpoint.as_ref().and_then(|checkpoint| checkpoint.start.applied_at);
        self.own_checkpoints = 0;
        let mut running = Running { journal, state, term: opened.term, end };
        self.candidates.push(running.state.clone());
        if writes {
            self.append(&mut running, vec![Vec::new()], true)?;
            self.candidates = vec![running.state.clone()];
            self.written = Some(running.state.len());
        }
        Ok(running)
    }

    fn read(
        &mut self,
        disk: &MemoryDisk,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(FileJournal, Opened, Vec<Entry>), End> {
        let start = checkpoint.map_or(Start::default(), |checkpoint| checkpoint.start);
        let mut state = checkpoint.map_or(vec![], |checkpoint| checkpoint.state.clone());
        let (mut order, mut visited) = (Ok(()), BTreeMap::new());
        let random = &mut self.random;
        let (journal, opened) =
            FileJournal::open(disk.shared(), self.config, &start, &mut || random.next(), &mut |frame| {
                if frame.lsn != state.len() as u64 + 1 {
                    order = Err(format!("lsn {} was read behind {}", frame.lsn, state.len()));
                }
                visited.insert(frame.lsn, frame.placed);
                state.push(Entry { term: frame.term, id: id_of(&frame) });
                Ok(())
            })?;
        order.map_err(End::Violation)?;
        if opened.last_lsn != state.len() as u64 {
            let text = format!("last lsn {} with {} commands", opened.last_lsn, state.len());
            return Err(End::Violation(text));
        }
        self.read_back(&journal, &start, &state)?;
        Ok((journal, opened, state))
    }

    /// Everything that the journal must still hold can be read.
    fn read_back(&self, journal: &FileJournal, start: &Start, state: &[Entry]) -> Result<(), End> {
        let mut cursor = journal.reader().cursor(start.needed_lsn + 1)?;
        for (index, entry) in state.iter().enumerate().skip(start.needed_lsn as usize) {
            let found = cursor.next()?.map(|frame| Entry { term: frame.term, id: id_of(&frame) });
            if found != Some(*entry) {
                let text = format!("lsn {} is {found:?} in the journal, expected {entry:?}", index + 1);
                return Err(End::Violation(text));
            }
        }
        Ok(())
    }

    fn check(&mut self, state: &[Entry], opened: &Opened) -> Result<(), String> {
        if !self.candidates.iter().any(|candidate| candidate.starts_with(state)) {
            return Err("what was recovered was never submitted in this order".to_owned());
        }
        if state.len() < self.promised {
            return Err(format!("lost: {} commands, {} were promised", state.len(), self.promised));
        }
        if state.iter().any(|entry| entry.term > opened.term) {
            return Err(format!("term {} is below that of a command", opened.term));
        }
        Ok(())
    }

    /// One group with these bodies, with or without a sync.
    fn append(&mut self, running: &mut Running, bodies: Vec<Vec<u8>>, sync: bool) -> Result<(), End> {
        let (mut frames, mut entries) = (Vec::new(), Vec::new());
        for (index, body) in bodies.into_iter().enumerate() {
            self.next_id += 1;
            let lsn = running.state.len() as u64 + 1 + index as u64;
            frames.push(Frame { term: running.term, ..frame(lsn, self.next_id, body) });
            entries.push(Entry { term: running.term, id: self.next_id });
        }
        // Submitted: from here on recovery may bring it back.
        let before = running.state.len();
        let newest = self.candidates.len() - 1;
        self.candidates[newest].truncate(before);
        self.candidates[newest].extend(&entries);
        let placed = running.journal.append(&frames)?;
        running.state.extend(&entries);
        running.end = placed.last().map(Placed::end);
        if self.written.is_some() {
            self.written = Some(running.state.len());
        }
        if sync {
            running.journal.sync()?;
            self.promised = running.state.len();
        }
        for (lsn, entry) in (before as u64 + 1..).zip(&entries) {
            if *self.shown.entry((entry.term, lsn)).or_insert(entry.id) != entry.id {
                let text = format!("(term {}, lsn {lsn}) names two commands", entry.term);
                return Err(End::Violation(text));
            }
        }
        Ok(())
    }

    /// Works until the steps are used up (`true`), or the journal is closed.
    fn go_on(&mut self, running: &mut Running) -> Result<bool, End> {
        while self.steps > 0 {
            self.steps -= 1;
            let sync = match self.weak {
                0 => true,
                1 => false,
                _ => self.random.below(2) == 0,
            };
            match self.random.below(10) {
                0 => {
                    running.journal.seal(true)?;
                    if self.random.below(2) == 0 {
                        running.journal.sync()?;
                        self.promised = running.state.len();
                    }
                    return Ok(false);
                }
                1 | 2 => self.checkpoint(running)?,
                3 => match running.journal.spares().prepare() {
                    Ok(()) | Err(StorageError::DiskFull { .. }) => {}
                    Err(error) => return Err(error.into()),
                },
                _ => {
                    let bodies = self.bodies(running);
                    self.append(running, bodies, sync)?;
                    if self.random.below(2) == 0 {
                        running.journal.seal(false)?;
                    }
                }
            }
        }
        Ok(true)
    }

    fn bodies(&mut self, running: &Running) -> Vec<Vec<u8>> {
        if self.forge && self.random.below(2) == 0 {
            return vec![self.forged(running)];
        }
        let count = 1 + self.random.below(4);
        (0..count)
            .map(|_| {
                let len = [0, 100, 600, 2500][self.random.below(4) as usize];
                (0..len).map(|_| self.random.next() as u8).collect()
            })
            .collect()
    }

    /// A body that holds a whole group at a block boundary: one with the nonce of the current file, or one that was
    /// copied from some file.
    fn forged(&mut self, running: &Running) -> Vec<u8> {
        let position = running.journal.position();
        let name = names::journal(position.generation);
        let bytes = self.disk.read(&name);
        let lsn = running.state.len() as u64 + 1;
        let before = 48 + 12;
        let mut body = vec![0; 2 * 4096 - before];
        if self.random.below(2) == 0 {
            let nonce = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
            let generation = position.generation;
            let durable_lsn = lsn + self.random.below(3);
            let place = group::Place { generation, nonce, at: position.at + 4096, durable_lsn };
            let mut image = group::Group::default();
            image.build(&[frame(lsn + self.random.below(2), 999_999, vec![1; 10])], place);
            let forged: Vec<u8> = image.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
            body[4096 - before..].copy_from_slice(&forged);
        } else {
            let names = self.disk.names();
            let bytes = self.disk.read(&names[self.random.below(names.len() as u64) as usize]);
            let block = self.random.below(bytes.len() as u64 / 4096) as usize * 4096;
            body[4096 - before..].copy_from_slice(&bytes[block..block + 4096]);
        }
        body
    }

    fn checkpoint(&mut self, running: &mut Running) -> Result<(), End> {
        running.journal.sync()?;
        self.promised = running.state.len();
        running.journal.seal(false)?;
        let applied_lsn = running.state.len() as u64;
        if self.random.below(2) == 0 {
            self.flushed += self.random.below(applied_lsn - self.flushed + 1);
        }
        let known = self.random.below(4) > 0;
        let start = Start {
            applied_lsn,
            applied_at: if known { running.end } else { Some(running.journal.position()) },
            needed_lsn: self.flushed,
            checkpoints_found: 1,
        };
        self.checkpoints.push(Checkpoint { start, state: running.state.clone() });
        self.own_checkpoints += 1;
        if on(Mutant::M7RecycledTooEarly) {
            running.journal.recycle(self.flushed)?;
        }
        if self.own_checkpoints >= 2 {
            let kept = self.checkpoints.split_off(self.checkpoints.len() - 2);
            self.checkpoints = kept;
            running.journal.recycle(self.checkpoints[0].start.needed_lsn)?;
        }
        Ok(())
    }

    /// The end of a life: what the disk holds after a power loss opens; the older checkpoint suffices; damage is
    /// refused or reported.
    fn judge(&mut self) -> Result<(), String> {
        let image = self.disk.copy();
        self.flushed = self.checkpoints.last().map_or(0, |checkpoint| checkpoint.start.needed_lsn);
        let state = match self.open(false) {
            Ok(running) => running.state,
            Err(End::Violation(violation)) => return Err(violation),
            Err(End::Fault(error)) => return Err(format!("the image after the last power loss: {error}")),
        };
        if self.checkpoints.len() >= 2 {
            let older = self.checkpoints[self.checkpoints.len() - 2].clone();
            match self.read(&image.copy(), Some(&older)) {
                Ok((_, _, found)) if found == state => {}
                Ok(_) => return Err("the older checkpoint gives another state".to_owned()),
                Err(End::Violation(violation)) => return Err(violation),
                Err(End::Fault(error)) => return Err(format!("the older checkpoint: {error}")),
            }
        }
        for _ in 0..6 {
            self.damage(&image, &state)?;
        }
        Ok(())
    }

    fn damage(&mut self, image: &MemoryDisk, state: &[Entry]) -> Result<(), String> {
        let checkpoint = self.checkpoints.last().cloned();
        let proven = match self.read(&image.copy(), checkpoint.as_ref()) {
            Ok((_, opened, _)) => opened.proven_lsn,
            Err(_) => return Err("the same image doesn't open twice".to_owned()),
        };
        let names: Vec<String> =
            image.names().into_iter().filter(|name| name.ends_with(".journal")).collect();
        let name = &names[self.random.below(names.len() as u64) as usize];
        let mut bytes = image.read(name);
        let block = self.random.below(bytes.len() as u64 / 4096) as usize * 4096;
        let written: Vec<usize> = (block..block + 4096).filter(|at| bytes[*at] != 0).collect();
        if written.is_empty() {
            return Ok(());
        }
        let at = match self.random.below(3) {
            0 => block + self.random.below(48) as usize,
            _ => written[self.random.below(written.len() as u64) as usize],
        };
        let mask = 1 << self.random.below(8);
        bytes[at] ^= mask;
        let damaged = image.copy();
        damaged.put(name, bytes);
        match self.read(&damaged, checkpoint.as_ref()) {
            Err(End::Violation(violation)) => Err(format!("{name} byte {at} ^ {mask:#x}: {violation}")),
            Err(End::Fault(_)) => Ok(()),
            Ok((_, _, found)) if !state.starts_with(&found) => {
                Err(format!("{name} byte {at} ^ {mask:#x}: other commands"))
            }
            Ok((_, opened, found)) if found.len() < state.len() => {
                if (found.len() as u64) < proven {
                    return Err(format!("{name} byte {at} ^ {mask:#x}: proven commands were cut"));
                }
                if opened.cut.is_none() && opened.ignored.is_empty() {
                    return Err(format!("{name} byte {at} ^ {mask:#x}: silently cut"));
                }
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}
