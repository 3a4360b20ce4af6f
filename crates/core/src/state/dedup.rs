//! Ids of events: each has its effects once within a window (semantics EM-7, EM-8).
//!
//! ```text
//!   Absent --Reserve--> Reserved(lsn, until) --Finish, Commit--> Done(place) --Tick--> Absent
//!   Absent --Commit, AppendIdentified--------------------------> Done(place)
//!                       Reserved --Release, the lease ends-----> Absent
//!   Done --ForgetId------------------------------------------> Absent
//! ```
//!
//! A mark stays for the whole TTL, and to the end of its bucket, a 168th of the TTL: an hour of the default's week.
//! Here is what is known; the commands that ask are in `identified`, and how marks are kept is in `marks`.
//!
//! Invariants
//!   * an id is reserved or done, never both, and who isn't the owner by its lsn changes neither
//!   * a lease counts as long as it ends behind the state's time, whether a `Tick` came or not
//!   * nothing is forgotten before its time but at the cap, if that was asked for; since when all is known is state
//!   * the key for hashes never changes

use super::marks::{ChunkPiece, MarkKey, Marks, Place, ScopeKey, Taken};
use super::runs::{Answers, ForgottenMark, Found, Manifest};
use super::{DAY_MS, SETTING_MS_MAX, check_bounds};
use crate::command::{AtCap, ScopeRef};
use crate::ids::DedupId;
use crate::mutants::{Mutant, on};
use crate::reply::{Refusal, Seen};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the state knows of ids of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedup {
    head: Head,
    /// The scopes by name.
    numbers: BTreeMap<String, u32>,
    /// The reservations, by the ends of their leases.
    leases: BTreeSet<(i64, MarkKey)>,
    /// In memory.
    marks: Marks,
    /// What lies on disk: shared with the shell, which sees by that whether it has changed.
    runs: Arc<Manifest>,
}

/// All but the marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    key: Option<[u8; 16]>,
    limits: DedupLimits,
    complete_since_ms: i64,
    scopes: BTreeMap<u32, NamedScope>,
    reservations: BTreeMap<MarkKey, Reservation>,
}

impl Default for Head {
    fn default() -> Self {
        Head {
            key: None,
            limits: DedupLimits::default(),
            complete_since_ms: i64::MIN,
            scopes: BTreeMap::new(),
            reservations: BTreeMap::new(),
        }
    }
}

/// How long and how many ids are remembered, changed by `Config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupLimits {
    /// How long a mark stays at least, in ms.
    pub ttl_ms: u64,
    /// How many ids are marked or reserved at once.
    pub entries_max: u64,
    /// What a new id meets when so many are there.
    pub at_cap: AtCap,
}

impl Default for DedupLimits {
    fn default() -> Self {
        DedupLimits { ttl_ms: 7 * DAY_MS, entries_max: 100_000_000, at_cap: AtCap::default() }
    }
}

/// A scope that has a name, as long as anything is in it. Its number is given out again afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NamedScope {
    name: String,
    entries: u64,
}

/// An id that somebody works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reservation {
    /// Of the `Reserve`: who has it is the owner.
    pub(super) lsn: u64,
    pub(super) until_ms: i64,
}

/// A part of [`Dedup`] as checkpoints have it. Order and types of the fields are a format (docs/FORMAT.md, "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupPiece(Piece);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Head(Box<Head>),
    Marks(ChunkPiece),
    /// What lies on disk, if there ever was any.
    Runs(Box<Manifest>),
    /// What of that doesn't count any more, if there is any.
    Forgotten(Vec<ForgottenMark>),
}

/// Buckets in a TTL.
const BUCKETS: u64 = 168;

/// Chunks and runs of marks that one `Tick` gives up at most: what is left is due at once.
const CHUNKS_PER_TICK: usize = 64;

/// No more entries than this can be asked for: there are more numbers for scopes.
const ENTRIES_MAX: u64 = 1 << 31;

impl Dedup {
    /// The key for hashes of ids, once there is one.
    pub fn key(&self) -> Option<[u8; 16]> {
        self.head.key
    }

    /// How long and how many ids are remembered.
    pub fn limits(&self) -> DedupLimits {
        self.head.limits
    }

    /// How many ids are marked as done.
    pub fn marked(&self) -> u64 {
        self.marks.count() + self.runs.entries()
    }

