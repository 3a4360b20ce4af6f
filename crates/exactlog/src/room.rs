//! Room for what waits to be written: a bound in bytes, and a line of those for whom there is none yet.
//!
//! ```text
//!   fits and nobody waits -> taken, without a lock     else -> to the end of the line -> admitted in order | closed
//! ```
//!
//! Invariants
//!   * whoever waits is admitted in the order of arrival: a large event is not starved by small ones
//!   * what was taken is given back when its [`Reserved`] or its [`Claim`] is dropped, whatever becomes of its owner
//!   * when the log is closed nobody waits any more

use crate::error::Error;
use crate::slot::Slot;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes in flight, and who waits to add some.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// How many stand in the line. Written before room is looked for, read after room was given back, both in the
    /// one order of sequential consistency: one of the two sees the other.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Arc<Place>>,
    closed: bool,
}

/// One that waits.
#[derive(Debug)]
struct Place {
    bytes: usize,
    /// Whether it got its room, decided under the lock of the line.
    outcome: OnceLock<bool>,
    /// The same, told after the lock was let go.
    told: Slot<bool>,
}

/// Room that was taken, on its way into a claim. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    room: &'a Arc<Room>,
    bytes: usize,
}

impl Reserved<'_> {
    /// How much it is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, to be kept.
    pub(crate) fn claim(mut self) -> Claim {
        Claim { room: self.room.clone(), bytes: std::mem::take(&mut self.bytes) }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.release(self.bytes);
        }
    }
}

/// Room that was taken. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Claim {
    room: Arc<Room>,
    bytes: usize,
}

impl Claim {
    /// Puts more of the same room into this one. (A claim for each event would have all threads count references to
    /// one room.)
    pub(crate) fn add(&mut self, mut more: Reserved<'_>) {
        self.bytes += std::mem::take(&mut more.bytes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.release(self.bytes);
        }
    }
}

impl Room {
    /// Room for this many bytes; more than that is admitted alone.
    pub(crate) fn new(bytes_max: usize) -> Room {
        Room { bytes: AtomicUsize::new(0), bytes_max, waiting: AtomicUsize::new(0), line: Mutex::default() }
    }

    /// Bytes in flight now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes room if there is some and nobody waits for it.
    pub(crate) fn try_take(self: &Arc<Room>, bytes: usize) -> Result<Reserved<'_>, Error> {
        if self.waiting.load(Ordering::SeqCst) > 0 || !self.fits(bytes) {
            return Err(Error::Full { bytes: self.bytes(), max: self.bytes_max });
        }
        Ok(Reserved { room: self, bytes })
    }

    /// Takes room, waiting for it.
    ///
    /// # Cancel safety
    /// Safe: dropped while it waits, it has taken nothing.
    pub(crate) async fn take(self: &Arc<Room>, bytes: usize) -> Result<Reserved<'_>, Error> {
        if let Ok(reserved) = self.try_take(bytes) {
            return Ok(reserved);
        }
        let waiting = self.line_up(bytes);
        let mut at = None;
        let told =
            |context: &mut std::task::Context<'_>| waiting.place.told.poll(&mut at, context).map(|it| *it);
        let admitted = std::future::poll_fn(told).await;
        waiting.end(admitted)
    }

    /// Takes room, blocking the thread for it.
    pub(crate) fn blocking_take(self: &Arc<Room>, bytes: usize) -> Result<Reserved<'_>, Error> {
        if let Ok(reserved) = self.try_take(bytes) {
            return Ok(reserved);
        }
        let waiting = self.line_up(bytes);
        let admitted = *waiting.place.told.wait();
        waiting.end(admitted)
    }

    /// Sends everybody away who waits, and who comes later.
    pub(crate) fn close(&self) {
        let mut line = self.line.lock();
        line.closed = true;
        let places = std::mem::take(&mut line.places);
        self.waiting.store(0, Ordering::SeqCst);
        places.iter().for_each(|place| place.decide(false));
        drop(line);
        places.iter().for_each(|place| place.told.complete(false));
    }

    fn fits(&self, bytes: usize) -> bool {
        let fits = |used: usize| (used == 0 || used + bytes <= self.bytes_max).then_some(used + bytes);
        self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    fn line_up(self: &Arc<Room>, bytes: usize) -> Waiting<'_> {
        let place = Arc::new(Place { bytes, outcome: OnceLock::new(), told: Slot::default() });
        let mut line = self.line.lock();
        if line.closed {
            place.decide(false);
            place.told.complete(false);
        } else {
            line.places.push_back(place.clone());
            let admitted = self.admit(&mut line);
            drop(line);
            tell(&admitted);
        }
        Waiting { room: self, place, ended: false }
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let admitted = self.admit(&mut self.line.lock());
            tell(&admitted);
        }
    }

    /// Takes room for those at the head of the line, as many as fit. They are told when the lock is free again: whom
    /// that wakes is not known here.
    fn admit(&self, line: &mut Line) -> Vec<Arc<Place>> {
        self.waiting.store(line.places.len(), Ordering::SeqCst);
        let mut admitted = Vec::new();
        while let Some(place) = line.places.pop_front_if(|place| self.fits(place.bytes)) {
            place.decide(true);
            admitted.push(place);
        }
        self.waiting.store(line.places.len(), Ordering::SeqCst);
        admitted
    }
}

