//! Compaction against the list of everything that was ever written: random histories with transactions, compressed
//! batches, tombstones and restarts, compacted in one pass and in many.
//!
//! A failure prints its seed; `history(seed)` makes it again.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use exactlog_core::command::{
    CleanupPolicy, Command, Protocol, TopicConfig, TransactionSender, Transactional,
};
use exactlog_core::ids::{Partition, ProducerId, TopicId};
use exactlog_core::reply::{Applied, Reply};
use exactlog_sim::disk::SimDisk;
use exactlog_sim::rng::Random;
use exactlog_storage::checkpoint::state_hash;
use exactlog_storage::cleaning::Occasion;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const AT: Partition = Partition { topic: TopicId(1), index: 0 };
const DELETE_RETENTION_MS: u64 = 10_000;

/// One record that was written.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    offset: u64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    time_ms: i64,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_deref().map(String::from_utf8_lossy);
        write!(
            f,
            "{}: {key:?} = {:?} bytes at {}",
            self.offset,
            self.value.as_ref().map(Vec::len),
            self.time_ms
        )
    }
}

/// A transactional producer as the test knows it.
#[derive(Clone, Debug)]
struct Transactor {
    id: &'static str,
    producer: (ProducerId, i16),
    sequence: i32,
    /// Records of the transaction that is open.
    open: Vec<Written>,
}

struct World {
    random: Random,
    disk: SimDisk,
    shard: Shard,
    time_ms: i64,
    /// What readers of committed records must be able to know of.
    committed: Vec<Written>,
    transactors: Vec<Transactor>,
    values: u64,
}

fn open(disk: &SimDisk) -> Shard {
    let options =
        Options { journal_file_bytes: 64 * 1024, journal_ring_bytes: 1 << 20, ..Options::default() };
    let mut nonce = disk.ops();
    let mut random = || {
        nonce += 1;
        nonce
    };
    Shard::open(Arc::new(disk.clone()), options, &mut random).unwrap().0
}

impl World {
    fn new(seed: u64) -> World {
        let disk = SimDisk::new();
        let shard = open(&disk);
        let mut world = World {
            random: Random::new(seed),
            disk,
            shard,
            time_ms: 1_000_000,
            committed: Vec::new(),
            transactors: Vec::new(),
            values: 0,
        };
        world.run(Command::Open);
        let config = TopicConfig {
            segment_bytes: 4096,
            cleanup_policy: CleanupPolicy::Compact,
            delete_retention_ms: DELETE_RETENTION_MS,
            ..TopicConfig::default()
        };
        world.run(Command::CreateTopic { name: "t".into(), partitions: 1, config });
        for id in ["x", "y"] {
            let init = Transactional::Init {
                transactional_id: id.into(),
                timeout_ms: 800_000,
                current: None,
                newer_codes: true,
            };
            let producer = identity(&world.run(init.into()));
            world.transactors.push(Transactor { id, producer, sequence: 0, open: Vec::new() });
        }
        world
    }

    fn run(&mut self, command: Command) -> Applied {
        let submission = Submission { time_ms: self.time_ms, command };
        let applied = self.shard.execute(&[submission]).unwrap().remove(0);
        assert!(!matches!(applied.reply, Reply::Refused(_)), "{applied:?}");
        applied
    }

