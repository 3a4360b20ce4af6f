//! Clients that join, commit, crash and come back in any order, against one group.
//!
//! ```text
//!   Away -> Free -> Joining -> Joined -> Syncing -> Member -> Free, Away
//! ```
//!
//! Each client does what Kafka's clients do with what it is answered. When no client crashes any more, all that are
//! there have to end up in one stable generation: driven by nothing but their heartbeats and the deadlines that the
//! coordinator tells.

use super::*;
use proptest::prelude::*;

const GROUP: &str = "g";
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 30_000;
const HEARTBEAT_MS: i64 = 3000;
/// A crashed member costs at most a session, a rebalance and the SyncGroup that doesn't come.
const SETTLES_WITHIN_MS: i64 = 300_000;
const CLIENTS: usize = 6;

#[derive(Clone, Debug)]
enum Action {
    /// A client does what it has to do next.
    Step(usize),
    /// A client gives up waiting, and asks again.
    Retry(usize),
    /// A member joins again, of its own.
    Rejoin(usize),
    /// A member wants other topics.
    Resubscribe(usize, u8),
    Heartbeat(usize),
    Commit(usize),
    Leave(usize),
    Crash(usize),
    Pass(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let client = || 0..CLIENTS;
    prop_oneof![
        12 => client().prop_map(Action::Step),
        1 => client().prop_map(Action::Retry),
        1 => client().prop_map(Action::Rejoin),
        1 => (client(), 0..3u8).prop_map(|(client, topics)| Action::Resubscribe(client, topics)),
        2 => client().prop_map(Action::Heartbeat),
        2 => client().prop_map(Action::Commit),
        1 => client().prop_map(Action::Leave),
        1 => client().prop_map(Action::Crash),
        3 => prop_oneof![0..100i64, 0..4000i64, 0..40_000i64].prop_map(Action::Pass),
    ]
}

#[derive(Clone, Debug)]
enum Doing {
    Away,
    Free,
    Joining(Ticket),
    Joined(Joined),
    Syncing(Ticket, Joined),
    Member(i32),
}

#[derive(Clone, Debug)]
struct Client {
    instance_id: Option<String>,
    member_id: String,
    requires_member_id: bool,
    can_skip_assignment: bool,
    topics: u8,
    doing: Doing,
}

impl Client {
    /// Three dynamic members, one of an old client, and three static ones, two of old clients.
    fn new(index: usize) -> Self {
        Client {
            instance_id: (index >= CLIENTS / 2).then(|| format!("i{index}")),
            member_id: String::new(),
            requires_member_id: index > 0,
            can_skip_assignment: index == CLIENTS - 1,
            topics: 0,
            doing: Doing::Away,
        }
    }

    fn generation(&self) -> Option<i32> {
        match &self.doing {
            Doing::Joined(joined) | Doing::Syncing(_, joined) => Some(joined.generation),
            Doing::Member(generation) => Some(*generation),
            Doing::Away | Doing::Free | Doing::Joining(_) => None,
        }
    }

    fn join(&self, index: usize) -> Join {
        let metadata = Bytes::from(vec![0, 0, 0, 0, 0, 1, 0, 1, b'a' + self.topics]);
        let mut protocols = vec![("range".to_owned(), metadata.clone()), ("sticky".to_owned(), metadata)];
        protocols.rotate_left(index % 2);
        Join {
            group: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: format!("c{index}"),
            client_host: String::new(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".to_owned(),
            protocols,
            requires_member_id: self.requires_member_id,
            can_skip_assignment: self.can_skip_assignment,
            reason: None,
        }
    }

    fn sync(&self, joined: &Joined) -> Sync {
        let is_assigning = joined.leader == self.member_id && !joined.skip_assignment;
        let members = joined.members.iter().filter(|_| is_assigning);
        let assigned = |id: &String| Bytes::from(format!("{} {id}", joined.generation));
        Sync {
            group: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: members.map(|it| (it.member_id.clone(), assigned(&it.member_id))).collect(),
        }
    }
}

struct World {
    coordinator: Coordinator,
    now_ms: i64,
    tickets: u64,
    clients: Vec<Client>,
    /// What isn't answered yet: whose it is, and the generation if it is a SyncGroup.
    asked: BTreeMap<Ticket, (usize, Option<i32>)>,
    /// Protocol and leading client of each generation that anybody was told of.
    generations: BTreeMap<i32, (Option<String>, usize)>,
}

impl World {
    fn new() -> Self {
        World {
            coordinator: Coordinator::new(Settings::default()),
            now_ms: 0,
            tickets: 0,
            clients: (0..CLIENTS).map(Client::new).collect(),
            asked: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Step(index) => self.step(index),
            Action::Retry(index) => self.retry(index),
            Action::Rejoin(index) => self.rejoin(index),
            Action::Resubscribe(index, topics) => {
                self.clients[index].topics = topics;
                self.rejoin(index);
            }
            Action::Heartbeat(index) => self.heartbeat(index),
            Action::Commit(index) => self.commit(index),
            Action::Leave(index) => self.leave(index),
            Action::Crash(index) => self.go_away(index),
            Action::Pass(ms) => self.pass(self.now_ms + ms),
        }
        self.take();
    }

