//! What a sink has claimed of partitions, and what of a batch it may apply by that.
//!
//! ```text
//!   assigned by the log -> claim: number + 1, offset, both from the database -> seek there
//!   a batch -> not all claimed: claim first, the batch comes again
//!           \-> below the database's offset: applied before, left out | else: applied, the offset moves on
//! ```
//!
//! Nothing here knows of a database.
//!
//! Invariants
//!   * the database's offset is the truth; what the log has committed is never asked
//!   * a record is applied if and only if the database's offset is at or below it

use crate::error::Error;
use exactlog::{Record, Start};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A partition, by the name of its topic.
pub(crate) type Place = (String, u32);

/// What a sink holds of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) topic_id: u32,
    /// Number of the claim, from the database.
    pub(crate) claim_epoch: u64,
    /// The database's offset.
    pub(crate) next: u64,
}

/// The partitions that a sink has claimed.
pub(crate) type Claims = BTreeMap<Place, Claim>;

/// How far a batch moves a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) place: Place,
    pub(crate) claim: Claim,
    /// The database's offset behind the batch.
    pub(crate) to: u64,
}

/// What is to be done with a batch.
#[derive(Debug)]
pub(crate) enum Plan<'b> {
    /// Some of it isn't claimed yet.
    Unclaimed,
    /// These records, and then the partitions are there.
    Apply { records: Cow<'b, [Record]>, advances: Vec<Advance> },
}

/// Decides what is to be done with records as they were read.
pub(crate) fn plan<'b>(claims: &Claims, records: &'b [Record]) -> Plan<'b> {
    let mut advances: BTreeMap<(&str, u32), Advance> = BTreeMap::new();
    let mut is_applied_before = false;
    for record in records {
        let advance = match advances.entry((&record.topic, record.partition)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let place = (record.topic.to_string(), record.partition);
                let Some(claim) = claims.get(&place).copied() else { return Plan::Unclaimed };
                new.insert(Advance { place, claim, to: claim.next })
            }
        };
        is_applied_before |= record.offset < advance.claim.next;
        advance.to = advance.to.max(record.offset + 1);
    }
    let is_new = |record: &&Record| record.offset >= advances[&(&*record.topic, record.partition)].claim.next;
    let kept = match is_applied_before {
        true => Cow::Owned(records.iter().filter(is_new).cloned().collect()),
        false => Cow::Borrowed(records),
    };
    // In the order of places, always: sinks that update the same rows wait for each other, and never in a circle.
    let advances = advances.into_values().filter(|advance| advance.to > advance.claim.next).collect();
    Plan::Apply { records: kept, advances }
}

/// The database has a batch.
pub(crate) fn advance(claims: &mut Claims, advances: Vec<Advance>) {
    for Advance { place, claim, to } in advances {
        claims.insert(place, Claim { next: to, ..claim });
    }
}

/// Where a sink begins in a partition of which the database has nothing.
pub(crate) fn first_offset(start: Start, (first, end): (u64, u64)) -> u64 {
    match start {
        Start::Earliest => first,
        Start::Latest => end,
    }
}

/// Where reading goes on in a partition that the database has up to `next`, if the log can do that.
pub(crate) fn landing(
    group: &str,
    place: &Place,
    next: u64,
    (first, end): (u64, u64),
    skip_lost: bool,
) -> Result<u64, Error> {
    let (group, topic, partition) = (group.to_string(), place.0.clone(), place.1);
    match next {
        next if next > end => Err(Error::DatabaseAhead { group, topic, partition, offset: next, end }),
        next if next < first && !skip_lost => {
            Err(Error::RecordsLost { group, topic, partition, from: next, to: first })
        }
        next => Ok(next.max(first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: u32, offset: u64) -> Record {
        let topic = "orders".into();
        Record { topic, partition, offset, timestamp_ms: 0, key: None, value: None, headers: Vec::new() }
    }

    fn claimed(next: u64) -> Claims {
        let claim = Claim { topic_id: 1, claim_epoch: 3, next };
        (0..2).map(|partition| (("orders".to_string(), partition), claim)).collect()
    }

    /// Partitions with offsets.
    type Places = Vec<(u32, u64)>;

    /// Which records are applied, and how far that moves their partitions.
    fn applied(claims: &Claims, records: &[Record]) -> (Places, Places) {
        let Plan::Apply { records, advances } = plan(claims, records) else { panic!("all are claimed") };
        let records = records.iter().map(|record| (record.partition, record.offset)).collect();
        (records, advances.iter().map(|advance| (advance.place.1, advance.to)).collect())
    }

    #[test]
    fn what_the_database_has_is_left_out_and_its_offset_never_goes_back() {
        let claims = claimed(5);
        let all = [record(1, 3), record(1, 4), record(0, 4), record(0, 5), record(0, 9)];
        assert_eq!(applied(&claims, &all), (vec![(0, 5), (0, 9)], vec![(0, 10)]));
        assert_eq!(applied(&claims, &all[..2]), (vec![], vec![]));
        let fresh = [record(1, 5), record(0, 7)];
        assert_eq!(applied(&claims, &fresh), (vec![(1, 5), (0, 7)], vec![(0, 8), (1, 6)]));
    }

    #[test]
    fn a_batch_with_a_partition_that_is_not_claimed_is_not_applied() {
        assert!(matches!(plan(&claimed(0), &[record(0, 0), record(2, 0)]), Plan::Unclaimed));
    }

    #[test]
    fn where_the_log_has_less_than_the_database_needs_it_is_said_and_not_skipped() {
        let place = ("orders".to_string(), 0);
        let land = |next, skip_lost| landing("billing", &place, next, (10, 20), skip_lost);
        assert_eq!(land(10, false).expect("it is the first"), 10);
        assert_eq!(land(20, false).expect("it is the end"), 20);
        assert!(matches!(land(9, false), Err(Error::RecordsLost { from: 9, to: 10, .. })));
        assert_eq!(land(9, true).expect("it may skip"), 10);
        assert!(matches!(land(21, true), Err(Error::DatabaseAhead { offset: 21, end: 20, .. })));
    }
}
