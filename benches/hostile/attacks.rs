//! What is done to the node. Rates are such that the attackers leave some of two cores to the node and to its clients.

use crate::Result;
use crate::client::{self, FETCH};
use crate::lies;
use crate::ordinary::HISTORY;
use exactlog_wire::messages::{Fetch, Metadata, metadata};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// As the table says it.
    pub(crate) what: &'static str,
    /// Begins it; it goes on until it is ended.
    pub(crate) begin: fn(SocketAddr) -> Result<Attacking>,
}

pub(crate) const ATTACKS: [Attack; 8] = [
    Attack { name: "idle", what: "10,200 connections that send nothing", begin: idle },
    Attack { name: "connects", what: "1,000 connections a second, ended at once", begin: connects },
    Attack { name: "announced", what: "1,000 that announce 100 MiB and send nothing", begin: announced },
    Attack { name: "trickle", what: "1,000 that announce 100 MiB and send a byte a second", begin: trickle },
    Attack {
        name: "holders",
        what: "64 that announce 16 MiB, send 17 KiB and then a byte a second, and come again",
        begin: holders,
    },
    Attack { name: "lies", what: "500 requests a second with lengths of 2^31", begin: lies },
    Attack { name: "slow-readers", what: "200 that fetch 50 MiB and read nothing", begin: slow_readers },
    Attack { name: "unread", what: "100 that ask for metadata without end and read nothing", begin: unread },
];

const MIB: usize = 1024 * 1024;

/// An attack that goes on.
pub(crate) struct Attacking {
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    note: fn(u64) -> String,
}

impl Attacking {
    fn with(streams: Vec<TcpStream>, note: fn(u64) -> String) -> Attacking {
        Attacking { streams, threads: Vec::new(), over: Arc::default(), count: Arc::default(), note }
    }

    /// With a thread that does something again and again; what it counts is noted.
    fn again(
        mut self,
        pause: Duration,
        mut work: impl FnMut(&mut Vec<TcpStream>, &AtomicU64) + Send + 'static,
    ) -> Attacking {
        let (over, count) = (self.over.clone(), self.count.clone());
        let mut streams = std::mem::take(&mut self.streams);
        self.threads.push(std::thread::spawn(move || {
            let mut due = Instant::now();
            while !over.load(Ordering::Relaxed) {
                work(&mut streams, &count);
                due = (due + pause).max(Instant::now() - pause);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }));
        self
    }

    /// Ends it; what is to be noted of it.
    pub(crate) fn end(self) -> String {
        let ended = self.streams.iter().filter(|stream| is_ended(stream)).count() as u64;
        self.count.fetch_add(ended, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
        // One that panicked has ended, too.
        self.threads.into_iter().for_each(|thread| _ = thread.join());
        (self.note)(self.count.load(Ordering::Relaxed))
    }
}

/// Whether the node has ended a connection: what it had sent before is read until then.
fn is_ended(stream: &TcpStream) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    let (mut stream, mut into) = (stream, vec![0; MIB]);
    if stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PAUSE))).is_err() {
        return true;
    }
    loop {
        match stream.read(&mut into) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn connect(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect(address)?)).collect()
}

/// Some more than the node takes.
fn idle(address: SocketAddr) -> Result<Attacking> {
    Ok(Attacking::with(connect(address, 10_200)?, |ended| format!("{ended} of them refused")))
}

fn connects(address: SocketAddr) -> Result<Attacking> {
    let attacking = Attacking::with(Vec::new(), |count| format!("{count} connections"));
    Ok(attacking.again(Duration::from_millis(10), move |_, count| {
        let connected = (0..10).filter(|_| TcpStream::connect(address).is_ok()).count();
        count.fetch_add(connected as u64, Ordering::Relaxed);
    }))
}

fn announce(streams: &mut [TcpStream], length: usize, begin: &[u8]) -> Result<()> {
    for stream in streams {
        stream.write_all(&[&(length as u32).to_be_bytes()[..], begin].concat())?;
    }
    Ok(())
}

