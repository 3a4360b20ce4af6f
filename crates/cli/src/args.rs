//! The arguments. Only what there is: a verb that this release doesn't have isn't shown.

use crate::logs::LogFormat;
use crate::report::Format;
use crate::settings::Setting;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use exactlog::Compression;
use exactlog_flow::SagaStatus;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// An event log in a directory, or behind a node: topics, records, groups, files.
#[derive(Debug, Parser)]
#[command(name = "exactlog", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done · 1 something failed · 2 usage · 3 no log there, or somebody has it · \
                        4 a check found something · 130 interrupted\nExamples: exactlog cheat"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every verb has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Directory of the log
    #[arg(long, global = true, env = "EXACTLOG_DATA", value_name = "DIR", default_value = "exactlog-data")]
    pub(crate) data: PathBuf,
    /// A node that is asked over the network, instead of a directory; several with commas between
    #[arg(short, long, global = true, env = "EXACTLOG_BOOTSTRAP", value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
    /// A setting of the log for this run; `exactlog config list` shows them
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<Setting>,
    /// How long to wait for a directory that somebody else has open, or for a node, and for each of its answers: 0s
    /// waits for no directory and no node, and 30 s for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// How the answer is written
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Colours; NO_COLOR switches them off, too
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// No progress and no summary on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More on stderr: what opening found
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

impl Global {
    /// How long an answer of a node is waited for, if that was said.
    pub(crate) fn patience(&self) -> Option<Duration> {
        Some(self.timeout).filter(|timeout| !timeout.is_zero())
    }
}

/// What a node is told; `-X` sets the rest.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Topics are created on first use, with 10 partitions; a replication factor above 1 is accepted. Nothing is less
    /// durable
    #[arg(long)]
    pub(crate) dev: bool,
    /// Where clients connect to (`listeners`), by address or name; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9092", value_parser = own_address)]
    pub(crate) listen: SocketAddr,
    /// Where health and metrics are asked for (/health, /ready, /metrics); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = own_address)]
    pub(crate) http: SocketAddr,
    /// How log lines are written to stderr; without it for humans on a terminal and with --dev, else JSON
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a node: Kafka's clients use the log of a directory
    Serve(Serve),
    /// Create, show, trim and delete topics
    Topic {
        #[command(subcommand)]
        verb: TopicVerb,
    },
    /// Write records from standard input
    Produce(Produce),
    /// Read records
    Consume(Consume),
    /// Copy records of a topic once more into another one, each once
    Replay(Replay),
    /// Show groups, their lag, move and delete them
    Group {
        #[command(subcommand)]
        verb: GroupVerb,
    },
    /// Show transactions of Kafka's producers, and abort what hangs
    Txn {
        #[command(subcommand)]
        verb: TxnVerb,
    },
    /// Show and cancel events that are to be delivered later
    Timer {
        #[command(subcommand)]
        verb: TimerVerb,
    },
    /// Show what the keys of tables have, and write single ones
    Table {
        #[command(subcommand)]
        verb: TableVerb,
    },
    /// Show what is remembered of ids of events
    Dedup {
        #[command(subcommand)]
        verb: DedupVerb,
    },
    /// Show events that no processor could process, put them back, give them up
    Dlq {
        #[command(subcommand)]
        verb: DlqVerb,
    },
    /// Show events that wait to be tried again, and when attempts are made
    Retry {
        #[command(subcommand)]
        verb: RetryVerb,
    },
    /// Show the circuit breakers of a process that serves its metrics
    Breaker {
        #[command(subcommand)]
        verb: BreakerVerb,
    },
    /// Show what has steps that are done all or undone, and try once more to undo
    Saga {
        #[command(subcommand)]
        verb: SagaVerb,
    },
    /// Look at the files of a log, also of a copy
    Log {
        #[command(subcommand)]
        verb: LogVerb,
    },
    /// Measure on this machine
    Bench {
        #[command(subcommand)]
        verb: BenchVerb,
    },
    /// Show topics by their rates, and how far groups are behind: of a log that is in use, too
    Top {
        #[command(flatten)]
        watching: Watching,
    },
    /// Check the machine, the directory and the log; each finding says what to do
    Doctor,
    /// The settings
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// What an error code means, by its name or by Kafka's number
    Explain {
        /// IN_USE, say, or 47; without one all are listed
        #[arg(allow_hyphen_values = true, default_value = "")]
        code: String,
    },
    /// The most used commands
    Cheat,
    /// A completion script for a shell
    Completion { shell: Shell },
    /// The manual page, for `man -l -`
    Man,
}

