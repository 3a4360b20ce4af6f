//! Members that join, stall, lose answers, vanish and come back in any order, while topics come, grow and go.
//!
//! ```text
//!   Away -> Free (epoch 0) -> Member: what it has, and what it was told to have -> Free, Away
//! ```
//!
//! Each client does what Kafka's do: it gives up what it isn't to have, says so, and takes the rest. It goes on having
//! what it has while it stalls, until it learns that it was fenced. After each step the intervals of ownership are
//! looked at: what one has that is a member has no other one. When nobody fails any more the group has to settle.

use super::tests::{beat, topic_partition, topics};
use super::*;
use proptest::prelude::*;

const GROUP: &str = "g";
const HEARTBEAT_MS: i64 = 5000;
const REBALANCE_MS: i32 = 20_000;
const SETTLES_WITHIN_MS: i64 = 300_000;
const CLIENTS: usize = 6;
const NAMES: [&str; 3] = ["orders", "orders-eu", "payments"];

#[derive(Clone, Debug)]
enum Action {
    /// A client sends a heartbeat, and does what it is told.
    Step(usize),
    /// The same, but the answer gets lost.
    Lose(usize),
    /// It is told something, and isn't done with it before its next step.
    Stall(usize),
    Resubscribe(usize, u8),
    Commit(usize),
    Leave(usize),
    /// It is gone without a word.
    Crash(usize),
    /// A topic has so many partitions from now on; 0: it is deleted.
    Topic(usize, i32),
    Pass(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let client = || 0..CLIENTS;
    prop_oneof![
        14 => client().prop_map(Action::Step),
        3 => client().prop_map(Action::Lose),
        3 => client().prop_map(Action::Stall),
        1 => (client(), 0..5u8).prop_map(|(client, what)| Action::Resubscribe(client, what)),
        2 => client().prop_map(Action::Commit),
        1 => client().prop_map(Action::Leave),
        1 => client().prop_map(Action::Crash),
        1 => (0..NAMES.len(), 0..9i32).prop_map(|(topic, partitions)| Action::Topic(topic, partitions)),
        3 => prop_oneof![0..100i64, 0..6000i64, 0..60_000i64].prop_map(Action::Pass),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    member_id: String,
    instance_id: Option<String>,
    is_away: bool,
    epoch: i32,
    /// What it reads, and may commit for.
    has: BTreeSet<TopicPartition>,
    /// What it was told to have.
    told: Option<BTreeSet<TopicPartition>>,
    /// It says what it has with its next heartbeat.
    says_what_it_has: bool,
    /// It says everything with its next heartbeat, since it doesn't know what became of the last one.
    says_all: bool,
    subscription: u8,
    assignor: Option<String>,
}

impl Client {
    fn subscribe(&self, heartbeat: Heartbeat) -> Heartbeat {
        let named = |names: &[&str]| Some(names.iter().map(|it| (*it).to_owned()).collect());
        let (topic_names, regex) = match self.subscription {
            0 => (named(&["orders"]), ""),
            1 => (named(&["orders", "payments"]), ""),
            2 => (named(&[]), "orders.*"),
            3 => (named(&["payments"]), "orders-.."),
            _ => (named(&[]), ""),
        };
        Heartbeat { topic_names, topic_regex: Some(regex.to_owned()), ..heartbeat }
    }

    /// Does what it was told.
    fn obey(&mut self) {
        if let Some(told) = self.told.take() {
            self.has = told;
        }
    }

    /// It gives up what it isn't to have: only then it may say so.
    fn give_up(&mut self) {
        if let Some(told) = &self.told {
            self.has.retain(|it| told.contains(it));
        }
    }

    fn forget(&mut self) {
        *self = Client {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.take(),
            subscription: self.subscription,
            assignor: self.assignor.take(),
            is_away: self.is_away,
            ..Client::default()
        };
    }
}

struct World {
    coordinator: Coordinator,
    now_ms: i64,
    clients: Vec<Client>,
    /// Id and partitions of each.
    topic_facts: [(u128, i32); NAMES.len()],
    topics: Arc<Topics>,
    member_ids: usize,
    epoch: i32,
}

impl World {
    fn new() -> Self {
        let client = |index: usize| Client {
            is_away: true,
            instance_id: (index >= 4).then(|| format!("i{index}")),
            subscription: (index % 3) as u8,
            assignor: (index == 0).then(|| "range".to_owned()),
            ..Client::default()
        };
        let mut world = World {
            coordinator: Coordinator::new(Settings::default()),
            now_ms: 1000,
            clients: (0..CLIENTS).map(client).collect(),
            topic_facts: [(1, 4), (2, 3), (3, 0)],
            topics: Arc::default(),
            member_ids: 0,
            epoch: 0,
        };
        world.change_topic(2, 5);
        world
    }

    /// A topic that is deleted and created again has another id.
    fn change_topic(&mut self, index: usize, partitions: i32) {
        let (id, count) = &mut self.topic_facts[index];
        match partitions {
            0 => (*id, *count) = (*id + 10, 0),
            more => *count = more.max(*count),
        }
        let there = NAMES.iter().zip(self.topic_facts).filter(|(_, (_, count))| *count > 0);
        self.topics = Arc::new(topics(there.map(|(name, (id, count))| (*name, id, count))));
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Step(index) => self.step(index, true),
            Action::Lose(index) => self.lose(index),
            Action::Stall(index) => self.step(index, false),
            Action::Resubscribe(index, subscription) => {
                self.clients[index].subscription = subscription;
                self.clients[index].says_all = true;
            }
            Action::Commit(index) => self.commit(index),
            Action::Leave(index) => self.leave(index),
            Action::Crash(index) => {
                self.clients[index].is_away = true;
                self.clients[index].forget();
            }
            Action::Topic(index, partitions) => self.change_topic(index, partitions),
            Action::Pass(ms) => self.pass(self.now_ms + ms),
        }
        self.check();
    }

    fn heartbeat_of(&mut self, index: usize) -> Heartbeat {
        let client = &mut self.clients[index];
        if std::mem::take(&mut client.is_away) || client.member_id.is_empty() {
            self.member_ids += 1;
            client.member_id = format!("m{index}-{}", self.member_ids);
        }
        client.give_up();
        let is_full = client.epoch == 0 || client.says_all;
        let reports = is_full || client.told.is_some() || std::mem::take(&mut client.says_what_it_has);
        let heartbeat = Heartbeat {
            instance_id: client.instance_id.clone(),
            rebalance_timeout_ms: if is_full { REBALANCE_MS } else { -1 },
            server_assignor: client.assignor.clone(),
            owned: reports.then(|| client.has.clone()),
            ..beat(&client.member_id, client.epoch)
        };
        if is_full { client.subscribe(heartbeat) } else { heartbeat }
    }

    fn ask(&mut self, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        self.coordinator.heartbeat(self.now_ms, heartbeat, 7, &self.topics)
    }

    fn step(&mut self, index: usize, obeys: bool) {
        let heartbeat = self.heartbeat_of(index);
        let asked = self.ask(heartbeat.clone());
        let client = &mut self.clients[index];
        match asked {
            Ok(beaten) => {
                assert!(beaten.member_epoch >= client.epoch, "{beaten:?} after {}", client.epoch);
                client.says_all = false;
                client.epoch = beaten.member_epoch;
                client.told = beaten.assignment.or(client.told.take());
            }
            // Another incarnation may still have its place: it tries again.
            Err((UNRELEASED_INSTANCE_ID, _)) => {}
            Err((FENCED_MEMBER_EPOCH | UNKNOWN_MEMBER_ID, _)) => client.forget(),
            Err((FENCED_INSTANCE_ID, _)) => {
                client.forget();
                client.member_id.clear();
            }
            Err(other) => panic!("{heartbeat:?}: {other:?}"),
        }
        if obeys {
            client.says_what_it_has |= client.told.is_some();
            client.obey();
        }
    }

    fn lose(&mut self, index: usize) {
        let heartbeat = self.heartbeat_of(index);
        let _ = self.ask(heartbeat);
        self.clients[index].says_all = true;
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let member_epoch =
            if client.instance_id.is_some() && client.subscription.is_multiple_of(2) { -2 } else { -1 };
        let heartbeat =
            Heartbeat { instance_id: client.instance_id.clone(), ..beat(&client.member_id, member_epoch) };
        client.is_away = true;
        client.forget();
        if !heartbeat.member_id.is_empty() {
            let left = self.ask(heartbeat);
            assert!(left.is_ok() || left.as_ref().is_err_and(|it| matches!(it.0, 25 | 69 | 82)), "{left:?}");
        }
    }

    /// Who has a partition may commit for it, and who is no member may not.
    fn commit(&mut self, index: usize) {
        let client = &self.clients[index];
        let partitions: Vec<TopicPartition> = client.has.iter().copied().collect();
        if partitions.is_empty() {
            return;
        }
        let commit = Commit {
            member_id: &client.member_id,
            instance_id: client.instance_id.as_deref(),
            member_epoch: client.epoch,
            partitions: &partitions,
            is_transactional: false,
            knows_member_epochs: true,
        };
        let checked = self.coordinator.check_commit(GROUP, commit);
        match self.known()(client) {
            true => assert_eq!(checked, Some(Ok(())), "{client:?}"),
            false => assert!(checked.is_none_or(|it| it.is_err()), "{client:?}"),
        }
    }

    /// Whom the coordinator knows as what it takes itself for: not as an incarnation that came later, nor as one that
    /// has left.
    fn known(&self) -> impl Fn(&Client) -> bool + use<> {
        let members = self.coordinator.describe(GROUP).into_iter().flat_map(|it| it.members);
        let epochs: BTreeMap<String, i32> = members.map(|it| (it.member_id, it.member_epoch)).collect();
        move |client| {
            let epoch = epochs.get(&client.member_id);
            !client.is_away && client.epoch > 0 && epoch.is_some_and(|epoch| *epoch >= client.epoch)
        }
    }

    /// GR-4, and that epochs only rise.
    fn check(&mut self) {
        let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        let is_known = self.known();
        for (index, client) in self.clients.iter().enumerate().filter(|(_, it)| is_known(it)) {
            for partition in &client.has {
                let other = owners.insert(*partition, index);
                assert_eq!(other, None, "{partition:?} is {index}'s, too: {:?}", self.clients);
            }
        }
        let Some(described) = self.coordinator.describe(GROUP) else { return };
        assert!(described.epoch >= self.epoch && described.assignment_epoch <= described.epoch);
        self.epoch = described.epoch;
        let mut targets = BTreeSet::new();
        for member in &described.members {
            assert!(member.member_epoch <= described.epoch, "{member:?}");
            for of_topic in &member.target {
                of_topic.indexes.iter().for_each(|index| {
                    assert!(targets.insert((of_topic.topic, *index)), "{index} of {} twice", of_topic.name);
                });
            }
        }
    }

    fn pass(&mut self, until_ms: i64) {
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|it| *it <= until_ms) {
            self.now_ms = due_ms.max(self.now_ms);
            self.coordinator.tick(self.now_ms, &self.topics);
            let next_ms = self.coordinator.next_deadline_ms();
            assert!(next_ms.is_none_or(|it| it > self.now_ms), "what was due isn't done");
            self.check();
        }
        self.now_ms = until_ms;
    }

