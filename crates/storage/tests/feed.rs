//! What follows a state by the heads of its commands is that state, without its records.

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{AtCap, Command, ConfigChange, Dedup, TopicConfig};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};
use exactlog_core::reply::Applied;
use exactlog_sim::disk::SimDisk;
use exactlog_storage::behind::{Owned, roll};
use exactlog_storage::checkpoint::{Image, state_hash};
use exactlog_storage::feed::Fed;
use exactlog_storage::shard::{Options, Shard, Submission};
use std::sync::Arc;

fn shard() -> Shard {
    let options = Options { dedup_memory_entries: 4, journal_file_bytes: 1 << 20, ..Options::default() };
    let mut nonce = 0;
    let mut random = || {
        nonce += 1;
        nonce
    };
    Shard::open(Arc::new(SimDisk::new()), options, &mut random).unwrap().0
}

fn execute(shard: &mut Shard, time_ms: i64, command: Command) -> Applied {
    shard.execute(&[Submission { time_ms, command }]).unwrap().remove(0)
}

fn identified(n: u8) -> Command {
    let mut builder = BatchBuilder::new(1 << 16);
    builder.append(1000, Some(b"k"), Some(&[n; 100]), &[]);
    let sender = (ProducerId(1), 0);
    let partition = Partition { topic: TopicId(1), index: 0 };
    let (ids, batch) = (vec![DedupId([n; 16])], builder.finish(None));
    Dedup::Append { sender, partition, config_version: 0, ids, batch }.into()
}

fn opened(shard: &mut Shard) {
    let config = TopicConfig::default();
    execute(shard, 1000, Command::Open);
    execute(shard, 1000, Command::Config(ConfigChange::DedupKey { key: [1; 16] }));
    execute(shard, 1000, Command::CreateTopic { name: "t".into(), partitions: 2, config });
    execute(shard, 1000, Command::InitProducer { name: Some("p".into()) });
}

/// Bodies stay where they are, and marks go into runs on disk: neither is asked of whoever follows.
#[test]
fn a_state_that_follows_by_heads_is_the_state_and_gives_the_same_answers() {
    let mut shard = shard();
    opened(&mut shard);
    let picture = Image::of_state(shard.follow_from_here()).unwrap();
    let mut state = Image::read_state(&picture).unwrap();
    let (mut answered, mut asked) = (Vec::new(), 0);
    for n in 0..40_u8 {
        // Every third one was seen before, some of them only by a run.
        let id = if n % 3 == 2 { n / 2 } else { n };
        answered.push(execute(&mut shard, 2000 + i64::from(n), identified(id)));
        while shard.wants_run() && roll(&mut Owned(&mut shard)).unwrap() {}
    }
    let limits = ConfigChange::DedupLimits { ttl_ms: 1, entries_max: 9, at_cap: AtCap::Shorten };
    execute(&mut shard, 9_000, Command::Config(limits));
    execute(&mut shard, 9_000, Command::Tick);
    let mut replies = answered.iter();
    loop {
        let fed = shard.feed().since(shard.term(), state.lsn, 300).unwrap();
        if fed.is_empty() {
            break;
        }
        for fed in fed {
            asked += fed.answers.iter().count();
            let (command, applied) = fed.apply(&mut state).unwrap();
            assert!(fed.head.len() < 300, "the record isn't in it");
            if let Command::Dedup(request) = &command
                && matches!(**request, Dedup::Append { .. })
            {
                assert_eq!(&applied, replies.next().unwrap());
            }
        }
    }
    assert!(replies.next().is_none() && asked > 0, "some were asked of runs");
    assert_eq!(state_hash(&state), state_hash(&shard.state()));
}

#[test]
fn what_is_no_place_to_go_on_from_is_told() {
    let mut shard = shard();
    opened(&mut shard);
    let feed = shard.feed();
    let (term, lsn) = (shard.term(), shard.state().lsn);
    assert!(feed.since(term, lsn, 1000).is_none(), "nobody follows");
    shard.follow_from_here();
    assert!(feed.since(term, lsn, 1000).unwrap().is_empty());
    execute(&mut shard, 3000, identified(1));
    assert_eq!(feed.since(term, lsn, 0).unwrap().len(), 1);
    for (term, lsn) in [(term + 1, lsn), (term, lsn - 1), (term, lsn + 2), (term, u64::MAX)] {
        assert!(feed.since(term, lsn, 1000).is_none(), "{term} {lsn}");
    }
    feed.stop();
    assert!(feed.since(term, lsn, 1000).is_none());
}

#[test]
fn it_forgets_the_oldest_and_whoever_was_behind_begins_anew() {
    let mut shard = shard();
    opened(&mut shard);
    shard.follow_from_here();
    let (feed, term, lsn) = (shard.feed(), shard.term(), shard.state().lsn);
    let name = |n: u32| format!("{n:0>200}");
    let long = |n| Command::InitProducer { name: Some(name(n)) };
    let group: Vec<Submission> = (0..2000).map(|n| Submission { time_ms: 4000, command: long(n) }).collect();
    let mut groups = 0;
    while feed.since(term, lsn, 1000).is_some() {
        shard.execute(&group).unwrap();
        shard.checkpoint().unwrap();
        groups += 1;
        assert!(groups < 100, "it keeps everything");
    }
    let last = shard.state().lsn;
    let near = feed.since(term, last - 2000, usize::MAX).expect("who isn't far behind is served");
    assert_eq!((near.len(), near[0].lsn), (2000, last - 1999));
}

#[test]
fn what_is_no_command_or_not_the_next_one_is_an_error() {
    let mut shard = shard();
    opened(&mut shard);
    let state = shard.follow_from_here();
    execute(&mut shard, 3000, identified(1));
    let fed = shard.feed().since(shard.term(), state.lsn, 1000).unwrap().remove(0);
    assert!(fed.apply(&mut state.clone()).is_ok());
    let later = Fed { lsn: fed.lsn + 1, ..fed.clone() };
    assert!(later.apply(&mut state.clone()).is_err());
    let unknown = Fed { kind: 200, ..fed.clone() };
    assert!(unknown.apply(&mut state.clone()).is_err());
    for len in 0..fed.head.len() {
        let cut = Fed { head: fed.head.slice(..len), ..fed.clone() };
        assert!(cut.apply(&mut state.clone()).is_err(), "{len}");
    }
}
