//! Ids of events: each is stored, or done, once within a window.
//!
//! ```text
//!   send an event with an id              first wins; the receipt of a repeat is the first one's, marked as duplicate
//!   Transaction::mark                     the mark is there exactly if the transaction is
//!   Log::reserve -> Reservation           finish | release | drop: released | its process dies: the lease ends
//!   Log::forget_id                        seen -> absent
//! ```
//!
//! What becomes of an id is decided in `apply`. Here ids become the 16 bytes that commands carry, and answers become
//! what callers hold.
//!
//! Invariants
//!   * a reservation that is dropped is released without waiting; one whose finish is on its way never is

use crate::error::Error;
use crate::log::{Handle, Log};
use crate::queue::{Answer, Push, Queue};
use crate::topic::Topic;
use bytes::Bytes;
use exactlog_core::command::{AtCap, Command, ConfigChange, Dedup, DedupScope};
use exactlog_core::ids::DedupId;
use exactlog_core::reply::{Refusal, Reply, Seen, Sighting};
use exactlog_core::state::{DedupLimits, MarkKey};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

/// The id of an event, as whoever made the event gave it: text or bytes, 1 to 1,024 of them.
///
/// A UUID in its usual text form (`550e8400-e29b-41d4-a716-446655440000`, in either case) is taken as the number that
/// it is. Everything else is compared by a 128-bit SipHash-2-4 with a key of the log's own.
///
/// ```
/// use exactlog::{Event, EventId};
///
/// let event = Event::new("order-1", "two chairs").id("shop-7/order-1");
/// assert_eq!(event.id, Some(EventId::from("shop-7/order-1")));
/// assert_eq!(EventId::uuid([0xab; 16]), EventId::from("ABABABAB-abab-abab-abab-abababababab"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// As it stands in the log: a UUID, or the hash of another id.
    Short([u8; 16]),
    Bytes(Bytes),
}

/// Longest id in bytes.
const EVENT_ID_BYTES_MAX: usize = 1024;

impl EventId {
    /// The UUID of these 16 bytes.
    pub fn uuid(bytes: [u8; 16]) -> EventId {
        EventId(Form::Short(bytes))
    }

    /// What stands for it in the log.
    pub(crate) fn in_log(&self, key: Option<[u8; 16]>) -> Result<Option<DedupId>, Error> {
        let bytes = match &self.0 {
            Form::Short(bytes) => return Ok(Some(DedupId(*bytes))),
            Form::Bytes(bytes) => bytes,
        };
        if !(1..=EVENT_ID_BYTES_MAX).contains(&bytes.len()) {
            return Err(Error::EventIdLength { bytes: bytes.len(), max: EVENT_ID_BYTES_MAX });
        }
        Ok(key.map(|key| {
            let mut hasher = SipHasher24::new_with_key(&key);
            hasher.write(bytes);
            DedupId(hasher.finish128().as_bytes())
        }))
    }
}

impl From<Bytes> for EventId {
    fn from(bytes: Bytes) -> EventId {
        EventId(parse_uuid(&bytes).map_or(Form::Bytes(bytes), Form::Short))
    }
}

impl From<Vec<u8>> for EventId {
    fn from(bytes: Vec<u8>) -> EventId {
        EventId::from(Bytes::from(bytes))
    }
}

impl From<String> for EventId {
    fn from(text: String) -> EventId {
        EventId::from(Bytes::from(text))
    }
}