    /// A batch of one to three records of few keys, and what it says.
    fn batch(&mut self, stamp: Option<ProducerStamp>) -> (Batch, Vec<Written>) {
        let mut builder = BatchBuilder::new(0);
        let mut written = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.values += 1;
            let len = 20 + self.random.below(300) as usize;
            let value = format!("{:0len$}", self.values).into_bytes();
            let value = (!self.random.chance(1, 6)).then_some(value);
            let key = format!("key {}", self.random.below(6)).into_bytes();
            let key = (!self.random.chance(1, 30)).then_some(key);
            builder.append(self.time_ms, key.as_deref(), value.as_deref(), &[(b"h", Some(b"1"))]);
            written.push(Written { offset: 0, key, value, time_ms: self.time_ms });
        }
        let codec = if self.random.chance(1, 4) { Compression::Gzip } else { Compression::None };
        (builder.finish_compressed(stamp, codec).unwrap(), written)
    }

    fn step(&mut self) {
        self.time_ms += self.random.below(400) as i64;
        match self.random.below(100) {
            0..45 => {
                let (batch, written) = self.batch(None);
                let append = Command::Append { partition: AT, config_version: 0, expected_end: None, batch };
                let placed = placed(&self.run(append), written);
                self.committed.extend(placed);
            }
            45..75 => self.append_transactional(),
            75..85 => self.end_transaction(),
            85..92 => self.shard.checkpoint().unwrap(),
            92..94 => {
                let hash = state_hash(&self.shard.state());
                self.disk = self.disk.process_kill();
                self.shard = open(&self.disk);
                assert_eq!(state_hash(&self.shard.state()), hash);
                self.check();
            }
            _ => self.clean(self.random.clone().chance(1, 2)),
        }
    }

    fn append_transactional(&mut self) {
        let at = self.random.below(2) as usize;
        let Transactor { id, producer, sequence, .. } = self.transactors[at].clone();
        let stamp = ProducerStamp { id: producer.0, epoch: producer.1, base_sequence: sequence };
        let (batch, written) = self.batch(Some(stamp));
        self.transactors[at].sequence += written.len() as i32;
        let append = Transactional::Append {
            transactional_id: id.into(),
            protocol: Protocol::V2,
            newer_codes: true,
            partition: AT,
            config_version: 0,
            batch: batch.in_transaction(),
        };
        let placed = placed(&self.run(append.into()), written);
        self.transactors[at].open.extend(placed);
    }

    fn end_transaction(&mut self) {
        let at = self.random.below(2) as usize;
        let commit = self.random.chance(1, 2);
        let Transactor { id, producer, open, .. } = self.transactors[at].clone();
        if open.is_empty() {
            return;
        }
        let sender = TransactionSender {
            transactional_id: id.into(),
            producer: producer.0,
            producer_epoch: producer.1,
            protocol: Protocol::V2,
            newer_codes: true,
            connection: 0,
        };
        let ended = identity(&self.run(Transactional::End { sender, commit }.into()));
        self.transactors[at] = Transactor { id, producer: ended, sequence: 0, open: Vec::new() };
        if commit {
            self.committed.extend(open);
            self.committed.sort_by_key(|written| written.offset);
        }
    }

    fn clean(&mut self, asked: bool) {
        let key_bytes_max = [1, 200, 1 << 20][self.random.below(3) as usize];
        let Some(cleaner) = self.shard.cleaner() else { return };
        let occasion = Occasion { asked, key_bytes_max, ..Occasion::at(self.time_ms) };
        for due in cleaner.due_compactions(&occasion) {
            cleaner.compact(due.partition, &occasion).unwrap();
        }
        self.check();
    }

    /// Every batch from the start to the end: without a gap, whatever was compacted.
    fn batches(&self) -> Vec<Batch> {
        let (start, end) = self.shard.reader().bounds(AT);
        let (mut offset, mut all) = (start, Vec::new());
        while offset < end {
            let batches = self.shard.reader().read(AT, offset, 4096).unwrap();
            for batch in &batches {
                assert_eq!(batch.base_offset(), offset);
                offset = batch.next_offset();
            }
            all.extend(batches);
        }
        all
    }

    /// What readers of committed records get.
    fn shown(&self) -> Vec<Written> {
        let state = self.shard.state().partition(AT).unwrap().clone();
        let stable = state.last_stable_offset();
        let undecided = state.undecided_between(state.start, stable);
        let batches = self.batches();
        let decided = batches.iter().filter(|batch| batch.next_offset() <= stable && undecided.shows(batch));
        let records = decided.flat_map(|batch| batch.records().map(Result::unwrap));
        let shown: Vec<Written> = records
            .map(|record| {
                assert_eq!(record.headers.len(), 1);
                Written {
                    offset: record.offset,
                    key: record.key.map(|key| key.to_vec()),
                    value: record.value.map(|value| value.to_vec()),
                    time_ms: record.timestamp_ms,
                }
            })
            .collect();
        for from in [state.start, stable / 3, stable / 2, stable] {
            let count = self.shard.reader().count_shown(AT, from, stable, &undecided).unwrap();
            assert_eq!(count, shown.iter().filter(|it| it.offset >= from).count() as u64, "from {from}");
        }
        shown
    }

    fn check(&self) {
        let shown = self.shown();
        let stable = self.shard.state().partition(AT).unwrap().last_stable_offset();
        let committed: Vec<&Written> = self.committed.iter().filter(|it| it.offset < stable).collect();
        let mut rest = committed.iter();
        for record in &shown {
            assert!(rest.any(|it| *it == record), "{record:?} was never committed, or is in another order");
        }
        let mut latest: BTreeMap<&[u8], &Written> = BTreeMap::new();
        for record in committed {
            let Some(key) = &record.key else {
                assert!(shown.contains(record), "{record:?} has no key and is gone");
                continue;
            };
            latest.insert(key, record);
        }
        for record in latest.into_values() {
            let may_be_gone =
                record.value.is_none() && self.time_ms >= record.time_ms + DELETE_RETENTION_MS as i64;
            assert!(shown.contains(record) || may_be_gone, "{record:?} is the last of its key and is gone");
        }
    }
}

