//! The packets before the first message: no tag, a length, a code.

use bytes::{BufMut, BytesMut};

use super::{Reader, WireError, cstr};

/// Longest start-up packet (the server's own limit, `MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;
const CANCEL_BYTES_MAX: usize = 4 + 256;

const CODE_SSL: u32 = 80_877_103;
const CODE_GSS: u32 = 80_877_104;
const CODE_CANCEL: u32 = 80_877_102;

/// What a client may begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    Ssl,
    GssEncryption,
    Cancel {
        pid: i32,
        secret: Box<[u8]>,
    },
    Session {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

/// Takes a start-up packet off `input`; `None` while it is incomplete.
///
/// # Errors
/// [`WireError`]; also for another major version than 3.
pub fn take(input: &mut BytesMut) -> Result<Option<Startup>, WireError> {
    let Some(header) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*header) as usize;
    if length < 8 {
        return Err(WireError::Length);
    }
    if length > STARTUP_BYTES_MAX {
        return Err(WireError::TooLarge);
    }
    if input.len() < length {
        return Ok(None);
    }
    let packet = input.split_to(length).freeze();
    parse(packet.get(4..).unwrap_or(&[])).map(Some)
}

fn parse(body: &[u8]) -> Result<Startup, WireError> {
    let mut reader = Reader::new(body);
    let code = reader.u32()?;
    match code {
        CODE_SSL => reader.finish().map(|()| Startup::Ssl),
        CODE_GSS => reader.finish().map(|()| Startup::GssEncryption),
        CODE_CANCEL => {
            let pid = reader.i32()?;
            let secret = reader.remaining();
            if secret.len() < 4 || secret.len() > CANCEL_BYTES_MAX {
                return Err(WireError::Length);
            }
            Ok(Startup::Cancel {
                pid,
                secret: secret.into(),
            })
        }
        version if version >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = reader.cstr()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name.to_owned(), reader.cstr()?.to_owned()));
            }
            reader.finish()?;
            let minor = u16::try_from(version & 0xffff).map_err(|_| WireError::Length)?;
            Ok(Startup::Session { minor, parameters })
        }
        _ => Err(WireError::Unknown(0)),
    }
}

/// Our own start-up packet towards the server, protocol 3.0.
pub fn put_session(out: &mut BytesMut, parameters: &[(&str, &str)]) {
    let at = out.len();
    out.put_u32(0);
    out.put_u32(3 << 16);
    for (name, value) in parameters {
        cstr(out, name);
        cstr(out, value);
    }
    out.put_u8(0);
    patch(out, at);
}

/// A cancel request towards the server.
pub fn put_cancel(out: &mut BytesMut, pid: i32, secret: &[u8]) {
    let at = out.len();
    out.put_u32(0);
    out.put_u32(CODE_CANCEL);
    out.put_i32(pid);
    out.put_slice(secret);
    patch(out, at);
}

fn patch(out: &mut BytesMut, at: usize) {
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