    fn step(&mut self, index: usize) {
        match self.clients[index].doing.clone() {
            Doing::Away => self.clients[index].doing = Doing::Free,
            Doing::Free => self.join(index),
            Doing::Joined(joined) => self.sync(index, joined),
            Doing::Member(_) => self.heartbeat(index),
            Doing::Joining(_) | Doing::Syncing(..) => {}
        }
    }

    fn retry(&mut self, index: usize) {
        match self.clients[index].doing.clone() {
            Doing::Joining(_) => self.join(index),
            Doing::Syncing(_, joined) => self.sync(index, joined),
            _ => {}
        }
    }

    fn rejoin(&mut self, index: usize) {
        if let Doing::Member(_) = self.clients[index].doing {
            self.clients[index].doing = Doing::Free;
        }
    }

    fn ticket(&mut self, index: usize, generation: Option<i32>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, (index, generation));
        ticket
    }

    fn join(&mut self, index: usize) {
        let ticket = self.ticket(index, None);
        let join = self.clients[index].join(index);
        self.clients[index].doing = Doing::Joining(ticket);
        self.coordinator.join(self.now_ms, join, u128::from(ticket.0), ticket);
    }

    fn sync(&mut self, index: usize, joined: Joined) {
        let ticket = self.ticket(index, Some(joined.generation));
        let sync = self.clients[index].sync(&joined);
        self.clients[index].doing = Doing::Syncing(ticket, joined);
        self.coordinator.sync(self.now_ms, sync, ticket);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let Some(generation) = client.generation() else { return };
        let instance_id = client.instance_id.as_deref();
        let claim = Claim { generation, member_id: &client.member_id, instance_id };
        let error = self.coordinator.heartbeat(self.now_ms, GROUP, claim);
        if let Doing::Member(_) = client.doing {
            self.react(index, error);
        }
    }

    fn commit(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let Some(generation) = client.generation() else { return };
        let instance_id = client.instance_id.as_deref();
        let claim = Claim { generation, member_id: &client.member_id, instance_id };
        if self.coordinator.check_commit(self.now_ms, GROUP, claim, false).is_ok() {
            let newest = self.generations.keys().next_back();
            assert_eq!(Some(&generation), newest, "commits of two generations interleave");
        }
    }

    fn leave(&mut self, index: usize) {
        let Client { member_id, instance_id, .. } = self.clients[index].clone();
        if !member_id.is_empty() {
            self.coordinator.leave(self.now_ms, GROUP, &[Leaving { member_id, instance_id, reason: None }]);
        }
        self.go_away(index);
    }

    fn go_away(&mut self, index: usize) {
        self.clients[index].doing = Doing::Away;
        self.clients[index].member_id.clear();
    }

    /// What a client does with an error code.
    fn react(&mut self, index: usize, error: i16) {
        let client = &mut self.clients[index];
        match error {
            NONE => return,
            UNKNOWN_MEMBER_ID => client.member_id.clear(),
            ILLEGAL_GENERATION | REBALANCE_IN_PROGRESS | MEMBER_ID_REQUIRED => {}
            other => panic!("client {index} is told {other}: nobody else has its place"),
        }
        client.doing = Doing::Free;
    }

    /// Hands the answers out.
    fn take(&mut self) {
        for (ticket, answer) in self.coordinator.take_answers() {
            let asked = self.asked.remove(&ticket);
            let (index, generation) =
                asked.unwrap_or_else(|| panic!("{ticket:?} is answered again: {answer:?}"));
            match answer {
                Answer::Joined(joined) => self.joined(index, ticket, joined),
                Answer::Synced(synced) => self.synced(index, ticket, generation.unwrap(), &synced),
            }
        }
    }

    fn joined(&mut self, index: usize, ticket: Ticket, joined: Joined) {
        if matches!(joined.error, NONE | MEMBER_ID_REQUIRED) {
            assert_eq!(owner(&joined.member_id), index, "the id of another");
        }
        if joined.error == NONE {
            self.check_generation(&joined);
        }
        let client = &mut self.clients[index];
        if !matches!(client.doing, Doing::Joining(current) if current == ticket) {
            return;
        }
        if matches!(joined.error, NONE | MEMBER_ID_REQUIRED) {
            client.member_id.clone_from(&joined.member_id);
        }
        match joined.error {
            NONE => client.doing = Doing::Joined(joined),
            error => self.react(index, error),
        }
    }

