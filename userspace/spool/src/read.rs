//! Reading segments back: recovery, shipping, verification. Input is untrusted.

use ed25519_dalek::{Signature, VerifyingKey};
use weir_model::fault::{Fault, FaultKind};

use crate::lane::{BLOCK, MAGIC, TRAILER, VERSION, chain, signed};

/// Fixed part of a header, before the columns.
const HEADER_FIXED: usize = 8 + 4 + 4 + 4 + 4 + 8 + 16 + 32 + 4;
/// Bytes of the column list.
const COLUMNS_MAX: usize = 64 * 1024;
const BLOCK_FIXED: usize = 1 + 4 + 4 + 4 + 32;
const TRAILER_FIXED: usize = 1 + 4 + 32 + 64;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub epoch: u32,
    pub lane: u32,
    pub number: u32,
    pub node: u128,
    /// Hash at the end of the previous segment of this lane; zero for the first.
    pub previous: [u8; 32],
    /// `name type` lines.
    pub columns: String,
    /// Where blocks start.
    pub len: usize,
    /// Chain value before the first block.
    pub chain: [u8; 32],
}

/// One commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    pub first: u32,
    pub count: u32,
    pub hash: [u8; 32],
    /// Rows with a length before each.
    payload: &'a [u8],
}

impl<'a> Block<'a> {
    /// Position of the last fact.
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }

    /// The RowBinary rows; `None` in place of a row that does not fit its block.
    pub fn rows(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((length, after)) = rest.split_first_chunk::<4>() else {
                rest = &[];
                return Some(None);
            };
            let length = u32::from_le_bytes(*length) as usize;
            let Some((row, next)) = after.split_at_checked(length) else {
                rest = &[];
                return Some(None);
            };
            rest = next;
            Some(Some(row))
        })
    }
}

/// The signed end of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub count: u32,
    pub hash: [u8; 32],
    pub signature: [u8; 64],
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("not a segment of this version")]
    Header,
    #[error("torn after position {after}: {bytes} bytes do not make a block")]
    Torn { after: u32, bytes: usize },
    #[error("changed between position {first} and {last}")]
    Changed { first: u32, last: u32 },
    #[error("position {expected} is missing, {found} follows: rows were deleted or reordered")]
    Reordered { expected: u32, found: u32 },
    #[error("positions {first} to {last} stand out of order: doubled or moved")]
    Doubled { first: u32, last: u32 },
    #[error("the signed end says {signed} facts, there are {found}")]
    Truncated { signed: u32, found: u32 },
    #[error("the signature is not of this node's key")]
    Signature,
    #[error("{bytes} bytes follow the signed end")]
    Trailing { bytes: usize },
}

