//! Ids of events in the model: two lists, looked through from the start.

use exactlog_core::command::{AtCap, Commit, Dedup, DedupScope, LEASE_MS_MAX, Mark, RunReady};
use exactlog_core::ids::{DedupId, Partition};
use exactlog_core::reply::{Reply, Seen, Sighting};

use super::{DAY_MS, Model, Outcome};

/// What is known of ids.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Seen, in the order in which they were marked.
    pub marks: Vec<Marked>,
    /// Seen and forgotten, as long as others are kept together with them: when they were marked counts on.
    forgotten: Vec<Marked>,
    /// Reserved, also those whose leases are over as long as no `Tick` came.
    pub reservations: Vec<Reserved>,
    ttl_ms: u64,
    entries_max: u64,
    at_cap: AtCap,
    key: Option<[u8; 16]>,
    complete_since_ms: i64,
    /// Runs by their numbers, in the order in which their marks were set, with the ends of their buckets.
    runs: Vec<(i64, u64)>,
    /// What the number of a run has to be above.
    last_run: u64,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids {
            marks: Vec::new(),
            forgotten: Vec::new(),
            reservations: Vec::new(),
            ttl_ms: 7 * DAY_MS,
            entries_max: 100_000_000,
            at_cap: AtCap::Refuse,
            key: None,
            complete_since_ms: i64::MIN,
            runs: Vec::new(),
            last_run: 0,
        }
    }
}

/// An id that was seen.
#[derive(Clone, Debug)]
pub struct Marked {
    /// Its scope.
    pub scope: DedupScope,
    /// The id.
    pub id: DedupId,
    /// Where.
    pub sighting: Sighting,
    marked_ms: i64,
    /// The command that set it.
    lsn: u64,
    /// The run that has it; none: it is in memory.
    run: Option<u64>,
    /// A `Tick` at this time or later forgets it.
    end_ms: i64,
}

/// An id that somebody works on.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// Its scope.
    pub scope: String,
    /// The id.
    pub id: DedupId,
    /// The lsn of its `Reserve`.
    pub lsn: u64,
    until_ms: i64,
}

impl Ids {
    /// The key for hashes, and since when all ids are known.
    #[must_use]
    pub fn settings(&self) -> (Option<[u8; 16]>, i64) {
        (self.key, self.complete_since_ms)
    }

    /// How long a mark stays.
    #[must_use]
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    pub(super) fn set_key(&mut self, key: [u8; 16]) {
        self.key = self.key.or(Some(key));
    }

    pub(super) fn set_limits(&mut self, ttl_ms: u64, entries_max: u64, at_cap: AtCap) {
        (self.ttl_ms, self.entries_max, self.at_cap) = (ttl_ms, entries_max, at_cap);
    }

    pub(super) fn tick(&mut self, now_ms: i64) {
        self.reservations.retain(|it| it.until_ms > now_ms);
        self.marks.retain(|it| it.end_ms > now_ms);
        self.forgotten.retain(|it| it.end_ms > now_ms);
        self.runs.retain(|(end_ms, _)| *end_ms > now_ms);
    }

    /// The rule that users read: a mark stays for the TTL, and to the end of its bucket, a 168th of that.
    fn end_ms(&self, now_ms: i64) -> i64 {
        let bucket_ms = (self.ttl_ms / 168).max(1) as i64;
        let expiry_ms = now_ms + self.ttl_ms as i64;
        (expiry_ms + bucket_ms - 1) / bucket_ms * bucket_ms
    }

    fn check_room(&self, more: usize) -> Result<(), &'static str> {
        let marks = if self.at_cap == AtCap::Refuse { self.marks.len() } else { 0 };
        let entries = (marks + self.reservations.len() + more) as u64;
        if more > 0 && entries > self.entries_max { Err("DedupFull") } else { Ok(()) }
    }

    /// Forgets the marks that would go first, as far as there is no room for more: those of a run, or all that are in
    /// memory of a bucket.
    fn make_room(&mut self, more: usize) {
        while (self.marks.len() + self.reservations.len() + more) as u64 > self.entries_max {
            let Some(first_ms) = self.marks.iter().map(|it| it.end_ms).min() else { return };
            let first = self.runs.iter().position(|(end_ms, _)| *end_ms == first_ms);
            let run = first.map(|at| self.runs.remove(at).1);
            let goes = |it: &Marked| it.end_ms == first_ms && it.run == run;
            let all = self.marks.iter().chain(&self.forgotten);
            let newest_ms = all.filter(|it| goes(it)).map(|it| it.marked_ms).max();
            self.complete_since_ms = self.complete_since_ms.max(newest_ms.expect("one ends first"));
            self.marks.retain(|it| !goes(it));
            self.forgotten.retain(|it| !goes(it));
        }
    }

    /// With the last mark of a run, or of what is in memory of a bucket, what was forgotten of it goes, and the run.
    fn forget(&mut self, at: usize) {
        let mark = self.marks.remove(at);
        self.forgotten.push(mark.clone());
        let is_beside = |it: &Marked| it.end_ms == mark.end_ms && it.run == mark.run;
        if !self.marks.iter().any(is_beside) {
            self.forgotten.retain(|it| !is_beside(it));
            self.runs.retain(|(_, run)| Some(*run) != mark.run);
        }
    }
}