fn tell(admitted: &[Arc<Place>]) {
    admitted.iter().for_each(|place| place.told.complete(true));
}

impl Place {
    fn decide(&self, admitted: bool) {
        self.outcome.set(admitted).expect("a place leaves the line once, and is decided then");
    }
}

/// Somebody in the line, who may go away.
struct Waiting<'a> {
    room: &'a Arc<Room>,
    place: Arc<Place>,
    ended: bool,
}

impl<'a> Waiting<'a> {
    fn end(mut self, admitted: bool) -> Result<Reserved<'a>, Error> {
        self.ended = true;
        match admitted {
            true => Ok(Reserved { room: self.room, bytes: self.place.bytes }),
            false => Err(Error::Closed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut line = self.room.line.lock();
        match self.place.outcome.get() {
            Some(true) => {
                drop(line);
                self.room.release(self.place.bytes);
            }
            Some(false) => {}
            None => {
                line.places.retain(|place| !Arc::ptr_eq(place, &self.place));
                // Those behind may fit where this one didn't.
                let admitted = self.room.admit(&mut line);
                drop(line);
                tell(&admitted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_large_claim_is_not_overtaken_by_small_ones_that_come_later() {
        let room = Arc::new(Room::new(100));
        let first = room.try_take(60).unwrap();
        let mut large = pin!(room.take(90));
        assert!(poll(large.as_mut()).is_pending());
        assert!(matches!(room.try_take(1), Err(Error::Full { bytes: 60, max: 100 })));
        let mut small = pin!(room.take(20));
        assert!(poll(small.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(Ok(claim)) = poll(large.as_mut()) else { panic!("the large one is first") };
        assert!(poll(small.as_mut()).is_pending());
        drop(claim);
        assert!(matches!(poll(small.as_mut()), Poll::Ready(Ok(_))));
        assert_eq!(room.bytes(), 0);
    }

    #[test]
    fn who_goes_away_takes_nothing_along_and_makes_place_for_those_behind() {
        let room = Arc::new(Room::new(100));
        let first = room.try_take(60).unwrap();
        let mut small = pin!(room.take(40));
        {
            let mut large = pin!(room.take(90));
            assert!(poll(large.as_mut()).is_pending());
            assert!(poll(small.as_mut()).is_pending());
        }
        let Poll::Ready(Ok(claim)) = poll(small.as_mut()) else { panic!("there is room for 40") };
        assert_eq!(room.bytes(), 100);
        drop((first, claim));
        {
            let held = room.try_take(100).unwrap();
            let mut admitted = pin!(room.take(10));
            assert!(poll(admitted.as_mut()).is_pending());
            drop(held);
        }
        assert_eq!(room.bytes(), 0, "admitted but never told");
        assert!(room.try_take(100).is_ok());
    }

    #[test]
    fn closing_sends_everybody_away_threads_and_tasks() {
        let room = Arc::new(Room::new(10));
        let held = room.try_take(10).unwrap();
        let mut task = pin!(room.take(1));
        assert!(poll(task.as_mut()).is_pending());
        let thread = std::thread::spawn({
            let room = room.clone();
            move || room.blocking_take(1).map(|_| ())
        });
        room.close();
        assert!(matches!(thread.join().unwrap(), Err(Error::Closed)));
        assert!(matches!(poll(task.as_mut()), Poll::Ready(Err(Error::Closed))));
        assert!(matches!(room.blocking_take(1), Err(Error::Closed)));
        drop(held);
        assert_eq!(room.bytes(), 0);
    }

    #[test]
    fn no_wake_up_is_lost_between_threads_that_take_and_give_back() {
        let room = Arc::new(Room::new(3));
        let threads: Vec<_> = (1..=4usize)
            .map(|n| {
                let room = room.clone();
                std::thread::spawn(move || (0..5_000).for_each(|_| drop(room.blocking_take(n).unwrap())))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(room.bytes(), 0);
    }
}