impl Fault for ReadError {
    fn kind(&self) -> FaultKind {
        FaultKind::Record
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Reads a segment's header.
///
/// # Errors
/// [`ReadError::Header`] for anything that is not one.
pub fn read_header(bytes: &[u8]) -> Result<Header, ReadError> {
    parse_header(bytes).ok_or(ReadError::Header)
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let version = u32::from_le_bytes(array(bytes, 8)?);
    if array::<8>(bytes, 0)? != *MAGIC || version != VERSION {
        return None;
    }
    let length = u32::from_le_bytes(array(bytes, HEADER_FIXED - 4)?) as usize;
    if length > COLUMNS_MAX {
        return None;
    }
    let len = HEADER_FIXED + length;
    let columns = bytes.get(HEADER_FIXED..len)?;
    if columns.contains(&0) {
        // Never written: the file only has its length.
        return None;
    }
    Some(Header {
        epoch: u32::from_le_bytes(array(bytes, 12)?),
        lane: u32::from_le_bytes(array(bytes, 16)?),
        number: u32::try_from(u64::from_le_bytes(array(bytes, 24)?)).ok()?,
        node: u128::from_le_bytes(array(bytes, 32)?),
        previous: array(bytes, 48)?,
        columns: String::from_utf8(columns.to_vec()).ok()?,
        len,
        chain: *blake3::hash(bytes.get(..len)?).as_bytes(),
    })
}

/// Walks blocks from a known chain value; verifies each before giving it out.
pub struct BlockReader {
    chain: [u8; 32],
    position: u32,
}

/// What stands next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A block and the bytes it took.
    Block(Block<'a>, usize),
    Trailer(Trailer, usize),
    /// Not enough bytes for a whole one: still being written, or torn.
    Incomplete,
}

impl BlockReader {
    /// From the first block of a segment.
    #[must_use]
    pub const fn new(header: &Header) -> Self {
        Self {
            chain: header.chain,
            position: 0,
        }
    }

    /// From a place that was read before.
    #[must_use]
    pub const fn resume(chain: [u8; 32], position: u32) -> Self {
        Self { chain, position }
    }

    /// Chain value after the last block.
    #[must_use]
    pub const fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// Position of the last fact.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.position
    }

    /// The next block at the front of `bytes`.
    ///
    /// # Errors
    /// [`ReadError::Changed`], [`ReadError::Reordered`], [`ReadError::Truncated`], or
    /// [`ReadError::Torn`] for bytes that start no block.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Next<'a>, ReadError> {
        match bytes.first() {
            None => Ok(Next::Incomplete),
            Some(&BLOCK) => self.block(bytes),
            Some(&TRAILER) => self.trailer(bytes),
            Some(_) => Err(ReadError::Torn {
                after: self.position,
                bytes: bytes.len(),
            }),
        }
    }

    /// As [`BlockReader::next`], but only the frame: the block's hash is believed, its rows are not
    /// looked at. For finding where a batch ends; whoever uses the rows reads them with `next`.
    ///
    /// # Errors
    /// As [`BlockReader::next`], without [`ReadError::Changed`].
    pub fn skim<'a>(&mut self, bytes: &'a [u8]) -> Result<Next<'a>, ReadError> {
        if bytes.first() != Some(&BLOCK) {
            return self.next(bytes);
        }
        let Some((block, end)) = framed(bytes) else {
            return Ok(Next::Incomplete);
        };
        self.follows(&block)?;
        self.chain = block.hash;
        self.position = block.last();
        Ok(Next::Block(block, end))
    }

    const fn follows(&self, block: &Block<'_>) -> Result<(), ReadError> {
        if block.first != self.position + 1 || block.count == 0 {
            return Err(ReadError::Reordered {
                expected: self.position + 1,
                found: block.first,
            });
        }
        Ok(())
    }

    fn block<'a>(&mut self, bytes: &'a [u8]) -> Result<Next<'a>, ReadError> {
        let Some((block, end)) = framed(bytes) else {
            return Ok(Next::Incomplete);
        };
        let Block {
            first,
            count,
            hash,
            payload,
        } = block;
        let last = block.last();
        if chain(&self.chain, first, count, payload) != hash {
            return Err(ReadError::Changed {
                first: self.position + 1,
                last,
            });
        }
        self.follows(&block)?;
        let whole = block.rows().filter(Option::is_some).count();
        if whole != count as usize || block.rows().any(|row| row.is_none()) {
            return Err(ReadError::Changed { first, last });
        }
        self.chain = hash;
        self.position = last;
        Ok(Next::Block(block, end))
    }

    fn trailer<'a>(&self, bytes: &[u8]) -> Result<Next<'a>, ReadError> {
        let (Some(count), Some(hash), Some(signature)) = (
            array(bytes, 1),
            array::<32>(bytes, 5),
            array::<64>(bytes, 37),
        ) else {
            return Ok(Next::Incomplete);
        };
        let count = u32::from_le_bytes(count);
        if count != self.position || hash != self.chain {
            return Err(ReadError::Truncated {
                signed: count,
                found: self.position,
            });
        }
        Ok(Next::Trailer(
            Trailer {
                count,
                hash,
                signature,
            },
            TRAILER_FIXED,
        ))
    }
}

