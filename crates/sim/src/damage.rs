//! Damage to a directory at rest, and what open makes of it: exact, refused, or a reported cut of the newest group
//! as long as that isn't sealed. Never anything else.
//!
//! Not crashes: a crash never changes bytes that were synced.
//!
//! Invariants:
//!   * the directory is always the same, so that the table can be compared from release to release

use std::collections::BTreeMap;
use std::fmt;

use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_storage::disk::SECTOR_BYTES;
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::{Options, Shard, Submission};

use crate::check;
use crate::disk::SimDisk;
use crate::ledger::Ledger;
use crate::rng::Random;

/// How the directory was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Closed.
    Clean,
    /// Killed behind a group that is on disk but not sealed.
    Unsealed,
}

/// A small log, and what it holds.
pub struct Directory {
    /// Its files.
    pub disk: SimDisk,
    options: Options,
    ledger: Ledger,
    /// The last lsn that anything on the disk states durable.
    proven: u64,
}

/// What open made of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is there, nothing is reported as cut.
    Exact,
    /// All is there, and a possible cut behind it is reported.
    ExactReported,
    /// Open refused, naming a file.
    Refused,
    /// Open succeeded, reading a batch is refused, naming a file; the others are there.
    BatchRefused,
    /// The newest group, which wasn't sealed, is gone, and that is reported.
    ReportedCut,
    /// Something else: what must never be.
    Silent(String),
}

/// A segment that isn't written on any more.
struct Closed {
    partition: Partition,
    file: String,
    offsets: std::ops::Range<u64>,
    len_bytes: u64,
}

/// Verdicts counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// [`Verdict::Exact`].
    pub exact: u64,
    /// [`Verdict::ExactReported`].
    pub exact_reported: u64,
    /// [`Verdict::Refused`].
    pub refused: u64,
    /// [`Verdict::BatchRefused`].
    pub batch_refused: u64,
    /// [`Verdict::ReportedCut`].
    pub reported_cut: u64,
    /// [`Verdict::Silent`], with the first few.
    pub silent: u64,
    /// The first silent ones.
    pub examples: Vec<String>,
}

impl Row {
    fn count(&mut self, verdict: Verdict, what: impl FnOnce() -> String) {
        match verdict {
            Verdict::Exact => self.exact += 1,
            Verdict::ExactReported => self.exact_reported += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::BatchRefused => self.batch_refused += 1,
            Verdict::ReportedCut => self.reported_cut += 1,
            Verdict::Silent(text) => {
                self.silent += 1;
                if self.examples.len() < 5 {
                    self.examples.push(format!("{}: {text}", what()));
                }
            }
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { exact, exact_reported, refused, batch_refused, reported_cut, silent, .. } = self;
        write!(
            f,
            "{exact:>8} | {exact_reported:>8} | {refused:>8} | {batch_refused:>8} | {reported_cut:>8} | {silent:>6}"
        )
    }
}

const FILE_BYTES: u64 = 16 * 1024;

impl Directory {
    /// Makes it: several journal files, two opens, seals; with checkpoints also those and segments.
    #[must_use]
    pub fn new(left: Left, checkpoints: bool) -> Directory {
        let options = Options {
            journal_file_bytes: FILE_BYTES,
            journal_ring_bytes: 8 * FILE_BYTES,
            tail_cache_bytes: 0,
            ..Options::default()
        };
        let (disk, ledger) = (SimDisk::new(), Ledger::new());
        let mut directory = Directory { disk, options, ledger, proven: 0 };
        directory.life(5, checkpoints, Left::Unsealed);
        directory.life(4, checkpoints, left);
        directory
    }

    fn life(&mut self, groups: u64, checkpoints: bool, left: Left) {
        let disk = self.disk.process_kill();
        let opened = check::open(&disk, &self.options, groups).expect("nothing is damaged yet");
        let (mut shard, _) = opened.expect("nothing is damaged yet");
        self.group(&mut shard, vec![Command::Open]);
        if self.ledger.last_lsn() == 1 {
            let config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
            self.group(&mut shard, vec![Command::CreateTopic { name: "t".into(), partitions: 2, config }]);
        }
        for number in 0..groups {
            self.group(&mut shard, vec![append(number, 900), append(number + 1, 30)]);
            if number % 2 == 0 {
                shard.idle().expect("the disk is sound");
            }
            if checkpoints && number % 2 == 1 {
                shard.checkpoint().expect("the disk is sound");
            }
        }
        let before = self.ledger.last_lsn();
        self.group(&mut shard, vec![append(9, 600), append(8, 5), append(7, 4000)]);
        self.proven = before;
        if left == Left::Clean {
            shard.close().expect("the disk is sound");
            self.proven = self.ledger.last_lsn();
        }
        drop(shard);
        self.disk = disk.process_kill();
    }

