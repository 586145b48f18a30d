//! The shipper's memory: which batches were cut, and which are acknowledged.
//!
//! Text lines, appended and synchronised: `S` before a batch is sent for the first time, `A` once
//! it is stored, `Q` when it was put into quarantine. A torn last line is ignored: a batch whose
//! cutting was not written down was never sent. From time to time it is written anew with how far
//! each segment got (`P`), how many changes of the node's key are stored (`K`), and what is still open, so that it does not grow with what was shipped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use weir_spool::SegmentId;

use crate::directory::{give_up_reserve, is_no_room};

/// Beyond this it is written anew.
const JOURNAL_BYTES_MAX: u64 = 1024 * 1024;
/// Taken from the disk ahead of need, so that what is shipped can be noted, and then freed, on a full disk.
const AHEAD_BYTES: u64 = 128 * 1024;

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
    path: PathBuf,
    length: u64,
    /// Up to here room is taken.
    ahead: u64,
    pub(crate) progress: BTreeMap<SegmentId, Progress>,
    /// Cut and neither acknowledged nor in quarantine, in order.
    pub(crate) open: Vec<Batch>,
    /// In quarantine: their segments' files are the only copy.
    pub(crate) refused: Vec<Batch>,
    /// Changes of the node's key up to this one are stored.
    pub(crate) keys: u32,
}

/// What the journal says, for those who only look.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) progress: BTreeMap<SegmentId, Progress>,
    pub(crate) open: Vec<Batch>,
    pub(crate) refused: Vec<Batch>,
    pub(crate) keys: u32,
}

/// Whether a batch of this segment is among them.
pub(crate) fn any_of(batches: &[Batch], segment: SegmentId) -> bool {
    batches.iter().any(|batch| batch.segment == segment)
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
        let Some(file) = locked(path)? else {
            return Ok(None);
        };
        // Written anew by whoever had it a moment ago: ours is the old one, which counts no more.
        let current = match std::fs::metadata(path) {
            Ok(metadata) => metadata.ino() == file.metadata()?.ino(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !current {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1) as u64;
        if whole < text.len() as u64 {
            file.set_len(whole)?;
        }
        let told = look(path)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            length: whole,
            ahead: 0,
            progress: told.progress,
            // What was refused is tried once more: somebody may have put right what was wrong.
            open: [told.refused, told.open].concat(),
            refused: Vec::new(),
            keys: told.keys,
        };
        journal.take_room();
        Ok(Some(journal))
    }

    /// Best effort: on a full disk it has what it took before.
    fn take_room(&mut self) {
        if self.length + AHEAD_BYTES / 2 <= self.ahead {
            return;
        }
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(&*self.file, keep, signed(self.length), signed(AHEAD_BYTES)).is_ok() {
            self.ahead = self.length + AHEAD_BYTES;
        }
    }

    /// All of a line or nothing: half a line would join with the next one.
    fn append(&mut self, line: &str) -> std::io::Result<()> {
        let mut written = self.file.write_all(line.as_bytes());
        if written.as_ref().is_err_and(is_no_room)
            && self.path.parent().is_some_and(give_up_reserve)
        {
            self.file.set_len(self.length)?;
            written = self.file.write_all(line.as_bytes());
        }
        let synced = written.and_then(|()| self.file.sync_data());
        if let Err(error) = synced {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.take_room();
        Ok(())
    }

    /// Writes it anew once it is long.
    pub(crate) fn shorten(&mut self) -> std::io::Result<()> {
        let mut text = format!("K {}\n", self.keys);
        for (segment, progress) in &self.progress {
            text.push_str(&progress_line(*segment, progress));
        }
        for batch in self.open.iter().chain(&self.refused) {
            text.push_str(&batch_line(batch));
        }
        for batch in &self.refused {
            text.push_str(&mark_line('Q', batch));
        }
        // Not if it would hardly become shorter.
        if self.length < JOURNAL_BYTES_MAX || self.length < text.len() as u64 * 2 {
            return Ok(());
        }
        let fresh = self.path.with_extension("new");
        drop(std::fs::remove_file(&fresh));
        let Some(mut file) = locked(&fresh)? else {
            return Err(std::io::Error::other("the new journal is locked"));
        };
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        (self.file, self.length, self.ahead) = (file, text.len() as u64, 0);
        self.take_room();
        Ok(())
    }

    /// Writes a batch down before it is sent.
    pub(crate) fn cut(&mut self, batch: &Batch) -> std::io::Result<()> {
        self.append(&batch_line(batch))?;
        note(&mut self.progress, batch);
        self.open.push(batch.clone());
        Ok(())
    }

    /// Changes of the node's key up to this one are stored.
    pub(crate) fn keys_stored(&mut self, number: u32) -> std::io::Result<()> {
        self.append(&format!("K {number}\n"))?;
        self.keys = number;
        Ok(())
    }

    /// `A` for stored, `Q` for quarantined.
    pub(crate) fn settle(&mut self, batch: &Batch, mark: char) -> std::io::Result<()> {
        self.append(&mark_line(mark, batch))?;
        if mark == 'Q' {
            self.refused.push(batch.clone());
        }
        self.open
            .retain(|open| open.segment != batch.segment || open.number != batch.number);
        Ok(())
    }
}

fn locked(path: &Path) -> std::io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Some(file)),
        Err((_file, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_file, error)) => Err(error.into()),
    }
}

fn batch_line(batch: &Batch) -> String {
    let SegmentId {
        epoch,
        lane,
        number,
    } = batch.segment;
    format!(
        "S {epoch} {lane} {number} {} {} {} {} {} {} {}\n",
        batch.number, batch.start, batch.end, batch.first, batch.last, batch.previous, batch.hash
    )
}

fn mark_line(mark: char, batch: &Batch) -> String {
    let SegmentId {
        epoch,
        lane,
        number,
    } = batch.segment;
    format!("{mark} {epoch} {lane} {number} {}\n", batch.number)
}

fn progress_line(segment: SegmentId, progress: &Progress) -> String {
    let SegmentId {
        epoch,
        lane,
        number,
    } = segment;
    let hash = progress.hash.as_deref().unwrap_or("-");
    format!(
        "P {epoch} {lane} {number} {} {} {} {hash}\n",
        progress.batches, progress.end, progress.last
    )
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
            "P" => {
                let segment = parse_segment(&mut words)?;
                let progress = Progress {
                    batches: words.next()?.parse().ok()?,
                    end: words.next()?.parse().ok()?,
                    last: words.next()?.parse().ok()?,
                    hash: words.next().filter(|hash| *hash != "-").map(str::to_owned),
                };
                self.progress.insert(segment, progress);
            }
            "K" => self.keys = words.next()?.parse().ok()?,
            mark @ ("A" | "Q") => {
                let segment = parse_segment(&mut words)?;
                let number: u32 = words.next()?.parse().ok()?;
                let this = |batch: &Batch| batch.segment == segment && batch.number == number;
                let mut all = self.open.iter().chain(&self.refused);
                let batch = all.find(|batch| this(batch)).cloned();
                self.open.retain(|batch| !this(batch));
                self.refused.retain(|batch| !this(batch));
                if mark == "Q" {
                    self.refused.extend(batch);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn note(progress: &mut BTreeMap<SegmentId, Progress>, batch: &Batch) {
    let progress = progress.entry(batch.segment).or_default();
    if batch.number <= progress.batches {
        // Open when the journal was written anew: counted already.
        return;
    }
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
