//! Commands and marks that name ids of events, against what the state knows of them (semantics EM-7, EM-8, ID-11).
//!
//! ```text
//!   AppendIdentified   any id seen: refused, with the places of those -> the sender leaves them out and sends the rest
//!   Commit with marks  any id seen or in progress: nothing is applied
//!   Reserve            absent: reserved -> Finish | Release, by the owner as long as its lease counts
//!   ForgetId           seen: absent again; reserved: refused
//! ```
//!
//! Invariants
//!   * what was seen is known before limits are looked at, as with sequences
//!   * all is checked before anything is changed

use super::dedup::Reservation;
use super::marks::{MarkKey, Place, ScopeKey};
use super::runs::Answers;
use super::topic::{Arrival, appended, check_shape};
use super::{Outcome, State, check_bounds, done};
use crate::batch::{Batch, ProducerStamp};
use crate::command::{Commit, Dedup as Request, LEASE_MS_MAX, Mark, ScopeRef, is_legal_name};
use crate::ids::{DedupId, Partition, ProducerId};
use crate::mutants::{Mutant, on};
use crate::reply::{Placement, Refusal, Reply, Seen, SeenEvent, Sighting};
use std::collections::BTreeSet;

impl State {
    /// What is known of an id: absent, reserved, or seen and where.
    ///
    /// # Panics
    /// If there is a [`question`](State::question) that the answers don't have.
    pub fn seen<'s>(&self, scope: impl Into<ScopeRef<'s>>, id: DedupId, answers: &Answers) -> Seen {
        self.seen_of(self.dedup.key_of(scope.into(), id), answers)
    }

    /// As [`seen`](State::seen), of a key; `None`: nothing is in its scope.
    fn seen_of(&self, key: Option<MarkKey>, answers: &Answers) -> Seen {
        key.map_or(Seen::Absent, |key| self.dedup.seen(&key, self.time_ms, answers))
    }

    pub(super) fn dedup(&mut self, term: u32, request: &Request, answers: &Answers) -> Outcome {
        match request {
            Request::Append { sender, partition, config_version, ids, batch } => {
                let arrival = Arrival { partition: *partition, batch, index: 0, term, txn_seq: 0 };
                self.append_identified(&arrival, *sender, *config_version, ids, answers)
            }
            Request::Reserve { scope, id, lease_ms } => self.reserve(scope, *id, *lease_ms, answers),
            Request::Finish { scope, id, reservation } => {
                self.finish_reservation(scope, *id, *reservation, answers)
            }
            Request::Release { scope, id, reservation } => {
                let key = self.check_reservation(ScopeRef::Named(scope), *id, *reservation)?;
                self.dedup.release(&key);
                done(Reply::Released)
            }
            Request::RunReady(ready) => self.take_run(ready),
            Request::Forget { scope, id } => self.forget(scope.into(), *id, answers),
        }
    }

    fn append_identified(
        &mut self,
        arrival: &Arrival<'_>,
        (id, epoch): (ProducerId, i16),
        config_version: u32,
        ids: &[DedupId],
        answers: &Answers,
    ) -> Outcome {
        let Arrival { partition, batch, .. } = *arrival;
        let start_offset = self.find_at_version(partition, config_version)?.start;
        check_shape(batch)?;
        check_identified(batch, ids)?;
        self.check_producer_epoch(&ProducerStamp { id, epoch, base_sequence: 0 })?;
        let scope = ScopeRef::Topic(partition.topic);
        let seen = |(index, id): (u32, &DedupId)| match self.seen(scope, *id, answers) {
            Seen::Done(sighting) => Some(SeenEvent { index, sighting }),
            _ => None,
        };
        let seen: Vec<SeenEvent> = (0..).zip(ids).filter_map(seen).collect();
        if !seen.is_empty() {
            return Err(Refusal::EventsSeen { seen });
        }
        self.check_room(arrival, batch.record_count() as u64)?;
        self.dedup.check_room(ids.len() as u64)?;
        let placement = self.place_batch(arrival);
        self.dedup.make_room(ids.len() as u64);
        for (at, id) in (placement.base_offset..).zip(ids) {
            let place = Place { at, index: partition.index };
            self.dedup.mark(
                MarkKey { scope: ScopeKey::Topic(partition.topic), id: *id },
                place,
                self.time_ms,
            );
        }
        Ok(appended(placement, batch, start_offset))
    }

    fn reserve(&mut self, scope: &str, id: DedupId, lease_ms: u64, answers: &Answers) -> Outcome {
        let scope = check_scope(scope)?;
        check_bounds("dedup.lease.ms", lease_ms, 1, LEASE_MS_MAX)?;
        as_absent(self.seen(scope, id, answers), scope, id)?;
        self.dedup.check_room(1)?;
        self.dedup.make_room(1);
        let (lsn, until_ms) = (self.lsn, self.time_ms.saturating_add(lease_ms as i64));
        self.dedup.reserve(scope, id, Reservation { lsn, until_ms });
        done(Reply::Reserved { reservation: lsn, until_ms })
    }

    fn finish_reservation(
        &mut self,
        scope: &str,
        id: DedupId,
        reservation: u64,
        answers: &Answers,
    ) -> Outcome {
        let scope = ScopeRef::Named(scope);
        if self.seen(scope, id, answers) == Seen::Done(Sighting::Command { lsn: reservation }) {
            // The same owner again, who has lost the answer.
            return done(Reply::Finished);
        }
        let key = self.check_reservation(scope, id, reservation)?;
        self.dedup.finish(key, reservation, self.time_ms);
        done(Reply::Finished)
    }

    fn forget(&mut self, scope: ScopeRef<'_>, id: DedupId, answers: &Answers) -> Outcome {
        let sighting = match self.seen(scope, id, answers) {
            Seen::Absent => None,
            Seen::Reserved { reservation, until_ms } => {
                return Err(Refusal::EventReserved { scope: scope.to_scope(), id, reservation, until_ms });
            }
            Seen::Done(sighting) => Some(sighting),
        };
        if let Some(key) = self.dedup.key_of(scope, id).filter(|_| sighting.is_some()) {
            let found = if self.dedup.is_question(&key) { answers.of(&key) } else { None };
            self.dedup.forget(key, found);
        }
        done(Reply::Forgotten { sighting })
    }

    /// The key of an id that this reservation still holds.
    fn check_reservation(
        &self,
        scope: ScopeRef<'_>,
        id: DedupId,
        reservation: u64,
    ) -> Result<MarkKey, Refusal> {
        let is_held = |key: &MarkKey| {
            if on(Mutant::D4LapsedOwnerFinishes) {
                return self.dedup.reservation(key).is_some();
            }
            self.dedup.holder(key, self.time_ms).is_some_and(|holder| holder.lsn == reservation)
        };
        let held = self.dedup.key_of(scope, id).filter(is_held);
        held.ok_or(Refusal::ReservationLapsed { scope: scope.to_scope(), id, reservation })
    }

    /// Whether all marks of a commit can be set.
    pub(super) fn check_marks(&self, commit: &Commit, answers: &Answers) -> Result<(), Refusal> {
        let twice = first_twice(commit);
        let (mut last, mut more) = (None, 0);
        for (nth, mark) in commit.marks.iter().enumerate() {
            let (scope, key, id, reservation) = match mark {
                Mark::Event { id, batch, record } => {
                    let found = commit.batches.get(*batch as usize);
                    let found = found.filter(|(_, batch)| *record < batch.record_count());
                    let (partition, _) =
                        found.ok_or(Refusal::MarkWithoutRecord { batch: *batch, record: *record })?;
                    let topic = partition.topic;
                    (ScopeRef::Topic(topic), Some(ScopeKey::Topic(topic)), *id, None)
                }
                Mark::Named { scope, id, reservation } => {
                    let named = ScopeRef::Named(scope);
                    // Of marks that follow each other the name is judged and looked up once.
                    let key = match last {
                        Some((name, key)) if name == scope => key,
                        _ => self.dedup.scope_key(check_scope(scope)?),
                    };
                    last = Some((scope, key));
                    (named, key, *id, *reservation)
                }
            };
            match (self.seen_of(key.map(|scope| MarkKey { scope, id }), answers), reservation) {
                (Seen::Absent | Seen::Reserved { .. }, Some(reservation)) => {
                    self.check_reservation(scope, id, reservation)?;
                }
                (seen, _) => {
                    as_absent(seen, scope, id)?;
                    more += 1;
                }
            }
            if twice == Some(nth) {
                return Err(Refusal::EventTwice { scope: scope.to_scope(), id });
            }
        }
        self.dedup.check_room(more)
    }

    /// Sets the marks of a commit, all of which were checked.
    pub(super) fn set_marks(&mut self, commit: &Commit, placements: &[Placement]) {
        let is_new = |mark: &&Mark| !matches!(mark, Mark::Named { reservation: Some(_), .. });
        let more = commit.marks.iter().filter(is_new).count();
        if more > 0 {
            self.dedup.make_room(more as u64);
        }
        let mut last: Option<(&str, ScopeKey)> = None;
        for mark in &commit.marks {
            match mark {
                Mark::Event { id, batch, record } => {
                    let placement = &placements[*batch as usize];
                    let Partition { topic, index } = placement.partition;
                    let place = Place { at: placement.base_offset + u64::from(*record), index };
                    let key = MarkKey { scope: ScopeKey::Topic(topic), id: *id };
                    self.dedup.mark(key, place, self.time_ms);
                }
                Mark::Named { scope, id, reservation } => {
                    let named = ScopeRef::Named(scope);
                    let held = reservation.and_then(|_| self.dedup.key_of(named, *id));
                    match held {
                        Some(key) => self.dedup.finish(key, self.lsn, self.time_ms),
                        None => {
                            self.dedup.drop_lapsed(named, *id);
                            let known = last.filter(|(name, _)| **name == **scope).map(|(_, key)| key);
                            let key = self.dedup.enter(named, known);
                            last = Some((scope, key));
                            let place = Place { at: self.lsn, index: 0 };
                            self.dedup.mark(MarkKey { scope: key, id: *id }, place, self.time_ms);
                        }
                    }
                }
            }
        }
    }
}

