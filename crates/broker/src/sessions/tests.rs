//! The machine of sessions: by its rules one by one, and by random clients that keep their whole list themselves.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const WISH: Wish = Wish { offset: 0, bytes_max: 1000, leader_epoch: -1, last_epoch: -1 };
const NOTHING: Found = Found {
    has_records: false,
    is_urgent: false,
    bounds: Bounds { high_watermark: 0, last_stable_offset: 0, log_start_offset: 0 },
};

fn place(index: i32) -> Place {
    Place { name: "orders".into(), index, ..Place::default() }
}

fn asked(id: i32, epoch: i32, wanted: &[i32], forgotten: &[i32]) -> Asked {
    Asked {
        id,
        epoch,
        by_ids: false,
        wanted: wanted.iter().map(|index| (place(*index), WISH)).collect(),
        forgotten: forgotten.iter().map(|index| place(*index)).collect(),
    }
}

fn opened(sessions: &mut Sessions, now_ms: i64, fresh_id: u32, indexes: std::ops::Range<i32>) -> i32 {
    sessions.open(now_ms, fresh_id, false, indexes.map(|index| (place(index), WISH, NOTHING)))
}

fn indexes(begun: &Begun) -> Vec<i32> {
    begun.wanted.iter().map(|(place, _)| place.index).collect()
}

/// What is told if this was found in all that is wanted.
fn told(sessions: &mut Sessions, begun: &Begun, found: Found) -> Vec<bool> {
    let Turn::GoesOn { id, next_epoch } = begun.turn else { panic!("{begun:?}") };
    sessions.go_on(id, next_epoch, begun.wanted.iter().map(|(place, _)| (place, found))).unwrap()
}

#[test]
fn a_session_is_opened_gone_on_with_and_ended() {
    let mut sessions = Sessions::default();
    let begun = sessions.begin(0, asked(0, 0, &[0, 1], &[])).unwrap();
    assert_eq!((begun.turn, indexes(&begun)), (Turn::Opens { by_ids: false }, vec![0, 1]));
    let id = opened(&mut sessions, 0, 77, 0..2);
    assert_eq!((id, sessions.counts().partitions), (77, 2));
    let begun = sessions.begin(0, asked(id, 1, &[2], &[0])).unwrap();
    assert_eq!((begun.turn, indexes(&begun)), (Turn::GoesOn { id, next_epoch: 2 }, vec![1, 2]));
    assert_eq!(told(&mut sessions, &begun, NOTHING), [false, true], "the new one hasn't been told of");
    let begun = sessions.begin(0, asked(id, ENDS, &[0], &[])).unwrap();
    assert_eq!((begun.turn, indexes(&begun)), (Turn::Alone, vec![0]));
    assert_eq!((sessions.counts(), sessions.bytes), (Counts::default(), 0));
    assert_eq!(sessions.begin(0, asked(id, 2, &[], &[])), Err(FETCH_SESSION_ID_NOT_FOUND));
}

#[test]
fn who_is_out_of_step_is_told_what_is_wrong_and_changes_nothing() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 0, 1, 0..2);
    for epoch in [2, 3, -2, i32::MIN, i32::MAX] {
        let begun = sessions.begin(0, asked(id, epoch, &[], &[0]));
        assert_eq!(begun, Err(INVALID_FETCH_SESSION_EPOCH), "{epoch}");
    }
    let by_ids = Asked { by_ids: true, ..asked(id, 1, &[], &[0]) };
    assert_eq!(sessions.begin(0, by_ids), Err(FETCH_SESSION_TOPIC_ID_ERROR));
    for (unknown, epoch) in [(0, 1), (2, 1), (-1, 1), (0, -2)] {
        let begun = sessions.begin(0, asked(unknown, epoch, &[], &[]));
        assert_eq!(begun, Err(FETCH_SESSION_ID_NOT_FOUND), "{unknown} {epoch}");
    }
    assert_eq!(indexes(&sessions.begin(0, asked(id, 1, &[], &[])).unwrap()), [0, 1]);
}

