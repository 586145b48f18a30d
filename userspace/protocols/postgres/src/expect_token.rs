//! The access token that a client presents as its password, on targets that ask for one.
//!
//! Asked for in clear text, which only TLS makes fit (documentation of the protocol, "Start-up",
//! `AuthenticationCleartextPassword`). What comes may be a person's real password: it is handed on
//! once, and wiped from the buffer that it arrived in.

use bytes::{BufMut, BytesMut};
use weir_govern::{CloseReason, Output, OwnToClient, Presented};
use zeroize::{Zeroize, Zeroizing};

use crate::session::{PostgresSession, State};
use crate::wire::{self, WireError, message};

/// What the validator looks at: 16 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Tag and length before it, a NUL behind it.
const MESSAGE_BYTES_MAX: usize = 5 + TOKEN_BYTES_MAX + 1;
/// `AuthenticationCleartextPassword`.
const CLEARTEXT: i32 = 3;

impl PostgresSession {
    pub(crate) fn ask_token(&mut self) {
        self.tell_client(OwnToClient::Handshake, |out| {
            message(out, b'R', |out| out.put_i32(CLEARTEXT));
        });
        self.state = State::Token;
    }

    pub(crate) fn token_frame(&mut self, input: &mut BytesMut) {
        let whole = match wire::peek(input, MESSAGE_BYTES_MAX) {
            Ok(Some((b'p', whole))) if input.len() >= whole => whole,
            Ok(Some((b'p', _)) | None) => return,
            Ok(Some((b'X', _))) => {
                input.clear();
                return self.close(CloseReason::ClientLeft);
            }
            Err(WireError::TooLarge) => {
                input.as_mut().zeroize();
                let text = "weir: the password is longer than an access token can be (16 KiB)";
                return self.fatal("28P01", text, CloseReason::LimitReached);
            }
            Ok(Some(_)) | Err(_) => {
                input.as_mut().zeroize();
                let text = "weir: an access token was asked for, and something else came";
                return self.fatal("08P01", text, CloseReason::Malformed);
            }
        };
        let mut packet = input.split_to(whole);
        let token = token(&packet);
        packet.as_mut().zeroize();
        match token {
            Some(token) => {
                self.state = State::Principal;
                self.outputs.push_back(Output::Present(token));
            }
            None => {
                let text = "weir: the password is no text";
                self.fatal("28P01", text, CloseReason::Malformed);
            }
        }
    }
}

/// The text of the message: one, ended by the only NUL.
fn token(packet: &[u8]) -> Option<Presented> {
    let (last, text) = packet.get(5..)?.split_last()?;
    if *last != 0 || text.contains(&0) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    Some(Presented::new(Zeroizing::new(text.to_owned())))
}