/// Refuses an id that isn't absent.
fn as_absent(seen: Seen, scope: ScopeRef<'_>, id: DedupId) -> Result<(), Refusal> {
    let scope = || scope.to_scope();
    match seen {
        Seen::Absent => Ok(()),
        Seen::Done(sighting) => Err(Refusal::EventSeen { scope: scope(), id, sighting }),
        Seen::Reserved { reservation, until_ms } => {
            Err(Refusal::EventReserved { scope: scope(), id, reservation, until_ms })
        }
    }
}

/// Which mark of a commit is the first whose id another mark of the same scope has, in front of it.
fn first_twice<'c>(commit: &'c Commit) -> Option<usize> {
    let id = |mark: &'c Mark| match mark {
        Mark::Event { id, .. } | Mark::Named { id, .. } => u128::from_le_bytes(id.0),
    };
    let mut ids: Vec<u128> = commit.marks.iter().map(id).collect();
    ids.sort_unstable();
    if ids.windows(2).all(|pair| pair[0] != pair[1]) {
        return None;
    }
    // Equal ids are rare, and may be of several scopes.
    let scope = |mark: &'c Mark| match mark {
        Mark::Event { batch, .. } => {
            commit.batches.get(*batch as usize).map(|(partition, _)| ScopeRef::Topic(partition.topic))
        }
        Mark::Named { scope, .. } => Some(ScopeRef::Named(scope)),
    };
    let mut seen = BTreeSet::new();
    commit.marks.iter().position(|mark| !seen.insert((id(mark), scope(mark))))
}

fn check_scope(name: &str) -> Result<ScopeRef<'_>, Refusal> {
    match is_legal_name(name) {
        true => Ok(ScopeRef::Named(name)),
        false => Err(Refusal::IllegalName { name: name.to_string() }),
    }
}

/// Each record has its own id, which takes the place of a sequence.
fn check_identified(batch: &Batch, ids: &[DedupId]) -> Result<(), Refusal> {
    let what = match () {
        _ if batch.producer().is_some() => "carries a producer id beside the ids of its records",
        _ if ids.len() != batch.record_count() as usize => "has another number of records than of ids",
        _ if ids.iter().collect::<BTreeSet<_>>().len() != ids.len() => "has two records with one id",
        _ => return Ok(()),
    };
    Err(Refusal::Batch { what })
}
