//! Start-up: TLS, cancel requests, parameters, identification, the upstream flow.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use weir_govern::{
    CancelKey, CloseReason, ConnectRequest, Credential, Governor, Output, OwnToClient, OwnToServer,
    Ruling, Side,
};
use weir_model::request::{Access, Intent, Object, Recorded, Request};
use weir_model::time::Now;

use crate::expect_login::Login;
use crate::reply;
use crate::session::{PostgresSession, State};
use crate::understand;
use crate::wire::startup::{self, Startup};
use crate::wire::{cstr, message};

/// The newest minor version of protocol 3 that is spoken: since 3.2 keys to cancel by are longer.
const MINOR: u16 = 2;
/// Bytes of such a key before.
const CANCEL_BYTES: usize = 4;

/// Start-up parameters that are passed on as they are; others have to be permitted like SET.
const PASSED: &[&str] = &[
    "application_name",
    "datestyle",
    "timezone",
    "intervalstyle",
    "extra_float_digits",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
];

const TOKEN_NEEDS_TLS: &str = "weir: this target takes an Entra access token as the password, and \
     only over TLS: connect with sslmode=verify-full and Weir's CA as sslrootcert (the platform team \
     has it, by `weir ca bundle`)";

impl PostgresSession {
    pub(crate) fn startup(&mut self, input: &mut BytesMut, now: Now) {
        let packet = match startup::take(input) {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => return self.malformed(error, now),
        };
        let tls = matches!(self.state, State::Startup { tls: true });
        match packet {
            Startup::Ssl if tls => {
                self.fatal("08P01", "weir: TLS is up already", CloseReason::Misbehaved);
            }
            Startup::Ssl if self.config.tls_offered => {
                self.tell_client(OwnToClient::Handshake, |out| out.put_u8(b'S'));
                self.state = State::Tls;
                self.outputs.push_back(Output::UpgradeTls(Side::Client));
            }
            Startup::Ssl | Startup::GssEncryption => {
                self.tell_client(OwnToClient::Handshake, |out| out.put_u8(b'N'));
            }
            Startup::Cancel { pid, secret } => {
                self.outputs
                    .push_back(Output::AskCancel(CancelKey { pid, secret }));
                self.close(CloseReason::Done);
            }
            Startup::Session { minor, parameters } => self.session_start(tls, minor, parameters),
        }
    }

