//! What a consumer group answers, state by state (semantics 6.3, GR-4, GR-5).

use super::*;

const GROUP: &str = "g";
const ORDERS: u128 = 1;
const PAYMENTS: u128 = 2;
const REBALANCE_MS: i32 = 60_000;

/// A heartbeat that says nothing but who sends it.
pub(super) fn beat(member_id: &str, member_epoch: i32) -> Heartbeat {
    Heartbeat {
        group: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        member_epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        topic_names: None,
        topic_regex: None,
        server_assignor: None,
        owned: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        brings_member_id: true,
    }
}

pub(super) fn topic_partition(topic: u128, index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(topic), index }
}

/// Topics of a name, an id and so many partitions.
pub(super) fn topics<'a>(topics: impl IntoIterator<Item = (&'a str, u128, i32)>) -> Topics {
    let topic =
        |(name, id, partitions): (&str, _, _)| (name.to_owned(), Topic { id: TopicId(id), partitions });
    topics.into_iter().map(topic).collect()
}

fn join(member_id: &str) -> Heartbeat {
    let topic_names = Some(BTreeSet::from(["orders".to_owned()]));
    let owned = Some(BTreeSet::new());
    Heartbeat { rebalance_timeout_ms: REBALANCE_MS, topic_names, owned, ..beat(member_id, JOINS) }
}

fn fixed(instance_id: &str, heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat { instance_id: Some(instance_id.to_owned()), ..heartbeat }
}

fn by_regex(regex: &str, heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat { topic_regex: Some(regex.to_owned()), topic_names: None, ..heartbeat }
}

fn by_names(names: &[&str], heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat { topic_names: Some(names.iter().map(|it| (*it).to_owned()).collect()), ..heartbeat }
}

/// Partitions of `orders`.
fn orders(indexes: impl IntoIterator<Item = i32>) -> BTreeSet<TopicPartition> {
    indexes.into_iter().map(|index| topic_partition(ORDERS, index)).collect()
}

fn having(indexes: &[i32], heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat { owned: Some(orders(indexes.iter().copied())), ..heartbeat }
}

/// A coordinator with a clock, and topics: `orders` with four partitions.
struct World {
    coordinator: Coordinator,
    now_ms: i64,
    topics: Arc<Topics>,
}

impl World {
    fn new() -> Self {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let topics = Arc::new(topics([("orders", ORDERS, 4)]));
        World { coordinator: Coordinator::new(settings), now_ms: 1000, topics }
    }

    /// With members that have joined one after the other and have what they are to have.
    fn settled(members: &[&str]) -> World {
        let mut world = World::new();
        members.iter().for_each(|member_id| _ = world.ok(join(member_id)));
        for _ in 0..3 {
            members.iter().for_each(|member_id| world.obey(member_id));
        }
        assert_eq!(world.state(), GroupState::Stable);
        world
    }

    fn ask(&mut self, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        self.coordinator.heartbeat(self.now_ms, heartbeat, 0xabc, &self.topics)
    }

    fn ok(&mut self, heartbeat: Heartbeat) -> Beaten {
        self.ask(heartbeat).unwrap()
    }

    /// The code that it is refused with; nothing has changed then.
    fn refused(&mut self, heartbeat: Heartbeat) -> i16 {
        let before = (self.coordinator.describe(GROUP), self.coordinator.next_deadline_ms());
        let refused = self.ask(heartbeat).unwrap_err();
        assert!(!refused.1.is_empty());
        assert_eq!((self.coordinator.describe(GROUP), self.coordinator.next_deadline_ms()), before);
        refused.0
    }

    fn member(&self, member_id: &str) -> Option<DescribedMember> {
        let members = self.coordinator.describe(GROUP)?.members;
        members.into_iter().find(|member| member.member_id == member_id)
    }

    fn epoch_of(&self, member_id: &str) -> i32 {
        self.member(member_id).unwrap().member_epoch
    }

    fn has(&self, member_id: &str) -> BTreeSet<TopicPartition> {
        let of_topic = |it: DescribedPartitions| {
            let topic = it.topic.0;
            it.indexes.into_iter().map(move |index| topic_partition(topic, index))
        };
        self.member(member_id).unwrap().assignment.into_iter().flat_map(of_topic).collect()
    }

