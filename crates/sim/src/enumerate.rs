//! Crashes at every point of a recorded span of operations: which images there are, and what each must show.
//!
//! ```text
//!   point -> images: killed | killed within the write | power lost: nothing, everything, parts of the unsynced kept
//!   image -> open -> oracle P -> for some: crash within that open (up to three deep) | go on, crash, open again
//! ```
//!
//! Invariants:
//!   * an image has a number that depends on seed and point alone, so that one can be opened again by its numbers
//!   * power loss at a point where nothing is unsynced is the kill, and isn't counted twice

use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{Command, TopicConfig};
use exactlog_core::ids::Partition;
use exactlog_storage::journal::FILE_HEADER_BYTES;
use exactlog_storage::shard::{Options, RecoveryReport, Shard, Submission};

use crate::check::{self, Owed};
use crate::disk::{Choices, Point, SimDisk, Survival, What};
use crate::ledger::Ledger;
use crate::report::{Broken, Counters, Mark};
use crate::rng::{Random, mix};
use crate::run::is_synced;

/// Which images are opened.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Only this point and this image of it.
    pub only: Option<(u64, u64)>,
    /// One of this many points is crashed at.
    pub points_one_in: u64,
    /// Random survivals of each power loss, besides nothing and everything.
    pub survivals: u64,
    /// One of this many images is also crashed while it is opened.
    pub nested_one_in: u64,
    /// One of this many images goes on and is opened once more.
    pub continued_one_in: u64,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { only: None, points_one_in: 1, survivals: 4, nested_one_in: 24, continued_one_in: 5 }
    }
}

/// Enumerates the crashes of one run.
#[derive(Debug)]
pub struct Enumerator {
    seed: u64,
    options: Options,
    filter: Filter,
    next_point: u64,
    /// What was done so far.
    pub counters: Counters,
}

/// A point, and what was promised there.
struct Moment<'a> {
    number: u64,
    point: &'a Point,
    mark: &'a Mark,
    /// What survives a kill: of the mark, or of the group whose write is done.
    survives_kill: u64,
}

/// How an image came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Kill,
    Torn(u64),
    Power(u64),
}

/// One image, with what it owes if it is crashed again while it is opened.
struct Image {
    disk: SimDisk,
    owed: Owed,
    /// What still survives if the power goes while it is opened.
    survives_power: u64,
    depth: u32,
}

/// Deepest crash within a recovery within a recovery.
const DEPTH_MAX: u32 = 3;

impl Enumerator {
    /// For the run of a seed.
    #[must_use]
    pub fn new(seed: u64, options: Options, filter: Filter) -> Enumerator {
        Enumerator { seed, options, filter, next_point: 0, counters: Counters::default() }
    }

    /// Crashes at each of the points. `marks` are what their markers stand for.
    pub fn points(&mut self, points: &[Point], marks: &[Mark], ledger: &Ledger) -> Result<(), Broken> {
        let (mut marker, mut written) = (u64::MAX, false);
        for point in points {
            let mark = &marks[point.marker as usize];
            if marker != point.marker {
                (marker, written) = (point.marker, false);
            }
            written |= mark.writing && is_group_write(point);
            let number = self.next_point;
            self.next_point += 1;
            let wanted = match self.filter.only {
                Some((only, _)) => only == number,
                None => mix(self.seed ^ number).is_multiple_of(self.filter.points_one_in),
            };
            if wanted {
                let survives_kill = if written { mark.submitted } else { mark.survives_kill };
                self.moment(&Moment { number, point, mark, survives_kill }, ledger)?;
            }
        }
        Ok(())
    }

    fn moment(&mut self, moment: &Moment<'_>, ledger: &Ledger) -> Result<(), Broken> {
        let Moment { number, point, mark, .. } = *moment;
        let mut random = Random::new(mix(self.seed ^ mix(number)));
        for (image, crash) in self.crashes(point, &mut random).into_iter().enumerate() {
            let (image, mut random) = (image as u64, random.fork());
            if self.filter.only.is_some_and(|only| only.1 != image) {
                continue;
            }
            self.crash(moment, crash, ledger, &mut random).map_err(|what| Broken {
                place: Some((number, image)),
                what: format!("{crash:?} after {:?} (op {}), {mark:?}: {what}", point.what, point.op),
            })?;
        }
        Ok(())
    }