    fn session_start(&mut self, tls: bool, minor: u16, parameters: Vec<(String, String)>) {
        if self.config.accept_token && !tls {
            return self.fatal("28000", TOKEN_NEEDS_TLS, CloseReason::Misbehaved);
        }
        if self.config.tls_required && !tls {
            let text = "weir: this target is reached with TLS only (sslmode=require)";
            return self.fatal("28000", text, CloseReason::Misbehaved);
        }
        let unknown: Vec<&str> = parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("_pq_."))
            .collect();
        if minor < MINOR {
            let mut secret = self.config.cancel.secret.to_vec();
            secret.truncate(CANCEL_BYTES);
            self.config.cancel.secret = secret.into();
        }
        // There is no 3.1: a client that asks for it gets 3.0.
        let spoken = if minor < MINOR { 0 } else { MINOR };
        if minor != spoken || !unknown.is_empty() {
            self.tell_client(OwnToClient::Handshake, |out| {
                message(out, b'v', |out| {
                    out.put_u32((3 << 16) | u32::from(spoken));
                    out.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
                    for name in unknown {
                        cstr(out, name);
                    }
                });
            });
        }
        match self.keep_parameters(parameters) {
            Ok(()) if self.config.accept_token => self.ask_token(),
            Ok(()) => {
                self.state = State::Principal;
                self.outputs.push_back(Output::Identify);
            }
            Err(text) => self.fatal("0A000", text, CloseReason::Misbehaved),
        }
    }

    fn keep_parameters(&mut self, parameters: Vec<(String, String)>) -> Result<(), &'static str> {
        let mut user = String::new();
        let mut database = String::new();
        for (name, value) in parameters {
            match name.to_ascii_lowercase().as_str() {
                "user" => user = value,
                "database" => database = value,
                "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                    return Err("weir: replication connections are not supported");
                }
                "replication" => {}
                "client_encoding" => {
                    if !understand::is_utf8(&value) && !value.eq_ignore_ascii_case("auto") {
                        return Err("weir: client_encoding has to be UTF8");
                    }
                }
                "options" if value.trim().is_empty() => {}
                "options" => {
                    for (name, value) in options(&value)? {
                        self.keep_setting(&name, value)?;
                    }
                }
                other if other.starts_with("_pq_.") => {}
                other => self.keep_setting(other, value)?,
            }
        }
        self.database = Arc::from(if database.is_empty() { user } else { database });
        if self.database.is_empty() {
            return Err("weir: the start-up message names no user and no database");
        }
        Ok(())
    }

    fn keep_setting(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        if understand::is_pinned(name) && !(name == "standard_conforming_strings" && value == "on")
        {
            return Err("weir: a start-up parameter would change how statements are understood");
        }
        self.parameters.push((name.to_owned(), value));
        Ok(())
    }

    /// Parameters that are not always passed on are asked for as SET would be; the text is why not.
    fn refused_parameter(&mut self, now: Now) -> Option<&'static str> {
        for (name, value) in self.parameters.clone() {
            if PASSED.contains(&name.as_str()) || name == "standard_conforming_strings" {
                continue;
            }
            let (action, kind, object) = match name.as_str() {
                "role" | "session_authorization" => ("setRole", "Role", value.as_str()),
                _ => ("set", "Setting", name.as_str()),
            };
            let path = [&*self.config.target, &*self.database, object];
            let access = Access {
                action,
                object: Object {
                    kind,
                    path: path.map(Arc::from).into(),
                },
            };
            let intent = Arc::new(Intent::new(vec![access], Vec::new()));
            let request = Request {
                recorded: Recorded::of(&intent),
                intent,
                statement: Arc::from(format!("start-up: set {name} = '{value}'")),
                parameters: String::new(),
                shape: 0,
                decode_us: 0,
                bytes_in: 0,
            };
            match self.rule(request, now) {
                Some(Ruling::Permit(permit)) => self.finish_unrun(permit.seq(), "ok", now),
                Some(Ruling::Denial(_) | Ruling::Hold(_)) | None => {
                    return Some("weir: policy does not permit a start-up parameter");
                }
            }
        }
        None
    }

    pub(crate) fn identified(&mut self, mut governor: Box<Governor>, now: Now) {
        governor.say_refused_as(reply::REFUSED);
        governor.timed_by(self.config.clock);
        self.wanted_us = now.mono_us;
        self.governor = Some(governor);
        self.note_policy();
        if let Some(text) = self.refused_parameter(now) {
            return self.fatal("42501", text, CloseReason::Misbehaved);
        }
        self.state = State::Upstream;
        let request = ConnectRequest {
            database: Arc::clone(&self.database),
        };
        self.outputs.push_back(Output::Connect(request));
    }

    pub(crate) fn connected(&mut self, credential: Credential) {
        let database = Arc::clone(&self.database);
        let parameters = self.parameters.clone();
        let user = credential.user.clone();
        self.own_to_server(OwnToServer::Login, |out| {
            let mut all = vec![
                ("user", user.as_str()),
                ("database", &*database),
                ("client_encoding", "UTF8"),
                ("standard_conforming_strings", "on"),
            ];
            let others = parameters
                .iter()
                .filter(|(name, _)| name != "standard_conforming_strings");
            all.extend(others.map(|(name, value)| (name.as_str(), value.as_str())));
            startup::put_session(out, &all);
        });
        self.state = State::Login(Box::new(Login::new(credential)));
    }
}

/// `-c name=value` and `--name=value` pairs of the `options` parameter.
fn options(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    const REFUSED: &str = "weir: 'options' may hold -c name=value only";
    let mut pairs = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let pair = if word == "-c" {
            words.next().ok_or(REFUSED)?
        } else if let Some(pair) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            pair
        } else {
            return Err(REFUSED);
        };
        let (name, value) = pair.split_once('=').ok_or(REFUSED)?;
        pairs.push((
            name.to_ascii_lowercase().replace('-', "_"),
            value.to_owned(),
        ));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn options_are_pairs_or_refused() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            options("-c geqo=off --statement-timeout=5min -cx=y").unwrap(),
            vec![
                pair("geqo", "off"),
                pair("statement_timeout", "5min"),
                pair("x", "y")
            ]
        );
        options("-c").unwrap_err();
        options("-d 5").unwrap_err();
    }
}
