//! The spool's directory: segment files, epochs, recovery, the limit on bytes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::journal;
use crate::keys::{Head, KeyError, KeyHistory, KeyRing};
use ed25519_dalek::{SigningKey, VerifyingKey};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use weir_model::fault::{Fault, FaultKind};
use weir_model::time::Now;
use weir_spool::{
    BlockReader, Lane, LaneStart, Next, SEGMENT_BYTES_MAX, SegmentFile, SegmentId, SpoolError,
    read_header,
};

/// Room that is kept on the disk for ending segments once everything else of it is used.
const RESERVE_BYTES: i64 = 256 * 1024;
/// Segments that the limit is to have room for, so that some can be freed while others are written.
const SEGMENTS_MIN: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 256 * 1024;

/// How much a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process: the bytes are in the file.
    Process,
    /// Loss of power as well: the file is synchronised at each commit.
    PowerLoss,
}

/// What the spool is opened with.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    pub directory: PathBuf,
    /// The node's key; made when absent.
    pub key_file: PathBuf,
    /// Bytes of all segments together; at the limit appending fails.
    pub limit_bytes: u64,
    pub durability: Durability,
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolDirError {
    #[error("{path}: {detail}")]
    File { path: String, detail: String },
    #[error("{path} belongs to uid {uid}, which is not ours")]
    Foreign { path: String, uid: u32 },
    #[error("{path} is not a segment of this spool: {detail}")]
    Segment { path: String, detail: String },
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Fault for SpoolDirError {
    fn kind(&self) -> FaultKind {
        FaultKind::Record
    }
}

fn file_error(path: &Path, detail: impl ToString) -> SpoolDirError {
    SpoolDirError::File {
        path: path.display().to_string(),
        detail: detail.to_string(),
    }
}

/// Bytes of all segments, against which the limit holds. During an upgrade two processes append to
/// one directory, each to an epoch of its own: ours is counted, the rest is looked at.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    own: AtomicU64,
    others: AtomicU64,
    /// Somebody was refused for want of room, by the limit or by the disk, since it was asked.
    short: AtomicBool,
    /// What was kept for ending segments is in use: nothing else is written until it is there again.
    last_room: AtomicBool,
    refused: AtomicU64,
}

impl Usage {
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        let own = self.own.load(Ordering::Relaxed);
        own.saturating_add(self.others.load(Ordering::Relaxed))
    }

    fn refuse(&self) {
        self.short.store(true, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Was there no room since this was asked last?
    pub(crate) fn was_short(&self) -> bool {
        self.short.swap(false, Ordering::Relaxed)
    }

    /// How often a commit was refused for want of room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes room from the disk for the time when it has none. A file system that cannot do that has none
    /// kept.
    pub(crate) fn reserve(&self, directory: &Path) {
        let kept = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("reserve"))
            .and_then(|file| {
                let whole = FallocateFlags::empty();
                fallocate(&file, whole, 0, RESERVE_BYTES).map_err(std::io::Error::from)
            });
        let last_room = kept.as_ref().is_err_and(is_no_room);
        self.last_room.store(last_room, Ordering::Relaxed);
    }

    /// Counts anew what other epochs hold.
    pub(crate) fn look(&self, directory: &Path, epoch: u32) -> Result<(), SpoolDirError> {
        let mut others = 0;
        for segment in segments(directory)? {
            if segment.id.epoch == epoch {
                continue;
            }
            match fs::metadata(&segment.path) {
                Ok(metadata) => others += metadata.len(),
                // Freed by whoever ships.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(file_error(&segment.path, error)),
            }
        }
        self.others.store(others, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn freed(&self, own: bool, length: u64) {
        let part = if own { &self.own } else { &self.others };
        // `look` may have counted it already.
        let _before = part.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            Some(bytes.saturating_sub(length))
        });
    }
}

/// An open spool. Every opening is an epoch of its own.
pub struct SpoolDir {
    config: SpoolConfig,
    node: u128,
    epoch: u32,
    keys: Arc<KeyRing>,
    used: Arc<Usage>,
    /// Says that this epoch is being written, for as long as we live.
    _alive: Flock<File>,
}

