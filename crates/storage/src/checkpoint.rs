//! Checkpoints: the state at one lsn, and where the batches lie that it names.
//!
//! ```text
//!   checkpoint/<lsn, 20 digits>.checkpoint
//!   header 48 B | section: length u64, crc u32, reserved u32, payload | section ... | section
//! ```
//!
//! The payload of a section is bincode 2.0.1 in its `legacy` configuration (little-endian, fixed-width integers,
//! u64 lengths, u32 variant index): the one place where a derive decides bytes. That is bearable since nothing but
//! time is lost with a checkpoint that can't be read (the older one and a longer replay serve), and since bincode
//! sees bytes only behind our own frame, version and CRC, with a limit.
//!
//! Version 3 is written, version 4 of a log in which ids of events were forgotten, version 5 of one with metadata
//! beside committed offsets, and version 6 of one with settings that change nothing. Version 2, which knows nothing of
//! timers, ids of events, retention and compaction, is read (`version_2.rs`).
//!
//! Invariants
//!   * a checkpoint counts when its name does: written whole under a temporary name, synced, renamed, directory synced
//!   * two states are equal exactly if their sections are: only ordered maps go in
//!   * it is never repaired: one that doesn't verify is reported, and the older one is used

mod version_2;

use crate::demand::{KEY_BYTES, MARK_BYTES, RESTING_KEY_BYTES, metadata_bytes};
use crate::disk::{Disk, Mode};
use crate::error::StorageError;
use crate::index::Located;
use crate::journal::Position;
use crate::mapped::read_whole;
use crate::segment::Ends;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use bincode::serde::decode_from_slice;
use bytes::Bytes;
use exactlog_core::batch::Compression;
use exactlog_core::command::{KeptSettings, TopicCompression, TopicDurability};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::mutants::{Mutant, on};
use exactlog_core::state::{
    DedupPiece, OffsetExpiry, OffsetMetadataPiece, PartitionState, State, TablePiece, Timers, Topic,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::IoSlice;
use std::sync::Arc;

/// Directory of the checkpoints.
pub const CHECKPOINT_DIR: &str = "checkpoint";

/// The newest format that this build writes and reads: that of a log with settings that change nothing.
pub const CHECKPOINT_VERSION: u16 = 6;

/// The format of a log with metadata beside committed offsets.
const CHECKPOINT_VERSION_METADATA: u16 = 5;

/// The format of a log in which ids of events were forgotten.
const CHECKPOINT_VERSION_GAPS: u16 = 4;

/// The format of every other log.
const CHECKPOINT_VERSION_PLAIN: u16 = 3;

/// The oldest format that this build reads.
const CHECKPOINT_VERSION_OLDEST: u16 = 2;

/// Everything that open needs besides the journal from `applied_lsn` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The state is that after this command (C).
    pub applied_lsn: u64,
    /// Batches of commands up to this one are in segments (F).
    pub flushed_lsn: u64,
    /// Directly behind the frame of `applied_lsn`, if it is known.
    pub applied_at: Option<Position>,
    /// The state.
    pub state: State,
    /// What is in segments and what isn't, for each partition that ever got a batch.
    pub partitions: Vec<PartitionImage>,
}

/// The bytes of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// Which.
    pub partition: Partition,
    /// How far its segments go.
    pub ends: Ends,
    /// Its batches behind that, which lie in the journal, and its markers.
    pub placed: Vec<Located>,
}

/// A checkpoint on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its C, which is its name.
    pub applied_lsn: u64,
    /// Its F: the journal is needed from the lsn behind it on.
    pub flushed_lsn: u64,
    /// Its size, if this open has made it, else 0.
    pub bytes: u64,
}

/// What was found at open.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest one that verifies.
    pub newest: Option<Image>,
    /// All that verify, oldest first.
    pub kept: Vec<Kept>,
    /// Those that don't, each with the reason.
    pub damaged: Vec<String>,
}