/// Whether a report is shown again and again.
#[derive(Args, Clone, Debug)]
pub(crate) struct Watching {
    /// Show it again every so often, until Ctrl-C; 2s if no time is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = duration)]
    pub(crate) watch: Option<Duration>,
    /// End after so many times
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) times: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicVerb {
    /// Create topics
    Create {
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<String>,
        /// Number of partitions
        #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        partitions: u32,
        /// A setting of the topic, as retention.ms=7d; config list shows all
        #[arg(short = 'c', long = "config", value_name = "KEY=VALUE")]
        config: Vec<Setting>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Change settings of topics; what isn't named stays
    Alter {
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<String>,
        /// A setting, as retention.ms=7d; config list shows all
        #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", required = true)]
        config: Vec<Setting>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Make topics have more partitions
    AddPartitions {
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<String>,
        /// How many partitions they are to have, with those that they have
        #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        partitions: u32,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// List all topics
    List,
    /// Show partitions and settings of topics
    Describe {
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<String>,
    },
    /// Delete topics, with their records and the groups' positions in them
    Delete {
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<String>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Remove the oldest records of a topic
    Trim {
        #[arg(value_name = "TOPIC")]
        name: String,
        /// The first record to be kept: end, an offset, +n, -n, @time
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
        to: String,
        /// Only this partition
        #[arg(short, long)]
        partition: Option<u32>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Copy a topic by key into a new one with another number of partitions: each record once, killed or not
    Repartition {
        #[arg(value_name = "TOPIC")]
        name: String,
        /// The new topic, which it makes
        #[arg(long, value_name = "TOPIC")]
        into: String,
        /// How many partitions that is to have
        #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        partitions: u32,
        /// Most records of one transaction
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        txn: u32,
        /// How the copy is compressed: source is as most of each transaction was
        #[arg(long, value_enum, value_name = "CODEC", default_value_t = Codec::Source)]
        compression: Codec,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Compact a topic now: of each key the last record stays
    Compact {
        #[arg(value_name = "TOPIC")]
        name: String,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Produce {
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// The key of every record
    #[arg(short = 'k', long, value_name = "KEY", conflicts_with_all = ["separator", "input"])]
    pub(crate) key: Option<String>,
    /// What stands between key and value in a line; \t is a tab
    #[arg(short = 'K', long = "key-separator", value_name = "TEXT", conflicts_with = "input")]
    pub(crate) separator: Option<String>,
    /// A header of every record
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    pub(crate) headers: Vec<String>,
    /// How the input is written: tokens such as '%k %v\n', or json (one envelope per line, as consume writes it)
    #[arg(short = 'f', long = "input", value_name = "FMT")]
    pub(crate) input: Option<String>,
    /// The partition of every record; else the key decides
    #[arg(short, long)]
    pub(crate) partition: Option<u32>,
    /// Records in one transaction. Killed and started again with the same input, it goes on exactly once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) txn: Option<u32>,
    /// Name of the producer, which keeps the position in the input. Default: produce-TOPIC
    #[arg(long, value_name = "NAME", requires = "txn")]
    pub(crate) txn_id: Option<String>,
    /// The id of a record: %k (its key), %v (its value) or a field of its value, which is JSON. Of the records with one
    /// id only the first is stored
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["txn", "partition"])]
    pub(crate) event_id: Option<String>,
    /// Deliver the records so long after they are read: 30s, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["partition", "deliver_at"])]
    pub(crate) deliver_after: Option<Duration>,
    /// Deliver the records at this time: 2026-01-31T12:00:00Z, or ms or s since 1970
    #[arg(long, value_name = "TIME", conflicts_with = "partition")]
    pub(crate) deliver_at: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Which records: start, +n, -n, n, n1:n2, @t, @t1:t2, ...; without an end up to that of the topic as it is now
    #[arg(long, value_name = "OFFSETS", allow_hyphen_values = true)]
    pub(crate) from: String,
    /// The topic that they go into, by key
    #[arg(long, value_name = "TOPIC")]
    pub(crate) into: String,
    /// Name of this replay; another name is another one. Default: what --from says
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Most records of one transaction
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) txn: u32,
    /// How the copy is compressed: source is as most of each transaction was
    #[arg(long, value_enum, value_name = "CODEC", default_value_t = Codec::Source)]
    pub(crate) compression: Codec,
    /// Do it, instead of saying what would be done
    #[arg(long)]
    pub(crate) execute: bool,
}

/// What a copy is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    Source,
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// The one that was asked for, whatever the source has.
    pub(crate) fn fixed(self) -> Option<Compression> {
        Some(match self {
            Codec::Source => return None,
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Consume {
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Which records: start, end, :end, +n, -n, n, n:, :n, n1:n2, @t, @t:, @:t, @t1:t2
    #[arg(short, long, value_name = "OFFSETS", allow_hyphen_values = true)]
    pub(crate) offsets: Option<String>,
    /// Only this partition
    #[arg(short, long, conflicts_with = "group")]
    pub(crate) partition: Option<u32>,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) number: Option<u64>,
    /// Read as this group, and commit what was written to stdout
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// How a record is written: tokens such as '%p %o %k %v\n', or json
    #[arg(short = 'f', long = "output", value_name = "FMT")]
    pub(crate) output: Option<String>,
    /// Only records whose key or value matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// Go on when the end is reached
    #[arg(long)]
    pub(crate) follow: bool,
    /// Also records of transactions that are open or were aborted
    #[arg(long, conflicts_with = "group")]
    pub(crate) uncommitted: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupVerb {
    /// List all groups
    List,
    /// Show members, positions and lag of groups
    Describe {
        #[arg(required = true, value_name = "GROUP")]
        names: Vec<String>,
    },
    /// Show the lag of groups in records and seconds; without a name of all
    Lag {
        #[arg(value_name = "GROUP")]
        names: Vec<String>,
        /// Exit with 4 if a group's lag is over this many records
        #[arg(long, value_name = "RECORDS")]
        limit: Option<u64>,
        #[command(flatten)]
        watching: Watching,
    },
    /// Move a group that has no members
    Seek {
        #[arg(value_name = "GROUP")]
        name: String,
        /// Where to: start, end, an offset, +n, -n, @time
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
        to: String,
        /// Only in these topics
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// Only in this partition
        #[arg(short, long)]
        partition: Option<u32>,
        /// Make the group if it doesn't exist; needs --topic
        #[arg(long, requires = "topics")]
        new: bool,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Forget positions of a group that has no members
    DeleteOffsets {
        #[arg(value_name = "GROUP")]
        name: String,
        /// In these topics
        #[arg(long = "topic", value_name = "TOPIC", required = true)]
        topics: Vec<String>,
        /// Only in this partition
        #[arg(short, long)]
        partition: Option<u32>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Forget groups that have no members, with their positions
    Delete {
        #[arg(required = true, value_name = "GROUP")]
        names: Vec<String>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Show or set how long positions are kept that nobody uses
    Limits {
        /// How long, while the log is open: 30d, say
        #[arg(long, value_name = "TIME", value_parser = duration)]
        retention: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TxnVerb {
    /// List the transactional ids
    List,
    /// Show where transactional ids stand, and where their open transactions write
    Describe {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Show the producers that the partitions of a topic remember
    Producers {
        #[arg(value_name = "TOPIC")]
        topic: String,
        /// Only this partition
        #[arg(short, long)]
        partition: Option<u32>,
    },
    /// Find open transactions that nobody will end: open for too long, or not known to their transactional id. Exit 4
    /// if there are some
    FindHanging {
        /// In these topics; without one in all
        #[arg(value_name = "TOPIC")]
        topics: Vec<String>,
        /// Open for longer than this; without it, than the producer's own limit
        #[arg(long, value_name = "TIME", value_parser = duration)]
        over: Option<Duration>,
    },
    /// Abort what a transactional id has open, and fence its producer: that one can't go on, and its next start can
    Abort {
        #[arg(value_name = "ID")]
        id: String,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TimerVerb {
    /// List the events that wait, those first that are due first, and those that are stuck
    List {
        /// Most of those that wait
        #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 1_000)]
        limit: usize,
    },
    /// Give timers up: their events are never delivered. Exit 1 if one of them doesn't wait any more
    Cancel {
        #[arg(required = true, value_name = "TIMER")]
        timers: Vec<u64>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Show or set how many events may wait, and for how long
    Limits {
        /// Most events that wait at a time
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Longest time that one waits: 7d, say
        #[arg(long, value_name = "TIME", value_parser = duration)]
        delay: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableVerb {
    /// List the tables
    List,
    /// What keys have. Exit 1 if one of them isn't there
    Get {
        #[arg(value_name = "TABLE")]
        table: String,
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Give a key a value
    Put {
        #[arg(value_name = "TABLE")]
        table: String,
        #[arg(value_name = "KEY")]
        key: String,
        #[arg(value_name = "VALUE")]
        value: String,
        /// Only if this is the key's version now; 0: only if it isn't there
        #[arg(long, value_name = "VERSION")]
        expect_version: Option<u64>,
    },
    /// Take a key out. Exit 1 if it isn't there
    Delete {
        #[arg(value_name = "TABLE")]
        table: String,
        #[arg(value_name = "KEY")]
        key: String,
        /// Only if this is the key's version now
        #[arg(long, value_name = "VERSION")]
        expect_version: Option<u64>,
    },
    /// The entries in the order of their keys, as of one moment
    Scan {
        #[arg(value_name = "TABLE")]
        table: String,
        /// Only keys that begin like this
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["from", "to"])]
        prefix: Option<String>,
        /// The first key
        #[arg(long, value_name = "KEY")]
        from: Option<String>,
        /// The key before which it ends
        #[arg(long, value_name = "KEY")]
        to: Option<String>,
        /// Most entries
        #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 1_000)]
        limit: usize,
    },
    /// Show or set how many keys tables may have, and how long these may be
    Limits {
        /// Most keys of all tables together
        #[arg(long, value_name = "N")]
        keys: Option<u64>,
        /// Longest key in bytes
        #[arg(long, value_name = "BYTES")]
        key_bytes: Option<u64>,
    },
}

/// An id, and within what it is one.
#[derive(Debug, Args)]
pub(crate) struct SeenId {
    /// Within what it is an id: a name, or a topic with --topic
    #[arg(value_name = "SCOPE")]
    pub(crate) scope: String,
    /// The id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// SCOPE is a topic: the ids are those of its events
    #[arg(long)]
    pub(crate) topic: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DedupVerb {
    /// How many ids are remembered, where, and how far back
    Stats,
    /// Where one id was seen. Exit 1 if it wasn't
    Show {
        #[command(flatten)]
        which: SeenId,
    },
    /// Make an id absent that was seen: what comes with it next is stored, or done, once more. Without --execute only
    /// what would be forgotten is shown. Exit 1 if it wasn't seen
    Forget {
        #[command(flatten)]
        which: SeenId,
        /// Do it
        #[arg(long)]
        execute: bool,
    },
    /// Show or set how long ids are remembered, and how many
    Limits {
        /// How long at least: 7d, say. Counts for ids from now on
        #[arg(long, value_name = "TIME", value_parser = duration)]
        ttl: Option<Duration>,
        /// How many at once
        #[arg(long, value_name = "N")]
        entries: Option<u64>,
        /// What a new id meets when so many are there
        #[arg(long, value_name = "WHAT", value_parser = ["refuse", "shorten"])]
        at_cap: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List the topics of dead letters: how many nothing became of yet, and of which errors they died
    List,
    /// Show dead letters, with where they come from and why they died
    Show {
        #[command(flatten)]
        letters: Letters,
        /// Also those that were put back or given up
        #[arg(long)]
        all: bool,
    },
    /// Put dead letters back, each once. Exit 1 if some can't be put back there
    Redrive {
        #[command(flatten)]
        letters: Letters,
        /// Where to: group (the one that gave them up, alone), origin (their topic, for all its groups), or a topic
        #[arg(long, value_name = "group|origin|TOPIC", default_value = "group")]
        to: String,
        /// At most so many a second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Give dead letters up for good. They stay in their topic as long as that keeps them
    Discard {
        #[command(flatten)]
        letters: Letters,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
    /// Write dead letters to standard output, one envelope per line, as consume -f json does
    Export {
        #[command(flatten)]
        letters: Letters,
        /// Also those that were put back or given up
        #[arg(long)]
        all: bool,
    },
}

/// Which dead letters.
#[derive(Args, Clone, Debug)]
pub(crate) struct Letters {
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Only those that died of this error
    #[arg(long, value_name = "CLASS")]
    pub(crate) error_class: Option<String>,
    /// Only those in this partition
    #[arg(short, long)]
    pub(crate) partition: Option<u32>,
    /// Only the one at this offset of the partition
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub(crate) offset: Option<u64>,
    /// At most so many; show: 1000 if nothing is said
    #[arg(short = 'n', long = "limit", value_name = "N")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SagaVerb {
    /// List the sagas, or those of one name: where each is, and why it was compensated
    List {
        #[arg(value_name = "SAGA")]
        name: Option<String>,
        /// Only those that are there: running, completed, compensating, compensated or compensation_failed
        #[arg(long, value_parser = saga_status, requires = "name")]
        status: Option<SagaStatus>,
        /// At most so many; 1000 if nothing is said
        #[arg(short = 'n', long = "limit", value_name = "N")]
        limit: Option<usize>,
    },
    /// Show one with its steps, their results and errors
    Show {
        #[arg(value_name = "SAGA")]
        name: String,
        /// Its id: that of its event
        id: String,
    },
    /// Try once more to compensate what could not be: its dead letter is put back to its group
    RetryCompensation {
        #[arg(value_name = "SAGA")]
        name: String,
        /// Its id: that of its event
        id: String,
        /// Do it, instead of saying what would be done
        #[arg(long)]
        execute: bool,
    },
}

fn saga_status(text: &str) -> Result<SagaStatus, String> {
    let found = SagaStatus::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let names: Vec<String> = SagaStatus::ALL.iter().map(|status| status.name().to_lowercase()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetryVerb {
    /// List the events of a group that wait, why, and when they are due
    List {
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// Show when attempts are made; needs no log
    Explain {
        /// Tries in all, the first one included. Default: 3
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        max_attempts: Option<u32>,
        /// The first wait. Default: 1s
        #[arg(long, value_name = "TIME", value_parser = duration)]
        initial: Option<Duration>,
        /// What each further wait is longer by. Default: 2
        #[arg(long, value_name = "X", value_parser = multiplier)]
        multiplier: Option<f64>,
        /// The longest wait. Default: 10s
        #[arg(long, value_name = "TIME", value_parser = duration)]
        max: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BreakerVerb {
    /// List them with their states, rates and calls, as of now; needs no log
    List {
        /// Where the process serves its page of metrics: http://127.0.0.1:9100/metrics
        #[arg(value_name = "URL")]
        url: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogVerb {
    /// Position, files and sizes
    Stat,
    /// The commands of the journal, in their order
    Dump {
        /// The first command
        #[arg(long, value_name = "LSN", default_value_t = 1)]
        from: u64,
        /// Most commands
        #[arg(short = 'n', long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Read everything and check it; exit 4 if something is damaged
    Verify,
    /// Say what is wrong with a closed directory, and do about it what loses nothing; exit 4 if something is left
    Repair {
        /// Do it, instead of saying what would be done
        #[arg(long, conflicts_with = "dry_run")]
        write: bool,
        /// Only say what would be done: the default
        #[arg(long)]
        dry_run: bool,
    },
    /// The index files of segments
    Index {
        #[command(subcommand)]
        verb: IndexVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexVerb {
    /// Make those again that are missing or damaged, from their segments
    Rebuild {
        /// Do it, instead of saying what would be done
        #[arg(long)]
        write: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchVerb {
    /// The log inside this process: latency of one caller, and the rate of many events in flight
    Embedded {
        /// Events sent one after the other, each waited for
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        calls: u64,
        /// Events sent without waiting in between
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        events: u64,
        /// Bytes of a value
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        size: u32,
    },
    /// A node: latency of one producer that waits for each record, and the rate of batches
    Produce(Load),
    /// A node: how fast what it stores is fetched again
    Consume(Load),
    /// A node: from the send of a record until a consumer that waits for it has it
    E2e(Load),
    /// A node: transactions of ten records, one behind the other
    Txn(Load),
}

/// What a node is asked for, to be measured.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Calls that are measured one by one
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) calls: u64,
    /// Records of the rate
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) events: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) size: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// List all settings
    List,
    /// Explain one setting
    Explain { key: String },
}

/// `500ms`, `5s`, `2m`, `1h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return Err(format!("{unit:?} is no unit of time: ms, s, m, h, d")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} doesn't begin with a number"))?;
    let ms = number.checked_mul(factor).filter(|ms| *ms <= 1_000 * 366 * 24 * 3_600_000);
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is more than a thousand years"))
}

/// `127.0.0.1:9092`, `localhost:9092`: of a name its first address, and one of IPv4 if it has any, since those who dial
/// the name try both kinds.
fn own_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let addresses: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("it isn't ADDRESS:PORT, nor NAME:PORT of this machine: {error}"))?
        .collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| "the name has no address".to_string())
}

/// `2`, `1.5`.
fn multiplier(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 1.0);
    number.ok_or_else(|| format!("{text:?} is no number from 1 on"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_at_an_address_or_at_that_of_a_name() {
        assert_eq!(own_address("[::1]:9092").unwrap(), "[::1]:9092".parse().unwrap());
        let named = own_address("localhost:9092").unwrap();
        assert!(named.ip().is_loopback() && named.port() == 9092, "{named}");
        for wrong in ["localhost", "9092", "localhost:99999", "localhost:"] {
            let error = own_address(wrong).unwrap_err();
            assert!(error.contains("ADDRESS:PORT"), "{error}");
        }
    }
}
