//! The shipper's memory: which batches were cut, and which are acknowledged.
//!
//! Text lines, appended and synchronised: `S` before a batch is sent for the first time, `A` once
//! it is stored, `Q` when it was put into quarantine. A torn last line is ignored: a batch whose
//! cutting was not written down was never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use weir_spool::SegmentId;

/// A batch: whole blocks of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) segment: SegmentId,
    pub(crate) number: u32,
    /// Byte range in the file.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Chain values before and after, hexadecimal.
    pub(crate) previous: String,
    pub(crate) hash: String,
}

/// How far a segment was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) end: u64,
    pub(crate) last: u32,
    pub(crate) hash: Option<String>,
    pub(crate) batches: u32,
}

pub(crate) struct Journal {
    /// Locked: one process ships at a time.
    file: Flock<File>,
    pub(crate) progress: BTreeMap<SegmentId, Progress>,
    /// Cut and neither acknowledged nor in quarantine, in order.
    pub(crate) open: Vec<Batch>,
    /// Segments with a batch in quarantine: their files are the only copy.
    pub(crate) quarantined: BTreeSet<SegmentId>,
}

/// What the journal says, for those who only look.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) progress: BTreeMap<SegmentId, Progress>,
    pub(crate) open: Vec<Batch>,
    pub(crate) quarantined: BTreeSet<SegmentId>,
}

/// Reads a journal that another process may be writing; a missing one says nothing.
pub(crate) fn look(path: &Path) -> std::io::Result<Told> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Told::default()),
        Err(error) => return Err(error),
    };
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    let mut told = Told::default();
    for line in text.get(..whole).unwrap_or_default().lines() {
        if told.replay(line).is_none() {
            return Err(std::io::Error::other("the journal has an unreadable line"));
        }
    }
    Ok(told)
}

impl Journal {
    /// `None` while another process has it.
    pub(crate) fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_file, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_file, error)) => return Err(error.into()),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        let told = look(path)?;
        Ok(Some(Self {
            file,
            progress: told.progress,
            open: told.open,
            quarantined: told.quarantined,
        }))
    }

    /// Writes a batch down before it is sent.
    pub(crate) fn cut(&mut self, batch: &Batch) -> std::io::Result<()> {
        let SegmentId {
            epoch,
            lane,
            number,
        } = batch.segment;
        let line = format!(
            "S {epoch} {lane} {number} {} {} {} {} {} {} {}\n",
            batch.number,
            batch.start,
            batch.end,
            batch.first,
            batch.last,
            batch.previous,
            batch.hash
        );
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        note(&mut self.progress, batch);
        self.open.push(batch.clone());
        Ok(())
    }

    /// `A` for stored, `Q` for quarantined.
    pub(crate) fn settle(&mut self, batch: &Batch, mark: char) -> std::io::Result<()> {
        let SegmentId {
            epoch,
            lane,
            number,
        } = batch.segment;
        let line = format!("{mark} {epoch} {lane} {number} {}\n", batch.number);
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        if mark == 'Q' {
            self.quarantined.insert(batch.segment);
        }
        self.open
            .retain(|open| open.segment != batch.segment || open.number != batch.number);
        Ok(())
    }
}

impl Told {
    fn replay(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match words.next()? {
            "S" => {
                let batch = parse(&mut words)?;
                note(&mut self.progress, &batch);
                self.open.push(batch);
            }
            mark @ ("A" | "Q") => {
                let segment = parse_segment(&mut words)?;
                let number: u32 = words.next()?.parse().ok()?;
                self.open
                    .retain(|batch| batch.segment != segment || batch.number != number);
                if mark == "Q" {
                    self.quarantined.insert(segment);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn note(progress: &mut BTreeMap<SegmentId, Progress>, batch: &Batch) {
    let progress = progress.entry(batch.segment).or_default();
    progress.end = batch.end;
    progress.last = batch.last;
    progress.hash = Some(batch.hash.clone());
    progress.batches = batch.number;
}

fn parse_segment<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<SegmentId> {
    Some(SegmentId {
        epoch: words.next()?.parse().ok()?,
        lane: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
    })
}

fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Batch> {
    Some(Batch {
        segment: parse_segment(words)?,
        number: words.next()?.parse().ok()?,
        start: words.next()?.parse().ok()?,
        end: words.next()?.parse().ok()?,
        first: words.next()?.parse().ok()?,
        last: words.next()?.parse().ok()?,
        previous: words.next()?.to_owned(),
        hash: words.next()?.to_owned(),
    })
}