/// A request that is sent twice, over two connections say, is served once.
#[test]
fn a_session_that_has_gone_on_or_gone_meanwhile_tells_nothing() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 0, 1, 0..1);
    assert!(sessions.begin(0, asked(id, 1, &[], &[])).is_ok());
    assert_eq!(sessions.begin(0, asked(id, 1, &[], &[])), Err(INVALID_FETCH_SESSION_EPOCH));
    assert!(sessions.begin(0, asked(id, 2, &[], &[])).is_ok());
    assert_eq!(sessions.go_on(id, 2, []), Err(INVALID_FETCH_SESSION_EPOCH));
    assert_eq!(sessions.go_on(id, 3, []), Ok(vec![]));
    sessions.begin(0, asked(id, ENDS, &[], &[])).unwrap();
    assert_eq!(sessions.go_on(id, 3, []), Err(FETCH_SESSION_ID_NOT_FOUND));
}

#[test]
fn epochs_begin_again_at_one() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 0, 1, 0..1);
    sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    let begun = sessions.begin(0, asked(id, i32::MAX, &[], &[])).unwrap();
    assert_eq!(begun.turn, Turn::GoesOn { id, next_epoch: 1 });
    assert!(sessions.begin(0, asked(id, 1, &[], &[])).is_ok());
}

#[test]
fn a_partition_is_told_for_records_errors_and_what_has_changed_alone() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 0, 1, 0..1);
    let bounds = |high_watermark, last_stable_offset, log_start_offset| Found {
        bounds: Bounds { high_watermark, last_stable_offset, log_start_offset },
        ..NOTHING
    };
    let found = [
        ("as before", NOTHING, false),
        ("records", Found { has_records: true, ..NOTHING }, true),
        ("high watermark", bounds(5, 0, 0), true),
        ("once", bounds(5, 0, 0), false),
        ("last stable offset", bounds(5, 5, 0), true),
        ("start", bounds(5, 5, 3), true),
        ("an error", Found { is_urgent: true, ..bounds(5, 5, 3) }, true),
        ("still an error", Found { is_urgent: true, ..bounds(5, 5, 3) }, true),
        ("no error any more", bounds(5, 5, 3), true),
        ("all is said", bounds(5, 5, 3), false),
    ];
    for (epoch, (what, found, is_told)) in (1..).zip(found) {
        let begun = sessions.begin(0, asked(id, epoch, &[], &[])).unwrap();
        assert_eq!(told(&mut sessions, &begun, found), [is_told], "{what}");
    }
}

/// An error in the first answer isn't all that has to be told.
#[test]
fn what_was_an_error_at_first_is_told_when_it_is_none() {
    let mut sessions = Sessions::default();
    let found = Found { is_urgent: true, ..NOTHING };
    let id = sessions.open(0, 1, false, [(place(0), WISH, found)]);
    let begun = sessions.begin(0, asked(id, 1, &[], &[])).unwrap();
    assert_eq!(told(&mut sessions, &begun, NOTHING), [true]);
}

#[test]
fn what_had_records_is_read_last_the_next_time() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 0, 1, 0..4);
    let begun = sessions.begin(0, asked(id, 1, &[], &[])).unwrap();
    let found = begun
        .wanted
        .iter()
        .map(|(place, _)| (place, Found { has_records: matches!(place.index, 0 | 2), ..NOTHING }));
    assert_eq!(sessions.go_on(id, 2, found), Ok(vec![true, false, true, false]));
    // What is named again has another offset, but keeps its place.
    let begun = sessions.begin(0, asked(id, 2, &[0, 1], &[])).unwrap();
    assert_eq!(indexes(&begun), [1, 3, 0, 2]);
}

