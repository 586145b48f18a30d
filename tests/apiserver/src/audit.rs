//! The access log: one line of JSON per request, on disk before the answer leaves.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use http::request::Parts;
use serde_json::{Map, Value, json};

use crate::auth::Caller;

const HEADERS: [&str; 9] = [
    "accept",
    "accept-encoding",
    "user-agent",
    "content-type",
    "upgrade",
    "sec-websocket-protocol",
    "x-stream-protocol-version",
    "kubectl-command",
    "impersonate-user",
];

/// `audit.jsonl`.
pub(crate) struct Audit(Mutex<File>);

impl Audit {
    pub(crate) fn create(dir: &Path) -> Result<Audit> {
        Ok(Audit(Mutex::new(File::create(dir.join("audit.jsonl"))?)))
    }

    /// Writes one request with its outcome; `caller` is `None` where nobody was authenticated.
    pub(crate) fn write(&self, parts: &Parts, caller: Option<&Caller>, status: u16) {
        let mut headers = Map::new();
        for name in HEADERS {
            let all: Vec<_> = parts.headers.get_all(name).iter().collect();
            if !all.is_empty() {
                let texts = all.iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
                let joined = texts.collect::<Vec<_>>().join(", ");
                headers.insert(name.to_owned(), Value::String(joined));
            }
        }
        let acting = caller.and_then(|c| c.acting.as_ref());
        let line = json!({
            "method": parts.method.as_str(),
            "path": parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
            "version": format!("{:?}", parts.version),
            "user": caller.map(|c| c.user.name.as_str()),
            "impersonate": acting.map(|u| json!({
                "user": u.name, "groups": u.groups, "extra": u.extra, "uid": u.uid,
            })),
            "headers": headers,
            "status": status,
        });
        let Ok(mut file) = self.0.lock() else { return };
        // A log that cannot be written shows as a missing line in the test that reads it.
        let _full = file.write_all(format!("{line}\n").as_bytes());
        let _full = file.flush();
    }
}