    /// A heartbeat of a member that has what it is to have, and nothing else.
    fn obey(&mut self, member_id: &str) {
        let owned = Some(self.has(member_id));
        self.ok(Heartbeat { owned, ..beat(member_id, self.epoch_of(member_id)) });
    }

    fn state(&self) -> GroupState {
        self.coordinator.state(GROUP).unwrap()
    }

    fn epochs(&self) -> (i32, i32) {
        let described = self.coordinator.describe(GROUP).unwrap();
        (described.epoch, described.assignment_epoch)
    }

    fn change_topics<'a>(&mut self, all: impl IntoIterator<Item = (&'a str, u128, i32)>) {
        self.topics = Arc::new(topics(all));
    }

    /// Lets time pass, and has everything done when it is due.
    fn pass(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|it| *it <= until_ms) {
            self.now_ms = due_ms.max(self.now_ms);
            self.coordinator.tick(self.now_ms, &self.topics);
            let next_ms = self.coordinator.next_deadline_ms();
            assert!(next_ms.is_none_or(|it| it > self.now_ms), "what was due isn't done");
        }
        self.now_ms = until_ms;
    }

    fn commit(&self, member_id: &str, member_epoch: i32, indexes: &[i32]) -> Option<Result<(), i16>> {
        self.commit_as(member_id, member_epoch, indexes, false, true)
    }

    fn commit_as(
        &self,
        member_id: &str,
        member_epoch: i32,
        indexes: &[i32],
        is_transactional: bool,
        knows_member_epochs: bool,
    ) -> Option<Result<(), i16>> {
        let partitions: Vec<TopicPartition> = orders(indexes.iter().copied()).into_iter().collect();
        let partitions = &partitions;
        let commit = Commit {
            member_id,
            instance_id: None,
            member_epoch,
            partitions,
            is_transactional,
            knows_member_epochs,
        };
        self.coordinator.check_commit(GROUP, commit)
    }
}

#[test]
fn gr_5_the_first_member_gets_all_at_once_and_is_told_once() {
    let mut world = World::new();
    let joined = world.ok(join("a"));
    let all = Some(orders(0..4));
    assert_eq!((joined.member_id.as_str(), joined.member_epoch), ("a", 1));
    assert_eq!((joined.heartbeat_interval_ms, joined.assignment), (5000, all.clone()));
    assert_eq!((world.state(), world.epochs()), (GroupState::Stable, (1, 1)));
    assert_eq!(world.ok(beat("a", 1)).assignment, None);
    // Who says everything may not know what it was told.
    let full = having(&[0, 1, 2, 3], Heartbeat { member_epoch: 1, ..join("a") });
    assert_eq!(world.ok(full).assignment, all);
    assert_eq!(world.epochs(), (1, 1), "it has said nothing new");
}

#[test]
fn gr_4_a_partition_goes_on_when_the_member_that_had_it_says_that_it_gave_it_up() {
    let mut world = World::new();
    world.ok(join("a"));
    let second = world.ok(join("b"));
    assert_eq!((second.member_epoch, second.assignment), (2, Some(orders([]))), "Unreleased");
    assert_eq!(world.state(), GroupState::Reconciling);
    let told = world.ok(beat("a", 1));
    assert_eq!((told.member_epoch, told.assignment.clone()), (1, Some(orders([0, 1]))), "Unrevoked");
    assert_eq!(world.ok(beat("b", 2)).assignment, None, "they are still a's");
    assert_eq!(world.ok(beat("a", 1)).member_epoch, 1, "it hasn't said so");
    assert_eq!(world.ok(having(&[0, 1, 3], beat("a", 1))).member_epoch, 1, "not of all");
    assert_eq!(world.ok(beat("b", 2)).assignment, None);
    let done = world.ok(having(&[0, 1], beat("a", 1)));
    assert_eq!((done.member_epoch, done.assignment), (2, None));
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders([2, 3])));
    assert_eq!(world.state(), GroupState::Stable);
}