fn placed(applied: &Applied, written: Vec<Written>) -> Vec<Written> {
    let Reply::Appended { base_offset, .. } = applied.reply else { panic!("{applied:?}") };
    (base_offset..).zip(written).map(|(offset, it)| Written { offset, ..it }).collect()
}

fn identity(applied: &Applied) -> (ProducerId, i16) {
    match applied.reply {
        Reply::Transactional { producer, producer_epoch } => (producer, producer_epoch),
        ref other => panic!("{other:?}"),
    }
}

/// Runs a history to its end, and compacts all of it: what a partition comes to when nothing happens any more.
fn history(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..120 {
        world.step();
    }
    for at in 0..2 {
        while !world.transactors[at].open.is_empty() {
            world.end_transaction();
        }
    }
    // A segment behind all of it, so that all of it is closed.
    for _ in 0..3 {
        let mut builder = BatchBuilder::new(0);
        builder.append(world.time_ms, Some(b"end"), Some(&[0; 3900]), &[(b"h", None)]);
        let batch = builder.finish(None);
        let written = vec![Written {
            offset: 0,
            key: Some(b"end".to_vec()),
            value: Some(vec![0; 3900]),
            time_ms: world.time_ms,
        }];
        let append = Command::Append { partition: AT, config_version: 0, expected_end: None, batch };
        let placed = placed(&world.run(append), written);
        world.committed.extend(placed);
    }
    // Values go first, then what stands for them, then the markers: each when the time of the one before has passed.
    for _ in 0..6 {
        world.shard.checkpoint().unwrap();
        world.clean(true);
        world.time_ms += 2 * DELETE_RETENTION_MS as i64;
    }
    world
}

#[test]
fn lg_6_the_committed_view_is_the_same_before_and_after_compaction() {
    for seed in 0..60 {
        let world = std::panic::catch_unwind(|| history(seed));
        let mut world = world.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        let shown = world.shown();
        let below = shown.iter().rposition(|it| it.key.as_deref() == Some(b"end")).unwrap() - 2;
        let mut keys: Vec<_> = shown[..below].iter().filter_map(|it| it.key.clone()).collect();
        let records = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), records, "seed {seed}: a key is left twice: {shown:?}");
        let tombstones = shown[..below].iter().filter(|it| it.key.is_some() && it.value.is_none());
        assert_eq!(tombstones.count(), 0, "seed {seed}: tombstones go when their time has passed");
        let mut with_data = BTreeSet::new();
        for batch in world.batches().iter().take_while(|it| it.base_offset() < shown[below].offset) {
            let producer = batch.producer().map(|stamp| stamp.id);
            match batch.as_control() {
                Some(control) => assert!(
                    with_data.remove(&Some(control.producer)) || !control.commit,
                    "seed {seed}: a marker of nothing is left at {}",
                    batch.base_offset()
                ),
                None => drop(batch.is_transactional().then(|| with_data.insert(producer))),
            }
        }
        // Nothing of it depends on memory, once a checkpoint names the new segments.
        world.shard.checkpoint().unwrap();
        let again = open(&world.disk.process_kill());
        let replayed = World { shard: again, random: Random::new(0), transactors: Vec::new(), ..world };
        replayed.check();
        assert_eq!(replayed.shown(), shown, "seed {seed}");
    }
}

