//! Lets a PostgreSQL login through only if the server asks for SCRAM-SHA-256.
//!
//! Source: PostgreSQL documentation, "Message Formats": `AuthenticationXXX` is `R`, a length and a
//! code: 0 ok, 10 SASL, 11 SASL continue, 12 SASL final.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const AUTH_SASL: u32 = 10;
/// RFC 7677 asks for at least this many iterations.
const ITERATIONS_MIN: u32 = 4096;
const HEADER: usize = 9;
const CONTINUE_BYTES_MAX: usize = 1024;

/// What is expected next from the server.
enum Expect {
    /// The first message: `AuthenticationSASL`.
    Sasl,
    /// `AuthenticationSASLContinue`, whose iteration count is checked.
    Continue,
    Anything,
}

/// Stands between the library and the socket until the server's challenge was checked.
pub(super) struct ScramOnly<S> {
    inner: S,
    seen: Vec<u8>,
    expect: Expect,
}

impl<S> ScramOnly<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self {
            inner,
            seen: Vec::new(),
            expect: Expect::Sasl,
        }
    }

    /// For a server that was proven before it is signed in to.
    pub(super) const fn proven(inner: S) -> Self {
        Self {
            inner,
            seen: Vec::new(),
            expect: Expect::Anything,
        }
    }

    /// Walks whole messages at the front of what was seen.
    fn check(&mut self) -> io::Result<()> {
        loop {
            let Some(header) = self.seen.first_chunk::<HEADER>() else {
                return Ok(());
            };
            let [tag, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
            let length = u32::from_be_bytes([l0, l1, l2, l3]);
            let code = u32::from_be_bytes([c0, c1, c2, c3]);
            if tag == b'E' {
                // The library reads the server's refusal itself.
                self.expect = Expect::Anything;
                self.seen.clear();
                return Ok(());
            }
            let whole = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            match self.expect {
                Expect::Anything => {
                    self.seen.clear();
                    return Ok(());
                }
                Expect::Sasl if tag == b'R' && code == AUTH_SASL => {
                    if self.seen.len() < whole {
                        return Ok(());
                    }
                    self.seen.drain(..whole);
                    self.expect = Expect::Continue;
                }
                Expect::Continue if tag == b'R' && whole <= CONTINUE_BYTES_MAX => {
                    let Some(body) = self.seen.get(HEADER..whole) else {
                        return Ok(());
                    };
                    if iterations(body).is_none_or(|count| count < ITERATIONS_MIN) {
                        return Err(io::Error::other(
                            "the server's SCRAM iterations are too few",
                        ));
                    }
                    self.expect = Expect::Anything;
                }
                Expect::Sasl | Expect::Continue => {
                    return Err(io::Error::other(
                        "the server does not ask for SCRAM-SHA-256",
                    ));
                }
            }
        }
    }
}

/// `i=` of a server-first message (RFC 5802, section 5.1).
fn iterations(body: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    text.split(',')
        .find_map(|part| part.strip_prefix("i="))
        .and_then(|count| count.parse().ok())
}

impl<S: AsyncRead + Unpin> AsyncRead for ScramOnly<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if !matches!(this.expect, Expect::Anything) {
            this.seen
                .extend_from_slice(buf.filled().get(before..).unwrap_or(&[]));
            this.check()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ScramOnly<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![b'R'];
        bytes.extend_from_slice(&u32::try_from(8 + body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn verdict(messages: &[Vec<u8>]) -> io::Result<()> {
        // One byte at a time: the verdict may not depend on how bytes arrive.
        let mut adapter = ScramOnly::new(());
        for byte in messages.concat() {
            if !matches!(adapter.expect, Expect::Anything) {
                adapter.seen.push(byte);
                adapter.check()?;
            }
        }
        Ok(())
    }

    #[test]
    fn scram_with_enough_iterations_passes() {
        let first = message(10, b"SCRAM-SHA-256\0\0");
        let next = message(11, b"r=abc,s=c2FsdA==,i=4096");
        verdict(&[first, next]).unwrap();
    }

    #[test]
    fn clear_text_md5_trust_and_weak_scram_are_refused() {
        verdict(&[message(3, b"")]).unwrap_err();
        verdict(&[message(5, b"salt")]).unwrap_err();
        verdict(&[message(0, b"")]).unwrap_err();
        let first = message(10, b"SCRAM-SHA-256\0\0");
        verdict(&[first.clone(), message(11, b"r=abc,s=c2FsdA==,i=1")]).unwrap_err();
        verdict(&[first.clone(), message(11, b"r=abc,s=c2FsdA==")]).unwrap_err();
        verdict(&[first, message(3, b"")]).unwrap_err();
    }
}