#[test]
fn gr_4_a_partition_goes_on_when_its_owner_leaves() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(join("b"));
    let left = world.ok(beat("a", LEAVES));
    assert_eq!((left.member_epoch, left.heartbeat_interval_ms, left.assignment), (-1, 0, None));
    assert_eq!(world.state(), GroupState::Assigning);
    let got = world.ok(beat("b", 2));
    assert_eq!((got.member_epoch, got.assignment), (3, Some(orders(0..4))));
    assert_eq!(world.refused(beat("a", 1)), UNKNOWN_MEMBER_ID);
}

#[test]
fn gr_4_a_partition_goes_on_when_its_owner_is_not_heard_of() {
    let mut world = World::settled(&["a", "b"]);
    world.pass(44_000);
    world.ok(beat("b", 2));
    world.pass(999);
    assert!(world.member("a").is_some());
    world.pass(1);
    assert!(world.member("a").is_none());
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders(0..4)));
    assert_eq!(world.refused(beat("a", 2)), UNKNOWN_MEMBER_ID);
    assert_eq!(world.ok(join("a")).assignment, Some(orders([])), "it is a new one");
}

#[test]
fn gr_4_a_member_that_does_not_give_up_in_time_is_fenced_however_often_it_is_heard_of() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(join("b"));
    world.ok(beat("a", 1));
    for _ in 0..11 {
        world.pass(5000);
        world.ok(beat("a", 1));
        world.ok(beat("b", 2));
    }
    world.pass(4999);
    assert!(world.member("a").is_some());
    world.pass(1);
    assert_eq!(world.refused(beat("a", 1)), UNKNOWN_MEMBER_ID);
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders(0..4)));
    // One that has given up in time isn't.
    let mut world = World::settled(&["a", "b"]);
    for _ in 0..20 {
        world.pass(5000);
        ["a", "b"].iter().for_each(|member_id| world.obey(member_id));
    }
}

#[test]
fn gr_5_a_target_that_changes_while_a_member_gives_up_is_followed_afterwards() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(join("b"));
    world.ok(beat("a", 1));
    world.ok(join("c"));
    world.ok(join("d"));
    // It has to give up one more, and is told so when it has given up the first two.
    let told = world.ok(having(&[0, 1], beat("a", 1)));
    assert_eq!((told.member_epoch, told.assignment.as_ref().map(BTreeSet::len)), (1, Some(1)));
    world.obey("a");
    for _ in 0..2 {
        ["a", "b", "c", "d"].iter().for_each(|member_id| world.obey(member_id));
    }
    assert_eq!(world.state(), GroupState::Stable);
    assert!(["a", "b", "c", "d"].iter().all(|it| world.has(it).len() == 1 && world.epoch_of(it) == 4));
}

#[test]
fn gr_5_a_partition_that_comes_back_before_it_was_given_up_stays() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(join("b"));
    world.ok(beat("a", 1));
    world.ok(beat("b", LEAVES));
    let told = world.ok(having(&[0, 1], beat("a", 1)));
    assert_eq!((told.member_epoch, told.assignment), (3, Some(orders(0..4))));
}

#[test]
fn a_request_that_lacks_something_is_refused_in_every_way() {
    let mut world = World::new();
    let lacking = [
        join(""),
        Heartbeat { group: String::new(), ..join("a") },
        Heartbeat { instance_id: Some(String::new()), ..join("a") },
        Heartbeat { rack_id: Some(String::new()), ..join("a") },
        Heartbeat { rebalance_timeout_ms: -1, ..join("a") },
        Heartbeat { owned: None, ..join("a") },
        having(&[0], join("a")),
        Heartbeat { topic_names: None, ..join("a") },
        beat("", 1),
        beat("", LEAVES),
        Heartbeat { brings_member_id: false, ..beat("", 3) },
        beat("a", LEAVES_FOR_NOW),
        fixed("i", beat("", LEAVES_FOR_NOW)),
        beat("a", -3),
        beat("a", i32::MIN),
    ];
    for heartbeat in lacking {
        assert_eq!(world.refused(heartbeat.clone()), INVALID_REQUEST, "{heartbeat:?}");
    }
    assert_eq!(world.coordinator.state(GROUP), None, "nothing was created");
    let sticky = Heartbeat { server_assignor: Some("sticky".to_owned()), ..join("a") };
    assert_eq!(world.refused(sticky), UNSUPPORTED_ASSIGNOR);
    assert_eq!(world.refused(by_regex("orders(", join("a"))), INVALID_REGULAR_EXPRESSION);
    assert_eq!(world.coordinator.state(GROUP), None, "nothing was created");
    assert_eq!(world.coordinator.next_deadline_ms(), None);
}