impl Ids {
    /// A run is taken if it has all marks of a bucket that are in memory, or all of runs that follow each other: as
    /// many as it says, and none that was set later than it says.
    fn take_run(&mut self, ready: &RunReady) -> Outcome {
        if ready.run <= self.last_run {
            return Err("RunUnfit");
        }
        let of_bucket: Vec<u64> =
            self.runs.iter().filter(|(end_ms, _)| *end_ms == ready.end_ms).map(|(_, run)| *run).collect();
        if !ready.replaces.is_empty()
            && !of_bucket.windows(ready.replaces.len()).any(|it| it == ready.replaces)
        {
            return Err("RunUnfit");
        }
        let is_in = |it: &Marked| match it.run {
            None => ready.replaces.is_empty(),
            Some(run) => ready.replaces.contains(&run),
        };
        let (is_in, last) = (|it: &Marked| it.end_ms == ready.end_ms && is_in(it), ready.up_to);
        let found = self.marks.iter().filter(|it| is_in(it)).map(|it| it.lsn);
        let (count, newest) = (found.clone().count() as u64, found.max());
        if count != ready.entries || newest.is_none_or(|newest| newest > last) {
            return Err("RunUnfit");
        }
        let all = self.marks.iter_mut().chain(&mut self.forgotten);
        all.filter(|it| is_in(it)).for_each(|it| it.run = Some(ready.run));
        let first = self.runs.iter().position(|(_, run)| ready.replaces.first() == Some(run));
        self.runs.retain(|(_, run)| !ready.replaces.contains(run));
        self.runs.insert(first.unwrap_or(self.runs.len()), (ready.end_ms, ready.run));
        self.last_run = ready.run;
        Ok(Reply::RunTaken { entries: ready.entries })
    }
}

impl Model {
    /// What is known of an id.
    #[must_use]
    pub fn seen(&self, scope: &DedupScope, id: DedupId) -> Seen {
        if let Some(mark) = self.ids.marks.iter().find(|it| it.scope == *scope && it.id == id) {
            return Seen::Done(mark.sighting);
        }
        let is_it = |it: &&Reserved| DedupScope::Named(it.scope.clone()) == *scope && it.id == id;
        match self.ids.reservations.iter().find(is_it).filter(|it| it.until_ms > self.time_ms) {
            Some(it) => Seen::Reserved { reservation: it.lsn, until_ms: it.until_ms },
            None => Seen::Absent,
        }
    }

