//! Groups of consumers, as Kafka's clients know them: who waits for whom, and until when.
//!
//! What is decided is decided in [`classic`]; here it gets its clock, and its answers find those who wait. Offsets are
//! the log's.
//!
//! Invariants
//!   * nobody knows of a group but this node: after a restart its members join anew, and their offsets are there
//!   * a commit of offsets has its place in the log's order before the group goes on to its next generation

mod classic;

use crate::node::Node;
use crate::options::NodeOptions;
pub(crate) use classic::{
    Answer, Claim, DescribedMember, Description, GroupState, Join, Joined, JoinedMember, Leaving, Listed,
    Sync, Synced,
};
use classic::{Coordinator, Settings, Ticket};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// The groups of a node.
#[derive(Debug)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
    /// Something happened that may be due earlier than what was waited for.
    changed: Notify,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    coordinator: Coordinator,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_ticket: u64,
}

impl Groups {
    pub(crate) fn new(options: &NodeOptions) -> Groups {
        let delay_ms = i32::try_from(options.initial_rebalance_delay.as_millis()).unwrap_or(i32::MAX);
        let settings = Settings { initial_rebalance_delay_ms: delay_ms, ..Settings::default() };
        let coordinator = Coordinator::new(settings);
        let inner = Inner { coordinator, waiting: BTreeMap::new(), next_ticket: 0 };
        Groups { inner: Mutex::new(inner), changed: Notify::new(), started: Instant::now() }
    }

    /// Joins a group, which is answered when its other members have joined.
    pub(crate) async fn join(&self, join: Join) -> Option<Joined> {
        let suffix = random();
        match self.wait(|coordinator, now_ms, ticket| coordinator.join(now_ms, join, suffix, ticket)).await {
            Some(Answer::Joined(joined)) => Some(joined),
            _ => None,
        }
    }

    /// Waits for a member's part of what the leader has assigned.
    pub(crate) async fn sync(&self, sync: Sync) -> Option<Synced> {
        match self.wait(|coordinator, now_ms, ticket| coordinator.sync(now_ms, sync, ticket)).await {
            Some(Answer::Synced(synced)) => Some(synced),
            _ => None,
        }
    }

    async fn wait(&self, ask: impl FnOnce(&mut Coordinator, i64, Ticket)) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.with(|inner, now_ms| {
            inner.next_ticket += 1;
            let ticket = inner.next_ticket;
            inner.waiting.insert(ticket, answer);
            ask(&mut inner.coordinator, now_ms, Ticket(ticket));
        });
        answered.await.ok()
    }

    pub(crate) fn heartbeat(&self, group: &str, claim: Claim<'_>) -> i16 {
        self.with(|inner, now_ms| inner.coordinator.heartbeat(now_ms, group, claim))
    }

    pub(crate) fn leave(&self, group: &str, members: &[Leaving]) -> Vec<i16> {
        self.with(|inner, now_ms| inner.coordinator.leave(now_ms, group, members))
    }

    /// Does something for a member that may commit for its group, before the group can go on.
    ///
    /// # Errors
    /// The code that it is refused with.
    pub(crate) fn committing<T>(
        &self,
        group: &str,
        claim: Claim<'_>,
        is_transactional: bool,
        commit: impl FnOnce() -> T,
    ) -> Result<T, i16> {
        self.with(|inner, now_ms| {
            inner.coordinator.check_commit(now_ms, group, claim, is_transactional)?;
            Ok(commit())
        })
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        self.inner.lock().coordinator.list()
    }

    pub(crate) fn describe(&self, group: &str) -> Description {
        self.inner.lock().coordinator.describe(group)
    }

    /// Forgets a group without members; what else it has is the log's to forget.
    pub(crate) fn delete(&self, group: &str) -> i16 {
        self.with(|inner, _| inner.coordinator.delete(group))
    }

    pub(crate) fn check_offset_delete(&self, group: &str, topic: &str) -> i16 {
        self.inner.lock().coordinator.check_offset_delete(group, topic)
    }

    /// Everybody who waits is told that the node ends.
    fn shut_down(&self) {
        self.with(|inner, now_ms| inner.coordinator.shut_down(now_ms));
    }

    /// What is due by now happens; when to look again.
    fn tick(&self) -> Option<Instant> {
        let due_ms = self.with(|inner, now_ms| {
            inner.coordinator.tick(now_ms);
            inner.coordinator.next_deadline_ms()
        });
        due_ms.map(|due_ms| self.started + Duration::from_millis(u64::try_from(due_ms).unwrap_or(0)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner, i64) -> T) -> T {
        let now_ms = self.started.elapsed().as_millis() as i64;
        let (done, answers) = {
            let mut inner = self.inner.lock();
            let before_ms = inner.coordinator.next_deadline_ms();
            let done = work(&mut inner, now_ms);
            let taken = inner.coordinator.take_answers();
            let answers: Vec<_> = taken
                .into_iter()
                .filter_map(|(Ticket(ticket), answer)| Some((inner.waiting.remove(&ticket)?, answer)))
                .collect();
            if inner.coordinator.next_deadline_ms() != before_ms {
                self.changed.notify_one();
            }
            (done, answers)
        };
        for (waiting, answer) in answers {
            // Who doesn't wait any more has gone: the group learns that by his silence.
            let _ = waiting.send(answer);
        }
        done
    }
}

/// Lets time pass for the groups of a node, until it ends.
pub(crate) async fn keep_time(node: Arc<Node>) {
    loop {
        let due = node.groups.tick();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = node.stopped() => return node.groups.shut_down(),
            () = node.groups.changed.notified() => {}
            () = due => {}
        }
    }
}

/// A number that nobody guesses.
fn random() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}

/// The names of all groups: of those that have members here, and of those that the log has anything of.
pub(crate) fn names_beside(node: &Node, listed: &[Listed]) -> Vec<(String, usize)> {
    let known: HashSet<&str> = listed.iter().map(|listed| listed.group.as_str()).collect();
    let mut names = node.log.group_names();
    names.retain(|(name, _)| !known.contains(name.as_str()));
    names
}