/// The block at the front of `bytes` and its length, once all of it is there.
fn framed(bytes: &[u8]) -> Option<(Block<'_>, usize)> {
    let (length, first, count, hash) = block_head(bytes)?;
    let end = BLOCK_FIXED.saturating_add(length);
    let payload = bytes.get(BLOCK_FIXED..end)?;
    let block = Block {
        first,
        count,
        hash,
        payload,
    };
    Some((block, end))
}

fn block_head(bytes: &[u8]) -> Option<(usize, u32, u32, [u8; 32])> {
    let length = u32::from_le_bytes(array(bytes, 1)?) as usize;
    let first = u32::from_le_bytes(array(bytes, 5)?);
    let count = u32::from_le_bytes(array(bytes, 9)?);
    Some((length, first, count, array(bytes, 13)?))
}

/// What a whole segment proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub header: Header,
    pub facts: u32,
    /// Chain value at its end, which the next segment must name.
    pub hash: [u8; 32],
    /// It was sealed, and the signature is of the given key.
    pub sealed: bool,
    /// Bytes of whole blocks (and trailer).
    pub len: usize,
}

/// Verifies a segment from its first byte to its last.
///
/// # Errors
/// The first thing that is wrong, with its position. A torn tail of an unsealed segment is an
/// error too; [`Verified::len`] of the readable part is found by recovery with a [`BlockReader`].
pub fn verify_segment(bytes: &[u8], key: &VerifyingKey) -> Result<Verified, ReadError> {
    let header = read_header(bytes)?;
    let mut reader = BlockReader::new(&header);
    let mut at = header.len;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        match reader.next(rest)? {
            Next::Block(_, len) => at += len,
            Next::Trailer(trailer, len) => {
                at += len;
                let message = signed(trailer.count, &trailer.hash);
                key.verify_strict(&message, &Signature::from_bytes(&trailer.signature))
                    .map_err(|_| ReadError::Signature)?;
                if at < bytes.len() {
                    return Err(ReadError::Trailing {
                        bytes: bytes.len() - at,
                    });
                }
                let (facts, hash) = (reader.position(), reader.chain());
                return Ok(Verified {
                    header,
                    facts,
                    hash,
                    sealed: true,
                    len: at,
                });
            }
            Next::Incomplete if rest.is_empty() => {
                let (facts, hash) = (reader.position(), reader.chain());
                return Ok(Verified {
                    header,
                    facts,
                    hash,
                    sealed: false,
                    len: at,
                });
            }
            Next::Incomplete => {
                return Err(ReadError::Torn {
                    after: reader.position(),
                    bytes: rest.len(),
                });
            }
        }
    }
}

/// Checks the signature of a segment's end.
#[must_use]
pub fn end_is_signed(
    count: u32,
    hash: &[u8; 32],
    signature: &[u8; 64],
    key: &VerifyingKey,
) -> bool {
    let signature = Signature::from_bytes(signature);
    key.verify_strict(&signed(count, hash), &signature).is_ok()
}

/// Chain value after a block of these rows, which start at `first`.
#[must_use]
pub fn chain_rows(previous: &[u8; 32], first: u32, rows: &[&[u8]]) -> [u8; 32] {
    let mut payload = Vec::new();
    for row in rows {
        let length = u32::try_from(row.len()).unwrap_or(u32::MAX);
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(row);
    }
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    chain(previous, first, count, &payload)
}