impl SpoolDir {
    /// Opens the directory: checks its owner, recovers segments of earlier epochs whose process is
    /// gone, starts a new epoch.
    ///
    /// # Errors
    /// See [`SpoolDirError`].
    pub fn open(config: SpoolConfig) -> Result<Self, SpoolDirError> {
        let directory = &config.directory;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| file_error(directory, error))?;
        let metadata = fs::metadata(directory).map_err(|error| file_error(directory, error))?;
        let own = nix::unistd::Uid::effective().as_raw();
        if metadata.uid() != own {
            let path = directory.display().to_string();
            return Err(SpoolDirError::Foreign {
                path,
                uid: metadata.uid(),
            });
        }
        let node = node_id(&directory.join("node.id"))?;
        // Held until our own epoch is locked: nobody may take it for a dead one in between, or change the key.
        let mut opening = opening(directory)?;
        let epoch = opening.next()?;
        let keys = Arc::new(KeyRing::open(&config.key_file, node)?);
        let Some(alive) = epoch_lock(directory, epoch)? else {
            return Err(file_error(directory, "our own epoch is taken"));
        };
        recover_all(directory, epoch)?;
        let used = Arc::new(Usage::default());
        used.reserve(directory);
        if used.last_room.load(Ordering::Relaxed) {
            make_room(directory, &used)?;
        }
        used.look(directory, epoch)?;
        Ok(Self {
            config,
            node,
            epoch,
            keys,
            used,
            _alive: alive,
        })
    }

    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Of the key that signs now.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.keys.key().verifying_key()
    }

    /// That key and those before it.
    #[must_use]
    pub fn history(&self) -> KeyHistory {
        let trusted = self.verifying_key();
        KeyHistory::trusting(&self.keys.changes(), self.node, &trusted).0
    }

    /// The keys that this process signs with; shared with its lanes.
    #[must_use]
    pub fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys)
    }

    #[must_use]
    pub const fn node(&self) -> u128 {
        self.node
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.config.directory
    }

    /// Bytes of all segments; shared with the shipper, which frees them.
    #[must_use]
    pub(crate) fn used(&self) -> Arc<Usage> {
        Arc::clone(&self.used)
    }

    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        self.config.limit_bytes
    }

    /// A lane for one thread; each index once per epoch.
    ///
    /// # Errors
    /// Its first segment cannot be made.
    pub fn lane(&self, index: u32, now: Now) -> Result<Lane<FileSegment>, SpoolDirError> {
        let id = SegmentId {
            epoch: self.epoch,
            lane: index,
            number: 1,
        };
        let segment = create(&self.config.directory, id).map_err(SpoolDirError::Spool)?;
        let mut file = FileSegment {
            directory: self.config.directory.clone(),
            file: segment,
            length: 0,
            keys: Arc::clone(&self.keys),
            head: self.keys.begins(id),
            key_number: self.keys.changed(),
            used: Arc::clone(&self.used),
            limit_bytes: self.config.limit_bytes,
            durability: self.config.durability,
        };
        let start = LaneStart {
            node: self.node,
            epoch: self.epoch,
            lane: index,
            key: self.keys.key(),
            segment_bytes: (self.config.limit_bytes / SEGMENTS_MIN)
                .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        };
        file.entered()?;
        Ok(Lane::open(file, start, now)?)
    }
}

/// One segment of a lane on disk.
pub struct FileSegment {
    directory: PathBuf,
    file: File,
    /// Bytes of whole appends.
    length: u64,
    keys: Arc<KeyRing>,
    head: Arc<Mutex<Head>>,
    /// Changes of the key that were made before this segment began, at least.
    key_number: u32,
    used: Arc<Usage>,
    limit_bytes: u64,
    durability: Durability,
}