    /// The crashes to try at a point.
    fn crashes(&self, point: &Point, random: &mut Random) -> Vec<Crash> {
        let mut crashes = vec![Crash::Kill];
        if let Some(len) = point.written_bytes() {
            let cuts = [0, 1, random.below(len), random.below(len / 512 + 1) * 512, len - 1];
            crashes.extend(cuts.into_iter().filter(|cut| *cut < len).map(Crash::Torn));
        }
        let mut asked = Count { survival: Survival::AllLost, asked: 0 };
        drop(point.disk.power_loss(&mut asked));
        let survivals = match asked.asked {
            0 => 0,
            1 => 2,
            _ => 2 + self.filter.survivals,
        };
        crashes.extend((0..survivals).map(Crash::Power));
        crashes
    }

    fn crash(
        &mut self,
        moment: &Moment<'_>,
        crash: Crash,
        ledger: &Ledger,
        random: &mut Random,
    ) -> Result<(), String> {
        let Moment { point, mark, survives_kill, .. } = *moment;
        let (disk, lowest) = match crash {
            Crash::Kill => (point.disk.process_kill(), survives_kill),
            Crash::Torn(cut) => match point.torn_kill(cut) {
                Some(disk) => (disk, mark.survives_kill),
                None => return Ok(()),
            },
            Crash::Power(kind) => {
                (point.disk.power_loss(&mut survival(kind, random.number())), mark.survives_power)
            }
        };
        match crash {
            Crash::Kill => self.counters.kills += 1,
            Crash::Torn(_) => self.counters.torn += 1,
            Crash::Power(_) => self.counters.powers += 1,
        }
        let owed = Owed { lowest, ..mark.owed() };
        if random.chance(1, 4) {
            self.counters.from_older += u64::from(damage_newest_checkpoint(&disk, random));
        }
        self.image(&Image { disk, owed, survives_power: mark.survives_power, depth: 0 }, ledger, random)
    }

    fn image(&mut self, image: &Image, ledger: &Ledger, random: &mut Random) -> Result<(), String> {
        self.counters.states += 1;
        self.counters.nested += u64::from(image.depth > 0);
        let nested = image.depth < DEPTH_MAX && random.chance(1, self.filter.nested_one_in);
        let disk = image.disk.process_kill();
        disk.record_points(nested);
        let (shard, report) = self.open(&disk, random)?;
        disk.record_points(false);
        let lsn = check::recovered(&shard, &report, ledger, &image.owed, &image.disk)?;
        self.counters.from_checkpoint += u64::from(report.checkpoint_lsn > 0);
        self.counters.cuts += u64::from(report.cut.is_some());
        self.counters.certain_cuts += u64::from(report.cut.as_ref().is_some_and(|cut| cut.certain));
        self.counters.unacknowledged += u64::from(lsn > image.owed.lowest);
        if nested {
            self.nested(image, &disk.take_points(), lsn, ledger, random)?;
        }
        if random.chance(1, self.filter.continued_one_in) {
            check::commands(&shard, ledger, lsn)?;
            self.go_on(&disk, shard, ledger.branch(lsn), random)?;
        }
        Ok(())
    }

    fn open(&self, disk: &SimDisk, random: &mut Random) -> Result<(Shard, RecoveryReport), String> {
        let opened = check::open(disk, &self.options, random.number())?;
        opened.map_err(|error| format!("an honest crash was refused: {error}"))
    }

    /// Crashes within the open that gave these points, and had recovered `lsn`.
    fn nested(
        &mut self,
        image: &Image,
        points: &[Point],
        lsn: u64,
        ledger: &Ledger,
        random: &mut Random,
    ) -> Result<(), String> {
        for _ in 0..2.min(points.len()) {
            let point = &points[random.below(points.len() as u64) as usize];
            let number = random.number();
            for kind in 0..4 {
                let (disk, lowest) = match kind {
                    // An open reads before it writes, so what it has found is still to be found.
                    0 => (point.disk.process_kill(), lsn),
                    _ => (point.disk.power_loss(&mut survival(kind - 1, number)), image.survives_power),
                };
                let owed = Owed { lowest: lowest.min(lsn), untouched: false, ..image.owed };
                let inner =
                    Image { disk, owed, survives_power: image.survives_power, depth: image.depth + 1 };
                self.image(&inner, ledger, &mut random.fork()).map_err(|what| {
                    format!("crash within open, after {:?} (kind {kind}): {what}", point.what)
                })?;
            }
        }
        Ok(())
    }