const MAGIC: [u8; 8] = *b"EXLOGCKP";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8; // u16
const SECTIONS_AT: usize = VERSION_AT + 4; // u32, behind a reserved u16
const LSN_AT: usize = SECTIONS_AT + 4; // u64
const FLUSHED_AT: usize = LSN_AT + 8; // u64
const LEN_AT: usize = FLUSHED_AT + 8; // u64: of the whole file
const CRC_AT: usize = LEN_AT + 8; // u32, over everything before it
const HEADER_BYTES: usize = CRC_AT + 8; // a reserved u32 behind it
const _: () = assert!(HEADER_BYTES == 48);

const SECTION_CRC_AT: usize = 8;
const SECTION_HEADER_BYTES: usize = 16;

/// No section may be larger, in bytes.
const SECTION_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Partitions in one section.
const PARTITIONS_PER_SECTION: usize = 4096;

type Config<const LIMIT_BYTES: usize> = Configuration<LittleEndian, Fixint, Limit<LIMIT_BYTES>>;

fn config<const LIMIT_BYTES: usize>() -> Config<LIMIT_BYTES> {
    bincode::config::legacy().with_limit::<LIMIT_BYTES>()
}

/// A part of an image. Order and names are the format: a change is a new version.
#[derive(Serialize, Deserialize)]
enum Section {
    /// Everything but what the other sections hold.
    State(Option<Position>, Box<State>),
    /// Partitions of one topic, from an index on.
    Partitions(TopicId, u32, Vec<Arc<PartitionState>>),
    /// Where bytes lie.
    Bytes(Vec<PartitionImage>),
    /// The timers, if there ever were any.
    Timers(Box<Timers>),
    /// What is known of ids of events, part by part; nothing of a log that never knew any.
    Dedup(DedupPiece),
    /// The keys of tables, part by part; nothing of a log that never had a table.
    Tables(TablePiece),
    /// When committed offsets are forgotten; nothing of a log that never was opened.
    OffsetExpiry(Box<OffsetExpiry>),
    /// Topics whose events are safe with the operating system; nothing of a log without one.
    WithTheSystem(Vec<TopicId>),
    /// Topics whose batches have a codec of the topic's own, with its number; nothing of a log without one.
    Compressed(Vec<(TopicId, u8)>),
    /// What stands beside committed offsets, part by part; nothing of a log without any.
    OffsetMetadata(OffsetMetadataPiece),
    /// Settings that change nothing: what all topics have, and those of topics that say something else; nothing of a
    /// log whose topics have their defaults.
    Kept(KeptSettings, Vec<(TopicId, KeptSettings)>),
}

impl Image {
    /// Writes it and makes it durable. Nothing of the journal may be given up for it before this returns.
    ///
    /// # Errors
    /// Whatever the disk answers; a temporary file may be left, which the next open removes.
    pub fn write(&self, disk: &dyn Disk) -> Result<Kept, StorageError> {
        let bytes = self.write_as(disk, &file_name(self.applied_lsn))?;
        Ok(Kept { applied_lsn: self.applied_lsn, flushed_lsn: self.flushed_lsn, bytes })
    }

    /// The same under another name in the directory of checkpoints; its size.
    pub(crate) fn write_as(&self, disk: &dyn Disk, name: &str) -> Result<u64, StorageError> {
        let temporary = format!("{name}.tmp");
        let bytes = self.encode()?;
        let io = |what| move |error| StorageError::io(what, CHECKPOINT_DIR, error);
        make_directory(disk)?;
        let _ = disk.unlink(&temporary);
        let file = disk.open(&temporary, Mode::CreateNew).map_err(io("create a file in"))?;
        let written = file.write_at(&[IoSlice::new(&bytes)], 0).map_err(io("write a file in"));
        if let Err(error) = written.and_then(|()| file.sync().map_err(io("sync a file in"))) {
            // On a full disk it has taken the space that the next one needs.
            let _ = disk.unlink(&temporary);
            return Err(error);
        }
        disk.rename(&temporary, name).map_err(io("rename a file in"))?;
        if !on(Mutant::M3NoDirectorySync) {
            disk.sync_dir(CHECKPOINT_DIR).map_err(io("sync"))?;
        }
        Ok(bytes.len() as u64)
    }

