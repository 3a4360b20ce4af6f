//! Sessions of Fetch: what a client wants is remembered, and from then on both sides name only what changes (KIP-227).
//!
//! ```text
//!   request with epoch 0 -> open: an id, if there is room -> begin with epoch 1, 2, .. -> go_on: what is told
//!        ^                                                            |
//!        '------ the session is unknown, or its epoch another --------'
//! ```
//!
//! It isn't: who reads. Times and random numbers come in as arguments, and of what was found only that is said which
//! decides whether it is told.
//!
//! Invariants
//!   * a client that keeps to its epochs sees the same as one that names all its partitions each time
//!   * memory is bounded: by sessions, and by what they take together
//!   * of two requests with the same epoch one is taken at most

use crate::code::*;
use exactlog_wire::value::{Str, Uuid};
use std::collections::{BTreeMap, HashMap};

/// The epoch of a request that opens a session.
const OPENS: i32 = 0;
/// The epoch of a request that ends its session, or wants none.
const ENDS: i32 = -1;
/// What a partition of a session takes besides the name of its topic, in bytes.
const PARTITION_BYTES: usize = 256;
/// What a session takes besides its partitions.
const SESSION_BYTES: usize = 512;

/// How many sessions there may be, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `max.incremental.fetch.session.cache.slots`. Default 1000.
    pub(crate) sessions_max: usize,
    /// What all of them take together. Default 64 MiB.
    pub(crate) bytes_max: usize,
    /// Unused for so long, a session goes when another one needs its place; and so old, when a larger one does.
    /// Default 2 minutes.
    pub(crate) evictable_after_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sessions_max: 1000, bytes_max: 64 * 1024 * 1024, evictable_after_ms: 120_000 }
    }
}

/// A partition as clients name it: its topic by name or by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    pub(crate) index: i32,
}

/// What a client wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_epoch: i32,
}

/// What a client is told of a partition besides records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
}

/// What was found in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) has_records: bool,
    /// Something that is told at any rate: an error, or that the client has records that aren't here.
    pub(crate) is_urgent: bool,
    pub(crate) bounds: Bounds,
}

/// What of a request is about its session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Whether topics go by their ids.
    pub(crate) by_ids: bool,
    pub(crate) wanted: Vec<(Place, Wish)>,
    pub(crate) forgotten: Vec<Place>,
}

/// How a request is served, and what is to be read for it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) turn: Turn,
    pub(crate) wanted: Vec<(Place, Wish)>,
}

/// What a request is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has none.
    Alone,
    /// It may get one.
    Opens { by_ids: bool },
    /// It is the one before this epoch.
    GoesOn { id: i32, next_epoch: i32 },
}

/// How many there are, and how much they remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) partitions: u64,
    /// Those that had to go for others, so far.
    pub(crate) evicted: u64,
}

/// All sessions of a node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    settings: Settings,
    sessions: BTreeMap<i32, Session>,
    bytes: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Session {
    /// The one that the next request has to have.
    epoch: i32,
    by_ids: bool,
    created_ms: i64,
    used_ms: i64,
    /// In the order in which they are read: what has just had records comes last.
    partitions: BTreeMap<u64, Remembered>,
    /// Where each is in that order.
    order: HashMap<Place, u64>,
    next_order: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    place: Place,
    wish: Wish,
    /// None: it has to be told.
    told: Option<Bounds>,
}

impl Sessions {
    /// None so far.
    pub(crate) fn new(settings: Settings) -> Sessions {
        Sessions { settings, ..Sessions::default() }
    }