#[test]
fn a_member_without_an_id_of_its_own_is_told_one() {
    let mut world = World::new();
    let joined = world.ok(Heartbeat { brings_member_id: false, ..join("") });
    assert_eq!(joined.member_id, "00000000-0000-0000-0000-000000000abc");
    assert_eq!(world.ok(beat(&joined.member_id, 1)).member_epoch, 1);
}

#[test]
fn a_group_that_is_not_there_has_lost_its_members_and_nobody_can_leave_it() {
    let mut world = World::new();
    assert_eq!(world.refused(beat("a", 7)), UNKNOWN_MEMBER_ID, "it joins anew");
    assert_eq!(world.refused(beat("a", LEAVES)), GROUP_ID_NOT_FOUND);
    assert_eq!(world.refused(fixed("i", beat("a", LEAVES_FOR_NOW))), GROUP_ID_NOT_FOUND);
    world.ok(join("a"));
    assert_eq!(world.refused(beat("b", LEAVES)), UNKNOWN_MEMBER_ID);
    assert_eq!(world.refused(fixed("i", beat("a", LEAVES))), UNKNOWN_MEMBER_ID, "no such instance");
}

#[test]
fn gr_5_an_epoch_that_is_not_the_members_fences_it_unless_the_last_answer_was_lost() {
    let mut world = World::settled(&["a", "b"]);
    assert_eq!(world.refused(beat("a", 3)), FENCED_MEMBER_EPOCH, "it is at 2");
    assert_eq!(world.refused(beat("a", 1)), FENCED_MEMBER_EPOCH, "it doesn't say what it has");
    assert_eq!(world.refused(having(&[0, 1, 2], beat("a", 1))), FENCED_MEMBER_EPOCH, "2 isn't its");
    assert_eq!(world.ok(having(&[0], beat("a", 1))).member_epoch, 2, "it may have missed something");
    world.ok(join("c"));
    world.obey("a");
    world.obey("a");
    assert_eq!(world.epoch_of("a"), 3);
    assert_eq!(world.refused(having(&[0], beat("a", 1))), FENCED_MEMBER_EPOCH, "too old");
}

#[test]
fn gr_5_a_member_that_joins_once_more_keeps_its_place() {
    let mut world = World::new();
    let first = world.ok(join("a"));
    // The answer was lost.
    assert_eq!(world.ok(join("a")), first);
    world.ok(join("b"));
    world.ok(beat("a", 1));
    // It has abandoned all since it was told that it is fenced: nothing is left that it would have to give up.
    let again = world.ok(join("a"));
    assert_eq!((again.member_epoch, again.assignment), (2, Some(orders([0, 1]))));
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders([2, 3])));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut world = World::with(Settings { group_max_size: 2, ..Settings::default() });
    world.ok(join("a"));
    world.ok(join("b"));
    assert_eq!(world.refused(join("c")), GROUP_MAX_SIZE_REACHED);
    world.ok(beat("b", 2));
    world.ok(beat("a", LEAVES));
    world.ok(join("c"));
}

