//! Login at the server with the injected credential.
//!
//! Without a proven server only SCRAM-SHA-256 is answered, with at least 4,096 iterations (RFC
//! 7677), and the server's signature is checked: a server that does not know the password learns
//! nothing of it. One that TLS has proven may ask for the password in other ways.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use weir_govern::{CatalogNeeded, CatalogRequest, CloseReason, Credential, Output, OwnToServer};
use weir_model::time::Now;

use crate::session::{PostgresSession, State};
use crate::wire::backend::{self, Auth};
use crate::wire::{self, Frame, WireError, cstr, message};

/// Fewer iterations make a captured exchange cheap to guess from.
const ITERATIONS_MIN: u32 = 4096;
/// SQLSTATE `name_too_long`: a name that the client gave was cut.
const NAME_TOO_LONG: &str = "42622";
/// Notices of a login that are passed on.
const NOTICES_MAX: usize = 8;
/// Messages of a login; a server that sends more is not logging us in.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How far the login is.
pub(crate) struct Login {
    credential: Credential,
    scram: Option<ScramSha256>,
    /// The server's signature was verified, or the server is proven otherwise.
    verified: bool,
    authenticated: bool,
    statuses: Vec<(String, String)>,
}

impl Login {
    pub(crate) fn new(credential: Credential) -> Self {
        let verified = credential.server_proven;
        Self {
            credential,
            scram: None,
            verified,
            authenticated: false,
            statuses: Vec::new(),
        }
    }
}

/// What the client is told; the server's own words are for the log of the server.
struct Refusal {
    code: &'static str,
    text: Cow<'static, str>,
}

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Self {
        Self {
            code: "08006",
            text: text.into(),
        }
    }
}

/// What the client can do something about it is told as the server says it; the rest is between the
/// server and Weir.
fn refused_by_server(code: Option<&str>, database: &str) -> Refusal {
    let said = |code, text: String| Refusal {
        code,
        text: text.into(),
    };
    match code {
        Some("3D000") => said("3D000", format!("database \"{database}\" does not exist")),
        Some("42501") => said(
            "42501",
            format!("permission denied for database \"{database}\""),
        ),
        Some("53300") => said("53300", "sorry, too many clients already".to_owned()),
        Some("57P03") => said("57P03", "the database system is starting up".to_owned()),
        Some("28P01" | "28000") => {
            "weir: the server refused the credential that Weir holds for it".into()
        }
        Some(_) | None => "weir: the server refused the login".into(),
    }
}

impl PostgresSession {
    pub(crate) fn login_frames(&mut self, input: &mut BytesMut, now: Now) {
        loop {
            let frame = match wire::take(input, MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => {
                    let text = "weir: the server's login cannot be decoded";
                    return self.fatal("08P01", text, CloseReason::UpstreamFailed);
                }
            };
            let State::Login(mut login) = std::mem::replace(&mut self.state, State::Query) else {
                return;
            };
            match self.login_frame(&mut login, &frame) {
                Ok(true) => {
                    if let Some(governor) = &mut self.governor {
                        governor.logged_in_after(now.mono_us.saturating_sub(self.wanted_us));
                    }
                    self.logged_in(*login);
                    return;
                }
                Ok(false) => self.state = State::Login(login),
                Err(Refusal { code, text }) => {
                    self.state = State::Login(login);
                    return self.fatal(code, &text, CloseReason::UpstreamFailed);
                }
            }
        }
    }

    fn login_frame(&mut self, login: &mut Login, frame: &Frame) -> Result<bool, Refusal> {
        let undecodable = |_: WireError| "weir: the server's login cannot be decoded";
        match frame.tag {
            b'R' => self.auth(login, &backend::auth(frame).map_err(undecodable)?)?,
            b'S' => {
                let (name, value) = backend::parameter_status(frame).map_err(undecodable)?;
                login.statuses.push((name.to_owned(), value.to_owned()));
            }
            b'K' => {
                let mut reader = wire::Reader::new(frame.body());
                let pid = reader.i32().map_err(undecodable)?;
                self.server_key = Some((pid, reader.remaining().into()));
            }
            // Others may be about the credential, or say what a trigger of the server wants to.
            b'N' if error_code(frame).as_deref() == Some(NAME_TOO_LONG) => {
                if self.greeting_notices.len() < NOTICES_MAX {
                    self.greeting_notices.push(frame.whole.clone());
                }
            }
            b'N' => {}
            b'Z' if login.authenticated => return Ok(true),
            b'E' => {
                let code = error_code(frame);
                return Err(refused_by_server(code.as_deref(), &self.database));
            }
            _ => return Err("weir: the server's login cannot be decoded".into()),
        }
        Ok(false)
    }