impl FileSegment {
    /// All or nothing: what a full disk took of `bytes` is cut off again.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let Err(error) = self.file.write_all(bytes) else {
            self.length += bytes.len() as u64;
            self.used
                .own
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return Ok(());
        };
        if is_no_room(&error) && self.file.set_len(self.length).is_ok() {
            return Err(SpoolError::Full);
        }
        Err(SpoolError::Io(error.to_string()))
    }

    /// As `write`, with what was kept for this.
    fn write_at_last(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        match self.write(bytes) {
            Err(SpoolError::Full) if self.give_up_reserve() => self.write(bytes),
            written => written,
        }
    }

    fn lock_head(&self) -> std::sync::MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when there was something to give up.
    fn give_up_reserve(&self) -> bool {
        self.used.last_room.store(true, Ordering::Relaxed);
        give_up_reserve(&self.directory)
    }

    /// The file's name is on disk, as far as was configured.
    fn entered(&mut self) -> Result<(), SpoolError> {
        match self.durability {
            Durability::Process => Ok(()),
            Durability::PowerLoss => File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| SpoolError::Io(error.to_string())),
        }
    }
}

/// True when there was something to give up.
pub(crate) fn give_up_reserve(directory: &Path) -> bool {
    fs::remove_file(directory.join("reserve")).is_ok()
}

pub(crate) fn is_no_room(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::ENOSPC | Errno::EDQUOT))
}

impl SegmentFile for FileSegment {
    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let after = self.used.bytes().saturating_add(bytes.len() as u64);
        let ending_only = self.used.last_room.load(Ordering::Relaxed);
        let appended = if after > self.limit_bytes || ending_only {
            Err(SpoolError::Full)
        } else {
            self.write(bytes)
        };
        if matches!(appended, Err(SpoolError::Full)) {
            self.used.refuse();
        }
        appended
    }

    fn end(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.write_at_last(bytes)
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        match self.durability {
            Durability::Process => Ok(()),
            Durability::PowerLoss => self
                .file
                .sync_data()
                .map_err(|error| SpoolError::Io(error.to_string())),
        }
    }

    fn next(&mut self, id: SegmentId, header: &[u8]) -> Result<(), SpoolError> {
        self.file
            .sync_data()
            .map_err(|error| SpoolError::Io(error.to_string()))?;
        let path = self.directory.join(file_name(id));
        let created = match create(&self.directory, id) {
            Err(SpoolError::Full) if self.give_up_reserve() => create(&self.directory, id),
            created => created,
        };
        let before = (std::mem::replace(&mut self.file, created?), self.length);
        self.length = 0;
        let begun = self.write_at_last(header).and_then(|()| self.entered());
        if begun.is_err() {
            self.used.freed(true, self.length);
            (self.file, self.length) = before;
            fs::remove_file(&path).map_err(|error| SpoolError::Io(error.to_string()))?;
            return begun;
        }
        // Asked for before: a change in between ends this segment early, which is right as well.
        self.key_number = self.keys.changed();
        self.head = self.keys.begins(id);
        Ok(())
    }

    fn key(&self) -> Option<Arc<SigningKey>> {
        Some(Arc::clone(&self.lock_head().key))
    }

    fn ends_early(&self) -> bool {
        self.keys.changed() != self.key_number
    }

    fn committed(&mut self, count: u32, chain: &[u8; 32]) {
        let mut head = self.lock_head();
        (head.count, head.chain) = (count, *chain);
    }
}

/// Removes what is acknowledged, oldest first, until the reserve is there: a node that starts on a full disk.
fn make_room(directory: &Path, used: &Usage) -> Result<(), SpoolDirError> {
    let path = directory.join("batches");
    let told = journal::look(&path).map_err(|error| file_error(&path, error))?;
    let live = live_epochs(directory)?;
    for segment in segments(directory)? {
        let length = fs::metadata(&segment.path).map_or(u64::MAX, |metadata| metadata.len());
        let shipped = told
            .progress
            .get(&segment.id)
            .is_some_and(|progress| progress.end >= length)
            && !journal::any_of(&told.open, segment.id)
            && !journal::any_of(&told.refused, segment.id);
        if shipped && !live.contains(&segment.id.epoch) {
            fs::remove_file(&segment.path).map_err(|error| file_error(&segment.path, error))?;
            used.reserve(directory);
        }
        if !used.last_room.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

fn create(directory: &Path, id: SegmentId) -> Result<File, SpoolError> {
    let path = directory.join(file_name(id));
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| {
            if is_no_room(&error) {
                SpoolError::Full
            } else {
                SpoolError::Io(format!("{}: {error}", path.display()))
            }
        })
}

fn file_name(id: SegmentId) -> String {
    format!("{:08}-{:03}-{:08}.seg", id.epoch, id.lane, id.number)
}

/// A segment file by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentPath {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
}

