//! Oracle P: what a shard shows after a crash is what it had after a prefix of the commands, and the prefix holds
//! everything that was promised.
//!
//! Invariants:
//!   * nothing here knows how the journal works, but for `tail_was_reported`, which reads its files

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use exactlog_core::batch::{Batch, Record};
use exactlog_core::ids::Partition;
use exactlog_core::state::{AbortedTransaction, MarkKey, PartitionState, Place, State};
use exactlog_storage::error::StorageError;
use exactlog_storage::index::Reader;
use exactlog_storage::journal;
use exactlog_storage::shard::{Options, RecoveryReport, Shard};

use crate::disk::SimDisk;
use crate::ledger::Ledger;
use crate::model::Stored;
use crate::rng::Random;

/// What the next open owes.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    /// At least the first this many commands.
    pub lowest: u64,
    /// At most the first this many.
    pub highest: u64,
    /// The term of the last open that returned. The next one is above, unless the log was closed.
    pub last_term: u32,
    /// Whether closing had begun, so that the open may find the log closed.
    pub closing: bool,
    /// Whether no open has begun since the last command was written. An open that doesn't return may have cut the
    /// end, and its report is lost with it.
    pub untouched: bool,
}

/// Opens a shard. A panic is an error like any other here, with its text.
pub fn open(
    disk: &SimDisk,
    options: &Options,
    seed: u64,
) -> Result<Result<(Shard, RecoveryReport), StorageError>, String> {
    let mut random = Random::new(seed);
    let disk = Arc::new(disk.clone());
    let opened =
        catch_unwind(AssertUnwindSafe(|| Shard::open(disk, options.clone(), &mut || random.number())));
    opened.map_err(|panic| format!("open panicked: {}", panic_text(&*panic)))
}

/// What a panic says.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Checks a shard that was just opened. `image` is the disk as open found it. The lsn that was recovered.
pub fn recovered(
    shard: &Shard,
    report: &RecoveryReport,
    ledger: &Ledger,
    owed: &Owed,
    image: &SimDisk,
) -> Result<u64, String> {
    let lsn = shard.state().lsn;
    if report.last_lsn != lsn {
        return Err(format!("the report says lsn {}, the state {lsn}", report.last_lsn));
    }
    if lsn < owed.lowest {
        return Err(format!("lost: lsn {lsn} was recovered, lsn {} was promised", owed.lowest));
    }
    if lsn > owed.highest {
        return Err(format!("invented: lsn {lsn} was recovered, the last one is {}", owed.highest));
    }
    same_state(&shard.state(), ledger.state(lsn))?;
    records(shard, ledger, lsn)?;
    tables(shard, ledger, lsn)?;
    ids(shard, ledger, lsn)?;
    term(shard, report, ledger, owed, lsn)?;
    tail_was_reported(report, ledger, owed, image, lsn)?;
    Ok(lsn)
}

/// Compares a live state with the one that the same commands made elsewhere.
pub fn same_state(found: &State, expected: &State) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("the state at lsn {} isn't that of the commands:\n  {found:?}\n  {expected:?}", found.lsn))
}