#[test]
fn lg_7_a_tombstone_stays_for_its_time_and_then_goes() {
    let mut world = World::new(1);
    let append = |world: &mut World, key: &str, value: Option<&[u8]>| {
        let mut builder = BatchBuilder::new(0);
        builder.append(world.time_ms, Some(key.as_bytes()), value, &[(b"h", None)]);
        let batch = builder.finish(None);
        world.run(Command::Append { partition: AT, config_version: 0, expected_end: None, batch });
    };
    append(&mut world, "k", Some(b"value"));
    append(&mut world, "k", None);
    for _ in 0..4 {
        append(&mut world, "end", Some(&[0; 3900]));
    }
    world.shard.checkpoint().unwrap();
    world.shard.checkpoint().unwrap();
    let keys = |world: &World| -> Vec<(u64, bool)> {
        let shown = world.shown().into_iter().filter(|it| it.key.as_deref() == Some(b"k"));
        shown.map(|it| (it.offset, it.value.is_some())).collect()
    };
    let compact = |world: &World| {
        let cleaner = world.shard.cleaner().unwrap();
        let occasion = Occasion { asked: true, ..Occasion::at(world.time_ms) };
        cleaner.compact(AT, &occasion).unwrap()
    };
    assert_eq!(keys(&world), [(0, true), (1, false)]);
    assert!(compact(&world).is_some());
    assert_eq!(keys(&world), [(1, false)], "what it stands for is gone, it isn't");
    let horizon = world.batches().into_iter().find(|it| it.has_delete_horizon()).unwrap();
    assert_eq!(horizon.base_timestamp_ms(), world.time_ms + DELETE_RETENTION_MS as i64);
    world.time_ms += DELETE_RETENTION_MS as i64 - 1;
    assert_eq!(compact(&world), None, "nothing changes, so nothing is written");
    assert_eq!(keys(&world), [(1, false)]);
    world.time_ms += 1;
    assert!(compact(&world).is_some());
    assert_eq!(keys(&world), []);
    assert_eq!(world.batches()[0].record_count(), 0, "its offsets are a hole");
    assert!(world.batches()[0].next_offset() >= 2);
}

#[test]
fn lg_8_files_are_replaced_as_a_whole_and_the_old_ones_go_when_no_checkpoint_names_them() {
    let mut world = World::new(2);
    for _ in 0..60 {
        let (batch, written) = world.batch(None);
        let append = Command::Append { partition: AT, config_version: 0, expected_end: None, batch };
        let placed = placed(&world.run(append), written);
        world.committed.extend(placed);
    }
    world.shard.checkpoint().unwrap();
    world.shard.checkpoint().unwrap();
    let files = |world: &World| -> Vec<String> {
        let files = world.disk.files().into_iter().map(|(name, _)| name);
        files.filter(|name| name.starts_with("topics/") && name.ends_with(".log")).collect()
    };
    let old = files(&world);
    let reader = world.shard.reader();
    let before = reader.read(AT, 0, 1 << 20).unwrap();
    let occasion = Occasion { asked: true, ..Occasion::at(world.time_ms) };
    assert!(world.shard.cleaner().unwrap().compact(AT, &occasion).unwrap().is_some());
    world.check();
    let both = files(&world);
    assert!(old.iter().all(|name| both.contains(name)), "checkpoints name them still");
    let new: Vec<&String> = both.iter().filter(|name| !old.contains(name)).collect();
    assert!(!new.is_empty() && new.iter().all(|name| name.ends_with("-0000000001.log")), "{new:?}");
    assert!(new.len() < old.len(), "what is left is brought together");
    // A crash now finds the old segments, by the checkpoints that there are: nothing is lost, and nothing is torn.
    let crashed = open(&world.disk.process_kill());
    assert_eq!(crashed.reader().read(AT, 0, 1 << 20).unwrap(), before);
    drop(crashed);
    for _ in 0..3 {
        world.shard.checkpoint().unwrap();
    }
    let left = files(&world);
    assert!(old[..old.len() - 1].iter().all(|name| !left.contains(name)), "{left:?}");
    let all = before.iter().flat_map(|batch| batch.records());
    assert!(all.map(Result::unwrap).count() > 100, "who has read of the old files has what they held");
    world.check();
    // The older checkpoint and a longer journal make the same state.
    let hash = state_hash(&world.shard.state());
    let image = world.disk.process_kill();
    let newest =
        image.files().into_iter().map(|(name, _)| name).filter(|it| it.ends_with(".checkpoint")).max();
    image.flip_bit(&newest.unwrap(), 60, 1).unwrap();
    let older = open(&image);
    assert_eq!(state_hash(&older.state()), hash);
    let shown = world.shown();
    world.shard = older;
    assert_eq!(world.shown(), shown);
}

