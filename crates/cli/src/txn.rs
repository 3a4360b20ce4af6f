//! `txn`: list, describe, producers, find-hanging, abort (KIP-664): transactional ids, and what partitions remember of
//! producers.
//!
//! What an embedded [`Transaction`](exactlog::Transaction) commits has no place here: it is true or not there, never
//! open.

use crate::args::{Global, TxnVerb};
use crate::failure::Failure;
use crate::open;
use crate::place::{self, Place, ProducerFacts, TopicFacts, TransactionFacts};
use crate::report::{Column, Report, column, wide};
use crate::suggest;
use crate::texts::count;
use crate::topic::DRY_RUN;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LIST: &[Column] = &[
    column("transactional_id"),
    column("state"),
    column("open_seconds"),
    column("producer_id"),
    wide("producer_epoch"),
    wide("timeout_ms"),
];
const DESCRIBE: &[Column] = &[
    column("transactional_id"),
    column("state"),
    column("producer_id"),
    column("producer_epoch"),
    column("timeout_ms"),
    column("started_ms"),
    column("open_seconds"),
    column("partitions"),
];
const PRODUCERS: &[Column] = &[
    column("topic"),
    column("partition"),
    column("producer_id"),
    column("producer_epoch"),
    column("last_sequence"),
    column("last_timestamp_ms"),
    column("coordinator_epoch"),
    column("transaction_start_offset"),
];
const HANGING: &[Column] = &[
    column("topic"),
    column("partition"),
    column("producer_id"),
    column("producer_epoch"),
    column("transaction_start_offset"),
    column("transactional_id"),
    column("open_seconds"),
    column("why"),
];
const ABORTED: &[Column] = &[
    column("transactional_id"),
    column("prior_state"),
    column("producer_id"),
    column("producer_epoch"),
    column("status"),
];

/// What a transactional id is in whose name something is open.
const ONGOING: &str = "Ongoing";

pub(crate) fn run(global: &Global, verb: &TxnVerb) -> Result<Report, Failure> {
    match verb {
        TxnVerb::List => place::looking(global, list),
        TxnVerb::Describe { ids } => place::looking(global, |place| describe(place, ids)),
        TxnVerb::Producers { topic, partition } => {
            place::looking(global, |place| producers(place, topic, *partition))
        }
        TxnVerb::FindHanging { topics, over } => {
            place::looking(global, |place| find_hanging(place, topics, *over))
        }
        TxnVerb::Abort { id, execute: true } => place::changing(global, |place| abort(place, id, true)),
        TxnVerb::Abort { id, execute: false } => place::looking(global, |place| abort(place, id, false)),
    }
}

/// For how long a transaction has been open, in seconds.
fn open_seconds(found: &TransactionFacts) -> Value {
    let ms = found.started_ms.map(|started_ms| open::now_ms().saturating_sub(started_ms).max(0));
    ms.map_or(Value::Null, |ms| json!(ms as f64 / 1000.0))
}

fn list(place: &dyn Place) -> Result<Report, Failure> {
    let row = |found: &TransactionFacts| {
        vec![
            json!(found.transactional_id),
            json!(found.state),
            open_seconds(found),
            json!(found.producer_id),
            json!(found.producer_epoch),
            json!(found.timeout_ms),
        ]
    };
    Ok(Report::table("transactions", LIST, place.transactions(None)?.iter().map(row).collect()))
}

/// Those of these ids, all of which have to be there.
fn find(place: &dyn Place, ids: &[String]) -> Result<Vec<TransactionFacts>, Failure> {
    let found = place.transactions(Some(ids))?;
    let Some(missing) = ids.iter().find(|id| found.iter().all(|it| it.transactional_id != **id)) else {
        return Ok(found);
    };
    let all = place.transactions(None)?;
    let names = all.iter().map(|it| it.transactional_id.as_str());
    let hint = suggest::sentence(missing, names, "exactlog txn list shows the transactional ids");
    Err(Failure::new("NO_SUCH_TRANSACTION", format!("there is no transactional id {missing:?}")).hint(hint))
}

fn describe(place: &dyn Place, ids: &[String]) -> Result<Report, Failure> {
    let row = |found: &TransactionFacts| {
        let partitions = found.partitions.iter().map(|(topic, index)| format!("{topic}-{index}"));
        vec![
            json!(found.transactional_id),
            json!(found.state),
            json!(found.producer_id),
            json!(found.producer_epoch),
            json!(found.timeout_ms),
            json!(found.started_ms),
            open_seconds(found),
            json!(partitions.collect::<Vec<_>>()),
        ]
    };
    Ok(Report::table("transactions", DESCRIBE, find(place, ids)?.iter().map(row).collect()))
}

fn producers(place: &dyn Place, topic: &str, partition: Option<u32>) -> Result<Report, Failure> {
    let topic = place::topic(place, topic)?;
    let mut rows = Vec::new();
    for index in place::partitions(&topic, partition)? {
        rows.extend(place.producers(&topic, index)?.iter().map(|found| {
            vec![
                json!(topic.name),
                json!(index),
                json!(found.producer_id),
                json!(found.producer_epoch),
                json!(found.last_sequence),
                json!(found.last_timestamp_ms),
                json!(found.coordinator_epoch),
                json!(found.transaction_start),
            ]
        }));
    }
    Ok(Report::table("producers", PRODUCERS, rows))
}