#[test]
fn a_session_without_partitions_is_none() {
    let mut sessions = Sessions::default();
    assert_eq!(opened(&mut sessions, 0, 1, 0..0), 0);
    let id = opened(&mut sessions, 0, 1, 0..2);
    let begun = sessions.begin(0, asked(id, 1, &[], &[0, 1])).unwrap();
    assert_eq!(begun, Begun { turn: Turn::Alone, wanted: Vec::new() });
    assert_eq!(sessions.counts().sessions, 0);
}

#[test]
fn ids_are_positive_and_nobody_elses() {
    let mut sessions = Sessions::default();
    let ids: Vec<i32> = [0, 0, i32::MAX as u32, u32::MAX, 1 << 31]
        .map(|fresh_id| opened(&mut sessions, 0, fresh_id, 0..1))
        .into();
    assert_eq!(ids, [1, 2, i32::MAX, 3, 4]);
}

#[test]
fn a_place_is_taken_from_who_does_not_use_it_and_from_older_ones_that_are_smaller() {
    let settings = Settings { sessions_max: 2, ..Settings::default() };
    let mut sessions = Sessions::new(settings);
    let (small, large) = (opened(&mut sessions, 0, 1, 0..1), opened(&mut sessions, 0, 2, 0..3));
    assert_eq!(opened(&mut sessions, 120_000, 3, 0..9), 0, "both are new");
    for id in [small, large] {
        assert!(sessions.begin(110_000, asked(id, 1, &[], &[])).is_ok());
    }
    assert_eq!(opened(&mut sessions, 120_001, 3, 0..1), 0, "none is smaller");
    let third = opened(&mut sessions, 120_001, 3, 0..2);
    assert_eq!((third, sessions.counts().evicted), (3, 1));
    assert_eq!(sessions.begin(120_001, asked(small, 2, &[], &[])), Err(FETCH_SESSION_ID_NOT_FOUND));
    // The large one was used at 110,000 the last time.
    assert_eq!(opened(&mut sessions, 230_001, 4, 0..1), 4);
    assert_eq!(sessions.begin(230_001, asked(large, 2, &[], &[])), Err(FETCH_SESSION_ID_NOT_FOUND));
    assert_eq!(sessions.counts(), Counts { sessions: 2, partitions: 3, evicted: 2 });
}

#[test]
fn without_places_there_are_no_sessions() {
    let mut sessions = Sessions::new(Settings { sessions_max: 0, ..Settings::default() });
    assert_eq!(opened(&mut sessions, 0, 1, 0..1), 0);
}

/// A client can add to its session whatever it likes, one request after the other.
#[test]
fn a_session_that_outgrows_the_memory_goes() {
    let bytes_max = SESSION_BYTES + 3 * bytes_of(&place(0));
    let mut sessions = Sessions::new(Settings { bytes_max, ..Settings::default() });
    assert_eq!(opened(&mut sessions, 0, 1, 0..4), 0);
    let id = opened(&mut sessions, 0, 1, 0..2);
    assert!(sessions.begin(0, asked(id, 1, &[2], &[])).is_ok());
    assert_eq!(sessions.begin(0, asked(id, 2, &[3], &[])), Err(FETCH_SESSION_ID_NOT_FOUND));
    assert_eq!((sessions.counts(), sessions.bytes), (Counts { evicted: 1, ..Counts::default() }, 0));
}