    fn present(&self) -> Vec<usize> {
        (0..CLIENTS).filter(|index| !self.clients[*index].is_away).collect()
    }

    /// Whether those who are there, and nobody else, have all partitions of what they subscribe to.
    fn is_settled(&self) -> bool {
        let Some(told) = self.coordinator.describe(GROUP) else { return self.present().is_empty() };
        let is_idle = matches!(told.state, GroupState::Stable | GroupState::Empty);
        let is_done = |index: &usize| {
            let client = &self.clients[*index];
            let member = told.members.iter().find(|it| it.member_id == client.member_id);
            let partitions = |all: &[DescribedPartitions]| -> BTreeSet<TopicPartition> {
                let of_topic = |it: &DescribedPartitions| {
                    let topic = it.topic;
                    it.indexes.iter().map(move |index| topic_partition(topic.0, *index)).collect::<Vec<_>>()
                };
                all.iter().flat_map(of_topic).collect()
            };
            member.is_some_and(|it| {
                it.member_epoch == client.epoch
                    && !client.says_all
                    && partitions(&it.assignment) == client.has
                    && partitions(&it.target) == client.has
            })
        };
        is_idle && told.members.len() == self.present().len() && self.present().iter().all(is_done)
    }

    fn settle(&mut self) {
        let limit_ms = self.now_ms + SETTLES_WITHIN_MS;
        // Once in any case: that a topic has grown is seen by the next heartbeat.
        loop {
            for index in self.present() {
                self.step(index, true);
                self.check();
            }
            self.pass(self.now_ms + HEARTBEAT_MS);
            if self.is_settled() {
                return;
            }
            assert!(self.now_ms < limit_ms, "{:?}\n{:?}", self.coordinator.describe(GROUP), self.clients);
        }
    }