    /// A state alone, as the bytes that [`Image::read_state`] takes: for another process that follows it.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] for what no checkpoint could hold either.
    pub fn of_state(state: State) -> Result<Bytes, StorageError> {
        let (applied_lsn, partitions) = (state.lsn, Vec::new());
        let image = Image { applied_lsn, flushed_lsn: applied_lsn, applied_at: None, state, partitions };
        image.encode().map(Bytes::from)
    }

    /// The state that [`Image::of_state`] has written, or a later or earlier release, as far as its format is known.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], [`StorageError::Version`].
    pub fn read_state(bytes: &Bytes) -> Result<State, StorageError> {
        Image::decode("the state of the node", bytes).map(|image| image.state)
    }

    fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut count = encode_state(&self.state, self.applied_at, &mut bytes)?;
        for chunk in self.partitions.chunks(PARTITIONS_PER_SECTION) {
            encode_section(&Section::Bytes(chunk.to_vec()), &mut bytes)?;
            count += 1;
        }
        let len = bytes.len() as u64;
        bytes[MAGIC_AT..VERSION_AT].copy_from_slice(&MAGIC);
        let version = version_of(&self.state);
        bytes[VERSION_AT..VERSION_AT + 2].copy_from_slice(&version.to_le_bytes());
        bytes[SECTIONS_AT..LSN_AT].copy_from_slice(&count.to_le_bytes());
        bytes[LSN_AT..FLUSHED_AT].copy_from_slice(&self.applied_lsn.to_le_bytes());
        bytes[FLUSHED_AT..LEN_AT].copy_from_slice(&self.flushed_lsn.to_le_bytes());
        bytes[LEN_AT..CRC_AT].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    fn decode(name: &str, bytes: &Bytes) -> Result<Image, StorageError> {
        let damaged = |position: usize, what: String| StorageError::damaged(name, position as u64, what);
        let header = bytes
            .get(..HEADER_BYTES)
            .ok_or_else(|| damaged(0, format!("{} B, less than a header", bytes.len())))?;
        if header[MAGIC_AT..VERSION_AT] != MAGIC {
            return Err(damaged(MAGIC_AT, "no checkpoint begins like this".into()));
        }
        let crc = u32_at(header, CRC_AT);
        if crc != crc32fast::hash(&header[..CRC_AT]) || header[CRC_AT + 4..].iter().any(|byte| *byte != 0) {
            return Err(damaged(CRC_AT, "the header's checksum doesn't hold".into()));
        }
        let version = u32_at(header, VERSION_AT) as u16;
        if !(CHECKPOINT_VERSION_OLDEST..=CHECKPOINT_VERSION).contains(&version) {
            return Err(StorageError::Version {
                file: name.into(),
                found: version,
                supported: CHECKPOINT_VERSION,
            });
        }
        let len = u64_at(header, LEN_AT);
        if len != bytes.len() as u64 {
            return Err(damaged(LEN_AT, format!("{} B, the header says {len}", bytes.len())));
        }
        let mut image = Image {
            applied_lsn: u64_at(header, LSN_AT),
            flushed_lsn: u64_at(header, FLUSHED_AT),
            applied_at: None,
            state: State::default(),
            partitions: Vec::new(),
        };
        let mut at = HEADER_BYTES;
        for _ in 0..u32_at(header, SECTIONS_AT) {
            let (section, end) = decode_section(name, bytes, at, version)?;
            image.add(section).map_err(|what| damaged(at, what))?;
            at = end;
        }
        if at != bytes.len() || image.state.lsn != image.applied_lsn || image.flushed_lsn > image.applied_lsn
        {
            return Err(damaged(
                at,
                "the sections don't make the checkpoint that the header announces".into(),
            ));
        }
        if version < CHECKPOINT_VERSION_GAPS && image.state.dedup.has_gaps() {
            return Err(damaged(VERSION_AT, format!("ids that were forgotten, in version {version}")));
        }
        if version < CHECKPOINT_VERSION_METADATA && image.state.has_offset_metadata() {
            return Err(damaged(VERSION_AT, format!("metadata of offsets, in version {version}")));
        }
        if version < CHECKPOINT_VERSION && has_kept_settings(&image.state) {
            return Err(damaged(VERSION_AT, format!("settings that change nothing, in version {version}")));
        }
        Ok(image)
    }