/// All segment files, oldest epoch first.
pub(crate) fn segments(directory: &Path) -> Result<Vec<SegmentPath>, SpoolDirError> {
    let entries = fs::read_dir(directory).map_err(|error| file_error(directory, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| file_error(directory, error))?.path();
        if let Some(id) = path
            .file_name()
            .and_then(|name| parse_name(&name.to_string_lossy()))
        {
            found.push(SegmentPath { id, path });
        }
    }
    found.sort();
    Ok(found)
}

fn parse_name(name: &str) -> Option<SegmentId> {
    let mut parts = name.strip_suffix(".seg")?.split('-');
    let epoch = parts.next()?.parse().ok()?;
    let lane = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(SegmentId {
        epoch,
        lane,
        number,
    })
}

/// Takes the lock of an epoch; `None` while its process lives. The kernel lets go of it when the
/// process dies, however it dies.
fn epoch_lock(directory: &Path, epoch: u32) -> Result<Option<Flock<File>>, SpoolDirError> {
    let path = directory.join(format!("{epoch:08}.lock"));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| file_error(&path, error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_file, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_file, error)) => Err(file_error(&path, error)),
    }
}

/// Epochs that another process is appending to. Their segments may end within a block, and grow.
pub(crate) fn live_epochs(directory: &Path) -> Result<BTreeSet<u32>, SpoolDirError> {
    let mut live = BTreeSet::new();
    for epoch in locks(directory)? {
        if epoch_lock(directory, epoch)?.is_none() {
            live.insert(epoch);
        }
    }
    Ok(live)
}

fn locks(directory: &Path) -> Result<Vec<u32>, SpoolDirError> {
    let entries = fs::read_dir(directory).map_err(|error| file_error(directory, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|error| file_error(directory, error))?
            .file_name();
        let name = name.to_string_lossy();
        if let Some(epoch) = name
            .strip_suffix(".lock")
            .and_then(|text| text.parse().ok())
        {
            found.push(epoch);
        }
    }
    Ok(found)
}

/// Recovers what dead processes left, and forgets their locks.
fn recover_all(directory: &Path, own: u32) -> Result<(), SpoolDirError> {
    let live = live_epochs(directory)?;
    for segment in segments(directory)? {
        if segment.id.epoch != own && !live.contains(&segment.id.epoch) {
            recover(&segment.path)?;
        }
    }
    for epoch in locks(directory)? {
        if epoch != own && !live.contains(&epoch) {
            let path = directory.join(format!("{epoch:08}.lock"));
            fs::remove_file(&path).map_err(|error| file_error(&path, error))?;
        }
    }
    Ok(())
}

