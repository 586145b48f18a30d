//! Following segment files and cutting batches at block boundaries.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use weir_spool::{BlockReader, Next, SegmentId, read_header};

use super::ShipperConfig;
use crate::directory::SegmentPath;
use crate::hex::{hex, unhex};
use crate::journal::{Batch, Journal};

/// Bytes of one batch at most, so that ClickHouse stores it as one block.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Read at once; a larger block is read whole.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// What is known of a segment that is being followed.
struct Tail {
    header_len: u64,
    chain: [u8; 32],
    /// What lies behind the last batch, as far as it was looked at.
    seen: Option<Seen>,
    /// Since when uncut facts were seen, monotonic microseconds.
    waiting_since_us: Option<u64>,
    /// A file that was seen to be wrong is not read again.
    broken: bool,
}

/// Whole blocks from `start` to `end`.
#[derive(Clone, Copy)]
struct Seen {
    start: u64,
    end: u64,
    last: u32,
    chain: [u8; 32],
    full: bool,
    /// The segment's signed end was reached; it belongs to the batch.
    sealed: bool,
}

#[derive(Default)]
pub(super) struct Tails(HashMap<SegmentId, Tail>);

fn read_at(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl Tails {
    /// The next batch that is due in this segment; with `all`, whatever is there is due.
    pub(super) fn next_batch(
        &mut self,
        segment: &SegmentPath,
        journal: &Journal,
        config: &ShipperConfig,
        all: bool,
    ) -> io::Result<Option<Batch>> {
        let progress = journal
            .progress
            .get(&segment.id)
            .cloned()
            .unwrap_or_default();
        let Some(tail) = self.tail(segment)? else {
            return Ok(None);
        };
        if tail.broken {
            return Ok(None);
        }
        let start = progress.end.max(tail.header_len);
        let length = std::fs::metadata(&segment.path)?.len();
        if length <= start {
            return Ok(None);
        }
        let chain = progress
            .hash
            .as_deref()
            .and_then(unhex)
            .unwrap_or(tail.chain);
        let seen = match tail.seen {
            Some(seen) if seen.start == start => seen,
            Some(_) | None => Seen {
                start,
                end: start,
                last: progress.last,
                chain,
                full: false,
                sealed: false,
            },
        };
        let bounds = Bounds {
            last: progress.last.saturating_add(config.rows_max),
            bytes: start.saturating_add(BATCH_BYTES_MAX),
        };
        let Some(seen) = follow(&segment.path, seen, &bounds)? else {
            tail.broken = true;
            return Ok(None);
        };
        tail.seen = Some(seen);
        if seen.last == progress.last && !seen.sealed {
            tail.waiting_since_us = None;
            return Ok(None);
        }
        let now_us = weir_clock::now().mono_us;
        let since_us = *tail.waiting_since_us.get_or_insert(now_us);
        let old = u128::from(now_us - since_us) >= config.age.as_micros();
        if !(old || seen.full || all) {
            return Ok(None);
        }
        tail.waiting_since_us = None;
        tail.seen = None;
        Ok(Some(Batch {
            segment: segment.id,
            number: progress.batches + 1,
            start,
            end: seen.end,
            first: progress.last + 1,
            last: seen.last,
            previous: hex(&chain),
            hash: hex(&seen.chain),
        }))
    }

    fn tail(&mut self, segment: &SegmentPath) -> io::Result<Option<&mut Tail>> {
        let vacant = match self.0.entry(segment.id) {
            Entry::Occupied(occupied) => return Ok(Some(occupied.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let head = read_at(&segment.path, 0, 128 * 1024)?;
        // A header that is still being written is looked at again.
        let Ok(header) = read_header(&head) else {
            return Ok(None);
        };
        let columns_known = header.columns == weir_spool::schema::text();
        if !columns_known {
            tracing::error!(
                path = %segment.path.display(),
                "a segment has other columns than this version: ship it with the version \
                 that wrote it"
            );
        }
        Ok(Some(vacant.insert(Tail {
            header_len: header.len as u64,
            chain: header.chain,
            seen: None,
            waiting_since_us: None,
            broken: !columns_known,
        })))
    }
}

/// Where a batch is full: at a fact's position, or at an offset in the file.
struct Bounds {
    last: u32,
    bytes: u64,
}

/// Goes on over whole blocks until enough for a batch; `None` when the file is not what it should
/// be. Rows are verified when the batch is sent, so that each is hashed once.
fn follow(path: &Path, mut seen: Seen, bounds: &Bounds) -> io::Result<Option<Seen>> {
    let mut reader = BlockReader::resume(seen.chain, seen.last);
    let mut want = READ_BYTES;
    while !seen.full {
        let bytes = read_at(path, seen.end, want)?;
        let mut at = 0;
        while !seen.full {
            match reader.skim(bytes.get(at..).unwrap_or(&[])) {
                Ok(Next::Block(_, len)) => at += len,
                Ok(Next::Trailer(_, len)) => {
                    at += len;
                    (seen.full, seen.sealed) = (true, true);
                }
                Ok(Next::Incomplete) => break,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a spool segment is damaged");
                    return Ok(None);
                }
            }
            seen.full |= reader.position() >= bounds.last || seen.end + at as u64 > bounds.bytes;
        }
        seen.end += at as u64;
        (seen.last, seen.chain) = (reader.position(), reader.chain());
        if bytes.len() < want {
            break;
        }
        // A block that is larger than what was read.
        want = if at == 0 { want * 2 } else { READ_BYTES };
    }
    Ok(Some(seen))
}

/// What is sent of a batch.
pub(super) struct Content {
    /// Its rows, one after the other.
    pub(super) rows: Bytes,
    /// Facts of each of its blocks: with them the chain can be computed from stored rows.
    pub(super) blocks: Vec<u32>,
    /// Of the segment's end, when the batch reaches it; hexadecimal.
    pub(super) signature: String,
}

/// A batch's bytes are not what was written; why.
pub(super) struct Damaged(pub(super) String);

/// Reads and verifies a batch that was cut.
pub(super) fn content(directory: &Path, batch: &Batch) -> io::Result<Result<Content, Damaged>> {
    let id = batch.segment;
    let path = directory.join(format!(
        "{:08}-{:03}-{:08}.seg",
        id.epoch, id.lane, id.number
    ));
    let length = usize::try_from(batch.end - batch.start).map_err(io::Error::other)?;
    let bytes = read_at(&path, batch.start, length)?;
    let chain = unhex(&batch.previous).ok_or_else(|| io::Error::other("journal: bad hash"))?;
    let mut reader = BlockReader::resume(chain, batch.first - 1);
    let mut rows = BytesMut::with_capacity(length);
    let (mut blocks, mut signature) = (Vec::new(), String::new());
    let mut at = 0;
    while at < bytes.len() {
        match reader.next(bytes.get(at..).unwrap_or(&[])) {
            Ok(Next::Block(block, len)) => {
                blocks.push(block.count);
                for row in block.rows().flatten() {
                    rows.put_slice(row);
                }
                at += len;
            }
            Ok(Next::Trailer(trailer, len)) => {
                let digits = trailer.signature.iter().map(|b| format!("{b:02x}"));
                signature = digits.collect();
                at += len;
            }
            Ok(Next::Incomplete) => {
                return Ok(Err(Damaged("it ends within a block".to_owned())));
            }
            Err(error) => return Ok(Err(Damaged(error.to_string()))),
        }
    }
    if hex(&reader.chain()) != batch.hash || reader.position() != batch.last {
        return Ok(Err(Damaged("it changed after it was cut".to_owned())));
    }
    Ok(Ok(Content {
        rows: rows.freeze(),
        blocks,
        signature,
    }))
}
