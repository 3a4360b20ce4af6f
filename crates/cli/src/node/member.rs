//! A member of a consumer group (KIP-848): the node says what it is to have, it says what it has.
//!
//! ```text
//!   join (epoch 0) -> beat, read, commit, beat ..  -> leave (epoch -1)
//!                      \-- fenced, or not known: joins anew
//! ```
//!
//! One thread does all of it, so it is asked to beat between any two steps. What a partition's records were written for
//! is committed before the partition is given back: reading goes on elsewhere behind them.
//!
//! Invariants
//!   * only what was handed out is committed, so each record is handed out at least once

use super::reading::Fetched;
use super::{EARLIEST, LATEST, Node, Seen};
use crate::directory::records_of;
use crate::failure::Failure;
use crate::place::TopicFacts;
use exactlog::{BatchDetails, Record, Start};
use exactlog_client::{Code, Refused, To};
use exactlog_wire::messages::{ConsumerGroupHeartbeat, consumer_group_heartbeat as heartbeat};
use exactlog_wire::value::{Str, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

/// How long the member may take to give a partition back, in ms.
const GIVE_BACK_MS: i32 = 45_000;
/// How often the node is asked for an assignment that it hasn't made yet, and for how long.
const ASK_AGAIN: Duration = Duration::from_millis(50);
pub(crate) const ASSIGNED_WITHIN: Duration = Duration::from_secs(10);
/// How often a commit is tried whose epoch was out of date.
const COMMITS_MAX: u32 = 10;

/// Epochs that aren't one: to join, and to leave.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// A partition, by its topic's name.
pub(crate) type Spot = (String, u32);

/// What was read of a partition.
#[derive(Debug)]
pub(crate) struct Polled {
    pub(crate) records: Vec<(Record, Option<BatchDetails>)>,
    pub(crate) from: u64,
    pub(crate) next: u64,
    pub(crate) bounds: (u64, u64),
}

pub(crate) struct Member<'n> {
    node: &'n Node,
    group: String,
    topics: Vec<Str>,
    names: BTreeMap<Uuid, String>,
    start: Start,
    id: Str,
    epoch: i32,
    interval: Duration,
    beaten: Instant,
    /// The next offset of each partition that it has.
    owned: BTreeMap<Spot, u64>,
    /// Whether the node doesn't know yet what it has.
    has_changed: bool,
}