impl From<&str> for EventId {
    fn from(text: &str) -> EventId {
        EventId::from(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&[u8]> for EventId {
    fn from(bytes: &[u8]) -> EventId {
        EventId::from(Bytes::copy_from_slice(bytes))
    }
}

/// The usual text form and no other (RFC 9562): 8-4-4-4-12 hexadecimal digits.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut digits = text.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let mut digit = || (*digits.next()?.1 as char).to_digit(16);
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    Some(bytes)
}

/// Within what an id is unique: the events of a topic, or whatever goes by a name (a group, a job).
///
/// Ids of events that are sent belong to their topic; what is marked or reserved belongs to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub(crate) DedupScope);

impl From<&Topic> for Scope {
    fn from(topic: &Topic) -> Scope {
        Scope(DedupScope::Topic(topic.id()))
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Scope {
        Scope(DedupScope::Named(name.to_string()))
    }
}

/// What [`Log::reserve`] found.
#[derive(Debug)]
pub enum Reserve {
    /// The id is the caller's until the lease ends: do it, then finish.
    Reserved(Reservation),
    /// Somebody else is at it: not done yet. Ask again, at the latest when his lease ends.
    InProgress {
        /// When his lease ends, ms since 1970.
        until_ms: i64,
    },
    /// It was done before.
    Done(Sighting),
}

/// An id that nobody else gets as long as the lease lasts. Dropping it releases the id.
///
/// When the lease is over somebody else may have it, and the log refuses what its former owner says: its number, not
/// the time, tells them apart.
#[derive(Debug)]
#[must_use = "dropped, the id is free again"]
pub struct Reservation {
    inner: Handle,
    scope: String,
    id: DedupId,
    number: u64,
    until_ms: i64,
    /// Nothing was said about it yet.
    is_open: bool,
}

impl Reservation {
    /// Proves who has the id: the position of the reservation in the log's order.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When the lease ends, ms since 1970.
    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }

    /// It is done: the id is seen from now on, for the whole window.
    ///
    /// # Errors
    /// [`Refusal::ReservationLapsed`]: the lease was over, and it may have been done a second time meanwhile.
    /// [`Error::Unknown`]: after [`Log::reopen`] ask [`Log::seen`].
    ///
    /// # Cancel safety
    /// Dropped behind its first poll it is finished all the same.
    pub async fn finish(mut self) -> Result<(), Error> {
        answer_of(&*self.submit_finish(Queue::push)?).await.map(|_| ())
    }

    /// As [`finish`](Reservation::finish), blocking the thread.
    ///
    /// # Errors
    /// As [`finish`](Reservation::finish).
    pub fn blocking_finish(mut self) -> Result<(), Error> {
        let answer = self.submit_finish(Queue::push_quietly)?;
        self.inner.wait_for(&answer).clone().map(|_| ())
    }

    /// It failed: the next copy may run at once. To drop it does the same, without an answer.
    ///
    /// # Errors
    /// [`Refusal::ReservationLapsed`]: the lease was over.
    pub async fn release(mut self) -> Result<(), Error> {
        answer_of(&*self.submit_release(Queue::push)?).await.map(|_| ())
    }

    /// As [`release`](Reservation::release), blocking the thread.
    ///
    /// # Errors
    /// As [`release`](Reservation::release).
    pub fn blocking_release(mut self) -> Result<(), Error> {
        let answer = self.submit_release(Queue::push_quietly)?;
        self.inner.wait_for(&answer).clone().map(|_| ())
    }

    /// Scope, id and number, for the mark of a transaction.
    pub(crate) fn mark(&self) -> (String, DedupId, u64) {
        (self.scope.clone(), self.id, self.number)
    }

    /// Nothing more is said about it: what has finished it is on its way.
    pub(crate) fn settle(&mut self) {
        self.is_open = false;
    }

    fn submit_finish(&mut self, push: Push) -> Result<Arc<Answer>, Error> {
        // Whatever the answer is, what was done must not be free to be done again before the lease ends.
        self.settle();
        let (scope, id, reservation) = self.mark();
        self.inner.submit(Dedup::Finish { scope, id, reservation }.into(), None, None, push)
    }

    fn submit_release(&mut self, push: Push) -> Result<Arc<Answer>, Error> {
        self.settle();
        let (scope, id, reservation) = self.mark();
        self.inner.submit(Dedup::Release { scope, id, reservation }.into(), None, None, push)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            // A log that is closed or has failed takes nothing: then the lease ends by itself.
            let _ = self.submit_release(Queue::push);
        }
    }
}

impl Log {
    /// What is known of an id: absent, reserved until when, or seen and where. For a decision that must hold, reserve
    /// it, or mark it in a transaction.
    ///
    /// # Errors
    /// [`Error::EventIdLength`], [`Error::Closed`]; what is wrong with the file that had to be read for it.
    pub fn seen(&self, scope: impl Into<Scope>, id: impl Into<EventId>) -> Result<Seen, Error> {
        self.seen_all(scope, [&id.into()]).map(|seen| seen[0])
    }