    fn add(&mut self, section: Section) -> Result<(), String> {
        match section {
            Section::State(applied_at, state) => {
                self.applied_at = applied_at;
                self.state = *state;
            }
            Section::Partitions(topic, from, partitions) => {
                let found =
                    self.state.topics.get_mut(&topic).ok_or(format!("partitions of no topic {topic}"))?;
                let found = Arc::make_mut(found);
                if found.partitions.len() != from as usize {
                    return Err(format!(
                        "partitions of topic {topic} from {from} on, not {}",
                        found.partitions.len()
                    ));
                }
                found.partitions.extend(partitions);
            }
            Section::Bytes(partitions) => self.partitions.extend(partitions),
            Section::Timers(timers) => self.state.timers = *timers,
            Section::Dedup(piece) => self.state.dedup.restore(piece)?,
            Section::Tables(piece) => self.state.tables.restore(piece)?,
            Section::OffsetExpiry(expiry) => self.state.offset_expiry = *expiry,
            Section::WithTheSystem(topics) => {
                for id in topics {
                    let found = self.state.topics.get_mut(&id);
                    let found = found.ok_or(format!("the durability of no topic {id}"))?;
                    Arc::make_mut(found).config.durability = TopicDurability::Os;
                }
            }
            Section::Compressed(topics) => {
                for (id, codec) in topics {
                    let found = self.state.topics.get_mut(&id);
                    let found = found.ok_or(format!("the codec of no topic {id}"))?;
                    let known = Compression::from_id(codec).map(TopicCompression::Codec);
                    let known = known.ok_or(format!("codec {codec} of topic {id}, not one of 0 to 4"))?;
                    Arc::make_mut(found).config.compression = known;
                }
            }
            Section::OffsetMetadata(piece) => self.state.restore_offset_metadata(piece)?,
            Section::Kept(of_all, topics) => {
                self.state.kept = of_all;
                for (id, kept) in topics {
                    let found = self.state.topics.get_mut(&id);
                    let found = found.ok_or(format!("settings of no topic {id}"))?;
                    let is_none = kept.is_empty();
                    let before = std::mem::replace(&mut Arc::make_mut(found).config.kept, kept);
                    if is_none || !before.is_empty() {
                        return Err(format!("settings of topic {id} twice, or its defaults"));
                    }
                }
                if !has_kept_settings(&self.state) {
                    return Err("settings that are the defaults".into());
                }
            }
        }
        Ok(())
    }
}

/// The first format that has a form for all of a state.
fn version_of(state: &State) -> u16 {
    match (has_kept_settings(state), state.has_offset_metadata(), state.dedup.has_gaps()) {
        (true, ..) => CHECKPOINT_VERSION,
        (false, true, _) => CHECKPOINT_VERSION_METADATA,
        (false, false, true) => CHECKPOINT_VERSION_GAPS,
        (false, false, false) => CHECKPOINT_VERSION_PLAIN,
    }
}

fn has_kept_settings(state: &State) -> bool {
    !state.kept.is_empty() || state.topics.values().any(|topic| !topic.config.kept.is_empty())
}

/// Makes the directory of checkpoints, and its name durable. That it is there doesn't say that it is durable: an
/// earlier sync may have failed, and what was lost with it only a new name brings back. So each checkpoint syncs once
/// more.
fn make_directory(disk: &dyn Disk) -> Result<(), StorageError> {
    let io = |what| move |error| StorageError::io(what, CHECKPOINT_DIR, error);
    disk.create_dir(CHECKPOINT_DIR).map_err(io("create"))?;
    disk.sync_dir("").map_err(|error| {
        // As long as it is empty. With checkpoints in it an earlier sync of its name has succeeded.
        let _ = disk.remove_dir(CHECKPOINT_DIR);
        io("sync the directory of")(error)
    })
}

