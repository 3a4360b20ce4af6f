//! Room: memory that all connections share, for requests or for answers.
//!
//! ```text
//!   take -> a share of its own connection's part -> of the half for large pieces, if it is one
//!        -> of three quarters, unless it is a small one -> of all
//! ```
//!
//! Invariants
//!   * what is taken is no more than there is
//!   * large pieces have half of it together, so that others always find the other half; one that is longer than that
//!     counts as half of it, and is the only large one
//!   * all but small ones have three quarters together, and stand in a line of their own: small ones wait for small
//!     ones alone
//!   * a share is given back when it is dropped, and whoever waits comes in his order

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted in.
const UNIT_BYTES: usize = 1024;
/// A piece is large if it takes more than this part of everything.
const LARGE_PART: u32 = 16;
/// A piece is small if it takes no more than this part of everything, or than so many units.
const SMALL_PART: u32 = 256;
const SMALL_UNITS: u32 = 64;
/// The part of everything that one connection may hold; a longer piece it holds alone.
const OWN_PART: u32 = 8;

/// Memory that is shared.
#[derive(Debug)]
pub(crate) struct Room {
    all: Pool,
    large: Pool,
    not_small: Pool,
    waiting: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Pool {
    units: u32,
    free: Arc<Semaphore>,
}

/// What a connection may hold of it.
#[derive(Clone, Debug)]
pub(crate) struct Own(Pool);

/// What somebody holds.
#[derive(Debug)]
pub(crate) struct Share {
    all: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
    not_small: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
}

/// Somebody waits, until this is dropped.
struct Waiting<'r>(&'r AtomicUsize);

impl Room {
    /// Of so many bytes.
    pub(crate) fn new(bytes: usize) -> Room {
        let units = units_of(bytes);
        Room {
            all: Pool::new(units),
            large: Pool::new(units / 2),
            not_small: Pool::new(units - units / 4),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A connection's part of it.
    pub(crate) fn own(&self) -> Own {
        Own(Pool::new(self.all.units / OWN_PART))
    }

    /// Room for a piece, waited for if there is none.
    ///
    /// # Cancel safety
    /// Dropped, it holds nothing; its place among those who wait is lost.
    pub(crate) async fn take(&self, own: Option<&Own>, bytes: usize) -> Share {
        let units = units_of(bytes);
        let own = match own {
            Some(own) => Some(own.0.take(units).await),
            None => None,
        };
        Share { _own: own, ..self.take_as(units, self.is_small(units)).await }
    }

    async fn take_as(&self, units: u32, is_small: bool) -> Share {
        // Who waits for himself keeps nobody from anything.
        let _waiting = Waiting::new(&self.waiting);
        let (units, large) = match self.is_large(units) {
            true => (units.min(self.large.units), Some(self.large.take(units).await)),
            false => (units, None),
        };
        let not_small = match is_small {
            true => None,
            false => Some(self.not_small.take(units).await),
        };
        Share { all: self.all.take(units).await, _large: large, not_small, _own: None }
    }

    /// Room for so much if there is as much at once, else for the least that helps: [`Share::bytes`] says which. Who
    /// wants much stands in the line of those who do, however little it is that he waits for.
    ///
    /// # Cancel safety
    /// As [`take`](Room::take).
    pub(crate) async fn take_up_to(&self, bytes: usize, least: usize) -> Share {
        match self.try_take(bytes) {
            Some(share) => share,
            None => self.take_as(units_of(least.min(bytes)), self.is_small(units_of(bytes))).await,
        }
    }

    fn try_take(&self, bytes: usize) -> Option<Share> {
        let units = units_of(bytes);
        let (units, large) = match self.is_large(units) {
            true => (units.min(self.large.units), Some(self.large.try_take(units)?)),
            false => (units, None),
        };
        let not_small = match self.is_small(units) {
            true => None,
            false => Some(self.not_small.try_take(units)?),
        };
        Some(Share { all: self.all.try_take(units)?, _large: large, not_small, _own: None })
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What is held, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        (self.all.units as usize).saturating_sub(self.all.free.available_permits()) * UNIT_BYTES
    }

    fn is_large(&self, units: u32) -> bool {
        units > self.all.units / LARGE_PART
    }

    fn is_small(&self, units: u32) -> bool {
        units <= (self.all.units / SMALL_PART).max(SMALL_UNITS)
    }
}

impl Pool {
    fn new(units: u32) -> Pool {
        let units = units.max(1);
        Pool { units, free: Arc::new(Semaphore::new(units as usize)) }
    }

    async fn take(&self, units: u32) -> OwnedSemaphorePermit {
        let units = units.min(self.units);
        self.free.clone().acquire_many_owned(units).await.expect("a room is never closed")
    }

    fn try_take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_many_owned(units.min(self.units)).ok()
    }
}

impl Share {
    /// How much it is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.all.num_permits() * UNIT_BYTES
    }

    /// Gives back what isn't needed. What is large stays so.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let spare = self.all.num_permits().saturating_sub(units_of(bytes) as usize);
        drop(self.all.split(spare));
        if let Some(not_small) = &mut self.not_small {
            drop(not_small.split(spare));
        }
    }
}

