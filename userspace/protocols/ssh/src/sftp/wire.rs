//! Packets of the file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02, and OpenSSH's
//! PROTOCOL, section 4): cut from a stream, read whole, nothing left over.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// OpenSSH's own limit of a packet.
const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Of a path (PATH_MAX is 4096 on Linux).
const PATH_BYTES_MAX: usize = 8 * 1024;
/// Of a handle (draft, 3).
const HANDLE_BYTES_MAX: usize = 256;

/// The bytes are no packet of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the file transfer protocol: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Cuts a stream into packets, each with its length.
#[derive(Default)]
pub(crate) struct Packets(BytesMut);

impl Packets {
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    /// The next whole packet; `None` when it is not here yet.
    ///
    /// # Errors
    /// [`Malformed`] when it is longer than what is allowed, or empty.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.0.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > PACKET_BYTES_MAX {
            return Err(Malformed("a packet's length"));
        }
        if self.0.len() < 4 + length {
            self.0.reserve(4 + length - self.0.len());
            return Ok(None);
        }
        Ok(Some(self.0.split_to(4 + length).freeze()))
    }
}

/// Whether the last part of a path is looked up through symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Followed,
    /// The operation is on the link itself.
    Kept,
}

/// One path of an operation and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) path: String,
    pub(crate) actions: Vec<&'static str>,
    pub(crate) links: Links,
}

/// What the agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Init,
    /// `path` and others: decided on their own.
    Paths {
        id: u32,
        operation: &'static str,
        paths: Vec<PathUse>,
        opens: bool,
    },
    /// On something that was opened.
    Handles {
        id: u32,
        operation: &'static str,
        handles: Vec<Bytes>,
        /// Bytes that are written.
        written: u64,
        /// The operation changes what was opened.
        changes: bool,
    },
    /// About the server itself.
    Plain {
        id: u32,
        operation: &'static str,
    },
    /// Known to nobody, or refused.
    Unsupported {
        id: u32,
        name: String,
    },
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0
            .try_get_u8()
            .map_err(|_| Malformed("a byte is missing"))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0
            .try_get_u32()
            .map_err(|_| Malformed("a number is missing"))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0
            .try_get_u64()
            .map_err(|_| Malformed("a number is missing"))
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (string, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed("a string is cut off"))?;
        self.0 = rest;
        Ok(string)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.string()?;
        if bytes.len() > PATH_BYTES_MAX {
            return Err(Malformed("a path's length"));
        }
        if bytes.contains(&0) {
            return Err(Malformed("a path with a NUL"));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a path that is not UTF-8"))
    }

    fn handle(&mut self) -> Result<Bytes, Malformed> {
        let bytes = self.string()?;
        if bytes.len() > HANDLE_BYTES_MAX {
            return Err(Malformed("a handle's length"));
        }
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Attributes (draft, 5).
    fn attributes(&mut self) -> Result<(), Malformed> {
        let flags = self.u32()?;
        if flags & !0x8000_000f != 0 {
            return Err(Malformed("unknown attributes"));
        }
        if flags & 1 != 0 {
            self.u64()?;
        }
        if flags & 2 != 0 {
            self.u64()?;
        }
        if flags & 4 != 0 {
            self.u32()?;
        }
        if flags & 8 != 0 {
            self.u64()?;
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(())
    }

    const fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("bytes behind a packet's end"))
        }
    }
}

const READ: &str = "readFile";
const WRITE: &str = "writeFile";
const DELETE: &str = "deleteFile";
const LIST: &str = "listFiles";
const STAT: &str = "statFile";