impl<'n> Member<'n> {
    /// Joins, and waits for what it is to have.
    pub(crate) fn join(
        node: &'n Node,
        group: &str,
        topics: &[TopicFacts],
        start: Start,
    ) -> Result<Member<'n>, Failure> {
        let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
        let told = node.metadata(Some(&names))?;
        let named = told.topics.iter().filter_map(|it| Some((it.topic_id, it.name.as_deref()?.to_string())));
        let mut member = Member {
            node,
            group: group.to_string(),
            topics: names.iter().map(|name| Str::from(*name)).collect(),
            names: named.collect(),
            start,
            id: random_id().into(),
            epoch: JOINS,
            interval: Duration::ZERO,
            beaten: Instant::now(),
            owned: BTreeMap::new(),
            has_changed: true,
        };
        let until = Instant::now() + ASSIGNED_WITHIN;
        while !member.exchange()? && Instant::now() < until {
            thread::sleep(ASK_AGAIN);
        }
        Ok(member)
    }

    /// The partitions that it has.
    pub(crate) fn places(&self) -> Vec<Spot> {
        self.owned.keys().cloned().collect()
    }

    /// Says that it is there, when it is time for that.
    pub(crate) fn beat(&mut self) -> Result<(), Failure> {
        if self.has_changed || self.beaten.elapsed() >= self.interval {
            self.exchange()?;
        }
        Ok(())
    }

    /// One heartbeat, and what follows from its answer; whether the node has said what it is to have.
    fn exchange(&mut self) -> Result<bool, Failure> {
        let response = match self.heartbeat(self.epoch)? {
            Ok(response) => response,
            Err(_) if self.epoch == JOINS => {
                return Err(Failure::new("FENCED", format!("group {:?} takes no member", self.group)));
            }
            // It took too long, or the node was started anew.
            Err(_) => {
                (self.epoch, self.has_changed) = (JOINS, true);
                self.owned.clear();
                return Ok(false);
            }
        };
        self.beaten = Instant::now();
        self.has_changed = false;
        self.epoch = response.member_epoch;
        if let Some(id) = response.member_id.filter(|id| !id.is_empty()) {
            self.id = id;
        }
        self.interval = Duration::from_millis(response.heartbeat_interval_ms.max(1) as u64);
        match response.assignment {
            Some(assignment) => self.assigned(&assignment).map(|()| true),
            None => Ok(false),
        }
    }

    fn assigned(&mut self, assignment: &heartbeat::Assignment) -> Result<(), Failure> {
        let mut wanted = BTreeSet::new();
        for topic in &assignment.topic_partitions {
            let Some(name) = self.names.get(&topic.topic_id) else { continue };
            wanted.extend(topic.partitions.iter().map(|index| (name.clone(), *index as u32)));
        }
        let before = self.owned.len();
        self.owned.retain(|spot, _| wanted.contains(spot));
        let is_same = before == wanted.len() && self.owned.len() == before;
        if is_same {
            return Ok(());
        }
        self.has_changed = true;
        let committed = self.node.committed_with_metadata(&self.group, true)?;
        for spot in wanted {
            if self.owned.contains_key(&spot) {
                continue;
            }
            let begins = match (committed.get(&spot), self.start) {
                (Some((offset, _)), _) => *offset,
                (None, Start::Latest) => self.place(&spot, LATEST)?,
                (None, _) => self.place(&spot, EARLIEST)?,
            };
            self.owned.insert(spot, begins);
        }
        Ok(())
    }

    fn place(&self, (topic, partition): &Spot, what: i64) -> Result<u64, Failure> {
        Ok(self.node.offset(topic, *partition, what, Seen::All)?.unwrap_or_default())
    }

    /// Whether it knows what it has, and has something: what it has read to the end then is all of its part.
    pub(crate) fn is_settled(&self) -> bool {
        self.epoch != JOINS && !self.has_changed && !self.owned.is_empty()
    }

    /// Records of a partition, if it still has that. What was trimmed is passed over, with a note.
    pub(crate) fn read(&mut self, spot: &Spot, batches: bool) -> Result<Option<Polled>, Failure> {
        let Some(mut from) = self.owned.get(spot).copied() else { return Ok(None) };
        let (topic, partition) = (spot.0.as_str(), spot.1);
        let fetched = loop {
            match self.node.fetch(topic, partition, from, Seen::Committed, 0) {
                Err(failure) if failure.code == "OFFSET_OUT_OF_RANGE" => {
                    let start = self.place(spot, EARLIEST)?;
                    let end = self.place(spot, LATEST)?;
                    let to = if from < start { start } else { end };
                    if to == from {
                        return Err(failure);
                    }
                    eprintln!(
                        "note: {topic} partition {partition}: offset {from} isn't there, goes on at {to}"
                    );
                    self.owned.insert(spot.clone(), to);
                    from = to;
                }
                fetched => break fetched?,
            }
        };
        let Fetched { batches: found, next, start, high_watermark, .. } = fetched;
        let records = records_of(&found, (topic, partition), from, batches)?;
        Ok(Some(Polled { records, from, next, bounds: (start, high_watermark) }))
    }

    /// Commits that everything below an offset is done. Where the member was fenced it isn't, and comes again.
    pub(crate) fn commit(&mut self, spot: &Spot, next: u64) -> Result<(), Failure> {
        let Some(position) = self.owned.get_mut(spot) else { return Ok(()) };
        if *position == next {
            return Ok(());
        }
        *position = next;
        let positions = [(spot.0.clone(), spot.1, next)];
        for _ in 0..COMMITS_MAX {
            let as_member = (self.epoch, &*self.id);
            let refused = self.node.commit_as(&self.group, as_member, &positions)?;
            match refused {
                None => return Ok(()),
                // A newer epoch is told by the next heartbeat.
                Some(Code::STALE_MEMBER_EPOCH) => _ = self.exchange()?,
                Some(code) => {
                    eprintln!("note: {} partition {}: not committed, {}", spot.0, spot.1, code.name());
                    (self.epoch, self.has_changed) = (JOINS, true);
                    self.owned.clear();
                    return Ok(());
                }
            }
        }
        Err(Failure::new("FENCED", format!("group {:?} has a newer epoch each time", self.group)))
    }

    /// Leaves, so that others needn't wait for its partitions.
    pub(crate) fn leave(self) -> Result<(), Failure> {
        if self.epoch == JOINS {
            return Ok(());
        }
        self.heartbeat(LEAVES).map(drop)
    }

    /// Asks; `Err`: the node doesn't take it for a member.
    fn heartbeat(&self, epoch: i32) -> Result<Result<heartbeat::Response, Code>, Failure> {
        // All of it each time: then it is told all of its assignment each time, also where an answer was lost and the
        // node takes a repeated heartbeat for the next one.
        let stays = epoch != LEAVES;
        let request = heartbeat::Request {
            group_id: self.group.as_str().into(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            rebalance_timeout_ms: if stays { GIVE_BACK_MS } else { -1 },
            subscribed_topic_names: stays.then(|| self.topics.clone()),
            topic_partitions: stays.then(|| self.has()),
            ..Default::default()
        };
        let to = To::Group(&self.group);
        self.node.ask_up_to::<ConsumerGroupHeartbeat, _>(i16::MAX, to, &request, true, |response| match Code(
            response.error_code,
        ) {
            code @ (Code::UNKNOWN_MEMBER_ID | Code::FENCED_MEMBER_EPOCH) => Ok(Err(code)),
            // Started anew, the node knows no group of before: so it has left.
            code @ Code::GROUP_ID_NOT_FOUND if epoch == LEAVES => Ok(Err(code)),
            code => {
                Refused::check(code.0, response.error_message.as_ref())?;
                Ok(Ok(response))
            }
        })
    }

    /// What it has, by topic.
    fn has(&self) -> Vec<heartbeat::TopicPartitions> {
        let of_topic = |(id, name): (&Uuid, &String)| {
            let indexes =
                self.owned.keys().filter(|(topic, _)| topic == name).map(|(_, index)| *index as i32);
            heartbeat::TopicPartitions { topic_id: *id, partitions: indexes.collect() }
        };
        self.names.iter().map(of_topic).filter(|topic| !topic.partitions.is_empty()).collect()
    }
}

/// An id that nobody else has: 128 bits of the system's chance, as text.
fn random_id() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("exactlog-{:016x}{:016x}", number(), number())
}
