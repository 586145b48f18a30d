//! The only codec of the PostgreSQL protocol, version 3.
//!
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", "Message Formats".
//! Every length is checked against its limit before anything is kept; bytes left over in a message
//! are an error.

pub mod backend;
pub mod frontend;
mod reader;
pub mod startup;

use bytes::{Bytes, BytesMut};
pub use reader::Reader;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a message is shorter than its contents")]
    Short,
    #[error("a message is longer than its contents")]
    Trailing,
    #[error("a message length is impossible")]
    Length,
    #[error("a message is larger than the limit")]
    TooLarge,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("message type {0:#04x} is not known here")]
    Unknown(u8),
}

/// One whole message: its type and its bytes, header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    /// Tag, length and body, as they came.
    pub whole: Bytes,
}

impl Frame {
    /// The body behind tag and length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.whole.get(5..).unwrap_or(&[])
    }
}

/// Tag and whole length of the message at the front, once its header is there.
///
/// # Errors
/// [`WireError::Length`], or [`WireError::TooLarge`] before the rest has to be there.
pub fn peek(input: &[u8], max: usize) -> Result<Option<(u8, usize)>, WireError> {
    let Some([tag, l0, l1, l2, l3]) = input.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
    if length < 4 {
        return Err(WireError::Length);
    }
    let whole = usize::try_from(length)
        .map_err(|_| WireError::Length)?
        .saturating_add(1);
    if whole > max {
        return Err(WireError::TooLarge);
    }
    Ok(Some((*tag, whole)))
}

/// Takes the message at the front off `input`; `None` while it is incomplete.
///
/// # Errors
/// As [`peek`].
pub fn take(input: &mut BytesMut, max: usize) -> Result<Option<Frame>, WireError> {
    match peek(input, max)? {
        Some((tag, whole)) if input.len() >= whole => Ok(Some(Frame {
            tag,
            whole: input.split_to(whole).freeze(),
        })),
        Some(_) | None => Ok(None),
    }
}

/// Writes one message: tag, length, then what `body` puts.
pub(crate) fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    let at = out.len();
    body(out);
    let length = u32::try_from(out.len() - at + 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at - 4..at) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A text and its terminator; a NUL inside would end it early, so it is left out.
pub(crate) fn cstr(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.extend_from_slice(&[0]);
}