/// Every record is at its offset, byte by byte, and nothing else is there.
pub fn records(shard: &Shard, ledger: &Ledger, lsn: u64) -> Result<(), String> {
    const FETCH_BYTES: usize = 1 << 20;
    let (reader, state) = (shard.reader(), ledger.state(lsn));
    for (topic, entry) in &state.topics {
        for (index, partition) in entry.partitions.iter().enumerate() {
            let at = Partition { topic: *topic, index: index as u32 };
            let bounds = reader.bounds(at);
            if bounds != (partition.start, partition.end) {
                return Err(format!(
                    "{at}: readers see {bounds:?}, not {:?}",
                    (partition.start, partition.end)
                ));
            }
            let compacted = ledger.was_compacted(*topic);
            let stored = ledger.contents.get(&at).map_or(&[][..], Vec::as_slice);
            let expected = stored.iter().take_while(|stored| stored.lsn <= lsn);
            // What was trimmed may be gone or not.
            let mut expected =
                expected.skip_while(|stored| stored.batch.next_offset() <= partition.start).peekable();
            let mut offset = partition.start;
            while offset < partition.end {
                let batches = reader.read(at, offset, FETCH_BYTES);
                let batches = batches.map_err(|error| format!("{at} can't be read at {offset}: {error}"))?;
                if batches.is_empty() {
                    return Err(format!("{at} has no record at {offset}, it ends at {}", partition.end));
                }
                for batch in batches {
                    if compacted {
                        cleaned(&batch, offset, &mut expected)
                            .map_err(|what| format!("{at} at {offset}: {what}"))?;
                        offset = batch.next_offset();
                        continue;
                    }
                    let wanted = expected.next().map(|stored| &stored.batch);
                    if wanted != Some(&batch) {
                        return Err(format!("{at} at {offset}: read {batch:?}, stored was {wanted:?}"));
                    }
                    offset = batch.next_offset();
                }
            }
            if let Some(missing) = expected.next() {
                return Err(format!("{at}: a batch of lsn {} is missing", missing.lsn));
            }
            committed(&reader, ledger, at, partition, compacted, lsn)?;
        }
    }
    Ok(())
}

/// Each key of a table can be read where the index says: its record is there, and is the one that was stored.
pub fn tables(shard: &Shard, ledger: &Ledger, lsn: u64) -> Result<(), String> {
    let (reader, state) = (shard.reader(), ledger.state(lsn));
    let record_at = |batch: &Batch, offset| {
        let mut records = batch.records().map_while(Result::ok);
        records.find(|record| record.offset == offset)
    };
    for (id, table) in state.tables.iter() {
        for (key, place) in table.iter() {
            let Some((at, _)) = state.table_place(id, key) else {
                return Err(format!("a key of table {id} has no partition"));
            };
            let stored = ledger.contents.get(&at).into_iter().flatten();
            let stored =
                stored.filter(|stored| stored.lsn <= lsn).find_map(|it| record_at(&it.batch, place.offset));
            let read = reader.read(at, place.offset, 1);
            let read = read.map_err(|error| format!("{at} can't be read at {}: {error}", place.offset))?;
            let read = read.iter().find_map(|batch| record_at(batch, place.offset));
            let is_right =
                read.as_ref().is_some_and(|read| read.key.as_deref() == Some(key) && read.value.is_some());
            if !is_right || read != stored {
                return Err(format!(
                    "table {id}, key {key:?} at {at} {}: {read:?}, stored was {stored:?}",
                    place.offset
                ));
            }
        }
    }
    Ok(())
}

/// Every id that the runs of the state have is found in their files, where it was seen.
pub fn ids(shard: &Shard, ledger: &Ledger, lsn: u64) -> Result<(), String> {
    let state = ledger.state(lsn);
    let expected: Vec<(MarkKey, Place)> = ledger.runs.marks(state).collect();
    if expected.is_empty() {
        return Ok(());
    }
    let keys: Vec<MarkKey> = expected.iter().map(|(key, _)| *key).collect();
    let manifest = shard.state().dedup.runs().clone();
    let found = shard.runs().look_up(&manifest, &keys).map_err(|error| format!("ids: {error}"))?;
    let mut wanted: Vec<_> = expected.into_iter().map(|(key, place)| (key, Some(place))).collect();
    wanted.sort_unstable();
    let found: Vec<_> = found.iter().map(|(key, found)| (*key, found.map(|it| it.place))).collect();
    if found == wanted {
        return Ok(());
    }
    Err(format!("ids at lsn {lsn}: the runs have {found:?}, not {wanted:?}"))
}