impl Waiting<'_> {
    fn new(waiting: &AtomicUsize) -> Waiting<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn units_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    const KIB: usize = 1024;

    /// Its share if there is room at once.
    fn taken(room: &Room, own: Option<&Own>, bytes: usize) -> Option<Share> {
        let mut take = std::pin::pin!(room.take(own, bytes));
        match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(share) => Some(share),
            Poll::Pending => None,
        }
    }

    #[test]
    fn large_pieces_leave_half_of_it_to_others() {
        let room = Room::new(160 * KIB);
        let large = [taken(&room, None, 40 * KIB).unwrap(), taken(&room, None, 40 * KIB).unwrap()];
        assert!(taken(&room, None, 11 * KIB).is_none(), "all large ones have their half");
        let small: Vec<Share> = (0..8).map(|_| taken(&room, None, 10 * KIB).unwrap()).collect();
        assert_eq!((room.held_bytes(), taken(&room, None, 1).is_none()), (160 * KIB, true));
        drop(large);
        let longest = taken(&room, None, 1000 * KIB).unwrap();
        assert_eq!(longest.bytes(), 80 * KIB);
        drop(small);
        assert!(taken(&room, None, 11 * KIB).is_none(), "it is the only large one");
        assert!(taken(&room, None, 10 * KIB).is_some());
    }

    /// Pieces of a megabyte and more could be held until nobody else was served, and those who waited for some stood in
    /// front of everybody.
    #[test]
    fn small_pieces_find_room_whatever_others_hold_and_wait_for() {
        let room = Room::new(16 * 1024 * KIB);
        let not_small: Vec<Share> = (0..12).map(|_| taken(&room, None, 1024 * KIB).unwrap()).collect();
        let mut waits = std::pin::pin!(room.take(None, 1024 * KIB));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert!(room.is_short());
        let small: Vec<Share> = (0..64).map(|_| taken(&room, None, 64 * KIB).unwrap()).collect();
        assert!(taken(&room, None, 64 * KIB).is_none(), "all of it is taken");
        drop(not_small);
        assert!(waits.as_mut().poll(&mut context).is_ready());
        drop(small);
        // What one gives back is there for others like it.
        let mut shrunk: Vec<Share> = (0..12).map(|_| taken(&room, None, 1024 * KIB).unwrap()).collect();
        shrunk.iter_mut().for_each(|share| share.shrink_to(512 * KIB));
        assert!(taken(&room, None, 6 * 1024 * KIB).is_some());
    }

    #[test]
    fn who_waits_for_his_own_part_makes_it_short_for_nobody() {
        let room = Room::new(160 * KIB);
        let own = room.own();
        let _held = taken(&room, Some(&own), 20 * KIB).unwrap();
        let mut waits = std::pin::pin!(room.take(Some(&own), 10 * KIB));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(!room.is_short());
    }

    #[test]
    fn a_connection_has_its_part_and_a_longer_piece_alone() {
        let room = Room::new(160 * KIB);
        let (own, other) = (room.own(), room.own());
        let long = taken(&room, Some(&own), 30 * KIB).unwrap();
        assert!(taken(&room, Some(&own), 1).is_none());
        let _others = taken(&room, Some(&other), 10 * KIB).unwrap();
        drop(long);
        let _first = taken(&room, Some(&own), 10 * KIB).unwrap();
        let _second = taken(&room, Some(&own), 10 * KIB).unwrap();
        assert!(taken(&room, Some(&own), 1).is_none());
    }

    #[test]
    fn who_wants_much_gets_little_when_there_is_little() {
        let room = Room::new(160 * KIB);
        let take = |bytes, least| {
            let mut take = std::pin::pin!(room.take_up_to(bytes, least));
            match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(share) => share,
                Poll::Pending => panic!("it waits"),
            }
        };
        let mut first = take(80 * KIB, 10 * KIB);
        assert_eq!(first.bytes(), 80 * KIB);
        let second = take(80 * KIB, 10 * KIB);
        assert_eq!(second.bytes(), 10 * KIB);
        first.shrink_to(5 * KIB);
        first.shrink_to(7 * KIB);
        assert_eq!((first.bytes(), room.held_bytes()), (5 * KIB, 15 * KIB));
    }

    /// Two hundred that wanted 50 MiB each, and took none of it, had a megabyte each when there was no more: and those
    /// who wanted little had nothing.
    #[test]
    fn who_wants_much_takes_nothing_from_those_who_want_little() {
        let room = Room::new(256 * 1024 * KIB);
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut take = std::pin::pin!(room.take_up_to(50 * 1024 * KIB, 1024 * KIB));
            match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(share) => held.push(share),
                Poll::Pending => break,
            }
        }
        assert!(held.len() < 200 && room.held_bytes() <= 192 * 1024 * KIB, "{} hold it", held.len());
        assert!(taken(&room, None, 1024 * KIB).is_some());
    }

    #[test]
    fn it_is_short_while_somebody_waits() {
        let room = Room::new(10 * KIB);
        let all = taken(&room, None, 10 * KIB);
        assert!(!room.is_short());
        {
            let mut waits = std::pin::pin!(room.take(None, 1));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert!(room.is_short());
        }
        assert!(!room.is_short(), "who has gone doesn't wait any more");
        drop(all);
    }
}