    /// As [`seen`](Log::seen) for many ids, as of one moment: in their order.
    ///
    /// # Errors
    /// As [`seen`](Log::seen).
    pub fn seen_all<'i>(
        &self,
        scope: impl Into<Scope>,
        ids: impl IntoIterator<Item = &'i EventId>,
    ) -> Result<Vec<Seen>, Error> {
        self.inner.check_open()?;
        let (scope, hash_key) = (scope.into().0, self.inner.dedup_key());
        let ids = ids.into_iter().map(|id| id.in_log(hash_key)).collect::<Result<Vec<_>, _>>()?;
        loop {
            let (manifest, mut seen, asked) = {
                let state = self.inner.state.read();
                let (of_state, mut asked) = (state.seen_or_question((&scope).into()), Vec::new());
                let seen = ids.iter().enumerate().map(|(nth, id)| {
                    // A log without a key has never hashed an id.
                    let Some(id) = *id else { return Seen::Absent };
                    of_state(id).unwrap_or_else(|key| {
                        asked.push((nth, key));
                        Seen::Absent
                    })
                });
                let seen: Vec<Seen> = seen.collect();
                (state.dedup.runs().clone(), seen, asked)
            };
            if asked.is_empty() {
                return Ok(seen);
            }
            let runs = self.inner.marks.read().clone();
            let is_over = || !Arc::ptr_eq(&manifest, self.inner.state.read().dedup.runs());
            let keys: Vec<MarkKey> = asked.iter().map(|(_, key)| *key).collect();
            match runs.find_all(&manifest, &keys) {
                Ok(found) => {
                    for ((nth, key), found) in asked.into_iter().zip(found) {
                        let found = found.map(|found| Seen::Done(key.sighting(found.place)));
                        seen[nth] = found.unwrap_or(Seen::Absent);
                    }
                    return Ok(seen);
                }
                // A run may have gone while it was looked into: what has its place knows.
                Err(_) if is_over() => {}
                Err(error) => return Err(Error::Storage(error)),
            }
        }
    }

    /// An id as this log knows it: 16 bytes, however long it was. For the log both are one id; it is quicker to carry
    /// about, and to ask for more than once. In another log it is another id, unless it is a UUID.
    ///
    /// # Errors
    /// [`Error::EventIdLength`]; [`Error::ReadOnly`] of a log that has never known an id.
    ///
    /// ```
    /// # use exactlog::{Event, Log, Seen, TopicOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let log = Log::open(directory.path()).unwrap();
    /// # let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    /// log.producer("shop")?.blocking_send(&orders, Event::new("order-1", "two chairs").id("shop-7/order-1"))?;
    /// assert!(matches!(log.seen(&orders, log.short_id("shop-7/order-1")?)?, Seen::Done(_)));
    /// # Ok::<_, exactlog::Error>(())
    /// ```
    pub fn short_id(&self, id: impl Into<EventId>) -> Result<EventId, Error> {
        self.inner.dedup_id(&id.into()).map(|id| EventId(Form::Short(id.0)))
    }

    /// Takes an id for as long as the lease lasts, before something is done that the log can't undo: of several copies
    /// of an event one gets it. If the process dies, the lease ends, and the next copy gets it.
    ///
    /// # Errors
    /// A lease of less than 1 ms or more than a day; a name that isn't legal; [`Refusal::DedupFull`].
    ///
    /// # Cancel safety
    /// Dropped behind its first poll the id may stay reserved until the lease ends.
    pub async fn reserve(
        &self,
        scope: &str,
        id: impl Into<EventId>,
        lease: Duration,
    ) -> Result<Reserve, Error> {
        let id = self.inner.dedup_id(&id.into())?;
        let answer = self.inner.submit(reserve(scope, id, lease), None, None, Queue::push)?;
        self.reserved(scope, id, answer_of(&answer).await)
    }

    /// As [`reserve`](Log::reserve), blocking the thread.
    ///
    /// # Errors
    /// As [`reserve`](Log::reserve).
    pub fn blocking_reserve(
        &self,
        scope: &str,
        id: impl Into<EventId>,
        lease: Duration,
    ) -> Result<Reserve, Error> {
        let id = self.inner.dedup_id(&id.into())?;
        let answer = self.inner.command(reserve(scope, id, lease));
        self.reserved(scope, id, answer.map(|applied| applied.reply))
    }

    fn reserved(&self, scope: &str, id: DedupId, answer: Result<Reply, Error>) -> Result<Reserve, Error> {
        match answer {
            Ok(Reply::Reserved { reservation, until_ms }) => Ok(Reserve::Reserved(Reservation {
                inner: self.inner.clone(),
                scope: scope.to_string(),
                id,
                number: reservation,
                until_ms,
                is_open: true,
            })),
            Ok(_) => unreachable!("Reserve answers with a reservation or a refusal"),
            Err(Error::Refused(Refusal::EventReserved { until_ms, .. })) => {
                Ok(Reserve::InProgress { until_ms })
            }
            Err(Error::Refused(Refusal::EventSeen { sighting, .. })) => Ok(Reserve::Done(sighting)),
            Err(error) => Err(error),
        }
    }