    /// How many of them are in memory.
    pub fn in_memory(&self) -> u64 {
        self.marks.count()
    }

    /// The runs, which have the others. Whoever holds on to it sees by its address whether it has changed.
    pub fn runs(&self) -> &Arc<Manifest> {
        &self.runs
    }

    pub(super) fn runs_mut(&mut self) -> &mut Manifest {
        Arc::make_mut(&mut self.runs)
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Takes marks out of memory that a run has now.
    pub(super) fn take_rolled(&mut self, end_ms: i64, entries: u64) -> Vec<Taken> {
        self.marks.take(end_ms, entries)
    }

    /// How many ids are reserved.
    pub fn reserved(&self) -> u64 {
        self.head.reservations.len() as u64
    }

    /// Every id that was marked behind this time, ms since 1970, is known until its own time is over; `i64::MIN`: none
    /// was ever given up early.
    pub fn complete_since_ms(&self) -> i64 {
        self.head.complete_since_ms
    }

    /// Its parts, for a checkpoint; none if it is as in a new log.
    pub fn pieces(&self) -> impl Iterator<Item = DedupPiece> + '_ {
        let has_runs = !self.runs.is_untouched();
        let is_new = self.head == Head::default() && self.marks.count() == 0 && !has_runs;
        let head = (!is_new).then(|| Piece::Head(Box::new(self.head.clone())));
        let runs = has_runs.then(|| Piece::Runs(Box::new(Manifest::clone(&self.runs))));
        let forgotten = self.runs.forgotten();
        let forgotten = (!forgotten.is_empty()).then_some(Piece::Forgotten(forgotten));
        let before = head.into_iter().chain(runs).chain(forgotten);
        before.chain(self.marks.pieces().map(Piece::Marks)).map(DedupPiece)
    }

    /// Takes all marks out that are in memory, for whoever reckons what a state takes; how many these were.
    pub fn take_marks(&mut self) -> u64 {
        std::mem::take(&mut self.marks).count()
    }

    /// Whether ids were forgotten in such a way that its parts aren't those of a state in which nobody could.
    pub fn has_gaps(&self) -> bool {
        self.marks.has_gaps() || self.runs.runs().any(|(_, run)| run.has_gaps())
    }

    /// Takes a part back in, in the order in which [`pieces`](Dedup::pieces) gave it.
    ///
    /// # Errors
    /// What contradicts the parts before it.
    pub fn restore(&mut self, piece: DedupPiece) -> Result<(), String> {
        match piece.0 {
            Piece::Head(head) if *self == Dedup::default() => {
                self.numbers = head.scopes.iter().map(|(number, it)| (it.name.clone(), *number)).collect();
                self.leases = head.reservations.iter().map(|(key, it)| (it.until_ms, *key)).collect();
                self.head = *head;
                Ok(())
            }
            Piece::Head(_) => Err("what is known of ids begins twice".into()),
            Piece::Marks(chunk) if chunk.keys().any(|key| self.head.reservations.contains_key(key)) => {
                Err("an id is reserved and seen".into())
            }
            Piece::Marks(chunk) => self.marks.restore(chunk),
            Piece::Runs(_) if !self.runs.is_untouched() => Err("the runs of marks are named twice".into()),
            Piece::Runs(runs) => {
                runs.check()?;
                self.runs = Arc::from(runs);
                Ok(())
            }
            Piece::Forgotten(marks) => self.runs_mut().restore_forgotten(marks),
        }
    }

    pub(super) fn next_deadline_ms(&self) -> i64 {
        let lease_ms = self.leases.first().map(|(until_ms, _)| *until_ms);
        lease_ms.into_iter().chain(self.first_end_ms()).min().unwrap_or(i64::MAX)
    }

    /// End of the bucket that expires first.
    fn first_end_ms(&self) -> Option<i64> {
        self.marks.first_end_ms().into_iter().chain(self.runs.first_end_ms()).min()
    }

    /// What is due by now goes.
    pub(super) fn tick(&mut self, now_ms: i64) {
        while let Some((until_ms, key)) = self.leases.first().copied() {
            if until_ms > now_ms || on(Mutant::D1LeaseForever) {
                break;
            }
            self.release(&key);
        }
        for _ in 0..CHUNKS_PER_TICK {
            if self.first_end_ms().is_none_or(|end_ms| end_ms > now_ms) {
                break;
            }
            self.give_up_first();
        }
    }

