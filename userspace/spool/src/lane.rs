//! Appending: one lane per thread, one block per commit.

use std::collections::HashMap;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use weir_model::fact::{Fact, FactContext};
use weir_model::fault::{Fault, FaultKind};
use weir_model::ident::SessionId;
use weir_model::limit::FACT_BYTES_MAX;
use weir_model::time::Now;

use crate::{encode, schema};

pub(crate) const MAGIC: &[u8; 8] = b"WEIRSPL1";
pub(crate) const VERSION: u32 = 1;
pub(crate) const BLOCK: u8 = b'B';
pub(crate) const TRAILER: u8 = b'T';
/// A segment is sealed once it is larger than this, at most.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// … or older than this, so that a quiet node ships and signs as well. By the monotonic clock: the
/// other one may be set.
const SEGMENT_AGE_US: u64 = 3_600_000_000;
/// Bytes of facts that wait for room in the spool; beyond it a fact is refused at once.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Epoch, segment, position and digest at the end of each row.
const PLACE_BYTES: usize = 4 + 8 + 4 + 8;
/// Encoded contexts and last numbers of sessions are kept for this many; older ones are encoded
/// anew, their numbers no longer checked.
const SESSIONS_MAX: usize = 65_536;

/// The file under a lane.
pub trait SegmentFile {
    /// Appends all of `bytes`, or fails.
    ///
    /// # Errors
    /// [`SpoolError::Full`] for want of room: nothing was written then, and it may be tried again.
    /// [`SpoolError::Io`] otherwise, after which nothing more is appended.
    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError>;

    /// As [`SegmentFile::append`], for the few bytes that begin a lane or end a segment: they may go
    /// beyond the limit, since only a segment that has ended can be freed.
    ///
    /// # Errors
    /// As [`SegmentFile::append`].
    fn end(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.append(bytes)
    }

    /// Makes what was appended as durable as was configured.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    fn sync(&mut self) -> Result<(), SpoolError>;

    /// Closes this segment, which has ended, and begins the next one with its header.
    ///
    /// # Errors
    /// Any; there is no next segment then, and it may be tried again.
    fn next(&mut self, id: SegmentId, header: &[u8]) -> Result<(), SpoolError>;

    /// The key that signs the segment that is open now, where that is not the one that the lane began with.
    fn key(&self) -> Option<Arc<SigningKey>> {
        None
    }

    /// The open segment is to end as soon as it can: another key signs what comes after it.
    fn ends_early(&self) -> bool {
        false
    }

    /// All facts up to position `count` are in the segment; `chain` is the hash of the block that they end with.
    fn committed(&mut self, _count: u32, _chain: &[u8; 32]) {}
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool is full: protected traffic stops until records were shipped")]
    Full,
    #[error("the spool cannot be written: {0}")]
    Io(String),
    #[error("an earlier append failed; the lane has to be opened anew")]
    Poisoned,
    #[error("fact {seq} of a session follows {last}")]
    Gap { last: u32, seq: u32 },
    #[error("a fact is larger than 32 MiB")]
    TooLarge,
}

impl Fault for SpoolError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Full | Self::Io(_) | Self::Poisoned => FaultKind::Record,
            Self::Gap { .. } => FaultKind::Internal,
            Self::TooLarge => FaultKind::Limit,
        }
    }
}

/// Names one segment of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Counts openings of the spool; never used twice.
    pub epoch: u32,
    pub lane: u32,
    /// From 1 within the lane.
    pub number: u32,
}

impl SegmentId {
    /// From an epoch and [`SegmentId::packed`].
    #[must_use]
    pub const fn unpack(epoch: u32, packed: u64) -> Self {
        Self {
            epoch,
            lane: (packed >> 32) as u32,
            number: (packed & 0xffff_ffff) as u32,
        }
    }

    /// As one number for the record: lane in the upper half.
    #[must_use]
    pub const fn packed(self) -> u64 {
        ((self.lane as u64) << 32) | self.number as u64
    }
}

