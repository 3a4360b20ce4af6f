//! What a classic group answers, state by state (semantics 6.3, GR-1 to GR-3).

use super::*;

const GROUP: &str = "g";
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

/// A coordinator with a clock of its own. All requests are to one group.
struct World {
    coordinator: Coordinator,
    now_ms: i64,
    tickets: u64,
    answers: BTreeMap<Ticket, Answer>,
}

impl World {
    fn new() -> Self {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let coordinator = Coordinator::new(settings);
        World { coordinator, now_ms: 1000, tickets: 0, answers: BTreeMap::new() }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn take(&mut self) {
        for (ticket, answer) in self.coordinator.take_answers() {
            assert_eq!(self.answers.insert(ticket, answer), None, "{ticket:?} is answered twice");
        }
    }

    fn join(&mut self, join: Join) -> Ticket {
        let ticket = self.ticket();
        self.coordinator.join(self.now_ms, join, u128::from(ticket.0), ticket);
        self.take();
        ticket
    }

    fn sync(&mut self, sync: Sync) -> Ticket {
        let ticket = self.ticket();
        self.coordinator.sync(self.now_ms, sync, ticket);
        self.take();
        ticket
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answers.remove(&ticket) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("{ticket:?} isn't joined: {other:?}"),
        }
    }

    fn synced(&mut self, ticket: Ticket) -> Synced {
        match self.answers.remove(&ticket) {
            Some(Answer::Synced(synced)) => synced,
            other => panic!("{ticket:?} isn't synced: {other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    fn join_error(&mut self, join: Join) -> i16 {
        let ticket = self.join(join);
        self.joined(ticket).error
    }

    fn sync_error(&mut self, sync: Sync) -> i16 {
        let ticket = self.sync(sync);
        self.synced(ticket).error
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        self.coordinator.heartbeat(self.now_ms, GROUP, claim(member_id, generation))
    }

    fn commit(&mut self, member_id: &str, generation: i32) -> Result<(), i16> {
        self.coordinator.check_commit(self.now_ms, GROUP, claim(member_id, generation), false)
    }

    fn commit_transactional(&mut self, member_id: &str, generation: i32) -> Result<(), i16> {
        self.coordinator.check_commit(self.now_ms, GROUP, claim(member_id, generation), true)
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> i16 {
        let instance_id = instance_id.map(str::to_owned);
        let leaving = Leaving { member_id: member_id.to_owned(), instance_id, reason: None };
        let codes = self.coordinator.leave(self.now_ms, GROUP, &[leaving]);
        self.take();
        codes[0]
    }

    /// Lets time pass, and has everything done when it is due.
    fn pass(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|it| *it <= until_ms) {
            self.now_ms = due_ms.max(self.now_ms);
            self.coordinator.tick(self.now_ms);
            let next_ms = self.coordinator.next_deadline_ms();
            assert!(next_ms.is_none_or(|it| it > self.now_ms), "what was due isn't done");
            self.take();
        }
        self.now_ms = until_ms;
    }

    fn state(&self) -> GroupState {
        self.coordinator.describe(GROUP).state
    }

    /// Members join that don't need an id first, and get their first generation together.
    fn joined_all(&mut self, joins: &[Join]) -> Vec<Joined> {
        let tickets: Vec<Ticket> = joins.iter().map(|join| self.join(join.clone())).collect();
        self.pass(6000);
        tickets.into_iter().map(|ticket| self.joined(ticket)).collect()
    }

    /// All ask for their assignment, the leader last; it gives "for " and the member id to each.
    fn sync_all(&mut self, joined: &[Joined]) -> Vec<Synced> {
        let is_leader = |it: &&Joined| it.leader == it.member_id;
        let followers: Vec<Ticket> =
            joined.iter().filter(|it| !is_leader(it)).map(|it| self.sync(sync_of(it))).collect();
        assert!(followers.iter().all(|ticket| self.waits(*ticket)), "the leader's isn't there");
        joined.iter().filter(is_leader).for_each(|it| {
            let ticket = self.sync(sync_of(it));
            assert_eq!(self.synced(ticket).assignment, for_member(&it.member_id));
        });
        followers.into_iter().map(|ticket| self.synced(ticket)).collect()
    }

    /// A stable group of so many dynamic members, the leader first.
    fn stable(members: usize) -> (World, Vec<Joined>) {
        let mut world = World::new();
        let mut joined = world.joined_all(&vec![dynamic(); members]);
        world.sync_all(&joined);
        joined.sort_by_key(|it| it.leader != it.member_id);
        assert_eq!(world.state(), GroupState::Stable);
        (world, joined)
    }
}

fn claim(member_id: &str, generation: i32) -> Claim<'_> {
    Claim { generation, member_id, instance_id: None }
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    // User data, and the partitions that it owns: not read.
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.into()
}

/// A consumer that needs no id first.
fn dynamic() -> Join {
    Join {
        group: GROUP.to_owned(),
        member_id: String::new(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["orders"]))],
        requires_member_id: false,
        can_skip_assignment: false,
        reason: None,
    }
}

fn fixed(instance_id: &str) -> Join {
    Join { instance_id: Some(instance_id.to_owned()), ..dynamic() }
}

fn again(member_id: &str) -> Join {
    Join { member_id: member_id.to_owned(), ..dynamic() }
}

fn with_protocols(join: Join, names: &[&str]) -> Join {
    let protocols = names.iter().map(|name| ((*name).to_owned(), subscription(&["orders"]))).collect();
    Join { protocols, ..join }
}

fn with_topics(join: Join, topics: &[&str]) -> Join {
    Join { protocols: vec![("range".to_owned(), subscription(topics))], ..join }
}

