//! The log's side of a sink: its consumer, what it has claimed, and where it seeks.
//!
//! Nothing here waits for a database. A sink asks what is to be claimed, claims it, and hands the offsets back.
//!
//! Invariants
//!   * a batch is only planned directly after the consumer was asked which partitions it has: one that was lost and
//!     came back meanwhile was dropped in between, and is claimed anew
//!   * after an error in a database's transaction nothing is claimed: what became of it is read, not guessed

use crate::claims::{Claim, Claims, Place, first_offset, landing};
use crate::error::Error;
use exactlog::{Consumer, Log, Start, Topic};
use std::collections::BTreeMap;

/// How a sink is made: what both kinds of it have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinkSettings {
    pub(crate) records_max: usize,
    pub(crate) start: Start,
    pub(crate) skip_lost: bool,
}

/// Most records of one batch, if nothing else is said.
const RECORDS_MAX: usize = 500;

impl Default for SinkSettings {
    fn default() -> Self {
        SinkSettings { records_max: RECORDS_MAX, start: Start::Earliest, skip_lost: false }
    }
}

impl SinkSettings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.records_max {
            0 => Err(Error::setting("batch", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

/// What a sink reads.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) consumer: Consumer,
    pub(crate) claims: Claims,
    pub(crate) group: String,
    log: Log,
    topics: BTreeMap<String, Topic>,
    settings: SinkSettings,
    /// Who has fenced it.
    fence: Option<(Place, u64, u64)>,
}

/// A partition that is to be claimed.
#[derive(Clone, Debug)]
pub(crate) struct Unclaimed {
    pub(crate) place: Place,
    pub(crate) topic_id: u32,
    /// What the log has of it.
    bounds: (u64, u64),
}

impl Intake {
    pub(crate) fn join<'t>(
        log: &Log,
        group: &str,
        settings: SinkSettings,
        topics: impl IntoIterator<Item = &'t Topic>,
    ) -> Result<Intake, Error> {
        settings.check()?;
        let topics: Vec<&Topic> = topics.into_iter().collect();
        let builder = log.consumer(group).max_poll_records(settings.records_max).start(settings.start);
        let consumer = builder.subscribe(topics.iter().copied())?;
        let topics = topics.iter().map(|topic| (topic.name().to_string(), (*topic).clone())).collect();
        let (log, group) = (log.clone(), group.to_string());
        Ok(Intake { consumer, claims: Claims::new(), log, group, topics, settings, fence: None })
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Forgets what it has lost, and says what it has and hasn't claimed.
    pub(crate) fn unclaimed(&mut self) -> Result<Vec<Unclaimed>, Error> {
        if let Some((place, claim_epoch, current)) = self.fence.clone() {
            return Err(self.fenced(place, claim_epoch, current));
        }
        let positions = self.consumer.positions()?;
        self.claims
            .retain(|place, _| positions.iter().any(|(topic, partition, _)| is_at(place, topic, *partition)));
        let mut unclaimed = Vec::new();
        for (topic, partition, _) in positions {
            let place = (topic.to_string(), partition);
            if self.claims.contains_key(&place) {
                continue;
            }
            let Some(topic) = self.topics.get(&place.0) else { continue };
            let bounds = self.log.bounds(topic, partition)?;
            unclaimed.push(Unclaimed { place, topic_id: topic.id().0, bounds });
        }
        // In the order in which batches update them: nobody waits in a circle.
        unclaimed.sort_by(|one, other| one.place.cmp(&other.place));
        Ok(unclaimed)
    }

    /// Where the database is to begin in a partition that it doesn't know.
    pub(crate) fn first_offset(&self, unclaimed: &Unclaimed) -> u64 {
        first_offset(self.settings.start, unclaimed.bounds)
    }

    /// Whether the log can go on where the database is.
    pub(crate) fn check(&self, unclaimed: &Unclaimed, next: u64) -> Result<(), Error> {
        self.landing(unclaimed, next).map(|_| ())
    }

    fn landing(&self, unclaimed: &Unclaimed, next: u64) -> Result<u64, Error> {
        landing(&self.group, &unclaimed.place, next, unclaimed.bounds, self.settings.skip_lost)
    }

    /// A partition is claimed in the database: reading goes on there.
    pub(crate) fn claimed(&mut self, unclaimed: Unclaimed, claim_epoch: u64, next: u64) -> Result<(), Error> {
        let offset = self.landing(&unclaimed, next)?;
        let Unclaimed { place, topic_id, .. } = unclaimed;
        let Some(topic) = self.topics.get(&place.0) else { return Ok(()) };
        match self.consumer.seek(topic, place.1, offset) {
            Ok(()) => {
                self.claims.insert(place, Claim { topic_id, claim_epoch, next });
                Ok(())
            }
            // It went to somebody else meanwhile, or was trimmed further: the next look tells.
            Err(exactlog::Error::NotAssigned { .. } | exactlog::Error::OffsetOutOfRange { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The claim of a partition isn't the last one any more.
    pub(crate) fn fence(&mut self, place: Place, claim_epoch: u64, current: u64) -> Error {
        self.fence = Some((place.clone(), claim_epoch, current));
        self.fenced(place, claim_epoch, current)
    }

    fn fenced(&self, (topic, partition): Place, claim_epoch: u64, current: u64) -> Error {
        Error::Fenced { group: self.group.clone(), topic, partition, claim_epoch, current }
    }

    /// What the consumer could not read: records that are gone are the claim's to judge.
    pub(crate) fn unread(&mut self, error: exactlog::Error) -> Result<(), Error> {
        match error {
            exactlog::Error::RecordsLost { topic, partition, .. } => {
                self.claims.remove(&(topic, partition));
                Ok(())
            }
            error => Err(error.into()),
        }
    }
}

fn is_at(place: &Place, topic: &str, partition: u32) -> bool {
    place.1 == partition && place.0 == topic
}