    /// Sets the limits for what is marked from here on.
    pub(super) fn set_limits(&mut self, limits: DedupLimits) -> Result<(), Refusal> {
        check_bounds("dedup.ttl.ms", limits.ttl_ms, 1, SETTING_MS_MAX)?;
        check_bounds("dedup.entries.max", limits.entries_max, 1, ENTRIES_MAX)?;
        self.head.limits = limits;
        Ok(())
    }

    /// Sets the key for hashes; a later one changes nothing.
    pub(super) fn set_key(&mut self, key: [u8; 16]) {
        self.head.key.get_or_insert(key);
    }

    /// Gives up what expires first: of a bucket the runs, which have what was marked first, then what is in memory.
    fn give_up_first(&mut self) -> i64 {
        let first_ms = self.first_end_ms();
        if self.runs.first_end_ms() == first_ms
            && let Some(run) = self.runs_mut().give_up_first()
        {
            run.scopes.iter().for_each(|(number, count)| self.left(ScopeKey::Named(*number), *count));
            return run.newest_ms;
        }
        let Some((newest_ms, marks)) = self.marks.give_up_first() else { return i64::MIN };
        marks.iter().for_each(|(key, _)| self.left(key.scope, 1));
        newest_ms
    }

    /// The lease of a key that has one ends.
    fn unreserve(&mut self, key: &MarkKey) {
        if let Some(reservation) = self.head.reservations.remove(key) {
            self.leases.remove(&(reservation.until_ms, *key));
        }
    }

    /// Some ids left a scope; with the last of them a name goes.
    fn left(&mut self, scope: ScopeKey, count: u64) {
        let ScopeKey::Named(number) = scope else { return };
        let Some(scope) = self.head.scopes.get_mut(&number) else { return };
        scope.entries = scope.entries.saturating_sub(count);
        if scope.entries == 0 {
            self.numbers.remove(&scope.name);
            self.head.scopes.remove(&number);
        }
    }

    pub(super) fn key_of(&self, scope: ScopeRef<'_>, id: DedupId) -> Option<MarkKey> {
        self.scope_key(scope).map(|scope| MarkKey { scope, id })
    }

    /// `None`: nothing is in it.
    pub(super) fn scope_key(&self, scope: ScopeRef<'_>) -> Option<ScopeKey> {
        match scope {
            ScopeRef::Topic(topic) => Some(ScopeKey::Topic(topic)),
            ScopeRef::Named(name) => self.numbers.get(name).copied().map(ScopeKey::Named),
        }
    }

    /// The scope of an id that is about to be marked or reserved: a name gets a number. `known`: its key, if the caller
    /// has it from an id that is in it.
    pub(super) fn enter(&mut self, scope: ScopeRef<'_>, known: Option<ScopeKey>) -> ScopeKey {
        let name = match scope {
            ScopeRef::Topic(topic) => return ScopeKey::Topic(topic),
            ScopeRef::Named(name) => name,
        };
        let number = match known.or_else(|| self.scope_key(scope)) {
            Some(ScopeKey::Named(number)) => number,
            _ => self.free_number(),
        };
        let scope = self.head.scopes.entry(number).or_insert_with(|| {
            self.numbers.insert(name.to_string(), number);
            NamedScope { name: name.to_string(), entries: 0 }
        });
        scope.entries += 1;
        ScopeKey::Named(number)
    }

    /// A number that no scope has.
    fn free_number(&self) -> u32 {
        let scopes = &self.head.scopes;
        let behind = scopes.last_key_value().map_or(Some(0), |(last, _)| last.checked_add(1));
        let gap =
            || (0..).zip(scopes.keys()).find(|(number, used)| number != *used).map(|(number, _)| number);
        behind.or_else(gap).expect("there are fewer entries than numbers, and no scope is empty")
    }

    /// The owner of an id, if its lease still counts.
    pub(super) fn holder(&self, key: &MarkKey, now_ms: i64) -> Option<Reservation> {
        let found = self.head.reservations.get(key).copied();
        found.filter(|it| it.until_ms > now_ms || on(Mutant::D1LeaseForever))
    }

    /// Whether only the runs can tell if an id is marked: it isn't in memory, and a reserved one is none.
    pub(super) fn is_question(&self, key: &MarkKey) -> bool {
        self.runs_may_have(key) && self.marks.find(key).is_none()
    }