/// A batch of a topic that was compacted has fewer records than what was stored, and nothing else: the same ones at the
/// same offsets, under the same producer.
fn cleaned<'a>(
    batch: &Batch,
    offset: u64,
    expected: &mut std::iter::Peekable<impl Iterator<Item = &'a Stored>>,
) -> Result<(), String> {
    // A hole may have begun below the start.
    if batch.base_offset() > offset {
        return Err(format!("{batch:?} leaves a gap"));
    }
    let mut left: Vec<_> = batch.records().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    while expected.peek().is_some_and(|stored| stored.batch.base_offset() < batch.next_offset()) {
        let stored = &expected.next().expect("it was peeked").batch;
        let of = stored.records().map_while(Result::ok);
        let had = left.len();
        let of: Vec<_> = of.collect();
        left.retain(|record| !of.contains(record));
        let same = (stored.producer(), stored.is_control(), stored.is_transactional(), stored.next_offset());
        let found = (batch.producer(), batch.is_control(), batch.is_transactional(), batch.next_offset());
        if left.len() < had && same != found {
            return Err(format!("read {batch:?}, stored was {stored:?}"));
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("{batch:?} has records that were never stored: {left:?}")),
    }
}

/// Of a topic that was compacted: of each key the last committed record is there, and all without a key. Tombstones
/// may go when their time has passed.
fn latest(wanted: &[Batch], found: &[Batch], state: &PartitionState, time_ms: i64) -> Result<(), String> {
    let records = |batches: &[Batch]| -> Vec<Record> {
        let all = batches.iter().flat_map(|batch| batch.records().map_while(Result::ok));
        all.filter(|record| record.offset >= state.start).collect()
    };
    let (wanted, found) = (records(wanted), records(found));
    if let Some(record) = found.iter().find(|record| !wanted.contains(record)) {
        return Err(format!("readers see {record:?}, which isn't committed"));
    }
    let mut last = BTreeMap::new();
    for (at, record) in wanted.iter().enumerate() {
        let key = record.key.clone().map_or_else(|| Err(at), Ok);
        last.insert(key, record);
    }
    const DELETE_RETENTION_MS: i64 = 86_400_000;
    let may_be_gone = |record: &Record| {
        record.key.is_some() && record.value.is_none() && time_ms >= record.timestamp_ms + DELETE_RETENTION_MS
    };
    match last.into_values().find(|record| !found.contains(record) && !may_be_gone(record)) {
        Some(record) => Err(format!("{record:?} is the last of its key, and readers don't see it")),
        None => Ok(()),
    }
}

/// Readers of committed records get those of committed transactions alone, up to the oldest open one.
fn committed(
    reader: &Reader,
    ledger: &Ledger,
    at: Partition,
    state: &PartitionState,
    compacted: bool,
    lsn: u64,
) -> Result<(), String> {
    const FETCH_BYTES: usize = 3000;
    let Some((wanted, open_at)) = ledger.committed(at, lsn) else { return Ok(()) };
    let wanted = wanted.into_iter().filter(|batch| batch.next_offset() > state.start);
    let wanted: Vec<_> = wanted.cloned().collect();
    let end = open_at.unwrap_or(state.end);
    if state.last_stable_offset() != end {
        return Err(format!("{at}: the last stable offset is {}, not {end}", state.last_stable_offset()));
    }
    let (mut offset, mut found) = (state.start, Vec::new());
    while offset < end {
        let fetched = reader.read_committed(at, state, offset, FETCH_BYTES);
        let fetched = fetched.map_err(|error| format!("{at} can't be read at {offset}: {error}"))?;
        let Some(last) = fetched.batches.last() else {
            return Err(format!("{at} has nothing committed at {offset}, below {end}"));
        };
        offset = last.next_offset();
        // As clients do: the aborted list says whose batches from where on are to be passed over, until the marker.
        let is_aborted = |batch: &Batch| {
            let of = |it: &&AbortedTransaction| batch.producer().is_some_and(|stamp| stamp.id == it.producer);
            let begun = |it: &&AbortedTransaction| it.first_offset <= batch.base_offset();
            let open = |it: &&AbortedTransaction| batch.base_offset() <= it.last_offset;
            let mut of_producer = fetched.aborted.iter().filter(of).filter(begun);
            batch.is_transactional() && of_producer.any(|it| open(&it))
        };
        let shown = fetched.batches.iter().filter(|batch| !batch.is_control() && !is_aborted(batch));
        found.extend(shown.cloned());
    }
    if compacted {
        let time_ms = ledger.state(lsn).time_ms;
        return latest(&wanted, &found, state, time_ms).map_err(|what| format!("{at}: {what}"));
    }
    if found == wanted {
        return Ok(());
    }
    Err(format!("{at}: committed are {wanted:?}, readers see {found:?}"))
}