#[test]
fn gr_5_a_static_member_that_leaves_for_now_keeps_its_place_for_its_next_incarnation() {
    let mut world = World::new();
    world.ok(fixed("i", join("a1")));
    world.ok(join("b"));
    world.ok(fixed("i", beat("a1", 1)));
    let left = world.ok(fixed("i", beat("a1", LEAVES_FOR_NOW)));
    assert_eq!((left.member_id.as_str(), left.member_epoch), ("a1", -2));
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders([2, 3])), "what it was giving up is free");
    assert_eq!(world.refused(fixed("i", beat("a1", 1))), FENCED_MEMBER_EPOCH, "it has left");
    let epochs = world.epochs();
    let back = world.ok(fixed("i", join("a2")));
    assert_eq!((back.member_epoch, back.assignment), (2, Some(orders([0, 1]))));
    assert_eq!((world.epochs(), world.state()), (epochs, GroupState::Stable), "nobody else is disturbed");
    assert_eq!(world.refused(fixed("i", beat("a1", 1))), FENCED_INSTANCE_ID);
    assert_eq!(world.refused(fixed("i", beat("a1", LEAVES))), FENCED_INSTANCE_ID);
    assert_eq!(world.refused(fixed("j", beat("a2", 2))), UNKNOWN_MEMBER_ID, "no such instance");
    assert_eq!(world.ok(fixed("i", beat("a2", 2))).member_epoch, 2);
}

#[test]
fn gr_5_an_instance_id_that_is_in_use_is_not_given_to_another() {
    let mut world = World::new();
    let first = world.ok(fixed("i", join("a1")));
    assert_eq!(world.refused(fixed("i", join("a2"))), UNRELEASED_INSTANCE_ID);
    assert_eq!(world.ok(fixed("i", join("a1"))), first, "it is the same one, whose answer was lost");
    world.pass(44_999);
    assert_eq!(world.refused(fixed("i", join("a2"))), UNRELEASED_INSTANCE_ID);
    world.pass(1);
    assert_eq!(world.ok(fixed("i", join("a2"))).assignment, Some(orders(0..4)));
    world.ok(fixed("i", beat("a2", LEAVES)));
    assert_eq!(world.ok(fixed("i", join("a3"))).assignment, Some(orders(0..4)), "for good");
}

#[test]
fn a_static_member_that_does_not_come_back_within_its_session_is_fenced() {
    let mut world = World::new();
    world.ok(fixed("i", join("a1")));
    world.ok(join("b"));
    world.ok(fixed("i", beat("a1", LEAVES_FOR_NOW)));
    assert_eq!(world.ok(beat("b", 2)).assignment, None, "its place is kept");
    world.pass(44_000);
    world.ok(beat("b", 2));
    world.pass(1000);
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders(0..4)));
}

#[test]
fn a_member_can_take_another_instance_id_and_another_ones_member_id() {
    let mut world = World::new();
    world.ok(fixed("i", join("a")));
    world.ok(fixed("j", join("a")));
    assert_eq!(world.refused(fixed("i", beat("a", 1))), UNKNOWN_MEMBER_ID, "it has given that back");
    world.ok(join("b"));
    world.ok(fixed("j", beat("a", LEAVES_FOR_NOW)));
    world.ok(fixed("j", join("b")));
    assert_eq!(world.coordinator.describe(GROUP).unwrap().members.len(), 1);
    world.obey("b");
    assert_eq!((world.has("b"), world.state()), (orders(0..4), GroupState::Stable));
}

#[test]
fn topics_that_grow_come_and_go_make_a_new_epoch_at_the_next_heartbeat() {
    let mut world = World::settled(&["a", "b"]);
    let grown = [("orders", ORDERS, 6)];
    world.change_topics(grown);
    assert_eq!(world.epochs(), (2, 2));
    let told = world.ok(beat("a", 2));
    assert_eq!((told.member_epoch, told.assignment), (3, Some(orders([0, 1, 4]))));
    assert_eq!(world.ok(beat("b", 2)).assignment, Some(orders([2, 3, 5])));
    world.change_topics([("orders", ORDERS, 6), ("payments", PAYMENTS, 3)]);
    assert_eq!(world.ok(beat("a", 3)).assignment, None);
    assert_eq!(world.epochs(), (3, 3), "nobody subscribes to it");
    world.change_topics([("payments", PAYMENTS, 3)]);
    let told = world.ok(beat("a", 3));
    assert_eq!((told.member_epoch, told.assignment), (3, Some(orders([]))), "it is deleted");
    assert_eq!(world.ok(having(&[], beat("a", 3))).member_epoch, 4);
    world.ok(having(&[], beat("b", 3)));
    // It is there again, and is another one.
    world.change_topics([("orders", 9, 1)]);
    let told = world.ok(having(&[], beat("a", 4)));
    assert_eq!((told.member_epoch, told.assignment), (5, Some(BTreeSet::from([topic_partition(9, 0)]))));
}