fn one(path: String, actions: &[&'static str], links: Links) -> PathUse {
    PathUse {
        path,
        actions: actions.to_vec(),
        links,
    }
}

/// Reads a whole packet of the agent.
///
/// # Errors
/// [`Malformed`]: end the transfer.
pub(crate) fn asked(packet: &[u8]) -> Result<Asked, Malformed> {
    let mut reader = Reader(packet.get(4..).unwrap_or(&[]));
    let kind = reader.u8()?;
    if kind == 1 {
        let version = reader.u32()?;
        // Extensions of a client's version packet are of no use to anybody.
        return if version >= 3 {
            Ok(Asked::Init)
        } else {
            Err(Malformed("a version older than 3"))
        };
    }
    let id = reader.u32()?;
    let asked = match kind {
        3 => open(id, &mut reader)?,
        4 | 5 | 6 | 8 | 10 | 12 => on_handle(kind, id, &mut reader)?,
        7 | 9 | 11 | 13..=20 => on_path(kind, id, &mut reader)?,
        200 => {
            let name = reader.text()?;
            return extended(id, &name, reader);
        }
        other => {
            return Ok(Asked::Unsupported {
                id,
                name: format!("packet type {other}"),
            });
        }
    };
    reader.end()?;
    Ok(asked)
}

fn open(id: u32, reader: &mut Reader<'_>) -> Result<Asked, Malformed> {
    let path = reader.text()?;
    let flags = reader.u32()?;
    reader.attributes()?;
    if flags & !0x3f != 0 || flags & 3 == 0 {
        return Err(Malformed("flags of an open"));
    }
    let mut actions = Vec::new();
    if flags & 1 != 0 {
        actions.push(READ);
    }
    // Write, append, create, truncate, exclusive.
    if flags & !1 != 0 {
        actions.push(WRITE);
    }
    Ok(Asked::Paths {
        id,
        operation: "open",
        paths: vec![PathUse {
            path,
            actions,
            links: Links::Followed,
        }],
        opens: true,
    })
}

fn on_handle(kind: u8, id: u32, reader: &mut Reader<'_>) -> Result<Asked, Malformed> {
    let handle = reader.handle()?;
    let mut written = 0;
    let operation = match kind {
        4 => "close",
        5 => {
            reader.u64()?;
            reader.u32()?;
            "read"
        }
        6 => {
            reader.u64()?;
            written = reader.string()?.len() as u64;
            "write"
        }
        8 => "fstat",
        10 => {
            reader.attributes()?;
            "fsetstat"
        }
        _ => "readdir",
    };
    Ok(Asked::Handles {
        id,
        operation,
        handles: vec![handle],
        written,
        changes: matches!(kind, 6 | 10),
    })
}

fn on_path(kind: u8, id: u32, reader: &mut Reader<'_>) -> Result<Asked, Malformed> {
    let first = reader.text()?;
    let (operation, paths) = match kind {
        7 => ("lstat", vec![one(first, &[STAT], Links::Kept)]),
        9 => {
            reader.attributes()?;
            ("setstat", vec![one(first, &[WRITE], Links::Followed)])
        }
        11 => ("opendir", vec![one(first, &[LIST], Links::Followed)]),
        13 => ("remove", vec![one(first, &[DELETE], Links::Kept)]),
        14 => {
            reader.attributes()?;
            ("mkdir", vec![one(first, &[WRITE], Links::Kept)])
        }
        15 => ("rmdir", vec![one(first, &[DELETE], Links::Kept)]),
        16 => ("realpath", vec![one(first, &[STAT], Links::Followed)]),
        17 => ("stat", vec![one(first, &[STAT], Links::Followed)]),
        18 => ("rename", renamed(first, reader.text()?)),
        19 => ("readlink", vec![one(first, &[STAT], Links::Kept)]),
        // OpenSSH's order: what the link points to, then the link.
        _ => ("symlink", vec![one(reader.text()?, &[WRITE], Links::Kept)]),
    };
    Ok(Asked::Paths {
        id,
        operation,
        paths,
        opens: kind == 11,
    })
}

/// What was at both places is not there any more; the content is at the second.
fn renamed(from: String, to: String) -> Vec<PathUse> {
    vec![
        one(from, &[READ, DELETE], Links::Kept),
        one(to, &[WRITE], Links::Kept),
    ]
}

fn extended(id: u32, name: &str, mut reader: Reader<'_>) -> Result<Asked, Malformed> {
    let paths = |operation, paths| Asked::Paths {
        id,
        operation,
        paths,
        opens: false,
    };
    let asked = match name {
        "posix-rename@openssh.com" => {
            let from = reader.text()?;
            paths("posix-rename", renamed(from, reader.text()?))
        }
        "hardlink@openssh.com" => {
            // The new name gives the old file to whoever may use the new name.
            let old = one(reader.text()?, &[READ, WRITE], Links::Kept);
            paths(
                "hardlink",
                vec![old, one(reader.text()?, &[WRITE], Links::Kept)],
            )
        }
        "statvfs@openssh.com" => paths(
            "statvfs",
            vec![one(reader.text()?, &[STAT], Links::Followed)],
        ),
        "lsetstat@openssh.com" => {
            let path = reader.text()?;
            reader.attributes()?;
            paths("lsetstat", vec![one(path, &[WRITE], Links::Kept)])
        }
        "expand-path@openssh.com" => paths(
            "expand-path",
            vec![one(reader.text()?, &[STAT], Links::Followed)],
        ),
        "fstatvfs@openssh.com" | "fsync@openssh.com" => Asked::Handles {
            id,
            operation: if name.starts_with("fsync") {
                "fsync"
            } else {
                "fstatvfs"
            },
            handles: vec![reader.handle()?],
            written: 0,
            changes: false,
        },
        "limits@openssh.com" => Asked::Plain {
            id,
            operation: "limits",
        },
        // Others copy inside the server, or tell about its users.
        other => {
            return Ok(Asked::Unsupported {
                id,
                name: other.to_owned(),
            });
        }
    };
    reader.end()?;
    Ok(asked)
}

/// The extensions that [`asked`] knows; others are not told to the agent.
const EXTENSIONS: [&str; 8] = [
    "posix-rename@openssh.com",
    "hardlink@openssh.com",
    "statvfs@openssh.com",
    "lsetstat@openssh.com",
    "expand-path@openssh.com",
    "fstatvfs@openssh.com",
    "fsync@openssh.com",
    "limits@openssh.com",
];

/// Behind the packet's length, type and number, and the length of the data.
pub(crate) const DATA_AT: usize = 13;

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Written anew, with the extensions that are known.
    Version(Bytes),
    Status {
        id: u32,
        code: u32,
    },
    Handle {
        id: u32,
        handle: Bytes,
    },
    /// Its bytes begin at [`DATA_AT`].
    Data {
        id: u32,
    },
    /// Names, each with its path; the count.
    Names {
        id: u32,
        count: u32,
        first: Bytes,
    },
    /// Attributes, or an extension's answer.
    Other {
        id: u32,
    },
}