fn announced(address: SocketAddr) -> Result<Attacking> {
    let mut streams = connect(address, 1000)?;
    announce(&mut streams, 100 * MIB, &[])?;
    Ok(Attacking::with(streams, |ended| format!("{ended} cut off meanwhile")))
}

fn trickle(address: SocketAddr) -> Result<Attacking> {
    let mut streams = connect(address, 1000)?;
    announce(&mut streams, 100 * MIB, &[])?;
    let attacking = Attacking::with(streams, |count| format!("{count} bytes"));
    Ok(attacking.again(Duration::from_secs(1), |streams, count| {
        let sent = streams.iter_mut().filter_map(|stream| stream.write_all(&[0]).ok()).count();
        count.fetch_add(sent as u64, Ordering::Relaxed);
    }))
}

/// Each takes room for all that it announces as soon as it has sent more than what needs none.
fn holders(address: SocketAddr) -> Result<Attacking> {
    const ANNOUNCED: usize = 16 * MIB;
    static BEGIN: [u8; 17 * 1024] = [0; 17 * 1024];
    let mut streams = connect(address, 64)?;
    announce(&mut streams, ANNOUNCED, &BEGIN)?;
    let attacking = Attacking::with(streams, |count| format!("cut off {count} times"));
    Ok(attacking.again(Duration::from_secs(1), move |streams, count| {
        for stream in streams {
            if !is_ended(stream) && stream.write_all(&[0]).is_ok() {
                continue;
            }
            count.fetch_add(1, Ordering::Relaxed);
            if let Ok(another) = TcpStream::connect(address) {
                *stream = another;
                let _ = announce(std::slice::from_mut(stream), ANNOUNCED, &BEGIN);
            }
        }
    }))
}

fn lies(address: SocketAddr) -> Result<Attacking> {
    let lies = lies::all();
    let mut next = 0;
    let attacking = Attacking::with(Vec::new(), |count| format!("{count}, each ended or answered"));
    Ok(attacking.again(Duration::from_millis(10), move |_, count| {
        for _ in 0..5 {
            let lie = &lies[next % lies.len()];
            next += 1;
            count.fetch_add(u64::from(tell(address, lie).is_ok()), Ordering::Relaxed);
        }
    }))
}

/// Sends it, and waits until it is answered, or the connection is ended for it.
fn tell(address: SocketAddr, lie: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(lie)?;
    match stream.read(&mut [0; 64]) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn slow_readers(address: SocketAddr) -> Result<Attacking> {
    let mut streams = connect(address, 200)?;
    let request = client::frame::<Fetch>(FETCH, 1, &client::fetch(HISTORY, 0, 50 * MIB as i32))?;
    for stream in &mut streams {
        // A second answer is made while the first isn't taken, if the node lets it.
        stream.write_all(&request.repeat(2))?;
    }
    Ok(Attacking::with(streams, |ended| format!("{ended} cut off meanwhile")))
}

fn unread(address: SocketAddr) -> Result<Attacking> {
    let streams = connect(address, 100)?;
    let all = metadata::Request { topics: None, ..metadata::Request::default() };
    let requests = client::frame::<Metadata>(5, 1, &all)?.repeat(100);
    for stream in &streams {
        stream.set_nonblocking(true)?;
    }
    let attacking = Attacking::with(streams, |count| format!("{} of requests taken", mib_text(count)));
    Ok(attacking.again(Duration::from_millis(100), move |streams, count| {
        // What doesn't fit is begun anew within a request: that is nonsense, and may be.
        let sent = streams.iter_mut().filter_map(|stream| stream.write(&requests).ok()).sum::<usize>();
        count.fetch_add(sent as u64, Ordering::Relaxed);
    }))
}

fn mib_text(bytes: u64) -> String {
    exactlog_benches::samples::bytes_text(bytes)
}