#[test]
fn a_subscription_that_changes_makes_a_new_epoch_and_one_that_does_not_makes_none() {
    let mut world = World::new();
    world.change_topics([("orders", ORDERS, 2), ("payments", PAYMENTS, 1)]);
    world.ok(join("a"));
    let epoch_of = |world: &mut World, heartbeat: Heartbeat| {
        world.ok(heartbeat);
        world.obey("a");
        world.epochs().0
    };
    let other = by_names(&["orders", "payments"], beat("a", 1));
    assert_eq!(epoch_of(&mut world, other.clone()), 2);
    assert_eq!(epoch_of(&mut world, Heartbeat { member_epoch: 2, ..other }), 2);
    assert_eq!(world.has("a").len(), 3);
    assert_eq!(epoch_of(&mut world, by_names(&["nothing"], beat("a", 2))), 3);
    assert_eq!(world.has("a").len(), 0);
    assert_eq!(epoch_of(&mut world, by_regex("pay.*|ord", beat("a", 3))), 4);
    assert_eq!(world.has("a"), BTreeSet::from([topic_partition(PAYMENTS, 0)]), "the whole name, or nothing");
    assert_eq!(epoch_of(&mut world, by_names(&["orders"], beat("a", 4))), 5);
    assert_eq!(world.has("a").len(), 3, "both count");
    assert_eq!(epoch_of(&mut world, by_regex("", beat("a", 5))), 6);
    assert_eq!(world.has("a").len(), 2);
    assert_eq!(world.refused(by_regex("*", beat("a", 6))), INVALID_REGULAR_EXPRESSION);
    // One that subscribes to nothing is a member all the same.
    assert_eq!(world.ok(by_names(&[], join("b"))).assignment, Some(orders([])));
}

#[test]
fn topics_that_come_are_found_by_a_regular_expression() {
    let mut world = World::new();
    assert_eq!(world.ok(by_regex("orders-.*", join("a"))).assignment, Some(orders([])));
    world.change_topics([("orders-eu", ORDERS, 1), ("my-orders-eu", PAYMENTS, 1)]);
    let told = world.ok(beat("a", 1));
    assert_eq!((told.member_epoch, told.assignment), (2, Some(orders([0]))));
}

#[test]
fn regular_expressions_are_those_of_re2() {
    let all = topics([("orders", 1, 1), ("orders.eu", 2, 1), ("ordersxeu", 3, 1), ("Orders", 4, 1)]);
    let fitting = |text: &str| {
        let pattern = pattern::Pattern::new(text, &all);
        pattern.map(|it| it.topics.into_iter().collect::<Vec<_>>().join(" ")).map_err(|refused| refused.0)
    };
    let fits = |text: &str, names: &str| assert_eq!(fitting(text), Ok(names.to_owned()), "{text}");
    fits("orders", "orders");
    fits("^orders$", "orders");
    fits("orders|orders.*", "orders orders.eu ordersxeu");
    fits("(?i)orders", "Orders orders");
    fits(r"\Qorders.eu\E", "orders.eu");
    fits(r"\Qorders.\Ee.", "orders.eu");
    fits(r"\Qorders.eu", "orders.eu");
    fits(r"orders\.eu", "orders.eu");
    fits(r"\\Q", "");
    fits(r"\p{Lu}\pL+", "Orders");
    fits("[[:lower:]]+", "orders ordersxeu");
    fits("(?P<region>orders).(?:eu)", "orders.eu ordersxeu");
    fits("(?x) orders # whichever", "orders");
    for wrong in ["*", "a)(b", "(", r"(a)\1", "(?=a)", "a{2000}{2000}", "\\"] {
        assert_eq!(fitting(wrong), Err(INVALID_REGULAR_EXPRESSION), "{wrong}");
    }
}

