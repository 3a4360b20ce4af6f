//! A request at a time over a connection: what the node adds to a loop that does as little as a broker can.
//!
//! The loop takes a request, overwrites as much of a file and syncs that, and answers; the node does all that it does.
//! Both are processes of their own, so that their time of the processor can be told.

use crate::child;
use crate::limits::Limits;
use crate::report::{Report, Survives, latency_text};
use crate::setup::{self, MIB, Measures, Result, Ring};
use bytes::Bytes;
use exactlog::TopicOptions;
use exactlog::wire::BatchBuilder;
use exactlog_benches::samples::{Samples, Summary, duration_text};
use exactlog_broker::{NodeOptions, bind};
use exactlog_wire::message::ask;
use exactlog_wire::messages::{Produce, produce};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BATCH_BYTES: usize = 16 * 1024;

/// What the loop writes to, over and over.
const FILE_BYTES: u64 = 64 * MIB;

/// As long as the node's.
const ANSWER_BYTES: usize = 60;

/// In turns, so that all meet the same disk.
const TURNS: u32 = 3;

const PRODUCE: i16 = 9;

/// Ticks of `/proc` (`USER_HZ`) in a second.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    /// The child's arguments.
    what: &'static str,
    how: &'static str,
    survives: Survives,
}

const SERVERS: [Server; 4] = [
    Server { name: "a loop that keeps nothing", what: "loop", how: "nothing", survives: Survives::NotSaid },
    Server { name: "the node, durability=os", what: "node", how: "os", survives: Survives::Kill },
    Server { name: "a loop: write, fdatasync", what: "loop", how: "sync", survives: Survives::PowerLoss },
    Server { name: "the node", what: "node", how: "fsync", survives: Survives::PowerLoss },
];

#[derive(Default)]
struct Measured {
    samples: Samples,
    processor: Duration,
    requests: u32,
}

/// The loop first, then the node beside it.
pub(crate) fn run(measures: &Measures, _: &Limits, report: &mut Report) -> Result<()> {
    report.section("requests of one batch of 16 KiB, one at a time on one connection");
    let mut measured: [Measured; 4] = Default::default();
    for _ in 0..TURNS {
        for (server, measured) in SERVERS.iter().zip(&mut measured) {
            turn(measures, server, measured)?;
        }
    }
    let mut beside: Option<(Summary, Duration)> = None;
    for (server, measured) in SERVERS.into_iter().zip(measured) {
        let (processor, latency) =
            (measured.processor / measured.requests.max(1), measured.samples.summary());
        let gib = processor.as_secs_f64() * (setup::GIB as usize / BATCH_BYTES) as f64;
        let text = format!(
            "{}, processor {} a request: {gib:.1} s/GiB",
            latency_text(&latency),
            duration_text(processor)
        );
        let compared = match beside.take() {
            None => {
                beside = Some((latency, processor));
                String::new()
            }
            Some((limit, of_limit)) => format!(
                "{:.2} × the loop, its processor {:.1} ×",
                latency.p50.as_secs_f64() / limit.p50.as_secs_f64(),
                processor.as_secs_f64() / of_limit.as_secs_f64(),
            ),
        };
        report.row(server.name, server.survives, &text, &compared);
    }
    Ok(())
}

fn turn(measures: &Measures, server: &Server, measured: &mut Measured) -> Result<()> {
    let directory = measures.fresh()?;
    let place = directory.path().to_str().ok_or("a path that isn't text")?;
    let mut process = Command::new(std::env::current_exe()?)
        .args([child::ARGUMENT, server.what, place, server.how])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(process.stdout.as_mut().ok_or("its output isn't piped")?).read_line(&mut port)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port.trim().parse::<u16>()?))?;
    stream.set_nodelay(true)?;
    let request = request()?;
    // The first ones make files.
    asked(&mut stream, &request, measures.period() / 10)?;
    let before = processor_of(&process)?;
    let samples = asked(&mut stream, &request, measures.period())?;
    measured.processor += processor_of(&process)? - before;
    measured.requests += samples.clone().summary().count as u32;
    measured.samples.extend(samples);
    drop(stream);
    drop(process.stdin.take());
    match process.wait()?.success() {
        true => Ok(()),
        false => Err(format!("{} didn't end well", server.name).into()),
    }
}

fn asked(stream: &mut TcpStream, request: &[u8], period: Duration) -> Result<Samples> {
    let (mut samples, mut answer) = (Samples::default(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < period {
        let sent = Instant::now();
        stream.write_all(request)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        answer.resize(u32::from_be_bytes(length) as usize, 0);
        stream.read_exact(&mut answer)?;
        samples.push(sent.elapsed());
    }
    Ok(samples)
}

/// Produce of one batch to partition 0 of `requests`, acknowledged by all.
fn request() -> Result<Vec<u8>> {
    let mut builder = BatchBuilder::new(BATCH_BYTES);
    for _ in 0..BATCH_BYTES / 1024 {
        builder.append(1, None, Some(&[b'x'; 1000]), &[]);
    }
    let batch = builder.finish(None);
    let batch: Bytes = [batch.header(), &batch.body()[..]].concat().into();
    let data = produce::PartitionProduceData { index: 0, records: Some(batch.into()) };
    let name = "requests".into();
    let topic = produce::TopicProduceData { name, partition_data: vec![data], ..Default::default() };
    let request =
        produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    Ok(ask::<Produce>(PRODUCE, 1, None, &request)?.concat())
}

/// User and system time of a process and all its threads.
fn processor_of(process: &Child) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// What a child does that is only a loop.
pub(crate) fn serve_loop(directory: &Path, how: &str) -> Result<()> {
    let path = directory.join("written");
    fs::write(&path, vec![1; FILE_BYTES as usize])?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.sync_all()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut answer = [0; 4 + ANSWER_BYTES];
    answer[..4].copy_from_slice(&(ANSWER_BYTES as u32).to_be_bytes());
    let (mut length, mut taken, mut at) = ([0; 4], Vec::new(), 0);
    while stream.read_exact(&mut length).is_ok() {
        taken.resize(u32::from_be_bytes(length) as usize, 0);
        stream.read_exact(&mut taken)?;
        if how == "sync" {
            file.write_all_at(&taken, at)?;
            file.sync_data()?;
            at = (at + taken.len() as u64) % (FILE_BYTES - 2 * BATCH_BYTES as u64);
        }
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// What a child does that is a node.
pub(crate) fn serve_node(directory: &Path, how: &str) -> Result<()> {
    let log = setup::open(&directory.join("log"), child::durability(how)?, Ring::Default, MIB)?;
    log.create_topic("requests", TopicOptions::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listen = ([127, 0, 0, 1], 0).into();
        let running = bind(NodeOptions { listen, ..NodeOptions::default() }).await?.serve(&log);
        println!("{}", running.address().port());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        running.stop().await;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    log.close()?;
    Ok(())
}