/// Cuts a torn tail off, and says so.
///
/// Only a tail that is an incomplete block is cut, or one whose end was never written and reads as zeros
/// (after a loss of power): anything else that is wrong is left for `weir audit verify` to name.
fn recover(path: &Path) -> Result<(), SpoolDirError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Freed meanwhile by a process that ships.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(path, error)),
    };
    let length = bytes.len() as u64;
    let written = written(&bytes);
    // A whole header ends with a letter.
    let header = read_header(&bytes)
        .ok()
        .filter(|header| header.len <= written);
    let Some(header) = header else {
        tracing::warn!(path = %path.display(), bytes = length, "a segment without header is empty");
        truncate(path, 0)?;
        fs::remove_file(path).map_err(|error| file_error(path, error))?;
        return Ok(());
    };
    let mut reader = BlockReader::new(&header);
    let mut at = header.len;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let wrong = match reader.next(rest) {
            Ok(Next::Block(_, len) | Next::Trailer(_, len)) => {
                at += len;
                continue;
            }
            Ok(Next::Incomplete) if rest.is_empty() => return Ok(()),
            Ok(Next::Incomplete) => None,
            Err(_) if unwritten(&mut reader, rest) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = wrong {
            tracing::error!(path = %path.display(), %error, "a segment was changed on disk");
            return Ok(());
        }
        tracing::warn!(
            path = %path.display(), bytes = rest.len(), after = reader.position(),
            "cut a torn tail: these bytes were never acknowledged"
        );
        return truncate(path, at as u64);
    }
}

/// The end of `rest` was never written: without its zeros it is not a whole block. (A whole one ends with
/// a digest.)
fn unwritten(reader: &mut BlockReader, rest: &[u8]) -> bool {
    let written = rest
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    if rest.len() - written < 8 && written > 0 {
        return false;
    }
    let written = rest.get(..written).unwrap_or(rest);
    matches!(reader.next(written), Ok(Next::Incomplete))
}

/// Bytes up to the last one that is not zero.
fn written(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |at| at + 1)
}

fn truncate(path: &Path, length: u64) -> Result<(), SpoolDirError> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|e| file_error(path, e))?;
    file.set_len(length)
        .map_err(|error| file_error(path, error))?;
    file.sync_all().map_err(|error| file_error(path, error))
}

fn node_id(path: &Path) -> Result<u128, SpoolDirError> {
    Ok(u128::from_le_bytes(fixed(path, rand::random::<[u8; 16]>)?))
}

pub(crate) fn fixed<const N: usize>(
    path: &Path,
    make: impl FnOnce() -> [u8; N],
) -> Result<[u8; N], SpoolDirError> {
    match fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| file_error(path, format!("must hold exactly {N} bytes"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes = make();
            write_new(path, &bytes)?;
            Ok(bytes)
        }
        Err(error) => Err(file_error(path, error)),
    }
}

/// Whole or not at all: a process that dies on the way leaves nothing that the next one stumbles over.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SpoolDirError> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error(&fresh, error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(|error| file_error(&fresh, error))?;
    file.write_all(bytes)
        .map_err(|error| file_error(&fresh, error))?;
    file.sync_all().map_err(|error| file_error(&fresh, error))?;
    fs::rename(&fresh, path).map_err(|error| file_error(path, error))
}

/// Nobody else opens the spool, or changes the node's key, while this is held.
pub(crate) struct Opening {
    file: Flock<File>,
    path: PathBuf,
    /// The last epoch that was given out.
    pub(crate) epoch: u32,
}

/// Waits for whoever is opening it.
pub(crate) fn opening(directory: &Path) -> Result<Opening, SpoolDirError> {
    let path = directory.join("epoch");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| file_error(&path, error))?;
    let file = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_file, error)| file_error(&path, error))?;
    let mut bytes = [0; 4];
    let epoch = match file
        .read_at(&mut bytes, 0)
        .map_err(|error| file_error(&path, error))?
    {
        0 => 0,
        4 => u32::from_le_bytes(bytes),
        _ => return Err(file_error(&path, "must hold exactly 4 bytes")),
    };
    Ok(Opening { file, path, epoch })
}

impl Opening {
    /// The number after the last one, on disk before it is used: tokens must never repeat.
    fn next(&mut self) -> Result<u32, SpoolDirError> {
        let next = self
            .epoch
            .checked_add(1)
            .ok_or_else(|| file_error(&self.path, "no epoch is left"))?;
        self.file
            .write_at(&next.to_le_bytes(), 0)
            .map_err(|error| file_error(&self.path, error))?;
        self.file
            .sync_all()
            .map_err(|error| file_error(&self.path, error))?;
        self.epoch = next;
        Ok(next)
    }
}
