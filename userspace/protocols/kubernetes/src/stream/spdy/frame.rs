//! Frames of SPDY/3.1: heads read wherever they are cut, frames written.

use super::super::Broken;
use super::super::block::{Reader, Writer};

/// Payload of a control frame. The largest are header blocks of three short fields.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
const VERSION: u32 = 0x8003_0000;

/// What is read from one side, and written to it.
#[derive(Debug)]
pub(super) struct Half {
    head: Vec<u8>,
    pub(super) frame: Option<Frame>,
    pub(super) control: Vec<u8>,
    pub(super) blocks: Reader,
    pub(super) writer: Writer,
    pub(super) gone: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) control: bool,
    /// A control frame's kind, or the stream of data.
    pub(super) number: u32,
    pub(super) flags: u8,
    pub(super) left: usize,
}

impl Half {
    pub(super) fn new() -> Result<Self, Broken> {
        Ok(Self {
            head: Vec::new(),
            frame: None,
            control: Vec::new(),
            blocks: Reader::new(),
            writer: Writer::new()?,
            gone: false,
        })
    }

    /// Collects a head; what follows it is returned.
    pub(super) fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let missing = 8_usize.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head.extend_from_slice(head);
        let Some([a, b, c, d, flags, e, f, g]) = self.head.as_array::<8>().copied() else {
            return Ok(rest);
        };
        self.head.clear();
        let first = u32::from_be_bytes([a, b, c, d]);
        let left = usize::try_from(u32::from_be_bytes([0, e, f, g])).unwrap_or(usize::MAX);
        let control = first & 0x8000_0000 != 0;
        if control && first & 0xffff_0000 != VERSION {
            return Err(Broken("the version of SPDY is not 3"));
        }
        if control && left > CONTROL_BYTES_MAX {
            return Err(Broken("a SPDY control frame is too large"));
        }
        self.frame = Some(Frame {
            control,
            number: if control { first & 0xffff } else { first },
            flags,
            left,
        });
        Ok(rest)
    }
}

fn length(length: usize, flags: u8, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.extend_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
}

pub(super) fn control(kind: u32, flags: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(VERSION | kind).to_be_bytes());
    length(body.len(), flags, out);
    out.extend_from_slice(body);
}

/// A piece may be as long as a read; a frame holds 16 MiB.
pub(super) fn data(id: u32, end: bool, bytes: &[u8], out: &mut Vec<u8>) {
    const FRAME_BYTES_MAX: usize = 1024 * 1024;
    let mut rest = bytes;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
        rest = behind;
        let last = rest.is_empty();
        out.extend_from_slice(&id.to_be_bytes());
        length(piece.len(), u8::from(last && end), out);
        out.extend_from_slice(piece);
        if last {
            return;
        }
    }
}