/// Reads a whole packet of the server.
///
/// # Errors
/// [`Malformed`]: end the transfer.
pub(crate) fn answer(packet: &[u8]) -> Result<Answer, Malformed> {
    let mut reader = Reader(packet.get(4..).unwrap_or(&[]));
    let kind = reader.u8()?;
    if kind == 2 {
        return version(&mut reader).map(Answer::Version);
    }
    let id = reader.u32()?;
    Ok(match kind {
        101 => Answer::Status {
            id,
            code: reader.u32()?,
        },
        102 => Answer::Handle {
            id,
            handle: reader.handle()?,
        },
        103 => {
            reader.string()?;
            reader.end()?;
            Answer::Data { id }
        }
        104 => {
            let count = reader.u32()?;
            let first = if count > 0 {
                Bytes::copy_from_slice(reader.string()?)
            } else {
                Bytes::new()
            };
            Answer::Names { id, count, first }
        }
        105 | 201 => Answer::Other { id },
        _ => return Err(Malformed("an answer's type")),
    })
}

fn version(reader: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    if reader.u32()? < 3 {
        return Err(Malformed("a server older than version 3"));
    }
    let mut body = BytesMut::new();
    body.put_u8(2);
    body.put_u32(3);
    while !reader.0.is_empty() {
        let (name, value) = (reader.string()?, reader.string()?);
        if EXTENSIONS.iter().any(|known| known.as_bytes() == name) {
            put_string(&mut body, name);
            put_string(&mut body, value);
        }
    }
    Ok(with_length(&body))
}

fn put_string(out: &mut BytesMut, string: &[u8]) {
    out.put_u32(u32::try_from(string.len()).unwrap_or(u32::MAX));
    out.put_slice(string);
}

fn with_length(body: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(4 + body.len());
    put_string(&mut packet, body);
    packet.freeze()
}

/// The agent's version packet without what it may have added.
pub(crate) fn init() -> Bytes {
    with_length(&[1, 0, 0, 0, 3])
}

/// The same packet under another request id.
pub(crate) fn renumbered(packet: &Bytes, id: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(packet.len());
    out.extend_from_slice(packet);
    if let Some(place) = out.get_mut(5..9) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    out.freeze()
}

/// A question for a path's real name.
pub(crate) fn realpath(id: u32, path: &str) -> Bytes {
    let mut body = BytesMut::with_capacity(9 + path.len());
    body.put_u8(16);
    body.put_u32(id);
    put_string(&mut body, path.as_bytes());
    with_length(&body)
}

/// Codes of a status (draft, 7).
pub(crate) mod code {
    pub(crate) const FAILURE: u32 = 4;
    pub(crate) const PERMISSION_DENIED: u32 = 3;
    pub(crate) const UNSUPPORTED: u32 = 8;
}

pub(crate) fn status(id: u32, code: u32, text: &str) -> Bytes {
    let mut body = BytesMut::with_capacity(32 + text.len());
    body.put_u8(101);
    body.put_u32(id);
    body.put_u32(code);
    put_string(&mut body, text.as_bytes());
    put_string(&mut body, b"en");
    with_length(&body)
}

#[cfg(test)]
mod tests;