/// Why something that is open in a partition hangs; `None`: it doesn't.
fn why(
    found: &ProducerFacts,
    of: Option<&TransactionFacts>,
    at: (&str, u32),
    over: Option<Duration>,
    now_ms: i64,
) -> Option<String> {
    let Some(of) = of else {
        return Some("no transactional id has this producer".to_string());
    };
    if of.state != ONGOING {
        return Some(format!("its transactional id is {}", of.state));
    }
    if !of.partitions.iter().any(|(topic, index)| (topic.as_str(), *index) == at) {
        return Some("its transaction doesn't have this partition".to_string());
    }
    if i32::from(of.producer_epoch) != found.producer_epoch {
        return Some(format!("its transactional id is at epoch {}", of.producer_epoch));
    }
    let over_ms = over.map_or(of.timeout_ms, |over| over.as_millis() as i64);
    let open_ms = now_ms.saturating_sub(of.started_ms?);
    (open_ms > over_ms).then(|| format!("it is open for longer than {over_ms} ms"))
}

fn find_hanging(place: &dyn Place, topics: &[String], over: Option<Duration>) -> Result<Report, Failure> {
    let topics: Vec<TopicFacts> = match topics {
        [] => place.topics()?,
        names => names.iter().map(|name| place::topic(place, name)).collect::<Result<_, _>>()?,
    };
    let mut open = Vec::new();
    for topic in &topics {
        for index in 0..topic.partitions {
            let found = place.producers(topic, index)?;
            let is_open = |it: &ProducerFacts| it.transaction_start.is_some();
            open.extend(found.into_iter().filter(is_open).map(|it| (topic, index, it)));
        }
    }
    // Asked for after the partitions: what has ended meanwhile is told as ended, so it is looked at once more below.
    let ids: BTreeMap<i64, TransactionFacts> =
        place.transactions(None)?.into_iter().map(|it| (it.producer_id, it)).collect();
    let mut rows = Vec::new();
    for (topic, index, found) in open {
        let of = ids.get(&found.producer_id);
        let Some(why) = why(&found, of, (&topic.name, index), over, open::now_ms()) else { continue };
        let still = place
            .producers(topic, index)?
            .into_iter()
            .any(|it| (it.producer_id, it.transaction_start) == (found.producer_id, found.transaction_start));
        if !still {
            continue;
        }
        rows.push(vec![
            json!(topic.name),
            json!(index),
            json!(found.producer_id),
            json!(found.producer_epoch),
            json!(found.transaction_start),
            json!(of.map(|of| &of.transactional_id)),
            of.map_or(Value::Null, open_seconds),
            json!(why),
        ]);
    }
    let hanging: BTreeSet<String> = rows.iter().filter_map(|row| row[5].as_str().map(String::from)).collect();
    let exit = if rows.is_empty() { 0 } else { 4 };
    let report = Report::table("hanging", HANGING, rows).exit(exit);
    Ok(match hanging.first() {
        Some(id) => report.note(format!("exactlog txn abort {id} says what it would do")),
        None => report,
    })
}

fn abort(place: &dyn Place, id: &str, execute: bool) -> Result<Report, Failure> {
    let found = find(place, &[id.to_string()])?;
    let Some(found) = found.first() else {
        return Err(Failure::new("NO_SUCH_TRANSACTION", format!("there is no transactional id {id:?}")));
    };
    let is_open = found.state == ONGOING;
    let (producer_id, producer_epoch) = match execute {
        true => place.fence(found)?,
        false => (found.producer_id, found.producer_epoch),
    };
    let status = match (execute, is_open) {
        (true, true) => "aborted, and its producer is fenced",
        (true, false) => "nothing was open; its producer is fenced",
        (false, true) => "would be aborted, and its producer fenced",
        (false, false) => "nothing is open; its producer would be fenced",
    };
    let row = vec![json!(id), json!(found.state), json!(producer_id), json!(producer_epoch), json!(status)];
    let report = Report::table("transactions", ABORTED, vec![row]).field("dry_run", !execute);
    let written = count(found.partitions.len() as u64, "partition");
    Ok(match execute {
        true => report,
        false if is_open => {
            report.note(format!("its records in {written} would never be shown")).note(DRY_RUN)
        }
        false => report.note(DRY_RUN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at(epoch: i32) -> ProducerFacts {
        ProducerFacts {
            producer_id: 7,
            producer_epoch: epoch,
            last_sequence: 0,
            last_timestamp_ms: 0,
            coordinator_epoch: None,
            transaction_start: Some(3),
        }
    }

    #[test]
    fn a_transaction_hangs_if_nobody_will_end_it() {
        let of = TransactionFacts {
            transactional_id: "t".into(),
            state: ONGOING.into(),
            producer_id: 7,
            producer_epoch: 1,
            timeout_ms: 1000,
            started_ms: Some(10_000),
            partitions: vec![("orders".into(), 0)],
        };
        let judged = |of: Option<&TransactionFacts>, at, over, now_ms| {
            why(&open_at(1), of, at, over, now_ms).unwrap_or_default()
        };
        let at = ("orders", 0);
        assert_eq!(judged(Some(&of), at, None, 11_000), "");
        assert!(judged(Some(&of), at, None, 11_001).contains("1000 ms"));
        assert!(judged(Some(&of), at, Some(Duration::from_millis(1)), 10_002).contains("longer than 1 ms"));
        assert!(judged(None, at, None, 0).contains("no transactional id"));
        assert!(judged(Some(&of), ("orders", 1), None, 0).contains("doesn't have this partition"));
        let ended = TransactionFacts { state: "CompleteCommit".into(), ..of.clone() };
        assert!(judged(Some(&ended), at, None, 0).contains("CompleteCommit"));
        assert!(why(&open_at(0), Some(&of), at, None, 0).is_some_and(|why| why.contains("epoch 1")));
    }
}