#[test]
fn gr_5_a_commit_counts_from_the_epoch_of_the_assignment_up_to_that_of_the_member() {
    let mut world = World::settled(&["a", "b"]);
    // Since epochs 1 and 1, 2 and 2.
    assert_eq!((world.has("a"), world.has("b")), (orders([0, 1]), orders([2, 3])));
    for (epoch, indexes, expected) in [
        (2, &[0, 1][..], Ok(())),
        // As in Kafka nobody asks whose it is while the epoch is the member's.
        (2, &[3], Ok(())),
        (1, &[0, 1], Ok(())),
        (1, &[], Ok(())),
        (0, &[0], Err(STALE_MEMBER_EPOCH)),
        (3, &[0], Err(STALE_MEMBER_EPOCH)),
        (1, &[0, 2], Err(STALE_MEMBER_EPOCH)),
        (-1, &[0], Err(STALE_MEMBER_EPOCH)),
    ] {
        assert_eq!(world.commit("a", epoch, indexes), Some(expected), "{epoch} {indexes:?}");
        // But in a transaction it is asked: the other one may have begun with it.
        let transactional =
            if indexes == [3] { Err(ILLEGAL_GENERATION) } else { expected.map_err(|_| ILLEGAL_GENERATION) };
        let checked = world.commit_as("a", epoch, indexes, true, false);
        assert_eq!(checked, Some(transactional), "{epoch} {indexes:?}");
        let partitions: Vec<TopicPartition> = orders(indexes.iter().copied()).into_iter().collect();
        let fetched = world.coordinator.check_fetch(GROUP, "a", epoch, Some(&partitions));
        assert_eq!(fetched, Some(expected), "{epoch} {indexes:?}");
    }
    assert_eq!(world.commit("b", 1, &[2]), Some(Err(STALE_MEMBER_EPOCH)), "it has it since 2");
    assert_eq!(world.commit("c", 2, &[0]), Some(Err(UNKNOWN_MEMBER_ID)));
    assert_eq!(world.commit("", -1, &[0]), Some(Err(UNKNOWN_MEMBER_ID)), "there are members");
    assert_eq!(world.commit_as("", -1, &[0], true, false), Some(Ok(())), "nobody says for whom");
    assert_eq!(world.commit_as("a", 2, &[0], false, false), Some(Err(UNSUPPORTED_VERSION)));
    assert_eq!(world.coordinator.check_fetch(GROUP, "a", 2, None), Some(Ok(())));
    assert_eq!(world.coordinator.check_fetch(GROUP, "a", 1, None), Some(Err(STALE_MEMBER_EPOCH)));
    assert_eq!(world.coordinator.check_fetch(GROUP, "c", 1, None), Some(Err(UNKNOWN_MEMBER_ID)));
    assert_eq!(world.coordinator.check_fetch("other", "c", 1, None), None);
    // What it has to give up it may commit for, until it has.
    world.ok(join("c"));
    world.ok(join("d"));
    world.ok(beat("a", 2));
    assert_eq!(world.commit("a", 1, &[0, 1]), Some(Ok(())));
    assert_eq!(world.commit_as("a", world.epoch_of("a"), &[0, 1], true, true), Some(Ok(())));
    world.obey("a");
    assert_eq!(world.commit("a", 1, &[0, 1]), Some(Err(STALE_MEMBER_EPOCH)));
    let checked = world.commit_as("a", world.epoch_of("a"), &[0, 1], true, true);
    assert_eq!(
        checked,
        Some(Err(ILLEGAL_GENERATION)),
        "it knows its new epoch, and has given one of them up"
    );
    ["a", "b", "c", "d"].iter().for_each(|it| _ = world.ok(beat(it, LEAVES)));
    assert_eq!(world.commit("", -1, &[0]), Some(Ok(())), "it is empty");
    assert_eq!(world.commit("a", 2, &[0]), Some(Err(UNKNOWN_MEMBER_ID)));
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let mut world = World::new();
    world.change_topics([("orders", ORDERS, 2), ("payments", PAYMENTS, 1)]);
    let rack = Heartbeat { rack_id: Some("r".to_owned()), ..by_regex("pay.*", join("a")) };
    world.ok(fixed("i", by_names(&["orders"], rack)));
    world.ok(Heartbeat { group: "other".to_owned(), ..join("a") });
    let listed = |name: &str, state| (name.to_owned(), state);
    assert_eq!(
        world.coordinator.list(),
        [listed("g", GroupState::Stable), listed("other", GroupState::Stable)]
    );
    let described = world.coordinator.describe(GROUP).unwrap();
    assert_eq!((described.epoch, described.assignment_epoch), (1, 1));
    assert_eq!(described.assignor.name(), "uniform");
    let has = |topic, name: &str, indexes: &[i32]| DescribedPartitions {
        topic: TopicId(topic),
        name: name.to_owned(),
        indexes: indexes.to_vec(),
    };
    let both = vec![has(ORDERS, "orders", &[0, 1]), has(PAYMENTS, "payments", &[0])];
    let member = DescribedMember {
        member_id: "a".to_owned(),
        instance_id: Some("i".to_owned()),
        rack_id: Some("r".to_owned()),
        member_epoch: 1,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topic_names: vec!["orders".to_owned()],
        topic_regex: Some("pay.*".to_owned()),
        assignment: both.clone(),
        target: both,
    };
    assert_eq!(described.members, [member]);
    let read = ["orders", "payments"].map(str::to_owned).into();
    assert_eq!(world.coordinator.subscribed(GROUP), Some(read));
    assert_eq!(world.coordinator.subscribed("nobody"), None);
    assert_eq!(world.coordinator.delete(GROUP), NON_EMPTY_GROUP);
    world.ok(fixed("i", beat("a", LEAVES)));
    assert_eq!(world.state(), GroupState::Empty);
    assert_eq!(world.coordinator.subscribed(GROUP), Some(BTreeSet::new()));
    assert_eq!(world.coordinator.delete(GROUP), NONE);
    assert_eq!(
        (world.coordinator.delete(GROUP), world.coordinator.describe(GROUP)),
        (GROUP_ID_NOT_FOUND, None)
    );
    let states = [GroupState::Empty, GroupState::Assigning, GroupState::Reconciling, GroupState::Stable];
    assert_eq!(states.map(GroupState::name), ["Empty", "Assigning", "Reconciling", "Stable"]);
}