/// Proof that every fact of a session up to and including `seq` is in the spool.
///
/// ```compile_fail
/// let receipt = weir_spool::Receipt { session: weir_model::ident::SessionId(1), seq: 1 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    session: SessionId,
    seq: u32,
}

impl Receipt {
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// True when the fact `seq` of `session` is in the spool.
    #[must_use]
    pub const fn covers(&self, session: SessionId, seq: u32) -> bool {
        self.session.0 == session.0 && seq <= self.seq
    }
}

/// Receipts of one commit, one per session.
#[derive(Debug, Default)]
pub struct Receipts(Vec<Receipt>);

impl Receipts {
    pub fn iter(&self) -> std::slice::Iter<'_, Receipt> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Receipts {
    type Item = &'a Receipt;
    type IntoIter = std::slice::Iter<'a, Receipt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where and as whom a lane starts.
#[derive(Clone)]
pub struct LaneStart {
    pub node: u128,
    pub epoch: u32,
    pub lane: u32,
    pub key: Arc<SigningKey>,
    /// A segment is sealed once it is larger than this.
    pub segment_bytes: u64,
}

struct Known {
    context: Arc<FactContext>,
    encoded: Vec<u8>,
    last_seq: u32,
}

/// An append-only log of one thread.
pub struct Lane<F> {
    file: F,
    start: LaneStart,
    id: SegmentId,
    opened_us: u64,
    written: u64,
    /// Position of the last fact that is in the file.
    committed: u32,
    /// Position of the last fact, buffered ones included.
    position: u32,
    /// This segment has its signed end; the next one has to be begun before anything is appended.
    sealed: bool,
    chain: [u8; 32],
    rows: Vec<u8>,
    first: u32,
    count: u32,
    pending: Vec<Receipt>,
    sessions: HashMap<u128, Known>,
    poisoned: bool,
    block: Vec<u8>,
}

impl<F: SegmentFile> Lane<F> {
    /// Opens the first segment of this lane in this epoch; `file` must be empty.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn open(file: F, start: LaneStart, now: Now) -> Result<Self, SpoolError> {
        let id = SegmentId {
            epoch: start.epoch,
            lane: start.lane,
            number: 1,
        };
        let mut lane = Self {
            file,
            start,
            id,
            opened_us: now.mono_us,
            written: 0,
            committed: 0,
            position: 0,
            sealed: false,
            chain: [0; 32],
            rows: Vec::new(),
            first: 0,
            count: 0,
            pending: Vec::new(),
            sessions: HashMap::new(),
            poisoned: false,
            block: Vec::new(),
        };
        let header = lane.header(id)?;
        let begun = lane.file.end(&header);
        lane.noted(begun, header.len())?;
        lane.chain = *blake3::hash(&header).as_bytes();
        Ok(lane)
    }

    fn header(&self, id: SegmentId) -> Result<Vec<u8>, SpoolError> {
        let columns = schema::text();
        let mut out = Vec::with_capacity(128 + columns.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&id.epoch.to_le_bytes());
        out.extend_from_slice(&id.lane.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&u64::from(id.number).to_le_bytes());
        out.extend_from_slice(&self.start.node.to_le_bytes());
        out.extend_from_slice(&self.chain);
        let length = u32::try_from(columns.len()).map_err(|_| SpoolError::TooLarge)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(columns.as_bytes());
        Ok(out)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if self.poisoned {
            return Err(SpoolError::Poisoned);
        }
        let appended = self.file.append(bytes);
        self.noted(appended, bytes.len())
    }

    /// A refusal for want of room wrote nothing, so the lane goes on once there is room; any other
    /// one poisons it.
    fn noted(&mut self, appended: Result<(), SpoolError>, bytes: usize) -> Result<(), SpoolError> {
        match appended {
            Ok(()) => self.written += bytes as u64,
            Err(SpoolError::Full) => {}
            Err(_) => self.poisoned = true,
        }
        appended
    }