    fn group(&mut self, shard: &mut Shard, commands: Vec<Command>) {
        let time_ms = 1_700_000_000_000 + self.ledger.last_lsn() as i64;
        let group: Vec<_> = commands.into_iter().map(|command| Submission { time_ms, command }).collect();
        self.ledger.submit(shard.term(), &group);
        shard.execute(&group).expect("the disk is sound");
    }

    /// The names of the files in a directory, with their lengths.
    #[must_use]
    pub fn files(&self, prefix: &str) -> Vec<(String, u64)> {
        self.disk.files().into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    /// A copy to be damaged.
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        self.disk.process_kill()
    }

    /// Opens a damaged copy.
    #[must_use]
    pub fn judge(&self, damaged: &SimDisk) -> Verdict {
        let (shard, report) = match check::open(damaged, &self.options, 7) {
            Err(panic) => return Verdict::Silent(panic),
            Ok(Err(error)) => return refusal(&error, Verdict::Refused),
            Ok(Ok(opened)) => opened,
        };
        let (lsn, last) = (shard.state().lsn, self.ledger.last_lsn());
        if lsn > last {
            return Verdict::Silent(format!("lsn {lsn} was never written"));
        }
        if let Err(what) = check::same_state(&shard.state(), self.ledger.state(lsn)) {
            return Verdict::Silent(what);
        }
        if lsn < self.proven {
            return Verdict::Silent(format!(
                "lsn {lsn} of {last}, though {} is proven: {report:?}",
                self.proven
            ));
        }
        if lsn < last && report.cut.is_none() {
            return Verdict::Silent(format!("lsn {lsn} of {last}, unreported: {report:?}"));
        }
        match self.reading(&shard, lsn) {
            Verdict::Exact if lsn < last => Verdict::ReportedCut,
            Verdict::Exact if report.cut.is_some() => Verdict::ExactReported,
            verdict => verdict,
        }
    }

    /// Every closed segment cut at every length, and missing: what the file has lost is refused by its name, all else
    /// is read, and the log goes on, also when it is opened again.
    #[must_use]
    pub fn closed_segments(&self, stride: u64) -> BTreeMap<&'static str, Row> {
        let mut table: BTreeMap<&'static str, Row> = BTreeMap::new();
        for segment in self.closed() {
            let cuts = (0..segment.len_bytes).step_by(stride as usize).chain([segment.len_bytes - 1]);
            for cut in cuts.map(Some).chain([None]) {
                let damaged = self.copy();
                match cut {
                    Some(cut) => damaged.cut(&segment.file, cut).expect("the length is below the file's"),
                    None => damaged.remove(&segment.file).expect("the file is there"),
                }
                let case = if cut.is_some() { "closed, cut" } else { "closed, missing" };
                let verdict = self.judge_closed(&damaged, &segment, cut.unwrap_or(0));
                table.entry(case).or_default().count(verdict, || format!("{} {cut:?}", segment.file));
            }
        }
        table
    }

    /// The segments behind which others of their partition begin.
    fn closed(&self) -> Vec<Closed> {
        let mut found = Vec::new();
        for (partition, stored) in &self.ledger.contents {
            let dir = format!("topics/{partition}/");
            let files = self.files(&dir).into_iter().map(|(file, _)| file);
            let logs: Vec<String> = files.filter(|file| file.ends_with(".log")).collect();
            let base = |file: &str| file[dir.len()..dir.len() + 20].parse::<u64>().expect("it is an offset");
            for pair in logs.windows(2) {
                let offsets = base(&pair[0])..base(&pair[1]);
                let within = stored.iter().filter(|stored| offsets.contains(&stored.batch.base_offset()));
                let len_bytes = within.map(|stored| stored.batch.len_bytes() as u64).sum();
                found.push(Closed { partition: *partition, file: pair[0].clone(), offsets, len_bytes });
            }
        }
        found
    }

