//! Ordinary clients: each asks at a fixed rate, on a connection of its own.
//!
//! How long an answer takes counts from the moment at which it was due to be asked for: whoever is kept waiting doesn't
//! measure less for it.

use crate::Result;
use crate::client::{self, Client, FETCH, PRODUCE};
use bytes::Bytes;
use exactlog_benches::samples::{Samples, Summary};
use exactlog_wire::messages::{CreateTopics, Fetch, Produce, create_topics, produce};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What others fetch without reading it: larger than what may be held of answers.
pub(crate) const HISTORY: &str = "history";
const HISTORY_BATCHES: usize = 300;
const HISTORY_BATCH_BYTES: usize = 1_000_000;

const ORDINARY: &str = "ordinary";
const READ: &str = "read";
const READ_BATCHES: usize = 256;

const SMALL_BYTES: usize = 1024;
const LARGE_BYTES: usize = 100 * 1024;
const FETCHED_BYTES: i32 = 64 * 1024;

/// What is asked, how often a second by each client, and by how many.
const KINDS: [(&str, u32, usize); KINDS_COUNT] =
    [("produce 1 KiB", 50, 4), ("produce 100 KiB", 10, 2), ("fetch 64 KiB", 50, 4)];
pub(crate) const KINDS_COUNT: usize = 3;

/// Of each kind.
pub(crate) type Latencies = [Summary; KINDS_COUNT];

pub(crate) fn names() -> [&'static str; KINDS_COUNT] {
    KINDS.map(|(name, ..)| name)
}

/// Makes the topics, and what is read of them.
pub(crate) fn prepare(address: SocketAddr) -> Result<()> {
    let mut client = Client::connect(address)?;
    for name in [HISTORY, ORDINARY, READ] {
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: 8,
            replication_factor: 1,
            ..create_topics::CreatableTopic::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..create_topics::Request::default()
        };
        let response = client.ask::<CreateTopics>(5, &request)?;
        if let Some(topic) = response.topics.iter().find(|topic| topic.error_code != 0) {
            return Err(format!("{name} can't be created: error {}", topic.error_code).into());
        }
    }
    let history = client::batch(HISTORY_BATCH_BYTES);
    for _ in 0..HISTORY_BATCHES {
        produced(&client.ask::<Produce>(PRODUCE, &client::produce(HISTORY, 0, &history))?)?;
    }
    let read = client::batch(16 * 1024);
    for _ in 0..READ_BATCHES {
        produced(&client.ask::<Produce>(PRODUCE, &client::produce(READ, 0, &read))?)?;
    }
    Ok(())
}

fn produced(response: &produce::Response) -> Result<()> {
    match response.responses[0].partition_responses[0].error_code {
        0 => Ok(()),
        error_code => Err(format!("what was produced was refused: error {error_code}").into()),
    }
}

/// Connected, for one measurement after the other.
pub(crate) struct Ordinary {
    clients: Vec<(usize, Mutex<Client>)>,
    small: Bytes,
    large: Bytes,
}

impl Ordinary {
    pub(crate) fn connect(address: SocketAddr) -> Result<Ordinary> {
        let mut clients = Vec::new();
        for (kind, (_, _, count)) in KINDS.iter().enumerate() {
            for _ in 0..*count {
                clients.push((kind, Mutex::new(Client::connect(address)?)));
            }
        }
        Ok(Ordinary { clients, small: client::batch(SMALL_BYTES), large: client::batch(LARGE_BYTES) })
    }

    /// All of them at once, for so long.
    pub(crate) fn measure(&self, during: Duration) -> Result<Latencies> {
        let begin = Instant::now() + Duration::from_millis(20);
        let measured = std::thread::scope(|scope| {
            let started = self.clients.iter().enumerate().map(|(nth, (kind, client))| {
                (*kind, scope.spawn(move || self.ask_at_rate(nth, *kind, client, begin, during)))
            });
            let started: Vec<_> = started.collect();
            let ended = started.into_iter().map(|(kind, thread)| {
                let samples = thread.join().map_err(|_| "a client panicked")??;
                Ok((kind, samples))
            });
            ended.collect::<Result<Vec<(usize, Samples)>>>()
        })?;
        let mut all: [Samples; KINDS_COUNT] = Default::default();
        measured.into_iter().for_each(|(kind, samples)| all[kind].extend(samples));
        Ok(all.map(Samples::summary))
    }

    fn ask_at_rate(
        &self,
        nth: usize,
        kind: usize,
        client: &Mutex<Client>,
        begin: Instant,
        during: Duration,
    ) -> Result<Samples> {
        let mut client = client.lock().map_err(|_| "a client panicked")?;
        let period = Duration::from_secs(1) / KINDS[kind].1;
        // Not all at the same moment.
        let mut due = begin + period * nth as u32 / self.clients.len() as u32;
        let mut samples = Samples::default();
        for turn in 0.. {
            if due >= begin + during {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.ask(kind, nth as i32 % 8, turn, &mut client)?;
            samples.push(due.elapsed());
            due += period;
        }
        Ok(samples)
    }

    fn ask(&self, kind: usize, index: i32, turn: i64, client: &mut Client) -> Result<()> {
        match kind {
            0 => produced(&client.ask::<Produce>(PRODUCE, &client::produce(ORDINARY, index, &self.small))?),
            1 => produced(&client.ask::<Produce>(PRODUCE, &client::produce(ORDINARY, index, &self.large))?),
            _ => {
                let offset = turn * 3 % (READ_BATCHES as i64 - 8);
                let response = client.ask::<Fetch>(FETCH, &client::fetch(READ, offset, FETCHED_BYTES))?;
                let fetched = response.responses.first().and_then(|topic| topic.partitions.first());
                let bytes = fetched.and_then(|it| it.records.as_ref()).map_or(0, |records| records.len());
                match bytes {
                    0 => Err("nothing was fetched".into()),
                    _ => Ok(()),
                }
            }
        }
    }
}