fn sync_of(joined: &Joined) -> Sync {
    let assignments = joined.members.iter().map(|it| (it.member_id.clone(), for_member(&it.member_id)));
    Sync {
        group: GROUP.to_owned(),
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assignments.collect(),
    }
}

fn for_member(member_id: &str) -> Bytes {
    format!("for {member_id}").into()
}

#[test]
fn gr_1_a_join_without_an_id_is_told_one() {
    let mut world = World::new();
    let first = Join { requires_member_id: true, ..dynamic() };
    let ticket = world.join(first.clone());
    let told = world.joined(ticket);
    assert_eq!((told.error, told.generation), (MEMBER_ID_REQUIRED, -1));
    assert_eq!(told.member_id, "c-00000000-0000-0000-0000-000000000001");
    assert_eq!(world.state(), GroupState::Empty);
    let ticket = world.join(Join { member_id: told.member_id.clone(), ..first });
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert!(world.waits(ticket));
    world.pass(3000);
    let joined = world.joined(ticket);
    assert_eq!((joined.error, joined.generation), (NONE, 1));
    assert_eq!((&joined.member_id, &joined.leader), (&told.member_id, &told.member_id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn gr_1_a_static_member_needs_no_id_first() {
    let mut world = World::new();
    let ticket = world.join(Join { requires_member_id: true, ..fixed("i") });
    world.pass(3000);
    assert_eq!(world.joined(ticket).member_id, "i-00000000-0000-0000-0000-000000000001");
}

#[test]
fn gr_1_an_id_that_never_comes_back_is_forgotten() {
    let mut world = World::new();
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    world.pass(i64::from(SESSION_MS));
    assert_eq!(world.join_error(again(&told.member_id)), UNKNOWN_MEMBER_ID);
    assert_eq!(world.state(), GroupState::Dead, "nothing of the group is left");
    assert_eq!(world.coordinator.next_deadline_ms(), None);
}

#[test]
fn gr_1_a_rebalance_waits_for_an_id_to_come_back() {
    let (mut world, joined) = World::stable(1);
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    assert_eq!(world.heartbeat(&joined[0].member_id, 1), NONE, "nobody has joined yet");
    let leader = world.join(again(&joined[0].member_id));
    assert!(world.waits(leader));
    let other = world.join(again(&told.member_id));
    let next = [world.joined(leader), world.joined(other)];
    assert_eq!((next[0].generation, next[1].generation), (2, 2));
    world.sync_all(&next);
    // And doesn't, once the id has expired.
    world.join(Join { requires_member_id: true, ..dynamic() });
    let (leader, other) = (world.join(again(&joined[0].member_id)), world.join(again(&told.member_id)));
    world.pass(i64::from(SESSION_MS) - 1);
    assert!(world.waits(leader));
    world.pass(1);
    assert_eq!((world.joined(leader).generation, world.joined(other).generation), (3, 3));
}

#[test]
fn gr_1_each_new_member_prolongs_the_first_delay_up_to_the_rebalance_timeout() {
    let mut world = World::new();
    let join = Join { rebalance_timeout_ms: 7000, ..dynamic() };
    let mut tickets = vec![world.join(join.clone())];
    for _ in 0..3 {
        world.pass(2000);
        tickets.push(world.join(join.clone()));
    }
    // Delays end after 3, 6 and, for the limit, 7 s.
    world.pass(999);
    assert!(tickets.iter().all(|ticket| world.waits(*ticket)));
    world.pass(1);
    let joined: Vec<Joined> = tickets.into_iter().map(|ticket| world.joined(ticket)).collect();
    assert!(joined.iter().all(|it| it.generation == 1 && it.leader == joined[0].leader));
    assert_eq!(joined.iter().map(|it| it.members.len()).sum::<usize>(), 4, "only the leader is told of all");
}

#[test]
fn gr_1_requests_to_a_group_without_members() {
    let mut world = World::new();
    for state in [GroupState::Dead, GroupState::Empty] {
        assert_eq!(world.state(), state);
        assert!(world.coordinator.is_empty(GROUP));
        assert_eq!(world.join_error(again("m")), UNKNOWN_MEMBER_ID);
        assert_eq!(world.heartbeat("m", 1), UNKNOWN_MEMBER_ID);
        assert_eq!(world.leave("m", None), UNKNOWN_MEMBER_ID);
        assert_eq!(world.leave("", Some("i")), UNKNOWN_MEMBER_ID);
        let sync = Sync { member_id: "m".to_owned(), ..sync_of(&Joined::refused(0, "m")) };
        assert_eq!(world.sync_error(sync), UNKNOWN_MEMBER_ID);
        assert_eq!(world.commit("", -1), Ok(()));
        assert_eq!(world.commit_transactional("", -1), Ok(()));
        let joined = world.joined_all(&[dynamic()]);
        assert_eq!(world.leave(&joined[0].member_id, None), NONE);
    }
    assert_eq!(world.coordinator.describe(GROUP).generation, 4, "each rebalance has its own");
    assert_eq!(world.commit("m", 4), Err(UNKNOWN_MEMBER_ID));
}

#[test]
fn gr_1_requests_while_a_rebalance_is_prepared() {
    let (mut world, joined) = World::stable(2);
    let [leader, follower] = [&joined[0].member_id, &joined[1].member_id];
    let waiting = world.join(again(leader));
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert!(world.waits(waiting));
    assert_eq!(world.heartbeat(follower, 1), REBALANCE_IN_PROGRESS);
    assert_eq!(world.heartbeat(follower, 0), ILLEGAL_GENERATION);
    assert_eq!(world.heartbeat("m", 1), UNKNOWN_MEMBER_ID);
    assert_eq!(world.sync_error(sync_of(&joined[1])), REBALANCE_IN_PROGRESS);
    assert_eq!(world.commit(follower, 1), Ok(()), "before it gives its partitions up");
    assert_eq!(world.commit(follower, 2), Err(ILLEGAL_GENERATION));
    assert_eq!(world.commit("", -1), Err(UNKNOWN_MEMBER_ID));
    assert_eq!(world.leave(follower, None), NONE);
    assert_eq!(world.joined(waiting).generation, 2, "nobody is left to wait for");
}

#[test]
fn gr_1_requests_while_a_rebalance_is_completed() {
    let mut world = World::new();
    let mut joined = world.joined_all(&[dynamic(), dynamic()]);
    joined.sort_by_key(|it| it.leader != it.member_id);
    let [leader, follower] = [&joined[0].member_id, &joined[1].member_id];
    assert_eq!(world.state(), GroupState::CompletingRebalance);
    // The answer was lost: it is given again.
    let ticket = world.join(again(leader));
    assert_eq!(world.joined(ticket), joined[0]);
    let ticket = world.join(again(follower));
    assert_eq!(world.joined(ticket), joined[1]);
    assert_eq!(world.heartbeat(follower, 1), NONE);
    assert_eq!(world.commit(follower, 1), Err(REBALANCE_IN_PROGRESS));
    assert_eq!(world.commit_transactional(follower, 1), Ok(()));
    let waiting = world.sync(sync_of(&joined[1]));
    assert!(world.waits(waiting));
    assert_eq!(world.sync_error(Sync { generation: 0, ..sync_of(&joined[0]) }), ILLEGAL_GENERATION);
    // Other metadata: all over again.
    let ticket = world.join(with_topics(again(follower), &["orders", "bills"]));
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert!(world.waits(ticket));
    assert_eq!(world.synced(waiting).error, REBALANCE_IN_PROGRESS);
}

#[test]
fn gr_1_requests_to_a_stable_group() {
    let (mut world, joined) = World::stable(2);
    let [leader, follower] = [&joined[0].member_id, &joined[1].member_id];
    assert_eq!(world.heartbeat(follower, 1), NONE);
    assert_eq!(world.commit(follower, 1), Ok(()));
    assert_eq!(world.commit("", -1), Err(UNKNOWN_MEMBER_ID));
    assert_eq!(world.commit(follower, -1), Err(ILLEGAL_GENERATION));
    assert_eq!(world.commit_transactional("", -1), Ok(()), "TX-21");
    assert_eq!(world.commit_transactional("m", 1), Err(UNKNOWN_MEMBER_ID));
    let ticket = world.join(again(follower));
    assert_eq!(world.joined(ticket), joined[1], "nothing has changed");
    let ticket = world.sync(sync_of(&joined[1]));
    assert_eq!(world.synced(ticket).assignment, for_member(follower));
    assert_eq!(world.state(), GroupState::Stable);
    world.join(again(leader));
    assert_eq!(world.state(), GroupState::PreparingRebalance, "the leader wants to assign anew");
    assert_eq!(world.coordinator.describe(GROUP).generation, 1, "until all have joined");
}

#[test]
fn gr_1_a_member_that_is_told_again_is_there() {
    let (mut world, joined) = World::stable(2);
    world.pass(9000);
    assert_eq!(world.heartbeat(&joined[0].member_id, 1), NONE);
    assert_eq!(world.join_error(again(&joined[1].member_id)), NONE);
    world.pass(9000);
    assert_eq!(world.heartbeat(&joined[1].member_id, 1), NONE);
}

#[test]
fn gr_1_a_join_of_a_group_is_checked() {
    let mut world = World::new();
    assert_eq!(world.join_error(Join { group: String::new(), ..dynamic() }), INVALID_GROUP_ID);
    for session_timeout_ms in [5999, 1_800_001] {
        assert_eq!(world.join_error(Join { session_timeout_ms, ..dynamic() }), INVALID_SESSION_TIMEOUT);
    }
    assert_eq!(world.join_error(with_protocols(dynamic(), &[])), INCONSISTENT_GROUP_PROTOCOL);
    let untyped = Join { protocol_type: String::new(), ..dynamic() };
    assert_eq!(world.join_error(untyped), INCONSISTENT_GROUP_PROTOCOL);
    assert!(world.coordinator.list().is_empty(), "none of them made a group");
    world.join(with_protocols(dynamic(), &["range", "sticky"]));
    let connect = Join { protocol_type: "connect".to_owned(), ..dynamic() };
    assert_eq!(world.join_error(connect), INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(world.join_error(with_protocols(dynamic(), &["roundrobin"])), INCONSISTENT_GROUP_PROTOCOL);
    world.join(with_protocols(dynamic(), &["sticky"]));
    assert_eq!(world.join_error(dynamic()), INCONSISTENT_GROUP_PROTOCOL, "range isn't everybody's any more");
}

#[test]
fn gr_1_the_group_id_is_checked_by_all_requests() {
    let mut world = World::new();
    let now_ms = world.now_ms;
    let sync = Sync { group: String::new(), ..sync_of(&Joined::refused(0, "m")) };
    assert_eq!(world.sync_error(sync), INVALID_GROUP_ID);
    assert_eq!(world.coordinator.heartbeat(now_ms, "", claim("m", 1)), INVALID_GROUP_ID);
    let leaving = Leaving { member_id: "m".to_owned(), instance_id: None, reason: None };
    assert_eq!(world.coordinator.leave(now_ms, "", &[leaving]), [INVALID_GROUP_ID]);
}

#[test]
fn gr_1_the_protocol_with_the_most_votes_among_those_of_all_is_taken() {
    let mut world = World::new();
    let joined = world.joined_all(&[
        with_protocols(dynamic(), &["only-mine", "range", "sticky"]),
        with_protocols(dynamic(), &["sticky", "range"]),
        with_protocols(dynamic(), &["sticky", "range"]),
    ]);
    assert!(joined.iter().all(|it| it.protocol_name.as_deref() == Some("sticky")));
}

#[test]
fn gr_1_a_sync_names_the_protocol_of_the_group() {
    let (mut world, joined) = World::stable(1);
    let sync = sync_of(&joined[0]);
    let other = Some("other".to_owned());
    let of_other_type = Sync { protocol_type: other.clone(), ..sync.clone() };
    assert_eq!(world.sync_error(of_other_type), INCONSISTENT_GROUP_PROTOCOL);
    let of_other_name = Sync { protocol_name: other, ..sync.clone() };
    assert_eq!(world.sync_error(of_other_name), INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(world.sync_error(Sync { protocol_type: None, protocol_name: None, ..sync }), NONE);
}

#[test]
fn gr_1_a_member_that_the_leader_forgot_gets_nothing() {
    let mut world = World::new();
    let mut joined = world.joined_all(&[dynamic(), dynamic()]);
    joined.sort_by_key(|it| it.leader != it.member_id);
    let follower = world.sync(sync_of(&joined[1]));
    let assignments = vec![(joined[0].member_id.clone(), Bytes::from("all"))];
    let leader = world.sync(Sync { assignments, ..sync_of(&joined[0]) });
    assert_eq!(world.synced(leader).assignment, "all");
    let synced = world.synced(follower);
    assert_eq!((synced.error, synced.assignment), (NONE, Bytes::new()));
}

#[test]
fn gr_1_a_request_that_is_repeated_turns_the_first_one_away() {
    let (mut world, joined) = World::stable(2);
    let leader = &joined[0].member_id;
    let first = world.join(again(leader));
    let second = world.join(again(leader));
    assert_eq!(world.joined(first).error, REBALANCE_IN_PROGRESS);
    assert!(world.waits(second));
    let follower = world.join(again(&joined[1].member_id));
    assert_eq!(world.joined(second).generation, 2);
    let follower = world.joined(follower);
    let first = world.sync(sync_of(&follower));
    let second = world.sync(sync_of(&follower));
    assert_eq!(world.synced(first).error, REBALANCE_IN_PROGRESS);
    assert!(world.waits(second));
}

#[test]
fn gr_1_a_group_takes_no_more_members_than_it_may() {
    let mut world = World::with(Settings { group_max_size: 2, ..Settings::default() });
    let (first, second) = (world.join(dynamic()), world.join(fixed("i")));
    assert_eq!(world.join_error(dynamic()), GROUP_MAX_SIZE_REACHED);
    world.pass(6000);
    let joined = [world.joined(first), world.joined(second)];
    assert_eq!(world.join_error(dynamic()), GROUP_MAX_SIZE_REACHED);
    world.sync_all(&joined);
    assert_eq!(world.join_error(dynamic()), GROUP_MAX_SIZE_REACHED);
    assert_eq!(world.join_error(fixed("i")), NONE, "it has its place");
    let leader = joined.iter().find(|it| it.leader == it.member_id).unwrap();
    assert_eq!(leader.leader, joined[0].member_id);
    let ticket = world.join(again(&leader.member_id));
    assert!(world.waits(ticket));
}

#[test]
fn gr_1_cooperative_members_rebalance_twice() {
    let (mut world, joined) = World::stable(1);
    let owner = &joined[0].member_id;
    let newcomer = world.join(dynamic());
    assert_eq!(world.heartbeat(owner, 1), REBALANCE_IN_PROGRESS);
    assert_eq!(world.commit(owner, 1), Ok(()), "it goes on with what it owns");
    let ticket = world.join(with_topics(again(owner), &["orders", "owned: 0, 1"]));
    let joined = [world.joined(ticket), world.joined(newcomer)];
    assert!(joined.iter().all(|it| it.generation == 2 && it.leader == *owner));
    world.sync_all(&joined);
    // It has given one up, and says so.
    let ticket = world.join(with_topics(again(owner), &["orders", "owned: 0"]));
    assert_eq!(world.heartbeat(&joined[1].member_id, 2), REBALANCE_IN_PROGRESS);
    let other = world.join(again(&joined[1].member_id));
    let joined = [world.joined(ticket), world.joined(other)];
    assert!(joined.iter().all(|it| it.generation == 3));
    assert_eq!(joined[0].members.len(), 2);
    world.sync_all(&joined);
    assert_eq!(world.state(), GroupState::Stable);
}

#[test]
fn gr_1_when_the_leader_leaves_another_leads() {
    for is_syncing in [false, true] {
        let (mut world, joined) = World::stable(3);
        if is_syncing {
            let tickets: Vec<Ticket> = joined.iter().map(|it| world.join(again(&it.member_id))).collect();
            assert!(tickets.iter().all(|ticket| !world.waits(*ticket)));
            assert_eq!(world.state(), GroupState::CompletingRebalance);
        }
        assert_eq!(world.leave(&joined[0].member_id, None), NONE);
        assert_eq!(world.state(), GroupState::PreparingRebalance);
        let tickets: Vec<Ticket> = joined[1..].iter().map(|it| world.join(again(&it.member_id))).collect();
        let joined: Vec<Joined> = tickets.into_iter().map(|ticket| world.joined(ticket)).collect();
        assert_eq!(joined[0].leader, joined[1].leader);
        assert!(joined.iter().any(|it| it.leader == it.member_id && it.members.len() == 2));
        world.sync_all(&joined);
        assert_eq!(world.state(), GroupState::Stable);
    }
}

#[test]
fn gr_1_a_member_that_leaves_while_it_waits_is_answered() {
    let (mut world, joined) = World::stable(2);
    let waiting = world.join(again(&joined[0].member_id));
    assert_eq!(world.leave(&joined[0].member_id, None), NONE);
    assert_eq!(world.joined(waiting).error, UNKNOWN_MEMBER_ID);
    let ticket = world.join(again(&joined[1].member_id));
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (2, &joined.member_id));
    // The same while it waits for its assignment.
    let other = world.join(dynamic());
    let ticket = world.join(again(&joined.member_id));
    assert_eq!(world.joined(ticket).generation, 3);
    let other = world.joined(other);
    let waiting = world.sync(sync_of(&other));
    assert_eq!(world.leave(&other.member_id, None), NONE);
    assert_eq!(world.synced(waiting).error, UNKNOWN_MEMBER_ID);
}

#[test]
fn gr_1_a_pending_id_that_leaves_moves_nobody() {
    let (mut world, _) = World::stable(1);
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    assert_eq!(world.leave(&told.member_id, None), NONE);
    assert_eq!(world.state(), GroupState::Stable);
    assert_eq!(world.leave(&told.member_id, None), UNKNOWN_MEMBER_ID);
}

#[test]
fn gr_1_a_session_that_expires_in_a_stable_group_rebalances_it() {
    let (mut world, joined) = World::stable(2);
    world.pass(6000);
    assert_eq!(world.heartbeat(&joined[0].member_id, 1), NONE);
    world.pass(3999);
    assert_eq!(world.state(), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert_eq!(world.heartbeat(&joined[1].member_id, 1), UNKNOWN_MEMBER_ID);
    let ticket = world.join(again(&joined[0].member_id));
    assert_eq!(world.joined(ticket).generation, 2);
    assert!(world.coordinator.describe(GROUP).rebalance_reason.unwrap().contains("session timeout"));
}

#[test]
fn gr_2_a_plain_commit_counts_as_a_heartbeat() {
    for is_transactional in [false, true] {
        let (mut world, joined) = World::stable(1);
        world.pass(9000);
        let claim = claim(&joined[0].member_id, 1);
        assert_eq!(world.coordinator.check_commit(world.now_ms, GROUP, claim, is_transactional), Ok(()));
        world.pass(9000);
        let state = if is_transactional { GroupState::Empty } else { GroupState::Stable };
        assert_eq!(world.state(), state);
    }
}

#[test]
fn gr_1_a_session_that_expires_while_a_rebalance_is_prepared_completes_it() {
    let (mut world, joined) = World::stable(2);
    let waiting = world.join(again(&joined[0].member_id));
    world.pass(9999);
    assert!(world.waits(waiting));
    world.pass(1);
    let joined = world.joined(waiting);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn gr_1_a_session_that_expires_while_a_rebalance_is_completed_prepares_another() {
    let mut world = World::new();
    let tickets = [world.join(dynamic()), world.join(dynamic())];
    world.pass(6000);
    let mut joined = tickets.map(|ticket| world.joined(ticket));
    joined.sort_by_key(|it| it.leader != it.member_id);
    // Whoever waits needs no heartbeats: it is the leader that is lost.
    let waiting = world.sync(sync_of(&joined[1]));
    world.pass(i64::from(SESSION_MS));
    assert_eq!(world.synced(waiting).error, REBALANCE_IN_PROGRESS);
    let ticket = world.join(again(&joined[1].member_id));
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (2, &joined.member_id));
}

#[test]
fn gr_1_a_new_member_whose_first_generation_never_begins_has_to_ask_again() {
    let (mut world, joined) = World::stable(1);
    let ticket = world.join(Join { rebalance_timeout_ms: i32::MAX, ..dynamic() });
    for _ in 0..100 {
        world.pass(3000);
        assert_eq!(world.heartbeat(&joined[0].member_id, 1), REBALANCE_IN_PROGRESS);
    }
    let refused = world.joined(ticket);
    assert_eq!((refused.error, refused.member_id.as_str()), (UNKNOWN_MEMBER_ID, ""));
}

#[test]
fn gr_1_the_rebalance_timeout_drops_those_that_have_not_joined() {
    let (mut world, joined) = World::stable(3);
    let waiting = world.join(again(&joined[0].member_id));
    for _ in 0..20 {
        assert!(world.waits(waiting));
        // They are there, but busy.
        assert_eq!(world.heartbeat(&joined[1].member_id, 1), REBALANCE_IN_PROGRESS);
        assert_eq!(world.heartbeat(&joined[2].member_id, 1), REBALANCE_IN_PROGRESS);
        world.pass(3000);
    }
    let next = world.joined(waiting);
    assert_eq!((next.generation, next.members.len()), (2, 1));
    assert_eq!(world.heartbeat(&joined[1].member_id, 1), UNKNOWN_MEMBER_ID);
    assert_eq!(world.commit(&joined[1].member_id, 1), Err(UNKNOWN_MEMBER_ID));
}

#[test]
fn gr_1_whoever_has_not_synced_by_the_rebalance_timeout_is_dropped() {
    for has_leader_synced in [false, true] {
        let mut world = World::new();
        let mut joined = world.joined_all(&[dynamic(), dynamic()]);
        joined.sort_by_key(|it| (it.leader == it.member_id) != has_leader_synced);
        let [one, late] = [&joined[0], &joined[1]];
        let ticket = world.sync(sync_of(one));
        assert_eq!(world.waits(ticket), !has_leader_synced);
        for _ in 0..20 {
            assert_eq!(world.heartbeat(&one.member_id, 1), NONE);
            assert_eq!(world.heartbeat(&late.member_id, 1), NONE);
            world.pass(3000);
        }
        assert_eq!(world.synced(ticket).error, if has_leader_synced { NONE } else { REBALANCE_IN_PROGRESS });
        assert_eq!(world.heartbeat(&late.member_id, 1), UNKNOWN_MEMBER_ID);
        assert_eq!(world.heartbeat(&one.member_id, 1), REBALANCE_IN_PROGRESS);
    }
}

#[test]
fn gr_2_a_commit_of_an_old_generation_is_refused() {
    let (mut world, joined) = World::stable(1);
    let ticket = world.join(again(&joined[0].member_id));
    let next = world.joined(ticket);
    assert_eq!(world.commit(&next.member_id, 1), Err(ILLEGAL_GENERATION));
    assert_eq!(world.commit_transactional(&next.member_id, 1), Err(ILLEGAL_GENERATION));
    world.sync_all(std::slice::from_ref(&next));
    assert_eq!(world.commit(&next.member_id, 1), Err(ILLEGAL_GENERATION));
    assert_eq!(world.commit(&next.member_id, 2), Ok(()));
}

#[test]
fn gr_2_a_commit_to_a_group_that_is_not_there() {
    let mut world = World::new();
    assert_eq!(world.commit("m", 1), Err(GROUP_ID_NOT_FOUND));
    assert_eq!(world.commit_transactional("m", 1), Err(ILLEGAL_GENERATION));
    assert_eq!(world.commit("", -1), Ok(()));
    assert!(world.coordinator.list().is_empty());
}

/// A stable group of two static members, the leader first, both with instance ids.
fn two_fixed() -> (World, [Joined; 2]) {
    let mut world = World::new();
    let joined = world.joined_all(&[fixed("a"), fixed("b")]);
    world.sync_all(&joined);
    assert_eq!(joined[0].leader, joined[0].member_id);
    let joined = joined.try_into().unwrap();
    (world, joined)
}

#[test]
fn gr_3_a_static_member_that_starts_again_gets_its_place_and_fences_the_old_one() {
    let (mut world, [_, old]) = two_fixed();
    let ticket = world.join(fixed("b"));
    let new = world.joined(ticket);
    assert_eq!((new.error, new.generation, new.members.len()), (NONE, 1, 0));
    assert_ne!(new.member_id, old.member_id);
    assert_eq!(world.state(), GroupState::Stable, "nobody else needs to know");
    let ticket = world.sync(Sync { instance_id: Some("b".to_owned()), ..sync_of(&new) });
    assert_eq!(world.synced(ticket).assignment, for_member(&old.member_id));
    // Whatever the old one says.
    let old_claim = Claim { instance_id: Some("b"), ..claim(&old.member_id, 1) };
    let now_ms = world.now_ms;
    assert_eq!(world.coordinator.heartbeat(now_ms, GROUP, old_claim), FENCED_INSTANCE_ID);
    assert_eq!(world.coordinator.check_commit(now_ms, GROUP, old_claim, false), Err(FENCED_INSTANCE_ID));
    assert_eq!(world.coordinator.check_commit(now_ms, GROUP, old_claim, true), Err(FENCED_INSTANCE_ID));
    let sync = Sync { instance_id: Some("b".to_owned()), ..sync_of(&old) };
    assert_eq!(world.sync_error(sync), FENCED_INSTANCE_ID);
    let join = Join { member_id: old.member_id.clone(), ..fixed("b") };
    assert_eq!(world.join_error(join), FENCED_INSTANCE_ID);
    assert_eq!(world.leave(&old.member_id, Some("b")), FENCED_INSTANCE_ID);
    assert_eq!(world.heartbeat(&old.member_id, 1), UNKNOWN_MEMBER_ID);
    assert_eq!(world.coordinator.heartbeat(now_ms, GROUP, claim(&new.member_id, 1)), NONE);
}

#[test]
fn gr_3_a_static_leader_that_starts_again_does_not_assign() {
    for can_skip_assignment in [false, true] {
        let (mut world, [old, _]) = two_fixed();
        let ticket = world.join(Join { can_skip_assignment, ..fixed("a") });
        let new = world.joined(ticket);
        assert_eq!(new.skip_assignment, can_skip_assignment);
        let expected = if can_skip_assignment { (&new.member_id, 2) } else { (&old.member_id, 0) };
        assert_eq!((&new.leader, new.members.len()), expected);
        let ticket = world.sync(Sync { assignments: Vec::new(), ..sync_of(&new) });
        assert_eq!(world.synced(ticket).assignment, for_member(&old.member_id));
        // It leads all the same: when it joins again, with its id, it may assign.
        world.join(Join { member_id: new.member_id, ..fixed("a") });
        assert_eq!(world.state(), GroupState::PreparingRebalance);
    }
}

#[test]
fn gr_3_a_follower_that_starts_again_skips_nothing() {
    let (mut world, [leader, _]) = two_fixed();
    let ticket = world.join(Join { can_skip_assignment: true, ..fixed("b") });
    let new = world.joined(ticket);
    assert_eq!((new.skip_assignment, new.leader, new.members.len()), (false, leader.member_id, 0));
}

#[test]
fn gr_3_another_subscription_or_protocol_of_a_static_member_rebalances() {
    let (mut world, _) = two_fixed();
    let ticket = world.join(with_topics(fixed("b"), &["orders", "bills"]));
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert!(world.waits(ticket));

    let mut world = World::new();
    let join = |id| with_protocols(fixed(id), &["range", "sticky"]);
    let joined = world.joined_all(&[join("a"), join("b")]);
    world.sync_all(&joined);
    world.join(with_protocols(fixed("b"), &["sticky"]));
    assert_eq!(world.state(), GroupState::PreparingRebalance);
}

#[test]
fn gr_3_a_static_member_that_starts_again_fences_what_waits() {
    let (mut world, [leader, follower]) = two_fixed();
    let join = |joined: &Joined, id| Join { member_id: joined.member_id.clone(), ..fixed(id) };
    // Its JoinGroup.
    let waiting = world.join(join(&leader, "a"));
    let new = world.join(fixed("a"));
    let fenced = world.joined(waiting);
    assert_eq!((fenced.error, &fenced.member_id), (FENCED_INSTANCE_ID, &leader.member_id));
    let other = world.join(join(&follower, "b"));
    let (new, other) = (world.joined(new), world.joined(other));
    assert_eq!((new.generation, &new.leader), (2, &new.member_id));
    // Its SyncGroup: the leader doesn't know of the new id, so that all join again.
    let waiting = world.sync(sync_of(&other));
    let newer = world.join(fixed("b"));
    assert_eq!(world.synced(waiting).error, FENCED_INSTANCE_ID);
    assert!(world.waits(newer));
    assert_eq!(world.sync_error(sync_of(&new)), REBALANCE_IN_PROGRESS);
    let leader = world.join(join(&new, "a"));
    assert_eq!((world.joined(leader).generation, world.joined(newer).generation), (3, 3));
}

#[test]
fn gr_3_a_static_member_leaves_by_request_of_its_own_or_by_instance_id() {
    let (mut world, [leader, _]) = two_fixed();
    assert_eq!(world.leave("", Some("c")), UNKNOWN_MEMBER_ID);
    assert_eq!(world.leave("", Some("b")), NONE);
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert_eq!(world.leave(&leader.member_id, Some("a")), NONE);
    assert_eq!(world.state(), GroupState::Empty);
}

#[test]
fn gr_3_a_static_member_stays_in_the_next_generation_and_is_lost_with_its_session() {
    let (mut world, [leader, follower]) = two_fixed();
    let join = Join { member_id: follower.member_id.clone(), ..with_topics(fixed("b"), &["bills"]) };
    let waiting = world.join(Join { session_timeout_ms: 100_000, ..join.clone() });
    let old_claim = Claim { instance_id: Some("a"), ..claim(&leader.member_id, 1) };
    for _ in 0..20 {
        assert!(world.waits(waiting));
        world.coordinator.heartbeat(world.now_ms, GROUP, old_claim);
        world.pass(3000);
    }
    let next = world.joined(waiting);
    assert_eq!((next.generation, next.members.len()), (2, 2), "it may be about to start again");
    assert_eq!(next.leader, follower.member_id, "but it doesn't lead");
    assert_eq!(world.coordinator.heartbeat(world.now_ms, GROUP, old_claim), ILLEGAL_GENERATION);
    world.sync_all(&[next]);
    world.pass(9999);
    assert_eq!(world.state(), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert_eq!(world.coordinator.heartbeat(world.now_ms, GROUP, old_claim), UNKNOWN_MEMBER_ID);
    let ticket = world.join(join);
    assert_eq!(world.joined(ticket).members.len(), 1);
}

#[test]
fn gr_3_a_rebalance_that_no_static_member_joins_is_postponed_until_their_sessions_expire() {
    let mut world = World::new();
    let join = |id| Join { session_timeout_ms: 150_000, ..fixed(id) };
    let joined = world.joined_all(&[join("a"), join("b"), dynamic()]);
    world.sync_all(&joined);
    assert_eq!(world.leave(&joined[2].member_id, None), NONE);
    world.pass(130_000);
    assert_eq!(world.state(), GroupState::PreparingRebalance);
    assert_eq!(world.coordinator.describe(GROUP).generation, 1);
    world.pass(20_000);
    assert_eq!(world.state(), GroupState::Empty);
}

/// What is left of it is the log's: its offsets.
#[test]
fn a_group_that_nobody_comes_back_to_is_forgotten() {
    let (mut world, joined) = World::stable(1);
    assert_eq!(world.leave(&joined[0].member_id, None), NONE);
    world.pass(590_000);
    assert_eq!(world.commit("", -1), Ok(()), "somebody still uses it");
    world.pass(599_999);
    assert_eq!(world.coordinator.describe(GROUP).generation, 2);
    world.pass(1);
    assert_eq!((world.state(), world.coordinator.next_deadline_ms()), (GroupState::Dead, None));
    // Who comes late is as unknown as before, and begins anew.
    assert_eq!(world.heartbeat(&joined[0].member_id, 1), UNKNOWN_MEMBER_ID);
    assert_eq!(world.commit(&joined[0].member_id, 1), Err(GROUP_ID_NOT_FOUND));
    assert_eq!(world.joined_all(&[dynamic()])[0].generation, 1);
}

#[test]
fn a_group_with_somebody_on_the_way_is_not_forgotten() {
    let (mut world, joined) = World::stable(1);
    assert_eq!(world.leave(&joined[0].member_id, None), NONE);
    world.pass(595_000);
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    world.pass(6000);
    assert_eq!(world.state(), GroupState::Empty);
    let ticket = world.join(again(&told.member_id));
    world.pass(6000);
    assert_eq!(world.joined(ticket).generation, 3);
}

#[test]
fn gr_3_an_instance_id_that_nobody_has_is_unknown() {
    let (mut world, joined) = World::stable(1);
    let claim = Claim { instance_id: Some("i"), ..claim(&joined[0].member_id, 1) };
    assert_eq!(world.coordinator.heartbeat(world.now_ms, GROUP, claim), UNKNOWN_MEMBER_ID);
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    assert_eq!(world.join_error(Join { member_id: told.member_id, ..fixed("i") }), UNKNOWN_MEMBER_ID);
}

#[test]
fn gr_1_timeouts_of_nothing_neither_spin_nor_keep_a_group_from_getting_stable() {
    for rebalance_timeout_ms in [0, -1, i32::MIN] {
        let mut world = World::with(Settings { initial_rebalance_delay_ms: 0, ..Settings::default() });
        let join = Join { rebalance_timeout_ms, ..dynamic() };
        let tickets = [world.join(join.clone()), world.join(join)];
        world.pass(0);
        let joined = tickets.map(|ticket| world.joined(ticket));
        world.pass(999);
        world.sync_all(&joined);
        assert_eq!(world.state(), GroupState::Stable);
        // Nobody else joins again: who doesn't is dropped.
        let leader = joined.iter().find(|it| it.leader == it.member_id).unwrap();
        let waiting = world.join(Join { rebalance_timeout_ms, ..again(&leader.member_id) });
        world.pass(1000);
        assert_eq!(world.joined(waiting).members.len(), 1);
    }
}

#[test]
fn a_group_is_described_and_listed() {
    let mut world = World::new();
    let joined = world.joined_all(&[fixed("a")]);
    let told = world.coordinator.describe(GROUP);
    assert_eq!((told.state, told.protocol_name.as_str()), (GroupState::CompletingRebalance, ""));
    assert_eq!((told.members.len(), &told.members[0].metadata), (1, &Bytes::new()));
    world.sync_all(&joined);
    let told = world.coordinator.describe(GROUP);
    assert_eq!((told.state.name(), told.generation, told.state_since_ms), ("Stable", 1, 7000));
    assert_eq!((told.protocol_type.as_str(), told.protocol_name.as_str()), ("consumer", "range"));
    let member = &told.members[0];
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("c", "/127.0.0.1"));
    assert_eq!(
        (&member.metadata, &member.assignment),
        (&subscription(&["orders"]), &for_member(&member.member_id))
    );
    let listed =
        Listed { group: GROUP.to_owned(), protocol_type: "consumer".to_owned(), state: GroupState::Stable };
    assert_eq!(world.coordinator.list(), [listed]);
    assert_eq!(world.coordinator.describe("other").state.name(), "Dead");
}

#[test]
fn a_group_is_deleted_only_without_members() {
    let (mut world, joined) = World::stable(1);
    assert_eq!(world.coordinator.delete(GROUP), NON_EMPTY_GROUP);
    assert!(!world.coordinator.is_empty(GROUP));
    assert_eq!(world.leave(&joined[0].member_id, None), NONE);
    let ticket = world.join(Join { requires_member_id: true, ..dynamic() });
    let told = world.joined(ticket);
    assert_eq!(world.coordinator.delete(GROUP), NONE);
    assert_eq!(
        (world.coordinator.delete(GROUP), world.coordinator.next_deadline_ms()),
        (GROUP_ID_NOT_FOUND, None)
    );
    assert_eq!(world.join_error(again(&told.member_id)), UNKNOWN_MEMBER_ID);
}

#[test]
fn what_a_group_reads_is_known_if_its_members_say_it() {
    let mut world = World::new();
    assert_eq!(world.coordinator.subscribed(GROUP), Err(GROUP_ID_NOT_FOUND));
    let joined = world.joined_all(&[dynamic(), with_topics(dynamic(), &["bills"])]);
    world.sync_all(&joined);
    let topics = BTreeSet::from(["bills".to_owned(), "orders".to_owned()]);
    assert_eq!(world.coordinator.subscribed(GROUP), Ok(Some(topics)));
    joined.iter().for_each(|it| assert_eq!(world.leave(&it.member_id, None), NONE));
    assert_eq!(world.coordinator.subscribed(GROUP), Ok(Some(BTreeSet::new())));
    // What can't be read may be anything.
    let odd = vec![("range".to_owned(), Bytes::from_static(&[0, 0, 0, 0, 0, 9, 0]))];
    let unreadable = world.joined_all(&[Join { protocols: odd, ..dynamic() }]);
    assert_eq!(world.coordinator.subscribed(GROUP), Ok(None));
    assert_eq!(world.leave(&unreadable[0].member_id, None), NONE);
    world.joined_all(&[Join { protocol_type: "connect".to_owned(), ..dynamic() }]);
    assert_eq!(world.coordinator.subscribed(GROUP), Err(NON_EMPTY_GROUP));
}

#[test]
fn a_subscription_that_is_cut_anywhere_has_no_topics() {
    let whole = subscription(&["orders", "bills"]);
    let read_bytes = whole.len() - 8;
    for length in 0..whole.len() {
        assert_eq!(super::subscription::topics(&whole[..length]).is_some(), length >= read_bytes, "{length}");
    }
    assert_eq!(super::subscription::topics(&[0, 0, 255, 255, 255, 255]), None);
    assert_eq!(super::subscription::topics(&[0, 0, 127, 255, 255, 255]), None);
}

#[test]
fn when_it_shuts_down_all_that_waits_is_answered() {
    let (mut world, joined) = World::stable(2);
    let waiting = world.join(again(&joined[0].member_id));
    let other = Join { group: "other".to_owned(), ..dynamic() };
    let (one, two) = (world.join(other.clone()), world.join(other.clone()));
    world.pass(6000);
    let (one, two) = (world.joined(one), world.joined(two));
    let follower = if one.leader == one.member_id { two } else { one };
    let syncing = world.sync(Sync { group: "other".to_owned(), ..sync_of(&follower) });
    world.coordinator.shut_down(world.now_ms);
    world.take();
    assert_eq!(world.joined(waiting).error, COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.synced(syncing).error, COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.join_error(other), COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.heartbeat(&joined[0].member_id, 1), COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.commit(&joined[0].member_id, 1), Err(COORDINATOR_NOT_AVAILABLE));
    assert_eq!(world.leave(&joined[0].member_id, None), COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.coordinator.next_deadline_ms(), None);
}