/// A hash over the content of a state: equal for equal states, wherever their parts lie.
pub fn state_hash(state: &State) -> u64 {
    let mut bytes = Vec::new();
    // Only a section beyond the limit fails, which no checkpoint could hold either.
    if encode_state(state, None, &mut bytes).is_err() {
        return 0;
    }
    (crc32c::crc32c(&bytes) as u64) << 32 | crc32fast::hash(&bytes) as u64
}

/// What the state takes in a checkpoint at most, in bytes; all there is if it can't be in one. Marks, keys and metadata
/// are only counted: there may be millions, and whoever asks has the shard.
pub(crate) fn state_bytes(state: &State) -> u64 {
    let mut rest = state.clone();
    let marks_bytes = rest.dedup.take_marks() * MARK_BYTES;
    let (keys, key_bytes) = rest.tables.take_keys();
    // Each table may have a section that isn't full.
    let keys_bytes = keys * RESTING_KEY_BYTES + key_bytes + rest.tables.len() as u64 * KEY_BYTES;
    let texts_bytes = state.offset_metadata_bytes().map(|(group, texts)| metadata_bytes(group, texts));
    let counted = marks_bytes + keys_bytes + texts_bytes.sum::<u64>();
    let mut bytes = Vec::new();
    encode_without_metadata(&rest, None, &mut bytes).map_or(u64::MAX / 8, |_| bytes.len() as u64 + counted)
}

/// Reads what is there. An older checkpoint serves where a newer one is damaged.
///
/// # Errors
/// [`StorageError::Damaged`] if there are checkpoints and none verifies: an empty log would be a guess.
pub fn find(disk: &dyn Disk) -> Result<Found, StorageError> {
    let mut found = Found::default();
    let mut last_error = None;
    for lsn in lsns(disk)?.iter().rev() {
        match read(disk, *lsn) {
            Ok(image) => {
                let Image { applied_lsn, flushed_lsn, .. } = image;
                found.kept.insert(0, Kept { applied_lsn, flushed_lsn, bytes: 0 });
                found.newest.get_or_insert(image);
            }
            Err(error @ StorageError::Damaged { .. }) => {
                found.damaged.push(error.to_string());
                last_error = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match last_error.filter(|_| found.newest.is_none()) {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// The lsns of all files with the name of a checkpoint, ascending.
pub(crate) fn lsns(disk: &dyn Disk) -> Result<Vec<u64>, StorageError> {
    let entries = match disk.list(CHECKPOINT_DIR) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|error| StorageError::io("list", CHECKPOINT_DIR, error))?,
    };
    let mut lsns: Vec<u64> = entries.iter().filter_map(|entry| lsn_of(&entry.name)).collect();
    lsns.sort_unstable();
    Ok(lsns)
}

/// Removes files that no checkpoint of the log is: what a crash left behind.
pub fn remove_temporary(disk: &dyn Disk) -> Result<(), StorageError> {
    let io = |what| move |error| StorageError::io(what, CHECKPOINT_DIR, error);
    let Ok(entries) = disk.list(CHECKPOINT_DIR) else { return Ok(()) };
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".checkpoint.tmp")) {
        disk.unlink(&format!("{CHECKPOINT_DIR}/{}", entry.name)).map_err(io("remove a file in"))?;
    }
    Ok(())
}

/// Removes a checkpoint that newer ones have made superfluous.
pub fn remove(disk: &dyn Disk, kept: Kept) -> Result<(), StorageError> {
    let name = file_name(kept.applied_lsn);
    disk.unlink(&name).map_err(|error| StorageError::io("remove", name, error))
}

/// The file of the checkpoint at an lsn, relative to the root of the disk.
pub fn file_name(applied_lsn: u64) -> String {
    format!("{CHECKPOINT_DIR}/{applied_lsn:020}.checkpoint")
}

fn lsn_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".checkpoint")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

pub(crate) fn read(disk: &dyn Disk, lsn: u64) -> Result<Image, StorageError> {
    read_as(disk, lsn, &file_name(lsn))
}