    fn runs_may_have(&self, key: &MarkKey) -> bool {
        !self.runs.is_empty() && !self.head.reservations.contains_key(key)
    }

    pub(super) fn seen(&self, key: &MarkKey, now_ms: i64, answers: &Answers) -> Seen {
        let found = self.marks.find(key);
        let is_question = found.is_none() && self.runs_may_have(key);
        if let Some(place) = if is_question { answers.of(key).map(|found| found.place) } else { found } {
            return Seen::Done(key.sighting(place));
        }
        match self.holder(key, now_ms) {
            Some(Reservation { lsn, until_ms }) => Seen::Reserved { reservation: lsn, until_ms },
            None => Seen::Absent,
        }
    }

    /// The mark of a key doesn't count any more. `found`: the run that has it, if it isn't in memory.
    pub(super) fn forget(&mut self, key: MarkKey, found: Option<Found>) {
        match found {
            Some(found) => self.runs_mut().forget(key, found),
            None => self.marks.forget(&key),
        }
        self.left(key.scope, 1);
    }

    /// Whoever has reserved an id, also if its lease is over and no `Tick` has come.
    pub(super) fn reservation(&self, key: &MarkKey) -> Option<Reservation> {
        self.head.reservations.get(key).copied()
    }

    /// Reserves an id that is absent.
    pub(super) fn reserve(&mut self, scope: ScopeRef<'_>, id: DedupId, reservation: Reservation) {
        self.drop_lapsed(scope, id);
        let key = MarkKey { scope: self.enter(scope, None), id };
        self.head.reservations.insert(key, reservation);
        self.leases.insert((reservation.until_ms, key));
    }

    /// An id that is absent may still have a reservation, whose lease is over.
    pub(super) fn drop_lapsed(&mut self, scope: ScopeRef<'_>, id: DedupId) {
        if self.head.reservations.is_empty() {
            return;
        }
        if let Some(key) = self.key_of(scope, id).filter(|key| self.head.reservations.contains_key(key)) {
            self.release(&key);
        }
    }

    /// Ends a reservation.
    pub(super) fn release(&mut self, key: &MarkKey) {
        self.unreserve(key);
        self.left(key.scope, 1);
    }

    /// Whether so many ids more can be remembered.
    pub(super) fn check_room(&self, more: u64) -> Result<(), Refusal> {
        let DedupLimits { entries_max, at_cap, .. } = self.head.limits;
        let stays = match at_cap {
            AtCap::Refuse => self.marked() + self.reserved(),
            AtCap::Shorten => self.reserved(),
        };
        // The cap may have been lowered: who needs no room isn't refused for that.
        match more == 0 || stays + more <= entries_max {
            true => Ok(()),
            false => Err(Refusal::DedupFull { entries: stays, more, max: entries_max }),
        }
    }

    /// Makes the room that [`check_room`](Dedup::check_room) has found.
    pub(super) fn make_room(&mut self, more: u64) {
        while self.marked() > 0 && self.marked() + self.reserved() + more > self.head.limits.entries_max {
            let newest_ms = self.give_up_first();
            self.head.complete_since_ms = self.head.complete_since_ms.max(newest_ms);
        }
    }

    /// When a mark of now expires: at the end of its bucket.
    pub(super) fn end_ms(&self, now_ms: i64) -> i64 {
        let ttl_ms = self.head.limits.ttl_ms;
        let ttl_ms = if on(Mutant::D3MarkExpiresEarly) { ttl_ms / 2 } else { ttl_ms };
        let expiry_ms = now_ms.saturating_add(ttl_ms as i64);
        let bucket_ms = (ttl_ms / BUCKETS).max(1) as i64;
        match expiry_ms.rem_euclid(bucket_ms) {
            0 => expiry_ms,
            rest => expiry_ms.saturating_add(bucket_ms - rest),
        }
    }

    /// Marks an id that is absent and has [entered](Dedup::enter) its scope.
    pub(super) fn mark(&mut self, key: MarkKey, place: Place, now_ms: i64) {
        let end_ms = self.end_ms(now_ms);
        self.marks.add(key, place, now_ms, end_ms);
    }

    /// Marks an id that is reserved.
    pub(super) fn finish(&mut self, key: MarkKey, lsn: u64, now_ms: i64) {
        self.unreserve(&key);
        let end_ms = self.end_ms(now_ms);
        self.marks.add(key, Place { at: lsn, index: 0 }, now_ms, end_ms);
    }
}
