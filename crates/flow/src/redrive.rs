//! Dead letters: looking at them, putting them back, giving them up. Each once, whoever is killed meanwhile.
//!
//! ```text
//!   DEAD -> REDRIVEN     in one commit with what it becomes: a waiting event of its group, or an event of a topic
//!       \-> DISCARDED
//! ```
//!
//! What became of which entry is in the topic's [ledger](crate::ledger).
//!
//! Invariants
//!   * an entry is put back or given up at most once, and only with the commit of what follows

use crate::clock::wall_ms;
use crate::counts::{Counts, counts_key};
use crate::dead_entry::{DeadEntry, EntryState, Origin};
use crate::dead_letter::{REDRIVE_COUNT, REDRIVEN_FROM, is_of_death};
use crate::dedup::named_id;
use crate::error::Error;
use crate::inspect::table_name;
use crate::ledger::{Ended, Ledger};
use crate::parked::{Wait, Waiting, row, row_key, row_prefix};
use bytes::Bytes;
use exactlog::{Log, Producer, Record, RecordHeader, Refusal, Table, Topic, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where dead letters are put back to.
#[derive(Clone, Debug, Default)]
pub enum RedriveTo {
    /// To the group that could not process them, and no other: they wait there as if they had not been tried yet. The
    /// default.
    #[default]
    Group,
    /// To their topic, as new events for all of its groups.
    Origin,
    /// To this topic.
    Topic(Topic),
}

/// What is done with an entry.
#[derive(Clone, Debug)]
enum Deed {
    Redrive(RedriveTo),
    Discard,
}

/// Which entries.
type Filter = Arc<dyn Fn(&DeadEntry) -> bool + Send + Sync>;

/// Whether to go on.
type Progress = Box<dyn FnMut(&Redriven) -> bool + Send>;

/// The dead letters of a topic.
#[derive(Debug)]
pub struct DeadLetters {
    log: Log,
    topic: Topic,
    /// None: nothing was ever put back, and the log is only looked at.
    ledger: Option<Ledger>,
}

impl DeadLetters {
    /// The dead letters in a topic of this name, whoever wrote them.
    ///
    /// # Errors
    /// [`exactlog::Error::NoSuchTopic`].
    pub fn open(log: &Log, topic: &str) -> Result<DeadLetters, Error> {
        let topic = log.open_topic(topic)?;
        let ledger = Ledger::find(log, &topic)?;
        Ok(DeadLetters { log: log.clone(), topic, ledger })
    }

    /// Their topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// How many of them nothing became of yet.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn depth(&self) -> Result<u64, Error> {
        let mut depth = 0;
        for partition in 0..self.topic.partitions() {
            let (start, end) = self.log.bounds(&self.topic, partition)?;
            let (redriven, discarded) = self.ended(partition)?.0.counts_from(start);
            depth += (end - start).saturating_sub(redriven + discarded);
        }
        Ok(depth)
    }

    /// When the oldest one died that nothing became of yet, ms since 1970.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn oldest_ms(&self) -> Result<Option<i64>, Error> {
        let view = self.log.read_view();
        let mut oldest: Option<i64> = None;
        for partition in 0..self.topic.partitions() {
            let ended = self.ended(partition)?.0;
            let (start, _) = self.log.bounds(&self.topic, partition)?;
            // The first one of a partition died first.
            for record in view.records_from(&self.topic, partition, ended.first_from(start)) {
                let record = record?;
                if record.partition != partition {
                    break;
                }
                if ended.state(record.offset) == EntryState::Dead {
                    let died_ms = record.timestamp_ms;
                    oldest = Some(oldest.map_or(died_ms, |oldest| oldest.min(died_ms)));
                    break;
                }
            }
        }
        Ok(oldest)
    }

    /// How many of those that are kept were put back, and how many given up.
    pub(crate) fn ended_counts(&self) -> Result<(u64, u64), Error> {
        let (mut redriven, mut discarded) = (0, 0);
        for partition in 0..self.topic.partitions() {
            let (start, _) = self.log.bounds(&self.topic, partition)?;
            let counts = self.ended(partition)?.0.counts_from(start);
            (redriven, discarded) = (redriven + counts.0, discarded + counts.1);
        }
        Ok((redriven, discarded))
    }

    /// All entries, by partition and offset, also those that have ended. `see` says whether to go on.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn all(&self, mut see: impl FnMut(DeadEntry) -> bool) -> Result<(), Error> {
        let view = self.log.read_view();
        for partition in 0..self.topic.partitions() {
            let ended = self.ended(partition)?.0;
            let (start, _) = self.log.bounds(&self.topic, partition)?;
            for record in view.records_from(&self.topic, partition, start) {
                let record = record?;
                if record.partition != partition {
                    break;
                }
                let state = ended.state(record.offset);
                if !see(DeadEntry::of(record, state)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The entries that nothing became of yet, by partition and offset. `see` says whether to go on.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn each(&self, mut see: impl FnMut(DeadEntry) -> bool) -> Result<(), Error> {
        self.all(|entry| entry.state != EntryState::Dead || see(entry))
    }

    /// Puts them back.
    pub fn redrive(self) -> Redrive {
        Redrive::new(self, Deed::Redrive(RedriveTo::default()))
    }

    /// Gives them up for good. They stay in their topic as long as that keeps them.
    pub fn discard(self) -> Redrive {
        Redrive::new(self, Deed::Discard)
    }

    /// What has ended of a partition, and the version of the row that says so.
    fn ended(&self, partition: u32) -> Result<(Ended, Option<u64>), Error> {
        self.ledger.as_ref().map_or_else(|| Ok((Ended::default(), None)), |ledger| ledger.ended(partition))
    }
}

/// Putting dead letters back, or giving them up: which, where to, how fast.
///
/// Entries that were put back before are left out: running it again goes on where it was.
///
/// ```
/// # use exactlog::{Event, Log, TopicOptions};
/// # use exactlog_flow::{DeadLetters, RedriveTo};
/// # let directory = tempfile::tempdir().unwrap();
/// # let log = Log::open(directory.path()).unwrap();
/// # let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
/// # let dlq = log.create_topic("dlq.orders", TopicOptions::default()).unwrap();
/// # let event = Event::new("order-1", "two chairs").header("__dlq.errors.topic", "orders");
/// # let event = event.header("__dlq.errors.partition", "0").header("__dlq.errors.offset", "7");
/// # log.producer("p").unwrap().blocking_send(&dlq, event.header("dlq-error-class", "Timeout")).unwrap();
/// let letters = || DeadLetters::open(&log, "dlq.orders").unwrap();
/// let timeouts = || letters().redrive().error_class("Timeout").to(RedriveTo::Origin);
/// assert_eq!(timeouts().count().unwrap(), 1); // a dry run
/// assert_eq!(timeouts().blocking_run().unwrap().done, 1);
/// assert_eq!(timeouts().blocking_run().unwrap().done, 0); // each once
/// ```
#[must_use = "run it"]
pub struct Redrive {
    letters: DeadLetters,
    deed: Deed,
    filters: Vec<Filter>,
    most: u64,
    per_second: Option<u32>,
    progress: Option<Progress>,
}

/// What a redrive has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// Entries that were put back, or given up.
    pub done: u64,
    /// Entries that can't be put back there, the first hundred of them with the reason. They stay as they are.
    pub skipped: Vec<(u32, u64, String)>,
    /// How many these are in all.
    pub skipped_count: u64,
}

/// Most entries of one commit, and most bytes of them.
const ENTRIES_MAX: usize = 200;
const BYTES_MAX: usize = 4 << 20;
const SKIPPED_SHOWN: usize = 100;

impl Redrive {
    fn new(letters: DeadLetters, deed: Deed) -> Redrive {
        Redrive { letters, deed, filters: Vec::new(), most: u64::MAX, per_second: None, progress: None }
    }

    /// Where they are put back to.
    pub fn to(mut self, to: RedriveTo) -> Redrive {
        if let Deed::Redrive(before) = &mut self.deed {
            *before = to;
        }
        self
    }

    /// Only those of which this is true, too.
    pub fn filter(mut self, filter: impl Fn(&DeadEntry) -> bool + Send + Sync + 'static) -> Redrive {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Only those that died of this error.
    pub fn error_class(self, class: impl Into<String>) -> Redrive {
        let class = class.into();
        self.filter(move |entry| entry.error_class.as_deref() == Some(&class))
    }

    /// Only this one.
    pub fn entry(self, partition: u32, offset: u64) -> Redrive {
        self.filter(move |entry| (entry.record.partition, entry.record.offset) == (partition, offset))
    }

    /// At most so many.
    pub fn most(mut self, entries: u64) -> Redrive {
        self.most = entries;
        self
    }

    /// At most so many a second.
    pub fn rate(mut self, entries_per_second: u32) -> Redrive {
        self.per_second = Some(entries_per_second.max(1));
        self
    }

    /// Asked behind each commit: false ends it there.
    pub fn progress(mut self, progress: impl FnMut(&Redriven) -> bool + Send + 'static) -> Redrive {
        self.progress = Some(Box::new(progress));
        self
    }

    /// How many entries it is about now: nothing is done.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn count(&self) -> Result<u64, Error> {
        let mut count = 0;
        self.letters.each(|entry| {
            count += u64::from(self.is_meant(&entry));
            count < self.most
        })?;
        Ok(count)
    }

    /// Does it, commit by commit. Killed or cancelled in between it can be run again: what was done stays done.
    ///
    /// # Errors
    /// What the log says; what was done before it is done.
    pub fn blocking_run(mut self) -> Result<Redriven, Error> {
        let topic = self.letters.topic.name().to_string();
        self.letters.ledger = Some(Ledger::create(&self.letters.log, &self.letters.topic)?);
        let mut producer = self.letters.log.producer(&format!("flow.redrive.{topic}"))?;
        let (begin, mut redriven, mut entries_max) = (Instant::now(), Redriven::default(), ENTRIES_MAX);
        let bounds = |partition| self.letters.log.bounds(&self.letters.topic, partition);
        // What dies again meanwhile, or is put back to where it is read, is left for the next run.
        let bounds: Vec<(u64, u64)> =
            (0..self.letters.topic.partitions()).map(bounds).collect::<Result<_, _>>()?;
        for (partition, (start, end)) in (0..).zip(bounds) {
            let mut from = start;
            loop {
                let room = self.most.saturating_sub(redriven.done).min(entries_max as u64);
                let (entries, next) = self.gather(partition, from..end, room)?;
                if entries.is_empty() {
                    break;
                }
                match self.commit(&mut producer, partition, &entries, &mut redriven) {
                    Ok(()) => from = next,
                    // Somebody else has put some of them back, or the group has gone on: look again.
                    Err(Error::Log(exactlog::Error::Refused(Refusal::KeyVersion { .. }))) => continue,
                    // What becomes of them is larger than they are. One that is too large by itself is skipped.
                    Err(Error::Log(exactlog::Error::TransactionTooLarge { .. })) if entries.len() > 1 => {
                        entries_max = entries.len() / 2;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                let goes_on = self.progress.as_mut().is_none_or(|progress| progress(&redriven));
                if !goes_on || redriven.done >= self.most {
                    return Ok(redriven);
                }
                if let Some(per_second) = self.per_second {
                    let due = Duration::from_secs_f64(redriven.done as f64 / f64::from(per_second));
                    std::thread::sleep(due.saturating_sub(begin.elapsed()));
                }
            }
        }
        Ok(redriven)
    }

    /// As [`blocking_run`](Redrive::blocking_run), on a thread that may block.
    ///
    /// # Errors
    /// As [`blocking_run`](Redrive::blocking_run), and [`Error::Aborted`] if the runtime ends.
    ///
    /// # Cancel safety
    /// Dropped while it waits it goes on. End it with [`progress`](Redrive::progress).
    pub async fn run(self) -> Result<Redriven, Error> {
        tokio::task::spawn_blocking(|| self.blocking_run()).await.map_err(|_| Error::Aborted)?
    }

    fn is_meant(&self, entry: &DeadEntry) -> bool {
        self.filters.iter().all(|filter| filter(entry))
    }

    /// The next entries of a partition that are meant, and where to go on behind them.
    fn gather(&self, partition: u32, offsets: Range<u64>, room: u64) -> Result<(Vec<DeadEntry>, u64), Error> {
        let most = usize::try_from(room).unwrap_or(ENTRIES_MAX).min(match self.per_second {
            // Rather often a few than all of a second at once.
            Some(per_second) => (per_second as usize / 10).clamp(1, ENTRIES_MAX),
            None => ENTRIES_MAX,
        });
        let ended = self.letters.ended(partition)?.0;
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, offsets.start);
        let view = self.letters.log.read_view();
        for record in view.records_from(&self.letters.topic, partition, offsets.start) {
            if entries.len() >= most {
                break;
            }
            let record = record?;
            if record.partition != partition || record.offset >= offsets.end {
                break;
            }
            let behind = record.offset + 1;
            let entry = DeadEntry::of(record, ended.state(behind - 1));
            if entry.state == EntryState::Dead && self.is_meant(&entry) {
                bytes += bytes_of(&entry.record);
                if bytes > BYTES_MAX && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
            }
            next = behind;
        }
        Ok((entries, next))
    }

    fn commit(
        &self,
        producer: &mut Producer,
        partition: u32,
        entries: &[DeadEntry],
        redriven: &mut Redriven,
    ) -> Result<(), Error> {
        let ledger = self.letters.ledger.as_ref().expect("it was made when the run began");
        let (mut ended, version) = self.letters.ended(partition)?;
        let mut transaction = producer.begin();
        let (mut done, mut skipped) = (0, Vec::new());
        let mut groups = Groups::default();
        for entry in entries {
            let offset = entry.record.offset;
            if ended.state(offset) != EntryState::Dead {
                continue;
            }
            let refused = match &self.deed {
                Deed::Discard => None,
                Deed::Redrive(to) => match self.put_back(&mut transaction, &mut groups, entry, to) {
                    Err(Error::Log(error)) if is_too_large(&error, entries.len()) => Some(error.to_string()),
                    put_back => put_back?,
                },
            };
            match refused {
                None => {
                    ended.add(offset, matches!(self.deed, Deed::Discard));
                    done += 1;
                }
                Some(reason) => skipped.push((partition, offset, reason)),
            }
        }
        if done > 0 {
            ended.forget_below(self.letters.log.bounds(&self.letters.topic, partition)?.0);
            ledger.write(&mut transaction, partition, &ended, version)?;
            groups.fill(&mut transaction)?;
            transaction.blocking_commit()?;
        }
        redriven.done += done;
        redriven.skipped_count += skipped.len() as u64;
        let room = SKIPPED_SHOWN.saturating_sub(redriven.skipped.len());
        redriven.skipped.extend(skipped.into_iter().take(room));
        Ok(())
    }

    /// Puts one back. Some: why that can't be.
    fn put_back(
        &self,
        transaction: &mut Transaction<'_>,
        groups: &mut Groups,
        entry: &DeadEntry,
        to: &RedriveTo,
    ) -> Result<Option<String>, Error> {
        let log = &self.letters.log;
        let mut record = entry.record.clone();
        let from = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        if let (None, Some(origin)) = (named_id(&record), &entry.origin) {
            let id = format!("{}/{}/{}", origin.topic, origin.partition, origin.offset);
            add_header(&mut record, "message-id", &id);
        }
        let ours = [REDRIVE_COUNT, REDRIVEN_FROM].map(str::as_bytes);
        record.headers.retain(|header| !is_of_death(&header.key) && !ours.contains(&&*header.key));
        add_header(&mut record, REDRIVE_COUNT, &(entry.redrives + 1).to_string());
        add_header(&mut record, REDRIVEN_FROM, &from);
        let topic = match (to, &entry.origin) {
            (RedriveTo::Topic(topic), _) => topic.clone(),
            (_, None) => return Ok(Some("it doesn't say where it comes from".to_string())),
            (_, Some(origin)) => match log.open_topic(&origin.topic) {
                Ok(topic) => topic,
                Err(error @ exactlog::Error::NoSuchTopic { .. }) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error.into()),
            },
        };
        match (to, &entry.origin) {
            (RedriveTo::Group, Some(origin)) => groups.wait(log, transaction, record, origin, &topic),
            _ => {
                transaction.forward(&topic, &record)?;
                Ok(None)
            }
        }
    }
}

/// Counts of groups whose dead letters wait again.
#[derive(Debug, Default)]
struct Groups {
    counts: BTreeMap<(String, String), (Table, Counts, Option<u64>)>,
    /// Rows that this commit writes, with the group: a second letter of the same death would be counted twice.
    rows: BTreeSet<(String, String)>,
}

impl Groups {
    /// The event of a dead letter becomes one that waits. Some: why that can't be.
    fn wait(
        &mut self,
        log: &Log,
        transaction: &mut Transaction<'_>,
        mut record: Record,
        origin: &Origin,
        topic: &Topic,
    ) -> Result<Option<String>, Error> {
        let Some(group) = &origin.group else { return Ok(Some("it names no group".to_string())) };
        if origin.topic_id.is_some_and(|id| id != topic.id().0) {
            return Ok(Some(format!("topic {:?} was deleted and made anew since", origin.topic)));
        }
        if origin.partition >= topic.partitions() {
            return Ok(Some(format!("topic {:?} has no partition {}", origin.topic, origin.partition)));
        }
        let place = (group.clone(), counts_key(topic, origin.partition));
        if !self.counts.contains_key(&place) {
            let table = match log.table(&table_name(group)) {
                Ok(table) => table,
                Err(exactlog::Error::NoSuchTable { .. }) => {
                    return Ok(Some(format!("group {group:?} has no processor that could take it")));
                }
                Err(error) => return Err(error.into()),
            };
            let (counts, version) = Counts::of(&table, &place.1, table.get(&place.1)?)?;
            self.counts.insert(place.clone(), (table, counts, version));
        }
        let Some((table, counts, _)) = self.counts.get_mut(&place) else { return Ok(None) };
        let key = row_key(&row_prefix(topic, origin.partition), origin.offset);
        let row_of = (group.clone(), key.clone());
        if counts.dead == 0 || self.rows.contains(&row_of) || table.version(&key)?.is_some() {
            return Ok(Some(format!("group {group:?} has no dead event there")));
        }
        (record.topic, record.partition, record.offset) =
            (topic.name().into(), origin.partition, origin.offset);
        record.timestamp_ms = origin.timestamp_ms.unwrap_or(record.timestamp_ms);
        let now_ms = wall_ms();
        let wait = Wait { waiting: Waiting::Held, attempts: 0, due_ms: now_ms, first_failed_ms: None };
        transaction.expect_version(table, key.clone(), None);
        transaction.put(table, key, row(&record, &wait, None, now_ms))?;
        counts.dead -= 1;
        self.rows.insert(row_of);
        Ok(None)
    }

    fn fill(&self, transaction: &mut Transaction<'_>) -> Result<(), Error> {
        for ((_, key), (table, counts, version)) in &self.counts {
            transaction.expect_version(table, key.clone(), *version);
            transaction.put_json(table, key.clone(), counts)?;
        }
        Ok(())
    }
}

/// Whether an entry can't be put back there however few go with it: it is one of so many of a transaction.
fn is_too_large(error: &exactlog::Error, entries: usize) -> bool {
    match error {
        exactlog::Error::EventTooLarge { .. } => true,
        exactlog::Error::TransactionTooLarge { .. } => entries == 1,
        _ => false,
    }
}

/// About how large a record is, with its headers.
fn bytes_of(record: &Record) -> usize {
    let header = |it: &RecordHeader| it.key.len() + it.value.as_ref().map_or(0, Bytes::len);
    record.key().len() + record.value().len() + record.headers.iter().map(header).sum::<usize>()
}

fn add_header(record: &mut Record, name: &'static str, value: &str) {
    let (key, value) = (Bytes::from_static(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())));
    record.headers.push(RecordHeader { key, value });
}