/// The image at an lsn that has another name than a checkpoint's.
pub(crate) fn read_as(disk: &dyn Disk, lsn: u64, name: &str) -> Result<Image, StorageError> {
    let file = disk.open(name, Mode::Read).map_err(|error| StorageError::io("open", name, error))?;
    let bytes = read_whole(&*file).map_err(|error| StorageError::io("read", name, error))?;
    let image = Image::decode(name, &bytes)?;
    if image.applied_lsn != lsn {
        let what = format!("it holds the state at lsn {}", image.applied_lsn);
        return Err(StorageError::damaged(name, LSN_AT as u64, what));
    }
    Ok(image)
}

/// Encodes the state as sections; how many.
fn encode_state(
    state: &State,
    applied_at: Option<Position>,
    into: &mut Vec<u8>,
) -> Result<u32, StorageError> {
    let mut count = encode_without_metadata(state, applied_at, into)?;
    for piece in state.offset_metadata_pieces() {
        encode_section(&Section::OffsetMetadata(piece), into)?;
        count += 1;
    }
    let own = |topic: &Topic| Some(topic.config.kept.clone()).filter(|kept| !kept.is_empty());
    let topics = state.topics.iter().filter_map(|(id, topic)| Some((*id, own(topic)?)));
    let topics: Vec<(TopicId, KeptSettings)> = topics.collect();
    if has_kept_settings(state) {
        encode_section(&Section::Kept(state.kept.clone(), topics), into)?;
        count += 1;
    }
    Ok(count)
}

/// The same without the sections of metadata.
fn encode_without_metadata(
    state: &State,
    applied_at: Option<Position>,
    into: &mut Vec<u8>,
) -> Result<u32, StorageError> {
    let mut rest = state.clone();
    for topic in rest.topics.values_mut() {
        let Topic { name, config, config_version, .. } = &**topic;
        let (name, config, config_version) = (name.clone(), config.clone(), *config_version);
        *topic = Arc::new(Topic { name, config, config_version, partitions: Vec::new() });
    }
    encode_section(&Section::State(applied_at, Box::new(rest)), into)?;
    let mut count = 1;
    for (id, topic) in &state.topics {
        for (nth, chunk) in topic.partitions.chunks(PARTITIONS_PER_SECTION).enumerate() {
            let from = (nth * PARTITIONS_PER_SECTION) as u32;
            encode_section(&Section::Partitions(*id, from, chunk.to_vec()), into)?;
            count += 1;
        }
    }
    if !state.timers.is_untouched() {
        encode_section(&Section::Timers(Box::new(state.timers.clone())), into)?;
        count += 1;
    }
    for piece in state.dedup.pieces() {
        encode_section(&Section::Dedup(piece), into)?;
        count += 1;
    }
    for piece in state.tables.pieces() {
        encode_section(&Section::Tables(piece), into)?;
        count += 1;
    }
    if !state.offset_expiry.is_untouched() {
        encode_section(&Section::OffsetExpiry(Box::new(state.offset_expiry.clone())), into)?;
        count += 1;
    }
    let with_the_system = |topic: &Topic| topic.config.durability == TopicDurability::Os;
    let topics = state.topics.iter().filter(|(_, topic)| with_the_system(topic));
    let topics: Vec<TopicId> = topics.map(|(id, _)| *id).collect();
    if !topics.is_empty() {
        encode_section(&Section::WithTheSystem(topics), into)?;
        count += 1;
    }
    let codec_of = |topic: &Topic| topic.config.compression.codec().map(Compression::id);
    let topics = state.topics.iter().filter_map(|(id, topic)| Some((*id, codec_of(topic)?)));
    let topics: Vec<(TopicId, u8)> = topics.collect();
    if !topics.is_empty() {
        encode_section(&Section::Compressed(topics), into)?;
        count += 1;
    }
    Ok(count)
}