    fn auth(&mut self, login: &mut Login, auth: &Auth<'_>) -> Result<(), Refusal> {
        match auth {
            Auth::Sasl { mechanisms } if mechanisms.contains(&SCRAM_SHA_256) => {
                let password = login.credential.password.as_bytes();
                let (mechanism, binding) = binding(mechanisms, &login.credential);
                let scram = ScramSha256::new(password, binding);
                self.own_to_server(OwnToServer::Login, |out| {
                    message(out, b'p', |out| {
                        cstr(out, mechanism);
                        let first = scram.message();
                        out.put_i32(i32::try_from(first.len()).unwrap_or(0));
                        out.put_slice(first);
                    });
                });
                login.scram = Some(scram);
            }
            Auth::SaslContinue(challenge) => {
                if iterations(challenge).is_none_or(|count| count < ITERATIONS_MIN) {
                    return Err("weir: the server's SCRAM is weaker than 4,096 iterations".into());
                }
                let scram = login
                    .scram
                    .as_mut()
                    .ok_or("weir: the server's login is out of order")?;
                scram
                    .update(challenge)
                    .map_err(|_| "weir: the server's SCRAM is not valid")?;
                self.own_to_server(OwnToServer::Login, |out| {
                    message(out, b'p', |out| out.put_slice(scram.message()));
                });
            }
            Auth::SaslFinal(proof) => {
                let scram = login
                    .scram
                    .as_mut()
                    .ok_or("weir: the server's login is out of order")?;
                scram
                    .finish(proof)
                    .map_err(|_| "weir: the server could not prove itself")?;
                login.verified = true;
            }
            Auth::Ok if login.verified => login.authenticated = true,
            Auth::Ok => return Err("weir: the server let us in without proving itself".into()),
            Auth::ClearText if login.credential.server_proven => {
                let password = login.credential.password.clone();
                self.own_to_server(OwnToServer::Login, |out| {
                    message(out, b'p', |out| cstr(out, &password));
                });
            }
            Auth::Md5 { salt } if login.credential.server_proven => {
                let credential = &login.credential;
                let user = credential.user.as_bytes();
                let digest = md5_hash(user, credential.password.as_bytes(), *salt);
                self.own_to_server(OwnToServer::Login, |out| {
                    message(out, b'p', |out| cstr(out, &digest));
                });
            }
            Auth::ClearText | Auth::Md5 { .. } | Auth::Sasl { .. } | Auth::Other(_) => {
                return Err(
                    "weir: the server asks for a login that would give the credential away".into(),
                );
            }
        }
        Ok(())
    }

    fn logged_in(&mut self, login: Login) {
        self.names.role = Arc::from(login.credential.user.as_str());
        self.names.stale = true;
        self.greeting = login.statuses;
        self.state = State::FirstCatalog;
        self.definitions_seen = self.config.definitions.count();
        let request = CatalogRequest {
            database: Arc::clone(&self.database),
            needed: CatalogNeeded::Since(self.definitions_seen),
        };
        self.outputs.push_back(Output::Catalog(request));
    }
}

/// The strongest that both sides can (RFC 5802, section 6): bound to the server's certificate; else
/// the server is told that it could have been, so that nobody takes its offer out on the way.
fn binding(mechanisms: &[&str], credential: &Credential) -> (&'static str, ChannelBinding) {
    match &credential.channel_binding {
        Some(digest) if mechanisms.contains(&SCRAM_SHA_256_PLUS) => (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(digest.clone()),
        ),
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    }
}

/// `i=` of the server's first message (RFC 5802, section 5.1).
fn iterations(challenge: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(challenge).ok()?;
    text.split(',')
        .find_map(|part| part.strip_prefix("i="))?
        .parse()
        .ok()
}

/// SQLSTATE of an error message.
pub(crate) fn error_code(frame: &Frame) -> Option<String> {
    let fields = backend::error_fields(frame).ok()?;
    fields
        .into_iter()
        .find(|(code, _)| *code == b'C')
        .map(|(_, text)| text)
}