/// Trimmed, flushed and in one checkpoint: the older one names the files still, and would call them missing if the
/// newer one is damaged.
fn trimmed_files_wait_for_the_older_checkpoint() {
    let mut world = World::new(3);
    let config = TopicConfig { segment_bytes: 4096, ..TopicConfig::default() };
    world.run(Command::AlterTopic { topic: AT.topic, config });
    for _ in 0..40 {
        let (batch, _) = world.batch(None);
        world.run(Command::Append { partition: AT, config_version: 1, expected_end: None, batch });
    }
    world.shard.checkpoint().unwrap();
    world.shard.checkpoint().unwrap();
    let segments = |disk: &SimDisk| {
        let names = disk.files().into_iter().map(|(name, _)| name);
        names.filter(|name| name.ends_with(".log")).collect::<BTreeSet<_>>()
    };
    let named = segments(&world.disk);
    let end = world.shard.reader().bounds(AT).1;
    world.run(Command::Trim { partition: AT, start: end - 1 });
    world.shard.checkpoint().unwrap();
    let hash = state_hash(&world.shard.state());
    let image = world.disk.process_kill();
    let names = image.files().into_iter().map(|(name, _)| name);
    let newest = names.filter(|name| name.ends_with(".checkpoint")).max().unwrap();
    image.flip_bit(&newest, 60, 1).unwrap();
    assert!(named.len() > 3 && segments(&image).is_superset(&named), "of {named:?}");
    let older = open(&image);
    assert_eq!(state_hash(&older.state()), hash);
    // Segments are opened when something is flushed behind them, or read.
    older.flusher().flush().unwrap();
    assert_eq!(older.reader().read(AT, end - 1, 1).unwrap().len(), 1);
}

#[test]
fn lg_4_files_of_what_was_trimmed_stay_for_the_older_checkpoint() {
    trimmed_files_wait_for_the_older_checkpoint();
}

#[cfg(feature = "mutants")]
#[test]
fn every_planted_mistake_about_old_records_is_found() {
    use exactlog_core::mutants::{Mutant, plant};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for &mutant in Mutant::ALL.iter().filter(|mutant| mutant.is_about_old_records()) {
        plant(Some(mutant));
        let is_found = |seed: u64| match mutant {
            Mutant::C4FilesGoWithTheTrim => {
                catch_unwind(trimmed_files_wait_for_the_older_checkpoint).is_err()
            }
            _ => catch_unwind(AssertUnwindSafe(|| history(seed))).is_err(),
        };
        let found = (0..20).find(|seed| is_found(*seed));
        plant(None);
        println!(
            "{mutant:?}: {}",
            found.map_or("not found".to_owned(), |seed| format!("found by seed {seed}"))
        );
        missed.extend(found.is_none().then_some(mutant));
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