    /// All members of a generation are told the same, and nobody of an older one than others have been.
    fn check_generation(&mut self, joined: &Joined) {
        let newest = self.generations.keys().next_back().copied().unwrap_or(0);
        assert!(joined.generation >= newest, "{} after {newest}", joined.generation);
        let told = (joined.protocol_name.clone(), owner(&joined.leader));
        let first = self.generations.entry(joined.generation).or_insert_with(|| told.clone());
        assert_eq!(*first, told, "two protocols or leaders in generation {}", joined.generation);
        let owners: BTreeSet<usize> = joined.members.iter().map(|it| owner(&it.member_id)).collect();
        let instances: BTreeSet<_> = joined.members.iter().filter_map(|it| it.instance_id.as_ref()).collect();
        assert!(owners.iter().filter(|it| **it >= CLIENTS / 2).count() == instances.len(), "{joined:?}");
    }

    fn synced(&mut self, index: usize, ticket: Ticket, generation: i32, synced: &Synced) {
        if synced.error == NONE {
            let assigned = std::str::from_utf8(&synced.assignment).unwrap();
            let (of_generation, member_id) = assigned.split_once(' ').unwrap();
            assert_eq!(of_generation, generation.to_string(), "an assignment of another generation");
            assert_eq!(owner(member_id), index, "an assignment of another member");
        }
        let client = &mut self.clients[index];
        if !matches!(client.doing, Doing::Syncing(current, _) if current == ticket) {
            return;
        }
        client.doing = Doing::Member(generation);
        self.react(index, synced.error);
    }

    /// Time passes, up to then. The coordinator is asked to do something only when it has said that it is due.
    fn pass(&mut self, until_ms: i64) {
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|it| *it <= until_ms) {
            self.now_ms = due_ms.max(self.now_ms);
            self.coordinator.tick(self.now_ms);
            self.take();
            let next_ms = self.coordinator.next_deadline_ms();
            assert!(next_ms.is_none_or(|it| it > self.now_ms), "what was due isn't done");
        }
        self.now_ms = until_ms;
    }

    fn present(&self) -> impl Iterator<Item = usize> + '_ {
        (0..CLIENTS).filter(|index| !matches!(self.clients[*index].doing, Doing::Away))
    }

    /// Whether those who are there, and nobody else, are the members of one generation and have their assignments.
    fn is_settled(&self) -> bool {
        let told = self.coordinator.describe(GROUP);
        let is_member =
            |index: usize| matches!(self.clients[index].doing, Doing::Member(it) if it == told.generation);
        let is_idle = matches!(told.state, GroupState::Stable | GroupState::Empty | GroupState::Dead);
        is_idle && told.members.len() == self.present().count() && self.present().all(is_member)
    }

    /// Nobody crashes any more.
    fn settle(&mut self) {
        let limit_ms = self.now_ms + SETTLES_WITHIN_MS;
        let mut beat_ms = self.now_ms;
        while !self.is_settled() {
            assert!(self.now_ms < limit_ms, "{:?}, {:?}", self.coordinator, self.clients);
            let before = self.tickets;
            for index in self.present().collect::<Vec<_>>() {
                // Heartbeats are sent from time to time, the rest at once.
                if self.now_ms >= beat_ms || !matches!(self.clients[index].doing, Doing::Member(_)) {
                    self.step(index);
                    self.take();
                }
            }
            if self.now_ms >= beat_ms {
                beat_ms = self.now_ms + HEARTBEAT_MS;
            }
            if self.tickets == before {
                let due_ms = self.coordinator.next_deadline_ms();
                self.pass(due_ms.map_or(beat_ms, |it| it.clamp(self.now_ms, beat_ms)));
            }
        }
    }
}

/// Both the client id and the instance id that member ids begin with have the number of the client.
fn owner(member_id: &str) -> usize {
    member_id[1..2].parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do_the_group_gets_stable_and_all_are_answered(
        actions in prop::collection::vec(action(), 0..250)
    ) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.settle();
        // A generation that is stable stays so.
        let generation = world.coordinator.describe(GROUP).generation;
        for _ in 0..20 {
            (0..CLIENTS).for_each(|index| world.heartbeat(index));
            world.pass(world.now_ms + HEARTBEAT_MS);
        }
        assert!(world.is_settled());
        assert_eq!(world.coordinator.describe(GROUP).generation, generation);
        assert_eq!(world.asked, BTreeMap::new(), "not answered");
    }

    #[test]
    fn whenever_it_shuts_down_all_are_answered(actions in prop::collection::vec(action(), 0..100)) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.coordinator.shut_down(world.now_ms);
        for (ticket, _) in world.coordinator.take_answers() {
            assert!(world.asked.remove(&ticket).is_some(), "{ticket:?} is answered again");
        }
        assert_eq!(world.asked, BTreeMap::new(), "not answered");
        assert_eq!(world.coordinator.next_deadline_ms(), None);
    }
}
