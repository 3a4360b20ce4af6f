//! Set if absent, with a time to live, of ids of events: marks in the log beside `SET key 1 NX EX` of Redis.
//!
//! Redis is the one that is installed (`redis-server`, Debian's, say), started here on a port of its own of the
//! loopback without any persistence: as fast as it gets. The log's marks are synced to disk before they are answered.

use crate::Plan;
use crate::rivals::Result;
use exactlog::{EventId, Log, Seen};
use exactlog_benches::numbers::spread;
use exactlog_benches::samples::{bytes_text, number_text};
use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TTL_SECONDS: u64 = 7 * 86_400;
const PORT: u16 = 46_379;
/// As many as a processor commits at once by default.
const BATCH: u64 = 500;

struct Row {
    what: &'static str,
    per_second: f64,
}

pub(crate) fn run(plan: &Plan) -> Result<()> {
    let count = plan.pick(10_000_000, 100_000);
    let ours = exactlog(plan, count)?;
    println!("\n**Ids of 16 random bytes, set if absent for 7 days; {count} live ids**\n");
    println!("| | ids/s | survives |\n|---|---:|---|");
    ours.rows.iter().for_each(|row| {
        println!("| exactlog: {} | {} | power loss |", row.what, number_text(row.per_second))
    });
    let Some(redis) = Redis::start(plan)? else {
        println!("\nNo redis-server was found: nothing to compare with.");
        return Ok(());
    };
    let theirs = redis.measure(plan, count)?;
    theirs
        .rows
        .iter()
        .for_each(|row| println!("| Redis: {} | {} | nothing |", row.what, number_text(row.per_second)));
    println!("\n| | memory of {count} ids | each | on disk |\n|---|---:|---:|---:|");
    for (name, bytes, disk) in [
        ("exactlog", ours.memory_bytes, bytes_text(ours.disk_bytes)),
        ("Redis", theirs.memory_bytes, "none".to_string()),
    ] {
        println!("| {name} | {} | {:.1} B | {disk} |", bytes_text(bytes), bytes as f64 / count as f64);
    }
    let rate = |rows: &[Row], nth: usize| rows.get(nth).map_or(f64::NAN, |row| row.per_second);
    println!(
        "\nexactlog: {:.1} x as many ids a second as Redis with a call for each, {:.2} x as many as with {BATCH} calls \
         in flight, in {:.2} of its memory",
        rate(&ours.rows, 0) / rate(&theirs.rows, 1),
        rate(&ours.rows, 0) / rate(&theirs.rows, 2),
        ours.memory_bytes as f64 / theirs.memory_bytes as f64
    );
    Ok(())
}

struct Measured {
    rows: Vec<Row>,
    memory_bytes: u64,
    disk_bytes: u64,
}

/// The argument with which this program calls itself.
pub(crate) const MEMORY: &str = "memory-of";

fn id(number: u64) -> [u8; 16] {
    spread(number)
}

/// `RssAnon` of this process.
fn anon_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}

/// What a process of its own takes that has opened a log, above what it had before: this one still has memory from the
/// work before.
fn memory_of(directory: &Path) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?).arg(MEMORY).arg(directory).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim().parse()?),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// The other side of [`memory_of`].
pub(crate) fn say_memory(directory: &Path) -> Result<()> {
    let before = anon_bytes()?;
    let log = Log::open(directory)?;
    println!("{}", anon_bytes()?.saturating_sub(before));
    Ok(log.close()?)
}

/// As a processor does it: is it known, and if not, a mark in the commit of the batch. The next batch is asked for
/// while that is written, and what the one before has counts as known.
fn exactlog(plan: &Plan, count: u64) -> Result<Measured> {
    let directory = tempfile::tempdir_in(&plan.directory)?;
    let log = Log::open(directory.path())?;
    let mut producer = log.producer("p")?;
    let mut mark = |numbers: std::ops::Range<u64>| -> Result<f64> {
        let (began, asked) = (Instant::now(), numbers.end - numbers.start);
        let mut on_its_way: HashSet<EventId> = HashSet::new();
        for from in numbers.clone().step_by(BATCH as usize) {
            let mut transaction = producer.begin();
            let ids: Vec<EventId> = (from..(from + BATCH).min(numbers.end))
                .map(|number| EventId::from(&id(number)[..]))
                .collect();
            let seen = log.seen_all("orders", &ids)?;
            let mut fresh = HashSet::with_capacity(ids.len());
            for (id, seen) in ids.into_iter().zip(seen) {
                if seen == Seen::Absent && !on_its_way.contains(&id) && fresh.insert(id.clone()) {
                    transaction.mark("orders", id)?;
                }
            }
            transaction.blocking_submit()?;
            on_its_way = fresh;
        }
        producer.blocking_outcome()?;
        Ok(asked as f64 / began.elapsed().as_secs_f64())
    };
    let fill = mark(0..count)?;
    let more = plan.pick(1_000_000, 20_000);
    let fresh = mark(count..count + more)?;
    // What lies behind is written, and what was needed for that is given back.
    std::thread::sleep(plan.pick(Duration::from_secs(3), Duration::ZERO));
    let asked = plan.pick(500_000_u64, 20_000);
    let began = Instant::now();
    for nth in 0..asked {
        log.seen("orders", EventId::from(&id(nth.wrapping_mul(7_919) % count)[..]))?;
    }
    let seen = asked as f64 / began.elapsed().as_secs_f64();
    let disk_bytes = log.metrics().dedup.run_bytes;
    drop(producer);
    log.close()?;
    let memory_bytes = memory_of(directory.path())?;
    let rows = vec![
        Row { what: "500 to a transaction, each asked for first", per_second: fresh },
        Row { what: "the same, while it was filled", per_second: fill },
        Row { what: "asked for ids that were seen, in random order", per_second: seen },
    ];
    Ok(Measured { rows, memory_bytes, disk_bytes })
}

