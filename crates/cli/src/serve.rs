//! `serve`: a node on the log of the directory, for Kafka's clients.

use crate::args::{Global, Serve};
use crate::failure::Failure;
use crate::logs::LogFormat;
use crate::report::Report;
use crate::texts::count;
use crate::{interrupt, logs, node_settings, open, settings};
use exactlog::{Log, RecoveryReport};
use exactlog_broker::{Error, NodeOptions, Running, bind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::IsTerminal;
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

/// Files that are left to the log.
const FILES_OF_LOG: usize = 512;
/// Partitions of a topic that is created on first use, with `--dev`.
const DEV_PARTITIONS: u32 = 10;

pub(crate) fn run(global: &Global, serve: &Serve) -> Result<Report, Failure> {
    let (of_log, of_node) = settings::of_log_and_node(&global.settings)?;
    let global = Global { settings: of_log, ..global.clone() };
    settings::check(&global.settings)?;
    let mut options = NodeOptions { listen: serve.listen, http: Some(serve.http), ..NodeOptions::default() };
    if serve.dev {
        options.partitions = DEV_PARTITIONS;
        (options.creates_topics, options.accepts_replicas) = (true, true);
    }
    let mut options = node_settings::apply(options, &of_node)?;
    let for_humans = serve.dev || std::io::stderr().is_terminal();
    let format = serve.log_format.unwrap_or(if for_humans { LogFormat::Human } else { LogFormat::Json });
    let most = match (global.quiet, global.verbose) {
        (true, _) => Level::WARN,
        (_, true) => Level::DEBUG,
        (false, false) => Level::INFO,
    };
    logs::write_to_stderr(format, most);
    bound_by_files(&mut options);
    let runtime = Runtime::new().map_err(|error| Failure::new("OTHER", format!("no threads: {error}")))?;
    // First the port: if that is taken, nothing is created.
    let bound = runtime.block_on(bind(options)).map_err(|error| not_bound(&error))?;
    let log = open::write(&global)?;
    runtime.block_on(async {
        let first = ended()?;
        let running = bound.serve(&log);
        tell(&global, &log, &running);
        first.await;
        let again = ended()?;
        tracing::info!(event = "node.stopping", "what is on its way is answered first");
        tokio::select! {
            () = running.stop() => {}
            () = again => {
                tracing::warn!(event = "node.cut", "asked once more: what isn't answered by now won't be");
                std::process::exit(interrupt::EXIT.into());
            }
        }
        Ok::<(), Failure>(())
    })?;
    drop(runtime);
    log.close()?;
    Ok(Report::nothing())
}

/// Each connection is a file, and so is each segment that is read: the log must never lack one. Asks for as many as the
/// process may have, and lets there be only as many connections as leave enough.
fn bound_by_files(options: &mut NodeOptions) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // An error: then what holds now goes on holding.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
    let most = files.saturating_sub(FILES_OF_LOG).max(files / 4);
    if options.connections_max > most {
        let asked = options.connections_max;
        tracing::warn!(
            event = "node.files",
            files,
            asked,
            most,
            "fewer connections: the process may have few files"
        );
        options.connections_max = most;
    }
}

fn not_bound(error: &Error) -> Failure {
    if matches!(error, Error::Setting { .. }) {
        return Failure::usage(error.to_string());
    }
    let failure = Failure::new("PORT", error.to_string());
    failure.hint("--listen and --http name other ones; port 0 takes one that is free")
}

/// Comes back when the process is asked to end.
fn ended() -> Result<impl Future<Output = ()>, Failure> {
    let unwatched = |error| Failure::new("OTHER", format!("signals can't be watched: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(unwatched)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(unwatched)?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

/// What somebody who has just started it wants to know, with lines to be pasted.
fn tell(global: &Global, log: &Log, running: &Running) {
    if global.quiet {
        return;
    }
    let address = dialled(running.address());
    println!("exactlog {} serves {} at {address}", env!("CARGO_PKG_VERSION"), global.data.display());
    println!("cluster {}; Ctrl-C or SIGTERM ends it properly", running.cluster_id());
    let RecoveryReport { last_lsn, replayed_commands, clean, .. } = log.recovery();
    if *last_lsn > 0 {
        let how =
            if *clean { "closed properly" } else { "not closed properly: what was acknowledged is there" };
        println!("opened at lsn {last_lsn}, {} replayed; {how}", count(*replayed_commands, "command"));
    }
    if !running.address().ip().is_loopback() {
        println!(
            "anybody who reaches this address can read, write and delete: there is no authentication yet"
        );
    }
    if let Some(http) = running.http() {
        println!("health and metrics: http://{}/health, /ready, /metrics", dialled(http));
    }
    println!("  kcat -b {address} -L");
    println!("  echo 'two chairs' | kcat -b {address} -t orders -P");
    println!("  kcat -b {address} -t orders -C -e");
    println!("  bootstrap.servers={address}");
}

/// An address that can be dialled: where it listens on all of them, that of this machine.
fn dialled(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
