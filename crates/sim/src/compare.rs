//! Compares the model with the engine's state, in what both know.

use exactlog_core::command::DedupScope;
use exactlog_core::ids::{Partition, TimerId};
use exactlog_core::state::{State, Timer};

use crate::model::{Model, Standing};
use crate::runs::RunContents;

/// Says where they differ.
pub fn same(model: &Model, state: &State, runs: &RunContents) -> Result<(), String> {
    equal("last lsn", &model.lsn, &state.lsn)?;
    equal("open number", &model.open_number, &state.open_number)?;
    topics(model, state)?;
    producers(model, state)?;
    groups(model, state)?;
    timers(model, state)?;
    transactions(model, state)?;
    ids(model, state, runs)?;
    tables(model, state)
}

fn tables(model: &Model, state: &State) -> Result<(), String> {
    let found = state.tables.iter().map(|(id, _)| id).collect();
    equal("tables", &model.tables.keys().copied().collect::<Vec<_>>(), &found)?;
    for (id, keys) in &model.tables {
        let rows: Vec<_> =
            keys.iter().map(|(key, it)| (key.clone(), Some(it.at), it.offset, it.lsn)).collect();
        let table = state.tables.get(*id).expect("it was found above");
        let found = table.iter().map(|(key, place)| {
            let at = state.table_place(*id, key).map(|(at, _)| at);
            (key.to_vec(), at, place.offset, place.version)
        });
        equal(&format!("keys of table {id}"), &rows, &found.collect())?;
        equal("number of keys", &(keys.len() as u64), &table.len())?;
    }
    let keys = model.tables.values().map(|keys| keys.len() as u64).sum();
    equal("keys of all tables", &keys, &state.tables.keys())
}

fn ids(model: &Model, state: &State, runs: &RunContents) -> Result<(), String> {
    let (marked, reserved) = (model.ids.marks.len() as u64, model.ids.reservations.len() as u64);
    equal("ids seen", &marked, &state.dedup.marked())?;
    equal("ids reserved", &reserved, &state.dedup.reserved())?;
    equal(
        "key and window of ids",
        &model.ids.settings(),
        &(state.dedup.key(), state.dedup.complete_since_ms()),
    )?;
    let marks = model.ids.marks.iter().map(|it| (it.scope.clone(), it.id));
    let reservations = model.ids.reservations.iter().map(|it| (DedupScope::Named(it.scope.clone()), it.id));
    for (scope, id) in marks.chain(reservations) {
        equal(&format!("id {id} of {scope}"), &model.seen(&scope, id), &runs.seen(state, &scope, id))?;
    }
    Ok(())
}

fn timers(model: &Model, state: &State) -> Result<(), String> {
    let mut waiting = Vec::new();
    let mut stuck = Vec::new();
    for (id, timer) in model.live_timers() {
        let row = (timer.due_ms, id, timer.target, timer.payload_offset);
        match timer.standing {
            Standing::Stuck(failure) => stuck.push((row, Some(failure))),
            _ => waiting.push(row),
        }
    }
    waiting.sort_unstable();
    let row = |(id, timer): (TimerId, &Timer)| (timer.due_ms, id, timer.target, timer.payload_offset);
    equal("waiting timers", &waiting, &state.timers.waiting().map(row).collect())?;
    let found = state.timers.stuck().map(|(id, timer)| (row((id, timer)), timer.failure)).collect();
    equal("stuck timers", &stuck, &found)?;
    equal("timers", &model.live_timers().count(), &state.timers.len())?;
    let hidden = model.hidden.as_ref().map(|hidden| (hidden.start, hidden.end));
    let found = state.partition(Partition::TIMERS).map(|hidden| (hidden.start, hidden.end));
    equal("bounds of the hidden partition", &hidden, &found)
}

fn transactions(model: &Model, state: &State) -> Result<(), String> {
    let rows: Vec<_> = model
        .transactors
        .iter()
        .map(|(id, it)| (id.clone(), it.producer, it.producer_epoch, it.last, it.open()))
        .collect();
    let found = state.transactional.iter();
    let found = found
        .map(|(id, it)| {
            let open = it.transaction().map(|transaction| transaction.txn_seq);
            (id.clone(), it.producer, it.producer_epoch, it.last, open)
        })
        .collect();
    equal("transactional ids", &rows, &found)?;
    for partition in model.partitions() {
        let open: Vec<u64> = model.open_in(partition);
        let found = state.partition(partition).map(|it| it.open.values().map(|open| open.txn_seq));
        let mut found: Vec<u64> = found.into_iter().flatten().collect();
        found.sort_unstable();
        equal(&format!("open transactions in {partition}"), &open, &found)?;
    }
    Ok(())
}

fn topics(model: &Model, state: &State) -> Result<(), String> {
    let ids: Vec<_> = model.topics.keys().collect();
    let found = state.topics.keys().filter(|topic| !topic.is_hidden()).collect();
    equal("topics", &ids, &found)?;
    for (id, topic) in &model.topics {
        let found = &state.topics[id];
        equal("topic name", &topic.name, &found.name)?;
        equal("topic config", &topic.config, &found.config)?;
        equal("config version", &topic.config_version, &found.config_version)?;
        let bounds: Vec<_> = topic.partitions.iter().map(|it| (it.start, it.end)).collect();
        let found_bounds = found.partitions.iter().map(|it| (it.start, it.end)).collect();
        equal(&format!("bounds of topic {id}"), &bounds, &found_bounds)?;
        for (partition, found) in topic.partitions.iter().zip(&found.partitions) {
            let live: Vec<_> = partition.producers.iter().filter(|(_, it)| !it.tombstone).collect();
            let live: Vec<_> = live.into_iter().map(|(id, it)| (*id, it.producer_epoch)).collect();
            let found_live = found.producers.iter().map(|(id, it)| (*id, it.producer_epoch)).collect();
            equal("producers of a partition", &live, &found_live)?;
            let dead = partition.producers.values().filter(|it| it.tombstone).count();
            equal("tombstones of a partition", &dead, &found.tombstones.len())?;
        }
    }
    Ok(())
}

fn producers(model: &Model, state: &State) -> Result<(), String> {
    let rows: Vec<_> = model
        .producers
        .iter()
        .map(|(id, it)| (*id, it.name.clone(), it.producer_epoch, it.last_number(), it.cursor.clone()))
        .collect();
    let found = state.producers.iter();
    let found = found
        .map(|(id, it)| (*id, it.name.clone(), it.producer_epoch, it.last_number, it.cursor.clone()))
        .collect();
    equal("named producers", &rows, &found)
}

fn groups(model: &Model, state: &State) -> Result<(), String> {
    let rows: Vec<_> = model
        .groups
        .iter()
        .map(|(name, it)| {
            let offsets: Vec<_> = it.offsets.iter().map(|(at, it)| (*at, it.0, it.2.as_str())).collect();
            (name.clone(), it.generation, it.member.as_ref().map(|(id, _)| *id), offsets)
        })
        .collect();
    let found = state
        .groups
        .iter()
        .map(|(name, it)| {
            let offsets: Vec<_> =
                it.offsets.iter().map(|(at, it)| (*at, it.offset, it.metadata.as_str())).collect();
            (name.clone(), it.generation, it.members.keys().next().copied(), offsets)
        })
        .collect();
    equal("groups", &rows, &found)
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, model: &T, engine: &T) -> Result<(), String> {
    if model == engine {
        return Ok(());
    }
    Err(format!("{what}: the model has {model:?}, the engine {engine:?}"))
}