    fn judge_closed(&self, damaged: &SimDisk, segment: &Closed, cut: u64) -> Verdict {
        let mut end = None;
        for life in 0..2 {
            let mut shard = match check::open(damaged, &self.options, 7 + life) {
                Err(panic) => return Verdict::Silent(panic),
                Ok(Err(error)) => return Verdict::Silent(format!("not opened: {error}")),
                Ok(Ok((shard, _))) => shard,
            };
            if let Err(what) = self.only_lost(&shard, segment, cut) {
                return Verdict::Silent(what);
            }
            match goes_on(&mut shard, segment.partition, end) {
                Ok(offset) => end = Some(offset),
                Err(what) => return Verdict::Silent(format!("it doesn't go on: {what}")),
            }
            if let Err(what) = self.only_lost(&shard, segment, cut) {
                return Verdict::Silent(format!("behind a checkpoint: {what}"));
            }
        }
        Verdict::BatchRefused
    }

    /// Whether exactly the batches of a segment are refused that don't lie before the cut, by the name of its file.
    fn only_lost(&self, shard: &Shard, segment: &Closed, cut: u64) -> Result<(), String> {
        let (reader, mut position) = (shard.reader(), 0);
        for (at, stored) in
            self.ledger.contents.iter().flat_map(|(at, stored)| stored.iter().map(move |it| (at, it)))
        {
            let offset = stored.batch.base_offset();
            let is_within = *at == segment.partition && segment.offsets.contains(&offset);
            position += if is_within { stored.batch.len_bytes() as u64 } else { 0 };
            let is_lost = is_within && position > cut;
            match reader.read(*at, offset, 1) {
                Ok(found) if !is_lost && found.first() == Some(&stored.batch) => {}
                Err(StorageError::Damaged { file, .. }) if is_lost && file == segment.file => {}
                read => return Err(format!("{at} offset {offset}: {read:?}")),
            }
        }
        Ok(())
    }

    /// Reads every batch by itself.
    fn reading(&self, shard: &Shard, lsn: u64) -> Verdict {
        let (reader, mut verdict) = (shard.reader(), Verdict::Exact);
        for (at, stored) in &self.ledger.contents {
            for stored in stored.iter().take_while(|stored| stored.lsn <= lsn) {
                match reader.read(*at, stored.batch.base_offset(), 1) {
                    Ok(found) if found.first() == Some(&stored.batch) => {}
                    Ok(found) => {
                        return Verdict::Silent(format!("{at}: read {found:?}, not {:?}", stored.batch));
                    }
                    Err(error) if error.is_refusal() => verdict = Verdict::BatchRefused,
                    Err(error) => return Verdict::Silent(format!("{at}: {error}")),
                }
            }
        }
        verdict
    }

    /// Every byte of some files, each with each mask.
    #[must_use]
    pub fn flips(&self, prefix: &str, masks: &[u8], stride: u64) -> Row {
        let mut row = Row::default();
        for (name, len) in self.files(prefix) {
            for position in (0..len).step_by(stride as usize) {
                for mask in masks {
                    let damaged = self.copy();
                    damaged.flip_bit(&name, position, *mask).expect("the position is in the file");
                    row.count(self.judge(&damaged), || format!("{name} byte {position} mask {mask:#04x}"));
                }
            }
        }
        row
    }

    /// Every sector of some files, zeroed or overwritten with another sector of the same file.
    #[must_use]
    pub fn sectors(&self, prefix: &str, misdirected: bool) -> Row {
        let mut row = Row::default();
        for (name, len) in self.files(prefix) {
            let content = self.disk.read_file(&name).expect("it was listed");
            for from in (0..len).step_by(SECTOR_BYTES) {
                let to = (from + SECTOR_BYTES as u64).min(len) as usize;
                let other = (from as usize + 5 * SECTOR_BYTES) % content.len();
                let sector: Vec<u8> = if misdirected {
                    content[other..]
                        .iter()
                        .copied()
                        .chain(std::iter::repeat(0))
                        .take(to - from as usize)
                        .collect()
                } else {
                    vec![0; to - from as usize]
                };
                if sector == content[from as usize..to] {
                    continue;
                }
                let damaged = self.copy();
                damaged.overwrite(&name, from, &sector).expect("the range is in the file");
                row.count(self.judge(&damaged), || format!("{name} sector at {from}"));
            }
        }
        row
    }

    /// Some files cut at every length.
    #[must_use]
    pub fn cuts(&self, prefix: &str, stride: u64) -> Row {
        let mut row = Row::default();
        for (name, len) in self.files(prefix) {
            for cut in (0..len).filter(|cut| cut % stride == 0 || cut % 4096 == 0) {
                let damaged = self.copy();
                damaged.cut(&name, cut).expect("the length is below the file's");
                row.count(self.judge(&damaged), || format!("{name} cut to {cut}"));
            }
        }
        row
    }