/// A server that is stopped with this.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Redis {
    fn start(plan: &Plan) -> Result<Option<Redis>> {
        let port = PORT.to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut command = Command::new("redis-server");
        command.args(arguments).current_dir(&plan.directory).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else { return Ok(None) };
        let redis = Redis(child);
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
                return Ok(Some(redis));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("redis-server doesn't answer".into())
    }

    fn measure(&self, plan: &Plan, count: u64) -> Result<Measured> {
        let mut client = Client::connect()?;
        let began = Instant::now();
        client.set_all(0..count, BATCH)?;
        let fill = count as f64 / began.elapsed().as_secs_f64();
        let memory_bytes = client.info("used_memory_rss")?;
        let period = plan.pick(Duration::from_secs(5), Duration::from_millis(200));
        let alone = clients(1, 1, count + 100_000_000, period)?;
        let many = clients(50, 1, count + 200_000_000, period)?;
        let deep = clients(2, BATCH, count + 900_000_000, period)?;
        let rows = vec![
            Row { what: "1 client, a call for each", per_second: alone },
            Row { what: "50 clients, a call for each", per_second: many },
            Row { what: "2 clients, 500 calls in flight each", per_second: deep },
            Row { what: "the same with 1 client, while it was filled", per_second: fill },
        ];
        Ok(Measured { rows, memory_bytes, disk_bytes: 0 })
    }
}

/// So many clients, each in a thread, for so long: ids a second.
fn clients(count: u64, in_flight: u64, first: u64, period: Duration) -> Result<f64> {
    let began = Instant::now();
    let done = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|nth| {
                scope.spawn(move || -> Result<u64> {
                    let (mut client, mut done) = (Client::connect()?, 0);
                    let first = first + nth * 10_000_000;
                    while began.elapsed() < period {
                        client.set_all(first + done..first + done + in_flight, in_flight)?;
                        done += in_flight;
                    }
                    Ok(done)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().map_err(|_| "a client panicked")?).sum::<Result<u64>>()
    })?;
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

struct Client {
    out: TcpStream,
    back: BufReader<TcpStream>,
}

impl Client {
    fn connect() -> Result<Client> {
        let out = TcpStream::connect(("127.0.0.1", PORT))?;
        out.set_nodelay(true)?;
        let back = BufReader::with_capacity(64 * 1024, out.try_clone()?);
        Ok(Client { out, back })
    }

    /// Sets ids that are absent, so many calls in flight.
    fn set_all(&mut self, numbers: std::ops::Range<u64>, in_flight: u64) -> Result<()> {
        let mut calls = Vec::with_capacity(128 * in_flight as usize);
        for from in numbers.clone().step_by(in_flight as usize) {
            let behind = (from + in_flight).min(numbers.end);
            calls.clear();
            for number in from..behind {
                calls.extend_from_slice(b"*6\r\n$3\r\nSET\r\n$16\r\n");
                calls.extend_from_slice(&id(number));
                write!(calls, "\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nEX\r\n$6\r\n{TTL_SECONDS}\r\n")?;
            }
            self.out.write_all(&calls)?;
            let mut answers = vec![0; 5 * (behind - from) as usize];
            self.back.read_exact(&mut answers)?;
            if answers.chunks(5).any(|answer| answer != b"+OK\r\n") {
                return Err(format!("an id was there: {}", String::from_utf8_lossy(&answers)).into());
            }
        }
        Ok(())
    }

    /// A number that the server says of itself.
    fn info(&mut self, name: &str) -> Result<u64> {
        self.out.write_all(b"INFO memory\r\n")?;
        let mut length = Vec::new();
        while !length.ends_with(b"\r\n") {
            let mut byte = [0];
            self.back.read_exact(&mut byte)?;
            length.push(byte[0]);
        }
        let length: usize = std::str::from_utf8(&length)?.trim().trim_start_matches('$').parse()?;
        let mut text = vec![0; length + 2];
        self.back.read_exact(&mut text)?;
        let text = String::from_utf8(text)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or("no such number")?.trim().parse()?)
    }
}