/// Chain value before the first block of a segment with this version's columns.
#[must_use]
pub fn chain_start(node: u128, id: crate::SegmentId, previous: &[u8; 32]) -> [u8; 32] {
    let columns = crate::schema::text();
    let length = u32::try_from(columns.len()).unwrap_or(u32::MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(&VERSION.to_le_bytes());
    hasher.update(&id.epoch.to_le_bytes());
    hasher.update(&id.lane.to_le_bytes());
    hasher.update(&0_u32.to_le_bytes());
    hasher.update(&u64::from(id.number).to_le_bytes());
    hasher.update(&node.to_le_bytes());
    hasher.update(previous);
    hasher.update(&length.to_le_bytes());
    hasher.update(columns.as_bytes());
    *hasher.finalize().as_bytes()
}

/// All that is wrong with a segment, not only the first thing: after a fault the walk goes on
/// with what the file claims.
#[derive(Debug, Default)]
pub struct Inspection {
    pub header: Option<Header>,
    /// Position that the last readable block ends with.
    pub facts: u32,
    /// Chain value that the file claims at its end.
    pub hash: [u8; 32],
    /// A signed end was read and holds.
    pub sealed: bool,
    /// Position and chain value at the end of each block that was read without a fault before it.
    pub heads: Vec<(u32, [u8; 32])>,
    pub errors: Vec<ReadError>,
}

/// Walks a segment to its end and collects every fault.
#[must_use]
pub fn inspect_segment(bytes: &[u8], key: &VerifyingKey) -> Inspection {
    let mut found = Inspection::default();
    let header = match read_header(bytes) {
        Ok(header) => header,
        Err(error) => {
            found.errors.push(error);
            return found;
        }
    };
    let mut reader = BlockReader::new(&header);
    let mut rest = bytes.get(header.len..).unwrap_or(&[]);
    found.header = Some(header);
    while !rest.is_empty() {
        let taken = match reader.next(rest) {
            Ok(Next::Block(block, len)) => {
                if found.errors.is_empty() {
                    found.heads.push((block.last(), block.hash));
                }
                len
            }
            Ok(Next::Trailer(trailer, len)) => {
                found.end(&trailer, rest.len() - len, key);
                break;
            }
            Ok(Next::Incomplete) => {
                let (after, bytes) = (reader.position(), rest.len());
                found.errors.push(ReadError::Torn { after, bytes });
                break;
            }
            Err(error) => match skip(&mut reader, rest) {
                Some((named, len)) => {
                    found.errors.push(named);
                    len
                }
                None => {
                    found.errors.push(error);
                    break;
                }
            },
        };
        rest = rest.get(taken..).unwrap_or(&[]);
    }
    (found.facts, found.hash) = (reader.position(), reader.chain());
    found
}

impl Inspection {
    fn end(&mut self, trailer: &Trailer, after: usize, key: &VerifyingKey) {
        if end_is_signed(trailer.count, &trailer.hash, &trailer.signature, key) {
            self.sealed = self.errors.is_empty();
        } else {
            self.errors.push(ReadError::Signature);
        }
        if after > 0 {
            self.errors.push(ReadError::Trailing { bytes: after });
        }
    }
}

/// Names what is wrong with the block in front and steps over it; `None` when it is no block.
fn skip(reader: &mut BlockReader, bytes: &[u8]) -> Option<(ReadError, usize)> {
    if bytes.first() != Some(&BLOCK) {
        return None;
    }
    let (length, first, count, hash) = block_head(bytes)?;
    let end = BLOCK_FIXED.checked_add(length)?;
    let follows = bytes.get(end..)?.first();
    if follows.is_some_and(|byte| *byte != BLOCK && *byte != TRAILER) {
        return None;
    }
    let (expected, last) = (
        reader.position().saturating_add(1),
        first.saturating_add(count.saturating_sub(1)),
    );
    let error = match first.cmp(&expected) {
        std::cmp::Ordering::Equal => ReadError::Changed { first, last },
        std::cmp::Ordering::Less => ReadError::Doubled { first, last },
        std::cmp::Ordering::Greater => ReadError::Reordered {
            expected,
            found: first,
        },
    };
    *reader = BlockReader::resume(hash, last.max(reader.position()));
    Some((error, end))
}

#[cfg(test)]
mod tests;