    /// Files that are missing, empty, renamed, doubled, exchanged, or of an earlier time.
    #[must_use]
    pub fn files_table(&self, prefix: &str) -> BTreeMap<&'static str, Row> {
        let mut table: BTreeMap<&'static str, Row> = BTreeMap::new();
        let files = self.files(prefix);
        let newest = files.iter().rev().map(|(name, _)| name).find(|name| !name.contains("spare")).cloned();
        let mut case = |what: &'static str, name: &str, change: &dyn Fn(&SimDisk)| {
            let damaged = self.copy();
            change(&damaged);
            table.entry(what).or_default().count(self.judge(&damaged), || name.to_owned());
        };
        for (index, (name, _)) in files.iter().enumerate() {
            let last = Some(name) == newest.as_ref();
            let put = |disk: &SimDisk, to: &str| disk.copy(name, to).expect("the file is there");
            let remove = |disk: &SimDisk| disk.remove(name).expect("the file is there");
            case(if last { "newest missing" } else { "missing" }, name, &remove);
            let empty = |disk: &SimDisk| disk.cut(name, 0).expect("the file is there");
            case(if last { "newest empty" } else { "empty" }, name, &empty);
            case("zeroed", name, &|disk| {
                let len = disk.read_file(name).expect("the file is there").len();
                disk.overwrite(name, 0, &vec![0; len]).expect("the file is there");
            });
            case("doubled under a later name", name, &|disk| put(disk, &renumbered(name, 100)));
            case("doubled as a spare", name, &|disk| put(disk, "journal/spare-00000000000000000077"));
            case("doubled as an unfinished file", name, &|disk| put(disk, "journal/new-5.tmp"));
            case("renamed to a later name", name, &|disk| {
                put(disk, &renumbered(name, 100));
                disk.remove(name).expect("the file is there");
            });
            let (other, _) = &files[(index + 1) % files.len()];
            case("exchanged with another", name, &|disk| {
                let (a, b) = (disk.read_file(name), disk.read_file(other));
                disk.put(name, &b.expect("the file is there")).expect("any content fits");
                disk.put(other, &a.expect("the file is there")).expect("any content fits");
            });
        }
        case("foreign files besides", "", &|disk| {
            disk.put(&format!("{prefix}README"), b"hello").expect("any content fits");
            disk.put(&format!("{prefix}7.journal"), b"hello").expect("any content fits");
        });
        table
    }
}

/// Appends a batch to a partition, brings it into segments and reads it there; and so what was appended before, at
/// `earlier`. The offset of the new one.
fn goes_on(shard: &mut Shard, partition: Partition, earlier: Option<u64>) -> Result<u64, String> {
    let command = append(u64::from(partition.index), 100);
    let offset = shard.reader().bounds(partition).1;
    let group = [Submission { time_ms: 1_800_000_000_000, command }];
    shard.execute(&group).map_err(|error| error.to_string())?;
    shard.checkpoint().map_err(|error| error.to_string())?;
    for offset in earlier.into_iter().chain([offset]) {
        let read = shard.reader().read(partition, offset, 1).map_err(|error| error.to_string())?;
        if read.first().map(|batch| batch.base_offset()) != Some(offset) {
            return Err(format!("read {read:?} at offset {offset}"));
        }
    }
    Ok(offset)
}

/// The name of a numbered file with `more` added to its number.
fn renumbered(name: &str, more: u64) -> String {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().unwrap_or(0);
    name.replace(&digits, &format!("{:020}", number + more))
}

fn refusal(error: &StorageError, verdict: Verdict) -> Verdict {
    let named = match error {
        StorageError::Damaged { file, .. }
        | StorageError::Version { file, .. }
        | StorageError::Missing { file, .. } => !file.is_empty(),
        _ => false,
    };
    if named { verdict } else { Verdict::Silent(format!("refused without a file: {error}")) }
}

fn append(number: u64, len: usize) -> Command {
    let mut value = vec![0; len];
    Random::new(number + len as u64).fill(&mut value);
    let mut builder = BatchBuilder::new(0);
    builder.append(1_700_000_000_000, Some(&number.to_le_bytes()), Some(&value), &[]);
    let partition = Partition { topic: TopicId(1), index: (number % 2) as u32 };
    Command::Append { partition, config_version: 0, expected_end: None, batch: builder.finish(None) }
}