    /// Encodes and buffers; nothing is durable yet.
    ///
    /// # Errors
    /// [`SpoolError::Gap`] when the session's numbers do not follow each other,
    /// [`SpoolError::TooLarge`] for an oversized fact, [`SpoolError::Full`] while too much waits for
    /// room. None leaves a trace in the buffer.
    pub fn push(&mut self, fact: &Fact) -> Result<(), SpoolError> {
        if self.rows.len() > WAITING_BYTES_MAX {
            return Err(SpoolError::Full);
        }
        let session = fact.context.session_id;
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&session) {
            self.sessions.clear();
        }
        let at = self.rows.len();
        self.rows.extend_from_slice(&[0; 4]);
        let start = self.rows.len();
        let known = self.sessions.entry(session).or_insert_with(|| Known {
            context: Arc::clone(&fact.context),
            encoded: Vec::new(),
            last_seq: fact.seq.saturating_sub(1),
        });
        if session != 0 && fact.seq != known.last_seq + 1 {
            let last = known.last_seq;
            self.rows.truncate(at);
            return Err(SpoolError::Gap {
                last,
                seq: fact.seq,
            });
        }
        if known.encoded.is_empty() || !Arc::ptr_eq(&known.context, &fact.context) {
            known.context = Arc::clone(&fact.context);
            known.encoded.clear();
            encode::context(&mut known.encoded, &fact.context);
        }
        self.rows.extend_from_slice(&known.encoded);
        encode::event(&mut self.rows, fact);
        if self.rows.len() - start > FACT_BYTES_MAX {
            self.rows.truncate(at);
            return Err(SpoolError::TooLarge);
        }
        known.last_seq = fact.seq;
        let position = self.position + 1;
        encode::place(
            &mut self.rows,
            start,
            self.id.epoch,
            self.id.packed(),
            position,
        );
        let length = u32::try_from(self.rows.len() - start).map_err(|_| SpoolError::TooLarge)?;
        if let Some(place) = self.rows.get_mut(at..start) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        if self.count == 0 {
            self.first = position;
        }
        self.position = position;
        self.count += 1;
        self.expect(SessionId(session), fact.seq);
        Ok(())
    }

    fn expect(&mut self, session: SessionId, seq: u32) {
        match self
            .pending
            .iter_mut()
            .rev()
            .find(|receipt| receipt.session == session)
        {
            Some(receipt) => receipt.seq = seq,
            None => self.pending.push(Receipt { session, seq }),
        }
    }

    /// Writes what is buffered as one block.
    ///
    /// # Errors
    /// Nothing of the buffer is in the spool then. [`SpoolError::Full`] keeps the buffer for a
    /// later commit; other errors poison the lane.
    pub fn commit(&mut self, now: Now) -> Result<Receipts, SpoolError> {
        if self.count == 0 {
            return Ok(Receipts::default());
        }
        if self.sealed {
            self.begin_next(now)?;
        }
        match self.append_block() {
            // What is in this segment can be freed only once it has ended.
            Err(SpoolError::Full) if self.committed > 0 => {
                self.rotate(now)?;
                self.append_block()?;
            }
            appended => appended?,
        }
        let receipts = Receipts(std::mem::take(&mut self.pending));
        self.rest(now);
        Ok(receipts)
    }

    /// Seals the segment when it is large or old enough, or is to end early; for a lane that has nothing to commit, too.
    pub fn rest(&mut self, now: Now) {
        let old = now.mono_us.saturating_sub(self.opened_us) > SEGMENT_AGE_US;
        let due = self.written > self.start.segment_bytes || old || self.file.ends_early();
        if due && self.committed > 0 && self.count == 0 && !self.poisoned {
            // The facts are in the spool whatever comes of this: want of room is tried again, anything
            // else poisons the lane.
            drop(self.rotate(now));
        }
    }

    fn append_block(&mut self) -> Result<(), SpoolError> {
        let length = u32::try_from(self.rows.len()).map_err(|_| SpoolError::TooLarge)?;
        let hash = chain(&self.chain, self.first, self.count, &self.rows);
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        block.push(BLOCK);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&self.first.to_le_bytes());
        block.extend_from_slice(&self.count.to_le_bytes());
        block.extend_from_slice(&hash);
        block.extend_from_slice(&self.rows);
        let appended = self.append(&block);
        self.block = block;
        appended?;
        if let Err(error) = self.file.sync() {
            self.poisoned = true;
            return Err(error);
        }
        self.chain = hash;
        self.committed = self.position;
        self.file.committed(self.committed, &self.chain);
        self.rows.clear();
        self.count = 0;
        Ok(())
    }

    /// Seals the segment and goes on in the next one.
    fn rotate(&mut self, now: Now) -> Result<(), SpoolError> {
        if !self.sealed {
            self.seal()?;
        }
        self.begin_next(now)
    }

    fn begin_next(&mut self, now: Now) -> Result<(), SpoolError> {
        let number = self.id.number.checked_add(1).ok_or(SpoolError::TooLarge)?;
        let id = SegmentId { number, ..self.id };
        let header = self.header(id)?;
        self.file.next(id, &header)?;
        self.id = id;
        self.chain = *blake3::hash(&header).as_bytes();
        self.written = header.len() as u64;
        self.opened_us = now.mono_us;
        self.sealed = false;
        self.committed = 0;
        self.place_anew();
        Ok(())
    }

    /// Buffered rows say where they lie: in this segment from now on.
    fn place_anew(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let mut rest = rows.as_slice();
        let mut position = 0;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let row = u32::from_le_bytes(*length) as usize;
            let Some((row, next)) = after.split_at_checked(row) else {
                break;
            };
            position += 1;
            self.rows.extend_from_slice(length);
            let start = self.rows.len();
            let unplaced = row.len().saturating_sub(PLACE_BYTES);
            self.rows
                .extend_from_slice(row.get(..unplaced).unwrap_or(row));
            encode::place(
                &mut self.rows,
                start,
                self.id.epoch,
                self.id.packed(),
                position,
            );
            rest = next;
        }
        self.first = 1;
        self.position = position;
    }

    /// Writes the signed trailer; the segment takes nothing more.
    fn seal(&mut self) -> Result<(), SpoolError> {
        if self.poisoned {
            return Err(SpoolError::Poisoned);
        }
        let mut out = Vec::with_capacity(101);
        out.push(TRAILER);
        out.extend_from_slice(&self.committed.to_le_bytes());
        out.extend_from_slice(&self.chain);
        let key = self.file.key();
        let key = key.as_ref().unwrap_or(&self.start.key);
        let signature = key.sign(&signed(self.committed, &self.chain));
        out.extend_from_slice(&signature.to_bytes());
        let ended = self.file.end(&out);
        self.noted(ended, out.len())?;
        let synced = self.file.sync();
        self.poisoned |= synced.is_err();
        self.sealed = synced.is_ok();
        synced
    }

    #[cfg(test)]
    pub(crate) fn file_mut(&mut self) -> &mut F {
        &mut self.file
    }

    /// Commits and seals; for a clean end.
    ///
    /// # Errors
    /// As [`Lane::commit`].
    pub fn close(mut self, now: Now) -> Result<(), SpoolError> {
        self.commit(now)?;
        if self.sealed { Ok(()) } else { self.seal() }
    }
}

/// What a trailer's signature is over.
pub(crate) fn signed(count: u32, chain: &[u8; 32]) -> Vec<u8> {
    let mut message = b"weir segment 1".to_vec();
    message.extend_from_slice(&count.to_le_bytes());
    message.extend_from_slice(chain);
    message
}

pub(crate) fn chain(previous: &[u8; 32], first: u32, count: u32, payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&first.to_le_bytes());
    hasher.update(&count.to_le_bytes());
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}