    /// The partitions that somebody subscribes to, as the topics are now.
    fn wanted(&self) -> BTreeSet<TopicPartition> {
        let of_name = |name: &str| self.topics.by_name.get(name).copied();
        let names = self.present().into_iter().flat_map(|index| match self.clients[index].subscription {
            0 => vec!["orders"],
            1 => vec!["orders", "payments"],
            2 => vec!["orders", "orders-eu"],
            3 => vec!["payments", "orders-eu"],
            _ => vec![],
        });
        let partitions = |topic: Topic| (0..topic.partitions).map(move |it| topic_partition(topic.id.0, it));
        names.filter_map(of_name).flat_map(partitions).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gr_4_whatever_members_do_no_partition_has_two_owners_and_the_group_settles(
        actions in prop::collection::vec(action(), 0..250)
    ) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.settle();
        let owned = world.present().into_iter().flat_map(|index| world.clients[index].has.clone());
        assert_eq!(owned.collect::<BTreeSet<_>>(), world.wanted());
        // What is stable stays so.
        let epoch = world.coordinator.describe(GROUP).map(|it| it.epoch);
        for _ in 0..20 {
            world.present().into_iter().for_each(|index| world.step(index, true));
            world.pass(world.now_ms + HEARTBEAT_MS);
        }
        assert!(world.is_settled());
        assert_eq!(world.coordinator.describe(GROUP).map(|it| it.epoch), epoch);
    }
}