    /// Makes an id absent that was seen, and says where it was: what comes with it next is stored, or done, once more.
    /// Nothing that is there already changes. An id that was absent stays so.
    ///
    /// It is for repairs by hand: of an id in memory all are looked through.
    ///
    /// # Errors
    /// [`Refusal::EventReserved`]: somebody works on it. [`Error::EventIdLength`]. [`Error::Unknown`]: after
    /// [`Log::reopen`] ask [`Log::seen`].
    ///
    /// ```
    /// # use exactlog::{Event, Log, Seen, TopicOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let log = Log::open(directory.path()).unwrap();
    /// # let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    /// # let shop = log.producer("shop").unwrap();
    /// let event = || Event::new("order-1", "two chairs").id("shop-7/order-1");
    /// shop.blocking_send(&orders, event())?;
    /// assert!(shop.blocking_send(&orders, event())?.duplicate);
    /// assert!(log.forget_id(&orders, "shop-7/order-1")?.is_some());
    /// assert!(!shop.blocking_send(&orders, event())?.duplicate);
    /// # Ok::<_, exactlog::Error>(())
    /// ```
    pub fn forget_id(
        &self,
        scope: impl Into<Scope>,
        id: impl Into<EventId>,
    ) -> Result<Option<Sighting>, Error> {
        self.inner.check_open()?;
        let Some(id) = id.into().in_log(self.inner.dedup_key())? else { return Ok(None) };
        let command = Dedup::Forget { scope: scope.into().0, id }.into();
        match self.inner.command(command)?.reply {
            Reply::Forgotten { sighting } => Ok(sighting),
            _ => unreachable!("ForgetId answers with a sighting or a refusal"),
        }
    }

    /// How long and how many ids are remembered.
    pub fn dedup_limits(&self) -> DedupLimits {
        self.inner.state.read().dedup.limits()
    }

    /// Sets how long ids are remembered (`dedup.ttl.ms`, default 7 days), how many at once (`dedup.entries.max`,
    /// default 100,000,000), and what a new one meets at that cap. It counts for ids from now on; a lower cap takes
    /// none away.
    ///
    /// # Errors
    /// [`Refusal::SettingOutOfBounds`] names the setting.
    pub fn set_dedup_limits(&self, ttl: Duration, entries_max: u64, at_cap: AtCap) -> Result<(), Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let change = ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap };
        self.inner.command(Command::Config(change)).map(|_| ())
    }
}

fn reserve(scope: &str, id: DedupId, lease: Duration) -> Command {
    let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    Dedup::Reserve { scope: scope.to_string(), id, lease_ms }.into()
}

async fn answer_of(answer: &Answer) -> Result<Reply, Error> {
    answer.value().await.clone().map(|applied| applied.reply)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_text_form_is_a_uuid() {
        let bytes = [0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0, 0];
        let text = "550e8400-e29b-41d4-a716-446655440000";
        for text in [text.to_string(), text.to_uppercase()] {
            assert_eq!(EventId::from(text), EventId::uuid(bytes));
        }
        for other in [
            "550e8400e29b41d4a716446655440000",
            "550e8400-e29b-41d4-a716-44665544000g",
            "+50e8400-e29b-41d4-a716-446655440000",
            "",
        ] {
            assert!(matches!(EventId::from(other).0, Form::Bytes(_)), "{other}");
        }
        assert_eq!(EventId::uuid(bytes).in_log(None).unwrap(), Some(DedupId(bytes)), "it needs no key");
    }

    /// The reference implementation's second vector for 128 bits (`vectors_sip128` in its `vectors.h`, behind that of
    /// no input): key 00 01 .. 0f, input 00.
    #[test]
    fn the_hash_is_the_published_one() {
        let key = std::array::from_fn(|index| index as u8);
        let published =
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        let hashed = EventId::from(&[0u8][..]).in_log(Some(key)).unwrap();
        assert_eq!(hashed, Some(DedupId(published)));
        let other = EventId::from(&[0u8][..]).in_log(Some([7; 16])).unwrap();
        assert_ne!(other, hashed);
    }

    #[test]
    fn ids_have_bounds() {
        for (len, is_legal) in [(0, false), (1, true), (1024, true), (1025, false)] {
            assert_eq!(EventId::from(vec![b'x'; len]).in_log(None).is_ok(), is_legal, "{len}");
        }
    }
}