#[test]
fn epochs_of_a_group_go_on_when_it_was_empty() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(beat("a", LEAVES));
    assert_eq!(world.epochs(), (2, 1));
    assert_eq!(world.ok(join("b")).member_epoch, 3);
}

/// What is left of it is the log's: its offsets.
#[test]
fn a_group_that_nobody_comes_back_to_is_forgotten() {
    let mut world = World::new();
    world.ok(join("a"));
    world.ok(beat("a", LEAVES));
    world.pass(599_999);
    assert_eq!(world.coordinator.state(GROUP), Some(GroupState::Empty));
    world.pass(1);
    assert_eq!((world.coordinator.state(GROUP), world.coordinator.next_deadline_ms()), (None, None));
    assert_eq!(world.refused(beat("a", 1)), UNKNOWN_MEMBER_ID);
    assert_eq!(world.ok(join("a")).member_epoch, 1);
}

#[test]
fn a_node_that_ends_answers_all_with_the_same() {
    let mut world = World::settled(&["a"]);
    world.coordinator.shut_down();
    assert_eq!(world.ask(beat("a", 1)).unwrap_err().0, COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.commit("a", 1, &[0]), Some(Err(COORDINATOR_NOT_AVAILABLE)));
    assert_eq!(world.coordinator.next_deadline_ms(), None);
}

#[test]
fn the_assignor_that_most_members_ask_for_is_taken() {
    let mut world = World::new();
    let asking =
        |name: &str, member_id: &str| Heartbeat { server_assignor: Some(name.to_owned()), ..join(member_id) };
    let assignor = |world: &World| world.coordinator.describe(GROUP).unwrap().assignor.name();
    world.ok(join("a"));
    assert_eq!(assignor(&world), "uniform");
    world.ok(asking("range", "b"));
    assert_eq!(assignor(&world), "range");
    world.ok(asking("uniform", "c"));
    assert_eq!(assignor(&world), "uniform", "of as many votes the first");
    world.ok(asking("range", "d"));
    assert_eq!(assignor(&world), "range");
}