    pub(super) fn dedup(&mut self, term: u32, request: &Dedup) -> Outcome {
        match request {
            Dedup::Append { sender: (producer, epoch), partition, config_version, ids, batch } => {
                let topic = self.topics.get(&partition.topic).ok_or("UnknownTopic")?;
                if topic.config_version != *config_version {
                    return Err("ConfigChanged");
                }
                let start_offset = self.find(*partition)?.start;
                if ids.len() != batch.record_count() as usize {
                    return Err("Batch");
                }
                self.check_named_sender(*producer, *epoch)?;
                let scope = DedupScope::Topic(partition.topic);
                if ids.iter().any(|id| self.seen(&scope, *id) != Seen::Absent) {
                    return Err("EventsSeen");
                }
                self.check_batch(*partition, batch)?;
                self.ids.check_room(ids.len())?;
                self.ids.make_room(ids.len());
                let base_offset = self.store(term, *partition, batch, None);
                for (offset, id) in (base_offset..).zip(ids) {
                    self.mark(scope.clone(), *id, Sighting::Record { partition: *partition, offset });
                }
                let timestamp_ms = self.shown_ms(*partition, batch);
                Ok(Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: false })
            }
            Dedup::Reserve { scope, id, lease_ms } => {
                if *lease_ms == 0 || *lease_ms > LEASE_MS_MAX {
                    return Err("SettingOutOfBounds");
                }
                self.check_absent(&DedupScope::Named(scope.to_string()), *id)?;
                self.ids.check_room(1)?;
                self.ids.make_room(1);
                self.forget_reservation(scope, *id);
                let (lsn, until_ms) = (self.lsn, self.time_ms + *lease_ms as i64);
                self.ids.reservations.push(Reserved { scope: scope.clone(), id: *id, lsn, until_ms });
                Ok(Reply::Reserved { reservation: lsn, until_ms })
            }
            Dedup::Finish { scope, id, reservation } => {
                let named = DedupScope::Named(scope.clone());
                let own = Sighting::Command { lsn: *reservation };
                if self.seen(&named, *id) != Seen::Done(own) {
                    self.check_owner(&named, *id, *reservation)?;
                    self.mark(named, *id, own);
                }
                Ok(Reply::Finished)
            }
            Dedup::Release { scope, id, reservation } => {
                self.check_owner(&DedupScope::Named(scope.clone()), *id, *reservation)?;
                self.forget_reservation(scope, *id);
                Ok(Reply::Released)
            }
            Dedup::RunReady(ready) => self.ids.take_run(ready),
            Dedup::Forget { scope, id } => match self.seen(scope, *id) {
                Seen::Absent => Ok(Reply::Forgotten { sighting: None }),
                Seen::Reserved { .. } => Err("EventReserved"),
                Seen::Done(sighting) => {
                    let at = self.ids.marks.iter().position(|it| it.scope == *scope && it.id == *id);
                    self.ids.forget(at.expect("it was seen"));
                    Ok(Reply::Forgotten { sighting: Some(sighting) })
                }
            },
        }
    }

    fn check_absent(&self, scope: &DedupScope, id: DedupId) -> Result<(), &'static str> {
        match self.seen(scope, id) {
            Seen::Absent => Ok(()),
            Seen::Reserved { .. } => Err("EventReserved"),
            Seen::Done(_) => Err("EventSeen"),
        }
    }

    fn check_owner(&self, scope: &DedupScope, id: DedupId, lsn: u64) -> Result<(), &'static str> {
        match self.seen(scope, id) {
            Seen::Reserved { reservation, .. } if reservation == lsn => Ok(()),
            _ => Err("ReservationLapsed"),
        }
    }

    pub(super) fn check_marks(&self, commit: &Commit) -> Result<(), &'static str> {
        let mut before = Vec::new();
        let mut more = 0;
        for mark in &commit.marks {
            let (scope, id) = scope_of(mark, commit)?;
            match mark {
                Mark::Named { reservation: Some(reservation), .. } => {
                    if matches!(self.seen(&scope, id), Seen::Done(_)) {
                        return Err("EventSeen");
                    }
                    self.check_owner(&scope, id, *reservation)?;
                }
                _ => {
                    self.check_absent(&scope, id)?;
                    more += 1;
                }
            }
            if before.contains(&(scope.clone(), id)) {
                return Err("EventTwice");
            }
            before.push((scope, id));
        }
        self.ids.check_room(more)
    }

    /// `base_offsets`: of the commit's batches.
    pub(super) fn set_marks(&mut self, commit: &Commit, base_offsets: &[u64]) {
        let is_new = |mark: &&Mark| !matches!(mark, Mark::Named { reservation: Some(_), .. });
        let more = commit.marks.iter().filter(is_new).count();
        if more > 0 {
            self.ids.make_room(more);
        }
        for mark in &commit.marks {
            let (scope, id) = scope_of(mark, commit).expect("it was checked");
            let sighting = match mark {
                Mark::Named { .. } => Sighting::Command { lsn: self.lsn },
                Mark::Event { batch, record, .. } => {
                    let (partition, offset) =
                        (commit.batches[*batch as usize].0, base_offsets[*batch as usize]);
                    Sighting::Record { partition, offset: offset + u64::from(*record) }
                }
            };
            self.mark(scope, id, sighting);
        }
    }

    fn mark(&mut self, scope: DedupScope, id: DedupId, sighting: Sighting) {
        if let DedupScope::Named(name) = &scope {
            self.forget_reservation(name, id);
        }
        let (marked_ms, end_ms) = (self.time_ms, self.ids.end_ms(self.time_ms));
        let lsn = self.lsn;
        self.ids.marks.push(Marked { scope, id, sighting, marked_ms, lsn, run: None, end_ms });
    }

    fn forget_reservation(&mut self, scope: &str, id: DedupId) {
        self.ids.reservations.retain(|it| it.scope != scope || it.id != id);
    }
}

fn scope_of(mark: &Mark, commit: &Commit) -> Result<(DedupScope, DedupId), &'static str> {
    match mark {
        Mark::Named { scope, id, .. } => Ok((DedupScope::Named(scope.to_string()), *id)),
        Mark::Event { id, batch, record } => {
            let found = commit.batches.get(*batch as usize);
            let found = found.filter(|(_, batch)| *record < batch.record_count());
            let (Partition { topic, .. }, _) = found.ok_or("MarkWithoutRecord")?;
            Ok((DedupScope::Topic(*topic), *id))
        }
    }
}