/// The journal's own reader yields the commands that it still has as they were submitted, each under its term.
pub fn commands(shard: &Shard, ledger: &Ledger, lsn: u64) -> Result<(), String> {
    let failed = |error: StorageError| format!("the journal can't be read: {error}");
    let reader = shard.journal().reader();
    let first_lsn = reader.first_lsn();
    let mut cursor = reader.cursor(first_lsn).map_err(failed)?;
    let entries = ledger.entries[..lsn as usize].iter().enumerate();
    for (index, entry) in entries.skip(first_lsn as usize - 1) {
        let Some(frame) = cursor.next().map_err(failed)? else {
            return Err(format!("the cursor ends before lsn {}", index + 1));
        };
        let encoded = &entry.encoded;
        let bodies: Vec<u8> = encoded.bodies.iter().flat_map(|body| body.iter().copied()).collect();
        let same = frame.lsn == index as u64 + 1
            && frame.term == entry.term
            && (frame.kind, frame.version) == (encoded.kind, encoded.version)
            && frame.head[..] == encoded.head[..]
            && frame.bodies[..] == bodies[..];
        if !same {
            return Err(format!(
                "lsn {}: the journal holds another command, of lsn {}",
                index + 1,
                frame.lsn
            ));
        }
    }
    match cursor.next().map_err(failed)? {
        None => Ok(()),
        Some(frame) => Err(format!("the cursor yields lsn {}, the last one is {lsn}", frame.lsn)),
    }
}

/// The term rises at every open that doesn't find the log closed, and never falls (rules R9, R10).
fn term(
    shard: &Shard,
    report: &RecoveryReport,
    ledger: &Ledger,
    owed: &Owed,
    lsn: u64,
) -> Result<(), String> {
    let term = shard.term();
    if report.clean && !owed.closing {
        return Err("the log is said to have been closed".to_owned());
    }
    let least = owed.last_term + u32::from(!report.clean);
    if term < least {
        return Err(format!("term {term} after term {}, clean: {}", owed.last_term, report.clean));
    }
    let written = ledger.entries[..lsn as usize].iter().map(|entry| entry.term).max().unwrap_or(0);
    if term < written {
        return Err(format!("term {term}, but a command of term {written} is in the log"));
    }
    Ok(())
}

/// If a command is gone and any byte of the group that carried it is on the disk, the report says so (rule R9).
fn tail_was_reported(
    report: &RecoveryReport,
    ledger: &Ledger,
    owed: &Owed,
    image: &SimDisk,
    lsn: u64,
) -> Result<(), String> {
    if report.cut.is_some() || lsn >= owed.highest || !owed.untouched {
        return Ok(());
    }
    let Some(place) = ledger.entries.get(lsn as usize).and_then(|entry| entry.place) else { return Ok(()) };
    let newest = image.files().into_iter().rev().find(|(name, _)| name.ends_with(".journal"));
    let name = journal::file_name(place.generation);
    if newest.is_none_or(|(newest, _)| newest != name) {
        return Ok(());
    }
    let Ok(bytes) = image.read_file(&name) else { return Ok(()) };
    let from = (place.from as usize).min(bytes.len());
    let to = (place.to as usize).min(bytes.len());
    match bytes[from..to].iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => {
            let at = from + at;
            Err(format!(
                "lsn {} was cut without a report, though generation {} has its bytes at {at}",
                lsn + 1,
                place.generation
            ))
        }
    }
}