    /// How a request is to be served. What it adds and forgets is done behind this.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR: the client begins anew.
    pub(crate) fn begin(&mut self, now_ms: i64, asked: Asked) -> Result<Begun, i16> {
        let Asked { id, epoch, by_ids, wanted, forgotten } = asked;
        if matches!(epoch, OPENS | ENDS) {
            self.remove(id);
            let turn = if epoch == OPENS { Turn::Opens { by_ids } } else { Turn::Alone };
            return Ok(Begun { turn, wanted });
        }
        let session = self.sessions.get_mut(&id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_ids != by_ids {
            return Err(FETCH_SESSION_TOPIC_ID_ERROR);
        }
        let bytes_before = session.bytes;
        wanted.into_iter().for_each(|(place, wish)| session.want(place, wish, None));
        forgotten.iter().for_each(|place| session.forget(place));
        (session.used_ms, session.epoch) = (now_ms, next(epoch));
        let (bytes, next_epoch) = (session.bytes, session.epoch);
        self.bytes = self.bytes - bytes_before + bytes;
        if self.sessions.get(&id).is_some_and(|session| session.partitions.is_empty()) {
            self.remove(id);
            return Ok(Begun { turn: Turn::Alone, wanted: Vec::new() });
        }
        if bytes > bytes_before && !self.make_room(now_ms, 0, 0, Some(id)) {
            self.evict(id);
            return Err(FETCH_SESSION_ID_NOT_FOUND);
        }
        let session = self.sessions.get(&id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        let wanted = session.partitions.values().map(|it| (it.place.clone(), it.wish)).collect();
        Ok(Begun { turn: Turn::GoesOn { id, next_epoch }, wanted })
    }

    /// Remembers what a client wants and was told: the id of its session, or 0 if there is no room for one. The number
    /// is the id if it can be one; it must not be guessed.
    pub(crate) fn open(
        &mut self,
        now_ms: i64,
        fresh_id: u32,
        by_ids: bool,
        found: impl IntoIterator<Item = (Place, Wish, Found)>,
    ) -> i32 {
        let mut session = Session {
            epoch: next(OPENS),
            by_ids,
            created_ms: now_ms,
            used_ms: now_ms,
            partitions: BTreeMap::new(),
            order: HashMap::new(),
            next_order: 0,
            bytes: SESSION_BYTES,
        };
        for (place, wish, found) in found {
            session.want(place, wish, (!found.is_urgent).then_some(found.bounds));
        }
        if session.partitions.is_empty() || !self.make_room(now_ms, 1, session.bytes, None) {
            return 0;
        }
        let is_free = |id: &i32| *id > 0 && !self.sessions.contains_key(id);
        let from = (fresh_id & i32::MAX as u32) as i32;
        let Some(id) = (from..=i32::MAX).chain(1..from).find(is_free) else { return 0 };
        self.bytes += session.bytes;
        self.sessions.insert(id, session);
        id
    }

    /// Which of the partitions that were read are told: whether each is, in the order in which they come.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH: it has gone, or gone on, while this was read.
    pub(crate) fn go_on<'p>(
        &mut self,
        id: i32,
        next_epoch: i32,
        found: impl IntoIterator<Item = (&'p Place, Found)>,
    ) -> Result<Vec<bool>, i16> {
        let session = self.sessions.get_mut(&id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        match session.epoch == next_epoch {
            true => Ok(found.into_iter().map(|(place, found)| session.tell(place, found)).collect()),
            false => Err(INVALID_FETCH_SESSION_EPOCH),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let partitions = self.sessions.values().map(|session| session.partitions.len() as u64).sum();
        Counts { sessions: self.sessions.len() as u64, partitions, evicted: self.evicted }
    }

    /// Makes room for so many sessions more that take so much together: those go that weren't used for long, then, from
    /// the smallest on, those that are smaller and not new.
    fn make_room(&mut self, now_ms: i64, sessions: usize, bytes: usize, spared: Option<i32>) -> bool {
        let Settings { sessions_max, bytes_max, evictable_after_ms } = self.settings;
        loop {
            let fits = self.sessions.len() + sessions <= sessions_max && self.bytes + bytes <= bytes_max;
            if fits || bytes > bytes_max || sessions > sessions_max {
                return fits;
            }
            let others = || self.sessions.iter().filter(|(id, _)| Some(**id) != spared);
            let is_old = |since_ms: i64| now_ms.saturating_sub(since_ms) > evictable_after_ms;
            let unused = others().filter(|(_, it)| is_old(it.used_ms)).min_by_key(|(_, it)| it.used_ms);
            let smallest = || {
                let smaller = others().filter(|(_, it)| is_old(it.created_ms) && it.bytes < bytes);
                smaller.min_by_key(|(_, it)| it.bytes)
            };
            match unused.or_else(smallest).map(|(id, _)| *id) {
                Some(id) => self.evict(id),
                None => return false,
            }
        }
    }

    fn evict(&mut self, id: i32) {
        self.remove(id);
        self.evicted += 1;
    }

    fn remove(&mut self, id: i32) {
        self.bytes -= self.sessions.remove(&id).map_or(0, |session| session.bytes);
    }
}

impl Session {
    fn want(&mut self, place: Place, wish: Wish, told: Option<Bounds>) {
        if let Some(known) = self.order.get(&place).and_then(|at| self.partitions.get_mut(at)) {
            known.wish = wish;
            return;
        }
        // The name shares its memory with the whole request: one of its own, or that of the partition before.
        let before = self.partitions.last_key_value().map(|(_, it)| &it.place.name);
        let name = match before.filter(|name| **name == place.name) {
            Some(name) => name.clone(),
            None => Str::from(&*place.name),
        };
        let place = Place { name, ..place };
        self.bytes += bytes_of(&place);
        self.order.insert(place.clone(), self.next_order);
        self.partitions.insert(self.next_order, Remembered { place, wish, told });
        self.next_order += 1;
    }

    fn forget(&mut self, place: &Place) {
        if let Some(at) = self.order.remove(place) {
            self.partitions.remove(&at);
            self.bytes -= bytes_of(place);
        }
    }

    /// Whether a partition is told. If it has records it is read last from now on, so that each gets its turn.
    fn tell(&mut self, place: &Place, found: Found) -> bool {
        let at = self.order.get(place).copied();
        let Some(known) = at.and_then(|at| self.partitions.get_mut(&at)) else { return false };
        let is_told = found.has_records || found.is_urgent || known.told != Some(found.bounds);
        // When the error has gone, it has to be told that it has.
        known.told = (!found.is_urgent).then_some(found.bounds);
        if found.has_records
            && let Some(known) = at.and_then(|at| self.partitions.remove(&at))
        {
            self.order.insert(known.place.clone(), self.next_order);
            self.partitions.insert(self.next_order, known);
            self.next_order += 1;
        }
        is_told
    }
}

fn bytes_of(place: &Place) -> usize {
    PARTITION_BYTES + place.name.len()
}

/// From 1 on, and around again: 0 opens a session.
fn next(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests;