fn encode_section(section: &Section, into: &mut Vec<u8>) -> Result<(), StorageError> {
    let header_at = into.len();
    into.resize(header_at + SECTION_HEADER_BYTES, 0);
    let payload_at = into.len();
    let written = bincode::serde::encode_into_std_write(section, into, config::<SECTION_BYTES_MAX>());
    let found = (into.len() - payload_at) as u64;
    let limit = SECTION_BYTES_MAX as u64;
    if written.is_err() || found > limit {
        return Err(StorageError::TooLarge { what: "a section of a checkpoint", found, limit });
    }
    let crc = crc32fast::hash(&into[payload_at..]);
    into[header_at..header_at + SECTION_CRC_AT].copy_from_slice(&found.to_le_bytes());
    into[header_at + SECTION_CRC_AT..header_at + SECTION_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn decode_section(
    name: &str,
    bytes: &Bytes,
    at: usize,
    version: u16,
) -> Result<(Section, usize), StorageError> {
    let damaged = |what: &str| StorageError::damaged(name, at as u64, what);
    let header = bytes.get(at..at + SECTION_HEADER_BYTES).ok_or_else(|| damaged("a section is missing"))?;
    let from = at + SECTION_HEADER_BYTES;
    let len = usize::try_from(u64_at(header, 0)).ok().filter(|len| *len <= bytes.len() - from);
    let len = len.ok_or_else(|| damaged("a section is longer than the file"))?;
    let payload = &bytes[from..from + len];
    if u32_at(header, SECTION_CRC_AT) != crc32fast::hash(payload) || u32_at(header, SECTION_CRC_AT + 4) != 0 {
        return Err(damaged("a section's checksum doesn't hold"));
    }
    let undecoded = |error: DecodeError| damaged(&format!("a section can't be decoded: {error}"));
    let (section, consumed) = match version {
        2 => {
            let (old, consumed) = decode_payload::<version_2::Section>(payload).map_err(undecoded)?;
            (old.upgrade().map_err(|what| damaged(&what))?, consumed)
        }
        _ => decode_payload(payload).map_err(undecoded)?,
    };
    if consumed != len {
        return Err(damaged("bytes behind a section's end"));
    }
    Ok((section, from + len))
}

/// bincode allocates what a length claims, up to its limit, and takes that as a type. The smallest one that the
/// payload fits into keeps a wrong length from costing 256 MiB where the file has a few KiB.
fn decode_payload<S: DeserializeOwned>(payload: &[u8]) -> Result<(S, usize), DecodeError> {
    const SMALL: usize = 64 * 1024;
    const MEDIUM: usize = 16 * SMALL;
    const LARGE: usize = 16 * MEDIUM;
    match payload.len() {
        len if len <= SMALL => decode_from_slice(payload, config::<SMALL>()),
        len if len <= MEDIUM => decode_from_slice(payload, config::<MEDIUM>()),
        len if len <= LARGE => decode_from_slice(payload, config::<LARGE>()),
        _ => decode_from_slice(payload, config::<SECTION_BYTES_MAX>()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::METADATA_BYTES;
    use exactlog_core::batch::BatchBuilder;
    use exactlog_core::command::*;
    use exactlog_core::ids::{DedupId, Partition, ProducerId};
    use exactlog_core::reply::Reply;
    use exactlog_core::state::{At, CommittedOffset, Group};
    use std::collections::BTreeMap;

    fn with_a_group(name_bytes: usize) -> State {
        let mut state = State::default();
        state.groups.insert("g".repeat(name_bytes), Arc::new(Group::default()));
        state
    }

    /// With a table, with marks, and with what a commit of both leaves behind.
    fn with_keys_and_marks(keys: u64) -> State {
        let mut state = State::default();
        let mut apply = |command: Command| {
            let at = At { lsn: state.lsn + 1, term: 1, time_ms: 1 };
            let reply = state.apply(at, &command).reply;
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        };
        let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
        apply(Command::CreateTable { name: "keys".into(), partitions: 1, config });
        apply(Command::InitProducer { name: Some("p".into()) });
        let mut builder = BatchBuilder::new(1 << 20);
        let key = |nth: u64| Bytes::from(format!("key-{nth}"));
        let names = (0..keys).map(|nth| TableWrite { key: key(nth), deletes: false });
        let writes: Vec<TableWrite> = names.collect();
        for write in &writes {
            builder.append(1, Some(&write.key), Some(b"v"), &[]);
        }
        let partition = Partition { topic: TopicId(1), index: 0 };
        let mark = |nth: u64| Mark::Named {
            scope: "billing".into(),
            id: DedupId(u128::from(nth).to_le_bytes()),
            reservation: None,
        };
        apply(Command::Commit(Box::new(Commit {
            token: CommitToken { producer: ProducerId(1), producer_epoch: 0, number: 1 },
            cursor: None,
            batches: vec![],
            offsets: vec![],
            conditions: vec![],
            marks: (0..keys).map(mark).collect(),
            timers: TimerEffects::default(),
            table_writes: vec![TableWrites { partition, writes, batch: builder.finish(None) }],
        })));
        state
    }

    /// All keys were encoded whenever the reserve was reckoned, under the shard's lock.
    #[test]
    fn what_is_reckoned_is_not_less_than_what_a_checkpoint_takes_nor_much_more() {
        for keys in [1, 1_000, 1_025, 5_000] {
            let state = with_keys_and_marks(keys);
            let (reckoned, taken) = (state_bytes(&state), section(&state).len() as u64);
            assert!(taken <= reckoned, "{keys} keys and marks take {taken} bytes, {reckoned} were reckoned");
            assert!(reckoned <= taken + 64 * keys + KEY_BYTES, "{keys}: {reckoned} for {taken}");
        }
    }

    #[test]
    fn metadata_is_reckoned_and_not_much_more_than_it_takes() {
        for (groups, texts, text_bytes) in [(1, 1, 1), (100, 1, 4), (3, 1_025, 20), (2, 10, 4_096)] {
            let mut state = State::default();
            let offset = |index: u32| {
                let metadata = OffsetMetadata::from("m".repeat(text_bytes).as_str());
                let committed = CommittedOffset { offset: 1, leader_epoch: 0, lsn: 1, time_ms: 1, metadata };
                (Partition { topic: TopicId(1), index }, committed)
            };
            let offsets: BTreeMap<_, _> = (0..texts).map(offset).collect();
            for group in 0..groups {
                let group_state = Group { offsets: offsets.clone(), ..Group::default() };
                state.groups.insert(format!("group-{group}"), Arc::new(group_state));
            }
            let (reckoned, taken) = (state_bytes(&state), section(&state).len() as u64);
            assert!(taken <= reckoned, "{taken} bytes taken, {reckoned} reckoned");
            let most = taken + METADATA_BYTES * (groups + groups * u64::from(texts));
            assert!(reckoned <= most, "{taken} bytes taken, {reckoned} reckoned");
        }
    }

    fn section(state: &State) -> Bytes {
        let mut bytes = Vec::new();
        encode_state(state, None, &mut bytes).unwrap();
        bytes.into()
    }

    #[test]
    fn sections_around_a_limit_of_the_decoder_are_read_back() {
        const LIMIT: usize = 64 * 1024;
        let rest = section(&with_a_group(0)).len() - SECTION_HEADER_BYTES;
        for payload_bytes in LIMIT - 3..LIMIT + 3 {
            let state = with_a_group(payload_bytes - rest);
            let bytes = section(&state);
            assert_eq!(bytes.len() - SECTION_HEADER_BYTES, payload_bytes);
            let (read, end) = decode_section("a section", &bytes, 0, CHECKPOINT_VERSION).unwrap();
            assert!(matches!(read, Section::State(None, read) if *read == state));
            assert_eq!(end, bytes.len());
        }
    }

    #[test]
    fn a_length_beyond_the_section_is_refused_before_memory_is_taken() {
        const CLAIMED: u64 = 100 * 1024 * 1024;
        let mut payload = section(&with_a_group(9))[SECTION_HEADER_BYTES..].to_vec();
        let name_at = payload.windows(9).position(|window| window == b"ggggggggg").unwrap();
        payload[name_at - 8..name_at].copy_from_slice(&CLAIMED.to_le_bytes());
        assert!(matches!(decode_payload::<Section>(&payload), Err(DecodeError::LimitExceeded)));
    }
}
