//! `approvals.state`: where approvals and grants are kept.

use std::path::PathBuf;

use super::checked::Checker;
use super::read::{Problem, Section};

/// As written.
pub(super) struct RawState {
    kind: String,
    host: Option<String>,
    socket: Option<String>,
    port: Option<u64>,
    database: Option<String>,
    user: Option<String>,
    password_file: Option<String>,
    ca_file: Option<String>,
    server_name: Option<String>,
}

/// Where approvals, grants and the kill list are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// A file of this node.
    Sqlite,
    /// A database that nodes share.
    Postgres(SharedState),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedState {
    pub(crate) host: StateHost,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateHost {
    Socket(PathBuf),
    Tcp {
        host: String,
        port: u16,
        /// CA file and the server's name; absent on loopback only.
        tls: Option<(PathBuf, String)>,
    },
}

impl RawState {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            kind: section.text("kind", problems),
            host: section.opt_text("host", problems),
            socket: section.opt_text("socket", problems),
            port: section.opt_number("port", problems),
            database: section.opt_text("database", problems),
            user: section.opt_text("user", problems),
            password_file: section.opt_text("password_file", problems),
            ca_file: section.opt_text("ca_file", problems),
            server_name: section.opt_text("server_name", problems),
        };
        section.finish(problems);
        raw
    }
}

pub(super) fn check(raw: Option<RawState>, checker: &mut Checker<'_>) -> StatePlace {
    let Some(raw) = raw else {
        return StatePlace::Sqlite;
    };
    match raw.kind.as_str() {
        "sqlite" => StatePlace::Sqlite,
        "postgres" => StatePlace::Postgres(SharedState {
            host: host(&raw, checker),
            database: raw.database.unwrap_or_else(|| "weir".to_owned()),
            user: raw.user.unwrap_or_else(|| "weir".to_owned()),
            password_file: raw.password_file.as_deref().map(|file| checker.file(file)),
        }),
        _ => {
            checker.say("approvals.state.kind", "must be sqlite or postgres");
            StatePlace::Sqlite
        }
    }
}

fn host(raw: &RawState, checker: &mut Checker<'_>) -> StateHost {
    let port = checker.number("approvals.state.port", raw.port, (1, 65_535), 5432);
    let tls = match (&raw.ca_file, &raw.server_name) {
        (Some(ca), Some(name)) => Some((checker.file(ca), name.clone())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let message = "needs ca_file and server_name, both of them";
            checker.say("approvals.state", message);
            None
        }
    };
    match (&raw.socket, &raw.host) {
        (Some(path), None) => StateHost::Socket(checker.file(path)),
        (None, Some(host)) => {
            let loopback = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
            if tls.is_none() && !loopback {
                let message = "needs ca_file and server_name: approvals go to a proven server only";
                checker.say("approvals.state", message);
            }
            StateHost::Tcp {
                host: host.clone(),
                port: u16::try_from(port).unwrap_or(5432),
                tls,
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "needs host, or socket: the path of the server's socket file";
            checker.say("approvals.state", message);
            StateHost::Socket(PathBuf::new())
        }
    }
}