const PARTITIONS: i32 = 5;
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Action {
    Append(i32),
    Settle(i32),
    Trim(i32),
    Break(i32, bool),
    /// A client wants a partition, or doesn't any more.
    Turn(usize, i32),
    Seek(usize, i32),
    Fetch(usize),
    /// Its answer is lost, and it asks once more.
    Lose(usize),
    Leave(usize),
    Pass(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let (partition, client) = (|| 0..PARTITIONS, || 0..CLIENTS);
    prop_oneof![
        4 => partition().prop_map(Action::Append),
        2 => partition().prop_map(Action::Settle),
        1 => partition().prop_map(Action::Trim),
        1 => (partition(), any::<bool>()).prop_map(|(partition, is)| Action::Break(partition, is)),
        3 => (client(), partition()).prop_map(|(client, partition)| Action::Turn(client, partition)),
        1 => (client(), partition()).prop_map(|(client, partition)| Action::Seek(client, partition)),
        9 => client().prop_map(Action::Fetch),
        1 => client().prop_map(Action::Lose),
        1 => client().prop_map(Action::Leave),
        1 => (0..200_000i64).prop_map(Action::Pass),
    ]
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    start: i64,
    stable: i64,
    end: i64,
    is_broken: bool,
}

impl Partition {
    /// What somebody finds who asks for it by itself.
    fn found(self, wish: Wish) -> Found {
        let bounds = Bounds {
            high_watermark: self.end,
            last_stable_offset: self.stable,
            log_start_offset: self.start,
        };
        let is_urgent = self.is_broken || !(self.start..=self.end).contains(&wish.offset);
        Found { has_records: !is_urgent && wish.offset < self.stable, is_urgent, bounds }
    }
}

/// It keeps the whole list itself, as clients do.
#[derive(Clone, Debug, Default)]
struct Client {
    id: i32,
    epoch: i32,
    wanted: BTreeMap<Place, Wish>,
    /// What the node has been told to want since.
    said: BTreeMap<Place, Wish>,
    /// What it was told last; none with an error.
    knows: BTreeMap<Place, Option<Bounds>>,
}

#[derive(Debug, Default)]
struct World {
    now_ms: i64,
    sessions: Sessions,
    partitions: [Partition; PARTITIONS as usize],
    clients: [Client; CLIENTS],
    next_id: u32,
}

impl World {
    fn act(&mut self, action: Action) {
        match action {
            Action::Append(at) => self.partitions[at as usize].end += 1,
            Action::Settle(at) => self.partitions[at as usize].stable = self.partitions[at as usize].end,
            Action::Trim(at) => {
                let partition = &mut self.partitions[at as usize];
                partition.start = partition.stable;
            }
            Action::Break(at, is_broken) => self.partitions[at as usize].is_broken = is_broken,
            Action::Turn(client, at) => {
                let wanted = &mut self.clients[client].wanted;
                if wanted.remove(&place(at)).is_none() {
                    wanted.insert(place(at), WISH);
                }
            }
            Action::Seek(client, at) => {
                let start = self.partitions[at as usize].start;
                if let Some(wish) = self.clients[client].wanted.get_mut(&place(at)) {
                    wish.offset = start;
                }
            }
            Action::Fetch(client) => self.fetch(client, false),
            Action::Lose(client) => self.fetch(client, true),
            Action::Leave(client) => {
                let (id, wanted) = (self.clients[client].id, self.clients[client].wanted.clone());
                _ = self.sessions.begin(self.now_ms, asked(id, ENDS, &[], &[]));
                self.clients[client] = Client { wanted, ..Client::default() };
            }
            Action::Pass(ms) => self.now_ms += ms,
        }
        self.check();
    }

    fn fetch(&mut self, nth: usize, is_lost: bool) {
        let client = self.clients[nth].clone();
        let is_new = |(place, wish): &(&Place, &Wish)| client.said.get(*place) != Some(*wish);
        let changed = client.wanted.iter().filter(is_new).map(|(place, wish)| (place.clone(), *wish));
        let gone = client.said.keys().filter(|place| !client.wanted.contains_key(*place)).cloned();
        let request = Asked {
            id: client.id,
            epoch: client.epoch,
            by_ids: false,
            wanted: changed.collect(),
            forgotten: gone.collect(),
        };
        let answer = self.serve(request);
        if is_lost {
            // It doesn't know what the node knows: it says it again, out of step.
            return;
        }
        match answer {
            Ok((id, told)) => self.take(nth, id, told),
            Err(_) => self.clients[nth] = Client { wanted: client.wanted, ..Client::default() },
        }
    }

    fn serve(&mut self, request: Asked) -> Result<(i32, Vec<(Place, Found)>), i16> {
        let Begun { turn, wanted } = self.sessions.begin(self.now_ms, request)?;
        let found: Vec<(Place, Wish, Found)> = wanted
            .into_iter()
            .map(|(place, wish)| (place.clone(), wish, self.partitions[place.index as usize].found(wish)))
            .collect();
        let all = found.iter().map(|(place, _, found)| (place.clone(), *found)).collect::<Vec<_>>();
        match turn {
            Turn::Alone => Ok((0, all)),
            Turn::Opens { by_ids } => {
                self.next_id += 1;
                Ok((self.sessions.open(self.now_ms, self.next_id, by_ids, found), all))
            }
            Turn::GoesOn { id, next_epoch } => {
                let each = all.iter().map(|(place, found)| (place, *found));
                let told = self.sessions.go_on(id, next_epoch, each)?;
                Ok((id, all.into_iter().zip(told).filter(|(_, told)| *told).map(|(it, _)| it).collect()))
            }
        }
    }

    /// Each partition that it wants is told, or there is nothing in it that it doesn't know.
    fn take(&mut self, nth: usize, id: i32, told: Vec<(Place, Found)>) {
        let client = &mut self.clients[nth];
        let told: BTreeMap<Place, Found> = told.into_iter().collect();
        assert!(told.keys().all(|place| client.wanted.contains_key(place)), "{told:?} of {client:?}");
        client.knows.retain(|place, _| client.wanted.contains_key(place));
        for (place, wish) in &mut client.wanted {
            let found = self.partitions[place.index as usize].found(*wish);
            match told.get(place) {
                Some(told) => {
                    assert_eq!(*told, found);
                    client.knows.insert(place.clone(), (!found.is_urgent).then_some(found.bounds));
                }
                None => {
                    assert!(!found.has_records && !found.is_urgent, "{place:?} is kept from {nth}");
                    assert_eq!(client.knows.get(place), Some(&Some(found.bounds)), "{place:?} of {nth}");
                }
            }
        }
        client.said = if id == 0 { BTreeMap::new() } else { client.wanted.clone() };
        // What has come it has read.
        let read = told.iter().filter(|(_, found)| found.has_records);
        for (place, found) in read {
            let wish = client.wanted.get_mut(place).unwrap();
            wish.offset = found.bounds.last_stable_offset;
        }
        let epoch = if id == 0 { OPENS } else { next(client.epoch.max(OPENS)) };
        (client.id, client.epoch) = (id, epoch);
    }

    fn check(&self) {
        let Sessions { settings, sessions, bytes, .. } = &self.sessions;
        assert!(sessions.len() <= settings.sessions_max && *bytes <= settings.bytes_max);
        let of = |session: &Session| {
            let places: BTreeSet<&Place> = session.order.keys().collect();
            assert_eq!(places, session.partitions.values().map(|it| &it.place).collect());
            SESSION_BYTES + places.into_iter().map(bytes_of).sum::<usize>()
        };
        assert!(sessions.values().all(|session| session.bytes == of(session)));
        assert_eq!(*bytes, sessions.values().map(|session| session.bytes).sum::<usize>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// With few places, so that sessions come and go.
    #[test]
    fn who_has_a_session_sees_what_who_has_none_sees(
        sessions_max in 0..4usize,
        room in 4..12usize,
        actions in prop::collection::vec(action(), 1..200),
    ) {
        let bytes_max = 2 * SESSION_BYTES + room * bytes_of(&place(0));
        let settings = Settings { sessions_max, bytes_max, ..Settings::default() };
        let mut world = World { sessions: Sessions::new(settings), ..World::default() };
        actions.into_iter().for_each(|action| world.act(action));
    }
}
