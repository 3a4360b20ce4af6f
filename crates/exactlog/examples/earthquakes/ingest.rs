//! From an outside source into the log: each line is taken exactly once.
//!
//! The cursor says up to where the source was taken. It is committed in the transaction of the lines themselves, so
//! there is no moment at which one is stored without the other.

use crate::{Failure, Progress, Quake, Settings, Topics};
use exactlog::{Event, Log};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Most lines of one transaction.
const LINES_MAX: usize = 16;

/// Most bytes of a line that are held in memory. Those here have about 280; what is longer is no event.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Of a rejected line this much is kept.
const REJECT_PREFIX_BYTES: usize = 80;

/// Where the lines come from.
#[derive(Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
}

impl Input {
    pub(crate) fn named(name: Option<&str>) -> Result<Input, Failure> {
        const WEEK: &str = "examples/data/earthquakes.jsonl";
        match name {
            Some("-") => return Ok(Input::Stdin),
            Some(file) => return Ok(Input::File(file.into())),
            None => {}
        }
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(WEEK);
        let places = [beside, Path::new("crates/exactlog").join(WEEK), WEEK.into()];
        let found = places.iter().find(|place| place.is_file()).cloned();
        found.map(Input::File).ok_or_else(|| {
            let places = places.map(|place| place.display().to_string()).join(", ");
            format!("the week of earthquakes isn't in any of {places}; name a file with --input").into()
        })
    }

    /// The input behind its first `skip_bytes`.
    fn open(&self, skip_bytes: u64) -> Result<BufReader<Box<dyn Read>>, Failure> {
        let source: Box<dyn Read> = match self {
            Input::File(path) => {
                let named = |error| format!("{}: {error}", path.display());
                let mut file = File::open(path).map_err(named)?;
                let len_bytes = file.metadata().map_err(named)?.len();
                if len_bytes < skip_bytes {
                    let path = path.display();
                    return Err(
                        format!("{path} has {len_bytes} bytes, {skip_bytes} were taken before").into()
                    );
                }
                file.seek(SeekFrom::Start(skip_bytes)).map_err(named)?;
                Box::new(file)
            }
            Input::Stdin => {
                let mut stdin = io::stdin().lock();
                let skipped = io::copy(&mut stdin.by_ref().take(skip_bytes), &mut io::sink())?;
                if skipped < skip_bytes {
                    return Err(format!(
                        "standard input ends at byte {skipped}, {skip_bytes} were taken before"
                    )
                    .into());
                }
                Box::new(stdin)
            }
        };
        Ok(BufReader::new(source))
    }
}

/// Where the next line begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    pub(crate) repetition: u64,
    byte: u64,
    /// Lines of this repetition that were taken.
    pub(crate) line: u64,
}

impl Position {
    const BYTES: usize = 3 * size_of::<u64>();

    /// Three numbers, little-endian.
    fn encode(self) -> Vec<u8> {
        [self.repetition, self.byte, self.line].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Position, Failure> {
        if bytes.len() != Self::BYTES {
            return Err(format!(
                "a cursor of {} bytes, not {}: another program's?",
                bytes.len(),
                Self::BYTES
            )
            .into());
        }
        let mut numbers = bytes.chunks_exact(size_of::<u64>()).map(|number| {
            u64::from_le_bytes(number.try_into().expect("chunks_exact gives chunks of this size"))
        });
        let mut next = || numbers.next().expect("the length is that of three numbers");
        Ok(Position { repetition: next(), byte: next(), line: next() })
    }
}

/// What was fed, from where on.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    pub(crate) from: Option<Position>,
    pub(crate) lines: u64,
}

pub(crate) fn ingest(
    log: &Log,
    topics: &Topics,
    settings: &Settings,
    progress: &Progress,
) -> Result<Fed, Failure> {
    let mut producer = log.producer("feed")?;
    let from = producer.cursor().map(|cursor| Position::decode(cursor)).transpose()?;
    let mut at = from.unwrap_or_default();
    let mut fed = Fed { from, lines: 0 };
    while at.repetition < settings.times {
        let mut source = settings.input.open(at.byte)?;
        loop {
            let mut transaction = producer.begin();
            let mut lines = 0;
            while lines < LINES_MAX {
                let Some(line) = Line::read(&mut source)? else { break };
                lines += 1;
                at.byte += line.len_bytes;
                at.line += 1;
                match line.parse(at.repetition) {
                    Ok(quake) => {
                        let event = Event::json(quake.region().to_owned(), &quake)?;
                        transaction.send(&topics.quakes, event.at(quake.time_ms))?;
                    }
                    Err(reason) => transaction.send(&topics.rejects, line.reject(at, &reason)?)?,
                }
                // Lines that were taken don't wait for a source that has no more at the moment.
                if source.buffer().is_empty() {
                    break;
                }
            }
            if lines == 0 {
                break;
            }
            transaction.set_cursor(at.encode())?;
            transaction.blocking_commit()?;
            progress.committed();
            fed.lines += lines as u64;
        }
        if at.repetition + 1 == settings.times {
            break; // The cursor stays at the end: lines that are added to the file later are fed then.
        }
        at = Position { repetition: at.repetition + 1, byte: 0, line: 0 };
    }
    Ok(fed)
}

/// A line, or the beginning of one that is too long.
struct Line {
    head: Vec<u8>,
    /// With its end.
    len_bytes: u64,
}

impl Line {
    fn read(source: &mut impl BufRead) -> io::Result<Option<Line>> {
        let mut line = Line { head: Vec::new(), len_bytes: 0 };
        loop {
            let available = source.fill_buf()?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            let content = &available[..end.unwrap_or(taken)];
            // One byte more than is allowed tells that it is too long.
            let room = (LINE_BYTES_MAX + 1).saturating_sub(line.head.len());
            line.head.extend_from_slice(&content[..content.len().min(room)]);
            line.len_bytes += taken as u64;
            source.consume(taken);
            if taken == 0 || end.is_some() {
                return Ok((line.len_bytes > 0).then_some(line));
            }
        }
    }

    /// The event, or why it is none.
    fn parse(&self, repetition: u64) -> Result<Quake, String> {
        if self.head.len() > LINE_BYTES_MAX {
            return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(&self.head).map_err(|error| format!("not UTF-8: {error}"))?;
        if text.trim().is_empty() {
            return Err("empty".into());
        }
        let mut quake: Quake = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if repetition > 0 {
            quake.id = format!("{}-{repetition}", quake.id);
        }
        Ok(quake)
    }

    fn reject(&self, at: Position, reason: &str) -> Result<Event, Failure> {
        let prefix = String::from_utf8_lossy(&self.head[..self.head.len().min(REJECT_PREFIX_BYTES)]);
        let reject = json!({
            "repetition": at.repetition, "line": at.line, "reason": reason, "bytes": self.len_bytes, "prefix": prefix
        });
        Ok(Event::unkeyed(serde_json::to_vec(&reject)?))
    }
}