    /// Goes on after a recovery: a few commands, a crash, and everything acknowledged is still there.
    fn go_on(
        &mut self,
        disk: &SimDisk,
        mut shard: Shard,
        mut ledger: Ledger,
        random: &mut Random,
    ) -> Result<(), String> {
        self.counters.continued += 1;
        let first = ledger.last_lsn();
        let mut durable = first;
        for step in 0..1 + random.below(3) {
            let group = continuation(&ledger, step, random);
            let before = ledger.last_lsn();
            let synced = is_synced(self.options.durability, ledger.state(before), &group);
            let promised = ledger.submit(shard.term(), &group);
            let applied = shard.execute(&group).map_err(|error| format!("going on failed: {error}"))?;
            for (applied, promised) in applied.iter().zip(&promised) {
                if *applied != promised.applied {
                    return Err(format!("going on: answered {applied:?}, expected {:?}", promised.applied));
                }
            }
            check::same_state(&shard.state(), ledger.state(ledger.last_lsn()))?;
            ledger.show(before + 1)?;
            if synced {
                durable = ledger.last_lsn();
            }
            if random.chance(1, 3) {
                shard.idle().map_err(|error| format!("going on: no seal: {error}"))?;
            }
        }
        let (last_term, highest) = (shard.term(), ledger.last_lsn());
        drop(shard);
        let kind = random.below(4);
        let (after, lowest) = match kind {
            0 => (disk.process_kill(), highest),
            _ => (disk.power_loss(&mut survival(kind - 1, random.number())), durable),
        };
        let owed = Owed { lowest, highest, last_term, closing: false, untouched: false };
        let again = Image { disk: after, owed, survives_power: durable, depth: DEPTH_MAX };
        self.image_once(&again, &ledger, random)
            .map_err(|what| format!("after going on from lsn {first}: {what}"))
    }

    /// As [`Enumerator::image`], without anything behind it.
    fn image_once(&mut self, image: &Image, ledger: &Ledger, random: &mut Random) -> Result<(), String> {
        self.counters.states += 1;
        let disk = image.disk.process_kill();
        let (shard, report) = self.open(&disk, random)?;
        let lsn = check::recovered(&shard, &report, ledger, &image.owed, &image.disk)?;
        check::commands(&shard, ledger, lsn)
    }
}

/// What a process does after it was opened: it says so, and appends.
fn continuation(ledger: &Ledger, step: u64, random: &mut Random) -> Vec<Submission> {
    let state = ledger.state(ledger.last_lsn());
    let time_ms = state.time_ms + 1;
    let mut commands = Vec::new();
    if step == 0 {
        commands.push(Command::Open);
    }
    match state.topics.iter().next() {
        None => commands.push(Command::CreateTopic {
            name: "behind".to_owned(),
            partitions: 1,
            config: TopicConfig::default(),
        }),
        Some((topic, entry)) => {
            let partition = Partition { topic: *topic, index: 0 };
            let mut value = vec![0; random.below(700) as usize];
            random.fill(&mut value);
            let mut builder = BatchBuilder::new(0);
            builder.append(time_ms, None, Some(&value), &[]);
            let batch = builder.finish(None);
            let config_version = entry.config_version;
            commands.push(Command::Append { partition, config_version, expected_end: None, batch });
        }
    }
    commands.into_iter().map(|command| Submission { time_ms, command }).collect()
}

/// Whether a point follows the whole write of a group: a file's header lies below the first group.
fn is_group_write(point: &Point) -> bool {
    match &point.what {
        What::Write { name, pos, .. } => {
            let behind_header = *pos >= FILE_HEADER_BYTES;
            behind_header && name.starts_with("journal/") && point.written_bytes().is_some()
        }
        _ => false,
    }
}

/// Flips a bit of the newest checkpoint if there is an older one, which then has to do. Whether it did. One whose name
/// may never have become durable has no newer one that relies on it.
fn damage_newest_checkpoint(disk: &SimDisk, random: &mut Random) -> bool {
    let files = disk.files();
    let mut checkpoints = files.iter().rev().filter(|(name, _)| name.ends_with(".checkpoint"));
    let (Some((newest, len)), Some((older, _))) = (checkpoints.next(), checkpoints.next()) else {
        return false;
    };
    if disk.power_loss(&mut Survival::AllLost).read_file(older).is_err() {
        return false;
    }
    disk.flip_bit(newest, random.below(*len), 1 << random.below(8)).is_ok()
}

fn survival(kind: u64, seed: u64) -> Survival {
    match kind {
        0 => Survival::AllLost,
        1 => Survival::AllKept,
        _ => Survival::random(seed),
    }
}

/// Counts how often it is asked.
struct Count {
    survival: Survival,
    asked: u64,
}

impl Choices for Count {
    fn pick(&mut self, options: u64) -> u64 {
        self.asked += 1;
        self.survival.pick(options)
    }
}
